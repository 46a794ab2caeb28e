// What happens is on the page by itself, and what was done can be undone from it.
import { expect, test } from "@playwright/test";
import { attack, server, signIn } from "./steps";

test("an alert and its block appear by themselves; the block is undone from the page", async ({ page }) => {
  await signIn(page, "operator");
  await expect(page.getByRole("heading", { level: 2, name: "Alerts" })).toBeVisible();
  let loads = 0;
  page.on("load", () => loads++);
  attack("203.0.113.31");
  await expect(page.getByRole("list", { name: "Newest alerts" }).getByText("203.0.113.31")).toBeVisible();
  const blocked = page.getByRole("link", { name: "203.0.113.31" });
  await expect(blocked).toBeVisible();
  expect(loads, "the page was not loaded again").toBe(0);

  await page.goto(`${server()}/response?tab=effect`);
  const row = page.getByRole("row", { name: /203\.0\.113\.31/ });
  await row.getByRole("button", { name: /Undo/ }).click();
  await page.getByRole("dialog").getByRole("button", { name: /Undo/ }).last().click();
  await expect(row).toHaveCount(0);
  await page.goto(`${server()}/response?tab=ledger`);
  await expect(page.getByRole("row", { name: /Block an address on the host.*203\.0\.113\.31/ })).toContainText("Undone");
});
