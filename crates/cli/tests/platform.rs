//! `up` and `down` as a user runs them: the whole platform on this machine, on ports and in an nftables table of
//! its own. Needs root, the agent's program beside this one, and a kernel with nf_tables.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::net::TcpListener;
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
