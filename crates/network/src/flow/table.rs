//! The table of flows, by addresses, ports, protocol, VLAN and tunnel.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use super::{Flow, FlowSettings};
use crate::decode::{ICMP, ICMP6, Packet, Quoted};

/// What packets of one flow have in common, the same for both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    low: (IpAddr, u16),
    high: (IpAddr, u16),
    proto: u8,
    vlan: [u16; 3],
    tunnel: u8,
}

impl Key {
    fn new(proto: u8, one: (IpAddr, u16), other: (IpAddr, u16), vlan: [u16; 3], tunnel: u8) -> Self {
        let (low, high) = if one <= other { (one, other) } else { (other, one) };
        Self { low, high, proto, vlan, tunnel }
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

/// All flows. Flows are kept by their numbers; the key leads there.
pub(crate) struct FlowTable {
    pub(crate) settings: FlowSettings,
    keys: HashMap<Key, u64>,
    /// Boxed, so that taking one out for its packet moves no more than a pointer.
    flows: HashMap<u64, (Key, Box<Flow>)>,
    /// When each was last heard of, for finding the quietest.
    quiet: BTreeMap<(i64, u64), ()>,
    next: u64,
    /// Flows that had to go because the table was full.
    pub(crate) pushed_out: u64,
}

impl FlowTable {
    pub(crate) fn new(settings: FlowSettings) -> Self {
        Self { settings, keys: HashMap::new(), flows: HashMap::new(), quiet: BTreeMap::new(), next: 1, pushed_out: 0 }
    }

    pub(crate) fn find(&self, key: &Key) -> Option<u64> {
        self.keys.get(key).copied()
    }

    /// Takes a flow out while it is worked on; [`FlowTable::put`] brings it back.
    pub(crate) fn take(&mut self, id: u64) -> Option<(Key, Box<Flow>)> {
        let entry = self.flows.remove(&id)?;
        self.quiet.remove(&(entry.1.last, id));
        Some(entry)
    }

    pub(crate) fn put(&mut self, key: Key, flow: Box<Flow>) {
        self.quiet.insert((flow.last, flow.id), ());
        self.flows.insert(flow.id, (key, flow));
    }

    /// A new flow, and one that had to make room for it.
    pub(crate) fn open(&mut self, key: Key, packet: &Packet<'_>) -> (Box<Flow>, Option<Box<Flow>>) {
        let mut gone = None;
        if self.keys.len() >= self.settings.most
            && let Some(((_, id), ())) = self.quiet.pop_first()
        {
            self.pushed_out += 1;
            gone = self.remove(id);
        }
        let id = self.next;
        self.next += 1;
        self.keys.insert(key, id);
        (Box::new(Flow::new(packet, id)), gone)
    }

    /// Forgets a flow for good.
    pub(crate) fn remove(&mut self, id: u64) -> Option<Box<Flow>> {
        let (key, flow) = self.take(id)?;
        if self.keys.get(&key) == Some(&id) {
            self.keys.remove(&key);
        }
        Some(flow)
    }

    /// Forgets the key of a flow that was taken out.
    pub(crate) fn forget(&mut self, key: &Key) {
        self.keys.remove(key);
    }

    /// The quietest flow, if it was quiet for longer than the shortest patience.
    pub(crate) fn expired(&mut self, now: i64) -> Option<Box<Flow>> {
        let ((last, id), ()) = self.quiet.first_key_value()?;
        let (last, id) = (*last, *id);
        let (_, flow) = self.flows.get(&id)?;
        let over = last.saturating_add(flow.patience(&self.settings).saturating_mul(1_000_000)) < now;
        if over { self.remove(id) } else { None }
    }

    /// Takes the quietest flow out for good; one that spoke at this very moment stays.
    pub(crate) fn quietest(&mut self, now: i64) -> Option<Box<Flow>> {
        let ((last, id), ()) = self.quiet.first_key_value()?;
        let (last, id) = (*last, *id);
        if last >= now { None } else { self.remove(id) }
    }

    /// Every flow that is in the table.
    pub(crate) fn each(&mut self, mut work: impl FnMut(&mut Flow)) {
        self.flows.values_mut().for_each(|(_, flow)| work(flow));
    }

    /// Ids of all flows, in the order of their beginning.
    pub(crate) fn ids(&self) -> Vec<u64> {
        let mut ids: Vec<u64> = self.flows.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.flows.len()
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
            let (flow, _) = table.open(key, &packet);
            table.put(key, flow);
        }
        assert_eq!((table.len(), table.pushed_out), (10, 990));
    }
}
