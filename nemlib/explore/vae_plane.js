/* The plane of a machine with two latent units: a point to drag, what the decoder makes of it, the codes of
   test images around it, and the same decoder over a grid of the prior's quantiles. */
nx.build = function (stage) {
  const { data, live, say } = stage;
  const { network, vaePlane, parts } = nx;
  const { height, width, cells } = data;
  const PIXELS = height * width,
    STEPS = 9, // digits of the strip
    STEP = 0.1; // of a press of an arrow key
  const decoder = network.unpack(data.decoder);
  const codes = Float64Array.from(nx.unpack(data.codes));
  const labels = data.labels;
  const tests = network.images(data.images, labels.length, PIXELS);
  const classes = [...new Set(labels)].sort((a, b) => a - b);
  const spacing = vaePlane.spacing(codes);
  const limit = Math.max(3.2, ...codes.map(Math.abs)) * 1.04;
  const random = nx.random(data.seed);
  const codeOf = (n) => [codes[2 * n], codes[2 * n + 1]];
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

  // The mean of p(x | z), as shades from 0 to 1.
  function decode(z) {
    const output = network.apply(decoder, z);
    return output.map(data.pixels === "bernoulli" ? network.sigmoid : (m) => clamp(m, 0, 1));
  }
  const ends = data.ends.map((label) => codeOf(vaePlane.middleOf(codes, labels, label)));
  const settings = { view: "plane", shown: "all" };
  let z = [...ends[0]],
    part = 0, // of the path
    map = null, // the decoded grid, made when first asked for
    strip = [];
  const palette = parts.follow(stage, data.palette, () => drawAll());

  function moveTo(point, spoken) {
    walk.toggle(false);
    z = point.map((value) => clamp(value, -limit, limit));
    drawPoint();
    if (spoken) say(words.textContent);
  }
  function along(t) {
    part = t;
    z = vaePlane.between(ends[0], ends[1], t);
    showPart();
    drawPoint();
  }
  function newPath() {
    walk.toggle(false);
    strip = Array.from({ length: STEPS }, (_, k) =>
      decode(vaePlane.between(ends[0], ends[1], k / (STEPS - 1))),
    );
    drawStrip();
    along(0);
  }

  /* ---- the controls ---- */
  const view = nx.choice(stage, {
    id: "view",
    label: "What is shown",
    value: settings.view,
    choices: [
      ["plane", "Codes in the plane"],
      ["map", "Quantile map"],
    ],
    change: (value) => {
      settings.view = value;
      drawFrame();
      drawPoint();
      say(heading.textContent);
    },
  });
  const draw = nx.button(
    "Draw z from the prior",
    () => moveTo([random.normal(), random.normal()], true),
    { primary: true },
  );
  const shown = nx.menu(stage, {
    id: "shown",
    label: "Codes of",
    value: "all",
    choices: [["all", "all"], ...classes.map((label) => [String(label), String(label)])],
    change: (value) => {
      settings.shown = value;
      drawShown();
    },
  });
  const chooseEnd = (which, label) =>
    nx.menu(stage, {
      id: "end" + which,
      label,
      value: String(data.ends[which]),
      choices: [
        ...classes.map((one) => [String(one), "a typical " + one]),
        ["here", "the present z"],
      ],
      change: (value) => {
        ends[which] = value === "here" ? [...z] : codeOf(vaePlane.middleOf(codes, labels, Number(value)));
        newPath();
        say(words.textContent);
      },
    });
  const [from, to] = [chooseEnd(0, "Path from"), chooseEnd(1, "to")];
  const go = nx.button("Walk", () => {
    if (nx.reducedMotion()) {
      along(part >= 1 ? 0 : Math.min(1, part + 1 / (STEPS - 1)));
      say(words.textContent);
    } else {
      if (!walk.running && part >= 1) along(0);
      walk.toggle(!walk.running);
    }
  });
  const walk = nx.loop(
    stage.root,
    (seconds) => {
      along(Math.min(1, part + seconds / 5));
      return part < 1;
    },
    (on) => {
      go.textContent = on ? "Stop" : "Walk";
      if (!on) say(words.textContent);
    },
  );
  const slider = nx.slider(stage, {
    id: "part",
    label: "Along the path",
    min: 0,
    max: 100,
    step: 1,
    value: 0,
    format: (value) => value + " %",
    change: (value) => {
      walk.toggle(false);
      along(value / 100);
    },
  });
  slider.input.addEventListener("change", () => say(words.textContent));
  function showPart() {
    const text = Math.round(100 * part) + " %";
    slider.input.value = Math.round(100 * part);
    slider.input.setAttribute("aria-valuetext", text);
    slider.input.nextSibling.textContent = text;
    slider.input.style.setProperty("--nx-part", text.replace(" ", ""));
  }

  /* ---- the plane ---- */
  const options = {
    x: [-limit, limit],
    y: [-limit, limit],
    xLabel: "z₁",
    yLabel: "z₂",
    clip: stage.name("frame"),
    margin: { left: 36, right: 8, top: 8, bottom: 26 },
    attributes: {
      tabindex: 0,
      role: "application",
      class: "nx-plot nx-latent",
      "aria-label": "The latent plane: arrow keys move z, with Shift in larger steps",
    },
  };
  const plot = nx.plot(options);
  const put = (tag, name) => plot.marks.appendChild(nx.s(tag, { class: name }));
  const circles = data.inside.map((share) => ({
    share,
    ring: put("circle", "nx-prior-ring"),
    text: put("text", "nx-prior-share"),
  }));
  const cloud = put("g", "nx-cloud");
  const numerals = labels.map((label) => {
    const node = nx.s("text", { "text-anchor": "middle", class: "nx-code" }, String(label));
    node.style.fill = "var(--nx-rbm-c" + data.colours[classes.indexOf(label)] + ")";
    return cloud.appendChild(node);
  });
  const pathHalo = put("path", "nx-path-halo"),
    path = put("path", "nx-path"),
    spoke = put("path", "nx-spoke"),
    closest = put("circle", "nx-closest"),
    halo = put("circle", "nx-z-halo"),
    point = put("circle", "nx-z");
  nx.set(closest, { r: 8 });
  nx.set(halo, { r: 9 });
  nx.set(point, { r: 9 });
  const grid = nx.h("canvas", { class: "nx-map", "aria-hidden": "true" });
  const frame = nx.h("div", { class: "nx-latentframe" }, grid, plot.node);
  const heading = parts.heading();

  const onMap = () => settings.view === "map";
  const spot = ([x, y]) =>
    onMap()
      ? [plot.X(vaePlane.cumulative(x)), plot.Y(vaePlane.cumulative(y))]
      : [plot.X(x), plot.Y(y)];
  function pointOf(event) {
    const at = plot.at(event);
    return onMap() ? at.map((u) => vaePlane.quantile(clamp(u, 0.001, 0.999))) : at;
  }
  let held = false;
  plot.node.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    held = true;
    plot.node.setPointerCapture(event.pointerId);
    moveTo(pointOf(event), false);
  });
  plot.node.addEventListener("pointermove", (event) => {
    if (held) moveTo(pointOf(event), false);
  });
  plot.node.addEventListener("lostpointercapture", () => {
    held = false;
    say(words.textContent);
  });
  plot.node.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (!by) return;
    event.preventDefault();
    const far = (event.shiftKey ? 5 : 1) * STEP;
    moveTo([z[0] + far * by[0], z[1] + far * by[1]], true);
  });

  /* ---- two digits, and the strip along the path ---- */
  const digit = (label) => {
    const face = nx.h("canvas", { width, height, class: "nx-digit", role: "img", "aria-label": label });
    const caption = nx.h("span", {});
    return { node: nx.h("div", { class: "nx-digitbox" }, face, caption), face, caption };
  };
  const made = digit("What the decoder makes of z"),
    known = digit("The test image with the nearest code");
  const stripFace = nx.h("canvas", {
    width: STEPS * width,
    height,
    class: "nx-strip",
    role: "img",
    "aria-label": "Nine digits decoded along the straight path, evenly spaced",
  });
  stripFace.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    walk.toggle(false);
    const box = stripFace.getBoundingClientRect();
    along(clamp(Math.floor((STEPS * (event.clientX - box.left)) / box.width), 0, STEPS - 1) / (STEPS - 1));
    say(words.textContent);
  });
  const facts = {
    z: nx.fact("z"),
    density: nx.fact("log p(z)"),
    distance: nx.fact("Nearest code"),
    grey: nx.fact("Grey pixels"),
  };
  const words = nx.h("p", { class: "nx-words" });
  const left = nx.h("div", {}, heading, frame);
  const right = nx.h(
    "div",
    {},
    nx.h("div", { class: "nx-digits" }, made.node, known.node),
    nx.facts(facts),
  );
  live.append(
    nx.h("div", { class: "nx-bar" }, view, draw, shown),
    nx.h("div", { class: "nx-pair" }, left, right),
    nx.h("div", { class: "nx-bar nx-walkbar" }, from, to, go, slider.node),
    parts.heading("Decoded along the path"),
    stripFace,
    words,
  );

  /* ---- drawing ---- */
  const shade = (values) => (i) => parts.blend(palette.paper, palette.ink, values[i]);

  function drawFrame() {
    shown.querySelector("select").disabled = onMap();
    grid.style.display = onMap() ? "block" : "none";
    cloud.style.display = onMap() ? "none" : "";
    options.xLabel = onMap() ? "" : "z₁";
    options.yLabel = onMap() ? "" : "z₂";
    plot.xTicks = plot.yTicks = onMap() ? [0, 0.25, 0.5, 0.75, 1] : null;
    plot.scale(...(onMap() ? [[0, 1], [0, 1]] : [options.x, options.y]));
    heading.textContent = onMap()
      ? "Quantile map: " +
        cells * cells +
        " cells with the same share of the prior, Φ(z₁) across and Φ(z₂) up"
      : "Codes of " + labels.length + " test images, each as its digit; circles hold that share of the prior";
    for (const { share, ring, text } of circles) {
      const r = plot.X(vaePlane.radius(share)) - plot.X(0);
      nx.set(ring, { cx: plot.X(0), cy: plot.Y(0), r: onMap() ? 0 : r });
      nx.set(text, { x: plot.X(0), y: (plot.Y(0) - r - 3).toFixed(1), "text-anchor": "middle" });
      text.textContent = onMap() ? "" : Math.round(100 * share) + " %";
    }
    if (onMap()) return drawMap();
    numerals.forEach((node, n) => {
      const [x, y] = spot(codeOf(n));
      nx.set(node, { x: x.toFixed(1), y: (y + 3.5).toFixed(1) });
    });
    drawShown();
  }
  function drawShown() {
    numerals.forEach((node, n) => {
      node.style.opacity = settings.shown === "all" || settings.shown === String(labels[n]) ? 1 : 0.1;
    });
  }

  function drawMap() {
    const at = (k) => vaePlane.quantile((k + 0.5) / cells);
    map =
      map ||
      Array.from({ length: cells * cells }, (_, n) =>
        decode([at(n % cells), at(cells - 1 - Math.floor(n / cells))]),
      );
    grid.width = cells * width;
    grid.height = cells * height;
    parts.paint(grid, (i) => {
      const [y, x] = [Math.floor(i / grid.width), i % grid.width];
      const cell = map[cells * Math.floor(y / height) + Math.floor(x / width)];
      return parts.blend(palette.paper, palette.ink, cell[(y % height) * width + (x % width)]);
    });
    Object.assign(grid.style, {
      left: plot.margin.left + "px",
      top: plot.margin.top + "px",
      width: plot.inner[0] + "px",
      height: plot.inner[1] + "px",
    });
  }

  function drawStrip() {
    parts.paint(stripFace, (i) => {
      const [y, x] = [Math.floor(i / stripFace.width), i % stripFace.width];
      return parts.blend(
        palette.paper,
        palette.ink,
        strip[Math.floor(x / width)][y * width + (x % width)],
      );
    });
  }

  // Everything that depends on where z is.
  function drawPoint() {
    const values = decode(z);
    const near = vaePlane.nearest(codes, z);
    const [x, y] = spot(z).map((c) => c.toFixed(1));
    for (const node of [point, halo]) nx.set(node, { cx: x, cy: y });
    const [cx, cy] = spot(codeOf(near.at)).map((c) => c.toFixed(1));
    nx.set(closest, { cx, cy });
    spoke.setAttribute("d", "M" + x + " " + y + "L" + cx + " " + cy);
    const line = nx.path(
      Array.from({ length: 25 }, (_, k) => spot(vaePlane.between(ends[0], ends[1], k / 24))),
    );
    for (const node of [pathHalo, path]) node.setAttribute("d", line);
    parts.paint(made.face, shade(values));
    parts.paint(known.face, shade(tests[near.at]));
    const place = "(" + nx.number(z[0], 2) + ", " + nx.number(z[1], 2) + ")";
    made.caption.textContent = "Decoded from z";
    made.face.setAttribute("aria-label", "What the decoder makes of z = " + place);
    known.caption.textContent = "Nearest test image: a " + labels[near.at];
    known.face.setAttribute("aria-label", "The test image with the nearest code, a " + labels[near.at]);
    const grey = values.filter((value) => value > 0.2 && value < 0.8).length;
    facts.z.show(place, "drag it, or press arrow keys");
    facts.density.show(
      nx.number(vaePlane.logPrior(z), 2),
      "nats; " + percent(vaePlane.farther(z)) + " of the prior is farther out",
    );
    facts.distance.show(
      nx.number(near.distance, 2),
      "away; from code to code mostly below " + nx.number(spacing, 2),
    );
    facts.grey.show(String(grey), "between 0.2 and 0.8, of " + PIXELS);
    words.textContent = sentence(place, near);
  }
  const percent = (share) => nx.number(100 * share, share < 0.01 ? 2 : share < 0.1 ? 1 : 0) + " %";

  function sentence(place, near) {
    const there = "z = " + place + ". ";
    const where =
      "The nearest code, of a " + labels[near.at] + ", lies " + nx.number(near.distance, 2) + " away";
    if (near.distance <= spacing)
      return (
        there +
        where +
        ": test images live here. What is decoded is their common shape, and smoother than any of them."
      );
    if (near.distance <= 2.5 * spacing)
      return there + where + ": beside the codes, or between them. Compare the two digits.";
    const share = vaePlane.farther(z);
    if (share < 0.01)
      return (
        there +
        "The prior hardly ever draws so far from the middle (" +
        percent(share) +
        " lies farther out), and no test image is near: the decoder was never asked here, and answers all " +
        "the same."
      );
    return (
      there +
      where +
      ": a hole among these codes, and yet the prior draws here, for " +
      percent(share) +
      " of it lies farther out still. Compare the two digits."
    );
  }

  function drawAll() {
    drawFrame();
    drawStrip();
    drawPoint();
  }

  stage.onResize(() => {
    if (left.clientWidth === 0) return; // on its way to paper
    const side = Math.min(left.clientWidth, 460);
    plot.resize(side, side - plot.margin.left - plot.margin.right + plot.margin.top + plot.margin.bottom);
    cloud.style.fontSize = side < 340 ? "8.5px" : "10px";
    drawAll();
  });
  newPath();
};
