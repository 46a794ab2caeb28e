//! What an IP packet holds: TCP, UDP, ICMP, SCTP, and what tunnels it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Checksum, Decoder, ICMP, ICMP6, Icmp, Packet, Quoted, SCTP, Sink, TCP, Tcp, UDP};
use crate::reader::{Reader, u16_at, u32_at};

impl Decoder {
    /// Goes by the IP protocol number.
    pub(super) fn ip_body<'p>(&mut self, packet: &mut Packet<'p>, depth: u8, sink: Sink<'_>) {
        match packet.proto {
            TCP => {
                self.tcp(packet);
                sink(packet);
            }
            UDP => {
                self.udp(packet);
                self.udp_tunnel(packet, depth, sink);
                sink(packet);
            }
            ICMP if packet.version == 4 => {
                self.icmp4(packet);
                sink(packet);
            }
            ICMP6 if packet.version == 6 => {
                self.icmp6(packet);
                sink(packet);
            }
            SCTP => {
                sctp(packet);
                sink(packet);
            }
            4 | 41 | 47 => self.ip_tunnel(packet, depth, sink),
            _ => {
                packet.payload = packet.ip_payload;
                sink(packet);
            }
        }
    }

    fn checksum(&self, packet: &Packet<'_>, proto: u8) -> Checksum {
        if !self.settings.checksums || self.vouched {
            return Checksum::Absent;
        }
        let length = (packet.ip_payload.len() as u32).to_be_bytes();
        let kind = [0, 0, 0, proto];
        let total = match (packet.src, packet.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                sum(&[&src.octets(), &dst.octets(), &length, &kind, packet.ip_payload])
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                sum(&[&src.octets(), &dst.octets(), &length, &kind, packet.ip_payload])
            }
            _ => return Checksum::Absent,
        };
        if total == 0xffff { Checksum::Right } else { Checksum::Wrong }
    }

    fn tcp(&self, packet: &mut Packet<'_>) {
        let data = packet.ip_payload;
        let Some(offset) = data.get(12).filter(|_| data.len() >= 20).map(|byte| usize::from(byte >> 4) * 4) else {
            return packet.event("tcp.pkt_too_small");
        };
        if offset < 20 {
            return packet.event("tcp.hlen_too_small");
        }
        let Some((header, payload)) = data.split_at_checked(offset) else {
            return packet.event("tcp.hlen_too_small");
        };
        let mut tcp = Tcp {
            seq: u32_at(header, 4).unwrap_or(0),
            ack: u32_at(header, 8).unwrap_or(0),
            flags: header.get(13).copied().unwrap_or(0),
            window: u16_at(header, 14).unwrap_or(0),
            urgent: u16_at(header, 18).unwrap_or(0),
            ..Tcp::default()
        };
        packet.sport = u16_at(header, 0).unwrap_or(0);
        packet.dport = u16_at(header, 2).unwrap_or(0);
        tcp_options(header.get(20..).unwrap_or_default(), &mut tcp, packet);
        packet.transport_header = header;
        packet.payload = payload;
        packet.tcp = Some(tcp);
        packet.checksum = self.checksum(packet, TCP);
    }

    fn udp(&self, packet: &mut Packet<'_>) {
        let data = packet.ip_payload;
        let Some((header, rest)) = data.split_at_checked(8) else { return packet.event("udp.pkt_too_small") };
        let length = usize::from(u16_at(header, 4).unwrap_or(0));
        if length != 0 && length < 8 {
            return packet.event("udp.len_invalid");
        }
        if data.len() < length {
            return packet.event("udp.hlen_invalid");
        }
        packet.sport = u16_at(header, 0).unwrap_or(0);
        packet.dport = u16_at(header, 2).unwrap_or(0);
        packet.transport_header = header;
        packet.payload = if length == 0 { rest } else { rest.get(..length - 8).unwrap_or(rest) };
        if u16_at(header, 6) != Some(0) {
            packet.checksum = self.checksum(packet, UDP);
        }
    }

    fn icmp4(&self, packet: &mut Packet<'_>) {
        let data = packet.ip_payload;
        let Some((header, payload)) = data.split_at_checked(8) else { return packet.event("icmpv4.pkt_too_small") };
        let (kind, code) = (header.first().copied().unwrap_or(0), header.get(1).copied().unwrap_or(0));
        let mut icmp = Icmp { kind, code, ..Icmp::default() };
        let valid = match kind {
            3 => code <= 15,
            5 => code <= 3,
            11 => code <= 1,
            12 => code <= 2,
            0 | 4 | 8 | 13..=18 => code == 0,
            _ => true,
        };
        if !valid {
            packet.event("icmpv4.unknown_code");
        } else if !matches!(kind, 0 | 3 | 4 | 5 | 8 | 9 | 10 | 11 | 12 | 13..=18) {
            packet.event("icmpv4.unknown_type");
        }
        if matches!(kind, 0 | 8 | 13..=18) {
            icmp.id = u16_at(header, 4);
            icmp.sequence = u16_at(header, 6);
        }
        if matches!(kind, 3 | 4 | 5 | 11 | 12) {
            if payload.len() >= 20 {
                packet.quoted = quoted4(payload);
                if packet.quoted.is_none() {
                    packet.event("icmpv4.ipv4_unknown_ver");
                }
            } else if !payload.is_empty() {
                packet.event("icmpv4.ipv4_trunc_pkt");
            }
        }
        packet.icmp = Some(icmp);
        (packet.sport, packet.dport) = (kind.into(), code.into());
        // Some types have a longer header.
        let long = match kind {
            9 => 16,
            13 | 14 => 20,
            17 | 18 => 12,
            _ => 8,
        };
        packet.transport_header = data.get(..long).unwrap_or(header);
        packet.payload = payload;
        let right = sum(&[data]) == 0xffff;
        packet.checksum = if right { Checksum::Right } else { Checksum::Wrong };
    }

    fn icmp6(&self, packet: &mut Packet<'_>) {
        let data = packet.ip_payload;
        let Some((header, payload)) = data.split_at_checked(8) else { return packet.event("icmpv6.pkt_too_small") };
        let (kind, code) = (header.first().copied().unwrap_or(0), header.get(1).copied().unwrap_or(0));
        let mut icmp = Icmp { kind, code, ..Icmp::default() };
        match kind {
            1 if code > 7 => packet.event("icmpv6.unknown_code"),
            2 => icmp.mtu = u32_at(header, 4),
            3 if code > 1 => packet.event("icmpv6.unknown_code"),
            4 if code > 10 => packet.event("icmpv6.unknown_code"),
            128 | 129 => {
                icmp.id = u16_at(header, 4);
                icmp.sequence = u16_at(header, 6);
            }
            130..=132 if payload.len() < 16 => packet.event("icmpv6.mld_message_with_invalid_hl"),
            133..=137 if code != 0 => packet.event("icmpv6.unknown_code"),
            0 | 5..=99 | 102..=126 => packet.event("icmpv6.unassigned_type"),
            100 | 101 | 200 | 201 => packet.event("icmpv6.experimentation_type"),
            _ => {}
        }
        if kind <= 4 && kind != 0 {
            packet.quoted = quoted6(payload);
        }
        packet.icmp = Some(icmp);
        (packet.sport, packet.dport) = (kind.into(), code.into());
        packet.transport_header = header;
        packet.payload = payload;
        packet.checksum = self.checksum(packet, ICMP6);
    }
}

fn sctp(packet: &mut Packet<'_>) {
    let Some((header, payload)) = packet.ip_payload.split_at_checked(12) else {
        return packet.event("sctp.pkt_too_small");
    };
    packet.sport = u16_at(header, 0).unwrap_or(0);
    packet.dport = u16_at(header, 2).unwrap_or(0);
    packet.transport_header = header;
    packet.payload = payload;
}

fn tcp_options(mut rest: &[u8], tcp: &mut Tcp, packet: &mut Packet<'_>) {
    let mut seen = 0u64;
    while let Some((kind, tail)) = rest.split_first() {
        let length = match kind {
            0 => return,
            1 => {
                rest = tail;
                continue;
            }
            _ => match tail.first() {
                Some(length) if *length >= 2 && usize::from(*length) <= rest.len() => usize::from(*length),
                _ => return packet.event("tcp.opt_invalid_len"),
            },
        };
        let value = rest.get(2..length).unwrap_or_default();
        let right = match kind {
            2 | 3 | 4 | 8 => {
                let twice = seen & (1 << kind) != 0;
                seen |= 1 << kind;
                if twice {
                    packet.event("tcp.opt_duplicate");
                }
                !twice && option(*kind, value, tcp, packet)
            }
            // A SACK block may be missing; it has eight bytes.
            5 => value.len().is_multiple_of(8),
            34 => {
                if tcp.fast_open.is_none() && (value.is_empty() || (4..=16).contains(&value.len())) {
                    tcp.fast_open = Some(!value.is_empty());
                }
                true
            }
            253 | 254 if value.starts_with(&[0xf9, 0x89]) => {
                tcp.fast_open.get_or_insert(value.len() > 2);
                true
            }
            _ => true,
        };
        if !right {
            packet.event("tcp.opt_invalid_len");
        }
        rest = rest.get(length..).unwrap_or_default();
    }
}

fn option(kind: u8, value: &[u8], tcp: &mut Tcp, packet: &mut Packet<'_>) -> bool {
    let mut reader = Reader::new(value);
    match (kind, value.len()) {
        (2, 2) => tcp.mss = reader.u16(),
        (3, 1) => {
            tcp.scale = reader.u8().filter(|scale| *scale <= 14);
        }
        (4, 0) => tcp.sack_permitted = true,
        (8, 8) => tcp.timestamp = reader.u32().zip(reader.u32()),
        _ => {
            let _ = packet;
            return false;
        }
    }
    true
}

/// The start of the packet that an ICMP error quotes.
fn quoted4(data: &[u8]) -> Option<Quoted> {
    let first = data.first()?;
    if first >> 4 != 4 {
        return None;
    }
    let body = data.get(usize::from(first & 15) * 4..).unwrap_or_default();
    let proto = *data.get(9)?;
    let ports = matches!(proto, TCP | UDP | SCTP);
    Some(Quoted {
        proto,
        src: IpAddr::V4(Ipv4Addr::from(u32_at(data, 12)?)),
        dst: IpAddr::V4(Ipv4Addr::from(u32_at(data, 16)?)),
        sport: if ports { u16_at(body, 0).unwrap_or(0) } else { 0 },
        dport: if ports { u16_at(body, 2).unwrap_or(0) } else { 0 },
    })
}

fn quoted6(data: &[u8]) -> Option<Quoted> {
    if data.first()? >> 4 != 6 {
        return None;
    }
    let address = |range: std::ops::Range<usize>| -> Option<IpAddr> {
        let octets: [u8; 16] = data.get(range)?.try_into().ok()?;
        Some(IpAddr::V6(Ipv6Addr::from(octets)))
    };
    let proto = *data.get(6)?;
    let ports = matches!(proto, TCP | UDP | SCTP);
    Some(Quoted {
        proto,
        src: address(8..24)?,
        dst: address(24..40)?,
        sport: if ports { u16_at(data, 40).unwrap_or(0) } else { 0 },
        dport: if ports { u16_at(data, 42).unwrap_or(0) } else { 0 },
    })
}

/// The Internet checksum's sum (RFC 1071); 0xffff where a checksum inside is right. Every part but the last has an
/// even length. The order of bytes does not matter to such a sum (section 2 there, B), so words are added as they
/// lie in memory, two at once, and the sum is turned at the end.
pub(super) fn sum(parts: &[&[u8]]) -> u16 {
    let mut total = 0u64;
    for part in parts {
        let (words, rest) = part.as_chunks::<4>();
        total += words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum::<u64>();
        let mut last = [0; 4];
        for (place, byte) in last.iter_mut().zip(rest) {
            *place = *byte;
        }
        total += u64::from(u32::from_ne_bytes(last));
    }
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    u16::from_be(total as u16)
}
