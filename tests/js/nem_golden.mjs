// Answers questions from standard input with the JavaScript of chapter 8's figures, as golden.mjs does for
// chapter 1's; "run" takes several steps of RNN-EM in one call, since its weights are many.
import { readFileSync } from "node:fs";
import { load } from "./load.mjs";

const FILES = ["runtime.js", "random.js", "nem_slots.js", "nem_mixture_maths.js", "nem_shapes_maths.js"];
const { mutant, calls } = JSON.parse(readFileSync(0, "utf8"));
const nx = load(FILES, (name, source) => {
  if (!mutant || mutant.file !== name) return source;
  if (!source.includes(mutant.from)) throw new Error(`${name} does not hold ${mutant.from}`);
  return source.replaceAll(mutant.from, mutant.to);
});

function run(packed, x, slots, gamma, steps) {
  const net = nx.shapes.network(packed);
  const states = [nx.shapes.begin(net, slots, Float64Array.from(gamma))];
  for (let t = 0; t < steps; t += 1) states.push(nx.shapes.step(net, x, states[t]));
  return states;
}

const own = { run };
const call = ([path, given]) => (own[path] || path.split(".").reduce((at, name) => at[name], nx))(...given);
const plain = (key, value) => (ArrayBuffer.isView(value) ? [...value] : value);

process.stdout.write(JSON.stringify(calls.map(call), plain));
