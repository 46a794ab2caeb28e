// What the page Response makes of texts without a browser: playbooks as boxes, addresses, lists of a policy layer. And with one:
// what a playbook asks is answered, done on the host, and taken back.
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test, type Page } from "@playwright/test";
import { networkFault } from "../src/pages/response/network";
import { after, boxOf, flat, parse } from "../src/pages/response/parse";
import { ASKED_ABOUT } from "./platform";
import { server, signIn, token, visit } from "./steps";

const SHIPPED = join(import.meta.dirname, "../../content/playbooks");

const TEXT = `# all of the language
id: all
title: { en: All }
trigger: { alert: { rules: [a, b], severity_at_least: high, scope: wide } }
when: has(event.source.ip)
quiet_hours: { from: "22:00", to: "07:00", then: wait }
limits: { most: 3, within: 1h }
steps:
  - id: first
    action: waf_block
    target: event.source.ip
    inputs: { note: written, user: { cel: event.user.name } }
  - approval:
      ask: ops
      within: 30m
      text: { en: Go on?, ja: 続けますか }
    on_failure: undo
  - parallel:
      - { action: notify, channel: ops }
      - action: disks_snapshot
        target: event.cloud.instance.id
        on_failure: stop
  - for_each: event.related.ip
    most: 4
    steps:
      - approval: { ask: ops, within: 5m, otherwise: allow, persons: 2, text: { en: This one? } }
      - { action: waf_block, target: item }
  - wait: 5m
`;

test("every shipped playbook is drawn, and each step knows its lines", () => {
  for (const name of readdirSync(SHIPPED)) {
    const text = readFileSync(join(SHIPPED, name), "utf8");
    const steps = flat(parse(text).steps);
    expect(steps.length, name).toBeGreaterThan(0);
    const lines = text.split("\n");
    for (const step of steps) {
      expect(step.kind, name).not.toBe("unknown");
      const said = lines.slice(step.lines.from - 1, step.lines.to).join("\n");
      expect(said, `${name} ${step.place}`).toContain(step.kind === "action" ? step.action! : step.kind);
    }
  }
});

test("places are those of executions, and what fails leads where the manager leads it", () => {
  const boxes = parse(TEXT);
  const told = flat(boxes.steps).map((box) => [box.place, box.kind, box.onFailure, box.lines.from, box.lines.to]);
  expect(told).toEqual([
    ["0", "action", "undo", 9, 12], ["1", "approval", "undo", 13, 17], ["2", "parallel", "undo", 18, 22], ["2.0", "action", "continue", 19, 19],
    ["2.1", "action", "stop", 20, 22], ["3", "each", "undo", 23, 27], ["3[*].0", "approval", "stop", 26, 26], ["3[*].1", "action", "undo", 27, 27],
    ["4", "wait", "undo", 28, 28],
  ]);
  expect(boxOf(boxes, "3[2].1!limit")?.place).toBe("3[*].1");
  expect(boxes.steps[0]!.inputs).toEqual([{ name: "note", value: "written", computed: false }, { name: "user", value: "event.user.name", computed: true }]);
});

test("what follows a yes goes up to the next question", () => {
  const boxes = parse(TEXT);
  const places = (place: string) => after(boxes, place).map((box) => box.place);
  expect(places("quiet_hours")).toEqual(["0", "1"]);
  expect(places("0!limit")).toEqual(["0", "1"]);
  expect(places("1")).toEqual(["2", "3"]);
  expect(places("3[1].0")).toEqual(["3[*].1", "4"]);
  expect(places("9")).toEqual([]);
});

test("a text that is no YAML is an error, and one of another form is drawn as far as it goes", () => {
  expect(() => parse("a: [1, {")).toThrow();
  expect(parse("steps: 3").steps).toEqual([]);
  expect(parse("steps: [ 1, { new_thing: x } ]").steps.map((box) => box.kind)).toEqual(["unknown", "unknown"]);
});

test("addresses and networks", () => {
  for (const good of ["192.0.2.7", "192.0.2.0/24", "2001:db8::/32", "::1", "0.0.0.0/0", "::ffff:192.0.2.1"]) expect(networkFault(good), good).toBeUndefined();
  for (const bad of ["", "192.0.2", "192.0.2.256", "192.0.2.07", "host.example", "2001:db8:::1", "1.2.3.4/8/8", "fe80::1%eth0"]) expect(networkFault(bad), bad).toBe("form");
  for (const wide of ["192.0.2.0/33", "2001:db8::/129", "192.0.2.0/", "192.0.2.0/x"]) expect(networkFault(wide), wide).toBe("prefix");
});

/** Is the address in the kernel's tables of the host? Asked of another program than ours. */
const inKernel = (address: string) => execFileSync("nft", ["list", "ruleset"], { encoding: "utf8" }).includes(address);

/** SQL in a request, and the question that follows from its alert, on the page by itself. */
async function asked(page: Page, address: string) {
  await signIn(page, "operator", "/response?tab=waiting");
  visit("/list?q=1+union+select+1,2", "curl/8.14.1", address);
  const question = page.getByRole("article", { name: "Block who sent SQL?" }).filter({ hasText: address });
  await expect(question).toContainText("It ends as after a no.");
  await expect(question).toContainText(`Block an address on the host: ${address}`);
  return question;
}

test("what a playbook asks is allowed, done on the host, and undone from the ledger", async ({ page }) => {
  const address = ASKED_ABOUT[0]!;
  const question = await asked(page, address);
  expect(inKernel(address), "nothing is done before the answer").toBe(false);
  const execution = await question.getByRole("link", { name: /Begun at/ }).getAttribute("href");
  await question.getByRole("button", { name: "Yes, go on" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Yes, go on" }).click();
  await expect(page.getByText("Your yes counts.")).toBeVisible();
  await expect(question).toHaveCount(0);
  await expect.poll(() => inKernel(address)).toBe(true);

  await page.goto(server() + execution!);
  await expect(page.getByText(/test-operator said yes at/)).toBeVisible();
  await page.goto(`${server()}/response?tab=ledger`);
  const row = page.getByRole("row", { name: new RegExp(`Block an address on the host.*${address}`) });
  await expect(row).toContainText("Done");
  await row.click();
  await page.getByRole("dialog").getByRole("button", { name: "Undo" }).click();
  await page.getByRole("dialog", { name: "Take it back?" }).getByRole("button", { name: "Undo" }).click();
  await expect.poll(() => inKernel(address)).toBe(false);
  await page.keyboard.press("Escape");
  await expect(row).toContainText("Undone");
});

test("after a no nothing is done, and the execution says who said it", async ({ page, request }) => {
  const address = ASKED_ABOUT[1]!;
  const question = await asked(page, address);
  const execution = await question.getByRole("link", { name: /Begun at/ }).getAttribute("href");
  await question.getByRole("button", { name: "No", exact: true }).click();
  await page.getByRole("dialog").getByRole("button", { name: "No", exact: true }).click();
  await expect(question).toHaveCount(0);

  await page.goto(server() + execution!);
  await expect(page.getByText(/test-operator said no at/)).toBeVisible();
  await expect(page.getByText("Not allowed").first()).toBeVisible();
  const headers = { authorization: `Bearer ${await token(request, "operator")}` };
  const done = (await (await request.get(`${server()}/api/v1/actions?action=block_address&target=${address}`, { headers })).json()) as { items: unknown[] };
  expect(done.items).toEqual([]);
  expect(inKernel(address)).toBe(false);
});
