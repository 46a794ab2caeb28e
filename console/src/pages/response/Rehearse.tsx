// A rehearsal: what the playbook would have done about the alerts of the last days, its limits included.
import { useMutation } from "@tanstack/react-query";
import { History } from "lucide-react";
import { Link, useSearchParams } from "react-router";
import { api, ask, type Schemas } from "../../api/client";
import { useRuleTitle } from "../../app/installation";
import { toAlert } from "../../app/links";
import { useFormat } from "../../i18n/format";
import { useText } from "../../i18n/words";
import { Button } from "../../parts/Button";
import { Choose } from "../../parts/Field";
import { Figure, Panel } from "../../parts/Page";
import { Badge, Empty, Fault } from "../../parts/State";
import { Table, type Column } from "../../parts/Table";
import { Moment } from "../../parts/Time";
import { toneOf, useNames } from "./names";
import type { Playbook } from "./Playbooks";
import { Reason, Would } from "./sentences";
import css from "./Response.module.css";

const DAYS = ["1", "7", "30", "90", "365"] as const;
type Days = (typeof DAYS)[number];

export function Rehearse({ playbook }: { playbook: Playbook }) {
  const text = useText();
  const [search, setSearch] = useSearchParams();
  const days = DAYS.find((days) => days === search.get("days")) ?? "30";
  const choose = (days: Days) => setSearch((search) => {
    search.set("days", days);
    return search;
  }, { replace: true });
  const run = useMutation({
    mutationFn: (days: Days) => ask(api.POST("/api/v1/playbooks/{id}/rehearse", { params: { path: { id: playbook.id } }, body: { since_seconds: Number(days) * 86_400 } })),
  });
  return (
    <div className="stack">
      <Panel title={text("response-tab-past")} about={text("response-past-about")}>
        <div className="row">
          <Choose label={text("response-past-days")} bare value={days} onChange={choose} choices={DAYS.map((days) => ({ id: days, name: text("response-past-last", { days: Number(days) }) }))} />
          <Button weight="primary" icon={<History />} isPending={run.isPending} onPress={() => run.mutate(days)}>{text("response-past-run")}</Button>
        </div>
      </Panel>
      {run.error && <Fault error={run.error} />}
      {run.data && <Told rehearsal={run.data} />}
    </div>
  );
}

function Told({ rehearsal }: { rehearsal: Schemas["Rehearsal"] }) {
  const text = useText();
  const names = useNames();
  const format = useFormat();
  const title = useRuleTitle();
  const columns: Column<Schemas["Rehearsed"]>[] = [
    { id: "time", title: text("response-time"), width: "9rem", cell: (row) => <Moment time={row.time} /> },
    { id: "alert", title: text("response-alert"), width: "minmax(9rem, 1fr)", cell: (row) => <Link to={toAlert(row.alert)}>{title(row.rule, row.rule) || text("response-alert")}</Link> },
    { id: "would", title: text("response-past-would"), width: "minmax(16rem, 3fr)", cell: (row) => <ol className={css.told}>{row.would.map((one, nth) => <li key={nth}><Would>{one}</Would></li>)}</ol> },
    { id: "ends", title: text("response-dry-ends"), width: "minmax(8rem, 1fr)", cell: (row) => <span className="row"><Badge tone={toneOf(row.ends)}>{names.ends(row.ends)}</Badge> <Reason>{row.reason}</Reason></span> },
  ];
  return (
    <>
      <Panel title={text("response-past-figures")} about={rehearsal.more ? text("response-past-more") : undefined}>
        <div className="stack" role="status">
          <div className="grid">
            <Figure value={format.number(rehearsal.looked_at)} name={text("response-past-looked")} />
            <Figure value={format.number(rehearsal.begun)} name={text("response-past-begun")} />
            <Figure value={format.number(rehearsal.hosts.length)} name={text("response-past-hosts")} note={rehearsal.hosts.slice(0, 8).join(", ")} />
            {Object.entries(rehearsal.orders).map(([action, count]) => (
              <Figure key={action} value={format.number(count)} name={names.action(action)} note={text("response-past-targets", { count: rehearsal.targets[action] ?? 0 })} />
            ))}
          </div>
          {Object.keys(rehearsal.ends).length > 0 && (
            <p className="row">
              <span className="soft">{text("response-past-ends")}</span>
              {Object.entries(rehearsal.ends).map(([state, count]) => <Badge key={state} tone={toneOf(state)}>{text("response-past-end", { state: names.ends(state), count })}</Badge>)}
            </p>
          )}
        </div>
      </Panel>
      <Panel title={text("response-past-told")} about={text("response-past-told-about")} flush>
        <Table
          label={text("response-past-told")} rows={rehearsal.told} columns={columns} keyOf={(row) => row.alert}
          empty={<Empty icon={<History />} title={text("response-past-none")}>{text("response-past-none-about")}</Empty>}
        />
      </Panel>
    </>
  );
}
