// The computing parts of chapter 4's figures on what is known without Python: identities, limits, symmetries.
import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./load.mjs";

const nx = load(["runtime.js", "random.js", "vae_gap_maths.js", "vae_network.js", "vae_plane_maths.js"]);
const { vaeGap, network, vaePlane } = nx;
const close = (a, b, error = 1e-12) => assert.ok(Math.abs(a - b) <= error, `${a} is not ${b}`);
const random = nx.random(5);
const noise = Float64Array.from({ length: 20000 }, () => random.normal());
const toys = {
  line: { decoder: "line", x: 1.5, sd: 0.75 },
  ramp: { decoder: "ramp", x: 0.5, sd: 0.5 },
  square: { decoder: "square", x: 2, sd: 0.5 },
};
const limits = { mean: [-3, 3], sd: [0.1, 2] };

test("a straight decoder has a Gaussian posterior, and there the gap is closed", () => {
  const variance = 1 / (1 + 1 / 0.75 ** 2);
  const logP = vaeGap.logProb(toys.line);
  close(logP, vaeGap.logNormal(1.5, 0, Math.sqrt(1 + 0.75 ** 2)));
  const q = { mean: (variance * 1.5) / 0.75 ** 2, sd: Math.sqrt(variance) };
  close(vaeGap.reading(toys.line, logP, q).gap, 0);
  for (const K of [1, 5]) close(vaeGap.weighted(toys.line, q, noise, K).bound, logP, 1e-10);
});

test("the two parts add up to log p(x), wherever q stands", () => {
  for (const toy of Object.values(toys)) {
    const logP = vaeGap.logProb(toy);
    for (const mean of [-3, -0.4, 2])
      for (const sd of [0.1, 0.7, 2]) {
        const now = vaeGap.reading(toy, logP, { mean, sd });
        const error = 1e-11 * Math.max(1, Math.abs(now.elbo));
        close(now.elbo + now.gap, logP, error);
        close(now.elbo, now.energy + now.entropy, error);
        assert.ok(now.gap > -1e-12 && now.priorKl > -1e-12);
      }
  }
});

test("of the same numbers more weights in a group never give less, and one weight gives the ELBO", () => {
  for (const toy of Object.values(toys)) {
    const q = { mean: 0.3, sd: 0.8 };
    const [one, five, fifty] = [1, 5, 50].map((K) => vaeGap.weighted(toy, q, noise, K));
    assert.ok(one.bound < five.bound && five.bound < fifty.bound);
    const now = vaeGap.reading(toy, vaeGap.logProb(toy), q);
    close(one.bound, now.elbo, 4 * one.error);
  }
});

test("of two equal bumps the best q takes the nearer, and leaves a little more than log 2", () => {
  const logP = vaeGap.logProb(toys.square);
  const ways = [0.4, -0.4].map((mean) => vaeGap.best(toys.square, { mean, sd: 0.8 }, limits));
  close(ways[0].mean, -ways[1].mean, 1e-5);
  assert.ok(ways[0].mean > 1);
  const { gap } = vaeGap.reading(toys.square, logP, ways[0]);
  assert.ok(gap > Math.LN2 && gap < Math.LN2 + 0.05);
});

test("no step in any direction climbs above the best q, which stays within the limits", () => {
  for (const toy of Object.values(toys)) {
    const q = vaeGap.best(toy, { mean: 0.1, sd: 1 }, limits);
    const height = (mean, sd) => vaeGap.reading(toy, 0, { mean, sd }).elbo;
    for (const by of [-1e-3, 1e-3]) {
      assert.ok(height(q.mean + by, q.sd) < height(q.mean, q.sd));
      assert.ok(height(q.mean, q.sd + by) < height(q.mean, q.sd));
    }
  }
  const narrow = vaeGap.best(toys.line, { mean: 0, sd: 1 }, { mean: [-3, 0.5], sd: [0.1, 2] });
  close(narrow.mean, 0.5);
});

test("a decoder of one layer is a matrix, and it squashes nothing", () => {
  const layer = { outputs: 2, inputs: 2, W: Float64Array.of(1, 2, 3, 4), b: Float64Array.of(10, 20) };
  assert.deepEqual([...network.apply({ layers: [layer], activations: [] }, [1, -1])], [9, 19]);
});

test("quantiles of the normal law and back", () => {
  close(vaePlane.quantile(0.975), 1.959963984540054, 1e-10);
  for (const z of [-5, -1.3, 0, 0.2, 4]) close(vaePlane.quantile(vaePlane.cumulative(z)), z, 1e-8);
  close(vaePlane.cumulative(1) + vaePlane.cumulative(-1), 1, 1e-15);
  assert.deepEqual([vaePlane.cumulative(-40), vaePlane.cumulative(40)], [0, 1]);
});

test("outside of a circle lies what it does not hold", () => {
  for (const share of [0.5, 0.95]) close(vaePlane.farther([0, vaePlane.radius(share)]), 1 - share);
});

test("the nearest of some codes, and the middle one of a class", () => {
  const codes = Float64Array.of(0, 0, 1, 0, 4, 0, 4, 3, 4.5, 0);
  assert.deepEqual(vaePlane.nearest(codes, [3.5, 0.1]).at, 2);
  assert.deepEqual(vaePlane.nearest(codes, [0, 0], 0), { at: 1, distance: 1 });
  assert.equal(vaePlane.middleOf(codes, [7, 7, 2, 2, 2], 2), 2);
  assert.deepEqual(vaePlane.between([0, 2], [4, 0], 0.25), [1, 1.5]);
});
