import { expect, test } from "vitest";

import { readEvents } from "./sse";

function body(...parts: string[]): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  return new ReadableStream({
    start(controller) {
      for (const part of parts) controller.enqueue(encoder.encode(part));
      controller.close();
    },
  });
}

async function all(...parts: string[]) {
  const events = [];
  for await (const event of readEvents(body(...parts))) events.push(event);
  return events;
}

test("events come whole, wherever the stream is cut", async () => {
  const text = 'id: 1\nevent: a\ndata: {"x":1}\n\n: keep-alive\nid: 2\ndata: two\ndata: lines\n\n';
  const events = [
    { id: "1", event: "a", data: '{"x":1}' },
    { id: "2", event: "message", data: "two\nlines" },
  ];
  expect(await all(text)).toEqual(events);
  expect(await all(...text)).toEqual(events);
});

test("an event that is not whole is none", async () => {
  expect(await all("data: one\n\ndata: tw")).toEqual([{ id: null, event: "message", data: "one" }]);
});
