/* A trained MADE in the page: it draws a digit pixel by pixel, counts the nats of each, and completes what the
   reader gives it: the upper rows of a test digit, or pixels set by hand. */
nx.build = function (stage) {
  const { data, live, say } = stage;
  const { madePixels: made, parts } = nx;
  const { height, width } = data;
  const PIXELS = height * width,
    WAYS = 6, // completions side by side
    DRAWS = 32, // completions behind the pale estimate
    DARKEST = 3, // nats of a pixel in the strongest colour
    PACES = 9; // 2, 4, …, 512 pixels a second
  const model = made.unpack(data.model);
  const digits = made.images(data.digits, data.names.length, PIXELS);
  const digitNats = digits.map((digit) => made.costs(model, digit));
  const settings = { tool: "1", size: 2, view: "pixels", ahead: "mean", pace: 4, temperature: 1 };
  const ways = nx.random(data.seed + 1);
  let seed = data.seed,
    uniforms,
    source = null, // the test digit whose upper rows are given
    beside = 0, // the test digit that is compared with
    rows = data.rows,
    forced, // 1 and 0 where a pixel is set, -1 where the model draws it
    state,
    x,
    nats,
    hats, // x̂ of the pixels that are there
    estimate = { at: -1 },
    tempered = false, // was a pixel of this picture drawn at another temperature than 1?
    finished = [],
    cursor = null,
    keyed = false,
    stroke = null;
  const palette = parts.follow(stage, data.palette, () => drawAll());

  /* ---- state ---- */
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const total = () => sum(nats.subarray(0, state.t));
  const done = () => state.t === PIXELS;
  const place = (i) => "row " + (1 + Math.floor(i / width)) + ", column " + (1 + (i % width));
  const capital = (text) => text[0].toUpperCase() + text.slice(1);
  const inNats = (value, digits = 2) => nx.number(value, digits) + " nats";
  const options = () => ({ forced, uniforms, temperature: settings.temperature });

  function sow() {
    const random = nx.random(seed);
    uniforms = Float64Array.from({ length: PIXELS }, random.uniform);
  }
  function put(value) {
    const t = state.t,
      a = made.logit(model, state);
    x[t] = value;
    hats[t] = made.sigmoid(a);
    nats[t] = made.cost(a, value);
    made.put(model, state, value);
    estimate = { at: -1 };
  }
  function step() {
    const t = state.t;
    if (forced[t] < 0 && settings.temperature !== 1) tempered = true;
    put(made.choose(made.logit(model, state), forced[t], uniforms[t], settings.temperature));
  }
  // The first `count` pixels of x as they now are, and nothing behind them.
  function replay(count) {
    state = made.begin(model);
    while (state.t < count) put(x[state.t]);
  }
  function startOver() {
    replay(0);
    tempered = false;
    while (!done() && forced[state.t] >= 0) step();
    finished = [];
  }
  function give(index) {
    source = index;
    if (index !== null) beside = index;
    forced.fill(-1);
    if (index !== null) forced.set(digits[index].subarray(0, rows * width));
    showStart();
    settle(startOver, given);
  }
  // Every change by hand stops the drawing, and then the page says what it did.
  function settle(change, sentence) {
    loop.toggle(false);
    change();
    tell(sentence());
    drawAll();
    say(words.textContent);
  }

  /* ---- what the page says ---- */
  const asHat = (p) => (p < 0.0005 ? "< 0.001" : p > 0.9995 ? "> 0.999" : "= " + nx.number(p, 3));
  const tell = (text) => {
    words.textContent = text;
  };
  function given() {
    if (source === null)
      return (
        "Nothing is given. The first pixel is drawn without seeing any other, each later one given all before " +
        "it. Press Play."
      );
    if (done()) return "All rows of " + data.names[source] + " are given. " + whole();
    return (
      (rows === 1 ? "The first row" : "The first " + rows + " rows") +
      " of " +
      data.names[source] +
      " cost " +
      inNats(total(), 1) +
      ". Press Play and the model draws the rest, or ask for six ways to go on."
    );
  }
  function lastOne() {
    const t = state.t - 1,
      warm = settings.temperature !== 1;
    if (t < 0) return given();
    const price = "This costs " + inNats(nats[t]) + ".";
    const hat = "x̂ " + asHat(hats[t]);
    if (forced[t] >= 0) return capital(place(t)) + " is set to " + x[t] + ", where " + hat + ". " + price;
    const why = warm
      ? ", drawn at temperature " + nx.number(settings.temperature, 1)
      : ", and u = " +
        nx.number(uniforms[t], 3) +
        (x[t] ? " lies below it" : " does not lie below it");
    return capital(place(t)) + " becomes " + x[t] + ": " + hat + why + ". " + price;
  }
  function dearest(from) {
    let best = from;
    for (let i = from; i < state.t; i += 1) if (nats[i] > nats[best]) best = i;
    return "the dearest was " + place(best) + ", " + inNats(nats[best]);
  }
  function whole() {
    return (
      "−log p(x) is the sum of the costs of its " +
      PIXELS +
      " pixels, " +
      inNats(total()) +
      ": exact, with no Z and no bound; " +
      dearest(0) +
      "." +
      (tempered
        ? " Not all was drawn at temperature 1: it is no draw from p, and its p is exact all the same."
        : "")
    );
  }
  const report = (from = state.t - 1) => {
    if (done()) return "The picture is complete. " + whole();
    if (state.t - from < 2) return lastOne();
    const price = inNats(sum(nats.subarray(from, state.t)));
    return nx.plural(state.t - from, "pixel") + " for " + price + "; " + dearest(from) + ".";
  };

  // What a stroke changed: pixels that are there, pixels just reached, pixels that wait for their turn.
  function changed(before) {
    const past = before.x.map((value, i) => i < before.t && i < state.t && value !== x[i]);
    const both = nats.subarray(0, Math.min(before.t, state.t));
    const more = (keep) => sum(both.map((now, i) => (keep(past[i]) ? now - before.nats[i] : 0)));
    const many = past.filter(Boolean).length;
    const waiting = forced.filter((value, i) => i >= state.t && value >= 0).length;
    const said = [];
    if (state.t < before.t) said.push("The picture is taken back to " + place(state.t) + ".");
    if (many) {
      const [own, others] = [more((hit) => hit), more((hit) => !hit)];
      said.push(
        nx.plural(many, "pixel") +
          " changed: " +
          signed(own) +
          " for " +
          (many === 1 ? "itself" : "themselves") +
          ", and " +
          signed(others) +
          " for the pixels after, which were drawn given something else.",
      );
    }
    if (state.t > before.t)
      said.push(
        nx.plural(state.t - before.t, "pixel") +
          " set, for " +
          inNats(sum(nats.subarray(before.t, state.t))) +
          (state.t === before.t + 1 ? ", where x̂ " + asHat(hats[before.t]) : "") +
          ".",
      );
    if (waiting)
      said.push(
        nx.plural(waiting, "pixel is", "pixels are") +
          " set before " +
          (waiting === 1 ? "its" : "their") +
          " turn: the pixels between are drawn without knowing.",
      );
    return said.join(" ") || "Nothing changed.";
  }
  const signed = (value) => (value < 0 ? "" : "+") + inNats(value);

  /* ---- the controls ---- */
  const face = (name) => nx.h("canvas", { width, height, class: name, "aria-hidden": "true" });
  const thumbs = digits.map((digit, n) => {
    const canvas = face("nx-thumb");
    const button = nx.button("", () => give(n));
    button.setAttribute("aria-label", "Begin with the upper rows of " + data.names[n]);
    button.classList.add("nx-facebutton");
    button.append(canvas);
    return { button, canvas, digit };
  });
  const empty = nx.button("Nothing", () => give(null));
  const rowsGiven = nx.slider(stage, {
    id: "rows",
    label: "Rows given",
    min: 0,
    max: height,
    step: 1,
    value: rows,
    format: (value) => value + " of " + height,
    change: (value) => {
      rows = value;
      give(source === null ? beside : source);
    },
  });

  const run = nx.button(
    "Play",
    () => {
      if (done() && !loop.running) startOver();
      loop.toggle(!loop.running);
    },
    { primary: true },
  );
  const hand = (label, change) =>
    nx.button(label, () => {
      const from = state.t;
      settle(change, () => report(from));
    });
  const until = (end) => () => {
    const stop = Math.min(PIXELS, end());
    while (state.t < stop) step();
  };
  const onward = [
    hand("Pixel", until(() => state.t + 1)),
    hand("Row", until(() => width * (1 + Math.floor(state.t / width)))),
    hand(
      "Whole digit",
      until(() => PIXELS),
    ),
  ];
  const again = nx.button("Start over", () => settle(startOver, lastOne));
  const reseed = nx.button("New seed", () =>
    settle(
      () => {
        seed += 1;
        sow();
        startOver();
      },
      () => "Seed " + seed + ": another u for every pixel. " + lastOne(),
    ),
  );
  let debt = 0;
  const loop = nx.loop(
    stage.root,
    (seconds) => {
      const pace = 2 ** (1 + settings.pace);
      debt += pace * seconds;
      if (debt < (nx.reducedMotion() ? pace : 1)) return true;
      for (; debt >= 1 && !done(); debt -= 1) step();
      tell(report());
      drawAll();
      return !done();
    },
    (on) => {
      run.textContent = on ? "Pause" : "Play";
      debt = 0;
      if (on) return say("The model draws.");
      tell(report());
      drawAll();
      say(words.textContent);
    },
  );
  const speed = nx.slider(stage, {
    id: "pace",
    label: "Speed",
    min: 0,
    max: PACES - 1,
    step: 1,
    value: settings.pace,
    format: (value) => 2 ** (1 + value) + "/s",
    spoken: (value) => 2 ** (1 + value) + " pixels a second",
    change: (value) => {
      settings.pace = value;
    },
  });
  const temperature = nx.slider(stage, {
    id: "temperature",
    label: "Temperature",
    min: 0,
    max: 2,
    step: 0.1,
    value: settings.temperature,
    format: (value) => nx.number(value, 1),
    change: (value) => {
      settings.temperature = value;
      estimate = { at: -1 };
      drawAll();
    },
  });

  const TOOLS = [
    ["1", "Ink", "Set a pixel to 1"],
    ["0", "Paper", "Set a pixel to 0"],
    ["free", "Free", "Give a pixel back to the model; where it is there already, the picture is taken back to it"],
  ];
  const tools = TOOLS.map(([name, label, title]) => {
    const button = nx.button(label, () => {
      settings.tool = name;
      showTools();
    });
    button.title = title;
    return { name, button };
  });
  const showStart = () => {
    parts.press(empty, source === null);
    thumbs.forEach(({ button }, n) => parts.press(button, n === source));
  };
  const showTools = () => tools.forEach(({ name, button }) => parts.press(button, name === settings.tool));
  const menu = (id, label, choices) =>
    nx.menu(stage, {
      id,
      label,
      value: String(settings[id]),
      choices,
      change: (value) => {
        settings[id] = id === "size" ? Number(value) : value;
        drawAll();
      },
    });
  const size = menu("size", "Brush", [
    ["1", "1 pixel"],
    ["2", "2 × 2"],
  ]);
  const view = menu("view", "Pixels there", [
    ["pixels", "as they are"],
    ["nats", "what each cost"],
  ]);
  const future = menu("ahead", "Pixels to come", [
    ["mean", "mean of " + DRAWS + " completions"],
    ["zeros", "outputs if all between were 0"],
    ["nothing", "nothing"],
  ]);

  /* ---- the canvas ---- */
  const canvas = nx.h("canvas", {
    class: "nx-canvas",
    tabindex: 0,
    role: "application",
    "aria-label":
      "Picture of " +
      height +
      " by " +
      width +
      " pixels: arrow keys move, with Shift by four; Enter or Space sets; 1, 0 and Delete set, clear and free",
  });
  const reading = nx.h("p", { class: "nx-quiet nx-reading" });
  let cell = 10,
    dpr = 1;
  const clamp = (value, most) => Math.max(0, Math.min(most - 1, value));
  const pixelOf = (event) => {
    const box = canvas.getBoundingClientRect();
    const r = clamp(Math.floor(((event.clientY - box.top) / box.height) * height), height),
      c = clamp(Math.floor(((event.clientX - box.left) / box.width) * width), width);
    return r * width + c;
  };
  function brush(i) {
    const side = settings.tool === "free" ? 1 : Math.min(settings.size, height, width);
    const r = clamp(Math.floor(i / width), height - side + 1),
      c = clamp(i % width, width - side + 1);
    return Array.from({ length: side * side }, (_, n) => (r + Math.floor(n / side)) * width + c + (n % side));
  }
  const snapshot = () => ({ t: state.t, x: Array.from(x), nats: Float64Array.from(nats) });

  function paintAt(i) {
    const value = settings.tool === "free" ? -1 : Number(settings.tool);
    let back = state.t,
      different = false;
    for (const at of brush(i)) {
      forced[at] = value;
      if (at >= state.t) continue;
      if (value < 0) back = Math.min(back, at);
      else if (x[at] !== value) {
        x[at] = value;
        different = true;
      }
    }
    if (different || back < state.t) replay(back);
    if (value >= 0) while (!done() && forced[state.t] >= 0) step();
    estimate = { at: -1 };
  }
  function strokeTo(from, to) {
    const [r0, c0, r1, c1] = [from, to].flatMap((i) => [Math.floor(i / width), i % width]);
    const many = Math.max(1, Math.abs(r1 - r0), Math.abs(c1 - c0));
    for (let s = 1; s <= many; s += 1) {
      const at = (a, b) => Math.round(a + ((b - a) * s) / many);
      paintAt(at(r0, r1) * width + at(c0, c1));
    }
  }
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    event.preventDefault();
    canvas.focus({ preventScroll: true });
    loop.toggle(false);
    keyed = false;
    cursor = pixelOf(event);
    stroke = { at: cursor, before: snapshot() };
    canvas.setPointerCapture(event.pointerId);
    paintAt(cursor);
    tell(changed(stroke.before));
    drawAll();
  });
  canvas.addEventListener("pointermove", (event) => {
    const i = pixelOf(event);
    if (i === cursor) return;
    keyed = false;
    cursor = i;
    if (!stroke) return drawCanvas();
    strokeTo(stroke.at, i);
    stroke.at = i;
    tell(changed(stroke.before));
    drawAll();
  });
  canvas.addEventListener("lostpointercapture", () => {
    if (stroke) say(words.textContent);
    stroke = null;
  });
  const leave = () => {
    if (stroke || keyed) return;
    cursor = null;
    drawCanvas();
  };
  canvas.addEventListener("pointerleave", leave);
  canvas.addEventListener("blur", () => {
    keyed = false;
    leave();
  });
  const MOVES = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  const KEYS = { 1: "1", 0: "0", Delete: "free", Backspace: "free" };
  canvas.addEventListener("keydown", (event) => {
    const move = MOVES[event.key],
      tool = KEYS[event.key],
      apply = tool || event.key === "Enter" || event.key === " ";
    if ((!move && !apply) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    if (cursor === null) cursor = Math.min(state.t, PIXELS - 1);
    else if (move) {
      const far = event.shiftKey ? 4 : 1;
      const r = clamp(Math.floor(cursor / width) + far * move[0], height),
        c = clamp((cursor % width) + far * move[1], width);
      cursor = r * width + c;
    }
    keyed = true;
    if (tool) settings.tool = tool;
    showTools();
    if (!apply) {
      drawCanvas();
      return say(reading.textContent);
    }
    const before = snapshot();
    settle(
      () => paintAt(cursor),
      () => changed(before),
    );
  });

  /* ---- the next pixel, the sum, six ways to go on ---- */
  const needle = nx.h("i", { class: "nx-needle" }),
    filled = nx.h("i", { class: "nx-filled" });
  const bar = nx.h("div", { class: "nx-chance", "aria-hidden": "true" }, filled, needle);
  const nextWords = nx.h("p", { class: "nx-quiet nx-next" });
  const chart = nx.plot({
    x: [0, PIXELS],
    y: [0, 100],
    clip: stage.name("sum"),
    xLabel: "pixels",
    margin: { left: 42, top: 6, right: 8, bottom: 34 },
    attributes: { "aria-hidden": "true" },
  });
  const layer = (name) => chart.marks.appendChild(nx.s("path", { class: name }));
  const [besideLine, sumLine, sumDot] = [layer("nx-besideline"), layer("nx-sumline"), layer("nx-sumdot")];
  const facts = {
    sofar: nx.fact("So far"),
    picture: nx.fact("log p(x) of this picture"),
    beside: nx.fact("log p of the test digit"),
    work: nx.fact("Work"),
  };
  const keyLine = parts.heading();
  const chartName = parts.heading();
  const words = nx.h("p", { class: "nx-words" });

  const small = () => {
    const picture = nx.h("canvas", { width, height, class: "nx-small", role: "img" });
    const caption = nx.h("span", {});
    return { node: nx.h("div", { class: "nx-way" }, picture, caption), picture, caption };
  };
  const smalls = Array.from({ length: WAYS + 1 }, small);
  const goOn = nx.button("Six ways to go on", () =>
    settle(
      () => {
        finished = Array.from({ length: WAYS }, () => {
          const drawn = Float64Array.from({ length: PIXELS }, ways.uniform);
          const rest = made.finish(model, state, { ...options(), uniforms: drawn });
          return {
            from: state.t,
            x: [...x.subarray(0, state.t), ...rest.x],
            set: Array.from(forced, (value, i) => value >= 0),
            nats: total() + sum(rest.nats),
          };
        });
      },
      () =>
        "Six ways to go on from " +
        place(state.t) +
        ": −log p of the whole picture from " +
        nx.number(Math.min(...finished.map((one) => one.nats)), 1) +
        " to " +
        inNats(Math.max(...finished.map((one) => one.nats)), 1) +
        ". The test digit costs " +
        nx.number(sum(digitNats[beside]), 1) +
        ".",
    ),
  );
  const waysBox = nx.h("div", { class: "nx-ways" }, ...smalls.map(({ node }) => node));

  const left = nx.h(
    "div",
    {},
    keyLine,
    canvas,
    reading,
    nx.h(
      "div",
      { class: "nx-bar nx-undercanvas" },
      parts.group("What the brush sets", ...tools.map(({ button }) => button)),
      size,
    ),
  );
  const right = nx.h(
    "div",
    {},
    parts.heading("The next pixel"),
    bar,
    nextWords,
    chartName,
    chart.node,
    nx.facts(facts),
  );
  live.append(
    nx.h(
      "div",
      { class: "nx-bar" },
      parts.group(
        "Begin with",
        nx.h("span", { class: "nx-quiet" }, "Begin with"),
        empty,
        ...thumbs.map(({ button }) => button),
      ),
      rowsGiven.node,
    ),
    nx.h("div", { class: "nx-bar" }, parts.group("Drawing", run, ...onward), parts.group("Anew", again, reseed)),
    nx.h("div", { class: "nx-bar" }, speed.node, temperature.node),
    nx.h("div", { class: "nx-pair" }, left, right),
    words,
    nx.h("div", { class: "nx-bar nx-looks" }, view, future, goOn),
    waysBox,
    nx.h(
      "p",
      { class: "nx-quiet" },
      "Why so little work: a pixel that becomes 1 adds its column of W to the hidden units, a 0 changes nothing, " +
        "and the next x̂ needs one row of V. Nothing else of a pass is new.",
    ),
  );

  /* ---- drawing ---- */
  // For a pixel to come: how dark its pale estimate is.
  function foresee() {
    const key = settings.ahead + loop.running;
    if (settings.ahead === "nothing" || done()) return () => 0;
    const row = Math.floor(state.t / width);
    const kept = loop.running ? estimate.row === row : estimate.at === state.t;
    if (!kept || estimate.key !== key) {
      const values =
        settings.ahead === "zeros"
          ? made.ahead(model, state).map(made.sigmoid)
          : made.expected(model, state, { ...options(), random: nx.random(data.seed + 2) }, DRAWS);
      estimate = { at: state.t, row, key, values };
    }
    return (i) => estimate.values[i - estimate.at];
  }
  const there = (value, set) =>
    set
      ? value
        ? palette.ink
        : palette.paper
      : value
        ? palette.probability
        : parts.blend(palette.paper, palette.probability, 0.1);
  const heat = (value) => parts.blend(palette.paper, palette.reference, Math.min(1, value / DARKEST));

  function drawCanvas() {
    const context = canvas.getContext("2d");
    const pale = foresee();
    const fill = (i, colour, inset = 0) => {
      context.fillStyle = parts.css(colour);
      const side = cell - 2 * inset;
      context.fillRect((i % width) * cell + inset, Math.floor(i / width) * cell + inset, side, side);
    };
    for (let i = 0; i < PIXELS; i += 1) {
      if (i < state.t) fill(i, settings.view === "nats" ? heat(nats[i]) : there(x[i], forced[i] >= 0));
      else {
        fill(i, parts.blend(palette.paper, palette.muted, 0.16 + 0.62 * pale(i)));
        if (forced[i] >= 0) fill(i, there(forced[i], true), Math.ceil(cell / 5));
      }
    }
    const frame = (i, side, colour, out) => {
      context.strokeStyle = parts.css(colour);
      context.lineWidth = Math.max(2, 2 * dpr);
      const [left, top] = [(i % width) * cell - out, Math.floor(i / width) * cell - out];
      context.strokeRect(left, top, side * cell + 2 * out, side * cell + 2 * out);
    };
    if (!done()) frame(state.t, 1, palette.chain, -dpr);
    if (cursor !== null) {
      const reached = brush(cursor);
      frame(reached[0], Math.sqrt(reached.length), palette.reference, 0);
    }
    drawReading(pale);
  }
  function drawReading(pale) {
    const i = cursor;
    if (i === null) {
      reading.textContent = "Point at a pixel to read it; press to set it.";
      return;
    }
    const who = forced[i] >= 0 ? "set to " : "drawn as ";
    const said =
      i < state.t
        ? who + x[i] + ", x̂ " + asHat(hats[i]) + ", " + inNats(nats[i])
        : forced[i] >= 0
          ? "to come, set to " + forced[i]
          : i === state.t
            ? "the next one, x̂ " + asHat(made.sigmoid(made.logit(model, state)))
            : "to come" + (settings.ahead === "nothing" ? "" : ", pale " + nx.number(pale(i), 2));
    reading.textContent = capital(place(i)) + ": " + said;
  }

  function drawNext() {
    bar.hidden = done();
    if (done()) {
      nextWords.textContent = "None is left.";
      return;
    }
    const t = state.t,
      a = made.logit(model, state),
      hat = made.sigmoid(a);
    const used = settings.temperature > 0 ? made.sigmoid(a / settings.temperature) : Number(a > 0);
    filled.style.width = 100 * used + "%";
    needle.style.left = 100 * uniforms[t] + "%";
    needle.hidden = forced[t] >= 0;
    nextWords.textContent =
      capital(place(t)) +
      ": x̂ = p(1 | all before) " +
      asHat(hat) +
      (settings.temperature === 1 ? "" : ", at this temperature " + asHat(used).replace("= ", "")) +
      ". A 1 would cost " +
      nx.number(made.cost(a, 1), 2) +
      ", a 0 " +
      inNats(made.cost(a, 0)) +
      (forced[t] >= 0
        ? ". It is set to " + forced[t] + "."
        : ". It becomes 1 where the mark, u = " + nx.number(uniforms[t], 3) + ", lies in the blue.");
  }

  const climb = (values) => {
    let height = 0;
    return [[0, 0], ...Array.from(values, (value, i) => [i + 1, (height += value)])];
  };
  const onChart = (points) => nx.path(points.map(([t, value]) => [chart.X(t), chart.Y(value)]));
  function drawChart() {
    const [own, other] = [climb(nats.subarray(0, state.t)), climb(digitNats[beside])];
    const top = 1.06 * Math.max(own[own.length - 1][1], other[PIXELS][1], 1);
    chart.xTicks = [0, 0.25, 0.5, 0.75, 1].map((part) => Math.round(part * PIXELS));
    chart.scale([0, PIXELS], [0, top]);
    besideLine.setAttribute("d", onChart(other));
    sumLine.setAttribute("d", onChart(own));
    const [t, value] = own[own.length - 1];
    sumDot.setAttribute("d", "M" + chart.X(t).toFixed(1) + " " + chart.Y(value).toFixed(1) + "h0");
  }

  const many = (value) => (value < 1e6 ? nx.count(value) : nx.number(value / 1e6, 1) + " million");
  function drawFacts() {
    const now = total(),
      theirs = -sum(digitNats[beside]);
    facts.sofar.show(
      inNats(now),
      nx.number(now / Math.LN2, 1) + " bits, " + state.t + " of " + PIXELS + " pixels",
    );
    facts.picture.show(
      done() ? nx.number(-now, 2) : "—",
      done() ? "nats, exact: one in 10^" + nx.number(now / Math.LN10, 1) : "nats, when the last pixel is there",
    );
    facts.beside.show(
      nx.number(theirs, 2),
      "nats, " +
        data.names[beside] +
        (data.average === null ? "" : "; the test images’ mean is " + nx.number(data.average, 1)),
    );
    const { taken, whole } = made.work(model, x, state.t);
    facts.work.show(many(taken), "multiply-adds; a whole pass a pixel: " + many(whole));
    for (const one of onward) one.disabled = done();
    goOn.disabled = done();
  }

  function drawKeys() {
    keyLine.replaceChildren(
      ...(settings.view === "nats"
        ? [nx.key("rbm-reference", DARKEST + " nats or more")]
        : [nx.key("rbm-probability", "drawn"), " ", nx.key("rbm-ink", "given or set")]),
      " ",
      nx.key("rbm-chain", "next"),
      " ",
      nx.key("rbm-muted", "to come"),
    );
    chartName.replaceChildren(
      nx.key("rbm-chain", "−log p so far"),
      " in nats, and of ",
      nx.key("rbm-reference", data.names[beside]),
    );
  }

  function drawWays() {
    const shown = finished.length > 0;
    waysBox.hidden = !shown;
    if (!shown) return;
    smalls.forEach(({ picture, caption }, n) => {
      const one = finished[n] || { x: digits[beside], set: null, nats: sum(digitNats[beside]) };
      parts.paint(picture, (i) => there(one.x[i], !one.set || one.set[i]));
      caption.textContent = nx.number(one.nats, 1) + (one.set ? " nats" : " test digit");
      picture.setAttribute(
        "aria-label",
        (one.set ? "A completion" : capital(data.names[beside])) + ": " + inNats(one.nats, 1),
      );
    });
  }

  function drawAll() {
    drawKeys();
    drawCanvas();
    drawNext();
    drawChart();
    drawFacts();
    drawWays();
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
    chart.resize(right.clientWidth, 170);
    for (const { canvas: one, digit } of thumbs) parts.paint(one, (i) => there(digit[i], true));
    drawAll();
  });
  showTools();
  showStart();
  sow();
  forced = new Int8Array(PIXELS).fill(-1);
  x = new Uint8Array(PIXELS);
  [nats, hats] = [new Float64Array(PIXELS), new Float64Array(PIXELS)];
  startOver();
  tell(given());
};
