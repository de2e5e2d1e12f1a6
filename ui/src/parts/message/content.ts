// What stands in a message: words, files, thoughts, calls, and what must be told of it.

import type { Content, Message, Run, TextContent, ToolCall } from "../../api/types";
import { fileIn, type Attached } from "../../state/attachments";

export interface Said {
  text: string;
  files: Attached[];
  thoughts: string;
  refusal: string;
  /** What no model here is shown, by name. */
  unshown: string[];
}

/** A call, with what it gave back once that is known. */
export interface Call {
  id: string;
  name: string;
  arguments: string;
  output: string | null;
}

const NAMES: Record<string, string> = {
  image_url: "A picture",
  image_file: "A picture",
  image: "A picture",
  pdf: "A document",
  file: "A file",
  input_audio: "A sound",
  tool_call: "A call",
};

export function read(message: Message): Said {
  const said: Said = { text: "", files: [], thoughts: message.reasoning_content ?? "", refusal: "", unshown: [] };
  const texts: string[] = [];
  for (const part of message.content) {
    const file = fileIn(part);
    if (file !== null) said.files.push(file);
    else if (part.type === "text") texts.push((part as TextContent).text.value);
    else if (part.type === "refusal") said.refusal += String(part.refusal);
    else if (part.type === "reasoning") said.thoughts += wordsOf(part);
    else said.unshown.push(NAMES[part.type] ?? "Something");
  }
  said.text = texts.join("\n");
  return said;
}

/** Jan's own parts have their words in `text`, as a string or in an object. */
function wordsOf(part: Content): string {
  const { text } = part as { text?: unknown };
  if (typeof text === "string") return text;
  const { value } = (text ?? {}) as { value?: unknown };
  return typeof value === "string" ? value : "";
}

/** The calls that stand before a message's words, with their outputs, and those behind, which nobody has answered. */
export function callsAround(message: Message, run: Run | null, live: ToolCall[]): { before: Call[]; behind: Call[] } {
  const calls = new Map<string, Call>();
  const add = (call: ToolCall) => {
    const { name, output = null } = call.function;
    calls.set(call.id, { id: call.id, name, arguments: call.function.arguments, output });
  };
  for (const round of message.tool_rounds ?? []) for (const call of round.calls) calls.set(call.id, call);
  for (const call of message.tool_calls ?? []) add(call);
  for (const call of live) add(call);
  for (const call of waiting(run)) if (!calls.has(call.id)) add(call);
  const all = [...calls.values()];
  return { before: all.filter((call) => call.output !== null), behind: all.filter((call) => call.output === null) };
}

/** The calls whose outputs a run waits for. */
export function waiting(run: Run | null): ToolCall[] {
  return run?.status === "requires_action" ? (run.required_action?.submit_tool_outputs.tool_calls ?? []) : [];
}

/** The JSON schema that a run's answer is held to; null where there is none. */
export function schemaOf(run: Run | null): unknown {
  const named = (run?.response_format ?? {}) as { type?: unknown; schema?: unknown; json_schema?: { schema?: unknown } };
  if (named.type === "json_schema") return named.json_schema?.schema ?? null;
  if (named.type === "json_object" && isObject(named.schema)) return named.schema; // llama.cpp's way
  const form = run?.form ?? {};
  const structured = form.structured_outputs as { json?: unknown } | null | undefined;
  const schema = form.json_schema ?? form.guided_json ?? structured?.json;
  return isObject(schema) ? schema : null;
}

function isObject(value: unknown): boolean {
  return typeof value === "object" && value !== null;
}

/** JSON with line breaks; what is none as it is. */
export function pretty(json: string): string {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;
  }
}

const ENDS: Record<string, string> = {
  max_tokens: "It reached the most tokens that it may have.",
  run_cancelled: "It was stopped.",
  run_expired: "Its time was over.",
  run_failed: "It broke off.",
};

/** Why an answer is not whole; null for one that is. */
export function endOf(message: Message): string | null {
  if (message.status !== "incomplete") return null;
  return ENDS[message.incomplete_details?.reason ?? ""] ?? "It is not whole.";
}
