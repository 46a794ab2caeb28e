// The way to the manager: a client whose types come from openapi/, and the one error that pages see.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema";

export type Schemas = components["schemas"];

/** An answer that is no success: problem+json of the manager, or no answer at all. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    readonly title: string,
    readonly detail = "",
    readonly faults: Schemas["Fault"][] = [],
    readonly wait?: number,
  ) {
    super(detail || title);
  }

  /** Nobody answered: the manager restarts, or the network is away. */
  get away() {
    return this.status === 0;
  }
}

/** What every request carries besides its own; the shell sets it. */
export const carried = { language: "en", tenant: "", csrf: "" };

/** Told when an answer says that the session is over, and when the manager comes and goes. */
export const heard = new EventTarget();

/** A request that never ends would keep a page waiting for ever. */
const LONGEST = 60_000;

async function send(request: Request): Promise<Response> {
  const limited = new Request(request, { signal: AbortSignal.any([request.signal, AbortSignal.timeout(LONGEST)]) });
  let response;
  try {
    response = await fetch(limited);
  } catch (cause) {
    if (request.signal.aborted) throw cause;
    heard.dispatchEvent(new Event("away"));
    throw new Problem(0, "client/away", "");
  }
  heard.dispatchEvent(new Event("here"));
  return response;
}

export const api = createClient<paths>({ baseUrl: "/", fetch: send });

api.use({
  onRequest({ request }) {
    request.headers.set("accept-language", carried.language);
    if (carried.tenant) request.headers.set("sakimori-tenant", carried.tenant);
    if (carried.csrf && request.method !== "GET") request.headers.set("sakimori-csrf", carried.csrf);
    return request;
  },
});

/** The body of a successful answer; anything else is thrown as a `Problem`. */
export async function ask<T>(call: Promise<{ data?: T; error?: unknown; response: Response }>): Promise<T> {
  const { data, error, response } = await call;
  if (response.ok) return data as T;
  const body = (error ?? {}) as Partial<Schemas["Problem"]>;
  const problem = new Problem(
    response.status,
    body.code ?? "client/unknown",
    body.title ?? response.statusText,
    body.detail,
    body.errors,
    Number(response.headers.get("retry-after")) || undefined,
  );
  // A wrong password or code is a 401 too, and no end of a session.
  if (response.status === 401 && !["auth/failed", "auth/code", "auth/code-needed", "auth/passkey"].includes(problem.code)) heard.dispatchEvent(new Event("signed-out"));
  throw problem;
}
