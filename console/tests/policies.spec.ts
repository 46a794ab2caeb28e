// A policy is changed: what would change and for whom is seen first, and it can be taken back.
import { expect, test } from "@playwright/test";
import { signIn } from "./steps";

test("a setting is changed, compared, saved, and rolled back", async ({ page }) => {
  await signIn(page, "operator", "/policies");
  await page.getByLabel("Find a setting").fill("grace_seconds");
  await page.getByRole("button", { name: "Set here" }).click();
  await page.getByLabel("After an undo, not blocked again for").fill("1234");
  await page.getByRole("button", { name: "Look at the difference" }).click();
  const dialog = page.getByRole("dialog");
  await expect(dialog.getByText("1234")).toBeVisible();
  await expect(dialog.getByText(/One of 1 servers is affected/)).toBeVisible();
  await dialog.getByRole("button", { name: "Save" }).click();
  await expect(page.getByText("The policy is saved.")).toBeVisible();

  await page.getByRole("tab", { name: "History" }).click();
  await page.getByRole("row").nth(2).click();
  const back = page.getByRole("dialog");
  await expect(back.getByText("1234")).toBeVisible();
  await back.getByRole("button", { name: "Roll back" }).click();
  await expect(page.getByText(/The layer is again as in version/)).toBeVisible();
  await page.getByRole("tab", { name: "Settings" }).click();
  await page.getByLabel("Find a setting").fill("grace_seconds");
  await expect(page.getByRole("button", { name: "Set here" })).toBeVisible();
});

test("somebody else's change in between is not overwritten", async ({ page, browser }) => {
  const other = await (await browser.newContext()).newPage();
  for (const [one, value] of [[page, "111"], [other, "222"]] as const) {
    await signIn(one, "operator", "/policies");
    await one.getByLabel("Find a setting").fill("block_address.most_per_minute");
    await one.getByRole("button", { name: "Set here" }).click();
    await one.getByLabel("Most new blocks a minute").fill(value);
    await one.getByRole("button", { name: "Look at the difference" }).click();
    await expect(one.getByRole("dialog").getByText(value)).toBeVisible();
  }
  await page.getByRole("dialog").getByRole("button", { name: "Save" }).click();
  await expect(page.getByText("The policy is saved.")).toBeVisible();
  await other.getByRole("dialog").getByRole("button", { name: "Save" }).click();
  await expect(other.getByRole("alert")).toContainText("policies/stale");
});
