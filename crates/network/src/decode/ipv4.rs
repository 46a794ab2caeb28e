//! IPv4: header, options, fragments.

use std::net::{IpAddr, Ipv4Addr};

use super::defrag::{Fragment, Key, Outcome};
use super::{Checksum, Decoder, Packet, Sink};
use crate::reader::{u16_at, u32_at};

/// Options that rules can ask for (`ipopts`), with their numbers; the bit of each is its place here.
pub(crate) const OPTIONS: &[(&str, u8)] = &[
    ("eol", 0),
    ("nop", 1),
    ("rr", 7),
    ("lsrr", 131),
    ("ssrr", 137),
    ("satid", 136),
    ("ts", 68),
    ("sec", 130),
    ("esec", 133),
    ("cipso", 134),
    ("rtralt", 148),
    ("qs", 25),
];

impl Decoder {
    pub(super) fn ipv4<'p>(&mut self, data: &'p [u8], packet: &mut Packet<'p>, depth: u8, sink: Sink<'_>) {
        if depth > super::DEEPEST {
            packet.event("too_many_layers");
            return sink(packet);
        }
        let Some(first) = data.first().filter(|_| data.len() >= 20) else {
            packet.event("ipv4.pkt_too_small");
            return sink(packet);
        };
        let header = usize::from(first & 15) * 4;
        let total = usize::from(u16_at(data, 2).unwrap_or(0));
        let wrong = match () {
            () if first >> 4 != 4 => "ipv4.wrong_ip_version",
            () if header < 20 => "ipv4.hlen_too_small",
            () if total < header => "ipv4.iplen_smaller_than_hlen",
            () if data.len() < total => "ipv4.trunc_pkt",
            () => "",
        };
        if !wrong.is_empty() {
            packet.event(wrong);
            return sink(packet);
        }
        let (Some(head), Some(body)) = (data.get(..header), data.get(header..total)) else { return sink(packet) };
        packet.version = 4;
        packet.ip_header = head;
        packet.ip_payload = body;
        packet.tos = head.get(1).copied().unwrap_or(0);
        packet.ip_id = u16_at(head, 4).unwrap_or(0).into();
        packet.fragment = u16_at(head, 6).unwrap_or(0);
        packet.ttl = head.get(8).copied().unwrap_or(0);
        packet.proto = head.get(9).copied().unwrap_or(0);
        packet.src = IpAddr::V4(Ipv4Addr::from(u32_at(head, 12).unwrap_or(0)));
        packet.dst = IpAddr::V4(Ipv4Addr::from(u32_at(head, 16).unwrap_or(0)));
        packet.ip_checksum = match super::transport::sum(&[head]) {
            0xffff => Checksum::Right,
            _ if self.vouched => Checksum::Absent,
            _ => Checksum::Wrong,
        };
        if header > 20 {
            options(head.get(20..).unwrap_or_default(), packet);
        }
        if packet.fragment & 0x3fff == 0 {
            return self.ip_body(packet, depth, sink);
        }
        packet.is_fragment = true;
        self.ipv4_fragment(packet, depth, sink);
    }

    fn ipv4_fragment<'p>(&mut self, packet: &mut Packet<'p>, depth: u8, sink: Sink<'_>) {
        let more = packet.fragment & 0x2000 != 0;
        let offset = u32::from(packet.fragment & 0x1fff) * 8;
        if offset as usize + packet.ip_payload.len() > 65535 {
            packet.event("ipv4.frag_pkt_too_large");
            return sink(packet);
        }
        let key = Key { src: packet.src, dst: packet.dst, id: packet.ip_id, proto: packet.proto, vlan: packet.vlan };
        let fragment = Fragment { offset, more, ttl: packet.ttl, header: packet.ip_header, data: packet.ip_payload };
        let (outcome, overlap) = self.defrag.add(packet.time, key, &fragment);
        if overlap {
            packet.event("ipv4.frag_overlap");
        }
        if outcome == Outcome::Ignored {
            packet.event("ipv4.frag_ignored");
        }
        if let Outcome::Whole(whole) = outcome {
            let mut inner = packet.assembled();
            let length = whole.header.len();
            let mut bytes = whole.header;
            bytes.extend(&whole.data);
            let total = bytes.len().min(65535) as u16;
            if let Some(field) = bytes.get_mut(2..4) {
                field.copy_from_slice(&total.to_be_bytes());
            }
            if let Some(field) = bytes.get_mut(6..8) {
                field.copy_from_slice(&[0, 0]);
            }
            // The fragments' own was right or wrong; the whole has another.
            if packet.ip_checksum == Checksum::Right
                && let Some(header) = bytes.get_mut(..length)
            {
                renew_checksum(header);
            }
            self.ipv4(&bytes, &mut inner, depth + 1, sink);
        }
        sink(packet);
    }
}

/// Makes the checksum of a header right.
fn renew_checksum(header: &mut [u8]) {
    if let Some(field) = header.get_mut(10..12) {
        field.copy_from_slice(&[0, 0]);
    }
    let sum = !super::transport::sum(&[header]);
    if let Some(field) = header.get_mut(10..12) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
}

/// Reads the options and notes which there are and what is wrong with them.
fn options(mut rest: &[u8], packet: &mut Packet<'_>) {
    while let Some((kind, tail)) = rest.split_first() {
        let seen = OPTIONS.iter().position(|option| option.1 == *kind);
        let length = match kind {
            0 => {
                packet.ip_options |= 1;
                return;
            }
            1 => 1,
            _ => match tail.first() {
                Some(length) if *length >= 2 && usize::from(*length) <= rest.len() => usize::from(*length),
                Some(_) => return packet.event("ipv4.opt_invalid_len"),
                None => return packet.event("ipv4.opt_invalid_len"),
            },
        };
        let value = rest.get(2..length).unwrap_or_default();
        if !right_length(*kind, length, value) {
            packet.event("ipv4.opt_malformed");
            return packet.event("ipv4.opt_invalid_len");
        }
        if let Some(bit) = seen {
            if packet.ip_options & (1 << bit) != 0 && *kind > 1 {
                packet.event("ipv4.opt_duplicate");
            }
            packet.ip_options |= 1 << bit;
        } else {
            packet.event("ipv4.opt_unknown");
        }
        rest = rest.get(length..).unwrap_or_default();
    }
}

fn right_length(kind: u8, length: usize, value: &[u8]) -> bool {
    match kind {
        7 | 131 | 137 => length >= 3 && value.first().is_some_and(|pointer| *pointer >= 4 && pointer % 4 == 0),
        68 => length >= 4 && value.first().is_some_and(|pointer| *pointer >= 5),
        136 | 148 => length == 4,
        130 => length == 11 || length >= 3,
        133 => length >= 3,
        134 => length >= 6,
        25 => length == 8,
        _ => true,
    }
}
