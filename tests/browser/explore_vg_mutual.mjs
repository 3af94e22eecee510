/* Steps chapter 5's figure as a reader does, in a browser without a network.
     node explore_vg_mutual.mjs CHROME PAGES [SHOTS]   → JSON: one record of what was seen for each scenario
   PAGES holds the pages that tests/test_explore_vae_gmm.py wrote. Nothing here depends on the clock: what takes time
   in the page is waited for by what it says. */
import { CALM, browser, button, choose, close, facts, figure, look, press } from "./figures.mjs";
import { reach, said, shot, violations, visit, words } from "./figures.mjs";

const ROUND = /^2 steps so far/;
const open = async (options = {}) => {
  const page = await visit(options.page || "live.html", { media: CALM, ...options });
  return [page, await figure(page)];
};
const radio = (root, value) => root.$eval(`input[type="radio"][value="${value}"]`, (node) => node.click());
const slider = (root, index) =>
  root.$$eval('input[type="range"]', (nodes, at) => nodes[at].focus(), index);
const value = (root, index) => root.$$eval("output", (nodes, at) => nodes[at].textContent, index);
// What the canvas of the points holds, as one number.
const print = (root) =>
  root.$eval(".nx-vgpoints", (canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let hash = 7;
    for (const byte of data) hash = (Math.imul(hash, 31) + byte) | 0;
    return hash;
  });
// The middles of the ellipses, and two ticks of each axis, in pixels.
const rings = (root) =>
  root.$$eval(".nx-vgring", (nodes) =>
    nodes.map((node) => {
      const box = node.getBBox();
      return [box.x + box.width / 2, box.y + box.height / 2];
    }),
  );
const ticks = (root) =>
  root.$eval(".nx-vgplane .nx-axes", (axes) => {
    const found = { xTicks: [], yTicks: [] };
    for (const text of axes.querySelectorAll("text:not(.nx-name)")) {
      const number = Number(text.textContent.replace("−", "-"));
      if (text.getAttribute("text-anchor") === "middle") found.xTicks.push([number, Number(text.getAttribute("x"))]);
      else found.yTicks.push([number, Number(text.getAttribute("y")) - 4]);
    }
    return { xTicks: found.xTicks.slice(0, 2), yTicks: found.yTicks.slice(0, 2) };
  });

async function steps() {
  const [page, root] = await open();
  const seen = { start: await look(root) };
  await press(root, "Mixture: one EM step");
  seen.mixture = await look(root);
  seen.said = await said(root);
  await press(root, "VAE: one step");
  seen.vae = await look(root);
  await press(root, "Round");
  await press(root, "Round");
  seen.rounds = await look(root);
  seen.rings = await rings(root);
  Object.assign(seen, await ticks(root));
  await shot(page, "vg-mutual-rounds");
  await press(root, "Reset");
  seen.reset = await look(root);
  await press(root, "New start");
  seen.anew = await look(root);
  return close(page, seen);
}

async function knobs() {
  const [page, root] = await open();
  const seen = { betas: [await value(root, 0)] };
  await press(root, "Mixture: one EM step");
  await slider(root, 0);
  await page.keyboard.press("Home");
  seen.betas.push(await value(root, 0));
  seen.zero = await look(root);
  const before = await print(root);
  await press(root, "VAE: one step");
  seen.still = await look(root);
  seen.same = (await print(root)) === before;
  await slider(root, 0);
  await page.keyboard.press("ArrowRight");
  seen.betas.push(await value(root, 0));
  await page.keyboard.press("End");
  seen.betas.push(await value(root, 0));
  await press(root, "VAE: one step");
  seen.differs = (await print(root)) !== before;
  const options = () => root.$$eval(".nx-vgwhich option", (nodes) => nodes.map((node) => node.textContent));
  await slider(root, 1);
  await page.keyboard.press("Home");
  seen.one = { K: await value(root, 1), options: await options(), start: await words(root) };
  await press(root, "Round");
  seen.one.facts = await facts(root);
  await slider(root, 1);
  await page.keyboard.press("End");
  seen.ten = { K: await value(root, 1), options: await options(), rings: (await rings(root)).length };
  return close(page, seen);
}

async function gibbs() {
  const [page, root] = await open();
  const first = await button(root, "Mixture: one EM step");
  const seen = { buttons: [await first.evaluate((node) => node.textContent)] };
  await radio(root, "gibbs");
  seen.buttons.push(await first.evaluate((node) => node.textContent));
  await press(root, "Mixture: one sweep");
  await press(root, "Mixture: one sweep");
  seen.sweeps = await look(root);
  await press(root, "VAE: one step");
  await radio(root, "hard");
  seen.hardWords = await words(root);
  await press(root, "VAE: one step");
  seen.hard = await look(root);
  await radio(root, "sampled");
  seen.sampledWords = await words(root);
  await press(root, "VAE: one step");
  seen.sampled = await look(root);
  await shot(page, "vg-mutual-sampled");
  return close(page, seen);
}

const pixels = (root, index) =>
  root.$$eval(
    ".nx-vgstrip",
    (nodes, at) => {
      const { data } = nodes[at].getContext("2d").getImageData(0, 0, nodes[at].width, nodes[at].height);
      return [...data].filter((_, i) => i % 4 === 0);
    },
    index,
  );
const chosen = async (root) => ({
  component: await root.$eval(".nx-vgwhich select", (node) => node.value),
  name: await root.$eval(".nx-vgwhich .nx-heading", (node) => node.textContent),
  made: await pixels(root, 0),
  own: await pixels(root, 1),
  said: await said(root),
});

async function pictures() {
  const [page, root] = await open();
  await press(root, "Mixture: one EM step");
  const { xTicks, yTicks } = await ticks(root);
  const [[x0, px0], [x1, px1]] = xTicks,
    [[y0, py0], [y1, py1]] = yTicks;
  const box = await root.$eval(".nx-vgplane", (node) => {
    const { left, top } = node.getBoundingClientRect();
    return [left, top];
  });
  // On the middle of the third ellipse, to whole pixels.
  const [ux, uy] = (await rings(root))[2].map(Math.round);
  await page.mouse.move(box[0] + ux, box[1] + uy);
  const seen = {
    at: [x0 + ((ux - px0) * (x1 - x0)) / (px1 - px0), y0 + ((uy - py0) * (y1 - y0)) / (py1 - py0)],
    pointer: await chosen(root),
  };
  await choose(root, 1, "1");
  seen.menu = await chosen(root);
  await page.mouse.move(2, 2);
  await root.$eval(".nx-vgplane", (node) => node.focus());
  for (const key of ["ArrowLeft", "ArrowUp", "ArrowLeft", "ArrowRight"]) await page.keyboard.press(key);
  seen.keys = await chosen(root);
  await shot(page, "vg-mutual-pictures");
  return close(page, seen);
}

async function play() {
  const [page, root] = await open({ page: "short.html", media: [] });
  await press(root, "Play");
  const seen = { ended: await reach(async () => (await said(root)).startsWith("Paused"), 120000) };
  seen.label = await root.$eval(".nx-primary", (node) => node.textContent);
  seen.voice = await said(root);
  seen.end = await look(root);
  return close(page, seen);
}

async function motion() {
  const [page, root] = await open({ media: [] });
  const seen = { start: await look(root) };
  await press(root, "Round");
  seen.arrives = await reach(async () => ROUND.test(await said(root)), 120000);
  seen.round = await look(root);
  await press(root, "Reset");
  // In one task, so that no frame comes between: the round's second half never begins.
  await root.evaluate((node) => {
    const click = (label) => [...node.querySelectorAll("button")].find((b) => b.textContent === label).click();
    click("Round");
    click("Reset");
  });
  seen.reset = await look(root);
  await page.evaluate(
    () =>
      new Promise((done) => {
        let frames = 0;
        const next = () => ((frames += 1) > 60 ? done() : requestAnimationFrame(next));
        requestAnimationFrame(next);
      }),
  );
  seen.stays = JSON.stringify(await look(root)) === JSON.stringify(seen.reset);
  return close(page, seen);
}

async function looks() {
  const [page, root] = await open();
  const seen = { pixels: {} };
  for (let n = 0; n < 3; n += 1) await press(root, "Round");
  for (const lines of ["since", "none", "next"]) {
    await choose(root, 0, lines);
    seen.pixels[lines] = await print(root);
  }
  seen.light = await print(root);
  seen.violations = await violations(page);
  await shot(page, "vg-mutual-light");
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "dark" }, ...CALM]);
  await reach(async () => (seen.dark = await print(root)) !== seen.light);
  seen.violationsDark = await violations(page);
  await shot(page, "vg-mutual-dark");
  seen.label = await root.$eval(".nx-vgplane", (node) => node.getAttribute("aria-label"));
  seen.chart = await root.$$eval("svg.nx-plot", (nodes) => nodes[1].getAttribute("aria-label"));
  seen.ids = await page.evaluate(() => {
    const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
    return ids.filter((id, i) => ids.indexOf(id) !== i);
  });
  await page.emulateMediaType("print");
  seen.print = await root.evaluate((node) => [
    node.querySelector(".nx-live").checkVisibility(),
    node.querySelector(".nx-still").checkVisibility(),
  ]);
  return close(page, seen);
}

async function phone() {
  const [page, root] = await open({ width: 390, height: 844, touch: true, scheme: "dark" });
  const tap = async (label) => (await button(root, label)).tap();
  await tap("Round");
  const before = await root.$eval(".nx-vgwhich select", (node) => node.value);
  const boxes = await root.$$eval(".nx-vgname", (nodes) => {
    const frame = nodes[0].ownerSVGElement;
    frame.scrollIntoView({ block: "center" });
    const { left, top } = frame.getBoundingClientRect();
    return nodes.map((node) => [left + Number(node.getAttribute("x")), top + Number(node.getAttribute("y"))]);
  });
  const seen = { tapped: false };
  for (const [x, y] of boxes) {
    await page.touchscreen.tap(x, y);
    if ((await root.$eval(".nx-vgwhich select", (node) => node.value)) !== before) seen.tapped = true;
  }
  seen.width = await page.evaluate(() => document.documentElement.scrollWidth);
  seen.theme = await root.evaluate((node) => node.dataset.nxTheme);
  seen.violations = await violations(page);
  seen.small = await page.$$eval(
    ".nx-live button",
    (nodes) => nodes.filter((n) => n.checkVisibility() && n.getBoundingClientRect().height < 24).length,
  );
  seen.inside = await root.evaluate((node) =>
    [...node.querySelectorAll(".nx-live :is(span, output, select, button, canvas, svg)")].every((one) => {
      const { right, left, width } = one.getBoundingClientRect();
      return width === 0 || one.closest(".nx-hidden") || (left >= 0 && right <= innerWidth);
    }),
  );
  await shot(page, "vg-mutual-phone");
  return close(page, seen);
}

// Notebooks insert the HTML and revive its scripts; a figure that leaves the page stops.
async function host() {
  const page = await visit("host.html", { media: CALM });
  const seen = await page.evaluate(async () => {
    const place = document.createElement("div");
    const insert = () => {
      place.innerHTML = document.querySelector("template").innerHTML;
      for (const old of place.querySelectorAll("script")) {
        const fresh = document.createElement("script");
        fresh.textContent = old.textContent;
        old.replaceWith(fresh);
      }
    };
    const click = (label) => [...place.querySelectorAll("button")].find((b) => b.textContent === label).click();
    insert();
    document.body.append(place);
    click("Play");
    place.remove();
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    document.body.append(place);
    insert();
    click("Mixture: one EM step");
    return {
      live: place.querySelectorAll(".nx-live").length,
      words: place.querySelector(".nx-words").textContent,
    };
  });
  return close(page, seen);
}

const seen = {};
for (const scenario of [steps, knobs, gibbs, pictures, play, motion, looks, phone, host]) {
  try {
    seen[scenario.name] = await scenario();
  } catch (error) {
    seen[scenario.name] = { error: String(error.stack || error) };
  }
}
await browser.close();
process.stdout.write(JSON.stringify(seen));
