// The rows: page after page as one scrolls, only those in sight in the document.
import { infiniteQueryOptions, useInfiniteQuery } from "@tanstack/react-query";
import { SearchX } from "lucide-react";
import { useCallback, useMemo } from "react";
import { api, ask, type Schemas } from "../../api/client";
import { at, shown } from "../../api/document";
import { useRuleTitle } from "../../app/installation";
import { useText } from "../../i18n/words";
import { useFieldName } from "./fieldName";
import { Button } from "../../parts/Button";
import { Severity } from "../../parts/Severity";
import { Badge, Empty, Fault, Waiting, type Tone } from "../../parts/State";
import { Table, type Column } from "../../parts/Table";
import { Moment } from "../../parts/Time";

/** What is asked for. */
interface Wanted {
  kind: "alerts" | "events";
  q: string;
  /** The search text without what narrows it to alerts. */
  asked: string;
  span: { from?: string; to?: string };
  columns: string[];
}

interface Props extends Wanted {
  open: string;
  onOpen: (id: string, time: string) => void;
  onClear: () => void;
}

/** A row, be it an alert with its status or an event with flat fields. */
interface Row {
  id: string;
  time: string;
  value: (field: string) => unknown;
  status?: string;
}

const PAGE = 200;
const STATUS: Record<string, Tone> = { open: "lead", acknowledged: "care", closed: "calm", suppressed: "calm" };
const WIDE = new Set(["message", "rule.name", "event.original", "process.command_line", "url.original"]);
const FITTING: Record<string, string> = { "event.severity": "5.5rem", "event.dataset": "minmax(9rem, 1fr)", "source.ip": "minmax(8rem, 1fr)", "user.name": "minmax(5rem, 1fr)" };

async function page({ kind, q, asked, span, columns }: Wanted, cursor: string | undefined): Promise<{ rows: Row[]; next?: string }> {
  if (kind === "alerts") {
    const { items, next } = await ask(api.GET("/api/v1/alerts", { params: { query: { q: asked || undefined, ...span, limit: PAGE, cursor } } }));
    return { rows: items.map((alert) => ({ id: alert.id, time: String(at(alert.event, "@timestamp")), value: (field) => at(alert.event, field), status: alert.status })), next: next ?? undefined };
  }
  const { items, next } = await ask(api.GET("/api/v1/events/search", { params: { query: { q, ...span, limit: PAGE, cursor, fields: [...columns, ...(columns.includes("rule.name") ? ["rule.id"] : [])].join(",") } } }));
  const row = (row: Schemas["EventRow"]): Row => ({ id: row.id, time: row.time, value: (field) => at(row.fields, field) });
  return { rows: items.map(row), next: next ?? undefined };
}

/** Pages of rows. */
export const rowsOf = (wanted: Wanted) => infiniteQueryOptions({
  queryKey: [wanted.kind === "alerts" ? "alerts" : "search", "rows", wanted.q, wanted.span, wanted.kind === "alerts" ? "" : wanted.columns],
  queryFn: ({ pageParam }) => page(wanted, pageParam),
  initialPageParam: undefined as string | undefined,
  getNextPageParam: (last) => last.next,
  retry: false,
  // A list that is read is not moved by what arrives; the page says that there is news.
  refetchOnMount: false, refetchOnWindowFocus: false, staleTime: Infinity, meta: { still: true },
});

export function Results(props: Props) {
  const { kind, asked, columns, open, onOpen, onClear } = props;
  const text = useText();
  const named = useFieldName();
  const title = useRuleTitle();
  const query = useInfiniteQuery(rowsOf(props));
  const rows = useMemo(() => query.data?.pages.flatMap((page) => page.rows) ?? [], [query.data]);
  const { fetchNextPage, hasNextPage, isFetching } = query;
  const end = useCallback(() => {
    if (hasNextPage && !isFetching) void fetchNextPage({ cancelRefetch: false });
  }, [hasNextPage, isFetching, fetchNextPage]);

  if (query.error && rows.length === 0) return <Fault error={query.error} onRetry={() => void query.refetch()} />;
  if (query.isPending) return <div style={{ padding: "16px 20px" }}><Waiting lines={8} /></div>;
  const all: Column<Row>[] = [
    { id: "time", title: text("search-time"), width: "9rem", cell: (row) => <Moment time={row.time} /> },
    ...(kind === "alerts" ? [{ id: "status", title: text("search-status"), width: "6rem", cell: (row: Row) => <Badge tone={STATUS[row.status ?? ""]}>{text(`search-status-${row.status}`)}</Badge> }] : []),
    ...columns.map((field) => ({
      id: field, title: named(field), width: WIDE.has(field) ? "minmax(11rem, 3fr)" : (FITTING[field] ?? "minmax(6.5rem, 1fr)"),
      cell: (row: Row) => (field === "event.severity" ? <Severity value={row.value(field)} /> : <span className={WIDE.has(field) ? "" : "mono"}>{(field === "rule.name" ? title(row.value("rule.id"), row.value(field)) : shown(row.value(field))).slice(0, 400)}</span>),
    })),
  ];
  const nothing = (
    <Empty icon={<SearchX />} title={text(kind === "alerts" ? "search-no-alerts" : "search-no-events")} action={<Button onPress={onClear}>{text("search-widen")}</Button>}>
      {asked ? text("search-nothing-asked") : text("search-nothing")}
    </Empty>
  );
  return <Table label={text("search-results")} rows={rows} columns={all} keyOf={(row) => row.id} onOpen={(row) => onOpen(row.id, row.time)} current={open} onEnd={end} empty={nothing} height="min(70vh, 60rem)" />;
}
