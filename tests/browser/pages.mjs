// Opens built pages in a headless browser that has no network, and reports what is wrong with them.
//
//     node tests/browser/pages.mjs settings.json > findings.json
//
// settings: { chrome, root, pages: ["book/index.html", …], axe, tabs }
// Each page is opened from a file (wide and narrow, light and dark) and from a server on this machine.
// Findings: [{ page, kind, message }], kind one of network, missing, console, formula, picture, icon, output,
// accessibility, scroll, search.

import fs from "node:fs";
import http from "node:http";
import os from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";
import puppeteer from "puppeteer-core";

import { FLAGS } from "./chromium.mjs";

const QUIET = [
  ...FLAGS,
  "--disable-dev-shm-usage",
  "--force-prefers-reduced-motion",
  "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
];
const WIDE = { width: 1280, height: 900 };
const NARROW = { width: 360, height: 740 };
const TYPES = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".css": "text/css",
  ".svg": "image/svg+xml",
  ".json": "application/json",
  ".woff2": "font/woff2",
  ".woff": "font/woff",
  ".png": "image/png",
};

function serve(root) {
  const server = http.createServer((request, response) => {
    const file = path.join(root, decodeURIComponent(new URL(request.url, "http://x").pathname));
    if (!file.startsWith(root) || !fs.existsSync(file) || fs.statSync(file).isDirectory()) {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, { "content-type": TYPES[path.extname(file)] ?? "application/octet-stream" });
    fs.createReadStream(file).pipe(response);
  });
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
}

// Everything below runs inside the page; it sees what a reader would see.
function inspect() {
  const found = [];
  const report = (kind, message) => found.push({ kind, message });
  const shown = (element) => element.checkVisibility?.() ?? element.offsetParent !== null;
  const outline = (element) => element.outerHTML.replace(/\s+/g, " ").slice(0, 160);
  const article = document.querySelector(".bd-article") ?? document.body;

  const RAW =
    /\\\(|\\\[|\\begin\{|\$\$|\$[^$\s][^$\n]*\\[a-z]+[^$\n]*\$|\{(?:eq|cite|numref|prf|claim|ref|doc)[^}]*\}`/;
  const walker = document.createTreeWalker(article, NodeFilter.SHOW_TEXT, (node) =>
    node.parentElement.closest("pre, code, script, style, textarea, mjx-container, [data-verbatim]")
      ? NodeFilter.FILTER_REJECT
      : NodeFilter.FILTER_ACCEPT,
  );
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    if (RAW.test(node.data))
      report("formula", `this text was not typeset: ${node.data.trim().slice(0, 120)}`);
  }
  document
    .querySelectorAll("mjx-merror, .math > merror")
    .forEach((error) =>
      report(
        "formula",
        `MathJax could not read a formula: ${error.getAttribute("title") ?? error.textContent.slice(0, 120)}`,
      ),
    );
  article.querySelectorAll(".math.notranslate").forEach((math) => {
    if (!math.querySelector("mjx-container"))
      report("formula", `a formula was left alone: ${math.textContent.trim().slice(0, 120)}`);
  });

  document.querySelectorAll("img").forEach((image) => {
    if (!image.complete || image.naturalWidth === 0)
      report("picture", `a picture did not load: ${outline(image)}`);
    if (!image.hasAttribute("alt")) report("picture", `a picture has no alternative text: ${outline(image)}`);
    else if (
      article.contains(image) &&
      !image.closest("a, button") &&
      image.alt.trim().length < 12 &&
      image.getAttribute("role") !== "presentation"
    ) {
      report("picture", `the alternative text says too little ("${image.alt}"): ${outline(image)}`);
    }
  });
  document.querySelectorAll(".fa-solid, .fas, .fab").forEach((icon) => {
    const mask = getComputedStyle(icon).maskImage;
    if (!mask || mask === "none" || !mask.startsWith("url"))
      report("icon", `book.css draws no icon for ${outline(icon)}`);
  });
  article
    .querySelectorAll(".output.traceback, .output.error")
    .forEach((output) => report("output", `a cell shows an error: ${output.textContent.trim().slice(-160)}`));
  article.querySelectorAll(".cell_output .text_plain").forEach((output) => {
    if (/^<Figure size/.test(output.textContent.trim()))
      report("output", "a cell shows <Figure …> as text: end it with plt.show()");
  });
  return found;
}

// Wider than the window, and not inside a box that scrolls by itself.
function sideways() {
  const room = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= room + 1) return [];
  const wide = [...document.querySelectorAll(".bd-main *")].filter(
    (element) =>
      element.getBoundingClientRect().right > room + 1 &&
      ![...ancestors(element)].some((up) => /auto|scroll|hidden/.test(getComputedStyle(up).overflowX)),
  );
  function* ancestors(element) {
    for (let up = element.parentElement; up && up !== document.body; up = up.parentElement) yield up;
  }
  const first = wide[0]?.outerHTML.replace(/\s+/g, " ").slice(0, 140) ?? "(unknown)";
  const width = document.documentElement.scrollWidth;
  return [{ kind: "scroll", message: `the page is ${width}px wide in a window of ${room}px, because of ${first}` }];
}

async function audit(rules) {
  const options = {
    preload: false,
    resultTypes: ["violations"],
    rules: { "label-content-name-mismatch": { enabled: true } },
    ...(rules ? { runOnly: { type: "rule", values: rules } } : {}),
  };
  const { violations } = await window.axe.run(document, options);
  return violations
    .filter((one) => ["serious", "critical"].includes(one.impact) || one.id === "region")
    .map((one) => ({
      kind: "accessibility",
      message:
        `${one.id} (${one.impact}), ${one.nodes.length} ×, first at ${one.nodes[0].target.join(" ")}: ` +
        (one.nodes[0].any[0]?.message ?? one.nodes[0].all[0]?.message ?? one.help),
    }));
}

const theme = (name) => {
  document.documentElement.dataset.mode = name;
  document.documentElement.dataset.theme = name;
};

class Visit {
  constructor(window, settings, page, findings) {
    Object.assign(this, { window, settings, page, findings });
  }

  add(where, found) {
    for (const { kind, message } of found)
      this.findings.push({ page: this.page, kind, message: `${where}: ${message}` });
  }

  async open(url, where, allowed) {
    const tab = await this.window.newPage();
    await tab.setViewport(WIDE);
    tab.on("request", (request) => {
      if (!/^(data|blob|about):/.test(request.url()) && !request.url().startsWith(allowed)) {
        this.add(where, [{ kind: "network", message: `the page asks for ${request.url()}` }]);
      }
    });
    tab.on("requestfailed", (request) => {
      if (request.url().startsWith(allowed) && request.failure()?.errorText !== "net::ERR_ABORTED") {
        this.add(where, [
          { kind: "missing", message: `${request.url().slice(allowed.length)} is not there` },
        ]);
      }
    });
    tab.on("response", (response) => {
      if (response.status() >= 400)
        this.add(where, [{ kind: "missing", message: `${response.url()} answers ${response.status()}` }]);
    });
    tab.on("console", (message) => {
      const text = message.text();
      if (message.type() === "error" && !/Failed to load resource/.test(text))
        this.add(where, [{ kind: "console", message: text }]);
    });
    tab.on("pageerror", (error) =>
      this.add(where, [{ kind: "console", message: `uncaught ${error.message}` }]),
    );
    await tab.goto(url, { waitUntil: "load" });
    await tab.evaluate(async () => {
      await window.MathJax?.startup?.promise;
      await document.fonts.ready;
      document.querySelectorAll("img[loading=lazy]").forEach((image) => {
        image.loading = "eager";
      });
      await Promise.all([...document.images].map((image) => image.decode().catch(() => {})));
    });
    return tab;
  }

  async fromFile() {
    const root = pathToFileURL(this.settings.root + path.sep).href;
    const tab = await this.open(root + this.page, "from a file", root);
    this.add("from a file", await tab.evaluate(inspect));
    await tab.evaluate(this.settings.axeSource);
    await tab.evaluate(theme, "light");
    this.add("wide, light", [...(await tab.evaluate(sideways)), ...(await tab.evaluate(audit, null))]);
    await tab.evaluate(theme, "dark");
    this.add("wide, dark", await tab.evaluate(audit, ["color-contrast", "link-in-text-block"]));
    await tab.setViewport(NARROW);
    await tab.evaluate(() => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 60))));
    // the figures draw themselves anew for the narrow window; on a busy machine that takes a while
    const fits = () => document.documentElement.scrollWidth <= document.documentElement.clientWidth + 1;
    await tab.waitForFunction(fits, { polling: 50, timeout: 20000 }).catch(() => {});
    this.add("narrow, dark", await tab.evaluate(sideways));
    await tab.evaluate(theme, "light");
    const again = [
      "scrollable-region-focusable",
      "button-name",
      "link-name",
      "aria-hidden-focus",
      "nested-interactive",
    ];
    this.add("narrow, light", [...(await tab.evaluate(sideways)), ...(await tab.evaluate(audit, again))]);
    await tab.close();
  }

  async fromServer(origin) {
    const tab = await this.open(`${origin}/${this.page}`, "from a server", origin);
    this.add(
      "from a server",
      (await tab.evaluate(inspect)).filter(({ kind }) => kind !== "icon"),
    );
    await tab.close();
  }

  async search(url, allowed, where) {
    const tab = await this.open(`${url}?q=${this.settings.searchFor}`, where, allowed);
    try {
      await tab.waitForSelector("#search-results li a, .search li a", { timeout: 8000 });
    } catch {
      this.add(where, [
        { kind: "search", message: `searching for "${this.settings.searchFor}" finds nothing` },
      ]);
    }
    await tab.close();
  }
}

async function main() {
  const settings = JSON.parse(fs.readFileSync(process.argv[2], "utf8"));
  settings.axeSource = fs.readFileSync(settings.axe, "utf8");
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), "pages-"));
  const server = await serve(settings.root);
  const origin = `http://127.0.0.1:${server.address().port}`;
  const browser = await puppeteer.launch({
    executablePath: settings.chrome,
    headless: true,
    userDataDir: profile,
    args: QUIET,
  });
  const findings = [];
  const queue = [...settings.pages];
  const worker = async () => {
    // a context has a window of its own: a tab behind another one draws no frames, so no figure would follow
    const window = await browser.createBrowserContext();
    for (let page = queue.shift(); page; page = queue.shift()) {
      const visit = new Visit(window, settings, page, findings);
      try {
        await visit.fromFile();
        if (!settings.filesOnly) await visit.fromServer(origin);
        if (settings.searchFor && page === "search.html") {
          const root = pathToFileURL(settings.root + path.sep).href;
          await visit.search(root + page, root, "searching from a file");
          await visit.search(`${origin}/${page}`, origin, "searching from a server");
        }
      } catch (error) {
        visit.add("opening it", [{ kind: "console", message: `the browser gave up: ${error.message}` }]);
      }
    }
  };
  await Promise.all(Array.from({ length: settings.tabs ?? 2 }, worker));
  await browser.close();
  server.close();
  fs.rmSync(profile, { recursive: true, force: true });
  process.stdout.write(JSON.stringify(findings));
}

await main();
