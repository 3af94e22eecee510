/* The reader draws a density; uniform numbers cross its distribution function and fall. */
nx.build = function (stage) {
  const { data, live, say } = stage;
  const { low, high } = data,
    MOST = 100000,
    LEVELS = 20,
    FULL = 150,
    ALOFT = 60;
  const presets = nx.unpack(data.presets);
  const bins = presets.shape[1],
    width = (high - low) / bins;
  const edge = (k) => low + k * width;
  const preset = (row) =>
    Array.from(presets.subarray(row * bins, (row + 1) * bins), (h) => Math.round(h * 100) / 100);
  let heights = preset(0),
    p = null,
    F = null,
    random,
    counts,
    levels,
    n = 0,
    flights = [],
    debt = 0,
    lastWords = 0;

  /* ---- the law and its samples ---- */
  function adopt(next) {
    heights = next.map((h) => (h < 0.02 ? 0 : Math.min(1, Math.round(h * 100) / 100)));
    p = nx.inverse.probabilities(heights);
    F = p && nx.inverse.cumulative(p);
    restart();
  }

  function setHeights(next) {
    adopt(next);
    drawLaw();
  }

  function restart() {
    random = nx.random(data.seed);
    counts = Array(bins).fill(0);
    levels = Array(LEVELS).fill(0);
    n = 0;
    flights = [];
  }

  function take() {
    const u = random.uniform();
    return { u, ...nx.inverse.invert(F, low, high, u) };
  }

  function land({ u, bin }) {
    counts[bin] += 1;
    levels[Math.floor(u * LEVELS)] += 1;
    n += 1;
  }

  /* ---- the controls ---- */
  const buttons = {
    run: nx.button("Run", () => loop.toggle(!loop.running), { primary: true }),
    one: nx.button("Drop one", dropOne),
    many: nx.button("Drop 100", dropMany),
    reset: nx.button("Reset", () => {
      loop.toggle(false);
      restart();
      drawSamples();
      drawWords();
      say("No samples.");
    }),
  };
  const shapes = nx.h(
    "div",
    { class: "nx-buttons", role: "group", "aria-label": "Densities to begin with" },
    ...data.names.map((name, row) =>
      nx.button(name, () => {
        loop.toggle(false);
        setHeights(preset(row));
        say(name + ". " + lawWords());
      }),
    ),
    nx.button("Clear", () => {
      loop.toggle(false);
      setHeights(Array(bins).fill(0));
      say(lawWords());
    }),
  );

  function dropOne() {
    loop.toggle(false);
    const sample = take();
    say(
      "u = " +
        nx.number(sample.u, 2) +
        " crosses the distribution function at x = " +
        nx.number(sample.x, 2) +
        ".",
    );
    if (nx.reducedMotion()) {
      land(sample);
      showPaths([sample]);
      drawSamples();
      drawWords();
    } else launch(sample, 1100);
  }

  function dropMany() {
    loop.toggle(false);
    for (let k = 0; k < 100; k += 1) {
      if (nx.reducedMotion()) land(take());
      else launch(take(), 700, k * 14);
    }
    drawSamples();
    drawWords();
    if (nx.reducedMotion()) say(words.textContent);
  }

  function launch(sample, lasts, delay) {
    flights.push({ ...sample, lasts, begun: performance.now() + (delay || 0) });
    if (flights.length === 1) requestAnimationFrame(fall);
  }

  function fall(now) {
    const landed = flights.filter((flight) => now - flight.begun >= flight.lasts);
    flights = flights.filter((flight) => now - flight.begun < flight.lasts);
    landed.forEach(land);
    drawFlights(now);
    if (landed.length) drawSamples();
    if (landed.length && (!flights.length || now - lastWords > 200)) drawWords(now);
    if (!stage.root.isConnected) flights = [];
    if (flights.length) requestAnimationFrame(fall);
    else if (landed.length && !loop.running) say(words.textContent);
  }

  const loop = nx.loop(
    stage.root,
    (seconds) => {
      debt += Math.min(600, 12 + 0.6 * n) * seconds;
      const still = nx.reducedMotion();
      if (still && debt < 30) return true;
      for (; debt >= 1 && n < MOST; debt -= 1) {
        if (still || flights.length >= ALOFT) land(take());
        else launch(take(), 800);
      }
      drawSamples();
      if (performance.now() - lastWords > 200) drawWords();
      return n < MOST;
    },
    (on) => {
      buttons.run.textContent = on ? "Pause" : "Run";
      debt = 0;
      drawWords();
      say(on ? "Samples fall." : "Paused. " + words.textContent);
    },
  );

  /* ---- the plots ---- */
  const top = nx.plot({
    x: [low, high],
    y: [0, 1],
    yTicks: [0, 0.5, 1],
    xTicks: [],
    attributes: { "aria-hidden": "true" },
    margin: { left: 70, right: 20, top: 16, bottom: 6 },
  });
  const bottom = nx.plot({
    x: [low, high],
    y: [0, 1.06],
    yTicks: [],
    clip: stage.name("clip"),
    margin: { left: 70, right: 20, top: 16, bottom: 24 },
    attributes: {
      class: "nx-plot nx-drawing",
      role: "group",
      "aria-label":
        "The density, " + bins + " bars: left and right arrows choose a bar, up and down change it",
    },
  });
  const sky = nx.s("svg", { class: "nx-plot nx-sky", "aria-hidden": "true" });
  const [rays, drops, across] = ["nx-ray", "nx-drop", "nx-uniform"].map((name) =>
    sky.appendChild(nx.s("path", { class: name })),
  );
  const layer = (plot, name) => plot.marks.appendChild(nx.s("path", { class: name }));
  const strip = layer(top, "nx-strip"),
    stripEven = layer(top, "nx-truth"),
    curve = layer(top, "nx-curve");
  const label = (plot, word, place) =>
    plot.node.appendChild(nx.s("text", { class: "nx-name", ...place }, word));
  const labels = {
    U: label(top, "U", { "text-anchor": "middle" }),
    F: label(top, "F(x)"),
    x: label(bottom, "x", { "text-anchor": "end" }),
    draw: label(bottom, "density: drag to draw it", { class: "nx-note" }),
  };
  const shape = layer(bottom, "nx-shape"),
    pile = layer(bottom, "nx-pile"),
    outline = layer(bottom, "nx-outline");
  const bars = Array.from({ length: bins }, (_, k) =>
    bottom.marks.appendChild(
      nx.s("rect", {
        class: "nx-bin",
        role: "slider",
        tabindex: k === bins >> 1 ? 0 : -1,
        "aria-orientation": "vertical",
        "aria-valuemin": 0,
        "aria-valuemax": 1,
        "aria-label": "Density from " + nx.number(edge(k), 2) + " to " + nx.number(edge(k + 1), 2),
      }),
    ),
  );
  const facts = {
    n: nx.fact("Samples"),
    area: nx.fact("Area of the drawing"),
    distance: nx.fact("Total variation"),
    expected: nx.fact("Expected"),
  };
  const words = nx.h("p", { class: "nx-words" });
  live.append(
    nx.h("div", { class: "nx-bar" }, shapes),
    nx.h(
      "p",
      { class: "nx-heading" },
      nx.key("green", "Uniform numbers"),
      " go across to the distribution function F and fall: ",
      nx.key("orange", "samples"),
      " fill the ",
      nx.key("blue", "density"),
      " that you draw.",
    ),
    nx.h("div", { class: "nx-fall" }, top.node, bottom.node, sky),
    nx.h(
      "div",
      { class: "nx-bar nx-after" },
      nx.h("div", { class: "nx-buttons" }, ...Object.values(buttons)),
    ),
    nx.facts(facts),
    words,
  );

  const steps = (values, Y) =>
    values.flatMap((value, k) => [
      [bottom.X(edge(k)), Y(value)],
      [bottom.X(edge(k + 1)), Y(value)],
    ]);

  function drawLaw() {
    const ends = [
      [bottom.X(high), bottom.Y(0)],
      [bottom.X(low), bottom.Y(0)],
    ];
    shape.setAttribute("d", nx.path(steps(heights, bottom.Y).concat(ends), true));
    outline.setAttribute("d", nx.path(steps(heights, bottom.Y)));
    curve.setAttribute("d", F ? nx.path(F.map((value, k) => [top.X(edge(k)), top.Y(value)])) : "");
    bars.forEach((bar, k) =>
      nx.set(bar, {
        x: bottom.X(edge(k)),
        y: bottom.margin.top,
        width: bottom.X(edge(1)) - bottom.X(edge(0)),
        height: bottom.inner[1],
        "aria-valuenow": heights[k],
        "aria-valuetext": nx.number(heights[k], 2),
      }),
    );
    for (const name of ["run", "one", "many"]) buttons[name].disabled = !p;
    drawSamples();
    drawFlights(0);
    drawWords();
  }

  /* The pile is counted in units of the drawing: the shape is full when share and probability agree. The
     first draws are scaled as if there were FULL of them, so that each lands as one small block. */
  function drawSamples() {
    const unit = nx.inverse.total(heights) / Math.max(n, FULL);
    const ends = [
      [bottom.X(high), bottom.Y(0)],
      [bottom.X(low), bottom.Y(0)],
    ];
    pile.setAttribute(
      "d",
      n
        ? nx.path(
            steps(
              counts.map((c) => Math.min(1.2, c * unit)),
              bottom.Y,
            ).concat(ends),
            true,
          )
        : "",
    );
    const axis = top.margin.left,
      even = 0.6 * top.strip,
      each = (even * LEVELS) / Math.max(n, FULL);
    const level = (k, count) => [axis - Math.min(top.strip, count * each), top.Y(k / LEVELS)];
    strip.setAttribute(
      "d",
      levels
        .map((c, k) => (c ? nx.path([level(k, 0), level(k, c), level(k + 1, c), level(k + 1, 0)], true) : ""))
        .join(""),
    );
    stripEven.setAttribute(
      "d",
      nx.path([
        [axis - even, top.Y(0)],
        [axis - even, top.Y(1)],
      ]),
    );
  }

  const pathOf = ({ u, x }) => [
    [top.margin.left, top.Y(u)],
    [top.X(x), top.Y(u)],
    [top.X(x), drop() + bottom.Y(0)],
  ];
  const drop = () => bottom.node.getBoundingClientRect().top - top.node.getBoundingClientRect().top;

  function drawFlights(now) {
    const aloft = flights.filter((flight) => now >= flight.begun);
    const dot = ([x, y]) => "M" + x.toFixed(1) + " " + y.toFixed(1) + "h0";
    const green = [],
      orange = [];
    for (const flight of aloft) {
      const [from, corner, ground] = pathOf(flight);
      const time = (now - flight.begun) / flight.lasts;
      if (time < 0.5) green.push([from[0] + (corner[0] - from[0]) * 2 * time, from[1]]);
      else orange.push([corner[0], corner[1] + (ground[1] - corner[1]) * (2 * time - 1) ** 2]);
    }
    across.setAttribute("d", green.map(dot).join(""));
    drops.setAttribute("d", orange.map(dot).join(""));
    showPaths(aloft.length < 4 ? aloft : []);
  }

  function showPaths(samples) {
    rays.setAttribute("d", samples.map((sample) => nx.path(pathOf(sample))).join(""));
  }

  function lawWords() {
    if (!p)
      return (
        "The drawing is empty, and a law needs some area: draw with the pointer, raise a bar with the " +
        "arrow keys, or take one of the densities above."
      );
    const first = heights.findIndex((h) => h > 0),
      last = bins - 1 - [...heights].reverse().findIndex((h) => h > 0);
    const gap = heights.slice(first, last).some((h) => h === 0);
    return (
      "Its area is " +
      nx.number(nx.inverse.total(heights) * width, 2) +
      "; divided by it, your drawing is a density." +
      (gap ? " Where it is zero, F is flat: no uniform number meets F there, and no sample falls there." : "")
    );
  }

  function drawWords(now) {
    lastWords = now || performance.now();
    const distance = p && n ? nx.inverse.totalVariation(counts, p, n) : NaN;
    const expected = p && n ? nx.inverse.expectedVariation(p, n) : NaN;
    facts.n.show(
      nx.count(n),
      n
        ? "mean of U: " + nx.number(levels.reduce((sum, c, k) => sum + c * (k + 0.5), 0) / (n * LEVELS), 2)
        : "none yet",
    );
    facts.area.show(nx.number(nx.inverse.total(heights) * width, 2), "F divides by it");
    facts.distance.show(nx.number(distance, 3), "from your density");
    facts.expected.show(
      nx.number(expected, 3),
      n ? "for " + nx.plural(n, "draw") + " of it" : "for draws of it",
    );
    words.textContent =
      !p || !n
        ? lawWords()
        : "After " +
          nx.plural(n, "draw") +
          " the histogram is " +
          nx.number(distance, 3) +
          " away from your density in total variation; draws of exactly this law are " +
          nx.number(expected, 3) +
          " away on average, and four times the draws halve that.";
  }

  /* ---- drawing by pointer and by key ---- */
  let last = null;
  function paint(event) {
    const [x, y] = bottom.at(event);
    const bin = Math.max(0, Math.min(bins - 1, Math.floor((x - low) / width)));
    const height = Math.max(0, Math.min(1, y));
    const [from, was] = last || [bin, height];
    const next = [...heights];
    for (let k = Math.min(from, bin); k <= Math.max(from, bin); k += 1) {
      next[k] = from === bin ? height : was + ((height - was) * (k - from)) / (bin - from);
    }
    last = [bin, height];
    setHeights(next);
  }
  bottom.node.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    event.preventDefault();
    loop.toggle(false);
    bottom.node.setPointerCapture(event.pointerId);
    last = null;
    paint(event);
  });
  bottom.node.addEventListener("pointermove", (event) => {
    if (bottom.node.hasPointerCapture(event.pointerId)) paint(event);
  });
  bottom.node.addEventListener("lostpointercapture", () => say(lawWords()));
  bottom.node.addEventListener("keydown", (event) => {
    const k = bars.indexOf(event.target);
    const change = { ArrowUp: 0.05, ArrowDown: -0.05, PageUp: 0.2, PageDown: -0.2, Home: -1, End: 1 }[
      event.key
    ];
    const aside = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (k < 0 || (!change && !aside)) return;
    event.preventDefault();
    if (aside) {
      const to = Math.max(0, Math.min(bins - 1, k + aside));
      bars.forEach((bar, i) => bar.setAttribute("tabindex", i === to ? 0 : -1));
      return bars[to].focus();
    }
    loop.toggle(false);
    setHeights(heights.map((h, i) => (i === k ? Math.max(0, h + change) : h)));
  });

  // A pointer over the upper plot shows where a uniform number of that height would fall.
  top.node.addEventListener("pointermove", (event) => {
    const u = top.at(event)[1];
    if (F && !flights.length && !loop.running)
      showPaths(u > 0 && u < 1 ? [{ u, ...nx.inverse.invert(F, low, high, u) }] : []);
  });
  top.node.addEventListener("pointerleave", () => {
    if (!flights.length) showPaths([]);
  });

  stage.onResize(() => {
    const wide = live.clientWidth > 560,
      left = wide ? 84 : 62;
    top.margin.left = bottom.margin.left = left;
    top.strip = left - 38;
    const room = top.node.parentElement.clientWidth;
    top.resize(room, wide ? 210 : 170);
    bottom.resize(room, wide ? 170 : 140);
    nx.set(sky, { width: room, height: drop() + bottom.height });
    nx.set(labels.U, { x: left - top.strip / 2, y: top.margin.top - 4 });
    nx.set(labels.F, { x: left + 8, y: top.margin.top + 10 });
    nx.set(labels.draw, { x: left + 8, y: 11 });
    nx.set(labels.x, { x: room - 2, y: bottom.Y(0) + 4 });
    drawLaw();
  });
  adopt(heights);
};
