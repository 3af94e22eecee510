/*
What the page computes for the bound of chapter 4, as nemlib.explore.vae.Toy does in Python. One latent z with
the prior N(0, 1), one number seen, x = f(z) + noise: everything is an integral over a line, and the trapezium
rule gives it to many digits. A toy is {decoder, x, sd}; q is N(mean, sd²). All in nats.
*/
nx.vaeGap = (function () {
  const LOG_TWO_PI = Math.log(2 * Math.PI);
  const softplus = (a) => Math.max(a, 0) + Math.log1p(Math.exp(-Math.abs(a)));
  const decoders = { line: (z) => z, ramp: (z) => softplus(4 * z), square: (z) => z * z };
  const logNormal = (value, mean, sd) =>
    -0.5 * (((value - mean) / sd) ** 2 + LOG_TWO_PI) - Math.log(sd);

  const logLikelihood = (toy, z) => logNormal(toy.x, decoders[toy.decoder](z), toy.sd);
  const logJoint = (toy, z) => logNormal(z, 0, 1) + logLikelihood(toy, z);

  // The sum of f over a fine grid times its step: for a smooth f that dies out at both ends.
  function integral(f, low, high, count) {
    const step = (high - low) / count;
    let sum = 0;
    for (let i = 0; i <= count; i += 1) sum += f(low + i * step);
    return sum * step;
  }
  const logProb = (toy) => Math.log(integral((z) => Math.exp(logJoint(toy, z)), -10, 10, 2000));

  // E_q f, with z = mean + sd t, out to 12 standard deviations.
  const expectation = (q, f) =>
    integral((t) => Math.exp(logNormal(t, 0, 1)) * f(q.mean + q.sd * t), -12, 12, 480);

  /* Every number beside the plot. The divergence is an integral of its own, not what is left of log p(x):
     that both parts add up to it is then seen, and not put in by hand. */
  function reading(toy, logP, q) {
    const reconstruction = expectation(q, (z) => logLikelihood(toy, z));
    const energy = expectation(q, (z) => logJoint(toy, z));
    const priorKl = 0.5 * (q.mean ** 2 + q.sd ** 2 - 1) - Math.log(q.sd);
    const entropy = 0.5 * (1 + LOG_TWO_PI) + Math.log(q.sd);
    const gap = expectation(q, (z) => logNormal(z, q.mean, q.sd) - (logJoint(toy, z) - logP));
    return { reconstruction, priorKl, energy, entropy, elbo: reconstruction - priorKl, gap };
  }

  /* L_K, the bound of K weights, from standard normal numbers that stay the same while q moves: a mean over
     noise.length / K groups, and its standard error. Larger groups of the same numbers never give less. */
  function weighted(toy, q, noise, K) {
    const groups = Math.floor(noise.length / K);
    const values = new Float64Array(groups);
    const weights = new Float64Array(K);
    for (let n = 0; n < groups; n += 1) {
      let most = -Infinity;
      for (let k = 0; k < K; k += 1) {
        const t = noise[n * K + k];
        weights[k] = logJoint(toy, q.mean + q.sd * t) - logNormal(t, 0, 1) + Math.log(q.sd);
        most = Math.max(most, weights[k]);
      }
      const sum = weights.reduce((all, w) => all + Math.exp(w - most), 0);
      values[n] = most + Math.log(sum / K);
    }
    const mean = values.reduce((all, v) => all + v, 0) / groups;
    const squares = values.reduce((all, v) => all + (v - mean) ** 2, 0);
    return { bound: mean, error: Math.sqrt(squares / (groups - 1) / groups) };
  }

  /* The q with the largest ELBO: the best of a coarse grid and of where the reader stands, then steps along
     either axis that halve where none of them climbs. Of two equally good ones, the nearer. */
  function best(toy, from, limits) {
    const kept = (q) => ({
      mean: Math.min(limits.mean[1], Math.max(limits.mean[0], q.mean)),
      sd: Math.min(limits.sd[1], Math.max(limits.sd[0], q.sd)),
    });
    const height = (q) => reading(toy, 0, q).elbo;
    const away = (q) => Math.abs(q.mean - from.mean);
    const climbs = (one, other) => height(one) > height(other) + 1e-9 * (away(one) - away(other));
    let top = kept(from);
    for (const mean of [-2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2])
      for (const sd of [0.2, 0.4, 0.8]) if (climbs(kept({ mean, sd }), top)) top = kept({ mean, sd });
    for (let step = 0.2; step > 1e-7; ) {
      const { mean, sd } = top;
      const near = [
        { mean: mean + step, sd },
        { mean: mean - step, sd },
        { mean, sd: sd * Math.exp(step) },
        { mean, sd: sd * Math.exp(-step) },
      ].map(kept);
      const next = near.reduce((a, b) => (height(b) > height(a) ? b : a));
      if (height(next) > height(top)) top = next;
      else step /= 2;
    }
    return top;
  }

  return { decoders, logNormal, logLikelihood, logJoint, logProb, expectation, reading, weighted, best };
})();
