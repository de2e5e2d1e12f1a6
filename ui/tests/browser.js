// Debian's Chromium, driven by playwright-core. Whatever a page complains of, or asks of another host, fails the test.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

import { chromium } from "playwright-core";

export const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
// A sandbox of its own needs a user who is not root.
export const ARGS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking"];
const LIMIT = 30_000;

/** A browser, with more arguments where they are given. */
export async function launch(...more) {
  return chromium.launch({ executablePath: CHROMIUM, args: [...ARGS, ...more] });
}

/**
 * A page of its own context (storage, cache), open at `address` below the server's.
 * `page.complaints`: errors, refused loads and requests to other hosts. `close` raises if there are any.
 */
export async function open(browser, server, address = "", options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  context.setDefaultTimeout(LIMIT);
  return openIn(context, server, address);
}

/** Another tab of the same context. */
export async function openIn(context, server, address = "") {
  const page = await context.newPage();
  page.complaints = [];
  page.on("pageerror", (error) => page.complaints.push(`error: ${error.stack}`));
  page.on("console", (message) => {
    // A server that was killed, or refuses, is told by the browser, too.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) {
      page.complaints.push(`console: ${message.text()}`);
    }
  });
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(server.url) && !/^(data|blob):/.test(url)) page.complaints.push(`request: ${url}`);
  });
  await page.goto(new URL(address, server.url).href);
  return page;
}

/** Loses the answer to the page's first POST there on its way: the server has it. Returns how many were lost. */
export async function loseAnswer(page, address) {
  let lost = 0;
  await page.route(address, async (route) => {
    if (route.request().method() !== "POST" || lost > 0) return route.continue();
    lost += 1;
    await route.fetch();
    await route.abort();
  });
  return () => lost;
}

/** Closes the page's context; raises what it complained of. */
export async function close(page) {
  await page.context().close();
  assert.deepEqual(page.complaints, []);
}

/** A phone's size and fingers, for `open`. */
export const PHONE = { viewport: { width: 360, height: 640 }, hasTouch: true, isMobile: true };

/** Chooses a file for the next question, as a person does. */
export async function attach(page, file) {
  const chooser = page.waitForEvent("filechooser");
  await page.getByRole("button", { name: "Attach files" }).click();
  await (await chooser).setFiles(file);
}

/** What a person drags or pastes who has a file with this text. */
export function transfer(page, name, text) {
  return page.evaluateHandle(
    ([name, text]) => {
      const data = new DataTransfer();
      data.items.add(new File([text], name));
      return data;
    },
    [name, text],
  );
}

const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");

/** What axe finds wrong on the page as it is. */
export async function axe(page) {
  const source = await readFile(AXE, "utf8");
  // By the debugger: the page's policy lets no script of ours in.
  await page.evaluate(source);
  const found = await page.evaluate(() => globalThis.axe.run(document));
  return found.violations.map(({ id, help, nodes }) => ({ id, help, where: nodes.map((node) => node.html) }));
}
