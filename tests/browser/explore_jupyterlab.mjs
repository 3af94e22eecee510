/* Opens a notebook in a live JupyterLab, runs it, and presses a button of its figure by mouse and by key.
     node explore_jupyterlab.mjs CHROME ADDRESS   → JSON: what was seen */
import { open, wait } from "./chromium.mjs";

const [chrome, address, shot] = process.argv.slice(2);
const browser = await open(chrome);
const page = await browser.newPage();
const seen = { troubles: [] };
const outside = (url) => /^(https?|wss?):/.test(url) && !url.includes("127.0.0.1");
await page.setRequestInterception(true);
page.on("request", (request) => {
  if (outside(request.url())) {
    seen.troubles.push("asked for " + request.url());
    request.abort();
  } else request.continue();
});
page.on("pageerror", (error) => seen.troubles.push(String(error)));
await page.setViewport({ width: 1200, height: 1500 });

try {
  await page.goto(address, { waitUntil: "domcontentloaded" });
  await page.waitForSelector(".jp-Notebook .jp-Cell", { timeout: 30000 });
  await page.waitForSelector(
    ".jp-NotebookPanel-toolbar [data-status='idle'], .jp-Notebook-ExecutionIndicator[data-status='idle']",
    { timeout: 30000 },
  );
  // JupyterLab's own command, once kernel and document are there; asked again where it came too early.
  const figures = () => page.$$eval(".jp-OutputArea-output .nx-live", (nodes) => nodes.length);
  for (const end = Date.now() + 40000; (await figures()) < 2 && Date.now() < end; ) {
    await page.evaluate(async () => {
      const { context, sessionContext } = window.jupyterapp.shell.currentWidget;
      await Promise.all([context.ready, sessionContext.ready]);
      await window.jupyterapp.commands.execute("notebook:run-all-cells");
    });
    for (let k = 0; k < 80 && (await figures()) < 2; k += 1) await wait(100);
  }
  const root = await page.$(".nx-figure");
  const sweeps = () => root.$eval(".nx-facts .nx-number", (node) => node.textContent);
  const button = (label) =>
    root.evaluateHandle(
      (node, text) => [...node.querySelectorAll("button")].find((b) => b.textContent === text),
      label,
    );
  await root.evaluate((node) => node.scrollIntoView({ block: "center" }));
  await (await button("Sweep")).click();
  seen.clicked = await sweeps();
  await (await button("Sweep")).focus();
  await page.keyboard.press("Enter");
  await page.keyboard.press("Space");
  seen.keyed = await sweeps();
  const slider = await root.$("input[type=range]");
  await slider.focus();
  await page.keyboard.press("ArrowLeft");
  await page.keyboard.press("ArrowLeft");
  seen.slid = await root.$eval(".nx-value", (node) => node.textContent);
  seen.editing = await page.evaluate(() => Boolean(document.activeElement.closest(".jp-InputArea-editor")));
  seen.theme = await root.evaluate((node) => node.dataset.nxTheme);
  const predict = (await page.$$(".nx-figure"))[1];
  await page
    .waitForFunction(() => document.querySelectorAll(".nx-live mjx-container").length > 0, { timeout: 10000 })
    .catch(() => null);
  seen.question = await predict.$eval("legend", (node) => [
    node.querySelectorAll("mjx-container").length,
    node.textContent.includes("\\("),
  ]);
  await (await predict.$("input[type=radio]")).click();
  await (
    await predict.evaluateHandle((node) =>
      [...node.querySelectorAll("button")].find((b) => b.textContent === "Show the answer"),
    )
  ).click();
  seen.answer = await predict.$eval(".nx-result", (node) => [
    node.textContent,
    node.querySelectorAll("mjx-container").length,
  ]);
  if (shot) {
    await wait(500);
    await page.screenshot({ path: shot });
  }
} catch (error) {
  seen.error = String(error.stack || error);
  if (shot) await page.screenshot({ path: shot });
}
await browser.close();
process.stdout.write(JSON.stringify(seen));
