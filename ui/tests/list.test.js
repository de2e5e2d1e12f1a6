// The list of conversations, as a person uses it.

import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { after, before, test } from "node:test";

import { axe, close, launch, open, openIn, transfer } from "./browser.js";
import { SCRIPTED, Server, until } from "./server.js";

const DAY_MS = 86_400_000;

let browser, server;
before(async () => ([browser, server] = await Promise.all([launch(), Server.start({ models: [SCRIPTED] })])));
after(async () => {
  await browser?.close();
  await server?.end();
});

const row = (page, name) => page.getByRole("navigation").getByRole("link", { name, exact: true });
const notice = (page) => page.getByRole("group", { name: "Notices" }).getByRole("status");

/** Chooses from the menu of a conversation. */
async function choose(page, title, action) {
  await row(page, title).hover();
  await page.getByRole("button", { name: `More about ${title}`, exact: true }).click();
  await page.getByRole("menuitem", { name: action }).click();
}

async function exists(id) {
  return (await fetch(new URL(`v1/threads/${id}`, server.url))).ok;
}

const DIGITS = "0123456789abcdefghjkmnpqrstvwxyz";

/** An id of a thread that began so many days ago: its first ten characters are the time. */
function idOf(daysAgo, number) {
  let time = Date.now() - daysAgo * DAY_MS;
  let id = "";
  for (let at = 0; at < 10; at++, time = Math.floor(time / 32)) id = DIGITS[time % 32] + id;
  return `thread_${id}${String(number).padStart(16, "0")}`;
}

test("conversations stand in folders by time, the newest first, and come by themselves", async () => {
  const today = idOf(0, 1);
  await server.api("POST", "threads", { id: today, title: "Of today" });
  await server.api("POST", "threads", { id: idOf(1, 2), title: "Of yesterday" });
  await server.api("POST", "threads", { id: idOf(400, 3), title: "Long ago" });
  const page = await open(browser, server);
  await row(page, "Of today").waitFor();
  const folder = (name) => page.getByRole("list", { name, exact: true }).getByRole("link");
  assert.deepEqual(await folder("Today").allTextContents(), ["Of today"]);
  assert.deepEqual(await folder("Yesterday").allTextContents(), ["Of yesterday"]);
  const month = new Intl.DateTimeFormat("en", { month: "long", year: "numeric" });
  assert.deepEqual(await folder(month.format(Date.now() - 400 * DAY_MS)).allTextContents(), ["Long ago"]);
  assert.deepEqual(await axe(page), []);

  await server.thread("From the API");
  await row(page, "From the API").waitFor();
  assert.deepEqual(await folder("Today").allTextContents(), ["From the API", "Of today"]);
  await server.api("DELETE", `threads/${today}`);
  await row(page, "Of today").waitFor({ state: "detached" });
  await close(page);
});

test("search finds what was said, and says when nothing was", async () => {
  await server.thread("Gardening", [["user", "When do I prune an apple tree?"]]);
  await server.thread("Music", [["user", "What is a fugue?"]]);
  const page = await open(browser, server);
  await row(page, "Music").waitFor();
  await page.keyboard.press("Control+k");
  await page.keyboard.type("apple prune");
  await page.getByText("1 found").waitFor();
  await row(page, "Gardening").waitFor();
  assert.equal(await row(page, "Music").count(), 0);
  assert.deepEqual(await axe(page), []);
  await page.keyboard.type(" fugue");
  await page.getByText("No conversation has these words.").waitFor();
  await page.keyboard.press("Escape");
  await row(page, "Music").waitFor();
  await close(page);
});

test("a search that could not be asked says so, and is asked again", async () => {
  await server.thread("Beekeeping");
  const page = await open(browser, server);
  await row(page, "Beekeeping").waitFor();
  await page.context().setOffline(true);
  await page.getByRole("searchbox").fill("beekeeping");
  await page.getByText("The server cannot be reached.").waitFor();
  await until(async () => (await page.getByText("Searching…").count()) === 0, "the search to end");
  assert.equal(await page.getByText("No conversation has these words.").count(), 0);
  await page.context().setOffline(false);
  await page.getByText("1 found").waitFor();
  await close(page);
});

test("a title is written anew in its place, and other tabs have it", async () => {
  const { id } = await server.thread("Draft");
  const page = await open(browser, server, `#/c/${id}`);
  const other = await openIn(page.context(), server);
  await row(other, "Draft").waitFor();
  await page.bringToFront();
  await row(page, "Draft").focus();
  await page.keyboard.press("F2");
  const field = page.getByRole("textbox", { name: "Title" });
  await field.fill("  Never kept ");
  await page.keyboard.press("Escape");
  await row(page, "Draft").waitFor();
  await choose(page, "Draft", "Rename");
  assert.deepEqual(await axe(page), []);
  await field.fill("Fair copy");
  await page.keyboard.press("Enter");
  await row(page, "Fair copy").waitFor();
  await row(other, "Fair copy").waitFor();
  assert.equal(await page.title(), "Fair copy · janflask");
  assert.equal((await server.api("GET", `threads/${id}`)).title, "Fair copy");
  await close(page);
});

test("a new title is shown while the server is told", async () => {
  const { id } = await server.thread("Before");
  const page = await open(browser, server);
  await row(page, "Before").waitFor();
  let release;
  const held = new Promise((resolve) => (release = resolve));
  await page.route(`**/threads/${id}`, async (route) => {
    await held;
    await route.continue();
  });
  await page.clock.install(); // no look is due meanwhile
  await page.clock.pauseAt(Date.now() + 10_000);
  await row(page, "Before").focus();
  await page.keyboard.press("F2");
  await page.getByRole("textbox", { name: "Title" }).fill("After");
  const asked = [];
  page.on("request", (request) => asked.push(`${request.method()} ${new URL(request.url()).pathname}`));
  await page.keyboard.press("Enter");
  await until(() => asked.includes(`PATCH /v1/threads/${id}`), "the server to be told");
  await row(page, "After").waitFor();
  // The family was asked for, and nothing else: the list as it was would bring the old title back.
  assert.deepEqual(asked, ["GET /v1/threads", `PATCH /v1/threads/${id}`]);
  release();
  await until(async () => (await server.api("GET", `threads/${id}`)).title === "After", "the title to be kept");
  await close(page);
});

test("a title that the server does not take is as it was", async () => {
  const { id } = await server.thread("Stays");
  const page = await open(browser, server);
  await page.route(`**/threads/${id}`, (route) => {
    const error = { message: "The disk is full.", type: "server_error", code: "full", param: null };
    return route.fulfill({ status: 507, contentType: "application/json", body: JSON.stringify({ error }) });
  });
  await choose(page, "Stays", "Rename");
  await page.getByRole("textbox", { name: "Title" }).fill("Goes");
  await page.keyboard.press("Enter");
  await page.getByRole("alert").getByText("The disk is full.").waitFor();
  await row(page, "Stays").waitFor();
  await close(page);
});

test("what is deleted comes back if that is undone", async () => {
  const { id } = await server.thread("Precious", [["user", "Keep me."]]);
  const page = await open(browser, server, `#/c/${id}`);
  await choose(page, "Precious", "Delete");
  await notice(page).getByText("“Precious” deleted").waitFor();
  assert.equal(await row(page, "Precious").count(), 0);
  await page.getByRole("heading", { name: "What is it about?" }).waitFor();
  assert.deepEqual(await axe(page), []);
  await page.getByRole("button", { name: "Undo" }).click();
  await row(page, "Precious").waitFor();
  await page.getByText("Keep me.").waitFor();

  await row(page, "Precious").focus();
  await page.keyboard.press("Delete");
  await notice(page).waitFor();
  await page.keyboard.press("Control+z");
  await row(page, "Precious").waitFor();
  assert.ok(await exists(id));
  await close(page);
});

test("what is deleted is gone from the server when its notice is, or the page", async () => {
  const [one, two, three] = [await server.thread("One"), await server.thread("Two"), await server.thread("Three")];
  const page = await open(browser, server);
  await choose(page, "One", "Delete");
  await notice(page).getByRole("button", { name: "Close" }).click();
  await until(async () => !(await exists(one.id)), "the first to go");
  await choose(page, "Two", "Delete");
  await notice(page).waitFor();
  await page.clock.install();
  await page.getByRole("button", { name: "Undo" }).hover();
  await page.clock.fastForward(20_000);
  assert.ok(await exists(two.id), "a notice that is being read stays");
  await page.mouse.move(0, 0);
  await page.clock.fastForward(10_000);
  await until(async () => !(await exists(two.id)), "the second to go with its notice");
  await choose(page, "Three", "Delete");
  await notice(page).waitFor();
  await page.goto("about:blank");
  await until(async () => !(await exists(three.id)), "the third to go with the page");
  await close(page);
});

test("a conversation goes with its branches, and nothing else does", async () => {
  const bystander = await server.thread("Bystander");
  const root = await server.thread("Forked");
  const metadata = { branch_root: root.id, branch_parent: root.id, branch_after: "" };
  const branches = [];
  for (let at = 0; at < 2; at++) branches.push(await server.api("POST", "threads", { title: "Fork", metadata }));
  const page = await open(browser, server);
  await choose(page, "Forked", "Delete");
  await notice(page).getByText("“Forked” and its 2 branches deleted").waitFor();
  await row(page, "Fork").first().waitFor({ state: "detached" });
  await notice(page).getByRole("button", { name: "Close" }).click();
  for (const { id } of [root, ...branches]) await until(async () => !(await exists(id)), `${id} to go`);
  assert.ok(await exists(bystander.id));
  await close(page);
});

test("one that cannot be deleted is in the list again", async () => {
  await server.thread("Stubborn");
  const page = await open(browser, server);
  await row(page, "Stubborn").waitFor();
  await choose(page, "Stubborn", "Delete");
  await notice(page).waitFor();
  await page.context().setOffline(true);
  await notice(page).getByRole("button", { name: "Close" }).click();
  await page.getByRole("alert").getByText("The server cannot be reached.").waitFor();
  await row(page, "Stubborn").waitFor();
  await page.context().setOffline(false);
  await close(page);
});

test("a conversation is exported, and imported by button and by drop", async () => {
  await server.thread("To go: a/b", [["user", "Ten words."]]);
  const page = await open(browser, server);
  const [download] = await Promise.all([page.waitForEvent("download"), choose(page, "To go: a/b", "Export")]);
  assert.equal(download.suggestedFilename(), "To go a b.json");
  const document = await readFile(await download.path());
  assert.match(document.toString(), /Ten words\./);

  const take = async (files) => {
    await page.getByRole("button", { name: "More", exact: true }).click();
    const chooser = page.waitForEvent("filechooser");
    await page.getByRole("menuitem", { name: "Import conversations" }).click();
    await (await chooser).setFiles(files);
  };
  await take({ name: "one.json", mimeType: "application/json", buffer: document });
  await notice(page).getByText("1 conversation imported.").waitFor();
  await until(async () => (await row(page, "To go: a/b").count()) === 2, "the copy to be listed");

  const files = await transfer(page, "dropped.json", document.toString());
  const list = page.getByRole("navigation");
  await list.dispatchEvent("dragover", { dataTransfer: files });
  await page.getByText("Drop files here to import them").waitFor();
  await list.dispatchEvent("drop", { dataTransfer: files });
  await until(async () => (await row(page, "To go: a/b").count()) === 3, "the dropped one to be listed");

  await take([
    { name: "bad.json", mimeType: "application/json", buffer: Buffer.from("{") },
    { name: "good.json", mimeType: "application/json", buffer: document },
  ]);
  const report = page.getByRole("dialog", { name: "Import" });
  await report.getByText("1 conversation imported.").waitFor();
  await report.getByText("bad.json").waitFor();
  assert.deepEqual(await axe(page), []);
  await report.getByRole("button", { name: "Close" }).click();
  await close(page);
});

test("everything is exported as one archive, which can be imported", async () => {
  const page = await open(browser, server);
  await page.getByRole("button", { name: "More", exact: true }).click();
  const download = page.waitForEvent("download");
  await page.getByRole("menuitem", { name: "Export all conversations" }).click();
  const archive = await download;
  assert.match(archive.suggestedFilename(), /^conversations-\d{4}-\d\d-\d\d\.zip$/);
  await page.getByLabel("Files to import").setInputFiles(await archive.path());
  await page.getByText(/imported\./).waitFor();
  await close(page);
});

test("arrows lead through the list, and Tab past it", async () => {
  const page = await open(browser, server);
  const rows = page.getByRole("navigation").locator(".list a");
  await until(async () => (await rows.count()) > 3, "the list");
  await rows.first().focus();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowDown");
  const focused = (at) => rows.nth(at).evaluate((link) => link === document.activeElement);
  assert.ok(await focused(2));
  await page.keyboard.press("Home");
  assert.ok(await focused(0));
  await page.keyboard.press("Tab"); // what can be done with it
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent.trim()), "Models");
  await close(page);
});

test("of ten thousand those are drawn that are seen, and all can be reached", async () => {
  const many = await Server.start({ models: [SCRIPTED] });
  try {
    for (let number = 0; number < 10_000; number++) {
      const id = idOf(number / 24, number);
      const folder = path.join(many.dataDir, "threads", id);
      mkdirSync(folder, { recursive: true });
      const time = Date.now() - (number / 24) * DAY_MS;
      const thread = { id, object: "thread", title: `Number ${number}`, assistants: [], metadata: {} };
      writeFileSync(path.join(folder, "thread.json"), JSON.stringify({ ...thread, created: time, updated: time }));
    }
    const page = await open(browser, many);
    await row(page, "Number 0").waitFor();
    const rows = page.getByRole("navigation").locator("li a[data-id]");
    assert.ok((await rows.count()) <= 130, `${await rows.count()} rows are drawn at first`);
    for (let number = 100; number <= 500; number += 100) {
      await rows.last().scrollIntoViewIfNeeded();
      await until(async () => (await rows.count()) > number, `more than ${number} rows`);
    }
    const titles = await rows.allTextContents();
    assert.deepEqual(titles, titles.map((_, at) => `Number ${at}`));
    await page.getByRole("searchbox").fill("Number 9999");
    await row(page, "Number 9999").waitFor();
    await page.keyboard.press("Escape");
    assert.ok((await rows.count()) >= titles.length);
    await close(page);
  } finally {
    await many.end();
  }
});
