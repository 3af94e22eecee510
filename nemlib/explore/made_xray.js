/* The masks of MADE in an x-ray: the network with its live connections, the mask matrices, the number of
   paths from each input to each output, and the zeros of the Jacobian. Numbers stand in every unit; colours repeat
   them. What is lit belongs to `look`: an output, an input, or a pair of both. */
nx.build = function (stage) {
  const { data, live, say } = stage;
  const { xray, parts } = nx;
  const LOW = "₀₁₂₃₄₅₆₇₈";
  const LEAST = 2,
    MOST = 8,
    WIDEST = 10,
    NAMED = 6; // so many lost pairs are named; beyond, they are only counted
  const range = (n) => Array.from({ length: n }, (_, k) => k);
  const x = (i) => "x" + LOW[i + 1],
    a = (d) => "a" + LOW[d + 1];
  const list = (names) =>
    names.length < 2 ? names.join("") : names.slice(0, -1).join(", ") + " and " + names[names.length - 1];
  const colour = (number) => "var(--nx-rbm-c" + number + ")";
  parts.follow(stage, data.palette, () => {});

  const settings = { ...data.start };
  let net, now, J;
  let chosen = {}, // stays until another is chosen
    hover = null; // under the pointer
  const look = () => hover || chosen;

  /* ---- the network that the settings describe ---- */
  const ORDERINGS = {
    natural: (D) => range(D),
    reversed: (D) => range(D).reverse(),
    columns: xray.byColumns,
    random: (D) => xray.shuffled(D, nx.random(settings.seed)),
    own: (D) => xray.resized(net ? net.order : settings.own || range(D), D),
  };
  function degreesOf(D) {
    const random = nx.random(settings.seed + 1000);
    const layers = [];
    for (const H of settings.widths) {
      const least = layers.length ? layers[layers.length - 1][0] : 1;
      layers.push(
        settings.degrees === "even"
          ? xray.evenDegrees(D, H)
          : xray.uniformDegrees(D, H, random, least),
      );
    }
    return layers;
  }
  function rebuild(order) {
    const D = settings.dimensions;
    net = {
      order: order || ORDERINGS[settings.order](D),
      degrees: degreesOf(D),
      direct: settings.direct,
      planted: settings.planted,
    };
    now = xray.reading(net);
    J = xray.jacobian(net, xray.drawn(net, nx.random(settings.seed + 2000)));
    hover = null;
    if (!(chosen.d < D)) delete chosen.d;
    if (!(chosen.i < D)) delete chosen.i;
  }
  function change(order) {
    rebuild(order);
    build();
    draw();
    say(words.textContent);
  }

  /* ---- controls ---- */
  const slider = (id, label, least, most, value, format, set) =>
    nx.slider(stage, {
      id,
      label,
      min: least,
      max: most,
      step: 1,
      value,
      format,
      change: (n) => {
        set(n);
        change();
      },
    }).node;
  const units = (n) => (n ? String(n) : "none");
  const sizes = nx.h(
    "div",
    { class: "nx-bar nx-xray-sizes" },
    slider("dimensions", "Inputs D", LEAST, MOST, settings.dimensions, units, (n) => {
      settings.dimensions = n;
    }),
    slider("first", "Hidden units", 1, WIDEST, settings.widths[0], units, (n) => {
      settings.widths = [n, ...settings.widths.slice(1)];
    }),
    slider("second", "Second layer", 0, WIDEST, settings.widths[1] || 0, units, (n) => {
      settings.widths = n ? [settings.widths[0], n] : [settings.widths[0]];
    }),
  );
  const ordering = nx.menu(stage, {
    id: "order",
    label: "Ordering",
    value: settings.order,
    choices: [
      ["natural", "natural"],
      ["reversed", "reversed"],
      ["columns", "by columns"],
      ["random", "random"],
      ["own", "your own"],
    ],
    change: (value) => {
      settings.order = value;
      change();
    },
  });
  const showOrdering = () => {
    ordering.querySelector("select").value = settings.order;
  };
  const degrees = nx.menu(stage, {
    id: "degrees",
    label: "Degrees",
    value: settings.degrees,
    choices: [
      ["even", "evenly spaced"],
      ["uniform", "drawn uniformly"],
    ],
    change: (value) => {
      settings.degrees = value;
      change();
    },
  });
  const seed = nx.h("input", {
    type: "number",
    id: stage.name("seed"),
    class: "nx-xray-seed",
    min: 1,
    max: 999,
    value: settings.seed,
    oninput: () => {
      const value = Number(seed.value);
      if (Number.isInteger(value) && value >= 1 && value <= 999) setSeed(value);
    },
    onchange: () => {
      seed.value = settings.seed;
    },
  });
  function setSeed(value) {
    settings.seed = value;
    change();
  }
  const next = nx.button("Next seed", () => {
    setSeed((settings.seed % 999) + 1);
    seed.value = settings.seed;
  });
  const check = (id, label, set) => {
    const box = nx.h("input", {
      type: "checkbox",
      id: stage.name(id),
      onchange: () => {
        set(box.checked);
        change();
      },
    });
    box.checked = settings[id];
    return nx.h("span", { class: "nx-xray-check" }, box, nx.h("label", { for: box.id }, label));
  };
  const kinds = nx.h(
    "div",
    { class: "nx-bar" },
    ordering,
    degrees,
    nx.h("span", { class: "nx-menu" }, nx.h("label", { for: seed.id }, "Seed"), seed, next),
  );
  const switches = nx.h(
    "div",
    { class: "nx-bar" },
    check("direct", "Direct connections", (on) => {
      settings.direct = on;
    }),
    check("planted", "Plant the off-by-one: ≥ in the output mask", (on) => {
      settings.planted = on;
    }),
  );
  const sorting = nx.choice(stage, {
    id: "sort",
    label: "How inputs and outputs are sorted",
    value: settings.sort,
    choices: [
      ["position", "Sort by position"],
      ["pixel", "Sort by pixel"],
    ],
    change: (value) => {
      settings.sort = value;
      build();
      draw();
    },
  });

  /* ---- the ordering as a strip of pixels, moved by dragging or by keys ---- */
  const strip = nx.h("div", { class: "nx-xray-strip", role: "group", "aria-label": "The ordering" });
  let held = null;
  function move(from, to) {
    const kept = Math.max(0, Math.min(net.order.length - 1, to));
    if (kept === from) return from;
    settings.order = "own";
    showOrdering();
    change(xray.moved(net.order, from, kept));
    strip.children[kept].focus({ preventScroll: true });
    return kept;
  }
  const placeOf = (event) => {
    const box = strip.getBoundingClientRect();
    return Math.floor(((event.clientX - box.left) / box.width) * net.order.length);
  };
  strip.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    held = Math.max(0, Math.min(net.order.length - 1, placeOf(event)));
    strip.setPointerCapture(event.pointerId);
  });
  strip.addEventListener("pointermove", (event) => {
    if (held !== null) held = move(held, placeOf(event));
  });
  strip.addEventListener("lostpointercapture", () => {
    held = null;
  });
  function drawStrip() {
    const D = net.order.length;
    while (strip.children.length > D) strip.lastChild.remove();
    while (strip.children.length < D) {
      const t = strip.children.length;
      strip.append(
        nx.h("button", {
          type: "button",
          class: "nx-xray-chip",
          onkeydown: (event) => {
            const to = { ArrowLeft: t - 1, ArrowRight: t + 1, Home: 0, End: MOST }[event.key];
            if (to === undefined) return;
            event.preventDefault();
            move(t, to);
          },
        }),
      );
    }
    net.order.forEach((d, t) => {
      const chip = strip.children[t];
      chip.replaceChildren(nx.h("i", {}, String(t + 1)), " " + x(d));
      chip.style.setProperty("--nx-xray-own", colour(t + 1));
      const place = ": place " + (t + 1) + " of " + D + ", arrow keys move it";
      chip.setAttribute("aria-label", t + 1 + " " + x(d) + place);
    });
  }

  /* ---- elements that light up: each knows its pair ---- */
  const lights = [];
  // An element of the network, a cell or a pixel; pair is {d}, {i} or {d, i}.
  function points(node, pair) {
    node.addEventListener("pointerenter", (event) => {
      if (event.pointerType !== "mouse") return;
      hover = pair;
      draw();
    });
    node.addEventListener("pointerleave", () => {
      if (hover === null) return;
      hover = null;
      draw();
    });
    node.addEventListener("click", (event) => {
      event.stopPropagation();
      choose(pair);
    });
    return node;
  }
  function choose(pair) {
    chosen = { ...pair };
    hover = null;
    draw();
  }
  const when = (light) => lights.push(light);

  /* ---- the network ---- */
  const network = nx.s("svg", { class: "nx-plot nx-xray-net", role: "group" });
  network.addEventListener("click", () => choose({}));
  live.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    choose({});
    say(reading.textContent);
  });

  const axis = () => (settings.sort === "position" ? net.order : range(net.order.length));
  function places(width) {
    const wide = width >= 600;
    const left = wide ? 92 : 0;
    const layers = [net.order.length, ...net.degrees.map((m) => m.length), net.order.length];
    const gap = layers.length === 4 ? 92 : 128;
    const top = 34;
    const y = layers.map((_, l) => top + gap * (layers.length - 1 - l));
    const across = (n) => Math.min(width - left, n * 74);
    const X = (n, k) => left + (width - left - across(n)) / 2 + (across(n) * (k + 0.5)) / n;
    const pixels = [];
    axis().forEach((d, k) => {
      pixels[d] = X(layers[0], k);
    });
    const columns = layers.map((n, l) =>
      l === 0 || l === layers.length - 1 ? pixels : range(n).map((k) => X(n, k)),
    );
    const radius = Math.min(13, 0.42 * Math.min(...layers.map((n) => across(n) / n)));
    return { left, y, columns, radius, height: y[0] + 34, layers };
  }

  function buildNetwork(width) {
    const at = places(width);
    nx.set(network, { width, height: at.height, viewBox: "0 0 " + width + " " + at.height });
    const spot = (l, k) => [at.columns[l][k], at.y[l]];
    const top = at.layers.length - 1;
    const [dead, alive] = [nx.s("path", { class: "nx-xray-dead" }), nx.s("g", {})];
    const closed = [];
    // A connection has the colour of the hidden unit that it enters or, for the last mask, leaves.
    now.masks.forEach((mask, l) =>
      mask.forEach((row, r) =>
        row.forEach((one, k) => {
          const line = nx.path([spot(l, k), spot(l + 1, r)]);
          if (!one) return closed.push(line);
          const degree = l < top - 1 ? net.degrees[l][r] : net.degrees[l - 1][k];
          const edge = nx.s("path", { d: line, class: "nx-xray-edge", style: "stroke:" + colour(degree) });
          edge.classList.toggle("nx-xray-idle", !now.edges[l][r][k]);
          alive.append(edge);
          when((lit) => edge.classList.toggle("nx-xray-lit", lit.edges[l][r][k] > 0));
        }),
      ),
    );
    dead.setAttribute("d", closed.join(""));
    if (net.direct)
      now.direct.forEach((row, d) =>
        row.forEach((one, i) => {
          if (!one) return;
          const edge = nx.s("path", { d: nx.path([spot(0, i), spot(top, d)]), class: "nx-xray-direct" });
          alive.append(edge);
          when((lit) =>
            edge.classList.toggle("nx-xray-lit", lit.from.includes(i) && lit.to.includes(d)),
          );
        }),
      );
    network.replaceChildren(
      dead,
      alive,
      ...names(at),
      ...net.degrees.flatMap((m, l) =>
        m.map((degree, j) => hiddenUnit(spot(l + 1, j), l + 1, j, degree, at)),
      ),
      ...axis().map((i) => pixelUnit(spot(0, i), i, false, at)),
      ...axis().map((d) => pixelUnit(spot(top, d), d, true, at)),
    );
    network.setAttribute(
      "aria-label",
      "The network: " + net.order.length + " inputs below, hidden units with their degrees, outputs above",
    );
  }
  function names(at) {
    if (!at.left) return [];
    const label = (l, ...lines) =>
      lines.map((line, n) =>
        nx.s("text", { x: 0, y: at.y[l] + 4 + 14 * (n - (lines.length - 1) / 2), class: "nx-note" }, line),
      );
    const hidden = net.degrees.flatMap((_, l) => label(l + 1, "hidden units:", "degree m(j)"));
    return [
      ...label(0, "inputs:", "position o(i)"),
      ...hidden,
      ...label(at.layers.length - 1, "outputs:", "position o(d)"),
    ];
  }
  const circle = (number, radius) =>
    nx.s("circle", { r: radius, class: "nx-xray-unit", style: "stroke:" + colour(number) });
  const inside = (number) =>
    nx.s("text", { y: 4, "text-anchor": "middle", class: "nx-xray-number" }, String(number));
  function hiddenUnit(at, l, j, degree, { radius }) {
    const node = nx.s(
      "g",
      { class: "nx-xray-hidden", transform: "translate(" + at.join(" ") + ")" },
      circle(degree, radius),
      inside(degree),
    );
    const works = now.units[l][j];
    node.classList.toggle("nx-xray-idleunit", !works);
    when((lit) => node.classList.toggle("nx-xray-faint", lit.some && !lit.units[l][j]));
    return node;
  }
  function pixelUnit(at, pixel, output, { radius }) {
    const pair = output ? { d: pixel } : { i: pixel };
    const number = now.position[pixel];
    const node = nx.s(
      "g",
      {
        class: "nx-xray-pixel",
        role: "button",
        "data-unit": (output ? "a" : "x") + (pixel + 1),
        "aria-label": sees(pair),
        onfocus: () => {
          current = { output, place: axis().indexOf(pixel) };
          choose(pair);
        },
        onkeydown: step,
      },
      nx.s("circle", { r: radius + 6, class: "nx-xray-halo" }),
      circle(number, radius),
    );
    // The written names stand beside the button: what it is called says more.
    const y = output ? -radius - 7 : radius + 16;
    const name = nx.s("text", { y, "text-anchor": "middle", class: "nx-name" }, output ? a(pixel) : x(pixel));
    const transform = "translate(" + at.join(" ") + ")";
    const place = nx.s("g", { transform }, points(node, pair), inside(number), name);
    if (output && now.leaks.includes(pixel))
      place.append(
        nx.s("circle", { r: radius + 3.5, class: "nx-xray-ring" }),
        nx.s("text", { x: radius + 4, y: -radius + 1, class: "nx-xray-mark" }, "!"),
      );
    when((lit) => {
      const mine = output ? lit.to : lit.from;
      const told = (output ? lit.pair.d : lit.pair.i) === pixel;
      place.classList.toggle("nx-xray-faint", lit.some && !mine.includes(pixel));
      node.classList.toggle("nx-xray-on", told);
      nx.set(node, { "aria-pressed": String(told), tabindex: sameUnit(output, pixel) ? 0 : -1 });
    });
    return place;
  }
  // One unit of the network is in the tab order; arrow keys go on from there.
  let current = { output: true, place: 0 };
  const sameUnit = (output, pixel) =>
    output === current.output && pixel === axis()[Math.min(current.place, axis().length - 1)];
  function step(event) {
    const way = { ArrowLeft: -1, ArrowRight: 1, Home: -MOST, End: MOST }[event.key];
    const row = { ArrowUp: true, ArrowDown: false }[event.key];
    if (way === undefined && row === undefined) return;
    event.preventDefault();
    const place = Math.max(0, Math.min(axis().length - 1, current.place + (way || 0)));
    current = { place, output: row === undefined ? current.output : row };
    network.querySelector('[data-unit="' + (current.output ? "a" : "x") + (axis()[place] + 1) + '"]').focus();
  }

  /* ---- the picture of D pixels ---- */
  const picture = nx.s("svg", { class: "nx-plot nx-xray-picture", role: "img" });
  function buildPicture() {
    const D = net.order.length;
    const [rows, columns] = xray.shape(D);
    const side = 24;
    const [width, height] = [columns * side + 2, rows * side + 2];
    nx.set(picture, { width, height, viewBox: "-1 -1 " + width + " " + height });
    const cells = range(D).map((d) => {
      const [left, top] = [(d % columns) * side, Math.floor(d / columns) * side];
      const box = nx.s("rect", { x: left, y: top, width: side, height: side, class: "nx-xray-cell" });
      const number = nx.s(
        "text",
        { x: left + side / 2, y: top + side / 2 + 4, "text-anchor": "middle", class: "nx-xray-number" },
        String(now.position[d]),
      );
      when((lit) => {
        const seen = lit.pair.d !== undefined && lit.from.includes(d) && lit.pair.i === undefined;
        box.style.fill = seen ? tint(now.position[d]) : "none";
        box.classList.toggle("nx-xray-here", lit.pair.d === d);
      });
      return [box, number];
    });
    picture.replaceChildren(...cells.map(([box]) => box), ...cells.map(([, number]) => number));
    picture.setAttribute(
      "aria-label",
      "A picture of " +
        rows +
        " by " +
        columns +
        " pixels with their positions, row by row: " +
        now.position.join(", "),
    );
  }

  /* ---- matrices ---- */
  const tint = (number) => "color-mix(in srgb, " + colour(number) + " 42%, transparent)";
  const pixelHead = (letter) => (d) => ({ name: letter(d), number: now.position[d] });
  const unitHead = (m) => (j) => ({ number: m[j] });
  /* rows, columns: what they stand for, and head(one) → {name, number}; cell(r, c) → {fill, text, lost, leak,
     pair}. Rows are units that receive. */
  function matrix({ id, title, rule, rows, columns, rowHead, columnHead, cell }) {
    const side = 24;
    const named = [rowHead(rows[0]).name, columnHead(columns[0]).name].map(Boolean);
    const [left, top] = [named[0] ? 46 : 26, named[1] ? 40 : 24];
    const [width, height] = [left + side * columns.length + 2, top + side * rows.length + 2];
    const svg = nx.s("svg", {
      class: "nx-plot",
      width,
      height,
      viewBox: "0 0 " + width + " " + height,
      "aria-hidden": "true",
    });
    const text = (px, py, line, kind) =>
      nx.s("text", { x: px, y: py, "text-anchor": "middle", class: kind }, line);
    const head = ({ name, number }, px, py, nameX, nameY) => {
      const box = { x: px - 9, y: py - 9, width: 18, height: 18, rx: 3 };
      return [
        nx.s("rect", { ...box, style: "fill:" + tint(number) }),
        text(px, py + 4, String(number), "nx-xray-number"),
        ...(name ? [text(nameX, nameY, name, "nx-name")] : []),
      ];
    };
    rows.forEach((one, r) => {
      const y = top + side * (r + 0.5);
      svg.append(...head(rowHead(one), left - 12, y, left - 34, y + 4));
    });
    columns.forEach((one, c) => {
      const px = left + side * (c + 0.5);
      svg.append(...head(columnHead(one), px, top - 12, px, top - 27));
    });
    rows.forEach((r, n) =>
      columns.forEach((c, k) => {
        const { fill, words: inside, kind, pair } = cell(r, c);
        const [px, py] = [left + side * k, top + side * n];
        const box = nx.s("rect", { x: px, y: py, width: side, height: side, class: "nx-xray-cell" });
        if (fill) box.style.fill = fill;
        const node = nx.s("g", { class: kind || "" }, box);
        if (inside) node.append(text(px + side / 2, py + side / 2 + 4, inside, "nx-xray-number"));
        if (kind === "nx-xray-leak")
          node.append(nx.s("rect", { x: px + 2, y: py + 2, width: side - 4, height: side - 4 }));
        svg.append(node);
        when((lit) => node.classList.toggle("nx-xray-faint", lit.some && !lit.cell(id, r, c)));
        if (pair) points(node, pair);
      }),
    );
    return nx.h(
      "div",
      { class: "nx-xray-matrix", "data-matrix": id },
      nx.h("p", { class: "nx-heading" }, ...title),
      nx.h("p", { class: "nx-quiet" }, rule),
      svg,
    );
  }
  const sup = (base, index, low) =>
    nx.h("span", { class: "nx-xray-symbol" }, base, nx.h("sup", {}, index, low ? nx.h("sub", {}, low) : ""));
  const blocks = nx.h("div", { class: "nx-xray-matrices" }),
    results = nx.h("div", { class: "nx-xray-matrices" });

  function maskBlocks() {
    const deep = net.degrees.length > 1;
    const pixels = axis();
    const hidden = net.degrees.map((m, l) => {
      const first = l === 0;
      return matrix({
        id: "W" + (l + 1),
        title: [
          sup("M", "W", deep ? String(l + 1) : ""),
          deep ? ", into hidden layer " + (l + 1) : ", into the hidden units",
        ],
        rule: first ? "1 where m(j) ≥ o(i)" : "1 where m(j′) ≥ m(j)",
        rows: range(m.length),
        columns: first ? pixels : range(net.degrees[l - 1].length),
        rowHead: unitHead(m),
        columnHead: first ? pixelHead(x) : unitHead(net.degrees[l - 1]),
        cell: (r, c) => one(now.masks[l][r][c], m[r]),
      });
    });
    const m = net.degrees[net.degrees.length - 1];
    const last = matrix({
      id: "V",
      title: [sup("M", "V"), ", into the outputs"],
      rule: net.planted ? "1 where o(d) ≥ m(j): off by one!" : "1 where o(d) > m(j)",
      rows: pixels,
      columns: range(m.length),
      rowHead: pixelHead(a),
      columnHead: unitHead(m),
      cell: (r, c) => one(now.masks[now.masks.length - 1][r][c], m[c]),
    });
    const skip = matrix({
      id: "A",
      title: [sup("M", "A"), ", direct"],
      rule: "1 where o(d) > o(i)",
      rows: pixels,
      columns: pixels,
      rowHead: pixelHead(a),
      columnHead: pixelHead(x),
      cell: (d, i) => ({ ...one(now.direct[d][i], now.position[i]), pair: { d, i } }),
    });
    return [...hidden, last, ...(net.direct ? [skip] : [])];
  }
  const one = (value, number) => (value ? { fill: tint(number), words: "1" } : {});
  const legal = (d, i) => now.position[i] < now.position[d];

  function pathBlock() {
    const product = net.degrees.map((_, l) => sup("M", "W", net.degrees.length > 1 ? String(l + 1) : ""));
    const more = net.direct ? [" + ", sup("M", "A")] : [];
    const most = Math.max(1, ...now.all.flat());
    return matrix({
      id: "N",
      title: ["N = ", sup("M", "V"), " ", ...product.reverse(), ...more],
      rule: "paths from input to output; – is a legal pair without",
      rows: axis(),
      columns: axis(),
      rowHead: pixelHead(a),
      columnHead: pixelHead(x),
      cell: (d, i) => {
        const count = now.all[d][i];
        const kind = d === i && count ? "nx-xray-leak" : legal(d, i) && !count ? "nx-xray-lost" : "";
        const part = count ? 14 + Math.round((40 * count) / most) : 0;
        return {
          fill: count ? "color-mix(in srgb, var(--nx-rbm-c1) " + part + "%, transparent)" : null,
          words: kind === "nx-xray-lost" ? "–" : String(count),
          kind,
          pair: { d, i },
        };
      },
    });
  }
  function jacobianBlock() {
    return matrix({
      id: "J",
      title: ["Jacobian ∂a/∂x at random weights"],
      rule: "0 exactly, or × for another number",
      rows: axis(),
      columns: axis(),
      rowHead: pixelHead(a),
      columnHead: pixelHead(x),
      cell: (d, i) => {
        const other = J[d][i] !== 0;
        return {
          fill: other ? "color-mix(in srgb, var(--nx-rbm-c1) 32%, transparent)" : null,
          words: other ? "×" : "0",
          kind: d === i && other ? "nx-xray-leak" : "",
          pair: { d, i },
        };
      },
    });
  }

  /* The two matrices that say what the network may see are walked cell by cell with arrow keys. */
  function walked(block, label) {
    const svg = block.querySelector("svg");
    svg.removeAttribute("aria-hidden");
    nx.set(svg, { tabindex: 0, role: "application", "aria-label": label });
    svg.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      if (!by) return;
      event.preventDefault();
      const pixels = axis();
      const go = (pixel, way) =>
        pixels[Math.max(0, Math.min(pixels.length - 1, pixels.indexOf(pixel) + way))];
      const { d, i } = chosen;
      const both = d !== undefined && i !== undefined;
      choose(both ? { d: go(d, by[0]), i: go(i, by[1]) } : { d: d ?? pixels[0], i: i ?? pixels[0] });
      say(reading.textContent);
    });
    return block;
  }

  /* ---- what is lit ---- */
  function lighting() {
    const pair = look();
    const some = pair.d !== undefined || pair.i !== undefined;
    const D = net.order.length;
    const given = (one) => (one === undefined ? range(D) : [one]);
    const path = some
      ? xray.onPaths(now.masks, given(pair.i), given(pair.d))
      : { units: now.units.map((layer) => layer.map(() => 0)), edges: null };
    const edges = path.edges || now.masks.map((mask) => mask.map((row) => row.map(() => 0)));
    const seen = (d, i) => now.all[d][i] > 0;
    const from = range(D).filter((i) => given(pair.i).includes(i) && given(pair.d).some((d) => seen(d, i)));
    const to = range(D).filter((d) => given(pair.d).includes(d) && given(pair.i).some((i) => seen(d, i)));
    if (pair.d !== undefined && !to.includes(pair.d)) to.push(pair.d);
    if (pair.i !== undefined && !from.includes(pair.i)) from.push(pair.i);
    const within = (d, i) => given(pair.d).includes(d) && given(pair.i).includes(i);
    const cell = (id, r, c) => {
      if (id === "N" || id === "J" || id === "A") return within(r, c);
      return edges[id === "V" ? edges.length - 1 : Number(id[1]) - 1][r][c] > 0;
    };
    return { pair, some, ...path, edges, from, to, cell };
  }

  /* ---- words ---- */
  // In words, what a pair, an output or an input has to do with the others.
  function sees({ d, i }) {
    if (d === undefined && i === undefined) return "Point at an output: what it sees lights up.";
    if (d !== undefined && i !== undefined) return between(d, i);
    const pixel = d ?? i;
    const row = range(net.order.length).filter((other) =>
      d !== undefined ? now.all[d][other] : now.all[other][i],
    );
    const way = (other) => (d !== undefined ? now.all[d][other] : now.all[other][i]);
    const count = row.reduce((sum, other) => sum + way(other), 0);
    const unit = d !== undefined ? "Output " + a(d) : "Input " + x(i);
    const who = unit + " (position " + now.position[pixel] + ") ";
    const names = list(row.map(d !== undefined ? x : a));
    const ways = nx.plural(count, "path") + ".";
    if (d !== undefined) return who + (row.length ? "sees " + names + " through " + ways : "sees no input.");
    return who + (row.length ? "is seen by " + names + " through " + ways : "is seen by no output.");
  }
  function between(d, i) {
    const slope = J[d][i];
    const tiny = Math.abs(slope) < 0.0005;
    const number = tiny ? slope.toExponential(1).replaceAll("-", "−") : nx.number(slope, 3);
    return (
      (now.all[d][i] ? nx.plural(now.all[d][i], "path") : "No path") +
      " from " +
      x(i) +
      " (position " +
      now.position[i] +
      ") to " +
      a(d) +
      " (position " +
      now.position[d] +
      "); ∂" +
      a(d) +
      "/∂" +
      x(i) +
      " is " +
      (slope === 0 ? "exactly 0" : number) +
      "." +
      (!now.all[d][i] && legal(d, i) ? " The pair is legal, and it is lost." : "")
    );
  }

  function leakWords() {
    if (!net.planted) return "";
    if (!now.leaks.length)
      return (
        "The off-by-one is planted, and yet no output sees itself: no degree runs through all layers. " +
        "That is luck, not a proof. "
      );
    const many = now.leaks.length > 1;
    return (
      "A leak: " +
      (many ? "outputs " : "output ") +
      list(now.leaks.map(a)) +
      (many ? " see their own pixels" : " sees its own pixel") +
      ", on the diagonal of N. " +
      (many ? "They" : "It") +
      " can copy the answer from the question: the likelihood would look wonderful, and the product of the " +
      "outputs would be no distribution. "
    );
  }
  function lostWords() {
    const pairs = now.lost.length;
    const name = ([d, i]) => x(i) + " → " + a(d);
    if (!pairs)
      return now.legal > 1
        ? "All " + now.legal + " legal pairs have a path. "
        : "The one legal pair has a path. ";
    return (
      pairs +
      " of " +
      nx.plural(now.legal, "legal pair") +
      (pairs === 1 ? " has" : " have") +
      " no path through the hidden units" +
      (pairs <= NAMED ? ": " + list(now.lost.map(name)) : "") +
      ". "
    );
  }
  function blindWords() {
    const all = now.blind;
    if (!all.length) return "";
    return (
      (all.length > 1 ? "Outputs " : "Output ") +
      list(all.map(a)) +
      (all.length > 1 ? " are blind: they come" : " is blind: it comes") +
      " after other pixels and " +
      (all.length > 1 ? "see" : "sees") +
      " none of them. "
    );
  }
  function idleWords() {
    const idle = now.units.slice(1, -1).flat().filter((one) => !one).length;
    return idle
      ? nx.plural(idle, "hidden unit") + (idle > 1 ? " lie" : " lies") + " on no path, drawn dashed. "
      : "";
  }
  function sentence() {
    const joined =
      now.lost.length && net.direct ? "The direct connections join these pairs, by one weight each. " : "";
    const good = net.planted ? "" : "No output sees itself or a pixel that comes later.";
    return (leakWords() + lostWords() + blindWords() + idleWords() + joined + good).trim();
  }

  const facts = {
    legal: nx.fact("Legal pairs"),
    lost: nx.fact("Lost"),
    blind: nx.fact("Blind outputs"),
    leaks: nx.fact("Leaks"),
  };
  function drawFacts() {
    facts.legal.show(String(now.legal), "o(i) < o(d): D(D − 1)/2");
    facts.lost.show(String(now.lost.length), "legal, no path through hidden units");
    facts.blind.show(String(now.blind.length), "see nothing of what came before");
    facts.leaks.show(String(now.leaks.length), "outputs that see themselves");
  }

  /* ---- all of it ---- */
  const reading = nx.h("p", { class: "nx-xray-reading" });
  const words = nx.h("p", { class: "nx-words" });
  const room = nx.h("div", {}, network);
  live.classList.add("nx-xray");
  live.append(
    sizes,
    kinds,
    switches,
    nx.h(
      "div",
      { class: "nx-bar nx-xray-orderline" },
      nx.h(
        "div",
        { class: "nx-xray-stripbox" },
        parts.heading("The ordering: drag a pixel, or use arrow keys"),
        strip,
      ),
      nx.h("div", {}, parts.heading("Positions in a picture"), picture),
      sorting,
    ),
    room,
    reading,
    words,
    blocks,
    results,
    nx.facts(facts),
  );

  // Builds what the settings and the width ask for; draw() then lights it.
  function build() {
    lights.length = 0;
    if (room.clientWidth === 0) return;
    const focused = network.contains(document.activeElement) && document.activeElement.dataset.unit;
    buildNetwork(room.clientWidth);
    buildPicture();
    drawStrip();
    blocks.replaceChildren(...maskBlocks());
    results.replaceChildren(
      walked(pathBlock(), "The numbers of paths: arrow keys choose an output and an input"),
      walked(jacobianBlock(), "The Jacobian: arrow keys choose an output and an input"),
    );
    words.textContent = sentence();
    drawFacts();
    if (focused) network.querySelector('[data-unit="' + focused + '"]')?.focus();
  }
  function draw() {
    const lit = lighting();
    network.classList.toggle("nx-xray-some", lit.some);
    lights.forEach((light) => light(lit));
    reading.textContent = sees(lit.pair);
  }

  rebuild(settings.own);
  stage.onResize(() => {
    if (room.clientWidth === 0) return; // on its way to paper
    build();
    draw();
  });
};
