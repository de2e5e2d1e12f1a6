// Where the keyboard goes on when what it was on is gone.

import { tick } from "svelte";

/** Call it after something was taken away: who was on it goes on at the beginning of the screen. */
export async function focusAfterRemoval(): Promise<void> {
  await tick();
  const isLost = document.activeElement === null || document.activeElement === document.body;
  if (isLost) document.querySelector("main")?.focus({ preventScroll: true });
}
