// Colours of the editor's own languages: what is what in a rule, and that every shipped file is read to its end.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "@playwright/test";
import type { StreamLanguage } from "@codemirror/language";
import { suricata } from "../src/parts/modes/suricata";
import { vrl } from "../src/parts/modes/vrl";
import { yara } from "../src/parts/modes/yara";

const CONTENT = join(import.meta.dirname, "../../content");

/** Each coloured part with its kind. */
function parts(language: StreamLanguage<unknown>, text: string): [string, string][] {
  const found: [string, string][] = [];
  language.parser.parse(text).iterate({ enter: (node) => void (node.name !== "Document" && found.push([text.slice(node.from, node.to), node.name])) });
  return found;
}

const files = (folder: string, end: string): string[] =>
  readdirSync(join(CONTENT, folder), { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(end)).map((name) => readFileSync(join(CONTENT, folder, name), "utf8"));

test("a network rule", () => {
  const rule = '# why\ndrop http any any -> $HOME_NET [80,8080] (msg:"a \\"b\\"; c"; content:!"x|00 01|"; http.uri; sid:9100001; rev:2;)\nalert tcp 192.0.2.0/24 any <> any any (sid:1;)';
  const found = parts(suricata, rule);
  for (const part of [
    ["# why", "comment"], ["drop", "keyword"], ["http", "typeName"], ["any", "atom"], ["->", "punctuation"], ["$HOME_NET", "atom"], ["8080", "number"], ["msg", "propertyName"],
    ['"a \\"b\\"; c"', "string"], ["!", "keyword"], ['"x|00 01|"', "string"], ["http.uri", "propertyName"], ["9100001", "number"], ["alert", "keyword"], ["192.0.2.0/24", "number"], ["<>", "punctuation"],
  ]) expect(found).toContainEqual(part);
});

test("a YARA rule", () => {
  const rule = 'import "pe"\n/* two\nlines */\nrule one : tag {\n  meta:\n    title = "a // b" // c\n  strings:\n    $a = { 4D 5A ?? [2-4] }\n    $b = /x\\/[a-z]+/i\n    $c = "q" wide\n  condition:\n    uint16(0) == 0x5A4D and #a > 2 and filesize < 10KB and $b\n}';
  const found = parts(yara, rule);
  for (const part of [
    ["import", "keyword"], ["/* two", "comment"], ["lines */", "comment"], ["rule", "keyword"], ["title", "propertyName"], ['"a // b"', "string"], ["// c", "comment"],
    ["$a", "atom"], ["4D", "string"], ["??", "string"], ["/x\\/[a-z]+/i", "regexp"], ["wide", "keyword"], ["uint16", "keyword"], ["0x5A4D", "number"], ["#a", "atom"], ["10KB", "number"],
  ]) expect(found).toContainEqual(part);
  expect(found.filter(([text]) => text === "and").every(([, kind]) => kind === "keyword")).toBe(true);
});

test("a program in VRL", () => {
  const found = parts(vrl, '# why\nif exists(.user."full name") {\n  .x = parse_regex!(string!(.message), r\'a"b\') ?? {}\n  .y = "two\nlines" + 4.5\n} else { abort }\n.z = null');
  for (const part of [
    ["# why", "comment"], ["if", "keyword"], ["exists", "typeName"], ['.user."full name"', "propertyName"], ["parse_regex!", "typeName"], ["r'a\"b'", "regexp"],
    ["4.5", "number"], ["else", "keyword"], ["abort", "keyword"], [".z", "propertyName"], ["null", "atom"],
  ]) expect(found).toContainEqual(part);
  expect(found.some(([text, kind]) => text.endsWith('lines"') && kind === "string")).toBe(true);
});

test("every shipped file is read to its end: a comment behind it is one", () => {
  const all: [StreamLanguage<unknown>, string[], number, string][] = [
    [suricata, files("network", ".rules"), 10, "# end"], [yara, files("malware", ".yar"), 8, "// end"], [vrl, files("logs", ".vrl"), 8, "# end"],
  ];
  for (const [language, texts, least, end] of all) {
    expect(texts.length, language.name).toBeGreaterThanOrEqual(least);
    for (const text of texts) expect(parts(language, `${text.trimEnd()}\n${end}`).at(-1), text.slice(0, 200)).toEqual([end, "comment"]);
  }
});
