//! The agent and a manager that is played by this test: enrolment, batches, what comes down, revocation.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod host;
mod manager;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use host::{Host, expected, is_root, numbered};
use manager::Manager;
use sakimori_model::action::{Cause, Target};
use sakimori_model::{Order, Timestamp, field};
use sakimori_wire::agent as proto;
use sakimori_wire::agent::down::Message as Down;

const NO_BLOCKS: &str = "[policy.modules.block_address]\nstate = \"off\"";

fn enroll(host: &Host, manager: &Manager) {
    let out = host.command(&["enroll", &manager.token("secret-1")]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

/// A manager and an enrolled agent that does not run yet, where this is root.
fn enrolled(config: &str) -> Option<(Manager, Host)> {
    if !is_root() {
        return None;
    }
    let (manager, host) = (Manager::start(), Host::new(config));
    enroll(&host, &manager);
    Some((manager, host))
}

/// The same, and the agent is connected.
fn connected(config: &str) -> Option<(Manager, Host)> {
    let (manager, mut host) = enrolled(config)?;
    host.start();
    host.wait("connected", |_| manager.hellos() == 1);
    Some((manager, host))
}

#[test]
fn enrolment_verifies_the_manager_and_keeps_the_key_from_others() {
    if !is_root() {
        return;
    }
    let manager = Manager::start();
    let host = Host::new(NO_BLOCKS);
    let mut wrong: sakimori_wire::token::EnrolmentToken = manager.token("secret-1").parse().unwrap();
    wrong.ca_sha256[0] ^= 1;
    let out = host.command(&["enroll", &wrong.to_string()]).output().unwrap();
    assert!(!out.status.success());
    assert!(String::from_utf8_lossy(&out.stderr).contains("not the one that the token names"), "{out:?}");
    assert_eq!(manager.enrolled(), 0, "the secret never reached a manager that is not the right one");
    enroll(&host, &manager);
    let identity = host.state().join("identity");
    let metadata = fs::metadata(&identity).unwrap();
    assert_eq!((metadata.uid(), metadata.mode() & 0o777), (64_102, 0o700));
    for name in ["key.pem", "cert.pem", "ca.pem"] {
        assert_eq!(fs::metadata(identity.join(name)).unwrap().mode() & 0o777, 0o600);
    }
    assert_eq!(fs::metadata(host.state().join("agent.json")).unwrap().uid(), 0);
    // A second enrolment needs a word, and a token works once.
    let again = host.command(&["enroll", &manager.token("secret-1")]).output().unwrap();
    assert!(String::from_utf8_lossy(&again.stderr).contains("--again"), "{again:?}");
    let used = host.command(&["enroll", "--again", &manager.token("secret-1")]).output().unwrap();
    assert!(!used.status.success());
    assert!(identity.join("key.pem").exists(), "the former identity stays");
}

#[test]
fn batches_arrive_once_however_often_the_stream_breaks() {
    let Some((manager, mut host)) = enrolled(NO_BLOCKS) else { return };
    host.append("auth.log", numbered(0, 5_000));
    host.start();
    host.wait("connected", |_| manager.hellos() == 1);
    for round in 0..3_u32 {
        // Batches come and are not acknowledged; then the stream breaks.
        manager.acknowledge.store(false, Ordering::SeqCst);
        let seen = manager.batches();
        host.append("auth.log", numbered(5_000 + round * 100, 5_100 + round * 100));
        host.wait("a batch that nobody acknowledges", |_| manager.batches() > seen);
        manager.break_streams();
        manager.acknowledge.store(true, Ordering::SeqCst);
        host.wait("connected again", |_| manager.hellos() == round as usize + 2);
    }
    host.wait("all lines", |_| manager.lines("auth").len() >= 5_300);
    assert_eq!(manager.lines("auth"), expected(0, 5_300));
    host.wait("nothing waits", |host| host.status().unwrap().spool.waiting == 0);
    // The agent is killed: what the manager has is not sent again, what it has not is.
    host.kill();
    host.append("auth.log", numbered(5_300, 5_400));
    host.start();
    host.wait("the rest", |_| manager.lines("auth").len() >= 5_400);
    assert_eq!(manager.lines("auth"), expected(0, 5_400));
    host.stop();
    assert!(manager.hello_modules().iter().any(|module| module.id == "log_inspection" && module.config_schema > 0));
}

#[test]
fn a_policy_comes_down_and_never_goes_back() {
    let Some((manager, mut host)) = enrolled(NO_BLOCKS) else { return };
    host.append("other.log", numbered(0, 3));
    host.start();
    host.wait("connected", |_| manager.hellos() == 1);
    let mut policy = sakimori_model::policy::merge(&[sakimori_model::policy::default_layer()]).unwrap().policy;
    policy.modules.block_address.state = sakimori_model::policy::Switch::Off;
    policy.modules.log_inspection.sources.retain(|input| input.file.is_some());
    let mut other = policy.modules.log_inspection.sources[0].clone();
    other.name = "other".into();
    other.file = Some(host.path("other.log").display().to_string());
    policy.modules.log_inspection.sources = vec![other];
    let down = |number| manager.policy(number, &policy);
    manager.send(down(7));
    host.wait("the new input is read", |_| manager.lines("other").len() == 3);
    manager.send(down(6));
    host.wait("the older one is refused", |_| manager.said("policy-refused") == 1);
    assert_eq!(host.status().unwrap().policy, 7);
    host.kill();
    host.start();
    assert_eq!(host.status().unwrap().policy, 7, "kept for a start without the manager");
    host.stop();
}

#[test]
fn a_host_is_ready_once_the_newest_policy_and_rules_are_in_effect() {
    let Some((manager, mut host)) = enrolled(NO_BLOCKS) else { return };
    let ready = |host: &Host, wait: &str| -> (bool, String) {
        let out = host.command(&["ready", "--wait", wait]).output().unwrap();
        (out.status.success(), String::from_utf8_lossy(&out.stdout).into_owned())
    };
    let said = |host: &Host| ready(host, "0s").1;
    assert!(said(&host).contains("is it running"), "{}", said(&host));
    host.start();
    host.wait("connected", |_| manager.hellos() == 1);
    // A manager of before this question existed says nothing of it: not ready, and no guess.
    assert!(said(&host).contains("has not said yet"), "{}", said(&host));
    host.kill();
    manager.set_newest(7, 5);
    host.start();
    host.wait("what is missing is said", |host| {
        let said = said(host);
        said.contains("policy 0 is in effect, and 7") && said.contains("rule bundle 0 is in use, and 5")
    });
    let policy = sakimori_model::policy::merge(&[sakimori_model::policy::default_layer()]).unwrap().policy;
    manager.send(manager.policy(7, &policy));
    host.wait("the policy is there", |host| !said(host).contains("policy 0"));
    let asked = host.command(&["ready", "--wait", "5m"]).stdout(std::process::Stdio::null()).spawn();
    assert!(said(&host).contains("rule bundle 0"), "{}", said(&host));
    manager.send(Down::Bundle(proto::BundleDown { number: 5, bundle: manager.bundle(5) }));
    // Who waited for it is told.
    assert!(asked.unwrap().wait().unwrap().success());
    assert_eq!(host.json(&["ready"])["ready"], true);
    // The next policy is the newest from the moment when it is sent.
    manager.send(manager.policy(8, &policy));
    host.wait("the newer one is in effect", |host| host.status().unwrap().policy == 8 && ready(host, "0s").0);
    host.stop();
}

#[test]
fn a_bundle_is_verified_tried_and_never_goes_back() {
    let Some((manager, mut host)) = connected(NO_BLOCKS) else { return };
    let bundle = |number| Down::Bundle(proto::BundleDown { number, bundle: manager.bundle(number) });
    manager.send(bundle(5));
    host.wait("the bundle is in use", |host| host.status().unwrap().bundle == 5);
    for (nth, bad) in [
        Down::Bundle(proto::BundleDown { number: 4, bundle: manager.bundle(4) }),
        Down::Bundle(proto::BundleDown { number: 6, bundle: manager.forged_bundle(6) }),
        Down::Bundle(proto::BundleDown { number: 6, bundle: manager.bundle(6)[..500].to_vec() }),
    ]
    .into_iter()
    .enumerate()
    {
        manager.send(bad);
        host.wait("the bundle is refused", |_| manager.said("bundle-refused") == nth + 1);
    }
    assert_eq!(host.status().unwrap().bundle, 5);
    host.kill();
    host.start();
    assert_eq!(host.status().unwrap().bundle, 5);
    host.wait("connected again", |_| manager.hellos() == 2);
    manager.send(bundle(6));
    host.wait("a newer one is taken", |host| host.status().unwrap().bundle == 6);
    host.stop();
}

fn order(id: &str, target: &str, seconds: i64) -> Order {
    let now = Timestamp::parse(&now_text()).unwrap();
    Order {
        id: id.into(),
        action: "block_address".into(),
        target: Target::Network(target.parse().unwrap()),
        expiry: Some(now.plus_secs(seconds)),
        cause: Cause { alert: format!("alert-{id}"), by: "playbook:x".into(), ..Cause::default() },
        via: None,
        probe: false,
        inputs: std::collections::BTreeMap::new(),
        signatures: Vec::new(),
    }
}

fn now_text() -> String {
    let out = std::process::Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]).output().unwrap();
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

#[test]
fn orders_are_judged_answered_and_undone() {
    let Some((manager, mut host)) = connected("") else { return };
    let down = |order: &Order| manager.order(order, &[]);
    manager.send(down(&order("one", "203.0.113.9", 600)));
    manager.send(down(&order("two", "127.0.0.1", 600)));
    host.wait("both are answered", |_| manager.replies().len() == 2);
    let replies = manager.replies();
    assert!(replies[0].accepted, "{replies:?}");
    assert!(!replies[1].accepted && replies[1].reason.contains("never blocked"), "{replies:?}");
    assert_eq!(host.json(&["actions", "list"])[0]["order"]["id"], "one");
    host.wait("done is told", |_| manager.states("one").contains(&"done".to_owned()));
    host.wait("refused is told", |_| manager.states("two") == ["refused"]);
    manager.send(manager.undo("one", "alice"));
    host.wait("undone is told", |_| manager.states("one").last().is_some_and(|state| state == "undone"));
    // Told again, since the answer may have been lost: it is answered again, and nothing is done twice.
    manager.send(manager.undo("one", "alice"));
    manager.send(manager.undo("gone", "alice"));
    host.wait("the undos are answered", |_| manager.replies().len() == 5);
    let undos: Vec<_> = manager.replies().into_iter().skip(2).map(|one| (one.id, one.undo, one.accepted)).collect();
    let expected = [("one", true), ("one", true), ("gone", false)];
    assert_eq!(undos, expected.map(|(id, accepted)| (id.to_owned(), true, accepted)));
    // In the grace time a fresh alert does not block it again.
    manager.send(down(&order("three", "203.0.113.9", 600)));
    host.wait("the third is answered", |_| manager.replies().len() == 6);
    assert!(!manager.replies()[5].accepted);
    let actions = manager.events("actions");
    assert!(actions.iter().all(|event| event.str(field::HOST_NAME) == Some("web1")));
    host.stop();
}

#[test]
fn a_revoked_agent_stays_off_and_still_reads_and_spools() {
    let Some((manager, mut host)) = connected(NO_BLOCKS) else { return };
    manager.revoked.store(true, Ordering::SeqCst);
    manager.break_streams();
    host.wait("the agent was refused once", |_| manager.refusals() == 1);
    host.append("auth.log", numbered(0, 5));
    host.wait("lines are spooled", |host| host.lines("auth").len() == 5);
    // It does not knock again at once: the wait after a refusal is at least 30 seconds.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(manager.refusals(), 1);
    assert!(!host.status().unwrap().connected);
    host.stop();
}

#[test]
fn a_full_spool_stops_the_reading_and_loses_nothing() {
    let Some((manager, mut host)) = enrolled(&format!("{NO_BLOCKS}\n[spool]\nmost_bytes = 200000")) else { return };
    manager.acknowledge.store(false, Ordering::SeqCst);
    // Lines that do not compress, so that they fill the spool.
    let line = |number: u64| {
        let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut text = format!("Jan  2 03:04:05 web1 app[1]: line {number} ");
        for _ in 0..12 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            text.push_str(&format!("{state:016x}"));
        }
        text
    };
    let all: Vec<String> = (0..40_000).map(line).collect();
    host.append("auth.log", all.iter().map(|line| format!("{line}\n")).collect::<String>());
    host.start();
    host.wait("the input waits", |host| {
        host.status().is_some_and(|status| status.inputs.iter().any(|input| input.state == "waiting"))
    });
    // What was on its way may still come, eight batches; then nothing more.
    let mut full = 0;
    host.wait("the spool stays as it is", |host| {
        let before = std::mem::replace(&mut full, host.status().unwrap().spool.bytes);
        std::thread::sleep(Duration::from_millis(300));
        before == full
    });
    assert!(full < 200_000 + 9 * 300_000, "{full}");
    let later = host.status().unwrap();
    assert!(later.inputs.iter().find(|input| input.name == "auth").unwrap().spooled < 40_000);
    manager.acknowledge.store(true, Ordering::SeqCst);
    manager.break_streams();
    host.wait("all lines", |_| manager.lines("auth").len() >= 40_000);
    assert_eq!(manager.lines("auth"), all);
    host.stop();
}

#[test]
fn a_certificate_near_its_end_is_renewed_through_a_proxy_too() {
    if !is_root() {
        return;
    }
    let manager = Manager::start();
    let (proxy, tunnels) = manager::proxy();
    let mut host = Host::new(NO_BLOCKS);
    let text = fs::read_to_string(host.path("agent.toml")).unwrap();
    fs::write(host.path("agent.toml"), text.replace("[agent]", &format!("[agent]\nproxy = \"http://{proxy}\"")))
        .unwrap();
    manager.short_lived.store(true, Ordering::SeqCst);
    enroll(&host, &manager);
    assert_eq!(tunnels.load(Ordering::SeqCst), 1);
    let certificate = host.state().join("identity/cert.pem");
    let before = fs::read_to_string(&certificate).unwrap();
    host.start();
    host.wait("connected with the new one", |_| manager.hellos() == 1);
    assert_ne!(fs::read_to_string(&certificate).unwrap(), before);
    assert_eq!(fs::metadata(&certificate).unwrap().uid(), 64_102);
    assert!(tunnels.load(Ordering::SeqCst) >= 2);
    host.stop();
}
