// An answer is the server's: a reload, another tab, a server that was killed and one that cannot be reached change nothing
// of it, and no question is asked twice.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";

import { close, launch, loseAnswer, open, openIn } from "./browser.js";
import { gate, REAL, SCRIPTED, Server, until } from "./server.js";

let browser, server, page;
before(async () => ([browser, server] = await Promise.all([launch(), Server.start({ kind: "vllm" })])));
afterEach(async () => close(page));
after(async () => {
  await browser?.close();
  await server?.end();
});

async function ask(text, on = page) {
  await on.getByRole("textbox", { name: "Message" }).fill(text);
  await on.keyboard.press("Enter");
}

function answers(on = page) {
  return on.getByRole("article", { name: "Answer" });
}

/** A conversation with the scripted model, shown in a new page. */
async function begin() {
  const thread = await server.api("POST", "threads", { model_id: SCRIPTED });
  page = await open(browser, server, `#/c/${thread.id}`);
  await page.getByRole("log").waitFor();
  return thread;
}

async function shownOnce(text, on = page) {
  await on.getByText(text, { exact: true }).waitFor();
  assert.equal(await on.getByText(text, { exact: true }).count(), 1);
}

/** The page does not see by itself what is new on the server. */
async function lookNoMore() {
  await page.addInitScript(() => {
    const wait = setTimeout;
    globalThis.setTimeout = (what, ms, ...more) => (ms === 3000 ? 0 : wait(what, ms, ...more));
  });
  await page.reload();
  await page.getByRole("log").waitFor();
}

test("a reload in mid-answer", async () => {
  const [rest, goOn] = gate();
  server.script.says("One, ", "two, ", rest, "three.");
  const thread = await begin();
  await ask("Count");
  await page.getByText("One, two,").waitFor();
  await page.reload();
  await page.getByText("One, two,").waitFor();
  goOn();
  await shownOnce("One, two, three.");
  assert.deepEqual(await server.stored(thread), ["user: Count", "assistant: One, two, three."]);
});

test("an answer that was asked for elsewhere appears, and streams in every tab", async () => {
  const [rest, goOn] = gate();
  server.script.says("Here ", "and ", rest, "there.");
  const thread = await begin();
  const second = await openIn(page.context(), server, `#/c/${thread.id}`);
  await second.getByRole("log").waitFor();
  await server.api("POST", `threads/${thread.id}/runs`, { additional_messages: [{ role: "user", content: "Where?" }] });
  for (const tab of [page, second]) await tab.getByText("Here and").waitFor();
  goOn();
  for (const tab of [page, second]) await shownOnce("Here and there.", tab);
  assert.equal((await server.stored(thread)).length, 2);
});

test("what another tab asks is seen at once", async () => {
  const [rest, goOn] = gate();
  server.script.says("Both ", rest, "see it.");
  const thread = await begin();
  await lookNoMore();
  const second = await openIn(page.context(), server, `#/c/${thread.id}`);
  await second.getByRole("log").waitFor();
  await ask("Who sees it?", second);
  await page.getByText("Who sees it?").waitFor();
  await page.getByText("Both", { exact: true }).waitFor();
  goOn();
  await shownOnce("Both see it.");
  assert.equal((await server.stored(thread)).length, 2);
});

test("what another tab has answered again is seen at once", async () => {
  server.script.refuses(400, "Not now.");
  const thread = await begin();
  await ask("Now?");
  await page.getByRole("alert").getByText("Not now.").waitFor();
  await lookNoMore();
  await page.getByRole("alert").getByText("Not now.").waitFor();
  server.script.says("Now it is.");
  const second = await openIn(page.context(), server, `#/c/${thread.id}`);
  await second.getByRole("button", { name: "Try again" }).click();
  for (const tab of [second, page]) await shownOnce("Now it is.", tab);
});

test("the server is killed in mid-answer and started again", async () => {
  const [never] = gate();
  const [rest, goOn] = gate();
  server.script.answers = [["First ", "half, ", never], ["second ", rest, "half."]];
  const thread = await begin();
  await ask("Both halves?");
  await page.getByText("First half,").waitFor();
  await server.kill();
  await page.getByText("The server cannot be reached. Trying again.").waitFor();
  await page.getByText("First half,").waitFor(); // stays
  await server.begin();
  await page.getByText("The server cannot be reached. Trying again.").waitFor({ state: "detached" });
  await shownOnce("First half, second");
  goOn();
  await shownOnce("First half, second half.");
  assert.deepEqual(await server.stored(thread), ["user: Both halves?", "assistant: First half, second half."]);
});

test("a model that does not run is started by the first question, and the page says so", async () => {
  const thread = await server.api("POST", "threads", { model_id: REAL, parameters: { max_tokens: 8 } });
  await server.api("PUT", `models/${REAL}/stop`);
  page = await open(browser, server, `#/c/${thread.id}`);
  await page.getByRole("combobox", { name: "Model" }).getByText("SmolLM2").waitFor({ state: "attached" });
  await ask("Say something.");
  await page.getByRole("status").getByText(/^Starting SmolLM2/).waitFor();
  await answers().waitFor();
  assert.equal(await page.getByText(/^Starting/).count(), 0);
});

test("a real model's answer over a SIGKILL: what is shown is what is stored", async () => {
  const parameters = { temperature: 0, max_tokens: 80 };
  const thread = await server.api("POST", "threads", { model_id: REAL, parameters });
  page = await open(browser, server, `#/c/${thread.id}`);
  await ask("Tell me a long story about a river.");
  await until(async () => (await answers().innerText()).length > 20, "the answer to begin");
  await server.kill();
  await server.begin();
  await page.getByRole("button", { name: "Stop" }).waitFor({ state: "detached" });
  const [question, answer, ...more] = await server.stored(thread);
  assert.deepEqual([question, more], ["user: Tell me a long story about a river.", []]);
  // Letters alone: the rest is what Markdown makes of them.
  const letters = (text) => text.replaceAll(/[^a-z]+/gi, "");
  const whole = letters(answer.slice("assistant: ".length));
  await until(async () => letters(await answers().innerText()).includes(whole), "the whole answer");
});

test("a question that is asked while the server is down is asked once", async () => {
  server.script.answers = [["It is back."]];
  const thread = await begin();
  await server.kill();
  await ask("Are you there?");
  await page.getByText("Are you there?").waitFor();
  await page.getByText("The server cannot be reached. Trying again.").waitFor();
  await server.begin();
  await shownOnce("It is back.");
  assert.deepEqual(await server.stored(thread), ["user: Are you there?", "assistant: It is back."]);
});

test("questions in line survive a reload and a SIGKILL, and each is asked once", async () => {
  const [never] = gate();
  server.script.answers = [["Begun, ", never], ["ended."], ["To the second."], ["To the third."]];
  const thread = await begin();
  for (const question of ["First", "Second", "Third"]) await ask(question);
  await page.getByText("Begun,").waitFor();
  await server.kill();
  await page.goto("about:blank");
  await server.begin();
  await page.goto(server.url); // not where they were asked
  await until(async () => (await server.stored(thread)).at(-1) === "assistant: To the third.", "all answers");
  assert.deepEqual(await server.stored(thread), [
    "user: First",
    "assistant: Begun, ended.",
    "user: Second",
    "assistant: To the second.",
    "user: Third",
    "assistant: To the third.",
  ]);
  await page.getByRole("link", { name: "First" }).click();
  await page.getByText("To the third.").waitFor();
  assert.equal(await page.getByRole("region", { name: "Questions in line" }).count(), 0);
});

test("the answer to a request is lost: it is sent again, and asked once", async () => {
  server.script.answers = [["Once."]];
  const thread = await begin();
  const lost = await loseAnswer(page, "**/v1/threads/*/runs");
  await ask("How often?");
  await shownOnce("Once.");
  assert.equal(lost(), 1);
  assert.deepEqual(await server.stored(thread), ["user: How often?", "assistant: Once."]);
});

test("nobody knows what became of a request: what is stored decides", async () => {
  server.script.answers = [["To the one that was there."]];
  const thread = await begin();
  const unknown = { error: { message: "was cut off", code: "idempotency_outcome_unknown", type: "x", param: null } };
  let refused = 0;
  await page.route("**/v1/threads/*/runs", async (route) => {
    if (route.request().method() !== "POST" || refused > 0) return route.continue();
    refused += 1;
    // Its message was stored, and then the server was killed.
    const [message] = route.request().postDataJSON().additional_messages;
    await server.api("POST", `threads/${thread.id}/messages`, message);
    await route.fulfill({ status: 409, json: unknown });
  });
  await ask("What became of it?");
  await shownOnce("To the one that was there.");
  assert.deepEqual(await server.stored(thread), ["user: What became of it?", "assistant: To the one that was there."]);
});
