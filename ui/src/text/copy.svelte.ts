// Text to the clipboard.

import { notices } from "../state/notices.svelte";

const SHOWN_MS = 2000;

/** What a button does that copies, and says for a moment that it did. */
export class Copying {
  done = $state(false);
  #timer: ReturnType<typeof setTimeout> | undefined;

  async copy(text: string): Promise<void> {
    try {
      await copyText(text);
    } catch (error) {
      notices.failed(error);
      return;
    }
    this.done = true;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => (this.done = false), SHOWN_MS);
  }
}

/** Copies `text`. Raises if the browser does not let us. */
async function copyText(text: string): Promise<void> {
  if (window.isSecureContext) return navigator.clipboard.writeText(text);
  // A page by plain HTTP from another machine has no clipboard, but may copy what is selected.
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "hidden-text";
  document.body.append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  if (!copied) throw new Error("The browser does not let this page copy. Select the text and copy it.");
}
