//! The guard: what is never blocked on a host, whatever a policy, a playbook or the manager says. Pure.
//!
//! A block that hits the owner's own way in is worse than the attack it answers. So loopback, link-local and
//! multicast, the host's own addresses, gateways, resolvers, the manager and the peers of established ssh
//! sessions are refused, as are the allow-list and trusted proxies, and any network that overlaps one of them.

use std::net::IpAddr;

use sakimori_model::action::Target;
use sakimori_model::address::is_special;
use sakimori_model::policy::Response;
use sakimori_model::{Network, Order, Timestamp};

use crate::actions::{block_address, short};

/// The shortest prefix that may be blocked: a wider network is a mistake.
pub const WIDEST: (u8, u8) = (8, 16);

/// What surrounds a host and must never be blocked there. Read from the system by the caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Its own addresses.
    pub own: Vec<IpAddr>,
    /// Gateways of its routes.
    pub gateways: Vec<IpAddr>,
    /// Name servers that it asks.
    pub resolvers: Vec<IpAddr>,
    /// Addresses of the manager, and of the proxy on the way to it.
    pub manager: Vec<IpAddr>,
    /// Peers of ssh sessions that are established now.
    pub ssh_peers: Vec<IpAddr>,
}

/// All that a judgement depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuardContext {
    /// Never blocked anywhere, by policy.
    pub allow: Vec<Network>,
    /// Never blocked anywhere, since others come through them.
    pub trusted_proxies: Vec<Network>,
    /// Never blocked on this host.
    pub surroundings: Surroundings,
    /// Addresses from which operators are signed in at the manager now.
    pub operators: Vec<IpAddr>,
    /// Never blocked on this host, by its mandate.
    pub excepted: Vec<Network>,
    /// Playbooks that do not run, by policy.
    pub playbooks_off: Vec<String>,
}

/// Most addresses of operators that are respected.
pub const MOST_OPERATORS: usize = 64;

impl GuardContext {
    /// From the policy's answers and what surrounds the host.
    pub fn new(response: &Response, surroundings: Surroundings) -> Self {
        Self {
            allow: response.allow.clone(),
            trusted_proxies: response.trusted_proxies.clone(),
            surroundings,
            playbooks_off: response.playbooks_off.clone(),
            ..Self::default()
        }
    }

    /// Why an order of a playbook that is switched off is refused.
    pub fn switched_off(&self, order: &Order) -> Option<String> {
        let playbook = order.cause.by.strip_prefix("playbook:")?;
        let off = self.playbooks_off.iter().any(|one| one == playbook);
        off.then(|| format!("the playbook {playbook} is switched off by policy (response.playbooks_off)"))
    }
}

/// What the guard says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may be carried out.
    Allowed,
    /// A rule forbids it, and which.
    Refused(String),
    /// It would change nothing here, and why.
    NoEffect(String),
}

/// May this order be carried out on this host?
pub fn judge(order: &Order, context: &GuardContext) -> Verdict {
    if order.action != block_address::ID {
        return Verdict::Refused(format!("this host has no action named {}", short(&order.action)));
    }
    let Target::Network(network) = &order.target else {
        return Verdict::Refused(format!("{} acts on an address or a network", block_address::ID));
    };
    if let Some(reason) = never(network, context) {
        return Verdict::Refused(reason);
    }
    if let Some(proxy) = order.via {
        return Verdict::NoEffect(format!("no effect here: arrives through proxy {proxy}"));
    }
    Verdict::Allowed
}

/// Why this network is never blocked here; `None` where it may be.
pub fn never(network: &Network, context: &GuardContext) -> Option<String> {
    if is_special(network) {
        return Some(format!("never blocked: {network} is or holds a loopback, link-local or multicast address"));
    }
    let widest = if network.address().is_ipv4() { WIDEST.0 } else { WIDEST.1 };
    if network.prefix() < widest {
        return Some(format!("never blocked: {network} is wider than /{widest}"));
    }
    let around = &context.surroundings;
    let addresses: [(&[IpAddr], &str); 6] = [
        (&around.own, "an address of this host"),
        (&around.gateways, "a gateway of this host"),
        (&around.resolvers, "a name server of this host"),
        (&around.manager, "the manager's address"),
        (&around.ssh_peers, "the peer of an established ssh session"),
        (&context.operators, "an address from which an operator is signed in"),
    ];
    for (list, what) in addresses {
        if let Some(hit) = list.iter().find(|address| network.contains(**address)) {
            return Some(format!("never blocked: {hit} is {what}"));
        }
    }
    if let Some(entry) = context.excepted.iter().find(|entry| entry.overlaps(network)) {
        return Some(format!("never blocked: {entry} is excepted by this host's mandate"));
    }
    shared(network, &context.allow, &context.trusted_proxies)
}

/// Why this network is never blocked anywhere: it overlaps the allow-list or a trusted proxy.
pub fn shared(network: &Network, allow: &[Network], trusted_proxies: &[Network]) -> Option<String> {
    let hit = |list: &[Network]| list.iter().find(|entry| entry.overlaps(network)).copied();
    if let Some(entry) = hit(allow) {
        return Some(format!("never blocked: {entry} is on the allow-list"));
    }
    hit(trusted_proxies).map(|entry| format!("never blocked: {entry} is a trusted proxy or load balancer"))
}

/// How many new blocks the last minute saw, in sixty counts of a second each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Seconds since the epoch and new blocks in them, oldest first, at most 61.
    seconds: std::collections::VecDeque<(i64, u32)>,
}

impl Rate {
    /// Counts one more if the minute has room for it.
    pub fn take(&mut self, now: Timestamp, most_per_minute: u32) -> bool {
        let second = now.micros().div_euclid(1_000_000);
        // A clock that was set back must not stop the counting until it has caught up.
        self.seconds.retain(|(at, _)| *at > second - 60 && *at <= second);
        let count: u32 = self.seconds.iter().map(|(_, count)| *count).fold(0, u32::saturating_add);
        if count >= most_per_minute {
            return false;
        }
        match self.seconds.back_mut() {
            Some((at, count)) if *at == second => *count += 1,
            _ => self.seconds.push_back((second, 1)),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{now, order};
    use proptest::prelude::*;

    fn context() -> GuardContext {
        let ip = |text: &str| vec![text.parse().unwrap()];
        GuardContext {
            allow: vec!["198.51.100.0/28".parse().unwrap()],
            trusted_proxies: vec!["203.0.113.80".parse().unwrap()],
            surroundings: Surroundings {
                own: ip("192.0.2.10"),
                gateways: ip("192.0.2.1"),
                resolvers: ip("2001:db8::53"),
                manager: ip("192.0.2.200"),
                ssh_peers: ip("2001:db8:5::7"),
            },
            operators: ip("192.0.2.99"),
            excepted: vec!["203.0.113.128/25".parse().unwrap()],
            playbooks_off: Vec::new(),
        }
    }

    fn reason(target: &str) -> String {
        match judge(&order("a", target), &context()) {
            Verdict::Refused(reason) => reason,
            other => panic!("{target}: {other:?}"),
        }
    }

    #[test]
    fn each_refusal_says_why() {
        for (target, why) in [
            ("127.0.0.1", "loopback"),
            ("::1", "loopback"),
            ("::ffff:127.0.0.1", "loopback"),
            ("169.254.169.254", "link-local"),
            ("ff02::1", "multicast"),
            ("192.0.2.10", "an address of this host"),
            ("::ffff:192.0.2.10", "an address of this host"),
            ("192.0.2.0/29", "192.0.2.1 is a gateway"),
            ("2001:db8::/64", "a name server"),
            ("192.0.2.200", "the manager"),
            ("2001:db8:5::7", "ssh session"),
            ("192.0.2.99", "an operator is signed in"),
            ("203.0.113.200", "this host's mandate"),
            ("198.51.100.3", "198.51.100.0/28 is on the allow-list"),
            ("198.51.0.0/16", "allow-list"),
            ("203.0.113.80", "trusted proxy"),
            ("0.0.0.0/0", "loopback"),
            ("8.0.0.0/7", "wider than /8"),
        ] {
            assert!(reason(target).contains(why), "{target}: {}", reason(target));
        }
        assert_eq!(judge(&order("a", "198.51.100.99"), &context()), Verdict::Allowed);
        assert_eq!(judge(&order("a", "10.20.30.40"), &context()), Verdict::Allowed, "attackers may be within");
    }

    #[test]
    fn a_client_behind_a_proxy_is_no_target_here() {
        let mut order = order("a", "198.51.100.99");
        order.via = Some("203.0.113.80".parse().unwrap());
        let said = Verdict::NoEffect("no effect here: arrives through proxy 203.0.113.80".to_owned());
        assert_eq!(judge(&order, &context()), said);
    }

    #[test]
    fn unknown_actions_and_targets_are_refused() {
        let mut wrong = order("a", "198.51.100.99");
        wrong.action = "rm\n-rf".to_owned();
        assert_eq!(judge(&wrong, &context()), Verdict::Refused("this host has no action named rm-rf".to_owned()));
        let mut channel = order("a", "198.51.100.99");
        channel.target = Target::Channel("ops".to_owned());
        assert!(matches!(judge(&channel, &context()), Verdict::Refused(_)));
    }

    #[test]
    fn the_rate_is_of_any_minute_and_survives_clock_jumps() {
        let mut rate = Rate::default();
        assert_eq!((0..10).filter(|_| rate.take(now(0), 5)).count(), 5);
        assert!(!rate.take(now(59), 5));
        assert!(rate.take(now(60), 5));
        let mut rate = Rate::default();
        assert!(rate.take(now(10_000), 1));
        assert!(rate.take(now(0), 1), "the clock was set back");
        for second in 0..10_000 {
            rate.take(now(second), u32::MAX);
        }
        assert!(rate.seconds.len() <= 61);
    }

    fn network() -> impl Strategy<Value = Network> {
        (any::<u128>(), 0_u8..=128, any::<bool>(), 0_usize..12).prop_map(|(bits, prefix, v4, pick)| {
            let known = [
                "192.0.2.10",
                "192.0.2.1",
                "2001:db8::53",
                "192.0.2.200",
                "2001:db8:5::7",
                "198.51.100.3",
                "203.0.113.80",
                "127.0.0.1",
            ];
            let address: IpAddr = match known.get(pick) {
                Some(text) => text.parse().unwrap(),
                None if v4 => IpAddr::V4((bits as u32).into()),
                None => IpAddr::V6(bits.into()),
            };
            Network::new(address, if address.is_ipv4() { prefix % 33 } else { prefix }).unwrap()
        })
    }

    proptest! {
        #[test]
        fn what_is_allowed_holds_nothing_that_is_protected(network in network()) {
            let context = context();
            let mut order = order("a", "192.0.2.1");
            order.target = Target::Network(network);
            if judge(&order, &context) == Verdict::Allowed {
                let around = &context.surroundings;
                for list in [&around.own, &around.gateways, &around.resolvers, &around.manager, &around.ssh_peers] {
                    prop_assert!(list.iter().all(|address| !network.contains(*address)));
                }
                for entry in context.allow.iter().chain(&context.trusted_proxies) {
                    prop_assert!(!entry.overlaps(&network));
                }
                prop_assert!(!is_special(&network));
            }
        }
    }
}
