//! `quarantine_file`: takes a malicious file out of everybody's reach, and gives it back exactly as it was.
//!
//! The pure part is [`judge`]; the effect is [`crate::ports::FileVault`]; its life is [`crate::host`]. It does not end
//! by itself: a file that comes back unasked is the attack again. The order says which content was judged, and only a
//! file with that content is taken.

use sakimori_model::action::Target;
use sakimori_model::policy::{Antimalware, Mode, Switch};
use sakimori_model::{Order, Timestamp};

use super::{Descriptor, Input, Runs, Safety, TargetKind};
use crate::guard::{Rate, Verdict};

/// Slug.
pub const ID: &str = "quarantine_file";

/// Name of the input that says which content was judged.
pub const SHA256: &str = "sha256";

/// What it is.
pub const DESCRIPTOR: Descriptor = Descriptor {
    id: ID,
    title_en: "Quarantine a file on the host",
    title_ja: "ホストでファイルを隔離",
    config: &[
        ("modules.antimalware.state", "on or off; what is in quarantine stays there"),
        ("modules.antimalware.mode", "prevent acts, detect says what it would do"),
        ("modules.antimalware.most_per_minute", "most files in a minute; a rule gone wrong must not empty a disk"),
    ],
    inputs: &[Input { name: SHA256, about: "SHA-256 of the content that was judged, hexadecimal", most: 64 }],
    target: TargetKind::File,
    permissions: &["root on the host"],
    safety: Safety::Converge,
    undo: Some("puts the file back with its content, owner, mode, times and attributes"),
    expires: false,
    blast_radius: "one file, on one host, until it is given back",
    verification: "reads the quarantined copy back, and that its name is gone",
    runs: Runs::Host,
};

/// May this file be taken? `rate` counts what was taken lately.
pub fn judge(order: &Order, policy: &Antimalware, rate: &mut Rate, now: Timestamp) -> Verdict {
    let Target::File(path) = &order.target else {
        return Verdict::Refused(format!("{ID} acts on a file"));
    };
    if !path.starts_with('/') {
        return Verdict::Refused("a file is named by its whole path, which begins with /".to_owned());
    }
    let sum = order.inputs.get(SHA256).map_or("", String::as_str);
    if sum.len() != 64 || !sum.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Verdict::Refused(format!("the order does not say which content was judged: input {SHA256}"));
    }
    if policy.state == Switch::Off {
        return Verdict::NoEffect("no effect: antimalware is off".to_owned());
    }
    if policy.mode == Mode::Detect {
        return Verdict::NoEffect(format!("detect mode: would quarantine {path}"));
    }
    if !rate.take(now, policy.most_per_minute) {
        return Verdict::Refused(format!(
            "the most files a minute, {}, were taken; it stays where it is, and nobody can open it",
            policy.most_per_minute
        ));
    }
    Verdict::Allowed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::now;

    fn order(path: &str, sum: &str) -> Order {
        let mut order = crate::testing::order("a", "192.0.2.1");
        order.action = ID.to_owned();
        order.target = Target::File(path.to_owned());
        order.inputs.insert(SHA256.to_owned(), sum.to_owned());
        order
    }

    fn policy() -> Antimalware {
        Antimalware { state: Switch::On, most_per_minute: 2, ..Antimalware::default() }
    }

    #[test]
    fn what_is_not_said_exactly_is_refused() {
        let sum = "a".repeat(64);
        for (path, sum) in [("x", sum.as_str()), ("/x", ""), ("/x", "zz"), ("/x", &"g".repeat(64))] {
            let verdict = judge(&order(path, sum), &policy(), &mut Rate::default(), now(0));
            assert!(matches!(verdict, Verdict::Refused(_)), "{path} {sum}: {verdict:?}");
        }
        let address = crate::testing::order("a", "192.0.2.1");
        assert!(matches!(judge(&address, &policy(), &mut Rate::default(), now(0)), Verdict::Refused(_)));
    }

    #[test]
    fn policy_and_rate_decide() {
        let (order, mut rate) = (order("/x", &"a".repeat(64)), Rate::default());
        let detect = Antimalware { mode: Mode::Detect, ..policy() };
        assert!(
            matches!(judge(&order, &detect, &mut rate, now(0)), Verdict::NoEffect(reason) if reason.contains("would"))
        );
        let off = Antimalware { state: Switch::Off, ..policy() };
        assert!(matches!(judge(&order, &off, &mut rate, now(0)), Verdict::NoEffect(reason) if reason.contains("off")));
        assert_eq!(judge(&order, &policy(), &mut rate, now(0)), Verdict::Allowed);
        assert_eq!(judge(&order, &policy(), &mut rate, now(1)), Verdict::Allowed);
        assert!(matches!(judge(&order, &policy(), &mut rate, now(2)), Verdict::Refused(_)), "two a minute");
        assert_eq!(judge(&order, &policy(), &mut rate, now(61)), Verdict::Allowed);
    }
}
