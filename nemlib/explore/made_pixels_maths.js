/*
A masked autoencoder with one hidden layer of rectifiers that draws an image pixel by pixel. Pixels are counted
in the order in which they come, t = 0, 1, …; the hidden units stand sorted by their degree. So the weights that
the masks leave alive are stairs: unit j sees the pixels before t = degrees[j], pixel t sees the units before
reach[t] and, by a direct connection, the pixels before t.
*/
nx.madePixels = (function () {
  const sigmoid = (a) => 1 / (1 + Math.exp(-a));
  const softplus = (a) => Math.max(a, 0) + Math.log1p(Math.exp(-Math.abs(a)));
  // −log p(x_t = value | all before) in nats, from the logit a of p(x_t = 1 | all before).
  const cost = (a, value) => softplus(value ? -a : a);

  // Row after row of whole numbers from -127 to 127, row r with lengths[r] of them and a scale of its own.
  function stairs(packed, lengths) {
    const values = nx.unpack(packed.values),
      scales = nx.unpack(packed.scales);
    let at = 0;
    return Array.from(lengths, (length, r) => {
      at += length;
      return Float64Array.from(values.subarray(at - length, at), (value) => value * scales[r]);
    });
  }

  function unpack(packed) {
    const [b, c] = [packed.b, packed.c].map((one) => Float64Array.from(nx.unpack(one)));
    const degrees = packed.degrees;
    // How many units have a degree of at most t: pixel t sees them, and learns itself in those behind.
    const reach = Int32Array.from(c, (_, t) => degrees.filter((m) => m <= t).length);
    const rows = stairs(packed.W, degrees);
    const W = Array.from(c, (_, t) => Float64Array.from(rows.slice(reach[t]), (row) => row[t]));
    const V = stairs(packed.V, reach);
    const A = packed.A && stairs(packed.A, Array.from(c, (_, t) => t));
    return { pixels: c.length, units: b.length, reach, W, V, A, b, c };
  }

  /* ---- one pixel after the other ---- */
  // What is known of an image whose first t pixels are there: the units' input, and which pixels are 1.
  const begin = (model) => ({ t: 0, input: Float64Array.from(model.b), on: [] });
  const copy = ({ t, input, on }) => ({ t, input: Float64Array.from(input), on: [...on] });

  // The output for pixel t, given those of state.on; before t = state.t nothing of it may be known.
  function output(model, state, t) {
    const weights = model.V[t];
    let a = model.c[t];
    for (let j = 0; j < weights.length; j += 1) if (state.input[j] > 0) a += weights[j] * state.input[j];
    if (model.A) for (const i of state.on) a += model.A[t][i];
    return a;
  }
  const logit = (model, state) => output(model, state, state.t);

  // One more pixel is known. A 0 changes nothing; a 1 adds its column of W to the units that see it.
  function put(model, state, value) {
    const { t, input } = state;
    if (value) {
      const column = model.W[t],
        first = model.reach[t];
      for (let j = 0; j < column.length; j += 1) input[first + j] += column[j];
      state.on.push(t);
    }
    state.t += 1;
  }

  // The outputs for all pixels that are still to come. The first of them is the logit of a conditional; the
  // others are what the network would say if all pixels between were 0.
  const ahead = (model, state) =>
    Float64Array.from({ length: model.pixels - state.t }, (_, k) => output(model, state, state.t + k));

  // Nats of every pixel of a whole image; their sum is −log p(x).
  function costs(model, x) {
    const state = begin(model);
    return Float64Array.from(x, (value) => {
      const nats = cost(logit(model, state), value);
      put(model, state, value);
      return nats;
    });
  }

  /* ---- drawing ---- */
  // forced: 0 or 1 where somebody has set the pixel, -1 where the model draws it. A temperature of 0 takes the
  // likelier value; 1 draws from the model itself.
  function choose(a, forced, uniform, temperature) {
    if (forced >= 0) return forced;
    return (temperature > 0 ? uniform < sigmoid(a / temperature) : a > 0) ? 1 : 0;
  }

  // The rest of an image, from a state that stays as it is: {x, nats, chance} of the pixels from state.t on.
  function finish(model, start, { forced, uniforms, temperature }) {
    const state = copy(start),
      x = [],
      nats = [],
      chance = [];
    while (state.t < model.pixels) {
      const t = state.t,
        a = logit(model, state);
      const value = choose(a, forced[t], uniforms[t], temperature);
      x.push(value);
      nats.push(cost(a, value));
      chance.push(forced[t] >= 0 ? forced[t] : temperature > 0 ? sigmoid(a / temperature) : value);
      put(model, state, value);
    }
    return { x, nats, chance };
  }

  // The mean of p(x_t = 1 | all before) over `count` ways to finish: an estimate of p(x_t = 1 | what is there).
  function expected(model, start, { forced, random, temperature }, count) {
    const mean = new Float64Array(model.pixels - start.t);
    for (let k = 0; k < count; k += 1) {
      const uniforms = Float64Array.from({ length: model.pixels }, random.uniform);
      finish(model, start, { forced, uniforms, temperature }).chance.forEach((p, n) => {
        mean[n] += p / count;
      });
    }
    return mean;
  }

  // Multiplications and additions that the first t pixels took, and what a whole pass for each would take.
  function work(model, x, t) {
    const { pixels, W, V, A } = model;
    let [taken, whole, on] = [0, 0, 0];
    for (let s = 0; s < pixels; s += 1) {
      whole += W[s].length + V[s].length + (A ? s : 0);
      if (s >= t) continue;
      taken += V[s].length + (A ? on : 0) + (x[s] ? W[s].length : 0);
      on += x[s];
    }
    return { taken, whole: whole * t };
  }

  // Images of 0 and 1, eight pixels in a byte: an array of `count` images.
  function images(base64, count, pixels) {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    const bit = (at) => (bytes[at >> 3] >> (7 - (at & 7))) & 1;
    return Array.from({ length: count }, (_, n) =>
      Uint8Array.from({ length: pixels }, (_, i) => bit(n * pixels + i)),
    );
  }

  const own = { unpack, begin, copy, logit, put, ahead, costs, choose, finish, expected, work, images };
  return { sigmoid, softplus, cost, ...own };
})();
