// A tab as a person has it: nothing listens to its requests or its scripts, which would be a part of what is measured
// (playwright's script in each page, and stacks noted at each request, are a tenth). Spoken to by the debugger's pipe.

import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { ARGS, CHROMIUM } from "../../ui/tests/browser.js";

const OWN = ["--headless", "--no-first-run", "--window-size=1280,800", "--remote-debugging-pipe"];

/** A browser whose tabs share nothing. `tab()`: an empty one, as `{ debug, close }`. */
export async function launchBare() {
  const folder = await mkdtemp(join(tmpdir(), "janflask-browser-"));
  const process = spawn(CHROMIUM, [...ARGS, ...OWN, `--user-data-dir=${folder}`, "about:blank"], {
    stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"],
  });
  const ended = new Promise((resolve) => process.once("exit", resolve));
  const send = talk(process.stdio[3], process.stdio[4], ended);

  async function tab() {
    const { browserContextId } = await send("Target.createBrowserContext");
    const { targetId } = await send("Target.createTarget", { url: "about:blank", browserContextId });
    const { sessionId } = await send("Target.attachToTarget", { targetId, flatten: true });
    return {
      debug: { send: (method, params) => send(method, params, sessionId) },
      close: () => send("Target.disposeBrowserContext", { browserContextId }),
    };
  }

  async function close() {
    process.kill();
    await ended;
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  }

  return { tab, close };
}

/** Sends a command and has its result: JSON, each message ended by a zero byte. */
function talk(output, input, ended) {
  const waiting = new Map();
  let [last, read] = [0, ""];
  input.setEncoding("utf8").on("data", (text) => {
    const messages = (read + text).split("\0");
    read = messages.pop();
    for (const { id, result, error } of messages.map(JSON.parse)) {
      if (id === undefined) continue; // an event
      const { resolve, reject } = waiting.get(id);
      waiting.delete(id);
      if (error === undefined) resolve(result);
      else reject(new Error(error.message));
    }
  });
  void ended.then(() => waiting.forEach(({ reject }) => reject(new Error("the browser has ended"))));
  return (method, params = {}, sessionId = undefined) =>
    new Promise((resolve, reject) => {
      last += 1;
      waiting.set(last, { resolve, reject });
      output.write(`${JSON.stringify({ id: last, method, params, sessionId })}\0`);
    });
}
