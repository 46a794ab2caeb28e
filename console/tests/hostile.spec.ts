// Whatever an attacker writes into a log, nothing of it runs in the console.
import { expect, test } from "@playwright/test";
import { payloads } from "./payloads";
import { attack, server, signIn, trap, visit } from "./steps";

test("a thousand payloads in every field that an attacker writes do nothing", async ({ page }) => {
  test.setTimeout(400_000);
  const all = payloads(1_000);
  const caught = await trap(page);
  all.forEach((payload, index) => visit(`/${encodeURI(payload).slice(0, 900)}?q=${payload.replace(/\s/g, "+")}`, payload, `198.51.100.${index % 250}`));
  attack("203.0.113.41", "<img/src=x/onerror=pwn(1)>");
  attack("203.0.113.42", "javascript:pwn(2)");
  await signIn(page, "viewer", "/search?in=events&q=sakimori.stream%3Atest-access&columns=user_agent.original,url.original,message&from=1h");
  const again = page.getByRole("button", { name: "Search again" });
  await expect(async () => {
    await again.click();
    await expect(page.getByRole("heading", { level: 2, name: /^(1000|1,000) matches|More than/ })).toBeVisible({ timeout: 2_000 });
  }).toPass({ timeout: 60_000 });
  const table = page.getByRole("table", { name: "Results" });
  await table.getByRole("row").nth(1).focus();
  // Down to the end, so that each of them was in the document once.
  await expect(async () => {
    for (let screen = 0; screen < 10; screen++) await page.keyboard.press("PageDown");
    await expect(table.locator('[aria-rowindex="1001"]')).toBeVisible({ timeout: 500 });
  }).toPass({ timeout: 120_000 });
  for (let row = 0; row < 12; row++) {
    await page.keyboard.press("Enter");
    await expect(page.getByRole("dialog")).toBeVisible();
    for (const tab of ["Fields", "Original", "Related"]) await page.getByRole("dialog").getByRole("tab", { name: tab }).click();
    await page.keyboard.press("Escape");
    await expect(page.getByRole("dialog")).toHaveCount(0);
    for (let step = 0; step < 5; step++) await page.keyboard.press("k");
  }
  for (const path of ["/", "/search?in=alerts", "/search?in=events&q=user.name%3A*&columns=user.name,message", "/servers", "/sources", "/response?tab=ledger", "/rules?tab=noisy"]) {
    await page.goto(server() + path);
    await expect(page.getByRole("heading", { level: 1 })).toBeVisible();
    await page.waitForLoadState("networkidle").catch(() => undefined);
  }
  expect(caught).toEqual([]);
});
