/* Draws the Gibbs chain: the law with the moves along its axes, trace, running mean and autocorrelation. */
nx.build = function (stage) {
  const { data, live, say } = stage;
  const LAGS = 20,
    MOST = 20000,
    TRAIL = 14,
    DOTS = 1500;
  const SUB = ["x₁", "x₂"];
  const pace = { slow: 3, medium: 30, fast: 500 };
  const settings = { kind: data.kind, r: data.correlation, distance: data.distance, pace: "medium" };
  let law,
    spectrum,
    chain,
    random,
    flight = null,
    debt = 0,
    lastStatistics = -1;

  /* ---- the chain ---- */
  function setLaw() {
    law = settings.kind === "gaussian" ? nx.gibbs.gaussian(settings.r) : nx.gibbs.modes(settings.distance);
    spectrum = nx.gibbs.spectrum(law);
    restart();
    drawLaw();
  }

  function restart() {
    const begin = chain ? chain.start : data.start;
    random = nx.random(data.seed);
    flight = null;
    chain = {
      start: begin,
      point: [...begin],
      turn: 0,
      label: null,
      jumps: 0,
      halves: [[...begin]],
      dots: [],
      values: [],
      means: [],
      sum: 0,
    };
  }

  // One coordinate drawn from its law given the other.
  function move() {
    const i = chain.turn;
    const { value, label } = nx.gibbs.draw(law, chain.point[1 - i], random.uniform(), random.normal());
    chain.point[i] = value;
    chain.turn = 1 - i;
    chain.halves.push([...chain.point]);
    if (chain.halves.length > TRAIL + 1) chain.halves.shift();
    if (i === 1) {
      if (chain.label !== null && label !== chain.label) chain.jumps += 1;
      chain.label = label;
      chain.values.push(chain.point[0]);
      chain.sum += chain.point[0];
      chain.means.push(chain.sum / chain.values.length);
      chain.dots.push([...chain.point]);
      if (chain.dots.length > DOTS) chain.dots.shift();
    }
  }

  /* ---- the controls ---- */
  const numeral = (value) => nx.number(value, 2);
  const size = (draws) => (draws < 10 ? nx.number(draws, 1) : nx.count(draws));
  const correlation = nx.slider(stage, {
    id: "r",
    label: "correlation r",
    min: -0.99,
    max: 0.99,
    step: 0.01,
    value: settings.r,
    format: numeral,
    change: (value) => {
      settings.r = value;
      changeLaw();
    },
  });
  const distance = nx.slider(stage, {
    id: "distance",
    label: "modes at ± d, d",
    min: 0,
    max: data.farthest,
    step: 0.05,
    value: settings.distance,
    format: numeral,
    change: (value) => {
      settings.distance = value;
      changeLaw();
    },
  });
  const which = nx.choice(stage, {
    id: "law",
    label: "The law that the chain samples",
    value: settings.kind,
    choices: [
      ["gaussian", "Correlated Gaussian"],
      ["modes", "Two modes"],
    ],
    change: (value) => {
      settings.kind = value;
      showSlider();
      changeLaw();
    },
  });
  const speed = nx.menu(stage, {
    id: "pace",
    label: "Speed",
    value: settings.pace,
    choices: Object.keys(pace).map((name) => [name, name]),
    change: (value) => {
      settings.pace = value;
    },
  });
  const run = nx.button("Run", () => loop.toggle(!loop.running), { primary: true });
  const bar = nx.h("div", { class: "nx-bar" }, which, correlation.node, distance.node);
  const buttons = nx.h(
    "div",
    { class: "nx-bar" },
    nx.h(
      "div",
      { class: "nx-buttons" },
      run,
      nx.button("Step", () => press(1)),
      nx.button("Sweep", () => press(2 - chain.turn)),
      nx.button("Reset", () => {
        loop.toggle(false);
        restart();
        drawAll();
        say("The chain is back at its start.");
      }),
    ),
    speed,
  );

  function showSlider() {
    correlation.node.hidden = settings.kind !== "gaussian";
    distance.node.hidden = settings.kind === "gaussian";
  }

  let pending = null;
  function changeLaw() {
    setLaw();
    drawAll();
    clearTimeout(pending);
    pending = setTimeout(() => say("A new law, a new chain. " + theoryWords()), 600);
  }

  function press(moves) {
    loop.toggle(false);
    const route = [[...chain.point]];
    const first = chain.turn;
    if (chain.values.length >= MOST)
      return say("The chain has its " + nx.count(MOST) + " sweeps: press Reset.");
    for (let k = 0; k < moves; k += 1) {
      move();
      route.push([...chain.point]);
    }
    if (!nx.reducedMotion()) fly(route, first);
    drawAll();
    const last = 1 - chain.turn;
    say(
      (last === 1 ? "Sweep " + chain.values.length + " is complete. " : "") +
        SUB[last] +
        " was drawn given " +
        SUB[1 - last] +
        " = " +
        numeral(chain.point[1 - last]) +
        ": it is now " +
        numeral(chain.point[last]) +
        ".",
    );
  }

  // The point slides along the axis, under the curve that it was drawn from.
  function fly(route, first) {
    const started = performance.now();
    const own = (flight = { at: route[0], leg: 0, route, first });
    const frame = (now) => {
      if (flight !== own) return;
      const time = Math.max(0, (now - started) / 380);
      own.leg = Math.min(Math.floor(time), route.length - 2);
      const part = Math.min(1, (time - own.leg) * 1.25);
      const eased = part * part * (3 - 2 * part);
      own.at = route[own.leg].map((value, i) => value + (route[own.leg + 1][i] - value) * eased);
      if (time >= route.length - 1) flight = null;
      drawMoves();
      if (flight) requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }

  const loop = nx.loop(
    stage.root,
    (seconds) => {
      debt += 2 * pace[settings.pace] * seconds;
      const still = nx.reducedMotion();
      if (still && debt < pace[settings.pace]) return true;
      flight = null;
      for (; debt >= 1 && chain.values.length < MOST; debt -= 1) move();
      drawMoves();
      drawTraces();
      const now = performance.now();
      if (now - lastStatistics > (still ? 0 : 160)) drawStatistics();
      return chain.values.length < MOST;
    },
    (on) => {
      run.textContent = on ? "Pause" : "Run";
      debt = 0;
      if (on) return say("The chain runs.");
      drawAll();
      say("Paused. " + words.textContent);
    },
  );

  /* ---- the plots ---- */
  const map = nx.plot({
    x: [-4, 4],
    y: [-4, 4],
    xLabel: "x₁",
    yLabel: "x₂",
    clip: stage.name("map"),
    margin: { left: 30, top: 6, right: 6, bottom: 24 },
    attributes: { role: "group", "aria-label": "The law, the path of the chain, and its start" },
  });
  const chart = (name, x, y, extra) =>
    nx.plot({
      x,
      y,
      clip: stage.name(name),
      margin: { left: 36, top: 5, right: 6, bottom: 20 },
      attributes: { "aria-hidden": "true" },
      ...extra,
    });
  const trace = chart("trace", [0, 200], [-4, 4]);
  const running = chart("running", [0, 50], [-2, 2]);
  const bars = chart("bars", [-0.7, LAGS + 0.7], [-0.35, 1.05], {
    xTicks: [0, 5, 10, 15, 20],
    yTicks: [0, 0.5, 1],
  });
  const levels = [0.5, 2, 4.5]; // -log(density / peak) at one, two and three standard deviations

  const layer = (plot, ...kinds) =>
    kinds.map((kind) => plot.marks.appendChild(nx.s("path", { class: kind })));
  const rings = layer(map, ...levels.map(() => "nx-ring"));
  const [dots, slice, profile] = layer(map, "nx-dots", "nx-slice", "nx-profile");
  const trail = layer(map, ...Array(TRAIL).fill("nx-trail"));
  const here = map.marks.appendChild(nx.s("circle", { class: "nx-here", r: 5.5 }));
  const handle = map.marks.appendChild(
    nx.s(
      "g",
      {
        class: "nx-handle",
        tabindex: 0,
        role: "slider",
        "aria-label": "Start of the chain: arrow keys move it",
        "aria-valuemin": -4,
        "aria-valuemax": 4,
      },
      nx.s("circle", { r: 16, class: "nx-grip" }),
      nx.s("circle", { r: 6.5, class: "nx-start" }),
      nx.s("text", { x: 10, y: -8, class: "nx-note" }, "start"),
    ),
  );
  const [traceZero, traceLine] = layer(trace, "nx-zero", "nx-chainline");
  const [band, truth, meanLine] = layer(running, "nx-band", "nx-truth", "nx-chainline nx-strong");
  const [lagBars, lagZero, lagTheory, lagPoints] = layer(
    bars,
    "nx-lagbars",
    "nx-zero",
    "nx-truth",
    "nx-truthdots",
  );

  const heading = (...parts) => nx.h("p", { class: "nx-heading" }, ...parts);
  const next = nx.h("p", { class: "nx-quiet nx-next" });
  const left = nx.h("div", { class: "nx-left" }, map.node, next);
  const right = nx.h(
    "div",
    { class: "nx-right" },
    heading("Trace: ", nx.key("orange", "x₁ after each sweep")),
    trace.node,
    heading(nx.key("orange", "Running mean of x₁"), ", ", nx.key("green", "truth ± 2 exact s.e.")),
    running.node,
    heading(nx.key("blue", "Autocorrelation ρ"), " of x₁ at lag t, ", nx.key("green", "exact")),
    bars.node,
  );
  const variable = (letter) => nx.h("i", {}, letter);
  const facts = {
    n: nx.fact("Sweeps ", variable("n")),
    mean: nx.fact("Running mean of ", variable("x₁")),
    tau: nx.fact("Autocorrelation time ", variable("τ")),
    size: nx.fact("Effective sample size ", variable("n"), " / ", variable("τ")),
  };
  const words = nx.h("p", { class: "nx-words" });
  live.append(bar, buttons, nx.h("div", { class: "nx-two" }, left, right), nx.facts(facts), words);

  function drawLaw() {
    const limit = law.kind === "gaussian" ? 4 : data.limit;
    const peak =
      law.kind === "gaussian"
        ? nx.gibbs.density(law, 0, 0)
        : Math.max(nx.gibbs.density(law, law.d, law.d), nx.gibbs.density(law, 0, 0));
    const tick = law.kind === "gaussian" ? 2 : 3;
    map.xTicks = map.yTicks = [-2, -1, 0, 1, 2].map((k) => k * tick);
    trace.yTicks = [-2 * tick, 0, 2 * tick];
    map.scale([-limit, limit], [-limit, limit]);
    trace.scale(trace.x, [-limit, limit]);
    rings.forEach((ring, k) => {
      const loops =
        law.kind === "gaussian"
          ? [ellipse(Math.sqrt(2 * levels[k]))]
          : nx.contour((x, y) => nx.gibbs.density(law, x, y), peak * Math.exp(-levels[k]), limit + 1, 60);
      ring.setAttribute("d", loops.map((points) => nx.path(points.map(pixels), true)).join(""));
    });
    nx.set(handle, { "aria-valuemin": -limit, "aria-valuemax": limit });
  }
  const ellipse = (radius) =>
    Array.from({ length: 90 }, (_, k) => {
      const [c, s] = [Math.cos((k * Math.PI) / 45), Math.sin((k * Math.PI) / 45)];
      return [radius * c, radius * (law.r * c + Math.sqrt(1 - law.r * law.r) * s)];
    });
  const pixels = ([x, y]) => [map.X(x), map.Y(y)];

  function drawMoves() {
    const turn = flight ? (flight.first + flight.leg) % 2 : chain.turn;
    const given = flight ? flight.route[flight.leg] : chain.point;
    const at = flight ? flight.at : chain.point;
    drawConditional(turn, given);
    dots.setAttribute(
      "d",
      chain.dots
        .map(
          (point) =>
            "M" +
            pixels(point)
              .map((v) => v.toFixed(1))
              .join(" ") +
            "h0",
        )
        .join(""),
    );
    const hidden = flight ? flight.route.length - 1 - flight.leg : 1;
    const shown = chain.halves.slice(0, chain.halves.length - hidden).concat([at]);
    trail.forEach((segment, k) => {
      const from = shown[shown.length - 2 - k];
      nx.set(segment, {
        d: from ? nx.path([from, shown[shown.length - 1 - k]].map(pixels)) : "",
        "stroke-opacity": (1 - k / TRAIL).toFixed(2),
      });
    });
    const [cx, cy] = pixels(at);
    nx.set(here, { cx, cy });
    const [sx, sy] = pixels(chain.start);
    nx.set(handle, {
      transform: "translate(" + sx.toFixed(1) + " " + sy.toFixed(1) + ")",
      "aria-valuenow": chain.start[0].toFixed(2),
      "aria-valuetext": "x1 = " + numeral(chain.start[0]) + ", x2 = " + numeral(chain.start[1]),
    });
  }

  // The law of the coordinate whose turn it is, as a curve standing on the line that the point moves on.
  function drawConditional(turn, given) {
    const other = given[1 - turn],
      limit = map.x[1];
    const grid = Array.from({ length: 161 }, (_, k) => -limit + (2 * limit * k) / 160);
    if (law.kind === "gaussian") {
      const { mean, sd } = nx.gibbs.conditional(law, other)[0];
      grid.forEach((_, k) => {
        grid[k] = mean + (sd * (k - 80)) / 20;
      });
    }
    const heights = grid.map((x) => nx.gibbs.conditionalDensity(law, other, x));
    const peak = Math.max(...heights),
      unit = (0.13 * map.inner[0]) / peak;
    const hills = [[]];
    grid.forEach((x, k) => {
      if (heights[k] < 0.004 * peak) return hills.push([]);
      hills[hills.length - 1].push(
        turn === 0
          ? [map.X(x), map.Y(other) - unit * heights[k]]
          : [map.X(other) + unit * heights[k], map.Y(x)],
      );
    });
    profile.setAttribute("d", hills.map((hill) => nx.path(hill)).join(""));
    const ends =
      turn === 0
        ? [
            [-limit, other],
            [limit, other],
          ]
        : [
            [other, -limit],
            [other, limit],
          ];
    slice.setAttribute("d", nx.path(ends.map(pixels)));
  }

  function drawTraces() {
    const n = chain.values.length;
    trace.scale([Math.max(0, n - 200), Math.max(200, n)], trace.y);
    const from = Math.max(0, n - 200);
    traceLine.setAttribute(
      "d",
      nx.path(chain.values.slice(from).map((value, k) => [trace.X(from + k + 1), trace.Y(value)])),
    );
    traceZero.setAttribute(
      "d",
      nx.path([
        [trace.X(trace.x[0]), trace.Y(0)],
        [trace.X(trace.x[1]), trace.Y(0)],
      ]),
    );
    const longest = Math.max(50, n),
      tall = 1.6 * law.sd;
    running.yTicks = [-1, 0, 1].map((k) => k * Math.floor(tall));
    running.scale([0, longest], [-tall, tall]);
    const sizes = [
      ...new Set(Array.from({ length: 121 }, (_, k) => Math.max(1, Math.round(longest * (k / 120) ** 2)))),
    ];
    const error = (size) => 2 * law.sd * Math.sqrt(nx.statistics.theory.meanFactor(spectrum, size) / size);
    const edge = (sign) => sizes.map((size) => [running.X(size), running.Y(sign * error(size))]);
    band.setAttribute("d", nx.path(edge(1).concat(edge(-1).reverse()), true));
    truth.setAttribute(
      "d",
      nx.path([
        [running.X(0), running.Y(0)],
        [running.X(longest), running.Y(0)],
      ]),
    );
    meanLine.setAttribute(
      "d",
      nx.path(
        sizes.filter((size) => size <= n).map((size) => [running.X(size), running.Y(chain.means[size - 1])]),
      ),
    );
  }

  function drawStatistics() {
    lastStatistics = performance.now();
    const n = chain.values.length,
      { statistics } = nx;
    const exact = statistics.theory.time(spectrum);
    const rho = n < 10 ? [] : [...statistics.autocorrelation(chain.values, LAGS)];
    const tau = n < 10 ? NaN : statistics.integratedTime(chain.values);
    const flat = bars.Y(0),
      half = Math.max(1.5, 0.28 * (bars.X(1) - bars.X(0)));
    lagBars.setAttribute(
      "d",
      rho
        .map((value, t) =>
          nx.path(
            [
              [bars.X(t) - half, flat],
              [bars.X(t) - half, bars.Y(value)],
              [bars.X(t) + half, bars.Y(value)],
              [bars.X(t) + half, flat],
            ],
            true,
          ),
        )
        .join(""),
    );
    lagZero.setAttribute(
      "d",
      nx.path([
        [bars.X(bars.x[0]), flat],
        [bars.X(bars.x[1]), flat],
      ]),
    );
    const line = Array.from({ length: LAGS + 1 }, (_, t) => [
      bars.X(t),
      bars.Y(statistics.theory.autocorrelation(spectrum, t)),
    ]);
    lagTheory.setAttribute("d", nx.path(line));
    lagPoints.setAttribute(
      "d",
      line.map(([x, y]) => "M" + x.toFixed(1) + " " + y.toFixed(1) + "h0").join(""),
    );
    facts.n.show(
      nx.count(n),
      law.kind === "modes"
        ? "jumps between the modes: " + nx.count(chain.jumps)
        : chain.turn === 1
          ? "and a half"
          : "two moves each",
    );
    facts.mean.show(n ? numeral(chain.means[n - 1]) : "—", "truth: 0");
    facts.tau.show(n < 10 ? "—" : nx.number(tau, 1), "exact: " + nx.number(exact, exact < 100 ? 1 : 0));
    facts.size.show(
      n < 10 ? "—" : size(n / tau),
      n < 10 ? "independent draws" : "by the exact τ: " + size(n / exact),
    );
    words.textContent = sentence(n, tau, exact);
    const other = chain.point[1 - chain.turn],
      parts = nx.gibbs.conditional(law, other);
    next.textContent =
      "Next: " +
      SUB[chain.turn] +
      " given " +
      SUB[1 - chain.turn] +
      " = " +
      numeral(other) +
      ", " +
      (parts.length === 1
        ? "a normal with mean " + numeral(parts[0].mean) + " and sd " + numeral(parts[0].sd) + "."
        : "from the mode at +d with probability " + nx.number(parts[0].weight, 3) + ".");
  }

  function sentence(n, tau, exact) {
    if (n === 0)
      return (
        "Press Step: one coordinate is drawn from its law given the other, the curve on the dashed line, " +
        "and the point moves along that axis. " +
        theoryWords()
      );
    if (n < 10) return "After ten sweeps the chain can be asked how much it remembers. " + theoryWords();
    const formula = "n / τ = " + nx.count(n) + " / " + nx.number(tau, 1);
    if (exact > 2 * tau && law.kind === "modes") {
      return (
        "By its own autocorrelation the chain is worth " +
        formula +
        " ≈ " +
        size(n / tau) +
        " independent draws, by the exact one " +
        size(n / exact) +
        "." +
        (chain.jumps
          ? ""
          : " It has met one mode only, and its mean is off by " +
            numeral(Math.abs(chain.means[n - 1])) +
            ".")
      );
    }
    return (
      "About the mean of x₁ these " +
      nx.plural(n, "sweep") +
      " say as much as " +
      formula +
      " ≈ " +
      size(n / tau) +
      " independent draws would."
    );
  }

  function theoryWords() {
    if (law.kind === "gaussian") {
      return (
        "With r = " +
        numeral(law.r) +
        ", one independent draw is worth (1 + r²) / (1 − r²) = " +
        nx.number(nx.statistics.theory.time(spectrum), 1) +
        " sweeps."
      );
    }
    const time = nx.gibbs.crossingTime(law);
    return (
      "With d = " +
      numeral(law.d) +
      ", the chain crosses from one mode to the other once in " +
      (time < 10 ? nx.number(time, 1) : nx.count(time)) +
      " sweeps on average."
    );
  }

  function drawAll() {
    drawMoves();
    drawTraces();
    drawStatistics();
  }

  /* ---- the start, by pointer and by key ---- */
  function setStart(point) {
    loop.toggle(false);
    chain.start = point.map((value) => Math.max(-map.x[1] + 0.1, Math.min(map.x[1] - 0.1, value)));
    restart();
    drawAll();
  }
  handle.addEventListener("pointerdown", (event) => {
    handle.setPointerCapture(event.pointerId);
    event.preventDefault();
    handle.focus();
  });
  handle.addEventListener("pointermove", (event) => {
    if (handle.hasPointerCapture(event.pointerId)) setStart(map.at(event));
  });
  handle.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [-0.25, 0], ArrowRight: [0.25, 0], ArrowDown: [0, -0.25], ArrowUp: [0, 0.25] }[
      event.key
    ];
    if (!steps) return;
    event.preventDefault();
    setStart(chain.start.map((value, i) => value + steps[i]));
  });

  stage.onResize(() => {
    const wide = left.getBoundingClientRect().top === right.getBoundingClientRect().top;
    const side = Math.min(left.clientWidth, 460);
    map.resize(side, side);
    const heading = 21,
      tall = wide ? Math.max(84, (side + 26) / 3 - heading) : 112;
    for (const plot of [trace, running, bars]) plot.resize(right.clientWidth, tall);
    drawLaw();
    drawAll();
  });
  showSlider();
  setLaw();
};
