// The list of conversations, newest first, as far as it was asked for.

import { call } from "../api/client";
import type { Thread } from "../api/types";

const PAGE = 50;
const REFRESH_MS = 3000;

class Threads {
  list = $state.raw<Thread[]>([]);
  known = $state(false);

  async refresh(): Promise<void> {
    this.list = await call<Thread[]>("GET", "threads", { query: { limit: PAGE } });
    this.known = true;
  }

  watch(): () => void {
    const look = () => {
      if (document.visibilityState === "visible") this.refresh().catch(() => undefined);
    };
    look();
    const timer = setInterval(look, REFRESH_MS);
    return () => clearInterval(timer);
  }
}

export const threads = new Threads();
