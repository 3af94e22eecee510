/* A line through the mean of a cloud, turned by the reader: where the points fall on it, what it keeps of their
   variance and what it loses, and the numbers of the encoder and the decoder, whose scale is free. */
nx.build = function (stage) {
  const { data, live, say } = stage;
  const { turned, parts } = nx;
  const points = Float64Array.from(nx.unpack(data.points));
  const MANY = points.length / 2;
  const known = turned.moments(points);
  const best = turned.first(known);
  const place = (n) => [points[2 * n], points[2 * n + 1]];
  const away = (n) => Math.hypot(points[2 * n] - known.mean[0], points[2 * n + 1] - known.mean[1]);
  const ringed = Array.from({ length: MANY }, (_, n) => n).reduce((a, b) => (away(b) > away(a) ? b : a));
  const reach = 1.08 * away(ringed);
  let angle = data.angle,
    scale = 1,
    goal = null; // of the glide
  parts.follow(stage, data.palette, () => {});
  const degrees = (value) => nx.number(value, 0) + "°";

  function turnTo(next, spoken) {
    glide.toggle(false);
    angle = turned.wrap(next);
    draw();
    if (spoken) say(words.textContent);
  }
  function glideTo(next) {
    glide.toggle(false);
    goal = next;
    if (nx.reducedMotion()) turnTo(goal, true);
    else glide.toggle(true);
  }
  const glide = nx.loop(
    stage.root,
    (seconds) => {
      const left = turned.way(angle, goal);
      const arrived = Math.abs(left) < 0.2;
      angle = arrived ? goal : turned.wrap(angle + left * Math.min(1, 4 * seconds) + Math.sign(left) * 6 * seconds);
      draw();
      return !arrived;
    },
    (on) => {
      if (!on) say(words.textContent);
    },
  );

  /* ---- the controls ---- */
  const goTo = parts.group(
    "Turn to",
    nx.button("Best line", () => glideTo(best), { primary: true }),
    nx.button("Second component", () => glideTo(turned.wrap(best + 90))),
  );
  const turning = nx.slider(stage, {
    id: "angle",
    label: "Angle",
    min: 0,
    max: 180,
    step: 1,
    value: Math.round(angle),
    format: degrees,
    change: (value) => turnTo(value, false),
  });
  const powers = data.scales.map((value) => Math.round(8 * Math.log2(value)));
  const scaling = nx.slider(stage, {
    id: "scale",
    label: "Encoder times m",
    min: powers[0],
    max: powers[1],
    step: 1,
    value: 0,
    format: (value) => "m = " + nx.number(2 ** (value / 8), 2),
    change: (value) => {
      scale = 2 ** (value / 8);
      draw();
    },
  });
  for (const { input } of [turning, scaling]) input.addEventListener("change", () => say(words.textContent));

  /* ---- the cloud and its line ---- */
  const plot = nx.plot({
    x: [0, 1],
    y: [0, 1],
    xLabel: "x₁",
    yLabel: "x₂",
    clip: stage.name("frame"),
    margin: { left: 30, right: 6, top: 6, bottom: 24 },
    attributes: {
      tabindex: 0,
      role: "slider",
      class: "nx-plot nx-turned",
      "aria-label": "The line: arrow keys turn it, with Shift faster",
      "aria-valuemin": 0,
      "aria-valuemax": 180,
    },
  });
  const put = (on, tag, name) => on.marks.appendChild(nx.s(tag, { class: name }));
  const residuals = put(plot, "path", "nx-residuals"),
    halo = put(plot, "path", "nx-turned-halo"),
    line = put(plot, "path", "nx-turned-line"),
    ticks = put(plot, "g", "nx-turned-ticks");
  const dots = Array.from({ length: MANY }, () => put(plot, "circle", "nx-dot"));
  const feet = Array.from({ length: MANY }, () => put(plot, "circle", "nx-foot"));
  const mark = put(plot, "circle", "nx-ringed"),
    middle = put(plot, "path", "nx-middle");
  const handles = [0, 1].map(() => put(plot, "circle", "nx-handle"));
  for (const [node, r] of [...dots.map((one) => [one, 3]), ...feet.map((one) => [one, 2.4]), [mark, 7]])
    node.setAttribute("r", r);
  for (const node of handles) node.setAttribute("r", 7);

  const bearing = (event) => {
    const [x, y] = plot.at(event);
    return (Math.atan2(y - known.mean[1], x - known.mean[0]) * 180) / Math.PI;
  };
  let held = null;
  plot.node.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    held = bearing(event);
    plot.node.setPointerCapture(event.pointerId);
  });
  plot.node.addEventListener("pointermove", (event) => {
    if (held === null) return;
    const now = bearing(event);
    turnTo(angle + turned.way(held, now), false);
    held = now;
  });
  plot.node.addEventListener("lostpointercapture", () => {
    held = null;
    say(words.textContent);
  });
  plot.node.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    turnTo(angle + (event.shiftKey ? 10 : 1) * by, true);
  });

  /* ---- the bar, and the error over all angles ---- */
  const bar = nx.plot({
    x: [0, 1],
    y: [0, 1],
    yTicks: [],
    margin: { left: 4, right: 8, top: 4, bottom: 22 },
    attributes: { role: "img", class: "nx-plot nx-turnedbar" },
  });
  const [keptPart, lostPart] = [put(bar, "rect", "nx-kept-part"), put(bar, "rect", "nx-lost-part")];
  const curve = nx.plot({
    x: [0, 180],
    y: [0, 1],
    xTicks: [0, 45, 90, 135, 180],
    xLabel: "angle",
    margin: { left: 30, right: 8, top: 18, bottom: 24 },
    attributes: { "aria-hidden": "true" },
  });
  const [all, error, dot] = [
    put(curve, "path", "nx-usual"),
    put(curve, "path", "nx-error"),
    put(curve, "circle", "nx-errordot"),
  ];
  dot.setAttribute("r", 5.5);
  const posts = ["u₁", "u₂"].map((name, k) => ({
    at: turned.wrap(best + 90 * k),
    line: put(curve, "path", "nx-post"),
    text: curve.marks.appendChild(nx.s("text", { "text-anchor": "middle" }, name)),
  }));

  const facts = {
    kept: nx.fact(nx.key("rbm-kept", "Kept")),
    lost: nx.fact(nx.key("rbm-lost", "Lost")),
    encoder: nx.fact("Encoder m u"),
    decoder: nx.fact("Decoder u / m"),
    code: nx.fact("Code of the ringed point"),
  };
  const sum = nx.h("span", { class: "nx-turned-sum" });
  const words = nx.h("p", { class: "nx-words" });
  const left = nx.h("div", {}, plot.node);
  const right = nx.h(
    "div",
    {},
    parts.heading(nx.key("rbm-kept", "kept"), " + ", nx.key("rbm-lost", "lost"), " = the points' variance ", sum),
    bar.node,
    parts.heading("Lost, the mean squared error, over the angle; dashed: all there is"),
    curve.node,
  );
  live.append(
    nx.h("div", { class: "nx-bar" }, goTo, turning.node),
    nx.h("div", { class: "nx-bar" }, scaling.node),
    nx.h("div", { class: "nx-pair" }, left, right),
    nx.facts(facts),
    words,
  );

  /* ---- drawing ---- */
  const spot = (on, [x, y]) => [on.X(x), on.Y(y)];
  function drawOnce() {
    dots.forEach((node, n) => {
      const [cx, cy] = spot(plot, place(n));
      nx.set(node, { cx: cx.toFixed(1), cy: cy.toFixed(1) });
    });
    const [cx, cy] = spot(plot, place(ringed));
    nx.set(mark, { cx, cy });
    const [x, y] = spot(plot, known.mean);
    middle.setAttribute("d", "M" + (x - 6) + " " + y + "h12M" + x + " " + (y - 6) + "v12");
    const { total } = turned.reading(points, known, 0, 1);
    bar.scale([0, total], [0, 1]);
    curve.scale(curve.x, [0, 1.05 * total]);
    error.setAttribute(
      "d",
      nx.path(
        Array.from({ length: 91 }, (_, k) =>
          spot(curve, [2 * k, turned.reading(points, known, 2 * k, 1).lost]),
        ),
      ),
    );
    all.setAttribute("d", nx.path([0, 180].map((at) => spot(curve, [at, total]))));
    for (const post of posts) {
      post.line.setAttribute("d", nx.path([0, 1.05 * total].map((at) => spot(curve, [post.at, at]))));
      nx.set(post.text, { x: curve.X(post.at), y: curve.margin.top - 5 });
    }
  }

  function drawTicks(u) {
    const across = [-u[1], u[0]];
    const limit = 0.97 * reach * scale;
    const made = nx.ticks(-limit, limit, 7).flatMap((value) => {
      const at = turned.decode(known, angle, scale, value);
      const [x, y] = spot(plot, at);
      const [dx, dy] = [5 * across[0], -5 * across[1]];
      const down = dy > 0 || (dy === 0 && dx > 0) ? 1 : -1;
      return [
        nx.s("path", { d: nx.path([[x - dx, y - dy], [x + dx, y + dy]]) }),
        nx.s(
          "text",
          { x: (x + 3 * down * dx).toFixed(1), y: (y + 3 * down * dy + 4).toFixed(1), "text-anchor": "middle" },
          nx.number(value, 2).replace(/\.?0+$/, ""),
        ),
      ];
    });
    ticks.replaceChildren(...made);
  }

  function draw() {
    const u = turned.direction(angle);
    const ends = [-1, 1].map((sign) => spot(plot, known.mean.map((value, k) => value + sign * reach * u[k])));
    for (const node of [halo, line]) node.setAttribute("d", nx.path(ends));
    ends.forEach(([cx, cy], k) => nx.set(handles[k], { cx: cx.toFixed(1), cy: cy.toFixed(1) }));
    let ways = "";
    feet.forEach((node, n) => {
      const z = turned.encode(known, angle, scale, place(n));
      const [cx, cy] = spot(plot, turned.decode(known, angle, scale, z));
      nx.set(node, { cx: cx.toFixed(1), cy: cy.toFixed(1) });
      ways += nx.path([spot(plot, place(n)), [cx, cy]]);
    });
    residuals.setAttribute("d", ways);
    drawTicks(u);
    const now = turned.reading(points, known, angle, scale);
    const split = bar.X(now.kept);
    const box = { y: bar.margin.top, height: bar.inner[1] - 4 };
    nx.set(keptPart, { ...box, x: bar.X(0), width: split - bar.X(0) });
    nx.set(lostPart, { ...box, x: split, width: Math.max(0, bar.X(now.total) - split) });
    nx.set(dot, { cx: curve.X(angle), cy: curve.Y(now.lost) });
    showNumbers(now, u);
  }

  // Rounded so that what is read adds up.
  function showNumbers(now, u) {
    const [total, lost] = [now.total, now.lost].map((value) => Number(value.toFixed(2)));
    const pair = (factor) => "(" + u.map((part) => nx.number(factor * part, 2)).join(", ") + ")";
    const share = (value) => nx.number((100 * value) / now.total, 1) + " %";
    facts.kept.show(nx.number(total - lost, 2), share(now.kept) + " of the variance");
    facts.lost.show(nx.number(lost, 2), "mean of ‖x − x̂‖²");
    sum.textContent = nx.number(total, 2);
    facts.encoder.show(pair(scale), "u has length 1");
    facts.decoder.show(pair(1 / scale), "together the same x̂ for every m");
    facts.code.show(nx.number(turned.encode(known, angle, scale, place(ringed)), 2), "z, read on the line");
    bar.node.setAttribute("aria-label", "Kept " + share(now.kept) + ", lost " + share(now.lost));
    plot.node.setAttribute("aria-valuenow", Math.round(angle));
    plot.node.setAttribute("aria-valuetext", degrees(angle) + ", lost " + nx.number(lost, 2));
    turning.input.value = Math.round(angle);
    turning.input.setAttribute("aria-valuetext", degrees(angle));
    turning.input.nextSibling.textContent = degrees(angle);
    turning.input.style.setProperty("--nx-part", (100 * angle) / 180 + "%");
    words.textContent = sentence(share(now.kept));
  }

  function sentence(share) {
    const freedom =
      scale === 1
        ? ""
        : " With m = " + nx.number(scale, 2) + " every code is m times as large, and no point is drawn elsewhere.";
    const off = turned.way(best, angle);
    if (Math.abs(off) < 0.75)
      return "The first principal component: of all lines this one loses least. Turn it either way." + freedom;
    if (Math.abs(off) > 89.25)
      return (
        "The second principal component: here the slope is zero as well, and yet every other line is better. " +
        "Descent that begins exactly here does not move; a breath to either side and it leaves." +
        freedom
      );
    return (
      "At " +
      degrees(angle) +
      " the line keeps " +
      share +
      " of the variance. The error falls towards " +
      degrees(best) +
      ", from either side." +
      freedom
    );
  }

  stage.onResize(() => {
    if (left.clientWidth === 0) return; // on its way to paper
    const side = Math.min(left.clientWidth, 420);
    const { margin } = plot;
    plot.resize(side, side - margin.left - margin.right + margin.top + margin.bottom);
    plot.scale(...known.mean.map((value) => [value - 1.06 * reach, value + 1.06 * reach]));
    bar.resize(right.clientWidth, 56);
    curve.resize(right.clientWidth, 190);
    drawOnce();
    draw();
  });
};
