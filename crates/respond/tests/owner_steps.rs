//! The owner cannot be locked out by playbooks in steps either: random playbooks (orders, lists, parallel steps, questions,
//! limits, inputs by CEL), begun by alerts, findings, people and webhooks with random events, in which the owner's addresses stand
//! in every place and form. What each orders goes where it would go: to the WAF's judgement, and to a host's ledger, as ordered
//! by the manager, by the host's rules, or by root.
//!
//! CrowdSec's bouncers are told of what is in effect on hosts and in the WAF and of nothing else (`manager::api::decisions`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod testing;

use std::net::IpAddr;

use proptest::prelude::*;
use sakimori_model::action::Target;
use sakimori_model::address::is_private;
use sakimori_model::policy::{Layer, Policy, default_layer, merge};
use sakimori_model::{Event, Network, Order, Timestamp};
use sakimori_respond::actions::waf_block::{self, WafContext};
use sakimori_respond::actions::{block_address, waf_rate_rule};
use sakimori_respond::execution::rehearse;
use sakimori_respond::guard::{Surroundings, Verdict};
use sakimori_respond::host::HostActions;
use sakimori_respond::mandate::{Authority, Mandate};
use sakimori_respond::playbook::Playbook;
use serde_json::{Value, json};

use testing::Kernel;

/// What no host may block. The first ones belong to that host alone; from [`SHARED`] on nobody may block them, the WAF neither.
const NEEDED: [&str; 13] = [
    "127.0.0.1",
    "::1",
    "93.184.216.10",
    "93.184.216.1",
    "2606:2800::53",
    "93.184.216.200",
    "2606:2800:5::7",
    // On the allow-list, a load balancer, two proxies, and operators.
    "20.51.100.3",
    "20.0.113.80",
    "2606:4700:1::80",
    "20.0.113.90",
    "20.0.113.7",
    "2606:2800:7::7",
];
const SHARED: usize = 7;
/// Attackers, public and private.
const OTHERS: [&str; 6] = ["45.33.32.156", "2a01:4f8::1", "10.9.8.7", "fd00::9", "20.0.113.8", "185.220.101.1"];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    Timestamp::from_secs(1_800_000_000)
}

fn policy() -> Policy {
    let tree = json!({
        "modules": { "block_address": { "mode": "prevent", "most_per_minute": 1_000_000, "expiry_seconds": 600 } },
        "response": { "allow": ["20.51.100.0/28"], "trusted_proxies": ["20.0.113.80", "2606:4700:1::/64", "20.0.113.90"] },
    });
    let Value::Object(tree) = tree else { panic!("a tree") };
    merge(&[default_layer(), Layer { name: "tenant".into(), tree }]).unwrap().policy
}

fn waf() -> WafContext {
    let response = policy().response;
    let operators = vec![ip(NEEDED[11]), ip(NEEDED[12])];
    WafContext { allow: response.allow, trusted_proxies: response.trusted_proxies, operators }
}

fn host(dir: &std::path::Path, kernel: &Kernel) -> HostActions<Kernel> {
    let at = |index: usize| vec![ip(NEEDED[index])];
    let around = Surroundings { own: at(2), gateways: at(3), resolvers: at(4), manager: at(5), ssh_peers: at(6) };
    let (mut host, _) = HostActions::open(dir, "agent-1", &policy(), around, kernel.clone(), now()).unwrap();
    host.set_mandate(Mandate::default(), now()).unwrap();
    host.set_operators(vec![ip(NEEDED[11]), ip(NEEDED[12])], now()).unwrap();
    host.start(now()).unwrap();
    host
}

/// An address of the owner or of another, in one of the forms in which logs and people write it.
fn written() -> impl Strategy<Value = String> {
    (0..NEEDED.len() + OTHERS.len(), 0..7_u8, 0_u8..=128).prop_map(|(which, form, prefix)| {
        let text = NEEDED.iter().chain(&OTHERS).nth(which).unwrap();
        let address = ip(text);
        match (form, address) {
            (0, IpAddr::V4(v4)) => v4.to_ipv6_mapped().to_string(),
            (1, IpAddr::V4(v4)) => format!("{}/{}", v4.to_ipv6_mapped(), 96 + prefix % 33),
            (2, IpAddr::V4(_)) => format!("{text}/{}", prefix % 33),
            (2, IpAddr::V6(_)) => format!("{text}/{prefix}"),
            (3, IpAddr::V4(_)) => format!("{text}/{}", 20 + prefix % 13),
            (3, IpAddr::V6(_)) => format!("{text}/{}", 40 + prefix % 89),
            (4, IpAddr::V6(_)) => text.to_uppercase(),
            (5, IpAddr::V4(v4)) => {
                let parts = v4.octets();
                format!(
                    "::ffff:{:x}:{:x}",
                    u16::from_be_bytes([parts[0], parts[1]]),
                    u16::from_be_bytes([parts[2], parts[3]])
                )
            }
            _ => (*text).to_owned(),
        }
    })
}

/// A target in CEL.
fn target(item: bool) -> impl Strategy<Value = String> {
    let mut all = vec![
        "event.source.ip".to_owned(),
        "event.client.ip".to_owned(),
        "event.source.address".to_owned(),
        "event.sakimori.client_network".to_owned(),
        "event.source.ip + '/24'".to_owned(),
        "'::ffff:' + event.source.ip".to_owned(),
        "event.related.ip[0]".to_owned(),
        "alert.count > 1 ? event.source.ip : event.client.ip".to_owned(),
    ];
    if item {
        all.extend(["item".to_owned(), "item + '/32'".to_owned()]);
    }
    prop_oneof![4 => prop::sample::select(all), 1 => written().prop_map(|text| format!("'{text}'"))]
}

fn order(item: bool) -> impl Strategy<Value = Value> {
    let action = prop::sample::select(vec![waf_block::ID, block_address::ID]);
    (action, target(item), any::<bool>()).prop_map(|(action, target, expires)| {
        let mut step = json!({ "action": action, "target": target, "on_failure": "continue" });
        if expires {
            step["expiry"] = json!("1h");
        }
        step
    })
}

fn step() -> impl Strategy<Value = Value> {
    prop_oneof![
        5 => order(false),
        2 => prop::collection::vec(order(false), 1..4).prop_map(|steps| json!({ "parallel": steps })),
        3 => (prop::collection::vec(order(true), 1..3), prop::sample::select(vec!["event.related.ip", "event.host.ip"])).prop_map(
            |(steps, list)| json!({ "for_each": list, "most": 20, "steps": steps, "on_failure": "continue" })
        ),
        1 => Just(json!({ "approval": { "ask": "ops", "within": "5m", "text": { "en": "Shall it?" } } })),
        1 => Just(json!({ "wait": "1m" })),
    ]
}

fn playbook() -> impl Strategy<Value = String> {
    let trigger = prop::sample::select(vec![
        json!({ "alert": { "scope": "wide" } }),
        json!({ "finding": {} }),
        json!({ "manual": {} }),
        json!({ "webhook": { "way": "deploys" } }),
    ]);
    (trigger, prop::collection::vec(step(), 1..6), any::<bool>()).prop_map(|(trigger, steps, limited)| {
        let mut all = json!({ "id": "any", "title": { "en": "Any" }, "trigger": trigger, "steps": steps });
        if limited {
            all["limits"] = json!({ "most": 5, "within": "1h", "ask": "ops" });
        }
        all.to_string()
    })
}

/// Bare, or of another form.
fn event() -> impl Strategy<Value = Event> {
    let list = || prop::collection::vec(written(), 0..5);
    (written(), written(), written(), list(), list(), any::<bool>()).prop_map(
        |(source, client, network, related, own, via)| {
            let json = json!({
                "event": { "kind": "alert", "severity": 99 },
                "rule": { "id": "any", "name": "any" },
                "source": { "ip": source, "address": network },
                "client": { "ip": client },
                "related": { "ip": related },
                "host": { "ip": own },
                "sakimori": { "alert": { "count": 5 }, "client_network": network },
            });
            let (mut event, _) = Event::from_json(json.as_object().unwrap().clone());
            if via {
                event.set(sakimori_model::field::SAKIMORI_PROXY_IP, ip(NEEDED[8]));
            }
            event
        },
    )
}

/// May nobody block it? By the number itself, so that the code under test is not asked.
fn holds(network: &Network, address: IpAddr) -> bool {
    let bits = |ip: IpAddr| match ip.to_canonical() {
        IpAddr::V4(v4) => (32_u32, u128::from(u32::from(v4))),
        IpAddr::V6(v6) => (128, u128::from(v6)),
    };
    let ((width, inner), (own, outer)) = (bits(address), bits(network.address()));
    let kept = u32::from(network.prefix());
    width == own && (kept == 0 || inner >> (width - kept) == outer >> (width - kept))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_playbook_in_steps_blocks_what_the_owner_needs(text in playbook(), events in prop::collection::vec(event(), 1..4)) {
        let playbook = Playbook::parse("any.yml", &text).unwrap();
        let (dir, kernel) = (tempfile::tempdir().unwrap(), Kernel::default());
        let mut host = host(dir.path(), &kernel);
        for (number, event) in events.iter().enumerate() {
            let (told, ..) = rehearse(&playbook, event, &format!("alert-{number}"), now(), (0, 3));
            for order in told.into_iter().filter_map(|one| one.order) {
                let Target::Network(network) = &order.target else { continue };
                match order.action.as_str() {
                    waf_block::ID if waf_block::judge(&order, &waf()) == Verdict::Allowed => {
                        for needed in &NEEDED[SHARED..] {
                            prop_assert!(!holds(network, ip(needed)), "{network} holds {needed}\n{text}");
                        }
                        prop_assert!(!is_private(network), "{network} is private\n{text}");
                        prop_assert!(order.via.is_none_or(|proxy| !holds(network, proxy)), "{network} is the proxy");
                    }
                    block_address::ID => {
                        let authority = [Authority::Rules, Authority::Root, Authority::Manager { operators: 2 }];
                        let number = order.id.bytes().map(usize::from).sum::<usize>();
                        host.submit_as(vec![order], authority[number % 3], now()).unwrap();
                    }
                    _ => {}
                }
            }
        }
        for held in kernel.held.lock().unwrap().keys() {
            for needed in NEEDED {
                prop_assert!(!holds(held, ip(needed)), "{held} holds {needed}\n{text}");
            }
        }
    }
}

/// The property would hold of nothing if nothing were ordered.
#[test]
fn others_are_blocked_on_the_host_and_in_the_waf() {
    let text = json!({
        "id": "any", "title": { "en": "Any" }, "trigger": { "manual": {} },
        "steps": [
            { "for_each": "event.related.ip", "most": 100, "steps": [
                { "action": waf_block::ID, "target": "item", "on_failure": "continue" },
                { "action": block_address::ID, "target": "item", "on_failure": "continue" },
            ] },
        ],
    });
    let playbook = Playbook::parse("any.yml", &text.to_string()).unwrap();
    let all: Vec<&str> = NEEDED.iter().chain(&OTHERS).copied().collect();
    let json = json!({ "related": { "ip": all } });
    let (event, _) = Event::from_json(json.as_object().unwrap().clone());
    let (told, ..) = rehearse(&playbook, &event, "a", now(), (0, 3));
    let orders: Vec<Order> = told.into_iter().filter_map(|one| one.order).collect();
    assert_eq!(orders.len(), 2 * all.len(), "each address twice");
    let (dir, kernel) = (tempfile::tempdir().unwrap(), Kernel::default());
    let mut host = host(dir.path(), &kernel);
    let (in_waf, on_host): (Vec<Order>, Vec<Order>) =
        orders.into_iter().partition(|order| order.action == waf_block::ID);
    let allowed: Vec<String> = in_waf
        .iter()
        .filter(|order| waf_block::judge(order, &waf()) == Verdict::Allowed)
        .map(|order| order.target.to_string())
        .collect();
    // The host's own public addresses are its own affair: the WAF stands in front of others, too.
    for other in ["45.33.32.156", "2a01:4f8::1", "20.0.113.8", "185.220.101.1"] {
        assert!(allowed.iter().any(|one| one == other), "{other}: {allowed:?}");
    }
    host.submit_as(on_host, Authority::Manager { operators: 2 }, now()).unwrap();
    assert_eq!(kernel.held.lock().unwrap().len(), OTHERS.len());
}

/// A rule that blocks by rate takes whoever is above it: it is refused where that could be a proxy or somebody allowed.
#[test]
fn a_rate_rule_cannot_stand_in_for_a_block() {
    for (client, allowed_by, refused) in [
        (None, None, true),
        (Some("forwarded"), None, true),
        (None, Some("friends"), true),
        (Some("forwarded"), Some("friends"), false),
    ] {
        let mut inputs = json!({ "limit": "100", "mode": "block" });
        if let Some(client) = client {
            inputs["client"] = json!(client);
        }
        if let Some(rule) = allowed_by {
            inputs["allowed_by"] = json!(rule);
        }
        let step = json!({ "action": waf_rate_rule::ID, "target": "'shop'", "inputs": inputs });
        let text = json!({ "id": "any", "title": { "en": "Any" }, "trigger": { "manual": {} }, "steps": [step] });
        let playbook = Playbook::parse("any.yml", &text.to_string()).unwrap();
        let (told, ..) = rehearse(&playbook, &Event::new(), "", now(), (0, 3));
        let order = told.into_iter().find_map(|one| one.order).unwrap();
        let verdict = waf_rate_rule::judge(&order, &waf());
        assert_eq!(matches!(verdict, Verdict::Refused(_)), refused, "{client:?} {allowed_by:?}: {verdict:?}");
    }
}
