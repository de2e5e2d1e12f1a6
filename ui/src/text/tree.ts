// What Markdown is read into: values that the components draw. Whatever did not change stays the same object.

export type Inline =
  | { type: "text"; text: string }
  | { type: "code"; text: string }
  | { type: "em"; children: Inline[] }
  | { type: "strong"; children: Inline[] }
  | { type: "del"; children: Inline[] }
  /** `href` is safe to follow; empty while the address is still being written. */
  | { type: "link"; href: string; image: boolean; children: Inline[] }
  /** A link whose address stands elsewhere, by its label; without one it is what was written: "[", children, `after`. */
  | { type: "ref"; label: string; after: string; children: Inline[] }
  | { type: "note"; label: string }
  | { type: "math"; tex: string; display: boolean };

export type Align = "left" | "center" | "right" | null;

export type Block =
  /** The text in pieces: while it grows, only the last one changes. */
  | { type: "paragraph"; pieces: Inline[][] }
  | { type: "heading"; level: number; pieces: Inline[][] }
  /** `open`: more of it may come. */
  | { type: "code"; language: string; text: string; open: boolean }
  | { type: "math"; tex: string; open: boolean }
  | { type: "rule" }
  | { type: "quote"; children: Block[] }
  | { type: "note"; label: string; children: Block[] }
  | { type: "list"; ordered: boolean; start: number; loose: boolean; items: Item[] }
  | { type: "table"; align: Align[]; head: Inline[][]; rows: Inline[][][] };

export interface Item {
  /** null: no box to tick. */
  checked: boolean | null;
  children: Block[];
}
