// The models that the server knows, as they are now, and what can be done with them.

import { call } from "../api/client";
import type { Model, Values } from "../api/types";
import { keepLooking } from "./looking";

const REFRESH_MS = 3000;
const SOON_MS = 400; // while something is under way

/** What changes of a model; null takes a name away. */
export interface ModelChanges {
  name?: string;
  description?: string;
  settings?: Values;
  parameters?: Values;
}

/** A model to be fetched. */
export interface NewModel {
  source_url: string;
  id?: string;
  name?: string;
}

class Models {
  list = $state.raw<Model[]>([]);
  /** They were asked for once. */
  known = $state(false);
  /** A first model is being fetched and started: the page does not go on before that is done. */
  settingUp = $state(false);
  /** Those that can be asked something. */
  readonly usable = $derived(this.list.filter(answers));
  /** There is nothing to talk to yet. */
  readonly none = $derived(this.known && (this.settingUp || this.usable.length === 0));
  #refreshing: Promise<void> | null = null;

  get(id: string): Model | undefined {
    return this.list.find((model) => model.id === id);
  }

  /** Whoever asks while it is being asked gets the same answer. */
  refresh(): Promise<void> {
    this.#refreshing ??= this.#ask().finally(() => (this.#refreshing = null));
    return this.#refreshing;
  }

  async #ask(): Promise<void> {
    const { data } = await call<{ data: Model[] }>("GET", "models");
    this.list = data;
    this.known = true;
  }

  /** Keeps the list as it is on the server while somebody looks. Returns how to end that. */
  watch(): () => void {
    const wait = () => (this.list.some(isUnderWay) ? SOON_MS : REFRESH_MS);
    return keepLooking(() => this.refresh(), wait, this.known);
  }

  /** Answers when the model runs. */
  async start(id: string): Promise<void> {
    await this.#changing(id, "starting", call("PUT", `${path(id)}/start`));
  }

  async stop(id: string): Promise<void> {
    await this.#changing(id, "stopping", call("PUT", `${path(id)}/stop`));
  }

  async restart(id: string): Promise<void> {
    await this.stop(id);
    await this.start(id);
  }

  async change(id: string, changes: ModelChanges): Promise<void> {
    await call("PATCH", path(id), { body: changes });
    await this.#refreshed();
  }

  /** Begins to fetch a model; answers with its id. Of one that failed it goes on where that ended. */
  async fetch(model: NewModel): Promise<string> {
    const { id } = await call<{ id: string }>("POST", "models", { body: model });
    await this.#refreshed();
    return id;
  }

  /** Takes the model off the disk, or ends its download. */
  async remove(id: string): Promise<void> {
    await call("DELETE", path(id));
    await this.#refreshed();
  }

  /** The list shows at once what was asked for, and what came of it when that is known. */
  async #changing(id: string, status: string, asked: Promise<unknown>): Promise<void> {
    this.list = this.list.map((model) => (model.id === id ? { ...model, status, error: null } : model));
    try {
      await asked;
    } finally {
      await this.#refreshed();
    }
  }

  /** The list as it is after what was just done: an answer that was asked for before that does not count. */
  async #refreshed(): Promise<void> {
    await this.#refreshing?.catch(() => undefined);
    await this.refresh().catch(() => undefined);
  }
}

function path(id: string): string {
  return `models/${encodeURIComponent(id)}`;
}

/** It is there, and makes text. */
function answers(model: Model): boolean {
  const isThere = model.status !== "not_downloaded" && !model.download;
  return isThere && !model.metadata.embedding;
}

function isUnderWay(model: Model): boolean {
  return ["downloading", "starting", "stopping"].includes(model.status);
}

export const models = new Models();
