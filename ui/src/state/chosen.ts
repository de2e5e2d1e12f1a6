// The model that answers where a conversation names none.

import type { Thread } from "../api/types";
import { keep, kept } from "./kept";
import { models } from "./models.svelte";

const NAME = "model";

/** The one that was chosen last on this device, else one that runs, else any; null: there is none. */
export function chosenModel(): string | null {
  const { usable } = models;
  const last = kept<string>(NAME);
  const found = usable.find(({ id }) => id === last) ?? usable.find(({ status }) => status === "running") ?? usable[0];
  return found?.id ?? null;
}

export function choose(model: string): void {
  keep(NAME, model);
}

/** The model that a conversation names. */
export function modelOf(thread: Thread | null): string | null {
  const named = thread?.assistants[0]?.model;
  return thread?.model_id || (typeof named === "string" ? named : named?.id) || null;
}
