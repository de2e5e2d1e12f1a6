import { expect, test } from "vitest";

import type { Message, Run } from "../api/types";
import { shown, unsaid, withNewest, withOlder, wordsOf, type Loaded } from "./tail";

function message(id: string, run_id: string | null = null): Message {
  const content = [{ type: "text", text: { value: `words of ${id}`, annotations: [] } }];
  return { id, run_id, thread_id: "t", role: "assistant", created_at: 1, content, status: "completed", metadata: {} };
}

function loaded(ids: string, hasOlder = false): Loaded {
  return { messages: [...ids].map((id) => message(id)), hasOlder };
}

function ids({ messages, hasOlder }: Loaded): string {
  return (hasOlder ? "…" : "") + messages.map(({ id }) => id).join("");
}

test.each([
  ["nothing is loaded yet", loaded(""), loaded("cd", true), "…cd"],
  ["what came is put behind", loaded("abcd", true), loaded("cdef", true), "…abcdef"],
  ["all of it is loaded", loaded("ab"), loaded("abc"), "abc"],
  ["one was deleted", loaded("abcd", true), loaded("bd", true), "…abd"],
  ["what lies between is not known", loaded("abc"), loaded("fg", true), "…fg"],
  ["everything was deleted", loaded("abc"), loaded(""), ""],
])("the newest messages, read anew: %s", (_, before, newest, expected) => {
  expect(ids(withNewest(before, newest))).toBe(expected);
});

test("a message that has changed is the new one", () => {
  const changed = { ...message("b"), status: "incomplete" as const };
  const now = withNewest(loaded("ab"), { messages: [message("a"), changed], hasOlder: false });
  expect(now.messages[1]).toBe(changed);
});

test("older messages come in front, each once", () => {
  expect(ids(withOlder(loaded("cd", true), loaded("abc")))).toBe("abcd");
});

const run = { id: "r", thread_id: "t", created_at: 1, status: "completed" } as Run;
const runs = new Map([["r", run]]);

test("a run stands at its last message", () => {
  const messages = [message("a"), message("b", "r"), message("c", "r"), message("d")];
  const found = shown({ messages, hasOlder: true }, runs, run);
  expect(found.map((item) => [item.message.id, item.run, item.after])).toEqual([
    ["a", null, null],
    ["b", null, "a"],
    ["c", run, "b"],
    ["d", null, "c"],
  ]);
});

test("the first message of a thread has nothing before it", () => {
  expect(shown(loaded("a"), runs, run)[0]!.after).toBe("");
});

test("a run that waits and has not said anything gets a message", () => {
  const waiting: Run = { ...run, status: "requires_action" };
  const [, last, ...more] = shown(loaded("a"), new Map([["r", waiting]]), waiting);
  expect(last).toEqual({ message: unsaid(waiting, ""), run: waiting, after: "a" });
  expect(more).toEqual([]);
  expect(shown({ messages: [message("b", "r")], hasOlder: false }, runs, waiting)).toHaveLength(1);
});

test("words are those of all texts", () => {
  const parts = ["one", "", "two"].map((value) => ({ type: "text", text: { value, annotations: [] } }));
  const content = [...parts, { type: "image_file", image_file: { file_id: "f" } }];
  expect(wordsOf({ ...message("a"), content })).toBe("one\ntwo");
});
