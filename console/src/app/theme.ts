// Light, dark, or as the system is. There is one choice for the whole page, wherever it is made.
import { kept, keep, useKept } from "./kept";

export type Theme = "system" | "light" | "dark";

const known = (chosen: string | undefined): Theme => (chosen === "light" || chosen === "dark" ? chosen : "system");

/** Makes the page look as chosen. */
export function wear(theme = known(kept("theme"))) {
  const root = document.documentElement;
  if (theme === "system") delete root.dataset.theme;
  else root.dataset.theme = theme;
}

function choose(theme: Theme) {
  keep("theme", theme);
  wear(theme);
}

export function useTheme() {
  return [known(useKept("theme")[0]), choose] as const;
}

// Chosen in another window.
addEventListener("storage", () => wear());
