// The branches of the conversation that is shown: where they go apart, and which one was looked at last.

import { call } from "../api/client";
import type { Run, Thread } from "../api/types";
import { place } from "./route.svelte";
import { isOpen } from "./tail";
import { family, rootId, shownId } from "./threads.svelte";
import { ancestorsOf, lostPlaces, versionsAt, type Versions } from "./versions";

class Branches {
  /** The runs that made the messages which the thread has in common with those that it left. */
  inherited = $state.raw<ReadonlyMap<string, Run>>(new Map());
  #shown = $state.raw<string | null>(null);
  #family = $state.raw<ReadonlyMap<string, Thread>>(new Map());
  /** In which thread each version of a place was last looked at. */
  #visited = new Map<string, string>();
  /** Places whose message was deleted. */
  #lost = $state.raw<string[]>([]);
  /** Behind which message a version was just chosen: the keyboard goes on there. */
  arrivedAt: string | null = null;

  /** Reads the family of a thread that is being shown, and keeps that it is. */
  async show(thread: Thread): Promise<void> {
    if (this.#shown !== thread.id) {
      this.#shown = thread.id;
      this.#lost = [];
      this.inherited = new Map();
      if (!this.#family.has(thread.id)) this.#family = new Map();
    }
    const root = rootId(thread);
    const found = await family(thread);
    if (this.#shown !== thread.id) return;
    this.#family = new Map([[thread.id, thread], ...found.map((member): [string, Thread] => [member.id, member])]);
    this.#lost = lostPlaces(this.#family, thread);
    const first = this.#family.get(root);
    const isNews = first !== undefined && shownId(first) !== thread.id;
    await Promise.all([this.#inherit(thread), isNews && keepShown(root, thread.id)]);
  }

  /** A message of the thread was deleted. */
  async lookAgain(id: string): Promise<void> {
    const thread = await call<Thread>("GET", `threads/${id}`);
    if (this.#shown === id) await this.show(thread);
  }

  async #inherit(thread: Thread): Promise<void> {
    const lists = await Promise.all(ancestorsOf(this.#family, thread).map(({ id }) => runsOf(id)));
    const ended = lists.flat().filter((run) => !isOpen(run));
    if (this.#shown === thread.id) this.inherited = new Map(ended.map((run) => [run.id, run]));
  }

  /** The versions of what follows the message `after`; null if there is one only. */
  at(after: string): Versions | null {
    const shown = this.#shown;
    if (shown === null) return null;
    // What parted at a message that is gone is told where the thread begins.
    const places = after === "" ? ["", ...this.#lost] : [after];
    return places.map((at) => versionsAt(this.#family, shown, at)).find((found) => found !== null) ?? null;
  }

  /** Shows another version of what follows `after`, in the branch of it that was looked at last. */
  choose(after: string, versions: Versions, index: number): void {
    const chosen = versions.threads[index];
    if (chosen === undefined || this.#shown === null) return;
    this.#visited.set(`${after} ${versions.threads[versions.index]}`, this.#shown);
    const id = this.#visited.get(`${after} ${chosen}`) ?? chosen;
    this.arrivedAt = after;
    place.go({ screen: "thread", id: this.#family.has(id) ? id : chosen }, true);
  }

  /** Makes a thread with all that is before a message, or with everything. */
  async make(threadId: string, before: string | null): Promise<Thread> {
    const thread = await call<Thread>("POST", `threads/${threadId}/branch`, { body: { before } });
    this.#family = new Map([...this.#family, [thread.id, thread]]);
    return thread;
  }

  /** Goes to a branch that was made. */
  open(thread: Thread): void {
    place.go({ screen: "thread", id: thread.id }, true);
  }

  /** Takes a branch away that nothing came of. */
  async drop(thread: Thread): Promise<void> {
    this.#family = new Map([...this.#family].filter(([id]) => id !== thread.id));
    await call("DELETE", `threads/${thread.id}`);
  }
}

export const branches = new Branches();

async function runsOf(threadId: string): Promise<Run[]> {
  return (await call<{ data: Run[] }>("GET", `threads/${threadId}/runs`, { query: { limit: 100 } })).data;
}

/** So the list leads to it, on any device. */
async function keepShown(root: string, shown: string): Promise<void> {
  const { metadata } = await call<Thread>("GET", `threads/${root}`);
  await call("POST", `threads/${root}`, { body: { metadata: { ...metadata, branch_shown: shown } } });
}
