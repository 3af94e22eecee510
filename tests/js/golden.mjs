// Answers questions from standard input with the figures' own JavaScript:
// {"files": [...], "mutant": {file, from, to} or absent, "calls": [[path, arguments], …]} → [results].
import { readFileSync } from "node:fs";
import { load } from "./load.mjs";

const { files, mutant, calls } = JSON.parse(readFileSync(0, "utf8"));
const nx = load(files, (name, source) => {
  if (!mutant || mutant.file !== name) return source;
  if (!source.includes(mutant.from)) throw new Error(`${name} does not hold ${mutant.from}`);
  return source.replaceAll(mutant.from, mutant.to);
});

// "gibbs.gaussian(0.9)" style laws are named by their maker: {"law": ["gaussian", 0.9]}.
const value = (given) => (given && given.law ? nx.gibbs[given.law[0]](given.law[1]) : given);
const plain = (result) => (ArrayBuffer.isView(result) ? [...result] : result);

function call([path, given]) {
  if (path === "draws") {
    const { seed, kind, count } = given;
    const random = nx.random(seed);
    return Array.from({ length: count }, () => random[kind]());
  }
  if (path === "unpack") return { values: [...nx.unpack(given[0])], shape: nx.unpack(given[0]).shape };
  return plain(path.split(".").reduce((at, name) => at[name], nx)(...given.map(value)));
}

process.stdout.write(JSON.stringify(calls.map(call)));
