/* What a chain tells about itself: the same numbers as nemlib.gibbs computes. */
nx.statistics = (function () {
  function mean(values) {
    let sum = 0;
    for (const value of values) sum += value;
    return sum / values.length;
  }

  function runningMean(values) {
    let sum = 0;
    return Float64Array.from(values, (value, i) => (sum += value) / (i + 1));
  }

  // Autocovariance at one lag with the divisor n: biased, and never an indefinite sequence.
  function autocovariance(values, lag, centre) {
    let sum = 0;
    for (let i = lag; i < values.length; i += 1) sum += (values[i] - centre) * (values[i - lag] - centre);
    return sum / values.length;
  }

  // rho_0 … rho_lags; NaN for a chain that never moved.
  function autocorrelation(values, lags) {
    const centre = mean(values);
    const variance = autocovariance(values, 0, centre);
    return Float64Array.from({ length: lags + 1 }, (_, t) =>
      t < values.length ? autocovariance(values, t, centre) / variance : 0,
    );
  }

  /* Integrated autocorrelation time as Vehtari et al. (2021) estimate it, for one chain: the variance within
     it without bias, hence 1 / (n - 1) off every lag, and Geyer's (1992) initial monotone sequence as window:
     lags are summed in pairs until a pair is not positive, and pairs may not grow. The bound keeps a
     chain that happens to alternate from counting as infinitely many draws. NaN for one that never moved. */
  function integratedTime(values) {
    const n = values.length;
    const centre = mean(values);
    const variance = autocovariance(values, 0, centre);
    if (!(variance > 0)) return NaN;
    const rho = (t) => (t === 0 ? 1 : autocovariance(values, t, centre) / variance - 1 / (n - 1));
    let sum = 0,
      smallest = Infinity;
    for (let t = 0; t + 1 < n; t += 2) {
      const pair = rho(t) + rho(t + 1);
      if (pair <= 0) break;
      smallest = Math.min(smallest, pair);
      sum += smallest;
    }
    return Math.max(sum > 0 ? 2 * sum - 1 : 0, 1 / Math.log10(n));
  }

  /* Exact theory of a reversible chain from its spectrum: pairs [eigenvalue, weight], weights summing to 1.
     rho_t = sum w lambda^t,  tau = sum w (1 + lambda) / (1 - lambda). */
  const theory = {
    autocorrelation: (spectrum, t) => spectrum.reduce((sum, [l, w]) => sum + w * l ** t, 0),
    time: (spectrum) => spectrum.reduce((sum, [l, w]) => sum + (w * (1 + l)) / (1 - l), 0),
    // 1 + 2 sum_{t<n} (1 - t/n) rho_t: the variance of a mean of n steps, in units of sigma^2 / n
    meanFactor: (spectrum, n) =>
      spectrum.reduce(
        (sum, [l, w]) => sum + w * ((1 + l) / (1 - l) - (2 * l * (1 - l ** n)) / (n * (1 - l) ** 2)),
        0,
      ),
  };

  return { mean, runningMean, autocorrelation, integratedTime, theory };
})();
