/* A GAN that learns in the page: the two players' rates and loss are the reader's, and so is the law to be learnt. */
nx.build = function (stage) {
  const { data, live, say } = stage;
  const { ganLive: maths, parts } = nx;
  const LIMIT = 3, // the picture shows -3 … 3
    GRID = 41, // points of the field along a side
    SHOWN = 240, // samples in the picture
    JUDGED = 1000, // samples of a count of modes
    ARROWS = 40,
    APART = 0.22, // between two samples with an arrow
    EVERY = 50, // steps from one count to the next
    FRAME = 12, // milliseconds of work in a frame
    LONGEST = 240; // points of a curve; then every second one goes
  const settings = { ...data.presets.remedy, law: data.law, view: "now", arrows: "on" };
  const palette = parts.follow(stage, data.palette, () => {
    field = null;
    drawAll();
  });
  const noise = nx.random(data.seed + 1000);
  const z = new Float64Array(JUDGED * maths.PLAN.latent);
  maths.normals(noise, z);
  let seed = data.seed,
    drawn = [], // the reader's points
    cursor = null,
    gan,
    truth, // samples of the law, and how many of them are good
    curve,
    fresh, // of the samples now in the picture
    field = null,
    frames = 0,
    told = 0; // pieces of the law that were found when it was last said

  /* ---- state ---- */
  const lawNow = () => (settings.law === "drawn" ? maths.drawnLaw(drawn) : maths.laws[settings.law]());
  const empty = () => settings.law === "drawn" && drawn.length === 0;
  const moded = () => settings.law === "ring" || settings.law === "grid";
  const pieces = () => (moded() ? "modes" : "parts");
  const percent = (share, digits = 1) => nx.number(100 * share, digits) + " %";

  function takeLaw() {
    const x = new Float64Array(2 * 2000);
    const law = empty() ? maths.law([[0, 0]], 0.1) : lawNow();
    law.sample(nx.random(data.seed + 2000), x);
    truth = { law, x, good: maths.judge(law, x).good };
    if (gan) gan.law = law;
  }
  function startOver() {
    takeLaw();
    gan = maths.begin(truth.law, settings, seed);
    curve = { every: 10, sum: [0, 0, 0], points: [], counts: [] };
    told = 0;
    look();
  }
  function look() {
    const x = maths.samples(settings.view === "average" ? gan.averaged : gan.generator, z);
    const other = maths.samples(settings.view === "average" ? gan.generator : gan.averaged, z);
    fresh = { x, ...maths.judge(truth.law, x), other: maths.judge(truth.law, other) };
    fresh.at = gan.steps;
    field = null;
  }
  function note() {
    const { sum, points, counts } = curve;
    sum[0] += 1;
    sum[1] += gan.seen.discriminator;
    sum[2] += gan.seen.generator;
    if (sum[0] === curve.every) {
      points.push([gan.steps, sum[1] / sum[0], sum[2] / sum[0]]);
      curve.sum = [0, 0, 0];
      if (points.length === LONGEST) {
        curve.points = points.filter((_, n) => n % 2);
        curve.every *= 2;
      }
    }
    if (gan.steps % EVERY) return;
    look();
    const own = settings.view === "average" ? fresh.other : fresh;
    counts.push([gan.steps, own.found / truth.law.count, own.good]);
    if (counts.length === LONGEST) curve.counts = counts.filter((_, n) => n % 2);
  }
  function train(steps) {
    for (let n = 0; n < steps; n += 1) {
      maths.step(gan);
      note();
    }
  }

  /* ---- what the page says ---- */
  const capital = (text) => text[0].toUpperCase() + text.slice(1);
  // Root mean square distance from the mean.
  function spread(x) {
    const sums = [0, 0, 0],
      rows = x.length / 2;
    x.forEach((value, at) => {
      sums[at % 2] += value / rows;
      sums[2] += value ** 2 / rows;
    });
    return Math.sqrt(Math.max(0, sums[2] - sums[0] ** 2 - sums[1] ** 2));
  }
  function report() {
    const { count } = truth.law,
      { found, good, counts } = fresh;
    if (empty()) return "Draw a law: press on the picture, or move with the arrow keys and press Enter.";
    if (gan.steps === 0)
      return (
        "Nothing is learnt yet: the generator’s samples lie in a heap, and the discriminator is nearly the same " +
        "everywhere. Press Train, or draw a law of your own on the picture."
      );
    const huddled = spread(fresh.x) < spread(truth.x) / 3;
    const said = "After " + nx.plural(gan.steps, "step") + " samples lie on " + found + " of " + count + " " + pieces();
    const share = ", and " + percent(good) + " are good (of the data " + percent(truth.good) + "). ";
    if (found < count)
      return (
        said +
        share +
        (huddled
          ? "They huddle together: all run to where D says data, D learns that samples are there now, and the heap " +
            "moves on."
          : "They run up the field of the discriminator, which at the same time learns where they now are.")
      );
    const weakest = Math.min(...counts) / Math.max(1, good * JUDGED);
    return said + share + "The rarest of the " + pieces() + " has " + percent(weakest) + " of the good samples" +
      (moded() ? ", where " + percent(1 / count) + " would be fair." : ".");
  }
  const tell = () => {
    words.textContent = report();
  };
  function settle(change, sentence = report) {
    change();
    look();
    drawAll();
    say(sentence());
  }

  /* ---- the controls ---- */
  const run = nx.button("Train", () => loop.toggle(!loop.running), { primary: true });
  const hand = (label, steps) =>
    nx.button(label, () => {
      loop.toggle(false);
      settle(() => train(steps));
    });
  const byHand = [hand("1 step", 1), hand("100 steps", 100)];
  const again = nx.button("Start over", () => settle(startOver, () => "The game starts over. " + report()));
  const reseed = nx.button("New seed", () => {
    seed = 1 + (seed % 999);
    settle(startOver, () => "Seed " + seed + ". " + report());
  });
  const law = nx.menu(stage, {
    id: "law",
    label: "Law of the data",
    value: settings.law,
    choices: data.laws,
    change: (value) => {
      settings.law = value;
      loop.toggle(false);
      settle(startOver);
    },
  });
  const clear = nx.button("Clear the drawing", () => {
    drawn = [];
    settings.law = "drawn";
    law.querySelector("select").value = "drawn";
    loop.toggle(false);
    settle(startOver);
  });

  const rate = (value) => String(value);
  const sliders = {};
  function slider(name, label, values, { format = rate, spoken = format, restart = false } = {}) {
    const one = nx.slider(stage, {
      id: name,
      label,
      min: 0,
      max: values.length - 1,
      step: 1,
      value: values.indexOf(settings[name]),
      format: (at) => format(values[at]),
      spoken: (at) => spoken(values[at]),
      change: (at) => {
        settings[name] = values[at];
        if (restart) startOver();
        showPreset();
        drawAll();
      },
    });
    sliders[name] = (value) => {
      one.input.value = values.indexOf(value);
      one.input.dispatchEvent(new Event("input"));
    };
    return one.node;
  }
  const RATES = data.rates;
  const knobs = [
    slider("generatorRate", "Rate of G", RATES),
    slider("discriminatorRate", "Rate of D", RATES),
    slider("discriminatorSteps", "Steps of D", [1, 2, 3, 4, 5], {
      spoken: (steps) => nx.plural(steps, "step") + " of D for each of G",
    }),
    slider("r1", "R1, γ", [0, 0.01, 0.03, 0.1, 0.3, 1], { format: (weight) => (weight ? String(weight) : "off") }),
  ];
  const menu = (id, label, choices, change) => {
    const node = nx.menu(stage, {
      id,
      label,
      value: String(settings[id]),
      choices,
      change: (value) => {
        settings[id] = id === "packed" ? Number(value) : value;
        change();
        showPreset();
        drawAll();
      },
    });
    sliders[id] = (value) => {
      node.querySelector("select").value = String(value);
      settings[id] = value;
    };
    return node;
  };
  const rules = [
    menu(
      "loss",
      "Loss",
      [
        ["non-saturating", "non-saturating"],
        ["saturating", "saturating"],
        ["hinge", "hinge"],
      ],
      () => {
        Object.assign(curve, { sum: [0, 0, 0], points: [] });
        field = null;
      },
    ),
    menu(
      "packed",
      "D judges",
      [
        ["1", "one sample"],
        ["2", "two together"],
      ],
      startOver,
    ),
  ];
  const views = [
    menu(
      "view",
      "Samples of",
      [
        ["now", "the generator"],
        ["average", "its average"],
      ],
      look,
    ),
    menu(
      "arrows",
      "Arrows",
      [
        ["on", "on"],
        ["off", "off"],
      ],
      () => {},
    ),
  ];
  const presets = Object.entries(data.presets).map(([name, preset]) => {
    const button = nx.button(capital(name), () => {
      Object.assign(settings, preset);
      for (const [key, value] of Object.entries(preset)) sliders[key](value);
      settle(startOver, () => capital(name) + ": " + data.remarks[name] + " " + report());
      showPreset();
    });
    return { button, preset };
  });
  const showPreset = () =>
    presets.forEach(({ button, preset }) =>
      parts.press(
        button,
        Object.entries(preset).every(([key, value]) => settings[key] === value),
      ),
    );

  /* ---- the picture ---- */
  const canvas = nx.h("canvas", { class: "nx-canvas", tabindex: 0, role: "application" });
  const tint = nx.h("canvas", { width: GRID, height: GRID });
  let side = 300,
    dpr = 1;
  const X = (value) => ((value + LIMIT) / (2 * LIMIT)) * side;
  const Y = (value) => ((LIMIT - value) / (2 * LIMIT)) * side;
  const clamp = (value) => Math.max(-LIMIT, Math.min(LIMIT, value));
  const placeOf = (event) => {
    const box = canvas.getBoundingClientRect();
    return [
      clamp(((event.clientX - box.left) / box.width) * 2 * LIMIT - LIMIT),
      clamp(LIMIT - ((event.clientY - box.top) / box.height) * 2 * LIMIT),
    ];
  };
  function putPoint(point) {
    if (settings.law !== "drawn") {
      settings.law = "drawn";
      law.querySelector("select").value = "drawn";
    }
    const near = drawn.some(([x, y]) => Math.hypot(x - point[0], y - point[1]) < 0.05);
    if (!near && drawn.length < data.mostDrawn) drawn.push(point);
    takeLaw();
    look();
    drawAll();
  }
  let pen = null;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    event.preventDefault();
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    cursor = null;
    pen = placeOf(event);
    putPoint(pen);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!pen) return;
    const to = placeOf(event);
    if (Math.hypot(to[0] - pen[0], to[1] - pen[1]) < 0.12) return;
    pen = to;
    putPoint(pen);
  });
  canvas.addEventListener("lostpointercapture", () => {
    pen = null;
    say(nx.plural(drawn.length, "point") + " drawn. " + report());
  });
  canvas.addEventListener("blur", () => {
    cursor = null;
    drawCanvas();
  });
  const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  canvas.addEventListener("keydown", (event) => {
    const move = MOVES[event.key],
      put = event.key === "Enter" || event.key === " ";
    if ((!move && !put) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    if (!cursor) cursor = [0, 0];
    else if (move) {
      const far = event.shiftKey ? 1 : 0.25;
      cursor = [clamp(cursor[0] + far * move[0]), clamp(cursor[1] + far * move[1])];
    }
    const where = nx.number(cursor[0], 2) + ", " + nx.number(cursor[1], 2);
    if (put) {
      putPoint([...cursor]);
      say("A point at " + where + "; " + nx.plural(drawn.length, "point") + " drawn.");
    } else {
      drawCanvas();
      say(where + ": D says " + nx.number(maths.sigmoid(fieldAt(cursor)), 2) + ".");
    }
  });

  const PACKS = 3; // partners beside which each point of the field is judged
  const judged = (x) => maths.field(gan.discriminator, x, fresh.x, PACKS);
  const fieldAt = (point) => judged(Float64Array.from(point))[0];
  const net = Float64Array.from({ length: 2 * GRID * GRID }, (_, n) => {
    const at = n >> 1;
    return -LIMIT + (2 * LIMIT * (n % 2 ? Math.floor(at / GRID) : at % GRID)) / (GRID - 1);
  });
  function drawField(context) {
    if (!field) {
      field = judged(net);
      field.lines = maths.crossings(field, GRID, LIMIT);
      parts.paint(tint, (n) => {
        const row = GRID - 1 - Math.floor(n / GRID);
        const lean = 2 * maths.sigmoid(field[row * GRID + (n % GRID)]) - 1;
        return parts.blend(palette.paper, lean > 0 ? palette.data : palette.generated, 0.72 * Math.abs(lean));
      });
    }
    // The middle of an outer cell lies on the edge of the picture.
    const cell = side / (GRID - 1);
    context.imageSmoothingEnabled = true;
    context.drawImage(tint, -cell / 2, -cell / 2, side + cell, side + cell);
    context.strokeStyle = parts.css(palette.ink);
    context.setLineDash([5, 4]);
    context.lineWidth = 1.2;
    context.beginPath();
    for (const [from, to] of field.lines) {
      context.moveTo(X(from[0]), Y(from[1]));
      context.lineTo(X(to[0]), Y(to[1]));
    }
    context.stroke();
    context.setLineDash([]);
  }
  function dots(context, x, count, radius, colour, ring) {
    context.beginPath();
    for (let at = 0; at < 2 * count; at += 2) {
      context.moveTo(X(x[at]) + radius, Y(x[at + 1]));
      context.arc(X(x[at]), Y(x[at + 1]), radius, 0, 2 * Math.PI);
    }
    if (ring) {
      context.lineWidth = 1.6;
      context.strokeStyle = parts.css(ring);
      context.stroke();
    }
    context.fillStyle = parts.css(colour);
    context.fill();
  }
  // An arrow's length grows with the slope, and is never longer than half a unit.
  function drawArrows(context) {
    const pulls = maths.pull(gan.discriminator, fresh.x.slice(0, 2 * SHOWN), settings.loss);
    const chosen = [];
    for (let at = 0; at < pulls.length && chosen.length < ARROWS; at += 2) {
      const far = (other) => Math.hypot(fresh.x[at] - fresh.x[other], fresh.x[at + 1] - fresh.x[other + 1]) > APART;
      if (chosen.every(far)) chosen.push(at);
    }
    context.strokeStyle = parts.css(palette.ink);
    context.lineWidth = 1.4;
    context.beginPath();
    for (const at of chosen) {
      const size = Math.hypot(pulls[at], pulls[at + 1]);
      const length = (0.5 * size) / (0.5 + size);
      if (!(length > 0.02)) continue;
      const [u, v] = [pulls[at] / size, -pulls[at + 1] / size];
      const [fromX, fromY] = [X(fresh.x[at]), Y(fresh.x[at + 1])];
      const [toX, toY] = [fromX + X(length * u - LIMIT), fromY + X(length * v - LIMIT)];
      const head = Math.min(5, 0.5 * X(length - LIMIT));
      context.moveTo(fromX, fromY);
      context.lineTo(toX, toY);
      context.moveTo(toX - head * (u + 0.6 * v), toY - head * (v - 0.6 * u));
      context.lineTo(toX, toY);
      context.lineTo(toX - head * (u - 0.6 * v), toY - head * (v + 0.6 * u));
    }
    context.stroke();
  }
  function drawCanvas() {
    const context = canvas.getContext("2d");
    context.setTransform(dpr, 0, 0, dpr, 0, 0);
    context.fillStyle = parts.css(palette.paper);
    context.fillRect(0, 0, side, side);
    drawField(context);
    if (!empty()) dots(context, truth.x, SHOWN, 2.2, palette.data);
    dots(context, fresh.x, SHOWN, 2.8, palette.generated, palette.paper);
    if (settings.arrows === "on") drawArrows(context);
    if (cursor) {
      context.strokeStyle = parts.css(palette.ink);
      context.lineWidth = 2;
      context.strokeRect(X(cursor[0]) - 6, Y(cursor[1]) - 6, 12, 12);
    }
  }

  /* ---- curves and numbers ---- */
  const chart = (id, y) => {
    const plot = nx.plot({
      x: [0, 500],
      y,
      clip: stage.name(id),
      xLabel: "steps of G",
      margin: { left: 34, top: 6, right: 16, bottom: 32 },
      attributes: { role: "img" },
    });
    const layer = (name) => plot.marks.appendChild(nx.s("path", { class: "nx-ganline " + name }));
    return { plot, layer };
  };
  const lossChart = chart("losses", [0, 2]),
    shareChart = chart("shares", [0, 1]);
  const guess = lossChart.layer("nx-ganguess"),
    lines = [lossChart.layer("nx-gandata"), lossChart.layer("nx-gangenerated")],
    ceiling = shareChart.layer("nx-ganguess"),
    shares = [shareChart.layer("nx-ganfound"), shareChart.layer("nx-gangood")];
  const lossName = parts.heading(),
    shareName = parts.heading();
  const level = (plot, value) => nx.path(plot.x.map((x) => [plot.X(x), plot.Y(value)]));
  const onPlot = (plot, points, column) =>
    nx.path(points.map((point) => [plot.X(point[0]), plot.Y(point[column])]));

  function drawCurves() {
    const { points, counts } = curve;
    const longest = Math.max(500, 500 * Math.ceil(gan.steps / 500));
    const values = points.flatMap(([, d, g]) => [d, g]).sort((a, b) => a - b);
    const low = Math.min(0, values[Math.floor(0.02 * values.length)] || 0),
      high = Math.max(2, values[Math.floor(0.98 * values.length)] || 0);
    lossChart.plot.scale([0, longest], [low < 0 ? 1.1 * low : 0, 1.08 * high]);
    shareChart.plot.scale([0, longest], [0, 1.04]);
    const even = settings.loss === "hinge" ? 2 : 2 * Math.LN2;
    guess.setAttribute("d", level(lossChart.plot, even));
    lines.forEach((line, n) => line.setAttribute("d", onPlot(lossChart.plot, points, n + 1)));
    ceiling.setAttribute("d", level(shareChart.plot, truth.good));
    shares.forEach((line, n) => line.setAttribute("d", onPlot(shareChart.plot, counts, n + 1)));
    const last = points[points.length - 1];
    lossChart.plot.node.setAttribute(
      "aria-label",
      "Both losses against steps" +
        (last ? ": now " + nx.number(last[1], 2) + " of D and " + nx.number(last[2], 2) + " of G" : ""),
    );
    shareChart.plot.node.setAttribute("aria-label", capital(pieces()) + " found and good samples against steps");
  }
  function drawKeys() {
    const even = settings.loss === "hinge" ? "2" : "2 log 2";
    lossName.replaceChildren(
      nx.key("rbm-data", "loss of D"),
      ", ",
      nx.key("rbm-generated", "of G"),
      "; dashed: " + even + ", D’s if it must guess",
    );
    shareName.replaceChildren(
      nx.key("rbm-found", "share of " + pieces() + " found"),
      ", ",
      nx.key("rbm-ink", "of good samples"),
      "; dashed: of good data",
    );
    picture.replaceChildren(
      nx.key("rbm-data", "data"),
      ", ",
      nx.key("rbm-generated", "generated"),
      "; the ground: which of both D believes, dashed D = ½; arrows: −∇ of G’s loss",
    );
  }
  const facts = {
    steps: nx.fact("Steps of G"),
    found: nx.fact("Found"),
    good: nx.fact("Good samples"),
    other: nx.fact("Averaged generator"),
  };
  function drawFacts() {
    const { count } = truth.law;
    const [own, average] = settings.view === "average" ? [fresh.other, fresh] : [fresh, fresh.other];
    facts.steps.show(nx.count(gan.steps), "seed " + seed);
    facts.found.show(own.found + " of " + count, pieces() + ", by " + nx.count(JUDGED) + " samples");
    facts.good.show(percent(own.good), "within 3 deviations; of the data " + percent(truth.good));
    facts.other.show(
      percent(average.good),
      "good, " + average.found + " of " + count + " " + pieces(),
    );
    canvas.setAttribute(
      "aria-label",
      "The plane from −3 to 3: data, generated samples on " +
        fresh.found +
        " of " +
        count +
        " " +
        pieces() +
        ", the discriminator’s field and arrows. Arrow keys move a cursor, Enter puts a point of your own law.",
    );
    clear.hidden = settings.law !== "drawn";
    for (const one of [run, ...byHand]) one.disabled = empty();
    run.textContent = loop.running ? "Pause" : "Train";
  }
  function drawAll() {
    drawCanvas();
    drawKeys();
    drawCurves();
    drawFacts();
    tell();
  }

  /* ---- the loop: so many steps as fit into a frame, and a rest after `pause` of them ---- */
  function frame() {
    frames += 1;
    const draws = frames % (nx.reducedMotion() ? 30 : 6) === 0;
    const end = performance.now() + (draws ? FRAME / 3 : FRAME);
    do train(1);
    while (performance.now() < end && gan.steps % data.pause);
    if (draws) {
      look();
      drawCurves();
      drawFacts();
      tell();
      drawCanvas();
    }
    if (fresh.found > told && fresh.found === truth.law.count)
      say("All " + fresh.found + " " + pieces() + " are found.");
    told = Math.max(told, fresh.found);
    return gan.steps % data.pause !== 0;
  }
  const loop = nx.loop(stage.root, frame, (on) => {
    frames = 0;
    if (!on) look();
    drawAll();
    say(on ? "Training." : "Paused. " + report());
  });

  /* ---- the page ---- */
  const words = nx.h("p", { class: "nx-words" });
  const picture = parts.heading();
  const left = nx.h("div", {}, picture, canvas, nx.h("div", { class: "nx-bar nx-undercanvas" }, ...views, clear));
  const right = nx.h(
    "div",
    {},
    shareName,
    shareChart.plot.node,
    lossName,
    lossChart.plot.node,
    nx.facts(facts),
  );
  live.append(
    nx.h(
      "div",
      { class: "nx-bar" },
      law,
      parts.group("Training", run, ...byHand),
      parts.group("Anew", again, reseed),
    ),
    nx.h("div", { class: "nx-knobs" }, ...knobs),
    nx.h(
      "div",
      { class: "nx-bar" },
      ...rules,
      parts.group(
        "Settings together",
        nx.h("span", { class: "nx-quiet" }, "All settings:"),
        ...presets.map(({ button }) => button),
      ),
    ),
    nx.h("div", { class: "nx-pair" }, left, right),
    words,
  );
  stage.onResize(() => {
    if (left.clientWidth === 0) return; // on its way to paper
    dpr = window.devicePixelRatio || 1;
    side = Math.min(left.clientWidth, 460);
    canvas.width = canvas.height = Math.round(side * dpr);
    canvas.style.width = canvas.style.height = side + "px";
    lossChart.plot.resize(right.clientWidth, 150);
    shareChart.plot.resize(right.clientWidth, 150);
    drawAll();
  });
  startOver();
  showPreset();
};
