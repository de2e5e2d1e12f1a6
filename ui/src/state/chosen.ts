// The model that answers where a conversation names none.

import type { Thread } from "../api/types";
import { keep, kept } from "./kept";
import { models } from "./models.svelte";

const NAME = "model";
const ABSENT = new Set(["not_downloaded", "downloading"]);

/** The one that was chosen last on this device, else one that runs, else any that is there; null: there is none. */
export function chosenModel(): string | null {
  const there = models.list.filter(({ status }) => !ABSENT.has(status));
  const last = kept<string>(NAME);
  const found = there.find(({ id }) => id === last) ?? there.find(({ status }) => status === "running") ?? there[0];
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
