// A text that grows, or is long: read in steps of a frame each, so that no step is noticed.

import { flushSync } from "svelte";

import { BlockParser } from "./blocks";
import type { Block } from "./tree";

/** Characters that the first step reads; it cannot know yet what they cost. */
const STEP = 4096;
/** What a step may read, and the milliseconds that it should take with all that is drawn. */
const STEPS = [256, 16_384] as const;
const STEP_MS = 10;

export class GrowingText {
  blocks = $state.raw<Block[]>([]);
  /** Addresses of links that name a label. */
  refs = $state.raw<ReadonlyMap<string, string>>(new Map());
  #parser = new BlockParser();
  #ended = false;
  #text = "";
  #streaming = false;
  #frame = 0;
  #characters = STEP;

  /** Shows `text` from now on. What was shown before and begins it stays. `streaming`: more will come. */
  follow(text: string, streaming: boolean): void {
    const { source } = this.#parser;
    const begun = text.startsWith(source);
    const anew = !begun || (this.#ended && (streaming || text !== source));
    if (anew) {
      this.#parser = new BlockParser();
      this.#ended = false;
    }
    this.#text = text;
    this.#streaming = streaming;
    if (this.#ended) return;
    // What goes on after its end is read again at once, as far as it was shown.
    if (anew || source === "") this.#step(Math.max(STEP, begun ? source.length : 0));
    else if (this.#frame === 0) this.#plan();
  }

  stop(): void {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
  }

  #step(characters: number): void {
    const parser = this.#parser;
    const known = parser.refs.size;
    const from = parser.source.length;
    parser.append(this.#text.slice(from, from + characters));
    const more = parser.source.length < this.#text.length;
    if (!more && !this.#streaming) {
      parser.end();
      this.#ended = true;
    }
    this.blocks = parser.blocks;
    if (parser.refs.size !== known) this.refs = new Map(parser.refs);
    if (more && this.#frame === 0) this.#plan();
  }

  #plan(): void {
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      if (this.#ended) return;
      const started = performance.now();
      this.#step(this.#characters);
      flushSync();
      if (this.#frame === 0) return; // it was not a whole step
      const next = (this.#characters * STEP_MS) / Math.max(performance.now() - started, 1);
      this.#characters = Math.round(Math.min(Math.max(next, STEPS[0]), STEPS[1]));
    });
  }
}
