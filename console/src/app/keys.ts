// Keys that work on every page: `/` to search, `g` and a letter to go, Ctrl K for the palette. They never take what is typed
// into a field.
import { useEffect } from "react";
import { useNavigate } from "react-router";
import { toSearch } from "./links";
import { pages } from "./pages";

/** How long `g` waits for its letter. */
const WAITS = 1_200;

export function useKeys(openPalette: () => void) {
  const navigate = useNavigate();
  useEffect(() => {
    let going = 0;
    const pressed = (event: KeyboardEvent) => {
      if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
        event.preventDefault();
        openPalette();
        return;
      }
      const target = event.target as HTMLElement;
      if (event.ctrlKey || event.metaKey || event.altKey || target.closest("input, textarea, select, [contenteditable], [role=dialog]")) return;
      if (Date.now() - going < WAITS) {
        const page = pages.find((page) => page.key === event.key);
        going = 0;
        if (page) {
          event.preventDefault();
          void navigate(page.path);
        }
      } else if (event.key === "g") going = Date.now();
      else if (event.key === "/") {
        event.preventDefault();
        const field = document.querySelector<HTMLElement>("[data-search] input, [data-search] .cm-content, input[data-search]");
        // A bar that is still being fetched has no field yet.
        if (field ?? document.querySelector("[data-search]")) field?.focus();
        else void navigate(toSearch("alerts"));
      } else if (event.key === "?") openPalette();
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, [navigate, openPalette]);
}
