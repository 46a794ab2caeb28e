//! Orders and moments for the tests of this crate.

use sakimori_model::action::{Cause, Target};
use sakimori_model::{Order, Timestamp};

/// A moment: this many seconds after an arbitrary beginning.
pub(crate) fn now(seconds: i64) -> Timestamp {
    Timestamp::from_secs(1_800_000_000 + seconds)
}

/// An address or network as a target.
pub(crate) fn address(text: &str) -> Target {
    Target::Network(text.parse().unwrap())
}

/// An order to block an address on a host, after an alert.
pub(crate) fn order(id: &str, target: &str) -> Order {
    Order {
        id: id.to_owned(),
        action: "block_address".to_owned(),
        target: address(target),
        expiry: None,
        cause: Cause {
            alert: format!("alert-of-{id}"),
            rule: "ssh-brute-force".to_owned(),
            title: "SSH brute force".to_owned(),
            events: vec!["a:logs:1.0".to_owned()],
            by: "playbook:block-on-host".to_owned(),
        },
        via: None,
        probe: false,
        inputs: Default::default(),
        signatures: Vec::new(),
    }
}
