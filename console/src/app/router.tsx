// Addresses to pages. Each page is a chunk of its own, fetched when it is first opened.
import { createBrowserRouter, type RouteObject } from "react-router";
import { Lost } from "./Lost";
import { pages } from "./pages";
import { Shell } from "./Shell";

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
      { path: "*", Component: Lost },
    ],
  },
]);
