// A place to write a rule: the manager's own checkers mark what is wrong while one types. Nothing is stored here; rules go in
// with a bundle.
import { useQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { api, ask, type Schemas } from "../../api/client";
import { keep, kept } from "../../app/kept";
import { useText } from "../../i18n/words";
import { Code, type CodeMark } from "../../parts/Code";
import { Choose } from "../../parts/Field";
import { Panel } from "../../parts/Page";
import { Dot, Fault } from "../../parts/State";

type Language = Schemas["LintLanguage"];
const LANGUAGES: Language[] = ["sigma", "suricata", "yara", "vrl", "playbook", "policy"];
const RESTS = 500;

export function Workbench() {
  const text = useText();
  const [language, setLanguage] = useState<Language>("sigma");
  const [draft, setDraft] = useState(() => kept("draft.sigma") ?? "");
  const [rested, setRested] = useState(draft);
  useEffect(() => {
    const timer = setTimeout(() => {
      setRested(draft);
      keep(`draft.${language}`, draft);
    }, RESTS);
    return () => clearTimeout(timer);
  }, [draft, language]);
  const lint = useQuery({
    queryKey: ["lint", language, rested],
    queryFn: () => ask(api.POST("/api/v1/rules/lint", { body: { language, text: rested, file: "" } })),
    enabled: rested.trim() !== "",
    retry: false,
    placeholderData: (before) => before,
  });
  const findings = rested.trim() ? lint.data?.findings ?? [] : [];
  const marks: CodeMark[] = findings.map((finding) => ({ ...finding, severity: finding.severity === "error" ? "error" : "warning" }));
  return (
    <Panel
      title={text("rules-check")} about={text("rules-check-about")}
      actions={<Choose bare label={text("rules-language")} value={language} choices={LANGUAGES.map((id) => ({ id, name: text(`language-${id}`) }))} onChange={(id) => { setLanguage(id); setDraft(kept(`draft.${id}`) ?? ""); }} />}
    >
      <div className="stack">
        <Code label={text("rules-draft")} language={["suricata", "yara", "vrl"].includes(language) ? "text" : "yaml"} value={draft} onChange={setDraft} marks={marks} minHeight="20rem" maxHeight="60vh" />
        <div role="status" className="stack tight">
          {lint.error ? <Fault error={lint.error} /> : null}
          {rested.trim() !== "" && lint.data && findings.length === 0 && <Dot tone="good">{text("rules-nothing-wrong")}</Dot>}
          {findings.map((finding, index) => (
            <p key={index}><span className="mono soft">{finding.line}:{finding.column}</span> {finding.message} <span className="mono soft small">{finding.code}</span></p>
          ))}
        </div>
      </div>
    </Panel>
  );
}
