/* Two players in their plane: from a start that the reader chooses, the paths of four ways to step and of a running
   mean, and beside it the distance from the equilibrium against the step, with what is known of it. */
nx.build = function (stage) {
  const { data, live, say } = stage;
  const { portrait, parts } = nx;
  const VIEW = [-3, 3],
    KEY = 0.1, // of a press of an arrow key
    PACE = 14, // steps a second
    COUNT = data.steps,
    FINE = 8; // points of the flow's curve for each step
  const NAMES = {
    simultaneous: "Simultaneous",
    alternating: "Alternating",
    extragradient: "Extragradient",
    flow: "Flow",
    average: "Running mean",
  };
  const ROWS = Object.keys(NAMES);
  const SHAPES = { simultaneous: "o", alternating: "s", extragradient: "t", flow: "-", average: "d" };
  const clamp = (value, [low, high]) => Math.min(high, Math.max(low, value));
  const digits = (value, n) => nx.number(value, n);
  const HIGH = "⁰¹²³⁴⁵⁶⁷⁸⁹";
  const power = (k) => "10" + (k < 0 ? "⁻" : "") + [...String(Math.abs(k))].map((one) => HIGH[one]).join("");
  function short(value) {
    if (value === 0 || (value < 1e5 && value >= 1e-3)) return digits(value, value >= 100 ? 0 : 3);
    const [front, k] = value.toExponential(1).split("e");
    return front + "\u00a0·\u00a0" + power(Number(k));
  }
  parts.follow(stage, data.palette, () => {});

  const game = { kind: data.start.kind, gamma: data.start.gamma };
  const shown = Object.fromEntries(ROWS.map((name) => [name, true]));
  let { at: start, eta, beta } = data.start,
    of = "alternating", // what the running mean averages
    t = COUNT,
    all = {}, // the paths, a list of points each
    curve; // the flow's

  /* ---- what follows from the settings ---- */
  function compute() {
    for (const name of portrait.METHODS) all[name] = portrait.path(game, name, start, eta, COUNT);
    all.average = portrait.average(all[of], beta);
    curve = portrait.curve(game, start, eta, COUNT, FINE);
  }
  const linear = () => game.kind === "bilinear";
  const factor = (name) => portrait.factor(game, name, eta);
  const distances = (name) => all[name].map(portrait.radius);

  function change(words = true) {
    compute();
    draw();
    if (words) say(spoken());
  }

  /* ---- the sentences ---- */
  const nobody = () => eta === 0 || portrait.radius(start) === 0;
  const still = () =>
    eta === 0 ? "Nobody moves: the steps have no size." : "Nobody moves: this is the equilibrium.";
  const near = (value, other) => Math.abs(value - other) < 1e-9;
  const LAWS = {
    simultaneous: "√(1\u00a0+\u00a0η²)",
    extragradient: "√(1\u00a0−\u00a0η²\u00a0+\u00a0η⁴)",
  };
  function exactly(name) {
    const each = factor(name);
    if (name === "flow")
      return (
        "circles: the distance stays at " +
        digits(portrait.radius(start), 3) +
        ". A turn takes 2π, which is " +
        digits((2 * Math.PI) / eta, 1) +
        " steps of η."
      );
    if (name === "alternating") {
      const [least, most] = portrait.swing(portrait.invariant(start, eta), eta);
      return (
        "closed: the invariant θ² + φ² − ηθφ stays at " +
        digits(portrait.invariant(start, eta), 3) +
        ", and the distance between " +
        digits(least, 3) +
        " and " +
        digits(most, 3) +
        "."
      );
    }
    if (near(each, 1)) return "circles: at η = 1 each step multiplies the distance by 1.";
    return (
      (each > 1 ? "spirals out" : "converges") +
      ": each step multiplies the distance by " +
      LAWS[name] +
      " = " +
      digits(each, 4) +
      "."
    );
  }
  function nearly(name) {
    const each = factor(name);
    const own = distances(name);
    const [first, last] = [own[0], own[own.length - 1]];
    if (own.length <= COUNT) return "runs away after " + nx.plural(own.length - 1, "step") + ".";
    const after = " After " + COUNT + " steps it is at " + short(last) + ".";
    if (near(each, 1)) {
      if (name === "flow" && game.kind === "saturating")
        return "circles: θ² + φ² stays at " + digits(first * first, 3) + ".";
      const [low, high] = [Math.min(...own), Math.max(...own)];
      const most = (part) => Math.max(...part);
      const quarter = Math.ceil(own.length / 4);
      return most(own.slice(-quarter)) < 0.9 * most(own.slice(0, quarter))
        ? "creeps in: near (0, 0) a step multiplies the distance by 1." + after
        : "neither settles nor runs away: the distance stays between " +
            digits(low, 3) +
            " and " +
            digits(high, 3) +
            ".";
    }
    const rate = "near (0, 0) each step multiplies the distance by about " + digits(each, 4);
    if (each < 1) return (last < first ? "converges: " : "comes in late: ") + rate + ".";
    return (last > first ? "spirals out: " : "does not settle: ") + rate + "." + after;
  }
  // Does what the mean still holds of its start outlive the path?
  const lags = () => factor(of) <= beta;
  function averages() {
    const by = portrait.averaged(game, of, eta, beta);
    const words = "lies at about " + digits(by, 3) + " of the path's distance";
    const { im } = portrait.multiplier(game, of, eta);
    const goes = factor(of);
    if (lags())
      return (
        "comes behind: the mean forgets its start by β = " +
        digits(beta, 2) +
        " a step, more slowly than the path comes in."
      );
    if (Math.abs(im) < 1e-12) return "follows: this path does not turn, and its mean comes behind.";
    const fate = near(goes, 1)
      ? ": it circles near the equilibrium"
      : goes > 1
        ? ": it runs out with the path"
        : ": it comes in with the path";
    return words + (linear() ? fate + "." : " near (0, 0)" + fate + ".");
  }
  const sentence = (name) =>
    nobody() ? still() : name === "average" ? averages() : linear() ? exactly(name) : nearly(name);
  const setting = () =>
    "η = " +
    digits(eta, 2) +
    (linear() ? "" : ", γ = " + digits(game.gamma, 2)) +
    ", from (" +
    start.map((value) => digits(value, 1)).join(", ") +
    "). ";
  const spoken = () =>
    setting() +
    ROWS.filter((name) => shown[name])
      .map((name) => nameOf(name) + " " + sentence(name))
      .join(" ");
  const nameOf = (name) => (name === "average" ? "Running mean of " + of + ":" : NAMES[name] + ":");

  /* ---- controls ---- */
  const games = nx.menu(stage, {
    id: "game",
    label: "Game",
    value: game.kind,
    choices: [
      ["bilinear", "bilinear, V = θφ"],
      ["saturating", "Dirac-GAN, saturating"],
      ["nonSaturating", "Dirac-GAN, non-saturating"],
    ],
    change: (kind) => {
      game.kind = kind;
      change();
    },
  });
  const loop = nx.loop(
    stage.root,
    (seconds) => {
      passed += seconds * PACE;
      t = Math.min(COUNT, Math.floor(passed));
      drawPaths();
      return t < COUNT;
    },
    (on) => {
      play.textContent = on ? "Pause" : "Play";
      if (!on) say((t < COUNT ? "Paused. " : "") + "Step " + t + ". " + spoken());
    },
  );
  let passed = 0;
  const play = nx.button(
    "Play",
    () => {
      if (loop.running) return loop.toggle(false);
      passed = t < COUNT ? t : 0;
      if (!nx.reducedMotion()) return loop.toggle(true);
      goTo(COUNT);
    },
    { primary: true },
  );
  function goTo(step) {
    loop.toggle(false);
    t = step;
    drawPaths();
    say("Step " + t + ". " + ROWS.filter((name) => shown[name]).map(where).join(" "));
  }
  const where = (name) =>
    nameOf(name) + " distance " + short(portrait.radius(all[name][Math.min(t, all[name].length - 1)])) + ".";
  const one = nx.button("Step", () => goTo(t < COUNT ? t + 1 : 1));
  const reset = nx.button("Reset", () => goTo(0));

  const slider = (id, label, most, value, set) =>
    nx.slider(stage, {
      id,
      label,
      min: 0,
      max: most,
      step: 0.01,
      value,
      format: (number) => digits(number, 2),
      change: (number) => {
        set(number);
        change(false);
      },
    });
  const etaSlider = slider("eta", "Step size η", data.most.eta, eta, (value) => {
    eta = value;
  });
  const gammaSlider = slider("gamma", "R1 weight γ", data.most.gamma, game.gamma, (value) => {
    game.gamma = value;
  });
  const betaSlider = slider("beta", "Decay β", 0.99, beta, (value) => {
    beta = value;
  });
  for (const { input } of [etaSlider, gammaSlider, betaSlider])
    input.addEventListener("change", () => say(spoken()));
  // Marks under the track where something changes; they stand where the thumb would.
  const mark = () => nx.h("span", { class: "nx-portrait-mark", "aria-hidden": "true" });
  const marks = { quarter: mark(), one: mark() };
  const track = nx.h("span", { class: "nx-portrait-track" }, marks.quarter, marks.one);
  gammaSlider.input.replaceWith(track);
  track.prepend(gammaSlider.input);
  function drawMarks() {
    for (const [node, at, words] of [
      [marks.quarter, eta / 4, "η/4"],
      [marks.one, 1, "1"],
    ]) {
      node.style.setProperty("--nx-at", at / data.most.gamma);
      node.textContent = words;
    }
    gammaSlider.node.hidden = linear();
  }

  /* ---- the plane ---- */
  const plane = nx.plot({
    x: VIEW,
    y: VIEW,
    xLabel: "θ",
    yLabel: "φ",
    clip: stage.name("plane"),
    xTicks: [-2, 0, 2],
    yTicks: [-2, 0, 2],
    margin: { left: 30, right: 8, top: 8, bottom: 26 },
    attributes: {
      tabindex: 0,
      role: "application",
      class: "nx-plot nx-portrait-plane",
      "aria-label": "The plane of both players: a click chooses where they start, and arrow keys move it",
    },
  });
  const add = (plot, tag, name) => plot.marks.appendChild(nx.s(tag, { class: name }));
  const arrows = add(plane, "path", "nx-portrait-arrows");
  const zero = add(plane, "path", "nx-portrait-zero");
  const orbit = add(plane, "path", "nx-portrait-orbit");
  const chart = nx.plot({
    x: [0, COUNT],
    y: [-1, 1],
    xLabel: "step t",
    yTicks: [],
    clip: stage.name("chart"),
    margin: { left: 46, right: 12, top: 8, bottom: 26 },
    attributes: { role: "img", class: "nx-plot nx-portrait-chart" },
  });
  const scale = chart.node.insertBefore(nx.s("g", { "aria-hidden": "true" }), chart.marks);
  const band = add(chart, "path", "nx-portrait-band");
  const trail = add(chart, "path", "nx-portrait-line nx-portrait-average");
  const dots = {};
  for (const name of ROWS) {
    const kind = " nx-portrait-" + name;
    dots[name] = {
      law: add(chart, "path", "nx-portrait-law" + kind),
      line: add(plane, "path", "nx-portrait-line" + kind),
      plane: add(plane, "path", "nx-portrait-dots" + kind),
      chart: add(chart, "path", "nx-portrait-dots" + kind),
      head: add(plane, "path", "nx-portrait-dots nx-portrait-head" + kind),
    };
  }
  const origin = add(plane, "circle", "nx-portrait-start");
  origin.setAttribute("r", 5.5);

  // Marks of one kind in one path: a circle, square, triangle or diamond around each point in pixels.
  const turn = (r, way) => "a" + r + " " + r + " 0 1 0 " + way * 2 * r + " 0";
  const SHAPE = {
    o: (r) => "m-" + r + " 0" + turn(r, 1) + turn(r, -1) + "z",
    s: (r) => "m-" + r + " -" + r + "h" + 2 * r + "v" + 2 * r + "h-" + 2 * r + "z",
    t: (r) => "m0 -" + 1.3 * r + "l" + 1.3 * r + " " + 2.2 * r + "h-" + 2.6 * r + "z",
    d: (r) => ["m0 -", "l", "l-", "l-"].map((way, n) => way + corner(n, 1.4 * r)).join("") + "z",
    "-": () => "",
  };
  const corner = (n, r) => [r, r + " " + r, r + " " + r, r + " -" + r][n];
  const inPixels = (plot, points) => points.map(([x, y]) => [plot.X(x), plot.Y(y)]);
  // Where nothing is to be seen, nothing is drawn: far points would make the path long and slow.
  const inside = (plot, points) =>
    points.filter(([x, y]) => x > -9 && y > -9 && x < plot.width + 9 && y < plot.height + 9);
  const stamped = (plot, points, shape, r) =>
    inside(plot, inPixels(plot, points))
      .map(([x, y]) => "M" + x.toFixed(1) + " " + y.toFixed(1) + SHAPE[shape](r))
      .join("");

  function drawField() {
    const n = plane.inner[0] < 330 ? 11 : 15;
    const gap = (VIEW[1] - VIEW[0]) / n;
    let path = "";
    for (let i = 0; i < n; i += 1)
      for (let k = 0; k < n; k += 1) {
        if (i + k === n - 1 && i * k === 0) continue; // the corners that hold the names of the axes
        const at = [VIEW[0] + gap * (i + 0.5), VIEW[0] + gap * (k + 0.5)];
        const way = portrait.field(game, at);
        const strength = Math.hypot(...way);
        if (strength < 1e-12) continue;
        // The root of the speed: slow places keep an arrow that can be seen.
        const long = 0.46 * (plane.inner[0] / n) * Math.min(1, Math.sqrt(strength / 3.2)) + 2.5;
        const [dx, dy] = [(long * way[0]) / strength, (-long * way[1]) / strength];
        const [x, y] = [plane.X(at[0]), plane.Y(at[1])];
        const tip = [x + dx, y + dy];
        const barb = (turn) => [
          tip[0] - 0.55 * (dx * Math.cos(turn) - dy * Math.sin(turn)),
          tip[1] - 0.55 * (dx * Math.sin(turn) + dy * Math.cos(turn)),
        ];
        path += nx.path([[x - dx, y - dy], tip]) + nx.path([barb(0.45), tip, barb(-0.45)]);
      }
    arrows.setAttribute("d", path);
    const [x, y] = [plane.X(0), plane.Y(0)];
    zero.setAttribute("d", "M" + (x - 6) + " " + y + "h12M" + x + " " + (y - 6) + "v12");
  }

  // The curve that the points of alternating steps in θφ lie on.
  function drawOrbit() {
    const on = linear() && shown.alternating && !nobody();
    const kept = portrait.invariant(start, eta);
    orbit.setAttribute("d", on ? nx.path(inPixels(plane, portrait.ellipse(kept, eta, 120)), true) : "");
  }

  /* ---- distance against step ---- */
  const log = (value) => Math.log10(Math.max(value, 1e-300));
  function drawScale() {
    const seen = ROWS.filter((name) => shown[name]).flatMap((name) => distances(name).map(log));
    const own = log(portrait.radius(start));
    const around = [...seen, own].map((value) => clamp(value, [-6, 6]));
    const low = Math.floor(2 * Math.min(...around) - 0.1) / 2,
      high = Math.ceil(2 * Math.max(...around) + 0.1) / 2;
    chart.scale([0, COUNT], [low, high]);
    const left = chart.margin.left;
    const steps = high - low < 2.2 ? [1, 2, 5] : [1];
    const ticks = [];
    const every = high - low > 7 ? 2 : 1;
    for (let k = Math.floor(low); k <= high; k += 1)
      for (const digit of steps)
        if (k % every === 0 && log(digit) + k >= low - 1e-9 && log(digit) + k <= high + 1e-9)
          ticks.push([log(digit) + k, digit, k]);
    scale.replaceChildren(
      ...ticks.flatMap(([value, digit, k]) => [
        nx.s("path", { class: "nx-tick", d: "M" + (left - 4) + " " + chart.Y(value).toFixed(1) + "h4" }),
        nx.s(
          "text",
          { x: left - 7, y: (chart.Y(value) + 4).toFixed(1), "text-anchor": "end" },
          tenTo(digit, k),
        ),
      ]),
    );
  }
  const tenTo = (digit, k) =>
    Math.abs(k) < 3 ? digits(digit * 10 ** k, Math.max(0, -k)) : power(k);

  const flat = (f) => nx.path([0, COUNT].map((step) => [chart.X(step), chart.Y(f(step))]));
  function drawLaws() {
    const own = log(portrait.radius(start));
    const idle = nobody();
    for (const name of ROWS) {
      const { law } = dots[name];
      law.classList.toggle("nx-portrait-about", !linear() || name === "average");
      law.setAttribute("d", shown[name] && !idle ? lawOf(name, own) : "");
    }
    const on = linear() && shown.alternating && !idle;
    const [least, most] = portrait.swing(portrait.invariant(start, eta), eta).map(log);
    const [left, right] = [chart.X(0), chart.X(COUNT)];
    const corners = [
      [left, chart.Y(most)],
      [right, chart.Y(most)],
      [right, chart.Y(least)],
      [left, chart.Y(least)],
    ];
    band.setAttribute("d", on ? nx.path(corners, true) : "");
  }
  function lawOf(name, own) {
    if (name === "average") {
      if (!linear() || lags()) return "";
      if (of === "alternating") own = log(portrait.invariant(start, eta)) / 2;
      const by = log(portrait.averaged(game, of, eta, beta) || 1e-300);
      return flat((step) => own + by + step * log(factor(of)));
    }
    const each = log(factor(name));
    if (linear()) return name === "alternating" ? "" : flat((step) => own + step * each);
    if (name === "flow" && game.kind === "saturating" && game.gamma === 0) return flat(() => own);
    // Near (0, 0): a line of the known slope through the last point that is near.
    const rs = distances(name);
    const last = rs.length - 1;
    const anchor = rs.findLastIndex((r) => r < 0.7 && r > 1e-12);
    if (anchor < 0 || anchor < last / 3) return "";
    return flat((step) => log(rs[anchor]) + (step - anchor) * each);
  }

  function drawPaths() {
    const every = Math.max(1, Math.ceil((7 * COUNT) / chart.inner[0])); // dots that do not touch
    for (const name of ROWS) {
      const on = shown[name];
      const points = on ? all[name].slice(0, t + 1) : [];
      const { line, plane: many, chart: beside, head } = dots[name];
      const way = name === "flow" ? (on ? curve.slice(0, FINE * t + 1) : []) : points;
      line.setAttribute("d", nx.path(inPixels(plane, way)));
      const shape = SHAPES[name];
      many.setAttribute("d", stamped(plane, points, shape, name === "average" ? 1.5 : 1.9));
      head.setAttribute("d", on ? stamped(plane, points.slice(-1), shape === "-" ? "o" : shape, 4.4) : "");
      const beyond = points.map((at, step) => [step, log(portrait.radius(at))]);
      const some = beyond.filter(([step]) => step % every === 0 || step === t);
      beside.setAttribute(
        "d",
        name === "flow" ? nx.path(inPixels(chart, beyond)) : stamped(chart, some, shape, 2),
      );
      beside.classList.toggle("nx-portrait-drawn", name === "flow");
      if (name === "average") trail.setAttribute("d", nx.path(inPixels(chart, beyond)));
      const last = all[name][Math.min(t, all[name].length - 1)];
      rows[name].number.textContent = t < all[name].length ? short(portrait.radius(last)) : "far away";
    }
    nx.set(origin, { cx: plane.X(start[0]).toFixed(1), cy: plane.Y(start[1]).toFixed(1) });
    stepNote.textContent = "distance at step " + t;
    chart.node.setAttribute(
      "aria-label",
      "Distance from (0, 0) against the step, on a logarithmic scale. At step " +
        t +
        ": " +
        ROWS.filter((name) => shown[name]).map(where).join(" "),
    );
  }

  /* ---- one row a path: its switch, its name, what happens, its distance ---- */
  const sample = (name) => {
    const shape = SHAPES[name];
    const d = "M13 8" + SHAPE[shape](3.4);
    return nx.s(
      "svg",
      { width: 26, height: 16, class: "nx-portrait-sample", "aria-hidden": "true" },
      nx.s("path", { class: "nx-portrait-line nx-portrait-" + name, d: "M1 8h24" }),
      nx.s("path", { class: "nx-portrait-dots nx-portrait-" + name, d }),
    );
  };
  const rows = Object.fromEntries(
    ROWS.map((name) => {
      const box = nx.h("input", {
        type: "checkbox",
        id: stage.name("show-" + name),
        onchange: () => {
          shown[name] = box.checked;
          draw();
          say(box.checked ? nameOf(name) + " " + sentence(name) : NAMES[name] + " hidden.");
        },
      });
      box.checked = true;
      const words = nx.h("span", { class: "nx-portrait-words" }),
        number = nx.h("span", { class: "nx-portrait-number" });
      const label = nx.h("label", { for: box.id }, sample(name), NAMES[name]);
      const node = nx.h(
        "div",
        { class: "nx-portrait-row", "data-path": name },
        nx.h("span", { class: "nx-portrait-name" }, box, label),
        words,
        number,
      );
      return [name, { node, words, number }];
    }),
  );
  const stepNote = nx.h("span", { class: "nx-portrait-number" });
  const averaging = nx.h(
    "div",
    { class: "nx-bar nx-portrait-mean" },
    nx.menu(stage, {
      id: "of",
      label: "Running mean of",
      value: of,
      choices: portrait.METHODS.map((name) => [name, NAMES[name].toLowerCase()]),
      change: (name) => {
        of = name;
        change();
      },
    }),
    betaSlider.node,
  );
  function drawRows() {
    for (const name of ROWS) {
      rows[name].words.textContent = sentence(name);
      rows[name].node.classList.toggle("nx-portrait-off", !shown[name]);
    }
  }

  /* ---- the reader's start ---- */
  function begin(at, words) {
    start = at.map((value) => Math.round(20 * clamp(value, VIEW)) / 20);
    change(words);
  }
  let held = false;
  plane.node.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    held = true;
    if (event.pointerType === "mouse") plane.node.setPointerCapture(event.pointerId);
    begin(plane.at(event), false);
  });
  plane.node.addEventListener("pointermove", (event) => {
    if (held) begin(plane.at(event), false);
  });
  for (const ends of ["pointerup", "pointercancel"])
    plane.node.addEventListener(ends, () => {
      if (held) say(spoken());
      held = false;
    });
  plane.node.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (!by) return;
    event.preventDefault();
    const far = (event.shiftKey ? 5 : 1) * KEY;
    begin([start[0] + far * by[0], start[1] + far * by[1]], true);
  });

  /* ---- all of it ---- */
  const keys = parts.heading();
  function drawKeys() {
    keys.textContent = linear()
      ? "Lines: the exact laws, under the dots. Band and thin ellipse: where alternating steps have to stay. " +
        "Dashed: where the running mean goes."
      : "Dashed lines: what a step does near (0, 0), the modulus of an eigenvalue. Below γ = 1 simultaneous " +
        "steps need γ\u00a0>\u00a0η/4\u00a0=\u00a0" +
        digits(eta / 4, 3) +
        "; the flow comes in fastest at γ = 1.";
  }
  const planeRoom = nx.h("div", {}, plane.node),
    chartRoom = nx.h("div", {}, chart.node);
  live.append(
    nx.h("div", { class: "nx-bar" }, games, parts.group("Steps", play, one, reset)),
    nx.h("div", { class: "nx-bar nx-portrait-sliders" }, etaSlider.node, gammaSlider.node),
    nx.h(
      "div",
      { class: "nx-portrait-plots" },
      nx.h("div", {}, parts.heading("Both players: click to choose their start"), planeRoom),
      nx.h("div", {}, parts.heading("Distance from (0, 0) against step, log scale"), chartRoom),
    ),
    keys,
    nx.h(
      "div",
      { class: "nx-portrait-rows", role: "group", "aria-label": "The paths, and what happens to each" },
      nx.h("div", { class: "nx-portrait-row nx-portrait-head-row" }, stepNote),
      ...ROWS.map((name) => rows[name].node),
    ),
    averaging,
  );

  function draw() {
    if (planeRoom.clientWidth === 0) return; // on its way to paper
    drawMarks();
    drawField();
    drawOrbit();
    drawScale();
    drawLaws();
    drawRows();
    drawPaths();
    drawKeys();
  }
  compute();
  stage.onResize(() => {
    if (planeRoom.clientWidth === 0) return;
    const wide = Math.min(planeRoom.clientWidth, 420);
    const tall = wide - plane.margin.left - plane.margin.right + plane.margin.top + plane.margin.bottom;
    plane.resize(wide, tall);
    const beside = chartRoom.offsetTop === planeRoom.offsetTop;
    chart.resize(chartRoom.clientWidth, beside ? tall : 250);
    draw();
  });
};
