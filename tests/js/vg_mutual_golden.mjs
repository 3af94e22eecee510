// Answers questions from standard input with the JavaScript of chapter 5's figure, as golden.mjs does for chapter
// 1's. A network and the encoder's guess are given as Python packs them.
import { readFileSync } from "node:fs";
import { load } from "./load.mjs";

const { mutant, calls } = JSON.parse(readFileSync(0, "utf8"));
const FILES = ["runtime.js", "random.js", "vae_network.js", "vg_mutual_maths.js"];
const nx = load(FILES, (name, source) => {
  if (!mutant || mutant.file !== name) return source;
  if (!source.includes(mutant.from)) throw new Error(`${name} does not hold ${mutant.from}`);
  return source.replaceAll(mutant.from, mutant.to);
});
const maths = nx.vgMutual;
const pairs = (packed) => {
  const flat = nx.unpack(packed);
  return Array.from({ length: flat.shape[0] }, (_, n) => [flat[2 * n], flat[2 * n + 1]]);
};
// A generator that keeps what it gave.
function recorded(seed) {
  const random = nx.random(seed),
    log = { normal: [], uniform: [] };
  const keep = (name) => () => {
    log[name].push(random[name]());
    return log[name][log[name].length - 1];
  };
  return { log, normal: keep("normal"), uniform: keep("uniform") };
}

const own = {
  each: (name, given, points) => points.map((x) => maths[name](given, x)),
  gammas: (shape, count, seed) => {
    const random = nx.random(seed);
    return Array.from({ length: count }, () => maths.gamma(shape, random));
  },
  sweep: (mixture, q, prior, seed) => {
    const random = recorded(seed);
    return { mixture: maths.sweep(mixture, q, prior, random), log: random.log };
  },
  sampled: (r, seed) => {
    const random = recorded(seed);
    return { sent: maths.message("sampled", r, random), log: random.log };
  },
  start: (points, K, seed) => {
    const random = recorded(seed);
    return { mixture: maths.startMixture(points, K, random), log: random.log };
  },
  // The page's steps: "mixture", "vae", or a pair [setting, value].
  play: (packed, settings, seed, actions) => {
    const first = { mean: pairs(packed.mean), variance: pairs(packed.logVariance).map((s) => s.map(Math.exp)) };
    const state = maths.begin(first, settings, seed);
    const seen = [];
    const keep = () => {
      const { q, mixture, sent, record } = state;
      seen.push({ x: q.mean, mixture, sent, reading: record[record.length - 1], steps: state.steps });
    };
    keep();
    for (const action of actions) {
      if (action === "mixture") maths.mixtureStep(state);
      else if (action === "vae") maths.vaeStep(state);
      else {
        state.settings[action[0]] = action[1];
        maths.send(state);
      }
      keep();
    }
    return seen;
  },
  // The small numbers behind the strip of draws.
  strip: (seed, count) => {
    const random = nx.random(seed + 1000);
    return Array.from({ length: count }, () => [random.normal(), random.normal()]);
  },
  decode: (packed, points) => points.map((z) => nx.network.apply(nx.network.unpack(packed), z)),
};
const call = ([name, given]) => (own[name] || maths[name])(...given);
const plain = (key, value) => (ArrayBuffer.isView(value) ? [...value] : value);
process.stdout.write(JSON.stringify(calls.map(call), plain));
