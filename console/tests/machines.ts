// Machines of a user who has just begun: one where he runs `make up`, a Debian beside it that is to be protected, and an attacker.
//
//   manager 192.0.2.1 ── 192.0.2.2 web2 (Debian by systemd-nspawn, systemd, sshd) 198.51.100.1 ── 198.51.100.2 attacker
//
// Each has a network of its own; the manager's machine has this one's file system with a /var/lib of its own over it, so that what
// is installed and kept there is gone with the test. They end with the program that made them, whatever becomes of it.
import { execFile, execFileSync, spawn, type ChildProcess } from "node:child_process";
import { appendFileSync, chmodSync, closeSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
const tree = join(import.meta.dirname, "../..");
const programs = process.env.SAKIMORI_BIN ?? `${process.env.HOME}/.cache/sakimori/target/debug`;

export const MANAGER = "192.0.2.1";
export const HOST = "198.51.100.1";
export const ATTACKER = "198.51.100.2";

/** Calls that the agent makes and nspawn does not know by itself. */
const CALLS = "--system-call-filter=fanotify_init fanotify_mark landlock_create_ruleset landlock_add_rule landlock_restrict_self pidfd_open pidfd_send_signal close_range";

export interface Machines {
  /** Types a line where `make up` was run; says what it prints. */
  manager(line: string): Promise<string>;
  /** Types a line at the host that is to be protected. */
  host(line: string): Promise<string>;
  attacker(line: string): Promise<string>;
  /** A browser that runs at the manager's machine. */
  browser: string;
  end(): Promise<void>;
}

/** A process that holds namespaces of its own, and what it mounted, as long as this program lives. */
function holder(kinds: string[], script: string): Promise<{ child: ChildProcess; pid: number }> {
  const child = spawn("unshare", [...kinds, "bash", "-ec", `ip link set lo up; ${script}\necho ready; exec cat`], { stdio: ["pipe", "pipe", "inherit"] });
  return new Promise((stands, fails) => {
    child.stdout!.once("data", () => stands({ child, pid: child.pid! }));
    child.once("exit", (code) => fails(new Error(`a namespace ended with ${code}`)));
  });
}

/** Why this machine cannot have them; nothing where it can. */
export function lacking(): string | undefined {
  const root = process.env.SAKIMORI_DEBIAN_ROOT;
  if (!root || !existsSync(join(root, ".made"))) return "a Debian from this machine's mirrors (tools/debian-root)";
  for (const program of ["systemd-nspawn", "sshpass", "make", "dpkg-deb"]) {
    try {
      execFileSync("which", [program], { stdio: "ignore" });
    } catch {
      return program;
    }
  }
  return undefined;
}

export async function machines(folder: string): Promise<Machines> {
  const layers = join(folder, "layers");
  mkdirSync(layers);
  const manager = await holder(["--net", "--mount", "--uts"], `hostname first; mount -t tmpfs none ${layers}; mkdir ${layers}/upper ${layers}/work; mount -t overlay none -o lowerdir=/var/lib,upperdir=${layers}/upper,workdir=${layers}/work /var/lib`);
  const host = await holder(["--net"], "");
  const attacker = await holder(["--net"], "");
  const net = (of: { pid: number }, ...args: string[]) => execFileSync("nsenter", [`--net=/proc/${of.pid}/ns/net`, "ip", ...args]);
  for (const [near, address, far, device] of [[manager, `${MANAGER}/24`, "192.0.2.2/24", "inside"], [attacker, `${ATTACKER}/24`, `${HOST}/24`, "outside"]] as const) {
    net(near, "link", "add", "eth0", "type", "veth", "peer", "name", device, "netns", `${host.pid}`);
    for (const [of, name, at] of [[near, "eth0", address], [host, device, far]] as const) {
      net(of, "address", "add", at, "dev", name);
      net(of, "link", "set", name, "up");
    }
  }

  const log = join(folder, "web2.log");
  const out = openSync(log, "a");
  const debian = spawn("systemd-nspawn", [
    "--quiet", "--boot", "--register=no", "--keep-unit", "--volatile=overlay", "--console=pipe", "--hostname=web2", "--capability=CAP_NET_ADMIN", CALLS,
    `--directory=${process.env.SAKIMORI_DEBIAN_ROOT}`, `--network-namespace-path=/proc/${host.pid}/ns/net`,
  ], { stdio: ["ignore", out, out] });
  closeSync(out);
  let leader = 0;
  const inside = async (line: string) => (await run("nsenter", ["--target", `${leader}`, "--all", "--root", "--", "/bin/bash", "-euo", "pipefail", "-c", `cd /root\n${line}`], { env: { PATH: "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", HOME: "/root" }, maxBuffer: 1 << 24 })).stdout;

  // He has sudo; here everybody is root. And `make up` finds everything built, so that only the last line of its recipe is left.
  const tools = join(folder, "tools");
  mkdirSync(tools);
  const tool = (name: string, text: string) => {
    writeFileSync(join(tools, name), `#!/bin/sh\n${text}\n`);
    chmodSync(join(tools, name), 0o755);
    return join(tools, name);
  };
  tool("sudo", 'exec "$@"');
  tool("make", `exec /usr/bin/make --no-print-directory --old-file=build --directory=${tree} BIN=${programs} "$@"`);
  const browser = tool("browser", `exec nsenter --net=/proc/${manager.pid}/ns/net ${process.env.CHROMIUM ?? "/usr/bin/chromium"} "$@"`);

  const typed = { PATH: `${tools}:${process.env.PATH}`, HOME: process.env.HOME, CARGO_TARGET_DIR: join(programs, "..") };
  const at = (of: { pid: number }, kinds: string[]) => async (line: string) =>
    (await run("nsenter", ["--target", `${of.pid}`, ...kinds, "--", "bash", "-euo", "pipefail", "-c", line], { env: typed, maxBuffer: 1 << 24 })).stdout;

  const all: Machines = {
    // With its root, which is not that of its mounts where all of this runs in a chroot.
    manager: at(manager, ["--net", "--mount", "--uts", "--root"]),
    host: inside,
    attacker: at(attacker, ["--net"]),
    browser,
    async end() {
      await all.manager(`make down || true`).catch(() => undefined);
      // What runs in the Debian goes with its first process.
      if (leader && debian.exitCode === null) process.kill(leader, "SIGKILL");
      const gone = new Promise((done) => (debian.exitCode === null ? debian.once("exit", done) : done(undefined)));
      await gone;
      for (const one of [manager, host, attacker]) one.child.stdin!.end();
    },
  };
  try {
    leader = await booted(debian, (pid) => {
      leader = pid;
      return inside("systemctl is-system-running || true");
    });
    await inside("printf '#!/bin/sh\\nexec \"$@\"\\n' > /usr/local/bin/sudo && chmod 755 /usr/local/bin/sudo");
  } catch (error) {
    appendFileSync(log, `${String(error)}\n`);
    await all.end();
    throw new Error(`systemd-nspawn boots no Debian here: ${readFileSync(log, "utf8").trim().split("\n").slice(-3).join(" / ")}`);
  }
  return all;
}

/** Waits until all services of a Debian are started, or have failed where this machine refuses them something. */
async function booted(debian: ChildProcess, asks: (leader: number) => Promise<string>): Promise<number> {
  const until = Date.now() + 120_000;
  while (Date.now() < until && debian.exitCode === null) {
    const children = readFileSync(`/proc/${debian.pid}/task/${debian.pid}/children`, "utf8").split(" ").filter(Boolean).map(Number);
    for (const pid of children) {
      const name = readFileSync(`/proc/${pid}/comm`, "utf8").trim();
      if (name === "systemd" && /running|degraded/.test(await asks(pid).catch(() => ""))) return pid;
    }
    await new Promise((later) => setTimeout(later, 100));
  }
  throw new Error("it did not come up in two minutes");
}
