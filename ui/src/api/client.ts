// Requests to the server: JSON in and out, its errors as exceptions.

import { session } from "./session.svelte";

/** Below the page's own address, whatever path a proxy gave it. */
const BASE = new URL("v1/", document.baseURI);

/** What the server refused, in its own words. `status` 0: it could not be reached. */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly code: string | null = null,
    /** Seconds after which it may be tried again, if the server said so. */
    readonly retryAfter: number | null = null,
  ) {
    super(message);
    this.name = "ApiError";
  }
}

export interface Options {
  query?: Record<string, string | number | boolean | null | undefined>;
  /** Anything but a FormData or a Blob goes as JSON. */
  body?: unknown;
  /** The server carries requests of one key out once, however often they are sent. */
  idempotencyKey?: string;
  headers?: Record<string, string>;
  signal?: AbortSignal;
  /** The request goes on when the page is closed. */
  keepalive?: boolean;
}

type Method = "GET" | "POST" | "PATCH" | "PUT" | "DELETE";

/** A request whose answer is JSON. Raises ApiError. */
export async function call<T>(method: Method, path: string, options: Options = {}): Promise<T> {
  return readJson<T>(await send(method, path, options), options.signal);
}

/** What an answer says. Raises ApiError where it breaks off, and AbortError of the request's signal. */
export async function readJson<T>(response: Response, signal?: AbortSignal): Promise<T> {
  try {
    return (await response.json()) as T;
  } catch (error) {
    throw error instanceof SyntaxError ? error : unreached(error, signal);
  }
}

/** A request; its answer: success, or 304 where `If-None-Match` was sent. Raises ApiError, and AbortError of the signal. */
export async function send(method: Method, path: string, options: Options = {}): Promise<Response> {
  const url = new URL(path, BASE);
  for (const [name, value] of Object.entries(options.query ?? {})) {
    if (value !== null && value !== undefined) url.searchParams.set(name, String(value));
  }
  const headers = new Headers(options.headers);
  if (session.key !== null && !headers.has("Authorization")) headers.set("Authorization", `Bearer ${session.key}`);
  if (options.idempotencyKey !== undefined) headers.set("Idempotency-Key", options.idempotencyKey);
  let body: BodyInit | undefined;
  if (options.body instanceof FormData || options.body instanceof Blob) body = options.body;
  else if (options.body !== undefined) {
    headers.set("Content-Type", "application/json");
    body = JSON.stringify(options.body);
  }
  let response: Response;
  try {
    const { signal, keepalive } = options;
    response = await fetch(url, { method, headers, body, signal, keepalive, cache: "no-store" });
  } catch (error) {
    throw unreached(error, options.signal);
  }
  if (!response.ok && response.status !== 304) throw await refusal(response);
  return response;
}

/** What to raise where no answer came, or half of one. */
function unreached(error: unknown, signal: AbortSignal | undefined): unknown {
  return signal?.aborted ? error : new ApiError("The server cannot be reached.", 0);
}

async function refusal(response: Response): Promise<ApiError> {
  if (response.status === 401) session.refused = true;
  const after = Number(response.headers.get("Retry-After"));
  let message = `The server answered ${response.status}.`;
  let code: string | null = null;
  try {
    const { error } = (await response.json()) as { error: { message: string; code: string | null } };
    message = error.message;
    code = error.code;
  } catch {
    // What answers is not this server: a proxy has words of its own.
  }
  return new ApiError(message, response.status, code, Number.isFinite(after) && after > 0 ? after : null);
}
