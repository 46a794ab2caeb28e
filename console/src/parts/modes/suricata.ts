// Colours for rules in the Suricata language: what is done and over which protocol, the ways of packets, options and their values.
// It reads line by line and knows no option by name, so that none is ever missing.
import { StreamLanguage, type StringStream } from "@codemirror/language";

interface State {
  /** Between the brackets of a rule? */
  options: boolean;
  /** Does an option's value follow? */
  value: boolean;
}

const ACTIONS = /^(alert|drop|reject(src|dst|both)?|pass|config)\b/;

function head(stream: StringStream, state: State): string | null {
  if (stream.sol() && stream.match(/^\s*#.*/)) return "comment";
  if (stream.match(ACTIONS)) return "keyword";
  if (stream.match(/^(->|<>|=>)/)) return "punctuation";
  if (stream.match(/^\$\w+/)) return "atom";
  if (stream.match(/^any\b/)) return "atom";
  if (stream.match(/^\[?[\da-fA-F]*[.:][\da-fA-F.:]+(\/\d+)?/) || stream.match(/^\d+/)) return "number";
  if (stream.match(/^[\w-]+/)) return "typeName";
  if (stream.eat("(")) {
    state.options = true;
    return "punctuation";
  }
  stream.next();
  return null;
}

function option(stream: StringStream, state: State): string | null {
  if (stream.match(/^"(\\.|[^"\\])*"?/)) return "string";
  if (stream.eat(";")) {
    state.value = false;
    return "punctuation";
  }
  if (!state.value && stream.eat(")")) {
    state.options = false;
    return "punctuation";
  }
  if (!state.value) {
    if (stream.match(/^[\w.-]+/)) return "propertyName";
    if (stream.eat(":")) {
      state.value = true;
      return "punctuation";
    }
    stream.next();
    return null;
  }
  if (stream.match(/^!/)) return "keyword";
  if (stream.match(/^(0x[\da-fA-F]+|\d+)\b/)) return "number";
  if (stream.eat(",")) return "punctuation";
  // Any other word of a value, up to what ends or parts it.
  if (stream.match(/^[^\s;,"!]+/)) return null;
  stream.next();
  return null;
}

export const suricata = StreamLanguage.define<State>({
  name: "suricata",
  startState: () => ({ options: false, value: false }),
  token(stream, state) {
    // A rule is one line, unless a backslash says that it goes on.
    if (stream.eatSpace()) return null;
    if (stream.match(/^\\$/)) return "punctuation";
    return state.options ? option(stream, state) : head(stream, state);
  },
  blankLine(state) {
    state.options = false;
    state.value = false;
  },
  languageData: { commentTokens: { line: "#" } },
});
