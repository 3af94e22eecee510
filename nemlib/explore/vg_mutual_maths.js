/*
A VAE and a Gaussian mixture that teach each other, in the plane. A point n is q_n = N(x_n, diag s²_n); `first`
holds what the encoder gave, and the decoder's factor is held as a Gaussian there: log p(o_n | x) = a constant
− ½ (x − c_n)ᵀ S⁻¹ (x − c_n) with S = diag s²_n. A symmetric matrix is [xx, xy, yy]; a mixture is
{weights: [π_k], means: [[x, y]], precisions: [Λ_k]}. Everything in nats, means over the points.
*/
nx.vgMutual = (function () {
  const LOG_TWO_PI = Math.log(2 * Math.PI);
  const det = ([xx, xy, yy]) => xx * yy - xy * xy;
  const inverse = (m) => [m[2] / det(m), -m[1] / det(m), m[0] / det(m)];
  const times = ([xx, xy, yy], [x, y]) => [xx * x + xy * y, xy * x + yy * y];
  const square = ([xx, xy, yy], [x, y]) => xx * x * x + 2 * xy * x * y + yy * y * y;
  const plus = (a, b, share = 1) => a.map((value, i) => value + share * b[i]);
  const outer = ([x, y]) => [x * x, x * y, y * y];
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const average = (points) =>
    [0, 1].map((i) => sum(points.map((point) => point[i])) / points.length);

  function logSum(values) {
    const top = Math.max(...values);
    if (top === -Infinity) return top;
    return top + Math.log(values.reduce((total, value) => total + Math.exp(value - top), 0));
  }
  function softmax(values) {
    const all = logSum(values);
    return values.map((value) => Math.exp(value - all));
  }
  const largest = (values) => values.indexOf(Math.max(...values));

  /* ---- the mixture ---- */
  // log π_k + log N(x; μ_k, Λ_k⁻¹) for every k
  const logJoint = (mixture, x) =>
    mixture.weights.map((weight, k) => {
      const precision = mixture.precisions[k];
      const apart = plus(x, mixture.means[k], -1);
      return Math.log(weight) + 0.5 * Math.log(det(precision)) - LOG_TWO_PI - 0.5 * square(precision, apart);
    });
  // The same on average over q = N(x, diag s²).
  const expected = (mixture, x, variance) =>
    logJoint(mixture, x).map((value, k) => {
      const [xx, , yy] = mixture.precisions[k];
      return value - 0.5 * (xx * variance[0] + yy * variance[1]);
    });
  const shares = (mixture, q) => q.mean.map((x, n) => softmax(expected(mixture, x, q.variance[n])));

  /* What a component needs to know of its points: n_k, their mean, and the sum of squares about it, for
     points that are means of Gaussians with their variances. */
  function moments(points, r, variance) {
    const centre = average(points);
    return r[0].map((_, k) => {
      const count = sum(r.map((row) => row[k]));
      let away = [0, 0],
        scatter = [0, 0, 0];
      points.forEach((x, n) => {
        away = plus(away, plus(x, centre, -1), r[n][k]);
      });
      const mean = count > 0 ? plus(centre, away, 1 / count) : centre;
      points.forEach((x, n) => {
        scatter = plus(scatter, outer(plus(x, mean, -1)), r[n][k]);
        if (variance) scatter = plus(scatter, [variance[n][0], 0, variance[n][1]], r[n][k]);
      });
      return { count, mean, scatter };
    });
  }

  // E-step and M-step on what the VAE sends, q. A component that answers for nothing keeps its place.
  function emStep(mixture, q) {
    const found = moments(q.mean, shares(mixture, q), q.variance);
    return {
      weights: found.map(({ count }) => count / q.mean.length),
      means: found.map(({ count, mean }, k) => (count > 0 ? mean : mixture.means[k])),
      precisions: found.map(({ count, scatter }, k) =>
        count > 0 ? inverse(scatter.map((value) => value / count)) : mixture.precisions[k],
      ),
    };
  }

  /* ---- the prior of its parameters, and a sweep of the Gibbs sampler ---- */
  function weakPrior(points, K) {
    const [whole] = moments(
      points,
      points.map(() => [1]),
    );
    const inverseScale = whole.scatter.map((value) => value / points.length / K);
    return { alpha: 1, kappa: 0.01, mean: whole.mean, inverseScale, nu: 4 };
  }
  const posterior = (prior, found) =>
    found.map(({ count, mean, scatter }) => {
      const kappa = prior.kappa + count;
      const apart = plus(mean, prior.mean, -1);
      return {
        alpha: prior.alpha + count,
        kappa,
        mean: plus(prior.mean, apart, count / kappa),
        inverseScale: plus(plus(prior.inverseScale, scatter), outer(apart), (prior.kappa * count) / kappa),
        nu: prior.nu + count,
      };
    });

  // Gamma(shape, 1) for a shape of at least 1, Marsaglia and Tsang (2000).
  function gamma(shape, random) {
    const d = shape - 1 / 3,
      c = 1 / Math.sqrt(9 * d);
    for (;;) {
      const x = random.normal(),
        v = (1 + c * x) ** 3;
      if (v > 0 && Math.log(random.uniform()) < 0.5 * x * x + d - d * v + d * Math.log(v)) return d * v;
    }
  }
  // The random numbers of one draw of all parameters: for π, for Bartlett's triangle, for μ.
  const noise = (laws, random) =>
    laws.map(({ alpha, nu }) => ({
      weight: gamma(alpha, random),
      below: random.normal(),
      chi: [gamma(nu / 2, random), gamma((nu - 1) / 2, random)].map((half) => Math.sqrt(2 * half)),
      place: [random.normal(), random.normal()],
    }));
  // F = C⁻ᵀ A with W⁻¹ = C Cᵀ and Bartlett's triangle A: then Λ = F Fᵀ, and F⁻ᵀ ε has covariance Λ⁻¹.
  function drawn(laws, numbers) {
    const total = sum(numbers.map(({ weight }) => weight));
    const parts = laws.map(({ kappa, mean, inverseScale: [xx, xy, yy] }, k) => {
      const { below, chi, place } = numbers[k];
      const a = Math.sqrt(xx),
        b = xy / a,
        c = Math.sqrt(yy - b * b);
      const upper = [chi[0] / a - (b * below) / (a * c), (-b * chi[1]) / (a * c)];
      const lower = [below / c, chi[1] / c];
      const size = upper[0] * lower[1] - upper[1] * lower[0];
      const [u, v] = place.map((value) => value / Math.sqrt(kappa));
      return {
        mean: plus(mean, [(lower[1] * u - lower[0] * v) / size, (upper[0] * v - upper[1] * u) / size]),
        precision: [
          upper[0] ** 2 + upper[1] ** 2,
          upper[0] * lower[0] + upper[1] * lower[1],
          lower[0] ** 2 + lower[1] ** 2,
        ],
      };
    });
    return {
      weights: numbers.map(({ weight }) => weight / total),
      means: parts.map(({ mean }) => mean),
      precisions: parts.map(({ precision }) => precision),
    };
  }
  function pick(row, uniform) {
    let part = 0;
    for (let k = 0; k < row.length; k += 1) {
      part += row[k];
      if (uniform < part) return k;
    }
    return largest(row);
  }
  const oneHot = (K, label) => Array.from({ length: K }, (_, k) => (k === label ? 1 : 0));
  // A point of each q is sent up; each draws its component, and the components are drawn given their points.
  function sweep(mixture, q, prior, random) {
    const K = mixture.weights.length;
    const sent = q.mean.map((x, n) => x.map((at, i) => at + Math.sqrt(q.variance[n][i]) * random.normal()));
    const r = sent.map((x) => oneHot(K, pick(softmax(logJoint(mixture, x)), random.uniform())));
    const laws = posterior(prior, moments(sent, r));
    return drawn(laws, noise(laws, random));
  }

  /* ---- messages down, and the VAE's step ---- */
  // The shares that are sent: soft, the best ones; hard, the most probable component; sampled, one drawn.
  function message(kind, r, random) {
    if (kind === "soft") return r;
    return r.map((row) => oneHot(row.length, kind === "hard" ? largest(row) : pick(row, random.uniform())));
  }
  // The Gaussian that they are: precision Λ̃ = Σ_k r_k Λ_k and mean μ̃ with Λ̃ μ̃ = Σ_k r_k Λ_k μ_k.
  function factor(mixture, row) {
    let precision = [0, 0, 0],
      pulled = [0, 0];
    row.forEach((share, k) => {
      if (share === 0) return;
      precision = plus(precision, mixture.precisions[k], share);
      pulled = plus(pulled, times(mixture.precisions[k], mixture.means[k]), share);
    });
    return { precision, mean: times(inverse(precision), pulled) };
  }
  // x = (S⁻¹ + βΛ̃)⁻¹ (S⁻¹ c + βΛ̃ μ̃), as the way that is left from c.
  function moved(centre, variance, { precision, mean }, beta) {
    const pull = precision.map((value) => beta * value);
    const both = plus(pull, [1 / variance[0], 0, 1 / variance[1]]);
    return plus(centre, times(inverse(both), times(pull, plus(mean, centre, -1))));
  }
  const targets = (mixture, first, sent, beta) =>
    first.mean.map((c, n) => moved(c, first.variance[n], factor(mixture, sent[n]), beta));

  /* ---- what the model is worth ----
     logProb: log p(o), exact for the held factor. soft: its bound with the best shares, in closed form.
     conditional: with the divergence from the most probable component alone: no bound. divergence: the
     closed-form bound of KL(q ‖ p). fit: E_q of the held log p(o | x). All are counted from log p(o | c). */
  function readings(mixture, first, q) {
    const N = q.mean.length;
    const total = { logProb: 0, fit: 0, divergence: 0, conditional: 0 };
    const covariances = mixture.precisions.map(inverse);
    q.mean.forEach((x, n) => {
      const c = first.mean[n],
        held = first.variance[n],
        own = q.variance[n];
      const e = expected(mixture, x, own),
        z = largest(e);
      const entropy = LOG_TWO_PI + 1 + 0.5 * Math.log(own[0] * own[1]);
      const fit = -0.5 * sum(x.map((at, i) => ((at - c[i]) ** 2 + own[i]) / held[i]));
      const widened = {
        weights: mixture.weights,
        means: mixture.means,
        precisions: covariances.map((covariance) => inverse(plus(covariance, [held[0], 0, held[1]]))),
      };
      total.logProb += LOG_TWO_PI + 0.5 * Math.log(held[0] * held[1]) + logSum(logJoint(widened, c));
      total.fit += fit;
      total.divergence -= entropy + logSum(e);
      total.conditional += fit + entropy + e[z] - Math.log(mixture.weights[z]);
    });
    for (const name of Object.keys(total)) total[name] /= N;
    return { ...total, soft: total.fit - total.divergence, information: information(shares(mixture, q)) };
  }
  const objective = ({ fit, divergence }, beta) => fit - beta * divergence;
  const entropyOf = (row) => -sum(row.map((share) => (share > 0 ? share * Math.log(share) : 0)));
  function information(r) {
    const mean = r[0].map((_, k) => sum(r.map((row) => row[k])) / r.length);
    return entropyOf(mean) - sum(r.map(entropyOf)) / r.length;
  }

  /* ---- starts ---- */
  // Places by k-means++: each next one a point, in proportion to its squared distance to the nearest so far.
  function places(points, K, random) {
    const chosen = [Math.floor(random.uniform() * points.length)];
    let nearest = points.map(() => Infinity);
    while (chosen.length < K) {
      const last = points[chosen[chosen.length - 1]];
      nearest = points.map((x, n) => Math.min(nearest[n], (x[0] - last[0]) ** 2 + (x[1] - last[1]) ** 2));
      const all = sum(nearest);
      const shares = nearest.map((distance) => (all > 0 ? distance / all : 1 / points.length));
      chosen.push(pick(shares, random.uniform()));
    }
    return chosen;
  }
  // Equal weights, k-means++ places, and the covariance that the weak prior expects.
  function startMixture(points, K, random) {
    const precision = inverse(weakPrior(points, K).inverseScale);
    return {
      weights: Array(K).fill(1 / K),
      means: places(points, K, random).map((n) => [...points[n]]),
      precisions: Array.from({ length: K }, () => [...precision]),
    };
  }

  /* ---- the whole, step by step ----
     settings: {components, beta, message, learner}; learner is "em" or "gibbs". */
  function begin(first, settings, seed) {
    const random = nx.random(seed);
    const q = { mean: first.mean.map((c) => [...c]), variance: first.variance };
    const mixture = startMixture(q.mean, settings.components, random);
    const prior = weakPrior(first.mean, settings.components);
    const state = { first, settings: { ...settings }, random, q, mixture, prior, record: [], steps: 0 };
    send(state);
    note(state, "start");
    return state;
  }
  // The message that the next step of the VAE hears, and where that step leads.
  function send(state) {
    const { mixture, q, first, settings } = state;
    state.shares = shares(mixture, q);
    state.sent = message(settings.message, state.shares, state.random);
    aim(state);
  }
  function aim(state) {
    state.targets = targets(state.mixture, state.first, state.sent, state.settings.beta);
  }
  function note(state, what) {
    state.record.push({ step: state.steps, what, ...readings(state.mixture, state.first, state.q) });
  }
  function mixtureStep(state) {
    const { mixture, q, prior, random, settings } = state;
    state.mixture = settings.learner === "em" ? emStep(mixture, q) : sweep(mixture, q, prior, random);
    state.steps += 1;
    send(state);
    note(state, "mixture");
  }
  // Returns how far the points moved, on average.
  function vaeStep(state) {
    const far = state.targets.map((to, n) => Math.hypot(...plus(to, state.q.mean[n], -1)));
    state.q = { mean: state.targets, variance: state.q.variance };
    state.steps += 1;
    send(state);
    note(state, "vae");
    return sum(far) / far.length;
  }

  /* ---- what is drawn ---- */
  // The lower triangle C of a covariance C Cᵀ, as [a, b, c] of [[a, 0], [b, c]].
  function triangle(precision) {
    const [xx, xy, yy] = inverse(precision);
    const a = Math.sqrt(xx),
      b = xy / a;
    return [a, b, Math.sqrt(yy - b * b)];
  }
  // Points μ + C ε of a component.
  function spread(mean, precision, numbers) {
    const [a, b, c] = triangle(precision);
    return numbers.map(([u, v]) => [mean[0] + a * u, mean[1] + b * u + c * v]);
  }

  return {
    logJoint, expected, shares, moments, emStep, weakPrior, posterior, gamma, noise, drawn, pick, sweep, message,
    factor, moved, targets, readings, objective, information, places, startMixture, begin, send, aim, note,
    mixtureStep, vaeStep, spread, inverse, softmax, largest,
  };
})();
