// Why the rule fired: its text, what it counts, and of each event behind the alert the parts that matched, marked.
import { useQuery } from "@tanstack/react-query";
import { Check, X } from "lucide-react";
import type { ReactNode } from "react";
import { api, ask, type Schemas } from "../../api/client";
import { shown } from "../../api/document";
import { useFormat } from "../../i18n/format";
import { useText, useWords } from "../../i18n/words";
import { Copy } from "../../parts/Copy";
import { Asked, Badge } from "../../parts/State";
import { Moment } from "../../parts/Time";
import css from "./Search.module.css";

export function Why({ alert }: { alert: string }) {
  const text = useText();
  const { language } = useWords();
  const format = useFormat();
  const query = useQuery({
    queryKey: ["alerts", alert, "why"],
    queryFn: () => ask(api.GET("/api/v1/alerts/{id}/why", { params: { path: { id: alert } } })),
  });
  return (
    <Asked query={query} lines={6}>
      {(why) => (
        <div className="stack">
          <div>
            <h3>{(language === "ja" && why.rule.title_ja) || why.rule.title || why.rule.id}</h3>
            <p className="soft small"><span className="mono">{why.rule.id}</span>{why.rule.version && ` · ${text("search-version", { version: why.rule.version })}`}</p>
          </div>
          {why.counting && (
            <p>{text("search-counting-rule", { count: why.counting.count, span: format.span(why.counting.seconds * 1_000), group: why.counting.group || "—", rules: why.counting.rules.join(", ") })}</p>
          )}
          {why.events.map((event) => <Judged key={event.id} event={event} />)}
          {why.contents.length > 0 && <Contents contents={why.contents} kept={why.kept} />}
          {why.missing.map((missing) => <p key={missing} className="soft">{missing}</p>)}
          {why.rule.text && (
            <section className="stack tight">
              <h3>{text("search-rule-text")} <span className="soft small mono">{why.rule.file}{why.rule.line ? `:${why.rule.line}` : ""}</span></h3>
              <Copy label={text("search-rule-text")}>{why.rule.text}</Copy>
            </section>
          )}
        </div>
      )}
    </Asked>
  );
}

function Judged({ event }: { event: Schemas["WhyEvent"] }) {
  const text = useText();
  return (
    <section className={css.event}>
      <p className="soft small"><Moment time={event.time} /></p>
      <p className={css.line}>{event.line}</p>
      {event.judged.map((judged) => (
        <div key={judged.rule}>
          {judged.tests.filter((test) => test.matched !== test.negated).map((test, index) => (
            <div key={index} className={css.test}>
              <span>{test.matched ? <Check size={14} aria-label={text("search-matched")} /> : <X size={14} aria-label={text("search-not-matched")} />}</span>
              <span>
                <Badge>{test.selection}</Badge> <span className="mono">{test.field ?? text("search-any-field")}</span>{" "}
                <span className="soft small">{test.test} {test.pattern}</span>
                <br />
                <span className={css.line}><Marked value={test.value} spans={test.spans} /></span>
              </span>
            </div>
          ))}
        </div>
      ))}
    </section>
  );
}

/** A value with the matched parts marked. */
function Marked({ value, spans }: { value: unknown; spans: Schemas["WhySpan"][] }) {
  const values = Array.isArray(value) ? value : [value];
  return values.map((one, index) => {
    const line = shown(one);
    const parts: ReactNode[] = [];
    let end = 0;
    for (const span of spans.filter((span) => span.value === index).sort((a, b) => a.from - b.from)) {
      if (span.from < end) continue;
      parts.push(line.slice(end, span.from), <mark key={span.from} className={css.mark}>{line.slice(span.from, span.to)}</mark>);
      end = span.to;
    }
    return <span key={index}>{parts}{line.slice(end)} </span>;
  });
}

/** Of a network rule: its contents, and where in what the alert keeps they lie. */
function Contents({ contents, kept }: { contents: Schemas["WhyContent"][]; kept: Schemas["WhyKept"][] }) {
  const text = useText();
  return (
    <section className="stack tight">
      <h3>{text("search-contents")}</h3>
      {contents.map((content, index) => (
        <p key={index} className={css.line}>
          <Badge>{content.buffer}</Badge> {content.negated && "!"}{content.written}{" "}
          <span className="soft small">{content.place ? `${content.place} ${content.from}–${content.to}` : text("search-not-kept")}</span>
        </p>
      ))}
      {kept.map((kept) => {
        const spans = contents.filter((content) => content.place === kept.name && content.from != null && content.to != null)
          .map((content) => ({ field: kept.name, value: 0, from: content.from!, to: content.to! }));
        return (
          <div key={kept.name}>
            <span className="soft small mono">{kept.name}</span>
            <p className={css.line}><Marked value={kept.printable} spans={spans} /></p>
          </div>
        );
      })}
    </section>
  );
}
