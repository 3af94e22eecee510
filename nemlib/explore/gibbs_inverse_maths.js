/*
Sampling a drawn density by the inverse of its distribution function.
The density is constant on bins of equal width from low to high: heights h_k >= 0 and probabilities
p_k = h_k / sum h.
*/
nx.inverse = (function () {
  const total = (heights) => heights.reduce((sum, height) => sum + height, 0);

  // p_k, or null for a drawing without area.
  function probabilities(heights) {
    const sum = total(heights);
    return sum > 0 ? Array.from(heights, (height) => height / sum) : null;
  }

  // F at the edges of the bins: one number more than bins, from 0 to 1 exactly.
  function cumulative(p) {
    const sums = [0];
    for (const part of p) sums.push(sums[sums.length - 1] + part);
    const last = sums[sums.length - 1];
    return sums.map((sum) => sum / last);
  }

  /* x with F(x) = u, linear within the bin that has F(low edge) <= u < F(high edge), 0 < u < 1. A bin of
     probability zero is a flat piece of F, and no u ends there. Returns { x, bin }. */
  function invert(F, low, high, u) {
    let first = 0,
      last = F.length - 2;
    while (first < last) {
      const middle = (first + last) >> 1;
      if (F[middle + 1] > u) last = middle;
      else first = middle + 1;
    }
    const width = (high - low) / (F.length - 1);
    return { x: low + width * (first + (u - F[first]) / (F[first + 1] - F[first])), bin: first };
  }

  // Half the sum of |share - p|: the largest error in the probability of any set of bins.
  const totalVariation = (counts, p, n) =>
    p.reduce((sum, part, k) => sum + Math.abs(counts[k] / n - part), 0) / 2;

  // log n! by Stirling's series from 8 on, exact products below.
  function logFactorial(n) {
    if (n < 8) return Math.log([1, 1, 2, 6, 24, 120, 720, 5040][n]);
    const z = n + 1;
    return (
      (z - 0.5) * Math.log(z) -
      z +
      0.5 * Math.log(2 * Math.PI) +
      1 / (12 * z) -
      1 / (360 * z ** 3) +
      1 / (1260 * z ** 5)
    );
  }

  /* The total variation to expect of n draws from the right law: half the sum of the mean deviations of
     binomial shares, each 2 (m/n) (1-p) times the probability of m = floor(np) + 1 (de Moivre 1730). */
  function expectedVariation(p, n) {
    return p.reduce((sum, part) => {
      if (part <= 0 || part >= 1) return sum;
      const m = Math.floor(n * part) + 1;
      const log =
        logFactorial(n) -
        logFactorial(m) -
        logFactorial(n - m) +
        m * Math.log(part) +
        (n - m) * Math.log1p(-part);
      return sum + (m / n) * (1 - part) * Math.exp(log);
    }, 0);
  }

  return { total, probabilities, cumulative, invert, totalVariation, expectedVariation };
})();
