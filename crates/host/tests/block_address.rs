//! Blocks against the real kernel: packets between network namespaces, and `nft` as second reader.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::Output;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use sakimori_host::block_address::{Blocker, MAX_ALLOWED};
use sakimori_model::Network;
use sakimori_respond::ports::{AddressBlocker, BlockEntry, PortError};
use sakimori_sys::lab::{End, Lab};

const TABLE: &str = "sakimori_test";
/// A source that no test blocks.
const CONTROL: &str = "192.0.2.7";

fn lab() -> Option<Lab> {
    if !sakimori_sys::harness::root() {
        return None;
    }
    let mut lab = Lab::new("skhost").unwrap();
    lab.add("guard").unwrap();
    lab.add("peer").unwrap();
    lab.join(
        End {
            namespace: "guard",
            device: "eth0",
            addresses: &["192.0.2.1/24", "198.51.100.1/24", "203.0.113.1/24", "2001:db8:1::1/64", "2001:db8:2::1/64"],
        },
        End {
            namespace: "peer",
            device: "eth0",
            addresses: &[
                "192.0.2.7/24",
                "198.51.100.7/24",
                "198.51.100.8/24",
                "203.0.113.7/24",
                "2001:db8:1::7/64",
                "2001:db8:1::8/64",
                "2001:db8:2::7/64",
            ],
        },
    )
    .unwrap();
    Some(lab)
}

/// The guard's address in the network of a source.
fn guard_address(source: &str) -> String {
    let cut = source.rfind(['.', ':']).unwrap();
    format!("{}1", &source[..=cut])
}

fn address(host: &str, port: u16) -> SocketAddr {
    SocketAddr::new(host.parse().unwrap(), port)
}

/// Does a datagram from this source reach the guard? One from the control address is sent behind it, so that "no" is
/// known without waiting.
fn udp(lab: &Lab, source: &str) -> bool {
    let receiver = lab.inside("guard", || UdpSocket::bind("[::]:0").unwrap()).unwrap();
    receiver.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let port = receiver.local_addr().unwrap().port();
    let (tested, control) = lab
        .inside("peer", || {
            (UdpSocket::bind(address(source, 0)).unwrap(), UdpSocket::bind(address(CONTROL, 0)).unwrap())
        })
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        tested.send_to(b"tested", address(&guard_address(source), port)).unwrap();
        control.send_to(b"control", address(&guard_address(CONTROL), port)).unwrap();
        let mut buffer = [0; 16];
        let mut arrived = false;
        while let Ok(size) = receiver.recv(&mut buffer) {
            match &buffer[..size] {
                b"tested" => arrived = true,
                _ => return arrived,
            }
        }
        assert!(Instant::now() < deadline, "the control datagram did not arrive");
    }
}

/// Does a TCP connection from this source come about? A first packet that is dropped is sent again after a second.
fn tcp(lab: &Lab, source: &str) -> bool {
    let listener = lab.inside("guard", || TcpListener::bind("[::]:0").unwrap()).unwrap();
    let to = address(&guard_address(source), listener.local_addr().unwrap().port());
    let from = address(source, 0);
    lab.inside("peer", || {
        let family = if from.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None).unwrap();
        rustix::net::bind(&socket, &from).unwrap();
        assert_eq!(rustix::net::connect(&socket, &to), Err(rustix::io::Errno::INPROGRESS));
        let limit = Timespec { tv_sec: 2, tv_nsec: 500_000_000 };
        let answered = poll(&mut [PollFd::new(&socket, PollFlags::OUT)], Some(&limit)).unwrap() == 1;
        if answered {
            rustix::net::sockopt::socket_error(&socket).unwrap().unwrap();
        }
        answered
    })
    .unwrap()
}

fn network(text: &str) -> Network {
    text.parse().unwrap()
}

fn entries(texts: &[&str]) -> Vec<BlockEntry> {
    texts.iter().map(|text| BlockEntry { network: network(text), timeout_ms: 3_600_000 }).collect()
}

fn networks(blocked: &[BlockEntry]) -> Vec<String> {
    let mut all: Vec<String> = blocked.iter().map(|entry| entry.network.to_string()).collect();
    all.sort_unstable();
    all
}

fn open(lab: &Lab) -> Blocker {
    lab.inside("guard", || Blocker::open(TABLE).unwrap()).unwrap()
}

fn remove(lab: &Lab) {
    lab.inside("guard", || Blocker::remove(TABLE).unwrap()).unwrap();
}

fn nft(lab: &Lab, arguments: &str) -> String {
    let output: Output = lab.command("guard", "nft").unwrap().args(arguments.split(' ')).output().expect("nftables");
    assert!(output.status.success(), "nft {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn blocked_sources_do_not_come_through_and_others_do() {
    let Some(lab) = lab() else { return };
    let sources = ["198.51.100.7", "198.51.100.8", "203.0.113.7", "2001:db8:1::7", "2001:db8:1::8", "2001:db8:2::7"];
    let mut blocker = open(&lab);
    let through = |blocked: &[&str]| {
        for source in sources {
            assert_eq!(udp(&lab, source), !blocked.contains(&source), "udp from {source}, blocked {blocked:?}");
        }
    };
    through(&[]);
    blocker.block(&entries(&["198.51.100.7", "2001:db8:1::7"])).unwrap();
    through(&["198.51.100.7", "2001:db8:1::7"]);
    assert!(!tcp(&lab, "198.51.100.7") && !tcp(&lab, "2001:db8:1::7"));
    assert!(tcp(&lab, "198.51.100.8") && tcp(&lab, "2001:db8:1::8"));
    // Networks beside them, overlapping.
    blocker.block(&entries(&["198.51.100.0/24", "2001:db8:2::/64"])).unwrap();
    through(&["198.51.100.7", "198.51.100.8", "2001:db8:1::7", "2001:db8:2::7"]);
    assert!(!tcp(&lab, "198.51.100.8") && !tcp(&lab, "2001:db8:2::7"));
    assert!(tcp(&lab, "203.0.113.7"));
    let all = ["198.51.100.0/24", "198.51.100.7", "2001:db8:1::7", "2001:db8:2::/64"];
    assert_eq!(networks(&blocker.blocked().unwrap()), all);
    // Each is undone by itself: the address stays blocked when the network around it is not.
    blocker.unblock(&[network("198.51.100.0/24")]).unwrap();
    blocker.unblock(&[network("198.51.100.0/24"), network("192.0.2.99"), network("10.0.0.0/9")]).unwrap();
    through(&["198.51.100.7", "2001:db8:1::7", "2001:db8:2::7"]);
    blocker.unblock(&all.map(network)).unwrap();
    through(&[]);
    assert!(tcp(&lab, "198.51.100.7") && tcp(&lab, "2001:db8:2::7"));
    assert!(blocker.blocked().unwrap().is_empty());
}

#[test]
fn the_allow_list_wins_and_is_replaced_as_a_whole() {
    let Some(lab) = lab() else { return };
    let mut blocker = open(&lab);
    blocker.block(&entries(&["198.51.100.0/24", "198.51.100.7", "2001:db8:1::/64"])).unwrap();
    blocker.allow(&["198.51.100.7", "2001:db8:1::7"].map(network)).unwrap();
    assert!(udp(&lab, "198.51.100.7") && udp(&lab, "2001:db8:1::7"));
    assert!(!udp(&lab, "198.51.100.8") && !udp(&lab, "2001:db8:1::8"));
    // A block set that is made after the allow set stands behind it.
    blocker.block(&entries(&["198.51.100.0/25"])).unwrap();
    assert!(udp(&lab, "198.51.100.7"));
    blocker.allow(&["198.51.100.8", "198.51.100.0/30"].map(network)).unwrap();
    assert_eq!(blocker.allowed().unwrap(), ["198.51.100.0/30", "198.51.100.8"].map(network));
    assert!(!udp(&lab, "198.51.100.7") && udp(&lab, "198.51.100.8") && !udp(&lab, "2001:db8:1::7"));
    blocker.allow(&[]).unwrap();
    assert!(blocker.allowed().unwrap().is_empty());
    assert!(!udp(&lab, "198.51.100.8"));
    let many: Vec<Network> = (0..MAX_ALLOWED as u32 + 1)
        .map(|n| Network::host(std::net::Ipv4Addr::from_bits(0x0b00_0000 + n).into()))
        .collect();
    assert!(!blocker.allow(&many).unwrap_err().is_transient());
    blocker.allow(&many[1..]).unwrap();
    assert_eq!(blocker.allowed().unwrap().len(), MAX_ALLOWED);
}

#[test]
fn a_block_ends_in_the_kernel_by_itself_and_a_new_one_renews_it() {
    let Some(lab) = lab() else { return };
    let mut blocker = open(&lab);
    let entry = |timeout_ms| [BlockEntry { network: network("198.51.100.7"), timeout_ms }];
    blocker.block(&entry(1_000)).unwrap();
    blocker.block(&entry(600_000)).unwrap();
    let left = blocker.blocked().unwrap()[0].timeout_ms;
    assert!((590_000..=600_000).contains(&left), "{left}");
    blocker.block(&entry(700)).unwrap();
    assert!(!udp(&lab, "198.51.100.7"));
    drop(blocker);
    // No agent is there.
    let deadline = Instant::now() + Duration::from_secs(30);
    while !udp(&lab, "198.51.100.7") {
        assert!(Instant::now() < deadline, "it is still blocked");
    }
    assert!(open(&lab).blocked().unwrap().is_empty());
}

#[test]
fn a_restart_adopts_what_is_there_with_the_time_that_is_left() {
    let Some(lab) = lab() else { return };
    // Neighbour discovery is a packet too: the peer must know the guard before its first address is blocked.
    assert!(udp(&lab, "2001:db8:1::8"));
    let mut blocker = open(&lab);
    blocker.block(&entries(&["198.51.100.7", "2001:db8:1::/64"])).unwrap();
    blocker.allow(&[network("2001:db8:1::8")]).unwrap();
    assert!(!udp(&lab, "198.51.100.7"));
    let before = nft(&lab, "-s list ruleset");
    let handles = nft(&lab, "-a -s list ruleset");
    drop(blocker);
    assert!(!udp(&lab, "198.51.100.7"), "a block holds without an agent");
    let mut blocker = open(&lab);
    assert!(!udp(&lab, "198.51.100.7") && !udp(&lab, "2001:db8:1::7") && udp(&lab, "2001:db8:1::8"));
    assert_eq!(nft(&lab, "-s list ruleset"), before);
    assert_eq!(nft(&lab, "-a -s list ruleset"), handles, "nothing was made anew");
    let blocked = blocker.blocked().unwrap();
    assert_eq!(networks(&blocked), ["198.51.100.7", "2001:db8:1::/64"]);
    assert!(blocked.iter().all(|entry| entry.timeout_ms <= 3_600_000 && entry.timeout_ms > 3_500_000));
}

#[test]
fn a_table_that_somebody_changed_is_put_right() {
    let Some(lab) = lab() else { return };
    let mut blocker = open(&lab);
    blocker.allow(&[network("198.51.100.8")]).unwrap();
    blocker.block(&entries(&["198.51.100.7"])).unwrap();
    // The rules are gone: a block is not in force until somebody looks.
    nft(&lab, &format!("flush chain inet {TABLE} block"));
    assert!(udp(&lab, "198.51.100.7"));
    assert_eq!(networks(&blocker.blocked().unwrap()), ["198.51.100.7"]);
    assert!(!udp(&lab, "198.51.100.7"));
    // Everything is gone: it says so, and works again, with its allow-list.
    for by_block in [true, false] {
        nft(&lab, "flush ruleset");
        if !by_block {
            assert!(blocker.blocked().unwrap().is_empty());
        }
        blocker.block(&entries(&["198.51.100.0/24"])).unwrap();
        assert!(!udp(&lab, "198.51.100.7") && udp(&lab, "198.51.100.8"));
    }
    nft(&lab, "flush ruleset");
    blocker.unblock(&[network("198.51.100.0/24")]).unwrap();
}

#[test]
fn others_tables_are_untouched_and_remove_leaves_no_trace() {
    let Some(lab) = lab() else { return };
    nft(&lab, "add table inet mine");
    nft(&lab, "add set inet mine block4_32 { type ipv4_addr; flags timeout; elements = { 203.0.113.7 timeout 1h }; }");
    nft(&lab, "add chain inet mine block { type filter hook prerouting priority raw; policy accept; }");
    nft(&lab, "add rule inet mine block ip saddr @block4_32 drop");
    nft(&lab, "add table ip sakimori_test");
    let before = nft(&lab, "-a -s list ruleset");
    let mut blocker = open(&lab);
    blocker.allow(&["198.51.100.8", "203.0.113.7"].map(network)).unwrap();
    blocker.block(&entries(&["198.51.100.7", "203.0.113.0/24", "2001:db8::/32"])).unwrap();
    blocker.unblock(&[network("198.51.100.7")]).unwrap();
    let during = nft(&lab, "-a -s list ruleset");
    assert!(during.starts_with(before.trim_end()) && during.len() > before.len(), "{during}");
    assert!(!udp(&lab, "203.0.113.7"), "what we allow, others may still drop");
    drop(blocker);
    remove(&lab);
    assert_eq!(nft(&lab, "-a -s list ruleset"), before);
    remove(&lab);
}

#[test]
fn a_table_of_somebody_else_with_our_name_is_refused() {
    let Some(lab) = lab() else { return };
    for make in ["add set inet sakimori_test mine { type ipv4_addr; }", "add chain inet sakimori_test mine"] {
        nft(&lab, "add table inet sakimori_test");
        nft(&lab, make);
        let before = nft(&lab, "-a list ruleset");
        lab.inside("guard", || {
            for error in [Blocker::open(TABLE).unwrap_err(), Blocker::remove(TABLE).unwrap_err()] {
                assert!(
                    matches!(&error, PortError::Permanent { reason } if reason.contains("not of Sakimori")),
                    "{error}"
                );
            }
        })
        .unwrap();
        assert_eq!(nft(&lab, "-a list ruleset"), before);
        nft(&lab, "delete table inet sakimori_test");
    }
    lab.inside("guard", || {
        assert!(!Blocker::open("not a name").unwrap_err().is_transient());
        let mut blocker = Blocker::open(TABLE).unwrap();
        assert!(!blocker.block(&entries(&["0.0.0.0/0"])).unwrap_err().is_transient());
    })
    .unwrap();
}

#[test]
fn many_blocks_and_unblocks_are_fast() {
    let Some(lab) = lab() else { return };
    let mut blocker = open(&lab);
    const MANY: u32 = 150_000;
    let all: Vec<BlockEntry> = (0..MANY)
        .map(|n| BlockEntry {
            network: Network::host(std::net::Ipv4Addr::from_bits(0x0b00_0000 + n).into()),
            timeout_ms: 3_600_000,
        })
        .collect();
    let timed = |what: &str, limit: Duration, run: &mut dyn FnMut()| {
        let start = Instant::now();
        run();
        let took = start.elapsed();
        println!("{what}: {took:?}");
        assert!(took < limit, "{what} took {took:?}");
    };
    timed("block 150,000", Duration::from_secs(2), &mut || blocker.block(&all).unwrap());
    // A first one of its prefix length, which makes a set, and one in a set that is there.
    for text in ["198.51.100.0/24", "198.51.100.7"] {
        timed("one more", Duration::from_millis(50), &mut || blocker.block(&entries(&[text])).unwrap());
        assert!(!udp(&lab, "198.51.100.7"));
        blocker.unblock(&[network(text)]).unwrap();
    }
    timed("read 150,000", Duration::from_secs(20), &mut || {
        assert_eq!(blocker.blocked().unwrap().len(), MANY as usize);
    });
    let networks: Vec<Network> = all.iter().map(|entry| entry.network).collect();
    timed("unblock 150,000", Duration::from_secs(2), &mut || blocker.unblock(&networks).unwrap());
    assert!(blocker.blocked().unwrap().is_empty());
}

#[test]
fn what_must_not_be_blocked_is_known() {
    let Some(lab) = lab() else { return };
    lab.route("guard", "default", "192.0.2.7").unwrap();
    lab.inside("guard", || {
        let facts = sakimori_host::guard_facts(&[]).unwrap();
        for own in ["127.0.0.1", "192.0.2.1", "2001:db8:1::1"] {
            assert!(facts.own.contains(&own.parse().unwrap()), "{own} in {facts:?}");
        }
        assert_eq!(facts.gateways, ["192.0.2.7".parse::<std::net::IpAddr>().unwrap()]);
        assert!(facts.ssh_peers.is_empty());
    })
    .unwrap();
}
