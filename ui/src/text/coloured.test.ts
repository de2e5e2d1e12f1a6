import { expect, test, vi } from "vitest";

import { ColouredCode, inParts } from "./coloured.svelte";
import * as languages from "./languages";
import type { Piece } from "./languages";

function textOf(parts: Piece[][]): string {
  return parts.flat().map(([, text]) => text).join("");
}

/** Lets the browser be idle until nothing is left to do. */
async function settle(code: ColouredCode, until: (parts: Piece[][]) => boolean): Promise<void> {
  await vi.waitUntil(() => until(code.parts), { timeout: 10_000, interval: 10 });
}

const isColoured = (parts: Piece[][]): boolean => parts.length > 0 && parts.every((part) => part.some(([kind]) => kind !== ""));

test("pieces are put in parts of whole lines", () => {
  const text = "a line\n".repeat(100);
  const parts = inParts(text, [["comment", text.slice(0, 300)]]);
  expect(textOf(parts)).toBe(text);
  expect(parts.map((part) => part.map(([, stretch]) => stretch).join("").split("\n").length - 1)).toEqual([40, 40, 20]);
  expect(parts[0]![0]![0]).toBe("comment");
  expect(parts[2]![0]![0]).toBe("");
});

test("code is there at once, and coloured later, with the text that it had", async () => {
  const text = `def f(x):\n    return "a" + x  # why\n\n\n`.repeat(1000); // several units
  const code = new ColouredCode();
  code.follow(text, "python", false);
  expect(textOf(code.parts)).toBe(text);
  await settle(code, isColoured);
  expect(textOf(code.parts)).toBe(text);
  const kinds = new Set(code.parts.flat().map(([kind]) => kind));
  expect([...kinds].sort()).toEqual(["", "comment", "key", "name", "string"]);
});

test("what is coloured while code grows adds up to a few times the code", async () => {
  const colour = vi.spyOn(languages, "colour");
  const line = "const answer = ask('question', 42); // a comment\n";
  const code = new ColouredCode();
  let text = "";
  for (let i = 0; i < 160; i += 1) {
    text += line;
    const before = code.parts;
    code.follow(text, "js", true);
    expect(before.filter((part) => code.parts.includes(part)).length).toBeGreaterThanOrEqual(before.length - 1);
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
  code.follow(text, "js", false);
  await settle(code, isColoured);
  expect(textOf(code.parts)).toBe(text);
  const coloured = colour.mock.calls.reduce((sum, [part]) => sum + part.length, 0);
  expect(coloured).toBeGreaterThanOrEqual(text.length);
  expect(coloured).toBeLessThan(8 * text.length);
  code.stop();
});

test("a language that is not known stays plain", () => {
  expect(languages.colour("x", "klingon")).toBeNull();
});
