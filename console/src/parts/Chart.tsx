// Counts over time as stacked bars. A span is chosen by drawing over it, or with the keyboard; what the bars say is also there as
// words for those who do not see them.
import { useEffect, useMemo, useRef, useState, type KeyboardEvent } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { useFormat } from "../i18n/format";
import { useText } from "../i18n/words";
import css from "./Chart.module.css";

export interface Series {
  name: string;
  /** A custom property of tokens.css. */
  colour: string;
  counts: number[];
}

interface Props {
  label: string;
  /** When each bucket begins, in milliseconds. */
  times: number[];
  /** Width of a bucket in milliseconds. */
  width: number;
  /** Drawn over one another, the first at the bottom. */
  series: Series[];
  onSpan?: (from: number, to: number) => void;
  height?: number;
}

const colour = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Custom properties with light-dark() are resolved by an element that wears them. */
function worn(element: HTMLElement, name: string): string {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  element.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value || colour(name);
}

export function Chart({ label, times, width, series, onSpan, height = 132 }: Props) {
  const text = useText();
  const format = useFormat();
  const box = useRef<HTMLDivElement>(null);
  const span = useRef(onSpan);
  span.current = onSpan;
  const [at, setAt] = useState<number>();
  const total = useMemo(() => series.reduce((sum, one) => sum + one.counts.reduce((a, b) => a + b, 0), 0), [series]);

  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const draw = () => {
      const stacked: number[][] = [];
      for (const one of series) stacked.push(one.counts.map((count, index) => count + (stacked[stacked.length - 1]?.[index] ?? 0)));
      const soft = worn(element, "--soft");
      const line = worn(element, "--line");
      const bars = uPlot.paths.bars!({ size: [0.86, 64], align: 1 });
      // The highest pile is drawn first, so that lower ones lie over it.
      const drawn = series.map((one, index) => ({ one, counts: stacked[index]! })).reverse();
      return new uPlot(
        {
          width: element.clientWidth, height, padding: [6, 28, 0, 0], legend: { show: false },
          cursor: { y: false, drag: { x: Boolean(span.current), y: false, setScale: false }, points: { show: false } },
          select: { show: Boolean(span.current), left: 0, top: 0, width: 0, height: 0 },
          scales: { x: { range: () => [times[0]! / 1_000, (times[times.length - 1]! + width) / 1_000] }, y: { range: (_, __, most) => [0, Math.max(1, most)] } },
          axes: [
            { stroke: soft, grid: { show: false }, ticks: { show: false }, size: 24, font: `11px ${colour("--text")}`,
              values: (_, splits, __, ___, step) => splits.map((time) => format.tick(time * 1_000, step * 1_000)) },
            { stroke: soft, grid: { stroke: line, width: 1 }, ticks: { show: false }, size: 44, font: `11px ${colour("--text")}`,
              values: (_, values) => values.map((value) => (Number.isInteger(value) ? format.compact(value) : "")) },
          ],
          series: [{}, ...drawn.map(({ one }) => ({ label: one.name, fill: worn(element, one.colour), stroke: "transparent", width: 0, paths: bars, points: { show: false } }))],
          hooks: {
            setSelect: [(plot) => {
              if (plot.select.width < 3) return;
              const from = plot.posToVal(plot.select.left, "x") * 1_000;
              const to = plot.posToVal(plot.select.left + plot.select.width, "x") * 1_000;
              plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
              span.current?.(Math.floor(from / width) * width, Math.ceil(to / width) * width);
            }],
            setCursor: [(plot) => setAt(plot.cursor.idx ?? undefined)],
          },
        },
        [times.map((time) => time / 1_000), ...drawn.map(({ counts }) => counts)],
        element,
      );
    };
    let plot = draw();
    const again = () => {
      plot.destroy();
      plot = draw();
    };
    const sizes = new ResizeObserver(() => plot.setSize({ width: element.clientWidth, height }));
    sizes.observe(element);
    const themes = new MutationObserver(again);
    themes.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    const system = matchMedia("(prefers-color-scheme: dark)");
    system.addEventListener("change", again);
    return () => {
      sizes.disconnect();
      themes.disconnect();
      system.removeEventListener("change", again);
      plot.destroy();
    };
  }, [times, width, series, height, format]);

  const pressed = (event: KeyboardEvent) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) setAt((at) => Math.max(0, Math.min(times.length - 1, (at ?? (step > 0 ? -1 : times.length)) + step)));
    else if (event.key === "Enter" && at !== undefined) onSpan?.(times[at]!, times[at]! + width);
    else return;
    event.preventDefault();
  };
  const seen = at === undefined || times[at] === undefined ? undefined : { time: times[at], counts: series.map((one) => ({ ...one, count: one.counts[at] ?? 0 })) };

  return (
    <figure className={css.chart}>
      <div
        ref={box} className={css.canvas} style={{ height }} role="img" tabIndex={onSpan ? 0 : undefined} onKeyDown={pressed}
        aria-label={text("chart-says", { label, total: format.number(total) })}
      />
      <figcaption className={css.caption} aria-live="polite">
        {seen ? (
          <>
            <span>{format.short(seen.time)} – {format.short(seen.time + width)}</span>
            {seen.counts.filter((one) => one.count > 0).map((one) => (
              <span key={one.name} className={css.key}><i style={{ background: `var(${one.colour})` }} />{one.name} {format.number(one.count)}</span>
            ))}
          </>
        ) : (
          series.length > 1 && series.map((one) => <span key={one.name} className={css.key}><i style={{ background: `var(${one.colour})` }} />{one.name}</span>)
        )}
      </figcaption>
    </figure>
  );
}
