// No page has a serious fault for those who see little, hear it read, or use no mouse, in either language and theme; none is wider
// than a phone; the first page is small.
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { expect, test, type APIRequestContext, type Page } from "@playwright/test";
import { attack, server, signIn, token } from "./steps";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const PAGES = [
  "/", "/search?in=alerts", "/search?in=events", "/search?in=sql", "/servers", "/policies", "/policies?tab=history", "/rules", "/rules?tab=noisy",
  "/rules?tab=exceptions", "/rules?tab=check", "/response", "/response?tab=effect", "/response?tab=ledger", "/response?tab=playbooks", "/sources",
  "/settings", "/settings?tab=users", "/settings?tab=tokens", "/settings?tab=notifications", "/settings?tab=audit", "/nowhere",
];

/** What asks or shows above a page: where, and the words of the button that opens it; none for the palette. */
const OPENS: [string, string][] = [
  ["/", ""], ["/servers", "servers-enrol"], ["/search?in=alerts", "search-saved-ones"], ["/search?in=events", "search-columns"], ["/policies", "policies-new"],
  ["/response", "response-halt"], ["/settings?tab=users", "settings-user-add"],
];

type Language = "en" | "ja";

/** A text of the console, of those that fill one line and have no values in them. */
function said(language: Language, id: string): string {
  const folder = join(import.meta.dirname, "../src/i18n", language);
  const found = readdirSync(folder).map((name) => new RegExp(`^${id} = (.*)$`, "m").exec(readFileSync(join(folder, name), "utf8"))?.[1]).find(Boolean);
  if (!found) throw new Error(`there is no text ${id}`);
  return found;
}

interface Fault { id: string; impact: string; nodes: { target: string[]; failureSummary: string }[] }

async function faults(page: Page): Promise<string[]> {
  // The page's policy lets no script in; the debugger's own are not of the page.
  await page.evaluate(axe);
  const found = await page.evaluate(async () => {
    const run = (window as unknown as { axe: { run: (options: object) => Promise<{ violations: Fault[] }> } }).axe.run;
    return (await run({ resultTypes: ["violations"] })).violations;
  });
  return found.filter((fault) => fault.impact === "serious" || fault.impact === "critical")
    .map((fault) => `${fault.id}: ${fault.nodes.slice(0, 3).map((node) => `${node.target.join(" ")} — ${node.failureSummary.replace(/\s+/g, " ")}`).join(" | ")}`);
}

/** Serious faults, and whether it is wider than a phone. */
async function look(page: Page, what: string): Promise<string[]> {
  await page.setViewportSize({ width: 1280, height: 800 });
  await page.waitForLoadState("networkidle").catch(() => undefined);
  const all = (await faults(page)).map((fault) => `${what} ${fault}`);
  await page.setViewportSize({ width: 390, height: 844 });
  const wider = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  if (wider > 1) all.push(`${what} is ${wider} px wider than a phone`);
  await page.setViewportSize({ width: 1280, height: 800 });
  return all;
}

/** A page of each kind of thing, as far as there is one here. */
async function details(request: APIRequestContext): Promise<string[]> {
  const headers = { authorization: `Bearer ${await token(request, "admin")}` };
  const items = async (path: string) => ((await (await request.get(`${server()}/api/v1/${path}`, { headers })).json()) as { items: { id: string; stepwise?: boolean; order?: { id: string } }[] }).items;
  const [agents, rules, playbooks] = await Promise.all([items("agents"), items("rules?q=ssh&limit=1"), items("playbooks")]);
  // One that only a person begins would wait for the cloud; any that can begin about nothing will do.
  for (const { id } of playbooks.filter((one) => one.stepwise)) {
    const run = await request.post(`${server()}/api/v1/playbooks/${id}/run`, { headers, data: { event: { source: { ip: "203.0.113.77" }, host: { name: "web-1" } } } });
    if (run.ok()) break;
  }
  const [executions, actions, alerts] = await Promise.all([items("executions?limit=1"), items("actions?limit=1"), items("alerts?limit=1")]);
  expect([agents, rules, playbooks, executions, actions, alerts].map((list) => list.length > 0)).toEqual([true, true, true, true, true, true]);
  return [
    `/servers/${agents[0]!.id}`, `/servers/${agents[0]!.id}?tab=policy`, `/servers/${agents[0]!.id}?tab=lately`, `/rules/${rules[0]!.id}`, `/rules/${rules[0]!.id}?tab=text`,
    `/response/playbooks/${playbooks[0]!.id}`, `/response/playbooks/${playbooks[0]!.id}?tab=dry-run`, `/response/executions/${executions[0]!.id}`,
    `/response?tab=ledger&open=${actions[0]!.order!.id}`, `/search?in=alerts&open=${alerts[0]!.id}`,
  ];
}

const LOOKS = [["en", "light"], ["ja", "dark"]] as const;

for (const [language, theme] of LOOKS) {
  /** Signed in, in the language and the theme. */
  const enter = async (page: Page) => {
    await page.addInitScript(([language, theme]) => {
      localStorage.setItem("sakimori.theme", theme);
      if (sessionStorage.getItem("signed-in")) localStorage.setItem("sakimori.language", language);
    }, [language, theme] as const);
    await signIn(page, "admin");
    await page.evaluate(() => sessionStorage.setItem("signed-in", "1"));
  };
  const open = async (page: Page, path: string) => {
    await page.goto(server() + path);
    await expect(page.getByRole("heading", { level: 1 }).or(page.getByRole("dialog").getByRole("heading", { level: 2 })).first()).toBeVisible();
    await expect(page.locator("html")).toHaveAttribute("lang", language);
  };

  test(`no serious fault in ${language}, ${theme}`, async ({ page }) => {
    test.setTimeout(300_000);
    await enter(page);
    const all: string[] = [];
    for (const path of PAGES) {
      await open(page, path);
      all.push(...(await look(page, path)));
    }
    expect(all).toEqual([]);
  });

  test(`no serious fault in what opens, in ${language}, ${theme}`, async ({ page, request }) => {
    test.setTimeout(300_000);
    attack("203.0.113.71");
    await enter(page);
    const alerted = async () => (await request.get(`${server()}/api/v1/alerts?q=source.ip:203.0.113.71`, { headers: { authorization: `Bearer ${await token(request, "admin")}` } })).text();
    await expect.poll(alerted).toContain("203.0.113.71");
    const all: string[] = [];
    for (const path of await details(request)) {
      await open(page, path);
      all.push(...(await look(page, path)));
    }
    for (const [path, id] of OPENS) {
      const name = id && said(language, id);
      await open(page, path);
      if (name) await page.getByRole("button", { name, exact: true }).first().click();
      else await page.keyboard.press("Control+k");
      await expect(page.getByRole("dialog")).toBeVisible();
      all.push(...(await look(page, `${path} ${name || "Ctrl K"}`)));
    }
    expect(all).toEqual([]);
  });

  test(`no serious fault before one is signed in, in ${language}, ${theme}`, async ({ page }) => {
    await page.addInitScript(([language, theme]) => {
      localStorage.setItem("sakimori.theme", theme);
      localStorage.setItem("sakimori.language", language);
    }, [language, theme] as const);
    await open(page, "/");
    expect(await look(page, "sign-in")).toEqual([]);
    await page.getByLabel(said(language, "name")).fill("nobody");
    await page.getByLabel(said(language, "password")).fill("wrong");
    await page.keyboard.press("Enter");
    await expect(page.getByRole("alert")).toBeVisible();
    expect(await look(page, "sign-in refused")).toEqual([]);
  });
}

test("the first page is under 400 kB, and pages come one by one", async ({ page }) => {
  const sizes = new Map<string, number>();
  page.on("response", async (response) => {
    if (response.url().startsWith(server()) && !response.url().includes("/api/")) {
      const { responseBodySize } = await response.request().sizes().catch(() => ({ responseBodySize: 0 }));
      sizes.set(response.url(), responseBodySize);
    }
  });
  await signIn(page, "viewer");
  await expect(page.getByRole("heading", { level: 2 }).first()).toBeVisible();
  await page.waitForLoadState("networkidle").catch(() => undefined);
  const total = [...sizes.values()].reduce((sum, size) => sum + size, 0);
  console.log(`first page: ${Math.round(total / 1_000)} kB in ${sizes.size} files`);
  expect(total).toBeGreaterThan(50_000);
  expect(total).toBeLessThan(400_000);
  expect([...sizes.keys()].some((url) => /\/Search-/.test(url)), "the search page is not fetched yet").toBe(false);
});
