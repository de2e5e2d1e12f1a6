// The lines of tables.

import type { Align } from "./tree";

const DELIMITERS = /^\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;
const COLUMNS_LIMIT = 100;

/** How the columns stand, if this is the line below a table's head. */
export function tableAlign(line: string): Align[] | null {
  if (!line.includes("|") || !DELIMITERS.test(line)) return null;
  const cells = splitRow(line);
  if (cells.length > COLUMNS_LIMIT) return null;
  return cells.map((cell) => {
    if (cell.endsWith(":")) return cell.startsWith(":") ? "center" : "right";
    return cell.startsWith(":") ? "left" : null;
  });
}

/** The cells of a row: what stands between bars that have no backslash before them. */
export function splitRow(line: string): string[] {
  const row = line.trim().replace(/^\|/, "").replace(/(?<!\\)\|$/, "");
  return row.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}
