/* Presses, drags, paints and types in the figures of chapter 2 as a reader does, in a browser without a network.
     node explore_rbm.mjs CHROME PAGES [SHOTS]   → JSON: one record of what was seen for each scenario
   PAGES holds the pages that tests/test_explore_rbm.py wrote. */
import { wait } from "./chromium.mjs";
import {
  CALM,
  browser,
  button,
  choose,
  close,
  facts,
  figure,
  look,
  press,
  reach,
  said,
  shot,
  violations,
  visit,
  words,
} from "./figures.mjs";

/* ---- the landscape ---- */
// What the grid shows: the colour of each state, the state of the chain, its visits, both conditionals.
const grid = (root) =>
  root.evaluate((node) => {
    const texts = (name) => [...node.querySelectorAll(name)].map((one) => one.textContent);
    return {
      shades: [...node.querySelectorAll(".nx-state")].map((rect) => Number(rect.style.fillOpacity)),
      state: [...node.querySelectorAll(".nx-node")].map((one) => Number(one.classList.contains("nx-on"))),
      conditionals: texts(".nx-node text:last-child").map(Number),
      visits: texts(".nx-visitcount").map((count) => Number(count.replace(/\D/g, ""))),
      next: texts(".nx-reading")[0],
    };
  });
const weights = (root) =>
  root.$$eval(".nx-weight", (nodes) => nodes.map((node) => Number(node.getAttribute("aria-valuenow"))));

async function landscape() {
  const page = await visit("landscape.html", { media: CALM });
  const root = await figure(page);
  const seen = { first: await look(root), firstGrid: await grid(root), pressed: {} };
  for (const name of ["No edges", "One feature", "Two modes far apart"]) {
    await press(root, name);
    seen.pressed[name] = { ...(await look(root)), ...(await grid(root)), weights: await weights(root) };
  }
  await press(root, "Run");
  seen.runs = await reach(async () => (await grid(root)).visits.reduce((a, b) => a + b) >= 20);
  await press(root, "Pause");
  seen.stuck = { ...(await look(root)), ...(await grid(root)) };
  await (await root.$$("input[type=radio]"))[1].click();
  seen.energy = await grid(root);
  await (await root.$$("input[type=radio]"))[0].click();
  await choose(root, 0, "fast");
  await press(root, "Run");
  seen.crosses = await reach(async () => {
    const { visits } = await grid(root);
    return visits[0] > 0 && visits[15] > 0;
  }, 20000);
  await press(root, "Pause");

  await press(root, "One feature");
  await (await button(root, "Half a sweep")).focus();
  await page.keyboard.press("Enter");
  seen.half = { ...(await grid(root)), said: await said(root) };
  await press(root, "Half a sweep");
  seen.whole = { ...(await grid(root)), said: await said(root), words: await words(root) };
  await press(root, "Sweep");
  seen.two = await grid(root);
  await press(root, "Reset");
  seen.reset = await grid(root);
  return close(page, seen);
}

async function editing() {
  const page = await visit("landscape.html", { media: CALM });
  const root = await figure(page);
  const seen = {};
  await press(root, "No edges");
  const fields = await root.$$(".nx-weight");
  await fields[0].focus();
  for (const key of ["ArrowUp", "ArrowUp", "PageUp", "ArrowRight", "End"]) await page.keyboard.press(key);
  seen.keyed = { weights: await weights(root), ...(await look(root)), ...(await grid(root)) };
  seen.pressed = await root.$$eval("button[aria-pressed=true]", (nodes) => nodes.length);
  const box = await fields[5].boundingBox();
  await page.mouse.move(box.x + 10, box.y + 10);
  await page.mouse.down();
  await page.mouse.move(box.x + 10, box.y - 38, { steps: 4 });
  await page.mouse.up();
  seen.dragged = { weights: await weights(root), said: await said(root) };
  const slider = await root.$("input[type=range]");
  await slider.focus();
  await page.keyboard.press("ArrowLeft");
  seen.slid = await weights(root);
  // An edge of the graph leads to its weight: W₄₃ is the last edge.
  await (
    await root.$$(".nx-edgegrip")
  )
    .at(-1)
    .evaluate((node) => node.dispatchEvent(new MouseEvent("click")));
  seen.edge = await root.$eval(".nx-slider label", (node) => node.textContent);
  seen.sliderShows = await slider.evaluate((node) => Number(node.value));

  const svg = await root.$(".nx-grid");
  await svg.evaluate((node) => node.scrollIntoView({ block: "center" }));
  const middle = async (at) => {
    const one = await (await root.$$(".nx-state"))[at].boundingBox();
    return [one.x + one.width / 2, one.y + one.height / 2];
  };
  await page.mouse.click(...(await middle(8 * 9 + 6)));
  seen.clicked = { ...(await grid(root)), ...(await look(root)) };
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowLeft");
  seen.moved = { ...(await grid(root)), said: await said(root) };
  for (let k = 0; k < 9; k += 1) await page.keyboard.press("ArrowRight");
  seen.corner = await grid(root);
  await (await root.$$(".nx-node"))[3].click();
  seen.turned = await grid(root);
  seen.ids = await page.evaluate(() => {
    const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
    return ids.filter((id, i) => ids.indexOf(id) !== i);
  });
  await shot(page, "rbm-landscape-edited");
  return close(page, seen);
}

// With motion a sweep is seen as two moves, and whatever the reader does next finds both done.
async function motion() {
  const page = await visit("landscape.html");
  const root = await figure(page);
  const seen = { between: [] };
  await press(root, "Sweep");
  seen.done = await reach(async () => (await grid(root)).visits.reduce((a, b) => a + b) === 1);
  await press(root, "Sweep");
  await press(root, "Sweep");
  await press(root, "Run");
  await press(root, "Pause");
  seen.visits = (await grid(root)).visits.reduce((a, b) => a + b);
  return close(page, seen);
}

/* ---- the machine ---- */
const HEIGHT = 12,
  WIDTH = 10; // of the images of the page under test
const pixels = (root) =>
  root.$eval(
    ".nx-canvas",
    (canvas, height, width) => {
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      const cell = canvas.width / width;
      return Array.from({ length: height * width }, (_, i) => {
        const [y, x] = [
          Math.floor((Math.floor(i / width) + 0.5) * cell),
          Math.floor(((i % width) + 0.5) * cell),
        ];
        const at = 4 * (y * canvas.width + x);
        return [...data.slice(at, at + 3)].join();
      });
    },
    HEIGHT,
    WIDTH,
  );
const picture = (root, n) =>
  root.evaluate((node, index) => {
    const canvas = node.querySelectorAll(".nx-small")[index];
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return Array.from({ length: canvas.width * canvas.height }, (_, i) =>
      [...data.slice(4 * i, 4 * i + 3)].join(),
    );
  }, n);
const captions = (root) =>
  root.$$eval(".nx-smallbox > span", (nodes) => nodes.map((node) => node.textContent));
const spot = async (root, row, column, name = ".nx-canvas", [height, width] = [HEIGHT, WIDTH]) => {
  const box = await (await root.$(name)).boundingBox();
  return [box.x + ((column + 0.5) * box.width) / width, box.y + ((row + 0.5) * box.height) / height];
};
const held = (root) => root.$eval("input[type=checkbox]", (node) => node.checked);
async function stroke(page, root, from, to) {
  await page.mouse.move(...(await spot(root, ...from)));
  await page.mouse.down();
  await page.mouse.move(...(await spot(root, ...to)), { steps: 4 });
  await page.mouse.up();
  await page.mouse.move(2, 2);
}

async function machine() {
  const page = await visit("machine.html", { media: CALM });
  const root = await figure(page);
  const all = async () => ({
    ...(await look(root)),
    pixels: await pixels(root),
    captions: await captions(root),
  });
  const seen = { start: await all(), reading: await root.$eval(".nx-reading", (node) => node.textContent) };
  await (await button(root, "One sweep")).focus();
  await page.keyboard.press("Enter");
  seen.one = {
    ...(await all()),
    said: await said(root),
    belief: await picture(root, 1),
    mean: await picture(root, 2),
  };
  await press(root, "One sweep");
  seen.two = { ...(await all()), mean: await picture(root, 2) };
  await (await root.$$(".nx-facebutton"))[1].click();
  seen.second = { ...(await all()), held: await held(root) };
  await press(root, "Noise");
  seen.noise = await all();
  await (await root.$$(".nx-facebutton"))[0].click();
  await press(root, "Erase lower half");
  seen.erased = { ...(await all()), held: await held(root) };
  await choose(root, 0, "fast");
  await press(root, "Run");
  seen.runs = await reach(async () => Number((await facts(root)).Sweeps.replace(/\D/g, "")) >= 100);
  await press(root, "Pause");
  seen.filled = { ...(await all()), said: await said(root), mean: await picture(root, 2) };
  await shot(page, "rbm-machine-filled");
  await press(root, "Restart mean");
  seen.anew = await captions(root);
  await press(root, "Erase left half");
  seen.left = await all();
  await press(root, "Restore");
  seen.restored = { ...(await all()), held: await held(root) };
  await (await root.$("input[type=checkbox]")).click();
  seen.nothing = await words(root);
  return close(page, seen);
}

async function painting() {
  const page = await visit("machine.html", { media: CALM });
  const root = await figure(page);
  const seen = { start: await pixels(root) };
  await stroke(page, root, [9, 1], [9, 8]);
  seen.ink = { pixels: await pixels(root), ...(await look(root)) };
  await press(root, "Paper");
  await stroke(page, root, [9, 4], [9, 8]);
  seen.paper = { pixels: await pixels(root), ...(await look(root)) };
  await press(root, "Unknown");
  await stroke(page, root, [2, 2], [2, 6]);
  seen.unknown = { pixels: await pixels(root), held: await held(root), ...(await look(root)) };
  await press(root, "One sweep");
  seen.swept = await pixels(root);

  await press(root, "Ink");
  const canvas = await root.$(".nx-canvas");
  await canvas.focus();
  await page.keyboard.press("ArrowDown");
  seen.from = await said(root);
  await page.keyboard.down("Shift");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.up("Shift");
  await page.keyboard.press("ArrowLeft");
  seen.to = await said(root);
  await page.keyboard.press("Enter");
  seen.keyed = await pixels(root);

  const units = await root.$(".nx-hiddenunits");
  await units.focus();
  await page.keyboard.press("Home");
  seen.units = [
    await units.evaluate((node) => node.getAttribute("aria-valuetext")),
    (await captions(root))[0],
  ];
  const filter = await picture(root, 0);
  await page.keyboard.press("ArrowRight");
  seen.units.push((await captions(root))[0]);
  await page.keyboard.press("End");
  seen.units.push((await captions(root))[0]);
  await page.mouse.move(...(await spot(root, 0, 0, ".nx-hiddenunits", [2, 4])));
  seen.hovered = (await captions(root))[0];
  seen.sameFilter = filter.join() === (await picture(root, 0)).join();
  return close(page, seen);
}

/* ---- where it stands, how it looks ---- */
async function phone() {
  const page = await visit("both.html", { width: 360, height: 740, touch: true, scheme: "dark" });
  const [first, second] = await page.$$(".nx-figure");
  const seen = {
    width: await page.evaluate(() => document.documentElement.scrollWidth),
    theme: await page.$$eval(".nx-figure", (nodes) => nodes.map((node) => node.dataset.nxTheme)),
  };
  await (await button(first, "No edges")).tap();
  const field = (await first.$$(".nx-weight"))[0];
  await field.scrollIntoView();
  const box = await field.boundingBox();
  const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
  await page.touchscreen.touchStart(x, y);
  await page.touchscreen.touchMove(x + 24, y);
  await page.touchscreen.touchEnd();
  seen.dragged = (await weights(first))[0];
  await (await first.$(".nx-grid")).scrollIntoView();
  await (await first.$$(".nx-state"))[9].tap();
  seen.tapped = (await grid(first)).state;
  await (await button(second, "Erase lower half")).tap();
  await (await button(second, "One sweep")).tap();
  seen.sweeps = (await facts(second)).Sweeps;
  await (await second.$(".nx-canvas")).scrollIntoView();
  const before = await pixels(second);
  await page.touchscreen.tap(...(await spot(second, 6, 5)));
  seen.painted = before.join() !== (await pixels(second)).join();
  seen.small = await page.$$eval(
    ".nx-live button",
    (nodes) => nodes.filter((n) => n.checkVisibility() && n.getBoundingClientRect().height < 24).length,
  );
  await shot(page, "rbm-phone-dark");
  seen.violations = await violations(page);
  return close(page, seen);
}

async function looks() {
  const page = await visit("both.html", { media: CALM });
  const roots = await page.$$(".nx-figure");
  await press(roots[0], "Sweep");
  await press(roots[1], "Erase left half");
  await press(roots[1], "One sweep");
  const colours = async () => [
    await roots[0].$eval(".nx-state", (node) => getComputedStyle(node).fill),
    (await pixels(roots[1])).at(-1),
    (await picture(roots[1], 0))[0],
  ];
  const seen = { light: await colours() };
  await shot(page, "rbm-wide-light");
  seen.violations = await violations(page);
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "dark" }, ...CALM]);
  await wait(60);
  seen.dark = await colours();
  await shot(page, "rbm-wide-dark");
  seen.violationsDark = await violations(page);
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
    click("Run");
    insert();
    click("Run");
    place.remove();
    await new Promise((done) => setTimeout(done, 300));
    document.body.append(place);
    insert();
    click("One sweep");
    click("Half a sweep");
    return {
      live: place.querySelectorAll(".nx-live").length,
      sweeps: place.querySelectorAll(".nx-facts")[1].querySelector(".nx-number").textContent,
      next: place.querySelector(".nx-reading").textContent,
    };
  });
  return close(page, seen);
}

const seen = {};
for (const scenario of [landscape, editing, motion, machine, painting, phone, looks, host]) {
  try {
    seen[scenario.name] = await scenario();
  } catch (error) {
    seen[scenario.name] = { error: String(error.stack || error) };
  }
}
await browser.close();
process.stdout.write(JSON.stringify(seen));
