import { expect, test } from "vitest";

import type { Thread } from "../../api/types";
import { folders } from "./folders";

const NOW = new Date(2026, 10, 30, 9, 0);

function begun(id: string, ...date: [number, number, number, number]): Thread {
  return { id, title: id, created_at: new Date(...date).getTime() / 1000, updated: 0, assistants: [], metadata: {} };
}

test("a day ends at midnight here, and months follow the last thirty days", () => {
  const list = [
    begun("ahead", 2026, 11, 1, 0),
    begun("this morning", 2026, 10, 30, 0),
    begun("last night", 2026, 10, 29, 23),
    begun("a week ago", 2026, 10, 23, 0),
    begun("just before", 2026, 10, 22, 23),
    begun("in October", 2026, 9, 31, 0),
    begun("earlier in October", 2026, 9, 30, 23),
    begun("a year ago", 2025, 9, 30, 12),
  ];
  const found = folders(list, NOW.getTime()).map(({ label, threads }) => [label, ...threads.map(({ id }) => id)]);
  expect(found).toEqual([
    ["Today", "ahead", "this morning"],
    ["Yesterday", "last night"],
    ["Last 7 days", "a week ago"],
    ["Last 30 days", "just before", "in October"],
    ["October 2026", "earlier in October"],
    ["October 2025", "a year ago"],
  ]);
});

test("no conversation, no folder", () => expect(folders([], NOW.getTime())).toEqual([]));
