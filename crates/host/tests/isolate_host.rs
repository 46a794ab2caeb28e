//! A host that is cut off, against the real kernel: packets between network namespaces, and `nft` as second reader.
//!
//! ```text
//! inner ── guard ── peer ── far        guard ── manager
//! ```
//! `guard` is isolated; it passes packets of `inner` on, as a host of containers does.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use sakimori_host::isolate_host::{Isolation, Known};
use sakimori_model::action::{Cause, Target};
use sakimori_model::{Action, Order, Timestamp};
use sakimori_respond::actions::isolate_host;
use sakimori_respond::ports::{HostEffect, Look};
use sakimori_respond::wide::{self, Limits};
use sakimori_sys::lab::{End, Lab};

const TABLE: &str = "sakimori_test_isolation";
const GUARD: &str = "192.0.2.1";
const PEER: &str = "192.0.2.7";
const FAR: &str = "198.51.100.9";
const MANAGER: &str = "203.0.113.9";
/// How long what must arrive may take: after a cut TCP waits as long again before it tries anew.
const PATIENCE: Duration = Duration::from_secs(240);
/// How long what must not arrive is waited for: longer than the first retransmission.
const IN_VAIN: Duration = Duration::from_millis(1_300);
const HOUR: Option<u64> = Some(3_600_000);

fn lab() -> Option<Lab> {
    let has_nft = Command::new("nft").arg("--version").output().is_ok();
    if !sakimori_sys::harness::root() || !sakimori_sys::harness::needs(has_nft, "the program nft") {
        return None;
    }
    let mut lab = Lab::new("skisol").unwrap();
    for name in ["guard", "peer", "far", "manager", "inner"] {
        lab.add(name).unwrap();
    }
    let mut join = |one: (&str, &str, &[&str]), other: (&str, &str, &[&str])| {
        let end = |(namespace, device, addresses)| End { namespace, device, addresses };
        lab.join(end(one), end(other)).unwrap();
    };
    join(
        ("guard", "eth0", &["192.0.2.1/24", "2001:db8:1::1/64"]),
        ("peer", "eth0", &["192.0.2.7/24", "2001:db8:1::7/64"]),
    );
    join(("guard", "eth1", &["203.0.113.1/24"]), ("manager", "eth0", &["203.0.113.9/24"]));
    join(("guard", "eth2", &["10.9.0.1/24"]), ("inner", "eth0", &["10.9.0.2/24"]));
    join(("peer", "eth1", &["198.51.100.1/24"]), ("far", "eth0", &["198.51.100.9/24"]));
    lab.route("guard", "default", PEER).unwrap();
    lab.route("inner", "default", "10.9.0.1").unwrap();
    lab.route("far", "default", "198.51.100.1").unwrap();
    lab.route("peer", "10.9.0.0/24", GUARD).unwrap();
    lab.forward("guard").unwrap();
    lab.forward("peer").unwrap();
    // A firewall of the owner's own, with the usual shortcut for what is established.
    let rules = "table inet owner { chain in { type filter hook input priority filter; policy accept; \
                 ct state established,related accept; tcp dport 9 drop; }; }";
    let out = lab.command("guard", "nft").unwrap().arg(rules).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    Some(lab)
}

fn ruleset(lab: &Lab) -> String {
    let out = lab.command("guard", "nft").unwrap().args(["list", "ruleset"]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn known(manager: SocketAddr) -> Known {
    let known = Known::default();
    known.update(|ways| {
        ways.managed = true;
        ways.manager.insert(manager);
    });
    known
}

fn action(inputs: &[(&str, &str)]) -> Action {
    let order = Order {
        id: "isolate-1".into(),
        action: isolate_host::ID.into(),
        target: Target::resource(isolate_host::KIND, isolate_host::THIS),
        expiry: None,
        cause: Cause { by: "test".into(), ..Cause::default() },
        via: None,
        probe: false,
        inputs: inputs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        signatures: Vec::new(),
    };
    let limits = Limits { expiry_seconds: 3_600, expiry_most_seconds: 3_600, grace_seconds: 0 };
    wide::plan(order, "agent-1", Timestamp::from_secs(1_800_000_000), &limits)
}

/// Looks and applies, as the ledger's driver does.
fn isolate(lab: &Lab, effect: &mut Isolation, inputs: &[(&str, &str)], left_ms: Option<u64>) -> Action {
    let mut action = action(inputs);
    lab.inside("guard", || {
        let Look::Ready { former, would } = effect.look(&action).unwrap() else { panic!("not ready") };
        assert!(would.len() > 1, "{would:?}");
        action.former = Some(former);
        effect.apply(&action, left_ms).unwrap();
        assert_eq!(effect.verify(&action).unwrap(), None);
    })
    .unwrap();
    action
}

fn undo(lab: &Lab, effect: &mut Isolation, action: &Action) {
    lab.inside("guard", || effect.undo(action).unwrap()).unwrap();
}

/// A TCP connection from one namespace to an address in another; both ends.
fn tcp(lab: &Lab, from: &str, to: &str, address: &str) -> (TcpStream, TcpStream) {
    let listener = lab.inside(to, || TcpListener::bind(SocketAddr::new(address.parse().unwrap(), 0)).unwrap()).unwrap();
    let at = listener.local_addr().unwrap();
    let out = lab.inside(from, || TcpStream::connect_timeout(&at, PATIENCE).unwrap()).unwrap();
    let (back, _) = listener.accept().unwrap();
    (out, back)
}

/// Can a new connection be made?
fn connects(lab: &Lab, from: &str, to: &str, address: &str) -> bool {
    let listener = lab.inside(to, || TcpListener::bind(SocketAddr::new(address.parse().unwrap(), 0)).unwrap()).unwrap();
    let at = listener.local_addr().unwrap();
    lab.inside(from, || TcpStream::connect_timeout(&at, IN_VAIN).is_ok()).unwrap()
}

/// Does what is written at one end come out at the other, within a time? Bytes of before that come late are passed over.
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

/// The same for datagrams, each of which is sent again until the time is up.
fn tells(one: &UdpSocket, other: &UdpSocket, word: u8, within: Duration) -> bool {
    let until = Instant::now() + within;
    other.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    while Instant::now() < until {
        // A cut shows as an error of the sender's own kernel.
        let _ = one.send(&[word]);
        let mut byte = [0];
        if other.recv(&mut byte).is_ok() && byte[0] == word {
            return true;
        }
    }
    false
}

/// Two UDP sockets that know each other.
fn udp(lab: &Lab, one: (&str, &str), other: (&str, &str)) -> (UdpSocket, UdpSocket) {
    let bind = |(namespace, address): (&str, &str)| {
        lab.inside(namespace, || UdpSocket::bind(SocketAddr::new(address.parse().unwrap(), 0)).unwrap()).unwrap()
    };
    let (one, other) = (bind(one), bind(other));
    one.connect(other.local_addr().unwrap()).unwrap();
    other.connect(one.local_addr().unwrap()).unwrap();
    (one, other)
}

#[test]
fn all_is_cut_that_was_open_or_is_new_but_the_manager_and_comes_back_on_release() {
    let Some(lab) = lab() else { return };
    let before = ruleset(&lab);
    let mut manager = tcp(&lab, "guard", "manager", MANAGER);
    let at = manager.0.peer_addr().unwrap();
    let mut open = [
        ("in", tcp(&lab, "peer", "guard", GUARD)),
        ("out", tcp(&lab, "guard", "far", FAR)),
        ("through", tcp(&lab, "inner", "far", FAR)),
        ("out, IPv6", tcp(&lab, "guard", "peer", "2001:db8:1::7")),
        ("another port of the manager", tcp(&lab, "guard", "manager", MANAGER)),
    ];
    let datagrams =
        [udp(&lab, ("guard", GUARD), ("far", FAR)), udp(&lab, ("guard", "2001:db8:1::1"), ("peer", "2001:db8:1::7"))];
    let mut own = tcp(&lab, "guard", "guard", GUARD);
    for (what, (one, other)) in &mut open {
        assert!(says(one, other, 1, PATIENCE) && says(other, one, 2, PATIENCE), "{what} is open");
    }
    for (one, other) in &datagrams {
        assert!(tells(one, other, 1, PATIENCE) && tells(other, one, 2, PATIENCE));
    }

    let mut effect = Isolation::new(TABLE, known(at));
    let action = isolate(&lab, &mut effect, &[], HOUR);
    assert!(says(&mut manager.0, &mut manager.1, 3, PATIENCE) && says(&mut manager.1, &mut manager.0, 4, PATIENCE));
    assert!(says(&mut own.0, &mut own.1, 3, PATIENCE), "the host still speaks with itself");
    for (what, (one, other)) in &mut open {
        assert!(!says(one, other, 5, IN_VAIN), "{what}: the way there");
        assert!(!says(other, one, 6, IN_VAIN), "{what}: the way back");
    }
    for (one, other) in &datagrams {
        assert!(!tells(one, other, 5, IN_VAIN) && !tells(other, one, 6, IN_VAIN));
    }
    for (from, to, address) in [
        ("guard", "peer", PEER),
        ("guard", "far", FAR),
        ("peer", "guard", GUARD),
        ("inner", "far", FAR),
        ("manager", "guard", "203.0.113.1"),
        ("guard", "peer", "2001:db8:1::7"),
    ] {
        assert!(!connects(&lab, from, to, address), "{from} to {to}");
    }
    // Nor does the manager come in from the port where it answers.
    let listener = lab.inside("guard", || TcpListener::bind("203.0.113.1:0").unwrap()).unwrap();
    let to = listener.local_addr().unwrap();
    let came = lab.inside("manager", || came_in_from(at, to)).unwrap();
    assert!(!came, "who may answer may not come in");
    let there = ruleset(&lab);
    assert!(there.contains(TABLE) && there.contains(before.trim()), "others' rules are as they were:\n{there}");

    undo(&lab, &mut effect, &action);
    assert_eq!(ruleset(&lab), before);
    for (what, (one, other)) in &mut open {
        assert!(says(one, other, 7, PATIENCE) && says(other, one, 8, PATIENCE), "{what} goes on");
    }
    for (one, other) in &datagrams {
        assert!(tells(one, other, 7, PATIENCE) && tells(other, one, 8, PATIENCE));
    }
    for (from, to, address) in [("guard", "far", FAR), ("peer", "guard", GUARD), ("inner", "far", FAR)] {
        assert!(connects(&lab, from, to, address), "{from} to {to}");
    }
    undo(&lab, &mut effect, &action);
    assert_eq!(ruleset(&lab), before, "twice is once");
}

/// Does a connection come about from this local end, which another one may use?
fn came_in_from(local: SocketAddr, to: SocketAddr) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
    sockopt::set_socket_reuseaddr(&socket, true).unwrap();
    bind(&socket, &local).unwrap();
    assert_eq!(connect(&socket, &to), Err(rustix::io::Errno::INPROGRESS));
    let limit = Timespec { tv_sec: 1, tv_nsec: 300_000_000 };
    poll(&mut [PollFd::new(&socket, PollFlags::OUT)], Some(&limit)).unwrap() == 1
}

#[test]
fn the_kernel_lets_go_by_itself_and_what_is_left_is_swept() {
    let Some(lab) = lab() else { return };
    let before = ruleset(&lab);
    let mut effect = Isolation::new(TABLE, known(SocketAddr::new(MANAGER.parse().unwrap(), 7_443)));
    let action = isolate(&lab, &mut effect, &[], Some(4_000));
    assert!(!connects(&lab, "guard", "far", FAR), "it is in force");
    // Nobody does anything from here on.
    let until = Instant::now() + PATIENCE;
    while !connects(&lab, "guard", "far", FAR) {
        assert!(Instant::now() < until, "the kernel does not let go");
    }
    assert!(connects(&lab, "peer", "guard", "2001:db8:1::1") && connects(&lab, "inner", "far", FAR));
    let said = lab.inside("guard", || effect.verify(&action).unwrap()).unwrap();
    assert!(said.is_some_and(|said| said.contains("time")), "it says that it is over");
    lab.inside("guard", || effect.keep(&[]).unwrap()).unwrap();
    assert_eq!(ruleset(&lab), before);
}

#[test]
fn what_somebody_takes_away_is_put_right_and_time_and_ways_are_renewed() {
    let Some(lab) = lab() else { return };
    let known = known(SocketAddr::new(MANAGER.parse().unwrap(), 7_443));
    let mut effect = Isolation::new(TABLE, known.clone());
    let action = isolate(&lab, &mut effect, &[], Some(30_000));
    let nft = |line: &str| {
        let out = lab.command("guard", "nft").unwrap().arg(line).output().unwrap();
        assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
    };
    for harm in [
        format!("delete table inet {TABLE}"),
        format!("flush chain inet {TABLE} out"),
        format!("flush set inet {TABLE} isolated"),
        format!("insert rule inet {TABLE} out accept"),
    ] {
        nft(&harm);
        assert!(connects(&lab, "guard", "far", FAR) || harm.contains("out"), "{harm} opens it");
        assert!(lab.inside("guard", || effect.verify(&action).unwrap()).unwrap().is_some(), "{harm} is seen");
        lab.inside("guard", || effect.keep(&[(&action, Some(30_000))]).unwrap()).unwrap();
        assert!(!connects(&lab, "guard", "far", FAR), "{harm} is put right");
    }
    // What keeps the number of rules, and what puts the table to sleep.
    for harm in [
        format!("flush chain inet {TABLE} pass; add rule inet {TABLE} pass meta nfproto != @isolated counter drop"),
        format!("add table inet {TABLE} {{ flags dormant; }}"),
    ] {
        nft(&harm);
        assert!(lab.inside("guard", || effect.verify(&action).unwrap()).unwrap().is_some(), "{harm} is seen");
        lab.inside("guard", || effect.keep(&[(&action, Some(30_000))]).unwrap()).unwrap();
        assert!(lab.inside("guard", || effect.verify(&action).unwrap()).unwrap().is_none(), "{harm} is put right");
    }
    // Longer, by fresh evidence or a confirmation.
    let left = || lab.inside("guard", || sakimori_sys::nft::Nft::open().unwrap().isolated_ms(TABLE).unwrap()).unwrap();
    assert!(left().unwrap() <= 30_000);
    lab.inside("guard", || effect.keep(&[(&action, HOUR)]).unwrap()).unwrap();
    assert!(left().unwrap() > 3_500_000);
    // The manager moved.
    let (mut one, mut other) = tcp(&lab, "guard", "guard", GUARD);
    assert!(says(&mut one, &mut other, 1, PATIENCE));
    let listener = lab.inside("far", || TcpListener::bind(SocketAddr::new(FAR.parse().unwrap(), 0)).unwrap()).unwrap();
    let at = listener.local_addr().unwrap();
    assert!(known.update(|ways| ways.manager.extend([at])));
    lab.inside("guard", || effect.apply(&action, HOUR).unwrap()).unwrap();
    lab.inside("guard", || TcpStream::connect_timeout(&at, PATIENCE).unwrap()).unwrap();
    undo(&lab, &mut effect, &action);
}

#[test]
fn a_station_that_is_allowed_is_reached_also_when_neighbours_must_be_found_anew() {
    let Some(lab) = lab() else { return };
    let mut effect = Isolation::new(TABLE, known(SocketAddr::new(MANAGER.parse().unwrap(), 7_443)));
    let allow = [(isolate_host::ALLOW, r#"["192.0.2.7", "2001:db8:1::7"]"#)];
    let action = isolate(&lab, &mut effect, &allow, HOUR);
    for (namespace, other) in [("guard", "peer"), ("peer", "guard")] {
        for family in ["-4", "-6"] {
            let mut ip = lab.command(namespace, "ip").unwrap();
            assert!(ip.args([family, "neigh", "flush", "all"]).status().unwrap().success());
        }
        let [v4, v6] = if other == "peer" { [PEER, "2001:db8:1::7"] } else { [GUARD, "2001:db8:1::1"] };
        assert!(connects(&lab, namespace, other, v4) && connects(&lab, namespace, other, v6), "{namespace} to {other}");
    }
    assert!(!connects(&lab, "guard", "far", FAR), "what is behind the station is not the station");
    undo(&lab, &mut effect, &action);
}

#[test]
fn name_servers_may_answer_and_the_address_of_the_host_is_kept() {
    let Some(lab) = lab() else { return };
    let known = known(SocketAddr::new(MANAGER.parse().unwrap(), 7_443));
    known.update(|ways| ways.resolvers.extend(FAR.parse::<std::net::IpAddr>()));
    let mut effect = Isolation::new(TABLE, known.clone());
    let action = isolate(&lab, &mut effect, &[], HOUR);
    // Somebody on the isolated host edits its resolv.conf.
    known.update(|ways| ways.resolvers.extend(PEER.parse::<std::net::IpAddr>()));
    lab.inside("guard", || effect.apply(&action, HOUR).unwrap()).unwrap();
    let at = |namespace: &str, address: &str, port: u16| {
        lab.inside(namespace, || UdpSocket::bind(SocketAddr::new(address.parse().unwrap(), port)).unwrap()).unwrap()
    };
    let (one, other) = (at("guard", GUARD, 0), at("peer", PEER, 53));
    one.connect(other.local_addr().unwrap()).unwrap();
    assert!(!tells(&one, &other, 1, IN_VAIN), "a name server that was not one at the order");
    let pair = |own: u16, port: u16| {
        let (one, other) = (at("guard", GUARD, own), at("far", FAR, port));
        one.connect(other.local_addr().unwrap()).unwrap();
        other.connect(one.local_addr().unwrap()).unwrap();
        (one, other)
    };
    for (what, (own, port), passes) in [
        ("a name server", (0, 53), true),
        ("DHCP, renewed with a server", (68, 67), true),
        ("another port of the name server", (0, 54), false),
        ("a client that only looks like DHCP's", (0, 67), false),
        ("a server that only looks like DHCP's", (67, 68), false),
    ] {
        let (one, other) = pair(own, port);
        let within = if passes { PATIENCE } else { IN_VAIN };
        assert_eq!(tells(&one, &other, 1, within), passes, "{what}, the way there");
        assert_eq!(tells(&other, &one, 2, within), passes, "{what}, the way back");
    }
    let listener = lab.inside("far", || TcpListener::bind(SocketAddr::new(FAR.parse().unwrap(), 53)).unwrap()).unwrap();
    let at = listener.local_addr().unwrap();
    lab.inside("guard", || TcpStream::connect_timeout(&at, PATIENCE).unwrap()).unwrap();
    undo(&lab, &mut effect, &action);
}

#[test]
fn a_manager_that_is_not_known_is_not_lost_and_a_table_of_somebody_else_is_not_touched() {
    let Some(lab) = lab() else { return };
    let unknown = Known::default();
    unknown.update(|ways| ways.managed = true);
    let look = lab.inside("guard", || Isolation::new(TABLE, unknown).look(&action(&[])).unwrap()).unwrap();
    assert!(matches!(look, Look::Refused(reason) if reason.contains("would lose it")));
    let mut foreign = Isolation::new("owner", known(SocketAddr::new(MANAGER.parse().unwrap(), 7_443)));
    let before = ruleset(&lab);
    // Its one chain has the name of one of ours, and its rules are not.
    let out = lab.command("guard", "nft").unwrap().arg("add chain inet owner theirs").output().unwrap();
    assert!(out.status.success());
    let failed = lab.inside("guard", || foreign.look(&action(&[])).unwrap_err()).unwrap();
    assert!(failed.to_string().contains("not of Sakimori"), "{failed}");
    assert!(lab.inside("guard", || Isolation::remove("owner")).unwrap().is_err());
    let out = lab.command("guard", "nft").unwrap().arg("delete chain inet owner theirs").output().unwrap();
    assert!(out.status.success());
    assert_eq!(ruleset(&lab), before);
}
