// An answer while it is written: quick for the browser, and sane to look at.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { close, launch, open } from "./browser.js";
import { SCRIPTED, Server, until } from "./server.js";

const LONG_TASK_MS = 50; // as browsers count
const TOKENS = 4000;

let browser, server;
before(async () => ([browser, server] = await Promise.all([launch(), Server.start({ models: [SCRIPTED] })])));
after(async () => {
  await browser?.close();
  await server?.end();
});

/** Asks, and waits until `end` has been said. Returns the page, and the processor's milliseconds of each task of it. */
async function ask(parts, end) {
  server.script.says(...parts, end);
  const page = await open(browser, server);
  await browser.startTracing(page, { categories: ["toplevel"] });
  await page.getByRole("textbox", { name: "Message" }).fill("Go on.");
  await page.keyboard.press("Enter");
  const last = page.locator(".markdown").last();
  await until(() => last.evaluate((shown, end) => shown.textContent.trimEnd().endsWith(end), end.trim()), "the end");
  const tasks = longTasks(JSON.parse(await browser.stopTracing()));
  return { page, tasks };
}

/** Tasks of the page's main thread that took long, in milliseconds of the processor: what else runs does not count. */
function longTasks({ traceEvents }) {
  const names = traceEvents.filter(({ name, args }) => name === "thread_name" && args.name === "CrRendererMain");
  const mains = new Set(names.map(({ pid, tid }) => `${pid} ${tid}`));
  const tasks = traceEvents.filter(({ name, pid, tid }) => name.endsWith("RunTask") && mains.has(`${pid} ${tid}`));
  const times = tasks.filter(({ tdur }) => tdur !== undefined).map(({ tdur }) => Math.round(tdur / 1000));
  assert.ok(times.length > 50, `tasks were traced: ${times.length} of ${tasks.length}`);
  return times.filter((ms) => ms > LONG_TASK_MS);
}

/** `text` as a model's tokens, of some four characters, with a pause now and then. */
function tokens(text) {
  const pieces = text.match(/.{1,4}/gsu);
  return pieces.flatMap((piece, i) => (i % 40 === 39 ? [piece, 20] : [piece]));
}

/** In the page: keeps every state that a text is drawn in, and what elements said that were taken out of it. */
function watch() {
  globalThis.seen = { texts: [], removed: [] };
  const observer = new MutationObserver((changes) => {
    const shown = [...document.querySelectorAll(".markdown")].at(-1);
    if (shown !== undefined) seen.texts.push(shown.innerText);
    for (const { target, removedNodes } of changes) {
      const inText = (target.nodeType === Node.TEXT_NODE ? target.parentElement : target)?.closest(".markdown");
      for (const node of removedNodes) if (inText && node.nodeType === Node.ELEMENT_NODE) seen.removed.push(node.textContent);
    }
  });
  observer.observe(document.body, { childList: true, characterData: true, subtree: true });
}

const SENTENCE = "The *quick* brown fox jumps over the `lazy` dog, **and** so on. ";
const TEXTS = {
  "one paragraph": SENTENCE.repeat(400),
  "one list": `- ${SENTENCE}\n`.repeat(400),
  "one table": `| a | b |\n|---|---|\n${"| one *cell* | and `another` |\n".repeat(600)}`,
  "one block of code": `\`\`\`js\n${"const answer = ask('question', 42); // a comment\n".repeat(400)}\`\`\`\n`,
  "a mixed answer": `## Title\n\n${SENTENCE}${SENTENCE}\n\n1. one\n   - ${SENTENCE}\n\n\`\`\`py\nx = 1\n\`\`\`\n\n\\[ x^2 \\]\n\n`.repeat(80),
};

for (const [name, text] of Object.entries(TEXTS)) {
  test(`${name} of ${TOKENS} tokens holds nothing up`, async () => {
    let tasks;
    // On a busy machine a task may take long once. One that is long by itself is so each time.
    for (let tries = 0; tries < 3 && tasks?.length !== 0; tries += 1) {
      const asked = await ask(tokens(text.slice(0, TOKENS * 4)), "\n\nThe end.");
      tasks = asked.tasks;
      await close(asked.page);
    }
    assert.deepEqual(tasks, []);
  });
}

test("what is written stays where it is, and what is not closed yet looks as if it were", async () => {
  const text = `A **bold word**, \`code\`, [a link](https://example.com/a/long/address) and ~~no~~ more.

- one **thing**
- two

| a | b |
|---|---|
| c | d |

\`\`\`text
let it be
\`\`\`

The `;
  // A pause after each character: all states are drawn.
  server.script.says(...[...text].flatMap((char) => [char, 20]), "end.");
  const page = await open(browser, server);
  await page.evaluate(watch);
  await page.getByRole("textbox", { name: "Message" }).fill("Go on.");
  await page.keyboard.press("Enter");
  await page.getByText("The end.").waitFor();
  const { texts, removed } = await page.evaluate(() => globalThis.seen);
  assert.ok(texts.length > 10, `${texts.length} states`);
  for (const shown of texts) assert.doesNotMatch(shown, /\*|`|\]\(|example|~~|\|/);
  // What a first character is may show with the next one: "-" is a list when a space follows.
  assert.deepEqual(removed.filter((said) => said.length > 2), []);
  await close(page);
});
