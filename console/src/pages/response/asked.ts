// What the response page asks the manager for. What changes by itself is asked for again now and then.
import { useInfiniteQuery, useQuery, useQueryClient } from "@tanstack/react-query";
import { api, ask } from "../../api/client";
import { REVERSIBLE, isInEffect, type Action, type Execution, type ExecutionDetail } from "./model";

/** How often what may need a person is asked for. */
const SOON = 10_000;
const LIVE = "approved,running,done,undoing";
/** Most rows of a kind that the list of what is in effect shows. */
const MOST = 500;

interface Loose { items: Record<string, unknown>[]; next?: string }
const actionsOf = (page: Loose) => page.items as unknown as Action[];

export interface InEffect {
  items: Action[];
  /** Are there more than are shown? */
  more: boolean;
}

/** What is in effect, the newest first. Messages are in the same list, and there can be many: then it is asked for kind by kind. */
async function inEffect(): Promise<InEffect> {
  const asked = (action: string | undefined, limit: number) =>
    ask(api.GET("/api/v1/actions", { params: { query: { state: LIVE, limit, ...(action ? { action } : {}) } } }));
  const all = await asked(undefined, MOST);
  // The list of all also has what this console has no name for.
  const kinds = all.next ? await Promise.all(REVERSIBLE.map((action) => asked(action, MOST))) : [];
  const found = new Map([all, ...kinds].flatMap(actionsOf).filter(isInEffect).map((action) => [action.order.id, action]));
  const items = [...found.values()].sort((a, b) => b.planned_at.localeCompare(a.planned_at));
  return { items, more: kinds.some((page) => page.next) };
}

export const useInEffect = () => useQuery({ queryKey: ["actions", "in-effect"], queryFn: inEffect, refetchInterval: SOON });

export interface LedgerFilter { action: string; state: string; place: string; target: string; alert: string; text: string; since: string; probe: string }

export function useLedger(filter: LedgerFilter) {
  const { probe, ...rest } = filter;
  const wanted = { ...Object.fromEntries(Object.entries(rest).filter(([, value]) => value)), ...(probe && { probe: probe === "true" }) };
  return useInfiniteQuery({
    queryKey: ["actions", "ledger", wanted],
    queryFn: ({ pageParam }) => ask(api.GET("/api/v1/actions", { params: { query: { ...wanted, limit: 100, ...(pageParam ? { cursor: pageParam } : {}) } } })),
    initialPageParam: "",
    getNextPageParam: (page) => page.next,
    select: (data) => data.pages.flatMap(actionsOf),
    refetchInterval: 30_000,
  });
}

export function useAction(id: string | undefined) {
  return useQuery({
    queryKey: ["actions", "one", id],
    queryFn: async () => (await ask(api.GET("/api/v1/actions/{id}", { params: { path: { id: id! } } }))) as unknown as Action,
    enabled: Boolean(id),
    refetchInterval: SOON,
  });
}

export function useWaitingExecutions() {
  return useQuery({
    queryKey: ["executions", "running"],
    queryFn: async () => (await ask(api.GET("/api/v1/executions", { params: { query: { state: "running", limit: 1000 } } }))).items as unknown as Execution[],
    refetchInterval: SOON,
  });
}

export function useExecutions(filter: { playbook: string; state: string }) {
  const wanted = Object.fromEntries(Object.entries(filter).filter(([, value]) => value));
  return useInfiniteQuery({
    queryKey: ["executions", "list", wanted],
    queryFn: ({ pageParam }) => ask(api.GET("/api/v1/executions", { params: { query: { ...wanted, limit: 100, ...(pageParam ? { cursor: pageParam } : {}) } } })),
    initialPageParam: "",
    getNextPageParam: (page) => page.next,
    select: (data) => data.pages.flatMap((page) => page.items as unknown as Execution[]),
    refetchInterval: 30_000,
  });
}

export function useExecution(id: string) {
  return useQuery({
    queryKey: ["executions", "one", id],
    queryFn: async () => (await ask(api.GET("/api/v1/executions/{id}", { params: { path: { id } } }))) as unknown as ExecutionDetail,
    refetchInterval: SOON,
  });
}

export const useOrders = () => useQuery({ queryKey: ["orders"], queryFn: () => ask(api.GET("/api/v1/orders")), refetchInterval: SOON });
export const usePlaybooks = () => useQuery({ queryKey: ["playbooks"], queryFn: () => ask(api.GET("/api/v1/playbooks")) });

/** When something was ordered, what shows it is asked for at once, and again when it has had the time to happen. */
const LATER = [0, 1_200, 4_000];

export function useAgain() {
  const queries = useQueryClient();
  return () => LATER.forEach((after) => setTimeout(() => {
    for (const key of ["actions", "executions", "orders", "halt"]) void queries.invalidateQueries({ queryKey: [key] });
  }, after));
}
