//! `notify`: tells people, by a message to a channel of the configuration: a chat, a ticket, a pager, mail, a topic, syslog,
//! a webhook.
//!
//! What the message says and the grouping of a burst into one are [`crate::message`]; the kinds of channels, their limits and
//! the delivery are the manager's. How often a message may arrive is the channel's own: exactly once where its receiver knows
//! our key, else at least once, with the same id for every repeat and a mark on it (D19). The descriptor says the weaker.

use sakimori_model::Order;
use sakimori_model::action::Target;

use super::{Descriptor, Input, Runs, Safety, TargetKind};
use crate::guard::Verdict;

/// Slug.
pub const ID: &str = "notify";
/// Slug of before there were other channels than webhooks.
pub const FORMER_ID: &str = "notify_webhook";

/// What it is.
pub const DESCRIPTOR: Descriptor = Descriptor {
    id: ID,
    title_en: "Send a message",
    title_ja: "通知を送る",
    config: &[
        ("notify.<n>.kind", "what its receiver is"),
        ("notify.<n>.url", "where the message goes"),
        ("notify.<n>.secret", "key, token or password"),
        ("notify.<n>.burst_seconds", "messages of one rule within this time become one"),
    ],
    inputs: &[Input { name: "text", about: "a sentence of the playbook's author", most: 1024 }],
    target: TargetKind::Channel,
    permissions: &["an outgoing connection of the manager to the channel's receiver"],
    safety: Safety::Repeatable,
    undo: None,
    expires: false,
    blast_radius: "one message",
    verification: "the receiver says that it has it",
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
