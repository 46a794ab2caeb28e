// Addresses to pages. Each page is a chunk of its own, fetched when it is first opened.
import { createBrowserRouter, Navigate, type LoaderFunctionArgs, type RouteObject } from "react-router";
import { Lost } from "./Lost";
import { pages, type PageModule } from "./pages";
import { queries } from "./queries";
import { Shell } from "./Shell";
import { SIGN_IN } from "./ways";

function route(path: string, load: () => Promise<PageModule>): RouteObject {
  const lazy = async () => {
    const { default: Component, ahead } = await load();
    // Once for each visit: what its address says later, the page sees to itself.
    return { Component, loader: ({ request }: LoaderFunctionArgs) => ahead?.(new URL(request.url).searchParams, queries) ?? null, shouldRevalidate: () => false };
  };
  return { path, lazy, ErrorBoundary: Lost, HydrateFallback: () => null };
}

export const router = createBrowserRouter([
  {
    path: "/",
    Component: Shell,
    HydrateFallback: () => null,
    children: [
      ...pages.flatMap((page) => [route(page.path, page.load), ...(page.below ?? []).map((page) => route(page.path, page.load))]),
      // Providers' answers end there; who is signed in goes on.
      { path: SIGN_IN, element: <Navigate to="/" replace /> },
      { path: "*", Component: Lost },
    ],
  },
]);
