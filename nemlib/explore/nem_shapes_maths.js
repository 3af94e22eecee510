/*
What the page computes for the reader's drawing, as nemlib.neural_em and nemlib.evaluate.clustering do in
Python: the image and its groups, RNN-EM step by step, and the scores. Pixels are numbered row by row;
slot k of pixel i stands at k · pixels + i.
*/
nx.shapes = (function () {
  /* The drawing: stamps in their order, each {shape, top, left} with a shape's rows as text, and what the
     pen changed, edits[i] = 1 (ink), -1 (erased) or 0. groups[i] is the number of the one stamp that covers
     the pixel, from 1, or 0; `free` counts the ink that no stamp covers. */
  function compose(shapes, stamps, edits, side) {
    const image = new Uint8Array(side * side),
      groups = new Uint8Array(side * side),
      covered = new Uint8Array(side * side);
    stamps.forEach(({ shape, top, left }, n) => {
      for (const i of cells(shapes[shape], top, left, side)) {
        covered[i] += 1;
        groups[i] = covered[i] > 1 ? 0 : n + 1;
      }
    });
    let free = 0;
    for (let i = 0; i < image.length; i += 1) {
      image[i] = edits[i] < 0 ? 0 : covered[i] || edits[i] > 0 ? 1 : 0;
      if (!image[i]) groups[i] = 0;
      if (image[i] && !covered[i]) free += 1;
    }
    return { image, groups, free };
  }

  const cells = (rows, top, left, side) =>
    rows.flatMap((row, y) =>
      [...row].flatMap((mark, x) => (mark === "#" ? [(top + y) * side + left + x] : [])),
    );

  // A shape of any kind, uniform where it fits: the law of the training images.
  function randomStamp(shapes, random, side) {
    const draw = (n) => Math.floor(random.uniform() * n);
    const shape = draw(shapes.length),
      rows = shapes[shape];
    return { shape, top: draw(side - rows.length + 1), left: draw(side - rows[0].length + 1) };
  }

  /* ---- RNN-EM ---- */
  // Rows of whole numbers from -127 to 127, each row with its own scale.
  function matrix(packed) {
    const values = nx.unpack(packed.values),
      scales = nx.unpack(packed.scales);
    const [rows, columns] = values.shape;
    return Float64Array.from(values, (value, at) => value * scales[Math.floor(at / columns)]);
  }

  function network(packed) {
    const [hidden, pixels] = packed.encoder.values.shape;
    return {
      hidden,
      pixels,
      encoder: matrix(packed.encoder),
      recurrence: matrix(packed.recurrence),
      decoder: matrix(packed.decoder),
      hiddenBias: nx.unpack(packed.hiddenBias),
      outputBias: nx.unpack(packed.outputBias),
    };
  }

  const sigmoid = (a) => 1 / (1 + Math.exp(-a));
  const softplus = (a) => Math.max(a, 0) + Math.log1p(Math.exp(-Math.abs(a)));

  function dot(matrix, row, width, vector, offset) {
    let sum = 0;
    for (let j = 0; j < width; j += 1) sum += matrix[row * width + j] * vector[offset + j];
    return sum;
  }

  // |N(0, 1)| for each slot and pixel, normalised over the slots
  function randomGamma(slots, pixels, random) {
    return normalised(
      Float64Array.from({ length: slots * pixels }, () => Math.abs(random.normal())),
      slots,
      pixels,
    );
  }
  const uniformGamma = (slots, pixels) => new Float64Array(slots * pixels).fill(1 / slots);
  function normalised(gamma, slots, pixels) {
    for (let i = 0; i < pixels; i += 1) {
      let sum = 0;
      for (let k = 0; k < slots; k += 1) sum += gamma[k * pixels + i];
      for (let k = 0; k < slots; k += 1) gamma[k * pixels + i] /= sum;
    }
    return gamma;
  }

  // θ = 0 and ψ = 0: nothing predicted yet
  const begin = (net, slots, gamma) => ({
    slots,
    theta: new Float64Array(slots * net.hidden),
    psi: new Float64Array(slots * net.pixels),
    gamma,
  });

  /* θ ← σ(W_in γ(ψ − x) + W_rec θ + b_rec), ψ = σ(W_out θ + b_out), γ = softmax over slots of log p(x; ψ); then
     the two terms of the loss in nats, with the new γ and ψ. */
  function step(net, x, { slots, theta, psi, gamma }) {
    const { hidden, pixels } = net;
    const signal = psi.map((p, at) => gamma[at] * (p - x[at % pixels]));
    const next = begin(net, slots, new Float64Array(slots * pixels));
    const logits = new Float64Array(slots * pixels);
    for (let k = 0; k < slots; k += 1) {
      for (let h = 0; h < hidden; h += 1) {
        next.theta[k * hidden + h] = sigmoid(
          dot(net.encoder, h, pixels, signal, k * pixels) +
            dot(net.recurrence, h, hidden, theta, k * hidden) +
            net.hiddenBias[h],
        );
      }
      for (let i = 0; i < pixels; i += 1) {
        const a = dot(net.decoder, i, hidden, next.theta, k * hidden) + net.outputBias[i];
        logits[k * pixels + i] = a;
        next.psi[k * pixels + i] = sigmoid(a);
      }
    }
    return Object.assign(next, eStep(x, logits, slots, pixels, next.gamma));
  }

  function eStep(x, logits, slots, pixels, gamma) {
    let [reconstruction, kl] = [0, 0];
    for (let i = 0; i < pixels; i += 1) {
      let top = -Infinity,
        sum = 0;
      const logs = [];
      for (let k = 0; k < slots; k += 1) {
        const a = logits[k * pixels + i];
        logs.push(x[i] * a - softplus(a));
        top = Math.max(top, logs[k]);
      }
      for (const value of logs) sum += Math.exp(value - top);
      for (let k = 0; k < slots; k += 1) {
        const g = Math.exp(logs[k] - top) / sum;
        gamma[k * pixels + i] = g;
        reconstruction -= g * logs[k];
        kl += (1 - g) * softplus(logits[k * pixels + i]);
      }
    }
    return { reconstruction, kl, loss: reconstruction + kl };
  }

  // The slot with the largest γ in each pixel; of equal ones the first.
  const labels = (gamma, slots, pixels) =>
    Uint8Array.from({ length: pixels }, (_, i) => {
      let best = 0;
      for (let k = 1; k < slots; k += 1) if (gamma[k * pixels + i] > gamma[best * pixels + i]) best = k;
      return best;
    });

  // How far apart any two slots are anywhere, in γ: 0 as long as nothing has broken the tie.
  function apart(gamma, slots, pixels) {
    let most = 0;
    for (let at = pixels; at < slots * pixels; at += 1)
      most = Math.max(most, Math.abs(gamma[at] - gamma[at % pixels]));
    return most;
  }

  /* ---- scores, over pixels whose group is not 0 ---- */
  function table(labels, groups) {
    const counts = new Map(),
      rows = new Map(),
      columns = new Map();
    let n = 0;
    const add = (map, key) => map.set(key, (map.get(key) || 0) + 1);
    groups.forEach((group, i) => {
      if (!group) return;
      n += 1;
      add(rows, group);
      add(columns, labels[i]);
      add(counts, group * 256 + labels[i]);
    });
    const sizes = (map) => [...map.values()];
    return { n, counts: sizes(counts), rows, columns, joint: counts, a: sizes(rows), b: sizes(columns) };
  }
  const total = (values) => values.reduce((sum, value) => sum + value, 0);
  const pairs = (values) => total(values.map((v) => (v * (v - 1)) / 2));

  function adjustedRandIndex(labels, groups) {
    const { n, counts, a, b } = table(labels, groups);
    const expected = (pairs(a) * pairs(b)) / Math.max(1, pairs([n]));
    const most = (pairs(a) + pairs(b)) / 2;
    return most === expected ? 1 : (pairs(counts) - expected) / (most - expected);
  }

  const entropy = (sizes, n) => -total(sizes.map((v) => (v / n) * Math.log(v / n)));

  /* (I − E I) / (mean of the entropies − E I); E I over all divisions with the same sizes, from the
     hypergeometric law of each cell. Vinh, Epps and Bailey (2010). */
  function adjustedMutualInformation(labels, groups) {
    const { n, a, b, rows, columns, joint } = table(labels, groups);
    if (a.length === b.length && a.length < 2) return 1;
    let information = 0;
    for (const [key, count] of joint) {
      information += (count / n) * Math.log((n * count) / (rows.get(key >> 8) * columns.get(key & 255)));
    }
    const expected = expectedInformation(a, b, n);
    const normaliser = (entropy(a, n) + entropy(b, n)) / 2;
    const tiny = 2.220446049250313e-16;
    const below = normaliser - expected;
    return (information - expected) / (below < 0 ? Math.min(below, -tiny) : Math.max(below, tiny));
  }

  function expectedInformation(a, b, n) {
    const logFactorial = new Float64Array(n + 1);
    for (let i = 2; i <= n; i += 1) logFactorial[i] = logFactorial[i - 1] + Math.log(i);
    const choose = (m, k) => logFactorial[m] - logFactorial[k] - logFactorial[m - k];
    let sum = 0;
    for (const row of a) {
      for (const column of b) {
        for (let c = Math.max(1, row + column - n); c <= Math.min(row, column); c += 1) {
          const law = choose(column, c) + choose(n - column, row - c) - choose(n, row);
          sum += (c / n) * Math.log((n * c) / (row * column)) * Math.exp(law);
        }
      }
    }
    return sum;
  }

  return {
    compose,
    cells,
    randomStamp,
    network,
    randomGamma,
    uniformGamma,
    begin,
    step,
    labels,
    apart,
    adjustedRandIndex,
    adjustedMutualInformation,
  };
})();
