import { expect, test, vi } from "vitest";

vi.stubGlobal("document", { baseURI: "http://server/" });
vi.mock("./session.svelte", () => ({ session: { key: null, refused: false } }));

const { ApiError, call } = await import("./client");

/** An answer that breaks off: its server was killed, or the network went away. */
function half(signal?: AbortSignal): Response {
  const body = new ReadableStream({
    start(controller) {
      controller.enqueue(new TextEncoder().encode('{"half":'));
      if (signal === undefined) controller.error(new TypeError("network error"));
      else signal.addEventListener("abort", () => controller.error(signal.reason));
    },
  });
  return new Response(body);
}

test("an answer that breaks off is one of a server that cannot be reached", async () => {
  vi.stubGlobal("fetch", () => Promise.resolve(half()));
  await expect(call("GET", "threads")).rejects.toEqual(new ApiError("The server cannot be reached.", 0));
});

test("whoever gives a request up in the middle of its answer is told so", async () => {
  const ends = new AbortController();
  vi.stubGlobal("fetch", () => Promise.resolve(half(ends.signal)));
  const answer = call("GET", "threads", { signal: ends.signal });
  setTimeout(() => ends.abort());
  await expect(answer).rejects.toMatchObject({ name: "AbortError" });
});
