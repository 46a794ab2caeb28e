// Alerts and search: one bar, one histogram, one table; an event opens beside them. SQL has a view of its own.
import { useQuery, type QueryClient } from "@tanstack/react-query";
import { Bell, Database, Download, RefreshCw, Rows3 } from "lucide-react";
import { lazy, Suspense, useMemo, useState } from "react";
import { useLoaderData } from "react-router";
import { api, ask, Problem } from "../../api/client";
import { useFormat } from "../../i18n/format";
import { useText } from "../../i18n/words";
import { useNews } from "../../app/live";
import { Button } from "../../parts/Button";
import { Menu } from "../../parts/Menu";
import { Page, Panel } from "../../parts/Page";
import { Fault, Waiting } from "../../parts/State";
import { narrowed, read, useAddress, USUAL, type Asked, type Kind } from "./address";
import { Columns } from "./Columns";
import { Detail } from "./Detail";
import { Histogram } from "./Histogram";
import { Results, rowsOf } from "./Results";
import { Saved } from "./Saved";
import { moments } from "./span";
import { SpanChoice } from "./SpanChoice";
import css from "./Search.module.css";

const Sql = lazy(() => import("./Sql"));
// The editor in it is most of this page's code: the first rows do not wait for it.
const QueryBar = lazy(() => import("./QueryBar"));
/** So long what was asked ahead counts as asked by the page. */
const AHEAD = 10_000;
const KINDS: [Kind, typeof Bell][] = [["alerts", Bell], ["events", Rows3], ["sql", Database]];

/** What the rows of an address are; relative spans count from `now`. */
function wanted(asked: Asked, now: number) {
  const kind = asked.in === "alerts" ? "alerts" as const : "events" as const;
  return { kind, q: narrowed(asked.in, asked.q), asked: asked.q, span: moments(asked, now), columns: asked.columns.length ? asked.columns : USUAL[kind] };
}

/** Asks for the first rows before the page is drawn, which takes longer than finding them. Gives when that was. */
export function ahead(search: URLSearchParams, queries: QueryClient): number {
  const [asked, now] = [read(search), Date.now()];
  if (asked.in !== "sql") void queries.prefetchInfiniteQuery(rowsOf(wanted(asked, now)));
  return now;
}

export default function Search() {
  const text = useText();
  const format = useFormat();
  const [asked, change] = useAddress();
  // Relative spans count from when was asked, so that paging does not move under the reader. Who had to sign in first asks now.
  const began = useLoaderData<number>();
  const [now, setNow] = useState(() => (Date.now() - began < AHEAD ? began : Date.now()));
  const [fresh, setFresh] = useState(0);
  const again = () => {
    setNow(Date.now());
    setFresh(0);
  };
  const { kind, q, span, columns } = useMemo(() => wanted(asked, now), [asked, now]);

  useNews((news) => {
    if (asked.in === "alerts" && news.kind === "alert" && !asked.to) setFresh((fresh) => fresh + 1);
  });

  const total = useQuery({
    queryKey: ["search", "total", q, span],
    queryFn: () => ask(api.GET("/api/v1/events/search", { params: { query: { q, ...span, limit: 1, count: true, fields: "event.id" } } })),
    enabled: asked.in !== "sql",
    retry: false,
  });
  const refused = total.error instanceof Problem && total.error.status === 400 ? total.error : undefined;
  // Joined to what narrows it, a query has other places than in the bar: the manager is asked about what was typed alone.
  const joined = q !== asked.q;
  const alone = useQuery({
    queryKey: ["search", "alone", asked.q],
    queryFn: () => ask(api.GET("/api/v1/events/search", { params: { query: { q: asked.q, limit: 1, fields: "event.id" } } })),
    enabled: Boolean(refused) && joined,
    retry: false,
  });
  const wrong = refused && joined ? (alone.error instanceof Problem ? alone.error : alone.isSuccess ? refused : undefined) : refused;
  const file = (format: string) => {
    const query = new URLSearchParams({ format, q, fields: format === "csv" ? ["@timestamp", ...columns].join(",") : "" });
    for (const [name, value] of Object.entries(span)) if (value) query.set(name, value);
    if (!query.get("fields")) query.delete("fields");
    location.assign(`/api/v1/events/export?${query}`);
  };

  return (
    <Page
      title={text("page-search")}
      actions={
        <div className={css.kinds} role="group" aria-label={text("search-in")}>
          {KINDS.map(([id, Icon]) => (
            <Button key={id} weight={asked.in === id ? "primary" : "plain"} icon={<Icon />} aria-pressed={asked.in === id} onPress={() => change({ in: id, open: "", columns: [], q: id === "sql" || asked.in === "sql" ? "" : asked.q })}>
              {text(`search-${id}`)}
            </Button>
          ))}
        </div>
      }
    >
      {asked.in === "sql" ? (
        <Suspense fallback={<Waiting />}><Sql asked={asked} onChange={change} /></Suspense>
      ) : (
        <>
          <div className={css.bar}>
            <Suspense fallback={<div className={css.query} data-search />}>
              <QueryBar key={asked.in} value={asked.q} span={span} within={asked.in === "alerts" ? "event.kind:alert" : ""} problem={wrong} onAsk={(q) => { change({ q, open: "" }); again(); }} />
            </Suspense>
            <SpanChoice from={asked.from} to={asked.to} onChange={(span) => { change({ ...span, open: "" }); again(); }} />
            <Saved asked={asked} onOpen={(saved) => { change({ ...saved, open: "" }); again(); }} />
          </div>
          {refused ? (
            wrong ? <Fault error={wrong} /> : <Waiting />
          ) : (
            <>
              <Panel>
                <Histogram q={q} span={span} kind={kind} ready={!total.isPending} onSpan={(from, to) => change({ from, to })} />
              </Panel>
              <Panel
                flush
                title={total.data?.total ? text(total.data.total.more ? "search-more-than" : "search-found", { count: total.data.total.count }) : text("search-counting")}
                about={total.data && text("search-took", { took: format.number(total.data.took_ms) })}
                actions={
                  <>
                    {fresh > 0 && <Button weight="primary" onPress={again}>{text("search-fresh", { count: fresh })}</Button>}
                    <Button weight="quiet" icon={<RefreshCw />} label={text("search-again")} onPress={again} />
                    <Columns chosen={columns} onChange={(columns) => change({ columns: columns.join() === USUAL[kind].join() ? [] : columns }, true)} />
                    <Menu
                      label={text("search-export")} icon={<Download />}
                      items={[
                        { id: "csv", name: text("search-export-csv"), do: () => file("csv") },
                        { id: "ndjson", name: text("search-export-ndjson"), do: () => file("ndjson") },
                      ]}
                    />
                  </>
                }
              >
                <Results kind={kind} q={q} asked={asked.q} span={span} columns={columns} open={asked.open} onOpen={(open, time) => change({ open, time }, Boolean(asked.open))} onClear={() => change({ q: "", from: "30d", to: "" })} />
              </Panel>
            </>
          )}
        </>
      )}
      <Detail kind={kind} id={asked.in === "sql" ? "" : asked.open} time={asked.time} onClose={() => change({ open: "", time: "" })} onPivot={(q) => change({ in: "events", q, open: "", time: "", columns: [] })} />
    </Page>
  );
}
