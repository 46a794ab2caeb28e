//! From streams to application parsers: what is due when, which protocol it is, and how a flow ends.

use crate::app::{AppProto, Dir, Found, FtpData, Status, parser, probe};
use crate::decode::{Packet, TCP, tcp_flag};
use crate::engine::Core;
use crate::flow::stream::Next;
use crate::flow::tcp::State;
use crate::flow::{ExceptionPolicy, Flow, FlowVerdict, Urgent};

/// Most bytes that wait while the protocol is not known.
const MOST_UNKNOWN: u64 = 16 << 10;
/// Most data connections that are waited for, and for how long.
const MOST_EXPECTED: usize = 1024;
const EXPECTED_FOR: i64 = 120_000_000;

impl Core {
    /// Puts the bytes of a good segment into the stream and moves the application on.
    pub(crate) fn take_segment(&mut self, packet: &Packet<'_>, flow: &mut Flow, dir: Dir) -> bool {
        let (Some(tcp), Some(session)) = (packet.tcp, flow.tcp.as_mut()) else { return false };
        let settings = &self.settings.stream;
        let fitting = settings.hosts.iter().filter(|(network, _)| network.contains(packet.dst));
        let host = fitting.min_by_key(|(network, _)| network.span());
        let policy = host.map_or(settings.policy, |host| host.1);
        let inline = settings.inline;
        let syn = tcp.flags & tcp_flag::SYN != 0;
        let mut payload = packet.payload;
        // Data on a SYN counts only with fast open.
        if syn && !(session.fast_open && dir == Dir::ToServer) {
            payload = &[];
        }
        let urgent = tcp.flags & tcp_flag::URG != 0 && tcp.urgent > 0;
        if urgent && settings.urgent == Urgent::Drop {
            flow.urgent = true;
            return false;
        }
        // The urgent byte is no part of the stream: what follows moves up by one.
        if urgent && settings.urgent == Urgent::Oob && usize::from(tcp.urgent) <= payload.len() {
            session.stream(dir).take_out(tcp.seq.wrapping_add(u32::from(tcp.urgent) - 1));
        }
        let kept = session.stream(dir).without_urgent(tcp.seq, payload);
        let payload = kept.as_ref();
        let mut added = false;
        if !payload.is_empty() {
            flow.first_data.get_or_insert(dir);
            let seq = if syn { tcp.seq.wrapping_add(1) } else { tcp.seq };
            let stream = session.stream(dir);
            if !stream.depth_reached {
                let from = stream.app_progress.min(stream.raw_progress);
                let first = if inline { crate::decode::Overlap::First } else { policy };
                // Near the limit nothing that came too early is kept: the sender sends it again.
                let full = self.held > self.settings.flow.memory / 4 * 3 && stream.is_ahead(seq);
                added = !full && stream.insert(seq, payload, first, settings.depth, from);
                flow.not_kept = !added;
            }
        }
        let closing = tcp.flags & tcp_flag::RST != 0;
        let closed = session.state == State::Closed;
        if syn {
            // Data that comes with a handshake is looked at when the connection goes on.
            return added;
        }
        if inline {
            self.advance(flow, dir, true, packet.time);
            self.advance(flow, dir.other(), false, packet.time);
        } else {
            self.advance(flow, dir.other(), false, packet.time);
            if closing || closed {
                self.advance(flow, dir, closing, packet.time);
            }
        }
        if closed && !flow.failed {
            for one in [Dir::ToServer, Dir::ToClient] {
                let done = flow.tcp.as_ref().is_some_and(|session| {
                    let stream = session.stream_ref(one);
                    stream.app_progress >= stream.right
                });
                if done && let Some(parser) = flow.parser.as_mut() {
                    parser.end(one, &mut flow.txs);
                }
            }
        }
        added
    }

    /// Gives a direction's due bytes to the application. `all` also gives what is not acknowledged.
    pub(crate) fn advance(&mut self, flow: &mut Flow, dir: Dir, all: bool, now: i64) {
        loop {
            let Some(session) = flow.tcp.as_mut() else { return };
            let stream = session.stream(dir);
            let acked = stream.acked();
            let limit = if all { stream.right } else { acked };
            match stream.next(limit, acked.max(if all { 0 } else { acked })) {
                Next::Nothing => return,
                Next::Gap(length) => {
                    stream.app_progress += length;
                    stream.gap_seen = true;
                    // What came before and after it is not looked at together any more: raw bytes are due.
                    stream.trigger = true;
                    let status = match flow.parser.as_mut() {
                        Some(parser) if parser.bears_gaps() => parser.gap(dir, length as usize, &mut flow.txs),
                        Some(_) => Status::Failed,
                        None => {
                            if let Some(done) = flow.app_settled.get_mut(dir as usize).filter(|_| flow.app.is_none()) {
                                *done = true;
                            }
                            Status::Going
                        }
                    };
                    self.heed(flow, status);
                }
                Next::Data(length) => {
                    let from = stream.app_progress;
                    let to = from + length as u64;
                    // A parser that is there does not touch the stream: it may read the bytes where they lie.
                    if flow.parser.is_some()
                        && let Some((data, skip)) = stream.lend(from, to)
                    {
                        self.give(flow, dir, data.get(skip..skip + length).unwrap_or_default(), now);
                        let Some(session) = flow.tcp.as_mut() else { return };
                        let stream = session.stream(dir);
                        stream.give_back(from, data);
                        stream.app_progress = to;
                        continue;
                    }
                    let mut bytes = std::mem::take(&mut self.due_bytes);
                    bytes.clear();
                    stream.copy(from, to, &mut bytes);
                    let known = flow.parser.is_some() || flow.app.is_some() || self.recognise(flow, dir, &bytes);
                    if known && !flow.turned {
                        self.give(flow, dir, &bytes, now);
                        if let Some(session) = flow.tcp.as_mut() {
                            session.stream(dir).app_progress = to;
                        }
                    }
                    self.due_bytes = bytes;
                    if !known {
                        return;
                    }
                    if std::mem::take(&mut flow.turned) {
                        // The sender turned out to be the other side.
                        return self.advance(flow, dir.other(), all, now);
                    }
                }
            }
        }
    }

    /// Tries to tell the protocol. Gives whether the bytes can go on.
    fn recognise(&mut self, flow: &mut Flow, dir: Dir, bytes: &[u8]) -> bool {
        if !self.expected.is_empty() && self.announced(flow) {
            return true;
        }
        let ports = (flow.client_port, flow.server_port);
        let settled = flow.app_settled.get(dir as usize).copied().unwrap_or(true);
        if !settled {
            match probe(dir, bytes, ports, false, &self.settings.app.dns_ports) {
                Found::Yes(app) => {
                    self.settle(flow, app, false);
                    return true;
                }
                Found::Wait if (bytes.len() as u64) < MOST_UNKNOWN => return false,
                _ => {
                    if self.turn(flow, dir, bytes) {
                        return true;
                    }
                    if let Some(done) = flow.app_settled.get_mut(dir as usize) {
                        *done = true;
                    }
                }
            }
        }
        let both = flow.app_settled.iter().all(|done| *done);
        if both {
            return true;
        }
        // The other direction may still tell; what came waits for it, but not for ever.
        bytes.len() as u64 >= MOST_UNKNOWN
    }

    /// Of a connection whose beginning was not seen the first packet may be the server's: its words tell.
    fn turn(&mut self, flow: &mut Flow, dir: Dir, bytes: &[u8]) -> bool {
        let alone = flow.tcp.as_ref().is_some_and(|session| {
            session.midstream && !session.sides_known && session.stream_ref(dir.other()).right == 0
        });
        if !alone || dir != Dir::ToServer {
            return false;
        }
        let ports = (flow.server_port, flow.client_port);
        let Found::Yes(app) = probe(Dir::ToClient, bytes, ports, false, &self.settings.app.dns_ports) else {
            return false;
        };
        flow.turn();
        if let Some(session) = flow.tcp.as_mut() {
            session.streams.reverse();
            session.sides_known = true;
        }
        flow.first_data = Some(Dir::ToClient);
        flow.turned = true;
        self.settle(flow, app, false);
        true
    }

    fn settle(&mut self, flow: &mut Flow, app: AppProto, udp: bool) {
        flow.app = Some(app);
        flow.app_settled = [true; 2];
        flow.parser = parser(app, &self.settings.app, udp);
    }

    fn give(&mut self, flow: &mut Flow, dir: Dir, bytes: &[u8], now: i64) {
        if flow.failed {
            return;
        }
        let before = flow.txs.completed(dir);
        let Some(parser) = flow.parser.as_mut() else { return };
        let status = parser.data(dir, bytes, &mut flow.txs);
        if let Some(expected) = parser.expected()
            && self.expected.len() < MOST_EXPECTED
        {
            self.expected.push((now, expected));
        }
        // A message that is whole asks for the raw bytes to be looked at.
        if flow.txs.completed(dir) > before
            && let Some(session) = flow.tcp.as_mut()
        {
            session.stream(dir).trigger = true;
        }
        self.heed(flow, status);
    }

    fn heed(&mut self, flow: &mut Flow, status: Status) {
        match status {
            Status::Going => {}
            Status::Failed => {
                flow.failed = true;
                let policy = match self.settings.stream.app_error_policy {
                    ExceptionPolicy::Auto if self.settings.outcome.prevent => ExceptionPolicy::Ignore,
                    other => other,
                };
                match policy {
                    ExceptionPolicy::DropFlow | ExceptionPolicy::DropPacket | ExceptionPolicy::Reject => {
                        flow.verdict = FlowVerdict::Drop;
                    }
                    ExceptionPolicy::PassFlow | ExceptionPolicy::Bypass => flow.verdict = FlowVerdict::Pass,
                    _ => {}
                }
            }
            Status::Upgrade(app) => {
                let mut rest = Vec::new();
                if let Some(former) = flow.parser.as_mut() {
                    rest = vec![
                        (Dir::ToServer, former.leftover(Dir::ToServer)),
                        (Dir::ToClient, former.leftover(Dir::ToClient)),
                    ];
                }
                flow.app = Some(app);
                flow.parser = parser(app, &self.settings.app, false);
                for (dir, bytes) in rest.into_iter().filter(|rest| !rest.1.is_empty()) {
                    if let Some(fresh) = flow.parser.as_mut()
                        && fresh.data(dir, &bytes, &mut flow.txs) == Status::Failed
                    {
                        flow.failed = true;
                    }
                }
            }
            Status::Encrypted => flow.no_payload = true,
        }
    }

    /// A UDP packet goes to its parser at once.
    pub(crate) fn datagram(&mut self, packet: &Packet<'_>, flow: &mut Flow, dir: Dir) {
        if packet.payload.is_empty() || flow.failed {
            return;
        }
        if flow.app.is_none() && !flow.app_settled.get(dir as usize).copied().unwrap_or(true) {
            let ports = (flow.client_port, flow.server_port);
            match probe(dir, packet.payload, ports, true, &self.settings.app.dns_ports) {
                Found::Yes(app) => self.settle(flow, app, true),
                _ => {
                    if let Some(done) = flow.app_settled.get_mut(dir as usize) {
                        *done = true;
                    }
                }
            }
        }
        self.give(flow, dir, packet.payload, packet.time);
    }

    /// Whether an FTP command announced this connection; its parser is set then.
    fn announced(&mut self, flow: &mut Flow) -> bool {
        let now = flow.last;
        self.expected.retain(|(since, _)| now - since < EXPECTED_FOR);
        let at = self.expected.iter().position(|(_, one)| one.port == flow.server_port || one.port == flow.client_port);
        let Some(at) = at else { return false };
        let (_, expected) = self.expected.remove(at);
        flow.app = Some(AppProto::FtpData);
        flow.app_settled = [true; 2];
        flow.parser = Some(Box::new(FtpData::announced(&expected)));
        true
    }

    /// The raw bytes of a stream that are due with this packet, put into a buffer where they are looked at; gives up to
    /// where.
    pub(crate) fn due(
        &mut self,
        packet: &Packet<'_>,
        flow: &mut Flow,
        dir: Dir,
        in_stream: bool,
        out: Option<&mut Vec<u8>>,
    ) -> Option<u64> {
        let settings = &self.settings.stream;
        let chunk = if dir == Dir::ToServer { settings.to_server_chunk } else { settings.to_client_chunk };
        let session = flow.tcp.as_mut()?;
        let stream = session.stream(dir);
        if settings.inline && !packet.made_up {
            let tcp = packet.tcp?;
            if !in_stream || packet.payload.is_empty() {
                return None;
            }
            let seq = if tcp.flags & tcp_flag::SYN != 0 { tcp.seq.wrapping_add(1) } else { tcp.seq };
            let left = stream.offset(seq)?;
            let right = (left + packet.payload.len() as u64).min(stream.run_end(left));
            // What came before is looked at again with it, at least half a chunk: a pattern may lie across two segments,
            // however long the second is.
            let length = packet.payload.len() as u64;
            let back = chunk.saturating_sub(length).max(chunk / 2);
            let from = stream.run_start(left).max(left.saturating_sub(back));
            let end = stream.run_end(left).min(from + chunk.max(right - from));
            if let Some(out) = out {
                stream.copy(from, end, out);
            }
            return (end > from).then_some(end);
        }
        let to = if packet.made_up { stream.right } else { stream.acked() };
        let mut from = stream.raw_progress;
        if to <= from {
            return None;
        }
        let ready = packet.made_up || stream.trigger || stream.depth_reached || to - from >= chunk;
        if !ready {
            return None;
        }
        // Missing bytes are passed over.
        from = stream.first_from(from).filter(|start| *start < to)?;
        let end = stream.run_end(from).min(to);
        if let Some(out) = out {
            stream.copy(from, end, out);
        }
        (end > from).then_some(end)
    }

    /// A flow is over: what was not looked at yet is looked at now.
    pub(crate) fn end_flow(&mut self, mut flow: Box<Flow>) {
        self.look_at_end(&mut flow);
        if let Some(records) = &mut self.records {
            records.flow(&flow);
        }
    }

    fn look_at_end(&mut self, flow: &mut Flow) {
        if flow.proto != TCP || flow.tcp.is_none() || flow.verdict != FlowVerdict::Inspect {
            return;
        }
        let state = flow.tcp.as_ref().map_or(State::Closed, |session| session.state);
        for dir in [Dir::ToServer, Dir::ToClient] {
            let open_tx =
                flow.txs.list.iter().any(|tx| tx.state.get(dir as usize).is_some_and(|state| !state.finished));
            let pending = flow.tcp.as_ref().is_some_and(|session| {
                let stream = session.stream_ref(dir);
                stream.right > stream.app_progress || (stream.right > stream.raw_progress && !flow.no_payload)
            });
            let alive = state >= State::Established && state != State::Closed;
            if !(alive || open_tx || pending) {
                continue;
            }
            self.last_look(flow, dir);
        }
    }

    fn last_look(&mut self, flow: &mut Flow, dir: Dir) {
        self.advance(flow, dir, true, flow.last);
        if let Some(parser) = flow.parser.as_mut().filter(|_| !flow.failed) {
            parser.end(dir, &mut flow.txs);
        }
        // More than one run of bytes may be left, with gaps between.
        for _ in 0..64 {
            let mut packet = Packet::new(flow.last, 0, &[]);
            packet.made_up = true;
            packet.version = if flow.client.is_ipv4() { 4 } else { 6 };
            packet.proto = flow.proto;
            let (src, dst) = ((flow.client, flow.client_port), (flow.server, flow.server_port));
            let (src, dst) = if dir == Dir::ToServer { (src, dst) } else { (dst, src) };
            (packet.src, packet.sport, packet.dst, packet.dport) = (src.0, src.1, dst.0, dst.1);
            let established = flow.tcp.as_ref().is_some_and(|session| session.established());
            self.judge(&packet, flow, dir, established, false, &[]);
            let more = flow.tcp.as_ref().is_some_and(|session| {
                let stream = session.stream_ref(dir);
                stream.first_from(stream.raw_progress).is_some()
            });
            if !more {
                return;
            }
        }
    }
}
