// The catalog of pages. To add one: a folder in `pages/`, a file of words in each language, and a line here.
import { Gauge, Search, Settings, ShieldCheck, type LucideIcon } from "lucide-react";
import type { ComponentType } from "react";

export interface PageEntry {
  /** Also the id of its name in the words: `page-<id>`. */
  id: string;
  path: string;
  icon: LucideIcon;
  /** What one must be allowed to do to see it. */
  permission: string;
  /** Keys that go there: `g` and this. */
  key: string;
  load: () => Promise<{ default: ComponentType }>;
  /** Pages below it, without a line of their own in the navigation. */
  below?: { path: string; load: () => Promise<{ default: ComponentType }> }[];
}

export const pages: readonly PageEntry[] = [
  { id: "now", path: "/", icon: Gauge, permission: "alerts:read", key: "n", load: () => import("../pages/now/Now") },
  { id: "search", path: "/search", icon: Search, permission: "events:read", key: "a", load: () => import("../pages/search/Search") },
  {
    id: "response", path: "/response", icon: ShieldCheck, permission: "actions:read", key: "e", load: () => import("../pages/response/Response"),
    below: [
      { path: "/response/playbooks/:id", load: () => import("../pages/response/Playbook") },
      { path: "/response/executions/:id", load: () => import("../pages/response/Execution") },
    ],
  },
  { id: "settings", path: "/settings", icon: Settings, permission: "session:read", key: "s", load: () => import("../pages/settings/Settings") },
];
