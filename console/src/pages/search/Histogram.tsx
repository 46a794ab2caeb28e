// What matches over time; drawing over it chooses the span.
import { useQuery } from "@tanstack/react-query";
import { useMemo } from "react";
import { api, ask } from "../../api/client";
import { useText } from "../../i18n/words";
import { Chart } from "../../parts/Chart";
import { bySeverity } from "../../parts/Severity";
import { Asked } from "../../parts/State";

interface Props {
  q: string;
  span: { from?: string; to?: string };
  kind: "alerts" | "events";
  /** Not asked before this: it reads all that matches, and what is waited for first are the first rows. */
  ready: boolean;
  onSpan: (from: string, to: string) => void;
}

export function Histogram({ q, span, kind, ready, onSpan }: Props) {
  const text = useText();
  const by = kind === "alerts" ? "event.severity" : undefined;
  const query = useQuery({
    queryKey: ["search", "histogram", q, span, by],
    queryFn: () => ask(api.GET("/api/v1/events/histogram", { params: { query: { q, ...span, to: span.to ?? new Date().toISOString(), by, buckets: 80 } } })),
    placeholderData: (before) => before,
    enabled: ready,
    retry: false,
  });
  const drawn = useMemo(() => {
    const { data } = query;
    if (!data) return undefined;
    const times = data.buckets.map((bucket) => new Date(bucket.from).getTime());
    if (!by) return { times, series: [{ name: text("search-events"), colour: "--ai", counts: data.buckets.map((bucket) => bucket.count) }] };
    return { times, series: bySeverity(data, text) };
  }, [query.data, by, text]);
  return (
    <Asked query={query} lines={4}>
      {(data) =>
        drawn && drawn.times.length > 0 && drawn.series.length > 0 ? (
          <Chart label={text("search-over-time")} times={drawn.times} width={data.width * 1_000} series={drawn.series} onSpan={(from, to) => onSpan(new Date(from).toISOString(), new Date(to).toISOString())} />
        ) : (
          <p className="soft">{text("search-nothing-to-draw")}</p>
        )
      }
    </Asked>
  );
}
