// What two looks at the server, one after the other, tell of the time between them.

import type { Runtime } from "../api/types";

/** What `GET /v1/server` answers with. */
export interface ServerNow {
  version: string;
  started_at: number | null;
  cores: number;
  memory: ServerMemory;
  processes: ServerProcess[];
  models: ServerModel[];
  requests: ServerRequest[];
  missing: { kind: string; name: string; reason: string }[];
}

export interface ServerMemory {
  budget_bytes: number | null;
  promised_bytes: number;
  used_bytes: number;
  total_bytes: number | null;
  available_bytes: number;
}

export interface ServerProcess {
  kind: string;
  pid: number;
  rss_bytes: number;
  cpu_seconds: number;
}

export interface ServerModel {
  id: string;
  status: string;
  memory_bytes: number | null;
  used_bytes: number | null;
  runtime: Runtime | null;
  stats: ServerStats | null;
}

export interface ServerStats {
  slots: number;
  busy: number;
  waiting: number;
  kv_cells: number;
  kv_used: number;
  kv_busy: number;
  prompt_tokens: number;
  generated_tokens: number;
  [name: string]: number | null;
}

export interface ServerRequest {
  id: string | null;
  model: string;
  state: "waiting" | "prompt" | "answering";
  age_seconds: number;
  prompt_tokens: number;
  cached_tokens: number;
  computed_tokens: number;
  answer_tokens: number;
  tokens_per_second: number;
  run_id: string | null;
  thread_id: string | null;
}

/** One look: what came, and when (milliseconds of a clock that only goes on). */
export interface Look {
  at: number;
  server: ServerNow;
}

export interface ModelSample {
  /** Tokens a second: of answers, and of prompts that were computed. null where there was no look before. */
  answered: number | null;
  read: number | null;
  busy: number;
  waiting: number;
  kvBusy: number;
  kvUsed: number;
}

export interface Sample extends Omit<ModelSample, "kvBusy" | "kvUsed"> {
  at: number;
  used: number;
  promised: number;
  /** Which part of all cores the server's processes used; null where there was no look before. */
  cpu: number | null;
  models: Record<string, ModelSample>;
}

export function sampleOf(before: Look | null, now: Look): Sample {
  const models: Record<string, ModelSample> = {};
  for (const { id, stats } of now.server.models) {
    if (stats === null) continue;
    const earlier = before?.server.models.find((model) => model.id === id)?.stats ?? null;
    models[id] = modelSample(earlier, stats, before === null ? null : seconds(before, now));
  }
  const each = Object.values(models);
  const { used_bytes: used, promised_bytes: promised } = now.server.memory;
  return {
    at: now.at,
    answered: sum(each.map((model) => model.answered)),
    read: sum(each.map((model) => model.read)),
    busy: total(each.map((model) => model.busy)),
    waiting: total(each.map((model) => model.waiting)),
    used,
    promised,
    cpu: before === null ? null : cpuBetween(before, now),
    models,
  };
}

/** Which part of one core each process used between two looks, by its id. */
export function coresByProcess(before: Look, now: Look): Map<number, number> {
  const earlier = new Map(before.server.processes.map((process) => [process.pid, process.cpu_seconds]));
  const found = new Map<number, number>();
  for (const { pid, cpu_seconds } of now.server.processes) {
    const then = earlier.get(pid);
    if (then !== undefined) found.set(pid, Math.max(0, cpu_seconds - then) / seconds(before, now));
  }
  return found;
}

function modelSample(before: ServerStats | null, now: ServerStats, passed: number | null): ModelSample {
  const rate = (name: "generated_tokens" | "prompt_tokens") =>
    before === null || passed === null ? null : grown(before[name], now[name]) / passed;
  return {
    answered: rate("generated_tokens"),
    read: rate("prompt_tokens"),
    busy: now.busy,
    waiting: now.waiting,
    kvBusy: now.kv_busy,
    kvUsed: now.kv_used,
  };
}

/** What a count grew by: one that fell began again, with its process. */
function grown(before: number, now: number): number {
  return now < before ? now : now - before;
}

function cpuBetween(before: Look, now: Look): number {
  return Math.min(1, total([...coresByProcess(before, now).values()]) / now.server.cores);
}

function seconds(before: Look, now: Look): number {
  return Math.max(0.001, (now.at - before.at) / 1000);
}

/** null where none is known. */
function sum(numbers: (number | null)[]): number | null {
  const known = numbers.filter((number) => number !== null);
  return numbers.length > 0 && known.length === 0 ? null : total(known);
}

function total(numbers: number[]): number {
  return numbers.reduce((all, number) => all + number, 0);
}
