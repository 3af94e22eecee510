/* All 128 states of a machine of 4 × 3 units: v down, h across, p(v) and p(h) at the rims, and a chain whose
   sweep is a move along its row and a move along its column. */
nx.build = function (stage) {
  const { data, live, say } = stage;
  const { rbm, parts } = nx;
  const [V, H, ROWS, COLUMNS] = [4, 3, 16, 8];
  const MOST = 20000,
    TRAIL = 10,
    LIMIT = data.limit,
    STEP = data.step,
    SLIDE = 380; // milliseconds of a move that the reader is to see
  const LOW = "₁₂₃₄";
  const pace = { slow: 1.5, medium: 20, fast: 500 };
  const settings = { view: "probability", pace: "medium", preset: 0 };
  let machine,
    law,
    chain,
    changed = null,
    later = null,
    random = nx.random(data.seed);
  parts.follow(stage, data.palette, () => {});

  /* ---- the weights: in the order in which the table reads ---- */
  const cells = [];
  for (let i = 0; i < V; i += 1) {
    for (let j = 0; j < H; j += 1) {
      cells.push({
        of: "W",
        at: j * V + i,
        i,
        j,
        name: "W" + LOW[i] + LOW[j],
        spoken: "W " + (i + 1) + " " + (j + 1),
      });
    }
    cells.push({ of: "a", at: i, i, name: "a" + LOW[i], spoken: "a " + (i + 1) });
  }
  for (let j = 0; j < H; j += 1)
    cells.push({ of: "b", at: j, j, name: "b" + LOW[j], spoken: "b " + (j + 1) });
  let chosen = 0;
  const valueOf = (cell) => machine[cell.of][cell.at];

  function setMachine(preset) {
    machine = { visible: V, hidden: H, W: new Float64Array(V * H), a: [...preset.a], b: [...preset.b] };
    preset.W.forEach((row, i) => row.forEach((weight, j) => (machine.W[j * V + i] = weight)));
    law = rbm.joint(machine);
    restart(rbm.state(preset.start[0], V), rbm.state(preset.start[1], H));
  }

  function change(cell, value) {
    const kept = Math.max(-LIMIT, Math.min(LIMIT, Math.round(value / STEP) * STEP));
    if (kept === valueOf(cell)) return;
    loop.toggle(false);
    finish();
    machine[cell.of][cell.at] = kept;
    settings.preset = -1;
    changed = cell;
    law = rbm.joint(machine);
    restart(chain.v, chain.h);
    drawAll();
  }

  /* ---- the chain ---- */
  function restart(v, h) {
    chain = { v, h, turn: 0, n: 0, visits: new Float64Array(ROWS), hidden: new Float64Array(COLUMNS) };
    chain.halves = [[rbm.index(v), rbm.index(h)]];
  }

  // Half a sweep: along the row to a new h, or along the column to a new v.
  function move() {
    if (chain.turn === 0) chain.h = rbm.draw(rbm.hiddenGiven(machine, chain.v), random);
    else chain.v = rbm.draw(rbm.visibleGiven(machine, chain.h), random);
    chain.turn = 1 - chain.turn;
    chain.halves.push([rbm.index(chain.v), rbm.index(chain.h)]);
    if (chain.halves.length > TRAIL + 1) chain.halves.shift();
    if (chain.turn === 1) return;
    chain.n += 1;
    chain.visits[rbm.index(chain.v)] += 1;
    chain.hidden[rbm.index(chain.h)] += 1;
  }

  // Whatever the reader does next finds the move that was still to come done.
  function finish() {
    const own = later;
    later = null;
    if (own) {
      clearTimeout(own.timer);
      own.move();
    }
  }

  function press(moves) {
    loop.toggle(false);
    finish();
    if (chain.n >= MOST) return say("The chain has its " + nx.count(MOST) + " sweeps: press Reset.");
    move();
    const after = () => {
      if (moves === 2) move();
      drawAll();
      say(spokenMove());
    };
    if (moves === 1 || nx.reducedMotion()) return after();
    drawAll();
    later = { move: after };
    later.timer = setTimeout(finish, SLIDE);
  }

  const text = (units) => [...units].join("");
  function spokenMove() {
    return chain.turn === 1
      ? "A move along the row: h is now " + text(chain.h) + ", drawn given v = " + text(chain.v) + "."
      : "Sweep " +
          chain.n +
          " is complete: v is now " +
          text(chain.v) +
          ", drawn given h = " +
          text(chain.h) +
          ".";
  }

  // The chain begins anew where the reader points.
  function goTo(v, h) {
    loop.toggle(false);
    finish();
    restart(v, h);
    drawAll();
    say(reading.textContent);
  }

  /* ---- the controls ---- */
  const presets = data.presets.map((preset, n) =>
    nx.button(preset.name, () => {
      loop.toggle(false);
      finish();
      settings.preset = n;
      random = nx.random(data.seed);
      setMachine(preset);
      drawAll();
      say(words.textContent);
    }),
  );
  const view = nx.choice(stage, {
    id: "view",
    label: "What the colour of a state shows",
    value: settings.view,
    choices: [
      ["probability", "Probability"],
      ["energy", "Energy"],
    ],
    change: (value) => {
      settings.view = value;
      drawGrid();
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
  const buttons = nx.h(
    "div",
    { class: "nx-buttons" },
    run,
    nx.button("Half a sweep", () => press(1)),
    nx.button("Sweep", () => {
      finish();
      press(2 - chain.turn);
    }),
    nx.button("Reset", () => {
      loop.toggle(false);
      finish();
      restart(chain.v, chain.h);
      drawAll();
      say("All counts are 0; the chain begins where it stands.");
    }),
  );
  let debt = 0;
  const loop = nx.loop(
    stage.root,
    (seconds) => {
      debt += 2 * pace[settings.pace] * seconds;
      if (nx.reducedMotion() && debt < 2 * pace[settings.pace]) return true;
      if (debt < 1) return true;
      for (; debt >= 1 && chain.n < MOST; debt -= 1) move();
      drawAll();
      return chain.n < MOST;
    },
    (on) => {
      run.textContent = on ? "Pause" : "Run";
      debt = 0;
      finish();
      if (on) return say("The chain runs.");
      drawAll();
      say("Paused. " + words.textContent);
    },
  );

  /* ---- the grid: 16 rows, 8 columns, and the rims ---- */
  const layer = (name) => nx.s("g", name ? { class: name } : {});
  const states = Array.from({ length: ROWS * COLUMNS }, () => nx.s("rect", { class: "nx-state" }));
  const [frame, trail] = [layer(), layer("nx-rbmtrail")];
  const barsV = nx.s("path", { class: "nx-rimbar" }),
    barsH = nx.s("path", { class: "nx-rimbar" }),
    visitsV = nx.s("path", { class: "nx-rimvisits" }),
    visitsH = nx.s("path", { class: "nx-rimvisits" }),
    lawBars = nx.s("path", { class: "nx-law" }),
    band = nx.s("rect", { class: "nx-band-line", rx: 3 }),
    ring = nx.s("g", { class: "nx-ringed" }, nx.s("rect", { rx: 3 }), nx.s("rect", { rx: 3 }));
  const counts = Array.from({ length: ROWS }, () => nx.s("text", { class: "nx-visitcount" }));
  const trails = Array.from({ length: TRAIL }, () => nx.s("path", {}));
  trail.append(...trails);
  const grid = nx.s(
    "svg",
    {
      class: "nx-plot nx-grid",
      tabindex: 0,
      role: "application",
      "aria-label":
        "All 128 states, one row for each v and one column for each h: arrow keys choose a state; " +
        "the chain begins anew there",
    },
    frame,
    layer(),
    band,
    lawBars,
    trail,
    ring,
    barsV,
    barsH,
    visitsV,
    visitsH,
    ...counts,
  );
  grid.children[1].append(...states);
  const legend = nx.h("p", { class: "nx-heading nx-rampline" });
  const next = nx.h("p", { class: "nx-quiet nx-reading" });
  const reading = nx.h("p", { class: "nx-hidden" });
  const left = nx.h("div", {}, legend, grid, next, reading);
  const box = { left: 44, top: 46, rim: 50, count: 36, foot: 52 };

  const X = (t) => box.left + t * box.wide,
    Y = (s) => box.top + s * box.high;
  const squares = (units, x, y, down) =>
    [...units].map((unit, k) =>
      nx.s("rect", {
        class: unit ? "nx-unit nx-unit-on" : "nx-unit",
        x: (x + (down ? 0 : 9 * k)).toFixed(1),
        y: (y + (down ? 9 * k : 0)).toFixed(1),
        width: 7,
        height: 7,
      }),
    );
  const label = (x, y, wordsOf, place) => nx.s("text", { x, y, ...place }, wordsOf);

  function layOut(width) {
    box.wide = (width - box.left - box.rim - box.count - 8) / COLUMNS;
    box.high = 20;
    const height = Y(ROWS) + box.foot + 6;
    nx.set(grid, { width, height, viewBox: "0 0 " + width + " " + height });
    states.forEach((rect, at) => {
      const [s, t] = [Math.floor(at / COLUMNS), at % COLUMNS];
      nx.set(rect, { x: X(t) + 0.5, y: Y(s) + 0.5, width: box.wide - 1, height: box.high - 1 });
    });
    const rim = X(COLUMNS) + 8;
    frame.replaceChildren(
      ...Array.from({ length: ROWS }, (_, s) =>
        squares(rbm.state(s, V), 2, Y(s) + box.high / 2 - 3.5, false),
      ).flat(),
      ...Array.from({ length: COLUMNS }, (_, t) =>
        squares(rbm.state(t, H), X(t) + box.wide / 2 - 3.5, 15, true),
      ).flat(),
      label(2, box.top - 8, "v", { class: "nx-name" }),
      label(box.left - 12, 28, "h", { class: "nx-name" }),
      label(rim, box.top - 8, "p(v)", { class: "nx-name" }),
      label(rim + box.rim + box.count, box.top - 8, "visits", {
        "text-anchor": "end",
        class: "nx-visitword",
      }),
      label(box.left - 8, Y(ROWS) + 22, "p(h)", { class: "nx-name", "text-anchor": "end" }),
    );
    counts.forEach((node, s) =>
      nx.set(node, { x: rim + box.rim + box.count, y: Y(s) + box.high / 2 + 4, "text-anchor": "end" }),
    );
    [...ring.children].forEach((rect) => nx.set(rect, { width: box.wide, height: box.high }));
  }

  const bar = (x, y, width, height) =>
    "M" +
    [x, y].map((c) => c.toFixed(1)).join(" ") +
    "h" +
    width.toFixed(1) +
    "v" +
    height.toFixed(1) +
    "h" +
    (-width).toFixed(1) +
    "z";

  function drawGrid() {
    const { energies, p } = law;
    const [low, high] = [Math.min(...energies), Math.max(...energies)];
    const top = Math.max(...p);
    states.forEach((rect, at) => {
      const part =
        settings.view === "probability" ? p[at] / top : high > low ? (high - energies[at]) / (high - low) : 1;
      rect.style.fillOpacity = (0.02 + 0.98 * part).toFixed(3);
    });
    grid.classList.toggle("nx-by-energy", settings.view === "energy");
    legend.replaceChildren(
      nx.h("span", {}, settings.view === "probability" ? "p(v, h)" : "E(v, h), nats"),
      nx.h("span", { class: "nx-rampend" }, settings.view === "probability" ? "0" : nx.number(high, 2)),
      nx.h("i", { class: "nx-ramp nx-ramp-" + settings.view }),
      nx.h("span", {}, settings.view === "probability" ? nx.number(top, 3) : nx.number(low, 2)),
    );
    drawRims();
  }

  function drawRims() {
    const share = (visits) => visits.map((n) => (chain.n ? n / chain.n : 0));
    const [sv, sh] = [share(chain.visits), share(chain.hidden)];
    const rim = X(COLUMNS) + 8;
    const scaleV = (box.rim - 2) / Math.max(...law.pv, ...sv),
      scaleH = box.foot / Math.max(...law.ph, ...sh);
    const rows = (values, from, thick) =>
      [...values].map((value, s) => bar(rim, Y(s) + from, value * scaleV, thick)).join("");
    const columns = (values, from, thick) =>
      [...values].map((value, t) => bar(X(t) + from, Y(ROWS) + 5, thick, value * scaleH)).join("");
    barsV.setAttribute("d", rows(law.pv, 3, box.high - 10));
    visitsV.setAttribute("d", rows(sv, box.high - 7, 4));
    barsH.setAttribute("d", columns(law.ph, 3, box.wide - 11));
    visitsH.setAttribute("d", columns(sh, box.wide - 8, 4));
    counts.forEach((node, s) => (node.textContent = chain.visits[s] ? nx.count(chain.visits[s]) : ""));
  }

  // Where the chain is, how it came there, and the law of its next move.
  function drawChain() {
    const spot = ([s, t]) => [X(t) + box.wide / 2, Y(s) + box.high / 2];
    trails.forEach((path, k) => {
      const from = chain.halves.length - 1 - TRAIL + k;
      const there = from >= 0 ? [chain.halves[from], chain.halves[from + 1]] : [];
      path.setAttribute("d", nx.path(there.map(spot)));
      path.style.opacity = (0.12 + (0.88 * (k + 1)) / TRAIL).toFixed(2);
    });
    const [s, t] = chain.halves[chain.halves.length - 1];
    ring.style.transition =
      loop.running || nx.reducedMotion() ? "none" : "transform " + 0.7 * SLIDE + "ms ease";
    ring.style.transform = "translate(" + X(t).toFixed(1) + "px," + Y(s).toFixed(1) + "px)";
    const row = chain.turn === 0;
    nx.set(band, {
      x: (row ? X(0) : X(t)) - 1.5,
      y: (row ? Y(s) : Y(0)) - 1.5,
      width: (row ? X(COLUMNS) - X(0) : box.wide) + 3,
      height: (row ? box.high : Y(ROWS) - Y(0)) + 3,
    });
    const length = row ? COLUMNS : ROWS;
    const weights = Array.from({ length }, (_, k) => law.p[row ? s * COLUMNS + k : k * COLUMNS + t]);
    const sum = weights.reduce((all, one) => all + one, 0);
    lawBars.setAttribute(
      "d",
      weights
        .map((one, k) => {
          const part = one / sum;
          const [wide, high] = [box.wide - 6, box.high - 4];
          return row
            ? bar(X(k) + 0.35 * box.wide, Y(s) + 2 + high * (1 - part), 0.3 * box.wide, high * part)
            : bar(X(t) + 3, Y(k) + 0.35 * box.high, wide * part, 0.3 * box.high);
        })
        .join(""),
    );
    next.textContent = row
      ? "Next: h from p(h | v), along the row; its law in orange."
      : "Next: v from p(v | h), along the column; its law in orange.";
  }

  grid.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    const at = grid.getBoundingClientRect();
    const t = Math.floor((event.clientX - at.left - box.left) / box.wide),
      s = Math.floor((event.clientY - at.top - box.top) / box.high);
    if (s >= 0 && s < ROWS && t >= 0 && t < COLUMNS) goTo(rbm.state(s, V), rbm.state(t, H));
  });
  grid.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!step) return;
    event.preventDefault();
    const clamp = (value, most) => Math.max(0, Math.min(most, value));
    goTo(
      rbm.state(clamp(rbm.index(chain.v) + step[0], ROWS - 1), V),
      rbm.state(clamp(rbm.index(chain.h) + step[1], COLUMNS - 1), H),
    );
  });

  /* ---- the machine as a graph: click a unit to turn it, an edge to change its weight ---- */
  const graph = nx.s("svg", { class: "nx-plot nx-graph", role: "img" });
  const edges = cells
    .filter((cell) => cell.of === "W")
    .map((cell) => ({
      cell,
      line: nx.s("path", { class: "nx-edge" }),
      grip: nx.s("path", { class: "nx-edgegrip", onclick: () => choose(cells.indexOf(cell), false) }),
    }));
  const unit = (letter, k, turn) => {
    const [name, value] = [
      nx.s("text", { "text-anchor": "middle", y: 4.5, class: "nx-unitname" }, letter + LOW[k]),
      nx.s("text", { "text-anchor": "middle" }),
    ];
    return {
      node: nx.s("g", { class: "nx-node", onclick: turn }, nx.s("circle", { r: 15 }), name, value),
      value,
    };
  };
  const turned = (units, k) => units.map((unit, n) => (n === k ? 1 - unit : unit));
  const hiddenNodes = Array.from({ length: H }, (_, j) =>
    unit("h", j, () => goTo(chain.v, turned(chain.h, j))),
  );
  const visibleNodes = Array.from({ length: V }, (_, i) =>
    unit("v", i, () => goTo(turned(chain.v, i), chain.h)),
  );
  graph.append(
    ...edges.map(({ line }) => line),
    ...edges.map(({ grip }) => grip),
    ...[...hiddenNodes, ...visibleNodes].map(({ node }) => node),
  );
  const nodeAt = { hidden: [], visible: [] };

  function layOutGraph(width) {
    const height = 168;
    nx.set(graph, { width, height, viewBox: "0 0 " + width + " " + height });
    const spread = Math.min(width, 340);
    const x = (k, n) => (width - spread) / 2 + (spread * (k + 0.5)) / n;
    nodeAt.hidden = hiddenNodes.map((_, j) => [x(j, H), 38]);
    nodeAt.visible = visibleNodes.map((_, i) => [x(i, V), 130]);
    hiddenNodes.forEach(({ node, value }, j) => {
      node.setAttribute("transform", "translate(" + nodeAt.hidden[j].join(" ") + ")");
      value.setAttribute("y", -22);
    });
    visibleNodes.forEach(({ node, value }, i) => {
      node.setAttribute("transform", "translate(" + nodeAt.visible[i].join(" ") + ")");
      value.setAttribute("y", 31);
    });
    for (const { cell, line, grip } of edges) {
      const d = nx.path([nodeAt.visible[cell.i], nodeAt.hidden[cell.j]]);
      line.setAttribute("d", d);
      grip.setAttribute("d", d);
    }
  }

  function drawGraph() {
    const ph = rbm.hiddenGiven(machine, chain.v),
      pv = rbm.visibleGiven(machine, chain.h);
    const show = (nodes, units, means) =>
      nodes.forEach(({ node, value }, k) => {
        node.classList.toggle("nx-on", units[k] === 1);
        value.textContent = nx.number(means[k], 2);
      });
    show(hiddenNodes, chain.h, ph);
    show(visibleNodes, chain.v, pv);
    for (const { cell, line } of edges) {
      const weight = valueOf(cell);
      line.setAttribute("class", "nx-edge" + (weight > 0 ? " nx-plus" : weight < 0 ? " nx-minus" : ""));
      line.style.strokeWidth = (1 + (7 * Math.abs(weight)) / LIMIT).toFixed(2);
      line.classList.toggle("nx-looked", cell === cells[chosen]);
    }
    const list = (letter, means) =>
      means.map((m, k) => "P(" + letter + (k + 1) + " = 1) = " + nx.number(m, 2)).join(", ");
    graph.setAttribute(
      "aria-label",
      "The machine in the state v = " +
        text(chain.v) +
        ", h = " +
        text(chain.h) +
        ". Given v: " +
        list("h", [...ph]) +
        ". Given h: " +
        list("v", [...pv]) +
        ".",
    );
  }

  /* ---- the table of weights and biases ---- */
  const table = nx.h("div", { class: "nx-weights", role: "group", "aria-label": "Weights and biases" });
  const head = (words) => nx.h("span", { class: "nx-weighthead" }, words);
  const fields = cells.map((cell, n) => {
    const node = nx.h("div", {
      class: "nx-weight" + (cell.of === "W" ? "" : " nx-bias"),
      role: "spinbutton",
      "aria-label": cell.spoken,
      "aria-valuemin": -LIMIT,
      "aria-valuemax": LIMIT,
    });
    let from = null;
    node.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      event.preventDefault();
      choose(n, true);
      node.setPointerCapture(event.pointerId);
      from = [event.clientX - event.clientY, valueOf(cell)];
    });
    node.addEventListener("pointermove", (event) => {
      if (from) change(cell, from[1] + STEP * Math.round((event.clientX - event.clientY - from[0]) / 6));
    });
    node.addEventListener("lostpointercapture", () => {
      from = null;
      say(words.textContent);
    });
    node.addEventListener("keydown", (event) => {
      const aside = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      const by = {
        ArrowUp: STEP,
        ArrowDown: -STEP,
        PageUp: 1,
        PageDown: -1,
        Home: -2 * LIMIT,
        End: 2 * LIMIT,
      }[event.key];
      if (!aside && !by) return;
      event.preventDefault();
      if (aside) choose((n + aside + cells.length) % cells.length, true);
      else change(cell, valueOf(cell) + by);
    });
    return node;
  });
  table.append(head(""), ...["h₁", "h₂", "h₃", "a"].map(head));
  cells.forEach((cell, n) => {
    if (cell.of === "W" && cell.j === 0) table.append(head("v" + LOW[cell.i]));
    if (cell.of === "b" && cell.j === 0) table.append(head("b"));
    table.append(fields[n]);
  });
  const slider = nx.slider(stage, {
    id: "weight",
    label: cells[0].name,
    min: -LIMIT,
    max: LIMIT,
    step: STEP,
    value: 0,
    format: (value) => nx.number(value, 2),
    change: (value) => change(cells[chosen], value),
  });
  slider.input.addEventListener("change", () => say(words.textContent));

  function choose(n, focus) {
    chosen = n;
    drawTable();
    drawGraph();
    if (focus) fields[n].focus({ preventScroll: true });
  }

  function drawTable() {
    cells.forEach((cell, n) => {
      const value = valueOf(cell),
        node = fields[n];
      node.textContent = nx.number(value, 2);
      nx.set(node, {
        tabindex: n === chosen ? 0 : -1,
        "aria-valuenow": value,
        "aria-valuetext": nx.number(value, 2),
      });
      node.classList.toggle("nx-looked", n === chosen);
      node.style.setProperty("--nx-weight", (55 * Math.abs(value)) / LIMIT + "%");
      node.style.setProperty("--nx-sign", "var(--nx-rbm-" + (value < 0 ? "minus" : "plus") + ")");
    });
    slider.node.querySelector("label").textContent = cells[chosen].name;
    if (Number(slider.input.value) !== valueOf(cells[chosen]) || !slider.shown) {
      slider.shown = true;
      slider.input.value = valueOf(cells[chosen]);
      slider.input.dispatchEvent(new Event("input"));
    }
  }

  const right = nx.h(
    "div",
    {},
    parts.heading("P(hⱼ = 1 | v) above, P(vᵢ = 1 | h) below; a filled unit is 1"),
    graph,
    parts.heading(
      "Weights, biases a and b: ",
      nx.key("rbm-plus", "positive"),
      " ",
      nx.key("rbm-minus", "negative"),
    ),
    table,
    slider.node,
  );
  const facts = {
    energy: nx.fact("Energy E(v, h)"),
    joint: nx.fact("p(v, h)"),
    free: nx.fact("Free energy F(v)"),
    marginal: nx.fact("p(v)"),
    logZ: nx.fact("log Z"),
    lambda: nx.fact("Eigenvalue λ₂ of a sweep"),
  };
  const words = nx.h("p", { class: "nx-words" });
  live.classList.add("nx-landscape");
  live.append(
    nx.h("div", { class: "nx-bar" }, parts.group("Weights to begin with", ...presets), view),
    nx.h("div", { class: "nx-bar" }, buttons, speed),
    nx.h("div", { class: "nx-pair" }, left, right),
    nx.facts(facts),
    words,
  );

  const raised = (digits) => [...digits].map((digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]).join("");
  const small = (p) => {
    if (p >= 0.0005) return nx.number(p, 4);
    const [digits, power] = p.toExponential(1).split("e-");
    return digits + " · 10⁻" + raised(power);
  };

  function drawWords() {
    const [s, t] = [rbm.index(chain.v), rbm.index(chain.h)];
    const e = law.energies[s * COLUMNS + t],
      free = rbm.freeEnergy(machine, chain.v);
    facts.energy.show(nx.number(e, 2), "nats, v = " + text(chain.v) + ", h = " + text(chain.h));
    facts.joint.show(small(law.p[s * COLUMNS + t]), "e^(−E) / Z");
    facts.free.show(nx.number(free, 3), "nats: −log Σ e^(−E) over h");
    facts.marginal.show(small(law.pv[s]), "e^(−F) / Z, the sum of the row");
    facts.logZ.show(nx.number(law.logZ, 3), "all 128 states summed");
    facts.lambda.show(nx.number(law.lambda, 4), lasting());
    reading.textContent =
      "v = " +
      text(chain.v) +
      ", h = " +
      text(chain.h) +
      ": energy " +
      nx.number(e, 2) +
      ", probability " +
      small(law.p[s * COLUMNS + t]) +
      ".";
    words.textContent = sentence();
    presets.forEach((button, n) => parts.press(button, n === settings.preset));
  }

  function lasting() {
    if (law.lambda < 1e-12) return "a sweep forgets everything";
    const memory = 1 / (1 - law.lambda);
    return memory < 1.5 ? "a sweep forgets nearly all" : "memory of about " + nx.plural(memory, "sweep");
  }

  function sentence() {
    if (chain.n) {
      const apart = rbm.variation(chain.visits, law.pv);
      const met = chain.visits.filter((n) => n > 0).length;
      return (
        "After " +
        nx.plural(chain.n, "sweep") +
        " the chain has met " +
        met +
        " of 16 visible states; its visits and " +
        "p(v) are " +
        nx.number(apart, 2) +
        " apart in total variation. " +
        (law.lambda > 0.9
          ? "It forgets slowly: in the colour of energy you see the ridge that it seldom crosses."
          : "The visits follow p(v) ever more closely: a row move and a column move leave p(v, h) as it is.")
      );
    }
    if (settings.preset >= 0) return data.presets[settings.preset].words;
    const cell = changed;
    return (
      cell.name +
      " = " +
      nx.number(valueOf(cell), 2) +
      ": log Z is now " +
      nx.number(law.logZ, 3) +
      ", and " +
      (cell.of === "W"
        ? "the states with v" +
          LOW[cell.i] +
          " = h" +
          LOW[cell.j] +
          " = 1 have all moved by as much in energy."
        : "the states with " +
          (cell.of === "a" ? "v" + LOW[cell.i] : "h" + LOW[cell.j]) +
          " = 1 have all moved by as much in energy.")
    );
  }

  function drawAll() {
    drawGrid();
    drawChain();
    drawGraph();
    drawTable();
    drawWords();
  }

  stage.onResize(() => {
    if (left.clientWidth === 0) return; // on its way to paper
    layOut(Math.min(left.clientWidth, 420));
    layOutGraph(right.clientWidth);
    drawAll();
  });
  setMachine(data.presets[data.first]);
  settings.preset = data.first;
};
