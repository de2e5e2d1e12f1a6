// What TeX puts in rows and columns: matrices, cases, equations below each other.

import { fenced, node, row, TexError, type MathNode } from "./mathml";
import type { TexReader } from "./tex";

interface Environment {
  left?: string;
  right?: string;
  /** How the columns stand in turn; l, c or r. */
  columns: string;
  /** Its cells are formulas of their own line. */
  display?: boolean;
}

const CENTRED = { columns: "c" };
const EQUATIONS = { columns: "rl", display: true };
const ONE = { columns: "c", display: true };
const ENVIRONMENTS = new Map<string, Environment>(
  Object.entries({
    matrix: CENTRED,
    smallmatrix: CENTRED,
    substack: CENTRED,
    pmatrix: { ...CENTRED, left: "(", right: ")" },
    bmatrix: { ...CENTRED, left: "[", right: "]" },
    Bmatrix: { ...CENTRED, left: "{", right: "}" },
    vmatrix: { ...CENTRED, left: "|", right: "|" },
    Vmatrix: { ...CENTRED, left: "‖", right: "‖" },
    cases: { columns: "l", left: "{" },
    dcases: { columns: "l", left: "{", display: true },
    rcases: { columns: "l", right: "}" },
    array: CENTRED,
    aligned: EQUATIONS,
    align: EQUATIONS,
    alignedat: EQUATIONS,
    alignat: EQUATIONS,
    split: EQUATIONS,
    eqnarray: { columns: "rcl", display: true },
    gathered: ONE,
    gather: ONE,
    multline: ONE,
    equation: ONE,
    displaymath: ONE,
  }),
);
const SIDES: Record<string, string> = { l: "cell-left", c: "cell-center", r: "cell-right" };

/** Delimiters of a size of their own. */
export const BIG = new Map(
  ["big 1.2em", "Big 1.8em", "bigg 2.4em", "Bigg 3em"].flatMap((pair) => {
    const [name, size] = pair.split(" ") as [string, string];
    return ["", "l", "r", "m"].map((side) => [name + side, size] as const);
  }),
);

export function isEnvironment(name: string): boolean {
  return ENVIRONMENTS.has(name.replace(/\*$/, ""));
}

/** What stands between \begin{name} and its \end; of `substack`, in its braces. */
export function environment(reader: TexReader, name: string): MathNode {
  const kind = name.replace(/\*$/, "");
  const found = ENVIRONMENTS.get(kind)!;
  let { columns } = found;
  let bars = "";
  if (kind === "array") {
    bars = reader.raw();
    columns = bars.replace(/[^lcr]/g, "") || "c";
  } else if (kind.startsWith("alignat") || kind === "alignedat") reader.raw();
  const outer = reader.display;
  reader.display = found.display ?? false;
  const rows = cells(reader);
  reader.display = outer;
  if (kind !== "substack") {
    reader.expect("\\end");
    if (reader.raw() !== name) throw new TexError(`\\end{${name}} is missing`);
  }
  const inner = table(rows, { ...found, columns }, kind === "substack" || kind === "smallmatrix", bars);
  return found.left === undefined && found.right === undefined ? inner : fenced(found.left ?? "", inner, found.right ?? "");
}

/** A formula that may be several below each other, without saying so. */
export function lines(reader: TexReader): MathNode {
  const rows = cells(reader);
  return rows.length === 1 && rows[0]!.length === 1 ? rows[0]![0]! : table(rows, EQUATIONS, false, "");
}

function table(rows: MathNode[][], { columns, display }: Environment, small: boolean, bars: string): MathNode {
  const made = node(
    "mtable",
    rows.map((line) => node("mtr", line.map((cell, i) => node("mtd", [cell], { class: cellClass(columns, i, bars) })))),
    { class: display ? "equations" : small ? "small" : "cells" },
  );
  if (display) made.attributes.displaystyle = "true";
  return made;
}

function cells(reader: TexReader): MathNode[][] {
  const rows: MathNode[][] = [[]];
  for (;;) {
    rows.at(-1)!.push(row(reader.row(() => false)));
    if (reader.takes("&")) continue;
    if (!reader.takes("\\\\")) break;
    reader.optional(); // more space between the lines
    rows.push([]);
  }
  const last = rows.at(-1)!;
  const empty = last.length === 1 && last[0]!.tag === "mrow" && last[0]!.children.length === 0;
  if (empty && rows.length > 1) rows.pop();
  return rows;
}

/** `bars`: the columns as an array has them, with bars. */
function cellClass(columns: string, index: number, bars: string): string {
  const side = SIDES[columns[index % columns.length]!]!;
  const bar = index + 1 < columns.length && bars.split(/[lcr]/)[index + 1]?.includes("|");
  return bar ? `${side} bar` : side;
}
