// One question becomes one run, however often it is sent: the server knows a request again by its key. Where it was killed
// before it could say what became of one, what it has stored is looked at.

import { ApiError, call } from "../api/client";
import type { Message, Run } from "../api/types";
import type { Line, Question } from "./questions.svelte";

const UNCERTAIN = new Set(["idempotency_outcome_unknown", "idempotency_key_reused"]);
const LOOKED_AT = 20; // nobody asks more in the meantime

/** The run that answers a question which was marked as sent; null: another tab has seen to it. Raises ApiError. */
export async function ask(thread: string, line: Line, id: string): Promise<Run | null> {
  const question = line.find(id);
  if (question?.sent === undefined) return null;
  const { model, attempt } = question.sent;
  try {
    const idempotencyKey = `${id}.${attempt}`;
    return await call<Run>("POST", `${thread}/runs`, { body: bodyOf(question), idempotencyKey });
  } catch (error) {
    if (!(error instanceof ApiError) || !UNCERTAIN.has(error.code ?? "")) throw error;
  }
  const isOurs = ({ metadata }: Run | Message) => metadata.question === id;
  const run = (await newest<Run>(`${thread}/runs`)).find(isOurs);
  if (run !== undefined) return run;
  const isThere = (await newest<Message>(`${thread}/messages`)).some(isOurs);
  line.change(id, { sent: { model, attempt: attempt + 1, isThere } });
  return ask(thread, line, id);
}

function bodyOf({ id, text, parts = [], sent }: Question): object {
  const metadata = { question: id };
  const content = parts.length === 0 ? text : [...(text === "" ? [] : [{ type: "text", text }]), ...parts];
  return {
    model: sent!.model ?? undefined,
    metadata,
    ...(!sent!.isThere && { additional_messages: [{ role: "user", content, metadata }] }),
  };
}

async function newest<T>(path: string): Promise<T[]> {
  return (await call<{ data: T[] }>("GET", path, { query: { limit: LOOKED_AT, order: "desc" } })).data;
}
