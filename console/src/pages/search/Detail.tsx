// One event or alert beside the list: what it says, why the rule fired, what is related, what was done.
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Tab, TabList, TabPanel, Tabs } from "react-aria-components";
import { api, ask } from "../../api/client";
import { at } from "../../api/document";
import { useAlertTitle } from "../../app/installation";
import { useText } from "../../i18n/words";
import { Copy } from "../../parts/Copy";
import { Drawer } from "../../parts/Dialog";
import { Severity } from "../../parts/Severity";
import { Asked, Badge } from "../../parts/State";
import { Moment } from "../../parts/Time";
import tabs from "../../parts/Tabs.module.css";
import { Fields } from "./Fields";
import { Related } from "./Related";
import { Triage } from "./Triage";
import { Why } from "./Why";

interface Props {
  kind: "alerts" | "events";
  id: string;
  time: string;
  onClose: () => void;
  /** Searches for something that this event speaks of. */
  onPivot: (q: string) => void;
}

export function Detail({ kind, id, time, onClose, onPivot }: Props) {
  const text = useText();
  const title = useAlertTitle();
  const alert = useQuery({
    queryKey: ["alerts", id],
    queryFn: () => ask(api.GET("/api/v1/alerts/{id}", { params: { path: { id } } })),
    enabled: Boolean(id) && kind === "alerts",
  });
  const event = kind === "alerts" ? (at(alert.data?.event, "event.id") as string | undefined) : id;
  const when = kind === "alerts" ? (at(alert.data?.event, "@timestamp") as string | undefined) : time || undefined;
  const detail = useQuery({
    queryKey: ["events", event],
    queryFn: () => ask(api.GET("/api/v1/events/{id}", { params: { path: { id: event! }, query: { time: when } } })),
    enabled: Boolean(event) && Boolean(id),
    staleTime: Infinity,
  });
  const [tab, setTab] = useState<string>();
  const about = detail.data?.event;
  const isAlert = at(about, "event.kind") === "alert";
  const alertId = kind === "alerts" ? id : (at(about, "sakimori.alert.id") as string | undefined);
  const views = [
    ...(isAlert && alertId ? ["why"] : []), "fields", "original", "related",
  ];
  const open = tab && views.includes(tab) ? tab : views[0]!;

  return (
    <Drawer title={title(about) || String(at(about, "event.action") ?? at(about, "event.dataset") ?? text("search-event"))} open={Boolean(id)} onClose={onClose}>
      <Asked query={{ data: detail.data, error: alert.error ?? detail.error, refetch: () => void (alert.error ? alert.refetch() : detail.refetch()) }} lines={8}>
        {(data) => (
          <div className="stack">
            <div className="row">
              {isAlert && <Severity value={at(about, "event.severity")} />}
              {at(about, "sakimori.probe") === true && <Badge tone="lead">{text("search-probe")}</Badge>}
              <Moment time={data.time} />
              <span className="soft">{[at(about, "host.name"), at(about, "source.ip")].filter(Boolean).join(" · ")}</span>
            </div>
            {alert.data && <Triage alert={alert.data} />}
            <Tabs selectedKey={open} onSelectionChange={(key) => setTab(String(key))} className={tabs.tabs!}>
              <TabList aria-label={text("search-views")} className={tabs.list!}>
                {views.map((view) => <Tab key={view} id={view} className={tabs.tab!}>{text(`search-view-${view}`)}</Tab>)}
              </TabList>
              <TabPanel id="why">{open === "why" && alertId && <Why alert={alertId} />}</TabPanel>
              <TabPanel id="fields">{open === "fields" && <Fields document={data.event} onPivot={onPivot} />}</TabPanel>
              <TabPanel id="original">{open === "original" && (data.original ? <Copy label={text("search-view-original")}>{data.original}</Copy> : <p className="soft">{text("search-no-original")}</p>)}</TabPanel>
              <TabPanel id="related">{open === "related" && <Related id={data.id} time={data.time} onPivot={onPivot} />}</TabPanel>
            </Tabs>
          </div>
        )}
      </Asked>
    </Drawer>
  );
}
