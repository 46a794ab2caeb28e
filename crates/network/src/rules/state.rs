//! Keywords that read and change what is remembered of a flow, a host or a pair of hosts.

/// `flowbits`, with the bits as numbers of the rule set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bits {
    pub command: BitCommand,
    /// Any of them for a test; the only one for a change.
    pub bits: Vec<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BitCommand {
    Set,
    Unset,
    Toggle,
    IsSet,
    IsNotSet,
}

impl BitCommand {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "set" => Self::Set,
            "unset" => Self::Unset,
            "toggle" => Self::Toggle,
            "isset" => Self::IsSet,
            "isnotset" => Self::IsNotSet,
            _ => return None,
        })
    }

    pub(crate) fn is_test(self) -> bool {
        matches!(self, Self::IsSet | Self::IsNotSet)
    }
}

/// Whose bit it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Track {
    Src,
    Dst,
    Both,
    Pair,
    Rule,
    Flow,
}

/// `hostbits` and `xbits`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostBits {
    pub command: BitCommand,
    pub bit: u32,
    pub track: Track,
    /// Seconds.
    pub expire: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IntCommand {
    Add,
    Subtract,
    Set,
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
    IsSet,
    IsNotSet,
}

/// `flowint`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FlowInt {
    pub name: u32,
    pub command: IntCommand,
    pub value: IntValue,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IntValue {
    Number(u32),
    Other(u32),
    None,
}

impl FlowInt {
    pub(crate) fn is_test(&self) -> bool {
        !matches!(self.command, IntCommand::Add | IntCommand::Subtract | IntCommand::Set)
    }
}

/// `tag`: which packets after the alert are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Of the flow, or of the host on this side of the packet.
    pub of: TagOf,
    pub count: u32,
    pub metric: TagMetric,
}

/// Whose packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagOf {
    Flow,
    Src,
    Dst,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagMetric {
    Packets,
    Seconds,
    Bytes,
}
