//! Power that cannot be stolen: what a thief with all keys of the manager can make a host do, and what stops it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod host;
mod manager;

use std::fs;
use std::process::Command;

use host::{Host, is_root};
use manager::{Manager, seal_by};
use sakimori_content::SigningKey;
use sakimori_model::action::{Cause, Target};
use sakimori_model::policy::{self, Layer, Policy, Switch};
use sakimori_model::{Order, Timestamp, field};
use sakimori_respond::seal::Act;
use sakimori_wire::agent as proto;
use sakimori_wire::agent::down::Message as Down;
use serde_json::json;

fn start(mandate: &str) -> (Manager, Host) {
    let manager = Manager::start();
    let host = connect(&manager, mandate);
    (manager, host)
}

fn connect(manager: &Manager, mandate: &str) -> Host {
    let mut host = Host::new("");
    let text = fs::read_to_string(host.path("agent.toml")).unwrap();
    let path = host.path("mandate.toml");
    fs::write(&path, mandate).unwrap();
    let text = text.replacen("[agent]", &format!("[agent]\nmandate = \"{}\"", path.display()), 1);
    fs::write(host.path("agent.toml"), text).unwrap();
    host.append("auth.log", "");
    let out = host.command(&["enroll", &manager.token("secret-1")]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    host.start();
    host.wait("connected", |_| manager.hellos() == 1);
    host
}

fn now() -> Timestamp {
    sakimori_runtime::Clock::now(&sakimori_runtime::SystemClock)
}

fn order(id: &str, target: &str, seconds: i64) -> Order {
    Order {
        id: id.into(),
        action: "block_address".into(),
        target: Target::Network(target.parse().unwrap()),
        expiry: Some(now().plus_secs(seconds)),
        cause: Cause { alert: format!("alert-{id}"), by: "playbook:x".into(), ..Cause::default() },
        via: None,
        probe: false,
        inputs: std::collections::BTreeMap::new(),
        signatures: Vec::new(),
    }
}

/// What `nft`, which shares no code with the agent, sees in the agent's table.
fn kernel(host: &Host) -> String {
    let out = Command::new("nft").args(["-j", "list", "table", "inet", &host.table]).output().unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

fn operators() -> String {
    let keys = [1, 2, 3].map(|number| {
        let public = sakimori_content::keys::public_text(&key(number).verifying_key());
        format!("{{ name = \"op{number}\", key = \"{public}\" }}")
    });
    format!("[operators]\nneeded = 2\nkeys = [{}]\n", keys.join(", "))
}

fn policy(tree: serde_json::Value) -> Policy {
    let serde_json::Value::Object(tree) = tree else { panic!("a tree") };
    policy::merge(&[policy::default_layer(), Layer { name: "thief".into(), tree }]).unwrap().policy
}

/// Sends an order and returns the answer to it.
fn answer(manager: &Manager, host: &mut Host, down: Down) -> proto::OrderReply {
    let before = manager.replies().len();
    manager.send(down);
    host.wait("an answer", |_| manager.replies().len() > before);
    manager.replies().pop().unwrap()
}

#[test]
fn a_thief_with_every_key_of_the_manager_cannot_do_what_the_mandate_forbids() {
    if !is_root() {
        return;
    }
    let mandate = format!(
        "[alone]\nundo = false\nhalt = false\nspare_operators = false\nwidest_v4 = 32\nwidest_v6 = 128\n\
         longest_seconds = 600\n[never]\nblock = [\"198.18.0.0/15\"]\n[policy]\nkeep_on = [\"block_address\"]\n\
         detect_only = [\"antimalware\"]\nfixed = [\"response.allow\"]\nlogs_below = [\"/var/log\"]\n{}",
        operators()
    );
    let (manager, mut host) = start(&mandate);
    // Within the mandate he may.
    assert!(answer(&manager, &mut host, manager.order(&order("fine", "203.0.113.9", 300), &[])).accepted);
    assert!(kernel(&host).contains("203.0.113.9"));
    // Wider and longer needs two operators, of whom he has none; twice the same is one, and his own key is none.
    let wide = order("wide", "203.0.112.0/23", 300);
    let (one, two, own) = (key(1), key(2), key(9));
    let tries: [(&[&SigningKey], u32); 4] =
        [(&[], 2), (&[&own, &manager.order_key], 2), (&[&one, &one], 1), (&[&two], 1)];
    for (signed, lacks) in tries {
        let said = answer(&manager, &mut host, manager.order(&wide, signed));
        assert!(!said.accepted && said.lacks == lacks && said.signers.len() == 3, "{said:?}");
    }
    let said = answer(&manager, &mut host, manager.order(&order("long", "203.0.113.10", 6_000), &[]));
    assert!(!said.accepted && said.lacks == 2, "{said:?}");
    // What is never blocked here no signature changes, nor what keeps the host reachable.
    for (id, target, why) in [("never", "198.18.0.7", "mandate"), ("loop", "127.0.0.1", "loopback")] {
        let said = answer(&manager, &mut host, manager.order(&order(id, target, 300), &[&one, &two]));
        assert!(!said.accepted && said.lacks == 0 && said.reason.contains(why), "{said:?}");
    }
    let mut unknown = order("shell", "203.0.113.11", 300);
    unknown.action = "run_shell".into();
    assert!(!answer(&manager, &mut host, manager.order(&unknown, &[])).accepted);
    // Taking back what protects the host, stopping it, and sparing himself.
    assert!(!answer(&manager, &mut host, manager.undo("fine", "thief")).accepted);
    manager.send(manager.halt(1, true, true));
    manager.send(manager.operators(&["203.0.113.9"]));
    // A policy that switches protection off, allows himself, reads what it should not.
    let thief = policy(json!({
        "modules": {
            "block_address": {"state": "off"},
            "antimalware": {"state": "on", "mode": "prevent", "unjudged": "closed", "paths": []},
            "log_inspection": {"sources": [{"name": "shadow", "source": "linux/auth", "file": "/etc/shadow"}]},
        },
        "response": {"allow": ["0.0.0.0/0"]},
    }));
    manager.send(manager.policy(5, &thief));
    host.wait("the policy is in effect", |host| host.status().unwrap().policy == 5);
    let status = host.status().unwrap();
    for held in ["modules.block_address", "modules.antimalware.mode", "response.allow", "sources.shadow"] {
        assert!(status.held.iter().any(|path| path.ends_with(held)), "{held}: {:?}", status.held);
    }
    assert_eq!(status.halted, None);
    assert!(status.inputs.iter().all(|input| input.name != "shadow"), "{:?}", status.inputs);
    assert!(kernel(&host).contains("203.0.113.9"), "the block is where it was");
    host.wait("the refusals are told", |_| manager.said("manager-refused") >= 3);
    // With two operators the wide one is done, provisionally.
    let said = answer(&manager, &mut host, manager.order(&wide, &[&one, &two]));
    assert!(said.accepted, "{said:?}");
    assert!(kernel(&host).contains("203.0.112.0"));
    host.stop();
}

#[test]
fn seals_are_of_one_key_one_host_one_content_and_a_time() {
    if !is_root() {
        return;
    }
    let (manager, mut host) = start("");
    let one = order("one", "203.0.113.20", 300);
    let with = |order: &Order, seals: Vec<Vec<u8>>| {
        let order = Order { signatures: seals, ..order.clone() };
        Down::Order(proto::OrderDown { json: serde_json::to_vec(&order).unwrap() })
    };
    let act = Act::Order(&one);
    let forged = key(9);
    let other = order("one", "203.0.113.21", 300);
    for (what, down) in [
        ("none", with(&one, Vec::new())),
        ("another key", with(&one, vec![seal_by(&forged, "agent-1", act, 600)])),
        ("another host", with(&one, vec![seal_by(&manager.order_key, "agent-2", act, 600)])),
        ("over", with(&one, vec![seal_by(&manager.order_key, "agent-1", act, -1)])),
        ("another content", with(&other, vec![seal_by(&manager.order_key, "agent-1", act, 600)])),
    ] {
        let said = answer(&manager, &mut host, down);
        assert!(!said.accepted && said.reason.contains("seal"), "{what}: {said:?}");
    }
    assert!(host.json(&["actions", "list", "--all"]).as_array().unwrap().is_empty(), "none is in the ledger");
    assert!(answer(&manager, &mut host, manager.order(&one, &[])).accepted);
    assert!(answer(&manager, &mut host, manager.order(&one, &[])).accepted, "the same again is the same");
    let said = answer(&manager, &mut host, manager.order(&other, &[]));
    assert!(!said.accepted && said.reason.contains("another order of the id one"), "{said:?}");
    assert!(!kernel(&host).contains("203.0.113.21"));
    // Undo, policy, halt: without a seal nothing happens.
    let said = answer(
        &manager,
        &mut host,
        Down::Undo(proto::UndoDown { action_id: "one".into(), by: "x".into(), signatures: Vec::new() }),
    );
    assert!(!said.accepted && kernel(&host).contains("203.0.113.20"));
    let json = serde_json::to_vec(&policy(json!({}))).unwrap();
    manager.send(Down::Policy(proto::PolicyDown { number: 9, json, signature: Vec::new() }));
    manager.send(Down::Halt(proto::HaltDown { number: 9, halted: true, ..proto::HaltDown::default() }));
    host.wait("both are refused", |_| manager.said("manager-refused") >= 9);
    let status = host.status().unwrap();
    assert_eq!((status.policy, status.halt_number, status.halted), (0, 0, None));
    host.stop();
}

#[test]
fn an_agent_from_before_gets_the_order_key_once_on_the_word_of_the_bundle_key() {
    if !is_root() {
        return;
    }
    let manager = Manager::start();
    manager.is_old.store(true, std::sync::atomic::Ordering::SeqCst);
    let mut host = connect(&manager, "");
    assert!(manager.hello().order_key.is_empty());
    let one = order("one", "203.0.113.30", 300);
    assert!(!answer(&manager, &mut host, manager.order(&one, &[])).accepted, "no key, no orders");
    let forged = key(9).verifying_key().to_bytes();
    let seals = vec![seal_by(&key(9), "agent-1", Act::OrderKey(&forged), 600)];
    manager.send(Down::OrderKey(proto::OrderKeyDown { key: forged.to_vec(), signatures: seals }));
    manager.send(manager.order_key_down());
    host.wait("the key is pinned", |_| manager.said("order-key-pinned") == 1);
    assert!(answer(&manager, &mut host, manager.order(&one, &[])).accepted);
    host.kill();
    host.start();
    host.wait("connected again", |_| manager.hellos() == 2);
    assert_eq!(manager.hello().order_key.len(), 16);
    host.stop();
}

#[test]
fn a_mandate_that_others_can_write_lets_the_manager_do_nothing() {
    if !is_root() {
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let (manager, mut host) = start("");
    fs::set_permissions(host.path("mandate.toml"), fs::Permissions::from_mode(0o666)).unwrap();
    host.wait("it is told", |_| manager.said("mandate-refused") == 1);
    let said = answer(&manager, &mut host, manager.order(&order("one", "203.0.113.40", 300), &[]));
    assert!(!said.accepted, "{said:?}");
    let doctor = host.command(&["doctor", "--json"]).output().unwrap();
    assert!(String::from_utf8_lossy(&doctor.stdout).contains("may be written by others"), "{doctor:?}");
    fs::set_permissions(host.path("mandate.toml"), fs::Permissions::from_mode(0o644)).unwrap();
    host.wait("it is mended", |_| manager.said("mandate-applied") == 1);
    assert!(answer(&manager, &mut host, manager.order(&order("two", "203.0.113.40", 300), &[])).accepted);
    host.stop();
}

#[test]
fn the_host_alone_stops_everything_with_its_supervisor_hung_and_after_a_restart() {
    if !is_root() {
        return;
    }
    let (manager, mut host) = start("");
    assert!(answer(&manager, &mut host, manager.order(&order("one", "203.0.113.50", 300), &[])).accepted);
    manager.break_streams();
    let signal = |host: &Host, name: &str| {
        let pid = host.pid().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    };
    signal(&host, "-STOP");
    let said = host.json(&["halt", "--undo", "--reason", "customers are locked out"]);
    assert_eq!((&said["halted"], &said["agent"]), (&json!(true), &json!(false)), "{said}");
    assert!(!kernel(&host).contains("203.0.113.50"), "the table is away while the agent hangs");
    signal(&host, "-CONT");
    host.wait("the agent noted it", |host| {
        host.json(&["actions", "list", "--all"])[0]["state"] == "undone" && host.status().unwrap().halted.is_some()
    });
    assert!(!kernel(&host).contains("203.0.113.50"));
    host.kill();
    let before = manager.hellos();
    host.start();
    assert!(host.status().unwrap().halted.unwrap().contains("customers are locked out"));
    host.wait("connected", |_| manager.hellos() > before);
    let said = answer(&manager, &mut host, manager.order(&order("two", "203.0.113.51", 300), &[]));
    assert!(!said.accepted && said.reason.contains("customers are locked out"), "{said:?}");
    let out = host.command(&["block", "203.0.113.52", "--json"]).output().unwrap();
    assert!(!out.status.success(), "nor by hand, as long as it is stopped");
    // What root at the host stopped, the manager cannot let go on.
    manager.send(manager.halt(1, false, false));
    host.wait("the manager's word was heard", |host| host.status().unwrap().halt_number == 1);
    assert!(host.status().unwrap().halted.is_some());
    assert_eq!(host.json(&["resume"])["was_halted"], true);
    assert_eq!(host.status().unwrap().halted, None);
    assert!(answer(&manager, &mut host, manager.order(&order("three", "203.0.113.53", 300), &[])).accepted);
    // Without an agent that runs it is stopped as well.
    host.stop();
    host.json(&["halt", "--undo"]);
    assert!(!kernel(&host).contains("203.0.113.53"));
    host.json(&["resume"]);
    let told: Vec<String> =
        host.events("agent").iter().filter_map(|event| event.str(field::EVENT_ACTION).map(str::to_owned)).collect();
    assert!(told.contains(&"answers-halted".to_owned()) && told.contains(&"answers-resumed".to_owned()), "{told:?}");
}

#[test]
fn the_manager_stops_all_answers_takes_back_and_lets_go_on_and_never_an_older_word() {
    if !is_root() {
        return;
    }
    let (manager, mut host) = start("");
    assert!(answer(&manager, &mut host, manager.order(&order("one", "203.0.113.60", 300), &[])).accepted);
    manager.send(manager.halt(4, true, true));
    host.wait("it is stopped and taken back", |host| {
        host.status().unwrap().halted.is_some() && host.json(&["actions", "list", "--all"])[0]["state"] == "undone"
    });
    manager.send(manager.halt(3, false, false));
    let said = answer(&manager, &mut host, manager.order(&order("two", "203.0.113.61", 300), &[]));
    assert!(!said.accepted && said.reason.contains("drill"), "an older word does not count: {said:?}");
    manager.send(manager.halt(5, false, false));
    host.wait("answers go on", |host| host.status().unwrap().halted.is_none());
    assert!(answer(&manager, &mut host, manager.order(&order("three", "203.0.113.62", 300), &[])).accepted);
    host.kill();
    host.start();
    host.wait("connected again", |_| manager.hellos() == 2);
    assert_eq!(manager.hello().halt, 5, "kept for the next connection");
    host.stop();
}

#[test]
fn a_network_is_provisional_until_checks_hold_and_the_manager_answers() {
    if !is_root() {
        return;
    }
    let (manager, mut host) = start("");
    assert!(answer(&manager, &mut host, manager.order(&order("net", "203.0.113.0/25", 900), &[])).accepted);
    let seconds = |host: &Host| {
        let dump: serde_json::Value = serde_json::from_str(&kernel(host)).unwrap();
        let text = dump.to_string();
        let at = text.find("203.0.113.0").unwrap_or_else(|| panic!("{text}"));
        let rest = &text[at.saturating_sub(200)..(at + 200).min(text.len())];
        let after = rest.split("\"timeout\":").nth(1).unwrap_or_else(|| panic!("{rest}"));
        after.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<u64>().unwrap()
    };
    assert!(seconds(&host) <= 120, "the kernel itself takes it back at the deadline");
    assert_eq!(host.status().unwrap().provisional, ["net"]);
    host.wait("the checks hold and the manager is asked", |_| manager.provisional().contains(&"net".to_owned()));
    manager.send(manager.confirm("net", "manager"));
    host.wait("it stays", |host| host.status().unwrap().provisional.is_empty());
    let action = host.json(&["actions", "list"])[0].clone();
    assert!(action["reason"].as_str().unwrap().starts_with("confirmed by manager: the manager answers"), "{action}");
    assert!(seconds(&host) > 120);
    // A person at the host confirms as well; what waits for nothing is refused.
    let block = host.command(&["block", "198.51.100.0/25", "--json"]).output().unwrap();
    assert!(block.status.success(), "{block:?}");
    let id = host.status().unwrap().provisional[0].clone();
    assert_eq!(host.json(&["actions", "confirm", &id])["count"], 1);
    assert_eq!(host.json(&["actions", "confirm", &id])["count"], 0);
    host.stop();
}

#[test]
fn addresses_from_which_operators_are_signed_in_are_not_blocked() {
    if !is_root() {
        return;
    }
    let (manager, mut host) = start("");
    assert!(answer(&manager, &mut host, manager.order(&order("one", "203.0.113.70", 300), &[])).accepted);
    manager.send(manager.operators(&["203.0.113.70", "2001:db8::7"]));
    host.wait("who signs in is let in", |host| host.json(&["actions", "list", "--all"])[0]["state"] == "undone");
    host.kill();
    host.start();
    host.wait("connected again", |_| manager.hellos() == 2);
    let said = answer(&manager, &mut host, manager.order(&order("two", "2001:db8::/64", 300), &[]));
    assert!(!said.accepted && said.reason.contains("an operator is signed in"), "kept over a restart: {said:?}");
    let many: Vec<String> = (0..65).map(|number| format!("198.51.100.{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    manager.send(manager.operators(&many));
    host.wait("too many are refused", |_| manager.said("manager-refused") == 1);
    host.stop();
}

#[test]
fn a_switch_to_prevent_is_provisional_and_taken_back_it_only_looks() {
    if !is_root() {
        return;
    }
    let (manager, mut host) = start("");
    let prevents = policy(json!({"modules": {
        "antimalware": {"state": "on", "mode": "prevent", "paths": []},
        "log_inspection": {"sources": []},
    }}));
    assert_eq!(prevents.modules.antimalware.state, Switch::On);
    manager.send(manager.policy(3, &prevents));
    host.wait("it is in the ledger, with its deadline", |host| {
        host.json(&["actions", "list"])[0]["order"]["action"] == "prevent_mode"
            && host.status().unwrap().provisional.len() == 1
    });
    let id = host.status().unwrap().provisional[0].clone();
    assert_eq!(host.json(&["actions", "undo", &id])["count"], 1);
    let only_looks = |host: &mut Host| host.status().unwrap().held.contains(&"modules.antimalware.mode".to_owned());
    host.wait("it only looks", only_looks);
    host.kill();
    host.start();
    assert!(only_looks(&mut host), "after a restart too");
    host.wait("connected again", |_| manager.hellos() == 2);
    manager.send(manager.policy(4, &prevents));
    host.wait("a newer policy tries again", |host| host.status().unwrap().provisional.len() == 1);
    assert!(host.status().unwrap().held.is_empty());
    host.stop();
}

#[test]
fn heads_are_exchanged_and_a_fork_or_a_cut_is_found() {
    if !is_root() {
        return;
    }
    let (manager, mut host) = start("");
    assert!(answer(&manager, &mut host, manager.order(&order("one", "203.0.113.80", 300), &[])).accepted);
    let heads = |sequence: u64, hash: u8, ledger: u64| {
        let head = proto::AuditHead { chain: "default".into(), sequence, hash: vec![hash; 32] };
        Down::Heads(proto::HeadsDown { audit: vec![head], ledger_sequence: ledger })
    };
    manager.send(heads(7, 1, 0));
    host.wait("the ledger's head is told", |_| manager.ledger().len() == 1);
    let first = manager.ledger()[0].clone();
    assert!(first.head_sequence >= 3 && first.head.len() == 32);
    manager.send(heads(7, 1, first.head_sequence));
    host.wait("and its hash where it was", |_| manager.ledger().len() == 2);
    assert_eq!(manager.ledger()[1].hash, first.head);
    let verified = host.json(&["actions", "verify"]);
    assert_eq!(verified["whole"], true);
    host.kill();
    host.start();
    host.wait("connected again", |_| manager.hellos() == 2);
    let known = manager.hello().audit[0].clone();
    assert_eq!((known.sequence, known.hash), (7, vec![1; 32]), "the manager hears what it said");
    manager.send(heads(7, 2, 0));
    host.wait("a fork of the audit log is told", |_| manager.said("audit-broken") == 1);
    host.stop();
    // A ledger whose end was cut: the chain is whole, and the manager saw more.
    let whole = host.json(&["actions", "verify"]);
    assert_eq!(whole["whole"], true);
    fs::remove_dir_all(host.state().join("ledger")).unwrap();
    host.start();
    let out = host.command(&["actions", "verify"]).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && said.contains("is missing: the manager saw it"), "{said}");
    host.wait("connected", |_| manager.hellos() == 3);
    manager.send(heads(7, 1, first.head_sequence));
    host.wait("the cut is told", |_| manager.said("ledger-broken") == 1);
    host.stop();
}
