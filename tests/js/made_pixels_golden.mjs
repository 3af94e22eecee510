// Answers questions from standard input with the JavaScript that draws a digit pixel by pixel, as golden.mjs does
// for chapter 1's figures. A network is given as Python packs it.
import { readFileSync } from "node:fs";
import { load } from "./load.mjs";

const { mutant, calls } = JSON.parse(readFileSync(0, "utf8"));
const FILES = ["runtime.js", "random.js", "made_pixels_maths.js"];
const nx = load(FILES, (name, source) => {
  if (!mutant || mutant.file !== name) return source;
  if (!source.includes(mutant.from)) throw new Error(`${name} does not hold ${mutant.from}`);
  return source.replaceAll(mutant.from, mutant.to);
});
const { madePixels: made } = nx;

// The state after the pixels x.
function after(model, x) {
  const state = made.begin(model);
  for (const value of x) made.put(model, state, value);
  return state;
}
// Numbers from a list, one after another.
const listed = (numbers) => {
  let at = 0;
  return { uniform: () => numbers[at++] };
};
const own = {
  costs: (packed, images) => images.map((x) => made.costs(made.unpack(packed), x)),
  // The logit of every pixel of x as it is reached.
  logits: (packed, x) => x.map((_, t) => made.logit(made.unpack(packed), after(made.unpack(packed), x.slice(0, t)))),
  ahead: (packed, x) => made.ahead(made.unpack(packed), after(made.unpack(packed), x)),
  finish: (packed, x, how) => made.finish(made.unpack(packed), after(made.unpack(packed), x), how),
  expected: (packed, x, how, count) =>
    made.expected(
      made.unpack(packed),
      after(made.unpack(packed), x),
      { ...how, random: listed(how.uniforms) },
      count,
    ),
  work: (packed, x, t) => made.work(made.unpack(packed), x, t),
  images: (base64, count, pixels) => made.images(base64, count, pixels),
  uniforms: (seed, count) => {
    const random = nx.random(seed);
    return Array.from({ length: count }, random.uniform);
  },
};
const plain = (key, value) => (ArrayBuffer.isView(value) ? [...value] : value);

process.stdout.write(
  JSON.stringify(
    calls.map(([name, given]) => own[name](...given)),
    plain,
  ),
);
