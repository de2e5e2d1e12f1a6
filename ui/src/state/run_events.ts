// The events of a thread's runs, heard on behind the last one wherever their stream breaks off.

import { ApiError, send } from "../api/client";
import { readEvents, type ServerEvent } from "../api/sse";
import { passes, patiently } from "./patience";

const EVERY_S = 0.1; // how often the server tells what was said
const SPARING_S = 0.3; // the same where it costs speed
const FEW_CORES = 4;
const LOOPBACK = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/;
const SILENT_MS = 30_000; // the server says something every few seconds

/**
 * Seconds between two looks at an answer. Each takes 10 ms of a processor, browser and server together. On a small
 * machine that runs the model, too, the engine waits for that on all of its threads.
 */
export function howOften(host: string, cores: number): number {
  return LOOPBACK.test(host) && cores <= FEW_CORES ? SPARING_S : EVERY_S;
}

export class RunEvents {
  /** How far the events of a run were heard. */
  #heard = { run: "", event: "" };
  #stream: { ends: AbortController; heardAt: number } | null = null;

  constructor(readonly thread: string) {}

  /** Until the stream of events ends, as it should or not. Raises what no waiting mends, and AbortError of the signal. */
  async listen(run: string, take: (event: ServerEvent) => void, signal: AbortSignal): Promise<void> {
    if (this.#heard.run !== run) this.#heard = { run, event: "" };
    const ends = new AbortController();
    const options = {
      query: { reasoning: true, every: howOften(location.hostname, navigator.hardwareConcurrency) },
      signal: AbortSignal.any([signal, ends.signal]),
    };
    this.#stream = { ends, heardAt: Date.now() };
    try {
      const response = await patiently(() => {
        const headers: Record<string, string> = this.#heard.event === "" ? {} : { "Last-Event-ID": this.#heard.event };
        return send("GET", `${this.thread}/runs/${run}/events`, { ...options, headers });
      }, options.signal);
      for await (const event of readEvents(response.body!)) {
        this.#stream.heardAt = Date.now();
        if (event.id !== null) this.#heard = { run, event: event.id };
        take(event);
      }
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof ApiError && !passes(error)) throw error;
    } finally {
      this.#stream = null;
    }
  }

  /** Ends a stream that has been silent for too long: nobody told us that it broke off. */
  endIfSilent(): void {
    const stream = this.#stream;
    if (stream !== null && Date.now() - stream.heardAt > SILENT_MS) stream.ends.abort();
  }
}
