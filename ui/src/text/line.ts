// A line that is read from its left end. White space is counted in columns, with a tab stop every four.

const TAB = 4;

export class Line {
  #column = 0;

  /** `rest`: what has not been taken yet. */
  constructor(public rest: string) {}

  /** Columns of white space before the rest. */
  get indent(): number {
    let columns = 0;
    for (const char of this.rest) {
      if (char === " ") columns += 1;
      else if (char === "\t") columns += TAB - ((this.#column + columns) % TAB);
      else break;
    }
    return columns;
  }

  get blank(): boolean {
    return !/\S/.test(this.rest);
  }

  /** Takes white space of so many columns, or all there is. A tab that is taken in part leaves spaces. */
  skip(columns: number): void {
    let left = columns;
    let at = 0;
    while (left > 0 && (this.rest[at] === " " || this.rest[at] === "\t")) {
      const width = this.rest[at] === "\t" ? TAB - (this.#column % TAB) : 1;
      const taken = Math.min(width, left);
      this.#column += taken;
      left -= taken;
      at += 1;
      if (taken < width) {
        this.rest = " ".repeat(width - taken) + this.rest.slice(at);
        return;
      }
    }
    this.rest = this.rest.slice(at);
  }

  /** Takes so many characters, none of them a tab. */
  take(characters: number): void {
    this.#column += characters;
    this.rest = this.rest.slice(characters);
  }
}
