//! Triage packages of this very host, by the real agent and its confined workers: made, signed, checked, and what is not in them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod host;
mod manager;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use host::{Host, is_root};
use manager::Manager;
use sakimori_sys::harness;
use sakimori_wire::triage;
use serde_json::Value;

const OFF: &str = "[policy.modules.block_address]\nstate = \"off\"\n";

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Has a package made; the action as it ends.
fn collect(host: &mut Host) -> Value {
    let begun = host.json(&["triage", "collect"])[0].clone();
    let id = begun["order"]["id"].clone();
    assert!(begun["state"] == "running" || begun["state"] == "done", "{begun}");
    let mut ended = Value::Null;
    host.wait("the package is made", |host| {
        let all = host.json(&["actions", "list", "--all"]);
        ended = all.as_array().unwrap().iter().find(|one| one["order"]["id"] == id).cloned().unwrap();
        ended["state"] != "running"
    });
    ended
}

/// The only package that there is.
fn package(host: &Host) -> (String, Vec<u8>) {
    let all = host.json(&["triage", "list"]);
    let name = all.as_array().unwrap().last().unwrap()["name"].as_str().unwrap().to_owned();
    let to = host.path("out.tar");
    let _ = fs::remove_file(&to);
    let out = host.command(&["triage", "export", &name, "--to"]).arg(&to).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);
    (name, fs::read(to).unwrap())
}

fn files(package: &[u8]) -> BTreeMap<String, String> {
    let (_, inner) = triage::open(package).unwrap();
    let mut files = BTreeMap::new();
    triage::files(&inner, |name, bytes| {
        files.insert(name.to_owned(), String::from_utf8_lossy(bytes).into_owned());
        Ok(())
    })
    .unwrap();
    files
}

#[test]
fn a_package_says_what_the_host_is_doing_and_no_secret() {
    if !is_root() {
        return;
    }
    let secret = format!("hunter{}", std::process::id());
    let mut command = Command::new("sleep");
    command.arg("601").env("SKM_TEST_KEY", &secret).stdin(Stdio::null());
    let with_key = Ended(command.spawn().unwrap());
    // Its program is deleted while it runs.
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("gone");
    harness::program(&program, &fs::read("/bin/sleep").unwrap()).unwrap();
    let mut command = Command::new(&program);
    std::os::unix::process::CommandExt::arg0(&mut command, "sleep");
    let deleted = Ended(command.arg("602").stdin(Stdio::null()).spawn().unwrap());
    let mut host = Host::new(OFF);
    let runs = |_: &mut Host| fs::read_link(format!("/proc/{}/exe", deleted.0.id())).is_ok_and(|path| path == program);
    host.wait("it runs", runs);
    fs::remove_file(&program).unwrap();
    host.start();
    let ended = collect(&mut host);
    assert_eq!(ended["state"], "done", "{ended}");
    assert!(ended["reason"].as_str().unwrap().contains("not signed, since this host is not enrolled"), "{ended}");
    let (name, bytes) = package(&host);
    let folder = host.state().join("triage");
    let kept = folder.join(format!("{name}.triage.tar"));
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&kept)), (0o700, 0o600));
    let files = files(&bytes);
    for name in [
        "processes.jsonl",
        "programs.jsonl",
        "proc/net/tcp",
        "proc/1/mountinfo",
        "etc/passwd",
        "sakimori/status.json",
        "about.txt",
    ] {
        assert!(files.contains_key(name), "{name}: {:?}", files.keys());
    }
    assert!(files.values().all(|text| !text.contains(&secret)), "the value of a variable is in the package");
    let of = |pid: u32| {
        let lines = files["processes.jsonl"].lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.into_iter().find(|one| one["pid"] == pid.to_string()).unwrap()
    };
    let (with_key, deleted) = (of(with_key.0.id()), of(deleted.0.id()));
    assert!(with_key["environment"].as_array().unwrap().contains(&"SKM_TEST_KEY".into()), "{with_key}");
    assert_eq!((&with_key["command"], &deleted["deleted"]), (&serde_json::json!(["sleep", "601"]), &true.into()));
    let running = files["programs.jsonl"].lines().find(|line| line.contains("/gone (deleted)")).unwrap();
    assert!(running.contains("\"sha256\":\""), "{running}");
    assert!(serde_json::from_str::<Value>(&files["sakimori/status.json"]).unwrap()["modules"].is_array());
    // Unsigned, it is not believed.
    let shown = host.command(&["triage", "show", &name]).output().unwrap();
    assert!(!shown.status.success() && String::from_utf8_lossy(&shown.stderr).contains("there is none"));
    assert!(host.command(&["triage", "show", &name, "--file", "about.txt"]).output().unwrap().status.success());
    assert!(host.command(&["triage", "delete", &name]).output().unwrap().status.success());
    assert!(!kept.exists());
    host.stop();
}

#[test]
fn a_package_is_signed_by_the_host_s_identity_and_survives_no_change() {
    if !is_root() {
        return;
    }
    let (manager, mut host) = (Manager::start(), Host::new(OFF));
    let out = host.command(&["enroll", &manager.token("secret-1")]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    host.start();
    host.wait("connected", |_| manager.hellos() == 1);
    let ended = collect(&mut host);
    assert_eq!(ended["state"], "done", "{ended}");
    let (name, bytes) = package(&host);
    let ca = fs::read_to_string(host.state().join("identity/ca.pem")).unwrap();
    let verified = triage::verify(&bytes[..], Some(&ca)).unwrap();
    assert!(verified.of_the_ca && verified.files.len() > 5);
    assert_eq!((verified.statement.agent.as_str(), verified.statement.host.as_str()), ("agent-1", "web1"));
    assert_eq!(verified.statement.action, ended["order"]["id"].as_str().unwrap());
    let shown = host.command(&["triage", "show", &name]).output().unwrap();
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    assert!(String::from_utf8_lossy(&shown.stdout).contains("the manager's CA knows who signed it"));
    // One changed byte anywhere in what is packed.
    let at = bytes.windows(4).position(|four| four == [0x28, 0xb5, 0x2f, 0xfd]).unwrap();
    for offset in [at + 40, bytes.len() - 3_000] {
        let mut changed = bytes.clone();
        changed[offset] ^= 1;
        assert!(triage::verify(&changed[..], Some(&ca)).is_err(), "{offset}");
    }
    // What was asked for by the same order is not made twice.
    assert_eq!(host.json(&["triage", "list"]).as_array().unwrap().len(), 1);
    host.stop();
}
