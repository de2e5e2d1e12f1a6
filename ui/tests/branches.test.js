import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { attach, axe, close, launch, open } from "./browser.js";
import { SCRIPTED, Server, until } from "./server.js";

let browser, server;
before(async () => ([browser, server] = await Promise.all([launch(), Server.start({ models: [SCRIPTED] })])));
after(async () => {
  await browser?.close();
  await server?.end();
});

const at = (thread) => `#/c/${thread.id}`;
const messages = (page) => page.getByRole("log", { name: "Messages" });
const article = (page, text) => page.getByRole("article").filter({ hasText: text });
const version = (page, name) => page.getByRole("group", { name: `Version ${name}` });

/** What stands in the conversation, a line for each message. */
async function said(page) {
  const all = await page.getByRole("article").locator(".said").allInnerTexts();
  return all.map((text) => text.trim());
}

async function family(thread) {
  return server.api("GET", `threads?branches_of=${thread.id}`);
}

/** Asks the question `text` in other words, by keyboard where it can be. */
async function edit(page, text, words) {
  await article(page, text).hover();
  await article(page, text).getByRole("button", { name: "Edit" }).click();
  const field = page.getByRole("textbox", { name: "Question in other words" });
  assert.equal(await field.inputValue(), text);
  await field.fill(words);
  await page.keyboard.press("Enter");
}

test("a question in other words is a branch, and all versions can be gone through", async () => {
  const thread = await server.thread("Edited", [["user", "First?"], ["assistant", "One."], ["user", "Second?"], ["assistant", "Two."]]);
  const page = await open(browser, server, at(thread));
  await messages(page).getByText("Two.").waitFor();
  assert.equal(await page.getByRole("group", { name: "Version" }).count(), 0);

  server.script.says("Deux.");
  await edit(page, "Second?", "Deuxième?");
  await messages(page).getByText("Deux.").waitFor();
  await version(page, "2 of 2").waitFor();
  assert.deepEqual(await said(page), ["First?", "One.", "Deuxième?", "Deux."]);
  const asked = server.script.asked.at(-1).messages.map(({ content }) => content);
  assert.deepEqual(asked.slice(-3), ["First?", "One.", "Deuxième?"]);
  assert.deepEqual(await axe(page), []);

  server.script.says("Zwei.");
  await edit(page, "Deuxième?", "Zweite?");
  await version(page, "3 of 3").waitFor();
  await messages(page).getByText("Zwei.").waitFor();

  await version(page, "3 of 3").getByRole("button", { name: "Version before" }).click();
  await version(page, "2 of 3").waitFor();
  assert.deepEqual(await said(page), ["First?", "One.", "Deuxième?", "Deux."]);
  await page.keyboard.press("ArrowLeft"); // the keyboard stays at the switch
  await version(page, "1 of 3").waitFor();
  assert.deepEqual(await said(page), ["First?", "One.", "Second?", "Two."]);
  await page.keyboard.press("ArrowLeft"); // there is none before
  await page.keyboard.press("ArrowRight");
  await version(page, "2 of 3").waitFor();
  await page.reload();
  await version(page, "2 of 3").waitFor();

  // Another device finds one conversation, with the branch that was looked at last.
  const other = await open(browser, server);
  const links = other.getByRole("link", { name: "Edited" });
  await links.first().waitFor();
  assert.equal(await links.count(), 1);
  await links.click();
  await version(other, "2 of 3").waitFor();
  assert.deepEqual(await said(other), ["First?", "One.", "Deuxième?", "Deux."]);
  await close(other);
  await close(page);
});

test("another answer to the same question is a branch", async () => {
  const thread = await server.thread("Again", [["user", "Which?"], ["assistant", "This."]]);
  const page = await open(browser, server, at(thread));
  server.script.says("That.");
  await article(page, "This.").getByRole("button", { name: "Answer again" }).click();
  await messages(page).getByText("That.").waitFor();
  await version(page, "2 of 2").waitFor();
  assert.deepEqual(await said(page), ["Which?", "That."]);
  // An answer to the answer, and yet another one: the places are apart.
  server.script.says("Then that.");
  await page.getByRole("textbox", { name: "Message" }).fill("And then?");
  await page.keyboard.press("Enter");
  await messages(page).getByText("Then that.").waitFor();
  server.script.says("Or this.");
  await article(page, "Then that.").getByRole("button", { name: "Answer again" }).click();
  await messages(page).getByText("Or this.").waitFor();
  await page.getByRole("group", { name: "Version 2 of 2" }).nth(1).waitFor();
  // The first switch leads away and back to the branch that was left.
  await version(page, "2 of 2").first().getByRole("button", { name: "Version before" }).click();
  await messages(page).getByText("This.").waitFor();
  await page.keyboard.press("ArrowRight");
  await messages(page).getByText("Or this.").waitFor();
  assert.equal((await family(thread)).length, 3);
  await close(page);
});

test("a branch begins anywhere, and leads back", async () => {
  const thread = await server.thread("Anywhere", [["user", "A?"], ["assistant", "A."], ["user", "B?"], ["assistant", "B."]]);
  const page = await open(browser, server, at(thread));
  await article(page, "A.").hover();
  await article(page, "A.").getByRole("button", { name: "Branch from here" }).click();
  await version(page, "2 of 2").waitFor();
  assert.deepEqual(await said(page), ["A?", "A."]);
  server.script.says("C.");
  await page.getByRole("textbox", { name: "Message" }).fill("C?");
  await page.keyboard.press("Enter");
  await messages(page).getByText("C.").waitFor();
  await version(page, "2 of 2").getByRole("button", { name: "Version before" }).click();
  await messages(page).getByText("B.").waitFor();
  assert.deepEqual(await said(page), ["A?", "A.", "B?", "B."]);
  await close(page);
});

test("a branch knows what the answers took that it has in common with others", async () => {
  server.script.says("One", " two");
  const thread = await server.thread("Inherited", []);
  const page = await open(browser, server, at(thread));
  await page.getByRole("textbox", { name: "Message" }).fill("Count");
  await page.keyboard.press("Enter");
  await article(page, "One two").getByRole("button", { name: "What it took" }).waitFor();
  await article(page, "One two").getByRole("button", { name: "Branch from here" }).click();
  await version(page, "2 of 2").waitFor();
  await article(page, "One two").getByRole("button", { name: "What it took" }).click();
  await article(page, "One two").getByText("2 tokens, said in").waitFor();
  await close(page);
});

test("versions can be reached when the message is gone where they parted", async () => {
  const thread = await server.thread("Gone", [["user", "A?"], ["assistant", "A."]]);
  const page = await open(browser, server, at(thread));
  server.script.says("B.");
  await article(page, "A.").getByRole("button", { name: "Answer again" }).click();
  await version(page, "2 of 2").waitFor();
  await article(page, "B.").waitFor();
  await article(page, "A?").hover();
  await article(page, "A?").getByRole("button", { name: "Delete" }).click();
  await page.getByRole("group", { name: "Delete this message?" }).getByRole("button", { name: "Delete" }).click();
  await article(page, "A?").waitFor({ state: "detached" });
  await version(page, "2 of 2").getByRole("button", { name: "Version before" }).click();
  await article(page, "A?").waitFor();
  assert.deepEqual(await said(page), ["A?", "A."]);
  await close(page);
});

test("where the branch that was looked at is gone its conversation is there", async () => {
  const thread = await server.thread("Pruned", [["user", "A?"], ["assistant", "A."]]);
  const branch = await server.api("POST", `threads/${thread.id}/branch`, { before: null });
  await server.api("POST", `threads/${thread.id}`, { metadata: { branch_shown: branch.id } });
  await server.api("DELETE", `threads/${branch.id}`);
  const page = await open(browser, server);
  const link = page.getByRole("link", { name: "Pruned" });
  await link.hover();
  await page.getByRole("button", { name: "More about Pruned" }).click();
  const download = page.waitForEvent("download");
  await page.getByRole("menuitem", { name: "Export" }).click();
  assert.equal((await download).suggestedFilename(), "Pruned.json");
  await link.click();
  await article(page, "A.").waitFor();
  assert.ok(page.url().endsWith(at(thread)), page.url());
  // From now on the link leads here by itself.
  const kept = async () => (await server.api("GET", `threads/${thread.id}`)).metadata.branch_shown === thread.id;
  await until(kept, "the conversation to be what is shown");
  await close(page);
});

test("of a question that is refused no branch stays, and it can be changed", async () => {
  const thread = await server.thread("Refused", [["user", "Say"], ["assistant", "Said."]]);
  await server.api("POST", `threads/${thread.id}`, { model_id: "gone" });
  const page = await open(browser, server, at(thread));
  await edit(page, "Say", "Say it");
  await page.getByRole("alert").filter({ hasText: "gone" }).waitFor();
  assert.equal(await page.getByRole("textbox", { name: "Question in other words" }).inputValue(), "Say it");
  assert.equal((await family(thread)).length, 1);
  await page.keyboard.press("Escape");
  assert.deepEqual(await said(page), ["Say", "Said."]);
  await close(page);
});

test("files stay with a question in other words", async () => {
  server.script.says("Read.");
  const page = await open(browser, server, at(await server.thread("Files")));
  await attach(page, { name: "a.txt", mimeType: "text/plain", buffer: Buffer.from("abc") });
  await page.getByText("a.txt").waitFor();
  await page.getByRole("textbox", { name: "Message" }).fill("What?");
  await page.keyboard.press("Enter");
  await article(page, "Read.").waitFor();
  server.script.says("Read again.");
  await article(page, "What?").hover();
  await article(page, "What?").getByRole("button", { name: "Edit" }).click();
  await page.getByRole("textbox", { name: "Question in other words" }).fill("What is it?");
  await page.getByRole("button", { name: "Ask", exact: true }).click();
  await article(page, "Read again.").waitFor();
  await article(page, "What is it?").getByText("a.txt").waitFor();
  assert.match(server.script.asked.at(-1).messages.at(-1).content, /^What is it\?\nFile "a\.txt":\n```\nabc\n```$/);
  await close(page);
});
