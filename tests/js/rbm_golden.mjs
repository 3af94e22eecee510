// Answers questions from standard input with the JavaScript of chapter 2's figures, as golden.mjs does for
// chapter 1's. A machine is given as Python packs it, or as {W, a, b} with W a list of rows, one for each
// visible unit; random numbers are given too.
import { readFileSync } from "node:fs";
import { load } from "./load.mjs";

const { mutant, calls } = JSON.parse(readFileSync(0, "utf8"));
const nx = load(["runtime.js", "random.js", "rbm_maths.js"], (name, source) => {
  if (!mutant || mutant.file !== name) return source;
  if (!source.includes(mutant.from)) throw new Error(`${name} does not hold ${mutant.from}`);
  return source.replaceAll(mutant.from, mutant.to);
});
const { rbm } = nx;

function machine(given) {
  if (given.scales) return rbm.unpack(given);
  const { W, a, b } = given;
  const [visible, hidden] = [W.length, W[0].length];
  const rows = Float64Array.from(
    { length: visible * hidden },
    (_, at) => W[at % visible][Math.floor(at / visible)],
  );
  return { visible, hidden, W: rows, a, b };
}

// Every number of one layer given the other, of energy and free energy, for pairs of states.
const measures = (given, pairs) =>
  pairs.map(([v, h]) => ({
    energy: rbm.energy(machine(given), v, h),
    free: rbm.freeEnergy(machine(given), v),
    hidden: rbm.hiddenGiven(machine(given), v),
    visible: rbm.visibleGiven(machine(given), h),
  }));

// Sweeps with the uniform numbers in their order; `known` is null or 1 where a pixel is held.
function sweeps(given, v, uniforms, count, known) {
  const random = { uniform: () => uniforms.shift() };
  const made = [];
  for (let t = 0; t < count; t += 1) {
    made.push(rbm.sweep(machine(given), v, random, known));
    v = made[t].v;
  }
  return { made, left: uniforms.length };
}

const own = { measures, sweeps, joint: (given) => rbm.joint(machine(given)) };
const call = ([path, given]) => (own[path] || path.split(".").reduce((at, name) => at[name], nx))(...given);
const plain = (key, value) => (ArrayBuffer.isView(value) ? [...value] : value);

process.stdout.write(JSON.stringify(calls.map(call), plain));
