// What several tests do: sign in, attack, ask the API as somebody.
import { appendFileSync } from "node:fs";
import { request as ask } from "node:http";
import { expect, type APIRequestContext, type Page } from "@playwright/test";
import { log, PASSWORD, SENDER } from "./platform";

export type Role = "viewer" | "operator" | "admin";

export const server = () => process.env.SAKIMORI_TEST_SERVER!;

/** Opens the console as somebody who is signed in. */
export async function signIn(page: Page, role: Role = "admin", path = "/") {
  await page.goto(server() + path);
  await page.getByLabel("Name").fill(`test-${role}`);
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await expect(page.getByRole("navigation", { name: "Navigation" })).toBeAttached();
}

/** Lets what a page types at the sign-in come from another address of this host: failures are counted by address, and other tests sign in from theirs. */
export async function signsInFrom(page: Page, address: string) {
  await page.route("**/api/v1/session", async (route) => {
    const asked = route.request();
    const answer = await new Promise<{ status: number; headers: Record<string, string>; body: string }>((done, failed) => {
      const sent = ask(asked.url(), { method: asked.method(), headers: asked.headers(), localAddress: address }, (got) => {
        got.setEncoding("utf8");
        let body = "";
        got.on("data", (part: string) => (body += part));
        got.on("end", () => done({ status: got.statusCode!, headers: got.headers as Record<string, string>, body }));
      });
      sent.on("error", failed);
      sent.end(asked.postData() ?? undefined);
    });
    await route.fulfill(answer);
  });
}

/** A bearer token of a role, for requests beside the page. */
export async function token(request: APIRequestContext, role: Role): Promise<string> {
  const answer = await request.post(`${server()}/api/v1/session`, { data: { name: `test-${role}`, password: PASSWORD } });
  expect(answer.status()).toBe(201);
  return ((await answer.json()) as { token: string }).token;
}

/** A bearer token of the first user, who is over all tenants. */
export async function overAll(request: APIRequestContext): Promise<string> {
  const answer = await request.post(`${server()}/api/v1/session`, { data: { name: "admin", password: process.env.SAKIMORI_TEST_ADMIN } });
  expect(answer.status()).toBe(201);
  return ((await answer.json()) as { token: string }).token;
}

let process_id = 1_000;

/** Five failed logins, as sshd writes them. */
export function attack(address: string, user = "root") {
  const lines = Array.from({ length: 5 }, () => `${new Date().toISOString()} web-1 sshd[${process_id++}]: Failed password for ${user} from ${address} port ${40_000 + (process_id % 1_000)} ssh2\n`);
  appendFileSync(log("auth"), lines.join(""));
}

/** A request, as nginx writes it. */
export function visit(path: string, agent: string, address = "198.51.100.77") {
  const months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
  const now = new Date();
  const two = (value: number) => String(value).padStart(2, "0");
  const time = `${two(now.getUTCDate())}/${months[now.getUTCMonth()]}/${now.getUTCFullYear()}:${two(now.getUTCHours())}:${two(now.getUTCMinutes())}:${two(now.getUTCSeconds())} +0000`;
  const escaped = (text: string) => text.replace(/["\\]/g, (found) => `\\x${found.charCodeAt(0).toString(16).toUpperCase()}`);
  appendFileSync(log("access"), `${address} - - [${time}] "GET ${escaped(path)} HTTP/1.1" 200 612 "-" "${escaped(agent)}"\n`);
}

/** A command as root, as sudo writes it: the user and the command are what an attacker types. */
export function command(line: string, user: string, host = "web-1") {
  appendFileSync(log("auth"), `${new Date().toISOString()} ${host} sudo[${process_id++}]: ${user} : TTY=pts/0 ; PWD=/tmp ; USER=root ; COMMAND=${line}\n`);
}

/** A finding of another product, every text of which somebody else wrote. */
export async function finding(request: APIRequestContext, id: string, says: string) {
  const now = new Date().toISOString();
  const resource = { resourceType: "Instance", instanceDetails: { instanceId: says, tags: [{ key: "Name", value: says }] }, accessKeyDetails: { userName: says, principalId: says } };
  const file = { threatNames: [{ name: says, filePaths: [{ filePath: says, fileName: says }] }] };
  const service = { archived: false, count: 1, eventFirstSeen: now, eventLastSeen: now, ebsVolumeScanDetails: { scanDetections: { threatDetectedByName: file } } };
  const detail = { schemaVersion: "2.0", accountId: "444455556666", region: "ap-northeast-1", id, type: says, resource, service, severity: 5, createdAt: now, updatedAt: now, title: says, description: says };
  const data = { version: "0", id, "detail-type": "GuardDuty Finding", source: "aws.guardduty", account: "444455556666", time: now, region: "ap-northeast-1", resources: [], detail };
  const answer = await request.post(`${server()}/api/v1/ingest/test-findings`, { data, headers: { authorization: `Bearer ${SENDER}` } });
  expect(answer.status(), await answer.text()).toBe(200);
}

/** Nothing that an attacker wrote may do anything: no dialog, no error of the policy, no call of what payloads call. */
export async function trap(page: Page) {
  const caught: string[] = [];
  page.on("dialog", (dialog) => {
    caught.push(`dialog ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on("console", (message) => {
    if (/Content Security Policy/i.test(message.text())) caught.push(message.text());
  });
  await page.exposeFunction("caughtByTrap", (what: string) => caught.push(what));
  await page.addInitScript(() => {
    const tell = (what: string) => (window as unknown as { caughtByTrap: (what: string) => void }).caughtByTrap(what);
    addEventListener("securitypolicyviolation", (event) => tell(`policy ${event.violatedDirective} ${event.blockedURI}`));
    for (const name of ["pwn", "xss"]) (window as unknown as Record<string, unknown>)[name] = () => tell(`${name}()`);
  });
  return caught;
}
