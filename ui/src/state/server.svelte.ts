// The server as it is now, and as it was in the last minutes: asked for once a second while somebody looks.

import { ApiError, call } from "../api/client";
import { sampleOf, type Look, type Sample, type ServerNow } from "./samples";

/** How far back it remembers. */
export const SPAN_MS = 300_000;
const PAUSE_MS = 1000;
const PAUSE_AFTER_FAILURE_MS = 3000;

export class ServerWatch {
  now = $state.raw<Look | null>(null);
  before = $state.raw<Look | null>(null);
  samples = $state.raw<Sample[]>([]);
  /** Why the last look failed. */
  failure = $state.raw<ApiError | null>(null);
  paused = $state(false);

  /** The key that is in use may not see it: asking again is of no use. */
  get isRefused(): boolean {
    return this.failure?.status === 401 || this.failure?.status === 403;
  }

  async look(signal?: AbortSignal): Promise<void> {
    try {
      const server = await call<ServerNow>("GET", "server", { signal });
      this.#add({ at: performance.now(), server });
      this.failure = null;
    } catch (error) {
      if (signal?.aborted) return;
      if (!(error instanceof ApiError)) throw error;
      this.failure = error;
    }
  }

  /** Looks while the page is seen. Returns how to end that. */
  watch(): () => void {
    const ending = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const next = async () => {
      if (!this.paused && document.visibilityState === "visible") await this.look(ending.signal);
      if (ending.signal.aborted || this.isRefused) return;
      timer = setTimeout(next, this.failure === null ? PAUSE_MS : PAUSE_AFTER_FAILURE_MS);
    };
    void next();
    return () => {
      ending.abort();
      clearTimeout(timer);
    };
  }

  #add(look: Look): void {
    const sample = sampleOf(this.now, look);
    this.samples = [...this.samples.filter((old) => old.at > look.at - SPAN_MS), sample];
    this.before = this.now;
    this.now = look;
  }
}
