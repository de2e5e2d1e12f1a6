// A list of conversations, newest first, as far as somebody scrolled: all, or those with some words.

import { ApiError, readJson, send } from "../api/client";
import type { Thread } from "../api/types";
import { splice } from "./splice";

/** What fills a screen: opening the page is as quick with ten thousand as with these. */
const FIRST = 30;
const FURTHER = 100;
/** Every so many looks at the newest ones, some of the older ones that are shown are looked at, too. */
const OLDER_EVERY = 10;

export class Listing {
  list = $state.raw<Thread[]>([]);
  /** There are older ones. */
  more = $state(false);
  /** It was asked for once. */
  known = $state(false);
  /** Why it is not what the server has. */
  error = $state.raw<ApiError | null>(null);
  #loading = false;
  #tag: string | null = null;
  #looks = 0;
  #older = 0;

  /** `words`: those that all of them have; "": all there are. Each family of branches is there once, by its first. */
  constructor(readonly words = "") {}

  /** Looks at the newest ones, and from time to time at others. Returns whether something was new. */
  async refresh(signal?: AbortSignal): Promise<boolean> {
    const before = this.list;
    try {
      await this.#look(null, FIRST, signal);
      if (++this.#looks % OLDER_EVERY === 0) await this.#lookFurther();
      this.error = null;
    } catch (error) {
      if (error instanceof ApiError) this.error = error;
      throw error;
    }
    return this.list !== before;
  }

  /** Loads the next older ones. */
  async loadMore(): Promise<void> {
    if (this.#loading || !this.more) return;
    this.#loading = true;
    try {
      await this.#look(this.list.at(-1)!.id, FURTHER);
    } finally {
      this.#loading = false;
    }
  }

  /** Shows a change that the server is being told of; the next look has what came of it. */
  put(thread: Thread): void {
    this.#tag = null;
    this.list = this.list.map((other) => (other.id === thread.id ? thread : other));
  }

  remove(ids: ReadonlySet<string>): void {
    this.#tag = null;
    this.list = this.list.filter(({ id }) => !ids.has(id));
  }

  async #lookFurther(): Promise<void> {
    const start = this.#older + FIRST - 1;
    const after = this.list[start]?.id;
    this.#older = after === undefined ? 0 : this.#older + FURTHER;
    if (after !== undefined && start < this.list.length - 1) await this.#look(after, FURTHER);
  }

  /** Asks for those after one (null: the newest) and puts them in place of what was there. */
  async #look(after: string | null, limit: number, signal?: AbortSignal): Promise<void> {
    const query = { limit, after, branches: false, q: this.words === "" ? null : this.words };
    const tag = after === null ? this.#tag : null;
    const headers: Record<string, string> = tag === null ? {} : { "If-None-Match": tag };
    const response = await send("GET", "threads", { query, headers, signal });
    if (response.status === 304) return;
    const found = await readJson<Thread[]>(response, signal);
    const page = JSON.parse(response.headers.get("X-Pagination") ?? "{}") as { has_more?: boolean };
    const spliced = splice(this.list, this.more, after, found, page.has_more ?? false);
    if (spliced === null) return; // the place is gone: somebody deleted it meanwhile
    if (spliced.list.length !== this.list.length || spliced.list.some((thread, at) => thread !== this.list[at])) {
      this.list = spliced.list;
    }
    this.more = spliced.more;
    this.known = true;
    if (after === null) this.#tag = response.headers.get("ETag");
  }
}
