// One rule: what it says, what it does for whom, how often it fired, its tests, and a way to except what is expected.
import { useMutation, useQuery } from "@tanstack/react-query";
import { FlaskConical } from "lucide-react";
import { useState } from "react";
import { Link, useParams } from "react-router";
import { api, ask, type Schemas } from "../../api/client";
import { RULES, toAlertsOfRule } from "../../app/links";
import { useSession } from "../../app/session";
import { useFormat } from "../../i18n/format";
import { useText, useWords } from "../../i18n/words";
import { Button } from "../../parts/Button";
import { Code, type CodeLanguage } from "../../parts/Code";
import { Facts, Figure, Page, Panel } from "../../parts/Page";
import { Severity } from "../../parts/Severity";
import { Asked, Badge, Dot, Fault } from "../../parts/State";
import { Tabs } from "../../parts/Tabs";
import { Ago } from "../../parts/Time";
import { Except } from "./Except";
import { OverTime } from "./OverTime";
import { RuleState } from "./RuleState";
import { Switcher } from "./Switcher";

const MODES: Record<string, CodeLanguage> = { sigma: "yaml", correlation: "yaml", suricata: "suricata", yara: "yara" };

export default function One() {
  const text = useText();
  const { language } = useWords();
  const { can } = useSession();
  const { id = "" } = useParams();
  const [excepting, setExcepting] = useState(false);
  const detail = useQuery({ queryKey: ["rules", "one", id], queryFn: () => ask(api.GET("/api/v1/rules/{id}", { params: { path: { id } } })) });
  const rule = detail.data?.rule;
  const actions = rule && (
    <>
      {rule.switchable && can("policies:write") && <Switcher rule={rule} />}
      {can("exceptions:write") && <Button onPress={() => setExcepting(true)}>{text("rules-except")}</Button>}
    </>
  );
  return (
    <Page title={rule ? (language === "ja" && rule.title_ja) || rule.title : id} about={<Link to={RULES}>{text("page-rules")}</Link>} actions={actions}>
      <Asked query={detail} lines={8}>
        {(detail) => (
          <>
            <Head rule={detail.rule} />
            <Tabs
              label={detail.rule.title}
              tabs={[
                { id: "hits", title: text("rules-hits"), content: () => <Hits rule={detail.rule} /> },
                { id: "text", title: text("rules-text"), content: () => <Panel title={<span className="mono">{detail.rule.file}:{detail.rule.line}</span>}><Code label={text("rules-text")} language={MODES[detail.rule.language]} value={detail.text} readOnly maxHeight="70vh" /></Panel> },
                ...(detail.rule.tested ? [{ id: "tests", title: text("rules-tests"), content: () => <Tests detail={detail} /> }] : []),
              ]}
            />
            {excepting && <Except rule={detail.rule.id} title={(language === "ja" && detail.rule.title_ja) || detail.rule.title} onClose={() => setExcepting(false)} />}
          </>
        )}
      </Asked>
    </Page>
  );
}

function Head({ rule }: { rule: Schemas["Rule"] }) {
  const text = useText();
  return (
    <Panel>
      <Facts
        items={[
          [text("rules-severity"), <Severity value={rule.severity} />],
          [text("rules-state"), <span className="row"><RuleState rule={rule} />{rule.state_by && <span className="soft small">{text("rules-by", { layer: rule.state_by === "default" ? text("layer-default") : rule.state_by === "tenant" ? text("layer-tenant") : rule.state_by })}</span>}</span>],
          [text("rules-language"), text(`language-${rule.language}`)],
          [text("rules-where"), text(`rules-scope-${rule.scope}`)],
          [text("rules-source"), text(`rules-source-${rule.source}`)],
          rule.techniques.length > 0 && ["MITRE ATT&CK", <span className="row">{rule.techniques.map((technique) => <Badge key={technique}>{technique}</Badge>)}</span>],
          rule.cves.length > 0 && ["CVE", <span className="row">{rule.cves.map((cve) => <Badge key={cve}>{cve}</Badge>)}</span>],
          rule.group !== "" && [text("rules-group"), <span className="mono">{rule.group}</span>],
          ["ID", <span className="mono">{rule.id}</span>],
          rule.references.length > 0 && [text("rules-references"), <span className="stack tight">{rule.references.map((link) => (link.startsWith("https://") ? <a key={link} href={link} target="_blank" rel="noreferrer">{link}</a> : <span key={link}>{link}</span>))}</span>],
        ]}
      />
    </Panel>
  );
}

function Hits({ rule }: { rule: Schemas["Rule"] }) {
  const text = useText();
  const format = useFormat();
  return (
    <Panel title={text("rules-hits")} actions={<Link to={toAlertsOfRule(rule.id)}>{text("rules-show-alerts")}</Link>}>
      <div className="stack">
        <div className="grid">
          <Figure value={format.number(rule.hits.day)} name={text("rules-day")} />
          <Figure value={format.number(rule.hits.week)} name={text("rules-week")} />
          <Figure value={format.number(rule.hits.month)} name={text("rules-month")} note={rule.hits.suppressed > 0 && text("rules-held-back", { count: rule.hits.suppressed })} />
          <Figure value={<Ago time={rule.hits.last} />} name={text("rules-last")} />
        </div>
        <OverTime rule={rule.id} />
      </div>
    </Panel>
  );
}

function Tests({ detail }: { detail: Schemas["RuleDetail"] }) {
  const text = useText();
  const run = useMutation({ mutationFn: () => ask(api.POST("/api/v1/rules/{id}/test", { params: { path: { id: detail.rule.id } }, body: {} })) });
  const passed = run.data && run.data.failures.length === 0 && run.data.findings.length === 0;
  return (
    <Panel
      title={<span className="mono">{detail.tests_file}</span>}
      actions={
        <>
          {run.data && <Dot tone={passed ? "good" : "person"}>{passed ? text("rules-tests-passed", { count: run.data.cases }) : text("rules-tests-failed", { count: run.data.failures.length })}</Dot>}
          <Button icon={<FlaskConical />} isPending={run.isPending} onPress={() => run.mutate()}>{text("rules-run-tests")}</Button>
        </>
      }
    >
      <div className="stack">
        {run.error ? <Fault error={run.error} /> : null}
        {run.data?.failures.map((failure) => <p key={failure} className="mono small">{failure}</p>)}
        <Code label={text("rules-tests")} language="yaml" value={detail.tests} readOnly maxHeight="60vh" />
      </div>
    </Panel>
  );
}
