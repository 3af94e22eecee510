/* Trains the GAN of chapter 7 as a reader does, in a browser without a network.
     node explore_gan_live.mjs CHROME PAGES [SHOTS]   → JSON: one record of what was seen for each scenario
   PAGES holds the pages that tests/test_explore_gan_live.py wrote. */
import { CALM, browser, button, choose, close, figure, look, press } from "./figures.mjs";
import { reach, said, shot, violations, visit } from "./figures.mjs";

const STEPS = 400; // by hand, as in the Python test
const state = async (root) => {
  const now = await look(root);
  for (const name of Object.keys(now)) now[name] = now[name].replace(/[\u202f\u00a0]/g, "");
  return { ...now, "Steps of G": now["Steps of G"].replace(/\s/g, "") };
};
const byHand = async (root, steps) => {
  for (let n = 0; n < steps / 100; n += 1) await press(root, "100 steps");
};
const pressed = (root) =>
  root.$$eval('button[aria-pressed="true"]', (nodes) => nodes.map((node) => node.textContent));
const sliders = (root) => root.$$eval(".nx-slider output", (nodes) => nodes.map((node) => node.textContent));
// Pixels of the picture in the colours of data and of samples.
const colours = (root) =>
  root.evaluate((node) => {
    const canvas = node.querySelector(".nx-live .nx-canvas");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const live = node.querySelector(".nx-live").style;
    const count = (name) => {
      const hex = live.getPropertyValue("--nx-rbm-" + name).trim();
      const wanted = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
      let found = 0;
      for (let at = 0; at < data.length; at += 4)
        if (wanted.every((value, n) => Math.abs(data[at + n] - value) < 3)) found += 1;
      return found;
    };
    return { data: count("data"), generated: count("generated") };
  });
const at = (root, x, y) =>
  root.$eval(
    ".nx-live .nx-canvas",
    (node, u, v) => {
      const box = node.getBoundingClientRect();
      return [box.left + ((u + 3) / 6) * box.width, box.top + ((3 - v) / 6) * box.height];
    },
    x,
    y,
  );

async function train() {
  const page = await visit("short.html");
  const root = await figure(page);
  const seen = { start: await state(root) };
  const begin = Date.now();
  await press(root, "Train");
  // No clock decides: the page itself rests after its steps; the limit is for a page that hangs.
  await reach(async () => /^All|^Paused/.test(await said(root)), 300000);
  seen.found = (Date.now() - begin) / 1000;
  seen.ended = await reach(async () => (await said(root)).startsWith("Paused"), 300000);
  seen.seconds = (Date.now() - begin) / 1000;
  seen.end = await state(root);
  seen.voice = await said(root);
  seen.colours = await colours(root);
  await shot(page, "gan-live-trained");
  return close(page, seen);
}

async function hand() {
  const page = await visit("live.html", { media: CALM });
  const root = await figure(page);
  const seen = { pressed: { start: await pressed(root) }, sliders: {} };
  await byHand(root, STEPS);
  seen.remedy = await state(root);
  await press(root, "Start over");
  seen.zero = await state(root);
  await press(root, "1 step");
  seen.one = await state(root);
  await press(root, "Start over");
  await byHand(root, STEPS);
  seen.again = await state(root);
  await press(root, "New seed");
  await byHand(root, STEPS);
  seen.reseeded = await state(root);
  await page.reload();
  const fresh = await figure(page);
  await press(fresh, "Collapse");
  seen.pressed.collapse = await pressed(fresh);
  seen.sliders.collapse = await sliders(fresh);
  await byHand(fresh, STEPS);
  seen.collapse = await state(fresh);
  await shot(page, "gan-live-collapse");
  await fresh.$$eval('input[type="range"]', (nodes) => nodes[1].focus());
  await page.keyboard.press("ArrowRight");
  seen.pressed.moved = await pressed(fresh);
  seen.sliders.moved = await sliders(fresh);
  return close(page, seen);
}

async function draw() {
  const page = await visit("live.html", { media: CALM });
  const root = await figure(page);
  const seen = {};
  await choose(root, 0, "drawn");
  seen.empty = await state(root);
  seen.idle = [];
  for (const label of ["Train", "1 step", "100 steps"])
    seen.idle.push(await (await button(root, label)).evaluate((node) => node.disabled));
  await choose(root, 0, "ring");
  await root.$eval(".nx-live .nx-canvas", (node) => node.focus());
  for (const key of ["ArrowRight", "ArrowRight", "Enter"]) await page.keyboard.press(key);
  seen.keys = await said(root);
  seen.law = await root.$eval("select", (node) => node.value);
  await page.keyboard.down("Shift");
  await page.keyboard.press("ArrowUp");
  await page.keyboard.up("Shift");
  seen.read = await said(root);
  await page.mouse.move(...(await at(root, -2, 1)));
  await page.mouse.down();
  await page.mouse.move(...(await at(root, -1.2, 1)), { steps: 4 });
  await page.mouse.up();
  await page.mouse.move(2, 2);
  seen.stroke = await state(root);
  await press(root, "100 steps");
  seen.learnt = await state(root);
  await shot(page, "gan-live-drawn");
  return close(page, seen);
}

async function looks() {
  const page = await visit("live.html", { media: CALM });
  const root = await figure(page);
  const seen = {};
  await byHand(root, 100);
  const pixel = () =>
    root.evaluate((node) => {
      const canvas = node.querySelector(".nx-live .nx-canvas");
      return [...canvas.getContext("2d").getImageData(5, canvas.height / 2, 1, 1).data].join();
    });
  seen.light = await pixel();
  seen.violations = await violations(page);
  await shot(page, "gan-live-light");
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "dark" }, ...CALM]);
  await reach(async () => (seen.dark = await pixel()) !== seen.light);
  seen.violationsDark = await violations(page);
  await shot(page, "gan-live-dark");
  seen.label = await root.$eval(".nx-live .nx-canvas", (node) => node.getAttribute("aria-label"));
  seen.lossLabel = await root.$$eval("svg.nx-plot", (nodes) => nodes[1].getAttribute("aria-label"));
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
  const page = await visit("live.html", { width: 360, height: 740, touch: true, scheme: "dark", media: CALM });
  const root = await figure(page);
  await choose(root, 0, "grid");
  await byHand(root, 100);
  const seen = {
    width: await page.evaluate(() => document.documentElement.scrollWidth),
    theme: await root.evaluate((node) => node.dataset.nxTheme),
    violations: await violations(page),
  };
  seen.small = await page.$$eval(
    ".nx-live button",
    (nodes) => nodes.filter((n) => n.checkVisibility() && n.getBoundingClientRect().height < 24).length,
  );
  seen.inside = await root.evaluate((node) =>
    [...node.querySelectorAll(".nx-live :is(text, span, output, select, button, canvas)")].every((one) => {
      const { right, left, width } = one.getBoundingClientRect();
      return width === 0 || one.closest(".nx-hidden") || (left >= 0 && right <= innerWidth);
    }),
  );
  await shot(page, "gan-live-phone");
  return close(page, seen);
}

// Notebooks insert the HTML and revive its scripts; a figure that leaves the page stops.
async function host() {
  const page = await visit("host.html");
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
    click("Train");
    place.remove();
    await new Promise((done) => setTimeout(done, 200));
    document.body.append(place);
    insert();
    click("100 steps");
    return {
      live: place.querySelectorAll(".nx-live").length,
      words: place.querySelector(".nx-words").textContent,
    };
  });
  return close(page, seen);
}

const seen = {};
for (const scenario of [train, hand, draw, looks, phone, host]) {
  try {
    seen[scenario.name] = await scenario();
  } catch (error) {
    seen[scenario.name] = { error: String(error.stack || error) };
  }
}
await browser.close();
process.stdout.write(JSON.stringify(seen));
