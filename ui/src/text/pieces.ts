// The inside of a paragraph that grows, in pieces of which only the last one is read again.

import { readInline, unclosedIn } from "./inline";
import type { Inline } from "./tree";

/** Emphasis and links reach no further than this many characters. */
const WINDOW = 2048;

/** The pieces of a text that grows: all but the last stay the same objects. */
export class Pieces {
  #source = "";
  #pieces: Inline[][] = [];

  read(text: string, open: boolean): Inline[][] {
    if (!text.startsWith(this.#source)) {
      this.#source = "";
      this.#pieces = [];
    }
    let at = this.#source.length;
    while (text.length - at > WINDOW) {
      const end = at + cut(text.slice(at, at + WINDOW));
      this.#pieces.push(readInline(text.slice(at, end)));
      at = end;
    }
    this.#source = text.slice(0, at);
    return [...this.#pieces, readInline(text.slice(at), open)];
  }
}

/** Where a text can be cut: behind white space, and before whatever may be closed later, if that is not far back. */
function cut(text: string): number {
  const pending = unclosedIn(text).filter((at) => at > text.length / 4);
  const before = Math.min(...pending, text.length);
  const end = Math.max(text.lastIndexOf(" ", before - 1), text.lastIndexOf("\n", before - 1)) + 1;
  if (end > 0) return end;
  return isHighSurrogate(text, text.length - 1) ? text.length - 1 : text.length;
}

export function isHighSurrogate(text: string, at: number): boolean {
  return (text.charCodeAt(at) & 0xfc00) === 0xd800;
}
