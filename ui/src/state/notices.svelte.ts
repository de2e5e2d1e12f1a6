// Short messages at the page's edge: what went wrong, and what can be undone.

import { ApiError } from "../api/client";

export interface Notice {
  id: number;
  text: string;
  kind: "info" | "error";
  action?: { label: string; run: () => void };
}

const SHOWN_MS = 6000;

class Notices {
  list = $state.raw<Notice[]>([]);
  #next = 1;

  /** Shows a notice for `ms`; an error stays until it is closed. Returns how to close it. */
  show(text: string, options: { kind?: Notice["kind"]; action?: Notice["action"]; ms?: number } = {}): () => void {
    const notice: Notice = { id: this.#next++, text, kind: options.kind ?? "info", action: options.action };
    this.list = [...this.list, notice];
    const close = () => (this.list = this.list.filter((other) => other.id !== notice.id));
    if (notice.kind === "info") setTimeout(close, options.ms ?? SHOWN_MS);
    return close;
  }

  close(id: number): void {
    this.list = this.list.filter((other) => other.id !== id);
  }

  /** Shows what failed, in the server's words. What was given up on purpose is none. */
  failed(error: unknown): void {
    if (error instanceof DOMException && error.name === "AbortError") return;
    if (error instanceof ApiError && error.status === 401) return; // the key is asked for
    this.show(error instanceof Error ? error.message : String(error), { kind: "error" });
  }
}

export const notices = new Notices();
