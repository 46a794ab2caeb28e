//! `isolate_host`: all traffic of a host is cut but what its manager needs, until its end.
//!
//! The pure part is [`read`] and [`judge`]; the effect is a [`crate::ports::HostEffect`]; its life is [`crate::host`].
//! What stays: the manager at the address and port that the agent uses (with the name servers, where it has a name), the
//! loopback device, what keeps the host's address, and stations that order or policy allow. What was open is cut too.
//!
//! It has an end that the kernel keeps by itself. And it could lock people out, so it is provisional: an isolation after
//! which the manager does not answer any more is taken back, unless the policy says that it stays
//! (`response.isolate_host.stay`).

use sakimori_model::policy::{IsolateHost, Mode};
use sakimori_model::{Network, Order};

use super::{Descriptor, Input, Runs, Safety, TargetKind, short};
use crate::guard::Verdict;

/// Slug.
pub const ID: &str = "isolate_host";
/// Kind of its target.
pub const KIND: &str = "host";
/// Name of the target that means the host which is ordered; its agent's id means the same.
pub const THIS: &str = "this";
/// Name of the input that lists networks whose traffic passes.
pub const ALLOW: &str = "allow";
/// Most networks that an order allows.
pub const MOST_ALLOWED: usize = 16;
/// Shortest prefixes that an order allows: stations, and no part of the internet.
pub const WIDEST: (u8, u8) = (24, 64);

/// What it is.
pub const DESCRIPTOR: Descriptor = Descriptor {
    id: ID,
    title_en: "Isolate a host",
    title_ja: "ホストを隔離",
    config: &[
        ("response.isolate_host.mode", "prevent acts, detect says what it would do"),
        ("response.isolate_host.expiry_seconds", "how long an isolation lasts"),
        ("response.isolate_host.expiry_most_seconds", "the longest that one may last"),
        ("response.isolate_host.stay", "stay isolated where nothing confirms it, the manager lost or not"),
        ("response.isolate_host.allow", "networks whose traffic passes in every isolation"),
    ],
    inputs: &[Input {
        name: ALLOW,
        about: "networks whose traffic passes, like a forensic station: a JSON list, at most 16, none wider than /24 or /64",
        most: 1 << 10,
    }],
    target: TargetKind::Resource(KIND),
    permissions: &["CAP_NET_ADMIN on the host", "the host's mandate names it (alone.actions, alone.rules)"],
    safety: Safety::Converge,
    undo: Some("takes the nftables table away that cuts the host off"),
    expires: true,
    blast_radius: "all services of one host, for everybody but its manager, until its end",
    verification: "reads the table back from the kernel; then the manager has to answer, or it is taken back",
    runs: Runs::Host,
};

/// The networks that an order lets pass.
///
/// # Errors
/// What is wrong with its target or its inputs.
pub fn read(order: &Order) -> Result<Vec<Network>, String> {
    if order.target.name_of(KIND).is_none() {
        return Err(format!("{ID} acts on a host: {THIS}, or its agent's id"));
    }
    if let Some(name) = order.inputs.keys().find(|name| *name != ALLOW) {
        return Err(format!("{ID} has no input {}", short(name)));
    }
    let Some(text) = order.inputs.get(ALLOW) else { return Ok(Vec::new()) };
    if text.len() > 1 << 10 {
        return Err(format!("{ALLOW} has at most 1024 bytes"));
    }
    let texts: Vec<String> =
        serde_json::from_str(text).map_err(|_| format!("{ALLOW} is no JSON list of networks, like [\"192.0.2.7\"]"))?;
    if texts.len() > MOST_ALLOWED {
        return Err(format!("at most {MOST_ALLOWED} networks are allowed, found {}", texts.len()));
    }
    let one = |text: &String| {
        let network: Network = text.parse().map_err(|error| format!("{ALLOW}: {}: {error}", short(text)))?;
        let widest = if network.address().is_ipv4() { WIDEST.0 } else { WIDEST.1 };
        if network.prefix() < widest {
            return Err(format!(
                "{ALLOW}: {network} is wider than /{widest}; name stations, or take the isolation back"
            ));
        }
        Ok(network)
    };
    texts.iter().map(one).collect()
}

/// May this host be isolated? `host` is its agent's id.
pub fn judge(order: &Order, host: &str, policy: &IsolateHost) -> Verdict {
    if let Err(reason) = read(order) {
        return Verdict::Refused(reason);
    }
    match order.target.name_of(KIND) {
        Some(name) if name == THIS || name == host => {}
        other => {
            return Verdict::Refused(format!("this host is {host}, not {}", short(other.unwrap_or_default())));
        }
    }
    match policy.mode {
        Mode::Detect => Verdict::NoEffect("detect mode: would cut this host off from all but its manager".to_owned()),
        Mode::Prevent => Verdict::Allowed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sakimori_model::action::Target;

    fn order(name: &str, inputs: &[(&str, &str)]) -> Order {
        let mut order = crate::testing::order("a", "192.0.2.1");
        (order.action, order.target) = (ID.to_owned(), Target::resource(KIND, name));
        order.inputs = inputs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        order
    }

    #[test]
    fn a_host_is_itself_and_no_other() {
        let policy = IsolateHost::default();
        for (name, right) in [("this", true), ("agent-1", true), ("agent-2", false), ("", false)] {
            let verdict = judge(&order(name, &[]), "agent-1", &policy);
            assert_eq!(verdict == Verdict::Allowed, right, "{name}: {verdict:?}");
        }
        let address = crate::testing::order("a", "192.0.2.1");
        assert!(matches!(judge(&address, "agent-1", &policy), Verdict::Refused(_)));
        let detect = IsolateHost { mode: Mode::Detect, ..policy };
        let said = judge(&order("this", &[]), "agent-1", &detect);
        assert!(matches!(said, Verdict::NoEffect(reason) if reason.contains("would cut")));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let many = serde_json::to_string(&vec!["192.0.2.1"; MOST_ALLOWED + 1]).unwrap();
        for (name, value, why) in [
            (ALLOW, "192.0.2.1", "no JSON list"),
            (ALLOW, r#"["0.0.0.0/0"]"#, "wider than /24"),
            (ALLOW, r#"["2001:db8::/32"]"#, "wider than /64"),
            (ALLOW, r#"["station"]"#, "station"),
            (ALLOW, many.as_str(), "at most 16"),
            (ALLOW, &" ".repeat(2_000), "at most 1024 bytes"),
            ("shell", "id", "no input shell"),
        ] {
            let reason = read(&order("this", &[(name, value)])).unwrap_err();
            assert!(reason.contains(why), "{value}: {reason}");
        }
        let fine = read(&order("this", &[(ALLOW, r#"["192.0.2.7", "2001:db8::/64"]"#)])).unwrap();
        assert_eq!(fine.iter().map(ToString::to_string).collect::<Vec<_>>(), ["192.0.2.7", "2001:db8::/64"]);
    }

    proptest! {
        #[test]
        fn whatever_an_order_says_it_lets_few_and_narrow_networks_pass(name in "[a-z]{0,9}|allow", value in ".{0,200}") {
            if let Ok(networks) = read(&order("this", &[(name.as_str(), value.as_str())])) {
                prop_assert!(networks.len() <= MOST_ALLOWED && networks.iter().all(|one| one.prefix() >= WIDEST.0));
            }
        }
    }
}
