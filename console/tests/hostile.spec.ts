// Whatever an attacker writes into a log, or makes another product report, nothing of it runs in the console.
import { expect, test, type Page } from "@playwright/test";
import { payloads } from "./payloads";
import { attack, command, finding, server, signIn, trap, visit } from "./steps";

/** Searches until so many are found. */
async function found(page: Page, path: string, count: number) {
  await page.goto(server() + path);
  const again = page.getByRole("button", { name: "Search again" });
  await expect(async () => {
    await again.click();
    // It is counted anew, which takes a slow machine its time; only then is the number one to judge.
    const said = page.getByRole("heading", { level: 2, name: / matches|^More than/ });
    await expect(said).toBeVisible({ timeout: 30_000 });
    expect(await said.textContent()).toMatch(new RegExp(`^(${count}|${count.toLocaleString("en")}) matches`));
  }).toPass({ timeout: 180_000 });
}

/** Goes down to the end, so that each row was in the document once, and opens some from there upwards. */
async function seen(page: Page, count: number, opened: number) {
  const table = page.getByRole("table", { name: "Results" });
  await table.getByRole("row").nth(1).focus();
  await expect(async () => {
    for (let screen = 0; screen < 10; screen++) await page.keyboard.press("PageDown");
    await expect(table.locator(`[aria-rowindex="${count + 1}"]`)).toBeVisible({ timeout: 500 });
  }).toPass({ timeout: 120_000 });
  for (let row = 0; row < opened; row++) {
    await page.keyboard.press("Enter");
    await expect(page.getByRole("dialog")).toBeVisible();
    for (const tab of ["Fields", "Original", "Related"]) await page.getByRole("dialog").getByRole("tab", { name: tab }).click();
    await page.keyboard.press("Escape");
    await expect(page.getByRole("dialog")).toHaveCount(0);
    for (let step = 0; step < 5; step++) await page.keyboard.press("k");
  }
}

test("a thousand payloads in every field that an attacker writes do nothing", async ({ page, request }) => {
  test.setTimeout(900_000);
  const all = payloads(1_000);
  const caught = await trap(page);
  for (const [index, payload] of all.entries()) {
    visit(`/${encodeURI(payload).slice(0, 900)}?q=${payload.replace(/\s/g, "+")}`, payload, `198.51.100.${index % 250}`);
    // One line of a log: a line's end would be the next one's beginning.
    command(payload.replace(/[\n\r\u2028]/g, " "), `<svg/onload=pwn(${index})>`, "<img/src=x>");
    await finding(request, `hostile-${index}`, payload);
  }
  attack("203.0.113.41", "<img/src=x/onerror=pwn(1)>");
  attack("203.0.113.42", "javascript:pwn(2)");
  await signIn(page, "viewer", "/servers");
  const fields = {
    "sakimori.stream:test-access": "user_agent.original,url.original,message",
    "sakimori.stream:test-auth and event.action:sudo*": "process.command_line,user.name,host.hostname",
    "event.dataset:aws.guardduty and not sakimori.alert.id:*": "rule.name,rule.description,host.name,file.path,message",
  };
  for (const [query, columns] of Object.entries(fields)) {
    await found(page, `/search?in=events&q=${encodeURIComponent(query)}&columns=${columns}&from=1h`, 1_000);
    await seen(page, 1_000, 6);
  }
  for (const path of ["/", "/search?in=alerts", "/search?in=events&q=user.name%3A*&columns=user.name,message", "/servers", "/sources", "/response?tab=ledger", "/rules?tab=noisy"]) {
    await page.goto(server() + path);
    await expect(page.getByRole("heading", { level: 1 })).toBeVisible();
    await page.waitForLoadState("networkidle").catch(() => undefined);
  }
  expect(caught).toEqual([]);
});
