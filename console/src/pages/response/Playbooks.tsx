// The playbooks in force: which run, where, begun by what, and what they may do. Switching one on or off changes the tenant's
// policy.
import { BookOpen } from "lucide-react";
import { useState } from "react";
import { useNavigate } from "react-router";
import type { Schemas } from "../../api/client";
import { toPlaybook } from "../../app/links";
import { useSession } from "../../app/session";
import { useText } from "../../i18n/words";
import { Confirm } from "../../parts/Dialog";
import { Switch } from "../../parts/Field";
import { useNotice } from "../../parts/Notice";
import { Panel } from "../../parts/Page";
import { ReasonField } from "../../parts/ReasonField";
import { Asked, Badge, Dot, Empty } from "../../parts/State";
import { Table, type Column } from "../../parts/Table";
import { usePlaybooks } from "./asked";
import { useNames } from "./names";
import { useChange } from "./policy";
import css from "./Response.module.css";

export type Playbook = Schemas["Playbook"];

export function Playbooks() {
  const text = useText();
  const names = useNames();
  const navigate = useNavigate();
  const { can } = useSession();
  const query = usePlaybooks();
  const [turning, setTurning] = useState<Playbook>();
  const columns: Column<Playbook>[] = [
    {
      id: "on", title: text("response-runs"), width: "6.5rem",
      cell: (row) => can("policies:write")
        ? <Switch value={row.on} onChange={() => setTurning(row)}>{text(row.on ? "response-on" : "response-off")}<span className="unseen">{names.playbook(row.id)}</span></Switch>
        : <Dot tone={row.on ? "good" : "calm"}>{text(row.on ? "response-on" : "response-off")}</Dot>,
    },
    { id: "title", title: text("response-playbook"), width: "minmax(14rem, 2fr)", cell: (row) => <span>{names.playbook(row.id)}<span className={css.id}>{row.id}</span></span> },
    { id: "scope", title: text("response-scope"), width: "7rem", cell: (row) => text(row.scope === "host" ? "response-scope-host" : "response-scope-wide") },
    { id: "trigger", title: text("response-trigger"), width: "minmax(6rem, 0.7fr)", cell: (row) => names.trigger(row.trigger) },
    { id: "actions", title: text("response-may-do"), width: "minmax(14rem, 2.4fr)", cell: (row) => <Acts playbook={row} /> },
  ];
  return (
    <Panel title={text("response-playbooks")} about={text("response-playbooks-about")} flush>
      <Asked query={query}>
        {({ items }) => (
          <Table
            label={text("response-playbooks")} rows={items} columns={columns} keyOf={(row) => row.id} onOpen={(row) => void navigate(toPlaybook(row.id))}
            empty={<Empty icon={<BookOpen />} title={text("response-playbooks-none")}>{text("response-playbooks-none-about")}</Empty>}
          />
        )}
      </Asked>
      <Turn playbook={turning} onClose={() => setTurning(undefined)} />
    </Panel>
  );
}

/** What it may do; what cannot be taken back is marked. */
export function Acts({ playbook }: { playbook: Playbook }) {
  const text = useText();
  const names = useNames();
  return (
    <span className={css.acts}>
      {playbook.actions.map((action) => {
        const lasting = playbook.lasting.includes(action);
        return <Badge key={action} tone={lasting ? "care" : "calm"}>{lasting ? text("response-act-lasting", { action: names.action(action) }) : names.action(action)}</Badge>;
      })}
    </span>
  );
}

export function Turn({ playbook, onClose }: { playbook: Playbook | undefined; onClose: () => void }) {
  const text = useText();
  const names = useNames();
  const say = useNotice();
  const change = useChange();
  const [reason, setReason] = useState("");
  if (!playbook) return null;
  const { id, on } = playbook;
  const name = names.playbook(id);
  const shippedOff = /\benabled\s*:\s*false\b/.test(playbook.text);
  const turn = async () => {
    await change.mutateAsync({ reason, changes: on
      ? [{ list: "playbooks_on", remove: [id] }, { list: "playbooks_off", add: shippedOff ? [] : [id], remove: shippedOff ? [id] : [] }]
      : [{ list: "playbooks_off", remove: [id] }, { list: "playbooks_on", add: shippedOff ? [id] : [] }] });
    setReason("");
    say(text(on ? "response-turned-off" : "response-turned-on", { name }));
  };
  return (
    <Confirm title={text(on ? "response-turn-off" : "response-turn-on", { name })} action={text(on ? "response-turn-off-do" : "response-turn-on-do")} open onClose={onClose} onConfirm={turn}>
      {on ? <p>{text("response-turn-off-what")}</p> : (
        <>
          <p>{text(playbook.trigger === "manual" ? "response-turn-on-manual" : "response-turn-on-what", { trigger: names.trigger(playbook.trigger) })}</p>
          <Acts playbook={playbook} />
          {playbook.lasting.length > 0 && <p><strong>{text("response-turn-on-lasting")}</strong></p>}
          <p className="soft">{text(playbook.scope === "host" ? "response-turn-on-host" : "response-turn-on-wide")}</p>
        </>
      )}
      <ReasonField help={text("response-reason-about")} value={reason} onChange={setReason} />
    </Confirm>
  );
}
