//! Bytes of a frame become packets: link layer, tunnels, IP with extension headers, transport.
//!
//! A frame can hold several packets (a tunnel holds one in another). Each is handed to the caller, inner ones
//! first, as a view of the frame; only what was put together from fragments has bytes of its own. What is wrong
//! with a packet is an event of it, by the name that rules use (`decode-event:ipv4.trunc_pkt`).

mod defrag;
mod ipv4;
mod ipv6;
mod link;
mod transport;
mod tunnel;

use std::net::IpAddr;

pub(crate) use defrag::Defrag;
pub use defrag::{DefragSettings, Overlap};
pub(crate) use ipv4::OPTIONS as IP_OPTIONS;

use crate::capture::Frame;

/// Deepest nesting of tunnels and link layers in one frame.
const DEEPEST: u8 = 16;
/// Most events that one packet keeps.
const MOST_EVENTS: usize = 16;

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMP: u8 = 1;
pub(crate) const ICMP6: u8 = 58;
pub(crate) const SCTP: u8 = 132;

/// How packets are taken apart.
#[derive(Clone, Debug)]
pub struct DecodeSettings {
    /// UDP ports that carry VXLAN.
    pub vxlan_ports: Vec<u16>,
    /// Whether Teredo is looked for on any UDP port.
    pub teredo: bool,
    pub geneve_ports: Vec<u16>,
    /// Whether rules see checksums as they are, or all as right.
    pub checksums: bool,
}

impl Default for DecodeSettings {
    fn default() -> Self {
        Self { vxlan_ports: vec![4789], teredo: true, geneve_ports: vec![6081], checksums: true }
    }
}

/// TCP header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tcp {
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    /// CWR and ECE are in `flags`; this is the NS bit and the reserved ones.
    pub window: u16,
    pub urgent: u16,
    pub scale: Option<u8>,
    pub mss: Option<u16>,
    pub sack_permitted: bool,
    pub timestamp: Option<(u32, u32)>,
    /// A fast open option, and whether it holds a cookie.
    pub fast_open: Option<bool>,
}

pub(crate) mod tcp_flag {
    pub(crate) const FIN: u8 = 1;
    pub(crate) const SYN: u8 = 2;
    pub(crate) const RST: u8 = 4;
    pub(crate) const PSH: u8 = 8;
    pub(crate) const ACK: u8 = 16;
    pub(crate) const URG: u8 = 32;
}

/// ICMP header of either version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Icmp {
    pub kind: u8,
    pub code: u8,
    pub id: Option<u16>,
    pub sequence: Option<u16>,
    /// MTU of a "packet too big".
    pub mtu: Option<u32>,
}

/// One packet as a view of its frame.
#[derive(Clone, Debug)]
pub(crate) struct Packet<'a> {
    pub time: i64,
    /// Number of the frame, from 1; 0 of what the engine made up itself.
    pub number: u64,
    pub frame: &'a [u8],
    pub vlan: [u16; 3],
    pub vlans: u8,
    /// Depth in tunnels.
    pub tunnel: u8,
    /// 4, 6, or 0 without IP.
    pub version: u8,
    pub src: IpAddr,
    pub dst: IpAddr,
    pub proto: u8,
    pub sport: u16,
    pub dport: u16,
    /// The IP header with options or extension headers.
    pub ip_header: &'a [u8],
    /// What the IP packet holds.
    pub ip_payload: &'a [u8],
    pub ttl: u8,
    pub tos: u8,
    pub ip_id: u32,
    /// Flags and offset field of IPv4.
    pub fragment: u16,
    /// Kinds of IPv4 options, one bit each of those that rules can ask for.
    pub ip_options: u32,
    pub transport_header: &'a [u8],
    pub payload: &'a [u8],
    pub tcp: Option<Tcp>,
    pub icmp: Option<Icmp>,
    /// Put together from fragments.
    pub reassembled: bool,
    /// A fragment that waits for others.
    pub is_fragment: bool,
    pub ip_checksum: Checksum,
    pub checksum: Checksum,
    pub events: Vec<&'static str>,
    /// The header of the packet that an ICMP error quotes: protocol, addresses, ports.
    pub quoted: Option<Quoted>,
    /// Not a packet of the wire: ends a stream.
    pub made_up: bool,
}

/// Whether a checksum was right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Checksum {
    #[default]
    Absent,
    Right,
    Wrong,
}

/// What an ICMP error quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quoted {
    pub proto: u8,
    pub src: IpAddr,
    pub dst: IpAddr,
    pub sport: u16,
    pub dport: u16,
}

impl<'a> Packet<'a> {
    pub(crate) fn new(time: i64, number: u64, frame: &'a [u8]) -> Self {
        let nowhere = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
        Self {
            time,
            number,
            frame,
            vlan: [0; 3],
            vlans: 0,
            tunnel: 0,
            version: 0,
            src: nowhere,
            dst: nowhere,
            proto: 0,
            sport: 0,
            dport: 0,
            ip_header: &[],
            ip_payload: &[],
            ttl: 0,
            tos: 0,
            ip_id: 0,
            fragment: 0,
            ip_options: 0,
            transport_header: &[],
            payload: &[],
            tcp: None,
            icmp: None,
            reassembled: false,
            is_fragment: false,
            ip_checksum: Checksum::Absent,
            checksum: Checksum::Absent,
            events: Vec::new(),
            quoted: None,
            made_up: false,
        }
    }

    /// Notes what is wrong with the packet.
    pub(crate) fn event(&mut self, name: &'static str) {
        if self.events.len() < MOST_EVENTS && !self.events.contains(&name) {
            self.events.push(name);
        }
    }

    /// An empty packet for what lies inside this one.
    fn inner(&self) -> Packet<'a> {
        let mut inner = Packet::new(self.time, self.number, self.frame);
        inner.vlan = self.vlan;
        inner.vlans = self.vlans;
        inner.tunnel = self.tunnel + 1;
        inner.reassembled = self.reassembled;
        inner
    }

    /// An empty packet for what this last fragment and those before it make.
    fn assembled(&self) -> Packet<'a> {
        Packet { tunnel: self.tunnel, reassembled: true, ..self.inner() }
    }
}

/// Takes frames apart; keeps fragments until their packet is whole.
#[derive(Debug)]
pub(crate) struct Decoder {
    settings: DecodeSettings,
    pub(crate) defrag: Defrag,
    /// The checksums of the frame in hand need no look.
    vouched: bool,
}

/// Who takes the packets of a frame.
pub(crate) type Sink<'s> = &'s mut dyn FnMut(&Packet<'_>);

impl Decoder {
    pub(crate) fn new(settings: DecodeSettings, defrag: DefragSettings) -> Self {
        Self { settings, defrag: Defrag::new(defrag), vouched: false }
    }

    /// Hands every packet of a frame to the sink, inner ones first.
    pub(crate) fn frame(&mut self, frame: &Frame<'_>, number: u64, sink: Sink<'_>) {
        self.vouched = frame.vouched;
        let mut packet = Packet::new(frame.time, number, frame.data);
        self.link(frame.link, frame.data, &mut packet, 0, sink);
    }
}
