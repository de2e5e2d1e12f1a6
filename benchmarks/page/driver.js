// What the measurements share: the browser of the page's tests, with exact counts of memory, and questions asked as a
// person does.

import { launch as launchBrowser } from "../../ui/tests/browser.js";

const LIMIT = 300_000;
export const LIST = "nav a[href^='#/c/']";

/** A browser and one empty tab of it, with the protocol of its debugger. */
export async function launch() {
  const browser = await launchBrowser("--enable-precise-memory-info");
  return { browser, ...(await tab(browser)) };
}

/** A tab of a context of its own, with nothing in its cache. */
export async function tab(browser) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  context.setDefaultTimeout(LIMIT);
  const page = await context.newPage();
  return { page, debug: await context.newCDPSession(page) };
}

export function composer(page) {
  return page.getByRole("textbox", { name: "Message" });
}

export async function ask(page, question) {
  await composer(page).fill(question);
  await composer(page).press("Enter");
}

/** The last answer that is shown, when it has these words. */
export async function shown(page, words) {
  await page.getByRole("log").getByText(words).last().waitFor();
}

/** Until an expression holds in the page: without playwright's own script, which would be a third of what is measured. */
export async function holds(debug, expression) {
  for (;;) {
    const { result } = await debug.send("Runtime.evaluate", { expression: `Boolean(${expression})` });
    if (result.value) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Seconds of the tab's main thread so far. */
export async function mainThread(debug) {
  const { metrics } = await debug.send("Performance.getMetrics");
  return metrics.find(({ name }) => name === "TaskDuration").value;
}

/** Bytes of the tab's JavaScript heap, and its DOM nodes, without what is garbage. */
export async function memory(debug) {
  for (let round = 0; round < 3; round += 1) await debug.send("HeapProfiler.collectGarbage");
  const { usedSize } = await debug.send("Runtime.getHeapUsage");
  const { nodes } = await debug.send("Memory.getDOMCounters");
  return { heap: usedSize, nodes };
}

export function told(figures) {
  console.log(JSON.stringify(figures));
}
