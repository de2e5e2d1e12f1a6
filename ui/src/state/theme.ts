// Light, dark, or as the system has it. Remembered on this device.

import { keep, kept, onKept } from "./kept";

export type Theme = "system" | "light" | "dark";

export const THEMES: readonly Theme[] = ["system", "light", "dark"];
const NAME = "theme";

export function theme(): Theme {
  const chosen = kept<Theme>(NAME);
  return chosen === "light" || chosen === "dark" ? chosen : "system";
}

export function useTheme(chosen: Theme): void {
  keep(NAME, chosen === "system" ? null : chosen);
  show();
}

/** Before anything is drawn, so that nobody sees the other one first. */
function show(): void {
  const chosen = theme();
  if (chosen === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
}

show();
onKept((name) => {
  if (name === NAME || name === null) show();
});
