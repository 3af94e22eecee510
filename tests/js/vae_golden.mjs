// Answers questions from standard input with the JavaScript of chapter 4's figures, as golden.mjs does for
// chapter 1's. A network and its images are given as Python packs them, normal numbers as a list.
import { readFileSync } from "node:fs";
import { load } from "./load.mjs";

const { mutant, calls } = JSON.parse(readFileSync(0, "utf8"));
const FILES = ["runtime.js", "vae_gap_maths.js", "vae_network.js", "vae_plane_maths.js"];
const nx = load(FILES, (name, source) => {
  if (!mutant || mutant.file !== name) return source;
  if (!source.includes(mutant.from)) throw new Error(`${name} does not hold ${mutant.from}`);
  return source.replaceAll(mutant.from, mutant.to);
});
const { vaeGap, network, vaePlane } = nx;

const own = {
  reading: (toy, q) => vaeGap.reading(toy, vaeGap.logProb(toy), q),
  decode: (packed, points) => points.map((z) => network.apply(network.unpack(packed), z)),
  each: (name, points) => points.map((one) => vaePlane[name](one)),
};
const call = ([path, given]) => (own[path] || path.split(".").reduce((at, name) => at[name], nx))(...given);
const plain = (key, value) => (ArrayBuffer.isView(value) ? [...value] : value);

process.stdout.write(JSON.stringify(calls.map(call), plain));
