//! Packets inside packets: IP in IP, GRE with ERSPAN and PPTP, VXLAN, GENEVE, Teredo.

use super::{DEEPEST, Decoder, Packet, Sink};
use crate::reader::{Reader, u16_at};

impl Decoder {
    /// IP protocols 4, 41 and 47: the inner packet first, then the outer one.
    pub(super) fn ip_tunnel<'p>(&mut self, packet: &mut Packet<'p>, depth: u8, sink: Sink<'_>) {
        packet.payload = packet.ip_payload;
        if depth >= DEEPEST {
            packet.event("too_many_layers");
            return sink(packet);
        }
        match packet.proto {
            4 => self.ipv4(packet.ip_payload, &mut packet.inner(), depth + 1, sink),
            41 => self.ipv6(packet.ip_payload, &mut packet.inner(), depth + 1, sink),
            _ => {
                if let Err(event) = self.gre(packet, depth, sink) {
                    packet.event(event);
                }
            }
        }
        sink(packet);
    }

    fn gre(&mut self, packet: &Packet<'_>, depth: u8, sink: Sink<'_>) -> Result<(), &'static str> {
        let mut reader = Reader::new(packet.ip_payload);
        let small = "gre.pkt_too_small";
        let flags = reader.u16().ok_or(small)?;
        let protocol = reader.u16().ok_or(small)?;
        let has = |bit: u16| usize::from(flags & bit != 0);
        match flags & 7 {
            0 => {
                if flags & 0x0700 != 0 {
                    return Err("gre.version0_recur");
                }
                let routed = has(0x4000);
                reader.skip(4 * (has(0x8000) | routed)).ok_or(small)?;
                reader.skip(4 * has(0x2000)).ok_or(small)?;
                reader.skip(4 * has(0x1000)).ok_or(small)?;
                // Source routes, up to the empty one.
                for _ in 0..if routed == 1 { u8::MAX } else { 0 } {
                    let kind = reader.u16().ok_or("gre.version0_hdr_too_big")?;
                    reader.skip(1).ok_or("gre.version0_hdr_too_big")?;
                    let length = reader.u8().ok_or("gre.version0_hdr_too_big")?;
                    if kind == 0 && length == 0 {
                        break;
                    }
                    reader.skip(length.into()).ok_or("gre.version0_hdr_too_big")?;
                }
            }
            1 => {
                if has(0x8000) == 1 {
                    return Err("gre.version1_chksum");
                }
                if has(0x4000) == 1 {
                    return Err("gre.version1_route");
                }
                if has(0x0800) == 1 {
                    return Err("gre.version1_ssr");
                }
                if flags & 0x0700 != 0 {
                    return Err("gre.version1_recur");
                }
                if protocol != 0x880b {
                    return Err("gre.version1_wrong_protocol");
                }
                if has(0x2000) == 0 {
                    return Err("gre.version1_no_key");
                }
                reader.skip(4).ok_or(small)?;
                reader.skip(4 * has(0x1000)).ok_or(small)?;
                reader.skip(4 * usize::from(flags & 0x80 != 0)).ok_or(small)?;
            }
            _ => return Err("gre.wrong_version"),
        }
        let mut inner = packet.inner();
        match protocol {
            // ERSPAN type I has no header, type II eight bytes.
            0x88be if flags & 0x1000 == 0 => self.ethernet(reader.rest(), &mut inner, depth + 1, sink),
            0x88be => {
                let first = reader.u64().ok_or("erspan.header_too_small")?;
                if first >> 60 != 1 {
                    return Err("erspan.unsupported_version");
                }
                self.ethernet(reader.rest(), &mut inner, depth + 1, sink);
            }
            _ => self.ether_type(protocol, reader.rest(), &mut inner, depth, sink),
        }
        Ok(())
    }

    /// Tunnels over UDP, by port; Teredo by what it looks like.
    pub(super) fn udp_tunnel(&mut self, packet: &Packet<'_>, depth: u8, sink: Sink<'_>) {
        if depth >= DEEPEST {
            return;
        }
        let mut reader = Reader::new(packet.payload);
        if self.settings.vxlan_ports.contains(&packet.dport) {
            if let (Some(flags), Some(_)) = (reader.u32(), reader.u32())
                && flags >> 24 == 8
            {
                self.ethernet(reader.rest(), &mut packet.inner(), depth + 1, sink);
            }
        } else if self.settings.geneve_ports.contains(&packet.dport) {
            if let (Some(first), Some(protocol), Some(_)) = (reader.u16(), reader.u16(), reader.u32())
                && first >> 14 == 0
                && reader.skip(usize::from((first >> 8) & 0x3f) * 4).is_some()
            {
                self.ether_type(protocol, reader.rest(), &mut packet.inner(), depth, sink);
            }
        } else if self.settings.teredo
            && let Some(inner) = teredo(packet.payload)
        {
            self.ipv6(inner, &mut packet.inner(), depth + 1, sink);
        }
    }
}

/// The IPv6 packet in a Teredo packet (RFC 4380), behind an origin header. What carries an authentication header is the
/// talk between client and relay, and no tunnel yet.
fn teredo(data: &[u8]) -> Option<&[u8]> {
    let rest = if data.starts_with(&[0, 0]) { data.get(8..)? } else { data };
    let length = usize::from(u16_at(rest, 4)?);
    (rest.first()? >> 4 == 6 && rest.len() == 40 + length).then_some(rest)
}
