// A list of rows of which only those in sight are in the document, so that ten thousand scroll like ten. Keyboard: j and k
// (or the arrows) go, Enter opens. On a phone each row is a card whose values have their names beside them.
import { useVirtualizer } from "@tanstack/react-virtual";
import { useEffect, useRef, useState, type CSSProperties, type KeyboardEvent, type ReactNode } from "react";
import { useText } from "../i18n/words";
import css from "./Table.module.css";

export interface Column<T> {
  id: string;
  title: string;
  /** A grid track: `8rem`, `minmax(10rem, 2fr)`. */
  width?: string;
  cell: (row: T) => ReactNode;
  /** For numbers. */
  end?: boolean;
}

interface Props<T> {
  label: string;
  rows: readonly T[];
  columns: readonly Column<T>[];
  keyOf: (row: T) => string;
  onOpen?: (row: T) => void;
  /** The row that is open now. */
  current?: string;
  empty?: ReactNode;
  /** Called when the end is nearly in sight. */
  onEnd?: () => void;
  /** Height of the part that scrolls; without it the list is as long as its rows, and all are in the document. */
  height?: string;
}

const ROW = 41;
/** How many frames a row that is gone to has to appear in. */
const FRAMES = 30;

export function Table<T>({ label, rows, columns, keyOf, onOpen, current, empty, onEnd, height }: Props<T>) {
  const text = useText();
  const box = useRef<HTMLDivElement>(null);
  const [at, setAt] = useState(0);
  /** The row that the keyboard went to last; what it passed by does not take the focus late. */
  const wanted = useRef(0);
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => box.current,
    estimateSize: () => ROW,
    overscan: height ? 12 : rows.length,
    getItemKey: (index) => keyOf(rows[index]!),
  });
  const items = virtual.getVirtualItems();
  const last = items[items.length - 1]?.index ?? 0;

  useEffect(() => {
    if (onEnd && rows.length > 0 && last >= rows.length - 20) onEnd();
  }, [last, rows.length, onEnd]);

  const go = (index: number) => {
    const next = Math.max(0, Math.min(rows.length - 1, index));
    setAt(next);
    const row = () => box.current?.querySelector<HTMLElement>(`[data-index="${next}"]`);
    // While the row is not in the document yet, the list itself keeps the keyboard.
    if (!row()) box.current?.focus({ preventScroll: true });
    virtual.scrollToIndex(next);
    wanted.current = next;
    const focus = (tries: number) => {
      if (wanted.current !== next) return;
      const found = row();
      if (found) found.focus();
      else if (tries > 0) requestAnimationFrame(() => focus(tries - 1));
    };
    requestAnimationFrame(() => focus(FRAMES));
  };
  const pressed = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey || (event.target as HTMLElement).closest("input, textarea, [contenteditable]")) return;
    const step = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1, PageDown: 15, PageUp: -15 }[event.key];
    if (step) go(at + step);
    else if (event.key === "Home") go(0);
    else if (event.key === "End") go(rows.length - 1);
    else if (event.key === "Enter" && rows[at] && (event.target === event.currentTarget || (event.target as HTMLElement).role === "row")) onOpen?.(rows[at]);
    else return;
    event.preventDefault();
  };

  if (rows.length === 0 && empty) return <>{empty}</>;
  const tracks = { "--tracks": columns.map((column) => column.width ?? "minmax(6rem, 1fr)").join(" ") } as CSSProperties;
  return (
    <div
      ref={box} className={css.box} style={{ ...tracks, maxHeight: height }} onKeyDown={pressed}
      role="table" aria-label={label} aria-rowcount={rows.length + 1} data-scrolls={Boolean(height)}
      tabIndex={height ? (onOpen ? -1 : 0) : undefined}
    >
      <div role="rowgroup" className={css.heads}>
        <div role="row" className={css.row}>
          {columns.map((column) => (
            <div key={column.id} role="columnheader" data-end={column.end}>{column.title || <span className="unseen">{text("actions")}</span>}</div>
          ))}
        </div>
      </div>
      <div role="rowgroup" className={css.rows} style={{ height: virtual.getTotalSize() }}>
        {items.map((item) => {
          const row = rows[item.index]!;
          return (
            <div
              key={item.key} ref={virtual.measureElement} data-index={item.index} role="row" aria-rowindex={item.index + 2}
              className={css.row} style={{ transform: `translateY(${item.start}px)` }} data-opens={Boolean(onOpen)}
              data-current={current === item.key} tabIndex={onOpen ? (item.index === at ? 0 : -1) : undefined}
              onFocus={() => setAt(item.index)}
              onClick={(event) => onOpen && !(event.target as HTMLElement).closest("button, a, label") && onOpen(row)}
            >
              {columns.map((column) => (
                <div key={column.id} role="cell" data-end={column.end} data-title={column.title}>{column.cell(row)}</div>
              ))}
            </div>
          );
        })}
      </div>
    </div>
  );
}
