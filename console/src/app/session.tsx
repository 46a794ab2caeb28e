// Who is signed in. The session is a cookie that scripts cannot read; what the page knows of it, the manager told it.
import { queryOptions, useQuery, useQueryClient, type QueryClient } from "@tanstack/react-query";
import { createContext, useContext, useEffect, useRef, useState, type ReactNode } from "react";
import { api, ask, carried, heard, Problem, type Schemas } from "../api/client";
import { useWords, type Language } from "../i18n/words";

export type Who = Schemas["Who"];

interface Session {
  who: Who;
  /** May the user do this? The manager asks again; this is for what the page offers. */
  can: (permission: string) => boolean;
  leave: () => Promise<void>;
  /** The language that the user has here and wherever else they sign in; none leaves it to each browser. */
  prefer: (language: Language | undefined) => Promise<void>;
  /** Keeps the page of the duty while it shows what is shown once, though the duty is done by then. */
  hold: (on: boolean) => void;
}

const Context = createContext<Session | undefined>(undefined);

const isLanguage = (language: unknown): language is Language => language === "en" || language === "ja";

/** Who is signed in, null where nobody is. The first thing that the console asks, before its words are there. */
export const session = queryOptions({
  queryKey: ["session"],
  queryFn: async (): Promise<Who | null> => {
    try {
      return await ask(api.GET("/api/v1/session"));
    } catch (problem) {
      if (problem instanceof Problem && problem.status === 401) return null;
      throw problem;
    }
  },
  retry: (_, error) => error instanceof Problem && error.away,
  retryDelay: 1_000,
  staleTime: 60_000,
});

/** Leads to the sign-in page, and forgets what was loaded for the user. The session itself stays a query that is watched. */
export function signedOut(queries: QueryClient) {
  queries.setQueryData(["session"], null);
  queries.removeQueries({ predicate: ({ queryKey: [first] }) => first !== "session" });
}

interface Props {
  children: ReactNode;
  /** What is shown while nobody is signed in. */
  outside: ReactNode;
  /** What is shown to somebody who can do nothing but set up a second factor. */
  duty: ReactNode;
  waiting: ReactNode;
}

export function SessionProvider({ children, outside, duty, waiting }: Props) {
  const queries = useQueryClient();
  const { choose } = useWords();
  const [held, hold] = useState(false);
  const dutiful = useRef(false);
  const { data: who, error } = useQuery(session);

  useEffect(() => {
    const over = () => queries.setQueryData(["session"], null);
    heard.addEventListener("signed-out", over);
    return () => heard.removeEventListener("signed-out", over);
  }, [queries]);

  const language = who?.language;
  useEffect(() => {
    if (isLanguage(language)) choose(language);
  }, [language, choose]);

  if (who === undefined && !error) return waiting;
  if (!who) return outside;
  carried.csrf = who.csrf ?? "";
  dutiful.current = who.second_factor === "required" || (dutiful.current && held);
  const value: Session = {
    who,
    hold,
    can: (permission) => who.permissions.includes(permission),
    leave: async () => {
      await ask(api.DELETE("/api/v1/session"));
      signedOut(queries);
      // The provider's own session ends there.
      if (who.sign_out_url && /^https?:\/\//.test(who.sign_out_url)) location.assign(who.sign_out_url);
    },
    prefer: async (language) => {
      await ask(api.PUT("/api/v1/session/language", { body: { language: language ?? null } }));
      queries.setQueryData(["session"], { ...who, language });
    },
  };
  return <Context.Provider value={value}>{dutiful.current ? duty : children}</Context.Provider>;
}

export function useSession(): Session {
  const session = useContext(Context);
  if (!session) throw new Error("nobody is signed in here");
  return session;
}

/** Speaks a language from now on. Who has chosen one for everywhere means everywhere; the choice of this browser stays where that
 *  cannot be kept. */
export function useSpeak(): (language: Language) => void {
  const { choose } = useWords();
  const { who, prefer } = useSession();
  return (language) => {
    choose(language);
    if (who.language) void prefer(language).catch(() => undefined);
  };
}
