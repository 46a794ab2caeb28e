// A question of an execution: what is asked, because of what, what each answer would do, until when it counts and what holds
// without one. Both answers ask once more, since the first no ends it and a yes acts.
import { Check, X } from "lucide-react";
import { useState } from "react";
import { Link } from "react-router";
import { api, ask } from "../../api/client";
import { useDrafted } from "../../app/drafts";
import { toExecution, toPlaybook } from "../../app/links";
import { useSession } from "../../app/session";
import { useFormat } from "../../i18n/format";
import { useText } from "../../i18n/words";
import { Button } from "../../parts/Button";
import { Confirm } from "../../parts/Dialog";
import { Field } from "../../parts/Field";
import { useNotice } from "../../parts/Notice";
import { Facts } from "../../parts/Page";
import { Badge } from "../../parts/State";
import { useNow } from "../../parts/Time";
import { useAgain, useExecution } from "./asked";
import { useBoxes } from "./boxes";
import { Because } from "./Cause";
import { lasts, type Execution, type Progress, type Question } from "./model";
import { useNames } from "./names";
import type { StepBox } from "./parse";
import css from "./Response.module.css";

interface Props {
  execution: Execution;
  place: string;
  step: Progress;
  question: Question;
  /** On the page of the execution itself, where the rest is told already. */
  bare?: boolean;
}

export function Answer({ execution, place, step, question, bare }: Props) {
  const text = useText();
  const names = useNames();
  const format = useFormat();
  const now = useNow(1_000);
  const { can } = useSession();
  const [answering, setAnswering] = useState<boolean>();
  const { data: detail } = useExecution(execution.id);
  const given = detail?.answers.filter((answer) => answer.step === place) ?? [];
  const left = step.until ? Math.max(0, Date.parse(step.until) - now) : undefined;
  return (
    <article className={css.card} aria-label={names.question(question)}>
      <div className="row apart">
        <h3>{names.question(question)}</h3>
        {left !== undefined && <Badge tone={left < 600_000 ? "person" : "care"}>{text("response-left-to-answer", { left: format.span(left) })}</Badge>}
      </div>
      <Facts items={[
        !bare && [text("response-playbook"), <Link key="playbook" to={toPlaybook(execution.playbook)}>{names.playbook(execution.playbook)}</Link>],
        !bare && [text("response-because"), <Because key="because" detail={{ execution, event: detail?.event ?? {} }} />],
        !bare && [text("response-execution"), <Link key="execution" to={toExecution(execution.id)}>{text("response-begun-at", { time: format.short(execution.started) })}</Link>],
        step.until !== undefined && [text("response-until"), format.short(step.until)],
        [text("response-silence"), text(`response-otherwise-${question.otherwise}`)],
        question.persons > 1 && [text("response-persons"), text("response-persons-of", { given: given.filter((one) => one.allow).length, persons: question.persons })],
        given.length > 0 && [text("response-answered"), given.map((one) => [text(one.allow ? "response-said-yes" : "response-said-no", { who: one.person }), one.comment].filter(Boolean).join(" — ")).join(" ")],
      ]} />
      <Ways detail={detail && { text: detail.text }} place={place} actionsOf={detail?.event} />
      {can("executions:answer") && (
        <div className="row">
          <Button icon={<Check />} onPress={() => setAnswering(true)}>{text("response-yes")}</Button>
          <Button icon={<X />} onPress={() => setAnswering(false)}>{text("response-no")}</Button>
        </div>
      )}
      {answering !== undefined && <Sure allow={answering} execution={execution} place={place} question={question} onClose={() => setAnswering(undefined)} />}
    </article>
  );
}

/** What follows from a yes and from a no. */
function Ways({ detail, place, actionsOf }: { detail?: { text: string }; place: string; actionsOf?: Record<string, unknown> }) {
  const text = useText();
  const { data: read } = useBoxes(detail?.text);
  if (!read) return null;
  const next = read.after(read.boxes, place);
  const asked = read.boxOf(read.boxes, place);
  const no = place === "quiet_hours" || place.endsWith("!limit") ? "stop" : asked?.onFailure ?? "stop";
  return (
    <div className={css.ways}>
      <div className={css.way}>
        <strong>{text("response-if-yes")}</strong>
        {next.length > 0 ? <ol>{next.map((box) => <Next key={box.place} box={box} event={actionsOf} />)}</ol> : <p>{text("response-if-yes-ends")}</p>}
      </div>
      <div className={css.way}>
        <strong>{text("response-if-no")}</strong>
        <p>{text(`response-if-no-${no}`)}</p>
      </div>
    </div>
  );
}

/** What an expression that only names a field gives; anything else is shown as it is written. */
function valueOf(target: string | undefined, event: Record<string, unknown> | undefined): string | undefined {
  if (!target?.startsWith("event.") || !/^[\w.]+$/.test(target)) return target;
  let value: unknown = event;
  for (const part of target.split(".").slice(1)) value = (value as Record<string, unknown> | undefined)?.[part];
  return typeof value === "string" ? value : target;
}

function Next({ box, event }: { box: StepBox; event?: Record<string, unknown> }) {
  const text = useText();
  const names = useNames();
  if (box.kind === "action") {
    const target = valueOf(box.target, event) ?? "";
    return (
      <li>
        {text("response-would-order", { action: names.action(box.action ?? ""), target })}{" "}
        {box.when && <span className="soft small">{text("response-only-when")} <code>{box.when}</code> </span>}
        {lasts(box.action ?? "") && box.action !== "notify" && <Badge tone="care">{text("response-lasting")}</Badge>}
      </li>
    );
  }
  if (box.kind === "approval") return <li>{text("response-would-ask", { channel: box.ask?.channel ?? "" })}</li>;
  if (box.kind === "wait") return <li>{text("response-wait", { time: box.wait ?? "" })}</li>;
  return (
    <li>
      {box.kind === "each" ? <>{text("response-each")} <code>{box.list}</code></> : text("response-parallel")}
      <ol>{box.steps.map((inner) => <Next key={inner.place} box={inner} event={event} />)}</ol>
    </li>
  );
}

function Sure({ allow, execution, place, question, onClose }: { allow: boolean; execution: Execution; place: string; question: Question; onClose: () => void }) {
  const text = useText();
  const names = useNames();
  const say = useNotice();
  const again = useAgain();
  const [comment, setComment, forget] = useDrafted(`answer.${execution.id}.${place}`);
  const answer = async () => {
    await ask(api.POST("/api/v1/executions/{id}/answer", { params: { path: { id: execution.id } }, body: { allow, step: place, comment: comment.trim() } }));
    forget();
    say(text(allow ? "response-answered-yes" : "response-answered-no"));
    again();
  };
  return (
    <Confirm title={names.question(question)} action={text(allow ? "response-yes" : "response-no")} open onClose={onClose} onConfirm={answer}>
      <p>{text(allow ? "response-sure-yes" : "response-sure-no", { name: names.playbook(execution.playbook) })}</p>
      <Field label={text("response-comment")} help={text("response-comment-about")} value={comment} onChange={setComment} lines={2} maxLength={330} />
    </Confirm>
  );
}

