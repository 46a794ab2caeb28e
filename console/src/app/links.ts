// Addresses of things, so that every page leads to them in the same way.
import { term } from "../api/document";

const to = (path: string, values: Record<string, string> = {}) => {
  const search = new URLSearchParams(values).toString();
  return search ? `${path}?${search}` : path;
};

/** Alerts that tell of somebody else: not of the agent's own probes, nor of what an exception expects. */
export const NEWS = "not sakimori.probe:true and not sakimori.alert.exception:*";
export const NOW = "/";

/** Alerts or events; those that a query finds. */
export const toSearch = (kind: "alerts" | "events", q = "", from = "") => to("/search", { in: kind, ...(q && { q }), ...(from && { from }) });
export const toAlert = (id: string) => to("/search", { in: "alerts", open: id });
export const toEvent = (id: string, time: string) => to("/search", { in: "events", open: id, time });
export const toAlertsOfRule = (id: string) => toSearch("alerts", term("rule.id", id), "30d");
export const toAlertsOfServer = (agent: string) => toSearch("alerts", term("agent.id", agent), "7d");

export const SERVERS = "/servers";
export const ENROL = to(SERVERS, { enrol: "1" });
export const toServer = (agent: string) => `${SERVERS}/${encodeURIComponent(agent)}`;

export const toResponse = (tab: "waiting" | "effect" | "executions" | "playbooks") => to("/response", { tab });
export const toAction = (id: string) => to("/response", { tab: "ledger", open: id });
export const toLedger = (filter: Record<string, string> = {}) => to("/response", { tab: "ledger", ...filter });
export const toPlaybook = (id: string) => `/response/playbooks/${encodeURIComponent(id)}`;
export const toExecution = (id: string) => `/response/executions/${encodeURIComponent(id)}`;

export const RULES = "/rules";
export const toRule = (id: string) => `${RULES}/${encodeURIComponent(id)}`;

export const toLayer = (layer: string) => to("/policies", { layer });
export const SOURCES = "/sources";
