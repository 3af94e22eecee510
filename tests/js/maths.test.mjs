// The figures' computing parts on what is known without Python: limits, symmetries, refusals.
import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./load.mjs";

const nx = load([
  "random.js",
  "statistics.js",
  "contour.js",
  "gibbs_chain_maths.js",
  "gibbs_inverse_maths.js",
]);
const close = (a, b, error = 1e-9) => assert.ok(Math.abs(a - b) <= error, `${a} is not ${b}`);

test("uniform numbers are strictly inside (0, 1) and the same for a seed", () => {
  const random = nx.random(5),
    same = nx.random(5),
    other = nx.random(6);
  const draws = Array.from({ length: 20000 }, random.uniform);
  assert.ok(draws.every((u) => u > 0 && u < 1));
  assert.deepEqual(draws.slice(0, 50), Array.from({ length: 50 }, same.uniform));
  assert.notDeepEqual(draws.slice(0, 50), Array.from({ length: 50 }, other.uniform));
  close(nx.statistics.mean(draws), 0.5, 4 / Math.sqrt(12 * draws.length));
});

test("normal numbers have mean 0, variance 1 and no memory", () => {
  const { normal } = nx.random(3);
  const draws = Array.from({ length: 20000 }, normal);
  close(nx.statistics.mean(draws), 0, 4 / Math.sqrt(draws.length));
  close(nx.statistics.mean(draws.map((z) => z * z)), 1, 4 * Math.sqrt(2 / draws.length));
  close(nx.statistics.autocorrelation(draws, 1)[1], 0, 4 / Math.sqrt(draws.length));
});

test("a conditional density integrates to one and is the joint's, up to its factor", () => {
  for (const law of [nx.gibbs.gaussian(-0.8), nx.gibbs.modes(2)]) {
    let sum = 0;
    for (let x = -12; x <= 12; x += 0.01) sum += 0.01 * nx.gibbs.conditionalDensity(law, 0.7, x);
    close(sum, 1, 1e-6);
    const ratio = (x) => nx.gibbs.density(law, x, 0.7) / nx.gibbs.conditionalDensity(law, 0.7, x);
    close(ratio(0.3), ratio(-1.1), 1e-12);
    close(nx.gibbs.density(law, 0.3, -0.9), nx.gibbs.density(law, -0.9, 0.3), 1e-15);
  }
});

test("modes that fall together have no memory, distant ones a long one", () => {
  const [[lambda, weight]] = nx.gibbs.spectrum(nx.gibbs.modes(0));
  assert.equal(weight, 0);
  close(lambda, 0);
  close(nx.gibbs.crossingTime(nx.gibbs.modes(0)), 2, 1e-9);
  assert.ok(nx.gibbs.crossingTime(nx.gibbs.modes(3.5)) > 1000);
});

test("a chain that the figure draws has the memory that the theory says", () => {
  const { statistics, gibbs } = nx;
  for (const law of [gibbs.gaussian(0.8), gibbs.modes(1.2)]) {
    const random = nx.random(11),
      x = [0, 0],
      values = [];
    for (let sweep = 0; sweep < 40000; sweep += 1) {
      for (const i of [0, 1]) x[i] = gibbs.draw(law, x[1 - i], random.uniform(), random.normal()).value;
      values.push(x[0]);
    }
    const spectrum = gibbs.spectrum(law),
      rho = statistics.autocorrelation(values, 3);
    for (const t of [1, 2, 3]) close(rho[t], statistics.theory.autocorrelation(spectrum, t), 0.03);
    const tau = statistics.theory.time(spectrum);
    close(statistics.integratedTime(values) / tau, 1, 0.15);
    close(statistics.theory.meanFactor(spectrum, 1), 1);
    close(statistics.theory.meanFactor(spectrum, 1e9), tau, 1e-6);
  }
});

test("a chain that never moved has no autocorrelation time", () => {
  assert.ok(Number.isNaN(nx.statistics.integratedTime([2, 2, 2, 2])));
});

test("contours of a round hill are closed circles, of two hills two loops", () => {
  const [circle, ...none] = nx.contour((x, y) => Math.exp(-(x * x + y * y) / 2), Math.exp(-2), 4, 60);
  assert.equal(none.length, 0);
  for (const [x, y] of circle) close(Math.hypot(x, y), 2, 0.01);
  const law = nx.gibbs.modes(2.5);
  assert.equal(nx.contour((x, y) => nx.gibbs.density(law, x, y), 0.02, 8, 60).length, 2);
  assert.equal(nx.contour(() => -1, 0, 4, 8).length, 0);
});

test("contours of a saddle join or part the same way on both sides", () => {
  const loops = nx.contour(
    (x, y) => Math.exp(-((x - 1) ** 2 + (y - 1) ** 2)) + Math.exp(-((x + 1) ** 2 + (y + 1) ** 2)),
    0.27,
    5,
    20,
  );
  assert.ok(loops.every((loop) => loop.length > 4));
});

test("the inverse of F undoes F and never lands where the density is zero", () => {
  const p = nx.inverse.probabilities([0, 2, 0, 0, 1, 1, 0]);
  const F = nx.inverse.cumulative(p);
  assert.equal(F[F.length - 1], 1);
  for (let u = 0.0005; u < 1; u += 0.001) {
    const { x, bin } = nx.inverse.invert(F, 0, 7, u);
    assert.ok(p[bin] > 0 && x >= bin && x <= bin + 1);
    close(F[bin] + (x - bin) * p[bin], u, 1e-12);
  }
  assert.equal(nx.inverse.invert(F, 0, 7, 0.5).bin, 4);
});

test("a drawing without area is no law", () => {
  assert.equal(nx.inverse.probabilities([0, 0, 0]), null);
});

test("total variation: nothing between equal laws, one between disjoint ones, and its size to expect", () => {
  assert.equal(nx.inverse.totalVariation([5, 5], [0.5, 0.5], 10), 0);
  assert.equal(nx.inverse.totalVariation([10, 0], [0, 1], 10), 1);
  close(nx.inverse.expectedVariation([0.5, 0.5], 1), 0.5);
  assert.equal(nx.inverse.expectedVariation([1, 0], 50), 0);
});
