// Rules that speak too often, the loudest first; for each what most of its alerts share, and an exception that would help.
import { useQuery } from "@tanstack/react-query";
import { Volume2 } from "lucide-react";
import { useState } from "react";
import { Link } from "react-router";
import { api, ask, type Schemas } from "../../api/client";
import { useRuleTitle } from "../../app/installation";
import { toRule } from "../../app/links";
import { useSession } from "../../app/session";
import { useFormat } from "../../i18n/format";
import { useText } from "../../i18n/words";
import { Button } from "../../parts/Button";
import { Choose } from "../../parts/Field";
import { Panel } from "../../parts/Page";
import { Asked, Empty } from "../../parts/State";
import { Except } from "./Except";
import css from "./Rules.module.css";

const DAYS = ["1", "7", "30"] as const;

export function Noisy() {
  const text = useText();
  const format = useFormat();
  const { can } = useSession();
  const title = useRuleTitle();
  const [days, setDays] = useState<(typeof DAYS)[number]>("7");
  const [except, setExcept] = useState<Schemas["NoisyRule"]>();
  const noisy = useQuery({ queryKey: ["rules", "noisy", days], queryFn: () => ask(api.GET("/api/v1/rules/noisy", { params: { query: { days: Number(days) } } })), placeholderData: (before) => before });
  return (
    <Panel title={text("rules-noisy")} about={text("rules-noisy-about")} actions={<Choose bare label={text("rules-span")} value={days} onChange={setDays} choices={DAYS.map((id) => ({ id, name: text("rules-last-days", { days: Number(id) }) }))} />}>
      <Asked query={noisy} lines={6}>
        {({ items }) =>
          items.length === 0 ? <Empty icon={<Volume2 />} title={text("rules-none-noisy")}>{text("rules-none-noisy-about")}</Empty> : (
            <ol className={css.list}>
              {items.map((rule) => (
                <li key={rule.rule} className="stack tight">
                  <div className="row apart">
                    <h3><Link to={toRule(rule.rule)}>{title(rule.rule, rule.title)}</Link></h3>
                    <span>{text("rules-a-day", { count: format.number(Math.round(rule.per_day * 10) / 10), hosts: rule.hosts })}</span>
                  </div>
                  {rule.false_share != null && <p className="soft small">{text("rules-false", { share: format.share(rule.false_share), closed: rule.closed })}</p>}
                  {rule.fields.map((field) => (
                    <div key={field.field + field.value} className={css.bar}>
                      <span className="mono small">{field.field}</span>
                      <span className="mono small">{field.value}<span className={css.meter} aria-hidden><i style={{ width: `${field.share * 100}%` }} /></span></span>
                      <span className="soft small">{format.share(field.share)}</span>
                    </div>
                  ))}
                  {rule.proposal && (
                    <div className="row apart">
                      <p>{text("rules-proposal", { condition: rule.proposal.condition, share: format.share(rule.proposal.share) })}</p>
                      {can("exceptions:write") && <Button onPress={() => setExcept(rule)}>{text("rules-look-at-proposal")}</Button>}
                    </div>
                  )}
                </li>
              ))}
            </ol>
          )
        }
      </Asked>
      {except && <Except rule={except.rule} title={title(except.rule, except.title)} condition={except.proposal?.condition} onClose={() => setExcept(undefined)} />}
    </Panel>
  );
}
