import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { attach, axe, close, launch, open, PHONE, transfer } from "./browser.js";
import { SCRIPTED, Server, until } from "./server.js";

const TOOL = {
  type: "function",
  function: { name: "weather", parameters: { type: "object", properties: { city: { type: "string" } } } },
};
const called = (name, args) => ({ tool_calls: [{ index: 0, id: "call_1", type: "function", function: { name, arguments: args } }] });
const PNG = Buffer.from("\x89PNG\r\n\x1a\n", "latin1");

let browser, server;
before(async () => {
  [browser, server] = await Promise.all([launch(), Server.start({ models: [SCRIPTED], kind: "vllm" })]);
});
after(async () => {
  await browser?.close();
  await server?.end();
});

const at = (thread) => `#/c/${thread.id}`;
const answer = (page) => page.getByRole("article", { name: "Answer" }).last();
const question = (page) => page.getByRole("article", { name: "You" }).last();

function gate() {
  let open;
  return { closed: new Promise((resolve) => (open = resolve)), open };
}

async function ask(page, text) {
  await page.getByRole("textbox", { name: "Message" }).fill(text);
  await page.keyboard.press("Enter");
}

/** A thread with an answer that the model gave to its last message. */
async function answered(title, messages, run = {}) {
  const thread = await server.thread(title, messages);
  const { id } = await server.api("POST", `threads/${thread.id}/runs`, { model: SCRIPTED, ...run });
  const ended = async () => {
    const { status } = await server.api("GET", `threads/${thread.id}/runs/${id}`);
    return !["queued", "in_progress"].includes(status);
  };
  await until(ended, "the run to end");
  return thread;
}

test("thoughts are folded, and can be read while they grow", async () => {
  const [thinks, speaks] = [gate(), gate()];
  server.script.says({ reasoning_content: "First of all" }, thinks.closed, { reasoning_content: " comes this." }, speaks.closed, "Yes.");
  const page = await open(browser, server, at(await server.thread("Thoughts")));
  await ask(page, "Is it?");
  await page.getByText("Thinking").waitFor();
  assert.equal(await page.getByText("First of all").count(), 0);
  await page.getByText("Thinking").click();
  await page.getByText("First of all", { exact: true }).waitFor();
  thinks.open();
  await page.getByText("First of all comes this.").waitFor();
  assert.deepEqual(await axe(page), []);
  speaks.open();
  await answer(page).getByText("Yes.").waitFor();
  await page.getByText(/^Thought( for \d+ s)?$/).waitFor();
  await page.reload();
  await page.getByText(/^Thought( for \d+ s)?$/).click();
  await page.getByText("First of all comes this.").waitFor();
  await close(page);
});

test("a call is shown with its arguments, and takes its output", async () => {
  const thread = await server.api("POST", "threads", { assistants: [{ assistant_id: "jan", tools: [TOOL] }] });
  const page = await open(browser, server, at(thread));
  server.script.says("Let me look. ", called("weather", '{"city":"Paris"}'));
  await ask(page, "How is the weather?");
  const field = page.getByLabel("What weather gives back");
  await field.waitFor();
  assert.match(await answer(page).innerText(), /Let me look\.[^]*Called weather[^]*"city": "Paris"/);
  assert.deepEqual(await axe(page), []);
  await page.reload(); // it waits on the server
  server.script.says("It is warm.");
  await field.fill('{"degrees":28}');
  await page.getByRole("button", { name: "Give the output" }).click();
  await answer(page).getByText("It is warm.").waitFor();
  const told = server.script.asked.at(-1).messages.at(-1);
  assert.deepEqual([told.role, told.tool_call_id, told.content], ["tool", "call_1", '{"degrees":28}']);
  await page.reload();
  await page.getByText("Called weather").click();
  assert.match(await answer(page).innerText(), /"city": "Paris"[^]*It gave back[^]*"degrees": 28[^]*It is warm\./);
  assert.deepEqual(await axe(page), []);
  await close(page);
});

test("an answer that is held to a schema is a form", async () => {
  const schema = { type: "object", properties: { city: { type: "string", title: "Place" }, people: { type: "integer" } } };
  const response_format = { type: "json_schema", json_schema: { name: "place", schema } };
  server.script.says('{"city": "Paris", ', '"people": 2100000}');
  const page = await open(browser, server, at(await answered("Form", [["user", "Where?"]], { response_format })));
  const form = answer(page).getByRole("group", { name: "Answer" });
  await form.waitFor();
  assert.equal(await form.getByLabel("Place").inputValue(), "Paris");
  assert.deepEqual(await axe(page), []);
  await close(page);
});

test("an answer whose form cannot be loaded is shown as it is", async () => {
  const response_format = { type: "json_schema", json_schema: { name: "place", schema: { type: "object" } } };
  server.script.says('{"city": "Paris"}');
  const thread = await answered("No form", [["user", "Where?"]], { response_format });
  const page = await open(browser, server);
  await page.route("**/JsonForm*", (route) => route.abort());
  await page.goto(new URL(at(thread), server.url).href);
  await answer(page).getByText('{"city": "Paris"}').waitFor();
  await close(page);
});

test("a message is copied as it was written", async () => {
  const page = await open(browser, server, at(await server.thread("Copy", [["user", "Hello"], ["assistant", "Some *words*"]])));
  await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  await answer(page).getByRole("button", { name: "Copy" }).click();
  await answer(page).getByRole("button", { name: "Copied" }).waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), "Some *words*");
  await close(page);
});

test("a message is deleted by whoever means it", async () => {
  const thread = await server.thread("Delete", [["user", "One"], ["assistant", "Two"]]);
  const page = await open(browser, server, at(thread));
  await answer(page).getByRole("button", { name: "Delete" }).click();
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Keep");
  assert.deepEqual(await axe(page), []);
  await page.keyboard.press("Escape");
  const label = () => page.evaluate(() => document.activeElement.getAttribute("aria-label"));
  assert.equal(await label(), "Delete"); // the keyboard is where it was
  await page.keyboard.press("Enter");
  await answer(page).getByRole("group", { name: "Delete this message?" }).getByRole("button", { name: "Delete" }).click();
  await page.getByText("Two").waitFor({ state: "detached" });
  assert.equal(await label(), "Messages");
  assert.equal(await page.getByText("One").count(), 1);
  const { data } = await server.api("GET", `threads/${thread.id}/messages`);
  assert.deepEqual(data.map((message) => message.role), ["user"]);
  await close(page);
});

test("what an answer took is told, and all of it on demand", async () => {
  server.script.says("One", " two", " three");
  const page = await open(browser, server, at(await answered("Costs", [["user", "Count"]])));
  const costs = answer(page).getByRole("button", { name: "What it took" });
  assert.match(await costs.innerText(), /scripted/);
  await costs.click();
  assert.match(await answer(page).innerText(), /Prompt\s+10 tokens, 0 of them cached[^]*Answer\s+3 tokens/);
  assert.deepEqual(await axe(page), []);
  await close(page);
});

test("what the model was not shown is said at its answer", async () => {
  server.script.says("I see the last one.");
  const messages = [["user", "One"], ["assistant", "Two"], ["user", "Three"]];
  const shown = { truncation_strategy: { type: "last_messages", last_messages: 1 } };
  const page = await open(browser, server, at(await answered("Left out", messages, shown)));
  await answer(page).getByText("2 older messages were not shown to the model.").waitFor();
  await close(page);
});

test("an answer that was cut goes on where it ends", async () => {
  server.script.says("One, two,");
  const page = await open(browser, server, at(await answered("Continue", [["user", "Count"]])));
  await page.getByText("One, two,").waitFor();
  server.script.says(" three.");
  await answer(page).getByRole("button", { name: "Continue" }).click();
  await answer(page).getByText("One, two, three.").waitFor();
  assert.equal(await page.getByRole("article", { name: "Answer" }).count(), 1);
  await close(page);
});

test("text files go into a question, by button, drop and paste", async () => {
  server.script.says("Read.");
  const page = await open(browser, server, at(await server.thread("Files")));
  const waiting = page.getByRole("list", { name: "Files to be sent" });
  await attach(page, { name: "one.md", mimeType: "text/markdown", buffer: Buffer.from("# One\n```\nx\n```\n") });
  await waiting.getByText("one.md").waitFor();
  await dropped(page, "two.txt", "naïve");
  await waiting.getByText("two.txt").waitFor();
  await pasted(page, "three.log", "gone");
  await waiting.getByRole("button", { name: "Remove three.log" }).click();
  assert.deepEqual(await axe(page), []);
  await ask(page, "What do they say?");
  await answer(page).getByText("Read.").waitFor();
  assert.equal(await waiting.count(), 0);
  const sent = server.script.asked.at(-1).messages.at(-1).content;
  assert.equal(sent, 'What do they say?\nFile "one.md":\n````\n# One\n```\nx\n```\n\n````\nFile "two.txt":\n```\nnaïve\n```');
  assert.equal(await page.getByText("naïve").count(), 0);
  await question(page).getByText("two.txt").click();
  await page.getByText("naïve").waitFor();
  assert.deepEqual(await axe(page), []);
  await close(page);
});

test("files that come at once all go in", async () => {
  const page = await open(browser, server, at(await server.thread("At once")));
  const both = await Promise.all(["a.txt", "b.txt"].map((name) => transfer(page, name, name)));
  await page.getByRole("textbox", { name: "Message" }).evaluate((field, both) => {
    for (const clipboardData of both) field.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true }));
  }, both);
  const waiting = page.getByRole("list", { name: "Files to be sent" });
  await waiting.getByText("b.txt").waitFor();
  assert.deepEqual(await waiting.getByRole("listitem").locator("span").allInnerTexts(), ["a.txt", "b.txt"]);
  await close(page);
});

test("what no model here reads is refused by name", async () => {
  const page = await open(browser, server, at(await server.thread("Pictures")));
  await attach(page, { name: "photo.jpg", mimeType: "image/jpeg", buffer: PNG });
  await page.getByText("photo.jpg is a picture. The models here read text only.").waitFor();
  await dropped(page, "paper.pdf", "%PDF-1.7");
  await page.getByText("paper.pdf is a PDF.").waitFor();
  await pasted(page, "empty.txt", "");
  await page.getByText("empty.txt is empty.").waitFor();
  assert.equal(await page.getByRole("list", { name: "Files to be sent" }).count(), 0);
  await close(page);
});

test("a message can be worked with on a phone", async () => {
  const messages = [["user", "A question that is a little longer than the others are"], ["assistant", "Word ".repeat(60)]];
  const page = await open(browser, server, at(await server.thread("Phone", messages)), PHONE);
  await answer(page).getByRole("button", { name: "Copy" }).tap();
  await question(page).getByRole("button", { name: "Edit" }).tap();
  await page.getByRole("textbox", { name: "Question in other words" }).waitFor();
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
  assert.deepEqual(await axe(page), []);
  await close(page);
});

async function dropped(page, name, text) {
  const data = await transfer(page, name, text);
  const target = page.getByRole("textbox", { name: "Message" });
  await target.dispatchEvent("dragover", { dataTransfer: data });
  await page.getByText("Drop files to attach them").waitFor();
  await target.dispatchEvent("drop", { dataTransfer: data });
}

async function pasted(page, name, text) {
  const data = await transfer(page, name, text);
  await page.getByRole("textbox", { name: "Message" }).evaluate((field, clipboardData) => {
    field.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
  }, data);
}
