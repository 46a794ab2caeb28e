// Where events come from: how fast, how late, what could not be read, who fell silent, and whether the books balance.
import { useQuery } from "@tanstack/react-query";
import { FileText } from "lucide-react";
import { useNavigate, useSearchParams } from "react-router";
import { api, ask, type Schemas } from "../../api/client";
import { term } from "../../api/document";
import { toSearch } from "../../app/links";
import { useFormat } from "../../i18n/format";
import { useText } from "../../i18n/words";
import { Choose } from "../../parts/Field";
import { Page, Panel } from "../../parts/Page";
import { Asked, Dot, Empty, type Tone } from "../../parts/State";
import { Table } from "../../parts/Table";
import { Ago } from "../../parts/Time";

type Source = Schemas["LogSourceView"];
const TONES: Record<string, Tone> = { well: "good", quiet: "person", unread: "care", unknown: "calm" };
const SHOWN = ["all", "quiet", "unread", "lost"] as const;
type Shown = (typeof SHOWN)[number];

export default function Sources() {
  const text = useText();
  const format = useFormat();
  const navigate = useNavigate();
  const [search, setSearch] = useSearchParams();
  const shown = SHOWN.find((id) => id === search.get("show")) ?? "all";
  const sources = useQuery({ queryKey: ["log-sources"], queryFn: () => ask(api.GET("/api/v1/log-sources")), refetchInterval: 15_000, placeholderData: (before) => before });
  const fits = (source: Source) => shown === "all" || (shown === "lost" ? source.lost > 0 || source.balanced === false : source.health === shown);
  const seconds = (value?: number | null) => (value == null ? "—" : value < 1 ? text("sources-under-a-second") : format.span(value * 1_000));
  return (
    <Page title={text("page-sources")} about={text("sources-about")}>
      <Asked query={sources} lines={6}>
        {({ items, more }) => {
          if (items.length === 0) return <Panel><Empty icon={<FileText />} title={text("sources-none")}>{text("sources-none-about")}</Empty></Panel>;
          const rows = items.filter(fits);
          return (
            <Panel
              flush title={text("sources-count", { count: items.length })} about={more ? text("sources-more") : undefined}
              actions={<Choose bare label={text("sources-show")} value={shown} choices={SHOWN.map((id) => ({ id, name: text(`sources-show-${id}`, { count: items.filter((source) => id === "all" || (id === "lost" ? source.lost > 0 || source.balanced === false : source.health === id)).length }) }))} onChange={(id: Shown) => setSearch(id === "all" ? {} : { show: id }, { replace: true })} />}
            >
              <Table
                label={text("page-sources")} rows={rows} keyOf={(source) => `${source.origin} ${source.stream}`} height="75vh"
                onOpen={(source) => void navigate(toSearch("events", `${term("agent.id", source.origin)} and ${term("sakimori.stream", source.stream)}`))}
                empty={<Empty title={text("sources-well")} />}
                columns={[
                  { id: "health", title: text("sources-health"), width: "7.5rem", cell: (source: Source) => <Dot tone={TONES[source.health]}>{text(`sources-health-${source.health}`)}</Dot> },
                  { id: "stream", title: text("sources-stream"), width: "minmax(8rem, 1.6fr)", cell: (source: Source) => <span>{source.stream} <span className="soft small">{source.source}</span></span> },
                  { id: "host", title: text("sources-host"), width: "minmax(5rem, 1fr)", cell: (source: Source) => source.host || source.origin },
                  { id: "rate", title: text("sources-rate"), width: "5.5rem", end: true, cell: (source: Source) => text("sources-a-second", { rate: format.number(Math.round(source.rate * 100) / 100) }) },
                  { id: "hour", title: text("sources-hour"), width: "4.5rem", end: true, cell: (source: Source) => format.compact(source.events_hour) },
                  { id: "lag", title: text("sources-lag"), width: "4rem", end: true, cell: (source: Source) => seconds(source.lag_seconds) },
                  { id: "unread", title: text("sources-unread"), width: "5.5rem", end: true, cell: (source: Source) => format.number(source.unread) },
                  { id: "last", title: text("sources-last"), width: "6rem", cell: (source: Source) => <Ago time={source.last} /> },
                  { id: "books", title: text("sources-books"), width: "6rem", cell: (source: Source) => (source.lost > 0 ? <Dot tone="care">{text("sources-lost", { count: source.lost })}</Dot> : source.balanced == null ? <span className="soft">—</span> : <Dot tone={source.balanced ? "good" : "person"}>{text(source.balanced ? "sources-balanced" : "sources-unbalanced")}</Dot>) },
                ]}
              />
            </Panel>
          );
        }}
      </Asked>
    </Page>
  );
}
