//! Who may hold how many connections of the agents' channel. Anyone may knock, since enrolment needs no certificate; so that
//! a crowd of strangers neither keeps the agents out nor fills the memory:
//!
//! - handshakes under way are bounded in all and by address (of IPv6, a /64): a slow one takes none of another address's
//!   room;
//! - after the handshake a connection that showed no certificate of ours is a stranger's: there are few seats for those,
//!   fewer for one address, and each is taken away after [`STRANGER_TIME`], which is enough to enrol; one that fetches the
//!   agent's package by a token has [`FETCH_TIME`] more;
//! - agents have all other seats.
//!
//! Who finds no seat is closed on and counted; an agent comes back by itself with growing waits. The table has an entry
//! for each address with a connection, so it is as bounded as those.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::guesses::network;

/// Handshakes that are under way at a time.
pub const HANDSHAKES: usize = 256;
/// Of them, those of one address.
pub const HANDSHAKES_OF_ONE: usize = 64;
/// Connections of agents.
pub const AGENTS: usize = 16_384;
/// Connections without a certificate.
pub const STRANGERS: usize = 128;
/// Of them, those of one address.
pub const STRANGERS_OF_ONE: usize = 16;
/// How long a stranger may stay.
pub const STRANGER_TIME: Duration = Duration::from_secs(30);
/// How much longer, once, where it showed a token and fetches the agent's package.
pub const FETCH_TIME: Duration = Duration::from_secs(900);

/// The doorkeeper. Cheap to copy.
#[derive(Clone, Debug, Default)]
pub struct Crowd {
    counts: Arc<Mutex<Counts>>,
    turned_away: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Counts {
    handshakes: usize,
    agents: usize,
    strangers: usize,
    by_address: HashMap<IpAddr, OfOne>,
}

#[derive(Clone, Copy, Debug, Default)]
struct OfOne {
    handshakes: usize,
    strangers: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Handshake,
    Agent,
    Stranger,
}

/// Room for one connection, given back when it is dropped.
#[derive(Debug)]
pub struct Seat {
    crowd: Crowd,
    address: IpAddr,
    kind: Kind,
}

impl Crowd {
    /// Room for a handshake; `None` where there is none.
    pub fn knock(&self, address: IpAddr) -> Option<Seat> {
        self.take(address, Kind::Handshake)
    }

    /// Room for the connection whose handshake this was; `None` where there is none.
    pub fn enter(&self, handshake: Seat, known: bool) -> Option<Seat> {
        self.take(handshake.address, if known { Kind::Agent } else { Kind::Stranger })
    }

    /// How many found no room.
    pub fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    fn take(&self, address: IpAddr, kind: Kind) -> Option<Seat> {
        let address = network(address);
        let mut counts = self.counts();
        let own = counts.by_address.get(&address).copied().unwrap_or_default();
        let room = match kind {
            Kind::Handshake => counts.handshakes < HANDSHAKES && own.handshakes < HANDSHAKES_OF_ONE,
            Kind::Agent => counts.agents < AGENTS,
            Kind::Stranger => counts.strangers < STRANGERS && own.strangers < STRANGERS_OF_ONE,
        };
        if !room {
            self.turned_away.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        counts.change(address, kind, |count| count + 1);
        Some(Seat { crowd: self.clone(), address, kind })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn change(&mut self, address: IpAddr, kind: Kind, by: impl Fn(usize) -> usize) {
        match kind {
            Kind::Handshake => self.handshakes = by(self.handshakes),
            Kind::Agent => self.agents = by(self.agents),
            Kind::Stranger => self.strangers = by(self.strangers),
        }
        let own = self.by_address.entry(address).or_default();
        match kind {
            Kind::Handshake => own.handshakes = by(own.handshakes),
            Kind::Stranger => own.strangers = by(own.strangers),
            Kind::Agent => {}
        }
        if own.handshakes == 0 && own.strangers == 0 {
            self.by_address.remove(&address);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.crowd.counts().change(self.address, self.kind, |count| count.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, number])
    }

    #[test]
    fn one_address_cannot_take_all_handshakes() {
        let crowd = Crowd::default();
        let taken: Vec<Seat> = std::iter::from_fn(|| crowd.knock(address(1))).collect();
        assert_eq!(taken.len(), HANDSHAKES_OF_ONE);
        assert_eq!(crowd.turned_away(), 1, "it was closed on");
        assert!(crowd.knock("::ffff:192.0.2.1".parse().unwrap()).is_none(), "it is the same address");
        let of_one_network: Vec<Seat> =
            (0_u16..100).filter_map(|n| crowd.knock(format!("2001:db8::{n:x}").parse().unwrap())).collect();
        assert_eq!(of_one_network.len(), HANDSHAKES_OF_ONE, "a /64 is one");
        drop(of_one_network);
        let others: Vec<Seat> = (2..=255).map_while(|number| crowd.knock(address(number))).collect();
        assert_eq!(taken.len() + others.len(), HANDSHAKES);
        drop(taken);
        assert!(crowd.knock(address(1)).is_some());
    }

    #[test]
    fn strangers_have_few_seats_and_agents_the_others() {
        let crowd = Crowd::default();
        let enter = |number: u8, known: bool| crowd.enter(crowd.knock(address(number)).unwrap(), known);
        let mut strangers: Vec<Seat> = std::iter::from_fn(|| enter(1, false)).collect();
        assert_eq!(strangers.len(), STRANGERS_OF_ONE);
        strangers.extend((2..=255).flat_map(|number| [enter(number, false), enter(number, false)]).flatten());
        assert_eq!(strangers.len(), STRANGERS);
        let agents: Vec<Seat> = (0..1_000).filter_map(|_| enter(1, true)).collect();
        assert_eq!(agents.len(), 1_000, "an agent behind the same address still comes in");
        assert_eq!(crowd.counts().handshakes, 0, "each is given back when the connection enters");
        drop((strangers, agents));
        let counts = crowd.counts();
        assert!(counts.by_address.is_empty(), "the table is as small as the crowd");
        assert_eq!((counts.agents, counts.strangers), (0, 0));
    }
}
