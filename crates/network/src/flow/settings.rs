//! How flows are followed and streams put together, and their limits.

use crate::decode::Overlap;

/// Limits of the flow table.
#[derive(Clone, Debug)]
pub struct FlowSettings {
    /// Most flows.
    pub most: usize,
    /// Most bytes that all flows keep: streams, what parsers hold, transactions with their bodies and files.
    pub memory: usize,
    /// Seconds after which a quiet flow is over: new, established, closed.
    pub tcp: (i64, i64, i64),
    pub udp: (i64, i64),
    pub icmp: (i64, i64),
    pub other: (i64, i64),
}

impl Default for FlowSettings {
    fn default() -> Self {
        Self { most: 100_000, memory: 256 << 20, tcp: (60, 600, 60), udp: (30, 300), icmp: (30, 300), other: (30, 300) }
    }
}

/// How streams are put together.
#[derive(Clone, Debug)]
pub struct StreamSettings {
    /// Connections whose beginning was not seen are followed.
    pub midstream: bool,
    pub midstream_policy: ExceptionPolicy,
    /// Only one direction may be seen.
    pub async_one_side: bool,
    /// Inspect before delivery, and not when the other side has acknowledged.
    pub inline: bool,
    pub checksums: bool,
    /// Bytes of one direction that are put together; 0 is all.
    pub depth: u64,
    /// Raw bytes are inspected in pieces of so many.
    pub to_server_chunk: u64,
    pub to_client_chunk: u64,
    pub policy: Overlap,
    pub hosts: Vec<(crate::rules::Network, Overlap)>,
    /// What becomes of urgent data.
    pub urgent: Urgent,
    /// What becomes of a flow whose parser gave up.
    pub app_error_policy: ExceptionPolicy,
    /// After so many bytes of one answer its rest is passed over, where it is content alone, and packets of encrypted
    /// flows are not wanted. `None` judges all.
    pub bulk: Option<u64>,
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self {
            midstream: false,
            midstream_policy: ExceptionPolicy::Auto,
            async_one_side: false,
            inline: false,
            checksums: true,
            depth: 1 << 20,
            to_server_chunk: 2560,
            to_client_chunk: 2560,
            policy: Overlap::Bsd,
            hosts: Vec::new(),
            urgent: Urgent::Oob,
            app_error_policy: ExceptionPolicy::Auto,
            bulk: None,
        }
    }
}

/// Urgent data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgent {
    /// The urgent byte is not part of the stream.
    Oob,
    Inline,
    Drop,
    Gap,
}

/// What is done where inspection cannot do its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExceptionPolicy {
    /// Drop where packets can be dropped, else nothing.
    Auto,
    Ignore,
    DropFlow,
    DropPacket,
    PassFlow,
    PassPacket,
    Bypass,
    Reject,
}
