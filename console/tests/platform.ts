// Starts the platform that all tests use: manager and agent by `sakimori up` in a folder of its own, a user of each role, and two
// logs that tests write into as an attacker would. It ends with the tests.
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const programs = process.env.SAKIMORI_BIN ?? `${process.env.HOME}/.cache/sakimori/target/debug`;
const API = "127.0.0.1:7600";
const LINK = "127.0.0.1:7601";
/** Where the tests of single sign-on have their provider; nobody is there otherwise. */
export const PROVIDER = "http://127.0.0.1:7602";
/** A tenant whose users need a second factor. */
export const DUTY = "test-duty";
/** What a sender of findings says to be believed. */
export const SENDER = "a secret of the tests' sender";
export const PASSWORD = "a long enough passphrase";

/** Runs the command line against the platform of the tests. */
export function sakimori(args: string[], input = ""): string {
  const state = process.env.SAKIMORI_TEST_STATE!;
  const env = { PATH: process.env.PATH, HOME: process.env.HOME };
  return execFileSync(join(programs, "sakimori"), [...args, "--state", state], { encoding: "utf8", input, env, stdio: ["pipe", "pipe", "inherit"] });
}

/** Where the tests write lines of logs. */
export const log = (name: "auth" | "access") => join(process.env.SAKIMORI_TEST_STATE!, "logs", `${name}.log`);

/** By which name the console is reached where a name is needed: browsers make no passkeys for numbers. */
export const named = (address: string) => address.replace("127.0.0.1", "localhost");

/** Whose addresses lead to a question before a block, by the playbook below; no other test has them. */
export const ASKED_ABOUT = ["203.0.113.61", "203.0.113.62"];
const ASKS = `id: test-asks-first
title: { en: Block after a question, ja: 確認してから遮断 }
trigger: { alert: { rules: [sql-injection], scope: wide } }
when: event.source.ip in ${JSON.stringify(ASKED_ABOUT)}
steps:
  - approval:
      ask: ops
      within: 1h
      otherwise: deny
      text: { en: Block who sent SQL?, ja: SQL を送った相手を遮断しますか }
  - action: block_address
    target: event.source.ip
    expiry: 1h
`;

/** A tenant with a lake of its own: so many made-up events of hosts that are not there; SAKIMORI_CROWD sets how many. */
export const CROWD = { tenant: "test-crowd", events: Number(process.env.SAKIMORI_CROWD ?? 12_000) };

/** What `up` finds and leaves as it is, besides the addresses. */
function configuration(): string {
  return `
content_dir = "${process.env.SAKIMORI_TEST_STATE}/content"

[api]
public_url = "${named(process.env.SAKIMORI_TEST_CONSOLE ?? `http://${API}`)}"

[[ingest.webhook]]
name = "test-findings"
tenant = "default"
sources = ["aws/guardduty"]
proof = "token"
secret = "test-findings"

[sign_in.second_factor_by_tenant]
"${DUTY}" = ["viewer", "operator", "admin"]

[[sign_in.oidc]]
id = "test"
title = "Test provider"
issuer = "${PROVIDER}"
client_id = "sakimori-tests"
create = true

[[sign_in.oidc.grants]]
group = "ops"
role = "operator"
tenant = "*"
`;
}

export default function start() {
  const state = mkdtempSync(join(tmpdir(), "sakimori-console-"));
  process.env.SAKIMORI_TEST_STATE = state;
  const stop = () => {
    sakimori(["down"]);
    rmSync(state, { recursive: true, force: true });
  };
  try {
    mkdirSync(join(state, "logs"));
    for (const name of ["auth", "access"] as const) writeFileSync(log(name), "");
    writeFileSync(join(state, "manager.toml"), configuration());
    mkdirSync(join(state, "content/playbooks"), { recursive: true });
    writeFileSync(join(state, "content/playbooks/test-asks-first.yml"), ASKS);
    mkdirSync(join(state, "manager"), { mode: 0o700 });
    execFileSync(join(programs, "sakimori-bench"), ["seed-lake", "--dir", join(state, "manager"), "--events", `${CROWD.events}`, "--tenant", CROWD.tenant, "--days", "1"], { stdio: "ignore" });
    const up = JSON.parse(sakimori(["up", "--json", "--api", API, "--link", LINK])) as { server: string; password: string; agent: string };
    // A development server before it shows the console as it is now; the policy for scripts is then not that of the manager.
    process.env.SAKIMORI_TEST_SERVER = process.env.SAKIMORI_TEST_CONSOLE ?? up.server;
    process.env.SAKIMORI_TEST_ADMIN = up.password;
    process.env.SAKIMORI_TEST_AGENT = up.agent;
    sakimori(["secrets", "set", "test-findings"], SENDER);
    for (const role of ["viewer", "operator", "admin"]) sakimori(["user", "add", `test-${role}`, "--role", role], `${PASSWORD}\n`);
    const sources = [
      { name: "test-auth", source: "linux/auth", file: log("auth"), zone: "UTC" },
      { name: "test-access", source: "nginx/access", file: log("access") },
    ];
    const policy = join(state, "logs.json");
    writeFileSync(policy, JSON.stringify({ modules: { log_inspection: { sources: { add: sources } } } }));
    sakimori(["policy", "set", "tenant", policy]);
  } catch (error) {
    stop();
    throw error;
  }
  return stop;
}
