// Requests that are sent again until the server is there: it may be started again, or have too much to do.

import { ApiError } from "../api/client";
import { notices } from "./notices.svelte";

const FIRST_MS = 300;
const LONGEST_MS = 3000;

let waiting = 0;
let closeNotice: (() => void) | null = null;

/** What `ask` gives, sooner or later. Raises what no waiting mends, and AbortError of the signal. */
export async function patiently<T>(ask: () => Promise<T>, signal: AbortSignal): Promise<T> {
  let isWaiting = false;
  try {
    for (let wait = FIRST_MS; ; wait = Math.min(2 * wait, LONGEST_MS)) {
      try {
        return await ask();
      } catch (error) {
        signal.throwIfAborted();
        if (!(error instanceof ApiError) || !passes(error)) throw error;
        if (!isWaiting && error.status !== 409) {
          isWaiting = true;
          begin(error);
        }
        await pause(error.retryAfter === null ? wait : 1000 * error.retryAfter, signal);
      }
    }
  } finally {
    if (isWaiting) end();
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

function begin({ status, message }: ApiError): void {
  waiting += 1;
  const what = status === 0 || status === 502 || status === 504 ? "The server cannot be reached." : message;
  closeNotice ??= notices.show(`${what.replace(/[^.]$/, "$&.")} Trying again.`, { kind: "error" });
}

/** The notice stays as long as anybody waits. */
function end(): void {
  waiting -= 1;
  if (waiting > 0) return;
  closeNotice?.();
  closeNotice = null;
}
