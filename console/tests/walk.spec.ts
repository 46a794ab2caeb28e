// The walk of somebody new: from `make up` to a second host that is protected, and to the first attack that is blocked there. What is
// typed is what `make up` prints and what the pages say, and nothing else. With SAKIMORI_PICTURES=1 the pictures of the guide
// (docs/guides/console.md) are made anew.
import { appendFileSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium, expect, test, type Page } from "@playwright/test";
import { ATTACKER, HOST, lacking, machines, MANAGER, type Machines } from "./machines";

const PICTURES = join(import.meta.dirname, "../../docs/pictures");
const missing = lacking();
let all: Machines;
let folder: string;

test.beforeAll(async () => {
  test.setTimeout(200_000);
  if (missing && process.env.SAKIMORI_SKIPPED) appendFileSync(process.env.SAKIMORI_SKIPPED, `console: the walk: ${missing}\n`);
  test.skip(Boolean(missing), missing);
  folder = mkdtempSync(join(tmpdir(), "sakimori-walk-"));
  all = await machines(folder);
});

test.afterAll(async () => {
  await all?.end();
  if (folder) rmSync(folder, { recursive: true, force: true });
});

/** One of a step, in one of the guide's languages. */
async function picture(page: Page, name: string, language = "en") {
  const path = process.env.SAKIMORI_PICTURES ? PICTURES : test.info().outputPath("pictures");
  mkdirSync(path, { recursive: true });
  await expect(page.getByRole("status", { name: /^(Loading|読み込み中)$/ }), "all of it is there").toHaveCount(0);
  await page.screenshot({ path: join(path, `walk-${name}-${language}.png`), animations: "disabled" });
}

/** Follows the address that `make up` printed, and signs in with what it printed. */
async function arrive(page: Page, printed: string) {
  const address = /its console is at (\S+)/.exec(printed)![1]!;
  const [, name, password] = /first user: (\S+)\s+password \(shown once\): (\S+)/.exec(printed)!;
  await page.goto(address);
  await expect(page.getByLabel("Password")).toBeVisible();
  await picture(page, "1-sign-in");
  await page.getByLabel("Name").fill(name!);
  await page.getByLabel("Password").fill(password!);
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await expect(page.getByRole("heading", { level: 1, name: "Now" })).toBeVisible();
}

/** What a block of the page says is to be typed. */
async function copied(page: Page, name: string): Promise<string> {
  const block = page.getByRole("dialog").locator("div", { has: page.getByLabel(name, { exact: true }) }).last();
  await block.getByRole("button", { name: "Copy" }).click();
  await expect(block.getByRole("button", { name: "Copied" })).toBeVisible();
  return page.evaluate(() => navigator.clipboard.readText());
}

async function makeCommand(page: Page) {
  await page.getByRole("dialog").getByRole("button", { name: "Make the command" }).click();
  return copied(page, "Run this on the server");
}

test("from make up to a second host and its first blocked attack, by what the pages say", async () => {
  test.setTimeout(600_000);
  const printed = await all.manager("make up");
  const browser = await chromium.launch({ executablePath: all.browser, args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"] });
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, locale: "en-GB", timezoneId: "UTC", colorScheme: "light", permissions: ["clipboard-read", "clipboard-write"] });
  const page = await context.newPage();
  page.setDefaultTimeout(45_000);
  try {
    await test.step("signing in", () => arrive(page, printed));
    const web2 = await test.step("enrolling", () => enrolled(page));
    await test.step("an attack, seen and blocked", () => attacked(page, web2));
    if (process.env.SAKIMORI_PICTURES) await test.step("in Japanese", () => inJapanese(page, web2));
  } finally {
    await browser.close();
  }
});

/** Now leads to Servers; the first command says that it reaches this machine only, and what to do. Returns where the host's page is. */
async function enrolled(page: Page): Promise<string> {
  await expect(page.getByText("One server so far.")).toBeVisible();
  await picture(page, "2-now");
  await page.getByRole("link", { name: "Enrol a server" }).click();
  await makeCommand(page);
  await expect(page.getByText("other servers cannot reach the manager yet")).toBeVisible();
  await picture(page, "3-only-here");
  const again = await copied(page, "Commands to start the manager again");
  expect(again).toContain("ADDRESS");
  await all.manager(again.replace("ADDRESS", MANAGER));
  await expect(page.getByText("The manager does not answer.")).toBeHidden();

  const dialog = page.getByRole("dialog");
  await dialog.getByRole("button", { name: "Close" }).first().click();
  await page.getByRole("button", { name: "Enrol a server" }).click();
  await dialog.getByLabel("Name of this enrolment").fill("web server");
  await dialog.getByLabel("Groups").fill("web");
  const command = await makeCommand(page);
  await expect(dialog.getByText("other servers cannot reach")).toHaveCount(0);
  await expect(dialog.getByText("Waiting for the server")).toBeVisible();
  await picture(page, "4-command");
  expect(await all.host("command -v sakimori-agent || echo none")).toContain("none");
  await all.host(command);
  await expect(dialog.getByRole("status").getByText("connected")).toBeVisible();
  await expect(dialog.getByRole("link", { name: "web2" })).toBeVisible();
  await picture(page, "5-connected");
  await dialog.getByRole("link", { name: "web2" }).click();
  await expect(page.getByRole("heading", { level: 1, name: "web2" })).toBeVisible();
  for (const name of ["Log inspection", "Blocking"]) {
    const module = page.getByRole("tabpanel").locator("section", { has: page.getByRole("heading", { name, exact: true }) });
    await expect(module.getByText("proven", { exact: true }), name).toBeVisible({ timeout: 120_000 });
  }
  await picture(page, "6-protected");
  return page.url();
}

/** Can the attacker open a connection to the host's ssh? */
const reaches = () => all.attacker(`timeout 3 bash -c '</dev/tcp/${HOST}/22'`).then(() => true, () => false);

/** Passwords are guessed from outside while the page Now is open: alert and block appear on it, and the next connection fails. */
async function attacked(page: Page, web2: string) {
  await page.getByRole("link", { name: "Now", exact: true }).click();
  await expect(page.getByRole("heading", { level: 1, name: "Now" })).toBeVisible();
  expect(await reaches(), "he reaches the host before").toBe(true);
  const guess = `timeout 10 sshpass -p wrong ssh -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ConnectTimeout=5 root@${HOST} || true`;
  const guesses = Promise.all(Array.from({ length: 6 }, () => all.attacker(guess)));
  const alert = page.getByRole("list", { name: "Newest alerts" }).getByRole("listitem").filter({ hasText: ATTACKER });
  await expect(alert.first()).toContainText("SSH brute force");
  await expect(page.getByRole("link", { name: ATTACKER, exact: true })).toBeVisible();
  await picture(page, "7-blocked");
  await guesses;
  await expect.poll(reaches, { message: "he is kept out" }).toBe(false);
  expect(await all.host("sakimori-agent actions list")).toContain(ATTACKER);

  await alert.first().getByRole("link").click();
  await expect(page.getByRole("dialog").getByRole("heading", { name: "SSH brute force" }).first()).toBeVisible();
  await expect(page.getByRole("dialog").locator("mark").first()).toBeVisible();
  await picture(page, "8-why");
  await page.goto(`${new URL(web2).origin}/response?tab=effect`);
  await expect(page.getByRole("row", { name: new RegExp(`${ATTACKER}.*web2`) })).toBeVisible();
  await picture(page, "9-in-effect");
}

/** The steps that differ most in words, for the Japanese guide. */
async function inJapanese(page: Page, web2: string) {
  const { origin } = new URL(web2);
  await page.goto(origin);
  await page.getByRole("button", { name: "日本語" }).click();
  await expect(page.getByRole("heading", { level: 1, name: "現在の状況" })).toBeVisible();
  await expect(page.getByRole("link", { name: ATTACKER, exact: true })).toBeVisible();
  await picture(page, "7-blocked", "ja");
  await page.goto(`${origin}/servers?enrol=1`);
  await page.getByRole("dialog").getByRole("button", { name: "コマンドを作成" }).click();
  await expect(page.getByRole("dialog").getByRole("status")).toBeVisible();
  await picture(page, "4-command", "ja");
  await page.goto(web2);
  await expect(page.getByRole("heading", { level: 1, name: "web2" })).toBeVisible();
  await expect(page.getByRole("tabpanel")).toBeVisible();
  await picture(page, "6-protected", "ja");
}
