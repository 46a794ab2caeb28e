// Light, dark, or as the system is.
import { useState } from "react";
import { keep, kept } from "./kept";

export type Theme = "system" | "light" | "dark";

export function firstTheme(): Theme {
  const chosen = kept("theme");
  return chosen === "light" || chosen === "dark" ? chosen : "system";
}

export function wear(theme: Theme) {
  const root = document.documentElement;
  if (theme === "system") delete root.dataset.theme;
  else root.dataset.theme = theme;
  keep("theme", theme);
}

export function useTheme() {
  const [theme, set] = useState(firstTheme);
  return [theme, (theme: Theme) => { wear(theme); set(theme); }] as const;
}
