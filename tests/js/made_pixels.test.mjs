// What draws a digit pixel by pixel, on what is known without Python: a law of five pixels that is enumerated.
import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./load.mjs";

const FILES = ["runtime.js", "random.js", "made_pixels_maths.js"];
const nx = load(FILES);
const close = (a, b, error = 1e-12) => assert.ok(Math.abs(a - b) <= error, `${a} is not ${b}`);
const PIXELS = 5;
const images = Array.from({ length: 2 ** PIXELS }, (_, s) =>
  Array.from({ length: PIXELS }, (_, i) => (s >> (PIXELS - 1 - i)) & 1),
);

// A network of five pixels and seven units with weights of every size, as `unpack` gives it; and its dense matrices.
function network(direct) {
  const random = nx.random(3);
  const degrees = [1, 1, 2, 3, 3, 4, 4];
  const number = () => 2 * random.normal();
  const inner = degrees.map((m) => Array.from({ length: PIXELS }, (_, i) => (i < m ? number() : 0)));
  const outer = Array.from({ length: PIXELS }, (_, d) => degrees.map((m) => (m <= d ? number() : 0)));
  const skip = Array.from({ length: PIXELS }, (_, d) =>
    Array.from({ length: PIXELS }, (_, i) => (direct && i < d ? number() : 0)),
  );
  const [b, c] = [Array.from(degrees, number), Array.from({ length: PIXELS }, number)];
  const reach = Int32Array.from(c, (_, t) => degrees.filter((m) => m <= t).length);
  const model = {
    pixels: PIXELS,
    units: 7,
    reach,
    W: c.map((_, t) => inner.slice(reach[t]).map((row) => row[t])),
    V: outer.map((row, t) => row.slice(0, reach[t])),
    A: direct ? skip.map((row, t) => row.slice(0, t)) : null,
    b,
    c,
  };
  return { model, inner, outer, skip, b, c };
}
// All outputs in one pass with the whole matrices.
function pass({ inner, outer, skip, b, c }, x) {
  const dot = (row, values) => row.reduce((sum, w, i) => sum + w * values[i], 0);
  const h = inner.map((row, j) => Math.max(0, b[j] + dot(row, x)));
  return outer.map((row, d) => c[d] + dot(row, h) + dot(skip[d], x));
}
const probability = (made, model, x) => Math.exp(-made.costs(model, x).reduce((sum, nats) => sum + nats, 0));
const free = new Int8Array(PIXELS).fill(-1);

// Each check below takes the computing part, so that it can be asked of a wrong one as well.
const checks = {
  "the probabilities of all images add up to 1": (made) => {
    for (const direct of [false, true]) {
      const { model } = network(direct);
      close(
        images.reduce((sum, x) => sum + probability(made, model, x), 0),
        1,
      );
    }
  },
  "pixel after pixel gives what one whole pass gives": (made) => {
    for (const direct of [false, true]) {
      const whole = network(direct);
      for (const x of images) {
        const outputs = pass(whole, x);
        made.costs(whole.model, x).forEach((nats, d) => close(nats, made.cost(outputs[d], x[d])));
      }
    }
  },
  "outputs ahead are those of a pass with zeros behind": (made) => {
    const whole = network(true);
    const state = made.begin(whole.model);
    for (const value of [1, 0, 1]) made.put(whole.model, state, value);
    const outputs = pass(whole, [1, 0, 1, 0, 0]);
    made.ahead(whole.model, state).forEach((a, k) => close(a, outputs[3 + k]));
    close(made.ahead(whole.model, state)[0], made.logit(whole.model, state));
  },
  "at temperature 1 images come as often as their probability says": (made) => {
    const { model } = network(false);
    const random = nx.random(9),
      start = made.begin(model),
      DRAWN = 20000;
    const counts = new Map();
    for (let n = 0; n < DRAWN; n += 1) {
      const uniforms = Float64Array.from({ length: PIXELS }, random.uniform);
      const { x, nats } = made.finish(model, start, { forced: free, uniforms, temperature: 1 });
      counts.set(x.join(""), (counts.get(x.join("")) || 0) + 1);
      close(Math.exp(-nats.reduce((sum, value) => sum + value, 0)), probability(made, model, x));
    }
    for (const x of images) {
      const p = probability(made, model, x);
      close((counts.get(x.join("")) || 0) / DRAWN, p, 5 * Math.sqrt((p * (1 - p)) / DRAWN) + 2e-4);
    }
  },
  "at temperature 0 every pixel takes its likelier value": (made) => {
    const whole = network(true);
    for (const u of [0.001, 0.999]) {
      const how = { forced: free, uniforms: new Float64Array(PIXELS).fill(u), temperature: 0 };
      const { x, nats } = made.finish(whole.model, made.begin(whole.model), how);
      pass(whole, x).forEach((a, d) => assert.equal(x[d], a > 0 ? 1 : 0));
      assert.ok(nats.every((value) => value <= Math.LN2));
    }
  },
  "a set pixel keeps its value, and costs what the model says of it": (made) => {
    const whole = network(false);
    for (const value of [0, 1]) {
      const forced = Int8Array.of(-1, -1, value, -1, value);
      const how = { forced, uniforms: new Float64Array(PIXELS).fill(0.4), temperature: 1 };
      const { x, nats, chance } = made.finish(whole.model, made.begin(whole.model), how);
      assert.deepEqual([x[2], x[4], chance[2], chance[4]], [value, value, value, value]);
      pass(whole, x).forEach((a, d) => close(nats[d], made.cost(a, x[d])));
    }
  },
  "to finish an image leaves its beginning as it was": (made) => {
    const { model } = network(true);
    const state = made.begin(model);
    made.put(model, state, 1);
    const before = JSON.stringify([state.t, [...state.input], state.on]);
    made.finish(model, state, { forced: free, uniforms: new Float64Array(PIXELS), temperature: 1 });
    assert.equal(JSON.stringify([state.t, [...state.input], state.on]), before);
  },
  "the mean over completions is p of each later pixel given those that are there": (made) => {
    const { model } = network(true);
    const start = made.begin(model);
    for (const value of [1, 0]) made.put(model, start, value);
    const given = images.filter((x) => x[0] === 1 && x[1] === 0);
    const mass = given.reduce((sum, x) => sum + probability(made, model, x), 0);
    const how = { forced: free, random: nx.random(4), temperature: 1 };
    const mean = made.expected(model, start, how, 20000);
    assert.equal(mean.length, 3);
    mean.forEach((value, k) => {
      const exact = given.reduce((sum, x) => sum + x[2 + k] * probability(made, model, x), 0) / mass;
      close(value, exact, 0.02);
    });
  },
  "a pixel costs no more than one row and one column": (made) => {
    const { model } = network(true);
    // Rows of V: 0, 2, 3, 5, 7 weights; columns of W: 7, 5, 4, 2, 0; before each pixel 0, 1, 1, 2, 3 ones.
    assert.deepEqual(made.work(model, [1, 0, 1, 1, 0], 5), { taken: 17 + 13 + 7, whole: 5 * (17 + 18 + 10) });
    assert.deepEqual(made.work(model, [1, 0, 1, 1, 0], 2), { taken: 2 + 7 + 1, whole: 2 * (17 + 18 + 10) });
  },
  "costs stay finite where a logit is large": (made) => {
    assert.equal(made.cost(-800, 1), 800);
    assert.equal(made.cost(-800, 0), 0);
    close(made.cost(0, 1), Math.LN2);
  },
};
for (const [name, check] of Object.entries(checks)) test(name, () => check(nx.madePixels));

// What each check is there for: a wrong line that it notices.
const mutants = {
  "the probabilities of all images add up to 1": ["softplus(value ? -a : a)", "softplus(value ? -a : 2 * a)"],
  "pixel after pixel gives what one whole pass gives": ["if (model.A) for", "if (false) for"],
  "outputs ahead are those of a pass with zeros behind": ["state.t + k)", "state.t)"],
  "at temperature 1 images come as often as their probability says": ["uniform < sigmoid", "uniform > sigmoid"],
  "at temperature 0 every pixel takes its likelier value": [": a > 0)", ": uniform < 0.5)"],
  "a set pixel keeps its value, and costs what the model says of it": ["if (forced >= 0) return forced;", ""],
  "to finish an image leaves its beginning as it was": ["const state = copy(start),", "const state = start,"],
  "the mean over completions is p of each later pixel given those that are there": ["p / count", "p / 21000"],
  "a pixel costs no more than one row and one column": ["x[s] ? W[s].length", "true ? W[s].length"],
  "costs stay finite where a logit is large": [
    "Math.max(a, 0) + Math.log1p(Math.exp(-Math.abs(a)))",
    "Math.log(1 + Math.exp(a))",
  ],
};
const broken = (from, to) =>
  load(FILES, (file, source) => {
    if (file !== "made_pixels_maths.js") return source;
    assert.ok(source.includes(from));
    return source.replaceAll(from, to);
  }).madePixels;
for (const [name, [from, to]] of Object.entries(mutants)) {
  test("noticed: not " + name, () => assert.throws(() => checks[name](broken(from, to))));
}

// A column that is not added in full changes the law; whatever the hidden units say, it stays a law.
test("only a comparison with the whole pass notices a column that lacks a unit", () => {
  const wrong = broken("for (let j = 0; j < column.length;", "for (let j = 1; j < column.length;");
  checks["the probabilities of all images add up to 1"](wrong);
  assert.throws(() => checks["pixel after pixel gives what one whole pass gives"](wrong));
});
