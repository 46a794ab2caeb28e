// A moment: how long ago at a glance, exactly when pointed at.
import { useEffect, useState } from "react";
import { useFormat } from "../i18n/format";

/** The present, anew every so many milliseconds. */
export function useNow(every = 15_000): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), every);
    return () => clearInterval(timer);
  }, [every]);
  return now;
}

export function Ago({ time }: { time?: string | number | null }) {
  const format = useFormat();
  const now = useNow();
  if (time === undefined || time === null || time === "") return <span className="soft">—</span>;
  const iso = new Date(time).toISOString();
  return <time dateTime={iso} title={`${format.moment(time)} (${iso})`}>{format.ago(time, now)}</time>;
}

export function Moment({ time }: { time?: string | number | null }) {
  const format = useFormat();
  if (time === undefined || time === null || time === "") return <span className="soft">—</span>;
  const iso = new Date(time).toISOString();
  return <time dateTime={iso} title={iso}>{format.short(time)}</time>;
}
