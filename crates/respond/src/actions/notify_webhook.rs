//! `notify_webhook`: tells a person, by a signed JSON message to a webhook.
//!
//! The body, the signature and the grouping of a burst into one message are [`crate::message`]; the effect is
//! [`crate::ports::Messenger`]. It is sent at least once, with the same id for every repeat.

use sakimori_model::Order;
use sakimori_model::action::Target;

use super::{Descriptor, Input, Runs, Safety, TargetKind};
use crate::guard::Verdict;

/// Slug.
pub const ID: &str = "notify_webhook";

/// What it is.
pub const DESCRIPTOR: Descriptor = Descriptor {
    id: ID,
    title_en: "Send a message to a webhook",
    title_ja: "Webhook へ通知",
    config: &[
        ("notify.channels.<name>.url", "where the message goes"),
        ("notify.channels.<name>.secret", "key of its signature"),
        ("notify.channels.<name>.burst_seconds", "messages of one rule within this time become one"),
    ],
    inputs: &[Input { name: "text", about: "a sentence of the playbook's author", most: 1024 }],
    target: TargetKind::Channel,
    permissions: &["an outgoing HTTP(S) connection of the manager"],
    safety: Safety::Repeatable,
    undo: None,
    expires: false,
    blast_radius: "one message",
    verification: "the receiver answers with a status of 2xx",
    runs: Runs::Manager,
};

/// May this message be sent? `channels` are the names that are configured.
pub fn judge<'a>(order: &Order, mut channels: impl Iterator<Item = &'a str>) -> Verdict {
    let Target::Channel(name) = &order.target else {
        return Verdict::Refused(format!("{ID} acts on a channel"));
    };
    if order.probe {
        return Verdict::Refused("what follows from a probe stays on the host".to_owned());
    }
    if !channels.any(|channel| channel == name) {
        return Verdict::NoEffect(format!("no effect: no channel named {name} is configured"));
    }
    Verdict::Allowed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::order;

    #[test]
    fn probes_and_unknown_channels_send_nothing() {
        let mut order = order("a", "192.0.2.1");
        assert!(matches!(judge(&order, ["ops"].into_iter()), Verdict::Refused(_)), "an address is no channel");
        order.target = Target::Channel("ops".to_owned());
        assert_eq!(judge(&order, ["ops"].into_iter()), Verdict::Allowed);
        assert!(matches!(judge(&order, ["dev"].into_iter()), Verdict::NoEffect(_)));
        order.probe = true;
        assert!(matches!(judge(&order, ["ops"].into_iter()), Verdict::Refused(_)));
    }
}
