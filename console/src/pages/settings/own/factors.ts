// How the one who is signed in may show who they are, asked once for all the panels of the account.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { api, ask, type Schemas } from "../../../api/client";

export type Factors = Schemas["Factors"];
const KEY = ["factors"];

export const useFactors = () => useQuery({ queryKey: KEY, queryFn: () => ask(api.GET("/api/v1/session/factors")) });

/** Asks anew after a change. */
export function useFactorsChanged() {
  const queries = useQueryClient();
  return () => queries.invalidateQueries({ queryKey: KEY });
}
