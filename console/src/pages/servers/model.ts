// The states of agents and proofs, and how much each of them matters.
import type { Tone } from "../../parts/State";

export const MODULES = ["log_inspection", "antimalware", "intrusion_prevention", "block_address"] as const;

export const AGENT_TONES: Record<string, Tone> = {
  connected: "good", away: "care", silent: "person", stopped: "care", retired: "calm", revoked: "calm",
};

export const PROOF_TONES: Record<string, Tone> = { proven: "good", stale: "care", unproven: "care", failing: "person", off: "calm" };

/** States of what was shown once. */
export const PROVED = ["proven", "stale"];

const ORDER = ["failing", "unproven", "stale", "proven", "off"];

/** What a host with these is called. */
export function worst(states: string[]): string {
  return ORDER.find((state) => states.includes(state)) ?? states[0] ?? "unproven";
}
