// The inside of a paragraph: emphasis, code, links, math. After CommonMark and GitHub's additions, without HTML.
// Texts are short (`pieces` cuts them), so that whatever a model writes takes a moment at most.

import { DEPTH, delimiter, depth, emphasize, plain, textOf, type Item } from "./emphasis";
import { decodeEntity } from "./entities";
import { safeHref } from "./links";
import type { Inline } from "./tree";

const MATH_LIMIT = 1000;

interface Bracket {
  /** Of its own text in the items. */
  index: number;
  at: number;
  image: boolean;
  /** No link is within a link. */
  active: boolean;
}

/** `open`: more of the text may come, so what is not closed yet is shown as if it were. */
export function readInline(text: string, open = false): Inline[] {
  return new Reader(open ? text.replace(/(?:[*_~`]{1,3}|!?\[)$/, "") : text, open).read();
}

/** Where something begins in a text that more of it could close. */
export function unclosedIn(text: string): number[] {
  const reader = new Reader(text, false);
  reader.read();
  return reader.unclosed;
}

const SPECIAL = /[\\`*_~[\]!<&$]|https?:\/\/|www\./g;
const ESCAPABLE = /[!-/:-@[-`{-~]/;
const SPACE = /\s/;
const WORD = /[\p{L}\p{N}]/u;
const BREAK = /<br\s*\/?>/iy;
const AUTOLINK = /<((?:https?:\/\/|mailto:)[^\s<>]*|[\w.+-]+@[\w-]+(?:\.[\w-]+)+)>/iy;
const BARE = /(?:https?:\/\/|www\.)[^\s<>`]+/iy;
const ENTITY = /&(#\d{1,7}|#x[\da-f]{1,6}|[a-z][a-z\d]{1,10});/iy;
const NOTE = /\[\^([^\]\s[]{1,50})\]/y;
const TARGET =
  /\(\s*(?:<([^<>\n]*)>|([^\s<>()]*(?:\([^\s()]*\)[^\s()]*)*))(?:\s+(?:"[^"]*"|'[^']*'|\([^()]*\)))?\s*\)/y;
const TARGET_BEGUN = /\([^\s()]*$/y;
const LABEL = /\[([^[\]]{1,200})\]/y;
// "$5 and $6" is money: no space inside, no letter or digit around, and what starts like a price looks like a formula.
const DOLLARS = /\$(?![\s$])((?:[^$\\\n]|\\[^\n]){1,300}?)(?<![\s\\])\$(?![\p{L}\p{N}$])/uy;
const PRICE = /^\d/;
const FORMULA = /[\\^_={}+<>]|^[\d.,\s/*-]*[a-zA-Z]?$/;

class Reader {
  /** Where something begins that more text could close. */
  readonly unclosed: number[] = [];
  #at = 0;
  #items: Item[] = [];
  #brackets: Bracket[] = [];

  constructor(
    readonly text: string,
    readonly open: boolean,
  ) {}

  read(): Inline[] {
    const { text } = this;
    while (this.#at < text.length) {
      SPECIAL.lastIndex = this.#at;
      const found = SPECIAL.exec(text);
      const next = found?.index ?? text.length;
      if (next > this.#at) this.#say(text.slice(this.#at, next));
      this.#at = next;
      if (found !== null) this.#special(text[next]!);
    }
    emphasize(this.#items, 0);
    for (const item of this.#items) if (item.type === "delimiter" && item.opens) this.unclosed.push(item.at);
    for (const bracket of this.#brackets) this.unclosed.push(bracket.at);
    if (this.open) this.#closeAll();
    return plain(this.#items);
  }

  #special(char: string): void {
    if (char === "\\") this.#escape();
    else if (char === "`") this.#code();
    else if (char === "*" || char === "_" || char === "~") this.#delimiter(char);
    else if (char === "[" || char === "!") this.#bracket(char === "!");
    else if (char === "]") this.#closeBracket();
    else if (char === "<") this.#angle();
    else if (char === "&") this.#entity();
    else if (char === "$") this.#dollar();
    else this.#bareLink();
  }

  /** Text as it stands, over which nothing more is read. */
  #say(text: string): void {
    const last = this.#items.at(-1);
    if (last?.type === "text" && this.#brackets.at(-1)?.index !== this.#items.length - 1) last.text += text;
    else this.#items.push({ type: "text", text });
  }

  #sayNext(characters: number): void {
    this.#say(this.text.slice(this.#at, this.#at + characters));
    this.#at += characters;
  }

  #match(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = this.#at;
    return pattern.exec(this.text);
  }

  #escape(): void {
    const next = this.text[this.#at + 1];
    if (next === "(" && this.#math("\\(", "\\)", false)) return;
    if (next === "[" && this.#math("\\[", "\\]", true)) return;
    if (next !== undefined && (ESCAPABLE.test(next) || next === "\n")) {
      this.#say(next);
      this.#at += 2;
    } else this.#sayNext(1);
  }

  #math(opener: string, closer: string, display: boolean): boolean {
    const from = this.#at + opener.length;
    const end = this.text.indexOf(closer, from);
    if (end < 0 || end - from > MATH_LIMIT) {
      this.unclosed.push(this.#at);
      if (!this.open || end >= 0) return false;
      this.#rest(this.text.slice(this.#at));
      return true;
    }
    this.#items.push({ type: "math", tex: this.text.slice(from, end).trim(), display });
    this.#at = end + closer.length;
    return true;
  }

  /** The rest of a text that is still being written is what its first character began. */
  #rest(code: string): void {
    this.#items.push({ type: "code", text: code });
    this.#at = this.text.length;
  }

  #dollar(): void {
    if (this.text.startsWith("$$", this.#at)) {
      if (!this.#math("$$", "$$", true)) this.#sayNext(2);
      return;
    }
    const before = this.text[this.#at - 1];
    const found = before !== undefined && WORD.test(before) ? null : this.#match(DOLLARS);
    const tex = found?.[1];
    if (tex === undefined || (PRICE.test(tex) && !FORMULA.test(tex))) {
      if (tex === undefined) this.unclosed.push(this.#at);
      this.#sayNext(1);
      return;
    }
    this.#items.push({ type: "math", tex, display: false });
    this.#at += found![0].length;
  }

  #code(): void {
    const fence = /`+/y;
    fence.lastIndex = this.#at;
    const length = fence.exec(this.text)![0].length;
    const from = this.#at + length;
    let end = from;
    for (;;) {
      end = this.text.indexOf("`", end);
      if (end < 0) break;
      let after = end;
      while (this.text[after] === "`") after += 1;
      if (after - end === length) {
        this.#items.push({ type: "code", text: codeText(this.text.slice(from, end)) });
        this.#at = after;
        return;
      }
      end = after;
    }
    this.unclosed.push(this.#at);
    if (this.open && length < 3) this.#rest(codeText(this.text.slice(from)));
    else this.#sayNext(length);
  }

  #delimiter(char: string): void {
    let end = this.#at;
    while (this.text[end] === char) end += 1;
    const length = end - this.#at;
    if (char === "~" && length !== 2) {
      this.#sayNext(length);
      return;
    }
    const before = this.#at === 0 ? " " : [...this.text.slice(Math.max(0, this.#at - 2), this.#at)].at(-1)!;
    const after = end === this.text.length ? " " : String.fromCodePoint(this.text.codePointAt(end)!);
    this.#items.push(delimiter(char, length, before, after, this.#at));
    this.#at = end;
  }

  #bracket(image: boolean): void {
    if (image && this.text[this.#at + 1] !== "[") {
      this.#sayNext(1);
      return;
    }
    const note = image ? null : this.#match(NOTE);
    if (note !== null) {
      this.#items.push({ type: "note", label: note[1]! });
      this.#at += note[0].length;
      return;
    }
    const mark = image ? "![" : "[";
    this.#brackets.push({ index: this.#items.length, at: this.#at, image, active: true });
    this.#items.push({ type: "text", text: mark });
    this.#at += mark.length;
  }

  #closeBracket(): void {
    const bracket = this.#brackets.pop();
    if (bracket === undefined || !bracket.active) {
      this.#sayNext(1);
      return;
    }
    const inside = this.text.slice(bracket.at + (bracket.image ? 2 : 1), this.#at);
    this.#at += 1;
    const target = this.#match(TARGET);
    if (target !== null) {
      const written = target[1] ?? target[2]!;
      const href = safeHref(written.replace(/\\([!-/:-@[-`{-~])/g, "$1"));
      if (href !== null) this.#link(bracket, href, target[0].length);
      else this.#say(`]${target[0]}`); // not followed, and not hidden
      if (href === null) this.#at += target[0].length;
      return;
    }
    if (this.open && this.#match(TARGET_BEGUN) !== null) {
      this.#link(bracket, "", this.text.length);
      return;
    }
    const label = this.#match(LABEL);
    if (inside.trim() === "" || inside.length > 200) this.#say("]");
    else {
      if (label !== null) this.#at += label[0].length;
      const children = this.#within(bracket);
      const after = `]${label?.[0] ?? ""}`;
      this.#wrap(bracket.index, { type: "ref", label: refLabel(label?.[1] ?? inside), after, children });
    }
  }

  #link(bracket: Bracket, href: string, characters: number): void {
    this.#at += characters;
    const children = this.#within(bracket);
    if (children.length === 0) children.push({ type: "text", text: href });
    this.#wrap(bracket.index, { type: "link", href, image: bracket.image, children });
    if (!bracket.image) for (const outer of this.#brackets) if (!outer.image) outer.active = false;
  }

  #within(bracket: Bracket): Inline[] {
    emphasize(this.#items, bracket.index + 1);
    return plain(this.#items.slice(bracket.index + 1));
  }

  /** Puts `node` in the place of all items from `from` on, unless that nests too deep. */
  #wrap(from: number, node: Inline & { children: Inline[] }): void {
    this.#items.length = from;
    if (depth(node) <= DEPTH) this.#items.push(node);
    else this.#items.push({ type: "text", text: textOf(node) });
  }

  #angle(): void {
    const line = this.#match(BREAK);
    if (line !== null) {
      this.#say("\n");
      this.#at += line[0].length;
      return;
    }
    const found = this.#match(AUTOLINK);
    const address = found?.[1] ?? "";
    const href = found === null ? null : safeHref(address.includes(":") ? address : `mailto:${address}`);
    if (href === null) this.#sayNext(1);
    else {
      this.#items.push({ type: "link", href, image: false, children: [{ type: "text", text: address }] });
      this.#at += found![0].length;
    }
  }

  #bareLink(): void {
    const before = this.text[this.#at - 1];
    const found = before !== undefined && WORD.test(before) ? null : this.#match(BARE);
    const address = found === null ? "" : trimAddress(found[0]);
    const href = safeHref(address);
    if (href === null) this.#sayNext(1);
    else {
      this.#items.push({ type: "link", href, image: false, children: [{ type: "text", text: address }] });
      this.#at += address.length;
    }
  }

  #entity(): void {
    const found = this.#match(ENTITY);
    const char = found === null ? null : decodeEntity(found[1]!);
    if (char === null) this.#sayNext(1);
    else {
      this.#say(char);
      this.#at += found![0].length;
    }
  }

  /** What is still open is closed at the end of a text that is being written. */
  #closeAll(): void {
    for (let i = this.#items.length - 2; i >= 0; i -= 1) {
      const item = this.#items[i]!;
      if (item.type !== "delimiter" || !item.opens) continue;
      if (item.count === 1 && item.at > 0 && !SPACE.test(this.text[item.at - 1]!)) continue; // 2*3
      const children = plain(this.#items.slice(i + 1));
      const type = item.char === "~" ? "del" : item.count > 1 ? "strong" : "em";
      this.#wrap(i, { type, children });
    }
  }
}

function codeText(text: string): string {
  const line = text.replaceAll("\n", " ");
  return line.startsWith(" ") && line.endsWith(" ") && line.trim() !== "" ? line.slice(1, -1) : line;
}

/** Labels are the same whatever their case and white space. */
export function refLabel(label: string): string {
  return label.trim().replace(/\s+/g, " ").toLowerCase();
}

/** Without the punctuation that ends a sentence, not an address. */
function trimAddress(address: string): string {
  let end = address.length;
  for (;;) {
    const last = address[end - 1] ?? "";
    const opened = address.slice(0, end).split("(").length;
    const closed = address.slice(0, end).split(")").length;
    if (/[?!.,:*_~'"\]]/.test(last) || (last === ")" && closed > opened)) end -= 1;
    else return address.slice(0, end);
  }
}
