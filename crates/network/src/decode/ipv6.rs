//! IPv6: header, extension headers, fragments.

use std::net::{IpAddr, Ipv6Addr};

use super::defrag::{Fragment, Key, Outcome};
use super::{Decoder, Packet, Sink};
use crate::reader::{Reader, u16_at};

/// Most extension headers that are followed.
const MOST_EXTENSIONS: usize = 32;

impl Decoder {
    pub(super) fn ipv6<'p>(&mut self, data: &'p [u8], packet: &mut Packet<'p>, depth: u8, sink: Sink<'_>) {
        if depth > super::DEEPEST {
            packet.event("too_many_layers");
            return sink(packet);
        }
        let mut reader = Reader::new(data);
        let head = (reader.u32(), reader.u16(), reader.u8(), reader.u8(), reader.take(16), reader.take(16));
        let (Some(first), Some(length), Some(next), Some(hops), Some(src), Some(dst)) = head else {
            packet.event("ipv6.pkt_too_small");
            return sink(packet);
        };
        if first >> 28 != 6 {
            packet.event("ipv6.wrong_ip_version");
            return sink(packet);
        }
        let Some(body) = reader.take(length.into()) else {
            packet.event("ipv6.trunc_pkt");
            return sink(packet);
        };
        packet.version = 6;
        packet.tos = (first >> 20) as u8;
        packet.ttl = hops;
        packet.src = address(src);
        packet.dst = address(dst);
        packet.proto = next;
        packet.ip_header = data.get(..40).unwrap_or_default();
        packet.ip_payload = body;
        self.ipv6_body(data, next, packet, depth, sink);
    }

    /// Walks the extension headers.
    fn ipv6_body<'p>(&mut self, whole: &'p [u8], first: u8, packet: &mut Packet<'p>, depth: u8, sink: Sink<'_>) {
        let mut next = first;
        let mut rest = packet.ip_payload;
        let mut seen: [u8; 256] = [0; 256];
        for _ in 0..MOST_EXTENSIONS {
            if let Some(count) = seen.get_mut(usize::from(next)) {
                *count = count.saturating_add(1);
                let many = *count > 1;
                let name = match next {
                    0 => "ipv6.exthdr_dupl_hh",
                    43 => "ipv6.exthdr_dupl_rh",
                    44 => "ipv6.exthdr_dupl_fh",
                    51 => "ipv6.exthdr_dupl_ah",
                    50 => "ipv6.exthdr_dupl_eh",
                    60 if *count > 2 => "ipv6.exthdr_dupl_dh",
                    _ => "",
                };
                if many && !name.is_empty() {
                    packet.event(name);
                    return sink(packet);
                }
            }
            let length = match next {
                0 | 43 | 60 | 135 | 139 | 140 => rest.get(1).map(|units| (usize::from(*units) + 1) * 8),
                44 => Some(8),
                51 => rest.get(1).map(|units| (usize::from(*units) + 2) * 4),
                59 => {
                    if !rest.is_empty() {
                        packet.event("ipv6.data_after_none_header");
                    }
                    packet.proto = 59;
                    return sink(packet);
                }
                _ if rest.len() < 2 && next != first => None,
                _ => break,
            };
            let Some((header, tail)) = length.and_then(|length| rest.split_at_checked(length)) else {
                packet.event("ipv6.trunc_exthdr");
                packet.proto = next;
                return sink(packet);
            };
            match next {
                0 | 60 => options(next, header, packet),
                43 if header.get(2) == Some(&0) => packet.event("ipv6.rh_type_0"),
                44 => {
                    let field = u16_at(header, 2).unwrap_or(0);
                    if u16_at(header, 0).unwrap_or(0) & 0xff != 0 {
                        packet.event("ipv6.fh_non_zero_reserved_field");
                    }
                    packet.ip_id = crate::reader::u32_at(header, 4).unwrap_or(0);
                    let kind = header.first().copied().unwrap_or(59);
                    if field & 0xfff9 != 0 {
                        packet.is_fragment = true;
                        packet.fragment = field;
                        packet.proto = kind;
                        packet.ip_payload = tail;
                        return self.ipv6_fragment(packet, field, depth, sink);
                    }
                    packet.event("ipv6.exthdr_useless_fh");
                }
                _ => {}
            }
            next = header.first().copied().unwrap_or(59);
            rest = tail;
        }
        packet.proto = next;
        let extended = whole.len().saturating_sub(rest.len()).min(whole.len());
        packet.ip_header = whole.get(..extended).unwrap_or(packet.ip_header);
        packet.ip_payload = rest;
        self.ip_body(packet, depth, sink);
    }

    fn ipv6_fragment<'p>(&mut self, packet: &mut Packet<'p>, field: u16, depth: u8, sink: Sink<'_>) {
        let offset = u32::from(field & 0xfff8);
        let more = field & 1 != 0;
        if offset as usize + packet.ip_payload.len() > 65535 {
            packet.event("ipv6.frag_pkt_too_large");
            return sink(packet);
        }
        if more && !packet.ip_payload.len().is_multiple_of(8) {
            packet.event("ipv6.frag_invalid_length");
            return sink(packet);
        }
        let key = Key { src: packet.src, dst: packet.dst, id: packet.ip_id, proto: 0, vlan: packet.vlan };
        // What follows the fragment header counts as the first fragment says it, whichever comes last.
        let mut header = packet.ip_header.get(..40).unwrap_or_default().to_vec();
        if let Some(target) = header.get_mut(6) {
            *target = packet.proto;
        }
        let fragment = Fragment { offset, more, ttl: packet.ttl, header: &header, data: packet.ip_payload };
        let (outcome, overlap) = self.defrag.add(packet.time, key, &fragment);
        if overlap {
            packet.event("ipv6.frag_overlap");
        }
        if outcome == Outcome::Ignored {
            packet.event("ipv6.frag_ignored");
        }
        if let Outcome::Whole(whole) = outcome {
            let mut inner = packet.assembled();
            let mut bytes = whole.header;
            bytes.extend(&whole.data);
            let length = whole.data.len().min(65535) as u16;
            if let Some(target) = bytes.get_mut(4..6) {
                target.copy_from_slice(&length.to_be_bytes());
            }
            self.ipv6(&bytes, &mut inner, depth + 1, sink);
        }
        sink(packet);
    }
}

fn address(bytes: &[u8]) -> IpAddr {
    let octets: [u8; 16] = bytes.try_into().unwrap_or([0; 16]);
    IpAddr::V6(Ipv6Addr::from(octets))
}

/// Padding of hop-by-hop and destination headers.
fn options(next: u8, header: &[u8], packet: &mut Packet<'_>) {
    let mut rest = header.get(2..).unwrap_or_default();
    let mut only_padding = !rest.is_empty();
    while let Some((kind, tail)) = rest.split_first() {
        if *kind == 0 {
            rest = tail;
            continue;
        }
        let length = tail.first().copied().unwrap_or(0);
        let Some(value) = tail.get(1..1 + usize::from(length)) else {
            packet.event(if next == 0 { "ipv6.hopopts_unknown_opt" } else { "ipv6.dstopts_unknown_opt" });
            return;
        };
        match kind {
            1 if value.is_empty() => packet.event("ipv6.zero_len_padn"),
            1 => {}
            _ => only_padding = false,
        }
        rest = tail.get(1 + value.len()..).unwrap_or_default();
    }
    if only_padding {
        packet.event(if next == 0 { "ipv6.hopopts_only_padding" } else { "ipv6.dstopts_only_padding" });
    }
}
