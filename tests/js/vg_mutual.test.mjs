// The mathematics of chapter 5's figure on what is known without Python: bounds that climb, points that stay, one
// component, laws of draws.
import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./load.mjs";

const FILES = ["random.js", "vg_mutual_maths.js"];
const nx = load(FILES);
const close = (a, b, error = 1e-12) => assert.ok(Math.abs(a - b) <= error, `${a} is not ${b}`);

// Three clouds of points, each with variances of its own.
function clouds(count = 90) {
  const random = nx.random(4);
  const centres = [
    [-1.5, 0.4],
    [1.2, 1],
    [0.3, -1.6],
  ];
  return {
    mean: Array.from({ length: count }, (_, n) => centres[n % 3].map((c) => c + 0.5 * random.normal())),
    variance: Array.from({ length: count }, () => [0.02, 0.05].map((s) => s * (0.5 + random.uniform()))),
  };
}
const USUAL = { components: 4, beta: 1, message: "soft", learner: "em" };
const begin = (maths, changes = {}, seed = 3) => maths.begin(clouds(), { ...USUAL, ...changes }, seed);
function played(maths, changes, rounds = 12, seed = 3) {
  const state = begin(maths, changes, seed);
  for (let n = 0; n < rounds; n += 1) {
    maths.mixtureStep(state);
    maths.vaeStep(state);
  }
  return state;
}
const farthest = (a, b) => Math.max(...a.map((x, n) => Math.hypot(x[0] - b[n][0], x[1] - b[n][1])));

// Each check takes the mathematics, so that it can be asked of a wrong one as well.
const checks = {
  "at β = 1 neither step lowers the soft bound, and at any β none lowers the objective": (maths) => {
    for (const beta of [0.2, 1, 5, 50]) {
      const { record } = played(maths, { beta });
      const values = record.map((one) => maths.objective(one, beta));
      for (let n = 1; n < values.length; n += 1)
        assert.ok(values[n] >= values[n - 1] - 1e-10, `at β = ${beta}, step ${n}: ${values[n - 1]} to ${values[n]}`);
      assert.ok(values[values.length - 1] > values[0] + 0.1);
    }
  },
  "too heavy a message lowers the soft bound": (maths) => {
    const { record } = played(maths, { beta: 50 });
    const soft = record.map((one) => one.soft);
    assert.ok(Math.max(...soft) > soft[soft.length - 1] + 0.1);
  },
  "EM climbs where the message's variances are left out too": (maths) => {
    const state = begin(maths);
    const q = { mean: state.q.mean, variance: state.q.mean.map(() => [0, 0]) };
    let { mixture } = state,
      last = -Infinity;
    for (let n = 0; n < 25; n += 1) {
      let likelihood = 0;
      for (const x of q.mean)
        likelihood += Math.log(maths.logJoint(mixture, x).reduce((total, value) => total + Math.exp(value), 0));
      assert.ok(likelihood >= last - 1e-9);
      last = likelihood;
      mixture = maths.emStep(mixture, q);
    }
  },
  "with β = 0 no point moves, whatever is sent": (maths) => {
    for (const message of ["soft", "hard", "sampled"]) {
      const state = played(maths, { beta: 0, message });
      assert.deepEqual(state.q.mean, state.first.mean);
    }
    const state = played(maths, { beta: 5 });
    assert.ok(farthest(state.q.mean, state.first.mean) > 0.05);
    state.settings.beta = 0;
    maths.aim(state);
    maths.vaeStep(state);
    assert.deepEqual(state.q.mean, state.first.mean);
  },
  "a message pulls towards its mean, and the heavier the nearer": (maths) => {
    const state = played(maths, { beta: 1, message: "hard" }, 2);
    const { mixture, first, sent } = state;
    const goal = sent.map((row) => maths.factor(mixture, row).mean);
    const far = [0, 1, 10, 1e4, 1e9].map((beta) => {
      const x = maths.targets(mixture, first, sent, beta);
      return x.reduce((total, at, n) => total + Math.hypot(at[0] - goal[n][0], at[1] - goal[n][1]), 0);
    });
    for (let i = 1; i < far.length; i += 1) assert.ok(far[i] < far[i - 1]);
    close(far[4], 0, 1e-4);
    goal.forEach((mean, n) => {
      const k = sent[n].indexOf(1);
      close(mean[0], mixture.means[k][0]);
      close(mean[1], mixture.means[k][1]);
    });
  },
  "one component: every message is the same, there is nothing to learn of a label": (maths) => {
    for (const learner of ["em", "gibbs"]) {
      const state = played(maths, { components: 1, learner });
      const { soft, conditional, logProb, information } = state.record[state.record.length - 1];
      close(soft, conditional);
      close(information, 0);
      assert.ok(soft <= logProb);
      assert.ok(state.shares.every((row) => row.length === 1 && row[0] === 1));
    }
    const em = played(maths, { components: 1, beta: 0 }, 1);
    const mean = [0, 1].map((i) => em.first.mean.reduce((total, c) => total + c[i] / em.first.mean.length, 0));
    close(em.mixture.means[0][0], mean[0]);
    close(em.mixture.means[0][1], mean[1]);
  },
  "one component at β = 1: the bound touches log p where q is the posterior": (maths) => {
    // Of a single image whose held variances agree with the component's axes the posterior is a diagonal Gaussian.
    const round = { weights: [1], means: [[0.2, 0.1]], precisions: [[2, 0, 3]] };
    const one = { mean: [[1, -1]], variance: [[0.5, 0.25]] };
    const x = maths.targets(round, one, [[1]], 1);
    const exact = { mean: x, variance: [[1 / (1 / 0.5 + 2), 1 / (1 / 0.25 + 3)]] };
    const reading = maths.readings(round, one, exact);
    close(reading.soft, reading.logProb);
  },
  "the soft bound never lies above log p; the conditional reading may": (maths) => {
    let above = 0;
    for (const learner of ["em", "gibbs"])
      for (const message of ["soft", "hard", "sampled"])
        for (const one of played(maths, { learner, message }, 6).record) {
          assert.ok(one.soft <= one.logProb + 1e-12);
          close(one.soft, one.fit - one.divergence);
          if (one.conditional > one.logProb) above += 1;
        }
    assert.ok(above > 20);
  },
  "a hard message is the largest share, a sampled one is drawn from the shares": (maths) => {
    const r = Array.from({ length: 20000 }, () => [0.2, 0.5, 0.3]);
    assert.ok(maths.message("hard", r, null).every((row) => row[1] === 1 && row[0] + row[2] === 0));
    const sent = maths.message("sampled", r, nx.random(3));
    [0.2, 0.5, 0.3].forEach((share, k) => {
      const found = sent.reduce((total, row) => total + row[k], 0) / r.length;
      close(found, share, 4 * Math.sqrt((share * (1 - share)) / r.length));
    });
    assert.equal(maths.message("soft", r, null), r);
  },
  "the same start gives the same steps, another start others": (maths) => {
    const run = (seed) => {
      const { q, mixture } = played(maths, { learner: "gibbs", message: "sampled" }, 5, seed);
      return JSON.stringify([q.mean, mixture]);
    };
    assert.equal(run(3), run(3));
    assert.notEqual(run(3), run(4));
  },
  "k-means++ takes no point twice, and mostly one of every cloud": (maths) => {
    const { mean } = clouds();
    let all = 0;
    for (let seed = 1; seed <= 200; seed += 1) {
      const chosen = maths.places(mean, 3, nx.random(seed));
      assert.equal(new Set(chosen).size, 3);
      if (new Set(chosen.map((n) => n % 3)).size === 3) all += 1;
    }
    assert.ok(all > 110 && all < 200, `${all} of 200`);
    assert.equal(maths.places([[0, 0], [0, 0], [0, 0]], 2, nx.random(1)).length, 2);
  },
  "gamma draws have their mean, variance and third moment": (maths) => {
    for (const shape of [1, 1.5, 30]) {
      const random = nx.random(8);
      const draws = Array.from({ length: 40000 }, () => maths.gamma(shape, random));
      const moment = (power) => draws.reduce((total, value) => total + (value - shape) ** power, 0) / draws.length;
      close(moment(1), 0, 4 * Math.sqrt(shape / draws.length));
      close(moment(2) / shape, 1, 4 * Math.sqrt((2 + 6 / shape) / draws.length));
      close(moment(3) / shape, 2, 0.15 * (1 + shape));
    }
  },
  "sweeps forget the start: components stand on the clouds": (maths) => {
    const state = begin(maths, { components: 3, learner: "gibbs" }, 5);
    const found = [];
    for (let n = 0; n < 60; n += 1) {
      maths.mixtureStep(state);
      if (n > 20) found.push(state.record[state.record.length - 1].logProb);
    }
    const em = played(maths, { components: 3, beta: 0 }, 40, 5).record.pop().logProb;
    const mean = found.reduce((total, value) => total + value / found.length, 0);
    assert.ok(mean < em && mean > em - 0.3, `${mean} against ${em}`);
  },
  "a component that answers for nothing keeps its place": (maths) => {
    const { mean, variance } = clouds(6);
    const mixture = {
      weights: [1, 0],
      means: [
        [0, 0],
        [9, 9],
      ],
      precisions: [
        [1, 0.2, 2],
        [3, -0.5, 1],
      ],
    };
    const after = maths.emStep(mixture, { mean, variance });
    assert.deepEqual([after.weights[1], after.means[1], after.precisions[1]], [0, [9, 9], [3, -0.5, 1]]);
    assert.notDeepEqual(after.means[0], [0, 0]);
    const reading = maths.readings(after, { mean, variance }, { mean, variance });
    assert.ok(Object.values(reading).every(Number.isFinite));
  },
  "draws of a component have its covariance": (maths) => {
    const precision = [2, -0.7, 1.1],
      random = nx.random(6);
    const count = 40000;
    const draws = maths.spread(
      [0, 0],
      precision,
      Array.from({ length: count }, () => [random.normal(), random.normal()]),
    );
    const mean = (f) => draws.reduce((total, x) => total + f(x) / count, 0);
    const [xx, xy, yy] = maths.inverse(precision);
    close(mean(([x]) => x * x), xx, 0.04);
    close(mean(([x, y]) => x * y), xy, 0.04);
    close(mean(([, y]) => y * y), yy, 0.06);
  },
};
for (const [name, check] of Object.entries(checks)) test(name, () => check(nx.vgMutual));

// What a wrong line would do to them.
const MUTANTS = [
  ["at β = 1", "- 0.5 * (xx * variance[0] + yy * variance[1])", "- (xx * variance[0] + yy * variance[1])"],
  ["at β = 1", "[variance[n][0], 0, variance[n][1]], r[n][k]", "[0, 0, 0], r[n][k]"],
  ["at β = 1", "times(inverse(both), times(pull,", "times(inverse(both), times(precision,"],
  ["EM climbs", "value / count", "value / 4"],
  ["EM climbs", "plus(x, mean, -1)), r[n][k]", "plus(x, centre, -1)), r[n][k]"],
  ["with β = 0", "beta * value", "value"],
  ["one component at", "1 / variance[0], 0, 1 / variance[1]", "variance[0], 0, variance[1]"],
  ["a message pulls", "share === 0", "share === 1"],
  ["one component: every", "e[z] - Math.log(mixture.weights[z])", "e[z] - 0.1"],
  ["one component at", "plus(covariance, [held[0], 0, held[1]])", "covariance"],
  ["the soft bound", "entropy + logSum(e);", "entropy + logSum(e) + 1;"],
  ["a hard message", 'kind === "hard"', "true"],
  ["the same start", "nx.random(seed)", "nx.random(1)"],
  ["k-means++", "all > 0 ? distance / all", "false ? distance / all"],
  ["gamma draws", "shape - 1 / 3", "shape"],
  ["gamma draws", "d * Math.log(v)", "Math.log(v)"],
  ["sweeps forget", "uniform < part", "uniform > part"],
  ["sweeps forget", "count / kappa)", "0)"],
  ["a component that", "count > 0 ? mean : mixture.means[k]", "mean"],
  ["draws of a component", "mean[1] + b * u", "mean[1] + a * u"],
];
for (const [which, from, to] of MUTANTS)
  test(`${which} … notices ${from} → ${to}`, () => {
    const name = Object.keys(checks).find((one) => one.startsWith(which));
    const wrong = load(FILES, (file, source) => {
      if (file !== "vg_mutual_maths.js") return source;
      assert.ok(source.includes(from), `${file} does not hold ${from}`);
      return source.replaceAll(from, to);
    });
    assert.throws(() => checks[name](wrong.vgMutual));
  });
