// Values as they are written in fields, and back.

import type { Known } from "./known";

/** Its message is a sentence that says what would be right. */
export class Unfit extends Error {}

/** A value as text: strings one a line, with `\n` for a line's end in them. */
export function toText(known: Known, value: unknown): string {
  if (value === null || value === undefined) return "";
  if (known.type === "strings") {
    return (Array.isArray(value) ? value : [value]).map((text) => escape(String(text))).join("\n");
  }
  if (typeof value === "object") return JSON.stringify(value);
  return String(value);
}

/** The value that a text means; null: none of its own. Raises Unfit. */
export function fromText(known: Known, text: string): unknown {
  const trimmed = text.trim();
  if (known.type === "text") return text === "" ? null : text;
  if (trimmed === "") return null;
  if (known.type === "strings") return text.split("\n").filter((line) => line !== "").map(unescape);
  if (known.type === "object") return fromJson(known, trimmed);
  if (known.type === "integer" || known.type === "number") return fromNumber(known, trimmed);
  if (known.type === "boolean") return trimmed === "true";
  return trimmed;
}

/** `0 to 2`, for people. */
export function rangeOf(known: Known): string | null {
  if (known.range === undefined) return null;
  return known.range.map((limit) => limit.toLocaleString("en")).join(" to ");
}

function fromNumber(known: Known, text: string): number {
  const value = Number(text.replace(",", "."));
  const whole = known.type === "integer";
  const [low, high] = known.range ?? [-Infinity, Infinity];
  if (!Number.isFinite(value) || (whole && !Number.isSafeInteger(value)) || value < low! || value > high!) {
    const range = rangeOf(known);
    throw new Unfit(`${known.title} must be a ${whole ? "whole " : ""}number${range === null ? "" : ` from ${range}`}.`);
  }
  return value;
}

function fromJson(known: Known, text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null) return value;
  } catch {
    // said below
  }
  throw new Unfit(`${known.title} must be an object in JSON, like {"name": 1}.`);
}

const ESCAPES: Record<string, string> = { "\n": "\\n", "\t": "\\t", "\r": "\\r", "\\": "\\\\" };
const MEANT: Record<string, string> = { n: "\n", t: "\t", r: "\r", "\\": "\\" };

function escape(text: string): string {
  return text.replace(/[\n\t\r\\]/g, (letter) => ESCAPES[letter]!);
}

function unescape(text: string): string {
  return text.replace(/\\([ntr\\])/g, (_, letter: string) => MEANT[letter]!);
}
