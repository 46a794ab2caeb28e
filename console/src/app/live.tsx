// Whether the manager is there, and what it tells of by itself. While it restarts the page says so, asks again, and keeps what
// is on it; when it is back, everything in sight is asked anew.
import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useRef, useSyncExternalStore } from "react";
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

async function there(): Promise<boolean> {
  try {
    return (await fetch("/healthz", { signal: AbortSignal.timeout(5_000) })).ok;
  } catch {
    return false;
  }
}

export function Connection() {
  const text = useText();
  const queries = useQueryClient();
  const gone = useAway();
  useEffect(() => {
    if (!gone) return;
    const timer = setInterval(() => {
      void there().then((back) => {
        if (!back) return;
        is(false);
        void queries.invalidateQueries();
      });
    }, ASKS);
    return () => clearInterval(timer);
  }, [gone, queries]);
  return gone ? <div className={css.away} role="status">{text("away")}</div> : null;
}

/** What the manager tells of, and the lists that it makes old. */
const TELLS: Record<string, string[]> = {
  alert: ["alerts", "now"],
  action: ["actions", "now"],
  execution: ["executions", "now"],
  approval: ["executions", "now"],
  agent: ["agents", "now"],
  ingest: [],
  reset: ["alerts", "actions", "executions", "agents", "now"],
};
/** Lists are asked anew at most this often, however much happens. */
const GATHERS = 1_000;
const REOPENS = 3_000;
const news = new EventTarget();

export interface News {
  kind: string;
  /** What a line of a list would show. */
  line: Record<string, unknown>;
}

/** Keeps the one stream of the page open. */
export function useLive() {
  const queries = useQueryClient();
  useEffect(() => {
    let source: EventSource | undefined;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let gathering: ReturnType<typeof setTimeout> | undefined;
    const old = new Set<string>();
    const open = () => {
      source = new EventSource("/api/v1/live");
      for (const [kind, lists] of Object.entries(TELLS)) {
        source.addEventListener(kind, (event: MessageEvent<string>) => {
          news.dispatchEvent(new CustomEvent<News>("news", { detail: { kind, line: JSON.parse(event.data) as News["line"] } }));
          for (const list of lists) old.add(list);
          gathering ??= setTimeout(() => {
            gathering = undefined;
            // A list that is being read is not moved by what arrives: it says so itself (`meta.still`), and its page tells of news.
            for (const list of old) void queries.invalidateQueries({ queryKey: [list], predicate: (query) => !query.meta?.still });
            old.clear();
          }, GATHERS);
        });
      }
      source.onerror = () => {
        void there().then((here) => {
          if (!here) is(true);
        });
        if (source?.readyState === EventSource.CLOSED) timer = setTimeout(open, REOPENS);
      };
    };
    open();
    return () => {
      source?.close();
      clearTimeout(timer);
      clearTimeout(gathering);
    };
  }, [queries]);
}

/** Calls for each piece of news while the page is open. */
export function useNews(hear: (news: News) => void) {
  const latest = useRef(hear);
  latest.current = hear;
  useEffect(() => {
    const listener = (event: Event) => latest.current((event as CustomEvent<News>).detail);
    news.addEventListener("news", listener);
    return () => news.removeEventListener("news", listener);
  }, []);
}
