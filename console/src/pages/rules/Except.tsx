// An exception: which alerts of a rule are expected, why, who answers for it, and until when. Before it is made the page says what
// it would have held back.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { api, ask, type Schemas } from "../../api/client";
import { useDraft } from "../../app/drafts";
import { useSession } from "../../app/session";
import { useText } from "../../i18n/words";
import { Confirm } from "../../parts/Dialog";
import { Field } from "../../parts/Field";
import { useNotice } from "../../parts/Notice";
import { Dot, Fault } from "../../parts/State";

interface Props {
  rule: string;
  title: string;
  /** What it begins with. */
  condition?: string;
  onClose: () => void;
}

const RESTS = 400;

interface Draft { condition: string; group: string; reason: string; owner: string; days: string }

export function Except({ rule, title, condition: first = "", onClose }: Props) {
  const text = useText();
  const { who } = useSession();
  const say = useNotice();
  const queries = useQueryClient();
  const begin: Draft = { condition: first, group: "", reason: "", owner: who.name, days: "90" };
  // A proposal and an exception of one's own to the same rule are two drafts.
  const [draft, setDraft] = useDraft<Draft>(`exception.${rule}${first && ".proposed"}`);
  const { condition, group, reason, owner, days } = draft ?? begin;
  const set = (name: keyof Draft) => (value: string) => setDraft({ ...(draft ?? begin), [name]: value });
  const [rested, setRested] = useState(condition);
  useEffect(() => {
    const timer = setTimeout(() => setRested(condition), RESTS);
    return () => clearTimeout(timer);
  }, [condition]);
  const body = (condition: string): Schemas["NewException"] => ({ rule, condition: condition || undefined, group: group || undefined, reason, owner, days: Number(days) || undefined });
  const preview = useQuery({
    queryKey: ["exceptions", "preview", rule, rested, group],
    queryFn: () => ask(api.POST("/api/v1/exceptions/preview", { body: { ...body(rested), reason: reason || "?" } })),
    retry: false,
  });
  return (
    <Confirm
      title={text("rules-except-title", { rule: title })} action={text("rules-except-make")} open onClose={onClose} isDisabled={!reason.trim()}
      onConfirm={async () => {
        await ask(api.POST("/api/v1/exceptions", { body: body(condition) }));
        setDraft(undefined);
        say(text("rules-excepted"));
        await queries.invalidateQueries({ queryKey: ["exceptions"] });
        await queries.invalidateQueries({ queryKey: ["rules"] });
      }}
    >
      <p className="soft">{text("rules-except-about")}</p>
      <Field label={text("rules-condition")} help={text("rules-condition-about")} value={condition} onChange={set("condition")} code lines={2} />
      <Field label={text("rules-group-only")} help={text("rules-group-about")} value={group} onChange={set("group")} />
      <Field label={text("rules-reason")} value={reason} onChange={set("reason")} isRequired maxLength={1000} />
      <Field label={text("rules-owner")} value={owner} onChange={set("owner")} />
      <Field label={text("rules-days")} type="number" value={days} onChange={set("days")} help={text("rules-days-about")} />
      <div role="status">
        {preview.data && <Dot tone={preview.data.held === preview.data.looked_at && preview.data.held > 0 ? "care" : "lead"}>{text("rules-would-hold", { held: preview.data.held, all: preview.data.looked_at })}</Dot>}
        {preview.error ? <Fault error={preview.error} /> : null}
      </div>
    </Confirm>
  );
}
