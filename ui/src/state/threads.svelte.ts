// The conversations of this server: the list beside the screens keeps itself as it is there, whoever changes it.

import { ApiError, call } from "../api/client";
import { session } from "../api/session.svelte";
import type { Thread } from "../api/types";
import { Listing } from "./listing.svelte";

const REFRESH_MS = 3000;
const PAGE = 100;
/** What other programs call a conversation without a title. */
const UNTITLED = ["", "New Thread"];

class Threads extends Listing {
  /** Those that somebody looks for. */
  found = $state.raw<Listing | null>(null);
  /** The one that is shown, as it was read when it was opened. */
  here = $state.raw<Thread | null>(null);
  /** Other tabs: what one sees, all see at once. */
  #tabs = new BroadcastChannel("janflask.threads");

  /** Looks at the newest ones, and tells other tabs if something was new. */
  override async refresh(): Promise<boolean> {
    const anew = await super.refresh();
    if (anew) this.#tabs.postMessage("changed");
    return anew;
  }

  /** Keeps the list as it is on the server while somebody looks. Returns how to end that. */
  watch(): () => void {
    const visible = () => document.visibilityState === "visible" && !session.refused;
    // What fails is said by `error`.
    const look = () => {
      if (!visible()) return;
      void this.refresh().catch(() => undefined);
      if (this.found?.error) void this.found.refresh().catch(() => undefined); // a search that failed is tried again
    };
    const told = () => void (visible() && super.refresh().catch(() => undefined));
    if (!this.known) look();
    const timer = setInterval(look, REFRESH_MS);
    document.addEventListener("visibilitychange", look);
    this.#tabs.addEventListener("message", told);
    return () => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", look);
      this.#tabs.removeEventListener("message", told);
    };
  }

  /** Looks again after something was changed here, and has other tabs look. */
  async changed(): Promise<void> {
    this.#tabs.postMessage("changed");
    await Promise.allSettled([this.refresh(), this.found?.refresh()]); // `error` says it
  }

  /** What the list has of a conversation of which the thread `id` is shown, or what is known otherwise. */
  of(id: string): Thread | null {
    const here = this.here?.id === id ? this.here : null;
    const root = here === null ? id : rootId(here);
    const isIt = (thread: Thread) => thread.id === root || shownId(thread) === id;
    return this.list.find(isIt) ?? this.found?.list.find(isIt) ?? here;
  }

  /** Gives a conversation, with all its branches, another title. Raises ApiError; then all is as before. */
  async rename(thread: Thread, title: string): Promise<void> {
    for (const listing of [this, this.found]) listing?.put({ ...thread, title });
    try {
      for (const { id } of await family(thread)) await call("PATCH", `threads/${id}`, { body: { title } });
    } finally {
      await this.changed();
    }
  }
}

export const threads = new Threads();

export function isUntitled(thread: Thread): boolean {
  return UNTITLED.includes(thread.title);
}

export function titleOf(thread: Thread): string {
  return isUntitled(thread) ? "New conversation" : thread.title;
}

/** Where a conversation's link leads: to the branch that was last looked at. */
export function shownId(thread: Thread): string {
  const shown = thread.metadata.branch_shown;
  return typeof shown === "string" && shown !== "" ? shown : thread.id;
}

/** The id that all branches of a conversation have in common: that of the thread which they left. */
export function rootId(thread: Thread): string {
  const root = thread.metadata.branch_root;
  return typeof root === "string" && root !== "" ? root : thread.id;
}

/** A conversation and all its branches, the root last. One whose root is gone stands alone. */
export async function family(thread: Thread): Promise<Thread[]> {
  const root = rootId(thread);
  const found: Thread[] = [];
  for (let after: string | null = null; ; after = found.at(-1)!.id) {
    const query = { branches_of: root, limit: PAGE, after };
    const page: Thread[] = await call<Thread[]>("GET", "threads", { query }).catch(gone);
    found.push(...page);
    if (page.length < PAGE) break;
  }
  // By what each says of itself: nothing else is ever renamed or deleted along with it.
  const members = found.filter((other) => rootId(other) === root);
  const alone = !members.some(({ id }) => id === root);
  return alone ? [thread] : members.sort((one, other) => Number(one.id === root) - Number(other.id === root));
}

function gone(error: unknown): Thread[] {
  if (error instanceof ApiError && error.status === 404) return [];
  throw error;
}
