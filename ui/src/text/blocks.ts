// Markdown's blocks, line by line as they come, after CommonMark and GitHub's additions: paragraphs, headings, lists,
// tables, fences, quotes, math. A line that has ended is read once; the one that has not is read again when it grows.
//
// The open blocks are a path from the root to the block that the next line goes to (the `spine`). A line first finds out
// which of them go on, then opens new ones, and what is left of it is the text of the last one. HTML is text.

import { readInline, refLabel } from "./inline";
import { Line } from "./line";
import { safeHref } from "./links";
import { OpenBlock } from "./open_block";
import { isHighSurrogate } from "./pieces";
import { splitRow, tableAlign } from "./table";
import type { Block } from "./tree";

/** Lines that are longer come in parts, paragraphs that are longer are several: what is drawn at once stays small. */
const LINE_LIMIT = 4096;
const PARAGRAPH_LIMIT = 16_384;
/** Quotes and lists within each other; what is deeper is text. */
const DEPTH = 32;
const CODE_INDENT = 4;

const ITEM = /^(?:([-+*])|(\d{1,9})([.)]))(?=[ \t]|$)/;
const TASK = /^\[([ xX])\](?=[ \t]+\S)/;
const RULE = /^([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
const HEADING = /^(#{1,6})(?:[ \t]+|$)/;
const HEADING_END = /(?:^|[ \t]+)#+[ \t]*$/;
const UNDERLINE = /^(?:=+|-+)[ \t]*$/;
const FENCE = /^(`{3,}(?=[^`]*$)|~{3,})[ \t]*(\S*)/;
const MATH = /^(\$\$|\\\[)/;
const NOTE = /^\[\^([^\]\s[]{1,50})\]:/;
const DEFINITION = /^\[(?!\^)([^[\]]{1,200})\]:[ \t]*<?([^\s<>]+)>?(?:[ \t]+(?:"[^"]*"|'[^']*'|\([^()]*\)))?[ \t]*$/;

export class BlockParser {
  /** Addresses of links that name a label. */
  readonly refs = new Map<string, string>();
  /** All that was read. */
  source = "";
  #root = new OpenBlock("root");
  #spine = [this.#root];
  /** The last line was blank. */
  #blank = false;
  /** The last line that was read goes on: it was too long. */
  #within = false;
  /** The line that has not ended, and how to forget that it was read. */
  #rest = "";
  #forget = (): void => undefined;

  /** More text, cut anywhere. */
  append(text: string): void {
    this.source += text;
    this.#forget();
    let rest = this.#rest + text.replaceAll("\r", "");
    for (let end = rest.indexOf("\n"); end >= 0; end = rest.indexOf("\n")) {
      this.#long(rest.slice(0, end), true);
      rest = rest.slice(end + 1);
    }
    this.#rest = this.#long(rest, false);
    this.#forget = this.#remember();
    if (this.#rest !== "") this.#read(this.#rest, false);
  }

  /** There is no more. */
  end(): void {
    this.#forget();
    this.#forget = () => undefined;
    if (this.#rest !== "") this.#long(this.#rest, true);
    this.#rest = "";
    this.#close(1);
  }

  /** The blocks as they are. Those that did not change are the same objects as before. */
  get blocks(): Block[] {
    return this.#root.views(this.#spine.length > 1);
  }

  /** Reads a line in parts, as far as it is too long for one; all of it if it has ended. Returns the rest. */
  #long(line: string, ended: boolean): string {
    let rest = line;
    while (rest.length > LINE_LIMIT) {
      const end = isHighSurrogate(rest, LINE_LIMIT - 1) ? LINE_LIMIT - 1 : LINE_LIMIT;
      this.#read(rest.slice(0, end), false);
      this.#within = true;
      this.#split();
      rest = rest.slice(end);
    }
    if (!ended) return rest;
    this.#read(rest, true);
    this.#within = false;
    this.#split();
    return "";
  }

  /** How to go back to what was open before a line that has not ended. */
  #remember(): () => void {
    const spine = [...this.#spine];
    const restores = spine.map((block) => block.remember());
    const [blank, within] = [this.#blank, this.#within];
    return () => {
      this.#spine = spine;
      for (const restore of restores) restore();
      [this.#blank, this.#within] = [blank, within];
    };
  }

  get #tip(): OpenBlock {
    return this.#spine.at(-1)!;
  }

  /** `ended`: the line is whole. */
  #read(text: string, ended: boolean): void {
    if (this.#within && this.#tip.isText) {
      this.#tip.text += text;
      return;
    }
    const line = new Line(text);
    let depth = 1;
    while (depth < this.#spine.length && this.#spine[depth]!.goesOn(line)) depth += 1;
    const whole = depth === this.#spine.length; // all goes on
    const tip = this.#tip;
    if (whole && tip.isVerbatim) {
      if (tip.addVerbatim(line, ended)) this.#close(depth - 1);
      return;
    }
    const paragraph = tip.kind === "paragraph" ? tip : null;
    let opened: OpenBlock | null = null;
    for (;;) {
      const next: OpenBlock | null = line.blank ? null : this.#opens(line, opened === null ? paragraph : null, whole);
      if (next === null) break;
      this.#place(next, opened === null ? depth : this.#spine.length);
      if (!next.isContainer) return this.#filled(next);
      opened = next;
    }
    if (line.blank && opened === null) this.#close(depth);
    else if (!line.blank && opened === null) this.#text(line, depth, paragraph, ended);
    else if (!line.blank) this.#text(line, this.#spine.length, null, ended);
    this.#blank = line.blank && opened === null;
  }

  /** What a line says where no block begins. `paragraph`: the one that it may go on. */
  #text(line: Line, depth: number, paragraph: OpenBlock | null, ended: boolean): void {
    line.skip(Infinity);
    if (paragraph) paragraph.addText(line.rest); // also where its quote is not marked again
    else if (this.#tip.kind === "table" && depth === this.#spine.length) this.#tip.rows.push(this.#row(line.rest));
    else {
      const found = ended ? DEFINITION.exec(line.rest) : null;
      const href = found === null ? null : safeHref(found[2]!);
      if (href !== null) {
        this.#close(depth);
        this.refs.set(refLabel(found![1]!), href);
      } else this.#place(new OpenBlock("paragraph", { text: line.rest }), depth);
    }
  }

  #row(line: string): ReturnType<typeof readInline>[] {
    const cells = splitRow(line).map((cell) => readInline(cell));
    return this.#tip.align.map((_, i) => cells[i] ?? []);
  }

  /** The block that begins here, its mark taken off the line. `whole`: `paragraph` goes on, not only by a lazy line. */
  #opens(line: Line, paragraph: OpenBlock | null, whole: boolean): OpenBlock | null {
    if (line.indent >= CODE_INDENT) {
      if (paragraph !== null) return null;
      line.skip(CODE_INDENT);
      return new OpenBlock("indented", { text: line.rest });
    }
    const trimmed = line.rest.trimStart();
    const interrupted = whole ? paragraph : null;
    if (this.#spine.length < DEPTH) {
      const container =
        this.#quote(line, trimmed) ?? this.#item(line, trimmed, interrupted) ?? this.#note(line, trimmed);
      if (container !== null) return container;
    }
    if (trimmed.length >= LINE_LIMIT - CODE_INDENT) return null;
    return (interrupted && this.#ofParagraph(trimmed, interrupted)) ?? this.#leaf(line, trimmed);
  }

  #quote(line: Line, trimmed: string): OpenBlock | null {
    if (!trimmed.startsWith(">")) return null;
    line.skip(CODE_INDENT);
    line.take(1);
    line.skip(1);
    return new OpenBlock("quote");
  }

  #item(line: Line, trimmed: string, paragraph: OpenBlock | null): OpenBlock | null {
    const found = ITEM.exec(trimmed);
    if (found === null || RULE.test(trimmed)) return null;
    const [mark, bullet, number, after] = found;
    const empty = trimmed.slice(mark.length).trim() === "";
    if (paragraph !== null && (empty || (number !== undefined && number !== "1"))) return null;
    const indent = line.indent;
    line.skip(CODE_INDENT);
    line.take(mark.length);
    // What follows stands below the text behind the mark, or one column behind it where code or nothing follows.
    const space = empty || line.indent > CODE_INDENT ? 1 : line.indent;
    line.skip(space);
    const item = new OpenBlock("item", {
      mark: bullet ?? after!,
      number: number === undefined ? 0 : Number(number),
      indent: indent + mark.length + space,
    });
    const task = TASK.exec(line.rest);
    if (task !== null) {
      item.checked = task[1] !== " ";
      line.take(task[0].length);
      line.skip(Infinity);
    }
    return item;
  }

  #note(line: Line, trimmed: string): OpenBlock | null {
    const found = NOTE.exec(trimmed);
    if (found === null) return null;
    line.skip(CODE_INDENT);
    line.take(found[0].length);
    line.skip(Infinity);
    return new OpenBlock("note", { label: found[1]! });
  }

  /** What the line below makes of a paragraph: a heading or a table. */
  #ofParagraph(trimmed: string, paragraph: OpenBlock): OpenBlock | null {
    if (UNDERLINE.test(trimmed) && paragraph.text.length < LINE_LIMIT) {
      const heading = new OpenBlock("heading", { text: paragraph.text, number: trimmed.startsWith("=") ? 1 : 2 });
      this.#takeOut(paragraph, "");
      return heading;
    }
    const above = paragraph.text.lastIndexOf("\n") + 1;
    const align = paragraph.text.length - above < LINE_LIMIT ? tableAlign(trimmed) : null;
    const head = align === null ? [] : splitRow(paragraph.text.slice(above));
    if (align === null || head.length !== align.length) return null;
    this.#takeOut(paragraph, paragraph.text.slice(0, Math.max(0, above - 1)));
    return new OpenBlock("table", { align, head: head.map((cell) => readInline(cell)) });
  }

  /** Leaves a paragraph with what is not part of the block that follows. */
  #takeOut(paragraph: OpenBlock, text: string): void {
    paragraph.text = text;
    if (text === "") this.#spine.at(-2)!.children.pop();
  }

  #leaf(line: Line, trimmed: string): OpenBlock | null {
    const heading = HEADING.exec(trimmed);
    if (heading !== null) {
      const text = trimmed.slice(heading[0].length).replace(HEADING_END, "");
      return new OpenBlock("heading", { text, number: heading[1]!.length });
    }
    if (RULE.test(trimmed)) return new OpenBlock("rule");
    const fence = FENCE.exec(trimmed);
    if (fence !== null) return new OpenBlock("code", { mark: fence[1]!, label: fence[2]!, indent: line.indent });
    const math = MATH.exec(trimmed);
    if (math === null) return null;
    const block = new OpenBlock("math", { mark: math[1] === "$$" ? "$$" : "\\]" });
    return block.beginMath(trimmed) ? block : null;
  }

  /** Puts a new block below the first `depth` blocks of the spine, closing what is deeper and what cannot hold it. */
  #place(block: OpenBlock, depth: number): void {
    let to = depth;
    while (!this.#spine[to - 1]!.holds(block)) to -= 1;
    this.#close(to);
    const parent = this.#tip;
    if (this.#blank && parent.children.length > 0) {
      const list = parent.kind === "item" ? this.#spine.at(-2)! : parent;
      if (list.kind === "list") list.loose = true;
    }
    this.#blank = false;
    if (block.kind === "item" && parent.kind !== "list") {
      const list = new OpenBlock("list", { mark: block.mark, number: block.number });
      parent.children.push(list);
      this.#spine.push(list);
    }
    this.#tip.children.push(block);
    this.#spine.push(block);
  }

  /** A leaf was opened: those of one line are full at once. */
  #filled(block: OpenBlock): void {
    const full = block.kind === "heading" || block.kind === "rule" || (block.kind === "math" && block.full);
    if (full) this.#close(this.#spine.length - 1);
  }

  /** Closes the open blocks behind the first `depth`. */
  #close(depth: number): void {
    while (this.#spine.length > depth) this.#spine.pop()!.close();
  }

  /** A paragraph that is too long goes on as another one. */
  #split(): void {
    const tip = this.#tip;
    if (tip.kind !== "paragraph" || tip.text.length <= PARAGRAPH_LIMIT) return;
    const space = Math.max(tip.text.lastIndexOf(" ", PARAGRAPH_LIMIT), tip.text.lastIndexOf("\n", PARAGRAPH_LIMIT));
    const end = space > 0 ? space + 1 : PARAGRAPH_LIMIT - (isHighSurrogate(tip.text, PARAGRAPH_LIMIT - 1) ? 1 : 0);
    const rest = tip.text.slice(end);
    tip.text = tip.text.slice(0, end);
    this.#place(new OpenBlock("paragraph", { text: rest }), this.#spine.length);
  }
}
