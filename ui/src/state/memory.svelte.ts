// What the models that run were promised of the memory budget, and what they use of it.

import { ApiError, call } from "../api/client";
import type { Model } from "../api/types";
import { keepLooking } from "./looking";
import { models } from "./models.svelte";

const REFRESH_MS = 2000;

/** Of one model that runs, in bytes; null: nobody knows. */
export interface Share {
  id: string;
  promised: number;
  used: number | null;
}

interface Answer {
  memory?: { budget_bytes: number | null };
  models?: { id: string; memory_bytes: number | null; used_bytes: number | null }[];
}

class Memory {
  /** What all models together may take, in bytes; null: the key may not ask for it. */
  budget = $state<number | null>(null);
  shares = $state.raw<Share[]>([]);

  of(id: string): Share | undefined {
    return this.shares.find((share) => share.id === id);
  }

  async refresh(): Promise<void> {
    let told: Answer["models"];
    try {
      const answer = await call<Answer>("GET", "server");
      this.budget = answer.memory?.budget_bytes ?? null;
      told = answer.models ?? [];
    } catch (error) {
      // Who may only ask models is told of each, but not of the server.
      if (!(error instanceof ApiError) || (error.status !== 403 && error.status !== 404)) throw error;
      told = await Promise.all(models.list.filter((model) => model.status === "running").map(runtimeOf));
    }
    this.shares = told
      .filter(({ memory_bytes }) => memory_bytes)
      .map(({ id, memory_bytes, used_bytes }) => ({ id, promised: memory_bytes!, used: used_bytes }));
  }

  /** Keeps it as it is while somebody looks. Returns how to end that. */
  watch(): () => void {
    return keepLooking(() => this.refresh(), () => REFRESH_MS);
  }
}

async function runtimeOf({ id }: Model) {
  const { runtime } = await call<Model>("GET", `models/${encodeURIComponent(id)}`);
  return { id, memory_bytes: runtime?.memory_bytes ?? null, used_bytes: runtime?.used_bytes ?? null };
}

export const memory = new Memory();
