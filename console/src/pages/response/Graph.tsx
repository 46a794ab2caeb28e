// A playbook drawn: what bounds it as a strip, its steps as boxes from above, those beside each other side by side, those of a
// list in a frame, what follows a failure as a branch at the side. It is a nested list, and is read so without the drawing.
import { Clock, CornerDownRight, MessageCircleQuestion, Repeat, Rows3, ShieldAlert, Undo2, Zap } from "lucide-react";
import type { ReactNode } from "react";
import { useNamed, useText } from "../../i18n/words";
import { Badge, type Tone } from "../../parts/State";
import { lasts } from "./model";
import { useNames } from "./names";
import type { Boxes, StepBox } from "./parse";
import css from "./Graph.module.css";

interface Props {
  boxes: Boxes;
  /** The box whose lines are shown beside. */
  current?: string;
  onChoose?: (box: StepBox) => void;
  /** What became of a step, where an execution is shown. */
  stateOf?: (box: StepBox) => { words: string; tone: Tone } | undefined;
}

export function Graph({ boxes, ...rest }: Props) {
  const text = useText();
  return (
    <div className={css.graph}>
      <Bounds boxes={boxes} />
      <p className={css.begin}><Zap size={16} aria-hidden /> <Begins boxes={boxes} /></p>
      <Steps steps={boxes.steps} label={text("response-graph")} {...rest} />
    </div>
  );
}

function Begins({ boxes }: { boxes: Boxes }) {
  const text = useText();
  const names = useNames();
  const named = useNamed();
  const { kind, facts } = boxes.trigger;
  return (
    <span className="stack tight">
      <strong>{names.trigger(kind)}</strong>
      {facts.filter((fact) => fact.name !== "scope").map((fact) => (
        <span key={fact.name} className="small"><span className="soft">{named("response-trigger-fact", fact.name)}</span> <span className="mono">{fact.name === "severity_at_least" ? names.severity(fact.value) : fact.value}</span></span>
      ))}
      {boxes.when && <span className="small"><span className="soft">{text("response-when")}</span> <code>{boxes.when}</code></span>}
    </span>
  );
}

/** What bounds it: limits, quiet hours, when it stops. */
function Bounds({ boxes }: { boxes: Boxes }) {
  const text = useText();
  const named = useNamed();
  const { limits, quiet, stopWhen } = boxes;
  if (!limits && !quiet && !stopWhen) return null;
  return (
    <dl className={css.bounds}>
      {limits && (
        <div>
          <dt>{text("response-limits")}</dt>
          <dd>
            {limits.most && <span>{text("response-limits-most", { most: limits.most, within: limits.within })}</span>}
            {limits.share && <span>{text("response-limits-share", { share: limits.share, within: limits.within })}</span>}
            <span className="soft">{limits.ask ? text("response-limits-ask", { channel: limits.ask }) : text("response-limits-refuse")}</span>
          </dd>
        </div>
      )}
      {quiet && (
        <div>
          <dt>{text("response-quiet")}</dt>
          <dd>
            <span>{text("response-quiet-hours", { from: quiet.from, to: quiet.to, zone: quiet.zone })}</span>
            <span className="soft">{named("response-quiet", quiet.then)}</span>
          </dd>
        </div>
      )}
      {stopWhen && <div><dt>{text("response-stop-when")}</dt><dd><code>{stopWhen}</code></dd></div>}
    </dl>
  );
}

function Steps({ steps, label, beside, ...rest }: Omit<Props, "boxes"> & { steps: StepBox[]; label: string; beside?: boolean }) {
  return (
    <ol className={beside ? css.beside : css.steps} aria-label={label}>
      {steps.map((box) => <li key={box.place} className={css.step}><Step box={box} {...rest} /></li>)}
    </ol>
  );
}

function Step({ box, ...rest }: Omit<Props, "boxes"> & { box: StepBox }) {
  const text = useText();
  return (
    <>
      {box.when && <p className={css.when}><CornerDownRight size={14} aria-hidden /> {text("response-only-when")} <code>{box.when}</code></p>}
      <div className={css.pair}>
        <Box box={box} {...rest} />
        {box.onFailure !== "continue" && box.kind !== "wait" && <Failure of={box.kind} way={box.onFailure} />}
      </div>
    </>
  );
}

/** The way at the side: what happens where it fails, or where the answer is no. */
function Failure({ of, way }: { of: StepBox["kind"]; way: Exclude<StepBox["onFailure"], "continue"> }) {
  const text = useText();
  const kind = of === "approval" ? "no" : "failure";
  return (
    <p className={css.failure} data-way={way}>
      {way === "undo" ? <Undo2 size={14} aria-hidden /> : <ShieldAlert size={14} aria-hidden />}
      <span>{text(`response-on-${kind}-${way}`)}</span>
    </p>
  );
}

function Box({ box, current, onChoose, stateOf }: Omit<Props, "boxes"> & { box: StepBox }) {
  const text = useText();
  const names = useNames();
  const rest = { current, onChoose, stateOf };
  const state = stateOf?.(box);
  const head = (icon: ReactNode, title: ReactNode) => {
    const inner = (
      <>
        <span className={css.icon} aria-hidden>{icon}</span>
        <span className="grow">{title}</span>
        {box.name && <code className={css.name}>{box.name}</code>}
        {state && <Badge tone={state.tone}>{state.words}</Badge>}
      </>
    );
    return onChoose ? (
      <button type="button" className={css.head} aria-pressed={current === box.place} onClick={() => onChoose(box)}>{inner}</button>
    ) : <div className={css.head}>{inner}</div>;
  };
  const facts = (
    <>
      {box.facts.map((fact) => <span key={fact.name} className="small"><span className="soft">{text(`response-fact-${fact.name}`)}</span> <span className="mono">{fact.value}</span></span>)}
      {box.inputs.map((input) => <span key={input.name} className="small"><span className="soft mono">{input.name}</span> {input.computed ? <code>{input.value}</code> : <span className="mono">{input.value}</span>}</span>)}
    </>
  );
  const frame = (look: string, content: ReactNode) => <div className={`${css.box} ${look}`} data-current={current === box.place}>{content}</div>;

  switch (box.kind) {
    case "action":
      return frame(css.action!, (
        <>
          {head(<Zap size={16} />, <strong>{names.action(box.action ?? "")}</strong>)}
          <div className={css.facts}>
            {box.target && <span className="small"><span className="soft">{text("response-on-target")}</span> <code>{box.target}</code></span>}
            {facts}
            {lasts(box.action ?? "") && box.action !== "notify" && <Badge tone="care">{text("response-lasting")}</Badge>}
          </div>
        </>
      ));
    case "approval":
      return frame(css.approval!, (
        <>
          {head(<MessageCircleQuestion size={16} />, <strong>{text("response-approval")}</strong>)}
          {box.ask && (
            <div className={css.facts}>
              <q>{names.question(box.ask.text)}</q>
              <span className="small soft">{text("response-approval-asks", { channel: box.ask.channel, persons: box.ask.persons, within: box.ask.within })}</span>
              <span className="small soft">{text(`response-otherwise-${box.ask.otherwise}`)}</span>
            </div>
          )}
        </>
      ));
    case "wait":
      return frame(css.wait!, head(<Clock size={16} />, text("response-wait", { time: box.wait ?? "" })));
    case "parallel":
      return frame(css.frame!, <>{head(<Rows3 size={16} />, text("response-parallel"))}<Steps steps={box.steps} label={text("response-parallel")} beside {...rest} /></>);
    case "each":
      return frame(css.frame!, (
        <>
          {head(<Repeat size={16} />, <>{text("response-each")} <code>{box.list}</code></>)}
          <div className={css.facts}>{facts}</div>
          <Steps steps={box.steps} label={text("response-each")} {...rest} />
        </>
      ));
    default:
      return frame(css.wait!, head(<ShieldAlert size={16} />, text("response-unknown-step")));
  }
}
