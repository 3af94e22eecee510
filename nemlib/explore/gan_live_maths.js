/*
A GAN in the plane that learns in the page: two networks of leaky rectifiers, their slopes by hand, Adam, and laws
to be learnt. A network keeps all its parameters in one array, so that Adam and the average are one loop. Rows stand
one after another: row r of width w is x[r w], …, x[r w + w - 1]; a pack of m samples is m rows read as one.
*/
nx.ganLive = (function () {
  const sigmoid = (a) => 1 / (1 + Math.exp(-a));
  const softplus = (a) => Math.max(a, 0) + Math.log1p(Math.exp(-Math.abs(a)));

  /* ---- networks ---- */
  // sizes: inputs, hidden widths, outputs. Weights and biases start uniform within 1 / sqrt(inputs), as in torch.
  function network(sizes, leak, random) {
    const layers = [];
    let at = 0;
    for (let l = 1; l < sizes.length; l += 1) {
      const [inputs, outputs] = [sizes[l - 1], sizes[l]];
      layers.push({ inputs, outputs, W: at, b: at + inputs * outputs });
      at += (inputs + 1) * outputs;
    }
    const zeros = () => new Float64Array(at);
    const net = { sizes, leak, layers, values: zeros(), slopes: zeros(), first: zeros(), second: zeros(), time: 0 };
    for (const { inputs, outputs, W } of layers) {
      const end = W + (inputs + 1) * outputs;
      for (let i = W; i < end; i += 1) net.values[i] = (2 * random.uniform() - 1) / Math.sqrt(inputs);
    }
    return net;
  }

  // Room for one pass: h[0] is the input, h[l] what leaves layer l; d[l] the slopes of the loss in h[l].
  function tape(sizes, rows) {
    const rooms = () => sizes.map((size) => new Float64Array(rows * size));
    return { rows, h: rooms(), d: rooms(), u: null, t: null, rooms };
  }

  // Numbers of an array as a matrix: element (r, c) stands at `at + r row + c column`.
  const matrix = (x, at, row, column) => ({ x, at, row, column });

  /* C += A B, (rows, inner) times (inner, columns), C row after row: in blocks of 2 by 4 sums, which a processor
     holds at once. This loop is nearly all of the page's work. */
  function addProduct(C, A, B, rows, columns, inner) {
    const a = A.x,
      b = B.x,
      c = C.x,
      across = A.column,
      down = B.row,
      whole = rows - (rows % 2),
      fours = columns - (columns % 4);
    for (let i = 0; i < whole; i += 2) {
      for (let j = 0; j < fours; j += 4) {
        let p = A.at + i * A.row,
          q = p + A.row,
          k0 = B.at + j * B.column,
          k1 = k0 + B.column,
          k2 = k1 + B.column,
          k3 = k2 + B.column,
          p0 = 0,
          p1 = 0,
          p2 = 0,
          p3 = 0,
          q0 = 0,
          q1 = 0,
          q2 = 0,
          q3 = 0;
        for (let k = 0; k < inner; k += 1) {
          const x = a[p],
            y = a[q];
          p0 += x * b[k0];
          q0 += y * b[k0];
          p1 += x * b[k1];
          q1 += y * b[k1];
          p2 += x * b[k2];
          q2 += y * b[k2];
          p3 += x * b[k3];
          q3 += y * b[k3];
          p += across;
          q += across;
          k0 += down;
          k1 += down;
          k2 += down;
          k3 += down;
        }
        const to = C.at + i * C.row + j,
          below = to + C.row;
        c[to] += p0;
        c[to + 1] += p1;
        c[to + 2] += p2;
        c[to + 3] += p3;
        c[below] += q0;
        c[below + 1] += q1;
        c[below + 2] += q2;
        c[below + 3] += q3;
      }
    }
    // What the blocks left: the last columns of all rows, and the last row.
    for (let i = 0; i < rows; i += 1) {
      for (let j = i < whole ? fours : 0; j < columns; j += 1) {
        let sum = 0;
        for (let k = 0, p = A.at + i * A.row, q = B.at + j * B.column; k < inner; k += 1, p += across, q += down)
          sum += a[p] * b[q];
        c[C.at + i * C.row + j] += sum;
      }
    }
  }

  // y = x Wᵀ, and + b where `biased`.
  function multiply(values, { inputs, outputs, W, b }, x, y, rows, biased) {
    const bias = biased ? values.subarray(b, b + outputs) : new Float64Array(outputs);
    for (let r = 0; r < rows; r += 1) y.set(bias, r * outputs);
    const weights = matrix(values, W, 1, inputs);
    addProduct(matrix(y, 0, outputs, 1), matrix(x, 0, inputs, 1), weights, rows, outputs, inputs);
  }
  // dx = d W
  function multiplyBack(values, { inputs, outputs, W }, d, dx, rows) {
    dx.fill(0, 0, rows * inputs);
    const weights = matrix(values, W, inputs, 1);
    addProduct(matrix(dx, 0, inputs, 1), matrix(d, 0, outputs, 1), weights, rows, inputs, outputs);
  }
  // The slopes of W grow by dᵀ x and those of b, where `biased`, by the sums of d.
  function collect(slopes, { inputs, outputs, W, b }, d, x, rows, biased) {
    const [left, right] = [matrix(d, 0, 1, outputs), matrix(x, 0, inputs, 1)];
    addProduct(matrix(slopes, W, inputs, 1), left, right, outputs, inputs, rows);
    for (let i = 0; biased && i < rows * outputs; i += 1) slopes[b + (i % outputs)] += d[i];
  }

  // The outputs for tape.h[0].
  function forward(net, tape, rows = tape.rows) {
    net.layers.forEach((layer, l) => {
      const y = tape.h[l + 1];
      multiply(net.values, layer, tape.h[l], y, rows, true);
      if (l + 1 === net.layers.length) return;
      for (let i = 0, end = rows * layer.outputs; i < end; i += 1) if (y[i] < 0) y[i] *= net.leak;
    });
    return tape.h[net.layers.length];
  }
  // What a rectifier does to a slope: nothing where it let the number through.
  function bend(net, slopes, h, count) {
    for (let i = 0; i < count; i += 1) if (h[i] <= 0) slopes[i] *= net.leak;
  }

  // From the slopes in the outputs, tape.d[last], to those in the input; those in the parameters add up if asked.
  function backward(net, tape, { parameters, input }) {
    const { rows, h, d } = tape;
    for (let l = net.layers.length - 1; l >= 0; l -= 1) {
      const layer = net.layers[l];
      if (parameters) collect(net.slopes, layer, d[l + 1], h[l], rows, true);
      if (l === 0 && !input) return null;
      multiplyBack(net.values, layer, d[l + 1], d[l], rows);
      if (l > 0) bend(net, d[l], h[l], rows * layer.inputs);
    }
    return d[0];
  }

  /* R1 of Mescheder et al. (2018): weight / 2 times the mean over rows of the squared slope of the logit in its input.
     With rectifiers that slope is a product of matrices, u, and its own derivative one more pass forward, t. */
  function r1(net, tape, weight) {
    const { rows, h } = tape,
      last = net.layers.length;
    const u = tape.u || (tape.u = tape.rooms()),
      t = tape.t || (tape.t = tape.rooms());
    u[last].fill(1);
    for (let l = last - 1; l >= 0; l -= 1) {
      multiplyBack(net.values, net.layers[l], u[l + 1], u[l], rows);
      if (l > 0) bend(net, u[l], h[l], rows * net.layers[l].inputs);
    }
    let sum = 0;
    for (let i = 0; i < rows * net.sizes[0]; i += 1) {
      sum += u[0][i] ** 2;
      t[0][i] = (weight / rows) * u[0][i];
    }
    net.layers.forEach((layer, l) => {
      collect(net.slopes, layer, u[l + 1], t[l], rows, false);
      if (l + 1 === last) return;
      multiply(net.values, layer, t[l], t[l + 1], rows, false);
      bend(net, t[l + 1], h[l + 1], rows * layer.outputs);
    });
    return (weight / 2) * (sum / rows);
  }

  // Kingma and Ba (2015), with the rate in front and its two corrections, as torch computes it.
  const ADAM = { beta1: 0.5, beta2: 0.99, epsilon: 1e-8 };
  function adam(net, rate, { beta1, beta2, epsilon } = ADAM) {
    const { values, slopes, first, second } = net;
    net.time += 1;
    const [one, two] = [1 - beta1 ** net.time, Math.sqrt(1 - beta2 ** net.time)];
    for (let i = 0; i < values.length; i += 1) {
      const g = slopes[i];
      first[i] = beta1 * first[i] + (1 - beta1) * g;
      second[i] = beta2 * second[i] + (1 - beta2) * g * g;
      values[i] -= ((rate / one) * first[i]) / (Math.sqrt(second[i]) / two + epsilon);
    }
    slopes.fill(0);
  }

  /* ---- losses, of one logit: what each player makes small, and its slope ---- */
  const logistic = {
    real: [(a) => softplus(-a), (a) => -sigmoid(-a)],
    fake: [softplus, sigmoid],
  };
  const losses = {
    "non-saturating": { ...logistic, generator: [(a) => softplus(-a), (a) => -sigmoid(-a)] },
    saturating: { ...logistic, generator: [(a) => -softplus(a), (a) => -sigmoid(a)] },
    hinge: {
      real: [(a) => Math.max(0, 1 - a), (a) => (a < 1 ? -1 : 0)],
      fake: [(a) => Math.max(0, 1 + a), (a) => (a > -1 ? 1 : 0)],
      generator: [(a) => -a, () => -1],
    },
  };
  // The mean of a loss over the logits; its slopes go into d.
  function score([loss, slope], logits, d, count) {
    let sum = 0;
    for (let i = 0; i < count; i += 1) {
      sum += loss(logits[i]);
      d[i] = slope(logits[i]) / count;
    }
    return sum / count;
  }

  /* ---- the two players ---- */
  const PLAN = { latent: 2, width: 32, batch: 64, leak: 0.02, averaging: 0.99 };
  // settings: {packed, loss, generatorRate, discriminatorRate, discriminatorSteps, r1}; all but packed may change.
  function begin(law, settings, seed, plan = PLAN) {
    const random = nx.random(seed);
    const { latent, width, batch, leak } = plan;
    const generator = network([latent, width, width, 2], leak, random);
    const discriminator = network([2 * settings.packed, width, width, 1], leak, random);
    return {
      law,
      settings,
      plan,
      random,
      generator,
      discriminator,
      averaged: { ...generator, values: Float64Array.from(generator.values) },
      drawn: tape(generator.sizes, batch),
      real: tape(discriminator.sizes, batch / settings.packed),
      fake: tape(discriminator.sizes, batch / settings.packed),
      steps: 0,
      seen: { discriminator: NaN, generator: NaN, penalty: 0 },
    };
  }
  const normals = (random, x) => {
    for (let i = 0; i < x.length; i += 1) x[i] = random.normal();
  };
  function draw(gan) {
    normals(gan.random, gan.drawn.h[0]);
    return forward(gan.generator, gan.drawn);
  }

  function discriminatorStep(gan) {
    const { discriminator: net, real, fake, settings, seen } = gan;
    const loss = losses[settings.loss];
    gan.law.sample(gan.random, real.h[0]);
    fake.h[0].set(draw(gan));
    seen.discriminator = 0;
    seen.penalty = 0;
    for (const [kind, one] of [
      ["real", real],
      ["fake", fake],
    ]) {
      seen.discriminator += score(loss[kind], forward(net, one), one.d[net.layers.length], one.rows);
      backward(net, one, { parameters: true, input: false });
    }
    if (settings.r1 > 0) seen.penalty = r1(net, real, settings.r1);
    adam(net, settings.discriminatorRate);
  }

  function generatorStep(gan) {
    const { generator, discriminator, drawn, fake, settings, averaged, plan } = gan;
    fake.h[0].set(draw(gan));
    const logits = forward(discriminator, fake);
    const slopes = fake.d[discriminator.layers.length];
    gan.seen.generator = score(losses[settings.loss].generator, logits, slopes, fake.rows);
    drawn.d[generator.layers.length].set(backward(discriminator, fake, { parameters: false, input: true }));
    backward(generator, drawn, { parameters: true, input: false });
    adam(generator, settings.generatorRate);
    for (let i = 0; i < averaged.values.length; i += 1)
      averaged.values[i] += (1 - plan.averaging) * (generator.values[i] - averaged.values[i]);
  }

  function step(gan) {
    for (let n = 0; n < gan.settings.discriminatorSteps; n += 1) discriminatorStep(gan);
    generatorStep(gan);
    gan.steps += 1;
  }

  // What a generator makes of z, (rows, latent) → (rows, 2).
  function samples(net, z) {
    const room = tape(net.sizes, z.length / net.sizes[0]);
    room.h[0].set(z);
    return forward(net, room);
  }

  /* ---- laws: points and a deviation; a sample is one of the points, moved by noise ---- */
  // pieces: to which part of the law each point belongs, 0, 1, …; a Gaussian is a part of its own.
  function law(points, deviation, pieces = points.map((_, n) => n)) {
    const count = 1 + Math.max(...pieces);
    function sample(random, x) {
      for (let at = 0; at < x.length; at += 2) {
        const point = points[Math.min(points.length - 1, Math.floor(points.length * random.uniform()))];
        x[at] = point[0] + deviation * random.normal();
        x[at + 1] = point[1] + deviation * random.normal();
      }
    }
    return { points, deviation, pieces, count, sample };
  }
  const range = (count, make) => Array.from({ length: count }, (_, n) => make(n));
  const pieced = (points, deviation, per) => law(points, deviation, points.map((_, n) => Math.floor(n / per)));
  const arc = (x, y, radius, angle) => [x + radius * Math.cos(angle), y + radius * Math.sin(angle)];
  const laws = {
    ring: () => law(range(8, (n) => arc(0, 0, 2, (n * Math.PI) / 4)), 0.1),
    grid: () => law(range(25, (n) => [(n % 5) - 2, Math.floor(n / 5) - 2]), 0.05),
    moons: () =>
      pieced(
        range(160, (n) => {
          const turn = (Math.PI * ((n % 80) + 0.5)) / 80;
          return n < 80 ? arc(-0.75, -0.4, 1.5, turn) : arc(0.75, 0.4, 1.5, Math.PI + turn);
        }),
        0.1,
        20,
      ),
    spiral: () =>
      pieced(
        range(160, (n) => {
          const along = Math.sqrt((n + 0.5) / 160);
          return arc(0, 0, 2.3 * along, 3.6 * Math.PI * along);
        }),
        0.08,
        20,
      ),
  };
  // Points from somebody's hand: a piece is all that lies within `reach` of its first point.
  function drawnLaw(points, deviation = 0.1, reach = 0.6) {
    const firsts = [];
    const pieces = points.map(([x, y]) => {
      const known = firsts.findIndex(([u, v]) => Math.hypot(x - u, y - v) < reach);
      return known < 0 ? firsts.push([x, y]) - 1 : known;
    });
    return law(points, deviation, pieces);
  }

  // Good samples lie within three deviations of a point; a piece is found if one of them is nearest to it.
  function judge(law, x) {
    const counts = new Array(law.count).fill(0),
      reach = (3 * law.deviation) ** 2;
    let good = 0;
    for (let at = 0; at < x.length; at += 2) {
      let best = Infinity,
        piece = 0;
      for (let n = 0; n < law.points.length; n += 1) {
        const square = (x[at] - law.points[n][0]) ** 2 + (x[at + 1] - law.points[n][1]) ** 2;
        if (square < best) [best, piece] = [square, law.pieces[n]];
      }
      if (best > reach) continue;
      good += 1;
      counts[piece] += 1;
    }
    return { found: counts.filter(Boolean).length, good: good / (x.length / 2), counts };
  }

  /* ---- what is drawn ---- */
  // The logits of a discriminator at points x, each beside partners, x and partners two numbers a sample: where it
  // judges packs of m, the mean over `packs` packs of the point and m - 1 partners.
  function field(net, x, partners, packs) {
    const width = net.sizes[0],
      count = x.length / 2,
      each = width === 2 ? 1 : packs;
    const room = tape(net.sizes, count * each);
    for (let n = 0; n < count * each; n += 1) {
      room.h[0].set(x.subarray(2 * (n % count), 2 * (n % count) + 2), n * width);
      const at = Math.floor(n / count) * (width - 2);
      room.h[0].set(partners.subarray(at, at + width - 2), n * width + 2);
    }
    const logits = forward(net, room),
      mean = new Float64Array(count);
    for (let n = 0; n < logits.length; n += 1) mean[n % count] += logits[n] / each;
    return mean;
  }

  // Where the generator would have each of its samples go: minus the slope of the loss of its pack, (rows, 2).
  function pull(net, x, loss) {
    const rows = x.length / net.sizes[0],
      room = tape(net.sizes, rows);
    room.h[0].set(x);
    const d = room.d[net.layers.length];
    score(losses[loss].generator, forward(net, room), d, rows);
    return backward(net, room, { parameters: false, input: true }).map((slope) => -slope * rows);
  }

  // Where a function that is known on a square grid, side × side from -limit to limit, crosses zero: pieces of line.
  function crossings(values, side, limit) {
    const at = (i) => -limit + (2 * limit * i) / (side - 1);
    const pieces = [];
    for (let j = 0; j + 1 < side; j += 1) {
      for (let i = 0; i + 1 < side; i += 1) {
        const corners = [
          [i, j],
          [i + 1, j],
          [i + 1, j + 1],
          [i, j + 1],
        ];
        const ends = [];
        corners.forEach(([u, v], n) => {
          const [p, q] = corners[(n + 1) % 4];
          const [first, second] = [values[v * side + u], values[q * side + p]];
          if (first > 0 === second > 0) return;
          const part = first / (first - second);
          ends.push([at(u + part * (p - u)), at(v + part * (q - v))]);
        });
        for (let n = 0; n + 1 < ends.length; n += 2) pieces.push([ends[n], ends[n + 1]]);
      }
    }
    return pieces;
  }

  const networks = { network, tape, forward, backward, r1, adam };
  const players = { PLAN, begin, step, discriminatorStep, generatorStep, samples, normals };
  const looks = { field, pull, crossings };
  return { sigmoid, softplus, losses, score, ...networks, ...players, law, laws, drawnLaw, judge, ...looks };
})();
