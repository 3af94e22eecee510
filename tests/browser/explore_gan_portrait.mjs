/* Chooses, clicks, slides and types in the phase portrait of chapter 7 as a reader does, without a network.
     node explore_gan_portrait.mjs CHROME PAGES [SHOTS]   → JSON: one record of what was seen for each scenario
   PAGES holds the pages that tests/test_explore_gan_portrait.py wrote; mutant-….html are figures with a fault. */
import { readdirSync } from "node:fs";
import { wait } from "./chromium.mjs";
import { CALM, browser, close, figure, press, reach, said, shot, violations, visit } from "./figures.mjs";

/* ---- what is to be seen ---- */
const state = async (root) => ({
  said: await said(root),
  ...(await root.evaluate((node) => {
    const pairs = (text, mark) => [...text.matchAll(mark)].map((one) => one.slice(1, 3).map(Number));
    const stamps = (text) => pairs(text || "", /M([\d.-]+) ([\d.-]+)m/g);
    const line = (text) => pairs(text || "", /[ML]([\d.-]+) ([\d.-]+)/g);
    const get = (selector) => node.querySelector(selector)?.getAttribute("d");
    const size = (svg) => ["width", "height"].map((name) => Number(svg.getAttribute(name)));
    const chart = node.querySelector(".nx-portrait-chart");
    const names = [...node.querySelectorAll(".nx-portrait-row[data-path]")].map((row) => row.dataset.path);
    const start = node.querySelector(".nx-portrait-start");
    const visible = (one) => getComputedStyle(one).visibility !== "hidden" && one.checkVisibility();
    const text = (row, selector) => row.querySelector(selector).textContent;
    return {
      rows: Object.fromEntries(
        [...node.querySelectorAll(".nx-portrait-row[data-path]")].map((row) => [
          row.dataset.path,
          [
            text(row, ".nx-portrait-words"),
            text(row, ".nx-portrait-number").replace("−", "-"),
            visible(row.querySelector(".nx-portrait-words")),
          ],
        ]),
      ),
      plane: size(node.querySelector(".nx-portrait-plane")),
      chart: size(chart),
      ticks: [...chart.querySelectorAll("g:not(.nx-axes) > text")].map((one) => [
        one.textContent,
        Number(one.getAttribute("y")) - 4,
      ]),
      points: Object.fromEntries(
        names.map((name) => [
          name,
          name === "flow"
            ? line(get(".nx-portrait-plane .nx-portrait-line.nx-portrait-flow"))
            : stamps(get(".nx-portrait-plane .nx-portrait-dots.nx-portrait-" + name)),
        ]),
      ),
      heads: Object.fromEntries(names.map((name) => [name, stamps(get(".nx-portrait-head.nx-portrait-" + name))])),
      radii: Object.fromEntries(
        names.map((name) => {
          const d = get(".nx-portrait-chart .nx-portrait-dots.nx-portrait-" + name);
          return [name, name === "flow" ? line(d) : stamps(d)];
        }),
      ),
      laws: Object.fromEntries(
        names.map((name) => [name, line(get(".nx-portrait-law.nx-portrait-" + name))]),
      ),
      band: line(get(".nx-portrait-band")),
      orbit: line(get(".nx-portrait-orbit")),
      arrows: (get(".nx-portrait-arrows").match(/M/g) || []).length / 2,
      start: ["cx", "cy"].map((name) => Number(start.getAttribute(name))),
      sliders: [...node.querySelectorAll("input[type=range]")].map((one) =>
        one.checkVisibility() ? one.value : null,
      ),
      marks: [...node.querySelectorAll(".nx-portrait-mark")].map((one) => {
        const thumb = one.parentNode.getBoundingClientRect();
        const box = one.getBoundingClientRect();
        return (box.left + box.width / 2 - thumb.left - 9) / (thumb.width - 18 || 1);
      }),
      note: node.querySelector(".nx-portrait-head-row").textContent,
      spoken: chart.getAttribute("aria-label"),
      key: [...node.querySelectorAll(".nx-heading")].at(-1).textContent,
    };
  })),
});
const slide = (root, n, value) =>
  root.evaluate(
    (node, k, chosen) => {
      const input = node.querySelectorAll("input[type=range]")[k];
      input.value = chosen;
      input.dispatchEvent(new Event("input"));
      input.dispatchEvent(new Event("change"));
    },
    n,
    value,
  );
const select = (root, n, value) =>
  root.evaluate(
    (node, k, chosen) => {
      const menu = node.querySelectorAll("select")[k];
      menu.value = chosen;
      menu.dispatchEvent(new Event("change"));
    },
    n,
    value,
  );
async function click(page, root, at) {
  const plane = await root.$(".nx-portrait-plane");
  const box = await plane.boundingBox();
  const place = ([theta, phi]) => [
    box.x + 30 + ((theta + 3) / 6) * (box.width - 38),
    box.y + 8 + ((3 - phi) / 6) * (box.height - 34),
  ];
  await page.mouse.click(...place(at));
}

/* Settings of every game: what the page then shows is held against nemlib. */
const SETUPS = [
  { game: "bilinear", eta: 0.4, start: [0.5, -1], beta: 0.9, of: "simultaneous" },
  { game: "bilinear", eta: 1.2, start: [0.2, 0.1], beta: 0.8, of: "extragradient" },
  { game: "bilinear", eta: 1, start: [-1, 1.5], beta: 0.5, of: "flow" },
  { game: "saturating", eta: 0.8, gamma: 0.1, start: [1, 1], beta: 0.9, of: "alternating" },
  { game: "saturating", eta: 0.3, gamma: 1.5, start: [-2, 1], beta: 0, of: "flow" },
  { game: "saturating", eta: 0.3, gamma: 0, start: [1.5, -0.5], beta: 0.95, of: "alternating" },
  { game: "nonSaturating", eta: 0.5, gamma: 0, start: [1, 1], beta: 0.9, of: "simultaneous" },
  { game: "nonSaturating", eta: 1.5, gamma: 0.3, start: [-1, -2], beta: 0.9, of: "extragradient" },
];
async function setUp(page, root, { game, eta, gamma = 0, start, beta, of }) {
  await select(root, 0, game);
  await slide(root, 0, eta);
  await slide(root, 1, gamma);
  await slide(root, 2, beta);
  await select(root, 1, of);
  await click(page, root, start);
}

// The whole of it, or for a figure with a fault the part that would show it.
async function shown(name, whole) {
  const page = await visit(name, { media: CALM });
  const root = await figure(page);
  const seen = { start: await state(root), setups: [] };
  for (const given of whole ? SETUPS : [SETUPS[0], SETUPS[3]]) {
    await setUp(page, root, given);
    seen.setups.push({ given, state: await state(root) });
  }
  return close(page, seen);
}

/* ---- with keys, and step by step ---- */
async function hands() {
  const page = await visit("portrait.html", { media: CALM });
  const root = await figure(page);
  const seen = {};
  await press(root, "Reset");
  seen.reset = await state(root);
  await press(root, "Step");
  await press(root, "Step");
  seen.two = await state(root);
  await press(root, "Play");
  seen.calm = await state(root);
  await press(root, "Step");
  seen.again = await state(root);
  await root.$eval(".nx-portrait-plane", (node) => node.focus());
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowUp");
  await page.keyboard.down("Shift");
  await page.keyboard.press("ArrowUp");
  await page.keyboard.up("Shift");
  seen.keyed = await state(root);
  for (let n = 0; n < 9; n += 1) await page.keyboard.press("ArrowRight");
  await page.keyboard.down("Shift");
  for (let n = 0; n < 4; n += 1) await page.keyboard.press("ArrowRight");
  await page.keyboard.up("Shift");
  seen.edge = await state(root);
  await (await root.$$("input[type=checkbox]"))[1].click();
  seen.hidden = await state(root);
  await (await root.$$("input[type=checkbox]"))[1].click();
  await slide(root, 0, 0);
  seen.idle = await state(root);
  await slide(root, 0, 0.5);
  await click(page, root, [0, 0]);
  seen.middle = await state(root);
  const box = await (await root.$(".nx-portrait-plane")).boundingBox();
  await page.mouse.move(box.x + 60, box.y + 60);
  await page.mouse.down();
  await page.mouse.move(box.x + 200, box.y + 100, { steps: 3 });
  await page.mouse.up();
  await page.mouse.move(box.x + 100, box.y + 200);
  seen.dragged = { ...(await state(root)), to: [200, 100] };
  return close(page, seen);
}

// With motion the steps are seen one after the other, and pause where the reader says so.
async function motion() {
  const page = await visit("portrait.html");
  const root = await figure(page);
  const at = async () => Number((await state(root)).note.match(/\d+/)[0]);
  const seen = { from: await at() };
  await press(root, "Play");
  seen.starts = await reach(async () => (await at()) > 2 && (await at()) < 60, 4000);
  await press(root, "Pause");
  const held = await at();
  await wait(200);
  seen.stays = held === (await at());
  seen.said = await said(root);
  await press(root, "Reset");
  seen.zero = await at();
  return close(page, seen);
}

/* ---- where it stands, how it looks ---- */
async function phone() {
  const page = await visit("two.html", { width: 360, height: 740, touch: true, scheme: "dark", media: CALM });
  const [first] = await page.$$(".nx-figure");
  const seen = {
    width: await page.evaluate(() => document.documentElement.scrollWidth),
    theme: await first.evaluate((node) => node.dataset.nxTheme),
  };
  const plane = await first.$(".nx-portrait-plane");
  await plane.evaluate((node) => node.scrollIntoView({ block: "center" }));
  const box = await plane.boundingBox();
  seen.tapped = await reach(async () => {
    await page.touchscreen.tap(box.x + 90, box.y + 80);
    const [x, y] = (await state(first)).start;
    return Math.hypot(x - 90, y - 80) < 3;
  }, 3000);
  seen.inside = await page.$$eval(".nx-figure", (nodes) =>
    nodes.map((node) =>
      [...node.querySelectorAll(".nx-live :is(text, p, input, select, button, label, span)")].every((one) => {
        const { right, left, width } = one.getBoundingClientRect();
        return width === 0 || one.closest(".nx-hidden") || (left >= 0 && right <= innerWidth);
      }),
    ),
  );
  seen.small = await page.$$eval(
    ".nx-live :is(button, select)",
    (nodes) => nodes.filter((n) => n.getBoundingClientRect().height < 24).length,
  );
  await shot(page, "gan-portrait-phone-dark");
  seen.violations = await violations(page);
  return close(page, seen);
}

async function looks() {
  const page = await visit("two.html", { media: CALM });
  const colours = () =>
    page.$eval(".nx-figure", (node) =>
      ["simultaneous", "alternating", "extragradient", "average"].map(
        (name) => getComputedStyle(node.querySelector(".nx-portrait-head.nx-portrait-" + name)).fill,
      ),
    );
  const seen = { light: await colours() };
  await shot(page, "gan-portrait-light");
  seen.violations = await violations(page);
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "dark" }, ...CALM]);
  await wait(60);
  seen.dark = await colours();
  await shot(page, "gan-portrait-dark");
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

const [, , , pages] = process.argv;
const seen = {};
const mutants = readdirSync(pages).filter((name) => name.startsWith("mutant-"));
const scenarios = [
  ["portrait", () => shown("portrait.html", true)],
  ...mutants.map((name) => [name.replace(".html", ""), () => shown(name, false)]),
  ...[hands, motion, phone, looks].map((one) => [one.name, one]),
];
for (const [name, scenario] of scenarios) {
  try {
    seen[name] = await scenario();
  } catch (error) {
    seen[name] = { error: String(error.stack || error) };
  }
}
await browser.close();
process.stdout.write(JSON.stringify(seen));
