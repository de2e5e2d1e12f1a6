// The assistants of the server: who answers in a conversation.

import { call } from "../api/client";
import type { Assistant } from "../api/types";

/** What changes of an assistant; null brings a field's default back. */
export type AssistantChanges = Partial<
  Pick<Assistant, "name" | "description" | "model" | "instructions"> &
    Record<"temperature" | "top_p", number | null>
>;

const PAGE = 100;

class Assistants {
  list = $state.raw<Assistant[]>([]);
  known = $state(false);

  get(id: string): Assistant | undefined {
    return this.list.find((assistant) => assistant.id === id);
  }

  async refresh(): Promise<void> {
    const found: Assistant[] = [];
    for (let after: string | undefined; ; ) {
      const query = { limit: PAGE, after };
      const page = await call<{ data: Assistant[]; has_more: boolean }>("GET", "assistants", { query });
      found.push(...page.data);
      after = page.data.at(-1)?.id;
      if (!page.has_more || after === undefined) break;
    }
    this.list = found;
    this.known = true;
  }

  /** Stores a new one; answers with it. */
  async create(values: AssistantChanges): Promise<Assistant> {
    const made = await call<Assistant>("POST", "assistants", { body: values });
    this.list = [made, ...this.list];
    return made;
  }

  async change(id: string, values: AssistantChanges): Promise<void> {
    const changed = await call<Assistant>("PATCH", `assistants/${encodeURIComponent(id)}`, { body: values });
    this.list = this.list.map((assistant) => (assistant.id === id ? changed : assistant));
  }

  async remove(id: string): Promise<void> {
    await call("DELETE", `assistants/${encodeURIComponent(id)}`);
    this.list = this.list.filter((assistant) => assistant.id !== id);
  }
}

export const assistants = new Assistants();
