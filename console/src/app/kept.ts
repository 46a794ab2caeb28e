// What this browser remembers of its user's taste and of what they began to write: language, theme, columns, drafts. Nothing of
// the session, nothing secret. Whoever looks at a value hears of its change, in every part of the page.
import { useCallback, useSyncExternalStore } from "react";

const PREFIX = "sakimori.";
/** Of a browser that keeps nothing: it lasts as long as the page. */
const page = new Map<string, string>();
const listeners = new Set<() => void>();

export function kept(name: string): string | undefined {
  try {
    return localStorage.getItem(PREFIX + name) ?? page.get(name);
  } catch {
    return page.get(name);
  }
}

export function keep(name: string, value: string | undefined) {
  try {
    page.delete(name);
    if (value === undefined) localStorage.removeItem(PREFIX + name);
    else localStorage.setItem(PREFIX + name, value);
  } catch {
    if (value !== undefined) page.set(name, value);
  }
  for (const listener of listeners) listener();
}

function subscribe(listener: () => void) {
  listeners.add(listener);
  // Another window of the same browser.
  addEventListener("storage", listener);
  return () => {
    listeners.delete(listener);
    removeEventListener("storage", listener);
  };
}

/** A kept value, as it is now. */
export function useKept(name: string) {
  const value = useSyncExternalStore(subscribe, () => kept(name));
  const set = useCallback((value: string | undefined) => keep(name, value), [name]);
  return [value, set] as const;
}
