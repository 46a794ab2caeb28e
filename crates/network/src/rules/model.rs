//! What a loaded rule is: everything resolved, nothing left to parse.

use std::sync::Arc;

use super::app_tests::AppTest;
use super::buffers::Buffer;
use super::content::Content;
use super::number::{ByteExtract, ByteJump, ByteMath, ByteTest, IsDataAt};
use super::packet_tests::PacketTest;
use super::pcre::Pcre;
use super::ranges::Ranges;
use super::sets::{DataSetTest, ReputationTest};
use super::state::{Bits, FlowInt, HostBits};
use super::threshold::Threshold;
use super::transform::Transform;
use crate::app::AppProto;

/// What a rule asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    Pass,
    Drop,
    /// To the source of the packet.
    Reject,
    RejectDst,
    RejectBoth,
    Alert,
    /// Sets a configuration only; never an alert.
    Config,
}

impl Action {
    /// Whether a packet is not let through.
    pub fn blocks(self) -> bool {
        matches!(self, Self::Drop | Self::Reject | Self::RejectDst | Self::RejectBoth)
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "alert" => Self::Alert,
            "drop" => Self::Drop,
            "pass" => Self::Pass,
            "reject" | "rejectsrc" => Self::Reject,
            "rejectdst" => Self::RejectDst,
            "rejectboth" => Self::RejectBoth,
            "config" => Self::Config,
            _ => return None,
        })
    }
}

/// Which packets a rule's protocol word takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProtoMatch {
    /// IP protocol numbers; empty takes all.
    pub numbers: Vec<u8>,
    pub version: Option<u8>,
    /// `pkthdr`: also packets that have no IP.
    pub header_only: bool,
    pub tcp_packet: bool,
    pub tcp_stream: bool,
    pub app: Option<AppProto>,
}

/// One test of a list that is worked through on one buffer.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Content(Box<Content>),
    Pcre(Pcre),
    ByteTest(ByteTest),
    ByteJump(ByteJump),
    ByteExtract(ByteExtract),
    ByteMath(ByteMath),
    IsDataAt(IsDataAt),
    /// Length of the buffer.
    Size(super::number::Compare<u64>),
    /// `absent` and `absent: or_else`.
    Absent {
        or_else: bool,
    },
    DataSet(DataSetTest),
    Reputation(ReputationTest),
    /// Decodes from the place reached; the steps inside look at what came out.
    Base64 {
        bytes: Option<u32>,
        offset: u32,
        relative: bool,
        steps: Vec<Step>,
    },
    /// An HTTP authority's length by `urilen:…,raw` and the like is a [`Step::Size`] of its buffer.
    FileHash(super::sets::FileHashes),
    FileSize(super::number::Compare<u64>),
    FileStore,
}

/// In the place of a number, where there are too many.
pub(crate) const NO_PLACE: u32 = u32::MAX;

/// Steps on one buffer of the application layer, of packet headers, or of a frame.
#[derive(Clone, Debug)]
pub(crate) struct BufferTest {
    pub buffer: Buffer,
    /// Number of buffer and transforms together, among all rules; or [`NO_PLACE`].
    pub place: u32,
    pub transforms: Vec<Transform>,
    pub steps: Vec<Step>,
}

impl BufferTest {
    pub(crate) fn same_place(&self, buffer: &Buffer, transforms: &[Transform]) -> bool {
        self.buffer == *buffer && self.transforms == transforms
    }
}

/// `flow:…`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FlowWanted {
    pub to_server: bool,
    pub to_client: bool,
    pub established: bool,
    pub not_established: bool,
    pub stateless: bool,
    pub only_stream: bool,
    pub no_stream: bool,
    pub only_fragment: bool,
    pub no_fragment: bool,
}

/// What happens when the rule has matched.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    FlowBits(Bits),
    FlowInt(FlowInt),
    XBits(HostBits),
    HostBits(HostBits),
    Tag(super::state::Tag),
}

/// Where the most selective pattern lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fast {
    Payload(usize),
    Buffer(usize, usize),
}

/// A rule that was loaded.
#[derive(Clone, Debug)]
pub struct Rule {
    pub action: Action,
    /// The action as it is written; [`RuleSet::decide`](super::RuleSet::decide) may have changed the other.
    pub written: Action,
    /// Name of its file without folder and ending: what a policy calls a group.
    pub group: Arc<str>,
    pub gid: u32,
    pub sid: u32,
    pub rev: u32,
    pub msg: String,
    pub class: Option<String>,
    /// 1 is the gravest.
    pub priority: u8,
    pub references: Vec<(String, String)>,
    pub metadata: Vec<(String, String)>,
    /// The rule as it was written.
    pub text: Arc<str>,
    pub(crate) proto: ProtoMatch,
    pub(crate) src: Arc<Ranges>,
    pub(crate) sport: Arc<Ranges>,
    pub(crate) dst: Arc<Ranges>,
    pub(crate) dport: Arc<Ranges>,
    pub(crate) both_ways: bool,
    pub(crate) flow: Option<FlowWanted>,
    /// Directions that the rule can match in, after its buffers were considered.
    pub(crate) to_server: bool,
    pub(crate) to_client: bool,
    pub(crate) packet: Vec<PacketTest>,
    pub(crate) payload: Vec<Step>,
    pub(crate) buffers: Vec<BufferTest>,
    pub(crate) app_tests: Vec<AppTest>,
    pub(crate) effects: Vec<Effect>,
    pub(crate) threshold: Option<Threshold>,
    pub(crate) detection_filter: Option<Threshold>,
    pub(crate) no_alert: bool,
    /// `alert` as a keyword: a pass rule that is recorded.
    pub(crate) alert_too: bool,
    pub(crate) fast: Option<Fast>,
    /// Inspects packet payloads, even where they are part of a stream.
    pub(crate) needs_packet: bool,
    /// Inspects reassembled streams.
    pub(crate) needs_stream: bool,
    /// Only packets of the wire, none that end a stream.
    pub(crate) real_packet: bool,
    /// Where `target:` points.
    pub target: Option<Target>,
    /// Place in the order of evaluation.
    pub(crate) order: u32,
}

/// Which side is the victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Src,
    Dst,
}

impl Rule {
    /// Whether the rule is judged once a transaction (and not once a packet).
    pub(crate) fn is_app(&self) -> bool {
        !self.app_tests.is_empty() || self.buffers.iter().any(|test| test.buffer.is_app())
    }

    /// Whether nothing but addresses decides: judged once a flow and direction.
    pub(crate) fn is_ip_only(&self) -> bool {
        let header = self.proto.app.is_none()
            && !self.proto.tcp_packet
            && !self.proto.tcp_stream
            && !self.proto.header_only
            && self.sport.is_all()
            && self.dport.is_all();
        let effects = self.effects.iter().all(|effect| matches!(effect, Effect::Tag(_)));
        let plain = self.packet.is_empty() && self.payload.is_empty() && self.buffers.is_empty();
        header && plain && self.app_tests.is_empty() && self.flow.is_none() && effects
    }
}
