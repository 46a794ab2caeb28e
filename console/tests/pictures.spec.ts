// Pictures of every page, in both languages, light and dark, at a desk and on a phone, with nothing there and with much, for people to
// look at: SAKIMORI_PICTURES=1 tools/console-tests FOLDER pictures. They lie in test-results/pictures and are kept nowhere else.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { expect, test, type Browser, type Page } from "@playwright/test";
import { ASKED_ABOUT, CROWD, PASSWORD } from "./platform";
import { attack, overAll, server, signIn, visit } from "./steps";

test.skip(!process.env.SAKIMORI_PICTURES, "pictures are made where they are asked for");

const FOLDER = join(import.meta.dirname, "../test-results/pictures");
const PAGES: Record<string, string> = {
  "now": "/", "alerts": "/search?in=alerts&from=7d", "events": "/search?in=events&from=7d", "sql": "/search?in=sql", "servers": "/servers", "enrol": "/servers?enrol=1",
  "policies": "/policies", "policy-history": "/policies?tab=history", "policy-rollouts": "/policies?tab=rollouts", "rules": "/rules", "rules-noisy": "/rules?tab=noisy",
  "rules-exceptions": "/rules?tab=exceptions", "rules-check": "/rules?tab=check", "rule": "/rules/ssh-brute-force", "response-waiting": "/response?tab=waiting", "response-effect": "/response?tab=effect", "response-ledger": "/response?tab=ledger",
  "response-executions": "/response?tab=executions", "response-playbooks": "/response?tab=playbooks", "response-allow": "/response?tab=allow",
  "playbook": "/response/playbooks/test-asks-first", "playbook-dry": "/response/playbooks/test-asks-first?tab=dry-run", "playbook-past": "/response/playbooks/test-asks-first?tab=past", "sources": "/sources", "account": "/settings", "users": "/settings?tab=users", "tokens": "/settings?tab=tokens",
  "notifications": "/settings?tab=notifications", "bouncers": "/settings?tab=bouncers", "secrets": "/settings?tab=secrets", "audit": "/settings?tab=audit", "lost": "/nowhere",
};
/** What is there only for who is over all tenants. */
const OVER_ALL: Record<string, string> = { "now": "/", "account": "/settings", "users": "/settings?tab=users", "cloud": "/settings?tab=cloud", "backup": "/settings?tab=backup" };
type Who = { name: string; tenant?: string; password: string };
const EMPTY = { name: "test-empty-admin", tenant: "test-empty", password: PASSWORD };
const KINDS: Record<string, [Who, Record<string, string>]> = {
  full: [{ name: "test-admin", tenant: "default", password: PASSWORD }, PAGES],
  empty: [EMPTY, PAGES],
  all: [{ name: "admin", password: process.env.SAKIMORI_TEST_ADMIN ?? "" }, OVER_ALL],
};

/** A browser that is signed in and as somebody likes it. */
async function opened(browser: Browser, who: Who, language: "en" | "ja", theme: "light" | "dark"): Promise<Page> {
  const context = await browser.newContext({ locale: language === "en" ? "en-GB" : "ja-JP", timezoneId: "Asia/Tokyo", colorScheme: theme, reducedMotion: "reduce" });
  const page = await context.newPage();
  const answer = await page.request.post(`${server()}/api/v1/session`, { headers: { origin: server() }, data: { ...who, browser: true } });
  expect(answer.status()).toBe(201);
  return page;
}

async function take(page: Page, name: string, width: number) {
  await page.setViewportSize({ width, height: width > 500 ? 900 : 844 });
  await expect(page.getByRole("heading").first()).toBeVisible();
  await expect(page.getByRole("status", { name: /^(Loading|読み込み)/ })).toHaveCount(0);
  await page.screenshot({ path: join(FOLDER, `${name}.png`), animations: "disabled" });
}

test.beforeAll(async ({ browser }) => {
  mkdirSync(FOLDER, { recursive: true });
  const page = await browser.newPage();
  const headers = { authorization: `Bearer ${await overAll(page.request)}` };
  await page.request.post(`${server()}/api/v1/tenants`, { headers, data: { id: EMPTY.tenant, name: "Empty" } });
  await page.request.post(`${server()}/api/v1/users`, { headers, data: { ...EMPTY, role: "admin" } });
  await page.request.post(`${server()}/api/v1/users`, { headers, data: { name: "test-crowd-admin", tenant: CROWD.tenant, password: PASSWORD, role: "admin" } });
  for (let host = 100; host < 112; host++) attack(`203.0.113.${host}`, ["root", "admin", "deploy"][host % 3]);
  for (let number = 0; number < 40; number++) visit(["/", "/login", "/list?q=1+union+select+1,2", "/../../etc/passwd"][number % 4]!, "Mozilla/5.0", `198.51.100.${number}`);
  visit("/list?q=1+union+select+1,2", "curl/8.14.1", ASKED_ABOUT[0]!);
  await signIn(page, "admin", "/response?tab=waiting");
  await expect(page.getByRole("article", { name: "Block who sent SQL?" }).first()).toBeVisible();
  await page.close();
});

for (const [kind, [who, pages]] of Object.entries(KINDS)) {
  for (const language of ["en", "ja"] as const) {
    for (const theme of ["light", "dark"] as const) {
      test(`${kind}, ${language}, ${theme}`, async ({ browser }) => {
        test.setTimeout(1_200_000);
        const page = await opened(browser, who, language, theme);
        for (const [name, path] of Object.entries(pages)) {
          await page.goto(server() + path);
          for (const width of [1280, 390]) await take(page, `${kind}-${name}-${language}-${theme}-${width}`, width);
        }
        if (kind === "full") await drawers(page, language, theme);
        await page.context().close();
      });
    }
  }
}

/** What opens over a page, or below it. */
async function drawers(page: Page, language: string, theme: string) {
  const api = async (path: string) => (await page.request.get(`${server()}/api/v1/${path}`)).json();
  const alert = ((await api("alerts?limit=1")) as { items: { id: string }[] }).items[0]!.id;
  const execution = ((await api("executions?limit=1")) as { items: { id: string }[] }).items[0]!.id;
  const action = ((await api("actions?limit=1")) as { items: { order: { id: string } }[] }).items[0]!.order.id;
  const over: Record<string, string> = {
    "server": `/servers/${process.env.SAKIMORI_TEST_AGENT}`, "server-effect": `/servers/${process.env.SAKIMORI_TEST_AGENT}?tab=effect`,
    "server-policy": `/servers/${process.env.SAKIMORI_TEST_AGENT}?tab=policy`, "server-lately": `/servers/${process.env.SAKIMORI_TEST_AGENT}?tab=lately`,
    "alert": `/search?in=alerts&open=${encodeURIComponent(alert)}`, "execution": `/response/executions/${execution}`, "action": `/response?tab=ledger&open=${encodeURIComponent(action)}`,
  };
  for (const [name, path] of Object.entries(over)) {
    await page.goto(server() + path);
    for (const width of [1280, 390]) await take(page, `full-${name}-${language}-${theme}-${width}`, width);
  }
  await page.context().clearCookies();
  await page.goto(server());
  for (const width of [1280, 390]) await take(page, `full-signin-${language}-${theme}-${width}`, width);
}
