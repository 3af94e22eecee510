// Answers questions from standard input with the mask x-ray's JavaScript, as golden.mjs does for chapter 1's.
import { readFileSync } from "node:fs";
import { load } from "./load.mjs";

const { mutant, calls } = JSON.parse(readFileSync(0, "utf8"));
const nx = load(["random.js", "made_xray_maths.js"], (name, source) => {
  if (!mutant || name === "random.js") return source;
  if (!source.includes(mutant.from)) throw new Error(`${name} does not hold ${mutant.from}`);
  return source.replaceAll(mutant.from, mutant.to);
});
const { xray } = nx;

// Everything that the figure shows of a net, and its outputs and Jacobian at weights of this seed.
function shown(net, seed) {
  const made = xray.drawn(net, nx.random(seed));
  return {
    ...xray.reading(net),
    made,
    outputs: xray.outputs(net, made, made.x),
    jacobian: xray.jacobian(net, made),
  };
}
const call = ([name, given]) => (name === "shown" ? shown : xray[name])(...given);

process.stdout.write(JSON.stringify(calls.map(call)));
