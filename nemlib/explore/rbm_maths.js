/*
What the page computes for chapter 2, as nemlib.rbm does in Python. A machine is {visible, hidden, W, a, b}
with W[j · visible + i] = W_ij: the weights of a hidden unit stand together. States are arrays of 0 and 1;
the s-th state of n units is s in binary, the first unit the highest digit.
*/
nx.rbm = (function () {
  const sigmoid = (x) => 1 / (1 + Math.exp(-x));
  const softplus = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
  const dot = (one, other) => one.reduce((sum, value, i) => sum + value * other[i], 0);

  /* ---- the machine as Python packs it ---- */
  // Rows of whole numbers from -127 to 127, each row with its own scale.
  function unpack(packed) {
    const values = nx.unpack(packed.W),
      scales = nx.unpack(packed.scales);
    const [hidden, visible] = values.shape;
    const W = Float64Array.from(values, (value, at) => value * scales[Math.floor(at / visible)]);
    const [a, b] = [packed.a, packed.b].map((one) => Float64Array.from(nx.unpack(one)));
    return { visible, hidden, W, a, b };
  }

  // Images of 0 and 1, eight pixels in a byte: an array of `count` states.
  function images(base64, count, pixels) {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    const bit = (at) => (bytes[at >> 3] >> (7 - (at & 7))) & 1;
    return Array.from({ length: count }, (_, n) =>
      Uint8Array.from({ length: pixels }, (_, i) => bit(n * pixels + i)),
    );
  }

  const state = (number, units) =>
    Uint8Array.from({ length: units }, (_, i) => (number >> (units - 1 - i)) & 1);
  const index = (units) => units.reduce((sum, unit) => 2 * sum + unit, 0);

  /* ---- energy, free energy, one layer given the other ---- */
  function hiddenInput({ visible, hidden, W, b }, v) {
    const on = [];
    for (let i = 0; i < visible; i += 1) if (v[i]) on.push(i);
    return Float64Array.from({ length: hidden }, (_, j) => {
      let sum = b[j];
      for (const i of on) sum += W[j * visible + i];
      return sum;
    });
  }
  function visibleInput({ visible, W, a }, h) {
    const input = Float64Array.from(a);
    h.forEach((unit, j) => {
      if (unit) for (let i = 0; i < visible; i += 1) input[i] += W[j * visible + i];
    });
    return input;
  }
  const hiddenGiven = (machine, v) => hiddenInput(machine, v).map(sigmoid);
  const visibleGiven = (machine, h) => visibleInput(machine, h).map(sigmoid);
  const energy = (machine, v, h) => -dot(h, hiddenInput(machine, v)) - dot(v, machine.a);
  const freeEnergy = (machine, v) =>
    hiddenInput(machine, v).reduce((sum, x) => sum - softplus(x), -dot(v, machine.a));

  /* ---- block Gibbs sampling ---- */
  // A unit is on where a uniform number lies below its mean.
  const draw = (means, random) => Uint8Array.from(means, (mean) => (random.uniform() < mean ? 1 : 0));

  // h ~ p(h | v), then v ~ p(v | h); pixels with known[i] keep the value that they have.
  function sweep(machine, v, random, known) {
    const h = draw(hiddenGiven(machine, v), random);
    const mean = visibleGiven(machine, h);
    const next = draw(mean, random);
    if (known) known.forEach((held, i) => held && (next[i] = v[i]));
    return { h, mean, v: next };
  }

  /* ---- a machine small enough to enumerate: every state of v (rows) with every state of h (columns) ---- */
  function joint(machine) {
    const rows = 2 ** machine.visible,
      columns = 2 ** machine.hidden;
    const energies = new Float64Array(rows * columns);
    for (let s = 0; s < rows; s += 1) {
      const v = state(s, machine.visible);
      for (let t = 0; t < columns; t += 1)
        energies[s * columns + t] = energy(machine, v, state(t, machine.hidden));
    }
    const lowest = Math.min(...energies);
    const logZ = Math.log(energies.reduce((sum, e) => sum + Math.exp(lowest - e), 0)) - lowest;
    const p = energies.map((e) => Math.exp(-e - logZ));
    const pv = new Float64Array(rows),
      ph = new Float64Array(columns);
    p.forEach((value, at) => {
      pv[Math.floor(at / columns)] += value;
      ph[at % columns] += value;
    });
    return { rows, columns, energies, logZ, p, pv, ph, lambda: secondEigenvalue(p, pv, ph) };
  }

  /* Of a sweep T(v' | v) = Σ_h p(v' | h) p(h | v): its eigenvalues are the squared singular values of
     p(v, h) / √(p(v) p(h)), those of a symmetric matrix as large as the smaller layer's states. */
  function secondEigenvalue(p, pv, ph) {
    const n = ph.length;
    const scaled = p.map((value, at) => value / Math.sqrt(pv[Math.floor(at / n)] * ph[at % n]));
    const S = Array.from({ length: n }, (_, t) =>
      Array.from({ length: n }, (_, u) =>
        pv.reduce((sum, _, s) => sum + scaled[s * n + t] * scaled[s * n + u], 0),
      ),
    );
    return Math.min(1, Math.max(0, eigenvalues(S)[1]));
  }

  // Jacobi's rotations, until nothing stands beside the diagonal; the largest first.
  function eigenvalues(S) {
    const n = S.length;
    for (let round = 0; round < 30; round += 1) {
      let beside = 0;
      for (let i = 0; i < n; i += 1) for (let k = 0; k < i; k += 1) beside += S[i][k] * S[i][k];
      if (beside < 1e-30) break;
      for (let i = 0; i < n; i += 1) for (let k = 0; k < i; k += 1) rotate(S, k, i);
    }
    return S.map((row, i) => row[i]).sort((x, y) => y - x);
  }
  function rotate(S, k, i) {
    if (S[k][i] === 0) return;
    const theta = (S[i][i] - S[k][k]) / (2 * S[k][i]);
    const t = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.hypot(theta, 1));
    const c = 1 / Math.hypot(t, 1),
      s = t * c;
    for (let m = 0; m < S.length; m += 1) [S[m][k], S[m][i]] = turned(S[m][k], S[m][i], c, s);
    for (let m = 0; m < S.length; m += 1) [S[k][m], S[i][m]] = turned(S[k][m], S[i][m], c, s);
  }
  const turned = (x, y, c, s) => [c * x - s * y, s * x + c * y];

  // Half the sum of |share of the visits − p|.
  function variation(visits, p) {
    const all = visits.reduce((sum, n) => sum + n, 0);
    return p.reduce((sum, value, s) => sum + Math.abs(visits[s] / all - value), 0) / 2;
  }

  return {
    unpack,
    images,
    state,
    index,
    energy,
    freeEnergy,
    hiddenGiven,
    visibleGiven,
    draw,
    sweep,
    joint,
    eigenvalues,
    variation,
  };
})();
