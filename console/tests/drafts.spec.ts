// What somebody began to write outlives a change of tab, a reload and a change of the language, until it is sent or thrown away.
import { expect, test } from "@playwright/test";
import { server, signIn } from "./steps";

test("a policy that is being edited is still there after a tab and a reload, and saving asks why", async ({ page }) => {
  await signIn(page, "operator", "/policies");
  const find = async () => page.getByLabel("Find a setting").fill("grace_seconds");
  await find();
  await page.getByRole("button", { name: "Set here" }).click();
  await page.getByLabel("After an undo, not blocked again for").fill("4321");
  await page.getByRole("tab", { name: "History" }).click();
  await page.getByRole("tab", { name: "Settings" }).click();
  await find();
  await expect(page.getByLabel("After an undo, not blocked again for")).toHaveValue("4321");
  await page.reload();
  await find();
  await expect(page.getByLabel("After an undo, not blocked again for")).toHaveValue("4321");
  await page.getByRole("button", { name: "Look at the difference" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Reason").fill("the drill of today");
  await dialog.getByRole("button", { name: "Save" }).click();
  await expect(page.getByText("The policy is saved.")).toBeVisible();
  await expect(page.getByText("Not saved yet.")).toHaveCount(0);
  await page.getByRole("tab", { name: "History" }).click();
  await expect(page.getByRole("row").nth(1)).toContainText("the drill of today");
  await page.getByRole("row").nth(2).click();
  await page.getByRole("dialog").getByRole("button", { name: "Roll back" }).click();
  await expect(page.getByText(/The layer is again as in version/)).toBeVisible();
});

test("what is thrown away is gone, and another user has another draft", async ({ page }) => {
  await signIn(page, "operator", "/policies");
  await page.getByLabel("Find a setting").fill("grace_seconds");
  await page.getByRole("button", { name: "Set here" }).click();
  await expect(page.getByText("Not saved yet.")).toBeVisible();
  await page.getByRole("button", { name: "Sign out" }).click();
  await signIn(page, "admin", "/policies");
  await expect(page.getByLabel("Find a setting")).toBeVisible();
  await expect(page.getByText("Not saved yet.")).toHaveCount(0);
  await page.getByRole("button", { name: "Sign out" }).click();
  await signIn(page, "operator", "/policies");
  await page.getByRole("button", { name: "Discard" }).click();
  await page.reload();
  await expect(page.getByLabel("Find a setting")).toBeVisible();
  await expect(page.getByText("Not saved yet.")).toHaveCount(0);
});

test("each language of rules keeps its own draft, however fast one changes", async ({ page }) => {
  await signIn(page, "operator", "/rules?tab=check");
  const draft = page.getByRole("textbox", { name: "Draft" });
  const choose = async (from: string, to: string) => {
    await page.getByRole("button", { name: `${from} Language` }).click();
    await page.getByRole("option", { name: to, exact: true }).click();
  };
  await draft.fill("title: a rule that is being written");
  await choose("Sigma", "YARA");
  await expect(draft).toHaveText("");
  await draft.fill("rule unfinished {");
  await expect(page.locator(".cm-content span").filter({ hasText: /^rule$/ })).toBeVisible();
  await choose("YARA", "Sigma");
  await expect(draft).toContainText("title: a rule that is being written");
  await page.goto(`${server()}/rules?tab=check`);
  await expect(draft).toContainText("title: a rule that is being written");
  await choose("Sigma", "YARA");
  await expect(draft).toContainText("rule unfinished {");
});

test("an exception that was begun is gone on with", async ({ page }) => {
  await signIn(page, "operator", "/rules/ssh-brute-force");
  await page.getByRole("button", { name: "Make an exception" }).click();
  await page.getByRole("dialog").getByLabel("Reason").fill("the scanner of our own");
  await page.getByRole("dialog").getByRole("button", { name: "Cancel" }).click();
  await page.reload();
  await page.getByRole("button", { name: "Make an exception" }).click();
  await expect(page.getByRole("dialog").getByLabel("Reason")).toHaveValue("the scanner of our own");
});

test("one theme for the whole page, wherever it is chosen", async ({ page }) => {
  await signIn(page, "viewer", "/settings");
  await page.keyboard.press("Control+k");
  await page.getByRole("option", { name: "Dark", exact: true }).click();
  await expect(page.locator("html")).toHaveAttribute("data-theme", "dark");
  await page.getByRole("button", { name: "Dark", exact: true }).click();
  await expect(page.locator("html")).not.toHaveAttribute("data-theme", "dark");
});
