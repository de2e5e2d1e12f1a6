import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { axe, close, launch, open } from "./browser.js";
import { Files, gguf } from "./files.js";
import { REAL, SCRIPTED, Server, until } from "./server.js";

const NAME = "SmolLM2 135M Instruct";
let browser, server, files;
before(async () => {
  files = await Files.start();
  const settings = { ALLOW_PRIVATE_SOURCES: "1" };
  [browser, server] = await Promise.all([launch(), Server.start({ settings })]);
});
after(async () => {
  await browser?.close();
  await server?.end();
  await files?.end();
});

function card(page, name) {
  return page.getByRole("article", { name, exact: true });
}

async function pull(page, address) {
  await page.getByLabel("Address, or name on the hub").fill(address);
  await page.getByRole("button", { name: "Download", exact: true }).click();
}

test("a model is started with progress, shows what it takes, and is stopped", async () => {
  const page = await open(browser, server, "#/models");
  const model = card(page, NAME);
  await model.getByText("98.4 MB").waitFor();
  await model.getByRole("button", { name: "Start" }).click();
  await model.getByRole("progressbar", { name: `Start of ${NAME}` }).waitFor();
  await model.getByText("running", { exact: true }).waitFor();
  await model.getByRole("img", { name: /Memory of SmolLM2 135M Instruct: .* used, .* promised/ }).waitFor();
  await page.getByRole("img", { name: /Memory of all models: .* used, .* promised of [\d.]+ GiB/ }).waitFor();
  await model.getByText(/[\d.]+ [MG]iB of memory used, [\d.]+ [MG]iB promised/).waitFor();
  assert.deepEqual(await axe(page), []);
  await model.getByRole("button", { name: "Stop" }).click();
  await model.getByText("on disk", { exact: true }).waitFor();
  await close(page);
});

test("a model comes from an address, with progress; what is cancelled leaves nothing", async () => {
  files.content.set("/tiny.gguf", gguf(12 << 20));
  files.held = true;
  const page = await open(browser, server, "#/models");
  await pull(page, `${files.url}/tiny.gguf`);
  const model = card(page, "tiny");
  await model.getByText(/Downloading · [\d.]+ [kM]B of 12.6 MB · \d+ %/).waitFor();
  const value = await model.getByRole("progressbar", { name: "Download of tiny" }).getAttribute("value");
  assert.ok(Number(value) > 0 && Number(value) < 0.6, value);
  assert.deepEqual(await axe(page), []);
  await model.getByRole("button", { name: "Cancel" }).click();
  await model.waitFor({ state: "detached" });
  await until(async () => (await server.api("GET", "models")).data.every(({ id }) => id !== "tiny"), "it to be gone");

  await pull(page, `${files.url}/tiny.gguf`);
  await model.getByText(/Downloading/).waitFor();
  files.release();
  await model.getByText("on disk", { exact: true }).waitFor();
  await close(page);
});

test("a download that fails says why, and is tried again", async () => {
  const page = await open(browser, server, "#/models");
  await pull(page, `${files.url}/late.gguf`);
  const model = card(page, "late");
  await model.getByText(/there is no such file at the source \(404\)/).waitFor();
  assert.deepEqual(await axe(page), []);
  files.content.set("/late.gguf", gguf(1 << 20));
  await model.getByRole("button", { name: "Try again" }).click();
  await model.getByText("on disk", { exact: true }).waitFor();

  await pull(page, "no source at all");
  await page.getByRole("alert").filter({ hasText: "is no source for a model" }).waitFor();
  await close(page);
});

test("a model is deleted with care", async () => {
  files.content.set("/gone.gguf", gguf(1 << 20));
  const page = await open(browser, server, "#/models");
  await pull(page, `${files.url}/gone.gguf`);
  const model = card(page, "gone");
  await model.getByText("on disk", { exact: true }).waitFor();
  await model.getByRole("button", { name: "Delete" }).click();
  const dialog = page.getByRole("dialog", { name: "Delete gone?" });
  await dialog.getByText("1.0 MB of the disk are free again").waitFor();
  assert.deepEqual(await axe(page), []);
  await dialog.getByRole("button", { name: "Keep it" }).click();
  await dialog.waitFor({ state: "detached" });
  await server.api("GET", "models/gone");
  await model.getByRole("button", { name: "Delete" }).click();
  await dialog.getByRole("button", { name: "Delete" }).click();
  await model.waitFor({ state: "detached" });
  await assert.rejects(server.api("GET", "models/gone"), /404/);
  await page.locator("main:focus").waitFor(); // the keyboard goes on there
  await close(page);
});

test("settings of a model: what they mean, what they may be, where they come from, and back", async () => {
  const page = await open(browser, server, "#/models");
  const model = card(page, NAME);
  await model.getByRole("button", { name: "Settings" }).click();

  const temperature = model.getByRole("textbox", { name: "Temperature", exact: true });
  assert.equal(await temperature.inputValue(), "0.7");
  await temperature.fill("3");
  await temperature.press("Tab");
  await model.getByRole("alert").filter({ hasText: "Temperature must be a number from 0 to 2." }).waitFor();
  await temperature.fill("0.25");
  await temperature.press("Tab");
  await until(async () => (await server.readModelJson(REAL)).parameters.temperature === 0.25, "the temperature");
  await model.getByRole("button", { name: "Reset Temperature" }).click();
  await until(async () => !("temperature" in (await server.readModelJson(REAL)).parameters), "the default");
  assert.equal(await temperature.getAttribute("placeholder"), "0.8");

  const context = model.getByRole("textbox", { name: "Context length" });
  await context.fill("2048");
  await context.press("Tab");
  await until(async () => (await server.readModelJson(REAL)).settings.ctx_len === 2048, "the context");
  await model.getByText("Speed", { exact: true }).click();
  await model.getByRole("combobox", { name: "Flash attention" }).selectOption("off");
  await until(async () => (await server.readModelJson(REAL)).settings.flash_attn === false, "the switch");
  assert.deepEqual(await axe(page), []);

  // What only the server knows to be wrong is told in its words, and the field shows what is stored.
  await model.getByText("Weights", { exact: true }).click();
  const lora = model.getByRole("textbox", { name: "LoRA adapter" });
  await lora.fill("nowhere.gguf");
  await lora.press("Tab");
  await page.getByRole("alert").filter({ hasText: "settings.lora must be the plain name of a file" }).waitFor();
  await until(async () => (await lora.inputValue()) === "", "the field to show what is stored");
  const name = model.getByRole("textbox", { name: "Name", exact: true });
  await name.fill("");
  await name.press("Tab");
  await page.getByRole("alert").filter({ hasText: "name must have 1 to 1024 characters" }).waitFor();
  await until(async () => (await name.inputValue()) === NAME, "the name that is stored");
  await close(page);
});

test("a model of another server has no memory here and no settings of a start", async () => {
  const page = await open(browser, server, "#/models");
  const model = card(page, "Scripted");
  await model.getByText(`runs at ${server.script.url}`).waitFor();
  await model.getByRole("button", { name: "Settings" }).click();
  await model.getByRole("textbox", { name: "Temperature", exact: true }).waitFor();
  assert.equal(await model.getByRole("textbox", { name: "Context length" }).count(), 0);
  assert.equal(await model.getByRole("button", { name: "Start" }).count(), 0);
  await close(page);
});

test("assistants are made, changed, talked to and deleted", async () => {
  const page = await open(browser, server, "#/assistants");
  await page.getByRole("button", { name: "New assistant" }).click();
  const form = page.getByRole("form", { name: "New assistant" });
  await form.getByLabel("Name").fill("Pirate");
  await form.getByLabel("Instructions").fill("Talk like a pirate.");
  await form.getByLabel("Model").selectOption(SCRIPTED);
  for (const unfit of ["3", "0.2.5"]) {
    await form.getByRole("textbox", { name: "Temperature" }).fill(unfit);
    await form.getByRole("button", { name: "Save" }).click();
    await form.getByRole("alert").filter({ hasText: "Temperature must be a number from 0 to 2." }).waitFor();
  }
  await form.getByRole("textbox", { name: "Temperature" }).fill("0.3");
  await form.getByLabel("What it is for").fill("Ships. ".repeat(100));
  await form.getByRole("button", { name: "Save" }).click();
  await form.getByRole("alert").filter({ hasText: "must have at most 512 characters" }).waitFor(); // the server's words
  await form.getByLabel("What it is for").fill("Ships.");
  assert.deepEqual(await axe(page), []);
  await form.getByRole("button", { name: "Save" }).click();

  const pirate = card(page, "Pirate");
  await pirate.getByText("Scripted · temperature 0.3").waitFor();
  await pirate.getByRole("button", { name: "Edit" }).click();
  await page.getByRole("form", { name: "Assistant Pirate" }).getByLabel("Name").fill("Captain");
  await page.getByRole("button", { name: "Save" }).click();
  const captain = card(page, "Captain");
  await captain.getByText("Talk like a pirate.").waitFor();
  const stored = (await server.api("GET", "assistants")).data.find(({ name }) => name === "Captain");
  assert.equal(stored.instructions, "Talk like a pirate.");
  assert.equal(await card(page, "Jan").getByRole("button", { name: "Delete" }).count(), 0);

  await captain.getByRole("button", { name: "Talk" }).click();
  await page.waitForURL(/#\/c\/thread_/);
  const thread = await server.api("GET", `threads/${page.url().split("/").at(-1)}`);
  assert.equal(thread.assistants[0].assistant_id, stored.id);

  await page.goBack();
  await captain.getByRole("button", { name: "Delete" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await captain.waitFor({ state: "detached" });
  await assert.rejects(server.api("GET", `assistants/${stored.id}`), /404/);
  await close(page);
});

test("a conversation over its assistant over the model: each value says where it comes from", async () => {
  await server.api("PATCH", `models/${SCRIPTED}`, { parameters: { temperature: 0.2, top_p: 0.6 } });
  const assistant = await server.api("POST", "assistants", { name: "Cook", model: SCRIPTED, temperature: 0.3 });
  const thread = await server.api("POST", "threads", { title: "Soup", assistants: [assistant.id] });
  const page = await open(browser, server, `#/c/${thread.id}`);
  await page.getByRole("button", { name: "Settings of this conversation" }).click();
  const panel = page.getByRole("region", { name: "Settings of this conversation" });
  const temperature = panel.getByRole("textbox", { name: "Temperature", exact: true });
  await panel.getByText("from the assistant").waitFor();
  assert.equal(await temperature.getAttribute("placeholder"), "0.3");
  assert.equal(await panel.getByRole("textbox", { name: "Top p" }).getAttribute("placeholder"), "0.6");
  await panel.getByText("from the model").waitFor();

  await temperature.fill("0.9");
  await temperature.press("Tab");
  await panel.getByText("set for this conversation").waitFor();
  await panel.getByRole("textbox", { name: "Instructions" }).fill("Only soups.");
  await panel.getByRole("textbox", { name: "Instructions" }).press("Tab");
  await until(async () => {
    const { parameters, assistants } = await server.api("GET", `threads/${thread.id}`);
    return parameters.temperature === 0.9 && assistants[0].instructions === "Only soups.";
  }, "the conversation to have them");
  assert.deepEqual(await axe(page), []);
  await page.keyboard.press("Escape");

  await page.getByRole("textbox", { name: "Message" }).fill("What is for dinner?");
  await page.keyboard.press("Enter");
  await page.getByText("It is written.").waitFor();
  const asked = server.script.asked.at(-1);
  assert.deepEqual([asked.temperature, asked.top_p, asked.messages[0].content], [0.9, 0.6, "Only soups."]);

  await page.getByRole("button", { name: "Settings of this conversation" }).click();
  await panel.getByRole("button", { name: "Reset Temperature" }).click();
  await panel.getByText("from the assistant").waitFor();
  assert.deepEqual((await server.api("GET", `threads/${thread.id}`)).parameters, {});
  await panel.getByRole("combobox", { name: "Assistant" }).selectOption("jan");
  await until(async () => {
    const { assistants } = await server.api("GET", `threads/${thread.id}`);
    return assistants[0].assistant_id === "jan";
  }, "another assistant");
  await close(page);
});

// The last one: from here on the server asks for a key.
test("a key that may only ask models sees them, and is told what it may not", async () => {
  await server.api("PUT", `models/${REAL}/start`);
  const key = await server.key("inference");
  const page = await open(browser, server);
  await page.evaluate((given) => sessionStorage.setItem("janflask.key", given), key);
  await page.goto(new URL("#/models", server.url).href);
  await page.reload();
  const model = card(page, NAME);
  await model.getByText(/[\d.]+ [MG]iB of memory used, [\d.]+ [MG]iB promised/).waitFor();
  assert.equal(await page.getByRole("img", { name: /Memory of all models/ }).count(), 0);
  await model.getByRole("button", { name: "Stop" }).click();
  await page.getByRole("alert").filter({ hasText: "admin" }).first().waitFor();
  await model.getByText("running", { exact: true }).waitFor();
  await close(page);
});
