// Requests that are sent again until the server is there: it may be started again, or have too much to do.

import { ApiError } from "../api/client";
import { notices } from "./notices.svelte";

const FIRST_MS = 300;
const LONGEST_MS = 3000;

let closeNotice: (() => void) | null = null;

/** What `ask` gives, sooner or later. Raises what no waiting mends, and AbortError of the signal. */
export async function patiently<T>(ask: () => Promise<T>, signal: AbortSignal): Promise<T> {
  for (let wait = FIRST_MS; ; wait = Math.min(2 * wait, LONGEST_MS)) {
    try {
      const answer = await ask();
      there();
      return answer;
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof ApiError) || !passes(error)) throw error;
      if (error.status !== 409) away(error);
      await pause(error.retryAfter === null ? wait : 1000 * error.retryAfter, signal);
    }
  }
}

/** Whether it may be otherwise a moment later. */
export function passes({ status, code }: ApiError): boolean {
  return status === 0 || status === 429 || status >= 500 || code === "idempotency_key_in_use";
}

/** Raises AbortError of the signal. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const ended = () => {
      clearTimeout(timer);
      reject(signal.reason as Error);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", ended);
      resolve();
    }, ms);
    if (signal.aborted) ended();
    else signal.addEventListener("abort", ended, { once: true });
  });
}

function away({ status, message }: ApiError): void {
  const what = status === 0 || status === 502 || status === 504 ? "The server cannot be reached." : message;
  closeNotice ??= notices.show(`${what} Trying again.`, { kind: "error" });
}

function there(): void {
  closeNotice?.();
  closeNotice = null;
}
