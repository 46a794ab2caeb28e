// The newest alerts, as they come; the agents' own probes are none.
import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import { api, ask } from "../../api/client";
import { at } from "../../api/document";
import { useAlertTitle } from "../../app/installation";
import { NEWS, toAlert } from "../../app/links";
import { useText } from "../../i18n/words";
import { Severity } from "../../parts/Severity";
import { Ago } from "../../parts/Time";
import css from "./Now.module.css";

export function Newest() {
  const text = useText();
  const title = useAlertTitle();
  const { data } = useQuery({
    queryKey: ["alerts", "newest"],
    queryFn: () => ask(api.GET("/api/v1/alerts", { params: { query: { q: NEWS, limit: 6 } } })),
    refetchInterval: 30_000,
  });
  if (!data?.items.length) return null;
  return (
    <ul className={css.list} aria-label={text("now-newest")}>
      {data.items.map((alert) => (
        <li key={alert.id}>
          <Link to={toAlert(alert.id)}>{title(alert.event) || String(at(alert.event, "message") ?? alert.id)}</Link>
          <span className="row"><Severity value={at(alert.event, "event.severity")} /></span>
          <span className="soft small">{[at(alert.event, "host.name"), at(alert.event, "source.ip")].filter(Boolean).join(" · ")}</span>
          <span className="soft small"><Ago time={at(alert.event, "@timestamp") as string} /></span>
        </li>
      ))}
    </ul>
  );
}
