/* Drags, presses and types in the figures of chapter 3 as a reader does, in a browser without a network.
     node explore_autoencoder.mjs CHROME PAGES [SHOTS]   → JSON: one record of what was seen for each scenario
   PAGES holds the pages that tests/test_explore_autoencoder.py wrote, and places.json, where digits are seen first. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
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

const places = JSON.parse(readFileSync(join(process.argv[3], "places.json"), "utf8"));

const number = (text) => Number(text.replace("−", "-"));
const radio = async (root, n) => (await root.$$("input[type=radio]"))[n].click();
const pixels = (root, name, n = 0) =>
  root.evaluate(
    (node, selector, index) => {
      const canvas = node.querySelectorAll(selector)[index];
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      return Array.from({ length: canvas.width * canvas.height }, (_, i) => data[4 * i]);
    },
    name,
    n,
  );
async function drag(page, from, to) {
  await page.mouse.move(...from);
  await page.mouse.down();
  await page.mouse.move((from[0] + to[0]) / 2, (from[1] + to[1]) / 2, { steps: 3 });
  await page.mouse.move(...to);
  await page.mouse.up();
}

/* ---- the cloud ---- */
const at = async (root) => ({
  ...(await look(root)),
  z: (await root.$$eval(".nx-cursorsliders output", (nodes) => nodes.map((node) => node.textContent))).map(number),
  captions: await root.$$eval(".nx-facebox > span", (nodes) => nodes.map((node) => node.textContent)),
  made: await pixels(root, ".nx-face"),
  known: await pixels(root, ".nx-face", 1),
  again: await pixels(root, ".nx-face", 2),
  part: await root.$eval(".nx-linebar input", (node) => Number(node.value)),
  ends: await root.$$eval("select", (nodes) => nodes.map((node) => node.value)),
});
// What the canvas looks like, as a short word that changes with it.
const print = (root) =>
  root.$eval(".nx-space", (canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let sum = 0;
    for (let i = 0; i < data.length; i += 1) sum = (31 * sum + data[i]) % 1000003;
    return sum;
  });
// Where a place of the space, in shares of the canvas, is on the page.
async function spot(root, [x, y]) {
  const canvas = await root.$(".nx-space");
  await canvas.evaluate((node) => node.scrollIntoView({ block: "center" }));
  const box = await canvas.boundingBox();
  return [box.x + x * box.width, box.y + y * box.height];
}
const seenSide = (root) => root.$eval(".nx-space", (node) => node.getBoundingClientRect().width);

async function cloud() {
  const page = await visit("cloud.html", { media: CALM });
  const root = await figure(page);
  const seen = { start: await at(root), strip: await pixels(root, ".nx-linestrip"), side: await seenSide(root) };
  seen.headings = await root.$$eval(".nx-heading", (nodes) => nodes.map((node) => node.textContent));

  await page.mouse.move(...(await spot(root, places.alone)));
  seen.pointed = await at(root);
  await page.mouse.move(5, 5);
  seen.away = await at(root);
  await page.mouse.click(...(await spot(root, places.alone)));
  seen.clicked = { ...(await at(root)), said: await said(root) };
  const first = await print(root);
  const start = await spot(root, places.alone);
  await drag(page, start, [start[0] + 30, start[1] + 20]);
  seen.dragged = { ...(await at(root)), said: await said(root) };
  const middle = await spot(root, [0.02, 0.5]);
  const before = await print(root);
  await drag(page, middle, [middle[0] + 40, middle[1]]);
  seen.turned = { ...(await at(root)), moved: before !== (await print(root)) && first !== before };

  await press(root, "First view");
  const views = [await print(root)];
  await root.$eval(".nx-space", (node) => node.focus());
  for (const key of ["ArrowLeft", "ArrowUp", "+", "-", "Home"]) {
    await page.keyboard.press(key);
    views.push(await print(root));
  }
  await (await root.$("button[aria-label='Zoom in']")).click();
  views.push(await print(root));
  await (await root.$("button[aria-label='Zoom out']")).click();
  views.push(await print(root));
  await press(root, "Turn");
  views.push(await print(root));
  seen.views = views;
  await press(root, "First view");

  await (await root.$$(".nx-cursorsliders input"))[1].focus();
  await page.keyboard.press("End");
  seen.slid = { ...(await at(root)), said: await said(root) };
  await (await root.$$(".nx-classbutton"))[1].click();
  seen.chosen = { print: await print(root), said: await said(root) };
  await press(root, "Next digit");
  seen.next = await at(root);
  await press(root, "Next digit");
  seen.nextAgain = await at(root);
  await (await root.$$(".nx-classbutton"))[1].click();
  seen.all = { said: await said(root), pressed: await root.$$eval("[aria-pressed=true]", (nodes) => nodes.length) };

  await press(root, "Emptiest place");
  seen.hole = { ...(await at(root)), said: await said(root) };
  await press(root, "Emptiest place");
  seen.secondHole = await at(root);
  await choose(root, 0, "2");
  await choose(root, 1, "0");
  seen.line = await at(root);
  seen.lineStrip = await pixels(root, ".nx-linestrip");
  for (let n = 0; n < 4; n += 1) await press(root, "Walk");
  seen.half = await at(root);
  const strip = await root.$(".nx-linestrip");
  await strip.evaluate((node) => node.scrollIntoView({ block: "center" }));
  const box = await strip.boundingBox();
  await page.mouse.click(box.x + box.width - 5, box.y + 5);
  seen.end = await at(root);
  await press(root, "Next digit");
  const here = await at(root);
  await choose(root, 1, "here");
  for (let n = 0; n < 8; n += 1) await press(root, "Walk");
  seen.here = [here.z, (await at(root)).z];

  await press(root, "Next digit");
  seen.beforePca = await at(root);
  await radio(root, 1);
  seen.pca = { ...(await at(root)), said: await said(root) };
  seen.pcaStrip = await pixels(root, ".nx-linestrip");
  await shot(page, "ae-cloud-pca");
  return close(page, seen);
}

/* ---- the line ---- */
const state = (root) =>
  root.evaluate((node) => {
    const rect = (name) =>
      ["x", "width"].map((one) => Number(node.querySelector(name).getAttribute(one)));
    const spots = (name) =>
      [...node.querySelectorAll(name)].map((one) => ["cx", "cy"].map((c) => Number(one.getAttribute(c))));
    return {
      angle: Number(node.querySelector(".nx-turned").getAttribute("aria-valuenow")),
      scale: node.querySelectorAll("output")[1].textContent,
      kept: rect(".nx-kept-part"),
      lost: rect(".nx-lost-part"),
      sum: node.querySelector(".nx-turned-sum").textContent,
      feet: spots(".nx-foot"),
      handles: spots(".nx-handle"),
      dot: spots(".nx-errordot")[0],
      ticks: [...node.querySelectorAll(".nx-turned-ticks text")].map((one) => one.textContent),
    };
  });
const all = async (root) => ({ ...(await look(root)), ...(await state(root)), said: await said(root) });

async function line() {
  const page = await visit("linear.html", { media: CALM });
  const root = await figure(page);
  const seen = { start: await all(root) };
  await press(root, "Best line");
  seen.best = await all(root);
  await press(root, "Second component");
  seen.second = await all(root);
  await root.$eval(".nx-turned", (node) => node.focus());
  const keys = { up: "ArrowUp", down: "ArrowDown" };
  for (const [name, key] of Object.entries(keys)) {
    await page.keyboard.press(key);
    seen[name] = (await state(root)).angle;
  }
  await page.keyboard.down("Shift");
  for (let n = 0; n < 8; n += 1) await page.keyboard.press("ArrowRight");
  await page.keyboard.up("Shift");
  seen.round = await all(root);
  await (await root.$$("input[type=range]"))[0].focus();
  await page.keyboard.press("Home");
  seen.flat = await all(root);
  await (await root.$$("input[type=range]"))[1].focus();
  for (let n = 0; n < 8; n += 1) await page.keyboard.press("ArrowRight");
  seen.scaled = await all(root);
  const box = await (await root.$(".nx-turned")).boundingBox();
  const on = ([x, y]) => [box.x + x, box.y + y];
  const [left, right] = seen.scaled.handles;
  const centre = [(left[0] + right[0]) / 2, (left[1] + right[1]) / 2];
  await drag(page, on(right), on([centre[0] + 80, centre[1] - 80]));
  seen.dragged = await all(root);
  await shot(page, "ae-linear");
  return close(page, seen);
}

// With motion the cloud turns, the walk walks and the line glides, until the reader stops them or takes hold.
async function motion() {
  const page = await visit("both.html");
  const [first, second] = await page.$$(".nx-figure");
  const seen = {};
  const before = await print(first);
  await press(first, "Turn");
  seen.turns = await reach(async () => (await print(first)) !== before);
  await press(first, "Stop");
  const still = await print(first);
  await wait(120);
  seen.stops = still === (await print(first));
  await press(first, "Walk");
  const part = () => first.$eval(".nx-linebar input", (node) => Number(node.value));
  seen.walks = await reach(async () => (await part()) >= 5);
  await press(first, "Stop");
  seen.between = await part();
  const angle = async () => (await state(second)).angle;
  const from = await angle();
  await press(second, "Best line");
  seen.glides = await reach(async () => (await angle()) !== from);
  seen.arrives = await reach(async () => /first principal/.test((await look(second)).words));
  await press(second, "Second component");
  await second.$eval(".nx-turned", (node) => node.focus());
  await page.keyboard.press("ArrowUp");
  const held = await angle();
  await wait(150);
  seen.stays = held === (await angle());
  return close(page, seen);
}

/* ---- where they stand, how they look ---- */
async function phone() {
  const page = await visit("both.html", { width: 360, height: 740, touch: true, scheme: "dark", media: CALM });
  const [first, second] = await page.$$(".nx-figure");
  const seen = {
    width: await page.evaluate(() => document.documentElement.scrollWidth),
    theme: await page.$$eval(".nx-figure", (nodes) => nodes.map((node) => node.dataset.nxTheme)),
    side: await seenSide(first),
  };
  seen.tapped = await reach(async () => {
    await page.touchscreen.tap(...(await spot(first, places.alone)));
    return (await look(first))["Nearest code"] === "0.00";
  }, 3000);
  seen.caption = (await at(first)).captions[1];
  const before = await print(first);
  const [x, y] = await spot(first, [0.03, 0.5]);
  await page.touchscreen.touchStart(x, y);
  await page.touchscreen.touchMove(x + 10, y);
  await page.touchscreen.touchMove(x + 40, y);
  await page.touchscreen.touchEnd();
  seen.turned = before !== (await print(first));
  await (await second.$(".nx-turned")).evaluate((node) => node.scrollIntoView({ block: "center" }));
  const box = await (await second.$(".nx-turned")).boundingBox();
  const { handles, angle } = await state(second);
  const [hx, hy] = [box.x + handles[1][0], box.y + handles[1][1]];
  await page.touchscreen.touchStart(hx, hy);
  await page.touchscreen.touchMove(hx + 8, hy);
  await page.touchscreen.touchMove(hx + 40, hy);
  await page.touchscreen.touchEnd();
  seen.swung = (await state(second)).angle !== angle;
  seen.small = await page.$$eval(".nx-live button", (nodes) =>
    nodes
      .map((node) => node.getBoundingClientRect())
      .filter(({ width, height }) => Math.min(width, height) < 24).length,
  );
  seen.inside = await page.$$eval(".nx-figure", (nodes) =>
    nodes.map((node) =>
      [...node.querySelectorAll(".nx-live text, .nx-live span, .nx-live output")]
        .filter((one) => !one.closest(".nx-turned-ticks"))
        .every((one) => {
          const { right, left, width } = one.getBoundingClientRect();
          return width === 0 || one.closest(".nx-hidden") || (left >= 0 && right <= innerWidth);
        }),
    ),
  );
  await shot(page, "ae-phone-dark");
  seen.violations = await violations(page);
  return close(page, seen);
}

async function looks() {
  const page = await visit("both.html", { media: CALM });
  const roots = await page.$$(".nx-figure");
  const colours = async () => [
    (await pixels(roots[0], ".nx-linestrip"))[0],
    await print(roots[0]),
    await roots[1].$eval(".nx-dot", (node) => getComputedStyle(node).fill),
  ];
  const seen = { light: await colours() };
  await shot(page, "ae-wide-light");
  seen.violations = await violations(page);
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "dark" }, ...CALM]);
  await wait(60);
  seen.dark = await colours();
  await shot(page, "ae-wide-dark");
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
    for (const label of ["Turn", "Walk", "Best line"]) click(label);
    place.remove();
    await new Promise((done) => setTimeout(done, 300));
    document.body.append(place);
    insert();
    click("Emptiest place");
    return {
      live: place.querySelectorAll(".nx-live").length,
      words: [...place.querySelectorAll(".nx-words")].map((one) => one.textContent),
    };
  });
  return close(page, seen);
}

const seen = {};
for (const scenario of [cloud, line, motion, phone, looks, host]) {
  try {
    seen[scenario.name] = await scenario();
  } catch (error) {
    seen[scenario.name] = { error: String(error.stack || error) };
  }
}
await browser.close();
process.stdout.write(JSON.stringify(seen));
