use ed25519_dalek::SigningKey;
use sakimori_model::policy::{Layer, Mode, Switch, default_layer, merge};
use serde_json::json;

use super::*;
use crate::testing::{now, order};

fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

fn two_of_three() -> Mandate {
    let keys = (1..=3_u8).map(|number| OperatorKey {
        name: format!("op{number}"),
        key: format!("ed25519:{}", hex::encode(key(number).verifying_key().as_bytes())),
    });
    Mandate { operators: Operators { needed: 2, keys: keys.collect() }, ..Mandate::default() }
}

const ALONE: Authority = Authority::Manager { operators: 0 };

#[test]
fn without_a_file_addresses_and_small_networks_are_allowed() {
    let mandate = Mandate::default();
    for fine in ["192.0.2.1", "192.0.2.0/24", "2001:db8::1", "2001:db8::/48"] {
        for authority in [ALONE, Authority::Rules] {
            assert_eq!(mandate.objection(&order("a", fine), authority, now(0)), None, "{fine}");
        }
    }
    for wide in ["192.0.2.0/23", "2001:db8::/47"] {
        for authority in [ALONE, Authority::Rules, Authority::Manager { operators: 9 }] {
            let said = mandate.objection(&order("a", wide), authority, now(0));
            assert!(matches!(said, Some(Objection::Never(_))), "without keys nobody can sign: {said:?}");
        }
        assert_eq!(mandate.objection(&order("a", wide), Authority::Root, now(0)), None, "root wrote the mandate");
    }
    let mut long = order("a", "192.0.2.1");
    long.expiry = Some(now(31 * 86_400));
    assert!(mandate.objection(&long, ALONE, now(0)).is_some());
    let mut other = order("a", "192.0.2.1");
    other.action = "isolate\u{7}".into();
    assert!(mandate.objection(&other, ALONE, now(0)).unwrap().to_string().ends_with("isolate"));
}

#[test]
fn the_host_quarantines_by_its_own_rules_and_not_on_the_managers_word_alone() {
    let mandate = two_of_three();
    let mut file = order("a", "192.0.2.1");
    (file.action, file.target) = (quarantine_file::ID.to_owned(), Target::File("/usr/sbin/sshd".into()));
    assert_eq!(mandate.objection(&file, Authority::Rules, now(0)), None);
    assert!(matches!(mandate.objection(&file, ALONE, now(0)), Some(Objection::Lacks { operators: 2, .. })));
    assert_eq!(mandate.objection(&file, Authority::Manager { operators: 2 }, now(0)), None);
}

#[test]
fn the_manager_alone_may_order_a_scan_unless_the_host_says_otherwise() {
    let mut mandate = two_of_three();
    let mut scan = order("a", "192.0.2.1");
    (scan.action, scan.target) = (scan_paths::ID.to_owned(), Target::File("/srv".into()));
    assert_eq!(mandate.objection(&scan, ALONE, now(0)), None);
    mandate.alone.actions = vec![block_address::ID.to_owned()];
    assert!(matches!(mandate.objection(&scan, ALONE, now(0)), Some(Objection::Lacks { operators: 2, .. })));
    assert_eq!(mandate.objection(&scan, Authority::Rules, now(0)), None, "its own playbooks still may");
    mandate.alone.rules.clear();
    assert!(mandate.objection(&scan, Authority::Rules, now(0)).is_some());
    assert!(Mandate::nothing().objection(&scan, ALONE, now(0)).is_some());
}

#[test]
fn what_is_wider_needs_two_different_operators_and_rules_cannot_have_them() {
    let mandate = two_of_three();
    let wide = order("a", "192.0.0.0/16");
    let act = Act::Order(&wide);
    let sign = |number: u8, until: i64| seal::seal(&key(number), "host-a", act, now(0), now(until));
    let count = |seals: &[Vec<u8>]| mandate.operators(seals, "host-a", act, now(1));
    assert_eq!(count(&[sign(1, 600), sign(1, 900)]), 1, "one operator twice is one");
    assert_eq!(count(&[sign(1, 600), sign(9, 600)]), 1, "a stranger does not count");
    assert_eq!(count(&[sign(1, 600), sign(2, 1)]), 1, "one is over");
    assert_eq!(count(&[sign(1, 600), sign(3, 600)]), 2);
    assert_eq!(mandate.operators(&[sign(1, 600), sign(3, 600)], "host-b", act, now(1)), 0);
    let lacks = |operators| mandate.objection(&wide, Authority::Manager { operators }, now(1));
    assert!(matches!(lacks(0), Some(Objection::Lacks { operators: 2, .. })));
    assert!(matches!(lacks(1), Some(Objection::Lacks { operators: 1, .. })));
    assert_eq!(lacks(2), None);
    assert!(matches!(mandate.objection(&wide, Authority::Rules, now(1)), Some(Objection::Never(_))));
}

#[test]
fn what_is_never_blocked_here_no_seal_changes() {
    let never = Never { block: vec!["10.0.0.0/8".parse().unwrap()] };
    let mandate = Mandate { never, ..two_of_three() };
    for authority in [Authority::Rules, Authority::Manager { operators: 3 }, Authority::Root] {
        for hit in ["10.1.2.3", "10.0.0.0/16"] {
            let said = mandate.objection(&order("a", hit), authority, now(0));
            assert!(matches!(said, Some(Objection::Never(_))), "{authority:?} {hit}");
        }
    }
}

#[test]
fn a_file_that_cannot_be_trusted_lets_the_manager_do_nothing() {
    let mandate = Mandate::nothing();
    assert!(mandate.objection(&order("a", "192.0.2.1"), ALONE, now(0)).is_some());
    assert!(mandate.allows(mandate.alone.undo, 0, "take back").is_some());
    assert!(!mandate.alone.halt && !mandate.alone.policy && !mandate.alone.spare_operators);
}

#[test]
fn a_policy_is_held_where_the_mandate_says_so() {
    let policy = |tree: serde_json::Value| {
        let serde_json::Value::Object(tree) = tree else { panic!("a tree") };
        merge(&[default_layer(), Layer { name: "x".into(), tree }]).unwrap().policy
    };
    let own = policy(json!({"modules": {"antimalware": {"state": "on", "mode": "detect", "paths": ["/srv"]}}}));
    let theirs = policy(json!({
        "modules": {
            "antimalware": {"state": "off"},
            "block_address": {"mode": "prevent", "most": 5},
            "log_inspection": {"sources": [
                {"name": "a", "source": "linux/auth", "file": "/var/log/auth.log"},
                {"name": "b", "source": "linux/auth", "file": "/etc/shadow"},
                {"name": "c", "source": "linux/auth", "file": "/var/log/../../etc/shadow"},
            ]},
        },
        "response": {"allow": ["0.0.0.0/0"]},
    }));
    assert_eq!(Mandate::default().hold(&theirs, &own), (theirs.clone(), Vec::new()));
    let mandate = Mandate {
        policy: Hold {
            keep_on: vec!["antimalware".into(), "unheard_of".into()],
            detect_only: vec!["block_address".into()],
            fixed: vec!["response.allow".into(), "no.such.path".into()],
            logs_below: vec!["/var/log".into()],
        },
        ..Mandate::default()
    };
    let (held, paths) = mandate.hold(&theirs, &own);
    assert_eq!(held.modules.antimalware, own.modules.antimalware);
    assert_eq!(held.modules.antimalware.state, Switch::On);
    assert_eq!((held.modules.block_address.mode, held.modules.block_address.most), (Mode::Detect, 5));
    assert!(held.response.allow.is_empty());
    let names: Vec<&str> = held.modules.log_inspection.sources.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["a"]);
    assert_eq!(paths.len(), 5, "{paths:?}");
}

#[test]
fn what_is_wrong_in_a_mandate_is_named() {
    let mut mandate = two_of_three();
    assert_eq!(mandate.check(), Ok(()));
    mandate.operators.needed = 4;
    assert!(mandate.check().unwrap_err().contains("needed"));
    mandate = two_of_three();
    mandate.operators.keys[1].key = mandate.operators.keys[0].key.clone();
    assert!(mandate.check().unwrap_err().contains("twice"));
    mandate.operators.keys[1].key = "ed25519:00".into();
    assert!(mandate.check().unwrap_err().contains("op2"));
    mandate = Mandate::default();
    mandate.never.block = vec!["192.0.2.1".parse().unwrap(); MOST + 1];
    assert!(mandate.check().is_err());
}
