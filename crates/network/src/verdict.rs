//! What becomes of a packet.

use crate::app::Dir;
use crate::flow::Flow;

/// What is done with a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    #[default]
    Accept,
    /// The rest of the flow needs no inspection.
    AcceptFlow,
    /// What the server sends needs none until further notice.
    AcceptReplies,
    /// The same, and much is still to come: some of the client's acknowledgements are enough until further notice.
    AcceptFarReplies,
    /// It needs inspection again.
    InspectReplies,
    Drop,
    /// Drop this and the rest of the flow.
    DropFlow,
    /// Drop and answer its sender: by RST, or ICMP where there is none.
    Reject,
}

impl Verdict {
    /// The graver of two.
    pub(crate) fn with(self, other: Self) -> Self {
        let weight = |verdict: Self| match verdict {
            Self::Accept => 0,
            Self::AcceptFlow | Self::AcceptReplies | Self::AcceptFarReplies | Self::InspectReplies => 1,
            Self::Drop => 2,
            Self::DropFlow => 3,
            Self::Reject => 4,
        };
        if weight(other) > weight(self) { other } else { self }
    }

    /// Without what it says of a flow.
    pub(crate) fn of_packet(self) -> Self {
        match self {
            other if other.accepts() => Self::Accept,
            Self::DropFlow => Self::Drop,
            other => other,
        }
    }

    /// Whether the packet goes on.
    pub fn accepts(self) -> bool {
        !matches!(self, Self::Drop | Self::DropFlow | Self::Reject)
    }
}

/// What becomes of a packet of a flow that is dropped. Where one side is still to be refused, its packets must come.
pub(crate) fn refusal(flow: &Flow, dir: Dir) -> Verdict {
    match flow.refused {
        [false, false] => Verdict::DropFlow,
        sides if sides.get(dir as usize).copied().unwrap_or(false) => Verdict::Reject,
        _ => Verdict::Drop,
    }
}
