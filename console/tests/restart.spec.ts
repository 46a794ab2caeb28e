// The manager goes away while a page is open: the page says so, keeps what was typed, and goes on when it is back.
import { execFileSync } from "node:child_process";
import { expect, test } from "@playwright/test";
import { signIn } from "./steps";

/** The manager's process of this platform; its supervisor starts it again. */
function manager(): number {
  const found = execFileSync("pgrep", ["-f", `manager --config ${process.env.SAKIMORI_TEST_STATE}/manager.toml`], { encoding: "utf8" });
  return Number(found.split("\n")[0]);
}

test("what was typed outlives a restart of the manager", async ({ page }) => {
  await signIn(page, "operator", "/policies");
  await page.getByLabel("Find a setting").fill("block_address.expiry_seconds");
  await page.getByRole("button", { name: "Set here" }).click();
  await page.getByLabel("How long a block lasts").fill("7200");
  const before = manager();
  process.kill(before, "SIGKILL");
  await expect(page.getByText("The manager does not answer.")).toBeVisible();
  await expect(page.getByLabel("How long a block lasts")).toHaveValue("7200");
  await expect(page.getByText("The manager does not answer.")).toBeHidden({ timeout: 90_000 });
  expect(manager()).not.toBe(before);
  await expect(page.getByLabel("How long a block lasts")).toHaveValue("7200");
  await page.getByRole("button", { name: "Look at the difference" }).click();
  await expect(page.getByRole("dialog").getByText("7200")).toBeVisible();
});
