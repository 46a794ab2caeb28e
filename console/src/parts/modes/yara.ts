// Colours for YARA rules: keywords, names of strings, texts, patterns of bytes and regular expressions, numbers, comments.
import { StreamLanguage, type StringStream } from "@codemirror/language";

interface State {
  /** Within a comment of several lines, or a pattern of bytes. */
  within?: "comment" | "bytes";
  /** Was the last word an equals sign? Then a brace begins bytes, and a slash an expression. */
  assigned: boolean;
}

const KEYWORDS = /^(rule|private|global|import|include|meta|strings|condition|and|or|not|any|all|none|of|them|for|in|at|with|defined|contains|icontains|startswith|istartswith|endswith|iendswith|iequals|matches|entrypoint|filesize|wide|ascii|nocase|fullword|xor|base64|base64wide|u?int(8|16|32)(be)?)\b/;

function comment(stream: StringStream, state: State): string {
  if (stream.skipTo("*/")) {
    stream.match("*/");
    state.within = undefined;
  } else stream.skipToEnd();
  return "comment";
}

function bytes(stream: StringStream, state: State): string | null {
  if (stream.match(/^\/\/.*/)) return "comment";
  if (stream.eat("}")) {
    state.within = undefined;
    return "punctuation";
  }
  if (stream.match(/^~?[\da-fA-F?]{1,2}/)) return "string";
  stream.next();
  return "punctuation";
}

export const yara = StreamLanguage.define<State>({
  name: "yara",
  startState: () => ({ assigned: false }),
  token(stream, state) {
    if (state.within === "comment") return comment(stream, state);
    if (stream.eatSpace()) return null;
    if (state.within === "bytes") return bytes(stream, state);
    const { assigned } = state;
    state.assigned = false;
    if (stream.match("/*")) {
      state.within = "comment";
      return comment(stream, state);
    }
    if (stream.match(/^\/\/.*/)) return "comment";
    if (stream.match(/^"(\\.|[^"\\])*"?/)) return "string";
    if ((assigned || /matches\s*$/.test(stream.string.slice(0, stream.pos))) && stream.match(/^\/(\\.|[^/\\])+\/[is]*/)) return "regexp";
    if (assigned && stream.eat("{")) {
      state.within = "bytes";
      return "punctuation";
    }
    if (stream.match(/^[$#@!][\w*]*/)) return "atom";
    if (stream.match(/^(true|false)\b/)) return "bool";
    if (stream.match(/^(0x[\da-fA-F]+|0o[0-7]+|\d+(\.\d+)?)(KB|MB)?\b/)) return "number";
    if (stream.match(KEYWORDS)) return "keyword";
    if (stream.match(/^\w+/)) return /^\s*=[^=]/.test(stream.string.slice(stream.pos)) ? "propertyName" : null;
    if (stream.match(/^=(?!=)/)) {
      state.assigned = true;
      return "punctuation";
    }
    stream.next();
    return null;
  },
  languageData: { commentTokens: { line: "//", block: { open: "/*", close: "*/" } }, closeBrackets: { brackets: ["(", "[", "{", '"'] } },
});
