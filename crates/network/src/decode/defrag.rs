//! Puts IP fragments together.
//!
//! A tracker per (addresses, identification, protocol, VLAN) keeps its fragments in the order of their offsets.
//! Where fragments overlap, the target's policy says which bytes count. Bounds: trackers, fragments of one and
//! bytes of all have limits, and a tracker is given up after a time; the oldest goes when a limit is reached.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;

/// Which bytes count where two fragments or segments overlap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overlap {
    /// Older bytes, but newer ones that begin further left.
    #[default]
    Bsd,
    /// Newer bytes that begin further left or at the same place.
    BsdRight,
    Linux,
    OldLinux,
    Windows,
    Solaris,
    First,
    Last,
}

/// Limits of defragmentation.
#[derive(Clone, Debug)]
pub struct DefragSettings {
    pub policy: Overlap,
    /// Policies of targets by network.
    pub hosts: Vec<(crate::rules::Network, Overlap)>,
    /// Microseconds.
    pub timeout: i64,
    pub trackers: usize,
    pub fragments: usize,
    pub memory: usize,
}

impl Default for DefragSettings {
    fn default() -> Self {
        Self {
            policy: Overlap::Bsd,
            hosts: Vec::new(),
            timeout: 60_000_000,
            trackers: 65_535,
            fragments: 1024,
            memory: 32 << 20,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub id: u32,
    pub proto: u8,
    pub vlan: [u16; 3],
}

/// One fragment as it came.
pub(super) struct Fragment<'a> {
    pub offset: u32,
    pub more: bool,
    pub ttl: u8,
    pub header: &'a [u8],
    pub data: &'a [u8],
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Waiting,
    Ignored,
    Whole(Whole),
}

/// A packet that is whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Whole {
    pub header: Vec<u8>,
    pub data: Vec<u8>,
}

#[derive(Debug, Default)]
struct Tracker {
    began: i64,
    header: Vec<u8>,
    /// By (offset, order of arrival).
    parts: BTreeMap<(u32, u32), Vec<u8>>,
    end: Option<u32>,
    bytes: usize,
}

/// All open packets.
#[derive(Debug)]
pub(crate) struct Defrag {
    settings: DefragSettings,
    trackers: HashMap<Key, Tracker>,
    order: VecDeque<(i64, Key)>,
    bytes: usize,
    /// Trackers given up because of a limit.
    pub(crate) given_up: u64,
}

impl Defrag {
    pub(super) fn new(settings: DefragSettings) -> Self {
        Self { settings, trackers: HashMap::new(), order: VecDeque::new(), bytes: 0, given_up: 0 }
    }

    /// Takes a fragment; the flag says that it lies over another.
    pub(super) fn add(&mut self, now: i64, key: Key, fragment: &Fragment<'_>) -> (Outcome, bool) {
        self.expire(now);
        let policy = self.policy(key.dst);
        if !self.trackers.contains_key(&key) {
            self.order.push_back((now, key));
        }
        let most = self.settings.fragments;
        let tracker = self.trackers.entry(key).or_insert_with(|| Tracker { began: now, ..Tracker::default() });
        if tracker.parts.len() >= most {
            return (Outcome::Ignored, false);
        }
        let end = fragment.offset + fragment.data.len() as u32;
        let overlap = tracker
            .parts
            .iter()
            .any(|((offset, _), data)| *offset < end && fragment.offset < offset + data.len() as u32);
        if !fragment.more {
            tracker.end = Some(tracker.end.map_or(end, |known| known.max(end)));
        }
        if fragment.offset == 0 && tracker.header.is_empty() {
            tracker.header = fragment.header.to_vec();
        }
        let _ = fragment.ttl;
        let order = tracker.parts.len() as u32;
        tracker.parts.insert((fragment.offset, order), fragment.data.to_vec());
        tracker.bytes += fragment.data.len();
        self.bytes += fragment.data.len();
        if !tracker.complete() {
            return (Outcome::Waiting, overlap);
        }
        let Some(tracker) = self.trackers.remove(&key) else { return (Outcome::Waiting, overlap) };
        self.bytes = self.bytes.saturating_sub(tracker.bytes);
        (Outcome::Whole(tracker.build(policy)), overlap)
    }

    fn policy(&self, target: IpAddr) -> Overlap {
        let fitting = self.settings.hosts.iter().filter(|(network, _)| network.contains(target));
        let host = fitting.min_by_key(|(network, _)| network.span());
        host.map_or(self.settings.policy, |host| host.1)
    }

    fn expire(&mut self, now: i64) {
        while let Some((began, key)) = self.order.front().copied() {
            let old = began.saturating_add(self.settings.timeout) < now;
            let full = self.trackers.len() >= self.settings.trackers || self.bytes > self.settings.memory;
            if !old && !full && self.trackers.contains_key(&key) {
                return;
            }
            self.order.pop_front();
            if self.trackers.get(&key).is_some_and(|tracker| tracker.began == began)
                && let Some(tracker) = self.trackers.remove(&key)
            {
                self.bytes = self.bytes.saturating_sub(tracker.bytes);
                self.given_up += u64::from(!old);
            }
        }
    }
}

impl Tracker {
    fn complete(&self) -> bool {
        let Some(end) = self.end else { return false };
        let mut reached = 0u32;
        for ((offset, _), data) in &self.parts {
            if *offset > reached {
                return false;
            }
            reached = reached.max(offset + data.len() as u32);
        }
        reached >= end && !self.header.is_empty()
    }

    /// Lays the fragments over one another as the target would.
    fn build(self, policy: Overlap) -> Whole {
        let end = self.end.unwrap_or(0) as usize;
        let mut data = vec![0u8; end];
        // For each byte, the offset of the fragment that it came from.
        let mut from: Vec<u32> = vec![u32::MAX; end];
        let mut parts: Vec<_> = self.parts.into_iter().collect();
        parts.sort_by_key(|((_, order), _)| *order);
        for ((offset, _), bytes) in parts {
            let places = data.iter_mut().zip(from.iter_mut()).skip(offset as usize);
            for ((place, origin), byte) in places.zip(bytes) {
                let newer = *origin == u32::MAX
                    || match policy {
                        Overlap::Bsd => offset < *origin,
                        Overlap::BsdRight => offset >= *origin,
                        Overlap::Linux => offset < *origin,
                        Overlap::OldLinux => offset <= *origin,
                        Overlap::Windows | Overlap::Solaris => offset < *origin,
                        Overlap::First => false,
                        Overlap::Last => true,
                    };
                if newer {
                    (*place, *origin) = (byte, offset);
                }
            }
        }
        Whole { header: self.header, data }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: u32) -> Key {
        let here = IpAddr::from([127, 0, 0, 1]);
        Key { src: here, dst: here, id, proto: 17, vlan: [0; 3] }
    }

    fn part(offset: u32, more: bool, data: &[u8]) -> Fragment<'_> {
        Fragment { offset, more, ttl: 64, header: &[0x45], data }
    }

    fn play(policy: Overlap, parts: &[(u32, bool, &[u8])]) -> Option<Vec<u8>> {
        let mut defrag = Defrag::new(DefragSettings { policy, ..DefragSettings::default() });
        parts.iter().find_map(|(offset, more, data)| match defrag.add(0, key(1), &part(*offset, *more, data)).0 {
            Outcome::Whole(whole) => Some(whole.data),
            _ => None,
        })
    }

    #[test]
    fn out_of_order() {
        assert_eq!(play(Overlap::Bsd, &[(8, false, b"end"), (0, true, b"01234567")]).unwrap(), b"01234567end");
        assert_eq!(play(Overlap::Bsd, &[(8, false, b"end")]), None);
    }

    #[test]
    fn overlap_by_policy() {
        let parts: &[(u32, bool, &[u8])] = &[(0, true, b"aaaaaaaa"), (0, true, b"bbbbbbbb"), (8, false, b"c")];
        assert_eq!(play(Overlap::First, parts).unwrap(), b"aaaaaaaac");
        assert_eq!(play(Overlap::Last, parts).unwrap(), b"bbbbbbbbc");
        assert_eq!(play(Overlap::Bsd, parts).unwrap(), b"aaaaaaaac");
    }

    #[test]
    fn a_flood_of_fragments_stays_within_the_limit() {
        let mut defrag = Defrag::new(DefragSettings { trackers: 10, ..DefragSettings::default() });
        for id in 0..1000 {
            defrag.add(0, key(id), &part(0, true, b"01234567"));
        }
        assert!(defrag.trackers.len() <= 10 && defrag.bytes <= 80);
        assert!(defrag.given_up >= 990);
        defrag.add(100_000_000, key(5000), &part(0, true, b"01234567"));
        assert_eq!(defrag.trackers.len(), 1, "the old ones are over");
    }
}
