// How often a rule fired in the last thirty days.
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { api, ask } from "../../api/client";
import { term } from "../../api/document";
import { useText } from "../../i18n/words";
import { Chart } from "../../parts/Chart";

export function OverTime({ rule }: { rule: string }) {
  const text = useText();
  const [now] = useState(Date.now);
  const from = new Date(now - 30 * 86_400_000).toISOString();
  const { data } = useQuery({
    queryKey: ["rules", "histogram", rule],
    queryFn: () => ask(api.GET("/api/v1/events/histogram", { params: { query: { q: `event.kind:alert and ${term("rule.id", rule)}`, from, to: new Date(now).toISOString(), width: 86_400 } } })),
  });
  if (!data || data.total === 0) return null;
  return (
    <Chart
      label={text("rules-hits")} height={110} width={data.width * 1_000} times={data.buckets.map((bucket) => new Date(bucket.from).getTime())}
      series={[{ name: text("rules-hits"), colour: "--ai", counts: data.buckets.map((bucket) => bucket.count) }]}
    />
  );
}
