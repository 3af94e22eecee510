// Loads scripts of nemlib/explore into one namespace, as a figure does; `change` rewrites a source.
import { readFileSync } from "node:fs";
import { compileFunction } from "node:vm";

export function load(names, change = (name, source) => source) {
  const nx = {};
  for (const name of names) {
    const path = new URL(`../../nemlib/explore/${name}`, import.meta.url);
    compileFunction(change(name, readFileSync(path, "utf8")), ["nx"], { filename: path.pathname })(nx);
  }
  return nx;
}
