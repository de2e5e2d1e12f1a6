// What frames the screens: the list of conversations beside them (a drawer where the page is narrow), and dialogs.

import { keep, kept } from "./kept";

const FOLDED = "folded";
const NARROW = "(max-width: 47.99rem)";

class Shell {
  /** There is no room for the list beside a screen. */
  narrow = $state(matchMedia(NARROW).matches);
  /** The list is shown. */
  open = $state(false);
  /** The list of keyboard shortcuts is shown. */
  shortcuts = $state(false);

  /** A bar above the screen leads to the list, and has the screen's title. */
  get barred(): boolean {
    return this.narrow || !this.open;
  }

  constructor() {
    const query = matchMedia(NARROW);
    query.addEventListener("change", () => {
      this.narrow = query.matches;
      this.#start();
    });
    this.#start();
  }

  toggle(open = !this.open): void {
    this.open = open;
    if (this.narrow) return;
    keep(FOLDED, open ? null : true);
  }

  /** Somebody went to a screen: a drawer is in its way. */
  arrived(): void {
    if (this.narrow) this.open = false;
  }

  #start(): void {
    this.open = !this.narrow && kept(FOLDED) === null;
  }
}

export const shell = new Shell();
