// No page has a serious fault for those who see little, hear it read, or use no mouse, in either language and theme; none is wider
// than a phone; the first page is small.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { expect, test, type Page } from "@playwright/test";
import { server, signIn } from "./steps";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const PAGES = [
  "/", "/search?in=alerts", "/search?in=events", "/search?in=sql", "/servers", "/policies", "/policies?tab=history", "/rules", "/rules?tab=noisy",
  "/rules?tab=exceptions", "/rules?tab=check", "/response", "/response?tab=effect", "/response?tab=ledger", "/response?tab=playbooks", "/sources",
  "/settings", "/settings?tab=users", "/settings?tab=tokens", "/settings?tab=notifications", "/settings?tab=audit", "/nowhere",
];

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

for (const [language, theme] of [["en", "light"], ["ja", "dark"]] as const) {
  test(`no serious fault in ${language}, ${theme}`, async ({ page }) => {
    test.setTimeout(300_000);
    await page.addInitScript(([language, theme]) => {
      localStorage.setItem("sakimori.theme", theme);
      if (sessionStorage.getItem("signed-in")) localStorage.setItem("sakimori.language", language);
    }, [language, theme] as const);
    await signIn(page, "admin");
    await page.evaluate(() => sessionStorage.setItem("signed-in", "1"));
    const all: string[] = [];
    for (const path of PAGES) {
      await page.setViewportSize({ width: 1280, height: 800 });
      await page.goto(server() + path);
      await expect(page.getByRole("heading", { level: 1 })).toBeVisible();
      await page.waitForLoadState("networkidle").catch(() => undefined);
      await expect(page.locator("html")).toHaveAttribute("lang", language);
      all.push(...(await faults(page)).map((fault) => `${path} ${fault}`));
      await page.setViewportSize({ width: 390, height: 844 });
      const wider = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      if (wider > 1) all.push(`${path} is ${wider} px wider than a phone`);
    }
    expect(all).toEqual([]);
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
