/* What both figures of chapter 2 draw with: the book's colours, small pictures, buttons that stay pressed. */
nx.parts = (function () {
  const channels = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  const blend = (from, to, part) => from.map((c, n) => Math.round(c + part * (to[n] - c)));
  const css = (colour) => "rgb(" + colour.join(",") + ")";

  /* The palette of the page as it is now, as triples; `changed` hears when the page turns light or dark.
     The colours also become --nx-rbm-probability, --nx-rbm-chain, … on the figure. */
  function follow(stage, palette, changed) {
    const at = {};
    const read = () => {
      const column = stage.root.dataset.nxTheme === "dark" ? 1 : 0;
      for (const [name, pair] of Object.entries(palette)) {
        at[name] = channels(pair[column]);
        stage.live.style.setProperty("--nx-rbm-" + name, pair[column]);
      }
    };
    read();
    new MutationObserver(() => {
      read();
      changed();
    }).observe(stage.root, { attributes: true, attributeFilter: ["data-nx-theme"] });
    return at;
  }

  // A canvas of width × height pixels, pixel i in the colour shade(i), a triple.
  function paint(canvas, shade) {
    const context = canvas.getContext("2d");
    const image = context.createImageData(canvas.width, canvas.height);
    for (let i = 0; i < canvas.width * canvas.height; i += 1) image.data.set([...shade(i), 255], 4 * i);
    context.putImageData(image, 0, 0);
  }

  const group = (label, ...nodes) =>
    nx.h("div", { class: "nx-buttons", role: "group", "aria-label": label }, ...nodes);
  const heading = (...parts) => nx.h("p", { class: "nx-heading" }, ...parts);
  const press = (button, on) => button.setAttribute("aria-pressed", String(on));

  return { blend, css, follow, paint, group, heading, press };
})();
