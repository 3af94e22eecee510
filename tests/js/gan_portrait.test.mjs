// What is known of the paths of small games without Python. node --test tests/js/gan_portrait.test.mjs
import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./load.mjs";

const FILES = ["runtime.js", "gan_portrait_maths.js"];
const { portrait } = load(FILES);
const mutant = (from, to) =>
  load(FILES, (name, source) => {
    if (name !== "gan_portrait_maths.js") return source;
    assert.ok(source.includes(from), from);
    return source.replaceAll(from, to);
  }).portrait;
const BILINEAR = { kind: "bilinear", gamma: 0 };
const START = [1, -0.4];
const ETAS = [0.05, 0.3, 0.9, 1.4];
const close = (a, b, error = 1e-12) => Math.abs(a - b) <= error * Math.max(1, Math.abs(b));
// Each law holds in the figure, and not in one with a fault.
function holds(law, from, to) {
  assert.ok(law(portrait));
  assert.ok(!law(mutant(from, to)), "the fault " + to + " was not noticed");
}
const grows = (method, square) => (one) =>
  ETAS.every((eta) =>
    one
      .path(BILINEAR, method, START, eta, 60)
      .every((at, t) => close(one.radius(at), one.radius(START) * square(eta) ** (t / 2), 1e-11)),
  );

test("simultaneous steps grow by √(1 + η²) each", () => {
  holds(grows("simultaneous", (eta) => 1 + eta ** 2), "return [-phi, theta];", "return [phi, theta];");
});

test("extragradient steps shrink by √(1 − η² + η⁴) each", () => {
  const law = grows("extragradient", (eta) => 1 - eta ** 2 + eta ** 4);
  holds(law, "field(game, simultaneous(game, at, eta)), eta)", "field(game, at), eta)");
});

test("alternating steps keep their invariant, lie on its ellipse and within its swing", () => {
  const law = (one) =>
    ETAS.every((eta) => {
      const kept = one.invariant(START, eta);
      const [least, most] = one.swing(kept, eta);
      const path = one.path(BILINEAR, "alternating", START, eta, 200);
      const on = one.ellipse(kept, eta, 90).every((at) => close(one.invariant(at, eta), kept));
      const between = path.every((at) => one.radius(at) > least - 1e-9 && one.radius(at) < most + 1e-9);
      return on && between && path.every((at) => close(one.invariant(at, eta), kept));
    });
  holds(law, "field(game, [theta, at[1]])[1]", "field(game, at)[1]");
  holds(law, "(u - v) / Math.SQRT2", "(u + v) / Math.SQRT2");
  holds(law, "1 - eta / 2", "1 + eta / 2");
});

test("the flow turns by η a step, and its curve goes through the same points", () => {
  const law = (one) => {
    const flow = one.path(BILINEAR, "flow", [1, 0], 0.7, 40);
    const fine = one.curve(BILINEAR, [1, 0], 0.7, 40, 8);
    return flow.every(
      ([theta, phi], t) =>
        close(theta, Math.cos(0.7 * t), 1e-6) &&
        close(phi, Math.sin(0.7 * t), 1e-6) &&
        close(fine[8 * t][0], theta, 1e-12),
    );
  };
  holds(law, "2 * three[k]", "three[k]");
  holds(law, "PIECES / fine", "PIECES");
});

test("a saturating Dirac-GAN without R1 stays on its circle, and R1 draws it in", () => {
  const law = (one) => {
    const radii = (gamma) =>
      one.path({ kind: "saturating", gamma }, "flow", START, 0.5, 80).map((at) => one.radius(at));
    return radii(0).every((r) => close(r, one.radius(START), 1e-8)) && radii(0.5)[80] < 1e-3;
  };
  holds(law, "theta * sigmoid(logit) - game.gamma", "theta * sigmoid(-logit) - game.gamma");
  holds(law, "- game.gamma * phi]", "]");
});

test("of a turning path the running mean ends at the known share of the distance", () => {
  const law = (one) =>
    [0.2, 0.9].every((eta) => {
      const path = one.path(BILINEAR, "flow", START, eta, 400);
      const means = one.average(path, 0.9);
      const share = (1 - 0.9) / Math.sqrt(1 - 2 * 0.9 * Math.cos(eta) + 0.9 ** 2);
      return (
        means[0] === path[0] &&
        close(one.averaged(BILINEAR, "flow", eta, 0.9), share, 1e-12) &&
        close(one.radius(means[400]) / one.radius(path[400]), share, 1e-6)
      );
    });
  holds(law, "[points[0]]", "[[0, 0]]");
  holds(law, "beta * theta + (1 - beta) * at[0]", "beta * theta + at[0]");
  holds(law, "one.re - beta", "one.re + beta");
});

test("a path that runs away ends there", () => {
  const law = (one) => {
    const path = one.path(BILINEAR, "simultaneous", START, 1.5, 400);
    return path.length < 40 && path.every((at) => one.radius(at) < 1e9);
  };
  holds(law, "FAR = 1e9", "FAR = 1e12");
});
