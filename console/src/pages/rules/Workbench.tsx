// A place to write a rule: the manager's own checkers mark what is wrong while one types. Nothing is stored here; rules go in
// with a bundle.
import { useQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { api, ask, type Schemas } from "../../api/client";
import { useDrafted } from "../../app/drafts";
import { useText } from "../../i18n/words";
import { Code, type CodeLanguage, type CodeMark } from "../../parts/Code";
import { Choose } from "../../parts/Field";
import { Panel } from "../../parts/Page";
import { Dot, Fault } from "../../parts/State";

type Language = Schemas["LintLanguage"];
const LANGUAGES: Language[] = ["sigma", "suricata", "yara", "vrl", "playbook", "policy"];
const MODES: Record<Language, CodeLanguage> = { sigma: "yaml", suricata: "suricata", yara: "yara", vrl: "vrl", hash: "text", playbook: "yaml", policy: "yaml" };
const RESTS = 500;

export function Workbench() {
  const text = useText();
  const [language, setLanguage] = useState<Language>("sigma");
  // Kept with every letter, each language's own; only the checking waits until the typing rests.
  const [draft, setDraft] = useDrafted(`rule.${language}`);
  const [rested, setRested] = useState({ language, text: draft });
  useEffect(() => {
    const timer = setTimeout(() => setRested({ language, text: draft }), RESTS);
    return () => clearTimeout(timer);
  }, [draft, language]);
  const lint = useQuery({
    queryKey: ["lint", rested.language, rested.text],
    queryFn: () => ask(api.POST("/api/v1/rules/lint", { body: { ...rested, file: "" } })),
    enabled: rested.text.trim() !== "",
    retry: false,
    placeholderData: (before) => before,
  });
  const checked = rested.language === language && rested.text.trim() !== "";
  const findings = checked ? lint.data?.findings ?? [] : [];
  const marks: CodeMark[] = findings.map((finding) => ({ ...finding, severity: finding.severity === "error" ? "error" : "warning" }));
  return (
    <Panel
      title={text("rules-check")} about={text("rules-check-about")}
      actions={<Choose bare label={text("rules-language")} value={language} choices={LANGUAGES.map((id) => ({ id, name: text(`language-${id}`) }))} onChange={setLanguage} />}
    >
      <div className="stack">
        <Code key={language} label={text("rules-draft")} language={MODES[language]} value={draft} onChange={setDraft} marks={marks} minHeight="20rem" maxHeight="60vh" />
        <div role="status" className="stack tight">
          {checked && lint.error ? <Fault error={lint.error} /> : null}
          {checked && lint.data && findings.length === 0 && <Dot tone="good">{text("rules-nothing-wrong")}</Dot>}
          {findings.map((finding, index) => (
            <p key={index}><span className="mono soft">{finding.line}:{finding.column}</span> {finding.message} <span className="mono soft small">{finding.code}</span></p>
          ))}
        </div>
      </div>
    </Panel>
  );
}
