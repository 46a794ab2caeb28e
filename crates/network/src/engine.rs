//! The engine: takes frames, keeps flows, gives verdicts and alerts.

use std::net::IpAddr;
use std::sync::Arc;

use crate::alert::Alert;
use crate::app::Dir;
use crate::capture::Frame;
use crate::decode::{Checksum, Decoder, ICMP, ICMP6, Packet, SCTP, TCP, UDP, tcp_flag};
use crate::detect::{Detector, Subject};
use crate::flow::tcp::{Judged, Session, State};
use crate::flow::{ExceptionPolicy, Flow, FlowTable, FlowVerdict, Key};
use crate::notice::{Counts, Notices};
use crate::rules::RuleSet;
use crate::settings::Settings;
use crate::verdict::{Verdict, refusal};

/// What happened, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub frames: u64,
    pub packets: u64,
    pub flows: u64,
    pub alerts: u64,
    pub dropped: u64,
    /// Matches beyond what one packet may have.
    pub discarded: u64,
    /// Flows that had to go because there were too many, or they kept too much.
    pub flows_pushed_out: u64,
    /// Bytes that flows keep: a sum of what is large, not of all.
    pub kept: u64,
    /// Fragments' packets that were given up.
    pub fragments_given_up: u64,
    /// Flows whose content cannot be seen since it is encrypted.
    pub encrypted: u64,
    /// Times when the rest of an answer was passed over.
    pub bulk: u64,
    /// Bytes that were passed over.
    pub bulk_bytes: u64,
    /// Segments with bytes that did not belong to their connection; where packets can be dropped, they are.
    pub alien: u64,
    /// Segments that could not be kept; where packets can be dropped, they are.
    pub not_kept: u64,
}

/// Inspects packets. One engine a thread.
pub struct Engine {
    decoder: Decoder,
    pub(crate) core: Core,
}

pub(crate) struct Core {
    pub settings: Settings,
    pub flows: FlowTable,
    pub detector: Detector,
    pub counters: Counters,
    pub out: Vec<Alert>,
    /// Of the last packet.
    pub last_flow: Option<u64>,
    /// The stream's bytes that rules look at.
    pub scratch: Vec<u8>,
    /// Bytes on their way to a parser.
    pub due_bytes: Vec<u8>,
    /// Data connections that were announced.
    pub expected: Vec<(i64, crate::app::Expected)>,
    /// Bytes that all flows keep.
    pub held: usize,
    /// Flows that had to go because all together kept too much.
    pub heavy: u64,
    notices: Notices,
    /// What is over, where somebody asked for it.
    pub records: Option<crate::eve::Records>,
}

/// Rules made ready for an engine; the long part of a change of rules, which can be done beside it.
pub struct Prepared(Detector);

impl Prepared {
    pub fn new(rules: Arc<RuleSet>, settings: &Settings) -> Self {
        Self(Detector::new(rules, settings.outcome.clone()))
    }
}

impl Engine {
    pub fn new(settings: Settings, rules: Arc<RuleSet>) -> Self {
        let prepared = Prepared::new(rules, &settings);
        Self::prepared(settings, prepared)
    }

    /// With rules that were made ready for these settings.
    pub fn prepared(settings: Settings, prepared: Prepared) -> Self {
        let decoder = Decoder::new(settings.decode.clone(), settings.defrag.clone());
        let core = Core {
            flows: FlowTable::new(settings.flow.clone()),
            detector: prepared.0,
            settings,
            counters: Counters::default(),
            out: Vec::new(),
            last_flow: None,
            scratch: Vec::new(),
            due_bytes: Vec::new(),
            expected: Vec::new(),
            held: 0,
            heavy: 0,
            notices: Notices::new(),
            records: None,
        };
        Self { decoder, core }
    }

    /// The reputation of an address in a category (`iprep`).
    pub fn set_reputation(&mut self, address: IpAddr, category: &str, value: u8) {
        self.core.detector.hosts.set_reputation(address, category, value);
    }

    /// Takes a frame; alerts are added to the list.
    pub fn frame(&mut self, frame: &Frame<'_>, number: u64, alerts: &mut Vec<Alert>) -> Verdict {
        let (decoder, core) = (&mut self.decoder, &mut self.core);
        core.counters.frames += 1;
        core.last_flow = None;
        let mut verdict = Verdict::Accept;
        let mut packets = 0;
        decoder.frame(frame, number, &mut |packet| {
            packets += 1;
            verdict = verdict.with(core.packet(packet));
        });
        core.make_room(frame.time);
        alerts.append(&mut core.out);
        core.notices.tell(core.counts(decoder.defrag.given_up), number, frame.time, alerts);
        // What is said of one flow among several in a tunnel is not said of the tunnel.
        if packets > 1 { verdict.of_packet() } else { verdict }
    }

    /// The flow that the last frame belonged to; of several in a tunnel the last.
    pub fn last_flow(&self) -> Option<u64> {
        self.core.last_flow
    }

    /// Other rules from the next packet on. Flows go on, and so do counts of rules that both sets have; what rules
    /// noted on flows and hosts is forgotten, since it may mean something else to the new ones. Transactions that are open
    /// are looked at anew: a rule that had found something in one may say so again.
    pub fn change_rules(&mut self, prepared: Prepared) {
        let before = std::mem::replace(&mut self.core.detector, prepared.0);
        self.core.detector.hosts = before.hosts;
        self.core.detector.hosts.forget_bits();
        self.core.flows.each(|flow| {
            flow.bits.clear();
            flow.ints.clear();
            flow.txs.look_again();
        });
    }

    /// Ends all flows, as if nothing more came.
    pub fn finish(&mut self, alerts: &mut Vec<Alert>) {
        for flow in self.core.flows.drain() {
            self.core.let_go(flow);
        }
        alerts.append(&mut self.core.out);
    }

    pub fn counters(&self) -> Counters {
        Counters {
            flows_pushed_out: self.core.flows.pushed_out + self.core.heavy,
            kept: self.core.held as u64,
            fragments_given_up: self.decoder.defrag.given_up,
            ..self.core.counters
        }
    }
}

impl Core {
    fn packet(&mut self, packet: &Packet<'_>) -> Verdict {
        self.counters.packets += 1;
        while let Some(flow) = self.flows.expired(packet.time) {
            self.let_go(flow);
        }
        let with_flow = packet.version != 0
            && !packet.is_fragment
            && matches!(packet.proto, TCP | UDP | ICMP | ICMP6 | SCTP)
            && !packet.transport_header.is_empty();
        if !with_flow {
            let subject = self.bare(packet);
            let judgement = self.detector.inspect(&subject, None);
            return self.conclude(&judgement, &subject, None);
        }
        let (place, mut flow) = self.flow_of(packet);
        self.last_flow = Some(flow.id);
        let verdict = self.in_flow(packet, &mut flow);
        let verdict = self.relieved(packet, &mut flow, verdict);
        let kept = flow.kept();
        self.held = self.held.saturating_sub(flow.counted) + kept;
        flow.counted = kept;
        self.flows.put(place, flow);
        verdict
    }

    /// A flow that is not in the table any more.
    fn let_go(&mut self, flow: Box<Flow>) {
        self.held = self.held.saturating_sub(flow.counted);
        self.end_flow(flow);
    }

    /// While all flows together keep too much, the quietest go.
    fn make_room(&mut self, now: i64) {
        while self.held > self.settings.flow.memory {
            let Some(gone) = self.flows.quietest(now) else { return };
            self.heavy += 1;
            self.let_go(gone);
        }
    }

    fn counts(&self, fragments: u64) -> Counts {
        Counts {
            flows: self.flows.pushed_out,
            memory: self.heavy,
            fragments,
            segments: self.counters.not_kept,
            hosts: self.detector.hosts.forgotten,
            sets: self.detector.sets.full,
        }
    }

    fn bare<'a>(&self, packet: &'a Packet<'a>) -> Subject<'a> {
        Subject {
            packet,
            dir: Dir::ToServer,
            established: false,
            stream: None,
            stream_has_packet: false,
            in_stream: false,
            events: &[],
            no_payload: false,
        }
    }

    /// The flow of a packet, taken out of its place in the table.
    fn flow_of(&mut self, packet: &Packet<'_>) -> (u32, Box<Flow>) {
        let key = Key::of(packet);
        let quoted = packet.quoted.as_ref().map(|quoted| Key::quoted(quoted, packet));
        let known = quoted.and_then(|quoted| self.flows.find(&quoted)).or_else(|| self.flows.find(&key));
        if let Some((place, flow)) = known.and_then(|place| Some((place, self.flows.take(place)?))) {
            let patience = flow.patience(&self.flows.settings).saturating_mul(1_000_000);
            let over = packet.quoted.is_none() && flow.last.saturating_add(patience) < packet.time;
            if !over && !begins_anew(packet, &flow) {
                return (place, flow);
            }
            self.flows.remove(place);
            self.let_go(flow);
        }
        self.counters.flows += 1;
        let (place, flow, gone) = self.flows.open(key, packet);
        if let Some(gone) = gone {
            self.let_go(gone);
        }
        (place, flow)
    }

    fn in_flow(&mut self, packet: &Packet<'_>, flow: &mut Flow) -> Verdict {
        let mut dir = flow.dir(packet);
        if packet.quoted.is_some() && flow.proto != packet.proto {
            // An error about the flow: it goes against the direction of what it quotes.
            dir = if packet.dst == flow.client { Dir::ToClient } else { Dir::ToServer };
        }
        flow.count(dir, packet);
        if flow.verdict == FlowVerdict::Drop {
            self.counters.dropped += 1;
            if packet.tcp.is_some() {
                let mut events = Vec::new();
                self.tcp(packet, flow, &mut dir, &mut events);
            }
            return refusal(flow, dir);
        }
        // What the flow was before this packet counts as its state.
        let was_established = flow.tcp.as_ref().is_some_and(|session| session.established());
        let mut events: Vec<&'static str> = Vec::new();
        let mut in_stream = false;
        let mut alien = false;
        match packet.proto {
            TCP if flow.proto == TCP => {
                let wrong = [packet.checksum, packet.ip_checksum].contains(&Checksum::Wrong);
                if wrong && self.settings.stream.checksums && self.settings.decode.checksums {
                    events.push("stream.pkt_broken_checksum");
                } else {
                    in_stream = self.tcp(packet, flow, &mut dir, &mut events);
                }
                alien = !events.is_empty() && !in_stream && !packet.payload.is_empty();
            }
            UDP if flow.proto == UDP => self.datagram(packet, flow, dir),
            _ => {}
        }
        if flow.verdict == FlowVerdict::Drop {
            self.counters.dropped += 1;
            return refusal(flow, dir);
        }
        if std::mem::take(&mut flow.urgent) && self.settings.outcome.prevent {
            self.counters.dropped += 1;
            return Verdict::Drop;
        }
        if std::mem::take(&mut flow.not_kept) {
            // What cannot be kept would be read by its receiver and by nobody here; the sender sends it again.
            self.counters.not_kept += 1;
            if self.settings.outcome.prevent && self.settings.stream.inline {
                self.counters.dropped += 1;
                return Verdict::Drop;
            }
        }
        if flow.verdict == FlowVerdict::Pass {
            self.pruned(flow);
            return Verdict::AcceptFlow;
        }
        let established = match &flow.tcp {
            Some(session) => was_established || (session.established() && !packet.payload.is_empty()),
            None => flow.proto != TCP && flow.both_seen(),
        };
        // Where an overlap gave the segment other bytes, those that came first are what is judged.
        let mut bytes = Vec::new();
        let differs = in_stream && self.settings.stream.inline && laid(packet, flow, dir, &mut bytes);
        let verdict = if bytes.is_empty() {
            self.judge(packet, flow, dir, established, in_stream, &events)
        } else {
            let mut laid = packet.clone();
            laid.payload = &bytes;
            self.judge(&laid, flow, dir, established, in_stream, &events)
        };
        // Bytes that do not belong to the connection, or that say something else than those which were judged, are not
        // judged with it, and its receiver might take them.
        let prevents = self.settings.outcome.prevent && self.settings.stream.inline;
        if (alien || differs) && verdict == Verdict::Accept && prevents {
            self.counters.dropped += 1;
            self.counters.alien += 1;
            return Verdict::Drop;
        }
        verdict
    }

    /// The session of a TCP packet moves on, its bytes go to the stream and on to the application. Gives whether
    /// bytes went in.
    fn tcp(&mut self, packet: &Packet<'_>, flow: &mut Flow, dir: &mut Dir, events: &mut Vec<&'static str>) -> bool {
        let Some(tcp) = packet.tcp else { return false };
        let settings = &self.settings.stream;
        let Some(session) = flow.tcp.as_mut() else {
            let opening = tcp.flags & (tcp_flag::SYN | tcp_flag::ACK) == tcp_flag::SYN;
            if !opening {
                self.midstream(packet, flow);
            }
            match Session::open(packet, &tcp, &self.settings.stream) {
                Some((session, turned)) => {
                    if turned {
                        flow.turn();
                        *dir = flow.dir(packet);
                    }
                    flow.tcp = Some(Box::new(session));
                }
                None => return false,
            }
            let added = self.take_segment(packet, flow, *dir);
            *dir = flow.dir(packet);
            return added;
        };
        // Also after its end: what was on its way then was passed over as well.
        if flow.had_bulk && *dir == Dir::ToServer && tcp.flags & tcp_flag::ACK != 0 {
            let missed = session.stream(Dir::ToClient).pass_over(tcp.ack);
            self.counters.bulk_bytes += missed;
            if let Some(parser) = flow.parser.as_mut().filter(|_| missed > 0 && !flow.failed) {
                let ahead = parser.content_ahead(Dir::ToClient);
                parser.gap(Dir::ToClient, usize::try_from(missed.min(ahead)).unwrap_or(usize::MAX), &mut flow.txs);
            }
        }
        let judged = session.segment(*dir, packet, &tcp, settings);
        if let Judged::Bad(event) = judged {
            events.push(event);
            return false;
        }
        events.extend(session.remark.take());
        let added = self.take_segment(packet, flow, *dir);
        *dir = flow.dir(packet);
        added
    }

    /// What the policy says of a flow whose beginning was not seen.
    fn midstream(&mut self, packet: &Packet<'_>, flow: &mut Flow) {
        let settings = &self.settings;
        let policy = match settings.stream.midstream_policy {
            ExceptionPolicy::Auto if settings.outcome.prevent && !settings.stream.midstream => {
                ExceptionPolicy::DropFlow
            }
            ExceptionPolicy::Auto => ExceptionPolicy::Ignore,
            other => other,
        };
        if packet.tcp.is_some_and(|tcp| tcp.flags & tcp_flag::RST != 0) {
            return;
        }
        match policy {
            ExceptionPolicy::DropFlow | ExceptionPolicy::Reject | ExceptionPolicy::DropPacket => {
                flow.verdict = FlowVerdict::Drop;
            }
            ExceptionPolicy::PassFlow | ExceptionPolicy::Bypass | ExceptionPolicy::PassPacket => {
                flow.verdict = FlowVerdict::Pass;
            }
            ExceptionPolicy::Auto | ExceptionPolicy::Ignore => {}
        }
    }
}

/// The stream's bytes in place of a segment's, if they differ. Gives whether they do and the receiver has not got them
/// already.
fn laid(packet: &Packet<'_>, flow: &mut Flow, dir: Dir, out: &mut Vec<u8>) -> bool {
    let (Some(tcp), Some(session)) = (packet.tcp, flow.tcp.as_mut()) else { return false };
    let stream = session.stream(dir);
    if !std::mem::take(&mut stream.different_overlap) {
        return false;
    }
    let Some(left) = stream.offset(tcp.seq) else { return false };
    let right = left + packet.payload.len() as u64;
    stream.copy(left, right, out);
    if out.len() != packet.payload.len() {
        out.clear();
    }
    right > stream.acked()
}

/// A SYN on a connection that is over is a new one.
fn begins_anew(packet: &Packet<'_>, flow: &Flow) -> bool {
    let syn = packet.tcp.is_some_and(|tcp| tcp.flags & (tcp_flag::SYN | tcp_flag::ACK) == tcp_flag::SYN);
    syn && flow.tcp.as_ref().is_some_and(|session| session.state == State::Closed)
}
