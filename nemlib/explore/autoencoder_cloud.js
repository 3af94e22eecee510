/* The codes of digits in space, turned and magnified by the reader; a cursor among them, what the decoder draws
   there and what digit is near; and the straight line between two codes, through whatever lies between. */
nx.build = function (stage) {
  const { data, live, say } = stage;
  const { parts } = nx;
  const { height, width, labels } = data;
  const PIXELS = height * width,
    STEPS = 9, // pictures of the strip
    FINE = 60, // steps of the curve below it
    SLIDER = 200, // steps from one wall of the box to the other
    GRIP = { mouse: 14, pen: 18, touch: 24 }, // pixels
    BASE = 10.5; // of a digit's letters, pixels
  const classes = [...new Set(labels)].sort((a, b) => a - b);
  const classOf = labels.map((label) => classes.indexOf(label));
  const pictures = nx.cloud.images(data.images, labels.length, height, width);
  const decoders = [nx.cloud.network(data.decoder, PIXELS), nx.cloud.flat(data.components)];
  const clouds = data.clouds.map((packed, k) => {
    const codes = Float64Array.from(nx.unpack(packed.codes)),
      errors = nx.unpack(packed.errors),
      [low, high] = packed.box;
    const code = (n) => [codes[3 * n], codes[3 * n + 1], codes[3 * n + 2]];
    return {
      ...packed,
      codes,
      errors,
      code,
      low,
      high,
      all: labels.map((_, n) => code(n)),
      error: errors.reduce((sum, value) => sum + value, 0) / errors.length,
      decode: decoders[k],
    };
  });
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  let space = clouds[0],
    ends = [...data.ends], // a class, or a point
    z = space.code(space.typical[ends[0]]),
    part = 0, // of the line
    onLine = true,
    chosen = null, // the class that stands out
    pointed = -1, // the digit under the pointer
    looked = -1, // the digit that is shown
    hole = -1,
    strip = [];
  const camera = { middle: [0, 0], size: 100, eye: data.eye };
  const palette = parts.follow(stage, data.palette, () => drawAll());
  const endOf = (k) => (Array.isArray(ends[k]) ? ends[k] : space.code(space.typical[ends[k]]));
  const onWay = (t) => nx.cloud.between(endOf(0), endOf(1), t);
  const shown = (value) => nx.number(value, space.unit > 20 ? 1 : 2);

  /* ---- what the reader can do to it ---- */
  function moveTo(point, spoken) {
    walk.toggle(false);
    onLine = false;
    z = point.map((value, k) => clamp(value, space.low[k], space.high[k]));
    drawCursor();
    if (spoken) say(words.textContent);
  }
  function along(t) {
    part = t;
    onLine = true;
    z = onWay(t);
    put(partSlider, Math.round(100 * t));
    drawCursor();
  }
  function newLine() {
    walk.toggle(false);
    strip = Array.from({ length: STEPS }, (_, k) => space.decode(onWay(k / (STEPS - 1))));
    menus.forEach((menu, k) => {
      menu.querySelector("select").value = Array.isArray(ends[k]) ? "here" : String(ends[k]);
    });
    drawStrip();
    along(0);
  }
  function resetView() {
    [camera.yaw, camera.pitch] = data.view;
    camera.zoom = 1;
    camera.target = space.middle;
    camera.unit = space.unit;
  }
  function turnBy(yaw, pitch) {
    camera.yaw = (((camera.yaw + yaw) % 360) + 360) % 360;
    camera.pitch = clamp(camera.pitch + pitch, -89, 89);
    drawSpace();
  }
  function zoomBy(factor) {
    const next = clamp(camera.zoom * factor, 0.4, 8);
    camera.target = nx.cloud.retarget(camera.target, camera.zoom, next, z, space.middle);
    camera.zoom = next;
    drawSpace();
    say("Magnified " + nx.number(next, 1) + " times.");
  }
  function show(n) {
    const near = n >= 0 ? n : nx.cloud.nearest(space.codes, z).at;
    if (near !== looked) {
      looked = near;
      drawDigit();
    }
  }
  function nextDigit() {
    const from = nx.cloud.nearest(space.codes, z).at;
    let n = from;
    do n = (n + 1) % labels.length;
    while (chosen !== null && classOf[n] !== chosen && n !== from);
    moveTo(space.code(n), true);
  }
  function nextHole() {
    hole = (hole + 1) % space.holes.length;
    const [a, b, t] = space.holes[hole];
    ends = [a, b];
    newLine();
    along(t);
    say(words.textContent);
  }
  function change(which) {
    const same = nx.cloud.nearest(space.codes, z).at;
    space = clouds[which];
    hole = -1;
    looked = pointed = -1;
    ends = ends.map((end, k) => (Array.isArray(end) ? data.ends[k] : end));
    resetView();
    newLine();
    moveTo(space.code(same), false);
    drawHeading();
    say(heading.textContent + " " + words.textContent);
  }

  /* ---- the controls ---- */
  const view = nx.choice(stage, {
    id: "space",
    label: "Whose codes",
    value: 0,
    choices: [
      [0, "Autoencoder"],
      [1, "PCA"],
    ],
    change,
  });
  const turning = nx.button(
    "Turn",
    () => {
      if (nx.reducedMotion()) turnBy(30, 0);
      else turn.toggle(!turn.running);
    },
    { primary: true },
  );
  const turn = nx.loop(
    stage.root,
    (seconds) => {
      const { top, bottom } = canvas.getBoundingClientRect();
      if (bottom > 0 && top < innerHeight) turnBy(18 * seconds, 0);
      return true;
    },
    (on) => {
      turning.textContent = on ? "Stop" : "Turn";
      say(on ? "The cloud turns." : "The cloud stands still.");
    },
  );
  const named = (label, name, press) => {
    const button = nx.button(label, press);
    button.setAttribute("aria-label", name);
    button.classList.add("nx-squarebutton");
    return button;
  };
  const zooms = parts.group(
    "Magnify",
    named("+", "Zoom in", () => zoomBy(1.5)),
    named("−", "Zoom out", () => zoomBy(1 / 1.5)),
    nx.button("First view", () => {
      turn.toggle(false);
      resetView();
      drawSpace();
      say("As at the beginning.");
    }),
  );
  const legend = classes.map((label, k) => {
    const button = nx.button(String(label), () => {
      chosen = chosen === k ? null : k;
      legend.forEach((one, i) => parts.press(one, i === chosen));
      drawSpace();
      say(chosen === null ? "All digits." : "Only the digit " + label + " stands out.");
    });
    button.classList.add("nx-classbutton");
    button.style.setProperty("--nx-class", "var(--nx-rbm-c" + data.colours[k] + ")");
    button.setAttribute("aria-label", "Bring out the digit " + label);
    parts.press(button, false);
    return button;
  });
  const slider = (options) => {
    const made = nx.slider(stage, options);
    return { ...made, options };
  };
  // Moves a slider without its being heard.
  function put({ input, options }, value) {
    const text = options.format(value);
    input.value = value;
    input.setAttribute("aria-valuetext", text);
    input.nextSibling.textContent = text;
    input.style.setProperty("--nx-part", (100 * (value - options.min)) / (options.max - options.min) + "%");
  }
  const coordinate = (value, k) => space.low[k] + (value / SLIDER) * (space.high[k] - space.low[k]);
  const sliders = ["z₁", "z₂", "z₃"].map((label, k) =>
    slider({
      id: "z" + k,
      label,
      min: 0,
      max: SLIDER,
      step: 1,
      value: 0,
      format: (value) => shown(coordinate(value, k)),
      change: (value) =>
        moveTo(
          z.map((own, i) => (i === k ? coordinate(value, k) : own)),
          false,
        ),
    }),
  );
  for (const { input } of sliders) input.addEventListener("change", () => say(words.textContent));

  const menus = ["Line from", "to"].map((label, k) =>
    nx.menu(stage, {
      id: "end" + k,
      label,
      value: String(ends[k]),
      choices: [
        ...classes.map((one, i) => [String(i), "a typical " + one]),
        ["here", "the cursor"],
      ],
      change: (value) => {
        ends[k] = value === "here" ? [...z] : Number(value);
        newLine();
        say(words.textContent);
      },
    }),
  );
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
      along(Math.min(1, part + seconds / 6));
      return part < 1;
    },
    (on) => {
      go.textContent = on ? "Stop" : "Walk";
      if (!on) say(words.textContent);
    },
  );
  const partSlider = slider({
    id: "part",
    label: "Along the line",
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
  partSlider.input.addEventListener("change", () => say(words.textContent));

  /* ---- the space ---- */
  const canvas = nx.h("canvas", {
    class: "nx-space",
    tabindex: 0,
    role: "application",
    "aria-label":
      "The space of codes: arrow keys turn it, with Shift faster, plus and minus magnify, Home is the first view; " +
      "the sliders below move the cursor",
  });
  let side = 300,
    spots = [],
    held = null;
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const visible = (n) => chosen === null || classOf[n] === chosen;
  // The digit that is seen at a place in pixels, or -1.
  function pick([x, y], reach) {
    let [found, least] = [-1, reach];
    spots.forEach(([sx, sy], n) => {
      const away = visible(n) ? Math.hypot(sx - x, sy - y) : Infinity;
      if (away < least) [found, least] = [n, away];
    });
    return found;
  }
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button || held) return;
    const [x, y] = at(event);
    const [cx, cy, near] = nx.cloud.project(camera, z);
    const onCursor = Math.hypot(cx - x, cy - y) < GRIP[event.pointerType || "mouse"];
    held = { x, y, from: [x, y], moved: false, id: event.pointerId, near: onCursor ? near : null };
    held.off = [cx - x, cy - y];
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = at(event);
    if (!held) {
      const before = pointed;
      if (event.pointerType !== "touch") pointed = pick([x, y], GRIP.mouse);
      if (pointed !== before) {
        show(pointed);
        drawSpace();
      }
      return;
    }
    if (event.pointerId !== held.id) return;
    held.moved = held.moved || Math.hypot(x - held.from[0], y - held.from[1]) > 4;
    if (!held.moved) return;
    if (held.near !== null)
      moveTo(nx.cloud.unproject(camera, x + held.off[0], y + held.off[1], held.near), false);
    else {
      turn.toggle(false);
      turnBy(-0.5 * (x - held.x), 0.5 * (y - held.y));
    }
    Object.assign(held, { x, y });
  });
  canvas.addEventListener("lostpointercapture", (event) => {
    if (!held || event.pointerId !== held.id) return;
    const { moved, near, from } = held;
    held = null;
    if (moved) return near === null ? null : say(words.textContent);
    const n = pick(from, GRIP[event.pointerType || "mouse"]);
    if (n >= 0) moveTo(space.code(n), true);
  });
  canvas.addEventListener("pointerleave", () => {
    if (pointed < 0) return;
    pointed = -1;
    show(-1);
    drawSpace();
  });
  canvas.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    const zoom = { "+": 1.5, "=": 1.5, "-": 1 / 1.5, "−": 1 / 1.5 }[event.key];
    if ((!by && !zoom && event.key !== "Home") || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    turn.toggle(false);
    if (zoom) return zoomBy(zoom);
    if (by) turnBy((event.shiftKey ? 20 : 5) * by[0], (event.shiftKey ? 20 : 5) * by[1]);
    else {
      resetView();
      drawSpace();
    }
    say("Seen from " + Math.round(camera.yaw) + "° around and " + Math.round(camera.pitch) + "° above.");
  });

  /* ---- three pictures, numbers, and the strip along the line ---- */
  const digit = () => {
    const face = nx.h("canvas", { width, height, class: "nx-face", role: "img" });
    const caption = nx.h("span", {});
    return { node: nx.h("div", { class: "nx-facebox" }, face, caption), face, caption };
  };
  const [made, known, again] = [digit(), digit(), digit()];
  function label({ face, caption }, text) {
    caption.textContent = text;
    face.setAttribute("aria-label", text);
  }
  const stripFace = nx.h("canvas", {
    width: STEPS * width,
    height,
    class: "nx-linestrip",
    role: "img",
    "aria-label": "Nine pictures decoded along the straight line, evenly spaced",
  });
  stripFace.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    walk.toggle(false);
    const box = stripFace.getBoundingClientRect();
    const cell = Math.floor((STEPS * (event.clientX - box.left)) / box.width);
    along(clamp(cell, 0, STEPS - 1) / (STEPS - 1));
    say(words.textContent);
  });
  const half = 0.5 / (STEPS - 1);
  const chart = nx.plot({
    x: [-half, 1 + half],
    y: [0, 1],
    xTicks: [],
    margin: { left: 34, right: 0, top: 6, bottom: 8 },
    attributes: { "aria-hidden": "true" },
  });
  const layer = (tag, name) => chart.marks.appendChild(nx.s(tag, { class: name }));
  const [usual, curve, dot] = [
    layer("path", "nx-usual"),
    layer("path", "nx-lonely"),
    layer("circle", "nx-lonelydot"),
  ];
  dot.setAttribute("r", 5);

  const facts = {
    distance: nx.fact("Nearest code"),
    grey: nx.fact("Grey pixels"),
    error: nx.fact("‖x − x̂‖²"),
    mean: nx.fact("Mean ‖x − x̂‖²"),
  };
  const heading = parts.heading();
  const words = nx.h("p", { class: "nx-words" });
  const left = nx.h("div", {}, heading, canvas);
  const cursorSliders = nx.h(
    "div",
    { class: "nx-cursorsliders", role: "group", "aria-label": "The cursor's three numbers" },
    ...sliders.map(({ node }) => node),
  );
  const right = nx.h(
    "div",
    {},
    nx.h("div", { class: "nx-faces3" }, made.node, known.node, again.node),
    parts.heading(nx.key("rbm-point", "The cursor")),
    cursorSliders,
    nx.facts(facts),
  );
  const lineHeading = parts.heading(
    "Decoded along the line; below it how far away the nearest code is (dashed: usual between neighbours)",
  );
  const lineRoom = nx.h("div", {}, stripFace, chart.node);
  live.append(
    nx.h("div", { class: "nx-bar" }, view, turning, zooms),
    nx.h(
      "div",
      { class: "nx-bar nx-legendbar" },
      parts.group("Classes", ...legend),
      parts.group("Go to", nx.button("Next digit", nextDigit), nx.button("Emptiest place", nextHole)),
    ),
    nx.h("div", { class: "nx-pair" }, left, right),
    nx.h("div", { class: "nx-bar nx-linebar" }, ...menus, go, partSlider.node),
    lineHeading,
    lineRoom,
    words,
  );

  /* ---- drawing ---- */
  const shade = (values) => (i) => parts.blend(palette.paper, palette.ink, values[i]);

  function drawHeading() {
    const many = nx.count(labels.length) + " test digits, each where ";
    heading.textContent = many + (space === clouds[0] ? "the encoder puts it" : "PCA puts it");
  }

  function drawSpace() {
    const context = canvas.getContext("2d");
    const scale = canvas.width / side;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, side, side);
    drawBox(context);
    spots = space.all.map((code) => nx.cloud.project(camera, code));
    const order = spots.map((_, n) => n).sort((a, b) => spots[a][2] - spots[b][2]);
    context.textAlign = "center";
    context.textBaseline = "middle";
    const colours = classes.map((_, k) => parts.css(palette["c" + data.colours[k]]));
    const size = BASE * Math.sqrt(camera.zoom) * (side < 340 ? 0.9 : 1);
    let font = 0;
    for (const n of order) {
      const [x, y, near, grown] = spots[n];
      if (x < -9 || y < -9 || x > side + 9 || y > side + 9) continue;
      const wanted = Math.round(2 * size * grown) / 2;
      if (wanted !== font) context.font = "600 " + (font = wanted) + "px system-ui, sans-serif";
      context.globalAlpha = visible(n) ? clamp(0.72 + 0.3 * near, 0.4, 1) : 0.07;
      context.fillStyle = colours[classOf[n]];
      context.fillText(labels[n], x, y);
    }
    context.globalAlpha = 1;
    drawMarks(context);
  }

  const seen = (point) => nx.cloud.project(camera, point);
  function stroke(context, points, colour, wide, dash) {
    context.beginPath();
    points.forEach(([x, y], k) => (k ? context.lineTo(x, y) : context.moveTo(x, y)));
    Object.assign(context, { strokeStyle: parts.css(colour), lineWidth: wide, lineCap: "round" });
    context.setLineDash(dash || []);
    context.stroke();
    context.setLineDash([]);
  }
  function ring(context, point, radius, colour, wide) {
    const [x, y] = seen(point);
    for (const [own, width] of [
      [palette.paper, wide + 3],
      [colour, wide],
    ]) {
      context.beginPath();
      context.arc(x, y, radius, 0, 2 * Math.PI);
      Object.assign(context, { strokeStyle: parts.css(own), lineWidth: width });
      context.stroke();
    }
  }

  // The walls' edges, and the names of the axes at the edges that meet in the lowest corner.
  function drawBox(context) {
    const corner = (bits) => [0, 1, 2].map((k) => (bits & (1 << k) ? space.high[k] : space.low[k]));
    context.globalAlpha = 0.45;
    for (let a = 0; a < 8; a += 1)
      for (let k = 0; k < 3; k += 1)
        if (!(a & (1 << k))) stroke(context, [seen(corner(a)), seen(corner(a | (1 << k)))], palette.line, 1);
    context.globalAlpha = 1;
    Object.assign(context, { font: "italic 13px system-ui, sans-serif", textAlign: "center" });
    context.textBaseline = "middle";
    context.fillStyle = parts.css(palette.ink);
    ["z₁", "z₂", "z₃"].forEach((name, k) => {
      const beyond = nx.cloud.between(corner(0), corner(1 << k), 1.07);
      const [x, y] = seen(beyond);
      if (Math.min(x, y) > -25 && Math.max(x, y) < side + 25)
        context.fillText(name, clamp(x, 10, side - 10), clamp(y, 10, side - 10));
    });
  }

  function drawMarks(context) {
    const line = Array.from({ length: 13 }, (_, k) => seen(onWay(k / 12)));
    stroke(context, line, palette.paper, 4.5);
    stroke(context, line, palette.ink, 1.7);
    for (const k of [0, 1]) ring(context, endOf(k), 4, palette.ink, 1.7);
    for (let k = 0; k < 3; k += 1) {
      const wall = (value) => z.map((own, i) => (i === k ? value : own));
      stroke(context, [seen(wall(space.low[k])), seen(wall(space.high[k]))], palette.point, 1.1, [2, 4]);
    }
    const near = space.code(looked);
    if (pointed < 0) stroke(context, [seen(z), seen(near)], palette.ink, 1.4, [1, 4]);
    ring(context, near, 8.5, palette.ink, 1.6);
    ring(context, z, 8.5, palette.point, 3);
  }

  function drawStrip() {
    parts.paint(stripFace, (i) => {
      const [y, x] = [Math.floor(i / stripFace.width), i % stripFace.width];
      return parts.blend(palette.paper, palette.ink, strip[Math.floor(x / width)][y * width + (x % width)]);
    });
    const far = Array.from({ length: FINE + 1 }, (_, k) => [
      k / FINE,
      nx.cloud.nearest(space.codes, onWay(k / FINE)).distance,
    ]);
    chart.scale(chart.x, [0, Math.max(1.15 * Math.max(...far.map(([, d]) => d)), 2.5 * space.spacing)]);
    const path = (points) => nx.path(points.map(([t, d]) => [chart.X(t), chart.Y(d)]));
    curve.setAttribute("d", path([[0, 0], ...far, [1, 0]]));
    usual.setAttribute("d", path(chart.x.map((t) => [t, space.spacing])));
  }

  // What is said about one test digit, the one under the pointer or else the nearest.
  function drawDigit() {
    const name = "a " + labels[looked];
    parts.paint(known.face, shade(pictures[looked]));
    parts.paint(again.face, shade(space.decode(space.code(looked))));
    label(known, (pointed >= 0 ? "Pointed at: " : "Nearest test digit: ") + name);
    label(again, "Its reconstruction");
    const whose = space === clouds[0] ? "autoencoder" : "PCA";
    facts.error.show(nx.number(space.errors[looked], 1), "of the test digit shown");
    facts.mean.show(nx.number(space.error, 1), whose + ", all digits in the cloud");
  }

  // Everything that depends on where the cursor is.
  function drawCursor() {
    const values = space.decode(z);
    const near = nx.cloud.nearest(space.codes, z);
    parts.paint(made.face, shade(values));
    label(made, "Decoded at the cursor");
    looked = pointed >= 0 ? pointed : near.at;
    drawDigit();
    drawSpace();
    sliders.forEach((one, k) =>
      put(one, Math.round((SLIDER * (z[k] - space.low[k])) / (space.high[k] - space.low[k]))),
    );
    sliders.forEach(({ input }, k) => {
      input.nextSibling.textContent = shown(z[k]);
      input.setAttribute("aria-valuetext", shown(z[k]));
    });
    const grey = values.filter((value) => value > 0.2 && value < 0.8).length;
    facts.distance.show(shown(near.distance), "away; from code to code mostly below " + shown(space.spacing));
    facts.grey.show(String(grey), "at the cursor, between 0.2 and 0.8");
    dot.style.visibility = onLine ? "visible" : "hidden";
    nx.set(dot, { cx: chart.X(part), cy: chart.Y(near.distance) });
    words.textContent = sentence(near);
  }

  function sentence(near) {
    const there = "z = (" + z.map(shown).join(", ") + "). ";
    const where = "The nearest code, of a " + labels[near.at] + ", is " + shown(near.distance) + " away";
    if (near.distance <= space.spacing)
      return (
        there +
        where +
        ": digits live here. " +
        (space === clouds[0]
          ? "Three numbers give back the shape, and not every stroke."
          : "Three flat patterns on top of the mean digit: all that PCA can draw.")
      );
    return (
      there +
      where +
      ", farther than nine codes in ten are from their neighbour: a hole among these digits. " +
      "The decoder answers all the same, and nothing says how good the answer is."
    );
  }

  function drawAll() {
    drawHeading();
    drawStrip();
    drawCursor();
  }

  stage.onResize(() => {
    if (left.clientWidth === 0) return; // on its way to paper
    side = Math.min(left.clientWidth, 460);
    const ratio = Math.min(2, window.devicePixelRatio || 1);
    canvas.width = canvas.height = Math.round(side * ratio);
    canvas.style.width = canvas.style.height = side + "px";
    camera.middle = [side / 2, side / 2];
    camera.size = side / 2 / 1.5;
    const wide = lineRoom.clientWidth;
    stripFace.style.marginLeft = chart.margin.left + "px";
    stripFace.style.width = wide - chart.margin.left + "px";
    chart.resize(wide, 84);
    drawAll();
  });
  resetView();
  newLine();
};
