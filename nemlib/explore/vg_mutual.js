/* A VAE and a Gaussian mixture that teach each other: points that a message pulls, components that follow them,
   what both are worth together, and what the decoder makes of a component. */
nx.build = function (stage) {
  const { data, live, say } = stage;
  const { network, vgMutual: maths, parts, slots } = nx;
  const SIDE = data.side,
    PIXELS = SIDE * SIDE,
    SHOWN = data.shown,
    HALF = Math.sqrt(2 * Math.LN2), // the ellipse that holds half of a component
    SLOW = 520, // milliseconds of a step by hand
    CALM_FRAMES = 30, // frames of a round where the reader wants less motion
    LONGEST = 400; // points of a curve; then every second one goes
  const decoder = network.unpack(data.decoder);
  const pairs = (packed) => {
    const flat = nx.unpack(packed);
    return Array.from({ length: flat.shape[0] }, (_, n) => [flat[2 * n], flat[2 * n + 1]]);
  };
  const first = {
    mean: pairs(data.mean),
    variance: pairs(data.logVariance).map((pair) => pair.map(Math.exp)),
  };
  const N = first.mean.length;
  const images = network.images(data.images, N, PIXELS);
  // A square around all points.
  const ends = [0, 1].map((i) => [Math.min, Math.max].map((end) => end(...first.mean.map((c) => c[i]))));
  const half = 0.53 * Math.max(...ends.map(([low, high]) => high - low));
  const square = ends.map(([low, high]) => [(low + high) / 2 - half, (low + high) / 2 + half]);
  const random = nx.random(data.seed + 1000);
  const strip = Array.from({ length: SHOWN }, () => [random.normal(), random.normal()]);
  const settings = { components: data.components, beta: data.beta, message: "soft", learner: "em" };
  const look = { lines: "next", component: 0 };
  let seed = data.seed,
    state,
    shown, // what is drawn: points, shares, mixture, on their way from one state to the next
    turning = null,
    rounds = 0, // since the page began to play
    frames = 0,
    last = "start",
    far = 0, // that the last step of the VAE moved the points, on average
    rise = 0, // of the soft bound in the last step
    lift = Infinity; // of log p in the last step of the mixture
  const palette = parts.follow(stage, { ...data.palette, ...slotPairs() }, () => drawAll());
  function slotPairs() {
    return Object.fromEntries(data.slots.map((pair, k) => ["c" + k, pair]));
  }
  const hexes = () => {
    const column = stage.root.dataset.nxTheme === "dark" ? 1 : 0;
    return Array.from({ length: settings.components }, (_, k) => data.slots[k % data.slots.length][column]);
  };
  const colourOf = (k) => "var(--nx-rbm-c" + (k % data.slots.length) + ")";
  // Components of the same colour have different marks.
  const marks = [0, 1, 2, 3].map((k) => new Path2D("M0 0" + slots.mark(k)));
  const markOf = (k) => marks[(k + Math.floor(k / data.slots.length)) % 4];

  /* ---- state ---- */
  const now = () => state.record[state.record.length - 1];
  const atRest = () => ({ x: state.q.mean, shares: state.shares, mixture: state.mixture });
  function startOver() {
    state = maths.begin(first, settings, seed);
    look.component = Math.min(look.component, settings.components - 1);
    last = "start";
    lift = Infinity;
    shown = atRest();
  }
  function step(take, name) {
    const before = now();
    const moved = take(state);
    rise = now().soft - before.soft;
    if (name === "vae") far = moved;
    else lift = Math.abs(now().logProb - before.logProb);
    last = name;
    if (state.record.length > LONGEST) state.record = state.record.filter((_, n) => n % 2 === 0);
  }
  const stepMixture = () => step(maths.mixtureStep, "mixture");
  const stepVae = () => step(maths.vaeStep, "vae");
  const settled = () =>
    settings.learner === "em" && settings.message !== "sampled" && last === "vae" && far < 1e-5 && lift < 1e-5;

  /* ---- motion: one thing at a time, skipped where the reader wants less of it ---- */
  const mix = (from, to, t) => from.map((value, i) => value + t * (to[i] - value));
  function between(from, to, t) {
    const covariance = (one, k) => maths.inverse(one.mixture.precisions[k]);
    return {
      x: from.x.map((x, n) => mix(x, to.x[n], t)),
      shares: from.shares.map((row, n) => mix(row, to.shares[n], t)),
      mixture: {
        weights: mix(from.mixture.weights, to.mixture.weights, t),
        means: from.mixture.means.map((mean, k) => mix(mean, to.mixture.means[k], t)),
        precisions: from.mixture.precisions.map((_, k) =>
          maths.inverse(mix(covariance(from, k), covariance(to, k), t)),
        ),
      },
    };
  }
  // Whatever the reader does next finds the step that was on its way at its end, and no other begun.
  function finish() {
    turning = null;
    shown = atRest();
  }
  function take(step, lasts, done) {
    finish();
    const from = shown;
    step();
    const to = atRest();
    const end = () => {
      finish();
      drawAll();
      done();
    };
    if (nx.reducedMotion() || !lasts) return end();
    const own = (turning = {});
    const started = performance.now();
    const frame = (time) => {
      if (turning !== own) return;
      const part = Math.min(1, Math.max(0, (time - started) / lasts));
      if (part >= 1 || !stage.root.isConnected) return end();
      shown = between(from, to, part * part * (3 - 2 * part));
      drawPlane();
      requestAnimationFrame(frame);
    };
    drawNumbers();
    requestAnimationFrame(frame);
  }
  const press =
    (...steps) =>
    () => {
      loop.toggle(false);
      const after = () => say(words.textContent);
      if (steps.length === 1) take(steps[0], SLOW, after);
      else take(steps[0], SLOW, () => take(steps[1], SLOW, after));
    };

  /* ---- the controls ---- */
  const run = nx.button("Play", () => loop.toggle(!loop.running), { primary: true });
  const loop = nx.loop(
    stage.root,
    () => {
      if (turning) return true;
      if (rounds >= data.rounds || settled()) return false;
      frames += 1;
      if (nx.reducedMotion() && frames % CALM_FRAMES) return true;
      rounds += 1;
      take(stepMixture, SLOW / 3, () => take(stepVae, SLOW / 3, () => {}));
      return true;
    },
    (on) => {
      run.textContent = on ? "Pause" : "Play";
      rounds = frames = 0;
      if (on) return say("Rounds are played.");
      finish();
      drawAll();
      say((settled() ? "Settled. " : "Paused. ") + words.textContent);
    },
  );
  const mixtureButton = nx.button("", press(stepMixture));
  const anew = (change, remark) => () => {
    loop.toggle(false);
    change();
    turning = null;
    startOver();
    drawAll();
    say(remark() + words.textContent);
  };
  const again = nx.button(
    "Reset",
    anew(
      () => {},
      () => "Back at the start. ",
    ),
  );
  const reseed = nx.button(
    "New start",
    anew(
      () => {
        seed = 1 + (seed % 999);
      },
      () => "Start " + seed + ". ",
    ),
  );
  // A setting that changes what the next step does, and nothing that was done.
  function set(name, value) {
    finish();
    settings[name] = state.settings[name] = value;
    if (name === "message") maths.send(state);
    if (name === "beta") maths.aim(state);
    last = name;
    nameButtons();
    drawAll();
  }
  const learner = nx.choice(stage, {
    id: "learner",
    label: "How the mixture learns",
    value: settings.learner,
    choices: [
      ["em", "EM"],
      ["gibbs", "Gibbs"],
    ],
    change: (value) => {
      set("learner", value);
      say(words.textContent);
    },
  });
  const message = nx.choice(stage, {
    id: "message",
    label: "Which message the mixture sends",
    value: settings.message,
    choices: [
      ["soft", "soft"],
      ["hard", "hard"],
      ["sampled", "sampled"],
    ],
    change: (value) => {
      set("message", value);
      say(words.textContent);
    },
  });
  const lines = nx.menu(stage, {
    id: "lines",
    label: "Arrows",
    value: look.lines,
    choices: [
      ["next", "to where each is pulled"],
      ["since", "from where each began"],
      ["none", "none"],
    ],
    change: (value) => {
      look.lines = value;
      drawPlane();
    },
  });
  const beta = nx.slider(stage, {
    id: "beta",
    label: "β, weight of the message",
    min: 0,
    max: data.betas.length - 1,
    step: 1,
    value: data.betas.indexOf(data.beta),
    format: (at) => String(data.betas[at]),
    change: (at) => set("beta", data.betas[at]),
  });
  const count = nx.slider(stage, {
    id: "k",
    label: "K, components",
    min: 1,
    max: data.mostComponents,
    step: 1,
    value: settings.components,
    format: String,
    spoken: (K) => nx.plural(K, "component"),
    change: (K) => {
      settings.components = K;
      loop.toggle(false);
      turning = null;
      startOver();
      buildComponents();
      drawAll();
    },
  });
  for (const one of [beta, count]) one.input.addEventListener("change", () => say(words.textContent));
  function nameButtons() {
    mixtureButton.textContent = settings.learner === "em" ? "Mixture: one EM step" : "Mixture: one sweep";
  }

  /* ---- the plane ---- */
  const plot = nx.plot({
    x: square[0],
    y: square[1],
    xLabel: "x₁",
    yLabel: "x₂",
    clip: stage.name("frame"),
    margin: { left: 28, right: 6, top: 6, bottom: 24 },
    attributes: { tabindex: 0, role: "application", class: "nx-plot nx-vgplane" },
  });
  const canvas = nx.h("canvas", { class: "nx-vgpoints", "aria-hidden": "true" });
  const frame = nx.h("div", { class: "nx-vgframe" }, canvas, plot.node);
  const rings = plot.marks.appendChild(nx.s("g", {})),
    names = plot.marks.appendChild(nx.s("g", {}));
  let dpr = 1;

  function choose(k, spoken) {
    const K = settings.components;
    look.component = (k + K) % K;
    menu.querySelector("select").value = String(look.component);
    drawPlane();
    drawStrip();
    if (spoken) say("Component " + (look.component + 1) + ": " + stripName.textContent + ".");
  }
  const over = (event) => {
    const k = maths.largest(maths.logJoint(state.mixture, plot.at(event)));
    if (k >= 0 && k !== look.component) choose(k, false);
  };
  plot.node.addEventListener("pointermove", over);
  plot.node.addEventListener("pointerdown", over);
  plot.node.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    if (!by || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    choose(look.component + by, true);
  });
  const menu = nx.menu(stage, {
    id: "component",
    label: "Component",
    value: "0",
    choices: [],
    change: (value) => choose(Number(value), true),
  });
  function buildComponents() {
    const each = Array.from({ length: settings.components }, (_, k) => k);
    menu
      .querySelector("select")
      .replaceChildren(...each.map((k) => nx.h("option", { value: k }, String(k + 1))));
    menu.querySelector("select").value = String(look.component);
    const ring = (k) => nx.s("path", { class: "nx-vgring", style: "stroke:" + colourOf(k) });
    rings.replaceChildren(...each.map(ring));
    names.replaceChildren(
      ...each.map((k) => nx.s("text", { class: "nx-vgname", "text-anchor": "middle" }, String(k + 1))),
    );
  }

  /* ---- what a component is, and what all are worth ---- */
  const face = (label) => {
    const node = nx.h("canvas", { width: SHOWN * SIDE, height: SIDE, class: "nx-vgstrip", role: "img" });
    return { node, label };
  };
  const made = face("Decoded from draws of component "),
    own = face("Test images that are most surely of component ");
  const stripName = parts.heading(),
    chartName = parts.heading();
  const chart = nx.plot({
    x: [0, 10],
    y: [0, 1],
    clip: stage.name("bounds"),
    margin: { left: 36, top: 6, right: 12, bottom: 22 },
    attributes: { role: "img" },
  });
  const curve = (name) => chart.marks.appendChild(nx.s("path", { class: "nx-vgcurve " + name }));
  const curves = {
    conditional: curve("nx-vgconditional"),
    logProb: curve("nx-vglog"),
    soft: curve("nx-vgsoft"),
  };
  chartName.append(
    nx.key("rbm-ink", "log p"),
    ", ",
    nx.key("rbm-bound", "soft bound"),
    ", ",
    nx.key("rbm-conditional", "conditional (dashed): no bound"),
    "; nats an image above log p(o | c), by step",
  );
  const facts = {
    soft: nx.fact("Soft bound"),
    logProb: nx.fact("log p"),
    conditional: nx.fact("Conditional"),
    objective: nx.fact("Objective at β"),
    information: nx.fact("Information 𝓘"),
  };
  const words = nx.h("p", { class: "nx-words" });
  const planeName = parts.heading();
  planeName.textContent =
    nx.count(N) + " images at the mean of q; colour: responsibilities; an ellipse holds half of its component";
  const left = nx.h("div", {}, planeName, frame);
  const right = nx.h(
    "div",
    {},
    nx.h("div", { class: "nx-bar nx-vgwhich" }, menu, stripName),
    parts.heading("The decoder’s pictures of draws from it"),
    made.node,
    parts.heading("The images that are most surely its own"),
    own.node,
    chartName,
    chart.node,
  );
  live.append(
    nx.h(
      "div",
      { class: "nx-bar" },
      parts.group(
        "Steps",
        mixtureButton,
        nx.button("VAE: one step", press(stepVae)),
        nx.button("Round", press(stepMixture, stepVae)),
        run,
      ),
      parts.group("Anew", again, reseed),
    ),
    nx.h("div", { class: "nx-vgknobs" }, beta.node, count.node),
    nx.h(
      "div",
      { class: "nx-bar" },
      nx.h("div", { class: "nx-buttons" }, nx.h("span", { class: "nx-quiet" }, "Mixture by"), learner),
      nx.h("div", { class: "nx-buttons" }, nx.h("span", { class: "nx-quiet" }, "Message"), message),
      lines,
    ),
    nx.h("div", { class: "nx-pair" }, left, right),
    nx.facts(facts),
    words,
  );

  /* ---- drawing ---- */
  function drawPlane() {
    const context = canvas.getContext("2d");
    context.setTransform(dpr, 0, 0, dpr, 0, 0);
    context.clearRect(0, 0, plot.width, plot.height);
    context.save();
    context.beginPath();
    context.rect(plot.margin.left, plot.margin.top, ...plot.inner);
    context.clip();
    drawLines(context);
    drawPoints(context);
    context.restore();
    const circle = Array.from({ length: 48 }, (_, i) => [
      HALF * Math.cos((i * Math.PI) / 24),
      HALF * Math.sin((i * Math.PI) / 24),
    ]);
    const { means, precisions, weights } = shown.mixture;
    [...rings.children].forEach((ring, k) => {
      const around = maths.spread(means[k], precisions[k], circle).map(([x, y]) => [plot.X(x), plot.Y(y)]);
      ring.setAttribute("d", nx.path(around, true));
      ring.classList.toggle("nx-vgchosen", k === look.component);
      ring.style.opacity = weights[k] * N < 0.5 ? 0.3 : 1;
    });
    [...names.children].forEach((name, k) => {
      nx.set(name, { x: plot.X(means[k][0]).toFixed(1), y: (plot.Y(means[k][1]) + 5).toFixed(1) });
      name.classList.toggle("nx-vgchosen", k === look.component);
    });
  }
  function drawPoints(context) {
    const colours = hexes(),
      size = plot.width < 340 ? 0.62 : 0.75;
    context.lineWidth = 0.6;
    context.strokeStyle = parts.css(palette.paper);
    shown.x.forEach(([x, y], n) => {
      context.setTransform(dpr * size, 0, 0, dpr * size, dpr * plot.X(x), dpr * plot.Y(y));
      const mark = markOf(maths.largest(shown.shares[n]));
      context.fillStyle = slots.rgb(slots.mix(colours, shown.shares[n]));
      context.fill(mark);
      context.stroke(mark);
    });
    context.setTransform(dpr, 0, 0, dpr, 0, 0);
  }
  function drawLines(context) {
    if (look.lines === "none") return;
    const ends = look.lines === "next" ? state.targets : first.mean;
    context.strokeStyle = parts.css(parts.blend(palette.paper, palette.ink, 0.62));
    context.lineWidth = 1;
    context.beginPath();
    shown.x.forEach((x, n) => {
      const [from, to] = look.lines === "next" ? [x, ends[n]] : [ends[n], x];
      const [u, v] = [plot.X(to[0]) - plot.X(from[0]), plot.Y(to[1]) - plot.Y(from[1])];
      const length = Math.hypot(u, v);
      if (length < 1) return;
      const [endX, endY] = [plot.X(to[0]), plot.Y(to[1])];
      context.moveTo(plot.X(from[0]), plot.Y(from[1]));
      context.lineTo(endX, endY);
      if (length < 5) return;
      const [a, b] = [(3.6 * u) / length, (3.6 * v) / length];
      context.moveTo(endX - a - 0.6 * b, endY - b + 0.6 * a);
      context.lineTo(endX, endY);
      context.lineTo(endX - a + 0.6 * b, endY - b - 0.6 * a);
    });
    context.stroke();
  }
  function paintStrip(one, pictures) {
    parts.paint(one.node, (i) => {
      const [y, x] = [Math.floor(i / (SHOWN * SIDE)), i % (SHOWN * SIDE)];
      const picture = pictures[Math.floor(x / SIDE)];
      return picture ? parts.blend(palette.paper, palette.ink, picture[y * SIDE + (x % SIDE)]) : palette.paper;
    });
    one.node.setAttribute("aria-label", one.label + (look.component + 1));
  }
  function drawStrip() {
    const k = look.component,
      { mixture, shares } = state;
    const points = maths.spread(mixture.means[k], mixture.precisions[k], strip);
    paintStrip(
      made,
      points.map((x) => network.apply(decoder, x).map(network.sigmoid)),
    );
    const leading = shares.map((row) => maths.largest(row));
    const mine = shares
      .map((row, n) => [row[k], n])
      .filter(([, n]) => leading[n] === k)
      .sort((a, b) => b[0] - a[0] || a[1] - b[1]);
    paintStrip(
      own,
      mine.slice(0, SHOWN).map(([, n]) => images[n]),
    );
    stripName.textContent =
      "weight " +
      nx.number(mixture.weights[k], 2) +
      ", leads " +
      nx.count(mine.length) +
      " of " +
      nx.plural(N, "image");
  }
  function drawChart() {
    const seen = state.record;
    const values = seen.flatMap((one) => [one.soft, one.logProb, one.conditional]);
    const low = Math.min(...values),
      high = Math.max(...values);
    const room = Math.max(0.08 * (high - low), 0.05);
    chart.scale([0, Math.max(10, state.steps)], [low - room, high + room]);
    for (const [name, line] of Object.entries(curves))
      line.setAttribute("d", nx.path(seen.map((one) => [chart.X(one.step), chart.Y(one[name])])));
    chart.node.setAttribute(
      "aria-label",
      "Three readings against steps, nats an image: log p " +
        nx.number(now().logProb, 2) +
        ", soft bound " +
        nx.number(now().soft, 2) +
        ", conditional, no bound, " +
        nx.number(now().conditional, 2),
    );
  }
  function drawNumbers() {
    drawStrip();
    drawChart();
    const reading = now();
    facts.soft.show(nx.number(reading.soft, 2), "nats an image, never above log p");
    facts.logProb.show(nx.number(reading.logProb, 2), "exact, with the decoder held");
    facts.conditional.show(nx.number(reading.conditional, 2), "no bound: the label is read off the image");
    facts.objective.show(
      nx.number(maths.objective(reading, settings.beta), 2),
      "fit − β · divergence, at β = " + settings.beta,
    );
    facts.information.show(
      nx.number(reading.information, 2),
      "of at most log K = " + nx.number(Math.log(settings.components), 2),
    );
    plot.node.setAttribute(
      "aria-label",
      "The latent plane after " +
        nx.plural(state.steps, "step") +
        ": arrow keys choose one of " +
        nx.plural(settings.components, "component"),
    );
    words.textContent = sentence();
  }

  /* ---- what the page says ---- */
  const change = (by) =>
    Math.abs(by) < 0.005 ? "stayed" : (by > 0 ? "rose" : "fell") + " by " + nx.number(Math.abs(by), 2);
  const messages = {
    soft: "every component pulls, each by its share.",
    hard: "only the most probable component pulls, with all its strength.",
    sampled: "one component pulls, drawn from the shares anew after every step.",
  };
  function hears(paid) {
    const { beta } = settings;
    if (beta === 0)
      return "β = 0: the VAE does not listen; its next step puts every point where the encoder had it.";
    if (beta === 1)
      return "β = 1, the model’s own weight: images hold their points so firmly that arrows are hardly seen.";
    if (beta < 1) return "β = " + beta + ": the VAE listens less than the model asks.";
    return (
      "β = " + beta + ": the VAE listens more than the model asks" + (paid ? ", and its images pay for it." : ".")
    );
  }
  function sentence() {
    const K = settings.components;
    const total = nx.plural(state.steps, "step") + " so far. ";
    if (last === "start")
      return (
        (K === 1
          ? "One component: every image is sent the same message. "
          : K + " components of one shape stand on images that k-means++ drew. ") +
        "Every point is where its encoder put it. Let the mixture take a step, then the VAE, or play rounds."
      );
    if (last === "learner")
      return settings.learner === "em"
        ? total + "The mixture will take EM steps: none of them lowers the soft bound."
        : total + "The mixture will take Gibbs sweeps: draws of labels, then of parameters given labels.";
    if (last === "message") return total + "A " + settings.message + " message: " + messages[settings.message];
    if (last === "beta") return total + hears();
    if (last === "mixture")
      return (
        total +
        (settings.learner === "em"
          ? "EM step: components went to their points, and the soft bound " + change(rise) + " nats. "
          : "Sweep: every point drew a component, and components were drawn given their points; the soft bound " +
            change(rise) +
            " nats. ") +
        "Now its message pulls the points: let the VAE take a step."
      );
    return (
      total +
      (far < 1e-5
        ? "The VAE’s step moved no point: the decoder and the message are in balance. "
        : "VAE: the message moved the points by " + nx.number(far, far < 0.01 ? 4 : 3) + " on average. ") +
      "The soft bound " +
      change(rise) +
      (Math.abs(rise) < 0.005 ? ". " : " nats. ") +
      hears(rise < -0.005)
    );
  }
  function drawAll() {
    drawPlane();
    drawNumbers();
  }

  stage.onResize(() => {
    if (left.clientWidth === 0) return; // on its way to paper
    dpr = window.devicePixelRatio || 1;
    const side = Math.min(left.clientWidth, 460);
    plot.resize(side, side - plot.margin.left - plot.margin.right + plot.margin.top + plot.margin.bottom);
    canvas.width = Math.round(plot.width * dpr);
    canvas.height = Math.round(plot.height * dpr);
    Object.assign(canvas.style, { width: plot.width + "px", height: plot.height + "px" });
    chart.resize(right.clientWidth, 170);
    drawAll();
  });
  nameButtons();
  startOver();
  buildComponents();
};
