// The catalog of pages. To add one: a folder in `pages/`, a file of words in each language, and a line here.
import type { QueryClient } from "@tanstack/react-query";
import { BookOpen, FileText, Gauge, Search, Server, Settings, ShieldCheck, SlidersHorizontal, type LucideIcon } from "lucide-react";
import type { ComponentType } from "react";

/** What a page's file has. */
export interface PageModule {
  default: ComponentType;
  /** Begins what the page waits for longest, before anything is drawn; the page has what it gives as its loader's data. */
  ahead?: (search: URLSearchParams, queries: QueryClient) => unknown;
}

export interface PageEntry {
  /** Also the id of its name in the words: `page-<id>`. */
  id: string;
  path: string;
  icon: LucideIcon;
  /** What one must be allowed to do to see it. */
  permission: string;
  /** Keys that go there: `g` and this. */
  key: string;
  load: () => Promise<PageModule>;
  /** Pages below it, without a line of their own in the navigation. */
  below?: { path: string; load: () => Promise<PageModule> }[];
}

export const pages: readonly PageEntry[] = [
  { id: "now", path: "/", icon: Gauge, permission: "alerts:read", key: "n", load: () => import("../pages/now/Now") },
  { id: "search", path: "/search", icon: Search, permission: "events:read", key: "a", load: () => import("../pages/search/Search") },
  { id: "servers", path: "/servers", icon: Server, permission: "agents:read", key: "h", load: () => import("../pages/servers/Servers"), below: [{ path: "/servers/:id", load: () => import("../pages/servers/One") }] },
  { id: "response", path: "/response", icon: ShieldCheck, permission: "actions:read", key: "e", load: () => import("../pages/response/Response"), below: [
    { path: "/response/playbooks/:id", load: () => import("../pages/response/Playbook") },
    { path: "/response/executions/:id", load: () => import("../pages/response/Execution") },
  ] },
  { id: "policies", path: "/policies", icon: SlidersHorizontal, permission: "policies:read", key: "p", load: () => import("../pages/policies/Policies") },
  { id: "rules", path: "/rules", icon: BookOpen, permission: "rules:read", key: "r", load: () => import("../pages/rules/Rules"), below: [{ path: "/rules/:id", load: () => import("../pages/rules/One") }] },
  { id: "sources", path: "/sources", icon: FileText, permission: "events:read", key: "l", load: () => import("../pages/sources/Sources") },
  { id: "settings", path: "/settings", icon: Settings, permission: "session:read", key: "s", load: () => import("../pages/settings/Settings") },
];
