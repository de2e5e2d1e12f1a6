// What can be done at a message, on the screen of its conversation.

import { call } from "../api/client";
import type { Content, Message, Run } from "../api/types";
import { isAttached } from "./attachments";
import { branches } from "./branches.svelte";
import type { Actions } from "./types";
import { startOf } from "./versions";

/** The conversation that the message stands in. */
export interface Stage {
  readonly id: string;
  /** Those that are loaded, in order. */
  readonly messages: Message[];
  /** The model that answers here; null: the server chooses. */
  readonly model: string | null;
  /** Shows a run of this thread from here on. */
  follow(run: Run): void;
  /** Reads the messages anew. */
  refresh(): Promise<void>;
}

export function actionsAt(stage: Stage, message: Message, run: Run | null): Actions {
  const thread = `threads/${stage.id}`;
  const model = stage.model ?? undefined;
  const isLast = message.role === "assistant" && stage.messages.at(-1)?.id === message.id;
  const goOn = async () => {
    stage.follow(await call<Run>("POST", `${thread}/runs`, { body: { model, continue_last: true } }));
  };
  return {
    async regenerate() {
      // In the form that it was asked for.
      const form = run?.form ?? (run?.response_format === "auto" ? {} : { response_format: run?.response_format });
      await askInBranch(stage.id, startOf(stage.messages, message).id, { model, ...form });
    },
    async edit(text) {
      const content: Content[] = [textPart(text), ...message.content.filter(isAttached)];
      await askInBranch(stage.id, message.id, { model, additional_messages: [{ role: "user", content }] });
    },
    async branchHere() {
      const next = stage.messages[stage.messages.findIndex((other) => other.id === message.id) + 1];
      branches.open(await branches.make(stage.id, next?.id ?? null));
    },
    continue: isLast ? goOn : null,
    async submit(outputs) {
      const tool_outputs = Object.entries(outputs).map(([tool_call_id, output]) => ({ tool_call_id, output }));
      const path = `${thread}/runs/${run!.id}/submit_tool_outputs`;
      stage.follow(await call<Run>("POST", path, { body: { tool_outputs } }));
    },
    async remove() {
      await call("DELETE", `${thread}/messages/${message.id}`);
      await stage.refresh();
      await branches.lookAgain(stage.id); // others may have parted here
    },
  };
}

/** Asks in a branch that ends before a message. Of a question that is refused no branch stays. */
async function askInBranch(threadId: string, before: string, body: object): Promise<void> {
  const branch = await branches.make(threadId, before);
  try {
    await call<Run>("POST", `threads/${branch.id}/runs`, { body });
  } catch (error) {
    await branches.drop(branch);
    throw error;
  }
  branches.open(branch);
}

export function textPart(value: string): Content {
  return { type: "text", text: { value, annotations: [] } };
}
