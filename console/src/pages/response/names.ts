// Names of actions, states and causes in the user's language. What this console has no name for is shown as the manager calls it.
import { useMemo } from "react";
import { useAgents } from "../../app/installation";
import { useNamed, useWords } from "../../i18n/words";
import type { Tone } from "../../parts/State";
import { usePlaybooks } from "./asked";

const TONES: Record<string, Tone> = {
  planned: "calm", approved: "lead", running: "lead", ordered: "lead", undoing: "lead", waiting: "care", done: "good", undone: "calm", expired: "calm",
  no_effect: "calm", refused: "care", failed: "care", stopped: "care", denied: "calm", skipped: "calm", compensated: "care", kept: "calm",
};

export const toneOf = (state: string): Tone => TONES[state] ?? "calm";

export function useNames() {
  const { text, language } = useWords();
  const named = useNamed();
  const agents = useAgents();
  const { data: playbooks } = usePlaybooks();
  return useMemo(() => {
    const playbook = (id: string) => {
      const found = playbooks?.items.find((one) => one.id === id);
      return (language === "ja" && found?.title_ja) || found?.title || id;
    };
    return {
      language,
      action: (id: string) => named("response-action", id),
      state: (id: string) => named("response-state", id),
      ends: (id: string) => named("response-ends", id),
      trigger: (id: string) => named("response-trigger", id),
      severity: (id: string) => named("severity", id),
      place: (id: string) => (id === "manager" ? text("response-manager") : agents.find((agent) => agent.id === id)?.name ?? id),
      playbook,
      /** Who or what a cause names. */
      by: (by: string) => (by.startsWith("playbook:") ? text("response-by-playbook", { name: playbook(by.slice(9)) }) : by),
      question: (question: { en: string; ja: string }) => (language === "ja" && question.ja) || question.en,
    };
  }, [text, named, language, agents, playbooks]);
}
