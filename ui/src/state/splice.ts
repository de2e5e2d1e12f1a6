// Parts of a list, asked for one after the other, put together to one.

import type { Thread } from "../api/types";

/**
 * The list with `found`, all that there is behind `after` down to the last found, in its place; what comes behind that
 * stays. Where it cannot be told what comes behind, the list ends there. null: `after` is not in the list.
 */
export function splice(
  list: readonly Thread[],
  more: boolean,
  after: string | null,
  found: readonly Thread[],
  hasMore: boolean,
): { list: Thread[]; more: boolean } | null {
  const start = after === null ? 0 : list.findIndex(({ id }) => id === after) + 1;
  if (after !== null && start === 0) return null;
  const last = found.at(-1)?.id;
  const end = last === undefined ? -1 : list.findIndex(({ id }, at) => at >= start && id === last);
  const present = new Map(list.map((thread) => [thread.id, thread]));
  const middle = found.map((thread) => unchanged(present.get(thread.id), thread));
  const tail = end < 0 ? [] : list.slice(end + 1);
  return { list: [...list.slice(0, start), ...middle, ...tail], more: tail.length > 0 ? more : hasMore };
}

/** The object that is drawn already, where nothing changed. */
function unchanged(before: Thread | undefined, now: Thread): Thread {
  return before !== undefined && JSON.stringify(before) === JSON.stringify(now) ? before : now;
}
