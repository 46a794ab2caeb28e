// Addresses of things, so that every page leads to them in the same way.
const to = (path: string, values: Record<string, string> = {}) => {
  const search = new URLSearchParams(values).toString();
  return search ? `${path}?${search}` : path;
};

export const toAlert = (id: string) => to("/search", { in: "alerts", open: id });
export const toServer = (agent: string) => to(`/servers/${encodeURIComponent(agent)}`);
export const toAction = (id: string) => to("/response", { tab: "ledger", open: id });
export const toLedger = (filter: Record<string, string>) => to("/response", { tab: "ledger", ...filter });
export const toPlaybook = (id: string) => to(`/response/playbooks/${encodeURIComponent(id)}`);
export const toExecution = (id: string) => to(`/response/executions/${encodeURIComponent(id)}`);
