/*
The masks of chapter 6 and what they let through, as nemlib.made.Connectivity does in Python. An ordering is a
list of pixels, order[t] the one that comes t-th (all from 0); positions o(d) and degrees m(j) count from 1. A
mask is a list of rows of 0 and 1: rows are the units that receive, columns those that send. A net is
{order, degrees, direct, planted}: degrees hold one list a hidden layer; planted puts ≥ where the output
mask has >.
*/
nx.xray = (function () {
  const range = (n) => Array.from({ length: n }, (_, k) => k);
  const outer = (rows, columns, rule) => rows.map((r) => columns.map((c) => (rule(r, c) ? 1 : 0)));

  /* ---- orderings and degrees ---- */
  // m(j) = 1 + ⌊(j − 1)(D − 1) / H⌋
  const evenDegrees = (D, H) => range(H).map((j) => 1 + Math.floor((j * (D - 1)) / H));

  // Each of least … D − 1 equally probable; sorted, for hidden units have no order of their own. In a further
  // layer, `least` is the least degree below: every unit then hears of some input.
  const uniformDegrees = (D, H, random, least = 1) =>
    range(H)
      .map(() => least + Math.floor(random.uniform() * (D - least)))
      .sort((a, b) => a - b);

  // Fisher and Yates.
  function shuffled(D, random) {
    const order = range(D);
    for (let t = D - 1; t > 0; t -= 1) {
      const other = Math.floor(random.uniform() * (t + 1));
      [order[t], order[other]] = [order[other], order[t]];
    }
    return order;
  }

  // The most square picture of D pixels, not higher than wide.
  function shape(D) {
    let rows = Math.floor(Math.sqrt(D));
    while (D % rows) rows -= 1;
    return [rows, D / rows];
  }
  function byColumns(D) {
    const [rows, columns] = shape(D);
    return range(D).map((t) => (t % rows) * columns + Math.floor(t / rows));
  }

  // The pixel at place `from` moves to place `to`; those between make room.
  function moved(order, from, to) {
    const kept = order.filter((_, t) => t !== from);
    kept.splice(to, 0, order[from]);
    return kept;
  }

  // The same ordering of more pixels, which come last, or of fewer.
  const resized = (order, D) => [
    ...order.filter((d) => d < D),
    ...range(D).filter((d) => d >= order.length),
  ];

  function position(order) {
    const o = new Array(order.length);
    order.forEach((d, t) => {
      o[d] = t + 1;
    });
    return o;
  }

  /* ---- masks and what they let through ---- */
  function masks(net) {
    const o = position(net.order);
    const layers = [o, ...net.degrees];
    const hidden = net.degrees.map((m, l) => outer(m, layers[l], (mine, below) => mine >= below));
    const last = layers[layers.length - 1];
    return [...hidden, outer(o, last, (mine, below) => (net.planted ? mine >= below : mine > below))];
  }
  function direct(order) {
    const o = position(order);
    return outer(o, o, (mine, below) => mine > below);
  }

  const times = (A, B) =>
    A.map((row) => B[0].map((_, c) => row.reduce((sum, value, k) => sum + value * B[k][c], 0)));
  const plus = (A, B) => A.map((row, r) => row.map((value, c) => value + B[r][c]));

  // N(d, i): the product of all masks, last layer first, counts the paths from input i to output d.
  const paths = (all) => all.slice(1).reduce((below, mask) => times(mask, below), all[0]);

  // Legal pairs [d, i], o(i) < o(d), that no path joins.
  function lost(N, order) {
    const o = position(order);
    const pairs = [];
    for (const d of order) for (const i of order) if (o[i] < o[d] && N[d][i] === 0) pairs.push([d, i]);
    return pairs;
  }
  // Outputs, other than the first, that see no pixel at all.
  const blind = (N, order) => order.slice(1).filter((d) => N[d].every((count) => count === 0));
  const leaks = (N, order) => order.filter((d) => N[d][d] > 0);

  /* Which units and connections lie on a path from one of the inputs `from` to one of the outputs `to`:
     {units: a list of 0 and 1 a layer, inputs first; edges: like the masks}. */
  function onPaths(all, from, to) {
    const D = all[0][0].length;
    const marked = (chosen) => range(D).map((d) => (chosen.includes(d) ? 1 : 0));
    const up = [marked(from)];
    for (const mask of all) {
      const below = up[up.length - 1];
      up.push(mask.map((row) => (row.some((one, k) => one && below[k]) ? 1 : 0)));
    }
    const down = [marked(to)];
    for (const mask of [...all].reverse()) {
      const above = down[0];
      down.unshift(mask[0].map((_, k) => (mask.some((row, r) => row[k] && above[r]) ? 1 : 0)));
    }
    const units = up.map((layer, l) => layer.map((one, k) => one * down[l][k]));
    const edges = all.map((mask, l) =>
      mask.map((row, r) => row.map((one, k) => one * up[l][k] * down[l + 1][r])),
    );
    return { units, edges };
  }

  /* ---- the Jacobian ∂a/∂x of such a network ---- */
  // Weights and biases, and a point x, standard normal: {weights: like the masks, biases, A, x}.
  function drawn(net, random) {
    const like = (mask) => mask.map((row) => row.map(() => random.normal()));
    const all = masks(net);
    const x = net.order.map(() => random.normal());
    const biases = all.map((mask) => mask.map(() => random.normal()));
    return { weights: all.map(like), biases, A: like(direct(net.order)), x };
  }
  const masked = (weights, mask) => weights.map((row, r) => row.map((w, c) => w * mask[r][c]));
  const apply = (W, b, h) => W.map((row, r) => row.reduce((sum, w, c) => sum + w * h[c], b[r]));

  // a for the inputs x, hidden units tanh, divided by √(units below) so that none is saturated.
  function outputs(net, made, x) {
    const all = masks(net);
    let h = x;
    all.forEach((mask, l) => {
      const scale = 1 / Math.sqrt(mask[0].length);
      const sums = apply(masked(made.weights[l], mask), made.biases[l], h.map((one) => one * scale));
      h = l < all.length - 1 ? sums.map(Math.tanh) : sums;
    });
    if (!net.direct) return h;
    const more = apply(masked(made.A, direct(net.order)), net.order.map(() => 0), x);
    return h.map((one, d) => one + more[d]);
  }

  // (V ⊙ M^V) diag(g′) (W ⊙ M^W) … + A ⊙ M^A, by the chain rule, at made.x.
  function jacobian(net, made) {
    const all = masks(net);
    let h = made.x,
      J = null;
    all.forEach((mask, l) => {
      const scale = 1 / Math.sqrt(mask[0].length);
      const W = masked(made.weights[l], mask).map((row) => row.map((w) => w * scale));
      const sums = apply(W, made.biases[l], h);
      const slopes = sums.map((s) => (l < all.length - 1 ? 1 - Math.tanh(s) ** 2 : 1));
      J = (J ? times(W, J) : W).map((row, r) => row.map((one) => one * slopes[r]));
      h = sums.map(Math.tanh);
    });
    return net.direct ? plus(J, masked(made.A, direct(net.order))) : J;
  }

  /* ---- all that the figure shows ---- */
  // N counts the paths through hidden units; all adds the direct connection where there is one.
  function reading(net) {
    const M = masks(net);
    const N = paths(M);
    const D = net.order.length;
    return {
      masks: M,
      direct: direct(net.order),
      position: position(net.order),
      N,
      all: net.direct ? plus(N, direct(net.order)) : N,
      legal: (D * (D - 1)) / 2,
      lost: lost(N, net.order),
      blind: blind(N, net.order),
      leaks: leaks(N, net.order),
      ...onPaths(M, range(D), range(D)),
    };
  }

  return {
    evenDegrees,
    uniformDegrees,
    shuffled,
    shape,
    byColumns,
    moved,
    resized,
    position,
    masks,
    direct,
    paths,
    lost,
    blind,
    leaks,
    onPaths,
    drawn,
    outputs,
    jacobian,
    reading,
  };
})();
