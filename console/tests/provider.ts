// A provider of OpenID Connect, for tests: signs everybody in at once as whom the test says, and gives a code for one token, to
// who knows the verifier of its challenge.
import { createHash, generateKeyPairSync, randomUUID, sign } from "node:crypto";
import { createServer, type IncomingMessage } from "node:http";
import { PROVIDER } from "./platform";

const KEY = "key-1";
const base64url = (text: string) => Buffer.from(text).toString("base64url");

async function body(request: IncomingMessage): Promise<URLSearchParams> {
  let text = "";
  for await (const part of request) text += String(part);
  return new URLSearchParams(text);
}

export interface Provider {
  /** Who is at the provider's keyboard. */
  account: { sub: string; preferred_username: string; groups: string[] };
  /** How often somebody was signed out there. */
  left: number;
  stop: () => Promise<void>;
}

export async function provider(account: Provider["account"]): Promise<Provider> {
  const { privateKey, publicKey } = generateKeyPairSync("rsa", { modulusLength: 2_048 });
  const jwk = { ...publicKey.export({ format: "jwk" }), kid: KEY, use: "sig", alg: "RS256" };
  const codes = new Map<string, { challenge: string; client: string; nonce: string; account: Provider["account"] }>();

  const token = (client: string, nonce: string, account: Provider["account"]) => {
    const now = Math.floor(Date.now() / 1_000);
    const claims = { iss: PROVIDER, aud: client, iat: now, exp: now + 300, nonce, ...account };
    const signed = `${base64url(JSON.stringify({ alg: "RS256", kid: KEY, typ: "JWT" }))}.${base64url(JSON.stringify(claims))}`;
    return `${signed}.${sign("sha256", Buffer.from(signed), privateKey).toString("base64url")}`;
  };

  const server = createServer((request, response) => {
    const url = new URL(request.url ?? "/", PROVIDER);
    const json = (status: number, value: unknown) => response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
    const to = (address: string, values: Record<string, string>) => {
      const target = new URL(address);
      for (const [name, value] of Object.entries(values)) target.searchParams.set(name, value);
      response.writeHead(302, { location: target.href }).end();
    };
    const asked = (name: string) => url.searchParams.get(name) ?? "";
    if (url.pathname === "/.well-known/openid-configuration") {
      json(200, {
        issuer: PROVIDER, authorization_endpoint: `${PROVIDER}/auth`, token_endpoint: `${PROVIDER}/token`, jwks_uri: `${PROVIDER}/keys`,
        end_session_endpoint: `${PROVIDER}/out`, response_types_supported: ["code"], subject_types_supported: ["public"],
        id_token_signing_alg_values_supported: ["RS256"],
      });
    } else if (url.pathname === "/keys") {
      json(200, { keys: [jwk] });
    } else if (url.pathname === "/auth") {
      const code = randomUUID();
      codes.set(code, { challenge: asked("code_challenge"), client: asked("client_id"), nonce: asked("nonce"), account: here.account });
      to(asked("redirect_uri"), { code, state: asked("state") });
    } else if (url.pathname === "/token") {
      void body(request).then((said) => {
        const code = said.get("code") ?? "";
        const given = codes.get(code);
        codes.delete(code);
        const challenge = createHash("sha256").update(said.get("code_verifier") ?? "").digest("base64url");
        if (!given || given.challenge !== challenge) return json(400, { error: "invalid_grant" });
        return json(200, { access_token: randomUUID(), token_type: "Bearer", id_token: token(given.client, given.nonce, given.account) });
      });
    } else if (url.pathname === "/out") {
      here.left += 1;
      to(asked("post_logout_redirect_uri"), {});
    } else {
      json(404, {});
    }
  });
  const { hostname, port } = new URL(PROVIDER);
  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(Number(port), hostname, resolve));
  const here: Provider = {
    account,
    left: 0,
    stop: () => new Promise((resolve) => {
      server.closeAllConnections();
      server.close(() => resolve());
    }),
  };
  return here;
}
