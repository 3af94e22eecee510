// The computing parts of chapter 8's figures on what is known without Python: identities, limits, symmetries.
import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./load.mjs";

const nx = load(["runtime.js", "random.js", "nem_slots.js", "nem_mixture_maths.js", "nem_shapes_maths.js"]);
const { mixture, shapes, slots } = nx;
const close = (a, b, error = 1e-9) => assert.ok(Math.abs(a - b) <= error, `${a} is not ${b}`);

/* ---- the Gaussian mixture ---- */
const random = nx.random(2);
const points = Array.from({ length: 60 }, (_, n) => [
  random.normal() + (n % 2 ? 2 : -1),
  0.7 * random.normal() + (n % 3 ? 0 : 1.5),
]);
const start = {
  weights: [0.5, 0.3, 0.2],
  means: [
    [0, 0],
    [1, 0.5],
    [-1, 1],
  ],
  covariances: [
    [1, 0.2, 1],
    [0.5, -0.1, 0.8],
    [1, 0, 1],
  ],
};
const FLOOR = 0.01;

test("likelihood, bound and divergence add up, whatever the responsibilities", () => {
  for (const gamma of [
    mixture.eStep(start, points),
    points.map(() => [1 / 3, 1 / 3, 1 / 3]),
    points.map(() => [0, 1, 0]),
  ]) {
    const gap = mixture.logLikelihood(start, points) - mixture.bound(start, points, gamma);
    close(gap, mixture.divergence(start, points, gamma), 1e-9);
    assert.ok(gap > -1e-9);
  }
});

test("the E-step closes the gap, the M-step is the bound's maximum, and the likelihood never falls", () => {
  let model = start,
    before = mixture.logLikelihood(model, points);
  for (let t = 0; t < 30; t += 1) {
    const gamma = mixture.eStep(model, points);
    close(mixture.divergence(model, points, gamma), 0);
    const best = mixture.mStep(points, gamma, FLOOR, model);
    const top = mixture.bound(best, points, gamma);
    for (let s = -0.4; s < 1.7; s += 0.1) {
      const on = mixture.between(model, best, s);
      const value = mixture.bound(on, points, gamma);
      assert.ok(value <= top + 1e-9);
      assert.ok(value <= mixture.logLikelihood(on, points) + 1e-9);
    }
    const after = mixture.logLikelihood(best, points);
    assert.ok(after >= before - 1e-9);
    [model, before] = [best, after];
  }
});

test("equal components stay equal to the last digit", () => {
  const same = { ...start, weights: [1 / 3, 1 / 3, 1 / 3] };
  same.means = [0, 1, 2].map(() => [0.3, 0.1]);
  same.covariances = [0, 1, 2].map(() => [1, 0, 1]);
  let model = same;
  for (let t = 0; t < 5; t += 1) model = mixture.mStep(points, mixture.eStep(model, points), FLOOR, model);
  assert.deepEqual(model.means[0], model.means[2]);
  assert.deepEqual(model.covariances[0], model.covariances[1]);
});

test("the line begins and ends at its models, and is a mixture everywhere", () => {
  const best = mixture.mStep(points, mixture.eStep(start, points), FLOOR, start);
  assert.equal(mixture.between(start, best, 0), start);
  assert.equal(mixture.between(start, best, 1), best);
  for (const [s, end] of [
    [1e-9, start],
    [1 - 1e-9, best],
  ]) {
    const on = mixture.between(start, best, s);
    end.covariances.flat().forEach((value, i) => close(on.covariances.flat()[i], value, 1e-7));
    end.weights.forEach((value, i) => close(on.weights[i], value, 1e-7));
  }
  for (const s of [-2, 0.4, 3]) {
    const { weights, covariances } = mixture.between(start, best, s);
    close(
      weights.reduce((sum, w) => sum + w),
      1,
    );
    for (const [xx, xy, yy] of covariances) assert.ok(xx > 0 && xx * yy - xy * xy > 0);
  }
});

test("a component that falls onto one point keeps a covariance, one that loses all points its place", () => {
  const gamma = points.map((_, n) => [n === 7 ? 1 : 0, n === 7 ? 0 : 1, 0]);
  const model = mixture.mStep(points, gamma, FLOOR, start);
  assert.deepEqual(model.means[0], points[7]);
  [FLOOR, 0, FLOOR].forEach((value, i) => close(model.covariances[0][i], value, 1e-15));
  assert.deepEqual(model.means[2], start.means[2]);
  assert.equal(model.weights[2], 0);
  assert.ok(Number.isFinite(mixture.logLikelihood(model, points)));
  assert.ok(Number.isFinite(mixture.bound(model, points, mixture.eStep(model, points))));
});

test("a narrow covariance is widened along its own axes and no further", () => {
  const [xx, xy, yy] = mixture.atLeast([0.5, 0.5, 0.5], 0.1); // variances 1 and 0
  const [middle, half] = [(xx + yy) / 2, Math.hypot((xx - yy) / 2, xy)];
  close(middle + half, 1);
  close(middle - half, 0.1);
  close(xx, yy);
  assert.deepEqual(mixture.atLeast([1, 0.2, 2], 0.1), [1, 0.2, 2]);
});

/* ---- colours ---- */
test("colours mix as light, and the leader is nobody in a tie", () => {
  const colours = ["#ff0000", "#0000ff"];
  assert.deepEqual(slots.mix(colours, [1, 0]), [255, 0, 0]);
  assert.deepEqual(slots.mix(colours, [0.5, 0.5]), [188, 0, 188]);
  assert.equal(slots.leader([0.2, 0.5, 0.3]), 1);
  assert.equal(slots.leader([1 / 3, 1 / 3, 1 / 3]), -1);
  assert.equal(slots.leader([1]), 0);
});

/* ---- the drawing ---- */
const DOT = [["##", "##"]];
const stamp = (top, left) => ({ shape: 0, top, left });

test("stamps keep their numbers, overlap belongs to nobody, and free ink is counted", () => {
  const edits = new Int8Array(16);
  let drawing = shapes.compose(DOT, [stamp(0, 0), stamp(1, 1)], edits, 4);
  assert.deepEqual([...drawing.image], [1, 1, 0, 0, 1, 1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0]);
  assert.deepEqual([...drawing.groups], [1, 1, 0, 0, 1, 0, 2, 0, 0, 2, 2, 0, 0, 0, 0, 0]);
  assert.equal(drawing.free, 0);
  edits[0] = -1;
  edits[1] = 1;
  edits[15] = 1;
  drawing = shapes.compose(DOT, [stamp(0, 0)], edits, 4);
  assert.deepEqual(
    [drawing.image[0], drawing.groups[0], drawing.groups[1], drawing.image[15], drawing.groups[15]],
    [0, 0, 1, 1, 0],
  );
  assert.equal(drawing.free, 1);
});

test("random stamps lie inside, and everywhere equally often", () => {
  const { uniform } = nx.random(4);
  const counts = new Map();
  for (let n = 0; n < 6000; n += 1) {
    const { shape, top, left } = shapes.randomStamp([["#"], ["##"]], { uniform }, 3);
    const name = shape + " " + top + " " + left;
    counts.set(name, (counts.get(name) || 0) + 1);
  }
  assert.equal(counts.size, 9 + 6);
  for (const [name, count] of counts) close(count, name[0] === "0" ? 333 : 500, 90);
});

/* ---- RNN-EM ---- */
const pixels = 20,
  hidden = 6;
const draws = nx.random(8);
const numbers = (length, scale) => Float64Array.from({ length }, () => scale * draws.normal());
const net = {
  pixels,
  hidden,
  encoder: numbers(hidden * pixels, 1),
  recurrence: numbers(hidden * hidden, 1),
  decoder: numbers(pixels * hidden, 1),
  hiddenBias: numbers(hidden, 1),
  outputBias: numbers(pixels, 1),
};
const x = Array.from({ length: pixels }, (_, i) => (i % 3 ? 1 : 0));

test("the start of γ: absolute numbers, normalised over the slots of each pixel", () => {
  const drawn = [-1, 2, 3, -2];
  const gamma = shapes.randomGamma(2, 2, { normal: () => drawn.shift() });
  assert.deepEqual([...gamma], [0.25, 0.5, 0.75, 0.5]);
});

test("γ sums to 1 over the slots, at the start and after each step", () => {
  let state = shapes.begin(net, 3, shapes.randomGamma(3, pixels, nx.random(1)));
  for (let t = 0; t < 4; t += 1) {
    for (let i = 0; i < pixels; i += 1)
      close(state.gamma[i] + state.gamma[pixels + i] + state.gamma[2 * pixels + i], 1);
    state = shapes.step(net, x, state);
    close(state.loss, state.reconstruction + state.kl);
  }
});

test("from a uniform start no slot ever differs from another; from a random one they do", () => {
  const after = (gamma, steps) => {
    let state = shapes.begin(net, 3, gamma);
    for (let t = 0; t < steps; t += 1) state = shapes.step(net, x, state);
    return state.gamma;
  };
  assert.equal(shapes.apart(after(shapes.uniformGamma(3, pixels), 15), 3, pixels), 0);
  assert.ok(shapes.apart(after(shapes.randomGamma(3, pixels, nx.random(1)), 2), 3, pixels) > 0.01);
});

test("slots that change places at the start have changed places at the end", () => {
  const gamma = shapes.randomGamma(2, pixels, nx.random(3));
  const turned = Float64Array.from([...gamma.slice(pixels), ...gamma.slice(0, pixels)]);
  let [one, two] = [gamma, turned].map((g) => shapes.begin(net, 2, g));
  for (let t = 0; t < 5; t += 1) [one, two] = [one, two].map((state) => shapes.step(net, x, state));
  one.gamma.forEach((value, at) => close(value, two.gamma[(at + pixels) % (2 * pixels)], 1e-12));
  close(one.loss, two.loss, 1e-9);
});

test("one slot owns everything", () => {
  const state = shapes.step(net, x, shapes.begin(net, 1, shapes.uniformGamma(1, pixels)));
  assert.ok(state.gamma.every((g) => g === 1));
  close(state.kl, 0);
});

/* ---- scores ---- */
test("scores: perfect, without information, and with one group alone", () => {
  const groups = [0, 1, 1, 1, 2, 2, 2, 3, 3, 0];
  for (const score of [shapes.adjustedRandIndex, shapes.adjustedMutualInformation]) {
    close(score([9, 4, 4, 4, 0, 0, 0, 2, 2, 7], groups), 1);
    close(score(Array(10).fill(5), groups), 0);
    close(score([0, 1, 1], [1, 1, 1]), 0);
    close(score([3, 3, 3], [1, 1, 1]), 1);
  }
});
