// Every way to sign in as people use it: codes of a device and recovery codes, a passkey, single sign-on; the duty to have a second
// factor; signing out elsewhere; an admin's help for who lost a device.
import { createHmac } from "node:crypto";
import { expect, test, type Browser, type Page } from "@playwright/test";
import { DUTY, named, PASSWORD, sakimori } from "./platform";
import { provider } from "./provider";
import { overAll, server, signIn } from "./steps";

/** Under its name, so that there are passkeys. */
const home = () => named(server());
const STEP = 30;
const step = () => Math.floor(Date.now() / 1_000 / STEP);

/** The code of a secret and step (RFC 6238). */
function code(secret: string, step: number): string {
  const bits = [...secret].map((letter) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(letter).toString(2).padStart(5, "0")).join("");
  const key = Buffer.from(bits.match(/.{8}/g)!.map((byte) => parseInt(byte, 2)));
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(step));
  const hash = createHmac("sha1", key).update(counter).digest();
  const word = hash.readUInt32BE(hash[hash.length - 1]! & 15) & 0x7fff_ffff;
  return String(word % 1_000_000).padStart(6, "0");
}

function add(name: string) {
  sakimori(["user", "add", name], `${PASSWORD}\n`);
}

/** Types name and password; what comes then is for the test to see. */
async function enter(page: Page, name: string, path = "/") {
  await page.goto(home() + path);
  await page.getByLabel("Name", { exact: true }).fill(name);
  await page.getByLabel("Password", { exact: true }).fill(PASSWORD);
  await press(page);
}

const press = (page: Page) => page.getByRole("button", { name: "Sign in", exact: true }).click();
const inside = (page: Page) => expect(page.getByRole("navigation", { name: "Navigation" })).toBeAttached();
const outside = (page: Page) => expect(page.getByRole("button", { name: "Sign in", exact: true })).toBeVisible();

async function leave(page: Page) {
  await page.getByRole("button", { name: "Sign out", exact: true }).click();
  await outside(page);
}

/** Sets up codes on the page that is open; the secret, the step of the first code, and the recovery codes. */
async function setUp(page: Page) {
  await page.getByRole("button", { name: "Set up codes" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Present password").fill(PASSWORD);
  await dialog.getByRole("button", { name: "Set up codes" }).click();
  await expect(page.getByRole("img", { name: "QR code with the secret for the app" })).toBeVisible();
  const secret = await page.getByLabel("Secret for the app", { exact: true }).innerText();
  const first = step();
  await page.getByLabel("First code").fill(code(secret, first));
  await page.getByRole("button", { name: "Confirm", exact: true }).click();
  const shown = page.getByRole("group", { name: "Recovery codes" });
  const recovery = (await shown.locator("pre").textContent())!.split("\n");
  expect(recovery).toHaveLength(10);
  await shown.getByRole("button", { name: "Copy" }).click();
  expect(await page.evaluate(() => navigator.clipboard.readText())).toBe(recovery.join("\n"));
  return { secret, first, recovery, kept: () => page.getByRole("button", { name: "I have kept them" }).click() };
}

/** A device that has passkeys and knows its user. */
async function authenticator(page: Page) {
  const session = await page.context().newCDPSession(page);
  await session.send("WebAuthn.enable");
  await session.send("WebAuthn.addVirtualAuthenticator", {
    options: { protocol: "ctap2", transport: "internal", hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true },
  });
}

async function addPasskey(page: Page, name: string) {
  await page.getByRole("button", { name: "Add a passkey" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Name of the passkey").fill(name);
  await dialog.getByLabel("Present password").fill(PASSWORD);
  await dialog.getByRole("button", { name: "Add a passkey" }).click();
  await expect(dialog).toHaveCount(0);
}

async function another(browser: Browser, userAgent: string) {
  const context = await browser.newContext({ userAgent });
  return context.newPage();
}

test("codes of a device are set up, asked for, and good once; a recovery code stands in once", async ({ page }) => {
  add("test-codes");
  await enter(page, "test-codes", "/settings");
  await inside(page);
  const { secret, first, recovery, kept } = await setUp(page);
  const stored = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }]));
  for (const one of [secret, PASSWORD, ...recovery]) expect(stored).not.toContain(one);
  await kept();
  await expect(page.getByText("10 recovery codes are left.")).toBeVisible();
  await leave(page);

  await enter(page, "test-codes", "/settings");
  const field = page.getByLabel("Code", { exact: true });
  await field.fill(code(secret, first));
  await press(page);
  await expect(page.getByRole("alert")).toContainText("auth/code");
  // Each step once; one that is early by a step is taken.
  await field.fill(code(secret, Math.max(first + 1, step())));
  await press(page);
  await inside(page);
  await expect(page.getByRole("tab", { name: "My account" })).toBeVisible();
  await leave(page);

  await enter(page, "test-codes", "/settings");
  await field.fill(recovery[0]!);
  await press(page);
  await expect(page.getByText("9 recovery codes are left.")).toBeVisible();
  await leave(page);
  await enter(page, "test-codes", "/settings");
  await field.fill(recovery[0]!);
  await press(page);
  await expect(page.getByRole("alert")).toContainText("auth/code");
  await field.fill(recovery[1]!);
  await press(page);
  await inside(page);

  await page.getByRole("button", { name: "Remove codes" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Present password").fill(PASSWORD);
  await dialog.getByLabel("Code", { exact: true }).fill(recovery[2]!);
  await dialog.getByRole("button", { name: "Remove codes" }).click();
  await expect(page.getByText("Not set up:")).toBeVisible();
  await leave(page);
  await enter(page, "test-codes");
  await inside(page);
});

test("a wrong password beside an open session does not end it", async ({ page }) => {
  add("test-slip");
  await enter(page, "test-slip", "/settings");
  await page.getByRole("button", { name: "Set up codes" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Present password").fill("not the password at all");
  await dialog.getByRole("button", { name: "Set up codes" }).click();
  await expect(dialog.getByRole("alert")).toBeVisible();
  await dialog.getByRole("button", { name: "Cancel" }).click();
  await inside(page);
});

test("a passkey is made, signs in, is removed and signs in no more", async ({ page }) => {
  add("test-passkey");
  await authenticator(page);
  await enter(page, "test-passkey", "/settings");
  await inside(page);
  await addPasskey(page, "Test device");
  await expect(page.getByRole("row").filter({ hasText: "Test device" })).toBeVisible();
  await leave(page);
  await page.goto(`${home()}/settings`);
  await page.getByRole("button", { name: "Sign in with a passkey" }).click();
  await inside(page);
  await expect(page.getByRole("tab", { name: "My account" })).toBeVisible();
  await expect(page.getByRole("row").filter({ hasText: "this one" })).toContainText("passkey");
  await page.getByRole("button", { name: "Remove “Test device”" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await expect(page.getByText("No passkey yet")).toBeVisible();
  await leave(page);
  await page.getByRole("button", { name: "Sign in with a passkey" }).click();
  await expect(page.getByRole("alert")).toContainText("auth/passkey");
});

test("at a number the page says where passkeys work", async ({ page }) => {
  const number = server().replace("localhost", "127.0.0.1");
  await page.goto(`${number}/rules?x=1`);
  await outside(page);
  await expect(page.getByRole("button", { name: "Sign in with a passkey" })).toHaveCount(0);
  await expect(page.getByRole("link", { name: home() })).toHaveAttribute("href", `${home()}/rules?x=1`);
});

test("who needs a second factor sets one up before anything else", async ({ page, request }) => {
  const headers = { authorization: `Bearer ${await overAll(request)}` };
  expect((await request.post(`${server()}/api/v1/tenants`, { headers, data: { id: DUTY } })).status()).toBe(201);
  for (const name of ["dutiful", "dutiful-too"]) {
    const made = await request.post(`${server()}/api/v1/users`, { headers, data: { name, role: "viewer", password: PASSWORD, tenant: DUTY } });
    expect(made.status()).toBe(201);
  }
  const come = async (name: string) => {
    await page.goto(`${home()}/rules`);
    await page.getByRole("button", { name: "Name a tenant" }).click();
    await page.getByLabel("Tenant").fill(DUTY);
    await page.getByLabel("Name", { exact: true }).fill(name);
    await page.getByLabel("Password", { exact: true }).fill(PASSWORD);
    await press(page);
    await expect(page.getByRole("heading", { level: 1, name: "Set up a second factor first" })).toBeVisible();
    await expect(page.getByRole("navigation")).toHaveCount(0);
  };
  await come("dutiful");
  const { kept } = await setUp(page);
  // The duty is done by now; what is shown once stays until it was kept.
  await expect.poll(async () => (await (await page.request.get(`${home()}/api/v1/session`)).json()).second_factor).toBe("shown");
  await page.evaluate(() => dispatchEvent(new Event("visibilitychange")));
  await expect(page.getByRole("group", { name: "Recovery codes" })).toBeVisible();
  await kept();
  await expect(page.getByRole("heading", { level: 1, name: "Rules" })).toBeVisible();
  await leave(page);

  await authenticator(page);
  await come("dutiful-too");
  await addPasskey(page, "Duty device");
  await expect(page.getByRole("heading", { name: "Sign in with your passkey" })).toBeVisible();
  await page.getByRole("main").getByRole("button", { name: "Sign out" }).last().click();
  await page.getByRole("button", { name: "Sign in with a passkey" }).click();
  await expect(page.getByRole("heading", { level: 1, name: "Rules" })).toBeVisible();
});

test("one signs out elsewhere, and everywhere", async ({ page, browser }) => {
  add("test-places");
  const other = await another(browser, "Second browser");
  await enter(other, "test-places", "/settings");
  await inside(other);
  await enter(page, "test-places", "/settings");
  const row = page.getByRole("row").filter({ hasText: "Second browser" });
  await row.getByRole("button").click();
  await page.getByRole("dialog").getByRole("button", { name: "Sign out" }).click();
  await expect(row).toHaveCount(0);
  await other.reload();
  await outside(other);
  await enter(other, "test-places", "/settings");
  await inside(other);
  await page.getByRole("button", { name: "Sign out everywhere" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Sign out" }).click();
  await outside(page);
  await other.reload();
  await outside(other);
  await other.context().close();
});

test("the language of the account comes along to another browser", async ({ page, browser }) => {
  add("test-language");
  await enter(page, "test-language", "/settings");
  await page.getByRole("button", { name: /Language$/ }).click();
  await page.getByRole("option", { name: "日本語" }).click();
  await expect(page.getByRole("heading", { level: 1, name: "設定" })).toBeVisible();
  const other = await another(browser, "Another browser");
  await enter(other, "test-language", "/settings");
  await expect(other.getByRole("heading", { level: 1, name: "設定" })).toBeVisible();
  await other.context().close();
});

test("an admin helps who lost the device", async ({ page, browser }) => {
  add("test-lost");
  const lost = await another(browser, "Lost device");
  await lost.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  await enter(lost, "test-lost", "/settings");
  await (await setUp(lost)).kept();
  await expect(lost.getByText("10 recovery codes are left.")).toBeVisible();
  await signIn(page, "admin", "/settings?tab=users");
  await page.getByRole("row").filter({ hasText: "test-lost" }).click();
  await page.getByRole("button", { name: "Reset codes" }).click();
  await page.getByRole("dialog", { name: "Reset codes" }).getByRole("button", { name: "Reset codes" }).click();
  await expect(page.getByText("Done; open sessions of test-lost have ended.")).toBeVisible();
  await expect(page.getByText("not set up")).toBeVisible();
  await lost.reload();
  await outside(lost);
  await enter(lost, "test-lost");
  await inside(lost);
  await lost.context().close();
});

test("single sign-on leads to the page that was asked for, and out again; a stranger is told no", async ({ page }) => {
  const there = await provider({ sub: "s-1", preferred_username: "test-sso", groups: ["ops"] });
  try {
    await page.goto(`${home()}/settings?tab=own`);
    await page.getByRole("link", { name: "Sign in at Test provider" }).click();
    await inside(page);
    await expect(page).toHaveURL(`${home()}/settings?tab=own`);
    await expect(page.getByRole("heading", { name: "You sign in at test" })).toBeVisible();
    await expect(page.getByRole("button", { name: "Set up codes" })).toHaveCount(0);
    await page.getByRole("button", { name: "Sign out", exact: true }).click();
    await expect.poll(() => there.left).toBe(1);
    await outside(page);

    there.account = { sub: "s-2", preferred_username: "test-stranger", groups: ["guests"] };
    await page.goto(`${home()}/rules`);
    await page.getByRole("link", { name: "Sign in at Test provider" }).click();
    await expect(page.getByRole("alert")).toContainText("This account may not sign in here");
    await signInHere(page);
  } finally {
    await there.stop();
  }
});

/** From the page that tells of a failure one goes on as usual, and ends on the first page. */
async function signInHere(page: Page) {
  await page.getByLabel("Name", { exact: true }).fill("test-viewer");
  await page.getByLabel("Password", { exact: true }).fill(PASSWORD);
  await press(page);
  await inside(page);
  await expect(page).toHaveURL(`${home()}/`);
}

test("what an address claims about a failure is not repeated", async ({ page }) => {
  await page.goto(`${home()}/sign-in?problem=${encodeURIComponent("call +1 555 0100 <b>now</b>")}`);
  const alert = page.getByRole("alert");
  await expect(alert).toContainText("auth/sso");
  await expect(alert).not.toContainText("555");
});
