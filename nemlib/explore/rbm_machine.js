/* A trained machine on a canvas: pixels to paint and to erase, the hidden units that they wake, and block Gibbs
   sweep by sweep, free or with the known pixels held. */
nx.build = function (stage) {
  const { data, live, say } = stage;
  const { rbm, parts } = nx;
  const { height, width } = data;
  const PIXELS = height * width,
    MOST = 20000,
    WINDOW = 120; // sweeps that the history shows
  const machine = rbm.unpack(data.machine);
  const digits = rbm.images(data.digits, data.names.length, PIXELS);
  const UNITS = machine.hidden;
  const pace = { slow: 2, medium: 12, fast: 150 };
  const settings = { pace: "medium", tool: "ink", hold: false };
  const random = nx.random(data.seed);
  let given = digits[0],
    source = data.names[0],
    v = Uint8Array.from(given),
    known = new Uint8Array(PIXELS).fill(1),
    means, // P(h | v) of the present v
    last = null, // P(v | h) of the last sweep
    total,
    averaged,
    history,
    sweeps,
    looked = 0,
    cursor = null,
    keyed = false;
  const palette = parts.follow(stage, data.palette, () => drawAll());

  /* ---- state ---- */
  const free = () => rbm.freeEnergy(machine, v);
  const count = (values) => values.reduce((sum, value) => sum + value, 0);
  const unknown = () => PIXELS - count(known);

  // After every change by hand: no sweep is made yet, and no mean is taken.
  function restart() {
    sweeps = 0;
    last = null;
    history = [free()];
    means = rbm.hiddenGiven(machine, v);
    forget();
  }
  function forget() {
    total = new Float64Array(PIXELS);
    averaged = 0;
  }

  function sweep() {
    const made = rbm.sweep(machine, v, random, settings.hold ? known : null);
    v = made.v;
    last = made.mean;
    for (let i = 0; i < PIXELS; i += 1) total[i] += last[i];
    averaged += 1;
    sweeps += 1;
    means = rbm.hiddenGiven(machine, v);
    history.push(free());
    if (history.length > WINDOW + 1) history.shift();
  }

  const coin = () => (random.uniform() < 0.5 ? 1 : 0);
  function take(image, name) {
    given = Uint8Array.from(image);
    source = name;
    v = Uint8Array.from(given);
    known.fill(1);
    hold(false);
    settle("The canvas shows " + name + ".");
  }
  function settle(spoken) {
    loop.toggle(false);
    restart();
    drawAll();
    say(spoken);
  }
  function hold(on) {
    settings.hold = on;
    held.checked = on;
  }

  // Half of the image becomes unknown: coin flips, with all others held.
  function erase(lost, half) {
    v = Uint8Array.from(given);
    for (let i = 0; i < PIXELS; i += 1) {
      known[i] = lost(Math.floor(i / width), i % width) ? 0 : 1;
      if (!known[i]) v[i] = coin();
    }
    hold(true);
    settle("The " + half + " half is erased and begins as coin flips; the rest is held.");
  }

  /* ---- the controls ---- */
  const thumbs = digits.map((digit, n) => {
    const face = nx.h("canvas", { width, height, class: "nx-thumb", "aria-hidden": "true" });
    const button = nx.button("", () => take(digit, data.names[n]));
    button.setAttribute("aria-label", "Show " + data.names[n]);
    button.classList.add("nx-facebutton");
    button.append(face);
    return { button, face, digit };
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
  const step = nx.button("One sweep", () => {
    loop.toggle(false);
    if (sweeps < MOST) sweep();
    drawAll();
    say(words.textContent);
  });
  let debt = 0;
  const loop = nx.loop(
    stage.root,
    (seconds) => {
      debt += pace[settings.pace] * seconds;
      if (debt < (nx.reducedMotion() ? pace[settings.pace] : 1)) return true;
      for (; debt >= 1 && sweeps < MOST; debt -= 1) sweep();
      drawAll();
      return sweeps < MOST;
    },
    (on) => {
      run.textContent = on ? "Pause" : "Run";
      debt = 0;
      if (on) return say("The machine runs.");
      drawAll();
      say("Paused. " + words.textContent);
    },
  );
  const restore = nx.button("Restore", () => {
    v = Uint8Array.from(given);
    known.fill(1);
    hold(false);
    settle("The image is as it was given.");
  });

  const TOOLS = [
    ["ink", "Ink", "Paint ink: the pixel is 1, and known"],
    ["paper", "Paper", "Paint paper: the pixel is 0, and known"],
    ["unknown", "Unknown", "Paint what is unknown: the pixel is a coin flip, for the machine to find"],
  ];
  const tools = TOOLS.map(([name, label, title]) => {
    const button = nx.button(label, () => {
      settings.tool = name;
      showTools();
    });
    button.title = title;
    return { name, button };
  });
  const showTools = () => tools.forEach(({ name, button }) => parts.press(button, name === settings.tool));
  const held = nx.h("input", {
    type: "checkbox",
    id: stage.name("hold"),
    onchange: () => {
      settings.hold = held.checked;
      forget();
      drawAll();
      say(held.checked ? "Known pixels are held." : "All pixels are free.");
    },
  });

  /* ---- the canvas ---- */
  const canvas = nx.h("canvas", {
    class: "nx-canvas",
    tabindex: 0,
    role: "application",
    "aria-label":
      "Canvas of " +
      height +
      " by " +
      width +
      " pixels: arrow keys move, with Shift by four; Enter or Space paints",
  });
  const reading = nx.h("p", { class: "nx-quiet nx-reading" });
  let cell = 10,
    dpr = 1;
  const clamp = (value, most) => Math.max(0, Math.min(most - 1, value));
  const pixelOf = (event) => {
    const box = canvas.getBoundingClientRect();
    const y = clamp(Math.floor(((event.clientY - box.top) / box.height) * height), height),
      x = clamp(Math.floor(((event.clientX - box.left) / box.width) * width), width);
    return y * width + x;
  };

  // The brush: 2 × 2 pixels, 3 × 3 where pixels are made unknown.
  function brush(i) {
    const size = Math.min(settings.tool === "unknown" ? 3 : 2, height, width);
    const y = clamp(Math.floor(i / width) - ((size - 1) >> 1), height - size + 1),
      x = clamp((i % width) - ((size - 1) >> 1), width - size + 1);
    return Array.from({ length: size * size }, (_, n) => (y + Math.floor(n / size)) * width + x + (n % size));
  }
  function paintAt(i) {
    for (const at of brush(i)) {
      if (settings.tool === "unknown") {
        if (known[at]) v[at] = coin();
        known[at] = 0;
      } else {
        v[at] = settings.tool === "ink" ? 1 : 0;
        given = Uint8Array.from(given);
        given[at] = v[at];
        known[at] = 1;
        source = "your drawing";
      }
    }
    if (settings.tool === "unknown") hold(true);
    restart();
    drawAll();
  }
  function strokeTo(from, to) {
    const [y0, x0, y1, x1] = [from, to].flatMap((i) => [Math.floor(i / width), i % width]);
    const many = Math.max(1, Math.abs(y1 - y0), Math.abs(x1 - x0));
    for (let s = 1; s <= many; s += 1) {
      const at = (a, b) => Math.round(a + ((b - a) * s) / many);
      paintAt(at(y0, y1) * width + at(x0, x1));
    }
  }
  let stroke = null;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    event.preventDefault();
    canvas.focus({ preventScroll: true });
    keyed = false;
    loop.toggle(false);
    cursor = stroke = pixelOf(event);
    canvas.setPointerCapture(event.pointerId);
    paintAt(cursor);
  });
  canvas.addEventListener("pointermove", (event) => {
    const i = pixelOf(event);
    if (i === cursor) return;
    keyed = false;
    cursor = i;
    if (stroke !== null) strokeTo(stroke, i);
    if (stroke !== null) stroke = i;
    drawCanvas();
  });
  canvas.addEventListener("lostpointercapture", () => {
    if (stroke !== null) say(words.textContent);
    stroke = null;
  });
  const leave = () => {
    if (stroke !== null || keyed) return;
    cursor = null;
    drawCanvas();
  };
  canvas.addEventListener("pointerleave", leave);
  canvas.addEventListener("blur", () => {
    keyed = false;
    leave();
  });
  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    const apply = event.key === "Enter" || event.key === " ";
    if (!move && !apply) return;
    event.preventDefault();
    if (cursor === null) cursor = (height >> 1) * width + (width >> 1);
    else if (move) {
      const far = event.shiftKey ? 4 : 1;
      const y = clamp(Math.floor(cursor / width) + far * move[0], height),
        x = clamp((cursor % width) + far * move[1], width);
      cursor = y * width + x;
    }
    keyed = true;
    if (apply) {
      loop.toggle(false);
      paintAt(cursor);
    } else drawCanvas();
    say(apply ? words.textContent : reading.textContent);
  });

  /* ---- hidden units, and three small pictures ---- */
  // As many columns as make the rows even, near 2.4 times as wide as high.
  const columns = (() => {
    const wanted = Math.sqrt(2.4 * UNITS);
    const good = [];
    for (let c = Math.max(1, Math.floor(0.75 * wanted)); c <= Math.min(UNITS, 1.3 * wanted); c += 1)
      good.push(c);
    const loss = (c) => Math.ceil(UNITS / c) * c - UNITS + 0.1 * Math.abs(c - wanted);
    return good.reduce((best, c) => (loss(c) < loss(best) ? c : best), Math.max(1, Math.round(wanted)));
  })();
  const rows = Math.ceil(UNITS / columns);
  const units = nx.h("canvas", {
    class: "nx-canvas nx-hiddenunits",
    tabindex: 0,
    role: "slider",
    "aria-valuemin": 1,
    "aria-valuemax": UNITS,
    "aria-label": "The hidden unit that is looked at: arrow keys choose another",
  });
  let tile = 10;
  const unitAt = (event) => {
    const box = units.getBoundingClientRect();
    const r = clamp(Math.floor(((event.clientY - box.top) / box.height) * rows), rows),
      c = clamp(Math.floor(((event.clientX - box.left) / box.width) * columns), columns);
    return Math.min(UNITS - 1, r * columns + c);
  };
  const look = (j) => {
    looked = j;
    drawUnits();
    drawFilter();
  };
  for (const kind of ["pointerdown", "pointermove"]) {
    units.addEventListener(kind, (event) => {
      if (unitAt(event) !== looked) look(unitAt(event));
    });
  }
  units.addEventListener("keydown", (event) => {
    const by = {
      ArrowLeft: -1,
      ArrowRight: 1,
      ArrowUp: -columns,
      ArrowDown: columns,
      Home: -UNITS,
      End: UNITS,
    }[event.key];
    if (!by) return;
    event.preventDefault();
    look(clamp(looked + by, UNITS));
  });

  const small = (label) => {
    const face = nx.h("canvas", { width, height, class: "nx-small", role: "img", "aria-label": label });
    const caption = nx.h("span", {});
    return { node: nx.h("div", { class: "nx-smallbox" }, face, caption), face, caption };
  };
  const filter = small("Weights of the hidden unit"),
    belief = small("P(v = 1 | h) of the last sweep"),
    mean = small("Mean of P(v = 1 | h) over the sweeps");
  const again = nx.button("Restart mean", () => {
    forget();
    drawAll();
    say("The mean begins anew: earlier sweeps were the burn-in.");
  });
  again.classList.add("nx-littlebutton");
  mean.node.append(again);

  const chart = nx.plot({
    x: [0, 20],
    y: [0, 1],
    clip: stage.name("history"),
    margin: { left: 46, top: 5, right: 6, bottom: 20 },
    attributes: { "aria-hidden": "true" },
  });
  const layer = (name) => chart.marks.appendChild(nx.s("path", { class: name }));
  const [givenLine, line, dot] = [layer("nx-givenline"), layer("nx-freeline"), layer("nx-freedot")];

  const left = nx.h(
    "div",
    {},
    canvas,
    reading,
    nx.h(
      "div",
      { class: "nx-bar nx-undercanvas" },
      parts.group("What the brush paints", ...tools.map(({ button }) => button)),
      nx.h("div", { class: "nx-check" }, held, nx.h("label", { for: held.id }, "Hold what is known")),
    ),
  );
  const right = nx.h(
    "div",
    {},
    parts.heading(nx.key("rbm-probability", "P(hⱼ = 1 | v)"), " of the " + nx.plural(UNITS, "hidden unit")),
    units,
    nx.h("div", { class: "nx-smalls" }, filter.node, belief.node, mean.node),
    parts.heading(
      nx.key("rbm-chain", "F(v)"),
      " in nats by sweep, ",
      nx.key("rbm-reference", "F of the image as given"),
    ),
    chart.node,
  );
  const facts = {
    sweeps: nx.fact("Sweeps"),
    free: nx.fact("Free energy F(v)"),
    against: nx.fact("F(v) − F(given)"),
    on: nx.fact("Hidden units on"),
  };
  const words = nx.h("p", { class: "nx-words" });
  live.append(
    nx.h(
      "div",
      { class: "nx-bar nx-faces" },
      parts.group(
        "Images",
        ...thumbs.map(({ button }) => button),
        nx.button("Noise", () => take(Array.from({ length: PIXELS }, coin), "noise")),
      ),
    ),
    nx.h(
      "div",
      { class: "nx-bar" },
      parts.group("Block Gibbs", run, step),
      parts.group(
        "What is known",
        nx.button("Erase lower half", () => erase((y) => y >= height >> 1, "lower")),
        nx.button("Erase left half", () => erase((_, x) => x < width >> 1, "left")),
        restore,
      ),
      speed,
    ),
    nx.h("div", { class: "nx-pair" }, left, right),
    nx.facts(facts),
    words,
  );

  /* ---- drawing ---- */
  // Ink where it is known, the machine's own colour where it is not.
  function shade(i) {
    const own = settings.hold && !known[i];
    if (v[i]) return own ? palette.probability : palette.ink;
    return own ? parts.blend(palette.paper, palette.probability, 0.13) : palette.paper;
  }
  function drawCanvas() {
    const context = canvas.getContext("2d");
    for (let i = 0; i < PIXELS; i += 1) {
      context.fillStyle = parts.css(shade(i));
      context.fillRect((i % width) * cell, Math.floor(i / width) * cell, cell, cell);
    }
    if (cursor !== null) drawCursor(context);
    drawReading();
  }
  function drawCursor(context) {
    context.strokeStyle = parts.css(palette.chain);
    context.lineWidth = Math.max(2, 2 * dpr);
    const reached = brush(cursor);
    const [first, end] = [reached[0], reached[reached.length - 1]];
    const size = (end % width) - (first % width) + 1;
    context.strokeRect((first % width) * cell, Math.floor(first / width) * cell, size * cell, size * cell);
  }
  function drawReading() {
    if (cursor === null) {
      reading.textContent = "Point at a pixel to read it; press to paint.";
      return;
    }
    reading.textContent =
      "Row " +
      (1 + Math.floor(cursor / width)) +
      ", column " +
      (1 + (cursor % width)) +
      ": v = " +
      v[cursor] +
      (settings.hold ? (known[cursor] ? ", held" : ", unknown") : "") +
      (last ? ", P(v = 1 | h) = " + nx.number(last[cursor], 2) : "");
  }

  function drawUnits() {
    const context = units.getContext("2d");
    context.fillStyle = parts.css(palette.paper);
    context.fillRect(0, 0, units.width, units.height);
    const gap = Math.max(1, Math.round(tile / 12));
    for (let j = 0; j < UNITS; j += 1) {
      context.fillStyle = parts.css(parts.blend(palette.paper, palette.probability, 0.05 + 0.95 * means[j]));
      context.fillRect((j % columns) * tile, Math.floor(j / columns) * tile, tile - gap, tile - gap);
    }
    context.strokeStyle = parts.css(palette.chain);
    context.lineWidth = Math.max(2, 2 * dpr);
    context.strokeRect(
      (looked % columns) * tile,
      Math.floor(looked / columns) * tile,
      tile - gap,
      tile - gap,
    );
    units.setAttribute("aria-valuenow", looked + 1);
    units.setAttribute("aria-valuetext", "Unit " + (looked + 1) + ", P = " + nx.number(means[looked], 2));
  }

  function drawFilter() {
    const weights = machine.W.subarray(looked * PIXELS, (looked + 1) * PIXELS);
    const most = weights.reduce((top, w) => Math.max(top, Math.abs(w)), 1e-12);
    parts.paint(filter.face, (i) =>
      parts.blend(palette.paper, weights[i] < 0 ? palette.minus : palette.plus, Math.abs(weights[i]) / most),
    );
    filter.caption.textContent = "Unit " + (looked + 1) + ": weights; P = " + nx.number(means[looked], 2);
    filter.face.setAttribute(
      "aria-label",
      "Weights of hidden unit " +
        (looked + 1) +
        ", from −" +
        nx.number(most, 2) +
        " to " +
        nx.number(most, 2) +
        ": positive and negative in two colours",
    );
  }

  function drawPictures() {
    const grey = (values, over) => (i) => parts.blend(palette.paper, palette.ink, values[i] / over);
    const blank = () => parts.blend(palette.paper, palette.ink, 0.06);
    // Known pixels are what they are, and need no belief.
    const withKnown = (values, over) => (i) =>
      settings.hold && known[i] ? (v[i] ? palette.ink : palette.paper) : grey(values, over)(i);
    parts.paint(belief.face, last ? grey(last, 1) : blank);
    parts.paint(mean.face, averaged ? withKnown(total, averaged) : blank);
    belief.caption.textContent = last ? "P(v | h), last sweep" : "P(v | h): no sweep yet";
    mean.caption.textContent = averaged ? "Mean over " + nx.plural(averaged, "sweep") : "Mean over sweeps";
    again.disabled = !averaged;
  }

  function drawHistory() {
    const start = sweeps - (history.length - 1);
    const reference = rbm.freeEnergy(machine, given);
    // The first sweeps from noise, and noise itself, lie so high that they would flatten all others.
    const near = history.slice(history.length > 8 ? 3 : 0);
    const [least, most] = [Math.min(...near), Math.max(...near)];
    const far = Math.abs(reference - (least + most) / 2) > Math.max(100, 3 * (most - least));
    const [low, high] = far ? [least, most] : [Math.min(least, reference), Math.max(most, reference)];
    const spare = Math.max(2, 0.1 * (high - low));
    chart.yTicks = nx.ticks(low - spare, high + spare, 4);
    chart.scale([start - 0.4, start + Math.max(20, history.length - 1) + 0.4], [low - spare, high + spare]);
    const points = history.map((value, k) => [chart.X(start + k), chart.Y(value)]);
    line.setAttribute("d", nx.path(points));
    const end = points[points.length - 1];
    dot.setAttribute("d", "M" + end.map((c) => c.toFixed(1)).join(" ") + "h0");
    givenLine.setAttribute(
      "d",
      nx.path([
        [chart.X(chart.x[0]), chart.Y(reference)],
        [chart.X(chart.x[1]), chart.Y(reference)],
      ]),
    );
  }

  function drawFaces() {
    for (const { face, digit } of thumbs) {
      parts.paint(face, (i) => (digit[i] ? palette.ink : palette.paper));
    }
  }

  function drawWords() {
    const now = history[history.length - 1];
    facts.sweeps.show(nx.count(sweeps), settings.hold ? "known pixels held" : "all pixels free");
    facts.free.show(
      nx.number(now, 1),
      data.logZ === null
        ? "nats; log p(v) = −F − log Z"
        : "nats; log p(v) ≈ " + nx.number(-now - data.logZ, 1),
    );
    facts.against.show(nx.number(now - rbm.freeEnergy(machine, given), 1), "nats: here log Z cancels");
    facts.on.show(nx.number(count(means), 1), "expected, of " + UNITS);
    words.textContent = sentence();
    run.disabled = step.disabled = sweeps >= MOST;
  }

  function sentence() {
    const lost = unknown();
    if (settings.hold && !lost)
      return "Every pixel is known and held: nothing is left to complete. Erase a half, or paint with Unknown.";
    if (!sweeps)
      return settings.hold
        ? nx.plural(lost, "pixel") + " unknown, as coin flips; the others are held. Press One sweep, or Run."
        : "This is " +
            source +
            ", and on the right are the hidden units that it wakes. Run, and the machine " +
            "dreams on from it; or erase a half first.";
    if (settings.hold)
      return (
        "Sweep " +
        sweeps +
        ": the hidden units are drawn given all pixels, then the " +
        nx.plural(lost, "unknown pixel") +
        " given them. The mean shows P(v = 1 | what is known), as far as the chain has come."
      );
    return (
      "Sweep " +
      sweeps +
      " from " +
      source +
      ": a dream, in which nothing is held. F wanders where the machine " +
      "finds images likely; low F means a large p(v), up to the one constant log Z."
    );
  }

  function drawAll() {
    drawCanvas();
    drawUnits();
    drawFilter();
    drawPictures();
    drawHistory();
    drawWords();
  }

  stage.onResize(() => {
    if (left.clientWidth === 0) return; // on its way to paper
    dpr = window.devicePixelRatio || 1;
    const side = Math.min(left.clientWidth, 400);
    cell = Math.max(3, Math.round((side * dpr) / Math.max(width, height)));
    canvas.width = cell * width;
    canvas.height = cell * height;
    canvas.style.width = (side * width) / Math.max(width, height) + "px";
    canvas.style.height = (side * height) / Math.max(width, height) + "px";
    const room = right.clientWidth;
    tile = Math.max(4, Math.floor((room * dpr) / columns));
    units.width = tile * columns;
    units.height = tile * rows;
    units.style.width = units.width / dpr + "px";
    units.style.height = units.height / dpr + "px";
    chart.resize(room, 104);
    drawFaces();
    drawAll();
  });
  showTools();
  restart();
  // Of the units that the first image wakes, look at the one with the strongest weights.
  const strength = (j) => machine.W.subarray(j * PIXELS, (j + 1) * PIXELS).reduce((sum, w) => sum + w * w, 0);
  means.forEach((mean, j) => {
    if (mean * strength(j) > means[looked] * strength(looked)) looked = j;
  });
};
