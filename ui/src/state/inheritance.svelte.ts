// Who says how a conversation is answered: the conversation over its assistant over the model.

import { call } from "../api/client";
import type { Assistant, Model, Thread, ThreadAssistant, Values } from "../api/types";
import type { Layer } from "../parts/parameters/known";
import { assistants } from "./assistants.svelte";
import { models } from "./models.svelte";

/** Of one conversation. */
export class Inheritance {
  thread = $state.raw<Thread | null>(null);
  readonly entry = $derived<ThreadAssistant | null>(this.thread?.assistants[0] ?? null);
  readonly assistant = $derived<Assistant | null>(assistants.get(assistantId(this.entry) ?? "jan") ?? null);
  readonly model = $derived<Model | null>(models.get(this.#modelId()) ?? null);
  readonly parameters = $derived<Layer[]>([
    { label: "this conversation", values: this.thread?.parameters ?? {} },
    { label: "its assistant", values: ofModel(this.entry, "parameters") },
    { label: "the assistant", values: ofAssistant(this.assistant) },
    { label: "the model", values: this.model?.parameters ?? {} },
  ]);
  readonly settings = $derived<Layer[]>([
    { label: "this conversation", values: this.thread?.settings ?? {} },
    { label: "its assistant", values: ofModel(this.entry, "settings") },
    { label: "the model", values: this.model?.settings ?? {} },
  ]);

  constructor(readonly id: string) {}

  async load(): Promise<void> {
    const [thread] = await Promise.all([
      call<Thread>("GET", this.#path),
      assistants.known ? undefined : assistants.refresh(),
    ]);
    this.thread = thread;
  }

  /** Sets one of the conversation's own values; null takes it away. */
  async set(table: "parameters" | "settings", name: string, value: unknown): Promise<void> {
    await this.#change({ [table]: { ...this.thread?.[table], [name]: value } });
  }

  async setInstructions(text: string): Promise<void> {
    const [first, ...others] = this.thread?.assistants ?? [];
    await this.#change({ assistants: [{ assistant_id: "jan", ...first, instructions: text }, ...others] });
  }

  async setAssistant(id: string): Promise<void> {
    await this.#change({ assistants: [id] });
  }

  get #path(): string {
    return `threads/${encodeURIComponent(this.id)}`;
  }

  async #change(body: Values): Promise<void> {
    this.thread = await call<Thread>("PATCH", this.#path, { body });
  }

  #modelId(): string {
    const entry = this.entry?.model;
    const named = [this.thread?.model_id, typeof entry === "object" ? entry?.id : entry, this.assistant?.model];
    const only = models.usable.length === 1 ? models.usable[0]!.id : "";
    return named.find((id) => id && id !== "*") ?? only;
  }
}

function assistantId(entry: ThreadAssistant | null): string | undefined {
  return entry?.assistant_id ?? entry?.id;
}

function ofModel(entry: ThreadAssistant | null, table: "parameters" | "settings"): Values {
  return (typeof entry?.model === "object" && entry.model?.[table]) || {};
}

function ofAssistant(assistant: Assistant | null): Values {
  return assistant === null ? {} : { temperature: assistant.temperature, top_p: assistant.top_p };
}
