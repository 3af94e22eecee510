// The GAN that learns in the page, on what is known without Python: slopes by differences, draws by their seed,
// and a ring whose eight modes are found.
import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./load.mjs";

const FILES = ["random.js", "gan_live_maths.js"];
const nx = load(FILES);
const close = (a, b, error = 1e-7) => assert.ok(Math.abs(a - b) <= error, `${a} is not ${b}`);
const LOSSES = ["non-saturating", "saturating", "hinge"];
const REMEDY = {
  loss: "non-saturating",
  packed: 2,
  generatorRate: 4e-3,
  discriminatorRate: 4e-3,
  discriminatorSteps: 1,
  r1: 0,
};
const SMALL = { latent: 3, width: 5, batch: 6, leak: 0.2, averaging: 0.9 };

// A network of odd sizes, 7 rows of input, and the slope of f in entry i of an array by a difference.
function example(maths, sizes) {
  const random = nx.random(5);
  const net = maths.network(sizes, 0.2, random);
  for (let i = 0; i < net.values.length; i += 1) net.values[i] = 0.8 * random.normal();
  const room = maths.tape(sizes, 7);
  maths.normals(random, room.h[0]);
  return { net, room };
}
function difference(array, i, f, step = 1e-6) {
  const kept = array[i];
  const at = (value) => {
    array[i] = value;
    return f();
  };
  const slope = (at(kept + step) - at(kept - step)) / (2 * step);
  array[i] = kept;
  return slope;
}
const mean = (values, f) => values.reduce((sum, value) => sum + f(value), 0) / values.length;
// Half the mean squared slope of the logit in its input, the slopes by differences.
function penalty(maths, net, room, weight) {
  let sum = 0;
  for (let i = 0; i < room.h[0].length; i += 1) {
    const row = Math.floor(i / net.sizes[0]);
    sum += difference(room.h[0], i, () => maths.forward(net, room)[row], 1e-4) ** 2;
  }
  return (weight / 2) * (sum / room.rows);
}
function learnt(maths, seed, steps, settings = REMEDY) {
  const gan = maths.begin(maths.laws.ring(), settings, seed);
  for (let n = 0; n < steps; n += 1) maths.step(gan);
  const z = new Float64Array(1000 * maths.PLAN.latent);
  maths.normals(nx.random(77), z);
  return maths.judge(gan.law, maths.samples(gan.generator, z));
}

// Each check below takes the computing part, so that it can be asked of a wrong one as well.
const checks = {
  "slopes of every loss in parameters and input are those of differences": (maths) => {
    for (const name of LOSSES)
      for (const kind of ["real", "fake", "generator"]) {
        const { net, room } = example(maths, [4, 6, 5, 1]);
        const [loss] = maths.losses[name][kind];
        const value = () => mean(maths.forward(net, room), loss);
        close(maths.score(maths.losses[name][kind], maths.forward(net, room), room.d[3], 7), value());
        const input = Float64Array.from(maths.backward(net, room, { parameters: true, input: true }));
        net.values.forEach((_, i) => close(net.slopes[i], difference(net.values, i, value)));
        input.forEach((slope, i) => close(slope, difference(room.h[0], i, value)));
      }
  },
  "the slopes of R1 are those of differences": (maths) => {
    const { net, room } = example(maths, [4, 6, 5, 1]);
    maths.forward(net, room);
    const found = maths.r1(net, room, 0.7);
    close(found, penalty(maths, net, room, 0.7));
    const value = () => penalty(maths, net, room, 0.7);
    for (let i = 0; i < net.values.length; i += 3) close(net.slopes[i], difference(net.values, i, value, 1e-4), 1e-5);
  },
  "an arrow is minus the slope of its pack's loss": (maths) => {
    const { net, room } = example(maths, [4, 6, 5, 1]);
    const x = Float64Array.from(room.h[0]);
    const [loss] = maths.losses.saturating.generator;
    maths.pull(net, x, "saturating").forEach((pull, i) => {
      const row = Math.floor(i / 4);
      close(pull, -difference(room.h[0], i, () => loss(maths.forward(net, room)[row])));
    });
  },
  "the generator descends its own loss, and the discriminator its own": (maths) => {
    for (const name of LOSSES) {
      const gan = maths.begin(maths.laws.ring(), { ...REMEDY, loss: name }, 3, SMALL);
      const before = [gan.generator, gan.discriminator].map((net) => Float64Array.from(net.values));
      maths.generatorStep(gan);
      assert.deepEqual(gan.discriminator.values, before[1]);
      // A first step of Adam is the rate against the sign of every slope.
      const z = Float64Array.from(gan.drawn.h[0]),
        after = Float64Array.from(gan.generator.values);
      gan.generator.values.set(before[0]);
      const [loss] = maths.losses[name].generator;
      const value = () => {
        const room = maths.tape(gan.discriminator.sizes, 3);
        room.h[0].set(maths.samples(gan.generator, z));
        return mean(maths.forward(gan.discriminator, room), loss);
      };
      before[0].forEach((was, i) => {
        const slope = difference(gan.generator.values, i, value);
        if (Math.abs(slope) > 1e-5) close(after[i] - was, -4e-3 * Math.sign(slope), 1e-5);
      });
      gan.generator.values.set(after);
      maths.discriminatorStep(gan);
      assert.deepEqual(gan.generator.values, after);
      assert.notDeepEqual(gan.discriminator.values, before[1]);
    }
  },
  "the same seed gives the same numbers, another seed others": (maths) => {
    const values = (seed) => {
      const gan = maths.begin(maths.laws.grid(), { ...REMEDY, r1: 0.1, discriminatorSteps: 2 }, seed);
      for (let n = 0; n < 20; n += 1) maths.step(gan);
      return [...gan.generator.values, ...gan.discriminator.values, ...gan.averaged.values];
    };
    const first = values(4);
    assert.ok(first.every(Number.isFinite));
    assert.deepEqual(values(4), first);
    assert.notDeepEqual(values(5), first);
  },
  "the averaged generator follows by a tenth of the way": (maths) => {
    const gan = maths.begin(maths.laws.ring(), REMEDY, 3, SMALL);
    const start = Float64Array.from(gan.averaged.values);
    assert.deepEqual(gan.generator.values, start);
    maths.step(gan);
    assert.notEqual(gan.generator.values[0], start[0]);
    start.forEach((was, i) => close(gan.averaged.values[i], 0.9 * was + 0.1 * gan.generator.values[i], 1e-15));
  },
  "good samples of a law are 1 − exp(−9/2) of all, and every mode has its share": (maths) => {
    for (const name of ["ring", "grid"]) {
      const law = maths.laws[name](),
        COUNT = 40000,
        x = new Float64Array(2 * COUNT);
      law.sample(nx.random(2), x);
      const { found, good, counts } = maths.judge(law, x);
      const p = 1 - Math.exp(-4.5);
      close(good, p, 4 * Math.sqrt((p * (1 - p)) / COUNT));
      assert.equal(found, law.points.length);
      for (const count of counts) close(count / COUNT, p / law.count, 4 * Math.sqrt(1 / law.count / COUNT));
    }
  },
  "a sample counts for the nearest piece, and within three deviations only": (maths) => {
    const law = maths.law(
      [
        [0, 0],
        [1, 0],
        [2, 0],
      ],
      0.1,
      [0, 0, 1],
    );
    const { found, good, counts } = maths.judge(law, Float64Array.of(0, 0.29, 1, 0.31, 1.9, 0, 2, 0.2));
    assert.deepEqual([found, good, counts], [2, 0.75, [1, 2]]);
  },
  "points drawn near each other are one piece": (maths) => {
    const points = [
      [0, 0],
      [0.5, 0],
      [1, 0],
      [-2, 1],
    ];
    assert.deepEqual(maths.drawnLaw(points).pieces, [0, 0, 1, 2]);
    assert.equal(maths.drawnLaw(points).count, 3);
  },
  "the field is the mean logit beside partners": (maths) => {
    const random = nx.random(8),
      net = maths.network([4, 6, 5, 1], 0.2, random);
    const [x, partners] = [Float64Array.of(1, 2, -1, 0.5, 0.3, 0.1), Float64Array.of(0.4, -1, 2, 1.5)];
    const one = (...row) => {
      const room = maths.tape(net.sizes, 1);
      room.h[0].set(row);
      return maths.forward(net, room)[0];
    };
    maths.field(net, x, partners, 2).forEach((logit, n) => {
      const point = x.slice(2 * n, 2 * n + 2);
      close(logit, (one(...point, 0.4, -1) + one(...point, 2, 1.5)) / 2, 1e-14);
    });
    const alone = maths.network([2, 5, 1], 0.2, random);
    const room = maths.tape(alone.sizes, 3);
    room.h[0].set(x);
    assert.deepEqual([...maths.field(alone, x, partners, 2)], [...maths.forward(alone, room)]);
  },
  "the line where D is in doubt lies where its logit is 0": (maths) => {
    const SIDE = 41;
    const at = (i) => -3 + (6 * i) / (SIDE - 1);
    const values = Float64Array.from({ length: SIDE * SIDE }, (_, n) => {
      const [x, y] = [at(n % SIDE), at(Math.floor(n / SIDE))];
      return 2 - Math.hypot(x - 0.5, y + 0.4);
    });
    const pieces = maths.crossings(values, SIDE, 3);
    const length = pieces.reduce((sum, [a, b]) => sum + Math.hypot(a[0] - b[0], a[1] - b[1]), 0);
    close(length, 4 * Math.PI, 0.02);
    for (const end of pieces.flat()) close(Math.hypot(end[0] - 0.5, end[1] + 0.4), 2, 2e-3);
  },
  "losses stay finite where a logit is large": (maths) => {
    for (const a of [-800, 800])
      for (const name of LOSSES)
        for (const kind of ["real", "fake", "generator"])
          for (const f of maths.losses[name][kind]) assert.ok(Number.isFinite(f(a)));
    assert.equal(maths.softplus(800), 800);
  },
  "with the default sliders all eight modes are found": (maths) => {
    for (const seed of [1, 2, 3]) {
      const { found, good } = learnt(maths, seed, 1500);
      assert.ok(found === 8 && good > 0.4, `seed ${seed}: ${found} modes, ${good} good`);
    }
  },
};
for (const [name, check] of Object.entries(checks)) test(name, () => check(nx.ganLive));

test("with the rates of the preset that collapses most modes are missed", () => {
  const collapse = { ...REMEDY, packed: 1, generatorRate: 1e-3, discriminatorRate: 1e-4 };
  for (const seed of [1, 2]) assert.ok(learnt(nx.ganLive, seed, 600, collapse).found <= 2);
});

// What each check is there for: wrong lines that it notices.
const mutants = {
  "slopes of every loss in parameters and input are those of differences": [
    ["if (h[i] <= 0) slopes[i] *= net.leak", "if (h[i] > 0) slopes[i] *= net.leak"],
    ["generator: [(a) => -softplus(a), (a) => -sigmoid(a)]", "generator: [(a) => -softplus(a), (a) => -sigmoid(-a)]"],
    ["(a < 1 ? -1 : 0)", "(a < -1 ? -1 : 0)"],
    ["slope(logits[i]) / count", "slope(logits[i])"],
    ["p2 += x * b[k2]", "p2 += y * b[k2]"],
    ["c[below + 3] += q3", "c[below + 3] = q3"],
    ["j = i < whole ? fours : 0", "j = fours"],
    ["slopes[b + (i % outputs)] += d[i]", "slopes[b + (i % outputs)] = d[i]"],
  ],
  "the slopes of R1 are those of differences": [
    ["(weight / 2) * (sum / rows)", "weight * (sum / rows)"],
    ["(weight / rows) * u[0][i]", "(0.5 * weight / rows) * u[0][i]"],
    ["bend(net, t[l + 1], h[l + 1], rows * layer.outputs);", ""],
    ["t[l], t[l + 1], rows, false", "t[l], t[l + 1], rows, true"],
  ],
  "an arrow is minus the slope of its pack's loss": [
    ["-slope * rows", "-slope"],
    ["-slope * rows", "slope * rows"],
  ],
  "the generator descends its own loss, and the discriminator its own": [
    ["values[i] -= ((rate", "values[i] += ((rate"],
    ["score(losses[settings.loss].generator,", "score(losses[settings.loss].fake,"],
    ["drawn.d[generator.layers.length].set(backward(", "drawn.d[generator.layers.length].set(drawn.h[0].map(() => 1)); (("],
  ],
  "the same seed gives the same numbers, another seed others": [
    ["const random = nx.random(seed);", "const random = nx.random(1);"],
    ["x[i] = random.normal()", "x[i] = Math.random()"],
  ],
  "the averaged generator follows by a tenth of the way": [["(1 - plan.averaging)", "plan.averaging"]],
  "good samples of a law are 1 − exp(−9/2) of all, and every mode has its share": [
    ["(3 * law.deviation) ** 2", "(2 * law.deviation) ** 2"],
    ["points.length * random.uniform()", "0.9 * points.length * random.uniform()"],
  ],
  "a sample counts for the nearest piece, and within three deviations only": [
    ["if (square < best)", "if (square < best && best === Infinity)"],
    ["if (best > reach) continue;", ""],
  ],
  "points drawn near each other are one piece": [["< reach)", "> reach)"]],
  "the field is the mean logit beside partners": [
    ["+= logits[n] / each", "+= logits[n]"],
    ["Math.floor(n / count) * (width - 2)", "0 * (width - 2)"],
  ],
  "the line where D is in doubt lies where its logit is 0": [["first / (first - second)", "0.5"]],
  "losses stay finite where a logit is large": [
    ["Math.max(a, 0) + Math.log1p(Math.exp(-Math.abs(a)))", "Math.log(1 + Math.exp(a))"],
  ],
  "with the default sliders all eight modes are found": [
    ["adam(generator, settings.generatorRate)", "adam(generator, settings.generatorRate / 100)"],
  ],
};
const broken = (from, to) =>
  load(FILES, (file, source) => {
    if (file !== "gan_live_maths.js") return source;
    assert.ok(source.includes(from), from);
    return source.replaceAll(from, to);
  }).ganLive;
test("every check has a wrong line that it notices", () =>
  assert.deepEqual(Object.keys(mutants).sort(), Object.keys(checks).sort()));
for (const [name, pairs] of Object.entries(mutants))
  for (const [from, to] of pairs)
    test("noticed: not " + name + ": " + to, () => assert.throws(() => checks[name](broken(from, to))));
