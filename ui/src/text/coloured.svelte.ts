// Code with its colours, as it grows. The text is there at once; the colours come while the browser is idle.

import type { Piece } from "./languages";

/** Code is coloured in units of so many characters at most, each in one step. */
const UNIT = 8192;
/** Code beyond it stays plain. */
const LIMIT = 262_144;
/** Lines that are one element: what changes below does not move them. */
const LINES = 40;

export class ColouredCode {
  /** What is drawn: parts of some lines, each in pieces. */
  parts = $state.raw<Piece[][]>([]);
  #drawn: Piece[][] = [];
  #text = "";
  #language = "";
  #open = false;
  /** Where the unit begins that is not finished, and what was drawn before it. */
  #from = 0;
  #finished: Piece[][] = [];
  /** The colours of the unit's begin, and how much of it they are for. */
  #pieces: Piece[] = [];
  #coloured = 0;
  #waiting = 0;

  /** Shows `text` from now on. `open`: more will come. */
  follow(text: string, language: string, open: boolean): void {
    if (!text.startsWith(this.#text) || language !== this.#language) {
      this.#from = this.#coloured = 0;
      this.#finished = this.#pieces = [];
    }
    [this.#text, this.#language, this.#open] = [text, language, open];
    while (text.length - this.#from > UNIT && (language === "" || this.#from >= LIMIT)) this.#finish(this.#end(), []);
    this.#draw();
    this.#plan();
  }

  stop(): void {
    cancelIdle(this.#waiting);
    this.#waiting = 0;
  }

  /** Colours are due for a whole unit, for the last one, and for one that has grown by a quarter since. */
  #plan(): void {
    if (this.#waiting !== 0 || this.#language === "" || this.#from >= LIMIT) return;
    const length = this.#text.length - this.#from;
    const due = length > UNIT || (this.#open ? length > this.#coloured * 1.25 + 200 : length > this.#coloured);
    if (due) this.#waiting = whenIdle(() => void this.#colour());
  }

  async #colour(): Promise<void> {
    const { colour } = await import("./languages");
    if (this.#waiting === 0) return; // stopped
    this.#waiting = 0;
    const whole = this.#text.length - this.#from > UNIT;
    const end = whole ? this.#end() : this.#text.length;
    const pieces = colour(this.#text.slice(this.#from, end), this.#language) ?? [];
    if (whole) this.#finish(end, pieces);
    else [this.#pieces, this.#coloured] = [pieces, end - this.#from];
    this.#draw();
    this.#plan();
  }

  /** Where to end a unit: best where something new begins at the left edge, so that no string or comment is cut. */
  #end(): number {
    const unit = this.#text.slice(this.#from, this.#from + UNIT);
    const begins = [...unit.matchAll(/\n\n(?=\S)/g)].at(-1)?.index ?? -1;
    const at = begins > UNIT / 2 ? begins + 2 : unit.lastIndexOf("\n") + 1;
    return this.#from + (at > 0 ? at : UNIT);
  }

  #finish(end: number, pieces: Piece[]): void {
    this.#finished = [...this.#finished, ...inParts(this.#text.slice(this.#from, end), pieces)];
    this.#from = end;
    this.#pieces = [];
    this.#coloured = 0;
  }

  #draw(): void {
    const drawn = this.#drawn;
    const parts = [...this.#finished, ...inParts(this.#text.slice(this.#from), this.#pieces)];
    this.#drawn = parts.map((part, i) => (drawn[i] !== undefined && same(part, drawn[i]) ? drawn[i] : part));
    this.parts = this.#drawn;
  }
}

/** The text in parts of some lines. `pieces` are its begin; what follows them is plain. */
export function inParts(text: string, pieces: Piece[]): Piece[][] {
  const parts: Piece[][] = [[]];
  let at = 0;
  let lines = 0;
  const add = (kind: string, stretch: string): void => {
    let from = 0;
    for (let end = stretch.indexOf("\n"); end >= 0; end = stretch.indexOf("\n", end + 1)) {
      lines += 1;
      if (lines % LINES !== 0) continue;
      parts.at(-1)!.push([kind, stretch.slice(from, end + 1)]);
      parts.push([]);
      from = end + 1;
    }
    if (from < stretch.length) parts.at(-1)!.push([kind, stretch.slice(from)]);
    at += stretch.length;
  };
  for (const [kind, stretch] of pieces) add(kind, stretch);
  add("", text.slice(at));
  if (parts.at(-1)!.length === 0) parts.pop();
  return parts;
}

function same(one: Piece[], other: Piece[]): boolean {
  if (one === other) return true;
  return one.length === other.length && one.every(([kind, text], i) => kind === other[i]![0] && text === other[i]![1]);
}

/** Runs `work` when the browser is idle, in half a second at the latest. */
function whenIdle(work: () => void): number {
  // Safari has no such call.
  return "requestIdleCallback" in globalThis ? requestIdleCallback(work, { timeout: 500 }) : setTimeout(work, 50);
}

function cancelIdle(handle: number): void {
  if ("cancelIdleCallback" in globalThis) cancelIdleCallback(handle);
  else clearTimeout(handle);
}
