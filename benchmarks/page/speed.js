// node speed.js URL: for each thread's id on a line of its input, opens it in the page, asks a question, and says a line when
// the answer stands there whole. Between two of them no page is open.

import { createInterface } from "node:readline";

import { ask, composer, launch, told } from "./driver.js";

const SETTLED_MS = 2500; // what is loaded ahead is there
const LOOK_MS = 1000; // each look is work for the server, too
const url = process.argv[2];
const { browser, page } = await launch();
told({ ready: true });
for await (const thread of createInterface({ input: process.stdin })) {
  await page.goto(`${url}#/c/${thread}`);
  await composer(page).waitFor();
  await page.waitForTimeout(SETTLED_MS);
  await ask(page, process.env.QUESTION);
  await ended(thread);
  await page.goto("about:blank");
  told({ thread });
}
await browser.close();

async function ended(thread) {
  for (;;) {
    const runs = await (await fetch(`${url}v1/threads/${thread}/runs`)).json();
    if (runs.data.some(({ completed_at }) => completed_at)) return;
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}
