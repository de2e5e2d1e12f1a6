// node memory.js ANSWERS: the tab's memory after every tenth of so many answers, each in a conversation that is deleted
// when it was left: what the list holds of it is not measured.

import { SCRIPTED, Server } from "../../ui/tests/server.js";
import { ask, composer, launch, LIST, memory, shown, told } from "./driver.js";

const ANSWERS = Number(process.argv[2]);
const server = await Server.start({ models: [SCRIPTED] });
const { browser, page, debug } = await launch();
const after = [];
try {
  await page.goto(server.url);
  await begin();
  for (let number = 1; number <= ANSWERS; number += 1) {
    server.script.says(...answer(number));
    await ask(page, `Question ${number}?`);
    await shown(page, `The end of ${number}.`);
    const thread = new URL(page.url()).hash.split("/").at(-1);
    await begin();
    await server.api("DELETE", `threads/${thread}`);
    if (number % 10 === 0) after.push(await empty());
  }
  told({ after });
} finally {
  await browser.close();
  await server.end();
}

/** When no conversation is open, and none in the list. */
async function empty() {
  await page.locator(LIST).first().waitFor({ state: "detached" });
  return memory(debug);
}

/** A new conversation; those that have no title yet are called so, too. */
async function begin() {
  await page.getByRole("link", { name: "New conversation" }).first().click();
  await page.waitForURL(/#\/$/);
  await composer(page).waitFor();
}

function answer(number) {
  const words = Array.from({ length: 60 }, (_, at) => ` word ${at} of`);
  return [`# Answer ${number}\n\n`, ...words, "\n\n```js\nconst a = 1;\n```\n\n", "\\(x^2\\)\n\n", `The end of ${number}.`];
}
