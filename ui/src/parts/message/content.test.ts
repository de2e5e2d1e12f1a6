import { expect, test } from "vitest";

import type { Message, Run, ToolCall } from "../../api/types";
import { partOf } from "../../state/attachments";
import { callsAround, endOf, pretty, read, schemaOf, waiting } from "./content";

const message = (fields: Partial<Message>): Message => ({
  id: "msg_1",
  thread_id: "thread_1",
  role: "assistant",
  created_at: 0,
  content: [],
  status: "completed",
  metadata: {},
  ...fields,
});
const text = (value: string) => ({ type: "text" as const, text: { value, annotations: [] } });
const call = (id: string, output?: string): ToolCall => ({
  id,
  type: "function",
  function: { name: "look", arguments: "{}", output },
});
const run = (fields: Partial<Run>): Run => fields as Run;

test("words, files, thoughts and what no model is shown are told apart", () => {
  const said = read(
    message({
      reasoning_content: "Hm. ",
      content: [
        text("Look"),
        partOf({ name: "a.txt", text: "b\n" }),
        text("here"),
        { type: "image_url", image_url: { url: "https://example.com/a.png" } },
        { type: "reasoning", text: { value: "So." } },
        { type: "refusal", refusal: "No." },
      ],
    }),
  );
  expect(said).toEqual({
    text: "Look\nhere",
    files: [{ name: "a.txt", text: "b\n" }],
    thoughts: "Hm. So.",
    refusal: "No.",
    unshown: ["A picture"],
  });
});

test("calls with outputs stand before the words, those without behind them, each once", () => {
  const kept = { id: "call_1", name: "look", arguments: "{}", output: "a cat" };
  const answering = message({ tool_rounds: [{ message_id: null, calls: [kept] }], tool_calls: [call("call_3")] });
  const { before, behind } = callsAround(answering, null, [call("call_1", "a cat"), call("call_2", "a dog")]);
  expect(before.map(({ id, output }) => [id, output])).toEqual([
    ["call_1", "a cat"],
    ["call_2", "a dog"],
  ]);
  expect(behind.map(({ id }) => id)).toEqual(["call_3"]);
});

test("a run that waits tells its calls", () => {
  const calls = { required_action: { submit_tool_outputs: { tool_calls: [call("call_1")] } } };
  expect(waiting(run({ ...calls, status: "requires_action" }))).toHaveLength(1);
  expect(waiting(run({ ...calls, status: "completed" }))).toEqual([]);
  expect(callsAround(message({}), run({ ...calls, status: "requires_action" }), []).behind).toHaveLength(1);
});

test("the schema of an answer is found wherever a run has it", () => {
  const schema = { type: "object" };
  expect(schemaOf(run({ response_format: { type: "json_schema", json_schema: { name: "a", schema } } }))).toBe(schema);
  expect(schemaOf(run({ response_format: { type: "json_object", schema } }))).toBe(schema);
  expect(schemaOf(run({ response_format: "auto", form: { guided_json: schema } }))).toBe(schema);
  expect(schemaOf(run({ response_format: "auto", form: { structured_outputs: { json: schema } } }))).toBe(schema);
  for (const none of [run({}), run({ response_format: { type: "json_object" } }), run({ response_format: "auto", form: { regex: "a" } }), null]) {
    expect(schemaOf(none)).toBeNull();
  }
});

test("what is no JSON stays as it is", () => {
  expect(pretty('{"a":1}')).toBe('{\n  "a": 1\n}');
  expect(pretty('{"a":')).toBe('{"a":');
});

test("an answer that is not whole says why", () => {
  expect(endOf(message({}))).toBeNull();
  expect(endOf(message({ status: "incomplete", incomplete_details: { reason: "run_cancelled" } }))).toBe("It was stopped.");
  expect(endOf(message({ status: "incomplete" }))).toBe("It is not whole.");
});
