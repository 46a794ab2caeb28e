// Addresses to pages. Each page is a chunk of its own, fetched when it is first opened.
import { createBrowserRouter, Navigate, type RouteObject } from "react-router";
import { Lost } from "./Lost";
import { pages } from "./pages";
import { Shell } from "./Shell";
import { SIGN_IN } from "./ways";

function route(path: string, load: () => Promise<{ default: React.ComponentType }>): RouteObject {
  return { path, lazy: async () => ({ Component: (await load()).default }), ErrorBoundary: Lost, HydrateFallback: () => null };
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
