// The bar in which one asks. It completes names of fields and their values, and marks the place at which a query is wrong.
import { autocompletion, closeCompletion, completionKeymap, startCompletion, type CompletionContext, type CompletionResult } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
import { setDiagnostics } from "@codemirror/lint";
import { EditorState, Prec } from "@codemirror/state";
import { EditorView, keymap, placeholder } from "@codemirror/view";
import { useQueryClient, type QueryClient } from "@tanstack/react-query";
import { Search as SearchIcon } from "lucide-react";
import { useEffect, useRef, type RefObject } from "react";
import { api, ask, type Problem } from "../../api/client";
import { useFormat } from "../../i18n/format";
import { useText, useWords } from "../../i18n/words";
import { Button } from "../../parts/Button";
import { nonce } from "../../parts/nonce";
import css from "./Search.module.css";

interface Props {
  value: string;
  span: { from?: string; to?: string };
  /** What every query is joined to. */
  within: string;
  /** What is wrong with the value. */
  problem?: Problem;
  onAsk: (q: string) => void;
}

const look = EditorView.theme({
  "&": { fontFamily: "var(--code)", fontSize: "0.92em", color: "var(--ink)" },
  "&.cm-focused": { outline: "none" },
  ".cm-content": { padding: "8px 0", caretColor: "var(--ink)" },
  ".cm-cursor": { borderLeftColor: "var(--ink)" },
  ".cm-selectionBackground, &.cm-focused .cm-selectionBackground": { background: "var(--ai-wash) !important" },
  ".cm-placeholder": { color: "var(--soft)" },
  ".cm-tooltip": { background: "var(--surface)", border: "1px solid var(--line)", borderRadius: "var(--radius)", boxShadow: "var(--shadow)", color: "var(--ink)" },
  ".cm-tooltip-autocomplete > ul": { fontFamily: "var(--code) !important", maxHeight: "18rem !important" },
  ".cm-tooltip-autocomplete > ul > li": { padding: "3px 8px !important" },
  ".cm-tooltip-autocomplete > ul > li[aria-selected]": { background: "var(--ai-wash) !important", color: "var(--ink) !important" },
  ".cm-completionMatchedText": { textDecoration: "none", fontWeight: "700" },
  ".cm-lintRange-error": { backgroundImage: "none", backgroundColor: "var(--shu-wash)", textDecoration: "underline wavy var(--shu)", textUnderlineOffset: "3px" },
  ".cm-completionDetail": { color: "var(--soft)", fontStyle: "normal", fontFamily: "var(--text)" },
});

export default function QueryBar({ value, span, within, problem, onAsk }: Props) {
  const text = useText();
  const { language } = useWords();
  const format = useFormat();
  const queries = useQueryClient();
  const box = useRef<HTMLDivElement>(null);
  const view = useRef<EditorView>(undefined);
  const latest = useRef({ span, within, onAsk, language, compact: format.compact });
  latest.current = { span, within, onAsk, language, compact: format.compact };

  useEffect(() => {
    const send = (view: EditorView) => {
      closeCompletion(view);
      latest.current.onAsk(view.state.doc.toString().trim());
      return true;
    };
    const editor = new EditorView({
      parent: box.current!,
      state: EditorState.create({
        doc: value,
        extensions: [
          EditorView.cspNonce.of(nonce()),
          history(),
          // One line: a pasted line break is a space.
          EditorState.transactionFilter.of((change) => (change.newDoc.lines > 1 ? { changes: { from: 0, to: change.startState.doc.length, insert: change.newDoc.toString().replace(/\s*\n\s*/g, " ") } } : change)),
          autocompletion({ override: [(context) => complete(context, queries, latest)], icons: false, activateOnTypingDelay: 120 }),
          keymap.of(completionKeymap),
          Prec.high(keymap.of([{ key: "Ctrl-Enter", run: send }])),
          keymap.of([{ key: "Enter", run: send }, { key: "Escape", run: (view) => (view.contentDOM.blur(), true) }, ...historyKeymap, ...defaultKeymap]),
          EditorView.contentAttributes.of({ "aria-label": text("search-query"), spellcheck: "false", autocapitalize: "off" }),
          placeholder(text(matchMedia("(max-width: 640px)").matches ? "search-hint-short" : "search-hint")),
          look,
        ],
      }),
    });
    view.current = editor;
    return () => editor.destroy();
    // The language of the label changes with the page; the rest is read when it is needed.
  }, [text, queries]);

  useEffect(() => {
    const editor = view.current;
    if (editor && editor.state.doc.toString() !== value) editor.dispatch({ changes: { from: 0, to: editor.state.doc.length, insert: value } });
  }, [value]);

  useEffect(() => {
    const editor = view.current;
    if (!editor) return;
    const fault = problem?.faults.find((fault) => fault.offset != null);
    const end = editor.state.doc.length;
    // What lacks at the end is marked on the last letter.
    const from = Math.min(fault?.offset ?? 0, Math.max(0, end - 1));
    const to = Math.min(end, from + (fault?.length ?? 1));
    editor.dispatch(setDiagnostics(editor.state, fault ? [{ from, to, severity: "error", message: fault.reason }] : []));
  }, [problem, value]);

  const send = () => onAsk(view.current?.state.doc.toString().trim() ?? "");
  return (
    <div className={css.query} data-search data-wrong={Boolean(problem)}>
      <SearchIcon size={16} aria-hidden />
      <div ref={box} className={css.editor} onFocus={() => view.current?.state.doc.length === 0 && startCompletion(view.current)} />
      <Button weight="quiet" onPress={send}>{text("search-ask")}</Button>
    </div>
  );
}

type Latest = RefObject<{ span: { from?: string; to?: string }; within: string; language: "en" | "ja"; compact: (count: number) => string }>;

async function complete(context: CompletionContext, queries: QueryClient, latest: Latest): Promise<CompletionResult | null> {
  const { span, within, language, compact } = latest.current;
  const before = context.state.sliceDoc(0, context.pos);
  const pair = /([@\w][@\w.]*):(?:"((?:[^"\\]|\\.)*)|([^\s()":]*))$/.exec(before);
  if (pair) {
    const typed = pair[2] ?? pair[3] ?? "";
    const field = pair[1]!;
    const rest = before.slice(0, pair.index).replace(/\b(and|or|not)?\s*\(*\s*$/i, "").trim();
    const q = [within, rest && balanced(rest) ? `(${rest})` : ""].filter(Boolean).join(" and ") || undefined;
    try {
      const found = await queries.fetchQuery({
        queryKey: ["values", field, typed, q, span],
        queryFn: () => ask(api.GET("/api/v1/events/values", { params: { query: { field, prefix: typed || undefined, q, ...span, limit: 12 } } })),
        staleTime: 30_000, retry: false,
      });
      const start = context.pos - typed.length - (pair[2] === undefined ? 0 : 1);
      return {
        from: start, filter: false,
        options: found.items.map((item) => ({ label: item.value, detail: compact(item.count), apply: quoted(item.value) + " " })),
      };
    } catch {
      return null; // what is typed is no query yet
    }
  }
  const word = context.matchBefore(/[@\w][@\w.]*/);
  if (!word && !context.explicit) return null;
  const { items } = await queries.fetchQuery({ queryKey: ["fields"], queryFn: () => ask(api.GET("/api/v1/fields")), staleTime: Infinity });
  const options = items.map((field) => ({ label: field.name, detail: field.description[language], apply: `${field.name}:`, boost: field.column ? 1 : 0 }));
  const joins = ["and", "or", "not"].map((label) => ({ label, boost: -1 }));
  return { from: word?.from ?? context.pos, options: before.trim() ? [...options, ...joins] : options, validFor: /^[@\w.]*$/ };
}

const quoted = (value: string) => (/^[\w./-]+$/.test(value) ? value : `"${value.replace(/[\\"]/g, "\\$&")}"`);
const balanced = (text: string) => text.split("(").length === text.split(")").length && (text.match(/"/g)?.length ?? 0) % 2 === 0;
