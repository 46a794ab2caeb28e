// The console begins here: styles, words, session, then the pages of `app/pages.ts`.
import "@fontsource-variable/inter/wght.css";
import "@fontsource-variable/jetbrains-mono/wght.css";
import "./style/tokens.css";
import "./style/base.css";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { lazy, Suspense } from "react";
import { createRoot } from "react-dom/client";
import { RouterProvider } from "react-router";
import { Problem } from "./api/client";
import { SessionProvider } from "./app/session";
import { SignIn } from "./app/SignIn";
import { wear } from "./app/theme";
import { router } from "./app/router";
import { WordsProvider } from "./i18n/words";
import { NoticeProvider } from "./parts/Notice";

const Duty = lazy(() => import("./app/Duty"));

wear();

// Who asked something wrong gets no better answer by asking again; who found nobody does.
const queries = new QueryClient({
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

createRoot(document.getElementById("root")!).render(
  <QueryClientProvider client={queries}>
    <WordsProvider>
      <NoticeProvider>
        <SessionProvider outside={<SignIn />} duty={<Suspense><Duty /></Suspense>} waiting={null}>
          <RouterProvider router={router} />
        </SessionProvider>
      </NoticeProvider>
    </WordsProvider>
  </QueryClientProvider>,
);
