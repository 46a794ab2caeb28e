// The console begins here: styles, words, session, then the pages of `app/pages.ts`.
import "@fontsource-variable/inter/wght.css";
import "@fontsource-variable/jetbrains-mono/wght.css";
import "./style/tokens.css";
import "./style/base.css";
import { QueryClientProvider } from "@tanstack/react-query";
import { lazy, Suspense } from "react";
import { createRoot } from "react-dom/client";
import { RouterProvider } from "react-router";
import { queries } from "./app/queries";
import { session, SessionProvider } from "./app/session";
import { SignIn } from "./app/SignIn";
import { wear } from "./app/theme";
import { router } from "./app/router";
import { WordsProvider } from "./i18n/words";
import { NoticeProvider } from "./parts/Notice";

const Duty = lazy(() => import("./app/Duty"));

wear();

void queries.prefetchQuery(session);

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
