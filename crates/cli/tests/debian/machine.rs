//! Two machines and an attacker for tests of the package: a real Debian that `systemd-nspawn` boots over a root folder
//! that stays as it is, a manager beside it, and network namespaces that join them.
//!
//! ```text
//! manager 192.0.2.1 ── 192.0.2.2 host (Debian, systemd, sshd) 198.51.100.1 ── 198.51.100.2 attacker
//! ```

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use sakimori_sys::harness;
use sakimori_sys::lab::{End, Lab};

/// How long a condition may take on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How many seconds a line of shell may take: longer than what it runs waits by itself.
const LINE: &str = "300";

/// Calls that the agent makes and nspawn does not know by itself.
const CALLS: &str = "--system-call-filter=fanotify_init fanotify_mark landlock_create_ruleset landlock_add_rule \
    landlock_restrict_self pidfd_open pidfd_send_signal close_range";

pub struct Debian {
    pub dir: tempfile::TempDir,
    pub lab: Lab,
    /// Folder of the programs on the manager's machine.
    pub commands: PathBuf,
    child: Child,
    leader: u32,
}

/// The folder of the tree.
pub fn tree() -> PathBuf {
    Path::new("../..").canonicalize().unwrap()
}

/// The folder of the programs.
pub fn programs() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_sakimori")).parent().unwrap().to_owned()
}

fn has(program: &str) -> bool {
    Command::new("sh")
        .args(["-c", "command -v \"$0\" >/dev/null", program])
        .status()
        .is_ok_and(|status| status.success())
}

impl Debian {
    /// Boots it; `None` where that cannot be here, and the test is noted as skipped.
    pub fn boot() -> Option<Self> {
        let programs_there = programs().join("sakimori-agent").is_file();
        if !harness::root()
            || !harness::needs(programs_there, "sakimori-agent beside sakimori (cargo build --workspace)")
            || !harness::needs(has("systemd-nspawn"), "systemd-nspawn (the package systemd-container)")
            || !harness::needs(has("mmdebstrap"), "mmdebstrap")
        {
            return None;
        }
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).unwrap_or_else(|| {
            PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cache")
        });
        let root = cache.join("sakimori/debian-root");
        let made = Command::new(tree().join("tools/debian-root")).arg(&root).output().unwrap();
        let reason = String::from_utf8_lossy(&made.stderr).lines().last().unwrap_or_default().to_owned();
        if !harness::needs(made.status.success(), &format!("a Debian from this machine's mirrors ({reason})")) {
            return None;
        }
        let lab = lab();
        let dir = tempfile::tempdir().unwrap();
        let child = nspawn(&root, &lab, dir.path());
        let mut debian = Self { dir, lab, commands: programs(), child, leader: 0 };
        if !debian.boots() {
            let log = fs::read_to_string(debian.dir.path().join("nspawn.log")).unwrap_or_default();
            let last = log.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
            harness::needs(false, &format!("a machine on which systemd-nspawn boots ({last})"));
            return None;
        }
        // The guides say sudo; here everybody is root.
        debian.file_on_host("/usr/local/bin/sudo", "#!/bin/sh\nexec \"$@\"\n", 0o755);
        Some(debian)
    }

    /// Waits until all its services are started, or have failed where this machine refuses them something.
    fn boots(&mut self) -> bool {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until && matches!(self.child.try_wait(), Ok(None)) {
            if self.find_leader() {
                let out = self.host("systemctl is-system-running || true");
                if ["running", "degraded"].contains(&String::from_utf8_lossy(&out.stdout).trim()) {
                    return true;
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        false
    }

    /// The init process of the container, once it is there.
    fn find_leader(&mut self) -> bool {
        let nspawn = self.child.id();
        let children = fs::read_to_string(format!("/proc/{nspawn}/task/{nspawn}/children")).unwrap_or_default();
        for pid in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
            self.leader = pid;
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            if name.trim() == "systemd" {
                return true;
            }
        }
        false
    }

    /// Runs a line of shell on the protected host.
    pub fn host(&self, line: &str) -> Output {
        let leader = self.leader.to_string();
        let mut command = Command::new("nsenter");
        command.args(["--target", &leader, "--all", "--root", "--", "timeout", "--kill-after=5", LINE]);
        command.args(["/bin/bash", "-eu", "-o", "pipefail", "-c"]);
        command.arg(format!("cd /root\n{line}"));
        run(command.env_clear().env("PATH", "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/root"))
    }

    /// Where `make install` puts the commands.
    pub fn prefix(&self) -> PathBuf {
        self.dir.path().join("usr")
    }

    /// Runs a line of shell on the manager's machine, which has this file system.
    pub fn manager(&self, line: &str) -> Output {
        let state = self.dir.path().join("state");
        run(self.beside("manager", line).env("SAKIMORI_STATE", state).env("SAKIMORI_BIN", programs()))
    }

    /// Runs a line of shell where the attacker is.
    pub fn attacker(&self, line: &str) -> Output {
        run(&mut self.beside("attacker", line))
    }

    fn beside(&self, namespace: &str, line: &str) -> Command {
        let mut command = self.lab.command(namespace, "timeout").unwrap();
        let tools = self.dir.path().join("tools");
        if !tools.is_dir() {
            fs::create_dir(&tools).unwrap();
            write(&tools.join("sudo"), "#!/bin/sh\nexec \"$@\"\n", 0o755);
        }
        let commands = self.commands.display();
        let path = format!("{}:{commands}:{}", tools.display(), std::env::var("PATH").unwrap_or_default());
        command.args(["--kill-after=5", LINE, "/bin/bash", "-eu", "-o", "pipefail", "-c", line]).current_dir(tree());
        for name in ["SAKIMORI_SERVER", "SAKIMORI_TOKEN", "SAKIMORI_TENANT", "SAKIMORI_AGENT_CONFIG"] {
            command.env_remove(name);
        }
        // Of the `make test` that may run this: its variables would go before those that are given here.
        for name in ["MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL"] {
            command.env_remove(name);
        }
        command.env("PATH", path).env("PREFIX", self.prefix()).env("XDG_CACHE_HOME", self.dir.path().join("cache"));
        command
    }

    /// What a line prints, which must succeed.
    pub fn said(out: Output, what: &str) -> String {
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success(), "{what}\n{text}\n{}", String::from_utf8_lossy(&out.stderr));
        text
    }

    /// On the host, successfully.
    pub fn on_host(&self, line: &str) -> String {
        Self::said(self.host(line), line)
    }

    /// On the manager's machine, successfully.
    pub fn on_manager(&self, line: &str) -> String {
        Self::said(self.manager(line), line)
    }

    /// Puts a file onto the host.
    pub fn file_on_host(&self, path: &str, text: impl AsRef<[u8]>, mode: u32) {
        write(&Path::new(&format!("/proc/{}/root", self.leader)).join(path.trim_start_matches('/')), text, mode);
    }

    /// The host's tables, read by another program from outside.
    pub fn ruleset(&self) -> String {
        let out = self.lab.command("host", "nft").unwrap().args(["list", "ruleset"]).output().unwrap();
        String::from_utf8(out.stdout).unwrap()
    }

    pub fn wait(&mut self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !condition(self) {
            if Instant::now() > until {
                panic!("waited in vain: {what}\n{}", self.journal());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What runs on the host, and the last that it logged.
    pub fn journal(&self) -> String {
        let line = "ps -e -o pid,user,cgroup:80,args || true; systemctl list-units --all --no-legend '*sakimori*' || true; \
            systemctl show sakimori-agent.service | grep -E '^(Load|Active|Sub|Result|Job|.*By|Requires|Wants|After)' || true; \
            journalctl --no-pager -n 60";
        String::from_utf8_lossy(&self.host(line).stdout).into_owned()
    }

    /// Shuts the host down, as a scale-in does, and waits until it is off.
    pub fn power_off(&mut self) {
        let _ = self.host("systemctl --no-block poweroff");
        self.wait_off();
    }

    fn wait_off(&mut self) {
        let until = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        self.commands = programs();
        let _ = self.manager("sakimori down");
        if matches!(self.child.try_wait(), Ok(None)) {
            // What of it is left goes with its first process.
            if let Some(leader) = i32::try_from(self.leader).ok().and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(leader, rustix::process::Signal::KILL);
            }
            self.wait_off();
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn lab() -> Lab {
    let mut lab = Lab::new("skpack").unwrap();
    for name in ["manager", "host", "attacker"] {
        lab.add(name).unwrap();
    }
    for (name, near, far) in
        [("manager", "192.0.2.1/24", "192.0.2.2/24"), ("attacker", "198.51.100.2/24", "198.51.100.1/24")]
    {
        lab.join(
            End { namespace: name, device: "eth0", addresses: &[near] },
            End { namespace: "host", device: name, addresses: &[far] },
        )
        .unwrap();
    }
    lab
}

fn nspawn(root: &Path, lab: &Lab, dir: &Path) -> Child {
    let log = fs::File::create(dir.join("nspawn.log")).unwrap();
    Command::new("systemd-nspawn")
        .args(["--quiet", "--boot", "--register=no", "--keep-unit", "--volatile=overlay", "--console=pipe"])
        .args(["--hostname=web2", "--capability=CAP_NET_ADMIN", CALLS])
        .arg(format!("--directory={}", root.display()))
        .arg(format!("--network-namespace-path={}", lab.path("host").display()))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

fn write(path: &Path, text: impl AsRef<[u8]>, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
