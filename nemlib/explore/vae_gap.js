/* A bell that the reader moves under the true posterior, and below it log p(x), of which the bell's ELBO is
   one part and its divergence from the posterior the other. */
nx.build = function (stage) {
  const { data, live, say } = stage;
  const { vaeGap, parts } = nx;
  const VIEW = [-3.6, 3.6],
    STEP = 0.05, // of a press of an arrow key
    GRIP = 22; // pixels within which a handle is taken
  const limits = { mean: data.mean, sd: data.sd };
  const random = nx.random(data.seed);
  const noise = Float64Array.from({ length: data.draws }, () => random.normal());
  const clamp = (value, [low, high]) => Math.min(high, Math.max(low, value));
  parts.follow(stage, data.palette, () => {});

  let toy,
    logP,
    top, // of the posterior's density
    best, // the best q, found when first asked for
    q,
    moved = false,
    touched = null; // what is being dragged

  function setToy(n) {
    toy = data.toys[n];
    logP = vaeGap.logProb(toy);
    top = Math.max(...grid().map((z) => posterior(z)));
    best = null;
    q = { mean: toy.start[0], sd: toy.start[1] };
    moved = false;
  }
  const grid = () => Array.from({ length: 241 }, (_, i) => VIEW[0] + ((VIEW[1] - VIEW[0]) * i) / 240);
  const posterior = (z) => Math.exp(vaeGap.logJoint(toy, z) - logP);
  const density = (z) => Math.exp(vaeGap.logNormal(z, q.mean, q.sd));
  const found = () => {
    best = best || vaeGap.best(toy, q, limits);
    return best;
  };
  const least = () => vaeGap.reading(toy, logP, found()).gap;

  function moveTo(mean, sd) {
    glide.toggle(false);
    q = { mean: clamp(mean, limits.mean), sd: clamp(sd, limits.sd) };
    moved = true;
    draw();
  }

  // To the best q, or to the prior: seen as a movement where the reader wants movement.
  let way = null;
  function glideTo(end) {
    glide.toggle(false);
    moved = true;
    way = { from: q, end, part: nx.reducedMotion() ? 1 : 0 };
    if (way.part === 1) arrive();
    else glide.toggle(true);
  }
  const glide = nx.loop(
    stage.root,
    (seconds) => {
      way.part = Math.min(1, way.part + 1.6 * seconds);
      const ease = way.part * way.part * (3 - 2 * way.part);
      q = {
        mean: way.from.mean + ease * (way.end.mean - way.from.mean),
        sd: way.from.sd * (way.end.sd / way.from.sd) ** ease,
      };
      if (way.part < 1) draw();
      else arrive();
      return way.part < 1;
    },
    () => {},
  );
  function arrive() {
    q = { ...way.end };
    draw();
    say(words.textContent);
  }

  /* ---- the controls ---- */
  const choice = nx.choice(stage, {
    id: "toy",
    label: "The true posterior",
    value: String(data.first),
    choices: data.toys.map((one, n) => [String(n), one.name]),
    change: (n) => {
      glide.toggle(false);
      setToy(Number(n));
      draw();
      say(words.textContent);
    },
  });
  const toBest = nx.button(
    "Best q",
    () => {
      best = vaeGap.best(toy, q, limits);
      glideTo(best);
    },
    { primary: true },
  );
  const toPrior = nx.button("q = prior", () => glideTo({ mean: 0, sd: 1 }));
  const slider = (id, label, range, change) => {
    const one = nx.slider(stage, {
      id,
      label,
      min: range[0],
      max: range[1],
      step: 0.01,
      value: range[0],
      format: (value) => nx.number(value, 2),
      change,
    });
    one.input.addEventListener("change", () => say(words.textContent));
    return one;
  };
  const meanSlider = slider("mean", "Mean of q", limits.mean, (value) => moveTo(value, q.sd)),
    sdSlider = slider("sd", "Width of q (sd)", limits.sd, (value) => moveTo(q.mean, value));

  /* ---- the densities ---- */
  const plot = nx.plot({
    x: VIEW,
    y: [0, 1],
    xLabel: "z",
    yLabel: "density",
    margin: { left: 34, right: 8, top: 10 },
    attributes: {
      tabindex: 0,
      role: "application",
      class: "nx-plot nx-bell",
      "aria-label":
        "The true posterior, and q under the reader's hand: left and right move its mean, up and down its " +
        "width, with Shift in larger steps",
    },
  });
  const mark = (tag, name) => plot.marks.appendChild(nx.s(tag, { class: name }));
  const [truth, prior, belly, bell] = ["truth", "prior", "belly", "q"].map((name) =>
    mark("path", "nx-gap-" + name),
  );
  const handles = { mean: mark("circle", "nx-gap-handle"), left: null, right: null };
  handles.left = mark("circle", "nx-gap-handle nx-gap-hollow");
  handles.right = mark("circle", "nx-gap-handle nx-gap-hollow");
  for (const handle of Object.values(handles)) handle.setAttribute("r", 7);

  // Where each handle is, in z and density: the top of the bell, and one standard deviation to either side.
  const places = () => ({
    mean: [q.mean, density(q.mean)],
    left: [q.mean - q.sd, density(q.mean - q.sd)],
    right: [q.mean + q.sd, density(q.mean + q.sd)],
  });
  function nearest(event) {
    const box = plot.node.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const away = Object.entries(places()).map(([name, [z, d]]) => [
      name,
      Math.hypot(plot.X(z) - x, plot.Y(d) - y),
    ]);
    const [name, distance] = away.reduce((a, b) => (b[1] < a[1] ? b : a));
    return distance < GRIP ? name : "mean";
  }
  plot.node.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    touched = { what: nearest(event), from: q.mean - plot.at(event)[0] };
    plot.node.setPointerCapture(event.pointerId);
  });
  plot.node.addEventListener("pointermove", (event) => {
    if (!touched) return;
    const z = plot.at(event)[0];
    if (touched.what === "mean") moveTo(z + touched.from, q.sd);
    else moveTo(q.mean, touched.what === "left" ? q.mean - z : z - q.mean);
  });
  plot.node.addEventListener("lostpointercapture", () => {
    touched = null;
    say(words.textContent);
  });
  plot.node.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (!by) return;
    event.preventDefault();
    const far = (event.shiftKey ? 5 : 1) * STEP;
    moveTo(q.mean + far * by[0], q.sd + far * by[1]);
    say(spoken());
  });

  /* ---- the bar: from the left the ELBO, then the gap, and always as far as log p(x) ---- */
  const pattern = stage.name("hatch");
  const bar = nx.plot({
    x: [0, 1],
    y: [0, 1],
    yTicks: [],
    margin: { left: 8, right: 52, top: 38, bottom: 34 },
    attributes: { role: "img", class: "nx-plot nx-gapbar" },
  });
  bar.node.prepend(
    nx.s(
      "pattern",
      { id: pattern, width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
      nx.s("rect", { width: 6, height: 6, class: "nx-gap-part" }),
      nx.s("rect", { width: 2, height: 6, class: "nx-gap-hatch" }),
    ),
  );
  const put = (tag, name) => bar.marks.appendChild(nx.s(tag, { class: name }));
  const elboPart = put("rect", "nx-elbo-part"),
    gapPart = put("rect", ""),
    end = put("path", "nx-gap-end"),
    elboText = put("text", "nx-gap-text"),
    gapText = put("text", "nx-gap-text"),
    endText = put("text", "nx-gap-text"),
    beyond = put("path", "nx-gap-end");
  gapPart.setAttribute("fill", "url(#" + pattern + ")");
  const marks = [5, 50].map((K) => ({ K, tick: put("path", "nx-gap-k"), text: put("text", "") }));

  /* ---- three sums ---- */
  const term = (...label) => {
    const value = nx.h("span", { class: "nx-sumnumber" });
    return { node: nx.h("span", { class: "nx-sumterm" }, nx.h("span", {}, ...label), value), value };
  };
  const key = (colour, label) => nx.key("rbm-" + colour, label);
  const sums = [
    ["+", term("log p(x)"), term(key("elbo", "ELBO")), term(key("gap", "KL(q ‖ p(z | x))"))],
    ["−", term(key("elbo", "ELBO")), term("E", nx.h("sub", {}, "q"), " log p(x | z)"), term("KL(q ‖ p(z))")],
    ["+", term(key("elbo", "ELBO")), term("E", nx.h("sub", {}, "q"), " log p(x, z)"), term("H(q)")],
  ];
  const equations = nx.h(
    "div",
    { class: "nx-sums", role: "group", "aria-label": "log p(x), and both readings of the ELBO, in nats" },
    ...sums.map(([sign, whole, one, other]) =>
      nx.h(
        "div",
        { class: "nx-sum" },
        whole.node,
        nx.h("span", { class: "nx-sign" }, "="),
        one.node,
        nx.h("span", { class: "nx-sign" }, sign),
        other.node,
      ),
    ),
  );

  const formula = parts.heading();
  const keys = parts.heading(
    key("posterior", "p(z | x), the true posterior"),
    key("q", "q(z), yours to drag"),
    nx.h("span", {}, nx.h("i", { class: "nx-gap-dash" }), "p(z), the prior"),
  );
  keys.classList.add("nx-gap-keys");
  const words = nx.h("p", { class: "nx-words" });
  const room = nx.h("div", {}, plot.node);
  live.append(
    nx.h("div", { class: "nx-bar" }, choice, parts.group("Move q", toBest, toPrior)),
    formula,
    keys,
    room,
    nx.h("div", { class: "nx-bar nx-gap-sliders" }, meanSlider.node, sdSlider.node),
    parts.heading(
      "The last " +
        data.span +
        " nats up to log p(x): the ELBO, then the gap; ▲ the bounds of 5 and 50 weights",
    ),
    bar.node,
    equations,
    words,
  );

  /* ---- drawing ---- */
  function drawBells() {
    const line = (f) => grid().map((z) => [plot.X(z), plot.Y(f(z))]);
    const peak = density(q.mean);
    plot.scale(VIEW, [0, 1.15 * Math.max(top, peak)]);
    const floor = (points) => [
      [plot.X(VIEW[0]), plot.Y(0)],
      ...points,
      [plot.X(VIEW[1]), plot.Y(0)],
    ];
    truth.setAttribute("d", nx.path(floor(line(posterior))));
    prior.setAttribute("d", nx.path(line((z) => Math.exp(vaeGap.logNormal(z, 0, 1)))));
    // A narrow bell needs more points than the grid has there.
    const fine = Array.from({ length: 121 }, (_, i) => q.mean + q.sd * ((i - 60) / 12))
      .filter((z) => z > VIEW[0] && z < VIEW[1])
      .map((z) => [plot.X(z), plot.Y(density(z))]);
    const ends = [VIEW[0], VIEW[1]].map((z) => [plot.X(z), plot.Y(density(z))]);
    const curve = [ends[0], ...fine, ends[1]];
    belly.setAttribute("d", nx.path(floor(curve)));
    bell.setAttribute("d", nx.path(curve));
    for (const [name, [z, d]] of Object.entries(places())) {
      nx.set(handles[name], { cx: plot.X(z).toFixed(1), cy: plot.Y(d).toFixed(1) });
      handles[name].style.visibility = z < VIEW[0] || z > VIEW[1] ? "hidden" : "visible";
    }
  }

  function drawBar(now, bounds) {
    const left = logP - data.span;
    bar.scale([left, logP], [0, 1]);
    const high = [bar.margin.top, bar.height - bar.margin.bottom - 14];
    const at = (value) => clamp(bar.X(value), [bar.X(left), bar.X(logP)]);
    const split = at(now.elbo);
    nx.set(elboPart, { x: at(left), y: high[0], width: split - at(left), height: high[1] - high[0] });
    nx.set(gapPart, { x: split, y: high[0], width: at(logP) - split, height: high[1] - high[0] });
    const off = now.elbo < left;
    beyond.setAttribute("d", off ? "M" + (at(left) + 10) + " " + (high[0] + 6) + "l-8 8l8 8" : "");
    label(endText, at(logP) + 4, high[0] - 24, "end", "log p(x) " + nx.number(logP, 3));
    // The two names stand at the seam, and keep off both ends of the bar.
    const names = { elbo: "ELBO " + shown(now).elbo, gap: "KL " + shown(now).gap };
    if (off) names.elbo = "← " + names.elbo;
    const wide = (name) => 7.5 * name.length;
    const seam = clamp(split, [at(left) + wide(names.elbo), bar.width - wide(names.gap) - 5]);
    label(elboText, seam - 5, high[0] - 6, "end", names.elbo);
    label(gapText, seam + 5, high[0] - 6, "start", names.gap);
    const crossed = seam + 5 + wide(names.gap) > at(logP);
    end.setAttribute("d", "M" + at(logP) + " " + (high[0] - (crossed ? 3 : 20)) + "V" + (high[1] + 6));
    marks.forEach(({ tick, text }, n) => {
      const { bound } = bounds[n];
      const inside = bound > left;
      const x = clamp(bar.X(bound), [bar.X(left), bar.X(logP) + 2]);
      tick.setAttribute("d", inside ? "M" + x.toFixed(1) + " " + (high[1] + 1) + "l5 9h-10z" : "");
      label(text, x + (n ? 7 : -7), high[1] + 11, n ? "start" : "end", inside ? "K = " + marks[n].K : "");
    });
    bar.node.setAttribute("aria-label", spoken() + " " + boundWords(bounds));
  }
  function label(node, x, y, anchor, text) {
    nx.set(node, { x: x.toFixed(1), y, "text-anchor": anchor });
    node.textContent = text;
  }

  /* Three decimals that add up: in each sum one term takes the others' rounding, less than two units of the
     last digit. */
  function shown(now) {
    const round = (value) => Math.round(1000 * value);
    const [p, elbo, kl, entropy] = [logP, now.elbo, now.priorKl, now.entropy].map(round);
    const text = (thousandths) => nx.number(thousandths / 1000, 3);
    return {
      p: text(p),
      elbo: text(elbo),
      gap: text(p - elbo),
      reconstruction: text(elbo + kl),
      priorKl: text(kl),
      energy: text(elbo - entropy),
      entropy: text(entropy),
    };
  }

  function drawSums(now) {
    const text = shown(now);
    const rows = [
      [text.p, text.elbo, text.gap],
      [text.elbo, text.reconstruction, text.priorKl],
      [text.elbo, text.energy, text.entropy],
    ];
    sums.forEach(([, ...terms], r) =>
      terms.forEach(({ value }, k) => {
        value.textContent = rows[r][k];
      }),
    );
  }

  const spoken = () => {
    const text = shown(vaeGap.reading(toy, logP, q));
    return (
      "q has mean " +
      nx.number(q.mean, 2) +
      " and standard deviation " +
      nx.number(q.sd, 2) +
      ": ELBO " +
      text.elbo +
      " and KL " +
      text.gap +
      " make log p(x) " +
      text.p +
      "."
    );
  };
  const boundWords = (bounds) =>
    "With 5 weights the bound is " +
    nx.number(bounds[0].bound, 2) +
    " ± " +
    nx.number(bounds[0].error, 2) +
    ", with 50 it is " +
    nx.number(bounds[1].bound, 2) +
    " ± " +
    nx.number(bounds[1].error, 2) +
    ".";

  function sentence(now, bounds) {
    if (!moved) return toy.words;
    const remains = least();
    if (now.gap < remains + 5e-4) return toy.done + " " + boundWords(bounds);
    return (
      "The ELBO lies " +
      nx.number(now.gap, 2) +
      " nats below log p(x)" +
      (remains > 5e-4
        ? "; of these the best Gaussian cannot close " + nx.number(remains, 2) + ". "
        : ", and the best Gaussian would close the whole gap. ") +
      boundWords(bounds)
    );
  }

  function draw() {
    const now = vaeGap.reading(toy, logP, q);
    const bounds = marks.map(({ K }) => vaeGap.weighted(toy, q, noise, K));
    drawBells();
    drawBar(now, bounds);
    drawSums(now);
    for (const [one, value] of [
      [meanSlider, q.mean],
      [sdSlider, q.sd],
    ])
      showOn(one.input, value);
    formula.textContent =
      "The decoder: x = " +
      toy.formula +
      " + noise of sd " +
      toy.sd +
      ", and x = " +
      toy.x +
      " was seen. The prior: z ~ N(0, 1).";
    words.textContent = sentence(now, bounds);
  }

  // The slider follows q without hearing of it as a move of the reader's.
  function showOn(input, value) {
    const text = nx.number(value, 2);
    const [low, high] = [Number(input.min), Number(input.max)];
    input.value = value;
    input.setAttribute("aria-valuetext", text);
    input.nextSibling.textContent = text;
    input.style.setProperty("--nx-part", (100 * (value - low)) / (high - low) + "%");
  }

  stage.onResize(() => {
    if (room.clientWidth === 0) return; // on its way to paper
    plot.resize(room.clientWidth, room.clientWidth < 480 ? 210 : 250);
    bar.resize(room.clientWidth, 122);
    draw();
  });
  setToy(data.first);
};
