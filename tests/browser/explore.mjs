/* Presses, drags and types in the figures as a reader does, in a real browser without a network.
     node explore.mjs CHROME PAGES   → JSON: one record of what was seen for each scenario
   PAGES holds the pages that tests/test_explore.py wrote. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { open, wait } from "./chromium.mjs";

const [chrome, pages, shots] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const browser = await open(chrome);
const seen = {};

/* ---- helpers ---- */
async function visit(
  name,
  { width = 900, height = 900, scheme = "light", touch = false, scripts = true, media = [], before } = {},
) {
  // Nothing is remembered from one visit to the next.
  const page = await (await browser.createBrowserContext()).newPage();
  page.troubles = [];
  page.on("console", (message) => {
    if (["error", "warn"].includes(message.type())) page.troubles.push(message.text());
  });
  page.on("pageerror", (error) => page.troubles.push(String(error.stack || error)));
  page.on("request", (request) => {
    if (/^(https?|wss?):/.test(request.url())) page.troubles.push("asked the network for " + request.url());
  });
  await page.setViewport({ width, height, hasTouch: touch, isMobile: touch });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }, ...media]);
  await page.setJavaScriptEnabled(scripts);
  if (before) await page.evaluateOnNewDocument(before);
  await page.goto(pathToFileURL(join(pages, name)).href);
  return page;
}

const figure = async (page, index = 0) => (await page.$$(".nx-figure"))[index];
async function press(root, label) {
  const button = await root.evaluateHandle(
    (node, text) => [...node.querySelectorAll("button")].find((b) => b.textContent === text),
    label,
  );
  await button.click();
}
// The list of facts as {label: value}, and what a screen reader was told last.
const facts = (root) =>
  root.evaluate((node) =>
    Object.fromEntries(
      [...node.querySelectorAll(".nx-facts > div")].map((one) => [
        one.querySelector(".nx-term").textContent,
        one.querySelector(".nx-number").textContent,
      ]),
    ),
  );
const sweeps = async (root) => Number((await facts(root))["Sweeps n"].replaceAll(" ", ""));
const samples = async (root) => Number((await facts(root)).Samples.replaceAll(" ", ""));
const text = (root, selector) => root.$eval(selector, (node) => node.textContent);
const value = (root, selector, name = "aria-valuetext") =>
  root.$eval(selector, (node, attribute) => node.getAttribute(attribute), name);
const middle = async (handle) => {
  const box = await handle.boundingBox();
  return [box.x + box.width / 2, box.y + box.height / 2];
};
async function violations(page) {
  await page.evaluate(axe);
  const report = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  return report.violations
    .filter((one) => ["serious", "critical"].includes(one.impact))
    .map(
      (one) =>
        one.id +
        ": " +
        one.nodes
          .map((node) => node.html.slice(0, 90) + " " + node.failureSummary.slice(0, 200))
          .slice(0, 3)
          .join(" | "),
    );
}
const shot = async (page, name) => {
  if (shots) await page.screenshot({ path: join(shots, name + ".png"), fullPage: true });
};
const reach = async (check, limit = 6000) => {
  for (const end = Date.now() + limit; Date.now() < end; await wait(40)) if (await check()) return true;
  return false;
};

/* ---- scenarios ---- */
async function chain() {
  const page = await visit("chain.html");
  const root = await figure(page),
    twin = await figure(page, 1);
  const seen = { start: await facts(root) };
  const step = await root.evaluateHandle((node) =>
    [...node.querySelectorAll("button")].find((b) => b.textContent === "Step"),
  );
  await step.focus();
  await page.keyboard.press("Enter");
  seen.half = { said: await text(root, ".nx-voice"), sweeps: await sweeps(root) };
  await page.keyboard.press("Space");
  seen.keys = { said: await text(root, ".nx-voice"), sweeps: await sweeps(root) };
  for (let k = 0; k < 3; k += 1) await press(root, "Sweep");
  seen.sweeps = await sweeps(root);
  await wait(900);
  seen.moves = await root.$$eval(".nx-trail", (paths) =>
    paths.map((path) => path.getAttribute("d")).filter(Boolean),
  );
  seen.twin = await sweeps(twin);

  const slider = await root.$("input[type=range]");
  await slider.focus();
  for (let k = 0; k < 5; k += 1) await page.keyboard.press("ArrowLeft");
  seen.slid = {
    value: await text(root, ".nx-value"),
    sweeps: await sweeps(root),
    ring: await value(root, ".nx-ring", "d"),
  };
  const [x, y] = await middle(slider);
  await page.mouse.move(x, y);
  await page.mouse.down();
  await page.mouse.move(x - 60, y, { steps: 4 });
  await page.mouse.up();
  seen.dragged = {
    value: await text(root, ".nx-value"),
    ring: await value(root, ".nx-ring", "d"),
    tau: await text(root, ".nx-words"),
  };

  await press(root, "Run");
  seen.ran = await reach(async () => (await sweeps(root)) > 30);
  await press(root, "Pause");
  const stopped = await sweeps(root);
  await wait(300);
  seen.paused = (await sweeps(root)) === stopped;
  seen.after = {
    ...(await facts(root)),
    words: await text(root, ".nx-words"),
    said: await text(root, ".nx-voice"),
    bars: (await value(root, ".nx-lagbars", "d")).split("M").length - 1,
  };

  const handle = await root.$("[role=slider]");
  const [hx, hy] = await middle(handle);
  const before = await value(root, "[role=slider]");
  await page.mouse.move(hx, hy);
  await page.mouse.down();
  await page.mouse.move(hx + 80, hy + 40, { steps: 5 });
  await page.mouse.up();
  const moved = await value(root, "[role=slider]");
  await page.keyboard.press("ArrowUp");
  seen.handle = { before, moved, keyed: await value(root, "[role=slider]"), sweeps: await sweeps(root) };

  await (await root.$$("input[type=radio]"))[1].click();
  await root.$eval("select", (node) => {
    node.value = "fast";
    node.dispatchEvent(new Event("change"));
  });
  await press(root, "Run");
  seen.modes = {
    ran: await reach(async () => (await sweeps(root)) > 800),
    shown: await root.$$eval(".nx-slider", (nodes) => nodes.map((node) => node.checkVisibility())),
  };
  await press(root, "Pause");
  seen.modes.words = await text(root, ".nx-words");
  seen.modes.rings = (await value(root, ".nx-ring", "d")).split("Z").length - 1;
  await press(root, "Reset");
  seen.reset = await sweeps(root);
  await page.keyboard.type("s?");
  seen.ids = await page.evaluate(() => {
    const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
    return ids.filter((id, i) => ids.indexOf(id) !== i);
  });
  seen.troubles = page.troubles;
  await page.browserContext().close();
  return seen;
}

async function inverse() {
  const page = await visit("inverse.html");
  const root = await figure(page);
  const seen = {};
  await press(root, "Drop one");
  seen.said = await text(root, ".nx-voice");
  seen.one = await reach(async () => (await samples(root)) === 1);
  await press(root, "Drop 100");
  seen.many = await reach(async () => (await samples(root)) === 101);
  const bars = await root.$$(".nx-bin");
  const heights = () =>
    root.$$eval(".nx-bin", (nodes) => nodes.map((node) => Number(node.getAttribute("aria-valuenow"))));
  const was = await heights();
  const from = await bars[2].boundingBox(),
    to = await bars[12].boundingBox();
  await page.mouse.move(from.x + from.width / 2, from.y + from.height * 0.9);
  await page.mouse.down();
  await page.mouse.move(to.x + to.width / 2, to.y + to.height * 0.2);
  await page.mouse.up();
  seen.drawn = {
    was,
    now: await heights(),
    samples: await samples(root),
    area: (await facts(root))["Area of the drawing"],
  };
  const stop = await root.$(".nx-bin[tabindex='0']");
  await stop.evaluate((bar) => bar.focus());
  const name = () =>
    page.evaluate(
      () =>
        document.activeElement.getAttribute("aria-label") +
        " " +
        document.activeElement.getAttribute("aria-valuenow"),
    );
  seen.keys = [await name()];
  for (const key of ["ArrowUp", "ArrowRight", "Home", "End", "PageDown"]) {
    await page.keyboard.press(key);
    seen.keys.push(await name());
  }
  await press(root, "Gap");
  seen.gap = await text(root, ".nx-words");
  await press(root, "Run");
  seen.ran = await reach(async () => (await samples(root)) > 200, 9000);
  await press(root, "Pause");
  await wait(1000);
  seen.law = await facts(root);
  await press(root, "Clear");
  seen.empty = {
    words: await text(root, ".nx-words"),
    disabled: await root.$$eval("button:disabled", (nodes) => nodes.map((node) => node.textContent)),
  };
  seen.troubles = page.troubles;
  await page.browserContext().close();
  return seen;
}

async function prediction() {
  const page = await visit("predict.html");
  const seen = { asked: await text(await figure(page), "legend") };
  const answer = async (index) => (await (await figure(page)).$$("input[type=radio]"))[index].click();
  await press(await figure(page), "Show the answer");
  seen.hurried = await text(await figure(page), ".nx-buttons [role=status]");
  await answer(0);
  await press(await figure(page), "Show the answer");
  const look = async () =>
    (await figure(page)).evaluate((node) => ({
      result: node.querySelector(".nx-result").innerText,
      disabled: node.querySelector("fieldset").disabled,
      visible: node.querySelector(".nx-result").checkVisibility(),
      focus: document.activeElement === node.querySelector(".nx-result"),
      right: [...node.querySelectorAll(".nx-is-right")].map((row) => row.innerText),
      wrong: [...node.querySelectorAll(".nx-is-wrong")].map((row) => row.innerText),
    }));
  seen.wrong = await look();
  await page.click(".nx-live summary");
  seen.others = await page.$eval(".nx-live details", (node) => node.innerText);
  await page.reload();
  seen.again = await look();
  await press(await figure(page), "Change my answer");
  seen.changing = await look();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowDown");
  await press(await figure(page), "Show the answer");
  seen.right = await look();
  seen.troubles = page.troubles;
  await page.browserContext().close();

  const refused = await visit("predict.html", {
    before: "Object.defineProperty(window, 'localStorage', { get() { throw new Error('refused'); } })",
  });
  await (await (await figure(refused)).$$("input[type=radio]"))[2].click();
  await press(await figure(refused), "Show the answer");
  seen.refused = { result: await text(await figure(refused), ".nx-result"), troubles: refused.troubles };
  await refused.browserContext().close();
  return seen;
}

async function phone() {
  const page = await visit("all.html", { width: 360, height: 740, touch: true, scheme: "dark" });
  const roots = await page.$$(".nx-figure");
  const seen = {
    width: await page.evaluate(() => document.documentElement.scrollWidth),
    theme: await page.$$eval(".nx-figure", (nodes) => nodes.map((node) => node.dataset.nxTheme)),
  };
  const drawing = await roots[1].$(".nx-drawing");
  await drawing.scrollIntoView();
  const box = await drawing.boundingBox();
  const was = await roots[1].$$eval(".nx-bin", (nodes) =>
    nodes.map((node) => node.getAttribute("aria-valuenow")),
  );
  await page.touchscreen.touchStart(box.x + 120, box.y + box.height - 40);
  await page.touchscreen.touchMove(box.x + 180, box.y + 30);
  await page.touchscreen.touchMove(box.x + 240, box.y + 60);
  await page.touchscreen.touchEnd();
  seen.touched = (
    await roots[1].$$eval(".nx-bin", (nodes) => nodes.map((node) => node.getAttribute("aria-valuenow")))
  ).filter((h, k) => h !== was[k]).length;
  const sweep = await roots[0].evaluateHandle((node) =>
    [...node.querySelectorAll("button")].find((b) => b.textContent === "Sweep"),
  );
  // On a busy machine the page may still be moving after the drag, and a finger then lands beside the button.
  for (let finger = 0; finger < 3 && !seen.tapped && (await sweeps(roots[0])) === 0; finger += 1) {
    await sweep.tap();
    seen.tapped = await reach(async () => (await sweeps(roots[0])) === 1, 3000);
  }
  seen.small = await page.$$eval(
    ".nx-live button",
    (nodes) =>
      nodes.filter((node) => node.checkVisibility() && node.getBoundingClientRect().height < 24).length,
  );
  await shot(page, "phone-dark");
  seen.violations = await violations(page);
  seen.troubles = page.troubles;
  await page.browserContext().close();
  return seen;
}

async function looks() {
  const page = await visit("all.html", { scheme: "light" });
  const theme = () =>
    page.$eval(".nx-figure", (node) => [node.dataset.nxTheme, getComputedStyle(node).color]);
  const seen = { light: await theme() };
  await (await page.$$(".nx-pick input"))[0].click();
  await press((await page.$$(".nx-figure"))[2], "Show the answer");
  await shot(page, "wide-light");
  seen.violations = await violations(page);
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "dark" }]);
  await wait(50);
  seen.dark = await theme();
  await shot(page, "wide-dark");
  seen.violationsDark = await violations(page);
  for (const [name, set] of [
    [
      "book",
      () => {
        document.documentElement.dataset.theme = "light";
      },
    ],
    [
      "jupyter",
      () => {
        delete document.documentElement.dataset.theme;
        document.body.dataset.jpThemeLight = "true";
      },
    ],
  ]) {
    await page.evaluate(set);
    await wait(50);
    seen[name] = await theme();
  }
  await page.emulateMediaType("print");
  seen.print = await page.$$eval(".nx-figure", (nodes) =>
    nodes.map((node) => [
      node.querySelector(".nx-live").checkVisibility(),
      node.querySelector(".nx-still").checkVisibility(),
    ]),
  );
  await shot(page, "print");
  seen.troubles = page.troubles;
  await page.browserContext().close();

  const bare = await visit("all.html", { scripts: false });
  await shot(bare, "no-scripts");
  seen.bare = await bare.$$eval("img", (nodes) => nodes.map((node) => [node.naturalWidth, node.alt.length]));
  seen.bareDetails = await bare.$eval("details", (node) => [
    node.checkVisibility(),
    node.querySelector("summary").textContent,
  ]);
  await bare.browserContext().close();
  return seen;
}

async function hosts() {
  // An output of Colab stands in a sandboxed frame; other hosts insert the HTML and revive its scripts.
  const page = await visit("frame.html");
  await page.waitForSelector("iframe");
  const frame = await (await page.$("iframe")).contentFrame();
  await frame.waitForSelector(".nx-live");
  const seen = { framed: await frame.$$eval(".nx-live", (nodes) => nodes.length) };
  await frame.evaluate(() =>
    [...document.querySelectorAll("button")].find((b) => b.textContent === "Sweep").click(),
  );
  seen.framedSweeps = await frame.$eval(".nx-facts .nx-number", (node) => node.textContent);
  await frame.evaluate(() => {
    document.querySelector(".nx-pick input").click();
    [...document.querySelectorAll("button")].find((b) => b.textContent === "Show the answer").click();
  });
  seen.framedAnswer = await frame.$eval(".nx-result", (node) => node.textContent);
  seen.troubles = page.troubles;
  await page.browserContext().close();

  const host = await visit("chain.html");
  seen.inserted = await host.evaluate(async () => {
    const html = document.querySelector("template").innerHTML;
    const place = document.createElement("div");
    const insert = () => {
      place.innerHTML = html;
      for (const old of place.querySelectorAll("script")) {
        const fresh = document.createElement("script");
        fresh.textContent = old.textContent;
        old.replaceWith(fresh);
      }
    };
    insert(); // before it is in the page, as JupyterLab may do
    document.body.append(place);
    const click = (label) =>
      [...place.querySelectorAll("button")].find((b) => b.textContent === label).click();
    click("Run");
    insert(); // rendered again while it runs
    click("Run");
    place.remove(); // scrolled away by a windowed notebook
    await new Promise((done) => setTimeout(done, 300));
    document.body.append(place);
    await new Promise((done) => setTimeout(done, 300));
    click("Sweep");
    return {
      live: place.querySelectorAll(".nx-live").length,
      run: [...place.querySelectorAll("button")][0].textContent,
      sweeps: place.querySelector(".nx-facts .nx-number").textContent,
    };
  });
  seen.insertedTroubles = host.troubles;
  await host.browserContext().close();
  return seen;
}

async function calm() {
  const page = await visit("all.html", { media: [{ name: "prefers-reduced-motion", value: "reduce" }] });
  const roots = await page.$$(".nx-figure");
  await press(roots[0], "Sweep");
  const place = () => roots[0].$eval(".nx-here", (node) => node.getAttribute("cx"));
  const at = await place();
  await wait(250);
  const seen = { still: (await place()) === at };
  await press(roots[1], "Drop 100");
  seen.landed = await samples(roots[1]);
  await press(roots[0], "Run");
  seen.ran = await reach(async () => (await sweeps(roots[0])) > 10);
  seen.troubles = page.troubles;
  await page.browserContext().close();
  return seen;
}

async function broken() {
  const page = await visit("broken.html");
  const seen = {
    still: await page.$eval(".nx-still", (node) => node.checkVisibility()),
    live: (await page.$$(".nx-live")).length,
    violations: await violations(page),
    troubles: page.troubles,
  };
  await page.browserContext().close();
  return seen;
}

for (const scenario of [chain, inverse, prediction, phone, looks, hosts, calm, broken]) {
  try {
    seen[scenario.name] = await scenario();
  } catch (error) {
    seen[scenario.name] = { error: String(error.stack || error) };
  }
}
await browser.close();
process.stdout.write(JSON.stringify(seen));
