// Why something was done: who asked for it, and the alert behind it.
import { Link } from "react-router";
import { toAlert, toPlaybook } from "../../app/links";
import { useText } from "../../i18n/words";
import { Badge } from "../../parts/State";
import { alertOf, type Order } from "./model";
import { useNames } from "./names";

export function Cause({ order }: { order: Pick<Order, "cause" | "probe"> }) {
  const text = useText();
  const { cause } = order;
  const alert = alertOf(cause.alert);
  const title = cause.title || cause.rule;
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
