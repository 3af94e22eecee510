// The mask x-ray's computing part on what is known without Python: paths counted one by one, zeros, laws.
import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./load.mjs";

const nx = load(["random.js", "made_xray_maths.js"]);
const { xray } = nx;
const close = (a, b, error = 1e-12) => assert.ok(Math.abs(a - b) <= error, `${a} is not ${b}`);
const pick = (random, n) => Math.floor(random.uniform() * n);

// Networks of one or two hidden layers, every size that the figure allows.
function someNets(count, change = {}) {
  const random = nx.random(11);
  return Array.from({ length: count }, () => {
    const D = 2 + pick(random, 7);
    const widths = Array.from({ length: 1 + pick(random, 2) }, () => 1 + pick(random, 10));
    const degrees = widths.map((H) => xray.uniformDegrees(D, H, random));
    return { order: xray.shuffled(D, random), degrees, direct: false, planted: false, ...change };
  });
}
// One by one, from an output down to the inputs: how many ways lead to each.
function waysDown(net, d, planted) {
  const o = xray.position(net.order);
  const found = net.order.map(() => 0);
  const down = (layer, degree) => {
    if (layer < 0) return o.forEach((position, i) => (found[i] += degree >= position ? 1 : 0));
    for (const m of net.degrees[layer]) if (degree >= m) down(layer - 1, m);
  };
  for (const m of net.degrees[net.degrees.length - 1])
    if (planted ? o[d] >= m : o[d] > m) down(net.degrees.length - 2, m);
  return found;
}

test("the product of the masks counts the paths one by one, planted or not", () => {
  for (const planted of [false, true])
    for (const net of someNets(60, { planted })) {
      const N = xray.paths(xray.masks(net));
      for (const d of net.order) assert.deepEqual(N[d], waysDown(net, d, planted));
    }
});

test("with one hidden layer N(d, i) is the number of degrees from o(i) up to o(d), without o(d)", () => {
  for (const net of someNets(60).filter((one) => one.degrees.length === 1)) {
    const o = xray.position(net.order);
    const { N } = xray.reading(net);
    for (const d of net.order)
      for (const i of net.order)
        assert.equal(N[d][i], net.degrees[0].filter((m) => o[i] <= m && m < o[d]).length);
  }
});

test("no path from a pixel to itself or to an earlier one, unless the off-by-one is planted", () => {
  let leaks = 0;
  for (const net of someNets(60)) {
    const o = xray.position(net.order);
    const { N } = xray.reading(net);
    for (const d of net.order) for (const i of net.order) assert.ok(o[i] < o[d] || N[d][i] === 0);
    assert.deepEqual(xray.leaks(N, net.order), []);
    leaks += xray.reading({ ...net, planted: true }).leaks.length;
  }
  assert.ok(leaks > 60);
});

test("planted in one hidden layer, the pixels at the positions of its degrees leak, and no others", () => {
  const { order, degrees } = { order: [2, 0, 4, 1, 3], degrees: [[2, 2, 4]] };
  const planted = xray.reading({ order, degrees, planted: true });
  assert.deepEqual(planted.leaks, [0, 1]);
});

test("the Jacobian is what small steps say, and exactly zero where there is no path", () => {
  for (const direct of [false, true])
    for (const [n, net] of someNets(40, { direct }).entries()) {
      const made = xray.drawn(net, nx.random(n));
      const J = xray.jacobian(net, made);
      const { all } = xray.reading(net);
      for (const i of net.order) {
        const moved = (by) => xray.outputs(net, made, made.x.map((one, k) => one + (k === i ? by : 0)));
        const [up, down] = [moved(1e-5), moved(-1e-5)];
        for (const d of net.order) {
          close(J[d][i], (up[d] - down[d]) / 2e-5, 1e-7);
          assert.equal(J[d][i] !== 0, all[d][i] > 0);
        }
      }
    }
});

test("evenly spaced degrees of D − 1 units or more lose nothing, and blind nobody", () => {
  for (let D = 2; D <= 8; D += 1)
    for (let H = D - 1; H <= 10; H += 1)
      for (const widths of [[H], [H, H]]) {
        const degrees = widths.map((width) => xray.evenDegrees(D, width));
        const { lost, blind } = xray.reading({ order: xray.shuffled(D, nx.random(H)), degrees });
        assert.deepEqual([lost, blind], [[], []]);
        assert.equal(Math.max(...degrees[0]), D - 1);
      }
});

test("uniform degrees lose a pair at distance s with probability (1 − s/(D − 1))^H", () => {
  const [D, H, draws] = [6, 3, 4000];
  const random = nx.random(3);
  const counts = new Array(D).fill(0);
  let blind = 0;
  for (let n = 0; n < draws; n += 1) {
    const order = xray.shuffled(D, random);
    const o = xray.position(order);
    const now = xray.reading({ order, degrees: [xray.uniformDegrees(D, H, random)] });
    for (const [d, i] of now.lost) counts[o[d] - o[i]] += 1;
    blind += now.blind.length > 0;
  }
  for (let s = 1; s < D; s += 1) {
    const p = (1 - s / (D - 1)) ** H;
    close(counts[s] / draws / (D - s), p, 4 * Math.sqrt((p * (1 - p)) / draws) + 1e-12);
  }
  const any = (1 - 1 / (D - 1)) ** H;
  close(blind / draws, any, 4 * Math.sqrt((any * (1 - any)) / draws));
});

test("every permutation is equally probable", () => {
  const random = nx.random(8);
  const met = new Map();
  for (let n = 0; n < 12000; n += 1) {
    const name = xray.shuffled(4, random).join("");
    met.set(name, (met.get(name) || 0) + 1);
  }
  assert.equal(met.size, 24);
  for (const count of met.values()) assert.ok(Math.abs(count - 500) < 4 * Math.sqrt(500));
});

test("what lies on a path from i to d lies above i and below d, and the lit edges carry N(d, i)", () => {
  for (const net of someNets(40)) {
    const M = xray.masks(net);
    const N = xray.paths(M);
    const [d, i] = [net.order[net.order.length - 1], net.order[0]];
    const { units, edges } = xray.onPaths(M, [i], [d]);
    assert.equal(xray.paths(edges)[d][i], N[d][i]);
    assert.equal(xray.paths(edges).flat().reduce((a, b) => a + b), N[d][i]);
    // Every lit edge is needed: without it there are fewer paths.
    edges.forEach((mask, l) =>
      mask.forEach((row, r) =>
        row.forEach((one, k) => {
          if (!one) return;
          const less = M.map((kept, at) => kept.map((line) => [...line]));
          less[l][r][k] = 0;
          assert.ok(xray.paths(less)[d][i] < N[d][i]);
        }),
      ),
    );
    assert.deepEqual(units[0].map((_, k) => k === i && N[d][i] > 0), units[0].map(Boolean));
  }
});

test("orderings: by columns, moved, of more and of fewer pixels", () => {
  assert.deepEqual(xray.shape(6), [2, 3]);
  assert.deepEqual(xray.shape(7), [1, 7]);
  assert.deepEqual(xray.byColumns(6), [0, 3, 1, 4, 2, 5]);
  assert.deepEqual(xray.byColumns(8), [0, 4, 1, 5, 2, 6, 3, 7]);
  assert.deepEqual(xray.moved([3, 1, 2, 0], 0, 2), [1, 2, 3, 0]);
  assert.deepEqual(xray.moved([3, 1, 2, 0], 3, 0), [0, 3, 1, 2]);
  assert.deepEqual(xray.resized([2, 0, 1], 5), [2, 0, 1, 3, 4]);
  assert.deepEqual(xray.resized([2, 0, 1], 2), [0, 1]);
  assert.deepEqual(xray.position([2, 0, 1]), [2, 3, 1]);
});
