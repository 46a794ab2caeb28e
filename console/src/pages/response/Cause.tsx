// Why something was done: who asked for it, and the alert behind it.
import { Link } from "react-router";
import { useAlertTitle, useRuleTitle } from "../../app/installation";
import { toAlert, toPlaybook } from "../../app/links";
import { useText } from "../../i18n/words";
import { Badge } from "../../parts/State";
import { alertOf, type ExecutionDetail, type Order } from "./model";
import { useNames } from "./names";

export function Cause({ order }: { order: Pick<Order, "cause" | "probe"> }) {
  const text = useText();
  const titleOf = useRuleTitle();
  const { cause } = order;
  const alert = alertOf(cause.alert);
  const title = titleOf(cause.rule, cause.title);
  return (
    <span className="row">
      {alert ? <Link to={toAlert(alert)}>{title || text("response-alert")}</Link> : title || text("response-by-hand")}
      {order.probe && <Badge>{text("response-probe")}</Badge>}
    </span>
  );
}

/** Who asked: a playbook as a link, or a person. */
export function By({ by }: { by: string }) {
  const names = useNames();
  return by.startsWith("playbook:") ? <Link to={toPlaybook(by.slice(9))}>{names.by(by)}</Link> : <>{names.by(by)}</>;
}

/** The alert or the event that began it, with what it speaks of. */
export function Because({ detail }: { detail: Pick<ExecutionDetail, "execution" | "event"> }) {
  const text = useText();
  const titleOf = useAlertTitle();
  const { execution, event } = detail;
  const part = (name: string, key: string) => {
    const value = (event[name] as Record<string, unknown> | undefined)?.[key];
    return typeof value === "string" ? value : "";
  };
  const title = titleOf(event) || text("response-alert");
  const about = [part("source", "ip"), part("host", "name"), part("user", "name")].filter(Boolean);
  if (!execution.alert && Object.keys(event).length === 0) return <>{text("response-no-event")}</>;
  return (
    <span className="row">
      {execution.alert ? <Link to={toAlert(execution.alert)}>{title}</Link> : title}
      {about.map((value) => <span key={value} className="mono soft">{value}</span>)}
    </span>
  );
}
