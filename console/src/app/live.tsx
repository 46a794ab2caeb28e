// Whether the manager is there, and what it tells of by itself. While it restarts the page says so, asks again, and keeps what
// is on it; when it is back, everything in sight is asked anew.
import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useSyncExternalStore } from "react";
import { heard } from "../api/client";
import { useText } from "../i18n/words";
import css from "./live.module.css";

let away = false;
const listeners = new Set<() => void>();

function is(now: boolean) {
  if (away === now) return;
  away = now;
  for (const listener of listeners) listener();
}
heard.addEventListener("away", () => is(true));
heard.addEventListener("here", () => is(false));

/** Does the manager not answer at present? */
export function useAway(): boolean {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => away,
  );
}

/** How often it is asked whether it is back. */
const ASKS = 1_500;

export function Connection() {
  const text = useText();
  const queries = useQueryClient();
  const gone = useAway();
  useEffect(() => {
    if (!gone) return;
    const timer = setInterval(() => {
      void fetch("/healthz", { signal: AbortSignal.timeout(5_000) }).then(
        (response) => {
          if (!response.ok) return;
          is(false);
          void queries.invalidateQueries();
        },
        () => undefined,
      );
    }, ASKS);
    return () => clearInterval(timer);
  }, [gone, queries]);
  return gone ? <div className={css.away} role="status">{text("away")}</div> : null;
}

/** Hears of new things and marks what shows them as old. */
export function useLive() {
  // Filled once the manager has its stream for sessions.
}
