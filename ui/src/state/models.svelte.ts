// The models that the server knows, as they are now.

import { call } from "../api/client";
import type { Model } from "../api/types";

const REFRESH_MS = 3000;

class Models {
  list = $state.raw<Model[]>([]);
  /** They were asked for once. */
  known = $state(false);

  async refresh(): Promise<void> {
    const { data } = await call<{ data: Model[] }>("GET", "models");
    this.list = data;
    this.known = true;
  }

  /** Keeps the list as it is on the server while somebody looks. Returns how to end that. */
  watch(): () => void {
    const look = () => {
      if (document.visibilityState === "visible") this.refresh().catch(() => undefined);
    };
    look();
    const timer = setInterval(look, REFRESH_MS);
    return () => clearInterval(timer);
  }
}

export const models = new Models();
