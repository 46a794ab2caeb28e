//! Keywords of packet headers.

use super::builder::Builder;
use super::number::Compare;
use super::packet_tests::{self, PacketTest};

type Done = Result<(), String>;

/// A test of what only a packet has: contents beside it look at packets.
fn packet(builder: &mut Builder<'_, '_>, test: PacketTest) -> Done {
    builder.needs_packet = true;
    builder.packet.push(test);
    Ok(())
}

fn number<N: std::str::FromStr>(text: &str) -> Result<N, String> {
    text.trim().trim_matches('"').parse().map_err(|_| format!("'{text}' is no number that fits"))
}

pub(crate) fn ttl(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let wanted = match text.trim().split_once('-') {
        // One end may be left open, and both ends count here.
        Some(("", high)) => Compare::AtMost(number(high)?),
        Some((low, "")) => Compare::AtLeast(number(low)?),
        _ => Compare::parse(text)?,
    };
    packet(builder, PacketTest::Ttl(wanted))
}

pub(crate) fn tos(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let text = text.trim();
    let (negated, digits) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
    let value = match digits.strip_prefix('x') {
        Some(hex) => u8::from_str_radix(hex, 16).map_err(|_| format!("'{text}' is no byte"))?,
        None => number(digits)?,
    };
    packet(builder, PacketTest::Tos(if negated { Compare::Not(value) } else { Compare::Equal(value) }))
}

pub(crate) fn id(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let id = number(text)?;
    packet(builder, PacketTest::Id(id))
}

pub(crate) fn ip_proto(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let text = text.trim();
    let (sign, name) = text.split_at(text.find(|letter: char| letter.is_ascii_alphanumeric()).unwrap_or(0));
    let value = match name.to_ascii_lowercase().as_str() {
        "icmp" => 1,
        "igmp" => 2,
        "ipv4" | "ipip" => 4,
        "tcp" => 6,
        "udp" => 17,
        "ipv6" => 41,
        "gre" => 47,
        "esp" => 50,
        "ah" => 51,
        "ipv6-icmp" | "icmp6" => 58,
        "ospf" => 89,
        "pim" => 103,
        "vrrp" => 112,
        "sctp" => 132,
        other => number(other)?,
    };
    let wanted = match sign.trim() {
        "!" => Compare::Not(value),
        "<" => Compare::Less(value),
        ">" => Compare::Greater(value),
        _ => Compare::Equal(value),
    };
    builder.packet.push(PacketTest::IpProto(wanted));
    Ok(())
}

pub(crate) fn sameip(builder: &mut Builder<'_, '_>, _: &str) -> Done {
    packet(builder, PacketTest::SameIp)
}

pub(crate) fn ipopts(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let name = text.trim();
    if name == "any" {
        return packet(builder, PacketTest::IpOptionAny);
    }
    let at = crate::decode::IP_OPTIONS.iter().position(|option| option.0 == name);
    let at = at.ok_or_else(|| format!("'{name}' is no IP option"))?;
    packet(builder, PacketTest::IpOption(at as u8))
}

pub(crate) fn fragbits(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let test = packet_tests::frag_bits(text)?;
    packet(builder, test)
}

pub(crate) fn fragoffset(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let wanted = Compare::parse(text)?;
    packet(builder, PacketTest::FragOffset(wanted))
}

pub(crate) fn seq(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let value = number(text)?;
    packet(builder, PacketTest::Seq(value))
}

pub(crate) fn ack(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let value = number(text)?;
    packet(builder, PacketTest::Ack(value))
}

pub(crate) fn window(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let text = text.trim();
    let (negated, digits) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
    let value = number(digits)?;
    packet(builder, PacketTest::Window { value, negated })
}

pub(crate) fn flags(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let test = packet_tests::flags(text)?;
    packet(builder, test)
}

pub(crate) fn mss(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let wanted = Compare::parse(text)?;
    packet(builder, PacketTest::Mss(wanted))
}

pub(crate) fn itype(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let wanted = Compare::parse(text)?;
    packet(builder, PacketTest::IcmpType(wanted))
}

pub(crate) fn icode(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let wanted = Compare::parse(text)?;
    packet(builder, PacketTest::IcmpCode(wanted))
}

pub(crate) fn icmp_id(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let value = number(text)?;
    packet(builder, PacketTest::IcmpId(value))
}

pub(crate) fn icmp_seq(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let value = number(text)?;
    packet(builder, PacketTest::IcmpSeq(value))
}

pub(crate) fn icmp6_mtu(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let wanted = Compare::parse(text)?;
    packet(builder, PacketTest::Icmp6Mtu(wanted))
}

pub(crate) fn dsize(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let wanted = Compare::parse(text)?;
    packet(builder, PacketTest::Size(wanted))
}

pub(crate) fn csum(builder: &mut Builder<'_, '_>, name: &str, text: &str) -> Done {
    let test = packet_tests::checksum(name, text)?;
    packet(builder, test)
}

pub(crate) fn vlan_id(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let (wanted, layer) = text.split_once(',').map_or((text, None), |(wanted, layer)| (wanted, Some(layer)));
    let layer = layer.map(number).transpose()?;
    let wanted = Compare::parse(wanted)?;
    packet(builder, PacketTest::Vlan { layer, wanted })
}

pub(crate) fn decode_event(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    builder.packet.push(PacketTest::Event(text.trim().to_owned()));
    Ok(())
}

pub(crate) fn stream_event(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    builder.packet.push(PacketTest::Event(format!("stream.{}", text.trim().trim_start_matches("stream."))));
    Ok(())
}

pub(crate) fn engine_event(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    decode_event(builder, text)
}

pub(crate) fn ftpbounce(builder: &mut Builder<'_, '_>, _: &str) -> Done {
    builder.packet.push(PacketTest::FtpBounce);
    builder.proto.app = Some(crate::app::AppProto::Ftp);
    Ok(())
}
