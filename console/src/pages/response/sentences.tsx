// The manager's sentences, which are English, in the user's language: those that it says often have words here, all others stay
// as they are and are marked as English.
import { Fragment, type ReactNode } from "react";
import { useFormat } from "../../i18n/format";
import { useWords } from "../../i18n/words";
import { useNames } from "./names";

const REASONS: readonly [RegExp, string][] = [
  [/^its condition is false$/, "condition"],
  [/^allowed by (.+)$/, "allowed"],
  [/^denied by (.+)$/, "denied"],
  [/^nobody answered in time$/, "silence"],
  [/^nobody answered; that allows it$/, "silence-allows"],
  [/^the question could not be sent to anybody$/, "unsent"],
  [/^taken back by (.+)$/, "taken-back"],
  [/^its stop condition holds$/, "stops"],
  [/^it took longer than its time-out$/, "late"],
  [/^its host did not take the order in time$/, "host-late"],
  [/^the probe is answered$/, "probe-over"],
  [/^what follows from a probe stays on the host$/, "probe-stays"],
  [/^(?:no effect: )?cloud actions are off until cloud\.waf is configured$/, "cloud-off"],
];

/** A reason, as far as there are words for it. */
export function Reason({ children }: { children?: string | null }): ReactNode {
  const { text, language } = useWords();
  if (!children) return null;
  if (language === "en") return children;
  for (const [form, key] of REASONS) {
    const found = form.exec(children);
    if (found) return text(`response-reason-${key}`, { who: found[1] ?? "" });
  }
  return <span lang="en">{children}</span>;
}

/** What a dry run says of one step. */
export function Would({ children }: { children: string }): ReactNode {
  const { text } = useWords();
  const names = useNames();
  const format = useFormat();
  const say = (form: RegExp, words: (found: RegExpExecArray) => ReactNode) => {
    const found = form.exec(children);
    return found && words(found);
  };
  return (
    say(/^ask (.+), and go on if it is allowed$/, ([, channel]) => text("response-would-ask", { channel: channel! }))
    ?? say(/^wait until (\S+)$/, ([, time]) => text("response-would-wait", { time: format.short(time!) }))
    ?? say(/^take back (.+)$/, ([, id]) => text("response-would-back", { id: id! }))
    ?? say(/^(skipped|failed): (.*)$/s, ([, state, reason]) => <Fragment>{text(`response-would-${state}`)} <Reason>{reason}</Reason></Fragment>)
    ?? say(/^([a-z_]+) (.+?)(?: until (\d{4}-\S+?Z))?(; cannot be taken back)?$/s, ([, action, target, end, lasting]) => {
      const key = end ? "response-would-until" : "response-would-order";
      const said = text(key, { action: names.action(action!), target: target!, end: end ? format.short(end) : "" });
      return lasting ? <Fragment>{said} <em>{text("response-would-lasting")}</em></Fragment> : said;
    })
    ?? <span lang="en">{children}</span>
  );
}
