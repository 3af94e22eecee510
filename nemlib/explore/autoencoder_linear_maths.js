/* The linear autoencoder with one number on points of the plane, x and y of each in turn; angles in degrees. */
nx.turned = (function () {
  const direction = (angle) => [Math.cos((angle * Math.PI) / 180), Math.sin((angle * Math.PI) / 180)];
  // Angles of one and the same line differ by 180 degrees.
  const wrap = (angle) => ((angle % 180) + 180) % 180;

  function moments(points) {
    const n = points.length / 2;
    const mean = [0, 0],
      S = { xx: 0, xy: 0, yy: 0 };
    for (let i = 0; i < n; i += 1) for (const k of [0, 1]) mean[k] += points[2 * i + k] / n;
    for (let i = 0; i < n; i += 1) {
      const [x, y] = [points[2 * i] - mean[0], points[2 * i + 1] - mean[1]];
      S.xx += (x * x) / n;
      S.xy += (x * y) / n;
      S.yy += (y * y) / n;
    }
    return { mean, S };
  }
  // The angle of the first principal component.
  const first = ({ S }) => wrap(((0.5 * Math.atan2(2 * S.xy, S.xx - S.yy)) / Math.PI) * 180);

  // z = m uᵀ(x − x̄) and x̂ = x̄ + u z / m.
  const encode = ({ mean }, angle, scale, [x, y]) => {
    const u = direction(angle);
    return scale * (u[0] * (x - mean[0]) + u[1] * (y - mean[1]));
  };
  const decode = ({ mean }, angle, scale, z) => direction(angle).map((part, k) => mean[k] + (part * z) / scale);

  // Means over the points: what the line keeps of the variance, what it loses, and all there is.
  function reading(points, known, angle, scale) {
    const n = points.length / 2;
    const found = { kept: 0, lost: 0, total: 0 };
    for (let i = 0; i < n; i += 1) {
      const x = [points[2 * i], points[2 * i + 1]];
      const drawn = decode(known, angle, scale, encode(known, angle, scale, x));
      for (const k of [0, 1]) {
        found.kept += (drawn[k] - known.mean[k]) ** 2 / n;
        found.lost += (x[k] - drawn[k]) ** 2 / n;
        found.total += (x[k] - known.mean[k]) ** 2 / n;
      }
    }
    return found;
  }

  // From one line to another, the shorter way round: from -90 to 90.
  const way = (from, to) => wrap(to - from + 90) - 90;

  return { direction, wrap, moments, first, encode, decode, reading, way };
})();
