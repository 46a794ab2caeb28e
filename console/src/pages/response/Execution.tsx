// One execution, step by step: what each did and waits for, the questions and their answers, and taking all of it back.
import { Undo2 } from "lucide-react";
import { useState } from "react";
import { Link, useParams } from "react-router";
import { toAction, toPlaybook, toResponse } from "../../app/links";
import { useSession } from "../../app/session";
import { useFormat } from "../../i18n/format";
import { useText } from "../../i18n/words";
import { Button } from "../../parts/Button";
import { Code } from "../../parts/Code";
import { Facts, Page, Panel } from "../../parts/Page";
import { Asked, Badge, Dot } from "../../parts/State";
import { Moment } from "../../parts/Time";
import { Answer } from "./Answer";
import { useExecution } from "./asked";
import { useBoxes } from "./boxes";
import { Because, By } from "./Cause";
import { Graph } from "./Graph";
import { canBeUndone, isOver, questionsOf, targetOf, type ExecutionDetail, type Progress } from "./model";
import { toneOf, useNames } from "./names";
import { Reason } from "./sentences";
import { UndoExecution } from "./Undo";
import css from "./Response.module.css";

export default function ExecutionPage() {
  const text = useText();
  const { id = "" } = useParams();
  const query = useExecution(id);
  if (query.data) return <One detail={query.data} />;
  return <Page title={text("response-execution")}><Asked query={query}>{() => null}</Asked></Page>;
}

function One({ detail }: { detail: ExecutionDetail }) {
  const text = useText();
  const names = useNames();
  const { can } = useSession();
  const [undoing, setUndoing] = useState(false);
  const { execution } = detail;
  const questions = questionsOf(execution);
  const back = !["undone", "compensated"].includes(execution.state) && !detail.undo && (detail.actions.some(canBeUndone) || !isOver(execution));
  const undo = can("executions:undo") && back && <Button weight="danger" icon={<Undo2 />} onPress={() => setUndoing(true)}>{text("response-undo-execution")}</Button>;
  return (
    <Page title={names.playbook(execution.playbook)} about={<Link to={toResponse("executions")}>{text("response-executions")}</Link>} actions={undo}>
      <Panel>
        <div className={css.wide}><Facts items={[
          [text("response-state"), questions.length > 0 ? <Badge key="state" tone="person">{text("response-asks")}</Badge> : <Dot key="state" tone={toneOf(execution.state)}>{names.ends(execution.state)}</Dot>],
          execution.reason !== null && [text("response-reason"), <Reason key="reason">{execution.reason}</Reason>],
          [text("response-begun"), <Moment key="begun" time={execution.started} />],
          [text("response-by"), <By key="by" by={execution.by} />],
          [text("response-because"), <Because key="because" detail={detail} />],
          [text("response-playbook"), <Link key="playbook" to={toPlaybook(execution.playbook)}>{names.playbook(execution.playbook)}</Link>],
          detail.undo !== "" && [text("response-undone-by"), detail.undo],
          [text("response-id"), <span className="mono" key="id">{execution.id}</span>],
        ]} /></div>
      </Panel>
      {questions.length > 0 && (
        <Panel title={text("response-questions")} flush>
          {questions.map((one) => <Answer key={one.place} execution={execution} {...one} bare />)}
        </Panel>
      )}
      <Steps detail={detail} />
      <Drawn detail={detail} />
      <UndoExecution id={execution.id} open={undoing} onClose={() => setUndoing(false)} />
    </Page>
  );
}

function Steps({ detail }: { detail: ExecutionDetail }) {
  const text = useText();
  const steps = Object.entries(detail.execution.steps).sort(([, a], [, b]) => a.number - b.number);
  return (
    <Panel title={text("response-tab-steps")} flush>
      {steps.length === 0 ? <p className={css.card}>{text("response-no-steps")}</p> : (
        <ol className={css.steps}>{steps.map(([place, step]) => <Step key={place} place={place} step={step} detail={detail} />)}</ol>
      )}
    </Panel>
  );
}

function Step({ place, step, detail }: { place: string; step: Progress; detail: ExecutionDetail }) {
  const text = useText();
  const names = useNames();
  const format = useFormat();
  const { data: read } = useBoxes(detail.text);
  const box = read?.boxOf(read.boxes, place);
  const action = detail.actions.find((action) => action.order.id === step.action);
  const answers = detail.answers.filter((answer) => answer.step === place);
  const title = step.question ? text("response-step-question")
    : place === "quiet_hours" ? text("response-quiet")
    : place.endsWith("!limit") ? text("response-limits")
    : action || box?.kind === "action" ? names.action(action?.order.action ?? box?.action ?? "")
    : box?.kind === "approval" ? text("response-approval")
    : box?.kind === "parallel" ? text("response-parallel")
    : box?.kind === "each" ? text("response-step-each", { count: step.items?.length ?? 0 })
    : box?.kind === "wait" ? text("response-wait", { time: box.wait ?? "" })
    : text("response-unknown-step");
  return (
    <li>
      <span className="stack tight">
        <Dot tone={toneOf(step.state)}>{step.question && step.state === "failed" ? names.ends("denied") : names.state(step.state)}</Dot>
      </span>
      <div className="stack tight">
        <span className="row">
          <strong>{title}</strong>
          {action && <span className="mono">{targetOf(action.order)}</span>}
          {box?.name && <code className="soft">{box.name}</code>}
          {action && <Link to={toAction(action.order.id)}>{text("response-to-action")}</Link>}
        </span>
        {step.question && <q>{names.question(step.question)}</q>}
        {step.reason && <span className="soft"><Reason>{step.reason}</Reason></span>}
        {answers.map((answer) => <span key={answer.person} className="small">{text(answer.allow ? "response-said-yes-at" : "response-said-no-at", { who: answer.person, time: format.short(answer.time) })}{answer.comment && <q className={css.comment}>{answer.comment}</q>}</span>)}
        {step.retries > 0 && <span className="small soft">{text("response-step-retries", { count: step.retries })}</span>}
        {step.until && ["waiting", "ordered"].includes(step.state) && <span className="small soft">{text("response-step-until", { time: format.short(step.until) })}</span>}
        {step.items && step.items.length > 0 && <span className="small mono soft">{step.items.slice(0, 20).join(", ")}</span>}
      </div>
      <span className="soft small"><Moment time={step.since} /></span>
    </li>
  );
}

/** The playbook as it was when this began, with what became of its steps. */
function Drawn({ detail }: { detail: ExecutionDetail }) {
  const text = useText();
  const names = useNames();
  const read = useBoxes(detail.text || undefined);
  if (!detail.text) return null;
  const { steps } = detail.execution;
  return (
    <div className={css.beside}>
      <Panel title={text("response-graph")} about={text("response-graph-then")}>
        <Asked query={read}>
          {({ boxes }) => (
            <Graph boxes={boxes} stateOf={(box) => {
              const step = steps[box.place];
              return step && { words: step.question && step.state === "failed" ? names.ends("denied") : names.state(step.state), tone: toneOf(step.state) };
            }} />
          )}
        </Asked>
      </Panel>
      <Panel title={text("response-text")}>
        <Code value={detail.text} language="yaml" label={text("response-text")} readOnly maxHeight="60vh" />
      </Panel>
    </div>
  );
}
