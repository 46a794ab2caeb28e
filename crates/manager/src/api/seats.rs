//! Who may hold how many connections of the API. A connection takes a seat when it is accepted and gives it back when
//! it ends; who finds none is closed on at once and counted, so that nobody waits behind a flood.
//!
//! Seats are bounded in all, and by the network that they are taken from: an IPv4 address, or an IPv6 /64, since whoever
//! has one address of it has all. An eighth of all is for this machine's own 127.0.0.1 and ::1: whoever stands at the
//! machine gets in, whatever comes over the network. The table has an entry for each network with a connection, so it is
//! as bounded as those. Agents sit elsewhere ([`crate::crowd`]): no flood of the console's port takes their seats.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::guesses::network;

/// One in so many seats is for this machine itself.
const OWN_SHARE: usize = 8;
/// Between two events about refusals.
const NEWS: Duration = Duration::from_secs(60);

/// The seats. Cheap to copy.
#[derive(Clone, Debug)]
pub struct Seats {
    most: usize,
    most_of_one: usize,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_network: HashMap<IpAddr, usize>,
}

/// A seat, given back when it is dropped.
#[derive(Debug)]
pub struct Seat {
    taken: Arc<Mutex<Taken>>,
    network: IpAddr,
}

impl Seats {
    /// So many in all, and so many for one network; at least one each.
    pub fn new(most: usize, most_of_one: usize) -> Self {
        Self { most: most.max(1), most_of_one: most_of_one.max(1), taken: Arc::default() }
    }

    /// A seat for this address; `None` where there is none.
    pub fn take(&self, address: IpAddr) -> Option<Seat> {
        let network = network(address);
        let own = network == IpAddr::V4(Ipv4Addr::LOCALHOST) || address == IpAddr::V6(Ipv6Addr::LOCALHOST);
        let room = if own { self.most } else { (self.most - self.most / OWN_SHARE).max(1) };
        let mut taken = lock(&self.taken);
        let of_one = taken.by_network.get(&network).copied().unwrap_or(0);
        if taken.all >= room || of_one >= self.most_of_one {
            return None;
        }
        taken.all += 1;
        taken.by_network.insert(network, of_one + 1);
        drop(taken);
        Some(Seat { taken: Arc::clone(&self.taken), network })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        taken.all = taken.all.saturating_sub(1);
        if let Some(count) = taken.by_network.get_mut(&self.network) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                taken.by_network.remove(&self.network);
            }
        }
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Refusals that are to be told: at once where none was told within a minute, else together when it is over.
#[derive(Debug, Default)]
pub struct Refusals {
    untold: u64,
    last: Option<IpAddr>,
    told: Option<Instant>,
}

impl Refusals {
    /// One more.
    pub fn note(&mut self, address: IpAddr) {
        self.untold += 1;
        self.last = Some(network(address));
    }

    /// When the next are to be told; `None` where there are none.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        (self.untold > 0).then(|| self.told.map_or(now, |told| told + NEWS))
    }

    /// How many since the last time, and whose the last was. They are told now.
    pub fn tell(&mut self, now: Instant) -> (u64, String) {
        self.told = Some(now);
        let last = self.last.take().map(|address| address.to_string()).unwrap_or_default();
        (std::mem::take(&mut self.untold), last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_network_has_its_share_and_no_more() {
        let seats = Seats::new(100, 10);
        let taken: Vec<Seat> = std::iter::from_fn(|| seats.take(ip("192.0.2.1"))).collect();
        assert_eq!(taken.len(), 10);
        assert!(seats.take(ip("::ffff:192.0.2.1")).is_none(), "the same address in another spelling");
        let six: Vec<Seat> = (0_u16..30).filter_map(|n| seats.take(ip(&format!("2001:db8:1:2::{n:x}")))).collect();
        assert_eq!(six.len(), 10, "a /64 is one");
        assert!(seats.take(ip("2001:db8:1:3::1")).is_some());
        drop(taken);
        assert!(seats.take(ip("192.0.2.1")).is_some());
    }

    #[test]
    fn many_networks_leave_room_for_who_stands_at_the_machine() {
        let seats = Seats::new(64, 8);
        let strangers: Vec<Seat> = (1..=255).filter_map(|n| seats.take(ip(&format!("192.0.2.{n}")))).collect();
        assert_eq!(strangers.len(), 56);
        let own: Vec<Seat> = std::iter::from_fn(|| seats.take(ip("127.0.0.1"))).collect();
        assert_eq!(own.len(), 8);
        assert!(seats.take(ip("::1")).is_none(), "all are taken");
        drop((strangers, own));
        let taken = lock(&seats.taken);
        assert_eq!((taken.all, taken.by_network.len()), (0, 0), "the table is as small as the crowd");
    }

    #[test]
    fn refusals_are_told_at_once_and_then_once_a_minute() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        assert_eq!(refusals.due(now), None);
        refusals.note(ip("192.0.2.1"));
        assert_eq!(refusals.due(now), Some(now));
        assert_eq!(refusals.tell(now), (1, "192.0.2.1".to_owned()));
        for _ in 0..500 {
            refusals.note(ip("2001:db8::5"));
        }
        let later = now + NEWS;
        assert_eq!(refusals.due(now + NEWS / 2), Some(later));
        assert_eq!((refusals.tell(later), refusals.due(later)), ((500, "2001:db8::".to_owned()), None));
    }
}
