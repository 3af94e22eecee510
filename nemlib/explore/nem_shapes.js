/* The reader draws up to five shapes; a trained RNN-EM, which runs in the page, shares out their pixels. */
nx.build = function (stage) {
  const { data, live, say } = stage;
  const { shapes, slots } = nx;
  const SIDE = data.side,
    PIXELS = SIDE * SIDE,
    MOST_STAMPS = 5,
    MOST_STEPS = 60,
    PER_SECOND = 5;
  const net = shapes.network(data.network);
  const names = ["a square", "a triangle that points up", "a triangle that points down"];
  let stamps = data.stamps.map(([shape, top, left]) => ({ shape, top, left })),
    edits = new Int8Array(PIXELS),
    undo = [],
    drawing,
    K = data.slots,
    kind = "random",
    painted = null,
    seed = data.seed,
    states,
    t,
    tool = 0,
    cursor = null,
    keyed = false,
    refusal = "",
    debt = 0;
  const pictures = nx.random(data.seed + 1000);
  const palette = slots.follow(stage, data.palette, () => drawAll());

  /* ---- the image, the start, the steps ---- */
  function compose() {
    drawing = shapes.compose(data.shapes, stamps, edits, SIDE);
    restart();
  }

  function startGamma() {
    if (kind === "random") return shapes.randomGamma(K, PIXELS, nx.random(seed));
    const gamma = shapes.uniformGamma(K, PIXELS);
    if (kind === "painted" && K > 1) {
      painted.forEach((slot, i) => {
        if (slot < 0) return;
        for (let k = 0; k < K; k += 1) gamma[k * PIXELS + i] = k === slot ? 0.9 : 0.1 / (K - 1);
      });
    }
    return gamma;
  }

  function restart() {
    states = [shapes.begin(net, K, startGamma())];
    t = 0;
  }

  function forward() {
    if (t + 1 === states.length) states.push(shapes.step(net, drawing.image, states[t]));
    t += 1;
  }

  const now = () => states[t];
  const ink = () => drawing.image.reduce((sum, v) => sum + v, 0);
  const gammaAt = (i) => Array.from({ length: K }, (_, k) => now().gamma[k * PIXELS + i]);
  const alike = () => K > 1 && shapes.apart(now().gamma, K, PIXELS) < 1e-9;

  function scores(state) {
    const stamped = new Set(drawing.groups);
    stamped.delete(0);
    if (drawing.free) return { remark: "free-hand ink has no truth" };
    if (stamped.size < 2) return { remark: "for two stamps or more" };
    if (state === states[0]) return { remark: "before the first step" };
    const labels = shapes.labels(state.gamma, K, PIXELS);
    return {
      ami: shapes.adjustedMutualInformation(labels, drawing.groups),
      ari: shapes.adjustedRandIndex(labels, drawing.groups),
    };
  }

  /* ---- drawing ---- */
  function remember() {
    undo.push({ stamps, edits: edits.slice() });
    if (undo.length > 40) undo.shift();
  }

  const place = (shape, i) => {
    const rows = data.shapes[shape];
    const clamp = (value, most) => Math.max(0, Math.min(most, value));
    return {
      shape,
      top: clamp(Math.floor(i / SIDE) - (rows.length >> 1), SIDE - rows.length),
      left: clamp((i % SIDE) - (rows[0].length >> 1), SIDE - rows[0].length),
    };
  };

  function stampAt(i) {
    if (stamps.length >= MOST_STAMPS) {
      refusal = "Five shapes are the most: press Undo or Clear first.";
      return drawWords();
    }
    remember();
    const stamp = place(tool, i);
    edits = edits.slice();
    for (const at of shapes.cells(data.shapes[tool], stamp.top, stamp.left, SIDE)) edits[at] = 0;
    stamps = [...stamps, stamp];
    changed();
  }

  // A square of `size` cells around pixel i, kept inside the canvas.
  function block(i, size) {
    const [y, x] = [Math.floor(i / SIDE), i % SIDE].map((v) =>
      Math.max(0, Math.min(SIDE - size, v - ((size - 1) >> 1))),
    );
    return Array.from({ length: size * size }, (_, n) => (y + Math.floor(n / size)) * SIDE + x + (n % size));
  }

  function strokeAt(i) {
    if (typeof tool === "string" && tool !== "pen" && tool !== "eraser") {
      for (const at of block(i, 3)) painted[at] = Number(tool);
      restart();
    } else {
      edits = edits.slice();
      for (const at of block(i, tool === "pen" ? 2 : 3)) edits[at] = tool === "pen" ? 1 : -1;
      compose();
    }
    refusal = "";
    drawAll();
  }

  function strokeTo(from, to) {
    const [y0, x0, y1, x1] = [from, to].flatMap((i) => [Math.floor(i / SIDE), i % SIDE]);
    const many = Math.max(1, Math.abs(y1 - y0), Math.abs(x1 - x0));
    for (let s = 1; s <= many; s += 1) {
      const at = (a, b) => Math.round(a + ((b - a) * s) / many);
      strokeAt(at(y0, y1) * SIDE + at(x0, x1));
    }
  }

  function changed(spoken) {
    loop.toggle(false);
    refusal = "";
    compose();
    drawAll();
    if (spoken) say(spoken);
  }

  /* ---- the controls ---- */
  const toolButton = (value, label, words) =>
    Object.assign(
      nx.button(label, () => {
        tool = value;
        showTools();
        drawCanvas();
      }),
      { value, title: words, ariaLabel: words },
    );
  const tools = [
    toolButton(0, "■", "Stamp a square"),
    toolButton(1, "▲", "Stamp a triangle that points up"),
    toolButton(2, "▼", "Stamp a triangle that points down"),
    toolButton("pen", "Pen", "Pen"),
    toolButton("eraser", "Eraser", "Eraser"),
  ];
  const brushes = nx.h("div", { class: "nx-buttons", role: "group", "aria-label": "Paint the start of γ" });
  function showTools() {
    for (const button of live.querySelectorAll("button[aria-pressed]")) {
      button.setAttribute("aria-pressed", String(tool) === button.value);
    }
  }
  for (const button of tools) button.setAttribute("aria-pressed", "false");

  function buildBrushes() {
    brushes.hidden = kind !== "painted";
    brushes.replaceChildren(
      nx.h("span", { class: "nx-quiet" }, "Paint γ for slot"),
      ...Array.from({ length: K }, (_, k) => {
        const button = toolButton(String(k), String(k + 1), "Paint γ for slot " + (k + 1));
        button.prepend(nx.h("i", { class: "nx-key", style: "background:var(--nx-slot-" + (k + 1) + ")" }));
        button.setAttribute("aria-pressed", "false");
        return button;
      }),
    );
    if (kind === "painted") tool = "0";
    else if (typeof tool === "string" && /\d/.test(tool)) tool = 0;
    showTools();
  }

  const count = nx.menu(stage, {
    id: "k",
    label: "Slots K",
    value: String(K),
    choices: [1, 2, 3, 4, 5, 6].map((k) => [String(k), String(k)]),
    change: (value) => {
      K = Number(value);
      resetStart(nx.plural(K, "slot") + ".");
    },
  });
  const start = nx.menu(stage, {
    id: "start",
    label: "Start of γ",
    value: kind,
    choices: [
      ["random", "random"],
      ["uniform", "uniform: 1/K"],
      ["painted", "painted by hand"],
    ],
    change: (value) => {
      kind = value;
      resetStart("The start of γ is " + value + ".");
    },
  });
  const another = nx.button("Another start", () => {
    seed += 1;
    resetStart("Another random start.");
  });

  function resetStart(spoken) {
    loop.toggle(false);
    painted = new Int8Array(PIXELS).fill(-1);
    another.disabled = kind !== "random";
    refusal = "";
    buildBrushes();
    buildSlots();
    restart();
    drawAll();
    say(spoken);
  }

  const buttons = {
    step: nx.button(
      "Step",
      () => {
        loop.toggle(false);
        if (t < MOST_STEPS) forward();
        drawAll();
        say(words.textContent);
      },
      { primary: true },
    ),
    run: nx.button("Run 15", () => loop.toggle(!loop.running)),
    back: nx.button("Back", () => {
      loop.toggle(false);
      t = Math.max(0, t - 1);
      drawAll();
      say(words.textContent);
    }),
    reset: nx.button("Reset", () => {
      loop.toggle(false);
      restart();
      drawAll();
      say("Step 0, the same start.");
    }),
  };
  let goal = 0;
  const loop = nx.loop(
    stage.root,
    (seconds) => {
      debt += PER_SECOND * seconds;
      if (nx.reducedMotion()) debt = goal - t;
      if (debt < 1) return true;
      for (; debt >= 1 && t < goal; debt -= 1) forward();
      drawAll();
      return t < goal;
    },
    (on) => {
      buttons.run.textContent = on ? "Pause" : "Run 15";
      debt = 0;
      goal = Math.min(MOST_STEPS, t + 15);
      if (on) return say("EM runs.");
      drawAll();
      say(words.textContent);
    },
  );

  const random = nx.button("Random image", () => {
    remember();
    stamps = Array.from({ length: 3 }, () => shapes.randomStamp(data.shapes, pictures, SIDE));
    edits = new Int8Array(PIXELS);
    changed("Three shapes at random: " + stamps.map(({ shape }) => names[shape]).join(", ") + ".");
  });
  const back = nx.button("Undo", () => {
    const last = undo.pop();
    if (last) ({ stamps, edits } = last);
    changed("The last change of the drawing is undone.");
  });
  const clear = nx.button("Clear", () => {
    remember();
    stamps = [];
    edits = new Int8Array(PIXELS);
    changed("The canvas is empty.");
  });

  /* ---- the canvas ---- */
  const canvas = nx.h("canvas", {
    class: "nx-canvas",
    tabindex: 0,
    role: "application",
    "aria-label":
      "Canvas of 28 by 28 pixels: arrow keys move, with Shift by four; Enter or Space applies the tool",
  });
  const numbers = nx.h("input", {
    type: "checkbox",
    id: stage.name("numbers"),
    onchange: () => drawCanvas(),
  });
  const reading = nx.h("p", { class: "nx-quiet nx-reading" });
  const left = nx.h(
    "div",
    {},
    canvas,
    reading,
    nx.h(
      "div",
      { class: "nx-check" },
      numbers,
      nx.h("label", { for: numbers.id }, "Write each pixel's slot on it"),
    ),
  );
  let dpr = 1,
    cell = 10;

  const pixelOf = (event) => {
    const box = canvas.getBoundingClientRect();
    const part = (value) => Math.max(0, Math.min(SIDE - 1, Math.floor(value * SIDE)));
    return part((event.clientY - box.top) / box.height) * SIDE + part((event.clientX - box.left) / box.width);
  };
  let stroke = null;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    event.preventDefault();
    canvas.focus({ preventScroll: true });
    keyed = false;
    loop.toggle(false);
    cursor = pixelOf(event);
    if (typeof tool === "number") return stampAt(cursor);
    canvas.setPointerCapture(event.pointerId);
    remember();
    stroke = cursor;
    strokeAt(cursor);
  });
  canvas.addEventListener("pointermove", (event) => {
    const i = pixelOf(event);
    if (stroke !== null) strokeTo(stroke, i);
    if (stroke !== null) stroke = i;
    if (i === cursor) return;
    cursor = i;
    keyed = false;
    drawCanvas();
  });
  const lift = () => {
    if (stroke !== null) say(words.textContent);
    stroke = null;
  };
  canvas.addEventListener("lostpointercapture", lift);
  canvas.addEventListener("pointerleave", () => {
    if (stroke !== null || keyed) return;
    cursor = null;
    drawCanvas();
  });
  canvas.addEventListener("blur", () => {
    keyed = false;
    cursor = null;
    drawCanvas();
  });
  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    const apply = event.key === "Enter" || event.key === " ";
    if (!move && !apply) return;
    event.preventDefault();
    loop.toggle(false);
    if (cursor === null) cursor = (SIDE >> 1) * SIDE + (SIDE >> 1);
    else if (move) {
      const far = event.shiftKey ? 4 : 1;
      const [y, x] = [Math.floor(cursor / SIDE), cursor % SIDE].map((v, i) =>
        Math.max(0, Math.min(SIDE - 1, v + far * move[i])),
      );
      cursor = y * SIDE + x;
    }
    keyed = true;
    if (apply && typeof tool === "number") stampAt(cursor);
    else if (apply) {
      remember();
      strokeAt(cursor);
    } else drawCanvas();
    say(apply ? words.textContent : reading.textContent);
  });

  /* ---- ψ of each slot, and what the steps do to loss and score ---- */
  const grid = nx.h("div", { class: "nx-slots" });
  let panels = [];
  function buildSlots() {
    panels = Array.from({ length: K }, (_, k) => {
      const picture = nx.h("canvas", { class: "nx-psi", role: "img", width: SIDE, height: SIDE });
      const share = nx.h("span", { class: "nx-share" });
      grid.append(
        nx.h(
          "div",
          { class: "nx-slot" },
          picture,
          nx.h("span", {}, nx.key("slot-" + (k + 1), "Slot " + (k + 1)), share),
        ),
      );
      return { node: grid.lastChild, picture, share };
    });
    grid.replaceChildren(...panels.map((panel) => panel.node));
    fitSlots();
  }
  function fitSlots() {
    const columns = K === 3 || K > 4 ? 3 : 2;
    const width = Math.min(132, (right.clientWidth - 12 * (columns - 1)) / columns);
    grid.style.gridTemplateColumns = "repeat(" + columns + ", " + width + "px)";
  }
  const chart = (name, yTicks) =>
    nx.plot({
      x: [0, 15],
      y: [0, 1],
      yTicks,
      clip: stage.name(name),
      margin: { left: 40, top: 4, right: 6, bottom: 18 },
      attributes: { "aria-hidden": "true" },
    });
  const [losses, amis] = [chart("losses"), chart("amis", [0, 0.5, 1])];
  const layer = (plot, name) => plot.marks.appendChild(nx.s("path", { class: name }));
  const [lossLine, lossDot, amiLine, amiDot] = [
    layer(losses, "nx-lossline"),
    layer(losses, "nx-lossdot"),
    layer(amis, "nx-lossline"),
    layer(amis, "nx-lossdot"),
  ];
  const heading = (...parts) => nx.h("p", { class: "nx-heading" }, ...parts);
  const charts = nx.h(
    "div",
    { class: "nx-charts" },
    nx.h("div", {}, heading("Loss by step, nats"), losses.node),
    nx.h("div", {}, heading("AMI by step"), amis.node),
  );
  const right = nx.h(
    "div",
    {},
    heading("What each slot predicts: ψ, from paper (0) to ink (1)"),
    grid,
    charts,
  );
  const facts = {
    step: nx.fact("Step"),
    loss: nx.fact("Loss"),
    ami: nx.fact("AMI"),
    ari: nx.fact("ARI"),
  };
  const words = nx.h("p", { class: "nx-words" });
  const group = (label, ...nodes) =>
    nx.h("div", { class: "nx-buttons", role: "group", "aria-label": label }, ...nodes);
  live.append(
    nx.h("div", { class: "nx-bar" }, group("Tools", ...tools), group("Images", random, back, clear)),
    nx.h("div", { class: "nx-bar" }, count, start, another, brushes),
    nx.h("div", { class: "nx-bar" }, group("Steps of EM", ...Object.values(buttons))),
    nx.h("div", { class: "nx-pair" }, left, right),
    nx.facts(facts),
    words,
  );

  function drawCanvas() {
    const context = canvas.getContext("2d"),
      { gamma } = now();
    const paper = slots.channels(palette.paper).map((c) => 255 * c);
    for (let i = 0; i < PIXELS; i += 1) {
      const weights = gammaAt(i);
      const colour = slots.mix(palette.colours, weights);
      const shade = drawing.image[i] ? colour : colour.map((c, n) => Math.round(0.13 * c + 0.87 * paper[n]));
      context.fillStyle = slots.rgb(shade);
      context.fillRect((i % SIDE) * cell, Math.floor(i / SIDE) * cell, cell, cell);
      const leader = slots.leader(weights);
      if (numbers.checked && drawing.image[i] && leader >= 0) write(context, i, leader);
    }
    if (cursor !== null) drawCursor(context);
    drawReading(gamma);
  }

  function write(context, i, leader) {
    context.fillStyle = palette.paper;
    context.font = "bold " + 0.82 * cell + "px sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillText(String(leader + 1), ((i % SIDE) + 0.5) * cell, (Math.floor(i / SIDE) + 0.56) * cell);
  }

  // Where the tool would act.
  function drawCursor(context) {
    let reached = block(cursor, tool === "pen" ? 2 : 3);
    if (typeof tool === "number") {
      const { top, left: first } = place(tool, cursor);
      reached = shapes.cells(data.shapes[tool], top, first, SIDE);
    }
    context.fillStyle = palette.ink;
    context.globalAlpha = 0.3;
    for (const i of reached) context.fillRect((i % SIDE) * cell, Math.floor(i / SIDE) * cell, cell, cell);
    context.globalAlpha = 1;
    context.strokeStyle = palette.ink;
    context.lineWidth = Math.max(1.5, 1.5 * dpr);
    context.strokeRect((cursor % SIDE) * cell, Math.floor(cursor / SIDE) * cell, cell, cell);
  }

  function drawReading() {
    reading.textContent =
      cursor === null
        ? "Point at a pixel to read its γ; press to draw."
        : "Row " +
          (1 + Math.floor(cursor / SIDE)) +
          ", column " +
          (1 + (cursor % SIDE)) +
          ", " +
          (drawing.image[cursor] ? "ink" : "paper") +
          ": γ = " +
          gammaAt(cursor)
            .map((g) => nx.number(g, 2))
            .join(", ");
  }

  function drawSlots() {
    const leaders = drawing.image.map((on, i) => (on ? slots.leader(gammaAt(i)) : -1) + 1),
      even = alike(),
      all = ink();
    const [from, to] = [palette.paper, palette.ink].map((hex) => slots.channels(hex).map((c) => 255 * c));
    panels.forEach(({ picture, share }, k) => {
      const context = picture.getContext("2d");
      const image = context.createImageData(SIDE, SIDE);
      for (let i = 0; i < PIXELS; i += 1) {
        const p = now().psi[k * PIXELS + i];
        for (let n = 0; n < 3; n += 1) image.data[4 * i + n] = Math.round(from[n] + p * (to[n] - from[n]));
        image.data[4 * i + 3] = 255;
      }
      context.putImageData(image, 0, 0);
      const mine = leaders.filter((leader) => leader === k + 1).length;
      panels[k].mine = mine;
      share.textContent = even ? "tied" : nx.count(mine) + " px";
      picture.setAttribute(
        "aria-label",
        "Prediction of slot " +
          (k + 1) +
          (even ? ", tied with all others" : ": it claims " + mine + " of " + all + " ink pixels"),
      );
    });
  }

  function drawCharts() {
    const shown = states.slice(0, t + 1);
    const values = shown.map((state) => state.loss).slice(1);
    const all = shown.map((state) => scores(state).ami).slice(1);
    const far = Math.max(15, t);
    const top = values.length ? Math.max(...values) : 1;
    const low = values.length ? Math.min(...values) : 0;
    const spare = Math.max(1, 0.08 * (top - low));
    losses.yTicks = values.length ? nx.ticks(Math.max(0, low - spare), top + spare, 4) : [];
    losses.scale([0, far], [Math.max(0, low - spare), top + spare]);
    amis.scale([0, far], [-0.08, 1.06]);
    const line = (plot, ys) =>
      ys.flatMap((y, i) => (y === undefined ? [] : [[plot.X(i + 1), plot.Y(Math.max(y, plot.y[0]))]]));
    for (const [plot, ys, path, dot] of [
      [losses, values, lossLine, lossDot],
      [amis, all, amiLine, amiDot],
    ]) {
      const points = line(plot, ys);
      path.setAttribute("d", nx.path(points));
      dot.setAttribute(
        "d",
        points.length ? "M" + points[points.length - 1].map((v) => v.toFixed(1)).join(" ") + "h0" : "",
      );
    }
  }

  function drawWords() {
    const state = now(),
      { ami, ari, remark } = scores(state);
    facts.step.show(nx.count(t), t ? "of EM" : "the start");
    facts.loss.show(
      t ? nx.number(state.loss, 1) : "—",
      t ? "nats, the whole image" : "nothing predicted yet",
    );
    facts.ami.show(nx.number(ami, 3), remark || "against the stamps");
    facts.ari.show(nx.number(ari, 3), remark ? "" : "overlap not counted");
    for (const name of ["step", "run"]) buttons[name].disabled = !ink() || t >= MOST_STEPS;
    buttons.back.disabled = buttons.reset.disabled = t === 0;
    back.disabled = undo.length === 0;
    words.textContent = refusal || sentence();
  }

  // Ink pixels whose slot differs from the one of the step before.
  function moved() {
    const [before, after] = [states[t - 1], states[t]].map((state) => shapes.labels(state.gamma, K, PIXELS));
    return after.reduce((sum, label, i) => sum + (drawing.image[i] && label !== before[i] ? 1 : 0), 0);
  }

  function sentence() {
    if (!ink()) return "The canvas is empty. Stamp up to five shapes, draw by hand, or take a random image.";
    if (K === 1)
      return t
        ? "One slot has nobody to compete with: γ is 1 everywhere, and ψ tries to be the whole image."
        : "One slot: every pixel is its own from the start.";
    if (alike() && t === 0)
      return (
        "Every pixel belongs to every slot by 1/" +
        K +
        ", and all slots are the same. Press Run 15, and look for " +
        (kind === "painted"
          ? "a difference; then paint a few pixels for one slot."
          : "any difference between them.")
      );
    if (alike())
      return (
        "After " +
        nx.plural(t, "step") +
        " all slots are still the same, to the last digit. The same update on the " +
        "same input gives the same output: nothing but the start can break the tie."
      );
    if (t === 0)
      return kind === "random"
        ? "Step 0: γ is drawn at random, and is all that tells the slots apart. Nothing is predicted yet."
        : "Step 0: the pixels that you painted are all that tells the slots apart. Press Step.";
    const hands = moved(),
      idle = panels.map(({ mine }, k) => (mine ? "" : String(k + 1))).filter(Boolean);
    return (
      "Step " +
      t +
      ": " +
      (t === 1
        ? "each slot saw its own share of the image and made a first guess."
        : (hands ? nx.plural(hands, "pixel") : "no pixel") + " of ink went to another slot.") +
      (idle.length
        ? " No ink is left for slot" +
          (idle.length > 1 ? "s " : " ") +
          idle.join(", ").replace(/, (?=\d$)/, " and ") +
          "."
        : "") +
      (K === data.slots
        ? ""
        : " The network was trained with K = " + data.slots + ": it never saw " + K + ".")
    );
  }

  function drawAll() {
    drawCanvas();
    drawSlots();
    drawCharts();
    drawWords();
  }

  stage.onResize(() => {
    dpr = window.devicePixelRatio || 1;
    const side = Math.min(left.clientWidth, 420);
    cell = Math.max(4, Math.round((side * dpr) / SIDE));
    canvas.width = canvas.height = cell * SIDE;
    canvas.style.width = canvas.style.height = side + "px";
    fitSlots();
    const room = (right.clientWidth - 12) / 2;
    for (const plot of [losses, amis]) plot.resize(room, 92);
    drawAll();
  });
  painted = new Int8Array(PIXELS).fill(-1);
  compose();
  buildBrushes();
  buildSlots();
};
