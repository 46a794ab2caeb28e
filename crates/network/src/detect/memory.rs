//! What is remembered of hosts and pairs of hosts, and how often rules alerted: all of it bounded, all of it ends.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::decode::Packet;
use crate::rules::state::{BitCommand, HostBits, Track};
use crate::rules::threshold::{Threshold, ThresholdKind};

/// Most entries of either table.
const MOST: usize = 100_000;

/// Whose count it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Whose {
    Host(IpAddr),
    Pair(IpAddr, IpAddr),
    Rule,
}

#[derive(Clone, Copy, Debug)]
struct Count {
    began: i64,
    count: u32,
    /// A rate filter is in force until then.
    until: i64,
}

/// Bits and counts.
#[derive(Debug, Default)]
pub(crate) struct HostMemory {
    bits: HashMap<(Whose, u32), i64>,
    counts: HashMap<(Whose, u64), Count>,
    reputations: HashMap<(IpAddr, String), u8>,
    /// Entries that had to go.
    pub(crate) forgotten: u64,
}

fn whose(track: Track, packet: &Packet<'_>) -> Whose {
    match track {
        Track::Dst => Whose::Host(packet.dst),
        Track::Pair | Track::Both => {
            let (one, two) = (packet.src.min(packet.dst), packet.src.max(packet.dst));
            Whose::Pair(one, two)
        }
        Track::Rule | Track::Flow => Whose::Rule,
        Track::Src => Whose::Host(packet.src),
    }
}

impl HostMemory {
    /// Forgets what rules noted; counts stay.
    pub(crate) fn forget_bits(&mut self) {
        self.bits.clear();
    }

    pub(crate) fn set_reputation(&mut self, address: IpAddr, category: &str, value: u8) {
        if self.reputations.len() < 10 * MOST {
            self.reputations.insert((address, category.to_owned()), value);
        }
    }

    pub(crate) fn reputation(&self, address: IpAddr, category: &str) -> Option<u8> {
        self.reputations.get(&(address, category.to_owned())).copied()
    }

    pub(crate) fn has(&self, bits: &HostBits, packet: &Packet<'_>) -> bool {
        self.bits.get(&(whose(bits.track, packet), bits.bit)).is_some_and(|until| *until >= packet.time)
    }

    /// Changes a bit.
    pub(crate) fn change(&mut self, bits: &HostBits, packet: &Packet<'_>) {
        let key = (whose(bits.track, packet), bits.bit);
        let set = match bits.command {
            BitCommand::Set => true,
            BitCommand::Toggle => !self.has(bits, packet),
            _ => false,
        };
        if !set {
            self.bits.remove(&key);
            return;
        }
        if self.bits.len() >= MOST {
            let now = packet.time;
            let before = self.bits.len();
            self.bits.retain(|_, until| *until >= now && *until != i64::MAX);
            self.forgotten += (before - self.bits.len()) as u64;
            if self.bits.len() >= MOST {
                self.forgotten += self.bits.len() as u64;
                self.bits.clear();
            }
        }
        self.bits.insert(key, packet.time.saturating_add(bits.expire.saturating_mul(1_000_000)));
    }

    fn entry(&mut self, track: Track, id: u64, packet: &Packet<'_>) -> &mut Count {
        let now = packet.time;
        if self.counts.len() >= MOST {
            self.forgotten += self.counts.len() as u64;
            self.counts.clear();
        }
        self.counts.entry((whose(track, packet), id)).or_insert(Count { began: now, count: 0, until: i64::MIN })
    }

    /// Whether a match becomes an alert.
    pub(crate) fn passes(&mut self, threshold: &Threshold, id: u64, packet: &Packet<'_>) -> bool {
        let now = packet.time;
        let span = threshold.seconds.saturating_mul(1_000_000);
        let entry = self.entry(threshold.track, id, packet);
        let fresh = now.saturating_sub(entry.began) >= span && entry.count > 0;
        match threshold.kind {
            ThresholdKind::Detection => {
                if fresh {
                    (entry.began, entry.count) = (now, 1);
                    return false;
                }
                entry.count += 1;
                entry.count > threshold.count
            }
            kind => {
                if fresh {
                    (entry.began, entry.count) = (now, 0);
                }
                entry.count += 1;
                match kind {
                    ThresholdKind::Limit => entry.count <= threshold.count,
                    ThresholdKind::Both => entry.count == threshold.count,
                    _ if entry.count >= threshold.count => {
                        (entry.began, entry.count) = (now, 0);
                        true
                    }
                    _ => false,
                }
            }
        }
    }

    /// Whether a rate filter changes the action now.
    pub(crate) fn rate(&mut self, threshold: &Threshold, timeout: i64, id: u64, packet: &Packet<'_>) -> bool {
        let now = packet.time;
        let span = threshold.seconds.saturating_mul(1_000_000);
        let entry = self.entry(threshold.track, id, packet);
        if entry.until != i64::MIN {
            if now < entry.until {
                return true;
            }
            *entry = Count { began: now, count: 1, until: i64::MIN };
            return false;
        }
        if entry.count == 0 || now.saturating_sub(entry.began) >= span {
            (entry.began, entry.count) = (now, 1);
            if threshold.count == 1 {
                entry.until = now.saturating_add(timeout.saturating_mul(1_000_000));
            }
            return false;
        }
        entry.count += 1;
        if entry.count > threshold.count {
            entry.until = now.saturating_add(timeout.saturating_mul(1_000_000));
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(time: i64) -> Packet<'static> {
        Packet::new(time, 1, &[])
    }

    #[test]
    fn limits_and_thresholds() {
        let count = |kind, times: &[i64]| -> Vec<bool> {
            let mut memory = HostMemory::default();
            let threshold = Threshold { kind, track: Track::Src, count: 2, seconds: 10 };
            times.iter().map(|time| memory.passes(&threshold, 1, &packet(time * 1_000_000))).collect()
        };
        assert_eq!(count(ThresholdKind::Limit, &[0, 1, 2, 11, 12]), [true, true, false, true, true]);
        assert_eq!(count(ThresholdKind::Threshold, &[0, 1, 2, 3]), [false, true, false, true]);
        assert_eq!(count(ThresholdKind::Both, &[0, 1, 2]), [false, true, false]);
        assert_eq!(count(ThresholdKind::Detection, &[0, 1, 2, 3]), [false, false, true, true]);
    }

    #[test]
    fn hosts_are_bounded() {
        let mut memory = HostMemory::default();
        let bits = HostBits { command: BitCommand::Set, bit: 1, track: Track::Src, expire: 10 };
        let mut one = packet(0);
        for number in 0..MOST as u32 + 10 {
            one.src = IpAddr::from(number.to_be_bytes());
            memory.change(&bits, &one);
        }
        assert!(memory.bits.len() <= MOST && memory.forgotten > 0);
        assert!(memory.has(&bits, &one));
        one.time = 11_000_000;
        assert!(!memory.has(&bits, &one));
    }
}
