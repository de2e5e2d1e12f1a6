// Emphasis: which stars, underscores and tildes belong together.

import type { Inline } from "./tree";

/** Emphasis and links within each other; what is deeper is text. */
export const DEPTH = 12;

const SPACE = /\s/;
const PUNCTUATION = /[\p{P}\p{S}]/u;
const IDEOGRAPH = /[\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}\p{sc=Hangul}]/u;

export interface Delimiter {
  type: "delimiter";
  char: string;
  count: number;
  /** How many there were. */
  length: number;
  opens: boolean;
  closes: boolean;
  at: number;
}

export type Item = Inline | Delimiter;

/** A run of `char` between two characters (white space at the ends of a text). */
export function delimiter(char: string, length: number, before: string, after: string, at: number): Delimiter {
  const left = flanks(after, before);
  const right = flanks(before, after);
  const within = char === "_" && left && right;
  const opens = left && (!within || PUNCTUATION.test(before));
  const closes = right && (!within || PUNCTUATION.test(after));
  return { type: "delimiter", char, count: length, length, opens, closes, at };
}

/** Joins delimiters to emphasis, from item `from` on: https://spec.commonmark.org/0.31.2/#process-emphasis */
export function emphasize(items: Item[], from: number): void {
  let i = from;
  while (i < items.length) {
    const closer = items[i]!;
    let j = i - 1;
    if (closer.type !== "delimiter" || !closer.closes) j = -1;
    else while (j >= from && !pairs(items[j]!, closer)) j -= 1;
    if (j < from || closer.type !== "delimiter") {
      i += 1;
      continue;
    }
    const opener = items[j] as Delimiter;
    const used = opener.count >= 2 && closer.count >= 2 ? 2 : 1;
    const children = plain(items.slice(j + 1, i));
    const node: Inline = { type: closer.char === "~" ? "del" : used === 2 ? "strong" : "em", children };
    const inner: Inline[] = depth(node) <= DEPTH ? [node] : children;
    opener.count -= used;
    closer.count -= used;
    const kept: Item[] = opener.count > 0 ? [opener, ...inner] : inner;
    items.splice(j, i - j + (closer.count > 0 ? 0 : 1), ...kept);
    i = j + kept.length;
  }
}

/** A delimiter opens if it stands at the left of a word, and closes at the right of one. */
function flanks(inner: string, outer: string): boolean {
  if (SPACE.test(inner)) return false;
  return !PUNCTUATION.test(inner) || SPACE.test(outer) || PUNCTUATION.test(outer) || IDEOGRAPH.test(outer);
}

function pairs(opener: Item, closer: Delimiter): boolean {
  if (opener.type !== "delimiter" || opener.char !== closer.char || !opener.opens) return false;
  if (!opener.closes && !closer.opens) return true;
  return (opener.length + closer.length) % 3 !== 0 || (opener.length % 3 === 0 && closer.length % 3 === 0);
}

/** The items, with delimiters that nothing was joined to as the text they are. */
export function plain(items: Item[]): Inline[] {
  const inlines: Inline[] = [];
  for (const item of items) {
    const inline: Inline = item.type === "delimiter" ? { type: "text", text: item.char.repeat(item.count) } : item;
    const last = inlines.at(-1);
    if (inline.type === "text" && last?.type === "text") {
      inlines[inlines.length - 1] = { type: "text", text: last.text + inline.text };
    } else inlines.push(inline);
  }
  return inlines;
}

export function depth(node: Inline): number {
  return "children" in node ? 1 + Math.max(0, ...node.children.map(depth)) : 0;
}

export function textOf(node: Inline): string {
  if ("children" in node) return node.children.map(textOf).join("");
  return "text" in node ? node.text : node.type === "math" ? node.tex : node.label;
}
