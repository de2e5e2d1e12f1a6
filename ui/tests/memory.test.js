// A conversation that was left is forgotten: what was shown of it is held by nobody.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { close, launch, open } from "./browser.js";
import { SCRIPTED, Server } from "./server.js";

let browser, server;
before(async () => ([browser, server] = await Promise.all([launch(), Server.start({ models: [SCRIPTED] })])));
after(async () => {
  await browser?.close();
  await server?.end();
});

const ANSWER = [
  "# All kinds\n\nWords, \\(x^2\\), `code` and [a link](https://example.com/).\n\n",
  "```js\nconst a = 1;\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n- one\n- two\n\n\\[\\sum_i x_i\\]\n\n",
];
const ROUNDS = 8;

async function begin(page) {
  await page.getByRole("navigation").getByRole("link", { name: "New conversation" }).first().click();
  await page.getByRole("textbox", { name: "Message" }).waitFor();
}

/** An answer streams in, and its conversation is left; a second visit shows what is stored. */
async function visit(page, number) {
  const end = `The end of ${number}.`;
  server.script.says(...ANSWER, end);
  await begin(page);
  await page.getByRole("textbox", { name: "Message" }).fill(`Question ${number}?`);
  await page.keyboard.press("Enter");
  await page.getByRole("log").getByText(end).waitFor();
  await page.locator("math").last().waitFor();
  const address = page.url();
  await begin(page);
  await page.goto(address);
  await page.locator("math").last().waitFor();
  await begin(page);
}

async function nodes(debug) {
  for (let round = 0; round < 3; round += 1) await debug.send("HeapProfiler.collectGarbage");
  return (await debug.send("Memory.getDOMCounters")).nodes;
}

test("ten conversations leave no more behind than their lines in the list", async () => {
  const page = await open(browser, server);
  const debug = await page.context().newCDPSession(page);
  for (let number = 0; number < 2; number += 1) await visit(page, number);
  const before = await nodes(debug);
  for (let number = 2; number < 2 + ROUNDS; number += 1) await visit(page, number);
  const grown = ((await nodes(debug)) - before) / ROUNDS;
  const line = await page.evaluate(() => {
    const walker = document.createTreeWalker(document.querySelector("nav li"));
    let count = 1;
    while (walker.nextNode()) count += 1;
    return count;
  });
  assert.ok(grown < 2 * line + 20, `${grown} nodes stay of each conversation; a line of the list has ${line}`);
  await close(page);
});
