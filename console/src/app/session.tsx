// Who is signed in. The session is a cookie that scripts cannot read; what the page knows of it, the manager told it.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { createContext, useContext, useEffect, type ReactNode } from "react";
import { api, ask, carried, heard, Problem, type Schemas } from "../api/client";

export type Who = Schemas["Who"];

interface Session {
  who: Who;
  /** May the user do this? The manager asks again; this is for what the page offers. */
  can: (permission: string) => boolean;
  leave: () => Promise<void>;
}

const Context = createContext<Session | undefined>(undefined);

/** Shows `outside` while nobody is signed in. */
export function SessionProvider({ children, outside, waiting }: { children: ReactNode; outside: ReactNode; waiting: ReactNode }) {
  const queries = useQueryClient();
  const { data: who, error } = useQuery({
    queryKey: ["session"],
    queryFn: async () => {
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

  useEffect(() => {
    const over = () => queries.setQueryData(["session"], null);
    heard.addEventListener("signed-out", over);
    return () => heard.removeEventListener("signed-out", over);
  }, [queries]);

  if (who === undefined && !error) return waiting;
  if (!who) return outside;
  carried.csrf = who.csrf ?? "";
  const session: Session = {
    who,
    can: (permission) => who.permissions.includes(permission),
    leave: async () => {
      await ask(api.DELETE("/api/v1/session"));
      queries.clear();
      queries.setQueryData(["session"], null);
    },
  };
  return <Context.Provider value={session}>{children}</Context.Provider>;
}

export function useSession(): Session {
  const session = useContext(Context);
  if (!session) throw new Error("nobody is signed in here");
  return session;
}
