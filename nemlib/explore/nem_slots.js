/*
Colours of the components and slots of chapter 8: the book's palette in light and in dark, mixtures of
colours in proportion to responsibilities, and a mark of its own for each, for those who see no colour.
*/
nx.slots = (function () {
  const channels = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255);
  const toLight = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const fromLight = (c) => (c <= 0.0031308 ? 12.92 * c : 1.055 * c ** (1 / 2.4) - 0.055);

  // Colours mix as light does: weights that sum to 1 give three numbers from 0 to 255.
  function mix(colours, weights) {
    const sum = [0, 0, 0];
    colours.forEach((colour, k) => {
      if (weights[k]) channels(colour).forEach((c, i) => (sum[i] += weights[k] * toLight(c)));
    });
    return sum.map((c) => Math.round(255 * fromLight(Math.min(1, Math.max(0, c)))));
  }
  const rgb = (parts) => "rgb(" + parts.join(",") + ")";

  // Which one leads, and -1 where none does.
  function leader(weights) {
    let best = 0;
    for (let k = 1; k < weights.length; k += 1) if (weights[k] > weights[best]) best = k;
    return weights.every((w) => w > weights[best] - 1e-9) && weights.length > 1 ? -1 : best;
  }

  const round = (radius) =>
    "m" +
    -radius +
    " 0a" +
    [radius, radius, 0, 1, 0, 2 * radius, 0].join(" ") +
    "a" +
    [radius, radius, 0, 1, 0, -2 * radius, 0].join(" ") +
    "z";
  const MARKS = [
    round(3.6),
    "m-3.3 -3.3h6.6v6.6h-6.6z",
    "m0 -4.4l4.2 7.4h-8.4z",
    "m0 -4.7l4.3 4.7l-4.3 4.7l-4.3 -4.7z",
  ];
  const mark = (k) => (k < 0 ? round(2.3) : MARKS[k]);

  /* The palette of the page as it is now; `changed` hears when the page turns light or dark. The colours
     also become --nx-slot-1, --nx-slot-2, …, and --nx-climb for what rises, on the figure. */
  function follow(stage, palette, changed) {
    const at = { colours: [], ink: "", paper: "" };
    const read = () => {
      const dark = stage.root.dataset.nxTheme === "dark";
      const column = dark ? 1 : 0;
      at.colours = palette.slots.map((pair) => pair[column]);
      at.ink = palette.ink[column];
      at.paper = palette.paper[column];
      stage.live.style.setProperty("--nx-climb", palette.climb[column]);
      at.colours.forEach((colour, k) => stage.live.style.setProperty("--nx-slot-" + (k + 1), colour));
    };
    read();
    new MutationObserver(() => {
      read();
      changed();
    }).observe(stage.root, { attributes: true, attributeFilter: ["data-nx-theme"] });
    return at;
  }

  return { channels, mix, rgb, leader, mark, follow };
})();
