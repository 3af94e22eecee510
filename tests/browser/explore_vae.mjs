/* Drags, presses and types in the figures of chapter 4 as a reader does, in a browser without a network.
     node explore_vae.mjs CHROME PAGES [SHOTS]   → JSON: one record of what was seen for each scenario
   PAGES holds the pages that tests/test_explore_vae.py wrote. */
import { wait } from "./chromium.mjs";
import {
  CALM,
  browser,
  choose,
  close,
  figure,
  look,
  press,
  reach,
  said,
  shot,
  violations,
  visit,
} from "./figures.mjs";

/* ---- the gap ---- */
// The three sums, the bar's two parts in pixels, both sliders, the words.
const state = (root) =>
  root.evaluate((node) => {
    const number = (text) => Number(text.replace("−", "-"));
    const size = (rect) => ["x", "width"].map((name) => Number(rect.getAttribute(name)));
    return {
      sums: [...node.querySelectorAll(".nx-sum")].map((sum) =>
        [...sum.querySelectorAll(".nx-sumnumber")].map((one) => number(one.textContent)),
      ),
      parts: [".nx-elbo-part", ".nx-elbo-part + rect"].map((name) => size(node.querySelector(name))),
      q: [...node.querySelectorAll("output")].map((one) => number(one.textContent)),
      words: node.querySelector(".nx-words").textContent,
      said: node.querySelector(".nx-voice").textContent,
      handles: [...node.querySelectorAll(".nx-gap-handle")].map((one) =>
        ["cx", "cy"].map((name) => Number(one.getAttribute(name))),
      ),
    };
  });
const radio = async (root, n) => (await root.$$("input[type=radio]"))[n].click();
const handle = async (root, n) => {
  const box = await (await root.$$(".nx-gap-handle"))[n].boundingBox();
  return [box.x + box.width / 2, box.y + box.height / 2];
};
async function drag(page, from, to) {
  await page.mouse.move(...from);
  await page.mouse.down();
  await page.mouse.move(...to, { steps: 4 });
  await page.mouse.up();
}

async function gap() {
  const page = await visit("gap.html", { media: CALM });
  const root = await figure(page);
  const seen = { toys: [] };
  for (const n of [1, 2, 0]) {
    await radio(root, n);
    const start = await state(root);
    await press(root, "Best q");
    const best = await state(root);
    await press(root, "q = prior");
    seen.toys[n] = { start, best, prior: await state(root) };
  }
  await root.$eval(".nx-bell", (node) => node.focus());
  for (const key of ["ArrowRight", "ArrowRight", "ArrowUp"]) await page.keyboard.press(key);
  await page.keyboard.down("Shift");
  await page.keyboard.press("ArrowLeft");
  await page.keyboard.up("Shift");
  seen.keyed = await state(root);
  await (await root.$$("input[type=range]"))[0].focus();
  await page.keyboard.press("End");
  seen.slid = await state(root);
  await press(root, "q = prior");
  let [x, y] = await handle(root, 0);
  await drag(page, [x, y + 20], [x + 60, y + 60]);
  seen.dragged = await state(root);
  [x, y] = await handle(root, 2);
  await drag(page, [x, y], [x - 30, y]);
  seen.narrowed = await state(root);
  [x, y] = await handle(root, 1);
  await drag(page, [x, y], [x - 50, y]);
  seen.widened = await state(root);
  await shot(page, "vae-gap-dragged");
  return close(page, seen);
}

// With motion q glides, and stops where the reader takes hold of it.
async function motion() {
  const page = await visit("gap.html");
  const root = await figure(page);
  const seen = {};
  await press(root, "Best q");
  seen.arrives = await reach(async () => (await state(root)).sums[0][2] === 0);
  await press(root, "q = prior");
  seen.returns = await reach(async () => (await state(root)).q.join() === "0,1");
  await press(root, "Best q");
  await root.$eval(".nx-bell", (node) => node.focus());
  await page.keyboard.press("ArrowLeft");
  const held = (await state(root)).q;
  await wait(150);
  seen.stays = held.join() === (await state(root)).q.join();
  const other = await visit("plane.html");
  const walker = await figure(other);
  await press(walker, "Walk");
  const at = () => walker.$eval("input[type=range]", (node) => Number(node.value));
  seen.walks = await reach(async () => (await at()) >= 5);
  await press(walker, "Stop");
  seen.between = await at();
  await close(other, {});
  return close(page, seen);
}

/* ---- the plane ---- */
const picture = (root, name, n = 0) =>
  root.evaluate(
    (node, selector, index) => {
      const canvas = node.querySelectorAll(selector)[index];
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      return Array.from({ length: canvas.width * canvas.height }, (_, i) => data[4 * i]);
    },
    name,
    n,
  );
const place = (root) =>
  root.evaluate((node) => {
    const circle = (name) => ["cx", "cy"].map((c) => Number(node.querySelector(name).getAttribute(c)));
    return {
      spot: circle(".nx-z"),
      closest: circle(".nx-closest"),
      captions: [...node.querySelectorAll(".nx-digitbox > span")].map((one) => one.textContent),
      part: Number(node.querySelector("input[type=range]").value),
    };
  });
const all = async (root) => ({
  ...(await look(root)),
  ...(await place(root)),
  made: await picture(root, ".nx-digit"),
  known: await picture(root, ".nx-digit", 1),
});

async function plane() {
  const page = await visit("plane.html", { media: CALM });
  const root = await figure(page);
  const seen = { start: await all(root), strip: await picture(root, ".nx-strip") };
  seen.codes = await root.$$eval(".nx-code", (nodes) => nodes.map((node) => node.textContent));
  seen.rings = await root.$$eval(".nx-prior-ring", (nodes) =>
    nodes.map((node) => Number(node.getAttribute("r"))),
  );
  seen.ticks = await root.evaluate((node) => {
    const [a, b] = [...node.querySelectorAll(".nx-axes text")].slice(0, 2);
    return [a, b].map((one) => [Number(one.textContent.replace("−", "-")), Number(one.getAttribute("x"))]);
  });
  await root.$eval(".nx-latent", (node) => node.focus());
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.down("Shift");
  await page.keyboard.press("ArrowRight");
  await page.keyboard.up("Shift");
  seen.keyed = { ...(await all(root)), said: await said(root) };
  for (let n = 0; n < 40; n += 1) await page.keyboard.press("ArrowUp");
  seen.edge = await all(root);
  await press(root, "Draw z from the prior");
  seen.drawn = { ...(await all(root)), said: await said(root) };
  await choose(root, 0, "5");
  seen.faint = await root.$$eval(".nx-code", (nodes) =>
    nodes.filter((node) => node.style.opacity === "0.1").map((node) => node.textContent),
  );
  for (let n = 0; n < 4; n += 1) await press(root, "Walk");
  seen.half = await all(root);
  const svg = await (await root.$(".nx-latent")).boundingBox();
  const at = ([x, y]) => [svg.x + x, svg.y + y];
  const { closest } = await place(root);
  await drag(page, at([svg.width / 2, 40]), at(closest));
  seen.dragged = { ...(await all(root)), said: await said(root), target: closest };
  await choose(root, 2, "here");
  seen.here = await all(root);
  seen.hereStrip = await picture(root, ".nx-strip");
  const strip = await (await root.$(".nx-strip")).boundingBox();
  await page.mouse.click(strip.x + strip.width - 5, strip.y + 5);
  seen.end = await all(root);

  await radio(root, 1);
  seen.map = await picture(root, ".nx-map");
  seen.heading = await said(root);
  await press(root, "Draw z from the prior");
  const { spot } = await place(root);
  seen.mapped = await look(root);
  seen.share = await root.evaluate((node, [x, y]) => {
    const grid = node.querySelector(".nx-map");
    const [left, top, width, height] = ["left", "top", "width", "height"].map((one) =>
      parseFloat(grid.style[one]),
    );
    return [(x - left) / width, 1 - (y - top) / height];
  }, spot);
  const face = await (await root.$(".nx-map")).boundingBox();
  await page.mouse.click(face.x + 0.625 * face.width, face.y + 0.375 * face.height);
  seen.clicked = await look(root);
  seen.disabled = await root.$eval("select", (node) => node.disabled);
  await shot(page, "vae-plane-map");
  await radio(root, 0);
  seen.back = await place(root);
  return close(page, seen);
}

/* ---- where it stands, how it looks ---- */
async function phone() {
  const size = { width: 360, height: 740, touch: true };
  const page = await visit("both.html", { ...size, scheme: "dark", media: CALM });
  const [first, second] = await page.$$(".nx-figure");
  const seen = {
    width: await page.evaluate(() => document.documentElement.scrollWidth),
    theme: await page.$$eval(".nx-figure", (nodes) => nodes.map((node) => node.dataset.nxTheme)),
  };
  await (await first.$(".nx-bell")).evaluate((node) => node.scrollIntoView({ block: "center" }));
  const before = (await state(first)).q;
  const [x, y] = await handle(first, 0);
  await page.touchscreen.touchStart(x, y);
  await page.touchscreen.touchMove(x + 10, y);
  await page.touchscreen.touchMove(x + 40, y);
  await page.touchscreen.touchEnd();
  seen.dragged = (await state(first)).q.map((value, i) => value - before[i]);
  await (await second.$(".nx-latent")).evaluate((node) => node.scrollIntoView({ block: "center" }));
  const box = await (await second.$(".nx-latent")).boundingBox();
  seen.tapped = await reach(async () => {
    await page.touchscreen.tap(box.x + box.width / 2, box.y + box.height / 2);
    const { spot } = await place(second);
    return Math.hypot(spot[0] - box.width / 2, spot[1] - box.height / 2) < 3;
  }, 3000);
  seen.small = await page.$$eval(
    ".nx-live button",
    (nodes) => nodes.filter((n) => n.checkVisibility() && n.getBoundingClientRect().height < 24).length,
  );
  seen.inside = await page.$$eval(".nx-figure", (nodes) =>
    nodes.map((node) =>
      [...node.querySelectorAll(".nx-live text, .nx-live span, .nx-live output")].every((one) => {
        const { right, left, width } = one.getBoundingClientRect();
        return width === 0 || one.closest(".nx-hidden") || (left >= 0 && right <= innerWidth);
      }),
    ),
  );
  await shot(page, "vae-phone-dark");
  seen.violations = await violations(page);
  return close(page, seen);
}

async function looks() {
  const page = await visit("both.html", { media: CALM });
  const roots = await page.$$(".nx-figure");
  const colours = async () => [
    await roots[0].$eval(".nx-gap-q", (node) => getComputedStyle(node).stroke),
    await roots[1].$eval(".nx-code", (node) => getComputedStyle(node).fill),
    (await picture(roots[1], ".nx-strip"))[0],
  ];
  const seen = { light: await colours() };
  await shot(page, "vae-wide-light");
  seen.violations = await violations(page);
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "dark" }, ...CALM]);
  await wait(60);
  seen.dark = await colours();
  await shot(page, "vae-wide-dark");
  seen.violationsDark = await violations(page);
  seen.ids = await page.evaluate(() => {
    const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
    return ids.filter((id, i) => ids.indexOf(id) !== i);
  });
  await page.emulateMediaType("print");
  seen.print = await page.$$eval(".nx-figure", (nodes) =>
    nodes.map((node) => [
      node.querySelector(".nx-live").checkVisibility(),
      node.querySelector(".nx-still").checkVisibility(),
    ]),
  );
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
    const click = (label) =>
      [...place.querySelectorAll("button")].filter((b) => b.textContent === label).forEach((b) => b.click());
    insert();
    document.body.append(place);
    click("Best q");
    click("Walk");
    place.remove();
    await new Promise((done) => setTimeout(done, 300));
    document.body.append(place);
    insert();
    click("Draw z from the prior");
    return {
      live: place.querySelectorAll(".nx-live").length,
      words: [...place.querySelectorAll(".nx-words")].map((one) => one.textContent),
    };
  });
  return close(page, seen);
}

const seen = {};
for (const scenario of [gap, motion, plane, phone, looks, host]) {
  try {
    seen[scenario.name] = await scenario();
  } catch (error) {
    seen[scenario.name] = { error: String(error.stack || error) };
  }
}
await browser.close();
process.stdout.write(JSON.stringify(seen));
