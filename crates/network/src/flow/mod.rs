//! Flows: who speaks to whom, what was said so far, and what is remembered of it.
//!
//! The table is bounded; when it is full, the flow that was quiet longest goes. A flow that was quiet too long for
//! its state is over, and a packet like it begins a new one.

mod settings;
pub(crate) mod stream;
mod table;
pub(crate) mod tcp;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

pub use settings::{ExceptionPolicy, FlowSettings, StreamSettings, Urgent};
pub(crate) use table::{FlowTable, Key};

use crate::app::{AppProto, Dir, Parser, Transactions};
use crate::decode::Packet;

/// What was decided for all packets of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FlowVerdict {
    #[default]
    Inspect,
    Drop,
    /// Let through without inspection.
    Pass,
}

/// What is passed over of what the server sends, until the client speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Bulk {
    #[default]
    None,
    /// All; each acknowledgement says how far it has come.
    Near,
    /// All; its end is so far that some acknowledgements say it well enough.
    Far,
}

/// What a flow and its places in the table take.
const OWN: usize = size_of::<Flow>() + 384;

/// One flow.
pub(crate) struct Flow {
    pub id: u64,
    pub client: IpAddr,
    pub server: IpAddr,
    pub client_port: u16,
    pub server_port: u16,
    pub proto: u8,
    pub began: i64,
    pub last: i64,
    pub packets: [u64; 2],
    pub bytes: [u64; 2],
    pub app: Option<AppProto>,
    /// Detection of the protocol is over, by direction.
    pub app_settled: [bool; 2],
    /// Which direction spoke first.
    pub first_data: Option<Dir>,
    pub parser: Option<Box<dyn Parser>>,
    /// The parser gave up.
    pub failed: bool,
    pub txs: Transactions,
    pub tcp: Option<Box<tcp::Session>>,
    pub bits: HashSet<u32>,
    pub ints: HashMap<u32, u32>,
    pub verdict: FlowVerdict,
    pub ip_only_done: [bool; 2],
    /// Nothing of payloads is inspected any more (encrypted).
    pub no_payload: bool,
    /// Client and server were just turned around.
    pub turned: bool,
    /// Directions whose packets are refused, and not only dropped.
    pub refused: [bool; 2],
    /// Bytes of the server since the client spoke.
    pub replied: u64,
    /// Whether the server's bytes are passed over until the client speaks.
    pub bulk: Bulk,
    /// They were, at some time.
    pub had_bulk: bool,
    /// It was said that it needs no inspection.
    pub released: bool,
    /// A segment of the packet in hand could not be kept.
    pub not_kept: bool,
    /// The packet in hand has urgent data, which the policy does not let through.
    pub urgent: bool,
    /// What it kept when it was last looked at.
    pub counted: usize,
}

impl Flow {
    pub(crate) fn new(packet: &Packet<'_>, id: u64) -> Self {
        Self {
            id,
            client: packet.src,
            server: packet.dst,
            client_port: packet.sport,
            server_port: packet.dport,
            proto: packet.proto,
            began: packet.time,
            last: packet.time,
            packets: [0; 2],
            bytes: [0; 2],
            app: None,
            app_settled: [false; 2],
            first_data: None,
            parser: None,
            failed: false,
            txs: Transactions::default(),
            tcp: None,
            bits: HashSet::new(),
            ints: HashMap::new(),
            verdict: FlowVerdict::Inspect,
            ip_only_done: [false; 2],
            no_payload: false,
            turned: false,
            refused: [false; 2],
            replied: 0,
            bulk: Bulk::None,
            had_bulk: false,
            released: false,
            not_kept: false,
            urgent: false,
            counted: 0,
        }
    }

    /// Bytes that it keeps: itself, its streams, what its parser holds, its transactions.
    pub(crate) fn kept(&self) -> usize {
        let streams = self.tcp.as_ref().map_or(0, |session| {
            size_of::<tcp::Session>() + session.streams.iter().map(stream::Stream::kept).sum::<usize>()
        });
        let parser = self.parser.as_ref().map_or(0, |parser| parser.kept());
        let notes = self.bits.len() * 8 + self.ints.len() * 16;
        OWN + streams + parser + notes + self.txs.kept()
    }

    /// Direction of a packet of this flow.
    pub(crate) fn dir(&self, packet: &Packet<'_>) -> Dir {
        let same = packet.src == self.client && packet.dst == self.server;
        let ports = packet.sport == self.client_port && packet.dport == self.server_port;
        let with_ports = matches!(packet.proto, crate::decode::TCP | crate::decode::UDP | crate::decode::SCTP);
        let back = packet.src == self.server && packet.dst == self.client;
        match (same, back) {
            (true, true) if with_ports => {
                if ports {
                    Dir::ToServer
                } else {
                    Dir::ToClient
                }
            }
            (true, _) => Dir::ToServer,
            _ => Dir::ToClient,
        }
    }

    /// Takes a packet into the counts.
    pub(crate) fn count(&mut self, dir: Dir, packet: &Packet<'_>) {
        self.last = self.last.max(packet.time);
        if let (Some(packets), Some(bytes)) = (self.packets.get_mut(dir as usize), self.bytes.get_mut(dir as usize)) {
            *packets += 1;
            *bytes += packet.frame.len() as u64;
        }
    }

    /// Both sides have spoken.
    pub(crate) fn both_seen(&self) -> bool {
        self.packets.iter().all(|count| *count > 0)
    }

    /// Turns client and server around: the first packet was an answer.
    pub(crate) fn turn(&mut self) {
        std::mem::swap(&mut self.client, &mut self.server);
        std::mem::swap(&mut self.client_port, &mut self.server_port);
        self.packets.reverse();
        self.bytes.reverse();
        self.ip_only_done.reverse();
        self.app_settled.reverse();
    }

    /// Seconds without a packet after which the flow is over.
    pub(crate) fn patience(&self, settings: &FlowSettings) -> i64 {
        match self.proto {
            crate::decode::TCP => match self.tcp.as_ref().map(|session| session.state) {
                None | Some(tcp::State::SynSent | tcp::State::SynRecv) => settings.tcp.0,
                Some(tcp::State::Closed) => settings.tcp.2,
                _ => settings.tcp.1,
            },
            crate::decode::UDP => {
                if self.both_seen() {
                    settings.udp.1
                } else {
                    settings.udp.0
                }
            }
            crate::decode::ICMP | crate::decode::ICMP6 => {
                if self.both_seen() {
                    settings.icmp.1
                } else {
                    settings.icmp.0
                }
            }
            _ => {
                if self.both_seen() {
                    settings.other.1
                } else {
                    settings.other.0
                }
            }
        }
    }
}
