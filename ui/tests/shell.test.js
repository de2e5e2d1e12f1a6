import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { axe, close, launch, open } from "./browser.js";
import { SCRIPTED, Server } from "./server.js";

let browser, server;
before(async () => ([browser, server] = await Promise.all([launch(), Server.start({ models: [SCRIPTED] })])));
after(async () => {
  await browser?.close();
  await server?.end();
});

test("a question is answered", async () => {
  const page = await open(browser, server);
  await page.getByRole("textbox", { name: "Message" }).fill("Is it written?");
  await page.keyboard.press("Enter");
  await page.getByText("It is written.").waitFor();
  assert.match(page.url(), /#\/c\/thread_/);
  await close(page);
});

for (const screen of ["", "#/models", "#/assistants", "#/server"]) {
  test(`axe finds nothing at /${screen}`, async () => {
    const page = await open(browser, server, screen);
    await page.getByRole("heading", { level: 1 }).first().waitFor();
    assert.deepEqual(await axe(page), []);
    await close(page);
  });
}
