// What the page shows is in its address, so that a link shows the same to somebody else.
import { useCallback, useMemo } from "react";
import { useSearchParams } from "react-router";

export type Kind = "alerts" | "events" | "sql";

export interface Asked {
  in: Kind;
  q: string;
  from: string;
  to: string;
  /** Columns; empty for the usual ones. */
  columns: string[];
  /** The event or alert that is open, and when it was. */
  open: string;
  time: string;
}

/** What an address says. */
export function read(search: URLSearchParams): Asked {
  const kind = search.get("in");
  return {
    in: kind === "events" || kind === "sql" ? kind : "alerts",
    q: search.get("q") ?? "",
    from: search.get("from") ?? "24h",
    to: search.get("to") ?? "",
    columns: search.get("columns")?.split(",").filter(Boolean) ?? [],
    open: search.get("open") ?? "",
    time: search.get("time") ?? "",
  };
}

export function useAddress(): [Asked, (change: Partial<Asked>, replace?: boolean) => void] {
  const [search, setSearch] = useSearchParams();
  const asked = useMemo(() => read(search), [search]);
  const change = useCallback(
    (change: Partial<Asked>, replace = false) =>
      setSearch((search) => {
        for (const [name, value] of Object.entries(change)) {
          const text = Array.isArray(value) ? value.join(",") : value;
          if (text) search.set(name, text);
          else search.delete(name);
        }
        return search;
      }, { replace }),
    [setSearch],
  );
  return [asked, change];
}

/** The fields of the usual columns. */
export const USUAL: Record<"alerts" | "events", string[]> = {
  alerts: ["event.severity", "rule.name", "host.name", "source.ip", "user.name"],
  events: ["event.dataset", "host.name", "event.action", "source.ip", "user.name", "message"],
};

/** Only alerts, where alerts are looked at. */
export function narrowed(kind: Kind, q: string): string {
  if (kind !== "alerts") return q;
  return q.trim() ? `event.kind:alert and (${q})` : "event.kind:alert";
}
