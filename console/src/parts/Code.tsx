// Text in a language, to be read or edited. The editor is a chunk of its own: until it is there the text is shown plainly, so
// that a page never waits for it. Marks of a lint come from the caller, by line and column from 1, as the API gives them.
import { lazy, Suspense } from "react";
import css from "./Code.module.css";

export type CodeLanguage = "yaml" | "sql" | "json" | "suricata" | "yara" | "vrl" | "text";

export interface CodeMark {
  /** From 1. */
  line: number;
  /** From 1; the whole line where absent. */
  column?: number;
  message: string;
  severity: "error" | "warning" | "info";
}

export interface CodeProps {
  value: string;
  language?: CodeLanguage;
  /** What it is, for those who do not see it. */
  label: string;
  readOnly?: boolean;
  onChange?: (value: string) => void;
  marks?: readonly CodeMark[];
  /** Where it begins to scroll, as a CSS length. */
  maxHeight?: string;
  minHeight?: string;
  /** Lines that are marked and brought into sight, from 1. */
  lines?: { from: number; to: number };
}

const Editor = lazy(() => import("./CodeEditor"));

export function Code(props: CodeProps) {
  const plain = <pre className={css.plain} tabIndex={0} aria-label={props.label} style={{ maxHeight: props.maxHeight, minHeight: props.minHeight }}>{props.value}</pre>;
  return (
    <div className={css.box}>
      <Suspense fallback={plain}><Editor {...props} /></Suspense>
    </div>
  );
}
