//! What lasts until it is taken back, by the real agent and on the manager's word: a host that is isolated, over kills, a
//! reboot, its end, a stop; and a user that is locked, in a copy of /etc that only the agent under test sees.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod host;
mod manager;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use host::{Host, PATIENCE, is_root};
use manager::Manager;
use sakimori_model::action::{Cause, Target};
use sakimori_model::policy::{self, Layer};
use sakimori_model::{Order, Timestamp, field};
use sakimori_sys::lab::{End, Lab};

const HOST: &str = "192.0.2.1";
const PEER: &str = "192.0.2.7";
const MANAGER: &str = "192.0.2.9";
/// How long what must not arrive is waited for: longer than the first retransmission.
const IN_VAIN: Duration = Duration::from_millis(1_300);
const MANDATE: &str = "[alone]\nactions = [\"isolate_host\", \"lock_user\"]\n";

fn now() -> Timestamp {
    sakimori_runtime::Clock::now(&sakimori_runtime::SystemClock)
}

fn order(id: &str, action: &str, target: Target, seconds: Option<i64>, inputs: &[(&str, &str)]) -> Order {
    Order {
        id: id.into(),
        action: action.into(),
        target,
        expiry: seconds.map(|seconds| now().plus_secs(seconds)),
        cause: Cause { by: "ann".into(), title: "an incident".into(), ..Cause::default() },
        via: None,
        probe: false,
        inputs: inputs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        signatures: Vec::new(),
    }
}

fn isolate(id: &str, seconds: i64) -> Order {
    order(id, "isolate_host", Target::resource("host", "this"), Some(seconds), &[])
}

/// State and reason of an action, as the host's ledger has it.
fn action(host: &Host, id: &str) -> (String, String) {
    let all = host.json(&["actions", "list", "--all"]);
    let one = all.as_array().unwrap().iter().find(|one| one["order"]["id"] == id).cloned().unwrap_or_default();
    let text = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
    (text("state"), text("reason"))
}

fn enrolled(mut host: Host, manager: &Manager) -> Host {
    let path = host.path("mandate.toml");
    fs::write(&path, MANDATE).unwrap();
    let text = fs::read_to_string(host.path("agent.toml")).unwrap();
    let text = text.replacen("[agent]", &format!("[agent]\nmandate = \"{}\"", path.display()), 1);
    fs::write(host.path("agent.toml"), text).unwrap();
    let out = host.command(&["enroll", &manager.token("secret-1")]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    host.start();
    host.wait("connected", |_| manager.hellos() == 1);
    host
}

/// A host in a network of its own, whose neighbour and whose manager are elsewhere.
struct Net {
    // The first to go: it is taken off while its network is there.
    host: Host,
    manager: Manager,
    lab: Lab,
    /// The ruleset before anything was isolated.
    before: String,
}

impl Net {
    fn start() -> Option<Self> {
        let has_nft = Command::new("nft").arg("--version").output().is_ok();
        if !is_root() || !sakimori_sys::harness::needs(has_nft, "the program nft") {
            return None;
        }
        let mut lab = Lab::new("sklast").unwrap();
        lab.add("host").unwrap();
        lab.add("net").unwrap();
        let end = |namespace, addresses| End { namespace, device: "eth0", addresses };
        lab.join(end("host", &["192.0.2.1/24"]), end("net", &["192.0.2.7/24", "192.0.2.9/24"])).unwrap();
        let manager = Manager::on(lab.inside("net", || TcpListener::bind((MANAGER, 0)).unwrap()).unwrap());
        let mut host = Host::new("");
        host.namespace = Some(lab.full_name("host"));
        let host = enrolled(host, &manager);
        let mut net = Self { lab, manager, host, before: String::new() };
        net.before = net.ruleset();
        Some(net)
    }

    fn nft(&self, arguments: &[&str]) -> String {
        let out = self.lab.command("host", "nft").unwrap().args(arguments).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    fn ruleset(&self) -> String {
        self.nft(&["list", "ruleset"])
    }

    /// Can a new connection be made?
    fn connects(&self, from: &str, to: &str, address: &str) -> bool {
        let listener = self.lab.inside(to, || TcpListener::bind((address, 0)).unwrap()).unwrap();
        let at = listener.local_addr().unwrap();
        self.lab.inside(from, || TcpStream::connect_timeout(&at, IN_VAIN).is_ok()).unwrap()
    }

    fn is_cut(&self) -> bool {
        !self.connects("host", "net", PEER) && !self.connects("net", "host", HOST)
    }

    fn open(&self) -> (TcpStream, TcpStream) {
        let listener = self.lab.inside("net", || TcpListener::bind((PEER, 0)).unwrap()).unwrap();
        let at: SocketAddr = listener.local_addr().unwrap();
        let one = self.lab.inside("host", || TcpStream::connect(at).unwrap()).unwrap();
        (one, listener.accept().unwrap().0)
    }

    fn isolated(&mut self, order: &Order) {
        self.manager.send(self.manager.order(order, &[]));
        let id = order.id.clone();
        let said = |manager: &Manager| manager.replies().into_iter().find(|reply| reply.id == id);
        self.host.wait("an answer", |_| said(&self.manager).is_some());
        let reply = said(&self.manager).unwrap();
        assert!(reply.accepted, "{}", reply.reason);
    }
}

/// Does what is written at one end come out at the other, within a time?
fn says(one: &mut TcpStream, other: &mut TcpStream, word: u8, within: Duration) -> bool {
    one.write_all(&[word]).unwrap();
    let until = Instant::now() + within;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        other.set_read_timeout(Some(left)).unwrap();
        let mut byte = [0];
        match other.read(&mut byte) {
            Ok(1) if byte[0] == word => return true,
            Ok(1) => {}
            Ok(_) => panic!("the connection was closed"),
            Err(_) => return false,
        }
    }
}

#[test]
fn an_isolated_host_speaks_with_its_manager_alone_over_kills_and_a_reboot_until_it_is_released() {
    let Some(mut net) = Net::start() else { return };
    let (mut one, mut other) = net.open();
    assert!(says(&mut one, &mut other, 1, PATIENCE) && !net.is_cut());
    net.isolated(&isolate("iso", 600));
    net.host.wait("the manager hears of it on the way that is left", |_| {
        net.manager.states("iso").last().is_some_and(|state| state == "done")
    });
    assert!(net.is_cut());
    assert!(!says(&mut one, &mut other, 2, IN_VAIN) && !says(&mut other, &mut one, 3, IN_VAIN), "what was open, too");
    assert_eq!(net.host.status().unwrap().provisional, ["iso"]);
    net.host.wait("it asks the manager", |_| net.manager.provisional().contains(&"iso".to_owned()));
    net.manager.send(net.manager.confirm("iso", "manager"));
    net.host.wait("it stays", |host| host.status().unwrap().provisional.is_empty());
    // Killed: the kernel goes on. Started again: nothing is done twice.
    net.host.kill();
    assert!(net.is_cut());
    net.host.start();
    net.host.wait("connected again", |_| net.manager.hellos() == 2);
    assert!(net.is_cut());
    assert_eq!(net.manager.states("iso").iter().filter(|state| *state == "undone").count(), 0);
    // As after a reboot: nothing is in the kernel.
    net.host.kill();
    net.nft(&["delete", "table", "inet", &format!("{}_isolation", net.host.table)]);
    assert!(!net.is_cut());
    net.host.start();
    assert!(net.is_cut(), "the ledger knows");
    net.host.wait("connected again", |_| net.manager.hellos() == 3);
    // And where somebody takes the table away while the agent runs.
    net.nft(&["delete", "table", "inet", &format!("{}_isolation", net.host.table)]);
    let until = Instant::now() + PATIENCE;
    while !net.is_cut() {
        assert!(Instant::now() < until, "nobody looks after it");
    }
    net.manager.send(net.manager.undo("iso", "ann"));
    net.host.wait("it is released", |host| action(host, "iso").0 == "undone");
    assert_eq!(net.ruleset(), net.before, "byte for byte");
    assert!(net.connects("host", "net", PEER) && net.connects("net", "host", HOST));
    net.host.stop();
}

#[test]
fn its_end_comes_with_the_agent_dead_and_the_ledger_agrees_later() {
    let Some(mut net) = Net::start() else { return };
    net.isolated(&isolate("iso", 25));
    assert!(net.is_cut());
    net.host.kill();
    let until = Instant::now() + PATIENCE;
    while net.is_cut() {
        assert!(Instant::now() < until, "the kernel does not let go");
    }
    net.host.start();
    net.host.wait("the ledger says so", |host| action(host, "iso").0 == "expired");
    assert_eq!(net.ruleset(), net.before);
    net.host.stop();
}

#[test]
fn root_at_the_host_isolates_and_a_stop_that_takes_back_needs_no_agent() {
    let Some(mut net) = Net::start() else { return };
    let allow = format!("allow=[\"{PEER}\"]");
    let said = net.host.json(&["act", "isolate_host", "this", "--seconds", "600", "--input", &allow]);
    assert_eq!(said[0]["state"], "done", "{said}");
    assert!(net.connects("host", "net", PEER), "a station that is allowed");
    assert!(!net.connects("host", "net", MANAGER), "another port of the manager is not");
    let wide = ["act", "isolate_host", "this", "--input", "allow=[\"0.0.0.0/0\"]", "--json"];
    let wide = net.host.command(&wide).output().unwrap();
    assert!(!wide.status.success() && String::from_utf8_lossy(&wide.stdout).contains("wider than"), "{wide:?}");
    net.host.kill();
    let out = net.host.command(&["halt", "--undo"]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(net.connects("host", "net", MANAGER) && !net.ruleset().contains("isolation"));
    net.host.start();
    net.host.wait("the ledger notes it", |host| {
        host.json(&["actions", "list", "--all"]).as_array().unwrap().iter().all(|one| one["state"] != "done")
    });
    assert!(net.connects("host", "net", MANAGER));
    net.host.stop();
}

/// The system's /etc, copied, with a user of the test's in its tables.
fn etc(host: &Host) -> std::path::PathBuf {
    let copy = host.path("etc");
    assert!(Command::new("cp").args(["-a", "/etc"]).arg(&copy).status().unwrap().success());
    for (table, line) in [
        ("passwd", "mallory:x:64990:64990::/nonexistent:/bin/sh\nbreakglass:x:64991:64991::/nonexistent:/bin/sh\n"),
        ("shadow", "mallory:$6$salt$hash:19500:0:99999:7:30:20800:\nbreakglass:$6$a$b:19500:0:99999:7:::\n"),
    ] {
        let mut file = fs::OpenOptions::new().append(true).open(copy.join(table)).unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
    copy
}

#[test]
fn a_user_is_locked_on_the_manager_s_word_and_given_back_as_he_was() {
    if !is_root() {
        return;
    }
    let manager = Manager::start();
    let mut host = Host::new("");
    let shadow = etc(&host).join("shadow");
    host.with_etc(host.path("etc"));
    let mut host = enrolled(host, &manager);
    let before = fs::read(&shadow).unwrap();
    let lock = |id: &str, user: &str, inputs: &[(&str, &str)]| {
        order(id, "lock_user", Target::resource("user", user), None, inputs)
    };
    let answer = |host: &mut Host, order: &Order| {
        manager.send(manager.order(order, &[]));
        let id = order.id.clone();
        let said = || manager.replies().into_iter().find(|reply| reply.id == id && !reply.undo);
        host.wait("an answer", |_| said().is_some());
        said().map(|reply| (reply.accepted, reply.reason)).unwrap()
    };
    for (id, user, why) in
        [("r", "root", "is root"), ("n", "nobody-here", "no user of this host's own"), ("a", "-a", "no name")]
    {
        let (accepted, reason) = answer(&mut host, &lock(id, user, &[]));
        assert!(!accepted && reason.contains(why), "{user}: {reason}");
    }
    assert_eq!(fs::read(&shadow).unwrap(), before);
    let (accepted, reason) = answer(&mut host, &lock("l", "mallory", &[("end_sessions", "true")]));
    assert!(accepted, "{reason}");
    host.wait("he is locked", |host| action(host, "l").0 == "done");
    let fields = || {
        let out =
            Command::new("awk").args(["-F:", "$1 == \"mallory\" { print $2, $8 }"]).arg(&shadow).output().unwrap();
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(fields(), "!$6$salt$hash 1");
    host.kill();
    host.start();
    host.wait("connected again", |_| manager.hellos() == 2);
    assert_eq!((action(&host, "l").0.as_str(), fields().as_str()), ("done", "!$6$salt$hash 1"));
    host.wait("the manager hears of it, and of no password", |_| {
        manager.events("actions").iter().any(|event| {
            let told = event.str(field::SAKIMORI_ACTION_STATE) == Some("done");
            assert!(!format!("{event:?}").contains("salt"), "{event:?}");
            told && event.str(field::USER_NAME) == Some("mallory")
        })
    });
    manager.send(manager.undo("l", "ann"));
    host.wait("he is given back", |host| action(host, "l").0 == "undone");
    assert_eq!(fs::read(&shadow).unwrap(), before, "every byte");
    // Whom the policy names is left alone, and let in again where he was locked before it did.
    assert!(answer(&mut host, &lock("b", "breakglass", &[])).0);
    let tree = serde_json::json!({ "response": { "lock_user": { "never_lock": ["breakglass"] } } });
    let serde_json::Value::Object(tree) = tree else { panic!("a tree") };
    let named = policy::merge(&[policy::default_layer(), Layer { name: "tenant".into(), tree }]).unwrap().policy;
    manager.send(manager.policy(9, &named));
    host.wait("he is let in again", |host| action(host, "b").0 == "undone");
    let (accepted, reason) = answer(&mut host, &lock("c", "breakglass", &[]));
    assert!(!accepted && reason.contains("named by policy"), "{reason}");
    assert_eq!(fs::read(&shadow).unwrap(), before);
    host.stop();
}
