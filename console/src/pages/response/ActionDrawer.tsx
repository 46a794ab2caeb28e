// The whole record of one action: what was asked, why, what was there before, when each thing happened, who took it back.
import { Undo2 } from "lucide-react";
import { useState } from "react";
import { useSession } from "../../app/session";
import { useText } from "../../i18n/words";
import { Button } from "../../parts/Button";
import { Code } from "../../parts/Code";
import { Drawer } from "../../parts/Dialog";
import { Facts } from "../../parts/Page";
import { Asked, Badge } from "../../parts/State";
import { Moment } from "../../parts/Time";
import { useAction } from "./asked";
import { By, Cause } from "./Cause";
import { canBeUndone, isInEffect, lasts, targetKind, targetOf, type Action } from "./model";
import { toneOf, useNames } from "./names";
import { Reason } from "./sentences";
import { UndoOne } from "./Undo";
import css from "./Response.module.css";

export function ActionDrawer({ id, onClose }: { id: string | undefined; onClose: () => void }) {
  const text = useText();
  const names = useNames();
  const { can } = useSession();
  const query = useAction(id);
  const [undoing, setUndoing] = useState<Action>();
  const action = query.data;
  const undo = action && can("actions:undo") && canBeUndone(action);
  return (
    <>
      <Drawer
        title={action ? names.action(action.order.action) : text("response-action")} open={id !== undefined} onClose={onClose}
        foot={undo ? <Button icon={<Undo2 />} onPress={() => setUndoing(action)}>{text("response-undo")}</Button> : undefined}
      >
        <Asked query={query}>{(action) => <Record action={action} />}</Asked>
      </Drawer>
      <UndoOne action={undoing} onClose={() => setUndoing(undefined)} />
    </>
  );
}

function Record({ action }: { action: Action }) {
  const text = useText();
  const names = useNames();
  const { order } = action;
  const inputs = Object.entries(order.inputs);
  const time = (name: string, value: string | null) => value ? [text(name), <Moment key={name} time={value} />] as const : undefined;
  return (
    <div className="stack">
      <div className="row">
        <Badge tone={toneOf(action.state)}>{names.state(action.state)}</Badge>
        {order.probe && <Badge>{text("response-probe")}</Badge>}
        {lasts(order.action) && <Badge>{text("response-lasting")}</Badge>}
      </div>
      {action.reason && <p><Reason>{action.reason}</Reason></p>}
      <p className="soft">{text(lasts(order.action) ? "response-undo-never" : canBeUndone(action) ? "response-undo-can" : isInEffect(action) ? "response-undo-now" : "response-undo-over")}</p>
      <section className="stack tight">
        <h3>{text("response-order")}</h3>
        <Facts items={[
          [text("response-target"), <span className="mono" key="target">{targetOf(order)}</span>],
          [text("response-target-kind"), text(`response-target-${targetKind(order)}`)],
          [text("response-place"), names.place(action.place)],
          [text("response-cause"), <Cause key="cause" order={order} />],
          [text("response-by"), <By key="by" by={order.cause.by} />],
          order.cause.rule !== "" && [text("response-rule"), <span className="mono" key="rule">{order.cause.rule}</span>],
          order.via !== null && [text("response-via"), <span className="mono" key="via">{order.via}</span>],
          action.folded ? [text("response-folded"), text("response-folded-count", { count: action.folded })] : undefined,
          [text("response-id"), <span className="mono" key="id">{order.id}</span>],
        ]} />
      </section>
      <section className="stack tight">
        <h3>{text("response-times")}</h3>
        <Facts items={[
          time("response-planned", action.planned_at),
          time("response-done", action.done_at),
          time("response-expires", action.expires_at),
          time("response-expires-most", action.expires_at_most),
          action.prolonged > 0 && [text("response-prolonged"), text("response-prolonged-count", { count: action.prolonged })],
          time("response-confirm-by", action.confirm_by),
          time("response-ended", action.ended_at),
          action.undone_by !== null && [text("response-undone-by"), action.undone_by],
          time("response-grace", action.grace_until),
        ]} />
      </section>
      {inputs.length > 0 && (
        <section className="stack tight">
          <h3>{text("response-inputs")}</h3>
          <dl className={css.inputs}>
            {inputs.map(([name, value]) => <div key={name}><dt className="mono">{name}</dt><dd><Given label={name}>{value}</Given></dd></div>)}
          </dl>
        </section>
      )}
      {action.former && (
        <section className="stack tight">
          <h3>{text("response-former")}</h3>
          <p className="soft small">{text("response-former-about")}</p>
          <Given label={text("response-former")}>{action.former}</Given>
        </section>
      )}
      {order.cause.events.length > 0 && (
        <section className="stack tight">
          <h3>{text("response-events")}</h3>
          <ul className="mono small">{order.cause.events.map((event) => <li key={event}>{event}</li>)}</ul>
        </section>
      )}
    </div>
  );
}

/** What a machine wrote: JSON in order, anything else as it is. */
function Given({ label, children }: { label: string; children: string }) {
  try {
    const value: unknown = JSON.parse(children);
    if (value && typeof value === "object") return <Code value={JSON.stringify(value, null, 2)} language="json" label={label} readOnly maxHeight="16rem" />;
  } catch {
    // no JSON
  }
  return <span className="mono">{children}</span>;
}
