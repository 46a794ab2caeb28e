//! What need not be looked at any more: encrypted flows, flows that a rule lets pass, and the rest of a long answer.
//!
//! An answer is passed over while it is content and nothing else, by the length that it stated or since it has no
//! parser, and only until the client speaks again: a connection is never let out of sight for good because much was
//! sent on it, and what a client sends is always judged. How far the answer has come is told by the client's
//! acknowledgements.

use crate::app::Dir;
use crate::decode::{Packet, TCP, tcp_flag};
use crate::engine::Core;
use crate::flow::{Flow, FlowVerdict};
use crate::verdict::Verdict;

/// So much before the end of an answer it is looked at again.
const MARGIN: u64 = 256 << 10;

impl Core {
    /// The verdict, with what it spares the rest of the flow.
    pub(crate) fn relieved(&mut self, packet: &Packet<'_>, flow: &mut Flow, verdict: Verdict) -> Verdict {
        let Some(most) = self.settings.stream.bulk else { return verdict };
        if flow.verdict != FlowVerdict::Inspect || packet.proto != TCP || flow.proto != TCP {
            return verdict;
        }
        if flow.no_payload && !flow.released {
            flow.released = true;
            self.counters.encrypted += 1;
        }
        let dir = flow.dir(packet);
        let spoke = dir == Dir::ToServer && !packet.payload.is_empty();
        if dir == Dir::ToClient {
            flow.replied += packet.payload.len() as u64;
        } else if spoke {
            flow.replied = 0;
        }
        if verdict != Verdict::Accept {
            return verdict;
        }
        if flow.released {
            return Verdict::AcceptFlow;
        }
        let ahead = content_ahead(flow);
        if flow.bulk {
            let ends = packet.tcp.is_some_and(|tcp| tcp.flags & (tcp_flag::FIN | tcp_flag::RST) != 0);
            if dir == Dir::ToServer && (spoke || ends || ahead <= MARGIN) {
                flow.bulk = false;
                return Verdict::InspectReplies;
            }
        } else if dir == Dir::ToClient && flow.replied > most && ahead > 2 * MARGIN {
            flow.bulk = true;
            flow.had_bulk = true;
            self.counters.bulk += 1;
            return Verdict::AcceptReplies;
        }
        Verdict::Accept
    }
}

/// How much of the answer that is being sent can be passed over.
fn content_ahead(flow: &Flow) -> u64 {
    match &flow.parser {
        Some(parser) if !flow.failed => parser.content_ahead(Dir::ToClient),
        Some(_) => u64::MAX,
        None if flow.app_settled == [true; 2] => u64::MAX,
        None => 0,
    }
}
