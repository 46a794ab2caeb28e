// Every action, the newest first. Filters and the open row are in the address.
import { ScrollText } from "lucide-react";
import { useEffect, useState } from "react";
import { useSearchParams } from "react-router";
import { useAgents } from "../../app/installation";
import { useFormat } from "../../i18n/format";
import { useText } from "../../i18n/words";
import { Button } from "../../parts/Button";
import { Choose, Field } from "../../parts/Field";
import { Panel } from "../../parts/Page";
import { Asked, Badge, Dot, Empty } from "../../parts/State";
import { Table, type Column } from "../../parts/Table";
import { Ago } from "../../parts/Time";
import { useLedger, type LedgerFilter } from "./asked";
import { Cause } from "./Cause";
import { ACTIONS, ACTION_STATES, targetOf, TOOK_EFFECT, type Action } from "./model";
import { toneOf, useNames } from "./names";
import css from "./Response.module.css";

const FILTERS = ["action", "state", "place", "target", "alert", "text", "since", "probe"] as const;
const ALL = "all";

export function Ledger({ open, onOpen }: { open?: string; onOpen: (action: Action) => void }) {
  const text = useText();
  const names = useNames();
  const format = useFormat();
  const agents = useAgents();
  const [search, setSearch] = useSearchParams();
  const filter = Object.fromEntries(FILTERS.map((name) => [name, search.get(name) ?? ""])) as unknown as LedgerFilter;
  const query = useLedger(filter);
  const set = (name: string, value: string) => setSearch((search) => {
    if (value && value !== ALL) search.set(name, value);
    else search.delete(name);
    return search;
  }, { replace: true });
  const filtered = FILTERS.some((name) => filter[name]);

  const columns: Column<Action>[] = [
    { id: "time", title: text("response-time"), width: "7.5rem", cell: (row) => <Ago time={row.planned_at} /> },
    { id: "action", title: text("response-action"), width: "minmax(10rem, 1.5fr)", cell: (row) => names.action(row.order.action) },
    { id: "target", title: text("response-target"), width: "minmax(9rem, 1.4fr)", cell: (row) => <span className="mono">{targetOf(row.order)}</span> },
    { id: "state", title: text("response-state"), width: "8.5rem", cell: (row) => <Dot tone={toneOf(row.state)}>{names.state(row.state)}</Dot> },
    { id: "place", title: text("response-place"), width: "minmax(6rem, 1fr)", cell: (row) => names.place(row.place) },
    { id: "cause", title: text("response-cause"), width: "minmax(9rem, 1.5fr)", cell: (row) => <Cause order={row.order} /> },
  ];

  return (
    <Panel title={text("response-ledger")} about={text("response-ledger-about")} flush>
      <div className={css.filters}>
        <Choose label={text("response-action")} value={filter.action || ALL} onChange={(value) => set("action", value)} choices={[{ id: ALL, name: text("response-all") }, ...ACTIONS.map((id) => ({ id: id as string, name: names.action(id) }))]} />
        <Choose label={text("response-state")} value={filter.state || ALL} onChange={(value) => set("state", value)} choices={[{ id: ALL, name: text("response-all") }, { id: TOOK_EFFECT, name: text("response-took-effect") }, ...ACTION_STATES.map((id) => ({ id: id as string, name: names.state(id) }))]} />
        <Choose label={text("response-place")} value={filter.place || ALL} onChange={(value) => set("place", value)} choices={[{ id: ALL, name: text("response-all") }, { id: "manager", name: names.place("manager") }, ...agents.map((agent) => ({ id: agent.id, name: agent.name }))]} />
        <Rested label={text("response-target")} placeholder={text("response-target-exact")} value={filter.target} onChange={(value) => set("target", value)} />
        <Rested label={text("response-find")} placeholder={text("response-find-in")} value={filter.text} onChange={(value) => set("text", value)} search />
      </div>
      {filter.since && (
        <p className={css.chosen}>
          <Badge tone="lead">{text("response-since-time", { time: format.short(filter.since) })}</Badge>
          <Button weight="quiet" onPress={() => set("since", "")}>{text("response-any-time")}</Button>
        </p>
      )}
      {filter.probe && (
        <p className={css.chosen}>
          <Badge tone="lead">{text(filter.probe === "true" ? "response-only-probes" : "response-no-probes")}</Badge>
          <Button weight="quiet" onPress={() => set("probe", "")}>{text("response-probes-too")}</Button>
        </p>
      )}
      {filter.alert && (
        <p className={css.chosen}>
          <Badge tone="lead">{text("response-of-alert")}</Badge> <code>{filter.alert}</code>
          <Button weight="quiet" onPress={() => set("alert", "")}>{text("response-all-alerts")}</Button>
        </p>
      )}
      <Asked query={query}>
        {(rows) => (
          <Table
            label={text("response-ledger")} rows={rows} columns={columns} keyOf={(row) => row.order.id} onOpen={onOpen} current={open} height="calc(100vh - 26rem)"
            onEnd={query.hasNextPage && !query.isFetchingNextPage ? () => void query.fetchNextPage({ cancelRefetch: false }) : undefined}
            empty={filtered
              ? <Empty icon={<ScrollText />} title={text("response-ledger-nothing")}>{text("response-ledger-nothing-about")}</Empty>
              : <Empty icon={<ScrollText />} title={text("response-ledger-none")}>{text("response-ledger-none-about")}</Empty>}
          />
        )}
      </Asked>
    </Panel>
  );
}

/** Typed text that is asked for once it rests. */
function Rested({ label, placeholder, value, onChange, search }: { label: string; placeholder: string; value: string; onChange: (value: string) => void; search?: boolean }) {
  const [typed, setTyped] = useState(value);
  useEffect(() => setTyped(value), [value]);
  useEffect(() => {
    if (typed === value) return;
    const timer = setTimeout(() => onChange(typed.trim()), 400);
    return () => clearTimeout(timer);
  }, [typed]);
  return <div data-search={search}><Field label={label} placeholder={placeholder} value={typed} onChange={setTyped} code={!search} type={search ? "search" : "text"} /></div>;
}
