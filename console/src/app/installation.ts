// What several pages ask of the installation: its servers' names, its policy layers, whether answers are stopped. Each is asked once,
// whoever needs it.
import { useQuery } from "@tanstack/react-query";
import { useCallback } from "react";
import { api, ask } from "../api/client";
import { at } from "../api/document";
import { useWords } from "../i18n/words";
import { useSession } from "./session";

/** Names of agents by their ids. */
export function useAgents() {
  const { data } = useQuery({ queryKey: ["agents", "names"], queryFn: () => ask(api.GET("/api/v1/agents", { params: { query: { limit: 1_000 } } })), staleTime: 60_000 });
  return data?.items ?? [];
}

export const readLayers = () => ask(api.GET("/api/v1/policies/layers"));

export const useLayers = (enabled = true) => useQuery({ queryKey: ["policies", "layers"], queryFn: readLayers, enabled });

export const useHalt = () => useQuery({ queryKey: ["halt"], queryFn: () => ask(api.GET("/api/v1/halt")), refetchInterval: 30_000 });

/** Titles of rules in the user's language, by the id of the rule. Alerts have the English one, which holds where there is no other. */
export function useRuleTitle() {
  const { language } = useWords();
  const { can } = useSession();
  const { data } = useQuery({
    queryKey: ["rule-titles"], queryFn: () => ask(api.GET("/api/v1/rules/titles")), staleTime: 600_000,
    enabled: language === "ja" && can("rules:read"),
  });
  const ja = language === "ja" ? data?.ja : undefined;
  return useCallback((id: unknown, title: unknown): string => ja?.[String(id)] ?? String(title || id || ""), [ja]);
}

/** The title of an event that is an alert; empty where it is none. */
export function useAlertTitle() {
  const title = useRuleTitle();
  return useCallback((event: unknown) => title(at(event, "rule.id"), at(event, "rule.name")), [title]);
}
