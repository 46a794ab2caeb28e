// What a rule does for the tenant as a whole.
import type { Schemas } from "../../api/client";
import { useText } from "../../i18n/words";
import { Badge, type Tone } from "../../parts/State";

const TONES: Record<string, Tone> = { on: "lead", prevent: "lead", detect: "calm", trial: "care", off: "calm" };

export function RuleState({ rule }: { rule: Schemas["Rule"] }) {
  const text = useText();
  return (
    <span className="row">
      <Badge tone={TONES[rule.state]}>{text(`rule-state-${rule.state}`)}</Badge>
      {rule.differs_in.length > 0 && <span className="soft small" title={rule.differs_in.join(", ")}>{text("rules-differs")}</span>}
    </span>
  );
}
