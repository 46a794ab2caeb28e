//! Keywords about one packet: headers, flags, events, and what is remembered of its flow.

use super::number::Compare;
use super::state::{Bits, FlowInt, HostBits};
use crate::app::AppProto;
use crate::decode::tcp_flag;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FlagsMode {
    Exact,
    /// These and perhaps others.
    Plus,
    Any,
    Not,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sum {
    Ipv4,
    Tcp4,
    Udp4,
    Icmp4,
    Tcp6,
    Udp6,
    Icmp6,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamSide {
    Server,
    Client,
    Both,
    Either,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FlowCount {
    Packets,
    Bytes,
    Age,
}

/// One test of a packet. All of a rule must hold.
#[derive(Clone, Debug)]
pub(crate) enum PacketTest {
    Ttl(Compare<u8>),
    Tos(Compare<u8>),
    Id(u16),
    IpProto(Compare<u8>),
    SameIp,
    IpOption(u8),
    IpOptionAny,
    FragBits { mode: FlagsMode, bits: u16 },
    FragOffset(Compare<u16>),
    Seq(u32),
    Ack(u32),
    Window { value: u16, negated: bool },
    Flags { mode: FlagsMode, flags: u8, ignored: u8 },
    Mss(Compare<u16>),
    IcmpType(Compare<u8>),
    IcmpCode(Compare<u8>),
    IcmpId(u16),
    IcmpSeq(u16),
    Icmp6Mtu(Compare<u32>),
    Size(Compare<u16>),
    Checksum { of: Sum, valid: bool },
    Event(String),
    FlowBits(Bits),
    FlowInt(FlowInt),
    XBits(HostBits),
    HostBits(HostBits),
    StreamSize { side: StreamSide, wanted: Compare<u32> },
    AppProtocol { app: AppProto, negated: bool },
    Flow { count: FlowCount, to_server: Option<bool>, wanted: Compare<u64> },
    FtpBounce,
    Reputation { side: u8, category: String, wanted: Compare<u8> },
    Vlan { layer: Option<u8>, wanted: Compare<u16> },
}

impl PacketTest {
    /// Whether only packets of the wire can fulfil it.
    pub(crate) fn needs_real_packet(&self) -> bool {
        !matches!(
            self,
            Self::FlowBits(_)
                | Self::FlowInt(_)
                | Self::XBits(_)
                | Self::HostBits(_)
                | Self::StreamSize { .. }
                | Self::AppProtocol { .. }
                | Self::Flow { .. }
                | Self::Event(_)
                | Self::FtpBounce
        )
    }
}

/// `flags:SA,CE` and `tcp.flags`.
pub(crate) fn flags(value: &str) -> Result<PacketTest, String> {
    let (wanted, ignored) = value.split_once(',').map_or((value, ""), |(wanted, ignored)| (wanted, ignored));
    let (mode, letters) = mode(wanted.trim());
    let (flags, none) = flag_bits(letters)?;
    if none {
        return Ok(PacketTest::Flags { mode: FlagsMode::Exact, flags: 0, ignored: 0 });
    }
    let (ignored, _) = flag_bits(ignored.trim().trim_start_matches('!'))?;
    Ok(PacketTest::Flags { mode, flags, ignored })
}

fn mode(text: &str) -> (FlagsMode, &str) {
    let forms = [('+', FlagsMode::Plus), ('*', FlagsMode::Any), ('!', FlagsMode::Not)];
    for (sign, mode) in forms {
        if let Some(rest) = text.strip_prefix(sign).or_else(|| text.strip_suffix(sign)) {
            return (mode, rest);
        }
    }
    (FlagsMode::Exact, text)
}

fn flag_bits(letters: &str) -> Result<(u8, bool), String> {
    let mut bits = 0;
    for letter in letters.chars() {
        bits |= match letter.to_ascii_uppercase() {
            'F' => tcp_flag::FIN,
            'S' => tcp_flag::SYN,
            'R' => tcp_flag::RST,
            'P' => tcp_flag::PSH,
            'A' => tcp_flag::ACK,
            'U' => tcp_flag::URG,
            'E' | '2' => 0x40,
            'C' | '1' => 0x80,
            '0' => return Ok((0, true)),
            other => return Err(format!("'{other}' is no TCP flag")),
        };
    }
    Ok((bits, false))
}

/// `fragbits:+MDR`.
pub(crate) fn frag_bits(value: &str) -> Result<PacketTest, String> {
    let (mode, letters) = mode(value.trim());
    let mut bits = 0;
    for letter in letters.chars() {
        bits |= match letter.to_ascii_uppercase() {
            'M' => 0x2000,
            'D' => 0x4000,
            'R' => 0x8000,
            other => return Err(format!("'{other}' is no fragment bit")),
        };
    }
    Ok(PacketTest::FragBits { mode, bits })
}

/// Whether bits stand as the mode wants them.
pub(crate) fn bits_hold(mode: FlagsMode, have: u16, wanted: u16) -> bool {
    match mode {
        FlagsMode::Exact => have == wanted,
        FlagsMode::Plus => have & wanted == wanted,
        FlagsMode::Any => have & wanted != 0,
        FlagsMode::Not => have & wanted != wanted,
    }
}

/// `tcpv4-csum:invalid` and its kin.
pub(crate) fn checksum(name: &str, value: &str) -> Result<PacketTest, String> {
    let of = match name {
        "ipv4-csum" => Sum::Ipv4,
        "tcpv4-csum" => Sum::Tcp4,
        "udpv4-csum" => Sum::Udp4,
        "icmpv4-csum" => Sum::Icmp4,
        "tcpv6-csum" => Sum::Tcp6,
        "udpv6-csum" => Sum::Udp6,
        _ => Sum::Icmp6,
    };
    match value.trim().trim_matches('"') {
        "valid" => Ok(PacketTest::Checksum { of, valid: true }),
        "invalid" => Ok(PacketTest::Checksum { of, valid: false }),
        other => Err(format!("'{other}' is neither valid nor invalid")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flag_forms() {
        let parse = |text: &str| match flags(text).unwrap() {
            PacketTest::Flags { mode, flags, ignored } => (mode, flags, ignored),
            other => panic!("{other:?}"),
        };
        assert_eq!(parse("SA"), (FlagsMode::Exact, 0x12, 0));
        assert_eq!(parse("+S,CE"), (FlagsMode::Plus, 2, 0xc0));
        assert_eq!(parse("0"), (FlagsMode::Exact, 0, 0));
        assert!(flags("X").is_err());
        assert!(bits_hold(FlagsMode::Not, 2, 18) && !bits_hold(FlagsMode::Plus, 2, 18));
    }
}
