// Times, spans, numbers and sizes as the language writes them.
import { useMemo } from "react";
import { useWords } from "./words";

const SECOND = 1_000;
const UNITS: [Intl.RelativeTimeFormatUnit, number][] = [
  ["day", 86_400 * SECOND],
  ["hour", 3_600 * SECOND],
  ["minute", 60 * SECOND],
  ["second", SECOND],
];
const SIZES = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"] as const;

export function useFormat() {
  const { language } = useWords();
  return useMemo(() => {
    const moment = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "medium" });
    // The month by its name: which of two numbers it is depends on where one reads them.
    const short = new Intl.DateTimeFormat(language, {
      month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
    });
    const day = new Intl.DateTimeFormat(language, { month: "short", day: "numeric" });
    const clock = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
    const relative = new Intl.RelativeTimeFormat(language, { numeric: "auto", style: "short" });
    const number = new Intl.NumberFormat(language);
    const compact = new Intl.NumberFormat(language, { notation: "compact", maximumFractionDigits: 1 });
    const share = new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 1 });

    /** The largest unit that fits, and how many of it. */
    const fitting = (ms: number) => {
      const [unit, length] = UNITS.find(([, length]) => Math.abs(ms) >= length) ?? UNITS[UNITS.length - 1]!;
      return [Math.trunc(ms / length), unit] as const;
    };
    return {
      moment: (time: string | number) => moment.format(new Date(time)),
      short: (time: string | number) => short.format(new Date(time)),
      /** On an axis whose marks are so many milliseconds apart: the day where one begins, else the hour. */
      tick: (time: number, step: number) => {
        const date = new Date(time);
        return step >= 86_400 * SECOND || date.getHours() + date.getMinutes() === 0 ? day.format(date) : clock.format(date);
      },
      ago: (time: string | number, now = Date.now()) => relative.format(...fitting(new Date(time).getTime() - now)),
      span: (ms: number) => {
        const [count, unit] = fitting(ms);
        return new Intl.NumberFormat(language, { style: "unit", unit, unitDisplay: "short" }).format(Math.abs(count));
      },
      milliseconds: (value: number) => new Intl.NumberFormat(language, { style: "unit", unit: "millisecond", unitDisplay: "short" }).format(value),
      number: (value: number) => number.format(value),
      compact: (value: number) => compact.format(value),
      share: (value: number) => share.format(value),
      bytes: (value: number) => {
        const power = value < 1 ? 0 : Math.min(SIZES.length - 1, Math.floor(Math.log10(value) / 3));
        const form = { style: "unit", unit: SIZES[power], unitDisplay: "short", maximumFractionDigits: 1 } as const;
        return new Intl.NumberFormat(language, form).format(value / 1_000 ** power);
      },
    };
  }, [language]);
}
