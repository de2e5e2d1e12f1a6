// The screen "Server": what is going on, drawn; who may see it; what becomes of it when the server is gone.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { axe, close, launch, open } from "./browser.js";
import { REAL, Server, until } from "./server.js";

let browser, server;
before(async () => {
  [browser, server] = await Promise.all([launch(), Server.start({ models: [REAL], settings: { WORKERS: "1" } })]);
});
after(async () => {
  await browser?.close();
  await server?.end();
});

/** A run that goes on until it is cancelled. */
async function longRun() {
  const { id } = await server.thread("Foxes");
  const body = {
    model: REAL,
    additional_messages: [{ role: "user", content: "Tell me of foxes." }],
    ignore_eos: true,
    max_completion_tokens: 6000,
  };
  return server.api("POST", `threads/${id}/runs`, body);
}

async function cancel(run) {
  await server.api("POST", `threads/${run.thread_id}/runs/${run.id}/cancel`);
}

test("a server at rest", async () => {
  const page = await open(browser, server, "#/server");
  await page.getByRole("heading", { name: "Server", level: 1 }).waitFor();
  await page.getByText("Nothing is being answered.").waitFor();
  await page.getByText("No model runs.").waitFor();
  await page.getByText("1 model is here and does not run").waitFor();
  const processes = page.getByRole("region", { name: "Processes" });
  for (const kind of ["worker", "supervisor", "runner"]) {
    await processes.getByRole("rowheader", { name: new RegExp(`^${kind}`) }).waitFor();
  }
  assert.deepEqual(await axe(page), []);
  await close(page);
});

test("an answer under way: its request, its model, and the plots", async () => {
  const run = await longRun();
  const page = await open(browser, server, "#/server");
  const requests = page.getByRole("region", { name: "Requests" });
  const row = requests.getByRole("row").filter({ hasText: REAL });
  await row.getByText("answering", { exact: true }).waitFor();
  const answered = async () => Number((await row.getByRole("cell").nth(3).innerText()).replace(",", ""));
  const first = await answered();
  await until(async () => (await answered()) > first, "more tokens of the answer");

  const model = page.getByRole("article", { name: REAL });
  await model.getByText("running").waitFor();
  await model.getByText("of 4 in use, 0 waiting").waitFor();
  await model.getByText(/in use of .* promised/).waitFor();
  await until(async () => Number(await speed(model)) > 0, "tokens a second");

  const processes = page.getByRole("region", { name: "Processes" });
  for (const kind of ["engine", "renderer"]) {
    await processes.getByRole("rowheader", { name: new RegExp(`^${kind}`) }).waitFor();
  }
  const speeds = model.locator("figure").first();
  await speeds.locator("svg").hover({ position: { x: (await speeds.locator("svg").boundingBox()).width - 1, y: 10 } });
  await speeds.getByText(/^[\d.,]+, \d+ s ago$/).waitFor();

  const table = model.locator("figure", { hasText: "Answer tokens per second" });
  assert.equal(await table.getByRole("table").count(), 0, "no table is made before somebody wants it");
  await table.getByText("As a table").click();
  await until(async () => Number(await table.getByRole("cell").first().innerText()) > 0, "the table's newest row");
  for (const colorScheme of ["dark", "light"]) {
    await page.emulateMedia({ colorScheme });
    assert.deepEqual(await axe(page), [], colorScheme);
  }

  await row.getByRole("link", { name: "a conversation" }).click();
  assert.match(page.url(), new RegExp(`#/c/${run.thread_id}$`));
  await page.goBack();
  await row.waitFor();
  await cancel(run);
  await page.getByText("Nothing is being answered.").waitFor();
  await close(page);
});

const speed = (model) => model.locator("figure").first().getByRole("strong").innerText();

test("it asks once a second while it is looked at, and not while it is paused or left", async () => {
  const page = await open(browser, server, "#/server");
  let asked = 0;
  page.on("request", (request) => (asked += new URL(request.url()).pathname === "/v1/server"));
  await until(() => asked >= 2, "two looks");
  const pause = page.getByRole("button", { name: "Pause" });
  await pause.click();
  const atPause = asked;
  await page.getByRole("button", { name: "Pause", pressed: true }).waitFor();
  await otherRequests(page, 2);
  assert.ok(asked <= atPause + 1, "no look but one that was under way");
  await pause.click();
  await until(() => asked > atPause + 1, "looks again");

  await page.getByRole("link", { name: "Assistants" }).click();
  await page.getByRole("heading", { name: "Assistants", level: 1 }).waitFor();
  const atLeave = asked;
  await otherRequests(page, 2);
  assert.equal(asked, atLeave);
  await close(page);
});

/** Waits for looks at the list of models, which come every three seconds. */
async function otherRequests(page, count) {
  for (let seen = 0; seen < count; seen += 1) {
    await page.waitForRequest((request) => new URL(request.url()).pathname === "/v1/models");
  }
}

test("what does not answer is named, and what is known stays", async () => {
  const page = await open(browser, server, "#/server");
  await page.getByText("No model runs.").or(page.getByRole("article")).first().waitFor();
  await page.route("**/v1/server", async (route) => {
    const response = await route.fetch();
    const told = await response.json();
    told.missing = [{ kind: "process", name: "runner", reason: "it took too long" }];
    await route.fulfill({ response, json: told });
  });
  await page.getByText("runner: it took too long").waitFor();
  assert.deepEqual(await axe(page), []);
  await page.unroute("**/v1/server");
  await page.getByText("runner: it took too long").waitFor({ state: "detached" });
  await close(page);
});

test("a server that is killed and comes back is seen again", async () => {
  const page = await open(browser, server, "#/server");
  const processes = page.getByRole("region", { name: "Processes" });
  await processes.waitFor();
  await server.kill();
  await page.getByText("The server cannot be reached.").first().waitFor();
  assert.equal(await processes.count(), 1, "what was known stays");
  await server.begin();
  await page.getByText("The server cannot be reached.").first().waitFor({ state: "detached" });
  await close(page);
});

test("a phone's width is enough", async () => {
  const run = await longRun();
  const page = await open(browser, server, "#/server", { viewport: { width: 360, height: 740 } });
  await page.getByRole("article", { name: REAL }).getByText("KV cells").waitFor();
  const main = page.getByRole("main");
  const beside = 360 - (await main.evaluate((element) => element.clientWidth));
  await page.setViewportSize({ width: 360 + beside, height: 740 }); // where the list of conversations stands beside it
  assert.ok(await main.evaluate((element) => element.scrollWidth <= element.clientWidth), "nothing sticks out");
  assert.deepEqual(await axe(page), []);
  await cancel(run);
  await close(page);
});

test("a key without the scope is told so, and asks no more", async () => {
  const [chats, all] = [await server.key("inference", "conversations"), await server.key("admin")];
  const page = await open(browser, server);
  await page.evaluate((given) => sessionStorage.setItem("janflask.key", given), chats);
  await page.goto(new URL("#/server", server.url).href);
  await page.reload();
  await page.getByText("This key does not show you the server.").waitFor();
  await page.getByText(/it lacks admin/).waitFor();
  assert.deepEqual(await axe(page), []);
  await page.evaluate((given) => sessionStorage.setItem("janflask.key", given), all);
  await page.reload();
  await page.getByRole("region", { name: "Processes" }).waitFor();
  await close(page);
});
