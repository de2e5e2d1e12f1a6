// One conversation: its messages, and the answer that is being given.

import { call, events } from "../api/client";
import type { Message, Run, Thread } from "../api/types";

export class Conversation {
  thread = $state.raw<Thread | null>(null);
  messages = $state.raw<Message[]>([]);
  /** What the answer under way has said. */
  said = $state("");
  run = $state.raw<Run | null>(null);

  constructor(readonly id: string) {}

  async load(): Promise<void> {
    this.thread = await call<Thread>("GET", `threads/${this.id}`);
    const page = await call<{ data: Message[] }>("GET", `threads/${this.id}/messages`, {
      query: { limit: 50, order: "desc" },
    });
    this.messages = page.data.reverse();
  }

  async ask(text: string, model: string): Promise<void> {
    const body = { model, stream: true, additional_messages: [{ role: "user", content: text }] };
    for await (const { event, data } of events("POST", `threads/${this.id}/runs`, { body })) {
      if (event === "thread.message.delta") this.said += JSON.parse(data).delta.content[0].text.value;
      else if (event.startsWith("thread.run.") && !event.includes("step")) this.run = JSON.parse(data);
    }
    this.said = "";
    await this.load();
  }
}
