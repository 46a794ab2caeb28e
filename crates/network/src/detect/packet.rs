//! Tests of single packets.

use crate::app::{AppProto, Dir};
use crate::decode::{Checksum, Packet};
use crate::flow::Flow;
use crate::rules::model::{FlowWanted, Rule};
use crate::rules::packet_tests::{FlowCount, PacketTest, StreamSide, Sum, bits_hold};
use crate::rules::ranges::address_number;
use crate::rules::state::{BitCommand, FlowInt, HostBits, IntCommand, IntValue};

use super::memory::HostMemory;

/// A packet and what is known around it.
pub(crate) struct Seen<'a> {
    pub packet: &'a Packet<'a>,
    pub flow: Option<&'a Flow>,
    pub dir: Dir,
    pub established: bool,
    /// The packet's bytes are part of a stream.
    pub in_stream: bool,
    pub hosts: &'a HostMemory,
    /// Stream events of this packet.
    pub events: &'a [&'static str],
}

impl Seen<'_> {
    /// Whether the rule's header takes the packet.
    pub(crate) fn header(&self, rule: &Rule) -> bool {
        self.header_as(rule, self.flow.and_then(|flow| flow.app))
    }

    /// The same for a transaction of a protocol that the flow may have left.
    pub(crate) fn header_as(&self, rule: &Rule, known: Option<AppProto>) -> bool {
        let packet = self.packet;
        let proto = &rule.proto;
        if proto.header_only {
            return true;
        }
        if packet.version == 0 {
            return false;
        }
        if !proto.numbers.is_empty() && !proto.numbers.contains(&packet.proto) {
            return false;
        }
        if proto.version.is_some_and(|version| version != packet.version) {
            return false;
        }
        if let Some(app) = proto.app
            && !known.is_some_and(|known| app.includes(known))
        {
            return false;
        }
        self.sides(rule, packet.src, packet.sport, packet.dst, packet.dport)
            || (rule.both_ways && self.sides(rule, packet.dst, packet.dport, packet.src, packet.sport))
    }

    fn sides(&self, rule: &Rule, src: std::net::IpAddr, sport: u16, dst: std::net::IpAddr, dport: u16) -> bool {
        let ports = matches!(self.packet.proto, crate::decode::TCP | crate::decode::UDP | crate::decode::SCTP);
        let ported = |ranges: &crate::rules::ranges::Ranges, port: u16| {
            ranges.is_all() || (ports && ranges.contains(port.into()))
        };
        ported(&rule.dport, dport)
            && ported(&rule.sport, sport)
            && (rule.src.is_all() || rule.src.contains(address_number(src)))
            && (rule.dst.is_all() || rule.dst.contains(address_number(dst)))
    }

    /// Direction and state of the flow.
    pub(crate) fn flow_wanted(&self, rule: &Rule) -> bool {
        // Without a flow only `stateless` and the like can be told.
        let wanted = rule.flow.unwrap_or_default();
        if self.flow.is_none() {
            let needs = wanted.to_server || wanted.to_client || wanted.established;
            return !needs;
        }
        let direction = match self.dir {
            Dir::ToServer => rule.to_server,
            Dir::ToClient => rule.to_client,
        };
        direction && self.flow_state(&wanted)
    }

    fn flow_state(&self, wanted: &FlowWanted) -> bool {
        !(wanted.established && !self.established
            || wanted.not_established && self.established
            || wanted.only_fragment && !self.packet.reassembled
            || wanted.no_fragment && self.packet.reassembled
            || wanted.only_stream && !self.in_stream && !self.packet.made_up)
    }

    /// One test.
    pub(crate) fn holds(&self, test: &PacketTest) -> bool {
        let packet = self.packet;
        let ip4 = packet.version == 4;
        match test {
            PacketTest::Ttl(wanted) => packet.version != 0 && wanted.holds(packet.ttl),
            PacketTest::Tos(wanted) => ip4 && wanted.holds(packet.tos),
            PacketTest::Id(id) => ip4 && packet.ip_id == u32::from(*id),
            PacketTest::IpProto(wanted) => packet.version != 0 && wanted.holds(packet.proto),
            PacketTest::SameIp => packet.version != 0 && packet.src == packet.dst,
            PacketTest::IpOption(bit) => packet.ip_options & (1 << bit) != 0,
            PacketTest::IpOptionAny => packet.ip_options != 0,
            PacketTest::FragBits { mode, bits } => ip4 && bits_hold(*mode, packet.fragment & 0xe000, *bits),
            PacketTest::FragOffset(wanted) => ip4 && wanted.holds(packet.fragment & 0x1fff),
            PacketTest::Seq(seq) => packet.tcp.is_some_and(|tcp| tcp.seq == *seq),
            PacketTest::Ack(ack) => packet.tcp.is_some_and(|tcp| tcp.ack == *ack),
            PacketTest::Window { value, negated } => packet.tcp.is_some_and(|tcp| (tcp.window == *value) != *negated),
            PacketTest::Flags { mode, flags, ignored } => {
                packet.tcp.is_some_and(|tcp| bits_hold(*mode, (tcp.flags & !ignored).into(), (*flags).into()))
            }
            PacketTest::Mss(wanted) => packet.tcp.and_then(|tcp| tcp.mss).is_some_and(|mss| wanted.holds(mss)),
            PacketTest::IcmpType(wanted) => packet.icmp.is_some_and(|icmp| wanted.holds(icmp.kind)),
            PacketTest::IcmpCode(wanted) => packet.icmp.is_some_and(|icmp| wanted.holds(icmp.code)),
            PacketTest::IcmpId(id) => packet.icmp.and_then(|icmp| icmp.id) == Some(*id),
            PacketTest::IcmpSeq(seq) => packet.icmp.and_then(|icmp| icmp.sequence) == Some(*seq),
            PacketTest::Icmp6Mtu(wanted) => packet.icmp.and_then(|icmp| icmp.mtu).is_some_and(|mtu| wanted.holds(mtu)),
            PacketTest::Size(wanted) => {
                packet.version != 0 && u16::try_from(packet.payload.len()).is_ok_and(|size| wanted.holds(size))
            }
            PacketTest::Checksum { of, valid } => self.checksum(*of).is_some_and(|right| right == *valid),
            PacketTest::Event(name) => packet.events.iter().chain(self.events).any(|event| event == name),
            PacketTest::FlowBits(bits) => self.flow.is_some_and(|flow| {
                let any = bits.bits.iter().any(|bit| flow.bits.contains(bit));
                let all = bits.bits.iter().all(|bit| flow.bits.contains(bit));
                if bits.command == BitCommand::IsSet { any } else { !all || (bits.bits.len() == 1 && !any) }
            }),
            PacketTest::FlowInt(test) => self.flow.is_some_and(|flow| flow_int(flow, test)),
            PacketTest::XBits(bits) | PacketTest::HostBits(bits) => self.host_bits(bits),
            PacketTest::StreamSize { side, wanted } => self.stream_size(*side, wanted),
            PacketTest::AppProtocol { app, negated } => {
                let Some(flow) = self.flow else { return false };
                let settled = flow.app_settled.iter().any(|done| *done) || flow.app.is_some();
                match flow.app {
                    Some(known) => app.includes(known) != *negated,
                    None if settled => {
                        (*app == AppProto::Failed) != *negated
                            && (*negated || flow.app_settled.iter().all(|done| *done))
                    }
                    None => false,
                }
            }
            PacketTest::Flow { count, to_server, wanted } => self.flow.is_some_and(|flow| {
                let pick = |values: &[u64; 2]| match to_server {
                    Some(true) => values.first().copied().unwrap_or(0),
                    Some(false) => values.get(1).copied().unwrap_or(0),
                    None => values.iter().sum(),
                };
                wanted.holds(match count {
                    FlowCount::Age => u64::try_from((flow.last / 1_000_000) - (flow.began / 1_000_000)).unwrap_or(0),
                    FlowCount::Packets => pick(&flow.packets),
                    FlowCount::Bytes => pick(&flow.bytes),
                })
            }),
            PacketTest::FtpBounce => self.ftp_bounce(),
            PacketTest::Reputation { side, category, wanted } => {
                let rated = |address| self.hosts.reputation(address, category).is_some_and(|value| wanted.holds(value));
                match side {
                    1 => rated(packet.src),
                    2 => rated(packet.dst),
                    3 => rated(packet.src) && rated(packet.dst),
                    _ => rated(packet.src) || rated(packet.dst),
                }
            }
            PacketTest::Vlan { layer, wanted } => match layer {
                Some(layer) => {
                    *layer < packet.vlans && packet.vlan.get(usize::from(*layer)).is_some_and(|id| wanted.holds(*id))
                }
                None => packet.vlan.iter().take(packet.vlans.into()).any(|id| wanted.holds(*id)),
            },
        }
    }

    fn checksum(&self, of: Sum) -> Option<bool> {
        let packet = self.packet;
        let (version, proto) = match of {
            Sum::Ipv4 => {
                return match packet.ip_checksum {
                    Checksum::Absent => None,
                    state => Some(state == Checksum::Right),
                };
            }
            Sum::Tcp4 => (4, 6),
            Sum::Udp4 => (4, 17),
            Sum::Icmp4 => (4, 1),
            Sum::Tcp6 => (6, 6),
            Sum::Udp6 => (6, 17),
            Sum::Icmp6 => (6, 58),
        };
        if packet.version != version || packet.proto != proto || packet.checksum == Checksum::Absent {
            return None;
        }
        Some(packet.checksum == Checksum::Right)
    }

    fn host_bits(&self, bits: &HostBits) -> bool {
        let has = self.hosts.has(bits, self.packet);
        has == (bits.command == BitCommand::IsSet)
    }

    fn stream_size(&self, side: StreamSide, wanted: &crate::rules::number::Compare<u32>) -> bool {
        let Some(session) = self.flow.and_then(|flow| flow.tcp.as_ref()) else { return false };
        let size = |dir| {
            let stream = session.stream_ref(dir);
            stream.next_seq.wrapping_sub(stream.isn)
        };
        let (client, server) = (wanted.holds(size(Dir::ToServer)), wanted.holds(size(Dir::ToClient)));
        match side {
            StreamSide::Server => server,
            StreamSide::Client => client,
            StreamSide::Both => server && client,
            StreamSide::Either => server || client,
        }
    }

    /// A `PORT` that points at another host than the client.
    fn ftp_bounce(&self) -> bool {
        let text = self.packet.payload;
        let Some(at) = text.get(..5).filter(|word| word.eq_ignore_ascii_case(b"PORT ")) else { return false };
        let rest = text.get(at.len()..).unwrap_or_default();
        let line = std::str::from_utf8(rest.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default())
            .unwrap_or("");
        let parts: Vec<u8> = line.split(',').map_while(|part| part.trim().parse().ok()).collect();
        match parts.as_slice() {
            [a, b, c, d, ..] => self.packet.src != std::net::IpAddr::from([*a, *b, *c, *d]),
            _ => false,
        }
    }
}

fn flow_int(flow: &Flow, test: &FlowInt) -> bool {
    let have = flow.ints.get(&test.name).copied();
    let value = match test.value {
        IntValue::Number(number) => Some(number),
        IntValue::Other(name) => flow.ints.get(&name).copied(),
        IntValue::None => None,
    };
    match (test.command, have, value) {
        (IntCommand::IsSet, have, _) => have.is_some(),
        (IntCommand::IsNotSet, have, _) => have.is_none(),
        (command, Some(have), Some(value)) => match command {
            IntCommand::Equal => have == value,
            IntCommand::NotEqual => have != value,
            IntCommand::Less => have < value,
            IntCommand::AtMost => have <= value,
            IntCommand::Greater => have > value,
            _ => have >= value,
        },
        _ => false,
    }
}
