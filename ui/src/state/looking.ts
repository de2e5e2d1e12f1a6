// Looks at the server again and again, while somebody sees the page.

/**
 * Looks now (`isKnown`: somebody has just done so), and each time `pause()` milliseconds after the last look. One that
 * fails is followed by the next as well. Returns how to end that.
 */
export function keepLooking(look: () => Promise<void>, pause: () => number, isKnown = false): () => void {
  let timer: ReturnType<typeof setTimeout>;
  let ended = false;
  const next = async () => {
    if (document.visibilityState === "visible") await look().catch(() => undefined);
    if (!ended) timer = setTimeout(next, pause());
  };
  if (isKnown) timer = setTimeout(next, pause());
  else void next();
  return () => {
    ended = true;
    clearTimeout(timer);
  };
}
