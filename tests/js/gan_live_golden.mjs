// Answers questions from standard input with the JavaScript of the GAN that learns in the page, as golden.mjs does
// for chapter 1's figures.
import { readFileSync } from "node:fs";
import { load } from "./load.mjs";

const { mutant, calls } = JSON.parse(readFileSync(0, "utf8"));
const nx = load(["random.js", "gan_live_maths.js"], (name, source) => {
  if (!mutant || mutant.file !== name) return source;
  if (!source.includes(mutant.from)) throw new Error(`${name} does not hold ${mutant.from}`);
  return source.replaceAll(mutant.from, mutant.to);
});
const maths = nx.ganLive;

const own = {
  // A few training steps with all that was drawn, so that another program can take the same steps.
  play: (law, settings, plan, seed, steps) => {
    const gan = maths.begin(maths.laws[law](), settings, seed, plan);
    const start = [gan.generator, gan.discriminator].map((net) => [...net.values]);
    const record = [];
    for (let n = 0; n < steps; n += 1) {
      const rounds = [];
      for (let k = 0; k < settings.discriminatorSteps; k += 1) {
        maths.discriminatorStep(gan);
        rounds.push({ x: [...gan.real.h[0]], z: [...gan.drawn.h[0]] });
      }
      maths.generatorStep(gan);
      record.push({ rounds, z: [...gan.drawn.h[0]], seen: { ...gan.seen } });
    }
    const end = [gan.generator, gan.discriminator, gan.averaged].map((net) => [...net.values]);
    return { start, record, end };
  },
  // What the figure shows after so many steps: modes and good samples of the generator.
  shown: (law, settings, seed, steps) => {
    const gan = maths.begin(maths.laws[law](), settings, seed);
    const z = new Float64Array(1000 * maths.PLAN.latent);
    maths.normals(nx.random(seed + 1000), z);
    for (let n = 0; n < steps; n += 1) maths.step(gan);
    return maths.judge(gan.law, maths.samples(gan.generator, z));
  },
  points: (law) => {
    const { points, deviation } = maths.laws[law]();
    return { points, deviation };
  },
  judge: (law, x) => maths.judge(maths.laws[law](), Float64Array.from(x)),
};
process.stdout.write(JSON.stringify(calls.map(([name, given]) => own[name](...given))));
