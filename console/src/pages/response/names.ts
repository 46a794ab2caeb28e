// Names of actions, states and causes in the user's language. What this console has no name for is shown as the manager calls it.
import { useMemo } from "react";
import { useWords } from "../../i18n/words";
import type { Tone } from "../../parts/State";
import { useAgents, usePlaybooks } from "./asked";

const TONES: Record<string, Tone> = {
  planned: "calm", approved: "lead", running: "lead", ordered: "lead", undoing: "lead", waiting: "care", done: "good", undone: "calm", expired: "calm",
  no_effect: "calm", refused: "care", failed: "care", stopped: "care", denied: "calm", skipped: "calm", compensated: "care", kept: "calm",
};

export const toneOf = (state: string): Tone => TONES[state] ?? "calm";

export function useNames() {
  const { text, language } = useWords();
  const agents = useAgents();
  const { data: playbooks } = usePlaybooks();
  return useMemo(() => {
    const known = (key: string, fallback: string) => {
      // An id with other characters than a name has is no name of ours.
      const name = /^[\w-]+$/.test(key) ? text(key) : key;
      return name === key ? fallback : name;
    };
    const playbook = (id: string) => {
      const found = playbooks?.items.find((one) => one.id === id);
      return (language === "ja" && found?.title_ja) || found?.title || id;
    };
    return {
      language,
      action: (id: string) => known(`response-action-${id}`, id),
      state: (id: string) => known(`response-state-${id}`, id),
      ends: (id: string) => known(`response-ends-${id}`, id),
      trigger: (id: string) => known(`response-trigger-${id}`, id),
      severity: (id: string) => known(`response-severity-${id}`, id),
      place: (id: string) => (id === "manager" ? text("response-manager") : agents.find((agent) => agent.id === id)?.name ?? id),
      playbook,
      /** Who or what a cause names. */
      by: (by: string) => (by.startsWith("playbook:") ? text("response-by-playbook", { name: playbook(by.slice(9)) }) : by),
      question: (question: { en: string; ja: string }) => (language === "ja" && question.ja) || question.en,
    };
  }, [text, language, agents, playbooks]);
}
