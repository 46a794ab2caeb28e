// How things stand: waiting, failed, empty, and badges for the state of one thing.
import { AlertTriangle } from "lucide-react";
import type { ReactNode } from "react";
import { Problem } from "../api/client";
import { useText } from "../i18n/words";
import { Button } from "./Button";
import css from "./State.module.css";

/** Calm is grey; `person` is the red that only what needs a person wears, `urgent` the same before all else. */
export type Tone = "calm" | "good" | "lead" | "care" | "person" | "urgent";

export function Badge({ tone = "calm", children }: { tone?: Tone; children: ReactNode }) {
  return <span className={`${css.badge} ${css[tone]}`}>{children}</span>;
}

/** A dot and a word. The colour never says it alone. */
export function Dot({ tone = "calm", children }: { tone?: Tone; children: ReactNode }) {
  return <span className={`${css.dot} ${css[`${tone}-dot`]}`}>{children}</span>;
}

export function Waiting({ lines = 3 }: { lines?: number }) {
  const text = useText();
  return (
    <div className="stack tight" role="status" aria-label={text("loading")}>
      {Array.from({ length: lines }, (_, line) => <div key={line} className={css.bone} data-last={line === lines - 1} />)}
    </div>
  );
}

/** What went wrong, in the manager's words, and a way to try again. */
export function Fault({ error, onRetry }: { error: unknown; onRetry?: () => void }) {
  const text = useText();
  const problem = error instanceof Problem ? error : undefined;
  const title = !problem ? text("fault-unknown") : problem.away ? text("fault-away") : problem.title || text("fault-unknown");
  return (
    <div className={css.fault} role="alert">
      <AlertTriangle size={18} aria-hidden />
      <div className="stack tight grow">
        <strong>{title}</strong>
        {problem?.detail && <span>{problem.detail}</span>}
        {problem?.faults.map((fault) => (
          <span key={fault.place + fault.reason}><code>{fault.place}</code> {fault.reason}</span>
        ))}
        {problem && !problem.away && <span className="soft small mono">{problem.code}</span>}
        {!problem && <span className="soft small">{String(error)}</span>}
      </div>
      {onRetry && <Button onPress={onRetry}>{text("retry")}</Button>}
    </div>
  );
}

/** A page or list without content says what to do first. */
export function Empty({ icon, title, children, action }: { icon?: ReactNode; title: string; children?: ReactNode; action?: ReactNode }) {
  return (
    <div className={css.empty}>
      {icon && <div className={css.picture} aria-hidden>{icon}</div>}
      <h2>{title}</h2>
      {children && <div className={css.words}>{children}</div>}
      {action}
    </div>
  );
}

interface Query<T> {
  data: T | undefined;
  error: unknown;
  refetch: () => unknown;
}

/** Waiting, failed, or the content. What is there already stays on the page while the manager is away. */
export function Asked<T>({ query, lines, children }: { query: Query<T>; lines?: number; children: (data: T) => ReactNode }) {
  if (query.data !== undefined) return children(query.data);
  if (query.error) return <Fault error={query.error} onRetry={() => void query.refetch()} />;
  return <Waiting lines={lines} />;
}
