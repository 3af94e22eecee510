// Answers questions from standard input with the JavaScript of chapter 7's phase portrait; `mutant` plants a fault.
import { readFileSync } from "node:fs";
import { load } from "./load.mjs";

const { mutant, calls } = JSON.parse(readFileSync(0, "utf8"));
const { portrait } = load(["runtime.js", "gan_portrait_maths.js"], (name, source) => {
  if (!mutant || name === "runtime.js") return source;
  if (!source.includes(mutant.from)) throw new Error(`${name} does not hold ${mutant.from}`);
  return source.replaceAll(mutant.from, mutant.to);
});

const answers = calls.map(([name, given]) => portrait[name](...given));
process.stdout.write(JSON.stringify(answers));
