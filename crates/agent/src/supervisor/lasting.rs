//! The effects that stay until they are taken back, for the ledger: this host's isolation, and locked users.
//!
//! An isolated host keeps the way to its manager: the address and port that the uplink uses, which are the proxy's where
//! there is one. Addresses are those of the configuration, those that the uplink connected to, and those that it found for
//! the manager's name before it connects, so that a manager that moves while the host is isolated is found again. That
//! worker alone reads answers of name servers.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use sakimori_host::isolate_host::{Isolation, Known};
use sakimori_host::lock_user::Locker;
use sakimori_model::policy::Policy;
use sakimori_respond::actions::{isolate_host, lock_user};
use sakimori_respond::guard::Surroundings;
use sakimori_respond::host::HostActions;
use sakimori_respond::ports::AddressBlocker;
use sakimori_wire::token::split_address;

use crate::config::Config;
use crate::enroll::Enrolled;

/// User ids of the agent's and the manager's own workers (record 1, D16).
const WORKERS: [u32; 8] = [64_101, 64_102, 64_103, 64_104, 64_105, 64_106, 64_107, 64_108];

/// The way to the manager, and what is known of it.
#[derive(Debug, Default)]
pub struct Way {
    known: Known,
    port: Option<u16>,
    /// Its address, where the configuration names one.
    literal: Option<IpAddr>,
}

impl Way {
    /// As configuration and enrolment say.
    pub fn of(config: &Config, enrolled: Option<&Enrolled>) -> Self {
        let Some(enrolled) = enrolled else { return Self::default() };
        let (host, port) = match &config.agent.proxy {
            Some(proxy) => proxy_end(proxy),
            None => split_address(enrolled.manager(config)).map(|(host, port)| (host.to_owned(), port)),
        }
        .unzip();
        Self { known: Known::default(), port, literal: host.and_then(|host| host.parse().ok()) }
    }

    /// The manager's address, where no name has to be asked for.
    pub fn literal(&self) -> Option<IpAddr> {
        self.literal
    }

    /// Has `host` carry isolations and locks out.
    pub fn with_effects<B: AddressBlocker>(&self, host: HostActions<B>, config: &Config) -> HostActions<B> {
        let isolation = Isolation::new(&config.isolation_table(), self.known.clone());
        host.with_effect(isolate_host::ID, Box::new(isolation))
            .with_effect(lock_user::ID, Box::new(Locker::new(Path::new("/"), &WORKERS)))
    }

    /// What is known now. True where that is something else than before.
    pub fn update(&self, managers: &[IpAddr], surroundings: &Surroundings) -> bool {
        let manager: BTreeSet<SocketAddr> =
            self.port.iter().flat_map(|port| managers.iter().map(|ip| SocketAddr::new(*ip, *port))).collect();
        let resolvers = match self.literal {
            Some(_) => BTreeSet::new(),
            None => surroundings.resolvers.iter().copied().collect(),
        };
        self.known.update(|ways| {
            ways.managed = self.port.is_some();
            (ways.manager, ways.resolvers) = (manager, if ways.managed { resolvers } else { BTreeSet::new() });
        })
    }

    /// What the policy lets pass. True where that is something else than before.
    pub fn allow(&self, policy: &Policy) -> bool {
        self.known.update(|ways| ways.allow.clone_from(&policy.response.isolate_host.allow))
    }
}

/// Host and port of a proxy, `http://host:port`.
fn proxy_end(proxy: &str) -> Option<(String, u16)> {
    let rest = proxy.split_once("://").map_or(proxy, |(_, rest)| rest);
    let end = rest.split('/').next().unwrap_or_default();
    // A name and password before it are not its address.
    let end = end.rsplit_once('@').map_or(end, |(_, end)| end);
    let (host, port) = split_address(end).map_or((end, 80), |found| found);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enrolled(address: &str) -> Enrolled {
        serde_json::from_value(serde_json::json!({ "agent_id": "a", "link_address": address, "bundle_key": "" }))
            .unwrap()
    }

    #[test]
    fn the_way_is_the_manager_s_or_the_proxy_s() {
        let mut config = Config::default();
        let way = |config: &Config, address: &str| {
            let way = Way::of(config, Some(&enrolled(address)));
            (way.literal().map(|ip| ip.to_string()), way.port)
        };
        assert_eq!(way(&config, "192.0.2.1:7443"), (Some("192.0.2.1".into()), Some(7_443)));
        assert_eq!(way(&config, "[2001:db8::1]:7443"), (Some("2001:db8::1".into()), Some(7_443)));
        assert_eq!(way(&config, "manager.example:7443"), (None, Some(7_443)));
        config.agent.proxy = Some("http://192.0.2.9:3128".into());
        assert_eq!(way(&config, "manager.example:7443"), (Some("192.0.2.9".into()), Some(3_128)));
        config.agent.proxy = Some("http://ann:secret@proxy.example/".into());
        assert_eq!(way(&config, "192.0.2.1:7443"), (None, Some(80)));
        let alone = Way::of(&config, None);
        assert!(!alone.update(&["192.0.2.1".parse().unwrap()], &Surroundings::default()), "no manager, no way");
    }

    #[test]
    fn name_servers_are_asked_where_there_is_a_name_only() {
        let around = Surroundings { resolvers: vec!["192.0.2.53".parse().unwrap()], ..Surroundings::default() };
        let config = Config::default();
        let of = |address: &str| {
            let way = Way::of(&config, Some(&enrolled(address)));
            assert!(way.update(&["192.0.2.1".parse().unwrap()], &around));
            assert!(!way.update(&["192.0.2.1".parse().unwrap()], &around), "the same is no change");
            let mut found = None;
            way.known.update(|ways| found = Some(ways.clone()));
            found.unwrap()
        };
        assert!(of("192.0.2.1:7443").resolvers.is_empty());
        assert_eq!(of("manager.example:7443").resolvers.len(), 1);
    }
}
