//! `waf_block`: puts the client's address into an AWS WAF IP set, in front of every host.
//!
//! Planning is pure ([`judge`], [`desired`]); the effect is [`crate::ports::AddressSet`], which replaces the
//! whole set at once, so that any number of pending changes is one call.

use std::collections::{BTreeMap, BTreeSet};

use sakimori_model::action::Target;
use sakimori_model::address::is_private;
use sakimori_model::{Network, Order, Timestamp};

use super::{Descriptor, Runs, Safety, TargetKind};
use crate::guard::{Verdict, WIDEST, shared};

/// Slug.
pub const ID: &str = "waf_block";

/// Most addresses that one IP set holds (AWS WAF quota, not adjustable).
pub const SET_CAPACITY: usize = 10_000;

/// What it is.
pub const DESCRIPTOR: Descriptor = Descriptor {
    id: ID,
    title_en: "Block an address in AWS WAF",
    title_ja: "AWS WAF でアドレスを遮断",
    config: &[
        ("cloud.waf.region", "region of the web ACL; us-east-1 for CloudFront"),
        ("cloud.waf.scope", "regional or cloudfront"),
        ("cloud.waf.ip_set", "name of the sets; -v4 and -v6 are appended"),
        ("cloud.waf.web_acl", "web ACL that must block them; any where empty"),
        ("response.allow", "networks that are never blocked"),
        ("response.trusted_proxies", "proxies and load balancers, which are never blocked"),
    ],
    inputs: &[],
    target: TargetKind::Network,
    permissions: &[
        "wafv2:ListIPSets",
        "wafv2:GetIPSet",
        "wafv2:CreateIPSet",
        "wafv2:UpdateIPSet",
        "wafv2:ListWebACLs",
        "wafv2:GetWebACL",
        "wafv2:ListResourcesForWebACL",
    ],
    safety: Safety::Converge,
    undo: Some("takes the address out of the set"),
    expires: true,
    blast_radius: "one client, for everything behind the web ACL, until its end",
    verification: "reads the set back and looks for a blocking rule of a web ACL that refers to it and stands in front of \
                   something",
    runs: Runs::Manager,
};

/// What a judgement depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WafContext {
    /// Never blocked anywhere.
    pub allow: Vec<Network>,
    /// Proxies and load balancers: blocking one would block all that come through it.
    pub trusted_proxies: Vec<Network>,
    /// Addresses from which operators are signed in now.
    pub operators: Vec<std::net::IpAddr>,
}

/// May this address go into the WAF? The target is the client's address already; `via` is where it came
/// through, which is no obstacle here.
pub fn judge(order: &Order, context: &WafContext) -> Verdict {
    let Target::Network(network) = &order.target else {
        return Verdict::Refused(format!("{ID} acts on an address or a network"));
    };
    if order.probe {
        return Verdict::Refused("what follows from a probe stays on the host".to_owned());
    }
    if let Some(reason) = shared(network, &context.allow, &context.trusted_proxies) {
        return Verdict::Refused(reason);
    }
    if let Some(address) = context.operators.iter().find(|address| network.contains(**address)) {
        return Verdict::Refused(format!("never blocked: an operator is signed in from {address}"));
    }
    if order.via.is_some_and(|proxy| network.contains(proxy)) {
        return Verdict::Refused(format!("never blocked: {network} is the proxy that the client came through"));
    }
    if is_private(network) {
        return Verdict::NoEffect(format!("no effect: {network} is a private address, which never reaches the WAF"));
    }
    let widest = if network.address().is_ipv4() { WIDEST.0 } else { WIDEST.1 };
    if network.prefix() < widest {
        return Verdict::Refused(format!("never blocked: {network} is wider than /{widest}"));
    }
    Verdict::Allowed
}

/// What the sets should hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// At most `capacity` of each family.
    pub networks: BTreeSet<Network>,
    /// Left out since the set is full: the oldest ones. Their actions end as without effect, with the reason.
    pub dropped: BTreeSet<Network>,
}

/// What the sets should hold, from the live actions' targets and the moment of each one's latest evidence. Where
/// one family has more than `capacity`, the oldest are left out.
pub fn desired(live: impl Iterator<Item = (Network, Timestamp)>, capacity: usize) -> Desired {
    let mut latest: BTreeMap<Network, Timestamp> = BTreeMap::new();
    for (network, time) in live {
        let known = latest.entry(network).or_insert(time);
        *known = time.max(*known);
    }
    let mut desired = Desired::default();
    for v4 in [true, false] {
        let mut family: Vec<_> = latest.iter().filter(|(network, _)| network.address().is_ipv4() == v4).collect();
        family.sort_by_key(|(network, time)| (std::cmp::Reverse(**time), **network));
        for (at, (network, _)) in family.into_iter().enumerate() {
            if at < capacity {
                desired.networks.insert(*network)
            } else {
                desired.dropped.insert(*network)
            };
        }
    }
    desired
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{now, order};
    use proptest::prelude::*;

    fn context() -> WafContext {
        WafContext {
            allow: vec!["198.51.100.0/28".parse().unwrap()],
            trusted_proxies: vec!["203.0.113.80".parse().unwrap()],
            operators: vec!["203.0.113.99".parse().unwrap()],
        }
    }

    #[test]
    fn the_client_yes_the_proxy_never() {
        let mut client = order("a", "198.51.100.99");
        client.via = Some("203.0.113.80".parse().unwrap());
        assert_eq!(judge(&client, &context()), Verdict::Allowed);
        assert!(matches!(judge(&order("a", "203.0.113.80"), &context()), Verdict::Refused(_)));
        assert!(matches!(judge(&order("a", "203.0.113.0/24"), &context()), Verdict::Refused(_)));
        let mut unknown = order("a", "192.0.2.44");
        unknown.via = Some("192.0.2.44".parse().unwrap());
        assert!(matches!(judge(&unknown, &context()), Verdict::Refused(_)));
    }

    #[test]
    fn private_addresses_never_and_it_says_so() {
        for target in ["10.0.0.1", "100.64.1.1", "fd00::1", "::ffff:192.168.1.1", "169.254.0.9"] {
            match judge(&order("a", target), &context()) {
                Verdict::NoEffect(reason) => assert!(reason.contains("private address"), "{reason}"),
                other => panic!("{target}: {other:?}"),
            }
        }
    }

    #[test]
    fn allow_list_and_probes_are_refused() {
        assert!(matches!(judge(&order("a", "198.51.100.3"), &context()), Verdict::Refused(_)));
        assert!(matches!(judge(&order("a", "203.0.113.99"), &context()), Verdict::Refused(_)), "the operator");
        let mut probe = order("a", "203.0.113.9");
        probe.probe = true;
        assert!(matches!(judge(&probe, &context()), Verdict::Refused(_)));
        assert!(matches!(judge(&order("a", "64.0.0.0/3"), &context()), Verdict::NoEffect(_) | Verdict::Refused(_)));
    }

    #[test]
    fn a_full_set_drops_the_oldest_of_its_family() {
        let live = |n: i64| (format!("192.0.2.{n}").parse().unwrap(), now(n));
        let six: (Network, Timestamp) = ("2001:db8::1".parse().unwrap(), now(0));
        let desired = desired((1..=5).map(live).chain([six, ("192.0.2.1".parse().unwrap(), now(9))]), 3);
        let text: Vec<_> = desired.networks.iter().map(ToString::to_string).collect();
        assert_eq!(text, ["192.0.2.1", "192.0.2.4", "192.0.2.5", "2001:db8::1"]);
        assert_eq!(desired.dropped.len(), 2);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_invented(times in prop::collection::vec((0_u8..40, 0_i64..100), 0..60), capacity in 0_usize..20) {
            let live: Vec<(Network, Timestamp)> =
                times.iter().map(|(n, at)| (format!("192.0.2.{n}").parse().unwrap(), now(*at))).collect();
            let all: BTreeSet<Network> = live.iter().map(|(network, _)| *network).collect();
            let desired = desired(live.into_iter(), capacity);
            prop_assert!(desired.networks.len() <= capacity);
            prop_assert!(desired.networks.is_disjoint(&desired.dropped));
            prop_assert_eq!(desired.networks.union(&desired.dropped).copied().collect::<BTreeSet<_>>(), all);
        }
    }
}
