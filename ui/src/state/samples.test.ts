import { expect, test } from "vitest";

import { coresByProcess, sampleOf, type Look, type ServerNow } from "./samples";

function look(at: number, generated: number, cpu: number): Look {
  const stats = {
    slots: 4,
    busy: 2,
    waiting: 1,
    kv_cells: 100,
    kv_used: 60,
    kv_busy: 40,
    prompt_tokens: 2 * generated,
    generated_tokens: generated,
  };
  const server: ServerNow = {
    version: "1",
    started_at: 0,
    cores: 2,
    memory: { budget_bytes: 100, promised_bytes: 50, used_bytes: 20, total_bytes: 200, available_bytes: 90 },
    processes: [{ kind: "engine", pid: 7, rss_bytes: 20, cpu_seconds: cpu }],
    models: [
      { id: "a", status: "running", memory_bytes: 50, used_bytes: 20, runtime: null, stats },
      { id: "b", status: "downloaded", memory_bytes: null, used_bytes: null, runtime: null, stats: null },
    ],
    requests: [],
    missing: [],
  };
  return { at, server };
}

test("rates are what counts grew by in the time between", () => {
  const sample = sampleOf(look(1000, 10, 1), look(3000, 50, 2));
  expect(sample).toMatchObject({ answered: 20, read: 40, busy: 2, waiting: 1, used: 20, promised: 50, cpu: 0.25 });
  expect(sample.models).toEqual({ a: { answered: 20, read: 40, busy: 2, waiting: 1, kvBusy: 40, kvUsed: 60 } });
  expect(coresByProcess(look(1000, 10, 1), look(3000, 50, 2))).toEqual(new Map([[7, 0.5]]));
});

test("the first look has no rates", () => {
  expect(sampleOf(null, look(0, 10, 1))).toMatchObject({ answered: null, read: null, cpu: null, busy: 2 });
});

test("a model that began again counts from nothing", () => {
  expect(sampleOf(look(0, 500, 1), look(1000, 8, 1)).answered).toBe(8);
});
