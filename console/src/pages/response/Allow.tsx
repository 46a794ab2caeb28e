// What is never blocked: addresses and networks that the policy names, proxies through which others come, and what the guard
// protects by itself.
import { Plus, Trash2 } from "lucide-react";
import { useState, type FormEvent } from "react";
import { useLayers } from "../../app/installation";
import { useSession } from "../../app/session";
import { useText } from "../../i18n/words";
import { Button } from "../../parts/Button";
import { Confirm } from "../../parts/Dialog";
import { Field } from "../../parts/Field";
import { useNotice } from "../../parts/Notice";
import { Panel } from "../../parts/Page";
import { ReasonField } from "../../parts/ReasonField";
import { Asked, Fault } from "../../parts/State";
import { networkFault } from "./network";
import { listOf, othersOf, useChange, type List } from "./policy";
import css from "./Response.module.css";

const GUARDED = ["own", "gateways", "resolvers", "manager", "ssh", "operators", "special", "wide"] as const;

export function Allow() {
  const text = useText();
  return (
    <div className="stack">
      <div className="grid two">
        <One list="allow" />
        <One list="trusted_proxies" />
      </div>
      <Panel title={text("response-guard")} about={text("response-guard-about")}>
        <ul className="grid">{GUARDED.map((what) => <li key={what}>{text(`response-guard-${what}`)}</li>)}</ul>
      </Panel>
    </div>
  );
}

function One({ list }: { list: Extract<List, "allow" | "trusted_proxies"> }) {
  const text = useText();
  const say = useNotice();
  const { can } = useSession();
  const query = useLayers();
  const change = useChange();
  const [typed, setTyped] = useState("");
  const [reason, setReason] = useState("");
  const [fault, setFault] = useState<string>();
  const [leaving, setLeaving] = useState<string>();
  const may = can("policies:write");

  const add = async (event: FormEvent, there: string[]) => {
    event.preventDefault();
    const value = typed.trim();
    const wrong = networkFault(value);
    if (wrong) return setFault(text(`response-network-${wrong}`));
    if (there.includes(value)) return setFault(text("response-network-there"));
    setFault(undefined);
    try {
      await change.mutateAsync({ reason, changes: [{ list, add: [value] }] });
      setTyped("");
      setReason("");
      say(text("response-allow-added", { value }));
    } catch {
      // Shown below; what was typed stays.
    }
  };
  const remove = async (value: string) => {
    await change.mutateAsync({ reason, changes: [{ list, remove: [value] }] });
    setReason("");
    say(text("response-allow-removed", { value }));
  };

  return (
    <Panel title={text(`response-${list}`)} about={text(`response-${list}-about`)}>
      <Asked query={query}>
        {(layers) => {
          const entries = listOf(layers, list);
          const others = othersOf(layers, list);
          return (
            <div className="stack">
              {may && (
                <form className={css.add} onSubmit={(event) => void add(event, entries)}>
                  <Field
                    label={text("response-network")} help={text("response-network-help")} value={typed} fault={fault} code validationBehavior="aria"
                    onChange={(value) => { setTyped(value); setFault(undefined); }} autoComplete="off"
                  />
                  {typed.trim() !== "" && <ReasonField value={reason} onChange={setReason} />}
                  <Button type="submit" icon={<Plus />} isPending={change.isPending} isDisabled={typed.trim() === ""}>{text("response-add")}</Button>
                </form>
              )}
              {change.error && leaving === undefined && <Fault error={change.error} />}
              {entries.length === 0 ? <p className="soft">{text(`response-${list}-none`)}</p> : (
                <ul className={css.entries}>
                  {entries.map((value) => (
                    <li key={value}>
                      <span className="mono">{value}</span>
                      {may && <Button weight="quiet" icon={<Trash2 />} label={text("response-remove", { value })} onPress={() => setLeaving(value)} />}
                    </li>
                  ))}
                </ul>
              )}
              {others.length > 0 && <p className="soft small">{text("response-allow-others", { layers: others.join(", ") })}</p>}
              <Confirm
                title={text("response-remove-title", { value: leaving ?? "" })} action={text("response-remove-do")} open={leaving !== undefined}
                onClose={() => setLeaving(undefined)} onConfirm={() => remove(leaving!)}
              >
                <p>{text("response-remove-what")}</p>
                <ReasonField value={reason} onChange={setReason} />
              </Confirm>
            </div>
          );
        }}
      </Asked>
    </Panel>
  );
}
