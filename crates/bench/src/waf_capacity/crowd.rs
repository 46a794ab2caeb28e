//! Who attacks when: ever new addresses at random moments, and some that come back again and again. All follows from a seed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sakimori_model::Network;

/// One attack.
#[derive(Clone, Copy, Debug)]
pub struct Attack {
    /// When, in microseconds since the epoch.
    pub at: i64,
    /// By whom.
    pub attacker: u32,
    /// From an address of the sixth version?
    pub v6: bool,
}

/// Who there is.
#[derive(Debug)]
pub struct Plan {
    /// Those who attack once.
    pub once: u32,
    /// Those who come back; their numbers are the first.
    pub returning: u32,
    /// Seconds between two attacks of one of them.
    pub every: i64,
    /// Of a hundred so many have addresses of the sixth version.
    pub v6: u32,
    /// From which all follows.
    pub seed: u64,
}

/// The address of an attacker, public in either version.
pub fn address(attacker: u32, v6: bool) -> IpAddr {
    match v6 {
        false => IpAddr::V4(Ipv4Addr::from(0x0b00_0000 + attacker)),
        true => IpAddr::V6(Ipv6Addr::from((0x2600_1f00_u128 << 96) + (u128::from(attacker) << 64) + 1)),
    }
}

/// The entry that blocks an attacker.
pub fn entry(attack: Attack) -> Network {
    Network::host(address(attack.attacker, attack.v6))
}

/// All attacks within this time, in their order.
pub fn attacks(plan: &Plan, begin: i64, seconds: i64) -> Vec<Attack> {
    let mut random = StdRng::seed_from_u64(plan.seed);
    let span = seconds * 1_000_000;
    let v6 = |attacker: u32| attacker % 100 < plan.v6;
    let mut all: Vec<Attack> = (0..plan.once)
        .map(|number| plan.returning + number)
        .map(|attacker| Attack { at: begin + random.random_range(0..span), attacker, v6: v6(attacker) })
        .collect();
    for attacker in 0..plan.returning {
        // Half of them of either version, whoever the others are.
        let v6 = plan.v6 > 0 && attacker % 2 == 1;
        let mut at = random.random_range(0..plan.every * 1_000_000);
        while at < span {
            all.push(Attack { at: begin + at, attacker, v6 });
            at += plan.every * 1_000_000;
        }
    }
    all.sort_by_key(|attack| (attack.at, attack.attacker));
    all
}
