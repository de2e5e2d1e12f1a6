// What frames every screen: the way around by mouse, keyboard and touch, light and dark, and the key that opens it.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, before, test } from "node:test";
import { promisify } from "node:util";

import { axe, close, launch, open, openIn, PHONE } from "./browser.js";
import { PYTHON, ROOT, SCRIPTED, Server, until } from "./server.js";


let browser, server, locked;
before(async () => {
  const start = () => Server.start({ models: [SCRIPTED] });
  [browser, server] = await Promise.all([launch(), start()]);
  locked = await start();
});
after(async () => {
  await browser?.close();
  await server?.end();
  await locked?.end();
});

const list = (page) => page.getByRole("navigation", { name: "Conversations" });
const isFocused = (locator) => locator.evaluate((element) => element === document.activeElement);
const ground = (page) => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);

test("a question is answered", async () => {
  const page = await open(browser, server);
  await page.getByRole("textbox", { name: "Message" }).fill("Is it written?");
  await page.keyboard.press("Enter");
  await page.getByText("It is written.").first().waitFor();
  assert.match(page.url(), /#\/c\/thread_/);
  await close(page);
});

test("a server that does not say what it has keeps nobody from the page", async () => {
  const context = await browser.newContext();
  await context.route("**/v1/**", () => {}); // none is ever answered
  const page = await openIn(context, server);
  await page.getByRole("textbox", { name: "Message" }).waitFor();
  await close(page);
});

for (const [screen, title] of [
  ["", "New conversation"],
  ["#/models", "Models"],
  ["#/assistants", "Assistants"],
  ["#/server", "Server"],
]) {
  test(`axe finds nothing at /${screen}, light and dark, wide and narrow`, async () => {
    const page = await open(browser, server, screen);
    await page.getByRole("heading", { level: 1 }).first().waitFor();
    assert.equal(await page.title(), `${title} · janflask`);
    assert.deepEqual(await axe(page), []);
    await page.emulateMedia({ colorScheme: "dark" });
    assert.deepEqual(await axe(page), []);
    await page.setViewportSize(PHONE.viewport);
    assert.deepEqual(await axe(page), []);
    const wider = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(wider <= 0, `the page is ${wider} px wider than a phone`);
    await close(page);
  });
}

test("a link leads on, with the keyboard, too", async () => {
  const page = await open(browser, server);
  await list(page).getByRole("link", { name: "Models" }).focus();
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Models" }).waitFor();
  await until(() => isFocused(page.getByRole("main")), "the screen to have the focus");
  await page.goBack();
  await page.getByRole("heading", { name: "What is it about?" }).waitFor();
  assert.equal(await page.title(), "New conversation · janflask");

  await page.goForward();
  await page.reload();
  await page.getByRole("heading", { name: "Models" }).waitFor();
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  assert.ok(await isFocused(page.getByRole("main")), "the first Tab leads past the list");
  await close(page);
});

test("the list can be folded away, and stays so", async () => {
  const page = await open(browser, server, "#/models");
  await page.getByRole("button", { name: "Hide the list" }).click();
  await list(page).waitFor({ state: "hidden" });
  await until(() => isFocused(page.getByRole("button", { name: "Show the list" })), "the focus to stay near");
  assert.deepEqual(await axe(page), []);
  await page.reload();
  await page.getByRole("heading", { name: "Models" }).waitFor();
  assert.equal(await list(page).isVisible(), false);
  await page.keyboard.press("Control+b");
  await list(page).waitFor();
  await close(page);
});

test("on a phone the list is a drawer", async () => {
  await server.thread("In my pocket");
  const page = await open(browser, server, "#/models", PHONE);
  await page.getByRole("heading", { name: "Models" }).waitFor();
  assert.equal(await list(page).isVisible(), false);
  const opener = page.getByRole("button", { name: "Show the list" });
  await opener.click();
  await list(page).getByRole("link", { name: "In my pocket" }).waitFor();
  await until(() => isFocused(page.getByRole("button", { name: "Hide the list" })), "the drawer to have the focus");
  assert.deepEqual(await axe(page), []);
  await page.keyboard.press("Escape");
  await list(page).waitFor({ state: "hidden" });
  await until(() => isFocused(opener), "the focus to return");
  await opener.click();
  await list(page).getByRole("link", { name: "In my pocket" }).click();
  await list(page).waitFor({ state: "hidden" });
  assert.match(page.url(), /#\/c\/thread_/);
  await close(page);
});

test("light and dark follow the system, or the choice that was made", async () => {
  const page = await open(browser, server, "", { colorScheme: "dark" });
  const dark = await ground(page);
  const choose = async (label) => {
    await page.getByRole("button", { name: "More", exact: true }).click();
    await page.getByRole("menuitemradio", { name: label, exact: true }).click();
  };
  await choose("Light");
  const light = await ground(page);
  assert.notEqual(light, dark);
  await page.reload();
  assert.equal(await ground(page), light);
  const other = await openIn(page.context(), server);
  await choose("Dark");
  await until(async () => (await ground(other)) === dark, "the other tab to be dark");
  await choose("Light or dark by the system");
  await page.emulateMedia({ colorScheme: "light" });
  assert.equal(await ground(page), light);
  await close(page);
});

test("a question mark lists what the keyboard does, and the keys do it", async () => {
  const page = await open(browser, server, "#/models");
  await page.getByRole("heading", { name: "Models" }).waitFor();
  await page.keyboard.press("?");
  const dialog = page.getByRole("dialog", { name: "Keyboard shortcuts" });
  await dialog.getByText("Search conversations").waitFor();
  assert.deepEqual(await axe(page), []);
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
  await page.keyboard.press("Control+b");
  await page.keyboard.press("Control+k");
  const search = page.getByRole("searchbox", { name: "Search conversations" });
  await until(() => isFocused(search), "the search to have the focus");
  await page.keyboard.type("?");
  assert.equal(await search.inputValue(), "?");
  assert.equal(await dialog.count(), 0);
  await page.keyboard.press("Control+Shift+o");
  await page.getByRole("heading", { name: "What is it about?" }).waitFor();
  await close(page);
});

test("the menu is one for the keyboard", async () => {
  const page = await open(browser, server);
  const more = page.getByRole("button", { name: "More", exact: true });
  await more.focus();
  await page.keyboard.press("Enter");
  await until(() => isFocused(page.getByRole("menuitem", { name: "Import conversations" })), "the first to be focused");
  assert.deepEqual(await axe(page), []);
  await page.keyboard.press("ArrowUp");
  assert.ok(await isFocused(page.getByRole("menuitem", { name: "Keyboard shortcuts" })));
  await page.keyboard.press("Escape");
  assert.ok(await isFocused(more));
  assert.equal(await page.getByRole("menu").isVisible(), false);
  await close(page);
});

test("a server that is gone is told, and found again", async () => {
  await server.thread("Still in sight");
  const page = await open(browser, server);
  await list(page).getByRole("link", { name: "Still in sight" }).waitFor();
  await page.context().setOffline(true);
  const told = list(page).getByText("The server cannot be reached.");
  await told.waitFor();
  assert.equal(await list(page).getByRole("link", { name: "Still in sight" }).count(), 1);
  await page.context().setOffline(false);
  await told.waitFor({ state: "detached" });
  await close(page);
});

test("a screen that cannot be loaded says so, and is loaded again", async () => {
  const page = await open(browser, server);
  await page.getByRole("heading", { level: 1 }).waitFor();
  await page.context().setOffline(true);
  await list(page).getByRole("link", { name: "Models" }).click();
  await page.getByRole("alert").getByText("This screen could not be loaded").waitFor();
  assert.deepEqual(await axe(page), []);
  await page.context().setOffline(false);
  await page.getByRole("button", { name: "Load the page again" }).click();
  await page.getByRole("button", { name: "Settings" }).first().waitFor();
  await close(page);
});

test("a server with keys opens for one, here or on this device, until it is forgotten", async () => {
  const key = await addKey("person");
  const page = await open(browser, locked);
  const dialog = page.getByRole("dialog", { name: "This server asks for a key" });
  await dialog.waitFor();
  assert.deepEqual(await axe(page), []);
  await page.keyboard.press("Escape");
  await page.keyboard.press("Escape");
  await dialog.waitFor();
  await enter(page, "jf_wrong");
  await page.getByRole("alert").getByText("This key does not open it.").waitFor();
  assert.deepEqual(await axe(page), []);
  await enter(page, key);
  await dialog.waitFor({ state: "detached" });
  await page.reload();
  await page.getByText("Conversations appear here").waitFor();

  const stranger = await openIn(page.context(), locked);
  const asked = stranger.getByRole("dialog", { name: "This server asks for a key" });
  await asked.waitFor();
  await stranger.getByRole("checkbox", { name: "Keep it on this device" }).check();
  await enter(stranger, key);
  await asked.waitFor({ state: "detached" });
  const later = await openIn(page.context(), locked);
  await later.getByText("Conversations appear here").waitFor();
  await later.getByRole("button", { name: "More", exact: true }).click();
  await later.getByRole("menuitem", { name: "Forget the key" }).click();
  await later.getByRole("dialog", { name: "This server asks for a key" }).waitFor();
  await close(page);
  for (const tab of [stranger, later]) assert.deepEqual(tab.complaints, []);
});

test("a key that is not good for conversations opens the page, which says so", async () => {
  const key = await addKey("program", "--scope", "inference");
  const page = await open(browser, locked);
  await enter(page, key);
  await list(page).getByText("conversations").first().waitFor();
  await page.getByRole("dialog").waitFor({ state: "detached" });
  await list(page).getByText(/scope/).waitFor();
  await close(page);
});

async function enter(page, key) {
  await page.getByLabel("Key", { exact: true }).fill(key);
  await page.getByRole("button", { name: "Use this key" }).click();
}

/** A key of the locked server, as who runs it makes one. */
async function addKey(...what) {
  const env = { ...process.env, JANFLASK_DATA_DIR: locked.dataDir };
  const made = await promisify(execFile)(PYTHON, ["-m", "janflask.cli", "keys", "add", ...what], { cwd: ROOT, env });
  return made.stdout.trim();
}
