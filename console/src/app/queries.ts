// What was asked of the manager and answered, for every page.
import { QueryClient } from "@tanstack/react-query";
import { Problem } from "../api/client";

// Who asked something wrong gets no better answer by asking again; who found nobody does.
export const queries = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 5_000,
      retry: (count, error) => error instanceof Problem && (error.away || error.status >= 500) && count < 30,
      retryDelay: (count) => Math.min(5_000, 300 * 2 ** count),
      refetchOnWindowFocus: true,
      networkMode: "always",
    },
    mutations: { networkMode: "always" },
  },
});
