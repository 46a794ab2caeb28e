// What is in effect now: how long it lasts, on what, where, why; and taking it back, one by one or all of a kind.
import { ShieldCheck, Undo2 } from "lucide-react";
import { useState } from "react";
import { Link, useSearchParams } from "react-router";
import { toLedger } from "../../app/links";
import { useSession } from "../../app/session";
import { useFormat } from "../../i18n/format";
import { useText } from "../../i18n/words";
import { Button } from "../../parts/Button";
import { Choose } from "../../parts/Field";
import { Panel } from "../../parts/Page";
import { Asked, Badge, Empty } from "../../parts/State";
import { Table, type Column } from "../../parts/Table";
import { useNow } from "../../parts/Time";
import { useInEffect } from "./asked";
import { Cause } from "./Cause";
import { canBeUndone, endOf, isProvisional, targetOf, type Action } from "./model";
import { toneOf, useNames } from "./names";
import { UndoKind, UndoOne } from "./Undo";
import css from "./Response.module.css";

export function InEffect({ onOpen }: { onOpen: (action: Action) => void }) {
  const text = useText();
  const names = useNames();
  const { can } = useSession();
  const query = useInEffect();
  const [search, setSearch] = useSearchParams();
  const [undoing, setUndoing] = useState<Action>();
  const [kind, setKind] = useState<string>();

  const chosen = search.get("kind") ?? "";
  const choose = (kind: string) => setSearch((search) => {
    if (kind) search.set("kind", kind);
    else search.delete("kind");
    return search;
  }, { replace: true });

  const columns: Column<Action>[] = [
    { id: "target", title: text("response-target"), width: "minmax(8rem, 1.2fr)", cell: (row) => <span className="mono">{targetOf(row.order)}</span> },
    { id: "action", title: text("response-action"), width: "minmax(10rem, 2fr)", cell: (row) => names.action(row.order.action) },
    { id: "left", title: text("response-left"), width: "6.5rem", cell: (row) => <Left action={row} /> },
    { id: "place", title: text("response-place"), width: "minmax(6rem, 1fr)", cell: (row) => names.place(row.place) },
    { id: "cause", title: text("response-cause"), width: "minmax(8rem, 1.4fr)", cell: (row) => <Cause order={row.order} /> },
    {
      id: "do", title: "", width: "8rem", end: true,
      cell: (row) => can("actions:undo") && canBeUndone(row) && <Button icon={<Undo2 />} onPress={() => setUndoing(row)}>{text("response-undo")}</Button>,
    },
  ];

  return (
    <Panel title={text("response-in-effect")} about={text("response-in-effect-about")} flush>
      <Asked query={query}>
        {({ items, more }) => {
          const kinds = [...new Set(items.map((action) => action.order.action))];
          const rows = chosen ? items.filter((action) => action.order.action === chosen) : items;
          const last = chosen || (kinds.length === 1 ? kinds[0]! : "");
          if (items.length === 0) {
            return (
              <Empty icon={<ShieldCheck />} title={text("response-in-effect-none")} action={<Link to={toLedger({})}>{text("response-to-ledger")}</Link>}>
                {text("response-in-effect-none-about")}
              </Empty>
            );
          }
          return (
            <div className="stack">
              <div className={css.bar}>
                <Choose
                  label={text("response-action")} bare value={chosen || "all"} onChange={(kind) => choose(kind === "all" ? "" : kind)}
                  choices={[{ id: "all", name: text("response-all-kinds") }, ...kinds.map((kind) => ({ id: kind, name: names.action(kind) }))]}
                />
                {can("actions:undo") && last && rows.some(canBeUndone) && <Button weight="danger" onPress={() => setKind(last)}>{text("response-undo-kind")}</Button>}
              </div>
              <Table label={text("response-in-effect")} rows={rows} columns={columns} keyOf={(row) => row.order.id} onOpen={onOpen} height="calc(100vh - 24rem)" />
              {more && <p className={css.bar}>{text("response-in-effect-more")}</p>}
              <UndoKind kind={kind} count={items.filter((action) => action.order.action === kind).length} onClose={() => setKind(undefined)} />
            </div>
          );
        }}
      </Asked>
      <UndoOne action={undoing} onClose={() => setUndoing(undefined)} />
    </Panel>
  );
}

/** The time that is left, or what is under way. */
export function Left({ action }: { action: Action }) {
  const text = useText();
  const names = useNames();
  const format = useFormat();
  const now = useNow(1_000);
  if (action.state !== "done") return <Badge tone={toneOf(action.state)}>{names.state(action.state)}</Badge>;
  const end = endOf(action);
  if (!end) return <>{text("response-no-end")}</>;
  const left = Math.max(0, Date.parse(end) - now);
  return (
    <span className="row">
      <time dateTime={end} title={format.moment(end)}>{format.span(left)}</time>
      {isProvisional(action) && <Badge tone="person">{text("response-provisional")}</Badge>}
    </span>
  );
}
