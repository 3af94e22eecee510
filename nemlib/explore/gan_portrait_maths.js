/*
The small games of chapter 7 and four ways to move in them, as nemlib.gan does in Python. A game is {kind, gamma}:
"bilinear" is V = θφ; "saturating" and "nonSaturating" are the Dirac-GAN with these losses of the generator, gamma
the weight of R1. A point is [θ, φ].
*/
nx.portrait = (function () {
  const METHODS = ["simultaneous", "alternating", "extragradient", "flow"];
  const PIECES = 16; // of one step of the flow, by Runge and Kutta's rule
  const FAR = 1e9; // a path that comes so far is not followed further
  const sigmoid = (a) => 1 / (1 + Math.exp(-a));
  const radius = (at) => Math.hypot(at[0], at[1]);
  const along = (at, way, by) => [at[0] + by * way[0], at[1] + by * way[1]];

  // Where each player wants to go.
  function field(game, [theta, phi]) {
    if (game.kind === "bilinear") return [-phi, theta];
    const logit = phi * theta;
    const pull = phi * sigmoid(game.kind === "nonSaturating" ? -logit : logit);
    return [pull, -theta * sigmoid(logit) - game.gamma * phi];
  }

  /* ---- one step ---- */
  const simultaneous = (game, at, eta) => along(at, field(game, at), eta);
  function alternating(game, at, eta) {
    const theta = at[0] + eta * field(game, at)[0];
    return [theta, at[1] + eta * field(game, [theta, at[1]])[1]];
  }
  const extragradient = (game, at, eta) => along(at, field(game, simultaneous(game, at, eta)), eta);
  function flow(game, at, time, pieces = PIECES) {
    const h = time / pieces;
    for (let n = 0; n < pieces; n += 1) {
      const one = field(game, at);
      const two = field(game, along(at, one, h / 2));
      const three = field(game, along(at, two, h / 2));
      const four = field(game, along(at, three, h));
      at = at.map((value, k) => value + (h / 6) * (one[k] + 2 * two[k] + 2 * three[k] + four[k]));
    }
    return at;
  }
  const steps = { simultaneous, alternating, extragradient, flow };

  // The start and `count` steps from it, fewer where they run away.
  function path(game, method, start, eta, count) {
    const points = [start];
    for (let t = 0; t < count; t += 1) {
      const next = steps[method](game, points[t], eta);
      if (!(radius(next) < FAR)) break;
      points.push(next);
    }
    return points;
  }
  // The flow again, with `fine` points for each step of size eta: a curve to draw.
  function curve(game, start, eta, count, fine) {
    const points = [start];
    for (let t = 0; t < count * fine; t += 1)
      points.push(flow(game, points[t], eta / fine, PIECES / fine));
    return points;
  }
  // The running mean: β of what it was and 1 − β of the new point.
  function average(points, beta) {
    const means = [points[0]];
    for (const at of points.slice(1)) {
      const [theta, phi] = means[means.length - 1];
      means.push([beta * theta + (1 - beta) * at[0], beta * phi + (1 - beta) * at[1]]);
    }
    return means;
  }

  /* ---- what is known of a step near (0, 0), where both games are linear ---- */
  // Larger eigenvalue of a 2 × 2 matrix of this trace and determinant, {re, im}, im not below 0.
  function eigenvalue(trace, determinant) {
    const root = (trace * trace) / 4 - determinant;
    if (root < 0) return { re: trace / 2, im: Math.sqrt(-root) };
    return { re: trace / 2 + (trace < 0 ? -1 : 1) * Math.sqrt(root), im: 0 };
  }
  const slopes = (game) =>
    game.kind === "bilinear"
      ? [
          [0, -1],
          [1, 0],
        ]
      : [
          [0, 0.5],
          [-0.5, -game.gamma],
        ];
  // The eigenvalue that decides: its modulus is the factor, its angle the turn, of one step.
  function multiplier(game, method, eta) {
    const [[, b], [c, d]] = slopes(game);
    const [trace, determinant] = [d, -b * c];
    if (method === "flow") {
      const root = (trace * trace) / 4 - determinant;
      const turn = root < 0 ? eta * Math.sqrt(-root) : 0;
      const size = Math.exp(eta * (trace / 2 + (root > 0 ? Math.sqrt(root) : 0)));
      return { re: size * Math.cos(turn), im: size * Math.sin(turn) };
    }
    if (method === "alternating")
      return eigenvalue(2 + eta * eta * b * c + eta * d, 1 + eta * d);
    if (method === "simultaneous")
      return eigenvalue(2 + eta * trace, 1 + eta * trace + eta * eta * determinant);
    // Both eigenvalues of I + ηA + η²A² come from those of A: the larger is not always the same one.
    const root = (trace * trace) / 4 - determinant;
    const both = [1, -1].map((sign) => {
      const part = sign * Math.sqrt(Math.abs(root));
      const [x, y] = root < 0 ? [trace / 2, part] : [trace / 2 + part, 0];
      return { re: 1 + eta * x + eta * eta * (x * x - y * y), im: eta * y + 2 * eta * eta * x * y };
    });
    return both.reduce((one, other) => (size(other) > size(one) ? other : one));
  }
  const size = ({ re, im }) => Math.hypot(re, im);
  const factor = (game, method, eta) => size(multiplier(game, method, eta));
  const turn = (game, method, eta) => {
    const { re, im } = multiplier(game, method, eta);
    return Math.abs(Math.atan2(im, re));
  };
  // How much nearer the running mean of such a turning path comes to lie, once its start is forgotten.
  function averaged(game, method, eta, beta) {
    const one = multiplier(game, method, eta);
    return ((1 - beta) * size(one)) / Math.hypot(one.re - beta, one.im);
  }

  // Alternating steps in θφ: what stays, and between which distances a point with it can lie.
  const invariant = ([theta, phi], eta) => theta * theta + phi * phi - eta * theta * phi;
  const swing = (kept, eta) => [Math.sqrt(kept / (1 + eta / 2)), Math.sqrt(kept / (1 - eta / 2))];
  // The ellipse of that invariant, closed.
  function ellipse(kept, eta, count) {
    const [short, long] = swing(kept, eta);
    return Array.from({ length: count }, (_, n) => {
      const angle = (2 * Math.PI * n) / count;
      const [u, v] = [long * Math.cos(angle), short * Math.sin(angle)];
      return [(u - v) / Math.SQRT2, (u + v) / Math.SQRT2];
    });
  }

  return {
    METHODS,
    field,
    path,
    curve,
    average,
    radius,
    multiplier,
    factor,
    turn,
    averaged,
    invariant,
    swing,
    ellipse,
  };
})();
