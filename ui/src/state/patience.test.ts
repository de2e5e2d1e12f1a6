import { afterEach, beforeEach, expect, test, vi } from "vitest";

const { show, close } = vi.hoisted(() => {
  const close = vi.fn();
  return { close, show: vi.fn(() => close) };
});
vi.mock("./notices.svelte", () => ({ notices: { show } }));
vi.mock("../api/client", () => ({
  ApiError: class extends Error {
    constructor(
      message: string,
      readonly status: number,
      readonly code: string | null = null,
      readonly retryAfter: number | null = null,
    ) {
      super(message);
    }
  },
}));

const { ApiError } = await import("../api/client");
const { patiently } = await import("./patience");

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.clearAllMocks());

const away = new ApiError("The server cannot be reached.", 0);

test("it asks until there is an answer, and says so meanwhile, once", async () => {
  const ask = vi.fn().mockRejectedValueOnce(away).mockRejectedValueOnce(away).mockResolvedValueOnce("there");
  const answer = patiently(ask, new AbortController().signal);
  await vi.advanceTimersByTimeAsync(0);
  expect(show.mock.calls).toEqual([["The server cannot be reached. Trying again.", { kind: "error" }]]);
  await vi.runAllTimersAsync();
  expect(await answer).toBe("there");
  expect(ask).toHaveBeenCalledTimes(3);
  expect(show).toHaveBeenCalledOnce();
  expect(close).toHaveBeenCalledOnce();
});

test("pauses grow, to three seconds at most", async () => {
  const times: number[] = [];
  const ends = new AbortController();
  const ask = () => {
    times.push(Date.now());
    return Promise.reject(away);
  };
  const asked = patiently(ask, ends.signal).catch(() => undefined);
  await vi.advanceTimersByTimeAsync(20_000);
  ends.abort();
  await asked;
  const pauses = times.slice(1).map((time, index) => time - times[index]!);
  expect(pauses.slice(0, 6)).toEqual([300, 600, 1200, 2400, 3000, 3000]);
});

test("it waits as long as the server says", async () => {
  const full = new ApiError("too many requests", 429, null, 7);
  const ask = vi.fn().mockRejectedValueOnce(full).mockResolvedValueOnce("there");
  const answer = patiently(ask, new AbortController().signal);
  await vi.advanceTimersByTimeAsync(6999);
  expect(ask).toHaveBeenCalledOnce();
  await vi.advanceTimersByTimeAsync(1);
  expect(await answer).toBe("there");
  expect(show.mock.calls).toEqual([["too many requests. Trying again.", { kind: "error" }]]);
});

test("what no waiting mends is raised at once", async () => {
  const ask = vi.fn().mockRejectedValue(new ApiError("no such thread", 404));
  await expect(patiently(ask, new AbortController().signal)).rejects.toThrow("no such thread");
  expect(ask).toHaveBeenCalledOnce();
});

test("a request that is under way is waited for in silence", async () => {
  const ask = vi.fn();
  ask.mockRejectedValueOnce(new ApiError("in use", 409, "idempotency_key_in_use", 1)).mockResolvedValueOnce("there");
  const answer = patiently(ask, new AbortController().signal);
  await vi.runAllTimersAsync();
  expect(await answer).toBe("there");
  expect(show).not.toHaveBeenCalled();
});

test("whoever gives it up is told so", async () => {
  const ends = new AbortController();
  const answer = patiently(() => Promise.reject(away), ends.signal);
  const raised = expect(answer).rejects.toThrow("aborted");
  await vi.advanceTimersByTimeAsync(10);
  ends.abort();
  await raised;
  expect(close).toHaveBeenCalledOnce();
});
