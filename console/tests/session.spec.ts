// Signing in and out, wrong passwords, and what each role is offered.
import { expect, test } from "@playwright/test";
import { server, signIn, signsInFrom } from "./steps";

test("one signs in and out, and the page that was asked for comes after", async ({ page, context }) => {
  await signIn(page, "admin", "/rules");
  await expect(page.getByRole("heading", { level: 1, name: "Rules" })).toBeVisible();
  const cookie = (await context.cookies()).find((cookie) => cookie.name.includes("sakimori"));
  expect(cookie).toMatchObject({ httpOnly: true, sameSite: "Strict" });
  await page.getByRole("button", { name: "Sign out" }).click();
  await expect(page.getByRole("button", { name: "Sign in" })).toBeVisible();
  await page.goto(`${server()}/settings`);
  await expect(page.getByRole("button", { name: "Sign in" })).toBeVisible();
  expect((await page.request.get(`${server()}/api/v1/agents`)).status()).toBe(401);
});

test("a wrong password is told as such and soon has to wait", async ({ page }) => {
  await signsInFrom(page, "127.0.0.9");
  await page.goto(server());
  await page.getByLabel("Name").fill("nobody-of-this-name");
  await page.getByLabel("Password").fill("not the password at all");
  const alert = page.getByRole("alert");
  for (let turn = 0; turn < 12; turn++) {
    await page.getByRole("button", { name: "Sign in" }).click();
    await expect(alert).toBeVisible();
    if (await page.getByText("Try again in").isVisible()) break;
  }
  await expect(page.getByText("Try again in")).toBeVisible();
  await expect(alert).toContainText("auth/throttled");
});

test("a viewer sees everything and is offered nothing that changes it", async ({ page }) => {
  await signIn(page, "viewer", "/servers");
  await expect(page.getByRole("row").nth(1)).toBeVisible();
  await expect(page.getByRole("button", { name: "Enrol a server" })).toHaveCount(0);
  await page.goto(`${server()}/policies`);
  await expect(page.getByRole("heading", { level: 2, name: "all servers" })).toBeVisible();
  await expect(page.getByRole("button", { name: "Set here" })).toHaveCount(0);
  await page.goto(`${server()}/settings`);
  await expect(page.getByRole("tab", { name: "My account" })).toBeVisible();
  await expect(page.getByRole("tab", { name: "Users" })).toHaveCount(0);
});

test("the language changes at once, and stays", async ({ page }) => {
  await signIn(page, "viewer");
  await page.getByRole("button", { name: "日本語" }).click();
  await expect(page.getByRole("heading", { level: 1, name: "現在の状況" })).toBeVisible();
  await expect(page.locator("html")).toHaveAttribute("lang", "ja");
  await page.reload();
  await expect(page.getByRole("heading", { level: 1, name: "現在の状況" })).toBeVisible();
});

test("the palette goes everywhere by keyboard", async ({ page }) => {
  await signIn(page, "operator");
  await page.keyboard.press("Control+k");
  await page.getByPlaceholder("A page or something to do").fill("Log sou");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("heading", { level: 1, name: "Log sources" })).toBeVisible();
  await page.keyboard.press("g");
  await page.keyboard.press("r");
  await expect(page.getByRole("heading", { level: 1, name: "Rules" })).toBeVisible();
});

test("an address without a page says so, and leads back", async ({ page }) => {
  await signIn(page, "viewer");
  await page.goto(`${server()}/nowhere`);
  await expect(page.getByRole("heading", { level: 1, name: "There is no such page" })).toBeVisible();
  await page.getByRole("button", { name: "Back" }).click();
  await expect(page.getByRole("heading", { level: 1, name: "Now" })).toBeVisible();
});
