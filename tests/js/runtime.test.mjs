// What every figure stands on, as far as it needs no page.
import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./load.mjs";

const nx = load(["runtime.js"]);

test("numbers have a true minus, no negative zero, and thin spaces in thousands", () => {
  assert.equal(nx.number(-1.256, 2), "−1.26");
  assert.equal(nx.number(-0.001, 2), "0.00");
  assert.equal(nx.number(NaN, 1), "—");
  assert.equal(nx.count(1234567.4), "1 234 567");
  assert.equal(nx.count(999), "999");
  assert.equal(nx.plural(1, "jump"), "1 jump");
  assert.equal(nx.plural(12, "jump"), "12 jumps");
});

test("ticks are round, inside the axis, and include zero exactly", () => {
  assert.deepEqual(nx.ticks(-4, 4, 4), [-4, -2, 0, 2, 4]);
  assert.deepEqual(nx.ticks(0, 1, 5), [0, 0.2, 0.4, 0.6, 0.8, 1]);
  const ticks = nx.ticks(-0.37, 91.2, 5);
  assert.ok(ticks.includes(0) && ticks.every((tick) => tick >= -0.37 && tick <= 91.2) && ticks.length > 3);
});

test("paths", () => {
  assert.equal(nx.path([]), "");
  assert.equal(
    nx.path([
      [0, 1],
      [2.26, 3],
    ]),
    "M0.0 1.0L2.3 3.0",
  );
  assert.equal(
    nx.path(
      [
        [0, 1],
        [2, 3],
      ],
      true,
    ),
    "M0.0 1.0L2.0 3.0Z",
  );
});
