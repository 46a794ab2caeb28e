// Spans of time: so long ago until now, or from one moment to another. In the address they stand as `15m`, `7d` or RFC 3339.
export const PRESETS = ["15m", "1h", "6h", "24h", "7d", "30d", "90d"] as const;
const UNITS: Record<string, number> = { m: 60_000, h: 3_600_000, d: 86_400_000 };

export interface Span {
  from: string;
  /** Empty: now. */
  to: string;
}

/** Milliseconds of `15m`; nothing for a moment. */
export function length(text: string): number | undefined {
  const found = /^(\d{1,4})([mhd])$/.exec(text);
  return found ? Number(found[1]) * UNITS[found[2]!]! : undefined;
}

/** The moments of a span, RFC 3339; those that are relative count from `now`. */
export function moments(span: Span, now: number): { from?: string; to?: string } {
  const moment = (text: string) => {
    const ago = length(text);
    if (ago !== undefined) return new Date(now - ago).toISOString();
    const time = new Date(text);
    return Number.isNaN(time.getTime()) ? undefined : time.toISOString();
  };
  return { from: span.from ? moment(span.from) : undefined, to: span.to ? moment(span.to) : undefined };
}
