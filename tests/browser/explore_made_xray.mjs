/* Chooses, points, drags and types in the mask x-ray of chapter 6 as a reader does, without a network.
     node explore_made_xray.mjs CHROME PAGES [SHOTS]   → JSON: one record of what was seen for each scenario
   PAGES holds the pages that tests/test_explore_made_xray.py wrote; mutant-….html are figures with a fault. */
import { readdirSync } from "node:fs";
import { wait } from "./chromium.mjs";
import { CALM, browser, close, figure, look, press, reach, said, shot, violations, visit } from "./figures.mjs";

/* ---- what is to be seen ---- */
const state = async (root) => ({
  ...(await look(root)),
  said: await said(root),
  ...(await root.evaluate((node) => {
    const texts = (where, selector) => [...where.querySelectorAll(selector)].map((one) => one.textContent);
    const units = [...node.querySelectorAll("[data-unit]")];
    const cells = (matrix) =>
      [...matrix.querySelectorAll("svg > g")].map((g) => g.querySelector("text")?.textContent || "");
    const bold = (matrix, kind) =>
      [...matrix.querySelectorAll("svg > g")].flatMap((g, n) => (g.classList.contains(kind) ? [n] : []));
    const matrices = [...node.querySelectorAll("[data-matrix]")].map((one) => [one.dataset.matrix, one]);
    const lit = (selector) => node.querySelectorAll(selector).length;
    return {
      order: texts(node, ".nx-xray-chip").map((text) => Number("₀₁₂₃₄₅₆₇₈".indexOf(text.at(-1)))),
      matrices: Object.fromEntries(matrices.map(([id, one]) => [id, cells(one)])),
      leaks: Object.fromEntries(matrices.map(([id, one]) => [id, bold(one, "nx-xray-leak")])),
      lost: matrices.filter(([id]) => id === "N").flatMap(([, one]) => bold(one, "nx-xray-lost")),
      degrees: [...node.querySelectorAll(".nx-xray-net > .nx-xray-hidden")].map((g) => [
        Number(g.getAttribute("transform").match(/[\d.]+/g)[1]),
        Number(g.textContent),
      ]),
      units: units.map((one) => one.dataset.unit),
      spoken: units.map((one) => one.getAttribute("aria-label")),
      rings: units.filter((one) => one.parentNode.querySelector(".nx-xray-ring")).map((one) => one.dataset.unit),
      faint: units.filter((one) => one.parentNode.classList.contains("nx-xray-faint")).map((one) => one.dataset.unit),
      pressed: units.filter((one) => one.getAttribute("aria-pressed") === "true").map((one) => one.dataset.unit),
      tabs: units.filter((one) => one.tabIndex === 0).map((one) => one.dataset.unit),
      colours: units.map((one) => one.querySelector(".nx-xray-unit").style.stroke),
      edges: lit(".nx-xray-edge"),
      lit: lit(".nx-xray-edge.nx-xray-lit"),
      direct: lit(".nx-xray-direct"),
      idle: lit(".nx-xray-idle"),
      seen: [...node.querySelectorAll(".nx-xray-picture rect")].map((one) => one.style.fill !== "none"),
      reading: node.querySelector(".nx-xray-reading").textContent,
      kind: node.querySelector("select").value,
    };
  })),
});
const slide = (root, n, value) =>
  root.evaluate(
    (node, k, chosen) => {
      const input = node.querySelectorAll("input[type=range]")[k];
      input.value = chosen;
      input.dispatchEvent(new Event("input"));
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
const check = async (root, n) => (await root.$$("input[type=checkbox]"))[n].click();
const sort = async (root, n) => (await root.$$("input[type=radio]"))[n].click();
const focus = (root, unit) => root.$eval('[data-unit="' + unit + '"]', (node) => node.focus());
const middle = async (node) => {
  await node.evaluate((one) => one.scrollIntoView({ block: "center" }));
  const box = await node.boundingBox();
  return [box.x + box.width / 2, box.y + box.height / 2];
};
const cell = async (root, id, n) => (await root.$$('[data-matrix="' + id + '"] svg > g'))[n];

/* Sizes, orderings and degrees of every kind: what the page then says is held against nemlib. */
const SETUPS = [
  { D: 6, widths: [7, 0], order: "natural", degrees: "even" },
  { D: 8, widths: [3, 0], order: "reversed", degrees: "even" },
  { D: 8, widths: [10, 10], order: "columns", degrees: "even", direct: true },
  { D: 6, widths: [4, 0], order: "random", degrees: "uniform", seed: 5 },
  { D: 7, widths: [4, 3], order: "random", degrees: "uniform", seed: 12, planted: true },
  { D: 5, widths: [2, 0], order: "random", degrees: "uniform", seed: 40, direct: true, planted: true },
  { D: 2, widths: [1, 1], order: "reversed", degrees: "uniform" },
  { D: 2, widths: [1, 0], order: "natural", degrees: "even", planted: true },
];
async function setUp(root, { D, widths, order, degrees, seed = 1, direct = false, planted = false }) {
  await slide(root, 0, D);
  await slide(root, 1, widths[0]);
  await slide(root, 2, widths[1]);
  await select(root, 0, order);
  await select(root, 1, degrees);
  await root.evaluate(
    (node, value, boxes) => {
      const field = node.querySelector("input[type=number]");
      field.value = value;
      field.dispatchEvent(new Event("input"));
      node.querySelectorAll("input[type=checkbox]").forEach((box, n) => {
        if (box.checked !== boxes[n]) box.click();
      });
    },
    seed,
    [direct, planted],
  );
}

// The whole of it, or for a figure with a fault the part that would show it.
async function shown(name, whole) {
  const page = await visit(name, { media: CALM });
  const root = await figure(page);
  const seen = { start: await state(root), setups: [] };
  for (const given of whole ? SETUPS : SETUPS.slice(4, 6)) {
    await setUp(root, given);
    seen.setups.push({ given, state: await state(root) });
  }
  await setUp(root, SETUPS[3]);
  seen.hovered = [];
  for (const unit of whole ? ["a1", "a4", "x2", "x6"] : ["a4", "x2"]) {
    await page.mouse.move(...(await middle(await root.$('[data-unit="' + unit + '"]'))));
    seen.hovered.push([unit, await state(root)]);
  }
  await page.mouse.move(2, 2);
  seen.left = await state(root);
  const pairs = seen.left.order.flatMap((d, r) => seen.left.order.map((i, c) => [d, i, 6 * r + c]));
  seen.pairs = [];
  for (const [d, i, n] of pairs.filter((_, k) => whole && k % 5 === 1)) {
    await page.mouse.move(...(await middle(await cell(root, "N", n))));
    seen.pairs.push([d, i, await state(root)]);
  }
  await page.mouse.move(2, 2);
  return close(page, seen);
}

/* ---- with keys, and by dragging ---- */
async function hands() {
  const page = await visit("xray.html", { media: CALM });
  const root = await figure(page);
  const seen = {};
  await focus(root, "a4");
  seen.focused = await state(root);
  await page.keyboard.press("ArrowRight");
  seen.right = await state(root);
  await page.keyboard.press("ArrowDown");
  seen.down = await state(root);
  await page.keyboard.press("Home");
  seen.home = await state(root);
  await page.keyboard.press("Escape");
  seen.escaped = await state(root);
  await root.$eval('[data-matrix="N"] svg', (node) => node.focus());
  for (const key of ["ArrowDown", "ArrowDown", "ArrowDown", "ArrowRight"]) await page.keyboard.press(key);
  seen.walked = await state(root);
  await page.keyboard.press("Escape");
  await (await cell(root, "J", 6 * 4 + 2)).click();
  await page.mouse.move(2, 2);
  seen.clicked = await state(root);

  const chips = await root.$$(".nx-xray-chip");
  await chips[0].focus();
  for (const key of ["ArrowRight", "ArrowRight"]) await page.keyboard.press(key);
  seen.moved = await state(root);
  seen.stays = await page.evaluate(() => document.activeElement.textContent);
  await page.keyboard.press("End");
  seen.last = await state(root);
  const [from, to] = [await middle(chips[4]), await middle(chips[1])];
  await page.mouse.move(...from);
  await page.mouse.down();
  await page.mouse.move(...to, { steps: 5 });
  await page.mouse.up();
  await page.mouse.move(2, 2);
  seen.dragged = await state(root);
  await slide(root, 0, 4);
  seen.fewer = await state(root);
  await slide(root, 0, 7);
  seen.more = await state(root);
  await sort(root, 1);
  seen.sorted = await state(root);
  await sort(root, 0);
  await select(root, 0, "random");
  seen.first = await state(root);
  await press(root, "Next seed");
  seen.second = await state(root);
  await page.$eval("input[type=number]", (node) => {
    node.value = "1e9";
    node.dispatchEvent(new Event("input"));
    node.dispatchEvent(new Event("change"));
  });
  seen.number = await page.$eval("input[type=number]", (node) => node.value);
  await shot(page, "made-xray-hands");
  return close(page, seen);
}

/* ---- where it stands, how it looks ---- */
async function phone() {
  const page = await visit("two.html", { width: 360, height: 740, touch: true, scheme: "dark", media: CALM });
  const [first, second] = await page.$$(".nx-figure");
  const seen = {
    width: await page.evaluate(() => document.documentElement.scrollWidth),
    theme: await first.evaluate((node) => node.dataset.nxTheme),
  };
  const chips = await first.$$(".nx-xray-chip");
  const to = await middle(chips[3]);
  const from = await middle(chips[0]);
  await page.touchscreen.touchStart(...from);
  await page.touchscreen.touchMove(from[0] + 20, from[1]);
  await page.touchscreen.touchMove(to[0], from[1]);
  await page.touchscreen.touchEnd();
  seen.dragged = (await state(first)).order;
  const unit = await first.$('[data-unit="a6"]');
  seen.tapped = await reach(async () => {
    await page.touchscreen.tap(...(await middle(unit)));
    return (await state(first)).pressed.join() === "a6";
  }, 3000);
  await setUp(second, { ...SETUPS[2], planted: true });
  seen.inside = await page.$$eval(".nx-figure", (nodes) =>
    nodes.map((node) =>
      [...node.querySelectorAll(".nx-live :is(text, circle, p, input, select, button, label)")].every((one) => {
        const { right, left, width } = one.getBoundingClientRect();
        return width === 0 || one.closest(".nx-hidden") || (left >= 0 && right <= innerWidth);
      }),
    ),
  );
  seen.small = await page.$$eval(
    ".nx-live :is(button, .nx-xray-pixel)",
    (nodes) => nodes.filter((n) => n.getBoundingClientRect().height < 24).length,
  );
  seen.crowded = await second.$$eval(".nx-xray-net > g[transform]", (nodes) => {
    const boxes = nodes.map((node) => node.querySelector(".nx-xray-unit").getBoundingClientRect());
    return boxes.some((a, n) =>
      boxes.some((b, k) => k > n && Math.hypot(a.x - b.x, a.y - b.y) < (a.width + b.width) / 2),
    );
  });
  await shot(page, "made-xray-phone-dark");
  seen.violations = await violations(page);
  return close(page, seen);
}

async function looks() {
  const page = await visit("two.html", { media: CALM });
  const root = await figure(page);
  const colours = () =>
    root.$$eval(".nx-xray-unit", (nodes) => [...new Set(nodes.map((node) => getComputedStyle(node).stroke))]);
  await check(root, 1);
  const seen = { light: await colours() };
  await shot(page, "made-xray-light");
  seen.violations = await violations(page);
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "dark" }, ...CALM]);
  await wait(60);
  seen.dark = await colours();
  await shot(page, "made-xray-dark");
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

const seen = {};
const record = async (name, scenario) => {
  try {
    seen[name] = await scenario();
  } catch (error) {
    seen[name] = { error: String(error.stack || error) };
  }
};
for (const name of readdirSync(process.argv[3]).filter((one) => /^(xray|mutant-\d+)\.html$/.test(one)))
  await record(name.replace(".html", ""), () => shown(name, name === "xray.html"));
for (const scenario of [hands, phone, looks]) await record(scenario.name, scenario);
await browser.close();
process.stdout.write(JSON.stringify(seen));
