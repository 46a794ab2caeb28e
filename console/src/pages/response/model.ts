// Actions and executions as the manager writes them, and what follows from their states. The API describes both as plain
// objects, so their form is told here.
import type { Schemas } from "../../api/client";

export interface Order {
  id: string;
  action: string;
  target: Target;
  expiry: string | null;
  cause: { alert: string; rule: string; title: string; events: string[]; by: string };
  via: string | null;
  probe: boolean;
  inputs: Record<string, string>;
}

/** One key: its kind. */
export type Target = Partial<Record<"network" | "channel" | "file" | "setting" | "resource", string>>;

export interface Action {
  order: Order;
  place: string;
  state: string;
  reason: string | null;
  former: string | null;
  planned_at: string;
  done_at: string | null;
  ended_at: string | null;
  expires_at: string | null;
  expires_at_most: string | null;
  prolonged: number;
  grace_until: string | null;
  undone_by: string | null;
  confirm_by: string | null;
  folded?: number;
}

export interface Question {
  en: string;
  ja: string;
  persons: number;
  otherwise: "allow" | "deny";
}

export interface Progress {
  state: string;
  since: string;
  number: number;
  action?: string;
  asked?: string;
  retries: number;
  until?: string;
  reason?: string;
  items?: string[];
  question?: Question;
}

export interface Execution {
  id: string;
  playbook: string;
  revision: string;
  alert: string;
  by: string;
  started: string;
  state: string;
  reason: string | null;
  steps: Record<string, Progress>;
}

export interface ExecutionDetail extends Omit<Schemas["ExecutionDetail"], "execution" | "actions" | "event"> {
  execution: Execution;
  actions: Action[];
  event: Record<string, unknown>;
}

/** Every action that has a name in the words, those of hosts first. */
export const ACTIONS = [
  "block_address", "quarantine_file", "isolate_host", "lock_user", "freeze_processes", "kill_tree", "collect_triage", "scan_paths", "prevent_mode", "waf_block", "waf_rate_rule", "waf_shape_rule", "notify",
  "instance_isolate", "instance_detach", "instance_replace", "instance_stop", "instance_terminate", "instance_collect", "disks_snapshot",
  "desktop_isolate", "desktop_stop", "access_key_deactivate", "sessions_revoke", "identity_quarantine", "bucket_close", "bucket_deny",
  "function_stop", "pipeline_stop", "pipeline_transition_disable", "port_close",
] as const;
/** What cannot be taken back once it is done. A test (`crates/respond/tests/console.rs`) holds both lists against the catalog. */
const LASTING = new Set<string>(["kill_tree", "collect_triage", "scan_paths", "notify", "instance_terminate", "instance_collect", "disks_snapshot", "pipeline_stop"]);
/** Those that can be in effect. */
export const REVERSIBLE = ACTIONS.filter((action) => !LASTING.has(action));

export const ACTION_STATES = ["planned", "approved", "running", "done", "undoing", "undone", "expired", "no_effect", "refused", "failed"] as const;
/** States of what took effect, be it over by now, as the API and addresses write them. */
export const TOOK_EFFECT = "done,undoing,undone,expired";
export const EXECUTION_STATES = ["running", "undoing", "done", "stopped", "denied", "skipped", "failed", "compensated", "undone"] as const;
const IN_EFFECT = new Set(["approved", "running", "done", "undoing"]);

export const lasts = (action: string) => LASTING.has(action);
export const isInEffect = (action: Action) => IN_EFFECT.has(action.state) && !lasts(action.order.action);
/** Is there something to take back, and is it not being taken back already? */
export const canBeUndone = (action: Action) => isInEffect(action) && action.state !== "undoing";
export const isProvisional = (action: Action) => action.state === "done" && Boolean(action.confirm_by) && Date.parse(action.confirm_by!) > Date.now();
export const isOver = (execution: Execution) => execution.state !== "running" && execution.state !== "undoing";

export const targetOf = (order: { target: Target }) => Object.values(order.target)[0] ?? "";
export const targetKind = (order: { target: Target }) => Object.keys(order.target)[0] ?? "";

/** When it ends by itself, as things stand. */
export function endOf(action: Action): string | undefined {
  const ends = [action.expires_at, action.confirm_by].filter((end) => end !== null);
  return ends.sort()[0];
}

/** The steps that wait for people. */
export function questionsOf(execution: Execution): { place: string; step: Progress; question: Question }[] {
  if (execution.state !== "running") return [];
  return Object.entries(execution.steps).flatMap(([place, step]) => (step.state === "waiting" && step.question ? [{ place, step, question: step.question }] : []));
}

/** The id of the alert behind a cause; an execution of the clock has its own name there. */
export const alertOf = (alert: string) => (alert && !alert.startsWith("execution:") ? alert : undefined);
