// Numbers as people read them.

const WHOLE = new Intl.NumberFormat("en");
const SHORT = new Intl.NumberFormat("en", { maximumSignificantDigits: 2 });

/** 1234567: "1,234,567". */
export function whole(value: number): string {
  return WHOLE.format(Math.round(value));
}

/** Few digits, but none that counts is lost: 0.42, 3.4, 34, 1,204. */
export function short(value: number): string {
  return value >= 10 ? whole(value) : SHORT.format(value);
}

/** Milliseconds: "420 ms", "3.4 s", "2 min 5 s". */
export function time(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 120_000) return `${short(ms / 1000)} s`;
  const seconds = Math.round(ms / 1000);
  return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

/** "1 token", "1,204 tokens". */
export function count(value: number, what: string): string {
  return `${whole(value)} ${what}${value === 1 ? "" : "s"}`;
}

/** Bytes, or characters: "812 B", "3.4 kB", "1.2 MB". */
export function size(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  return bytes < 1_000_000 ? `${short(bytes / 1000)} kB` : `${short(bytes / 1_000_000)} MB`;
}
