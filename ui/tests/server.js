// A real server for the page's tests, as a user starts it: a data folder of its own, real models by links, and one whose
// every word is the test's ("scripted", an upstream). It can be killed and started again on the same port.

import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import http from "node:http";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { promisify } from "node:util";

export const ROOT = path.resolve(import.meta.dirname, "../..");
export const PYTHON = process.env.PYTHON ?? path.join(ROOT, ".venv/bin/python");
export const MODELS = process.env.JANFLASK_TEST_MODELS ?? path.join(ROOT, "data/models");
const LIMIT = 60_000;

export const REAL = "smollm2-135m-instruct";
export const SCRIPTED = "scripted";

// No start measures, and starts are quick.
const PINNED = {
  JANFLASK_FLASH_ATTN: "0",
  JANFLASK_KV_UNIFIED: "0",
  JANFLASK_SLICE_SIZE: "64",
  JANFLASK_CPU_THREADS: "1",
  JANFLASK_N_PARALLEL: "4",
  JANFLASK_SPARE_ENGINE: "0",
};

/** A port that stays free while a server is down: none that the system hands out by itself (32768 and above on Linux). */
export async function freePort() {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    const server = net.createServer().listen(port, "127.0.0.1");
    const isFree = await once(server, "listening").then(() => true, () => false);
    server.close();
    if (isFree) return port;
  }
}

export class Server {
  /**
   * `models`: those of the data folder; `settings`: JANFLASK_* without the prefix; `kind`: what the scripted model runs on
   * (one that the server knows may be asked to go on where an answer broke off).
   */
  static async start({ models = [REAL, SCRIPTED], settings = {}, kind = "openai" } = {}) {
    const server = new Server();
    server.folder = await mkdtemp(path.join(os.tmpdir(), "janflask-page-"));
    server.dataDir = path.join(server.folder, "data");
    server.script = await Script.start();
    server.port = await freePort();
    server.url = `http://127.0.0.1:${server.port}/`;
    server.settings = settings;
    server.kind = kind;
    await mkdir(path.join(server.dataDir, "models"), { recursive: true });
    for (const model of models) await server.#add(model);
    await server.begin();
    return server;
  }

  async #add(model) {
    const folder = path.join(this.dataDir, "models", model);
    if (model === SCRIPTED) {
      await mkdir(folder);
      const upstream = { base_urls: [this.script.url], kind: this.kind, model: "script", ctx_len: 32768 };
      await writeFile(path.join(folder, "model.json"), JSON.stringify({ id: model, name: "Scripted", upstream }));
      return;
    }
    const from = path.join(MODELS, model);
    await mkdir(folder);
    for (const name of await readdir(from)) {
      if (name.endsWith(".gguf")) await symlink(path.join(from, name), path.join(folder, name));
      else await cp(path.join(from, name), path.join(folder, name));
    }
  }

  /** Starts the server, also once more after `kill`. */
  async begin() {
    const own = { JANFLASK_DATA_DIR: this.dataDir, JANFLASK_PORT: String(this.port) };
    const given = Object.fromEntries(Object.entries(this.settings).map(([name, value]) => [`JANFLASK_${name}`, value]));
    const env = { ...process.env, ...PINNED, ...own, ...given, PYTHONUNBUFFERED: "1" };
    this.log = "";
    this.process = spawn(PYTHON, ["-m", "janflask.cli", "serve"], { cwd: ROOT, env, detached: true });
    for (const stream of [this.process.stdout, this.process.stderr]) {
      stream.on("data", (data) => (this.log += data));
    }
    await until(async () => (await fetch(new URL("readyz", this.url))).ok, () => `the server to answer\n${this.log}`);
  }

  /** SIGKILL for all of the server's processes at once, as a power cut ends it. */
  async kill() {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    const ended = once(this.process, "exit");
    process.kill(-this.process.pid, "SIGKILL");
    await ended;
  }

  /** Ends everything and takes the data folder away. */
  async end() {
    await this.kill();
    this.script.end();
    await rm(this.folder, { recursive: true, force: true, maxRetries: 5 });
  }

  /** What the API answers; raises for a refusal. */
  async api(method, route, body) {
    const headers = body === undefined ? {} : { "Content-Type": "application/json" };
    const response = await fetch(new URL(`v1/${route}`, this.url), { method, headers, body: JSON.stringify(body) });
    if (!response.ok) throw new Error(`${method} ${route}: ${response.status} ${await response.text()}`);
    return response.json();
  }

  /** A thread with these messages, [role, text] each. */
  async thread(title, messages = []) {
    const thread = await this.api("POST", "threads", { title });
    for (const [role, content] of messages) await this.api("POST", `threads/${thread.id}/messages`, { role, content });
    return thread;
  }

  /** A key that is good for these scopes (for all without any), as who runs the server makes one. */
  async key(...scopes) {
    const args = ["-m", "janflask.cli", "keys", "add", "test", "--json", ...scopes.flatMap((scope) => ["--scope", scope])];
    const env = { ...process.env, JANFLASK_DATA_DIR: this.dataDir };
    const { stdout } = await promisify(execFile)(PYTHON, args, { cwd: ROOT, env });
    return JSON.parse(stdout).key;
  }

  /** Role and text of all messages of a thread. */
  async stored(thread) {
    const { data } = await this.api("GET", `threads/${thread.id}/messages?limit=100&order=asc`);
    return data.map(({ role, content }) => `${role}: ${content.map((part) => part.text.value).join("")}`);
  }

  async readModelJson(model) {
    return JSON.parse(await readFile(path.join(this.dataDir, "models", model, "model.json"), "utf8"));
  }
}

/** An OpenAI-compatible server that says what it is told to. */
export class Script {
  asked = [];
  refusal = null;
  /** What the next answers are: lists of deltas; a number is a pause in milliseconds. The last one stays. */
  answers = [["It is ", "written."]];

  static async start() {
    const script = new Script();
    script.server = http.createServer((request, response) => script.#answer(request, response));
    script.server.listen(0, "127.0.0.1");
    await once(script.server, "listening");
    script.url = `http://127.0.0.1:${script.server.address().port}/v1`;
    return script;
  }

  /**
   * The next answer: strings are text, numbers pauses (ms), promises are waited for, objects are deltas as OpenAI's
   * (`{reasoning_content: ...}`).
   */
  says(...parts) {
    this.answers.unshift(parts);
    this.answers.length = Math.min(this.answers.length, 1);
  }

  /** The next request is refused, with this message. */
  refuses(status, message) {
    this.refusal = { status, error: { message, type: "invalid_request_error", code: null, param: null } };
  }

  async #answer(request, response) {
    if (request.method === "GET") return json(response, { object: "list", data: [{ id: "script", object: "model" }] });
    let text = "";
    for await (const part of request) text += part;
    if (!request.url.endsWith("/chat/completions")) return response.writeHead(404).end();
    const body = JSON.parse(text);
    this.asked.push(body);
    if (this.refusal) {
      const { status, error } = this.refusal;
      this.refusal = null;
      return json(response, { error }, status);
    }
    const parts = this.answers.length > 1 ? this.answers.shift() : this.answers[0];
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    const send = (delta, finish_reason = null) =>
      response.write(`data: ${JSON.stringify({ ...CHUNK, choices: [{ index: 0, delta, finish_reason }] })}\n\n`);
    let reason = "stop";
    let pieces = 0;
    for (const part of parts) {
      if (typeof part === "number") await new Promise((resolve) => setTimeout(resolve, part));
      else if (part instanceof Promise) await part;
      else {
        pieces += 1;
        send(typeof part === "string" ? { content: part } : part);
        if (part.tool_calls) reason = "tool_calls";
      }
      if (response.destroyed) return;
    }
    send({}, reason);
    const usage = { prompt_tokens: 10, completion_tokens: pieces, total_tokens: 10 + pieces };
    response.write(`data: ${JSON.stringify({ ...CHUNK, choices: [], usage })}\n\n`);
    response.end("data: [DONE]\n\n");
  }

  end() {
    this.server.closeAllConnections();
    this.server.close();
  }
}

const CHUNK = { id: "chatcmpl-1", object: "chat.completion.chunk", created: 1, model: "script" };

function json(response, content, status = 200) {
  response.writeHead(status, { "Content-Type": "application/json" });
  response.end(JSON.stringify(content));
}

/** A promise and what keeps it. */
export function gate() {
  let open;
  const promise = new Promise((resolve) => (open = resolve));
  return [promise, open];
}

/** Polls until `condition` holds. */
export async function until(condition, what) {
  const deadline = Date.now() + LIMIT;
  for (;;) {
    const held = await Promise.resolve(condition()).catch(() => false);
    if (held) return held;
    if (Date.now() > deadline) throw new Error(`waited ${LIMIT / 1000} s for ${typeof what === "string" ? what : what()}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
