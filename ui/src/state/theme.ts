// Light, dark, or as the system has it. Remembered on this device.

export type Theme = "system" | "light" | "dark";

export const THEMES: readonly Theme[] = ["system", "light", "dark"];
const NAME = "janflask.theme";

export function theme(): Theme {
  const kept = localStorage.getItem(NAME);
  return kept === "light" || kept === "dark" ? kept : "system";
}

export function useTheme(chosen: Theme): void {
  if (chosen === "system") localStorage.removeItem(NAME);
  else localStorage.setItem(NAME, chosen);
  show();
}

/** Before anything is drawn, so that nobody sees the other one first. */
function show(): void {
  const chosen = theme();
  if (chosen === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
}

show();
addEventListener("storage", (event) => {
  if (event.key === NAME || event.key === null) show();
});
