// Characters that are written by name. HTML has two thousand of them; models use these.

const NAMED = new Map(Object.entries({
  amp: "&",
  lt: "<",
  gt: ">",
  quot: '"',
  apos: "'",
  nbsp: "\u00a0",
  copy: "©",
  reg: "®",
  trade: "™",
  hellip: "…",
  mdash: "—",
  ndash: "–",
  lsquo: "‘",
  rsquo: "’",
  ldquo: "“",
  rdquo: "”",
  laquo: "«",
  raquo: "»",
  bull: "•",
  middot: "·",
  larr: "←",
  uarr: "↑",
  rarr: "→",
  darr: "↓",
  times: "×",
  divide: "÷",
  plusmn: "±",
  minus: "−",
  le: "≤",
  ge: "≥",
  ne: "≠",
  deg: "°",
  euro: "€",
  pound: "£",
  yen: "¥",
  sect: "§",
}));

/** The character of `amp`, `#38` or `#x26`; null if there is none. */
export function decodeEntity(name: string): string | null {
  if (!name.startsWith("#")) return NAMED.get(name) ?? null;
  const code = /^#x/i.test(name) ? parseInt(name.slice(2), 16) : parseInt(name.slice(1), 10);
  if (code > 0x10ffff) return null;
  return code === 0 ? "\ufffd" : String.fromCodePoint(code);
}
