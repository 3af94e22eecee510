/* Draws, sets and frees pixels in the figure of chapter 6 as a reader does, in a browser without a network.
     node explore_made_pixels.mjs CHROME PAGES [SHOTS]   → JSON: one record of what was seen for each scenario
   PAGES holds the pages that tests/test_explore_made_pixels.py wrote. */
import { wait } from "./chromium.mjs";
import { CALM, browser, choose, close, figure, look, press, reach, said, shot, violations, visit } from "./figures.mjs";

// Facts and words, the colour of every pixel's middle, the bar of the next pixel, and both curves.
const state = async (root) => ({
  ...(await look(root)),
  said: await said(root),
  ...(await root.evaluate((node) => {
    const canvas = node.querySelector(".nx-live .nx-canvas");
    const [height, width] = canvas.getAttribute("aria-label").match(/\d+/g).map(Number);
    const side = canvas.width / width;
    const context = canvas.getContext("2d");
    // Beside the middle, where no frame runs, in what a set pixel to come fills as well.
    const at = (i, part) => [
      ...context
        .getImageData(((i % width) + part) * side, (Math.floor(i / width) + part) * side, 1, 1)
        .data.slice(0, 3),
    ];
    const points = (name) =>
      (node.querySelector(name).getAttribute("d").match(/[\d.]+ [\d.]+/g) || []).map((one) =>
        one.split(" ").map(Number),
      );
    const pixels = Array.from({ length: height * width }, (_, i) => i);
    return {
      canvas: pixels.map((i) => at(i, 0.5)),
      set: pixels.map((i) => at(i, 0.5).join() !== at(i, 0.15).join()),
      remarks: Object.fromEntries(
        [...node.querySelectorAll(".nx-facts > div")].map((one) => [
          one.querySelector(".nx-term").textContent.trim(),
          one.lastElementChild.textContent.replace(/\u202f/g, " "),
        ]),
      ),
      next: node.querySelector(".nx-next").textContent,
      bar: [
        parseFloat(node.querySelector(".nx-filled").style.width) / 100,
        parseFloat(node.querySelector(".nx-needle").style.left) / 100,
      ],
      sum: points(".nx-sumline"),
      beside: points(".nx-besideline"),
    };
  })),
});
const slide = (root, label, value) =>
  root.evaluate(
    (node, name, chosen) => {
      const id = [...node.querySelectorAll("label")].find((one) => one.textContent === name).htmlFor;
      const input = node.querySelector("#" + CSS.escape(id));
      input.value = chosen;
      input.dispatchEvent(new Event("input"));
    },
    label,
    value,
  );
const thumb = async (root, n) => (await root.$$(".nx-facebutton"))[n].click();
const pixelAt = async (root, row, column) => {
  const canvas = await root.$(".nx-live .nx-canvas");
  const [height, width] = await canvas.evaluate((node) =>
    node.getAttribute("aria-label").match(/\d+/g).map(Number),
  );
  await canvas.evaluate((node) => node.scrollIntoView({ block: "center" }));
  const box = await canvas.boundingBox();
  return [box.x + ((column + 0.5) * box.width) / width, box.y + ((row + 0.5) * box.height) / height];
};

async function draw() {
  const page = await visit("pixels.html", { media: CALM });
  const root = await figure(page);
  const seen = { start: await state(root) };
  for (const [name, label] of [
    ["pixel", "Pixel"],
    ["row", "Row"],
    ["more", "Row"],
    ["whole", "Whole digit"],
  ]) {
    await press(root, label);
    seen[name] = await state(root);
  }
  seen.disabled = await root.$$eval("button", (nodes) =>
    nodes.filter((node) => node.disabled).map((node) => node.textContent),
  );
  await press(root, "Start over");
  await press(root, "Whole digit");
  seen.again = await state(root);
  await press(root, "New seed");
  seen.newSeed = (await state(root)).words;
  await press(root, "Whole digit");
  seen.reseeded = await state(root);
  await press(root, "Start over");
  await slide(root, "Temperature", 0);
  await press(root, "Whole digit");
  seen.cold = await state(root);
  return close(page, seen);
}

async function given() {
  const page = await visit("pixels.html", { media: CALM });
  const root = await figure(page);
  const seen = {};
  await thumb(root, 1);
  seen.start = await state(root);
  await press(root, "Six ways to go on");
  seen.ways = await root.evaluate((node) => {
    const faces = [...node.querySelectorAll(".nx-way canvas")];
    return {
      ways: faces.map((face) => {
        const { data } = face.getContext("2d").getImageData(0, 0, face.width, face.height);
        return Array.from({ length: data.length / 4 }, (_, i) => [...data.slice(4 * i, 4 * i + 3)]);
      }),
      captions: [...node.querySelectorAll(".nx-way span")].map((one) => one.textContent),
      words: node.querySelector(".nx-words").textContent,
    };
  });
  await shot(page, "made-pixels-ways");
  seen.choices = await root.$$eval("select", (nodes) => [...nodes[2].options].map((one) => one.textContent));
  for (const name of ["zeros", "nothing", "mean"]) {
    await choose(root, 2, name);
    seen[name] = await state(root);
  }
  await press(root, "Whole digit");
  seen.whole = await state(root);
  await choose(root, 1, "nats");
  seen.nats = await state(root);
  await shot(page, "made-pixels-nats");
  await choose(root, 1, "pixels");
  await slide(root, "Rows given", 5);
  seen.slid = await state(root);
  seen.pressed = await root.$$eval(".nx-bar:first-child button", (nodes) =>
    nodes.map((node) => node.getAttribute("aria-pressed") === "true"),
  );
  await slide(root, "Rows given", 9);
  seen.all = await state(root);
  return close(page, seen);
}

// Keys set, clear and free; a click changes what is there; a stroke sets what is to come.
async function hand() {
  const page = await visit("pixels.html", { media: CALM });
  const root = await figure(page);
  const seen = {};
  const keys = async (...names) => {
    for (const name of names) await page.keyboard.press(name);
  };
  await choose(root, 0, "1");
  await root.$eval(".nx-live .nx-canvas", (node) => node.focus());
  await keys("1");
  seen.first = await state(root);
  await keys("ArrowDown", "ArrowDown", "ArrowRight", "ArrowRight", "ArrowRight", "0");
  seen.later = await state(root);
  for (let row = 0; row < 4; row += 1) await press(root, "Row");
  seen.reached = await state(root);
  const one = await root.evaluate((node) => {
    const canvas = node.querySelector(".nx-live .nx-canvas");
    const side = canvas.width / 7;
    return canvas.getContext("2d").getImageData(2.5 * side, 1.5 * side, 1, 1).data[0] < 128;
  });
  seen.flippedTool = one ? "Paper" : "Ink";
  await press(root, seen.flippedTool);
  await page.mouse.click(...(await pixelAt(root, 1, 2)));
  await page.mouse.move(2, 2);
  seen.flipped = await state(root);
  await root.$eval(".nx-live .nx-canvas", (node) => node.focus());
  await press(root, "Free");
  await page.mouse.click(...(await pixelAt(root, 1, 2)));
  await page.mouse.move(...(await pixelAt(root, 1, 3)));
  seen.reading = await root.$eval(".nx-reading", (node) => node.textContent);
  await page.mouse.move(2, 2);
  seen.freed = await state(root);
  await press(root, "Nothing");
  await press(root, "Ink");
  await choose(root, 0, "2");
  await page.mouse.move(...(await pixelAt(root, 6, 1)));
  await page.mouse.down();
  await page.mouse.move(...(await pixelAt(root, 6, 4)), { steps: 2 });
  await page.mouse.up();
  await page.mouse.move(2, 2);
  seen.stroked = await state(root);
  await shot(page, "made-pixels-hand");
  return close(page, seen);
}

async function motion() {
  const page = await visit("pixels.html");
  const root = await figure(page);
  const seen = {};
  const there = () => state(root).then((now) => parseInt(now.remarks["So far"].match(/(\d+) of/)[1], 10));
  await press(root, "Play");
  seen.moves = await reach(async () => (await there()) >= 3);
  await press(root, "Pause");
  const held = await there();
  await wait(150);
  seen.stays = held < 63 && held === (await there());
  seen.said = (await said(root)).startsWith("Row ");
  await slide(root, "Speed", 8);
  await press(root, "Play");
  seen.ends = await reach(async () => (await there()) === 63);
  seen.end = await state(root);
  return close(page, seen);
}

async function phone() {
  const page = await visit("pixels.html", { width: 360, height: 740, touch: true, scheme: "dark", media: CALM });
  const root = await figure(page);
  await thumb(root, 0);
  await press(root, "Six ways to go on");
  const seen = {
    width: await page.evaluate(() => document.documentElement.scrollWidth),
    theme: await root.evaluate((node) => node.dataset.nxTheme),
  };
  seen.tapped = await reach(async () => {
    await page.touchscreen.tap(...(await pixelAt(root, 7, 3)));
    return (await state(root)).words.includes("before their turn");
  }, 3000);
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
  await shot(page, "made-pixels-phone");
  seen.violations = await violations(page);
  return close(page, seen);
}

async function looks() {
  const page = await visit("pixels.html", { media: CALM });
  const root = await figure(page);
  const seen = { said: [] };
  await thumb(root, 0);
  for (const label of ["Row", "Pixel", "Six ways to go on", "New seed"]) {
    await press(root, label);
    seen.said.push(await said(root));
  }
  await press(root, "Six ways to go on");
  const colours = async () => [
    await root.$eval(".nx-sumline", (node) => getComputedStyle(node).stroke),
    await root.$eval(".nx-filled", (node) => getComputedStyle(node).backgroundColor),
    (await state(root)).canvas[0].join(),
  ];
  seen.light = await colours();
  await shot(page, "made-pixels-wide-light");
  seen.violations = await violations(page);
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "dark" }, ...CALM]);
  await wait(60);
  seen.dark = await colours();
  await shot(page, "made-pixels-wide-dark");
  seen.violationsDark = await violations(page);
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
    click("Play");
    place.remove();
    await new Promise((done) => setTimeout(done, 300));
    document.body.append(place);
    insert();
    click("Whole digit");
    return {
      live: place.querySelectorAll(".nx-live").length,
      words: place.querySelector(".nx-words").textContent,
    };
  });
  return close(page, seen);
}

const seen = {};
for (const scenario of [draw, given, hand, motion, phone, looks, host]) {
  try {
    seen[scenario.name] = await scenario();
  } catch (error) {
    seen[scenario.name] = { error: String(error.stack || error) };
  }
}
await browser.close();
process.stdout.write(JSON.stringify(seen));
