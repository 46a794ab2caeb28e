// Every text is there in both languages, and every text that a page asks for is there. No browser is needed.
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { FluentBundle, FluentResource } from "@fluent/bundle";
import { expect, test } from "@playwright/test";

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

function code(folder: string): [string, string][] {
  return readdirSync(folder).flatMap((name) => {
    const path = join(folder, name);
    if (statSync(path).isDirectory()) return code(path);
    return /\.tsx?$/.test(name) ? [[path, readFileSync(path, "utf8")] as [string, string]] : [];
  });
}

const en = words("en");
const ja = words("ja");

test("both languages have the same texts, with the same values in them", () => {
  expect([...ja.found.keys()].sort()).toEqual([...en.found.keys()].sort());
  const values = (text: string) => [...new Set([...text.matchAll(/\$(\w+)/g)].map((found) => found[1]))].sort();
  for (const [id, text] of en.found) expect(values(ja.found.get(id)!), id).toEqual(values(text));
});

test("every text that a page asks for is there", () => {
  const files = code(source);
  expect(files.length).toBeGreaterThan(30);
  for (const [path, text] of files) {
    for (const [, id] of text.matchAll(/\btext\(\s*"([\w-]+)"/g)) expect(en.found.has(id!), `${path}: ${id}`).toBe(true);
    // Of those that are put together, some must begin so.
    for (const [, begin] of text.matchAll(/\btext\(\s*`([\w-]+)-\$\{/g)) {
      expect([...en.found.keys()].some((id) => id.startsWith(`${begin}-`)), `${path}: ${begin}-…`).toBe(true);
    }
  }
});

test("Japanese is Japanese, but for names and what is typed", () => {
  const same = [...en.found.keys()].filter((id) => en.found.get(id) === ja.found.get(id));
  const allowed = /^(sakimori|search-hint|search-sql|language-(sigma|yara|vrl)|.*-(url|example|kind-\w+))$/;
  expect(same.filter((id) => !allowed.test(id))).toEqual([]);
});
