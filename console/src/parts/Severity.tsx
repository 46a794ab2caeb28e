// How severe an alert is. Red is what a person should look at.
import { useText } from "../i18n/words";
import { Badge, type Tone } from "./State";

export const LEVELS = ["informational", "low", "medium", "high", "critical"] as const;
export type Level = (typeof LEVELS)[number];
const TONES: Record<Level, Tone> = { informational: "calm", low: "calm", medium: "care", high: "person", critical: "urgent" };
export const LEVEL_COLOURS: Record<Level, string> = {
  informational: "--line", low: "--line-strong", medium: "--yamabuki", high: "--shu", critical: "--shu-strong",
};

/** ECS has a number from 0 to 100; Sigma's levels are these parts of it. */
export function level(severity: unknown): Level | undefined {
  if (typeof severity !== "number") return undefined;
  return LEVELS[severity >= 90 ? 4 : severity >= 70 ? 3 : severity >= 45 ? 2 : severity >= 20 ? 1 : 0];
}

export function Severity({ value }: { value: unknown }) {
  const text = useText();
  const found = typeof value === "string" ? LEVELS.find((one) => one === value) : level(value);
  if (!found) return <span className="soft">—</span>;
  return <Badge tone={TONES[found]}>{text(`severity-${found}`)}</Badge>;
}
