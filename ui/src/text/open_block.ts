// A block that lines are added to, and what is drawn of it.

import { readInline } from "./inline";
import type { Line } from "./line";
import { Pieces } from "./pieces";
import { splitRow } from "./table";
import type { Align, Block, Inline, Item } from "./tree";

type Kind =
  | "root"
  | "quote"
  | "list"
  | "item"
  | "note"
  | "paragraph"
  | "heading"
  | "rule"
  | "code"
  | "indented"
  | "math"
  | "table";

const CONTAINERS = new Set<Kind>(["root", "quote", "list", "item", "note"]);
const CODE_INDENT = 4;

/** The pieces of the paragraph that grows: there is one at a time, and it is made anew with each state of its line. */
const growing = new Pieces();

export class OpenBlock {
  children: OpenBlock[] = [];
  text = "";
  /** Of a fence, what ends it; of a list and its items, the bullet or what follows the number. */
  mark = "";
  /** The level of a heading; the number of a list's first item. */
  number = 0;
  /** The column that what belongs to an item stands at; of a fence, its own. */
  indent = 0;
  /** The language of code; what a note is called. */
  label = "";
  checked: boolean | null = null;
  loose = false;
  align: Align[] = [];
  head: Inline[][] = [];
  rows: Inline[][][] = [];
  /** Lines of code so far. */
  lines = 0;
  /** Math: its end was found. */
  full = false;
  #closed = false;
  #view: Block | Item | null = null;

  constructor(
    public kind: Kind,
    given: Partial<OpenBlock> = {},
  ) {
    Object.assign(this, given);
  }

  get isContainer(): boolean {
    return CONTAINERS.has(this.kind);
  }

  get isVerbatim(): boolean {
    return this.kind === "code" || this.kind === "indented" || this.kind === "math";
  }

  /** A line that is too long can go on in it. */
  get isText(): boolean {
    return this.kind === "paragraph" || this.isVerbatim;
  }

  holds(block: OpenBlock): boolean {
    if (this.kind === "list") return block.kind === "item" && block.mark === this.mark;
    return this.isContainer;
  }

  /** Whether a line belongs to this block, too. Takes off it what says so. */
  goesOn(line: Line): boolean {
    if (this.kind === "list") return true;
    if (this.kind === "paragraph" || this.kind === "table") return !line.blank;
    if (this.kind === "quote") {
      if (line.indent >= CODE_INDENT || !line.rest.trimStart().startsWith(">")) return false;
      line.skip(CODE_INDENT);
      line.take(1);
      line.skip(1);
      return true;
    }
    if (this.kind === "item" || this.kind === "note" || this.kind === "indented") return this.#indented(line);
    return this.kind === "code" || (this.kind === "math" && !line.blank);
  }

  #indented(line: Line): boolean {
    const indent = this.kind === "item" ? this.indent : CODE_INDENT;
    if (line.blank && this.children.length === 0 && this.kind !== "indented") return false;
    if (!line.blank && line.indent < indent) return false;
    line.skip(indent);
    return true;
  }

  addText(line: string): void {
    this.text += `\n${line}`;
  }

  /** A line of code or math. Returns whether the block ends with it. `ended`: the line is whole. */
  addVerbatim(line: Line, ended: boolean): boolean {
    if (this.kind === "math") return this.#addMath(line.rest);
    if (this.kind === "code") {
      const bar = line.rest.trim();
      const isBar = line.indent < CODE_INDENT && bar !== "" && bar === this.mark[0]!.repeat(bar.length);
      if (isBar && bar.length >= this.mark.length) return true;
      if (isBar && !ended) return false; // it may become the end
      line.skip(this.indent);
    }
    this.text += this.lines > 0 || this.kind === "indented" ? `\n${line.rest}` : line.rest;
    this.lines += 1;
    return false;
  }

  /** Its first line, with the mark. Returns false if this is no block: text follows its end. */
  beginMath(line: string): boolean {
    this.text = line.slice(2);
    const end = this.text.indexOf(this.mark);
    if (end < 0) return true;
    this.full = true;
    const after = this.text.slice(end + 2);
    this.text = this.text.slice(0, end);
    return after.trim() === "";
  }

  #addMath(line: string): boolean {
    const end = line.indexOf(this.mark);
    this.full = end >= 0;
    this.text += `\n${this.full ? line.slice(0, end) : line}`;
    return this.full;
  }

  close(): void {
    if (this.kind === "math" && !this.full) {
      this.text = (this.mark === "$$" ? "$$" : "\\[") + this.text;
      this.kind = "paragraph";
    }
    this.#view ??= this.#draw(false);
    this.#closed = true;
  }

  /** How to go back to the block as it is now. */
  remember(): () => void {
    const { children, rows, text, kind, lines, full, loose } = this;
    const [childCount, last, rowCount] = [children.length, children.at(-1), rows.length];
    const [closed, view] = [this.#closed, this.#view];
    return () => {
      children.length = childCount;
      if (last !== undefined) children[childCount - 1] = last; // a heading or a table may have taken its place
      rows.length = rowCount;
      Object.assign(this, { children, rows, text, kind, lines, full, loose });
      [this.#closed, this.#view] = [closed, view];
    };
  }

  /** What is drawn of the children. `open`: the last of them is. */
  views(open: boolean): Block[] {
    return this.children.map((child, i) => child.view(open && i === this.children.length - 1) as Block);
  }

  view(open: boolean): Block | Item {
    return this.#closed ? this.#view! : this.#draw(open);
  }

  #draw(open: boolean): Block | Item {
    const { text } = this;
    switch (this.kind) {
      case "quote":
        return { type: "quote", children: this.views(open) };
      case "note":
        return { type: "note", label: this.label, children: this.views(open) };
      case "item":
        return { checked: this.checked, children: this.views(open) };
      case "list": {
        const items = this.children.map((item, i) => item.view(open && i === this.children.length - 1) as Item);
        const ordered = this.mark === "." || this.mark === ")";
        return { type: "list", ordered, start: this.number, loose: this.loose, items };
      }
      case "heading":
        return { type: "heading", level: this.number, pieces: [readInline(text)] };
      case "rule":
        return { type: "rule" };
      case "code":
        return this.label === "math" && !open
          ? { type: "math", tex: text, open }
          : { type: "code", language: this.label, text, open };
      case "indented":
        return { type: "code", language: "", text: text.replace(/(?:\n[ \t]*)+$/, ""), open };
      case "math":
        return { type: "math", tex: text.trim(), open };
      case "table":
        return { type: "table", align: this.align, head: this.head, rows: [...this.rows] };
      default:
        return this.#drawParagraph(open);
    }
  }

  #drawParagraph(open: boolean): Block {
    const { text } = this;
    if (open && text.startsWith("|") && text.split("\n").length <= 2) {
      // A table, most likely, whose second line is being written.
      const head = splitRow(text.split("\n")[0]!).map((cell) => readInline(cell));
      return { type: "table", align: head.map(() => null), head, rows: [] };
    }
    return { type: "paragraph", pieces: growing.read(text, open) };
  }
}
