// Numbers as people read them.

// Made with the first number, not when the page is opened: it takes long.
let wholes: Intl.NumberFormat | undefined;
let shorts: Intl.NumberFormat | undefined;

/** 1234567: "1,234,567". */
export function whole(value: number): string {
  wholes ??= new Intl.NumberFormat("en");
  return wholes.format(Math.round(value));
}

/** Few digits, but none that counts is lost: 0.42, 3.4, 34, 1,204. */
export function short(value: number): string {
  if (value >= 10) return whole(value);
  shorts ??= new Intl.NumberFormat("en", { maximumSignificantDigits: 2 });
  return shorts.format(value);
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
