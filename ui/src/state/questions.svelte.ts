// Questions in line: each is asked when the answer before it is there, once, whatever becomes of the tab or the server.
// They are kept on this device, and are the same in all of its tabs.

import type { Content } from "../api/types";
import { keep, kept, keptNames, onKept } from "./kept";

const NAME = "questions.";

export interface Question {
  id: string;
  /** The tab that put it here. */
  by: string;
  text: string;
  /** What is asked beside the text: files. */
  parts?: Content[];
  /** How it is sent: from then on it stays as it is, so that it is the same request however often it is sent. */
  sent?: {
    model: string | null;
    attempt: number;
    /** Its message is in the thread; only the answer is asked for. */
    isThere: boolean;
  };
  /** Why it could not be asked. */
  problem?: string;
}

interface Kept {
  list: Question[];
  /** The run behind which they are asked although it failed or was stopped. */
  behind: string | null;
}

/** Until the page is loaded anew. */
export const THIS_TAB = newId();

const EMPTY: Kept = { list: [], behind: null };

/** The line of one conversation. */
export class Line {
  #now = $state.raw<Kept>(EMPTY);
  #listeners = new Set<() => void>();

  constructor(readonly threadId: string) {
    this.reread();
  }

  get list(): readonly Question[] {
    return this.#now.list;
  }

  find(id: string): Question | undefined {
    return this.#now.list.find((question) => question.id === id);
  }

  /** Whether the line goes on behind a run that ended badly: those who came later knew. */
  goesOnBehind(runId: string): boolean {
    return this.#now.behind === runId;
  }

  /** `newestRun`: the last one, if it has ended. */
  add(text: string, parts: Content[], newestRun: string | null): void {
    const question: Question = { id: newId(), by: THIS_TAB, text, ...(parts.length > 0 && { parts }) };
    this.#change(({ list, behind }) => ({
      list: [...list, question],
      behind: list.length === 0 ? newestRun : behind,
    }));
  }

  change(id: string, changes: Partial<Question>): void {
    this.#change(({ list, behind }) => ({
      list: list.map((question) => (question.id === id ? { ...question, ...changes } : question)),
      behind,
    }));
  }

  remove(id: string): void {
    this.#change(({ list, behind }) => ({ list: list.filter((question) => question.id !== id), behind }));
  }

  goOnBehind(runId: string): void {
    this.#change(({ list }) => ({ list, behind: runId }));
  }

  /** Calls `heard` after each change, here or in another tab. Returns how to end that. */
  watch(heard: () => void): () => void {
    this.#listeners.add(heard);
    return () => this.#listeners.delete(heard);
  }

  /** Another tab has changed it. */
  reread(): void {
    this.#now = kept<Kept>(NAME + this.threadId) ?? EMPTY;
    for (const heard of this.#listeners) heard();
  }

  #change(change: (now: Kept) => Kept): void {
    const next = change(kept<Kept>(NAME + this.threadId) ?? EMPTY);
    keep(NAME + this.threadId, next.list.length > 0 ? next : null);
    this.#now = next;
    for (const heard of this.#listeners) heard();
  }
}

const lines = new Map<string, Line>();

export function lineOf(threadId: string): Line {
  let line = lines.get(threadId);
  if (line === undefined) lines.set(threadId, (line = new Line(threadId)));
  return line;
}

/** The conversations in which somebody waits. */
export function threadsWithQuestions(): string[] {
  return keptNames(NAME).map((name) => name.slice(NAME.length));
}

onKept((name) => {
  if (name === null) for (const line of lines.values()) line.reread();
  else if (name.startsWith(NAME)) lines.get(name.slice(NAME.length))?.reread();
});

/** Also where the page has no TLS, and so no crypto.randomUUID. */
export function newId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
