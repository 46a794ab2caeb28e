// What waits for a person: questions of playbooks, provisional actions of hosts, orders that lack operators' signatures.
import { CircleCheck } from "lucide-react";
import { useState } from "react";
import { api, ask, type Schemas } from "../../api/client";
import { useSession } from "../../app/session";
import { useFormat } from "../../i18n/format";
import { useText } from "../../i18n/words";
import { Button } from "../../parts/Button";
import { Confirm } from "../../parts/Dialog";
import { Copy } from "../../parts/Copy";
import { useNotice } from "../../parts/Notice";
import { Facts, Panel } from "../../parts/Page";
import { Asked, Badge, Empty } from "../../parts/State";
import { Moment, useNow } from "../../parts/Time";
import { Answer } from "./Answer";
import { useAgain, useInEffect, useOrders, useWaitingExecutions } from "./asked";
import { By, Cause } from "./Cause";
import { isProvisional, questionsOf, targetOf, type Action, type Order } from "./model";
import { useNames } from "./names";
import { UndoOne } from "./Undo";
import css from "./Response.module.css";

/** All that waits, and how many there are of it. */
export function useWaiting() {
  const executions = useWaitingExecutions();
  const inEffect = useInEffect();
  const orders = useOrders();
  const questions = (executions.data ?? []).flatMap((execution) => questionsOf(execution).map((question) => ({ execution, ...question })));
  questions.sort((a, b) => (a.step.until ?? "").localeCompare(b.step.until ?? ""));
  const provisional = (inEffect.data?.items ?? []).filter(isProvisional);
  const waiting = orders.data?.items ?? [];
  return { executions, inEffect, orders, questions, provisional, waiting, count: questions.length + provisional.length + waiting.length };
}

export function Waiting() {
  const text = useText();
  const { executions, inEffect, orders, questions, provisional, waiting, count } = useWaiting();
  const asked = { data: executions.data && inEffect.data && orders.data ? count : undefined, error: executions.error ?? inEffect.error ?? orders.error, refetch: () => [executions, inEffect, orders].forEach((query) => void query.refetch()) };
  return (
    <Asked query={asked}>
      {(count) => count === 0 ? (
        <Panel><Empty icon={<CircleCheck />} title={text("response-waiting-none")}>{text("response-waiting-none-about")}</Empty></Panel>
      ) : (
        <div className="stack">
          {questions.length > 0 && (
            <Panel title={text("response-questions")} about={text("response-questions-about")} flush>
              {questions.map((one) => <Answer key={one.execution.id + one.place} {...one} />)}
            </Panel>
          )}
          {provisional.length > 0 && (
            <Panel title={text("response-provisional-title")} about={text("response-provisional-about")} flush>
              {provisional.map((action) => <Provisional key={action.order.id} action={action} />)}
            </Panel>
          )}
          {waiting.length > 0 && (
            <Panel title={text("response-orders")} about={text("response-orders-about")} flush>
              {waiting.map((order) => <Lacking key={order.id + order.kind} order={order} />)}
            </Panel>
          )}
        </div>
      )}
    </Asked>
  );
}

function Provisional({ action }: { action: Action }) {
  const text = useText();
  const names = useNames();
  const format = useFormat();
  const say = useNotice();
  const again = useAgain();
  const now = useNow(1_000);
  const { can } = useSession();
  const [keeping, setKeeping] = useState(false);
  const [undoing, setUndoing] = useState<Action>();
  const { order } = action;
  const what = { action: names.action(order.action), target: targetOf(order), place: names.place(action.place) };
  const keep = async () => {
    await ask(api.POST("/api/v1/actions/{id}/confirm", { params: { path: { id: order.id } } }));
    say(text("response-confirmed", what));
    again();
  };
  return (
    <article className={css.card}>
      <div className="row apart">
        <h3>{text("response-action-on", what)}</h3>
        <Badge tone="person">{text("response-left-to-answer", { left: format.span(Math.max(0, Date.parse(action.confirm_by!) - now)) })}</Badge>
      </div>
      <Facts items={[
        [text("response-place"), what.place],
        [text("response-cause"), <Cause key="cause" order={order} />],
        [text("response-by"), <By key="by" by={order.cause.by} />],
        [text("response-until"), <Moment key="until" time={action.confirm_by} />],
        [text("response-silence"), text("response-provisional-silence")],
      ]} />
      <div className="row">
        {can("actions:order") && <Button onPress={() => setKeeping(true)}>{text("response-confirm")}</Button>}
        {can("actions:undo") && <Button onPress={() => setUndoing(action)}>{text("response-undo")}</Button>}
      </div>
      <Confirm title={text("response-confirm-title")} action={text("response-confirm")} open={keeping} onClose={() => setKeeping(false)} onConfirm={keep}>
        <p>{text("response-confirm-what", what)}</p>
      </Confirm>
      <UndoOne action={undoing} onClose={() => setUndoing(undefined)} />
    </article>
  );
}

/** An order or an undo that its host carries out only with operators' signatures. They sign elsewhere: keys never come here. */
function Lacking({ order }: { order: Schemas["WaitingOrder"] }) {
  const text = useText();
  const names = useNames();
  const content = order.content as Partial<Order> & { by?: string };
  const commands = [
    `sakimori operator export ${order.id} > order.json`,
    "sakimori operator sign --key operator.key order.json > signed.json",
    "sakimori operator submit signed.json",
  ].join("\n");
  const isOrder = order.kind === "order" && content.target !== undefined;
  return (
    <article className={css.card}>
      <div className="row apart">
        <h3>{isOrder ? text("response-action-on", { action: names.action(content.action ?? ""), target: targetOf({ target: content.target! }) }) : text("response-orders-undo", { id: order.id })}</h3>
        <Badge tone={order.lacks > 0 ? "person" : "care"}>{order.lacks > 0 ? text("response-orders-lacks", { count: order.lacks }) : text("response-orders-unheard")}</Badge>
      </div>
      <Facts items={[
        [text("response-place"), names.place(order.agent)],
        [text("response-since"), <Moment key="since" time={order.created} />],
        content.cause && [text("response-cause"), <Cause key="cause" order={{ cause: content.cause, probe: content.probe ?? false }} />],
        [text("response-by"), content.cause ? <By key="by" by={content.cause.by} /> : content.by ?? "—"],
        [text("response-orders-signed"), order.signed.length > 0 ? order.signed.join(", ") : text("none")],
        [text("response-orders-signers"), order.signers.length > 0 ? order.signers.map((signer) => signer.split(" ")[0]).join(", ") : text("response-orders-unheard")],
      ]} />
      <p className="soft small">{text("response-orders-how")}</p>
      <Copy label={text("response-orders-commands")}>{commands}</Copy>
    </article>
  );
}
