/* What the browser checks of the chapters' figures share: a page without a network, and how a reader presses, reads
   and waits. The script's arguments are CHROME PAGES [SHOTS]. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { open, wait } from "./chromium.mjs";

const [chrome, pages, shots] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
export const browser = await open(chrome);
export const CALM = [{ name: "prefers-reduced-motion", value: "reduce" }];

export async function visit(name, { width = 900, height = 1000, scheme = "light", touch = false, media = [] } = {}) {
  const page = await (await browser.createBrowserContext()).newPage();
  page.troubles = [];
  page.on("console", (message) => {
    const readback = message.text().includes("willReadFrequently"); // of this test, which reads the canvas
    if (["error", "warn"].includes(message.type()) && !readback) page.troubles.push(message.text());
  });
  page.on("pageerror", (error) => page.troubles.push(String(error.stack || error)));
  page.on("request", (request) => {
    if (/^(https?|wss?):/.test(request.url())) page.troubles.push("asked the network for " + request.url());
  });
  await page.setViewport({ width, height, hasTouch: touch, isMobile: touch });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }, ...media]);
  await page.goto(pathToFileURL(join(pages, name)).href);
  return page;
}
export const figure = async (page, index = 0) => (await page.$$(".nx-figure"))[index];
export const button = (root, label) =>
  root.evaluateHandle(
    (node, text) => [...node.querySelectorAll("button")].find((b) => b.textContent === text),
    label,
  );
export const press = async (root, label) => (await button(root, label)).click();
export const facts = (root) =>
  root.evaluate((node) =>
    Object.fromEntries(
      [...node.querySelectorAll(".nx-facts > div")].map((one) => [
        one.querySelector(".nx-term").textContent.trim(),
        one
          .querySelector(".nx-number")
          .textContent.replace("−", "-")
          .replace(/\u202f/g, ""),
      ]),
    ),
  );
export const words = (root) => root.$eval(".nx-words", (node) => node.textContent);
export const said = (root) => root.$eval(".nx-voice", (node) => node.textContent);
export const look = async (root) => ({ ...(await facts(root)), words: await words(root) });
export const choose = (root, index, value) =>
  root.evaluate(
    (node, i, chosen) => {
      const select = node.querySelectorAll("select")[i];
      select.value = chosen;
      select.dispatchEvent(new Event("change"));
    },
    index,
    value,
  );
export async function violations(page) {
  await page.evaluate(axe);
  const report = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  return report.violations
    .filter((one) => ["serious", "critical"].includes(one.impact))
    .map(
      (one) =>
        one.id +
        ": " +
        one.nodes
          .map((node) => node.html.slice(0, 120))
          .slice(0, 3)
          .join(" | "),
    );
}
export const shot = async (page, name) => {
  if (shots) await page.screenshot({ path: join(shots, name + ".png"), fullPage: true });
};
export const reach = async (check, limit = 10000) => {
  for (const end = Date.now() + limit; Date.now() < end; await wait(40)) if (await check()) return true;
  return false;
};
export const close = async (page, seen) => {
  seen.troubles = page.troubles;
  await page.browserContext().close();
  return seen;
};
