/*
What every figure stands on: elements, controls, axes, packed data, dark mode, words for a screen reader.
The files of one figure share the namespace nx; nothing of it is visible to the rest of the page.
*/
nx.unpack = function (packed) {
  const bytes = Uint8Array.from(atob(packed.base64), (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const half = (h) => {
    const sign = h & 0x8000 ? -1 : 1,
      exponent = (h >> 10) & 31,
      fraction = h & 1023;
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction);
  };
  const readers = {
    float32: [4, (i) => view.getFloat32(i, true)],
    float16: [2, (i) => half(view.getUint16(i, true))],
    int8: [1, (i) => view.getInt8(i) * packed.scale],
  };
  const [width, read] = readers[packed.kind];
  const values = Float32Array.from({ length: bytes.length / width }, (_, i) => read(i * width));
  values.shape = packed.shape;
  return values;
};

// An element of HTML (nx.h) or SVG (nx.s): attributes, "on…" listeners, then children or text.
nx.element = function (space, tag, attributes, children) {
  const node = space ? document.createElementNS(space, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
};
nx.h = (tag, attributes, ...children) => nx.element(null, tag, attributes, children);
nx.s = (tag, attributes, ...children) => nx.element("http://www.w3.org/2000/svg", tag, attributes, children);
nx.set = function (node, attributes) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
};

// Numbers for readers: a true minus, and no "-0.00".
nx.number = function (value, digits) {
  if (!Number.isFinite(value)) return "—";
  const text = value.toFixed(digits);
  return Number(text) === 0 ? (0).toFixed(digits) : text.replace("-", "−");
};
nx.count = (value) => String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, " ");
nx.plural = (value, one, many) => nx.count(value) + " " + (Math.round(value) === 1 ? one : many || one + "s");

nx.reducedMotion = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

// Does the page show light letters on a dark ground? The hosts' own marks first, then the ground itself.
nx.isDark = function (node) {
  const html = document.documentElement,
    body = document.body;
  const named = html.dataset.theme || html.getAttribute("theme");
  if (named === "dark" || named === "light") return named === "dark";
  if (body.dataset.jpThemeLight) return body.dataset.jpThemeLight === "false";
  if (/vscode-(dark|light)/.test(body.className)) return body.className.includes("vscode-dark");
  for (let at = node.parentElement; at; at = at.parentElement) {
    const [red, green, blue, alpha] = (getComputedStyle(at).backgroundColor.match(/[\d.]+/g) || []).map(
      Number,
    );
    if (blue !== undefined && alpha !== 0) return 0.3 * red + 0.59 * green + 0.11 * blue < 110;
  }
  return matchMedia("(prefers-color-scheme: dark)").matches;
};

nx.followTheme = function (root) {
  const look = () => {
    if (root.isConnected) root.dataset.nxTheme = nx.isDark(root) ? "dark" : "light";
  };
  const watcher = new MutationObserver(look);
  const attributes = true;
  watcher.observe(document.documentElement, { attributes });
  watcher.observe(document.body, { attributes });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", look);
  look();
  return look;
};

// A figure's place in the page. Called by the figure's own script; on any error the still picture stays.
nx.start = function (script, id, css, data) {
  const root = script
    ? script.closest(".nx-figure")
    : [...document.querySelectorAll(".nx-figure")].find((node) => node.id === id && !node.dataset.nxOn);
  if (!root || root.dataset.nxOn) return;
  while ([...document.querySelectorAll(".nx-figure")].some((node) => node !== root && node.id === root.id)) {
    root.id += "-again";
  }
  if (![...document.head.querySelectorAll("style[data-nx]")].some((node) => node.textContent === css)) {
    document.head.append(nx.h("style", { "data-nx": true }, css));
  }
  const live = nx.h("div", { class: "nx-live" });
  const voice = nx.h("div", { class: "nx-voice", "aria-live": "polite", role: "status" });
  const still = root.querySelector(".nx-still");
  const look = nx.followTheme(root);
  const resized = [];
  const redraw = () => {
    look();
    if (live.clientWidth > 0) resized.forEach((draw) => draw());
  };
  const stage = {
    root,
    live,
    data,
    still,
    say: (words) => {
      voice.textContent = words;
    },
    name: (part) => root.id + "-" + part,
    onResize: (draw) => {
      resized.push(draw);
    },
    redraw,
  };
  still.after(live, voice);
  root.dataset.nxOn = "true";
  try {
    nx.build(stage);
    let width = -1;
    const fit = () => {
      if (live.clientWidth !== width) {
        width = live.clientWidth;
        redraw();
      }
    };
    new ResizeObserver(() => requestAnimationFrame(fit)).observe(live);
    redraw();
  } catch (error) {
    live.remove();
    voice.remove();
    delete root.dataset.nxOn;
    console.error("The figure " + id + " could not start:", error);
  }
  // Arrow keys in a figure do not turn the page of the book, nor move a notebook's selection.
  root.addEventListener("keydown", (event) => {
    if (/^(Arrow|Home|End|Page|Enter| )/.test(event.key)) event.stopPropagation();
  });
};

/* Calls step(seconds since the last frame) while running; stops when it returns false or the figure
   leaves the page. `changed` hears of every start and stop. */
nx.loop = function (root, step, changed) {
  let last = null;
  const loop = {
    running: false,
    toggle: (on) => {
      if (on === loop.running) return;
      loop.running = on;
      last = null;
      if (on) requestAnimationFrame(frame);
      changed(on);
    },
  };
  function frame(now) {
    if (!loop.running) return;
    const seconds = last === null ? 0 : Math.min((now - last) / 1000, 0.1);
    last = now;
    if (!root.isConnected || step(seconds) === false) loop.toggle(false);
    else requestAnimationFrame(frame);
  }
  return loop;
};

nx.button = (label, press, options) =>
  nx.h(
    "button",
    {
      type: "button",
      class: "nx-button" + (options && options.primary ? " nx-primary" : ""),
      onclick: press,
    },
    label,
  );

// A slider with its name before it and its value behind; change(value) hears of every move.
nx.slider = function (stage, options) {
  const id = stage.name(options.id);
  const input = nx.h("input", {
    type: "range",
    id,
    min: options.min,
    max: options.max,
    step: options.step,
    oninput: () => {
      show();
      options.change(Number(input.value));
    },
  });
  const output = nx.h("output", { for: id, class: "nx-value" });
  const show = () => {
    output.textContent = options.format(Number(input.value));
    input.setAttribute("aria-valuetext", (options.spoken || options.format)(Number(input.value)));
    const part = (input.value - options.min) / (options.max - options.min);
    input.style.setProperty("--nx-part", 100 * part + "%");
  };
  input.value = options.value;
  show();
  return {
    node: nx.h("div", { class: "nx-slider" }, nx.h("label", { for: id }, options.label), input, output),
    input,
  };
};

// One of a few: radio buttons in a row. options.choices: pairs [value, label].
nx.choice = function (stage, options) {
  const name = stage.name(options.id);
  const choices = options.choices.map(([value, label], i) => {
    const input = nx.h("input", {
      type: "radio",
      name,
      id: name + "-" + i,
      value,
      onchange: () => options.change(value),
    });
    input.checked = value === options.value;
    return nx.h("span", { class: "nx-option" }, input, nx.h("label", { for: name + "-" + i }, label));
  });
  return nx.h(
    "fieldset",
    { class: "nx-choice" },
    nx.h("legend", { class: "nx-hidden" }, options.label),
    ...choices,
  );
};

nx.menu = function (stage, options) {
  const id = stage.name(options.id);
  const select = nx.h(
    "select",
    { id, onchange: () => options.change(select.value) },
    ...options.choices.map(([value, label]) => nx.h("option", { value }, label)),
  );
  select.value = options.value;
  return nx.h("div", { class: "nx-menu" }, nx.h("label", { for: id }, options.label), select);
};

// A named number with a remark below, and a row of them (no <dl>: hosts style it their own way).
nx.fact = function (...label) {
  const value = nx.h("span", { class: "nx-number" }),
    remark = nx.h("span", {});
  return {
    node: nx.h("div", {}, nx.h("span", { class: "nx-term" }, ...label), value, remark),
    show: (number, words) => {
      value.textContent = number;
      remark.textContent = words;
    },
  };
};
nx.facts = (facts) => nx.h("div", { class: "nx-facts" }, ...Object.values(facts).map((one) => one.node));

// A coloured square and what has this colour.
nx.key = (colour, label) =>
  nx.h("span", {}, nx.h("i", { class: "nx-key", style: "background:var(--nx-" + colour + ")" }), label);

// "M…L…" through points already in pixels.
nx.path = (points, closed) =>
  points.length
    ? "M" + points.map(([x, y]) => x.toFixed(1) + " " + y.toFixed(1)).join("L") + (closed ? "Z" : "")
    : "";

// Round values for the ticks of an axis: about `wanted` of them.
nx.ticks = function (low, high, wanted) {
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((part) => part * power).find((candidate) => candidate >= rough * 0.999);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high * (1 + 1e-9) + 1e-12; i += 1) {
    ticks.push(Number((i * step).toPrecision(12)));
  }
  return ticks;
};

/* An SVG with a frame, ticks and scales X and Y from data to pixels. `resize` sets the size in pixels,
   `scale` the ranges; both redraw the axes. Marks go into plot.marks, in data coordinates through X and Y;
   options.clip, a name of their own, cuts them at the frame. */
nx.plot = function (options) {
  const margin = { top: 8, right: 10, bottom: 30, left: 38, ...options.margin };
  const axes = nx.s("g", { class: "nx-axes", "aria-hidden": "true" });
  const marks = nx.s("g", {});
  const window = nx.s("rect", {});
  const node = nx.s("svg", { class: "nx-plot", ...options.attributes }, axes, marks);
  if (options.clip) {
    node.prepend(nx.s("clipPath", { id: options.clip }, window));
    marks.setAttribute("clip-path", "url(#" + options.clip + ")");
  }
  const plot = {
    node,
    marks,
    margin,
    width: 300,
    height: 200,
    x: options.x,
    y: options.y,
    xTicks: options.xTicks,
    yTicks: options.yTicks,
  };
  plot.X = (value) => margin.left + ((value - plot.x[0]) / (plot.x[1] - plot.x[0])) * plot.inner[0];
  plot.Y = (value) => margin.top + ((plot.y[1] - value) / (plot.y[1] - plot.y[0])) * plot.inner[1];
  plot.fromX = (pixel) => plot.x[0] + ((pixel - margin.left) / plot.inner[0]) * (plot.x[1] - plot.x[0]);
  plot.fromY = (pixel) => plot.y[1] - ((pixel - margin.top) / plot.inner[1]) * (plot.y[1] - plot.y[0]);
  plot.at = (event) => {
    const box = node.getBoundingClientRect();
    return [plot.fromX(event.clientX - box.left), plot.fromY(event.clientY - box.top)];
  };
  plot.resize = (width, height) => {
    Object.assign(plot, { width, height });
    plot.inner = [width - margin.left - margin.right, height - margin.top - margin.bottom];
    nx.set(node, { width, height, viewBox: "0 0 " + width + " " + height });
    plot.scale(plot.x, plot.y);
  };
  plot.scale = (x, y) => {
    Object.assign(plot, { x, y });
    const [left, bottom] = [margin.left, plot.height - margin.bottom];
    const [right, top] = [plot.width - margin.right, margin.top];
    nx.set(window, { x: left, y: top, width: Math.max(0, right - left), height: Math.max(0, bottom - top) });
    const text = (at, words, place) =>
      nx.s("text", { x: at[0].toFixed(1), y: at[1].toFixed(1), ...place }, words);
    const parts = [
      nx.s("path", {
        class: "nx-frame",
        d: nx.path([
          [left, top],
          [left, bottom],
          [right, bottom],
        ]),
      }),
    ];
    for (const tick of plot.xTicks || nx.ticks(x[0], x[1], Math.max(3, plot.inner[0] / 70))) {
      parts.push(
        nx.s("path", {
          class: "nx-tick",
          d: nx.path([
            [plot.X(tick), bottom],
            [plot.X(tick), bottom + 4],
          ]),
        }),
        text([plot.X(tick), bottom + 16], nx.number(tick, 3).replace(/\.?0+$/, ""), {
          "text-anchor": "middle",
        }),
      );
    }
    for (const tick of plot.yTicks || nx.ticks(y[0], y[1], Math.max(2, plot.inner[1] / 30))) {
      parts.push(
        nx.s("path", {
          class: "nx-tick",
          d: nx.path([
            [left - 4, plot.Y(tick)],
            [left, plot.Y(tick)],
          ]),
        }),
        text([left - 7 - (plot.strip || 0), plot.Y(tick) + 4], nx.number(tick, 3).replace(/\.?0+$/, ""), {
          "text-anchor": "end",
        }),
      );
    }
    if (options.xLabel)
      parts.push(text([right, bottom - 6], options.xLabel, { "text-anchor": "end", class: "nx-name" }));
    if (options.yLabel) parts.push(text([left + 7, top + 9], options.yLabel, { class: "nx-name" }));
    axes.replaceChildren(...parts);
  };
  plot.resize(plot.width, plot.height);
  return plot;
};
