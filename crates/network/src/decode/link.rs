//! Link layers: Ethernet with VLAN tags, Linux cooked, loopback, raw IP, PPP, Cisco HDLC, MPLS, PPPoE, NSH.

use super::{DEEPEST, Decoder, Packet, Sink};
use crate::reader::Reader;

impl Decoder {
    /// A frame of a link type.
    pub(super) fn link<'p>(&mut self, link: u32, data: &'p [u8], packet: &mut Packet<'p>, depth: u8, sink: Sink<'_>) {
        match link {
            1 => self.ethernet(data, packet, depth, sink),
            0 | 108 => {
                let Some((head, rest)) = data.split_at_checked(4) else {
                    packet.event("ltnull.pkt_too_small");
                    return sink(packet);
                };
                // The family is in the byte order of the host that captured.
                let family = head.iter().find(|byte| **byte != 0).copied().unwrap_or(0);
                match family {
                    2 => self.ipv4(rest, packet, depth, sink),
                    10 | 24 | 28 | 30 => self.ipv6(rest, packet, depth, sink),
                    _ => {
                        packet.event("ltnull.unsupported_type");
                        sink(packet);
                    }
                }
            }
            9 | 50 => self.ppp(data, packet, depth, sink),
            12 | 14 | 101 | 228 | 229 => self.raw_ip(data, packet, depth, sink),
            104 => match Reader::new(data).rest().split_at_checked(4) {
                Some(([_, _, high, low], rest)) => {
                    let kind = u16::from_be_bytes([*high, *low]);
                    self.ether_type(kind, rest, packet, depth, sink);
                }
                _ => {
                    packet.event("chdlc.pkt_too_small");
                    sink(packet);
                }
            },
            113 => match (data.get(14..16), data.get(16..)) {
                (Some([high, low]), Some(rest)) => {
                    self.ether_type(u16::from_be_bytes([*high, *low]), rest, packet, depth, sink);
                }
                _ => {
                    packet.event("sll.pkt_too_small");
                    sink(packet);
                }
            },
            276 => match (data.get(..2), data.get(20..)) {
                (Some([high, low]), Some(rest)) => {
                    self.ether_type(u16::from_be_bytes([*high, *low]), rest, packet, depth, sink);
                }
                _ => {
                    packet.event("sll2.pkt_too_small");
                    sink(packet);
                }
            },
            _ => sink(packet),
        }
    }

    /// IP without a link layer.
    pub(super) fn raw_ip<'p>(&mut self, data: &'p [u8], packet: &mut Packet<'p>, depth: u8, sink: Sink<'_>) {
        match data.first().map(|byte| byte >> 4) {
            Some(4) => self.ipv4(data, packet, depth, sink),
            Some(6) => self.ipv6(data, packet, depth, sink),
            _ => {
                packet.event("ipraw.invalid_ip_version");
                sink(packet);
            }
        }
    }

    pub(super) fn ethernet<'p>(&mut self, data: &'p [u8], packet: &mut Packet<'p>, depth: u8, sink: Sink<'_>) {
        match (data.get(12..14), data.get(14..)) {
            (Some([high, low]), Some(rest)) => {
                self.ether_type(u16::from_be_bytes([*high, *low]), rest, packet, depth, sink);
            }
            _ => {
                packet.event("ethernet.pkt_too_small");
                sink(packet);
            }
        }
    }

    /// What follows an EtherType.
    pub(super) fn ether_type<'p>(
        &mut self,
        kind: u16,
        data: &'p [u8],
        packet: &mut Packet<'p>,
        depth: u8,
        sink: Sink<'_>,
    ) {
        if depth >= DEEPEST {
            packet.event("too_many_layers");
            return sink(packet);
        }
        let depth = depth + 1;
        match kind {
            0x0800 => self.ipv4(data, packet, depth, sink),
            0x86dd => self.ipv6(data, packet, depth, sink),
            0x8100 | 0x88a8 | 0x9100 => self.vlan(data, packet, depth, sink),
            0x8863 | 0x8864 => self.pppoe(kind, data, packet, depth, sink),
            0x8847 | 0x8848 => self.mpls(data, packet, depth, sink),
            0x6558 => self.ethernet(data, packet, depth, sink),
            0x880b => self.ppp(data, packet, depth, sink),
            0x894f => self.nsh(data, packet, depth, sink),
            0x8926 => match data.get(4..6) {
                Some([high, low]) => {
                    let inner = u16::from_be_bytes([*high, *low]);
                    self.ether_type(inner, data.get(6..).unwrap_or_default(), packet, depth, sink);
                }
                _ => {
                    packet.event("vntag.header_too_small");
                    sink(packet);
                }
            },
            0x0806 => sink(packet),
            _ => {
                packet.event("ethernet.unknown_ethertype");
                sink(packet);
            }
        }
    }

    fn vlan<'p>(&mut self, data: &'p [u8], packet: &mut Packet<'p>, depth: u8, sink: Sink<'_>) {
        let mut reader = Reader::new(data);
        let (Some(tag), Some(kind)) = (reader.u16(), reader.u16()) else {
            packet.event("vlan.header_too_small");
            return sink(packet);
        };
        let Some(slot) = packet.vlan.get_mut(usize::from(packet.vlans)) else {
            packet.event("vlan.too_many_layers");
            return sink(packet);
        };
        *slot = tag & 0x0fff;
        packet.vlans += 1;
        self.ether_type(kind, reader.rest(), packet, depth, sink);
    }

    fn pppoe<'p>(&mut self, kind: u16, data: &'p [u8], packet: &mut Packet<'p>, depth: u8, sink: Sink<'_>) {
        let mut reader = Reader::new(data);
        let (Some(_), Some(_), Some(_)) = (reader.u16(), reader.u16(), reader.u16()) else {
            packet.event("pppoe.pkt_too_small");
            return sink(packet);
        };
        if kind == 0x8863 {
            return sink(packet);
        }
        self.ppp_protocol(reader.rest(), packet, depth, sink);
    }

    pub(super) fn ppp<'p>(&mut self, data: &'p [u8], packet: &mut Packet<'p>, depth: u8, sink: Sink<'_>) {
        // Address and control fields may be there or not.
        let data = data.strip_prefix(&[0xff, 0x03]).unwrap_or(data);
        self.ppp_protocol(data, packet, depth, sink);
    }

    fn ppp_protocol<'p>(&mut self, data: &'p [u8], packet: &mut Packet<'p>, depth: u8, sink: Sink<'_>) {
        if depth >= DEEPEST {
            packet.event("too_many_layers");
            return sink(packet);
        }
        let (protocol, rest) = match data {
            [one, rest @ ..] if one & 1 == 1 => (u16::from(*one), rest),
            [high, low, rest @ ..] => (u16::from_be_bytes([*high, *low]), rest),
            _ => {
                packet.event("ppp.pkt_too_small");
                return sink(packet);
            }
        };
        match protocol {
            0x21 => self.ipv4(rest, packet, depth + 1, sink),
            0x57 => self.ipv6(rest, packet, depth + 1, sink),
            0x2f | 0x2d => {
                if rest.len() < 40 {
                    packet.event("ppp.vju_pkt_too_small");
                }
                sink(packet);
            }
            0x8021 | 0x8057 | 0xc021 | 0xc023 | 0xc025 | 0xc223 | 0x80fd | 0xc02b | 0xc22b => {
                packet.event("ppp.unsup_proto");
                sink(packet);
            }
            _ => {
                packet.event("ppp.wrong_type");
                sink(packet);
            }
        }
    }

    fn mpls<'p>(&mut self, data: &'p [u8], packet: &mut Packet<'p>, depth: u8, sink: Sink<'_>) {
        let mut reader = Reader::new(data);
        let mut labels = 0;
        loop {
            let Some(entry) = reader.u32() else {
                packet.event("mpls.header_too_small");
                return sink(packet);
            };
            labels += 1;
            if labels > DEEPEST {
                packet.event("too_many_layers");
                return sink(packet);
            }
            if entry & 0x100 == 0 {
                continue;
            }
            let rest = reader.rest();
            return match (entry >> 12, rest.first().map(|byte| byte >> 4)) {
                (0, _) | (_, Some(4)) => self.ipv4(rest, packet, depth, sink),
                (2, _) | (_, Some(6)) => self.ipv6(rest, packet, depth, sink),
                (_, Some(0)) => self.ethernet(rest.get(4..).unwrap_or_default(), packet, depth, sink),
                _ => self.ethernet(rest, packet, depth, sink),
            };
        }
    }

    /// Network service header (RFC 8300).
    fn nsh<'p>(&mut self, data: &'p [u8], packet: &mut Packet<'p>, depth: u8, sink: Sink<'_>) {
        let mut reader = Reader::new(data);
        let (Some(first), Some(kind), Some(protocol)) = (reader.u16(), reader.u8(), reader.u8()) else {
            packet.event("nsh.header_too_small");
            return sink(packet);
        };
        let length = usize::from(first & 0x3f) * 4;
        let Some(rest) = data.get(length.max(8)..) else {
            packet.event("nsh.bad_header_length");
            return sink(packet);
        };
        match kind {
            1 if length != 24 => packet.event("nsh.bad_header_length"),
            1 | 2 => {}
            0 | 15 => packet.event("nsh.reserved_type"),
            _ => packet.event("nsh.unsupported_type"),
        }
        match protocol {
            1 => self.ipv4(rest, packet, depth, sink),
            2 => self.ipv6(rest, packet, depth, sink),
            3 => self.ethernet(rest, packet, depth, sink),
            _ => {
                packet.event("nsh.unknown_payload");
                sink(packet);
            }
        }
    }
}
