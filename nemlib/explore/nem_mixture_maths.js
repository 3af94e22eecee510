/*
EM for a mixture of Gaussians in the plane. A model is {weights: [π_k], means: [[x, y]],
covariances: [[xx, xy, yy]]}; points are pairs, gamma[n][k] the responsibility of component k for point n.
All logarithms are natural; sums run over the points.
*/
nx.mixture = (function () {
  const LOG_2PI = Math.log(2 * Math.PI);

  function logDensity([x, y], mean, [xx, xy, yy]) {
    const [dx, dy, det] = [x - mean[0], y - mean[1], xx * yy - xy * xy];
    const square = (yy * dx * dx - 2 * xy * dx * dy + xx * dy * dy) / det;
    return -LOG_2PI - (Math.log(det) + square) / 2;
  }

  // log π_k + log N(point; component k), for every k
  const logJoint = (model, point) =>
    model.weights.map(
      (weight, k) => Math.log(weight) + logDensity(point, model.means[k], model.covariances[k]),
    );

  function logSum(values) {
    const top = Math.max(...values);
    if (top === -Infinity) return top;
    return top + Math.log(values.reduce((sum, value) => sum + Math.exp(value - top), 0));
  }

  const logLikelihood = (model, points) =>
    points.reduce((sum, point) => sum + logSum(logJoint(model, point)), 0);

  const eStep = (model, points) =>
    points.map((point) => {
      const joint = logJoint(model, point),
        total = logSum(joint);
      return joint.map((value) => Math.exp(value - total));
    });

  // L(gamma, model) = sum gamma (log joint - log gamma), with 0 log 0 = 0
  const bound = (model, points, gamma) =>
    points.reduce((sum, point, n) => {
      const joint = logJoint(model, point);
      return sum + gamma[n].reduce((part, g, k) => (g > 0 ? part + g * (joint[k] - Math.log(g)) : part), 0);
    }, 0);

  // KL(gamma ‖ posterior), computed from the posterior alone: the gap between likelihood and bound
  const divergence = (model, points, gamma) =>
    points.reduce((sum, point, n) => {
      const joint = logJoint(model, point),
        total = logSum(joint);
      return (
        sum + gamma[n].reduce((part, g, k) => (g > 0 ? part + g * (Math.log(g) - joint[k] + total) : part), 0)
      );
    }, 0);

  /* A covariance whose variances, along its own axes, are at least `floor`: the best one of those. Without
     it a component may shrink onto one point, and the likelihood has no upper limit. */
  function atLeast([xx, xy, yy], floor) {
    const middle = (xx + yy) / 2,
      half = Math.hypot((xx - yy) / 2, xy);
    if (middle - half >= floor) return [xx, xy, yy];
    const high = Math.max(middle + half, floor);
    const [newMiddle, stretch] = [(high + floor) / 2, half > 0 ? (high - floor) / (2 * half) : 0];
    return [newMiddle + stretch * (xx - middle), stretch * xy, newMiddle + stretch * (yy - middle)];
  }

  /* The model of highest bound for these responsibilities. A component that has lost all points stays
     where it is in `before`. */
  function mStep(points, gamma, floor, before) {
    const model = { weights: [], means: [], covariances: [] };
    gamma[0].forEach((_, k) => {
      const sum = (f) => points.reduce((total, point, n) => total + gamma[n][k] * f(point), 0);
      const size = sum(() => 1);
      const lost = size < 1e-12;
      const mean = lost ? before.means[k] : [sum((p) => p[0]) / size, sum((p) => p[1]) / size];
      const moment = (i, j) => sum((p) => (p[i] - mean[i]) * (p[j] - mean[j])) / size;
      model.weights.push(size / points.length);
      model.means.push(mean);
      model.covariances.push(
        lost ? before.covariances[k] : atLeast([moment(0, 0), moment(0, 1), moment(1, 1)], floor),
      );
    });
    return model;
  }

  /* The point t of the line from one model (t = 0) to another (t = 1), straight in log π, in the means, and
     in the Cholesky factors with logarithmic diagonals: in these every point of the line is a mixture. */
  function between(from, to, t) {
    if (t === 0) return from;
    if (t === 1) return to;
    const blend = (a, b) => a + t * (b - a);
    const logs = from.weights.map((w, k) =>
      blend(...[w, to.weights[k]].map((v) => Math.log(Math.max(v, 1e-12)))),
    );
    const total = logSum(logs);
    const factor = ([xx, xy, yy]) => {
      const a = Math.sqrt(xx),
        b = xy / a;
      return [Math.log(a), b, Math.log(Math.sqrt(yy - b * b))];
    };
    return {
      weights: logs.map((value) => Math.exp(value - total)),
      means: from.means.map((mean, k) => mean.map((value, i) => blend(value, to.means[k][i]))),
      covariances: from.covariances.map((covariance, k) => {
        const end = factor(to.covariances[k]);
        const [la, b, lc] = factor(covariance).map((value, i) => blend(value, end[i]));
        return [Math.exp(2 * la), Math.exp(la) * b, b * b + Math.exp(2 * lc)];
      }),
    };
  }

  return { logDensity, logJoint, logLikelihood, eStep, bound, divergence, atLeast, mStep, between };
})();
