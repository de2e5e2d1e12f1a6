// How the threads of a family go apart, by what the server wrote into their metadata: see docs/store.md, "Branches".

import type { Message, Thread } from "../api/types";

/** What follows a message in a family: the threads that lead to each way on, oldest first, and the one shown. */
export interface Versions {
  threads: string[];
  index: number;
}

/**
 * The versions of what follows the message `after` ("" for the beginning) of the thread `shown`, which has that message.
 * null: there is only one.
 */
export function versionsAt(family: ReadonlyMap<string, Thread>, shown: string, after: string): Versions | null {
  const left = [...family.values()].filter((thread) => leavesAt(thread) === after).sort(byAge);
  if (left.length === 0) return null;
  const way = wayAt(family, shown, after);
  const threads = left.map((thread) => thread.id);
  // The first way on is that of the threads which others left here. Any of them leads to it.
  const first = way === null ? shown : stayed(family, left, after);
  if (first !== null) threads.unshift(first);
  return threads.length < 2 ? null : { threads, index: threads.indexOf(way ?? shown) };
}

/** Of a thread that has the message `after`: the thread by which its way on from there began; null for the first way. */
function wayAt(family: ReadonlyMap<string, Thread>, id: string, after: string): string | null {
  const thread = family.get(id);
  if (thread === undefined) return null;
  return [thread, ...ancestorsOf(family, thread)].find((one) => leavesAt(one) === after)?.id ?? null;
}

/** A thread that went the first way on, of those that `left` were left by. */
function stayed(family: ReadonlyMap<string, Thread>, left: Thread[], after: string): string | null {
  for (const thread of left) {
    const parent = parentOf(family, thread);
    if (parent !== undefined && wayAt(family, parent.id, after) === null) return parent.id;
  }
  return null;
}

/** Where the answer that a message belongs to begins: a run may have said several. */
export function startOf(messages: Message[], message: Message): Message {
  let index = messages.findIndex((other) => other.id === message.id);
  while (index > 0 && message.run_id && messages[index - 1]!.run_id === message.run_id) index -= 1;
  return messages[index] ?? message;
}

/** The threads that this one goes back to, nearest first. Metadata are anybody's to write: circles, too. */
export function ancestorsOf(family: ReadonlyMap<string, Thread>, thread: Thread): Thread[] {
  const found = new Set<Thread>();
  for (let one = parentOf(family, thread); one !== undefined && !found.has(one); one = parentOf(family, one)) found.add(one);
  return [...found];
}

/** Places where the thread and others parted, whose message it does not have any longer. */
export function lostPlaces(family: ReadonlyMap<string, Thread>, thread: Thread): string[] {
  const ids = new Set(["", ...(thread.messages ?? [])]);
  const parted = [...family.values()].filter((one) => one.id === thread.id || parentOf(family, one)?.id === thread.id);
  const places = parted.map((one) => leavesAt(one)).filter((place) => place !== null);
  return [...new Set(places)].filter((place) => !ids.has(place));
}

function parentOf(family: ReadonlyMap<string, Thread>, thread: Thread): Thread | undefined {
  return family.get(word(thread, "branch_parent") ?? "");
}

/** The last message that it has in common with its parent; null for a family's first thread. */
function leavesAt(thread: Thread): string | null {
  return word(thread, "branch_root") === null ? null : word(thread, "branch_after");
}

function word(thread: Thread, name: string): string | null {
  const value = thread.metadata[name];
  return typeof value === "string" ? value : null;
}

/** Ids tell the order in which they were made, within a second, too. */
function byAge(one: Thread, other: Thread): number {
  return one.created_at - other.created_at || (one.id < other.id ? -1 : 1);
}
