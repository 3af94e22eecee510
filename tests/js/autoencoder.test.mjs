// The computing parts of chapter 3's figures on what is known without Python: identities, limits, symmetries.
import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./load.mjs";

const nx = load(["runtime.js", "vae_network.js", "autoencoder_cloud_maths.js", "autoencoder_linear_maths.js"]);
const { cloud, turned } = nx;
const close = (a, b, error = 1e-12) => assert.ok(Math.abs(a - b) <= error, `${a} is not ${b}`);
const camera = {
  yaw: 40,
  pitch: 25,
  zoom: 1.7,
  target: [1, -2, 0.5],
  unit: 3,
  eye: 8,
  middle: [150, 160],
  size: 90,
};
const z = [2.2, -0.4, 1.9];

test("what is projected comes back from its place and its nearness", () => {
  const [x, y, near] = cloud.project(camera, z);
  cloud.unproject(camera, x, y, near).forEach((value, k) => close(value, z[k]));
  assert.deepEqual(cloud.project(camera, camera.target), [150, 160, 0, 1]);
});

test("the directions are orthonormal, and the third axis is upright", () => {
  const axes = cloud.directions(123, -35);
  for (let a = 0; a < 3; a += 1)
    for (let b = 0; b < 3; b += 1)
      close(axes[a].reduce((sum, value, k) => sum + value * axes[b][k], 0), a === b ? 1 : 0);
  assert.equal(axes[0][2], 0);
  assert.ok(axes[1][2] > 0);
});

test("what is nearer to the eye is larger, and nothing behind it is turned round", () => {
  const toward = cloud.directions(camera.yaw, camera.pitch)[2];
  const sizes = [-1, 0, 1, 7, 9, 40].map((far) => {
    const at = toward.map((value, k) => camera.target[k] + far * camera.unit * value);
    return cloud.project(camera, at)[3];
  });
  sizes.slice(1).forEach((size, k) => assert.ok(size >= sizes[k] && Number.isFinite(size)));
});

test("zooming in keeps the cursor where it is seen, and zooming out ends in the middle", () => {
  const far = { ...camera, eye: 1e9, zoom: 1 };
  const before = cloud.project(far, z);
  const closer = { ...far, zoom: 2.5, target: cloud.retarget(far.target, 1, 2.5, z, [0, 0, 0]) };
  const after = cloud.project(closer, z);
  close(after[0], before[0], 1e-5);
  close(after[1], before[1], 1e-5);
  const middle = [1, 1, 1];
  assert.deepEqual(cloud.retarget(closer.target, 2.5, 1, z, middle), middle);
  assert.deepEqual(cloud.retarget(closer.target, 1, 0.5, z, middle), middle);
  const way = cloud.retarget([3, 3, 3], 4, 2, z, middle);
  way.forEach((value) => assert.ok(value > 1 && value < 3));
});

test("numbers of any width stand one after the other", () => {
  const base64 = Buffer.from([0b10110011, 0b01110000]).toString("base64");
  const read = cloud.reader(base64);
  assert.deepEqual([3, 3, 2, 0, 5, 3].map(read), [0b101, 0b100, 0b11, 0, 0b01110, 0]);
  assert.equal(cloud.reader(Buffer.from([0xff, 0xfe]).toString("base64"))(15), 2 ** 15 - 1);
});

test("the nearest code, and the way to another", () => {
  const codes = Float64Array.of(0, 0, 0, 1, 2, 2, 5, 5, 5);
  assert.deepEqual(cloud.nearest(codes, [1, 2, 1.5]), { at: 1, distance: 0.5 });
  assert.deepEqual(cloud.between([0, 2, 4], [4, 2, 0], 0.25), [1, 2, 3]);
});

const points = Float64Array.of(0, 0, 4, 1, 8, 3, 4, 4);
const known = turned.moments(points);

test("kept and lost add up, at every angle and every scale", () => {
  for (const angle of [0, 33, 90, 171])
    for (const scale of [0.25, 1, 4]) {
      const { kept, lost, total } = turned.reading(points, known, angle, scale);
      close(kept + lost, total);
      close(lost, turned.reading(points, known, angle, 1).lost);
    }
});

test("no line loses less than the first component, and no line more than the one across", () => {
  const best = turned.first(known);
  const lost = (angle) => turned.reading(points, known, angle, 1).lost;
  for (let angle = 0; angle < 180; angle += 7)
    assert.ok(lost(best) <= lost(angle) + 1e-12 && lost(best + 90) >= lost(angle) - 1e-12);
});

test("lines go round at 180 degrees, and the shorter way", () => {
  assert.equal(turned.wrap(-10), 170);
  assert.equal(turned.wrap(180), 0);
  assert.equal(turned.way(170, 5), 15);
  assert.equal(turned.way(5, 170), -15);
});
