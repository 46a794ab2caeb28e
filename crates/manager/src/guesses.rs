//! A bound on guesses of enrolment tokens, by the network that they come from: an IPv4 address, or an IPv6 /64, since
//! whoever has one address of it has all. A secret of 256 bits is not guessed; what is bounded is what trying costs here.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use sakimori_model::Timestamp;

/// Wrong tokens that a network has in [`WINDOW`]; then it waits for the window's end.
pub const MOST: u32 = 10;
/// Length of a window, in seconds.
pub const WINDOW: i64 = 60;
/// Networks that are counted at a time. All others share one count.
pub const MOST_NETWORKS: usize = 4_096;

/// Counts wrong tokens.
#[derive(Debug, Default)]
pub struct Guesses {
    networks: HashMap<IpAddr, (Timestamp, u32)>,
    others: Option<(Timestamp, u32)>,
}

impl Guesses {
    /// For how many seconds this address has to wait; 0 where it may try.
    pub fn wait(&self, address: IpAddr, now: Timestamp) -> i64 {
        let full = self.networks.len() >= MOST_NETWORKS;
        let counted = self.networks.get(&network(address)).copied().or(self.others.filter(|_| full));
        match counted {
            Some((since, wrong)) if wrong >= MOST && !is_over(since, now) => {
                (WINDOW - now.since(since) / 1_000_000).max(1)
            }
            _ => 0,
        }
    }

    /// Notes a wrong token.
    pub fn wrong(&mut self, address: IpAddr, now: Timestamp) {
        let network = network(address);
        if self.networks.len() >= MOST_NETWORKS && !self.networks.contains_key(&network) {
            self.networks.retain(|_, (since, _)| !is_over(*since, now));
        }
        let room = self.networks.len() < MOST_NETWORKS || self.networks.contains_key(&network);
        let counted = match room {
            true => self.networks.entry(network).or_insert((now, 0)),
            false => self.others.get_or_insert((now, 0)),
        };
        if is_over(counted.0, now) {
            *counted = (now, 0);
        }
        counted.1 = counted.1.saturating_add(1);
    }
}

fn is_over(since: Timestamp, now: Timestamp) -> bool {
    now.since(since) >= WINDOW * 1_000_000
}

/// What counts as one: an IPv4 address, or the first address of an IPv6 /64.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(1_000_000 + seconds)
    }

    #[test]
    fn a_network_waits_after_its_wrong_tokens_and_no_other_does() {
        let mut guesses = Guesses::default();
        let from: IpAddr = "2001:db8:1:2::5".parse().unwrap();
        for _ in 0..MOST {
            assert_eq!(guesses.wait(from, at(0)), 0);
            guesses.wrong(from, at(0));
        }
        assert_eq!(guesses.wait(from, at(10)), 50);
        assert_eq!(guesses.wait("2001:db8:1:2:ffff::1".parse().unwrap(), at(10)), 50, "the same /64");
        assert_eq!(guesses.wait("2001:db8:1:3::5".parse().unwrap(), at(10)), 0);
        assert_eq!(guesses.wait(from, at(WINDOW)), 0, "its time is over");
        guesses.wrong(from, at(WINDOW));
        assert_eq!(guesses.wait(from, at(WINDOW)), 0, "a new window begins with one");
    }

    #[test]
    fn more_networks_than_are_counted_share_one_count_and_make_nothing_grow() {
        let mut guesses = Guesses::default();
        let address = |number: u32| IpAddr::from(number.to_be_bytes());
        let most = u32::try_from(MOST_NETWORKS).unwrap();
        for number in 0..most + MOST {
            guesses.wrong(address(number), at(0));
        }
        assert_eq!(guesses.networks.len(), MOST_NETWORKS);
        assert!(guesses.wait(address(most + 5_000), at(1)) > 0, "one that was never seen waits with the others");
        assert_eq!(guesses.wait(address(7), at(1)), 0, "one that is counted by itself does not");
        guesses.wrong(address(most + 5_000), at(WINDOW));
        assert_eq!(guesses.networks.len(), 1, "windows that are over make room");
    }
}
