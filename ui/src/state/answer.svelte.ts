// What is being said now. What comes together is shown together: the engine may share the processor with this page.

import type { ToolCall } from "../api/types";
import type { Live } from "./types";

export class Answer implements Live {
  text = $state("");
  thoughts = $state("");
  calls = $state.raw<ToolCall[]>([]);
  #text = "";
  #thoughts = "";

  /** `text`: what its message shows already. All of it is told once more. */
  constructor(text: string) {
    this.text = text;
  }

  say(text: string): void {
    this.#text += text;
    this.#due();
  }

  think(text: string): void {
    this.#thoughts += text;
    this.#due();
  }

  call(calls: ToolCall[]): void {
    this.calls = [...this.calls, ...calls];
  }

  #due(): void {
    if (due.size === 0) setTimeout(show); // not the next frame: the text is read in one of its own
    due.add(this);
  }

  show(): void {
    this.text = this.#text;
    this.thoughts = this.#thoughts;
  }
}

const due = new Set<Answer>();

function show(): void {
  for (const answer of due) answer.show();
  due.clear();
}
