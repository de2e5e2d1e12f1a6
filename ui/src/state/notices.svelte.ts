// Short messages at the page's edge: what went wrong, and what can be undone.

import { ApiError } from "../api/client";

export interface Notice {
  id: number;
  text: string;
  kind: "info" | "error";
  action?: { label: string; run: () => void };
  /** It is closed, by its time or by hand, and the action was not taken. */
  ended?: () => void;
}

interface Options {
  kind?: Notice["kind"];
  action?: Notice["action"];
  ended?: Notice["ended"];
  ms?: number;
}

const SHOWN_MS = 6000;

class Notices {
  list = $state.raw<Notice[]>([]);
  #next = 1;
  #held = false;
  #timers = new Map<number, { ms: number; timer: ReturnType<typeof setTimeout> | undefined }>();

  /** Shows a notice for `ms`; an error stays until it is closed. Returns how to close it. */
  show(text: string, { kind = "info", action, ended, ms = SHOWN_MS }: Options = {}): () => void {
    const notice: Notice = { id: this.#next++, text, kind, action, ended };
    this.list = [...this.list, notice];
    if (kind === "info") {
      this.#timers.set(notice.id, { ms, timer: undefined });
      this.hold(this.#held);
    }
    return () => this.close(notice.id);
  }

  close(id: number): void {
    this.#take(id)?.ended?.();
  }

  /** Does what a notice offers, and closes it. */
  act(id: number): void {
    this.#take(id)?.action?.run();
  }

  /** The newest notice that offers something. */
  get undoable(): Notice | undefined {
    return this.list.filter(({ action }) => action !== undefined).at(-1);
  }

  /** While somebody reads them none goes by its time. */
  hold(held: boolean): void {
    this.#held = held;
    for (const [id, entry] of this.#timers) {
      if (held) {
        clearTimeout(entry.timer);
        entry.timer = undefined;
      } else entry.timer ??= setTimeout(() => this.close(id), entry.ms);
    }
  }

  /** Shows what failed, in the server's words. What was given up on purpose is none. */
  failed(error: unknown): void {
    if (error instanceof DOMException && error.name === "AbortError") return;
    if (error instanceof ApiError && error.status === 401) return; // the key is asked for
    const text = error instanceof Error ? error.message : String(error);
    if (this.list.some((other) => other.kind === "error" && other.text === text)) return; // it is there to be read
    this.show(text, { kind: "error" });
  }

  #take(id: number): Notice | undefined {
    const notice = this.list.find((other) => other.id === id);
    clearTimeout(this.#timers.get(id)?.timer);
    this.#timers.delete(id);
    this.list = this.list.filter((other) => other.id !== id);
    return notice;
  }
}

export const notices = new Notices();
