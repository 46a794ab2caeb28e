//! `up` and `down` as a user runs them: the whole platform on this machine, on ports and in an nftables table of
//! its own. Needs root, the agent's program beside this one, and a kernel with nf_tables.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use sakimori_sys::harness;
use serde_json::Value;

struct Platform {
    dir: tempfile::TempDir,
    table: String,
}

impl Platform {
    fn sakimori(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sakimori"));
        command.arg("--json").arg("--state").arg(self.dir.path()).args(arguments).stdin(Stdio::null());
        for name in ["SAKIMORI_SERVER", "SAKIMORI_TOKEN", "SAKIMORI_TENANT", "SAKIMORI_AGENT_CONFIG"] {
            command.env_remove(name);
        }
        command.output().unwrap()
    }

    fn answer(&self, arguments: &[&str]) -> Value {
        let output = self.sakimori(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn pid(&self, part: &str) -> String {
        let run: Value = serde_json::from_slice(&std::fs::read(self.dir.path().join("run.json")).unwrap()).unwrap();
        run[part]["pid"].to_string()
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        self.sakimori(&["down"]);
    }
}

fn tables() -> String {
    String::from_utf8(Command::new("nft").args(["list", "tables"]).output().unwrap().stdout).unwrap()
}

#[test]
fn up_proves_the_loop_twice_survives_a_killed_manager_and_down_leaves_nothing() {
    let agent = Path::new(env!("CARGO_BIN_EXE_sakimori")).with_file_name("sakimori-agent");
    if !harness::root() || !harness::needs(agent.is_file(), "sakimori-agent beside sakimori (cargo build --workspace)")
    {
        return;
    }
    let platform = Platform { dir: tempfile::tempdir().unwrap(), table: format!("skm_up{}", std::process::id()) };
    let state = platform.dir.path().join("agent");
    let config = format!("[agent]\nstate = \"{}\"\n[block_address]\ntable = \"{}\"\n", state.display(), platform.table);
    std::fs::write(platform.dir.path().join("agent.toml"), config).unwrap();
    let (one, other) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let (api, link) = (one.local_addr().unwrap().to_string(), other.local_addr().unwrap().to_string());
    let taken = platform.sakimori(&["up", "--api", &api, "--link", &link]);
    assert!(!taken.status.success() && String::from_utf8_lossy(&taken.stderr).contains("--api"));
    drop((one, other));

    let first = platform.answer(&["up", "--api", &api, "--link", &link]);
    assert!(first["password"].as_str().is_some_and(|password| password.len() >= 12), "{first}");
    assert_eq!(first["proof"]["steps"].as_array().unwrap().len(), 6, "{first}");
    assert!(tables().contains(&platform.table));

    let address = first["proof"]["address"].as_str().unwrap();
    let alerts = platform.answer(&["alerts", "list", &format!("source.ip:{address}")]);
    assert_eq!(alerts.as_array().unwrap().len(), 1, "{alerts}");
    assert_eq!(alerts[0]["event"]["sakimori"]["probe"], true);
    assert_eq!(platform.answer(&["events", "balance"])["balanced"], true);
    assert_eq!(platform.answer(&["audit", "verify"])["whole"], true);

    let killed = rustix::process::Pid::from_raw(platform.pid("manager").parse().unwrap()).unwrap();
    rustix::process::kill_process(killed, rustix::process::Signal::KILL).unwrap();
    let second = platform.answer(&["up"]);
    assert_eq!((&second["already_running"], &second["password"]), (&Value::Bool(true), &Value::Null));
    assert_ne!(second["proof"]["address"], first["proof"]["address"]);

    let supervisor = platform.pid("supervisor");
    platform.answer(&["down"]);
    platform.answer(&["down"]);
    assert!(!tables().contains(&platform.table));
    let state = std::fs::read_to_string(format!("/proc/{supervisor}/stat")).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z"), "{state}");
}

#[test]
fn a_scan_of_the_policy_finds_a_file_that_is_then_in_quarantine_and_in_the_lake() {
    let agent = Path::new(env!("CARGO_BIN_EXE_sakimori")).with_file_name("sakimori-agent");
    if !harness::root() || !harness::needs(agent.is_file(), "sakimori-agent beside sakimori (cargo build --workspace)")
    {
        return;
    }
    let platform = Platform { dir: tempfile::tempdir().unwrap(), table: format!("skm_sc{}", std::process::id()) };
    let state = platform.dir.path().join("agent");
    let config = format!("[agent]\nstate = \"{}\"\n[block_address]\ntable = \"{}\"\n", state.display(), platform.table);
    std::fs::write(platform.dir.path().join("agent.toml"), config).unwrap();
    let (one, other) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let (api, link) = (one.local_addr().unwrap().to_string(), other.local_addr().unwrap().to_string());
    drop((one, other));
    platform.answer(&["up", "--no-proof", "--api", &api, "--link", &link]);

    let folder = tempfile::tempdir().unwrap();
    let virus = folder.path().join("virus.com");
    // The industry's harmless test file. In pieces, so that no scanner takes this source for it.
    let eicar = ["X5O!P%@AP[4\\PZX54(P^)7CC)7}$", "EICAR-STANDARD-ANTIVIRUS-TEST-FILE", "!$H+H*"].concat();
    std::fs::write(&virus, &eicar).unwrap();
    let scan = |schedule: &str| {
        let paths = folder.path().display();
        format!(
            "modules:\n  antimalware:\n    state: on\n    scans:\n    - name: web\n      schedule: \"{schedule}\"\n      \
             paths: [\"{paths}\"]\n      jitter_minutes: 0\n"
        )
    };
    let file = platform.dir.path().join("policy.yaml");
    let set = |text: String| {
        std::fs::write(&file, text).unwrap();
        platform.sakimori(&["policy", "set", "tenant", &file.display().to_string()])
    };
    let wrong = set(scan("0 25 * * *"));
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(!wrong.status.success() && said.contains("scans.web.schedule: the hour: it is 0 to 23"), "{said}");
    assert!(set(scan("* * * * *")).status.success());

    let wait = |what: &str, holds: &dyn Fn() -> bool| {
        let until = std::time::Instant::now() + std::time::Duration::from_secs(300);
        while !holds() {
            assert!(
                std::time::Instant::now() < until,
                "waited in vain: {what}: {}",
                platform.answer(&["agent", "scan", "status"])
            );
            std::thread::sleep(std::time::Duration::from_millis(300));
        }
    };
    wait("it is in quarantine", &|| !platform.answer(&["agent", "quarantine", "list"]).as_array().unwrap().is_empty());
    assert!(!virus.exists());
    let found = |query: &str| {
        let out = platform.sakimori(&["events", "search", query]);
        out.status.success() && !out.stdout.trim_ascii().is_empty()
    };
    wait("the alert is in the lake", &|| found("event.action:malware-found and sakimori.scan.name:web"));
    wait("the report is in the lake", &|| found("event.action:scan-finished and sakimori.scan.found:1"));
    let agents = platform.answer(&["agents", "list"]);
    let id = agents[0]["id"].as_str().unwrap().to_owned();
    wait("the manager shows it", &|| {
        platform.answer(&["agents", "show", &id])["status"]["scans"]["last"]["name"] == "web"
    });
    // By order of the manager, with the whole way there and back.
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("virus.com"), eicar).unwrap();
    std::fs::write(other.path().join("clean"), "nothing").unwrap();
    let (name, path) = (agents[0]["name"].as_str().unwrap(), other.path().display().to_string());
    let planned = platform.answer(&["agents", "scan", name, &path, "--dry-run"]);
    assert!(
        planned["id"] == "" && planned["reason"].as_str().unwrap().contains("nothing is to be taken back"),
        "{planned}"
    );
    let ordered = platform.sakimori(&["agents", "scan", name, &path, "--report-only", "--cpu", "80", "--wait"]);
    let told = String::from_utf8_lossy(&ordered.stderr).into_owned();
    assert_eq!(ordered.status.code(), Some(1), "something was found: {told}");
    let over: Value = serde_json::from_slice(&ordered.stdout).unwrap();
    assert_eq!(
        (&over["state"], &over["counts"]["files"], &over["counts"]["found"]),
        (&"done".into(), &2.into(), &1.into())
    );
    let path = other.path().join("virus.com").display().to_string();
    assert_eq!((&over["found"][0]["path"], over["more"].as_bool()), (&path.into(), Some(false)), "{over}");
    assert!(other.path().join("virus.com").exists(), "it was to be reported only");
    let refused = platform.sakimori(&["agents", "scan", name, "srv", "--wait"]);
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("paths"), "{refused:?}");
    // The keeper outlives its agent, unless that is taken off the host.
    assert!(platform.sakimori(&["agent", "uninstall"]).status.success());
}

/// A user who may do nothing: this one, where it is none, else one that root becomes.
struct Nobody {
    dir: tempfile::TempDir,
    become_it: bool,
}

const NOBODY: u32 = 65_534;

impl Nobody {
    /// With the programs where it reaches them, and a home of its own.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let become_it = rustix::process::geteuid().is_root();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let built = Path::new(env!("CARGO_BIN_EXE_sakimori"));
        for name in ["sakimori", "sakimori-agent"] {
            let (from, to) = (built.with_file_name(name), dir.path().join(name));
            if std::fs::hard_link(&from, &to).is_err() {
                std::fs::copy(&from, &to).unwrap();
            }
        }
        let home = dir.path().join("home");
        std::fs::create_dir(&home).unwrap();
        if become_it {
            std::os::unix::fs::chown(&home, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        Self { dir, become_it }
    }

    fn sakimori(&self, arguments: &[&str]) -> Output {
        let program = self.dir.path().join("sakimori");
        let mut command = Command::new(if self.become_it { Path::new("setpriv") } else { &program });
        if self.become_it {
            let id = NOBODY.to_string();
            command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--bounding-set=-all"]).arg(&program);
        }
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.dir.path().join("home"));
        command.arg("--json").args(arguments).stdin(Stdio::null()).output().unwrap()
    }

    fn answer(&self, arguments: &[&str]) -> Value {
        let output = self.sakimori(arguments);
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)))
    }
}

impl Drop for Nobody {
    fn drop(&mut self) {
        self.sakimori(&["down"]);
    }
}

#[test]
fn without_root_the_loop_works_as_far_as_it_can_and_what_is_missing_is_listed_with_the_remedy() {
    let built = Path::new(env!("CARGO_BIN_EXE_sakimori"));
    let agent = built.with_file_name("sakimori-agent");
    if !harness::needs(agent.is_file(), "sakimori-agent beside sakimori (cargo build --workspace)") {
        return;
    }
    let nobody = Nobody::new();
    let (one, other) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let (api, link) = (one.local_addr().unwrap().to_string(), other.local_addr().unwrap().to_string());
    drop((one, other));
    let up = nobody.answer(&["up", "--api", &api, "--link", &link]);
    let steps: Vec<&str> =
        up["proof"]["steps"].as_array().unwrap().iter().filter_map(|step| step["what"].as_str()).collect();
    assert_eq!(steps, ["events in the lake", "alert in the lake", "action in the manager"], "{up}");
    assert_eq!(up["proof"]["lacking"][0]["what"], "blocked in nftables");
    assert!(up["proof"]["lacking"][0]["why"].as_str().unwrap().contains("CAP_NET_ADMIN"), "{up}");
    let address = up["proof"]["address"].as_str().unwrap();
    let actions = nobody.answer(&["actions", "list", "--target", address]);
    assert_eq!(actions[0]["state"], "failed", "what could not be done is a record too: {actions}");

    let status = nobody.answer(&["agent", "status"]);
    let module = |id: &str| {
        let modules = status["modules"].as_array().unwrap();
        modules.iter().find(|module| module["id"] == id).unwrap().clone()
    };
    assert_eq!(module("log_inspection")["state"], "on");
    assert_eq!(module("block_address")["state"], "failing");
    let findings = nobody.answer(&["doctor"]);
    for id in ["agent/root", "agent/nftables", "agent/fanotify"] {
        let finding = findings.as_array().unwrap().iter().find(|one| one["id"] == id).unwrap();
        assert_eq!(finding["health"], "limited", "{finding}");
        assert!(finding["remedy"].as_str().unwrap().contains("root") || id == "agent/root", "{finding}");
    }
    assert!(nobody.sakimori(&["down"]).status.success());
}
