//! Version skew on one host's disk (D21): what each release left in the state folder of an agent is read by this one.
//!
//! `golden/<version>` holds what the real agent of that version wrote: spool (batches and orders), ledger, policy, and what
//! its tests read from that then (`expected.json`). `cargo run -p sakimori-xtask -- golden` writes the set of this version;
//! that is done once a release, and a set that is there is never written again.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod host;
mod manager;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use host::{Host, is_root};
use manager::Manager;
use sakimori_journal::{Journal, Options};
use sakimori_model::{Order, Timestamp, field};
use sakimori_respond::ledger::{Keep, Ledger};
use sakimori_wire::batch;
use serde_json::{Value, json};

/// Set by xtask: write the set of this version.
const WRITE: &str = "SAKIMORI_GOLDEN";
/// What of a state folder a set holds.
const PARTS: &[&str] = &["spool/journal", "spool/streams.json", "ledger", "policy.json", "scans.json"];
/// Beginning of a record of orders.
const ORDERS: &[u8] = b"SKO1";

fn sets() -> PathBuf {
    "tests/golden".into()
}

fn all() -> Vec<PathBuf> {
    let mut sets: Vec<PathBuf> = fs::read_dir(sets()).unwrap().map(|entry| entry.unwrap().path()).collect();
    sets.retain(|path| path.is_dir());
    sets.sort();
    sets
}

/// Copies a folder or file with all below it.
fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else if from.is_file() {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    }
}

fn journal(dir: &Path) -> Journal {
    Journal::open(dir, Options::default()).unwrap().0
}

/// Records of a journal, read from a copy.
fn records(dir: &Path) -> Vec<Vec<u8>> {
    let place = tempfile::tempdir().unwrap();
    copy(dir, place.path());
    let journal = journal(place.path());
    let (mut next, mut found) = (journal.first(), Vec::new());
    while next < journal.next() {
        for (number, bytes) in journal.read(next, 1 << 20).unwrap() {
            next = number + 1;
            found.push(bytes);
        }
    }
    found
}

/// What a spool holds, as a reader of any version must see it.
fn spooled(state: &Path) -> Value {
    let (mut batches, mut orders) = (Vec::new(), Vec::new());
    for record in records(&state.join("spool/journal")) {
        if let Some(body) = record.strip_prefix(ORDERS) {
            type Orders = (Timestamp, String, u64, Vec<Order>);
            let (at, stream, sequence, own): Orders = postcard::from_bytes(body).unwrap();
            orders.push(json!({"at": at, "stream": stream, "sequence": sequence, "orders": own}));
            continue;
        }
        let batch = batch::decode(&record).unwrap();
        let header = &batch.header;
        let events: Vec<Value> = batch.events.iter().map(|event| Value::Object(event.to_json())).collect();
        batches.push(json!({
            "id": header.id, "origin": header.origin, "stream": header.stream, "sequence": header.sequence,
            "first_event": header.first_event, "bundle": header.bundle, "losses": header.losses.len(), "events": events,
        }));
    }
    json!({ "batches": batches, "orders": orders })
}

/// Actions of a ledger as they stood at this time, in the order of their beginning.
fn actions(state: &Path, at: Timestamp) -> Vec<Value> {
    let place = tempfile::tempdir().unwrap();
    copy(&state.join("ledger"), place.path());
    let (ledger, _) = Ledger::open(place.path(), Keep::default(), at).unwrap();
    let mut all: Vec<_> = ledger.actions().cloned().collect();
    all.sort_by_key(|action| (action.planned_at, action.order.id.clone()));
    all.iter().map(|action| serde_json::to_value(&**action).unwrap()).collect()
}

/// A host whose state folder is this set.
fn host_of(set: &Path) -> Host {
    let host = Host::new("");
    for part in PARTS {
        copy(&set.join(part), &host.state().join(part));
    }
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(host.state(), mode).unwrap();
    let streams: Value = serde_json::from_slice(&fs::read(set.join("spool/streams.json")).unwrap()).unwrap();
    fs::write(host.state().join("agent-id"), streams["origin"].as_str().unwrap()).unwrap();
    host
}

fn newest() -> PathBuf {
    all().pop().unwrap()
}

#[test]
fn every_set_is_read_event_by_event() {
    let sets = all();
    assert!(!sets.is_empty());
    for set in sets {
        let expected: Value = serde_json::from_slice(&fs::read(set.join("expected.json")).unwrap()).unwrap();
        let found = spooled(&set);
        assert_eq!(found["batches"], expected["spool"]["batches"], "{}", set.display());
        // What a later order has more than an earlier one does not change what the earlier one says.
        let (orders, wanted) = (&found["orders"], &expected["spool"]["orders"]);
        assert_eq!(orders.as_array().unwrap().len(), wanted.as_array().unwrap().len());
        holds(orders, wanted);
        assert!(!wanted.as_array().unwrap().is_empty() && !found["batches"].as_array().unwrap().is_empty());
        let at = Timestamp::parse(expected["at"].as_str().unwrap()).unwrap();
        holds(&actions(&set, at).into(), &expected["actions"]);
        let policy: Value = serde_json::from_slice(&fs::read(set.join("policy.json")).unwrap()).unwrap();
        let bytes = policy["policy"].to_string();
        let (read, unknown) = sakimori_model::policy::read(bytes.as_bytes()).unwrap();
        assert!(unknown.is_empty(), "{unknown:?}: a setting went away");
        holds(&serde_json::to_value(read).unwrap(), &policy["policy"]);
    }
}

/// Is everything that was said still said?
fn holds(found: &Value, wanted: &Value) {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            for (name, value) in wanted {
                holds(found.get(name).unwrap_or(&Value::Null), value);
            }
        }
        (Value::Array(found), Value::Array(wanted)) => {
            assert_eq!(found.len(), wanted.len());
            found.iter().zip(wanted).for_each(|(found, wanted)| holds(found, wanted));
        }
        _ => assert_eq!(found, wanted),
    }
}

#[test]
fn an_agent_goes_on_with_every_set() {
    if !is_root() {
        return;
    }
    for set in all() {
        let expected: Value = serde_json::from_slice(&fs::read(set.join("expected.json")).unwrap()).unwrap();
        let before = records(&set.join("spool/journal"));
        let mut host = host_of(&set);
        host.start();
        assert_eq!(Value::from(host.status().unwrap().policy), expected["policy"]);
        assert!(host.command(&["actions", "verify"]).output().unwrap().status.success());
        host.wait("it says that it starts", |host| host.said("agent-start") >= 2);
        // The books of each stream go on: `events` compares sequences and numbers.
        assert!(!host.events("auth").is_empty());
        assert_eq!((host.said("policy-refused"), host.said("orders-not-understood")), (0, 0));
        host.stop();
        let after = records(&host.state().join("spool/journal"));
        assert_eq!(after[..before.len()], before[..], "nothing of it went away");
    }
}

#[test]
fn what_a_later_version_adds_is_passed_over_and_kept() {
    if !is_root() {
        return;
    }
    let mut host = host_of(&newest());
    let path = host.state().join("policy.json");
    let mut policy: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    policy["policy"]["modules"]["decoys"] = json!({"state": "on"});
    policy["signed_by"] = json!(["nobody of today"]);
    fs::write(&path, policy.to_string()).unwrap();
    let streams = host.state().join("spool/streams.json");
    let mut kept: Value = serde_json::from_slice(&fs::read(&streams).unwrap()).unwrap();
    kept["streams"]["auth"]["of_a_later_version"] = json!(1);
    fs::write(&streams, kept.to_string()).unwrap();
    // A batch whose header says more at its end, and orders in a form that is not ours.
    let spool = journal(&host.state().join("spool/journal"));
    let last = records(&host.state().join("spool/journal")).into_iter().rev().find(|one| !one.starts_with(ORDERS));
    let mut batch = batch::decode(&last.unwrap()).unwrap();
    (batch.header.sequence, batch.header.first_event, batch.header.stream) = (1, 0, "later".into());
    let bytes = batch::encode(&batch).unwrap();
    let (start, rest) = bytes.split_at(4);
    let length = u32::from_le_bytes(rest[..4].try_into().unwrap());
    let (header, body) = rest[4..].split_at(length as usize);
    let longer = [start, &(length + 3).to_le_bytes(), header, &[1, 2, 3], body].concat();
    spool.append(&[ORDERS, &[255; 40]].concat()).unwrap();
    spool.append(&longer).unwrap();
    spool.sync().unwrap();
    drop(spool);
    host.start();
    assert_eq!(Value::from(host.status().unwrap().policy), policy["number"]);
    host.wait("it says what it does not understand", |host| host.said("orders-not-understood") == 1);
    assert_eq!(host.events("later").len(), batch.events.len());
    assert_eq!(host.said("policy-refused"), 0);
    host.stop();
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("decoys"), "it is there for the version that knows it");
}

#[test]
fn a_record_that_nobody_knows_is_a_clear_error_and_no_loss() {
    if !is_root() {
        return;
    }
    for (place, record, said) in [
        ("spool/journal", &b"SKX1 of a later version"[..], "neither a batch nor orders; a later version may have"),
        ("ledger", &[255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255][..], "cannot be decoded"),
    ] {
        let host = host_of(&newest());
        let dir = host.state().join(place);
        let before = records(&dir);
        let journal = journal(&dir);
        let number = journal.append(record).unwrap();
        journal.sync().unwrap();
        drop(journal);
        let mut child = host.command(&["run"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
        let until = std::time::Instant::now() + host::PATIENCE;
        while child.try_wait().unwrap().is_none() {
            if std::time::Instant::now() > until {
                let _ = child.kill();
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let out = child.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && error.contains(said), "{place}: {error}");
        assert!(error.contains(&format!("record {number} ")), "{place}: it names the record: {error}");
        let after = records(&dir);
        assert_eq!((&after[..before.len()], after[before.len()].as_slice()), (&before[..], record), "{place}");
    }
}

fn failures(address: &str) -> String {
    let now = Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%S.000000+00:00"]).output().unwrap();
    let now = String::from_utf8(now.stdout).unwrap();
    let line = |port: u32| {
        format!("{} web1 sshd[4711]: Failed password for root from {address} port {port} ssh2\n", now.trim())
    };
    (40_000..40_012).map(line).collect()
}

#[test]
fn the_set_of_this_version_is_written_when_asked_for() {
    if std::env::var_os(WRITE).is_none() {
        return;
    }
    assert!(is_root(), "a set holds blocks, which need root");
    let set = sets().join(env!("CARGO_PKG_VERSION"));
    assert!(!set.exists(), "{} is there; a set is written once", set.display());
    let manager = Manager::start();
    let mut host = Host::new("");
    // What lies in the tree says nothing about the machine on which it was written.
    host.on_machine("0123456789abcdef0123456789abcdef");
    let out = host.command(&["enroll", &manager.token("golden")]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    // Nothing is let go of, so that all of it lies in the spool.
    manager.acknowledge.store(false, std::sync::atomic::Ordering::SeqCst);
    host.append("auth.log", "");
    host.start();
    host.wait("connected", |_| manager.hellos() == 1);
    let mut policy = sakimori_model::policy::merge(&[sakimori_model::policy::default_layer()]).unwrap().policy;
    // The same names as on the host that reads it, and logs that are not there then.
    policy.modules.log_inspection.sources.retain(|input| input.name == "auth");
    policy.modules.log_inspection.sources[0].file = Some(host.path("auth.log").display().to_string());
    manager.send(manager.policy(3, &policy));
    host.wait("the policy is in effect", |host| host.status().is_some_and(|status| status.policy == 3));
    host.wait("the log is read", |host| {
        host.status().is_some_and(|status| status.inputs.iter().any(|input| input.state == "reading"))
    });
    host.append("auth.log", failures("203.0.113.77"));
    let blocked = |host: &Host, state: &str| {
        let all = host.json(&["actions", "list", "--all"]);
        all.as_array().unwrap().iter().any(|action| action["state"] == state)
    };
    host.wait("a rule blocks", |host| blocked(host, "done"));
    assert!(host.command(&["block", "198.51.100.9", "2001:db8::9"]).output().unwrap().status.success());
    let id = host.json(&["actions", "list"])[0]["order"]["id"].as_str().unwrap().to_owned();
    assert!(host.command(&["actions", "undo", &id]).output().unwrap().status.success());
    // Refused by the guard: a record of its own.
    let _ = host.command(&["block", "127.0.0.1"]).output().unwrap();
    host.wait("it is told", |host| {
        host.events("actions").iter().any(|event| event.str(field::SAKIMORI_ACTION_STATE) == Some("undone"))
    });
    let now = Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]).output().unwrap();
    let at = String::from_utf8(now.stdout).unwrap().trim().to_owned();
    host.stop();
    for part in PARTS {
        copy(&host.state().join(part), &set.join(part));
    }
    let told = actions(&set, Timestamp::parse(&at).unwrap());
    let states: Vec<&str> = told.iter().filter_map(|action| action["state"].as_str()).collect();
    assert!(["done", "undone", "refused"].iter().all(|state| states.contains(state)), "{states:?}");
    let expected = json!({ "at": at, "spool": spooled(&set), "actions": told, "policy": 3 });
    fs::write(set.join("expected.json"), serde_json::to_string_pretty(&expected).unwrap()).unwrap();
}
