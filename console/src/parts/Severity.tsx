// How severe an alert is. Red is what a person should look at.
import type { Schemas } from "../api/client";
import { useText, type Text } from "../i18n/words";
import type { Series } from "./Chart";
import { Badge, type Tone } from "./State";

export const LEVELS = ["informational", "low", "medium", "high", "critical"] as const;
export type Level = (typeof LEVELS)[number];
const TONES: Record<Level, Tone> = { informational: "calm", low: "calm", medium: "care", high: "person", critical: "urgent" };
const LEVEL_COLOURS: Record<Level, string> = {
  informational: "--line", low: "--line-strong", medium: "--yamabuki", high: "--shu", critical: "--shu-strong",
};

/** ECS has a number from 0 to 100; Sigma's levels are these parts of it. */
function level(severity: unknown): Level | undefined {
  if (typeof severity !== "number") return undefined;
  return LEVELS[severity >= 90 ? 4 : severity >= 70 ? 3 : severity >= 45 ? 2 : severity >= 20 ? 1 : 0];
}

/** Counts over time by `event.severity`, the least severe at the bottom; levels that do not occur are left out. */
export function bySeverity({ buckets, series }: Schemas["HistogramView"], text: Text): Series[] {
  const all = LEVELS.map((id) => ({
    name: text(`severity-${id}`), colour: LEVEL_COLOURS[id],
    counts: buckets.map((bucket) => series.reduce((sum, one, index) => sum + (level(Number(one.value)) === id ? bucket.by?.[index] ?? 0 : 0), 0)),
  }));
  return all.filter((one) => one.counts.some(Boolean));
}

export function Severity({ value }: { value: unknown }) {
  const text = useText();
  const found = typeof value === "string" ? LEVELS.find((one) => one === value) : level(value);
  if (!found) return <span className="soft">—</span>;
  return <Badge tone={TONES[found]}>{text(`severity-${found}`)}</Badge>;
}
