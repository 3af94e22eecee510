/* EM for a Gaussian mixture: points in the colours of their responsibilities, means to drag, and the bound
   that climbs to touch the likelihood along the path from each model to its M-step's. */
nx.build = function (stage) {
  const { data, live, say } = stage;
  const { mixture, slots } = nx;
  const flat = nx.unpack(data.points);
  const points = Array.from({ length: flat.shape[0] }, (_, n) => [flat[2 * n], flat[2 * n + 1]]);
  const N = points.length,
    LIMIT = data.limit,
    PATH = 44;
  let K = data.components,
    path,
    at,
    gamma,
    shown,
    climb,
    last,
    probe = 0,
    turning = null;
  const palette = slots.follow(stage, data.palette, () => drawAll());

  /* ---- EM ----
     The path begins at the first model; knot i stands at position path[i].x and aims at `target`, the
     M-step's model for the responsibilities held there. The current model is at position `at`. */
  const uniform = () => points.map(() => Array(K).fill(1 / K));
  const first = () => ({
    weights: Array(K).fill(1 / K),
    means: data.starts[K].map((mean) => [...mean]),
    covariances: Array.from({ length: K }, () => [data.variance, 0, data.variance]),
  });

  function begin(model, q) {
    gamma = shown = q || uniform();
    at = 0;
    path = [{ x: 0, model, target: mixture.mStep(points, gamma, data.floor, model) }];
    climb = [measure("start")];
    last = "start";
  }

  function knotAt(x) {
    let knot = path[0];
    for (const one of path) if (one.x <= x + 1e-9) knot = one;
    return knot;
  }
  function modelAt(x) {
    const knot = knotAt(x);
    return mixture.between(knot.model, knot.target, Math.abs(x - knot.x) < 1e-9 ? 0 : x - knot.x);
  }
  const knot = () => path[path.length - 1];
  const part = () => at - knot().x;
  const current = () => mixture.between(knot().model, knot().target, part());

  function measure(what) {
    const model = current();
    return {
      what,
      likelihood: mixture.logLikelihood(model, points),
      bound: mixture.bound(model, points, gamma),
      gap: mixture.divergence(model, points, gamma),
    };
  }

  // A new bound begins where the model is: its path leads on from there.
  function takeE() {
    const model = current(),
      touches = measure("E").gap < 1e-9;
    gamma = mixture.eStep(model, points);
    last = "E";
    if (touches && knot().x === at) return;
    if (at > knot().x) path.push({ x: at, model, target: null });
    else knot().model = model;
    knot().target = mixture.mStep(points, gamma, data.floor, model);
    climb.push(measure("E"));
  }
  function takeM() {
    last = part() < 1 ? "M" : "top";
    if (last === "top") return;
    at = knot().x + 1;
    climb.push(measure("M"));
  }
  const iterations = () => climb.filter((one) => one.what === "M").length;

  // Would another iteration still lift the likelihood?
  function settled() {
    const done = climb.filter((one) => one.what === "M");
    return done.length > 1 && done[done.length - 1].likelihood - done[done.length - 2].likelihood < 1e-4;
  }
  const same = () => {
    const model = current();
    return model.means.every(
      (mean) => Math.hypot(mean[0] - model.means[0][0], mean[1] - model.means[0][1]) < 1e-6,
    );
  };

  /* ---- motion: one thing at a time, skipped where the reader wants less of it ---- */
  function animate(lasts, draw, done) {
    finish();
    if (nx.reducedMotion() || lasts < 40) {
      draw(1);
      done();
      return;
    }
    const own = (turning = { end: () => draw(1) });
    const started = performance.now();
    const frame = (now) => {
      if (turning !== own) return;
      const time = Math.min(1, Math.max(0, (now - started) / lasts));
      if (time >= 1 || !stage.root.isConnected) {
        finish();
        return done();
      }
      draw(time * time * (3 - 2 * time));
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }
  // Whatever the reader does next finds the step that was on its way at its end, and no other begun.
  function finish() {
    const own = turning;
    turning = null;
    if (own) own.end();
  }

  function stepE(lasts, done) {
    finish();
    const old = shown,
      window = [...view.x];
    takeE();
    const next = gamma,
      to = span();
    animate(
      lasts,
      (s) => {
        shown = s === 1 ? next : next.map((row, n) => row.map((g, k) => s * g + (1 - s) * old[n][k]));
        drawAll(window.map((edge, i) => edge + s * (to[i] - edge)));
      },
      done,
    );
  }

  function stepM(lasts, done) {
    finish();
    const from = at,
      window = [...view.x];
    takeM();
    const to = at,
      edges = span();
    animate(
      lasts,
      (s) => {
        at = s === 1 ? to : from + s * (to - from);
        drawAll(window.map((edge, i) => edge + s * (edges[i] - edge)));
      },
      done,
    );
  }

  /* ---- the controls ---- */
  const SLOW = 650;
  const press =
    (...steps) =>
    () => {
      loop.toggle(false);
      finish();
      const after = () => say(words.textContent);
      if (steps.length === 1) steps[0](SLOW, after);
      else steps[0](SLOW, () => steps[1](SLOW, after));
    };
  const run = nx.button("Run", () => loop.toggle(!loop.running), { primary: true });
  const loop = nx.loop(
    stage.root,
    () => {
      if (turning) return true;
      if (settled() && last === "E") return false;
      const lasts = Math.max(90, SLOW - 70 * iterations());
      (last === "E" ? stepM : stepE)(nx.reducedMotion() ? 0 : lasts, () => {});
      return true;
    },
    (on) => {
      run.textContent = on ? "Pause" : "Run";
      if (on) return say("EM runs.");
      finish();
      drawAll();
      say((settled() ? "" : "Paused. ") + words.textContent);
    },
  );
  const restart = (model, spoken) => {
    loop.toggle(false);
    finish();
    begin(model);
    drawAll();
    say(spoken);
  };
  const buttons = nx.h(
    "div",
    { class: "nx-buttons" },
    nx.button("E-step", press(stepE)),
    nx.button("M-step", press(stepM)),
    nx.button("E + M", press(stepE, stepM)),
    run,
    nx.button("Reset", () => restart(first(), "Back at the start.")),
    nx.button("Symmetric start", () =>
      restart(
        { ...first(), means: Array.from({ length: K }, () => [...data.centre]) },
        "All components are the same now: equal means, covariances and weights.",
      ),
    ),
  );
  const count = nx.choice(stage, {
    id: "k",
    label: "Number of components",
    value: K,
    choices: [2, 3, 4].map((k) => [k, "K = " + k]),
    change: (value) => {
      K = value;
      buildHandles();
      restart(first(), nx.plural(K, "component") + ".");
    },
  });

  /* ---- the map ---- */
  const map = nx.plot({
    x: [-LIMIT, LIMIT],
    y: [-LIMIT, LIMIT],
    clip: stage.name("map"),
    xTicks: [-2, 0, 2],
    yTicks: [-2, 0, 2],
    xLabel: "x₁",
    yLabel: "x₂",
    margin: { left: 26, top: 4, right: 4, bottom: 22 },
    attributes: { role: "group", "aria-label": "The points, and the means to move", class: "nx-plot nx-map" },
  });
  const layer = (plot, ...names) =>
    names.map((name) => plot.marks.appendChild(nx.s("path", { class: name })));
  const group = (plot) => plot.marks.appendChild(nx.s("g", {}));
  const rings = group(map);
  const dots = points.map(() => map.marks.appendChild(nx.s("path", { class: "nx-point" })));
  const looking = map.marks.appendChild(
    nx.s("circle", {
      class: "nx-looking",
      r: 8,
      tabindex: 0,
      role: "slider",
      "aria-valuemin": 1,
      "aria-valuemax": N,
      "aria-label": "The point that is looked at: arrow keys choose another",
    }),
  );
  const handles = group(map);
  const order = points.map((_, n) => n).sort((a, b) => points[a][0] - points[b][0]);

  function buildHandles() {
    rings.replaceChildren(
      ...Array.from({ length: 2 * K }, (_, i) =>
        nx.s("path", { class: "nx-spread", style: "stroke:var(--nx-slot-" + (1 + (i >> 1)) + ")" }),
      ),
    );
    handles.replaceChildren(
      ...Array.from({ length: K }, (_, k) => {
        const handle = nx.s(
          "g",
          {
            class: "nx-mean",
            tabindex: 0,
            role: "slider",
            "aria-valuemin": -LIMIT,
            "aria-valuemax": LIMIT,
            "aria-label": "Mean of component " + (k + 1) + ": arrow keys move it",
          },
          nx.s("circle", { r: 17, class: "nx-grip" }),
          nx.s("circle", { r: 9.5, class: "nx-disc", style: "fill:var(--nx-slot-" + (k + 1) + ")" }),
          nx.s("text", { y: 4, "text-anchor": "middle" }, String(k + 1)),
        );
        handle.addEventListener("pointerdown", (event) => {
          handle.setPointerCapture(event.pointerId);
          event.preventDefault();
          handle.focus();
        });
        handle.addEventListener("pointermove", (event) => {
          if (handle.hasPointerCapture(event.pointerId)) moveMean(k, map.at(event));
        });
        handle.addEventListener("lostpointercapture", () => say(words.textContent));
        handle.addEventListener("keydown", (event) => {
          const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] }[
            event.key
          ];
          if (!move) return;
          event.preventDefault();
          moveMean(
            k,
            current().means[k].map((value, i) => value + 0.1 * move[i]),
          );
          say(words.textContent);
        });
        return handle;
      }),
    );
  }

  // The reader moves a mean: the responsibilities stay as they are, so that bound and likelihood part.
  function moveMean(k, place) {
    loop.toggle(false);
    finish();
    const model = current();
    const means = model.means.map((mean, j) =>
      j === k ? place.map((value) => Math.max(-LIMIT, Math.min(LIMIT, value))) : mean,
    );
    begin({ ...model, means }, gamma);
    last = "moved";
    drawAll();
  }

  function look(n) {
    probe = n;
    drawProbe();
  }
  map.node.addEventListener("pointermove", (event) => {
    if (event.target.closest(".nx-mean") || event.buttons) return;
    const [x, y] = map.at(event);
    const away = (n) => Math.hypot(points[n][0] - x, points[n][1] - y);
    const nearest = order.reduce((best, n) => (away(n) < away(best) ? n : best));
    if (away(nearest) < 0.5) look(nearest);
  });
  looking.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -15, PageUp: 15 }[
      event.key
    ];
    if (!step) return;
    event.preventDefault();
    look(order[Math.max(0, Math.min(N - 1, order.indexOf(probe) + step))]);
  });

  /* ---- the bound along the path, and the climb ---- */
  const chart = (name, extra) =>
    nx.plot({
      x: [-0.5, 1.6],
      y: [0, 1],
      clip: stage.name(name),
      margin: { left: 54, top: 6, right: 8, bottom: 22 },
      ...extra,
    });
  const view = chart("view", {
    xLabel: "M-steps",
    attributes: { role: "group", "aria-label": "Log-likelihood and bound along the path of EM" },
  });
  const trace = chart("trace", { xLabel: "half steps", attributes: { "aria-hidden": "true" } });
  const [under, boundLine, likelihoodLine, gapLine] = layer(
    view,
    "nx-under",
    "nx-bound",
    "nx-likelihood",
    "nx-gap",
  );
  const gapWord = view.marks.appendChild(nx.s("text", { class: "nx-gapword" }, "KL"));
  const peak = view.marks.appendChild(nx.s("path", { class: "nx-peak" }));
  const marker = view.marks.appendChild(
    nx.s(
      "g",
      {
        class: "nx-mean nx-along",
        tabindex: 0,
        role: "slider",
        "aria-valuemin": 0,
        "aria-valuemax": 1,
        "aria-label": "How much of the M-step is taken: arrow keys move it",
      },
      nx.s("circle", { r: 16, class: "nx-grip" }),
      nx.s("path", { class: "nx-stem" }),
      nx.s("circle", { r: 6, class: "nx-now" }),
    ),
  );
  const [traceGap, traceBound, traceLine, traceDots] = layer(
    trace,
    "nx-gap nx-thin",
    "nx-bounddots",
    "nx-likelihood",
    "nx-likelihooddots",
  );

  const along = (t) => {
    loop.toggle(false);
    finish();
    at = knot().x + Math.max(0, Math.min(1, t));
    last = "part";
    drawAll();
  };
  marker.addEventListener("pointerdown", (event) => {
    marker.setPointerCapture(event.pointerId);
    event.preventDefault();
    marker.focus();
  });
  marker.addEventListener("pointermove", (event) => {
    if (marker.hasPointerCapture(event.pointerId)) along(view.at(event)[0] - knot().x);
  });
  marker.addEventListener("lostpointercapture", () => say(words.textContent));
  marker.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -0.1, ArrowDown: -0.1, ArrowRight: 0.1, ArrowUp: 0.1, Home: -1, End: 1 }[
      event.key
    ];
    if (!step) return;
    event.preventDefault();
    along(part() + step);
    say(words.textContent);
  });

  const heading = (...parts) => nx.h("p", { class: "nx-heading" }, ...parts);
  const reading = nx.h("p", { class: "nx-quiet nx-reading" });
  const left = nx.h("div", {}, map.node, reading);
  const right = nx.h(
    "div",
    {},
    heading(nx.key("ink", "log-likelihood"), " and ", nx.key("climb", "bound ℒ(γ, ·)"), ", nats"),
    view.node,
    heading("The climb: both after each half step, nats"),
    trace.node,
  );
  const facts = {
    likelihood: nx.fact("Log-likelihood"),
    bound: nx.fact("Bound ℒ"),
    gap: nx.fact("Gap = KL(γ ‖ posterior)"),
    steps: nx.fact("M-steps"),
  };
  const words = nx.h("p", { class: "nx-words" });
  live.append(
    nx.h("div", { class: "nx-bar" }, count, buttons),
    nx.h("div", { class: "nx-pair" }, left, right),
    nx.facts(facts),
    words,
  );

  const span = () => [Math.max(-0.45, knot().x - 1), knot().x + 1.55];

  /* ---- drawing ---- */
  const pixels = ([x, y]) => [map.X(x), map.Y(y)];
  function ellipse(mean, [xx, xy, yy], radius) {
    const a = Math.sqrt(xx),
      b = xy / a,
      c = Math.sqrt(yy - b * b);
    return Array.from({ length: 64 }, (_, i) => {
      const [u, v] = [radius * Math.cos((i * Math.PI) / 32), radius * Math.sin((i * Math.PI) / 32)];
      return [mean[0] + a * u, mean[1] + b * u + c * v];
    });
  }

  function drawMap() {
    const model = current();
    points.forEach((point, n) => {
      const k = slots.leader(shown[n]);
      const [x, y] = pixels(point);
      nx.set(dots[n], {
        d: "M" + x.toFixed(1) + " " + y.toFixed(1) + slots.mark(k),
        fill: slots.rgb(slots.mix(palette.colours, shown[n])),
      });
    });
    [...rings.children].forEach((ring, i) => {
      const k = i >> 1;
      ring.setAttribute(
        "d",
        nx.path(ellipse(model.means[k], model.covariances[k], 1 + (i % 2)).map(pixels), true),
      );
    });
    [...handles.children].forEach((handle, k) => {
      const [x, y] = pixels(model.means[k]);
      // Means that coincide are fanned out, so that each can be taken.
      const before = model.means
        .slice(0, k)
        .filter((mean) => Math.hypot(...mean.map((v, i) => v - model.means[k][i])) < 0.02);
      nx.set(handle, {
        transform: "translate(" + (x + 15 * before.length).toFixed(1) + " " + y.toFixed(1) + ")",
        "aria-valuenow": model.means[k][0].toFixed(2),
        "aria-valuetext":
          "x1 = " + nx.number(model.means[k][0], 2) + ", x2 = " + nx.number(model.means[k][1], 2),
      });
    });
    drawProbe();
  }

  function drawProbe() {
    const [cx, cy] = pixels(points[probe]);
    const text =
      "Point at (" +
      points[probe].map((v) => nx.number(v, 1)).join(", ") +
      "): " +
      shown[probe].map((g, k) => "γ" + "₁₂₃₄"[k] + " = " + nx.number(g, 2)).join(", ");
    reading.textContent = text;
    nx.set(looking, { cx, cy, "aria-valuenow": order.indexOf(probe) + 1, "aria-valuetext": text });
  }

  const steps = (low, high, many) =>
    Array.from({ length: many + 1 }, (_, i) => low + ((high - low) * i) / many);

  function drawView(edges) {
    const [low, high] = edges || span();
    const xs = steps(low, high, PATH);
    const models = xs.map(modelAt);
    const likelihoods = models.map((model) => mixture.logLikelihood(model, points));
    const values = models.map((model) => mixture.bound(model, points, shown));
    const now = { likelihood: 0, bound: 0 };
    const model = current();
    now.likelihood = mixture.logLikelihood(model, points);
    now.bound = mixture.bound(model, points, shown);
    scaleView(low, high, xs, likelihoods, values, now);
    const line = (ys) => xs.map((x, i) => [view.X(x), view.Y(Math.max(ys[i], view.y[0] - 1e4))]);
    likelihoodLine.setAttribute("d", nx.path(line(likelihoods)));
    boundLine.setAttribute("d", nx.path(line(values)));
    under.setAttribute(
      "d",
      nx.path(
        line(values).concat([
          [view.X(high), view.Y(view.y[0])],
          [view.X(low), view.Y(view.y[0])],
        ]),
        true,
      ),
    );
    const [x, top, bottom] = [view.X(at), view.Y(now.likelihood), view.Y(Math.max(now.bound, view.y[0]))];
    gapLine.setAttribute(
      "d",
      nx.path([
        [x, top],
        [x, bottom],
      ]),
    );
    nx.set(gapWord, {
      x: x + 7,
      y: (top + bottom) / 2 + 4,
      visibility: bottom - top > 22 ? "visible" : "hidden",
    });
    const best = knot().x + 1;
    const height = mixture.bound(modelAt(best), points, shown);
    peak.setAttribute(
      "d",
      "M" + view.X(best).toFixed(1) + " " + (view.Y(height) - 9).toFixed(1) + "l-4 -7h8z",
    );
    nx.set(marker, {
      transform: "translate(" + x.toFixed(1) + " " + bottom.toFixed(1) + ")",
      "aria-valuenow": part().toFixed(2),
      "aria-valuetext": nx.number(100 * part(), 0) + " % of the M-step",
    });
  }

  function scaleView(low, high, xs, likelihoods, values, now) {
    const near = xs.map((x, i) => i).filter((i) => xs[i] >= knot().x - 0.05 && xs[i] <= knot().x + 1.05);
    const tops = near.map((i) => likelihoods[i]).concat(now.likelihood);
    const bottoms = near.map((i) => values[i]).concat(now.bound);
    const rise = Math.max(Math.max(...tops) - Math.min(...bottoms), 0.1);
    const bottom = Math.min(...bottoms) - 0.35 * rise;
    view.xTicks = nx.ticks(Math.ceil(low), Math.floor(high), 2).filter(Number.isInteger);
    view.scale([low, high], [bottom, Math.max(...tops) + 0.18 * rise]);
  }

  function drawTrace() {
    const likelihoods = climb.map((one) => one.likelihood);
    // The first M-step rises so far that it would flatten all others.
    const low = likelihoods[climb.length > 6 ? 2 : 0],
      high = likelihoods[climb.length - 1];
    const rise = Math.max(high - low, 0.5);
    trace.xTicks = nx.ticks(0, Math.max(4, climb.length - 1), 5).filter(Number.isInteger);
    trace.scale([-0.3, Math.max(6, climb.length - 0.6)], [low - 0.35 * rise, high + 0.12 * rise]);
    const spot = (i, value) => [trace.X(i), trace.Y(value)];
    const floor = (value) => Math.max(value, trace.y[0] - rise);
    const dot = ([x, y]) => "M" + x.toFixed(1) + " " + y.toFixed(1) + "h0";
    traceLine.setAttribute("d", nx.path(likelihoods.map((value, i) => spot(i, value))));
    traceDots.setAttribute("d", likelihoods.map((value, i) => dot(spot(i, value))).join(""));
    traceBound.setAttribute("d", climb.map((one, i) => dot(spot(i, floor(one.bound)))).join(""));
    traceGap.setAttribute(
      "d",
      climb.map((one, i) => nx.path([spot(i, one.likelihood), spot(i, floor(one.bound))])).join(""),
    );
  }

  function drawWords() {
    const now = measure("now");
    const digits = now.gap > 0 && now.gap < 0.1 && now.gap >= 5e-4 ? 3 : 2;
    facts.likelihood.show(nx.number(now.likelihood, digits), "nats, " + nx.count(N) + " points");
    facts.bound.show(nx.number(now.bound, digits), "nats, never above it");
    facts.gap.show(nx.number(now.gap, digits), now.gap < 5e-4 ? "nats: the bound touches" : "nats");
    const done = climb.filter((one) => one.what === "M");
    const risen = climb[climb.length - 1].likelihood - climb[0].likelihood;
    facts.steps.show(nx.count(done.length), "risen by " + nx.number(risen, digits) + " nats");
    words.textContent = sentence(now);
  }

  function sentence(now) {
    const gap = nx.number(now.gap, 2) + " nats";
    if (last === "start" && same())
      return (
        "All components are the same. Whatever you press, every γ stays 1/" +
        K +
        " and they stay the same for " +
        "ever: nothing breaks the tie. Run it; then move one mean a little, and run again."
      );
    if (last === "start")
      return (
        "No responsibilities yet: every point belongs to every component by 1/" +
        K +
        ". The bound lies " +
        gap +
        " below the likelihood. Press E-step, and it climbs to touch."
      );
    if (same())
      return (
        "Still all components are the same" +
        (last === "E" ? ", and γ = 1/" + K + " for every point" : "") +
        ": a fixed point of EM, but no good model. Move one mean a little, and run."
      );
    if (settled() && now.gap < 1e-3)
      return (
        "Converged after " +
        nx.plural(iterations(), "M-step") +
        ": the bound touches the likelihood at its own " +
        "maximum, so neither step finds anything to raise. Another start may end higher or lower."
      );
    if (last === "E")
      return (
        "E-step: γ is now the posterior, the gap is 0, and the bound touches the likelihood. The M-step goes to " +
        "the bound's maximum, the arrow; drag the dot to go a part of the way."
      );
    if (last === "M") {
      const before = climb[climb.length - 2];
      return (
        "M-step: the bound is at its maximum, " +
        nx.number(now.bound - before.bound, 2) +
        " nats higher, and the " +
        "likelihood, never below it, rose by " +
        nx.number(now.likelihood - before.likelihood, 2) +
        ". A gap of " +
        gap +
        " opens: γ belongs to the old model."
      );
    }
    if (last === "top")
      return "The bound is at its maximum already: an M-step finds nothing to raise before the next E-step.";
    if (last === "part")
      return (
        nx.number(100 * part(), 0) +
        " % of the M-step is taken. The bound has risen by " +
        nx.number(now.bound - climb[climb.length - 1].bound, 2) +
        " nats, the likelihood by " +
        nx.number(now.likelihood - climb[climb.length - 1].likelihood, 2) +
        ": a part of the M-step is enough for EM to climb."
      );
    return (
      "You moved a mean and kept γ: the bound now lies " +
      gap +
      " below the likelihood. An E-step closes the gap."
    );
  }

  function drawAll(edges) {
    drawMap();
    drawView(edges);
    drawTrace();
    drawWords();
  }

  stage.onResize(() => {
    const wide = left.getBoundingClientRect().top === right.getBoundingClientRect().top;
    const side = Math.min(left.clientWidth, 460);
    map.resize(side, side);
    const tall = wide ? side - 62 : 300;
    view.resize(right.clientWidth, 0.66 * tall);
    trace.resize(right.clientWidth, 0.34 * tall + 20);
    drawAll();
  });
  buildHandles();
  begin(first());
};
