// What the playbook would do about one alert, or about an event that is written by hand; and beginning it. The dry run is the code
// that acts, with actions that succeed at once and people who say yes; it changes nothing.
import { useMutation, useQuery } from "@tanstack/react-query";
import { FlaskConical, Play } from "lucide-react";
import { useState } from "react";
import { useNavigate, useSearchParams } from "react-router";
import { api, ask, Problem, type Schemas } from "../../api/client";
import { useDrafted } from "../../app/drafts";
import { useAlertTitle } from "../../app/installation";
import { toExecution } from "../../app/links";
import { useSession } from "../../app/session";
import { useFormat } from "../../i18n/format";
import { useText } from "../../i18n/words";
import { Button } from "../../parts/Button";
import { Code } from "../../parts/Code";
import { Confirm } from "../../parts/Dialog";
import { Choose } from "../../parts/Field";
import { useNotice } from "../../parts/Notice";
import { Panel } from "../../parts/Page";
import { Badge, Empty, Fault } from "../../parts/State";
import { toneOf, useNames } from "./names";
import type { Playbook } from "./Playbooks";
import { Reason, Would } from "./sentences";
import css from "./Response.module.css";

const HAND = "by-hand";
const NOTHING = "nothing";
const EXAMPLE = JSON.stringify({ source: { ip: "203.0.113.7" }, host: { name: "web-01" }, related: { ip: ["203.0.113.7"] } }, null, 2);

interface Subject { alert?: string; event?: Record<string, unknown> }

export function DryRun({ playbook }: { playbook: Playbook }) {
  const text = useText();
  const { can } = useSession();
  const [search, setSearch] = useSearchParams();
  const [typed, setTyped] = useDrafted(`event.${playbook.id}`, EXAMPLE);
  const [beginning, setBeginning] = useState(false);
  const alerts = useAlerts();
  const first = playbook.trigger === "manual" || playbook.trigger === "schedule" ? NOTHING : alerts[0]?.id ?? HAND;
  const of = search.get("of") ?? first;
  const choose = (of: string) => setSearch((search) => {
    search.set("of", of);
    return search;
  }, { replace: true });

  const written = parsed(typed);
  const subject: Subject | undefined = of === NOTHING ? {} : of !== HAND ? { alert: of } : written && { event: written };
  const dry = useMutation({
    mutationFn: (subject: Subject) => ask(api.POST("/api/v1/playbooks/{id}/run", { params: { path: { id: playbook.id } }, body: { ...subject, dry_run: true } as never })),
  });

  if (playbook.scope === "host") return <Panel><Empty icon={<FlaskConical />} title={text("response-dry-host")}>{text("response-dry-host-about")}</Empty></Panel>;
  const known = alerts.some((alert) => alert.id === of) || of === HAND || of === NOTHING;
  const choices = [
    ...(known ? [] : [{ id: of, name: of }]),
    ...alerts,
    { id: HAND, name: text("response-dry-hand") },
    { id: NOTHING, name: text("response-dry-nothing") },
  ];
  return (
    <Panel title={text("response-tab-dry-run")} about={text("response-dry-about")}>
      <div className="stack">
        <Choose label={text("response-dry-of")} value={of} onChange={choose} choices={choices} />
        {of === HAND && (
          <div className="stack tight">
            <strong className="small">{text("response-dry-event")}</strong>
            <Code value={typed} onChange={setTyped} language="json" label={text("response-dry-event")} minHeight="8rem" maxHeight="24rem" />
            {!written && <p className="small" role="status">{text("response-dry-wrong")}</p>}
          </div>
        )}
        <div className="row">
          <Button weight="primary" icon={<FlaskConical />} isPending={dry.isPending} isDisabled={!subject} onPress={() => subject && dry.mutate(subject)}>{text("response-dry-run")}</Button>
          {can("playbooks:run") && <Button icon={<Play />} isDisabled={!subject} onPress={() => setBeginning(true)}>{text("response-begin")}</Button>}
        </div>
        {dry.error && <Refused error={dry.error} />}
        {dry.data && <Run run={dry.data} />}
      </div>
      {beginning && subject && <Begin playbook={playbook} subject={subject} onClose={() => setBeginning(false)} />}
    </Panel>
  );
}

function parsed(typed: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(typed);
    return value && typeof value === "object" && !Array.isArray(value) ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

/** The newest alerts, to choose one. */
function useAlerts() {
  const text = useText();
  const format = useFormat();
  const { can } = useSession();
  const title = useAlertTitle();
  const { data } = useQuery({ queryKey: ["alerts", "to-choose"], queryFn: () => ask(api.GET("/api/v1/alerts", { params: { query: { limit: 50 } } })), enabled: can("alerts:read") });
  return (data?.items ?? []).map((alert) => {
    const event = alert.event as Record<string, { name?: string; ip?: string } | string | undefined>;
    const part = (name: string, key: "name" | "ip") => (event[name] as { name?: string; ip?: string } | undefined)?.[key] ?? "";
    return {
      id: alert.id, name: text("response-dry-alert", { time: format.short(event["@timestamp"] as string), rule: title(event), host: part("host", "name"), source: part("source", "ip") || "—" }),
    };
  });
}

/** It would not begin: not a fault of anybody. */
function Refused({ error }: { error: Error }) {
  const text = useText();
  const fault = error instanceof Problem ? error.faults[0] : undefined;
  if (!fault || fault.place !== "when") return <Fault error={error} />;
  return <p role="status"><Badge>{text("response-dry-not")}</Badge> <Reason>{fault.reason}</Reason></p>;
}

function Run({ run }: { run: Schemas["Run"] }) {
  const text = useText();
  const names = useNames();
  return (
    <section className="stack tight" role="status">
      <p className="row"><strong>{text("response-dry-ends")}</strong> <Badge tone={toneOf(run.ends)}>{names.ends(run.ends)}</Badge> <Reason>{run.reason}</Reason></p>
      {run.would.length === 0 ? <p className="soft">{text("response-dry-nothing-done")}</p> : (
        <ol className={css.told}>
          {run.would.map((one, nth) => (
            <li key={nth}>
              <Would>{one.text}</Would>
              {one.changes.length > 0 && <ul className="small soft">{one.changes.map((change) => <li key={change} lang="en">{change}</li>)}</ul>}
            </li>
          ))}
        </ol>
      )}
    </section>
  );
}

function Begin({ playbook, subject, onClose }: { playbook: Playbook; subject: Subject; onClose: () => void }) {
  const text = useText();
  const names = useNames();
  const say = useNotice();
  const navigate = useNavigate();
  const begin = async () => {
    const run = await ask(api.POST("/api/v1/playbooks/{id}/run", { params: { path: { id: playbook.id } }, body: subject as never }));
    say(text("response-begun-now", { name: names.playbook(playbook.id) }));
    void navigate(toExecution(run.execution));
  };
  return (
    <Confirm title={text("response-begin-title", { name: names.playbook(playbook.id) })} action={text("response-begin-do")} open onClose={onClose} onConfirm={begin}>
      <p>{text("response-begin-what")}</p>
      {playbook.lasting.length > 0 && <p><strong>{text("response-turn-on-lasting")}</strong></p>}
    </Confirm>
  );
}
