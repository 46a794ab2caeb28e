// Stopping all automatic answers, and letting them go on; and how far each host has heard of it.
import { OctagonPause, Play } from "lucide-react";
import { useState } from "react";
import { api, ask, type Schemas } from "../../api/client";
import { useHalt } from "../../app/installation";
import { useSession } from "../../app/session";
import { useFormat } from "../../i18n/format";
import { useText } from "../../i18n/words";
import { Button } from "../../parts/Button";
import { Confirm } from "../../parts/Dialog";
import { Field, Tick } from "../../parts/Field";
import { useNotice } from "../../parts/Notice";
import { Panel } from "../../parts/Page";
import { Dot } from "../../parts/State";
import { useAgain } from "./asked";

export function HaltButton() {
  const text = useText();
  const say = useNotice();
  const again = useAgain();
  const { can } = useSession();
  const { data } = useHalt();
  const [open, setOpen] = useState(false);
  const [reason, setReason] = useState("");
  const [undo, setUndo] = useState(false);
  if (!data || !can("halt:write")) return null;
  const send = async () => {
    if (data.halted) await ask(api.POST("/api/v1/halt/resume", { body: { reason } }));
    else await ask(api.POST("/api/v1/halt", { body: { reason, undo } }));
    say(text(data.halted ? "response-halt-resumed" : "response-halt-stopped"));
    setReason("");
    setUndo(false);
    again();
  };
  const way = data.halted ? "resume" : "halt";
  return (
    <>
      <Button weight={data.halted ? "primary" : "danger"} icon={data.halted ? <Play /> : <OctagonPause />} onPress={() => setOpen(true)}>
        {text(`response-${way}`)}
      </Button>
      <Confirm
        title={text(`response-${way}-title`)} action={text(`response-${way}-do`)} danger={!data.halted} open={open} onClose={() => setOpen(false)} onConfirm={send}
        isDisabled={!data.halted && reason.trim() === ""}
      >
        <p>{text(`response-${way}-what`)}</p>
        <Field label={text("response-halt-reason")} help={text("response-halt-reason-help")} value={reason} onChange={setReason} maxLength={200} />
        {!data.halted && <Tick value={undo} onChange={setUndo}>{text("response-halt-undo")}</Tick>}
        {!data.halted && <p className="soft small">{text(undo ? "response-halt-undo-about" : "response-halt-stays")}</p>}
      </Confirm>
    </>
  );
}

/** While it is halted: since when, and which hosts still act. */
export function HaltedPanel() {
  const text = useText();
  const format = useFormat();
  const { data } = useHalt();
  if (!data?.halted) return null;
  const heard = (host: Schemas["HostHalt"]) => Boolean(host.halted);
  return (
    <Panel title={text("response-halted")} about={data.at ? text("response-halted-since", { time: format.short(data.at), by: data.by, reason: data.reason || "—" }) : undefined}>
      <ul className="grid">
        {data.hosts.map((host) => (
          <li key={host.agent}>
            <Dot tone={heard(host) ? "good" : "care"}>
              {text(heard(host) ? "response-halted-host" : host.connected ? "response-halted-host-soon" : "response-halted-host-away", { host: host.name })}
            </Dot>
          </li>
        ))}
      </ul>
    </Panel>
  );
}
