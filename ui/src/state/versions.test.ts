import { expect, test } from "vitest";

import type { Message, Thread } from "../api/types";
import { ancestorsOf, lostPlaces, startOf, versionsAt } from "./versions";

let made = 0;

function thread(id: string, metadata: Record<string, unknown> = {}): Thread {
  return { id, title: "", created_at: (made += 1), updated: 0, assistants: [], metadata };
}

function branch(id: string, parent: string, after: string, root = "root"): Thread {
  return thread(id, { branch_root: root, branch_parent: parent, branch_after: after });
}

function family(...threads: Thread[]): Map<string, Thread> {
  return new Map(threads.map((one) => [one.id, one]));
}

test("a thread alone has one version of everything", () => {
  expect(versionsAt(family(thread("root")), "root", "")).toBeNull();
  expect(versionsAt(family(thread("root")), "root", "q1")).toBeNull();
});

test("branches that left one at the same message are its versions there, oldest first", () => {
  const all = family(thread("root"), branch("b", "root", "q1"), branch("c", "root", "q1"));
  const threads = ["root", "b", "c"];
  expect(versionsAt(all, "root", "q1")).toEqual({ threads, index: 0 });
  expect(versionsAt(all, "b", "q1")).toEqual({ threads, index: 1 });
  expect(versionsAt(all, "c", "q1")).toEqual({ threads, index: 2 });
  expect(versionsAt(all, "c", "a1")).toBeNull();
});

test("a branch of a branch shows the places of both", () => {
  const all = family(thread("root"), branch("b", "root", "q1"), branch("c", "b", "q2"));
  expect(versionsAt(all, "c", "q1")).toEqual({ threads: ["root", "b"], index: 1 });
  expect(versionsAt(all, "c", "q2")).toEqual({ threads: ["b", "c"], index: 1 });
});

test("a branch that leaves a branch before that one left its parent is a version of both", () => {
  const all = family(thread("root"), branch("late", "root", "a1"), branch("early", "late", ""));
  // The way on that root and late share is led to by whichever was left.
  expect(versionsAt(all, "early", "")).toEqual({ threads: ["late", "early"], index: 1 });
  expect(versionsAt(all, "late", "")).toEqual({ threads: ["late", "early"], index: 0 });
  expect(versionsAt(all, "root", "")).toEqual({ threads: ["root", "early"], index: 0 });
  expect(versionsAt(all, "late", "a1")).toEqual({ threads: ["root", "late"], index: 1 });
});

test("a branch that leaves a branch of a branch, at the place where the latter's parent began, is its sibling", () => {
  const all = family(thread("root"), branch("b", "root", "q1"), branch("c", "b", "q2"), branch("d", "c", "q1"));
  const threads = ["root", "b", "d"];
  expect(versionsAt(all, "d", "q1")).toEqual({ threads, index: 2 });
  expect(versionsAt(all, "c", "q1")).toEqual({ threads, index: 1 });
  expect(versionsAt(all, "root", "q1")).toEqual({ threads, index: 0 });
});

test("a family whose first thread is gone has the others", () => {
  const all = family(branch("b", "root", "q1"), branch("c", "root", "q1"));
  expect(versionsAt(all, "b", "q1")).toEqual({ threads: ["b", "c"], index: 0 });
  expect(versionsAt(family(branch("b", "root", "q1")), "b", "q1")).toBeNull();
});

test("metadata that lead in a circle, or are no words, end", () => {
  const all = family(branch("b", "c", "x"), branch("c", "b", "y"), thread("d", { branch_root: 1, branch_after: "q1" }));
  expect(versionsAt(all, "b", "z")).toBeNull();
  expect(versionsAt(all, "d", "q1")).toBeNull();
});

test("a thread goes back to those that it left, and those left", () => {
  const all = family(thread("root"), branch("b", "root", "q1"), branch("c", "b", "q2"), branch("d", "root", "q1"));
  expect(ancestorsOf(all, all.get("c")!).map(({ id }) => id)).toEqual(["b", "root"]);
  const circle = family(branch("b", "c", "x"), branch("c", "b", "y"));
  expect(ancestorsOf(circle, circle.get("b")!).map(({ id }) => id)).toEqual(["c", "b"]);
});

test("a place whose message was deleted is lost to its thread, and to those who left there", () => {
  const all = family(thread("root"), branch("b", "root", "q1"), branch("c", "b", "q2"));
  const having = (id: string, messages: string[]) => lostPlaces(all, { ...all.get(id)!, messages });
  expect(having("root", ["q1", "a1"])).toEqual([]);
  expect(having("root", ["a1"])).toEqual(["q1"]);
  expect(having("b", ["q1", "q2"])).toEqual([]);
  expect(having("b", [])).toEqual(["q1", "q2"]);
  expect(having("c", ["q2"])).toEqual([]); // that of b is not c's
});

test("an answer begins with the first message of its run", () => {
  const messages = ["q", "run_1", "run_1", "q", "run_2", "run_2"].map(
    (run, index) => ({ id: `msg_${index}`, run_id: run === "q" ? null : run }) as Message,
  );
  expect(messages.map((message) => startOf(messages, message).id)).toEqual(
    [0, 1, 1, 3, 4, 4].map((index) => `msg_${index}`),
  );
});
