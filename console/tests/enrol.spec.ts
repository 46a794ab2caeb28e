// The command that enrols a server: it is copied whole, shown once, good for a day, and the page says when it is not good any more.
// That a server joins by it is shown by the walk.
import { expect, test, type Page } from "@playwright/test";
import { server, signIn } from "./steps";

const dialog = (page: Page) => page.getByRole("dialog", { name: "Enrol a server" });

async function made(page: Page, name: string) {
  await signIn(page, "admin", "/servers?enrol=1");
  await dialog(page).getByLabel("Name of this enrolment").fill(name);
  await dialog(page).getByRole("button", { name: "Make the command" }).click();
  await expect(dialog(page).getByText("Waiting for the server")).toBeVisible();
}

test("the command is copied whole, is good for a day, and is shown once", async ({ page }) => {
  await made(page, "a test of copying");
  const block = dialog(page).locator("div", { has: page.getByLabel("Run this on the server", { exact: true }) }).last();
  await block.getByRole("button", { name: "Copy" }).click();
  await expect(block.getByRole("button", { name: "Copied" })).toBeVisible();
  const command = await page.evaluate(() => navigator.clipboard.readText());
  expect(command).toBe(await dialog(page).getByLabel("Run this on the server", { exact: true }).textContent());
  expect(command).toContain("sakimori-agent enroll");
  const secret = /skm1\.[\w.-]+/.exec(command)![0];
  await expect(dialog(page).getByText(/good for a day/)).toBeVisible();
  const { items } = (await (await page.request.get(`${server()}/api/v1/enrolment-tokens?limit=1000`)).json()) as { items: { name: string; created: string; expires: string }[] };
  const mine = items.find((token) => token.name === "a test of copying")!;
  expect(Date.parse(mine.expires) - Date.parse(mine.created)).toBe(86_400_000);
  expect(JSON.stringify(items), "the secret is kept nowhere").not.toContain(secret);

  await dialog(page).getByRole("button", { name: "Close" }).first().click();
  await page.getByRole("button", { name: "Enrol a server" }).click();
  await expect(dialog(page).getByRole("button", { name: "Make the command" })).toBeVisible();
  expect(await page.content()).not.toContain(secret);
});

test("a command whose day is over is said to be so", async ({ page }) => {
  await made(page, "a test of time");
  await page.route(/\/api\/v1\/enrolment-tokens\/[^/?]+$/, async (route) => {
    const answer = await route.fetch();
    await route.fulfill({ response: answer, json: { ...((await answer.json()) as object), open: false } });
  });
  await expect(dialog(page).getByText("The command is not good any more")).toBeVisible();
});
