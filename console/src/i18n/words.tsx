// The console's words: Fluent files beside this one, a folder a language and a file a page. A language is fetched when
// it is chosen; changing it changes every text, date and number at once.
import { FluentBundle, FluentResource, type FluentVariable } from "@fluent/bundle";
import { createContext, useContext, useEffect, useMemo, useState, type ReactNode } from "react";
import { carried } from "../api/client";
import { keep, kept } from "../app/kept";

export const LANGUAGES = { en: "English", ja: "日本語" } as const;
export type Language = keyof typeof LANGUAGES;
export type Arguments = Record<string, FluentVariable>;
/** The text of an id, with what it speaks of filled in. */
export type Text = (id: string, values?: Arguments) => string;

const files = {
  en: () => import("./en"),
  ja: () => import("./ja"),
};

interface Words {
  language: Language;
  choose: (language: Language) => void;
  text: Text;
}

const Context = createContext<Words | undefined>(undefined);

export function firstLanguage(): Language {
  const chosen = kept("language");
  if (chosen === "en" || chosen === "ja") return chosen;
  return navigator.language.toLowerCase().startsWith("ja") ? "ja" : "en";
}

export async function bundle(language: Language): Promise<FluentBundle> {
  const bundle = new FluentBundle(language, { useIsolating: false });
  for (const source of (await files[language]()).default) {
    for (const error of bundle.addResource(new FluentResource(source))) console.error(error);
  }
  return bundle;
}

/** Shows nothing until the first language is there, so that no id is ever seen. */
export function WordsProvider({ children }: { children: ReactNode }) {
  const [wanted, choose] = useState(firstLanguage);
  const [loaded, setLoaded] = useState<{ language: Language; bundle: FluentBundle }>();

  useEffect(() => {
    let stale = false;
    void bundle(wanted).then((bundle) => {
      if (!stale) setLoaded({ language: wanted, bundle });
    });
    return () => {
      stale = true;
    };
  }, [wanted]);

  useEffect(() => {
    if (!loaded) return;
    document.documentElement.lang = loaded.language;
    carried.language = loaded.language;
    keep("language", loaded.language);
  }, [loaded]);

  const words = useMemo(() => {
    if (!loaded) return undefined;
    carried.language = loaded.language;
    const text: Text = (id, values) => {
      const message = loaded.bundle.getMessage(id);
      if (!message?.value) return id;
      return loaded.bundle.formatPattern(message.value, values ?? null);
    };
    return { language: loaded.language, choose, text };
  }, [loaded]);

  return words && <Context.Provider value={words}>{children}</Context.Provider>;
}

export function useWords(): Words {
  const words = useContext(Context);
  if (!words) throw new Error("there are no words outside of WordsProvider");
  return words;
}

/** The function that gives texts. */
export const useText = () => useWords().text;

/** The name of what the manager calls by an id; the id itself where this console has no name for it yet. */
export function useNamed() {
  const { text } = useWords();
  return useMemo(() => (prefix: string, id: string) => {
    const key = `${prefix}-${id}`;
    const name = /^[\w-]+$/.test(id) ? text(key) : key;
    return name === key ? id : name;
  }, [text]);
}
