// Measures whether everything on a page has room: on a phone, and between two sidebars.
//
//     node tests/browser/layout.mjs settings.json > findings.json
//
// settings: { chrome, page, styles: { name: css, … } }; the page is measured once under each extra style sheet.
// Findings: { name: [{ kind, message }] }, kind one of plot, caption, table, formula, code, keyboard.

import fs from "node:fs";

import { open, wait } from "./chromium.mjs";

const SMALLEST_PLOT = 540; // CSS pixels: below this a plot's words are smaller than 11 pixels
const HIGHEST_ROW = 110; // four lines of words
const CODE_COLUMNS = 88;

function measure({ phone, SMALLEST_PLOT, HIGHEST_ROW, CODE_COLUMNS }) {
  const found = [];
  const report = (kind, message) => found.push({ kind, message: `${innerWidth} px: ${message}` });
  const all = (selector) => [...document.querySelectorAll(selector)].filter((one) => one.checkVisibility());

  all(".bd-article .cell_output figure").forEach((figure) => {
    const picture = figure.querySelector("img");
    const width = picture.getBoundingClientRect().width;
    if (picture.naturalWidth >= SMALLEST_PLOT && width < SMALLEST_PLOT)
      report("plot", `#${figure.id} is ${Math.round(width)} px wide`);
    const caption = figure.querySelector("figcaption");
    if (caption && caption.getBoundingClientRect().right > document.documentElement.clientWidth)
      report("caption", `the caption of #${figure.id} goes beyond the window`);
  });
  all("table.nem-numbers tr").forEach((row) => {
    if (phone && row.offsetHeight > HIGHEST_ROW)
      report("table", `a row is ${row.offsetHeight} px high: ${row.innerText}`);
  });
  all("div.math:has(> .eqno) > mjx-container").forEach((formula) => {
    const number = formula.parentElement.querySelector(".eqno");
    const seen = getComputedStyle(formula).overflowX === "visible" ? formula.scrollWidth : formula.clientWidth;
    if (formula.getBoundingClientRect().left + seen > number.getBoundingClientRect().left)
      report("formula", `a formula runs under its number ${number.innerText}`);
  });
  all(".bd-article .cell_input pre").forEach((code) => {
    const longest = Math.max(...code.textContent.split("\n").map((line) => line.length));
    if (!phone && longest <= CODE_COLUMNS && code.scrollWidth > code.clientWidth)
      report("code", `a cell whose longest line has ${longest} characters scrolls`);
  });
  all(".bd-article :is(mjx-container, pre, .nem-picture, .pst-scrollable-table-container)").forEach((box) => {
    const scrolls = box.scrollWidth > box.clientWidth + 1 && getComputedStyle(box).overflowX === "auto";
    if (scrolls && !(box.tabIndex === 0 && box.getAttribute("aria-label")))
      report("keyboard", `a box that scrolls has no name or no tab stop: ${box.outerHTML.slice(0, 120)}`);
  });
  return found;
}

const settings = JSON.parse(fs.readFileSync(process.argv[2], "utf8"));
const browser = await open(settings.chrome);
const findings = Object.fromEntries(Object.keys(settings.styles).map((name) => [name, []]));
for (const [width, height] of [
  [360, 740],
  [1280, 900],
]) {
  const tab = await browser.newPage();
  await tab.setViewport({ width, height });
  await tab.goto(settings.page, { waitUntil: "load" });
  await tab.evaluate(async () => {
    document.querySelectorAll("img").forEach((image) => {
      image.loading = "eager";
    });
    document.querySelectorAll(".bd-article details").forEach((box) => {
      box.open = true;
    });
    await window.MathJax?.startup?.promise;
    await document.fonts.ready;
    await Promise.all([...document.images].map((image) => image.decode().catch(() => {})));
  });
  for (const [name, css] of Object.entries(settings.styles)) {
    const sheet = await tab.addStyleTag({ content: css || "/* the book's own */" });
    await wait(250);
    const limits = { phone: width < 600, SMALLEST_PLOT, HIGHEST_ROW, CODE_COLUMNS };
    findings[name].push(...(await tab.evaluate(measure, limits)));
    await sheet.evaluate((element) => element.remove());
  }
  await tab.close();
}
await browser.close();
process.stdout.write(JSON.stringify(findings));
