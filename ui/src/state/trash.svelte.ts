// Deleting a conversation: it is gone from the list at once, and from the server when it can no longer be undone.

import { SvelteSet } from "svelte/reactivity";

import { ApiError, call } from "../api/client";
import type { Thread } from "../api/types";
import { notices } from "./notices.svelte";
import { NEW, place } from "./route.svelte";
import { family, threads, titleOf } from "./threads.svelte";

class Trash {
  /** Conversations that are hidden until they are gone, or are brought back, by the id that the list has of them. */
  readonly hidden = new SvelteSet<string>();
  /** What waits for the notice's end. */
  #waiting = new Map<string, Thread[]>();

  constructor() {
    // Whoever closes the page has not undone it. These requests outlive it, if they are sent at once.
    addEventListener("pagehide", () => {
      for (const { id } of [...this.#waiting.values()].flat()) remove(id).catch(() => undefined);
      this.#waiting.clear();
    });
  }

  /** Hides a conversation with all its branches, and deletes it unless that is undone. */
  async put(thread: Thread): Promise<void> {
    const { id } = thread;
    if (this.hidden.has(id)) return;
    this.hidden.add(id);
    let members: Thread[];
    try {
      members = await family(thread);
    } catch (error) {
      this.hidden.delete(id);
      notices.failed(error);
      return;
    }
    this.#waiting.set(id, members);
    const left = leave(members.map((member) => member.id));
    notices.show(said(titleOf(thread), members.length - 1), {
      action: { label: "Undo", run: () => this.#bringBack(id, left) },
      ended: () => void this.#delete(id, members),
    });
  }

  #bringBack(id: string, left: string | null): void {
    this.#waiting.delete(id);
    this.hidden.delete(id);
    if (left !== null && place.route.screen === "new") place.go({ screen: "thread", id: left });
  }

  async #delete(id: string, members: Thread[]): Promise<void> {
    if (!this.#waiting.delete(id)) return;
    try {
      // The root last: what an end of the server leaves is still found by it.
      for (const member of members) await remove(member.id);
      threads.remove(new Set([id]));
    } catch (error) {
      notices.failed(error);
    } finally {
      this.hidden.delete(id);
      await threads.changed();
    }
  }
}

export const trash = new Trash();

/** Goes to a new conversation if one of these is shown. Returns which. */
function leave(ids: string[]): string | null {
  const { route } = place;
  if (route.screen !== "thread" || !ids.includes(route.id)) return null;
  place.go(NEW, true);
  return route.id;
}

function said(title: string, branches: number): string {
  const along = branches === 0 ? "" : branches === 1 ? " and its branch" : ` and its ${branches} branches`;
  return `“${title}”${along} deleted`;
}

async function remove(id: string): Promise<void> {
  try {
    await call("DELETE", `threads/${id}`, { keepalive: true });
  } catch (error) {
    if (!(error instanceof ApiError && error.status === 404)) throw error; // somebody else was quicker
  }
}
