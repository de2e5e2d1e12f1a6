// node memory.js ANSWERS: the tab's memory after every tenth of so many answers, each in a new conversation.

import { SCRIPTED, Server } from "../../ui/tests/server.js";
import { ask, composer, launch, memory, shown, told } from "./driver.js";

const ANSWERS = Number(process.argv[2]);
const server = await Server.start({ models: [SCRIPTED] });
const { browser, page, debug } = await launch();
const after = [];
try {
  await page.goto(server.url);
  for (let number = 1; number <= ANSWERS; number += 1) {
    server.script.says(...answer(number));
    await begin();
    await ask(page, `Question ${number}?`);
    await shown(page, `The end of ${number}.`);
    if (number % 10 === 0) after.push(await empty());
  }
  told({ after });
} finally {
  await browser.close();
  await server.end();
}

/** Where no conversation is open. */
async function empty() {
  await begin();
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
