//! The table of flows, by addresses, ports, protocol, VLAN and tunnel.

use std::collections::HashMap;
use std::net::IpAddr;

use super::{Flow, FlowSettings};
use crate::decode::{ICMP, ICMP6, Packet, Quoted};
use crate::rules::ranges::address_number;

/// What packets of one flow have in common, the same for both directions. Numbers, since they are quick to hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    low: u128,
    high: u128,
    ports: u32,
    proto: u8,
    /// IP version of the addresses, since one number can be of both.
    version: u8,
    vlan: [u16; 3],
    tunnel: u8,
}

impl Key {
    fn new(proto: u8, one: (IpAddr, u16), other: (IpAddr, u16), vlan: [u16; 3], tunnel: u8) -> Self {
        let version = if one.0.is_ipv4() { 4 } else { 6 };
        let [one, other] = [one, other].map(|(address, port)| (address_number(address), u32::from(port)));
        let (low, high) = if one <= other { (one, other) } else { (other, one) };
        Self { low: low.0, high: high.0, ports: low.1 << 16 | high.1, proto, version, vlan, tunnel }
    }

    pub(crate) fn of(packet: &Packet<'_>) -> Self {
        let ports = if matches!(packet.proto, ICMP | ICMP6) {
            // A question and its answer are one flow.
            let kind = packet.icmp.map_or(0, |icmp| family(packet.proto, icmp.kind));
            let id = packet.icmp.and_then(|icmp| icmp.id).unwrap_or(0);
            (kind.into(), kind.into(), id)
        } else {
            (packet.sport, packet.dport, 0)
        };
        let _ = ports.2;
        Self::new(packet.proto, (packet.src, ports.0), (packet.dst, ports.1), packet.vlan, packet.tunnel)
    }

    /// The flow that an ICMP error is about.
    pub(crate) fn quoted(quoted: &Quoted, packet: &Packet<'_>) -> Self {
        Self::new(quoted.proto, (quoted.src, quoted.sport), (quoted.dst, quoted.dport), packet.vlan, packet.tunnel)
    }
}

/// One number for a type of ICMP and the type of its answer.
fn family(proto: u8, kind: u8) -> u8 {
    match (proto, kind) {
        (ICMP, 0) => 8,
        (ICMP, 14) => 13,
        (ICMP, 16) => 15,
        (ICMP, 18) => 17,
        (ICMP6, 129) => 128,
        (_, kind) => kind,
    }
}

/// No place.
const NONE: u32 = u32::MAX;

/// A place of the table; it keeps its flow's key while the flow is out for its packet.
struct Place {
    key: Key,
    flow: Option<Box<Flow>>,
    /// The neighbours in the order of use.
    older: u32,
    newer: u32,
}

/// All flows, in places that are used again; places are linked in the order in which they were last used, so that the
/// quietest is found at once. The hash of keys is seeded at random: who sends packets cannot choose ones that collide.
pub(crate) struct FlowTable {
    pub(crate) settings: FlowSettings,
    keys: HashMap<Key, u32, ahash::RandomState>,
    places: Vec<Place>,
    free: Vec<u32>,
    oldest: u32,
    newest: u32,
    next: u64,
    /// Flows that had to go because the table was full.
    pub(crate) pushed_out: u64,
}

impl FlowTable {
    pub(crate) fn new(settings: FlowSettings) -> Self {
        Self {
            settings,
            keys: HashMap::default(),
            places: Vec::new(),
            free: Vec::new(),
            oldest: NONE,
            newest: NONE,
            next: 1,
            pushed_out: 0,
        }
    }

    /// The place of a flow.
    pub(crate) fn find(&self, key: &Key) -> Option<u32> {
        self.keys.get(key).copied()
    }

    fn place(&mut self, at: u32) -> Option<&mut Place> {
        self.places.get_mut(at as usize)
    }

    /// Takes a flow out while it is worked on; [`FlowTable::put`] brings it back.
    pub(crate) fn take(&mut self, at: u32) -> Option<Box<Flow>> {
        self.place(at)?.flow.take()
    }

    /// Brings it back, as the one that was used last.
    pub(crate) fn put(&mut self, at: u32, flow: Box<Flow>) {
        let Some(place) = self.place(at) else { return };
        place.flow = Some(flow);
        if self.newest != at {
            self.unlink(at);
            self.link(at);
        }
    }

    fn link(&mut self, at: u32) {
        let last = self.newest;
        if let Some(place) = self.place(at) {
            (place.older, place.newer) = (last, NONE);
        }
        match self.place(last) {
            Some(place) => place.newer = at,
            None => self.oldest = at,
        }
        self.newest = at;
    }

    fn unlink(&mut self, at: u32) {
        let Some((older, newer)) = self.place(at).map(|place| (place.older, place.newer)) else { return };
        match self.place(older) {
            Some(place) => place.newer = newer,
            None => self.oldest = newer,
        }
        match self.place(newer) {
            Some(place) => place.older = older,
            None => self.newest = older,
        }
    }

    /// A new flow with its place, and one that had to make room for it.
    pub(crate) fn open(&mut self, key: Key, packet: &Packet<'_>) -> (u32, Box<Flow>, Option<Box<Flow>>) {
        let mut gone = None;
        if self.keys.len() >= self.settings.most {
            self.pushed_out += 1;
            gone = self.remove(self.oldest);
        }
        let fresh = Place { key, flow: None, older: NONE, newer: NONE };
        let at = match self.free.pop() {
            Some(at) => {
                if let Some(place) = self.place(at) {
                    *place = fresh;
                }
                at
            }
            None => {
                self.places.push(fresh);
                u32::try_from(self.places.len() - 1).unwrap_or(NONE)
            }
        };
        self.link(at);
        self.keys.insert(key, at);
        let id = self.next;
        self.next += 1;
        (at, Box::new(Flow::new(packet, id)), gone)
    }

    /// Forgets a flow for good, and gives it where it was not taken out.
    pub(crate) fn remove(&mut self, at: u32) -> Option<Box<Flow>> {
        let place = self.place(at)?;
        let (key, flow) = (place.key, place.flow.take());
        self.unlink(at);
        self.keys.remove(&key);
        self.free.push(at);
        flow
    }

    /// The quietest flow, if it was quiet for longer than its patience.
    pub(crate) fn expired(&mut self, now: i64) -> Option<Box<Flow>> {
        let flow = self.places.get(self.oldest as usize)?.flow.as_ref()?;
        let over = flow.last.saturating_add(flow.patience(&self.settings).saturating_mul(1_000_000)) < now;
        if over { self.remove(self.oldest) } else { None }
    }

    /// Takes the quietest flow out for good; one that spoke at this very moment stays.
    pub(crate) fn quietest(&mut self, now: i64) -> Option<Box<Flow>> {
        let flow = self.places.get(self.oldest as usize)?.flow.as_ref()?;
        if flow.last >= now { None } else { self.remove(self.oldest) }
    }

    /// Every flow that is in the table.
    pub(crate) fn each(&mut self, work: impl FnMut(&mut Flow)) {
        self.places.iter_mut().filter_map(|place| place.flow.as_deref_mut()).for_each(work);
    }

    /// Takes all flows out, in the order of their beginning.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Box<Flow>> + use<> {
        self.keys.clear();
        self.free.clear();
        (self.oldest, self.newest) = (NONE, NONE);
        let mut places = std::mem::take(&mut self.places);
        places.sort_unstable_by_key(|place| place.flow.as_ref().map(|flow| flow.id));
        places.into_iter().filter_map(|place| place.flow)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.keys.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_are_one_flow_and_the_table_is_bounded() {
        let mut packet = Packet::new(0, 1, &[]);
        packet.proto = 6;
        (packet.sport, packet.dport) = (1, 2);
        packet.dst = IpAddr::from([1, 1, 1, 1]);
        let mut back = packet.clone();
        std::mem::swap(&mut back.src, &mut back.dst);
        std::mem::swap(&mut back.sport, &mut back.dport);
        assert_eq!(Key::of(&packet), Key::of(&back));

        let mut table = FlowTable::new(FlowSettings { most: 10, ..FlowSettings::default() });
        for port in 0..1000 {
            packet.sport = port;
            packet.time = port.into();
            let key = Key::of(&packet);
            let (at, flow, _) = table.open(key, &packet);
            table.put(at, flow);
        }
        assert_eq!((table.len(), table.places.len(), table.pushed_out), (10, 10, 990));
    }

    #[test]
    fn whoever_was_quiet_longest_goes_first() {
        let mut packet = Packet::new(0, 1, &[]);
        packet.proto = 17;
        let mut table = FlowTable::new(FlowSettings { most: 3, ..FlowSettings::default() });
        let mut open = |port: u16, table: &mut FlowTable| {
            packet.sport = port;
            let key = Key::of(&packet);
            let (at, flow, gone) = table.open(key, &packet);
            table.put(at, flow);
            (key, gone.map(|flow| flow.client_port))
        };
        let [one, two, _] = [1, 2, 3].map(|port| open(port, &mut table).0);
        let at = table.find(&one).unwrap();
        let flow = table.take(at).unwrap();
        table.put(at, flow);
        assert_eq!(open(4, &mut table).1, Some(2), "1 was used after it");
        assert_eq!(table.find(&two), None);
        let at = table.find(&one).unwrap();
        assert_eq!(table.remove(at).map(|flow| flow.client_port), Some(1));
        assert_eq!(open(5, &mut table).1, None);
        assert_eq!(open(6, &mut table).1, Some(3));
        let left: Vec<u16> = table.drain().map(|flow| flow.client_port).collect();
        assert_eq!((left, table.len()), (vec![4, 5, 6], 0));
    }
}
