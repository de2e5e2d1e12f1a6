import { expect, test } from "vitest";

import type { Thread } from "../api/types";
import { splice } from "./splice";

const named = (ids: string): Thread[] =>
  [...ids].map((id) => ({ id, title: id, created_at: 0, updated: 0, assistants: [], metadata: {} }));
const ids = (found: { list: Thread[]; more: boolean } | null) =>
  found && [found.list.map(({ id }) => id).join(""), found.more];

test("the newest ones come on top, and what was loaded below stays", () => {
  expect(ids(splice(named("defghi"), true, null, named("abcd"), true))).toEqual(["abcdefghi", true]);
});

test("what is gone between two that are there goes", () => {
  expect(ids(splice(named("abcdef"), false, null, named("ad"), true))).toEqual(["adef", false]);
  expect(ids(splice(named("abcdef"), false, "b", named("e"), true))).toEqual(["abef", false]);
});

test("the list ends where nobody knows what comes behind", () => {
  expect(ids(splice(named("xyz"), true, null, named("abc"), true))).toEqual(["abc", true]);
});

test("further ones are put behind, and the end is the end", () => {
  expect(ids(splice(named("ab"), true, "b", named("cd"), true))).toEqual(["abcd", true]);
  expect(ids(splice(named("abc"), true, "c", [], false))).toEqual(["abc", false]);
  expect(ids(splice(named("abc"), true, "b", [], false))).toEqual(["ab", false]);
  expect(ids(splice([], false, null, [], false))).toEqual(["", false]);
});

test("a place that is gone changes nothing", () => {
  expect(splice(named("abc"), true, "x", named("de"), false)).toBeNull();
});

test("what did not change is the same object, so that it is not drawn again", () => {
  const list = named("ab");
  const [same, other] = splice(list, false, null, [...named("a"), { ...named("b")[0]!, title: "new" }], false)!.list;
  expect(same).toBe(list[0]);
  expect(other!.title).toBe("new");
});
