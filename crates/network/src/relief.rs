//! What need not be looked at any more: encrypted flows, flows that a rule lets pass, and the rest of a long answer.
//!
//! An answer is passed over while it is content and nothing else, by the length that it stated or since it has no
//! parser, and only until the client speaks again: a connection is never let out of sight for good because much was
//! sent on it, and what a client sends is always judged. Behind an answer that is passed over no other one is due: of
//! requests in a row each answer is judged but the last. How far it has come is told by the client's
//! acknowledgements, of which some are enough while the end is far: judging each would cost more than the answer.

use crate::app::Dir;
use crate::decode::{Packet, TCP, tcp_flag};
use crate::engine::Core;
use crate::flow::{Bulk, Flow, FlowVerdict};
use crate::verdict::Verdict;

/// So much before the end of an answer it is looked at again.
const MARGIN: u64 = 256 << 10;
/// So much before it every acknowledgement is looked at.
const FAR: u64 = 64 << 20;

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
        if flow.packets.iter().sum::<u64>() == 1 && flow.tcp.as_ref().is_some_and(|session| session.midstream) {
            // An engine before this one may have passed over its replies.
            return Verdict::InspectReplies;
        }
        let ahead = content_ahead(flow);
        match (flow.bulk, dir) {
            (Bulk::None, Dir::ToClient) if flow.replied > most && ahead > 2 * MARGIN => {
                flow.had_bulk = true;
                self.counters.bulk += 1;
                // For less than a quarter more the change would not be worth it.
                flow.bulk = if ahead > FAR + FAR / 4 { Bulk::Far } else { Bulk::Near };
            }
            (Bulk::Near | Bulk::Far, Dir::ToServer) => {
                let ends = packet.tcp.is_some_and(|tcp| tcp.flags & (tcp_flag::FIN | tcp_flag::RST) != 0);
                if spoke || ends || ahead <= MARGIN {
                    flow.bulk = Bulk::None;
                    return Verdict::InspectReplies;
                }
                if flow.bulk == Bulk::Near || ahead > FAR {
                    return Verdict::Accept;
                }
                flow.bulk = Bulk::Near;
            }
            _ => return Verdict::Accept,
        }
        if flow.bulk == Bulk::Far { Verdict::AcceptFarReplies } else { Verdict::AcceptReplies }
    }
}

/// How much of the answer that is being sent can be passed over.
fn content_ahead(flow: &Flow) -> u64 {
    let due = flow.txs.list.iter().filter(|tx| !tx.is_complete(Dir::ToClient)).count();
    match &flow.parser {
        Some(parser) if !flow.failed => {
            if due > 1 {
                0
            } else {
                parser.content_ahead(Dir::ToClient)
            }
        }
        Some(_) => u64::MAX,
        None if flow.app_settled == [true; 2] => u64::MAX,
        None => 0,
    }
}
