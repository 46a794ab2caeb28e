// Every text is there in both languages, and every text that a page asks for is there. No browser is needed.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { FluentBundle, FluentResource } from "@fluent/bundle";
import { expect, test } from "@playwright/test";
import ts from "typescript";

const source = join(import.meta.dirname, "../src");

function words(language: "en" | "ja") {
  const bundle = new FluentBundle(language, { useIsolating: false });
  const found = new Map<string, string>();
  const folder = join(source, "i18n", language);
  for (const file of readdirSync(folder)) {
    const text = readFileSync(join(folder, file), "utf8");
    expect(bundle.addResource(new FluentResource(text)), `${file} has entries that cannot be read, or that are there twice`).toEqual([]);
    for (const [, id, value] of text.matchAll(/^([a-z][\w-]*) =(.*(?:\n [^\n]*)*)/gm)) {
      expect(found.has(id!), `${language}: ${id} is there twice`).toBe(false);
      found.set(id!, value!);
    }
  }
  return { bundle, found };
}

const en = words("en");
const ja = words("ja");

test("both languages have the same texts, with the same values in them", () => {
  expect([...ja.found.keys()].sort()).toEqual([...en.found.keys()].sort());
  const values = (text: string) => [...new Set([...text.matchAll(/\$(\w+)/g)].map((found) => found[1]))].sort();
  for (const [id, text] of en.found) expect(values(ja.found.get(id)!), id).toEqual(values(text));
});

/** The console's own files, with the types that the compiler found in them. */
const program = (() => {
  const root = join(source, "..");
  const config = ts.parseJsonConfigFileContent(ts.readConfigFile(join(root, "tsconfig.json"), ts.sys.readFile).config as object, ts.sys, root);
  return ts.createProgram(config.fileNames, config.options);
})();
const checker = program.getTypeChecker();
const files = program.getSourceFiles().filter((file) => file.fileName.startsWith(source) && !file.isDeclarationFile);
const place = (node: ts.Node) => {
  const file = node.getSourceFile();
  return `${file.fileName.slice(source.length + 1)}:${file.getLineAndCharacterOfPosition(node.getStart()).line + 1}`;
};
const each = (node: ts.Node, look: (node: ts.Node) => void): void => {
  look(node);
  node.forEachChild((child) => each(child, look));
};
const isWordy = (node: ts.Node): node is ts.CallExpression =>
  ts.isCallExpression(node) && ts.isIdentifier(node.expression) && ["text", "named"].includes(node.expression.text);

/** All that an expression can be: texts, and patterns where a part is not known before it runs. */
function possible(node: ts.Expression): (string | RegExp)[] {
  if (ts.isStringLiteralLike(node)) return [node.text];
  if (ts.isParenthesizedExpression(node)) return possible(node.expression);
  if (ts.isConditionalExpression(node)) return [...possible(node.whenTrue), ...possible(node.whenFalse)];
  if (ts.isTemplateExpression(node)) {
    let all: string[] | undefined = [node.head.text];
    let pattern = node.head.text;
    for (const span of node.templateSpans) {
      const known = literals(span.expression);
      all = known && all?.flatMap((before) => known.map((one) => before + one + span.literal.text));
      pattern += `[\\w-]+${span.literal.text}`;
    }
    return all ?? [new RegExp(`^${pattern}$`)];
  }
  return literals(node) ?? [];
}

/** The texts that an expression's type has; nothing where it may be any text. */
function literals(node: ts.Expression): string[] | undefined {
  const type = checker.getTypeAtLocation(node);
  const kinds = type.isUnion() ? type.types : [type];
  return kinds.every((kind) => kind.isStringLiteral()) ? kinds.map((kind) => (kind as ts.StringLiteralType).value) : undefined;
}

test("every text that a page asks for is there, also where its name is put together", () => {
  expect(files.length).toBeGreaterThan(30);
  const missing: string[] = [];
  for (const file of files) each(file, (node) => {
    if (!isWordy(node) || !node.arguments[0]) return;
    const prefixes = (node.expression as ts.Identifier).text === "named";
    for (const one of possible(node.arguments[0])) {
      const there = typeof one !== "string" ? [...en.found.keys()].some((id) => one.test(id))
        : prefixes ? [...en.found.keys()].some((id) => id.startsWith(`${one}-`)) : en.found.has(one);
      if (!there) missing.push(`${place(node)} ${String(one)}`);
    }
  });
  expect(missing).toEqual([]);
});

test("every text is asked for somewhere", () => {
  const said = new Set<string>();
  const patterns: RegExp[] = [];
  for (const file of files) each(file, (node) => {
    // Names are also handed on, in lists and attributes, before they are asked for.
    if (ts.isStringLiteralLike(node)) said.add(node.text);
    if (ts.isTemplateExpression(node) && /^[a-z]\w*-/.test(node.head.text)) for (const one of possible(node)) typeof one === "string" ? said.add(one) : patterns.push(one);
    if (isWordy(node) && (node.expression as ts.Identifier).text === "named" && node.arguments[0]) for (const one of possible(node.arguments[0])) patterns.push(new RegExp(`^${String(one)}-[\\w-]+$`));
  });
  expect([...en.found.keys()].filter((id) => !said.has(id) && !patterns.some((pattern) => pattern.test(id)))).toEqual([]);
});

/** What is shown or read out, in attributes and in the objects that lists are made of. */
const SHOWN = new Set(["aria-label", "aria-description", "aria-roledescription", "title", "label", "placeholder", "alt", "help", "about", "name", "action", "note", "textValue", "fault"]);
/** Names that are the same in every language, and what is typed. */
const SAME = /^(English|日本語|Ctrl K|MITRE ATT&CK|CVE|ID|SHA-256|web production|sakimori .*|[^\p{L}]*)$/u;

test("nothing is shown that is not in the words, be it text, attribute or label", () => {
  const bare: string[] = [];
  const flag = (node: ts.Node, words: string) => {
    const said = words.trim();
    // One lower-case word is an id; what people read has a capital, a blank, or letters beyond ASCII.
    if (!SAME.test(said) && !en.found.has(said) && /^\p{Lu}\p{L}|\p{L} \p{L}|[^\x00-\x7f]/u.test(said)) bare.push(`${place(node)} ${said}`);
  };
  const within = (node: ts.Node) => each(node, (inner) => {
    if (!ts.isStringLiteralLike(inner)) return;
    for (let above: ts.Node = inner.parent; above !== node.parent; above = above.parent) {
      // What is asked of the words, compared, or styled is not shown; a nested element is looked at by itself.
      if (isWordy(above) || ts.isBinaryExpression(above) || ts.isCallExpression(above) || ts.isJsxElement(above) || ts.isJsxSelfClosingElement(above) || ts.isElementAccessExpression(above)) return;
    }
    flag(inner, inner.text);
  });
  for (const file of files.filter((file) => file.fileName.endsWith(".tsx"))) each(file, (node) => {
    if (ts.isJsxText(node)) flag(node, node.text);
    if (ts.isJsxExpression(node) && node.expression && !ts.isJsxAttribute(node.parent)) within(node.expression);
    if (ts.isJsxAttribute(node) && SHOWN.has(node.name.getText()) && node.initializer) within(node.initializer);
    if (ts.isPropertyAssignment(node) && SHOWN.has(node.name.getText().replace(/"/g, ""))) within(node.initializer);
  });
  expect(bare).toEqual([]);
});

test("Japanese is Japanese, but for names and what is typed", () => {
  // Values with a colon between them are the same in both.
  const worded = (text: string) => /\p{L}/u.test(text.replace(/\{[^{}]*\}/g, ""));
  const same = [...en.found].filter(([id, text]) => worded(text) && text === ja.found.get(id)).map(([id]) => id);
  const allowed = /^(sakimori|search-hint|search-sql|language-(sigma|yara|vrl)|.*-(url|example|kind-\w+))$/;
  expect(same.filter((id) => !allowed.test(id))).toEqual([]);
});
