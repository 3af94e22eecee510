// The computing parts of chapter 2's figures on what is known without Python: identities, limits, symmetries.
import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./load.mjs";

const nx = load(["runtime.js", "random.js", "rbm_maths.js", "rbm_parts.js"]);
const { rbm, parts } = nx;
const close = (a, b, error = 1e-12) => assert.ok(Math.abs(a - b) <= error, `${a} is not ${b}`);
const random = nx.random(3);
const numbers = (length, scale = 1.5) => Float64Array.from({ length }, () => scale * random.normal());
const sum = (values) => values.reduce((all, value) => all + value, 0);
const machine = { visible: 4, hidden: 3, W: numbers(12), a: numbers(4), b: numbers(3) };

test("states are counted with the first unit as the highest digit, and back", () => {
  assert.deepEqual([...rbm.state(5, 4)], [0, 1, 0, 1]);
  for (let s = 0; s < 16; s += 1) assert.equal(rbm.index(rbm.state(s, 4)), s);
});

test("p(v, h) sums to 1, and its rims are what they should be", () => {
  const { p, pv, ph, logZ } = rbm.joint(machine);
  for (const law of [p, pv, ph]) close(sum(law), 1);
  for (let s = 0; s < 16; s += 1)
    close(Math.log(pv[s]), -rbm.freeEnergy(machine, rbm.state(s, 4)) - logZ, 1e-11);
});

test("a row and a column of p(v, h) are the conditionals, which factorise", () => {
  const { p, pv, ph } = rbm.joint(machine);
  const product = (means, units) => means.reduce((all, m, k) => all * (units[k] ? m : 1 - m), 1);
  for (let s = 0; s < 16; s += 1) {
    for (let t = 0; t < 8; t += 1) {
      const [v, h] = [rbm.state(s, 4), rbm.state(t, 3)];
      close(p[8 * s + t] / pv[s], product(rbm.hiddenGiven(machine, v), h));
      close(p[8 * s + t] / ph[t], product(rbm.visibleGiven(machine, h), v));
    }
  }
});

test("without edges one sweep forgets everything, with strong ones hardly anything", () => {
  close(rbm.joint({ ...machine, W: new Float64Array(12) }).lambda, 0, 1e-12);
  const far = { ...machine, W: new Float64Array(12).fill(3), a: Array(4).fill(-4.5), b: Array(3).fill(-6) };
  const { lambda } = rbm.joint(far);
  assert.ok(lambda > 0.99 && lambda < 1);
});

test("eigenvalues of a matrix whose eigenvalues are known", () => {
  const S = [
    [2, 1, 0],
    [1, 2, 1],
    [0, 1, 2],
  ];
  rbm.eigenvalues(S).forEach((value, k) => close(value, 2 + Math.SQRT2 * (1 - k)));
  assert.deepEqual(
    rbm.eigenvalues([
      [1, 0],
      [0, 3],
    ]),
    [3, 1],
  );
});

test("a chain visits the states as often as p(v, h) says", () => {
  const mild = { ...machine, W: machine.W.map((w) => 0.5 * w) };
  const { pv } = rbm.joint(mild);
  const visits = new Float64Array(16);
  let v = rbm.state(0, 4);
  for (let n = 0; n < 40000; n += 1) {
    v = rbm.sweep(mild, v, random, null).v;
    visits[rbm.index(v)] += 1;
  }
  assert.ok(rbm.variation(visits, pv) < 0.02);
  assert.ok(rbm.variation(visits, [...pv].reverse()) > 0.1);
});

test("known pixels stay, whatever is drawn", () => {
  const v = Uint8Array.from([1, 0, 1, 0]);
  for (let n = 0; n < 50; n += 1) {
    const next = rbm.sweep(machine, v, random, [1, 1, 0, 0]).v;
    assert.deepEqual([next[0], next[1]], [1, 0]);
  }
});

test("total variation: nothing between equal laws, one between disjoint ones", () => {
  assert.equal(rbm.variation([5, 5], [0.5, 0.5]), 0);
  assert.equal(rbm.variation([10, 0], [0, 1]), 1);
});

test("large inputs stay finite", () => {
  const huge = { visible: 1, hidden: 1, W: [2000], a: [0], b: [0] };
  close(rbm.freeEnergy(huge, [1]), -2000);
  assert.deepEqual([...rbm.hiddenGiven(huge, [1])], [1]);
  assert.ok(Number.isFinite(rbm.joint(huge).logZ));
});

test("images of bits, the first pixel the highest bit", () => {
  const [first, second] = rbm.images(btoa(String.fromCharCode(0b10100001, 0b11000000)), 2, 5);
  assert.deepEqual([...first], [1, 0, 1, 0, 0]);
  assert.deepEqual([...second], [0, 0, 1, 1, 1]);
});

test("colours between two colours", () => {
  assert.deepEqual(parts.blend([0, 100, 200], [10, 0, 200], 0.5), [5, 50, 200]);
  assert.equal(parts.css([1, 2, 3]), "rgb(1,2,3)");
});
