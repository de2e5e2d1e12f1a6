// The messages of a thread that are loaded: its newest ones, and as many before them as somebody scrolled to.

import type { Message, Run } from "../api/types";

export interface Loaded {
  messages: Message[];
  /** There are older ones. */
  hasOlder: boolean;
}

/** What is loaded after the newest messages were read anew. `newest` are in order, too. */
export function withNewest(loaded: Loaded, newest: Loaded): Loaded {
  const first = newest.messages[0];
  const start = first === undefined ? -1 : loaded.messages.findIndex(({ id }) => id === first.id);
  if (start <= 0) return newest; // nothing older is loaded, or we cannot tell what lies between
  return { messages: [...loaded.messages.slice(0, start), ...newest.messages], hasOlder: loaded.hasOlder };
}

/** What is loaded after older messages came, which may overlap. */
export function withOlder(loaded: Loaded, older: Loaded): Loaded {
  const known = new Set(loaded.messages.map(({ id }) => id));
  const fresh = older.messages.filter(({ id }) => !known.has(id));
  return { messages: [...fresh, ...loaded.messages], hasOlder: older.hasOlder };
}

export interface Shown {
  message: Message;
  /** The run that made it, at the last message of it. */
  run: Run | null;
  /** The id of the message before, "" if there is none; null: it is not loaded. */
  after: string | null;
}

/** `newest` is the run that came last. One that waits without having said anything gets a message without content. */
export function shown({ messages, hasOlder }: Loaded, runs: ReadonlyMap<string, Run>, newest: Run | null): Shown[] {
  const waits = newest?.status === "requires_action" && !messages.some(({ run_id }) => run_id === newest.id);
  const all = waits ? [...messages, unsaid(newest, "")] : messages;
  return all.map((message, index) => {
    const isLast = message.run_id && all[index + 1]?.run_id !== message.run_id;
    const run = isLast ? (runs.get(message.run_id!) ?? null) : null;
    return { message, run, after: all[index - 1]?.id ?? (hasOlder ? null : "") };
  });
}

/** The message of a run that has not said anything yet. */
export function unsaid(run: Run, id: string): Message {
  const { thread_id, id: run_id, created_at } = run;
  return { id, thread_id, run_id, created_at, role: "assistant", status: "in_progress", content: [], metadata: {} };
}

const UNDER_WAY = new Set(["queued", "in_progress", "cancelling"]);
const ENDED_BADLY = new Set(["cancelled", "failed", "expired"]);

/** The server works on it: its events come. One that waits for the outputs of calls is not. */
export function isUnderWay(run: Run | null): boolean {
  return run !== null && UNDER_WAY.has(run.status);
}

/** Nobody else can ask in its thread. */
export function isOpen(run: Run | null): boolean {
  return isUnderWay(run) || run?.status === "requires_action";
}

export function endedBadly(run: Run): boolean {
  return ENDED_BADLY.has(run.status);
}

/** The words of a message. */
export function wordsOf(message: Message): string {
  return message.content
    .map((part) => (part.type === "text" ? (part.text as { value: string }).value : ""))
    .filter((text) => text !== "")
    .join("\n");
}
