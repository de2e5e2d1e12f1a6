// A conversation that begins at a model or an assistant.

import { call } from "../../api/client";
import type { Thread } from "../../api/types";
import { place } from "../../state/route.svelte";
import { threads } from "../../state/threads.svelte";

/** Makes it, and shows it. */
export async function begin(body: { model_id: string } | { assistants: string[] }): Promise<void> {
  const thread = await call<Thread>("POST", "threads", { body });
  place.go({ screen: "thread", id: thread.id });
  await threads.refresh();
}
