/*
The two laws of the chain figure, as in nemlib.gibbs (BivariateGaussian and TwoModes).
Gaussian: means 0, variances 1, correlation r. Modes: an even mixture of two unit Gaussians,
label 0 at (d, d) and label 1 at (-d, -d).
*/
nx.gibbs = (function () {
  const bell = (z) => Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI);
  const sigmoid = (z) => 1 / (1 + Math.exp(-z));

  const gaussian = (r) => ({ kind: "gaussian", r, sd: 1 });
  const modes = (d) => ({ kind: "modes", d, sd: Math.sqrt(1 + d * d) });

  // The law of one coordinate given the other: weighted normals, one for each label.
  function conditional(law, other) {
    if (law.kind === "gaussian") {
      return [{ weight: 1, mean: law.r * other, sd: Math.sqrt(1 - law.r * law.r) }];
    }
    const second = sigmoid(-2 * law.d * other);
    return [
      { weight: 1 - second, mean: law.d, sd: 1 },
      { weight: second, mean: -law.d, sd: 1 },
    ];
  }

  const conditionalDensity = (law, other, x) =>
    conditional(law, other).reduce(
      (sum, part) => sum + (part.weight * bell((x - part.mean) / part.sd)) / part.sd,
      0,
    );

  // One coordinate drawn given the other: the uniform chooses the label, the normal a point of it.
  function draw(law, other, uniform, normal) {
    const parts = conditional(law, other);
    const label = parts.length > 1 && uniform < parts[1].weight ? 1 : 0;
    return { value: parts[label].mean + parts[label].sd * normal, label };
  }

  function density(law, x, y) {
    if (law.kind === "gaussian") {
      const rest = 1 - law.r * law.r;
      return Math.exp(-(x * x - 2 * law.r * x * y + y * y) / (2 * rest)) / (2 * Math.PI * Math.sqrt(rest));
    }
    return (bell(x - law.d) * bell(y - law.d) + bell(x + law.d) * bell(y + law.d)) / 2;
  }

  // Probability that one draw takes the other label: E sigmoid(-2 d X), X ~ N(d, 1), by the trapezium rule.
  function flipProbability(law) {
    const step = 0.05;
    let sum = 0;
    for (let k = -180; k <= 180; k += 1)
      sum += bell(k * step) * sigmoid(-2 * law.d * (k * step + law.d)) * step;
    return sum;
  }

  // Mean number of sweeps until a chain is first seen at the other mode; a sweep draws two labels.
  function crossingTime(law) {
    const flip = flipProbability(law);
    return 1 / (2 * flip * (1 - flip));
  }

  /* The memory of x_1 from sweep to sweep: pairs [lambda, weight] with rho_t = sum weight lambda^t.
     Gaussian: rho_t = r^2t. Modes: given one coordinate x the other has mean d tanh(d x), and tanh(d x) is an
     eigenfunction of each half sweep with eigenvalue m = E tanh(d X) = 1 - 2 flipProbability, X ~ N(d, 1);
     hence rho_t = d^2 m^(2t-1) / (1 + d^2) for t > 0. */
  function spectrum(law) {
    if (law.kind === "gaussian") return [[law.r * law.r, 1]];
    const m = 1 - 2 * flipProbability(law);
    const weight = m > 1e-9 ? (law.d * law.d) / (m * (1 + law.d * law.d)) : 0;
    return [
      [m * m, weight],
      [0, 1 - weight],
    ];
  }

  return {
    gaussian,
    modes,
    conditional,
    conditionalDensity,
    draw,
    density,
    flipProbability,
    crossingTime,
    spectrum,
  };
})();
