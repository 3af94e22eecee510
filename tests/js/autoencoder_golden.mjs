// Answers questions from standard input with the JavaScript of chapter 3's figures, as golden.mjs does for
// chapter 1's. Machines and images are given as Python packs them.
import { readFileSync } from "node:fs";
import { load } from "./load.mjs";

const { mutant, calls } = JSON.parse(readFileSync(0, "utf8"));
const FILES = ["runtime.js", "vae_network.js", "autoencoder_cloud_maths.js", "autoencoder_linear_maths.js"];
const nx = load(FILES, (name, source) => {
  if (!mutant || mutant.file !== name) return source;
  if (!source.includes(mutant.from)) throw new Error(`${name} does not hold ${mutant.from}`);
  return source.replaceAll(mutant.from, mutant.to);
});
const { cloud, turned } = nx;

const own = {
  whole: (base64, widths) => widths.map(cloud.reader(base64)),
  decode: (packed, pixels, points) => points.map(cloud.network(packed, pixels)),
  draw: (packed, points) => points.map(cloud.flat(packed)),
  project: (camera, points) => points.map((z) => cloud.project(camera, z)),
  back: (camera, places) => places.map(([x, y, near]) => cloud.unproject(camera, x, y, near)),
  reading: (points, angle, scale) => turned.reading(points, turned.moments(points), angle, scale),
  first: (points) => turned.first(turned.moments(points)),
  code: (points, angle, scale) => {
    const known = turned.moments(points);
    const z = turned.encode(known, angle, scale, points.slice(0, 2));
    return [z, ...turned.decode(known, angle, scale, z)];
  },
};
const call = ([path, given]) => (own[path] || path.split(".").reduce((at, name) => at[name], nx))(...given);
const plain = (key, value) => (ArrayBuffer.isView(value) ? [...value] : value);

process.stdout.write(JSON.stringify(calls.map(call), plain));
