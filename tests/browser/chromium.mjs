// A browser of the tests' own: no profile kept, nothing asked for at the start.
import puppeteer from "puppeteer-core";

export const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

export const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

export function open(executablePath) {
  return puppeteer.launch({ executablePath, headless: true, protocolTimeout: 60000, args: FLAGS });
}
