/* Points of the plane, as nemlib and torch have them: the prior N(0, I) and its quantiles, codes nearby. */
nx.vaePlane = (function () {
  const LOG_TWO_PI = Math.log(2 * Math.PI);
  const logPrior = ([x, y]) => -LOG_TWO_PI - 0.5 * (x * x + y * y);
  // Of the prior's mass, the share that lies farther from the middle than this point; and the circle for one.
  const farther = ([x, y]) => Math.exp(-0.5 * (x * x + y * y));
  const radius = (inside) => Math.sqrt(-2 * Math.log(1 - inside));

  // Φ by Marsaglia's series (2004): 1/2 + φ(z) (z + z³/3 + z⁵/(3 · 5) + …).
  function cumulative(z) {
    if (Math.abs(z) > 8) return z < 0 ? 0 : 1;
    let sum = 0;
    for (let term = z, k = 1; sum + term !== sum; term *= (z * z) / k) {
      sum += term;
      k += 2;
    }
    return 0.5 + sum * Math.exp(-0.5 * (z * z + LOG_TWO_PI));
  }
  // The z with Φ(z) = u, by halving.
  function quantile(u) {
    let [low, high] = [-8, 8];
    for (let k = 0; k < 60; k += 1) {
      const middle = (low + high) / 2;
      if (cumulative(middle) < u) low = middle;
      else high = middle;
    }
    return (low + high) / 2;
  }

  // codes: x and y of each in turn. Which one lies nearest, and how far away; `but` is left out.
  function nearest(codes, [x, y], but) {
    let found = { at: -1, distance: Infinity };
    for (let n = 0; 2 * n < codes.length; n += 1) {
      const distance = Math.hypot(codes[2 * n] - x, codes[2 * n + 1] - y);
      if (n !== but && distance < found.distance) found = { at: n, distance };
    }
    return found;
  }

  // A distance that nine codes in ten keep to the one nearest to them: what lies farther from all is a hole.
  function spacing(codes) {
    const all = Array.from(
      { length: codes.length / 2 },
      (_, n) => nearest(codes, [codes[2 * n], codes[2 * n + 1]], n).distance,
    ).sort((a, b) => a - b);
    return all[Math.min(all.length - 1, Math.floor(0.9 * all.length))];
  }

  // The code of a class that has the smallest summed distance to the others of its class.
  function middleOf(codes, labels, label) {
    const own = labels.map((one, n) => (one === label ? n : -1)).filter((n) => n >= 0);
    const far = (n) =>
      own.reduce(
        (sum, m) => sum + Math.hypot(codes[2 * n] - codes[2 * m], codes[2 * n + 1] - codes[2 * m + 1]),
        0,
      );
    return own.reduce((best, n) => (far(n) < far(best) ? n : best));
  }
  const between = (a, b, t) => a.map((value, i) => value + t * (b[i] - value));

  return { logPrior, farther, radius, cumulative, quantile, nearest, spacing, middleOf, between };
})();
