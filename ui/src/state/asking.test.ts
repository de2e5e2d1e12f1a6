import { beforeEach, expect, test, vi } from "vitest";

import { ApiError } from "../api/client";
import { ask } from "./asking";
import type { Line, Question } from "./questions.svelte";

const { call } = vi.hoisted(() => ({ call: vi.fn() }));
vi.mock("../api/client", () => ({
  call,
  ApiError: class extends Error {
    constructor(
      message: string,
      readonly status: number,
      readonly code: string | null,
    ) {
      super(message);
    }
  },
}));

let question: Question | undefined;
const line = {
  find: () => question,
  change: (_: string, changes: Partial<Question>) => (question = { ...question!, ...changes }),
} as unknown as Line;

const unknown = new ApiError("was cut off", 409, "idempotency_outcome_unknown");
const sent = () => call.mock.calls.filter(([method]) => method === "POST").map(([, , options]) => options);

beforeEach(() => {
  call.mockReset();
  question = { id: "q", by: "tab", text: "Why?", sent: { model: "m", attempt: 0, isThere: false } };
});

test("a question is one request with a key of its own", async () => {
  call.mockResolvedValueOnce({ id: "run" });
  expect(await ask("threads/t", line, "q")).toEqual({ id: "run" });
  const message = { role: "user", content: "Why?", metadata: { question: "q" } };
  const body = { model: "m", metadata: { question: "q" }, additional_messages: [message] };
  expect(call.mock.calls).toEqual([["POST", "threads/t/runs", { body, idempotencyKey: "q.0" }]]);
});

test("one that another tab has seen to is not sent", async () => {
  question = undefined;
  expect(await ask("threads/t", line, "q")).toBe(null);
  expect(call).not.toHaveBeenCalled();
});

test("of one whose end nobody knows the run is found", async () => {
  call.mockRejectedValueOnce(unknown);
  call.mockResolvedValueOnce({ data: [{ id: "other", metadata: {} }, { id: "run", metadata: { question: "q" } }] });
  expect(await ask("threads/t", line, "q")).toMatchObject({ id: "run" });
  expect(sent()).toHaveLength(1);
});

test("if only its message is there, only the answer is asked for", async () => {
  call.mockRejectedValueOnce(unknown);
  call.mockResolvedValueOnce({ data: [] });
  call.mockResolvedValueOnce({ data: [{ id: "message", metadata: { question: "q" } }] });
  call.mockResolvedValueOnce({ id: "run" });
  expect(await ask("threads/t", line, "q")).toEqual({ id: "run" });
  expect(sent()[1]).toEqual({ body: { model: "m", metadata: { question: "q" } }, idempotencyKey: "q.1" });
});

test("if nothing is there it is asked anew", async () => {
  call.mockRejectedValueOnce(unknown);
  call.mockResolvedValueOnce({ data: [] });
  call.mockResolvedValueOnce({ data: [] });
  call.mockResolvedValueOnce({ id: "run" });
  await ask("threads/t", line, "q");
  expect(sent()[1]).toEqual({ ...sent()[0], idempotencyKey: "q.1" });
});

test("a refusal is raised, and nothing is looked for", async () => {
  call.mockRejectedValueOnce(new ApiError("there is no model m", 404, "model_not_found"));
  await expect(ask("threads/t", line, "q")).rejects.toThrow("there is no model m");
  expect(call).toHaveBeenCalledOnce();
});
