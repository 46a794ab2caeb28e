// Who is not signed in, may not, belongs to another tenant, comes from another page or puts this one into a frame gets nothing.
import { createServer } from "node:http";
import { expect, test } from "@playwright/test";
import { overAll, server, signIn, token } from "./steps";

test("an unprivileged session gets nothing beyond its role", async ({ request }) => {
  const headers = { authorization: `Bearer ${await token(request, "viewer")}` };
  const asked: [string, string, unknown][] = [
    ["PUT", "/api/v1/policies/layers/tenant", { tree: {} }],
    ["POST", "/api/v1/halt", { reason: "x" }],
    ["POST", "/api/v1/actions/undo", { action: "block_address" }],
    ["POST", "/api/v1/enrolment-tokens", { name: "x" }],
    ["GET", "/api/v1/users", undefined],
    ["GET", "/api/v1/audit", undefined],
  ];
  for (const [method, path, data] of asked) {
    const answer = await request.fetch(server() + path, { method, headers, data });
    expect(answer.status(), `${method} ${path}`).toBe(403);
  }
});

test("another tenant's ids are as if they were not there", async ({ request }) => {
  const all = { authorization: `Bearer ${await overAll(request)}` };
  expect((await request.post(`${server()}/api/v1/tenants`, { headers: all, data: { id: "other-company", name: "Other company" } })).status()).toBe(201);
  const stranger = { name: "stranger", password: "a stranger's passphrase", role: "admin", tenant: "other-company" };
  expect((await request.post(`${server()}/api/v1/users`, { headers: all, data: stranger })).status()).toBe(201);
  const opened = await request.post(`${server()}/api/v1/session`, { data: { name: "stranger", password: "a stranger's passphrase", tenant: "other-company" } });
  expect(opened.status()).toBe(201);
  const headers = { authorization: `Bearer ${((await opened.json()) as { token: string }).token}` };
  const mine = { authorization: `Bearer ${await token(request, "admin")}` };
  const alerts = ((await (await request.get(`${server()}/api/v1/alerts`, { headers: mine })).json()) as { items: { id: string; event: { event: { id: string } } }[] }).items;
  expect(alerts.length).toBeGreaterThan(0);
  const paths = [
    `/api/v1/agents/${process.env.SAKIMORI_TEST_AGENT}`,
    `/api/v1/agents/${process.env.SAKIMORI_TEST_AGENT}/overview`,
    `/api/v1/alerts/${alerts[0]!.id}`,
    `/api/v1/alerts/${alerts[0]!.id}/why`,
    `/api/v1/events/${encodeURIComponent(alerts[0]!.event.event.id)}`,
  ];
  for (const path of paths) {
    expect((await request.get(server() + path, { headers: mine })).status(), path).toBe(200);
    expect((await request.get(server() + path, { headers })).status(), path).toBe(404);
  }
  const found = (await (await request.get(`${server()}/api/v1/events`, { headers })).json()) as { items: unknown[] };
  expect(JSON.stringify(found.items)).not.toContain("203.0.113");
});

test("a request from another page is refused, whatever cookie comes with it", async ({ page }) => {
  await signIn(page, "admin");
  const cookies = (await page.context().cookies()).map((cookie) => `${cookie.name}=${cookie.value}`).join("; ");
  for (const origin of ["http://evil.example", "null", server().replace("7600", "7609")]) {
    const answer = await page.request.post(`${server()}/api/v1/halt`, { headers: { cookie: cookies, origin }, data: { reason: "forged" } });
    expect(answer.status(), origin).toBe(403);
  }
  expect(((await (await page.request.get(`${server()}/api/v1/halt`)).json()) as { halted: boolean }).halted).toBe(false);
});

test("the console cannot be put into a frame", async ({ page }) => {
  const other = createServer((_, answer) => answer.setHeader("content-type", "text/html").end(`<iframe src="${server()}/" title="framed"></iframe>`));
  await new Promise<void>((listening) => other.listen(0, "127.0.0.1", listening));
  const address = other.address() as { port: number };
  const refused = page.waitForEvent("console", (message) => /frame-ancestors|X-Frame-Options/i.test(message.text()));
  await page.goto(`http://127.0.0.1:${address.port}/`);
  await refused;
  await expect(page.frameLocator("iframe").getByText("Sign in")).toHaveCount(0);
  other.close();
});
