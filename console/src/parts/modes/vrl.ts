// Colours for VRL: keywords, paths of events, functions, texts of each kind, numbers, comments.
import { StreamLanguage } from "@codemirror/language";

interface State {
  /** What ends the text of several lines that one is within. */
  until?: '"' | "'";
}

const KEYWORDS = /^(if|else|for|while|loop|return|abort|as|break|continue|null|true|false)\b/;

export const vrl = StreamLanguage.define<State>({
  name: "vrl",
  startState: () => ({}),
  token(stream, state) {
    if (state.until) {
      const rest = state.until === '"' ? /^(\\.|[^"\\])*/ : /^(\\.|[^'\\])*/;
      stream.match(rest);
      if (stream.eat(state.until)) state.until = undefined;
      else stream.skipToEnd();
      return "string";
    }
    if (stream.eatSpace()) return null;
    if (stream.match(/^#.*/)) return "comment";
    if (stream.match(/^[rst]'/)) {
      const kind = stream.string[stream.pos - 2];
      stream.match(/^(\\.|[^'\\])*/);
      if (!stream.eat("'")) state.until = "'";
      return kind === "r" ? "regexp" : "string";
    }
    if (stream.eat('"')) {
      stream.match(/^(\\.|[^"\\])*/);
      if (!stream.eat('"')) state.until = '"';
      return "string";
    }
    if (stream.match(KEYWORDS)) return /^(null|true|false)$/.test(stream.current()) ? "atom" : "keyword";
    if (stream.match(/^-?\d[\d_]*(\.\d+)?\b/)) return "number";
    if (stream.match(/^[.%](@?\w+|"[^"]*")?/)) return "propertyName";
    if (stream.match(/^\w+!?(?=\()/)) return "typeName";
    if (stream.match(/^\w+/)) return null;
    if (stream.match(/^(\?\?|\|\||&&|->|[!=<>]=?|[-+*/|])/)) return "punctuation";
    stream.next();
    return null;
  },
  languageData: { commentTokens: { line: "#" }, closeBrackets: { brackets: ["(", "[", "{", '"', "'"] } },
});
