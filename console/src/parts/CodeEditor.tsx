// The editor behind `parts/Code`. Its styles are made while it runs and carry the page's nonce; its colours are the tokens, so
// that it follows the theme without being told.
import { defaultKeymap, history, historyKeymap, indentWithTab } from "@codemirror/commands";
import { bracketMatching, foldGutter, HighlightStyle, indentOnInput, syntaxHighlighting } from "@codemirror/language";
import { lintGutter, setDiagnostics, type Diagnostic } from "@codemirror/lint";
import { Compartment, EditorState, type Extension, StateEffect, StateField, type Text } from "@codemirror/state";
import { Decoration, type DecorationSet, drawSelection, EditorView, highlightActiveLine, keymap, lineNumbers } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { useEffect, useRef } from "react";
import type { CodeLanguage, CodeMark, CodeProps } from "./Code";
import { nonce } from "./nonce";
import css from "./Code.module.css";

const LANGUAGES: Record<CodeLanguage, () => Promise<Extension>> = {
  yaml: async () => (await import("@codemirror/lang-yaml")).yaml(),
  sql: async () => (await import("@codemirror/lang-sql")).sql(),
  json: async () => (await import("@codemirror/lang-json")).json(),
  suricata: async () => (await import("./modes/suricata")).suricata,
  yara: async () => (await import("./modes/yara")).yara,
  vrl: async () => (await import("./modes/vrl")).vrl,
  text: async () => [],
};

const looks = EditorView.theme({
  "&": { color: "var(--ink)", backgroundColor: "transparent", fontSize: "var(--small)" },
  "&.cm-focused": { outline: "none" },
  ".cm-scroller": { fontFamily: "var(--code)", fontVariantLigatures: "none", lineHeight: "1.55", overflow: "auto" },
  ".cm-content": { caretColor: "var(--ink)", padding: "8px 0" },
  ".cm-cursor": { borderLeftColor: "var(--ink)" },
  ".cm-gutters": { backgroundColor: "transparent", color: "var(--soft)", border: "none" },
  ".cm-activeLine, .cm-activeLineGutter": { backgroundColor: "transparent" },
  "&.cm-focused .cm-activeLine": { backgroundColor: "var(--hover)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": { backgroundColor: "var(--ai-wash)" },
  ".cm-shown": { backgroundColor: "var(--ai-wash)" },
  ".cm-matchingBracket, &.cm-focused .cm-matchingBracket": { backgroundColor: "var(--ai-wash)", outline: "none" },
  ".cm-tooltip": { border: "1px solid var(--line)", borderRadius: "var(--radius)", backgroundColor: "var(--surface)", color: "var(--ink)" },
  ".cm-tooltip-autocomplete > ul > li[aria-selected]": { backgroundColor: "var(--ai-wash)", color: "var(--ink)" },
  ".cm-diagnostic": { borderLeft: "3px solid var(--line-strong)", padding: "4px 8px" },
  ".cm-diagnostic-error": { borderLeftColor: "var(--shu)" },
  ".cm-diagnostic-warning": { borderLeftColor: "var(--yamabuki)" },
  ".cm-lintRange-error": { backgroundImage: "none", textDecoration: "underline wavy var(--shu)", textUnderlineOffset: "3px" },
  ".cm-lintRange-warning": { backgroundImage: "none", textDecoration: "underline wavy var(--yamabuki)", textUnderlineOffset: "3px" },
  ".cm-foldPlaceholder": { backgroundColor: "var(--hover)", borderColor: "var(--line)", color: "var(--soft)" },
});

const colours = syntaxHighlighting(HighlightStyle.define([
  { tag: [tags.comment, tags.lineComment], color: "var(--soft)", fontStyle: "italic" },
  { tag: [tags.propertyName, tags.definition(tags.propertyName), tags.keyword, tags.typeName], color: "var(--ai)" },
  { tag: [tags.string, tags.special(tags.string), tags.regexp], color: "var(--matsu)" },
  { tag: [tags.number, tags.bool, tags.null, tags.atom], color: "var(--yamabuki)" },
  { tag: [tags.meta, tags.punctuation, tags.separator], color: "var(--soft)" },
]));

const show = StateEffect.define<{ from: number; to: number } | undefined>();
const shown = StateField.define<DecorationSet>({
  create: () => Decoration.none,
  update(marks, change) {
    for (const effect of change.effects) {
      if (!effect.is(show)) continue;
      const lines = effect.value;
      if (!lines) return Decoration.none;
      const deco = Decoration.line({ class: "cm-shown" });
      const starts = [];
      for (let line = lines.from; line <= Math.min(lines.to, change.state.doc.lines); line++) starts.push(deco.range(change.state.doc.line(line).from));
      return Decoration.set(starts);
    }
    return marks.map(change.changes);
  },
  provide: (field) => EditorView.decorations.from(field),
});

/** Where a mark lies in the text; one beyond it is put at its end. */
function placed(doc: Text, mark: CodeMark): Diagnostic {
  const line = doc.line(Math.max(1, Math.min(doc.lines, mark.line)));
  const from = mark.column ? Math.min(line.to, line.from + mark.column - 1) : line.from;
  return { from, to: line.to, severity: mark.severity, message: mark.message };
}

export default function CodeEditor({ value, language = "text", label, readOnly, onChange, marks, maxHeight, minHeight, lines }: CodeProps) {
  const box = useRef<HTMLDivElement>(null);
  const view = useRef<EditorView>(undefined);
  const told = useRef(onChange);
  told.current = onChange;
  const parts = useRef({ language: new Compartment(), way: new Compartment(), size: new Compartment() });

  useEffect(() => {
    const { language, way, size } = parts.current;
    const editor = new EditorView({
      parent: box.current!,
      state: EditorState.create({
        doc: value,
        extensions: [
          EditorView.cspNonce.of(nonce()),
          lineNumbers(), foldGutter(), history(), drawSelection(), indentOnInput(), bracketMatching(), highlightActiveLine(), lintGutter(),
          EditorView.lineWrapping, looks, colours, shown, language.of([]), way.of([]), size.of([]),
          // Tab indents; Escape and then Tab leaves, as everywhere in this editor.
          keymap.of([...defaultKeymap, ...historyKeymap, indentWithTab]),
          EditorView.updateListener.of((update) => {
            if (update.docChanged) told.current?.(update.state.doc.toString());
          }),
        ],
      }),
    });
    view.current = editor;
    // Lines are measured anew once the font is there.
    void document.fonts.ready.then(() => editor.requestMeasure());
    return () => editor.destroy();
    // The text that it begins with; what comes later is put in below.
  }, []);

  useEffect(() => {
    const editor = view.current!;
    if (editor.state.doc.toString() === value) return;
    editor.dispatch({ changes: { from: 0, to: editor.state.doc.length, insert: value } });
  }, [value]);

  useEffect(() => {
    let stale = false;
    void LANGUAGES[language]().then((extension) => {
      if (!stale) view.current?.dispatch({ effects: parts.current.language.reconfigure(extension) });
    });
    return () => {
      stale = true;
    };
  }, [language]);

  useEffect(() => {
    // Read-only text can still be reached by the keyboard, to scroll and to copy.
    const attributes = EditorView.contentAttributes.of({ "aria-label": label, tabindex: "0", ...(readOnly ? { "aria-readonly": "true" } : {}) });
    view.current!.dispatch({ effects: parts.current.way.reconfigure([attributes, EditorState.readOnly.of(Boolean(readOnly))]) });
  }, [label, readOnly]);

  useEffect(() => {
    const look = EditorView.theme({ ".cm-scroller": { maxHeight: maxHeight ?? "none", minHeight: minHeight ?? "0" } });
    view.current!.dispatch({ effects: parts.current.size.reconfigure(look) });
  }, [maxHeight, minHeight]);

  useEffect(() => {
    const editor = view.current!;
    editor.dispatch(setDiagnostics(editor.state, (marks ?? []).map((mark) => placed(editor.state.doc, mark))));
  }, [marks, value]);

  const { from, to } = lines ?? {};
  useEffect(() => {
    const editor = view.current!;
    const wanted = from === undefined || to === undefined ? undefined : { from, to };
    const place = wanted && editor.state.doc.line(Math.max(1, Math.min(editor.state.doc.lines, wanted.from))).from;
    const scroll = place === undefined ? [] : [EditorView.scrollIntoView(place, { y: "nearest" })];
    editor.dispatch({ effects: [show.of(wanted), ...scroll] });
  }, [from, to, value]);

  return <div ref={box} className={css.editor} />;
}
