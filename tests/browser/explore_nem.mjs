/* Presses, drags, draws and types in the figures of chapter 8 as a reader does, in a browser without a network.
     node explore_nem.mjs CHROME PAGES [SHOTS]   → JSON: one record of what was seen for each scenario
   PAGES holds the pages that tests/test_explore_neural_em.py wrote. */
import { wait } from "./chromium.mjs";
import {
  CALM,
  browser,
  button,
  choose,
  close,
  facts,
  figure,
  press,
  reach,
  said,
  shot,
  violations,
  visit,
  words,
} from "./figures.mjs";

const middle = async (handle) => {
  const box = await handle.boundingBox();
  return [box.x + box.width / 2, box.y + box.height / 2];
};
async function drag(page, handle, dx, dy) {
  const [x, y] = await middle(handle);
  await page.mouse.move(x, y);
  await page.mouse.down();
  await page.mouse.move(x + dx, y + dy, { steps: 5 });
  await page.mouse.up();
}

/* ---- EM for a Gaussian mixture ---- */
async function mixture() {
  const page = await visit("mixture.html", { media: CALM });
  const root = await figure(page);
  const look = async () => ({ ...(await facts(root)), words: await words(root) });
  const seen = { start: await look() };
  await (await button(root, "E-step")).focus();
  await page.keyboard.press("Enter");
  seen.e = { ...(await look()), said: await said(root) };
  await press(root, "M-step");
  seen.m = await look();
  await press(root, "M-step");
  seen.again = await look();
  await press(root, "E + M");
  seen.both = await look();

  await press(root, "E-step");
  const marker = await root.$(".nx-along");
  await marker.evaluate((node) => node.focus());
  for (let k = 0; k < 3; k += 1) await page.keyboard.press("ArrowRight");
  seen.part = {
    ...(await look()),
    value: await marker.evaluate((node) => node.getAttribute("aria-valuetext")),
  };
  await page.keyboard.press("Home");
  await drag(page, marker, 60, 0);
  await shot(page, "mixture-part");
  seen.draggedPart = await look();

  const mean = (await root.$$(".nx-mean"))[0];
  const place = () => mean.evaluate((node) => node.getAttribute("aria-valuetext"));
  seen.mean = { before: await place() };
  await drag(page, mean, 40, -50);
  seen.mean.dragged = await place();
  seen.moved = await look();
  await page.keyboard.press("ArrowLeft");
  seen.mean.keyed = await place();
  const looked = await root.$(".nx-looking");
  await looked.evaluate((node) => node.focus());
  const first = await looked.evaluate((node) => node.getAttribute("aria-valuetext"));
  await page.keyboard.press("ArrowRight");
  seen.probe = [first, await looked.evaluate((node) => node.getAttribute("aria-valuetext"))];

  await press(root, "Symmetric start");
  await press(root, "Run");
  seen.stuckStops = await reach(
    async () => (await root.$eval(".nx-primary", (n) => n.textContent)) === "Run",
  );
  seen.stuck = await look();
  await (await root.$(".nx-mean")).evaluate((node) => node.focus());
  await page.keyboard.press("ArrowRight");
  seen.nudged = await look();
  await press(root, "Run");
  await reach(async () => (await words(root)).startsWith("Converged"), 20000);
  seen.freed = await look();
  await (await root.$$("input[type=radio]"))[2].click();
  seen.four = (await root.$$(".nx-mean:not(.nx-along)")).length;
  await (await root.$$("input[type=radio]"))[1].click();
  await press(root, "Run");
  seen.converges = await reach(async () => (await words(root)).startsWith("Converged"), 20000);
  seen.end = await look();
  await shot(page, "mixture-converged");
  seen.ids = await page.evaluate(() => {
    const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
    return ids.filter((id, i) => ids.indexOf(id) !== i);
  });
  return close(page, seen);
}

// With motion: a step shows states between, and ends where it ends without.
async function motion() {
  const page = await visit("mixture.html");
  const root = await figure(page);
  await press(root, "E-step");
  const seen = {
    between: await reach(async () => {
      const { "Bound ℒ": bound, "Log-likelihood": likelihood } = await facts(root);
      return Number(bound) === Number(likelihood);
    }),
  };
  const at = () => root.$eval(".nx-along", (node) => node.getAttribute("transform"));
  await press(root, "M-step");
  const places = new Set();
  for (let k = 0; k < 12; k += 1) {
    places.add(await at());
    await wait(40);
  }
  seen.places = places.size;
  seen.ended = await reach(async () => (await words(root)).startsWith("M-step"));
  await wait(700);
  seen.m = await facts(root);
  await press(root, "Run");
  await wait(300);
  await press(root, "Pause");
  seen.paused = await words(root);
  return close(page, seen);
}

/* ---- RNN-EM on a drawing ---- */
const pixels = (root) =>
  root.$eval(".nx-canvas", (canvas) => {
    const { data, width } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const cell = width / 28;
    return Array.from({ length: 784 }, (_, i) => {
      const at = 4 * ((Math.floor(i / 28) + 0.5) * cell * width + ((i % 28) + 0.5) * cell);
      return [...data.slice(at - (at % 4), at - (at % 4) + 3)].join();
    });
  });
const shares = (root) => root.$$eval(".nx-share", (nodes) => nodes.map((node) => node.textContent));
const spot = async (root, row, column) => {
  const box = await (await root.$(".nx-canvas")).boundingBox();
  return [box.x + ((column + 0.5) * box.width) / 28, box.y + ((row + 0.5) * box.height) / 28];
};
const clickAt = async (page, root, row, column) => page.mouse.click(...(await spot(root, row, column)));

async function drawing() {
  const page = await visit("shapes.html", { media: CALM });
  const root = await figure(page);
  const look = async () => ({ ...(await facts(root)), words: await words(root), shares: await shares(root) });
  const seen = { start: await look() };
  const confetti = await pixels(root);
  await (await button(root, "Step")).focus();
  await page.keyboard.press("Enter");
  seen.one = { ...(await look()), said: await said(root) };
  seen.recoloured = (await pixels(root)).filter((colour, i) => colour !== confetti[i]).length;
  await press(root, "Run 15");
  await reach(async () => (await facts(root))["Step"] === "16");
  seen.run = await look();
  await press(root, "Back");
  seen.back = (await facts(root))["Step"];
  await press(root, "Reset");
  seen.reset = { ...(await look()), same: (await pixels(root)).join() === confetti.join() };
  await press(root, "Another start");
  seen.another = (await pixels(root)).join() !== confetti.join();

  await choose(root, 1, "uniform");
  await press(root, "Run 15");
  await reach(async () => (await facts(root))["Step"] === "15");
  seen.uniform = { ...(await look()), colours: new Set(await pixels(root)).size };
  await choose(root, 1, "painted");
  seen.brushes = await root.$$eval("button[aria-pressed]", (nodes) => nodes.length);
  await press(root, "2");
  await page.mouse.move(...(await spot(root, 5, 5)));
  await page.mouse.down();
  await page.mouse.move(...(await spot(root, 9, 9)), { steps: 4 });
  await page.mouse.up();
  await page.mouse.move(2, 2);
  seen.painted = { ...(await look()), colours: new Set(await pixels(root)).size };
  await press(root, "Step");
  seen.broken = await shares(root);
  await choose(root, 1, "random");

  for (const k of ["1", "6"]) {
    await choose(root, 0, k);
    await press(root, "Step");
    seen["k" + k] = await look();
  }
  await choose(root, 0, "4");
  return close(page, seen);
}

async function tools() {
  const page = await visit("shapes.html", { media: CALM });
  const root = await figure(page);
  const look = async () => ({ ...(await facts(root)), words: await words(root) });
  const ink = async () => {
    await choose(root, 0, "1");
    const all = (await shares(root))[0];
    await choose(root, 0, "4");
    return Number(all.split(" ")[0]);
  };
  const seen = {};
  await press(root, "Clear");
  seen.empty = {
    ...(await look()),
    off: await root.$$eval("button:disabled", (nodes) => nodes.map((n) => n.textContent)),
  };
  await clickAt(page, root, 5, 5);
  seen.square = await ink();
  await press(root, "▲");
  await clickAt(page, root, 0, 27); // kept inside the canvas
  seen.two = await ink();
  await press(root, "Step");
  seen.scored = await look();
  const canvas = await root.$(".nx-canvas");
  await press(root, "▼");
  await canvas.focus();
  await page.keyboard.press("ArrowDown");
  const from = await root.$eval(".nx-reading", (node) => node.textContent);
  await page.keyboard.press("ArrowLeft");
  await page.keyboard.down("Shift");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.up("Shift");
  seen.moves = [from, await said(root)];
  await page.keyboard.press("Enter");
  seen.three = await ink();
  await press(root, "■");
  await clickAt(page, root, 20, 24);
  await clickAt(page, root, 23, 4);
  seen.five = await ink();
  await clickAt(page, root, 12, 22);
  seen.six = { words: await words(root), ink: await ink() };
  await press(root, "Undo");
  seen.undone = await ink();
  await press(root, "Pen");
  await page.mouse.move(...(await spot(root, 2, 12)));
  await page.mouse.down();
  await page.mouse.move(...(await spot(root, 2, 18)), { steps: 3 });
  await page.mouse.up();
  seen.pen = { ink: await ink() };
  await press(root, "Step");
  Object.assign(seen.pen, await look(), {
    remark: await root.$$eval(".nx-facts > div", (nodes) => nodes[2].lastChild.textContent),
  });
  await press(root, "Eraser");
  await page.mouse.move(...(await spot(root, 2, 12)));
  await page.mouse.down();
  await page.mouse.move(...(await spot(root, 2, 19)), { steps: 3 });
  await page.mouse.up();
  await press(root, "Step");
  seen.erased = await look();
  await press(root, "Random image");
  seen.random = { said: await said(root), ink: await ink() };
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
  await (await button(first, "E-step")).tap();
  seen.tapped = await reach(async () => (await words(first)).startsWith("E-step"));
  const mean = await first.$(".nx-mean");
  await mean.scrollIntoView();
  const was = await mean.evaluate((node) => node.getAttribute("aria-valuetext"));
  const [x, y] = await middle(mean);
  await page.touchscreen.touchStart(x, y);
  await page.touchscreen.touchMove(x + 30, y - 30);
  await page.touchscreen.touchEnd();
  seen.touched = was !== (await mean.evaluate((node) => node.getAttribute("aria-valuetext")));
  await (await button(second, "Clear")).tap();
  await (await second.$(".nx-canvas")).scrollIntoView();
  await page.touchscreen.tap(...(await spot(second, 14, 14)));
  seen.stamped = !(await words(second)).startsWith("The canvas is empty");
  await (await button(second, "Step")).tap();
  seen.stepped = (await facts(second))["Step"];
  seen.small = await page.$$eval(
    ".nx-live button",
    (nodes) => nodes.filter((n) => n.checkVisibility() && n.getBoundingClientRect().height < 24).length,
  );
  await shot(page, "nem-phone-dark");
  seen.violations = await violations(page);
  return close(page, seen);
}

async function looks() {
  const page = await visit("both.html", { media: CALM });
  const roots = await page.$$(".nx-figure");
  for (const label of ["E + M", "E + M", "E-step"]) await press(roots[0], label);
  await press(roots[1], "Step");
  await press(roots[1], "Step");
  const colours = async () => [
    await roots[0].$eval(".nx-point", (node) => node.getAttribute("fill")),
    (await pixels(roots[1]))[0],
  ];
  const seen = { light: await colours() };
  await shot(page, "nem-wide-light");
  seen.violations = await violations(page);
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "dark" }, ...CALM]);
  await wait(60);
  seen.dark = await colours();
  await shot(page, "nem-wide-dark");
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
    click("Run 15");
    insert();
    click("Run 15");
    place.remove();
    await new Promise((done) => setTimeout(done, 300));
    document.body.append(place);
    click("Step");
    click("E-step");
    await new Promise((done) => setTimeout(done, 900));
    return {
      live: place.querySelectorAll(".nx-live").length,
      facts: [...place.querySelectorAll(".nx-facts")].map(
        (one) => one.querySelector(".nx-number").textContent,
      ),
      words: [...place.querySelectorAll(".nx-words")].map((one) => one.textContent),
    };
  });
  return close(page, seen);
}

const seen = {};
for (const scenario of [mixture, motion, drawing, tools, phone, looks, host]) {
  try {
    seen[scenario.name] = await scenario();
  } catch (error) {
    seen[scenario.name] = { error: String(error.stack || error) };
  }
}
await browser.close();
process.stdout.write(JSON.stringify(seen));
