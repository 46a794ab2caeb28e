//! The owner cannot be locked out: whatever policies, mandates, playbooks and events come, in any order, the kernel
//! never holds an address that the owner needs.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod testing;

use std::net::IpAddr;

use proptest::prelude::*;
use sakimori_model::policy::{Layer, Policy, default_layer, merge};
use sakimori_model::rule::Scope;
use sakimori_model::{Event, Network, Order, Timestamp};
use sakimori_respond::actions::waf_block::{self, WafContext};
use sakimori_respond::guard::{Surroundings, Verdict};
use sakimori_respond::host::HostActions;
use sakimori_respond::mandate::{Alone, Authority, Mandate, Never};
use sakimori_respond::playbook::{Playbook, Setting};
use serde_json::json;

use testing::Kernel;

/// What the owner needs, by the index that the moves use.
const NEEDED: [&str; 12] = [
    "127.0.0.1",
    "::1",
    "192.0.2.10",
    "192.0.2.1",
    "2001:db8::53",
    "192.0.2.200",
    "2001:db8:5::7",
    "198.51.100.3",
    "203.0.113.80",
    "203.0.113.7",
    "2001:db8:7::7",
    "169.254.169.254",
];

fn ip(at: usize) -> IpAddr {
    NEEDED[at].parse().unwrap()
}

fn now(seconds: i64) -> Timestamp {
    Timestamp::from_secs(1_800_000_000 + seconds)
}

fn policy(mode: bool, allow_more: bool) -> Policy {
    let mut allow = vec!["198.51.100.0/28".to_owned()];
    if allow_more {
        allow.push("203.0.113.128/25".to_owned());
    }
    let tree = json!({
        "modules": {"block_address": {
            "mode": if mode { "prevent" } else { "detect" }, "most_per_minute": 1_000_000, "expiry_seconds": 600,
        }},
        "response": {"allow": allow, "trusted_proxies": ["203.0.113.80"]},
    });
    let serde_json::Value::Object(tree) = tree else { panic!("a tree") };
    merge(&[default_layer(), Layer { name: "tenant".into(), tree }]).unwrap().policy
}

fn surroundings() -> Surroundings {
    Surroundings {
        own: vec![ip(2)],
        gateways: vec![ip(3)],
        resolvers: vec![ip(4)],
        manager: vec![ip(5)],
        ssh_peers: vec![ip(6)],
    }
}

#[derive(Clone, Debug)]
enum Move {
    /// An event of this address through a playbook, by the host's own rules.
    Event(usize, u128),
    /// An order of this network, by somebody.
    Order(usize, u128, u8, u8),
    Policy(bool, bool),
    Mandate(u8, bool),
    Tick(u8),
    Restart,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        4 => (0..NEEDED.len() + 6, any::<u128>()).prop_map(|(at, bits)| Move::Event(at, bits)),
        4 => (0..NEEDED.len() + 6, any::<u128>(), 0_u8..=128, 0_u8..4)
            .prop_map(|(at, bits, prefix, who)| Move::Order(at, bits, prefix, who)),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(mode, more)| Move::Policy(mode, more)),
        1 => (0_u8..=32, any::<bool>()).prop_map(|(widest, never)| Move::Mandate(widest, never)),
        1 => (0_u8..=255).prop_map(Move::Tick),
        1 => Just(Move::Restart),
    ];
    prop::collection::vec(one, 1..40)
}

fn address(at: usize, bits: u128) -> IpAddr {
    match NEEDED.get(at) {
        Some(text) => text.parse().unwrap(),
        None if bits & 1 == 0 => IpAddr::V4((bits as u32).into()),
        None => IpAddr::V6(bits.into()),
    }
}

fn playbook(id: &str, scope: &str, action: &str, target: &str) -> Playbook {
    let text = format!(
        "id: {id}\ntitle: {{ en: x, ja: x }}\ntrigger: {{ alert: {{ scope: {scope} }} }}\nsteps:\n  \
         - action: {action}\n    target: {target}\n"
    );
    Playbook::parse("p.yml", &text).unwrap()
}

fn alert(address: IpAddr) -> Event {
    let json = json!({
        "source": {"ip": address.to_string()}, "event": {"severity": 99, "kind": "alert"},
        "rule": {"id": "any", "name": "any"}, "sakimori": {"alert": {"count": 5, "events": ["a:l:1.0"]}},
    });
    Event::from_json(json.as_object().unwrap().clone()).0
}

fn open(dir: &std::path::Path, kernel: &Kernel, policy: &Policy, mandate: &Mandate, at: i64) -> HostActions<Kernel> {
    let opened = HostActions::open(dir, "agent-1", policy, surroundings(), kernel.clone(), now(at)).unwrap();
    let mut host = opened.0;
    host.set_mandate(mandate.clone(), now(at)).unwrap();
    host.set_operators(vec![ip(9), ip(10)], now(at)).unwrap();
    host.start(now(at)).unwrap();
    host
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn what_the_owner_needs_is_never_blocked(moves in moves()) {
        let (dir, kernel) = (tempfile::tempdir().unwrap(), Kernel::default());
        let (mut policy_now, mut mandate) = (policy(true, false), Mandate::default());
        let mut at = 0;
        let mut host = open(dir.path(), &kernel, &policy_now, &mandate, at);
        let playbooks =
            [playbook("one", "host", "block_address", "event.source.ip"), playbook("two", "wide", "waf_block", "event.source.ip")];
        let waf = WafContext {
            allow: vec!["198.51.100.0/28".parse().unwrap()],
            trusted_proxies: vec![Network::host(ip(8))],
            operators: vec![ip(9), ip(10)],
        };
        for (number, step) in moves.into_iter().enumerate() {
            at += 1;
            match step {
                Move::Event(which, bits) => {
                    let event = alert(address(which, bits));
                    let id = format!("alert-{number}");
                    let setting = |scope| Setting { place: "agent-1", now: now(at), scope };
                    let orders = playbooks[0].evaluate(&event, &id, &setting(Scope::Host));
                    host.submit(orders, now(at)).unwrap();
                    for order in playbooks[1].evaluate(&event, &id, &setting(Scope::Wide)) {
                        if waf_block::judge(&order, &waf) == Verdict::Allowed {
                            let network: Network = order.target.to_string().parse().unwrap();
                            for (needed, name) in NEEDED.iter().enumerate().skip(7) {
                                prop_assert!(!network.contains(ip(needed)), "{name} in the WAF");
                            }
                        }
                    }
                }
                Move::Order(which, bits, prefix, who) => {
                    let address = address(which, bits);
                    let prefix = if address.is_ipv4() { prefix % 33 } else { prefix };
                    let network = Network::new(address, prefix).unwrap();
                    let mut order: Order = playbooks[0]
                        .evaluate(&alert("198.18.0.1".parse().unwrap()), &format!("order-{number}"), &Setting {
                            place: "agent-1", now: now(at), scope: Scope::Host,
                        })
                        .remove(0);
                    order.target = sakimori_model::action::Target::Network(network);
                    let authority = match who {
                        0 => Authority::Rules,
                        1 => Authority::Root,
                        operators => Authority::Manager { operators: u32::from(operators) },
                    };
                    host.submit_as(vec![order], authority, now(at)).unwrap();
                }
                Move::Policy(mode, more) => {
                    policy_now = policy(mode, more);
                    host.set_policy(&policy_now, now(at)).unwrap();
                }
                Move::Mandate(widest, never) => {
                    let alone = Alone { widest_v4: widest, widest_v6: widest, ..Alone::default() };
                    let block = if never { vec!["10.0.0.0/8".parse().unwrap()] } else { Vec::new() };
                    mandate = Mandate { alone, never: Never { block }, ..Mandate::default() };
                    host.set_mandate(mandate.clone(), now(at)).unwrap();
                }
                Move::Tick(seconds) => {
                    at += i64::from(seconds);
                    host.tick(now(at)).unwrap();
                }
                Move::Restart => {
                    drop(host);
                    host = open(dir.path(), &kernel, &policy_now, &mandate, at);
                }
            }
            for held in kernel.held.lock().unwrap().keys() {
                for (needed, name) in NEEDED.iter().enumerate() {
                    prop_assert!(!held.contains(ip(needed)), "{held} holds {name}");
                }
                let excepted = mandate.never.block.iter().find(|entry| entry.overlaps(held));
                prop_assert!(excepted.is_none(), "{held} is excepted by the mandate");
                for entry in &policy_now.response.allow {
                    prop_assert!(!entry.overlaps(held), "{held} is on the allow-list");
                }
            }
        }
    }
}

#[test]
fn who_signs_in_from_a_blocked_address_is_let_in() {
    let (dir, kernel) = (tempfile::tempdir().unwrap(), Kernel::default());
    let mut host = open(dir.path(), &kernel, &policy(true, false), &Mandate::default(), 0);
    let book = playbook("one", "host", "block_address", "event.source.ip");
    let setting = Setting { place: "agent-1", now: now(0), scope: Scope::Host };
    let orders = book.evaluate(&alert("203.0.113.33".parse().unwrap()), "a", &setting);
    host.submit(orders, now(0)).unwrap();
    assert_eq!(kernel.held.lock().unwrap().len(), 1);
    host.set_operators(vec!["203.0.113.33".parse().unwrap()], now(1)).unwrap();
    assert!(kernel.held.lock().unwrap().is_empty());
    let many: Vec<IpAddr> = (0..1000_u32).map(|bits| IpAddr::V4((0x0b00_0000 + bits).into())).collect();
    host.set_operators(many, now(2)).unwrap();
    let orders = book.evaluate(&alert("11.0.3.0".parse().unwrap()), "b", &setting);
    host.submit(orders, now(2)).unwrap();
    assert_eq!(kernel.held.lock().unwrap().len(), 1, "no more than a bounded number is spared");
}
