//! `collect_triage`: a host writes down what an investigator asks for first, in one signed package that stays on the host.
//!
//! The pure part is [`judge`]; the effect is [`crate::ports::HostEffect`]; its life is [`crate::host`]: it runs until the package
//! is made, over restarts of the agent too. It only reads, so there is nothing to take back; the package is deleted by who may
//! read it. Of environments it has the names and no value, and what is called a password, token or secret in a command line or a
//! file is masked.

use sakimori_model::{Order, Timestamp};

use super::{Descriptor, Runs, Safety, TargetKind, process};
use crate::guard::{Rate, Verdict};

/// Slug.
pub const ID: &str = "collect_triage";

/// Kind of the target: a host, by its name. Who carries the order out is that host, whatever the name.
pub const KIND: &str = "host";

/// Most packages that are ordered and not made.
pub const MOST_LIVE: usize = 4;

/// What it is.
pub const DESCRIPTOR: Descriptor = Descriptor {
    id: ID,
    title_en: "Collect a triage package of the host",
    title_ja: "ホストの調査パッケージを収集",
    config: &[("response.playbooks_off", "playbooks that do not run")],
    inputs: &[],
    target: TargetKind::Resource(KIND),
    permissions: &["root on the host"],
    safety: Safety::Keyed,
    undo: None,
    expires: false,
    blast_radius: "reads processes, autoruns, users, logs and programs of one host, within bounds of time and size; one file of \
                   root's, of which the oldest goes where there are too many",
    verification: "the package is signed, and its manifest has the SHA-256 of everything in it (sakimori triage verify)",
    runs: Runs::Host,
};

/// May it be begun? `live` are those that are ordered and not made, `rate` counts what alerts asked for lately.
pub fn judge(order: &Order, live: usize, rate: &mut Rate, now: Timestamp) -> Verdict {
    if order.target.name_of(KIND).is_none_or(str::is_empty) {
        return Verdict::Refused(format!("{ID} acts on a host, by its name"));
    }
    if let Err(reason) = process::check_inputs(&order.inputs, &DESCRIPTOR) {
        return Verdict::Refused(reason);
    }
    if live >= MOST_LIVE {
        return Verdict::Refused(format!("{MOST_LIVE} packages are ordered and not made; wait for them"));
    }
    process::in_time(order, &DESCRIPTOR, rate, now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::now;
    use sakimori_model::action::Target;

    #[test]
    fn a_host_is_named_and_only_some_wait() {
        let mut order = crate::testing::order("a", "192.0.2.1");
        order.action = ID.to_owned();
        let mut rate = Rate::default();
        assert!(matches!(judge(&order, 0, &mut rate, now(0)), Verdict::Refused(_)), "an address is no host");
        order.target = Target::resource(KIND, "web1");
        assert_eq!(judge(&order, 0, &mut rate, now(0)), Verdict::Allowed);
        assert!(matches!(judge(&order, MOST_LIVE, &mut rate, now(0)), Verdict::Refused(_)));
        order.inputs.insert("path".into(), "/etc/shadow".into());
        assert!(matches!(judge(&order, 0, &mut rate, now(0)), Verdict::Refused(_)));
    }
}
