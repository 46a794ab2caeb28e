//! From the deciding line to the kernel, by the host alone.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod host;

use std::process::Command;
use std::time::{Duration, Instant};

use host::{Host, is_root};
use sakimori_model::field;

fn failures(address: &str, count: u32) -> String {
    let now = Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%S.000000+00:00"]).output().unwrap();
    let now = String::from_utf8(now.stdout).unwrap();
    (0..count)
        .map(|number| {
            format!(
                "{} web1 sshd[4711]: Failed password for root from {address} port {} ssh2\n",
                now.trim(),
                40_000 + number
            )
        })
        .collect()
}

/// What `nft`, which shares no code with the agent, sees in the agent's table.
fn kernel(host: &Host) -> String {
    let out = Command::new("nft").args(["list", "table", "inet", &host.table]).output();
    out.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default()
}

fn actions(host: &Host) -> Vec<serde_json::Value> {
    host.json(&["actions", "list", "--all"]).as_array().unwrap().clone()
}

#[test]
fn a_burst_is_blocked_survives_a_sigkill_and_is_undone() {
    if !is_root() {
        return;
    }
    let mut host = Host::new("");
    host.append("auth.log", "");
    host.start();
    host.wait("the log is read", |host| {
        host.status().is_some_and(|status| status.inputs.iter().any(|input| input.state == "reading"))
    });
    let began = Instant::now();
    host.append("auth.log", failures("203.0.113.77", 20));
    host.wait("the block", |host| actions(host).iter().any(|action| action["state"] == "done"));
    println!("from the lines to the answer of the command line: {:?}", began.elapsed());
    let all = actions(&host);
    let done: Vec<_> = all.iter().filter(|action| action["state"] == "done").collect();
    assert_eq!(done.len(), 1, "{all:?}");
    assert_eq!(done[0]["order"]["target"]["network"], "203.0.113.77");
    assert!(done[0]["order"]["cause"]["alert"].as_str().is_some_and(|alert| !alert.is_empty()));
    if Command::new("nft").arg("--version").output().is_ok() {
        assert!(kernel(&host).contains("203.0.113.77"), "{}", kernel(&host));
    }
    let alerts =
        |host: &Host| host.events("auth").iter().filter(|event| event.str(field::SAKIMORI_ALERT_ID).is_some()).count();
    let before = alerts(&host);
    assert!(before >= 1);
    // Killed and started again: the block stays, nothing is blocked or alerted anew.
    host.kill();
    host.start();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(alerts(&host), before);
    assert_eq!(actions(&host).iter().filter(|action| action["state"] == "done").count(), 1);
    let id = actions(&host).iter().find(|action| action["state"] == "done").unwrap()["order"]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let undone = host.json(&["actions", "undo", &id]);
    assert_eq!(undone["count"], 1);
    assert!(!kernel(&host).contains("203.0.113.77"));
    host.stop();
    let told: Vec<String> = host
        .events("actions")
        .iter()
        .filter(|event| event.str(field::SAKIMORI_ACTION_ID) == Some(&id))
        .map(|event| event.str(field::SAKIMORI_ACTION_STATE).unwrap().to_owned())
        .collect();
    assert_eq!(told.first().map(String::as_str), Some("done"));
    assert_eq!(told.last().map(String::as_str), Some("undone"));
}

#[test]
fn what_is_never_blocked_is_refused_and_said() {
    if !is_root() {
        return;
    }
    let mut host = Host::new("[policy.response]\nallow = [\"203.0.113.0/24\"]");
    host.append("auth.log", "");
    host.start();
    host.append("auth.log", failures("203.0.113.78", 20));
    host.wait("a refusal", |host| actions(host).iter().any(|action| action["state"] == "refused"));
    let out = host.command(&["block", "127.0.0.1", "--json"]).output().unwrap();
    assert!(!out.status.success());
    assert!(String::from_utf8_lossy(&out.stdout).contains("never blocked"), "{out:?}");
    host.wait("the refusal is told", |host| {
        host.events("actions").iter().any(|event| event.str(field::SAKIMORI_ACTION_STATE) == Some("refused"))
    });
    assert!(actions(&host).iter().all(|action| action["state"] != "done"));
    host.stop();
}

#[test]
fn detection_state_outlives_a_sigkill() {
    if !is_root() {
        return;
    }
    let mut host = Host::new("");
    host.append("auth.log", "");
    host.start();
    // Too few for an alert; then a kill; then the few that are missing.
    host.append("auth.log", failures("203.0.113.79", 4));
    host.wait("lines are spooled", |host| host.lines("auth").len() == 4);
    host.kill();
    host.start();
    host.append("auth.log", failures("203.0.113.79", 6));
    host.wait("the block", |host| actions(host).iter().any(|action| action["state"] == "done"));
    host.stop();
    let alerts = host.events("auth").iter().filter(|event| event.str(field::SAKIMORI_ALERT_ID).is_some()).count();
    assert_eq!(alerts, 1);
}

#[test]
fn open_windows_come_back_from_a_snapshot() {
    if !is_root() {
        return;
    }
    let mut host = Host::new("");
    host.append("auth.log", "");
    host.start();
    host.append("auth.log", failures("203.0.113.80", 4));
    host.wait("lines are spooled", |host| host.lines("auth").len() == 4);
    // The snapshot covers the four lines, so a start does not replay them.
    host.wait("a snapshot is kept", |host| host.state().join("detection.snapshot").exists());
    host.kill();
    host.start();
    host.append("auth.log", failures("203.0.113.80", 1));
    host.wait("the block", |host| actions(host).iter().any(|action| action["state"] == "done"));
    host.stop();
    assert!(!host.output().contains("cannot be used"), "{}", host.output());
}
