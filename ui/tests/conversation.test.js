// A conversation as a person has it.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";

import { axe, close, launch, loseAnswer, open } from "./browser.js";
import { gate, SCRIPTED, Server, until } from "./server.js";

let browser, server, page;
before(async () => ([browser, server] = await Promise.all([launch(), Server.start({ models: [SCRIPTED] })])));
afterEach(async () => close(page));
after(async () => {
  await browser?.close();
  await server?.end();
});

function field() {
  return page.getByRole("textbox", { name: "Message" });
}

function log() {
  return page.getByRole("log", { name: "Messages" });
}

function line() {
  return page.getByRole("region", { name: "Questions in line" });
}

async function ask(text) {
  await field().fill(text);
  await page.keyboard.press("Enter");
}

async function show(thread, options) {
  page = await open(browser, server, `#/c/${thread.id}`, options);
  await log().waitFor();
}

async function begin(options) {
  const thread = await server.api("POST", "threads", { model_id: SCRIPTED });
  await show(thread, options);
  return thread;
}

/** A thread of many messages, made in one step. */
async function longThread(count, title = "A long talk") {
  const messages = Array.from({ length: count }, (_, index) => ({
    role: index % 2 === 0 ? "user" : "assistant",
    content: `Message ${index + 1}.\n\n${"It has a few lines of words. ".repeat(1 + (index % 5) * 4)}`,
  }));
  return server.api("POST", "threads", { title, model_id: SCRIPTED, messages });
}

test("a new conversation: the first question is asked, and gives it its title", async () => {
  server.script.says("By rain.");
  page = await open(browser, server);
  await ask("How do rivers begin?");
  await page.getByText("By rain.").waitFor();
  await page.getByRole("heading", { name: "How do rivers begin?" }).waitFor();
  await page.getByRole("link", { name: "How do rivers begin?" }).waitFor();
  assert.equal(await field().inputValue(), "");
  assert.ok(await field().evaluate((element) => element === document.activeElement), "one can write on");
  assert.deepEqual(await axe(page), []);
});

test("keys: Enter sends, Shift+Enter begins a line, Ctrl+Enter sends", async () => {
  server.script.says("Both.");
  const thread = await begin();
  await field().fill("One");
  await page.keyboard.press("Shift+Enter");
  await page.keyboard.type("two");
  await page.keyboard.press("Control+Enter");
  await page.getByText("Both.").waitFor();
  assert.deepEqual(await server.stored(thread), ["user: One\ntwo", "assistant: Both."]);
});

test("stop: what was said stays, and one may try again", async () => {
  const [never] = gate();
  server.script.answers = [["As far ", "as here", never], ["All of it."]];
  const thread = await begin();
  await ask("How far?");
  await page.getByText("As far as here").waitFor();
  await page.getByRole("button", { name: "Stop" }).click();
  await page.getByText("The answer was stopped here.").waitFor();
  assert.deepEqual(await server.stored(thread), ["user: How far?", "assistant: As far as here"]);
  assert.deepEqual(await axe(page), []);
  await page.getByRole("button", { name: "Try again" }).click();
  await page.getByText("All of it.").waitFor();
  assert.equal(await page.getByText("As far as here").count(), 0, "the new one stands in its place");
  assert.equal((await server.stored(thread)).length, 2, "the old one is kept");
});

test("an answer that fails says why, in the server's words; trying again answers the same question", async () => {
  server.script.refuses(400, "This model is on holiday.");
  const thread = await begin();
  await ask("Are you there?");
  await page.getByRole("alert").getByText("on holiday").waitFor();
  assert.deepEqual(await axe(page), []);
  server.script.says("Back again.");
  await page.getByRole("button", { name: "Try again" }).click();
  await page.getByText("Back again.").waitFor();
  assert.deepEqual(await server.stored(thread), ["user: Are you there?", "assistant: Back again."]);
});

test("a question that is refused stays, with what the server says; it can be changed and asked", async () => {
  const thread = await server.api("POST", "threads", { model_id: "gone" });
  await show(thread);
  await ask("Who answers?");
  const refused = line().getByRole("alert");
  await refused.getByText("gone").waitFor();
  assert.deepEqual(await axe(page), []);
  await page.reload();
  await refused.waitFor();
  await server.api("POST", `threads/${thread.id}`, { model_id: SCRIPTED });
  await page.reload();
  server.script.says("I do.");
  await line().getByRole("button", { name: "Try again" }).click();
  await page.getByText("I do.").waitFor();
  assert.deepEqual(await server.stored(thread), ["user: Who answers?", "assistant: I do."]);
});

test("questions in line: changed, taken back, and asked one after the other", async () => {
  const [rest, goOn] = gate();
  server.script.answers = [["First", rest, " done."], ["Second done."]];
  const thread = await begin();
  await ask("One");
  await page.getByText("First").waitFor();
  for (const text of ["Tow", "Three"]) await ask(text);
  await line().getByText("Three").waitFor();
  assert.deepEqual(await axe(page), []);
  await line().getByRole("button", { name: "Edit: Tow" }).click();
  await line().getByRole("textbox", { name: "Question" }).fill("Two");
  await page.keyboard.press("Enter");
  await line().getByRole("button", { name: "Remove: Three" }).click();
  assert.equal(await line().getByText("Three").count(), 0);
  goOn();
  await page.getByText("Second done.").waitFor();
  const all = ["user: One", "assistant: First done.", "user: Two", "assistant: Second done."];
  assert.deepEqual(await server.stored(thread), all);
  await line().waitFor({ state: "detached" });
});

test("the line waits behind an answer that was stopped, until one says that it goes on", async () => {
  const [never] = gate();
  server.script.answers = [["Endless", never], ["At last."]];
  await begin();
  await ask("One");
  await page.getByText("Endless").waitFor();
  await ask("Two");
  await page.getByRole("button", { name: "Stop" }).click();
  await line().getByText("They wait").waitFor();
  await page.reload();
  await line().getByText("They wait").waitFor();
  assert.deepEqual(await axe(page), []);
  await line().getByRole("button", { name: "Ask them now" }).click();
  await page.getByText("At last.").waitFor();
});

test("a question behind an answer that was stopped is asked, also if it comes before the conversation is read", async () => {
  const [never] = gate();
  server.script.answers = [[never], ["Asked."]];
  const thread = await server.thread("Stopped once", [["user", "Anybody?"]]);
  const runs = `threads/${thread.id}/runs`;
  const run = await server.api("POST", runs, { model: SCRIPTED });
  await until(() => server.script.asked.some(({ messages }) => messages.at(-1).content === "Anybody?"), "the model");
  await server.api("POST", `${runs}/${run.id}/cancel`);
  await until(async () => (await server.api("GET", `${runs}/${run.id}`)).status === "cancelled", "its end");
  const [read, goOn] = gate();
  page = await open(browser, server, "");
  await page.route("**/runs?limit=*", async (route) => {
    await read;
    await route.continue();
  });
  await page.getByRole("link", { name: "Stopped once" }).click();
  await ask("And now?");
  goOn();
  await page.getByText("Asked.").waitFor();
});

test("questions are asked while another conversation is looked at", async () => {
  const [rest, goOn] = gate();
  server.script.answers = [["Begun", rest, " and ended."], ["The second."]];
  const thread = await begin();
  const other = await server.thread("Another");
  await ask("One");
  await page.getByText("Begun").waitFor();
  await ask("Two");
  await page.getByRole("link", { name: "Another" }).click();
  await page.getByRole("heading", { name: "Another" }).waitFor();
  goOn();
  await until(async () => (await server.stored(thread)).length === 4, "both answers");
  assert.deepEqual(await server.stored(other), []);
});

test("a question in line that has files stays when its words are taken away", async () => {
  const [rest, goOn] = gate();
  server.script.answers = [["First", rest, " done."], ["Read."]];
  const thread = await begin();
  await ask("One");
  await page.getByText("First").waitFor();
  const chooser = page.waitForEvent("filechooser");
  await page.getByRole("button", { name: "Attach files" }).click();
  await (await chooser).setFiles({ name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("of a file") });
  await page.getByText("notes.txt").waitFor();
  await ask("Read it");
  await line().getByRole("button", { name: "Edit: Read it" }).click();
  await line().getByRole("textbox", { name: "Question" }).fill("");
  await page.keyboard.press("Enter");
  await line().getByText("with a file").waitFor();
  goOn();
  await page.getByText("Read.").waitFor();
  const [, , question] = await server.stored(thread);
  assert.match(question, /^user: File "notes.txt":\n```\nof a file/);
});

test("the assistant that is chosen in the settings answers the next question", async () => {
  const make = (name, model) => server.api("POST", "assistants", { name, model });
  const [gone] = [await make("Gone", "gone"), await make("Here", SCRIPTED)];
  await show(await server.api("POST", "threads", { assistants: [gone.id] }));
  await page.getByRole("button", { name: "Settings of this conversation" }).click();
  const changed = page.waitForResponse((response) => response.request().method() === "PATCH");
  await page.getByRole("combobox", { name: "Assistant" }).selectOption("Here");
  await changed;
  await page.getByRole("button", { name: "Close" }).click();
  const chosen = page.getByRole("combobox", { name: "Model" }).locator("option:checked");
  await chosen.getByText("Scripted").waitFor({ state: "attached" });
  server.script.says("I am here.");
  await ask("Who answers?");
  await page.getByText("I am here.").waitFor();
});

test("settings that cannot be loaded say so", async () => {
  await begin();
  await page.route("**/ParametersPanel*.js", (route) => route.abort());
  await page.getByRole("button", { name: "Settings of this conversation" }).click();
  await page.getByRole("alert").getByText("could not be loaded").waitFor();
  assert.deepEqual(await axe(page), []);
});

test("a conversation whose beginning was not heard of is begun with another model", async () => {
  page = await open(browser, server);
  await page.route("**/v1/models", async (route) => {
    const { data } = await (await route.fetch()).json();
    await route.fulfill({ json: { data: [...data, { ...data[0], id: "other", name: "Other" }] } });
  });
  const model = page.getByRole("combobox", { name: "Model" });
  await model.getByText("Other").waitFor({ state: "attached" });
  await model.selectOption(SCRIPTED);
  await loseAnswer(page, "**/v1/threads");
  await ask("Shall we?");
  await page.getByRole("alert").getByText("cannot be reached").waitFor();
  await model.selectOption("other");
  await field().press("Enter");
  await line().getByText("Shall we?").waitFor();
  await line().getByRole("alert").getByText("other").waitFor(); // that is as far as a model goes that is not there
});

test("a draft is kept, one for each conversation", async () => {
  const [one, two] = [await server.thread("First draft"), await server.thread("Second draft")];
  await show(one);
  await field().fill("Half a thou");
  await page.getByRole("link", { name: "Second draft" }).click();
  await page.getByRole("heading", { name: "Second draft" }).waitFor();
  assert.equal(await field().inputValue(), "");
  await page.getByRole("link", { name: "First draft" }).click();
  await page.getByRole("heading", { name: "First draft" }).waitFor();
  assert.equal(await field().inputValue(), "Half a thou");
  await field().fill("Half a thought");
  await page.reload();
  await log().waitFor();
  assert.equal(await field().inputValue(), "Half a thought");
  assert.deepEqual(await server.stored(one), []);
  assert.deepEqual(await server.stored(two), []);
});

test("in a browser that keeps nothing one asks all the same, in the light that one chose", async () => {
  server.script.says("Gladly.");
  page = await open(browser, server);
  await page.addInitScript(() => {
    const get = () => {
      throw new DOMException("Access is denied for this document.", "SecurityError");
    };
    for (const name of ["localStorage", "sessionStorage"]) Object.defineProperty(globalThis, name, { get });
  });
  await page.reload();
  await page.getByRole("button", { name: "More", exact: true }).click();
  await page.getByRole("menuitemradio", { name: "Dark", exact: true }).click();
  await page.locator(":root[data-theme=dark]").waitFor();
  await page.getByRole("button", { name: "Hide the list" }).click();
  await ask("May I?");
  await page.getByText("Gladly.").waitFor();
});

test("2,000 messages: the newest are there, older ones come in front without a jump", async () => {
  const thread = await longThread(2000);
  await show(thread);
  const articles = page.getByRole("article");
  await page.getByText("Message 2000.").waitFor();
  assert.equal(await articles.count(), 50);
  const distance = () => log().evaluate((element) => element.scrollHeight - element.scrollTop - element.clientHeight);
  await until(async () => (await distance()) < 2, "the end to be shown");
  await log().hover();
  for (const more of [75, 100, 125]) {
    while ((await articles.count()) < more) await page.mouse.wheel(0, -400);
    assert.equal(await articles.count(), more);
  }
  const numbers = await articles.evaluateAll((all) => all.map((one) => Number(/Message (\d+)\./.exec(one.textContent)[1])));
  assert.deepEqual(numbers, Array.from({ length: 125 }, (_, index) => 1876 + index));
  await page.getByRole("button", { name: "To the end" }).click();
  await until(async () => (await distance()) < 2, "the end to be shown");
  assert.equal(await page.getByRole("button", { name: "To the end" }).count(), 0);
});

for (const place of [0, 300]) {
  test(`what is seen does not move when older messages come, ${place} pixels from the first`, async () => {
    const thread = await longThread(300);
    await show(thread);
    await page.getByText("Message 300.").waitFor();
    const [loaded, goOn] = gate();
    await page.route("**/messages?*after=*", async (route) => {
      await loaded;
      await route.continue();
    });
    await log().evaluate((element, top) => (element.scrollTop = top), place);
    const seen = page.getByText("Message 252.");
    const top = async () => (await seen.boundingBox()).y;
    await until(async () => (await log().evaluate((element) => element.scrollTop)) === place, "the place");
    const before = await top();
    goOn();
    await until(async () => (await page.getByRole("article").count()) === 75, "older messages");
    const moved = (await top()) - before;
    assert.ok(Math.abs(moved) <= 1, `by ${moved} pixels`);
  });
}

test("it stays at the end while an answer grows, and where its reader scrolled to", async () => {
  const lines = (from, to) => Array.from({ length: to - from }, (_, index) => `Line ${from + index}\n\n`).join("");
  const [more, goOn] = gate();
  server.script.says(lines(1, 60), more, lines(60, 120), "The end.");
  await begin();
  await ask("Many lines");
  await page.getByText("Line 59").waitFor();
  const distance = () => log().evaluate((element) => element.scrollHeight - element.scrollTop - element.clientHeight);
  await until(async () => (await distance()) < 2, "the end to be shown");
  await log().hover();
  await page.mouse.wheel(0, -300);
  await page.getByRole("button", { name: "To the end" }).waitFor();
  const place = await log().evaluate((element) => element.scrollTop);
  goOn();
  await page.getByText("The end.").waitFor({ state: "attached" });
  assert.equal(await log().evaluate((element) => element.scrollTop), place);
  await page.getByRole("button", { name: "To the end" }).click();
  await until(async () => (await distance()) < 2, "the end to be shown");
});

test("those who hear the page are told each finished answer, once", async () => {
  const [rest, goOn] = gate();
  server.script.says("Word ", "by ", "word ", rest, "it came.");
  page = await open(browser, server, "");
  await page.addInitScript(() => {
    globalThis.told = [];
    Document.prototype.ariaNotify = (text) => globalThis.told.push(text);
  });
  await page.reload();
  await ask("How did it come?");
  await page.getByText("Word by word").waitFor();
  assert.deepEqual(await page.evaluate(() => globalThis.told), []);
  goOn();
  await page.getByText("Word by word it came.").waitFor();
  await until(async () => (await page.evaluate(() => globalThis.told)).length > 0, "it to be told");
  assert.deepEqual(await page.evaluate(() => globalThis.told), ["Word by word it came."]);
  await ask("And again?"); // with the same words
  await until(async () => (await page.evaluate(() => globalThis.told)).length > 1, "it to be told");
  assert.deepEqual(await page.evaluate(() => globalThis.told), Array(2).fill("Word by word it came."));
});

test("a conversation that is not here says so", async () => {
  page = await open(browser, server, "#/c/thread_unknown");
  await page.getByText("This conversation is not here").waitFor();
  assert.deepEqual(await axe(page), []);
});

test("on a phone: all of it is within the screen", async () => {
  server.script.says("Small.");
  await begin({ viewport: { width: 360, height: 640 }, colorScheme: "dark" });
  await ask("How wide?");
  await page.getByText("Small.").waitFor();
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(wide <= 360, `${wide} wide`);
  assert.deepEqual(await axe(page), []);
});
