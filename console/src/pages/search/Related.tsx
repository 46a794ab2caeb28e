// What happened around an event: what it was made of, what it led to, what shares a host, an address or a user with it.
import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import { api, ask, type Schemas } from "../../api/client";
import { at, shown } from "../../api/document";
import { useAlertTitle } from "../../app/installation";
import { toAction, toAlert, toEvent } from "../../app/links";
import { useNamed, useText } from "../../i18n/words";
import { Button } from "../../parts/Button";
import { Asked, Badge } from "../../parts/State";
import { Moment } from "../../parts/Time";
import css from "./Search.module.css";

export function Related({ id, time, onPivot }: { id: string; time: string; onPivot: (q: string) => void }) {
  const text = useText();
  const named = useNamed();
  const query = useQuery({
    queryKey: ["events", id, "related"],
    queryFn: () => ask(api.GET("/api/v1/events/{id}/related", { params: { path: { id }, query: { time } } })),
  });
  return (
    <Asked query={query} lines={5}>
      {(data) => (
        <div className="stack">
          {data.actions.length > 0 && (
            <section className="stack tight">
              <h3>{text("search-done")}</h3>
              {data.actions.map((action) => {
                const order = at(action, "order");
                return (
                  <div key={String(at(order, "id"))} className="row">
                    <Badge>{named("response-action", String(at(order, "action")))}</Badge>
                    <span className="mono">{shown(Object.values((at(order, "target") ?? {}) as object)[0])}</span>
                    <span className="soft">{named("response-state", String(at(action, "state")))}</span>
                    <Link to={toAction(String(at(order, "id")))}>{text("open")}</Link>
                  </div>
                );
              })}
            </section>
          )}
          <Group title={text("search-causes")} rows={data.causes} />
          <Group title={text("search-led-to")} rows={data.alerts} />
          {data.groups.map((group) => (
            <section key={group.field + group.value} className="stack tight">
              <div className="row apart">
                <h3><span className="mono">{group.field}</span> {group.value}</h3>
                <Button weight="quiet" onPress={() => onPivot(group.q)}>{text(group.total.more ? "search-all-more" : "search-all-of", { count: group.total.count })}</Button>
              </div>
              <Rows rows={group.items} />
            </section>
          ))}
          {data.groups.length + data.causes.length + data.alerts.length + data.actions.length === 0 && <p className="soft">{text("search-alone")}</p>}
        </div>
      )}
    </Asked>
  );
}

function Group({ title, rows }: { title: string; rows: Schemas["EventRow"][] }) {
  if (rows.length === 0) return null;
  return <section className="stack tight"><h3>{title}</h3><Rows rows={rows} /></section>;
}

function Rows({ rows }: { rows: Schemas["EventRow"][] }) {
  const title = useAlertTitle();
  return (
    <div>
      {rows.map((row) => {
        const field = (name: string) => at(row.fields, name);
        const alert = field("event.kind") === "alert";
        const to = alert && field("sakimori.alert.id") ? toAlert(String(field("sakimori.alert.id"))) : toEvent(row.id, row.time);
        return (
          <div key={row.id} className={css.event}>
            <Link to={to}><Moment time={row.time} /></Link>{" "}
            <span className="soft small">{shown(field("event.dataset"))}</span>{" "}
            <span className={css.line}>{(title(row.fields) || shown(field("message") ?? field("event.action"))).slice(0, 300)}</span>
          </div>
        );
      })}
    </div>
  );
}
