//! The engine: takes frames, keeps flows, gives verdicts and alerts.

use std::net::IpAddr;
use std::sync::Arc;

use crate::app::{AppProto, Dir};
use crate::capture::Frame;
use crate::decode::{Decoder, ICMP, ICMP6, Packet, SCTP, TCP, UDP, tcp_flag};
use crate::detect::{Detector, Judgement, Raised, Subject};
use crate::flow::tcp::{ExceptionPolicy, Judged, Session, State};
use crate::flow::{Flow, FlowTable, FlowVerdict, Key};
use crate::rules::{Action, Rule, RuleSet};
use crate::settings::Settings;

/// What is done with a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    #[default]
    Accept,
    /// The rest of the flow needs no inspection.
    AcceptFlow,
    /// What the server sends needs none until further notice.
    AcceptReplies,
    /// It needs inspection again.
    InspectReplies,
    Drop,
    /// Drop this and the rest of the flow.
    DropFlow,
    /// Drop and answer its sender: by RST, or ICMP where there is none.
    Reject,
}

/// One alert.
#[derive(Clone, Debug)]
pub struct Alert {
    pub rule: Arc<Rule>,
    /// What the rule did; a rate filter may have changed it.
    pub action: Action,
    /// Whether the packet was stopped by this (or would have been, where nothing can be dropped).
    pub blocked: bool,
    /// Number of the frame from 1; 0 at the end of a flow.
    pub packet: u64,
    /// Microseconds since 1970.
    pub time: i64,
    pub src: IpAddr,
    pub dst: IpAddr,
    pub sport: u16,
    pub dport: u16,
    /// IP protocol number.
    pub proto: u8,
    pub app: Option<AppProto>,
    pub to_server: bool,
    pub flow: Option<u64>,
    /// Transaction within the flow.
    pub tx: Option<u64>,
    pub vlan: Vec<u16>,
    /// Bytes around the match: of the packet, or of the stream.
    pub payload: Vec<u8>,
    pub http: Option<HttpSummary>,
    /// Packets that the rule wants to be kept from now on.
    pub tag: Option<crate::rules::Tag>,
}

/// The request that an alert is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpSummary {
    pub method: String,
    pub host: String,
    pub uri: String,
    pub user_agent: String,
    pub status: String,
    /// Value of `X-Forwarded-For`, as it came.
    pub forwarded_for: String,
}

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
    /// Flows that had to go because the table was full.
    pub flows_pushed_out: u64,
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

/// Most bytes of payload that an alert carries.
const ALERT_PAYLOAD: usize = 4096;

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
    pub scratch: Vec<u8>,
    /// Data connections that were announced.
    pub expected: Vec<(i64, crate::app::Expected)>,
    /// Bytes that the streams of all flows keep.
    pub held: usize,
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
        let decoder = Decoder::new(settings.decode.clone(), settings.defrag.clone());
        let core = Core {
            flows: FlowTable::new(settings.flow.clone()),
            detector: Detector::new(rules, settings.outcome.clone()),
            settings,
            counters: Counters::default(),
            out: Vec::new(),
            scratch: Vec::new(),
            expected: Vec::new(),
            held: 0,
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
        let mut verdict = Verdict::Accept;
        let mut packets = 0;
        decoder.frame(frame, number, &mut |packet| {
            packets += 1;
            verdict = verdict.with(core.packet(packet));
        });
        alerts.append(&mut core.out);
        // What is said of one flow among several in a tunnel is not said of the tunnel.
        if packets > 1 { verdict.of_packet() } else { verdict }
    }

    /// Other rules from the next packet on. Flows go on, and so do counts of rules that both sets have; what rules
    /// noted on flows and hosts is forgotten, since it may mean something else to the new ones.
    pub fn change_rules(&mut self, prepared: Prepared) {
        let before = std::mem::replace(&mut self.core.detector, prepared.0);
        self.core.detector.hosts = before.hosts;
        self.core.detector.hosts.forget_bits();
        self.core.flows.each(|flow| {
            flow.bits.clear();
            flow.ints.clear();
        });
    }

    /// Ends all flows, as if nothing more came.
    pub fn finish(&mut self, alerts: &mut Vec<Alert>) {
        for id in self.core.flows.ids() {
            if let Some(flow) = self.core.flows.remove(id) {
                self.core.held = self.core.held.saturating_sub(flow.held());
                self.core.end_flow(flow);
            }
        }
        alerts.append(&mut self.core.out);
    }

    pub fn counters(&self) -> Counters {
        Counters {
            flows_pushed_out: self.core.flows.pushed_out,
            fragments_given_up: self.decoder.defrag.given_up,
            ..self.core.counters
        }
    }
}

impl Core {
    fn packet(&mut self, packet: Packet<'_>) -> Verdict {
        self.counters.packets += 1;
        while let Some(flow) = self.flows.expired(packet.time) {
            self.held = self.held.saturating_sub(flow.held());
            self.end_flow(flow);
        }
        let with_flow = packet.version != 0
            && !packet.is_fragment
            && matches!(packet.proto, TCP | UDP | ICMP | ICMP6 | SCTP)
            && !packet.transport_header.is_empty();
        if !with_flow {
            let subject = self.bare(&packet);
            let judgement = self.detector.inspect(&subject, None);
            return self.conclude(&judgement, &subject, None);
        }
        let (key, mut flow) = self.flow_of(&packet);
        let before = flow.held();
        let verdict = self.in_flow(&packet, &mut flow);
        let verdict = self.relieved(&packet, &mut flow, verdict);
        self.held = self.held.saturating_sub(before) + flow.held();
        self.flows.put(key, flow);
        verdict
    }

    fn bare<'a>(&self, packet: &'a Packet<'a>) -> Subject<'a> {
        Subject {
            packet,
            dir: Dir::ToServer,
            established: false,
            stream: None,
            in_stream: false,
            events: &[],
            no_payload: false,
        }
    }

    /// The flow of a packet, taken out of the table.
    fn flow_of(&mut self, packet: &Packet<'_>) -> (Key, Box<Flow>) {
        let mut key = Key::of(packet);
        if let Some(quoted) = &packet.quoted {
            let other = Key::quoted(quoted, packet);
            if self.flows.find(&other).is_some() {
                key = other;
            }
        }
        if let Some((known, flow)) = self.flows.find(&key).and_then(|id| self.flows.take(id)) {
            let patience = flow.patience(&self.flows.settings).saturating_mul(1_000_000);
            let over = packet.quoted.is_none() && flow.last.saturating_add(patience) < packet.time;
            if !over && !begins_anew(packet, &flow) {
                return (known, flow);
            }
            self.flows.forget(&known);
            self.held = self.held.saturating_sub(flow.held());
            self.end_flow(flow);
        }
        self.counters.flows += 1;
        let (flow, gone) = self.flows.open(key, packet);
        if let Some(gone) = gone {
            self.held = self.held.saturating_sub(gone.held());
            self.end_flow(gone);
        }
        (key, flow)
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
                let wrong = packet.checksum == crate::decode::Checksum::Wrong;
                if wrong && self.settings.stream.checksums && self.settings.decode.checksums {
                    events.push("stream.pkt_broken_checksum");
                } else {
                    in_stream = self.tcp(packet, flow, &mut dir, &mut events);
                }
                alien = !events.is_empty() && !packet.payload.is_empty();
            }
            UDP if flow.proto == UDP => self.datagram(packet, flow, dir),
            _ => {}
        }
        if flow.verdict == FlowVerdict::Drop {
            self.counters.dropped += 1;
            return refusal(flow, dir);
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
        // Where an overlap gave the segment other bytes, those are what the receiver gets.
        let mut bytes = Vec::new();
        if in_stream && self.settings.stream.inline {
            self.laid(packet, flow, dir, &mut bytes);
        }
        if bytes.is_empty() {
            let verdict = self.judge(packet, flow, dir, established, in_stream, &events);
            // Bytes that do not belong to the connection are not judged with it, and its receiver might take them.
            if alien && verdict == Verdict::Accept && self.settings.outcome.prevent && self.settings.stream.inline {
                self.counters.dropped += 1;
                self.counters.alien += 1;
                return Verdict::Drop;
            }
            return verdict;
        }
        let mut laid = packet.clone();
        laid.payload = &bytes;
        self.judge(&laid, flow, dir, established, in_stream, &events)
    }

    /// The stream's bytes in place of a segment's, if they differ.
    fn laid(&mut self, packet: &Packet<'_>, flow: &mut Flow, dir: Dir, out: &mut Vec<u8>) {
        let (Some(tcp), Some(session)) = (packet.tcp, flow.tcp.as_mut()) else { return };
        let stream = session.stream(dir);
        if !std::mem::take(&mut stream.different_overlap) {
            return;
        }
        if let Some(left) = stream.offset(tcp.seq) {
            stream.copy(left, left + packet.payload.len() as u64, out);
        }
        if out.len() != packet.payload.len() {
            out.clear();
        }
    }

    /// Detection on a packet of a flow, and what follows.
    pub(crate) fn judge(
        &mut self,
        packet: &Packet<'_>,
        flow: &mut Flow,
        dir: Dir,
        established: bool,
        in_stream: bool,
        events: &[&'static str],
    ) -> Verdict {
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        let due = self.due(packet, flow, dir, in_stream, &mut bytes);
        let subject = Subject {
            packet,
            dir,
            established,
            stream: due.map(|_| bytes.as_slice()),
            in_stream,
            events,
            no_payload: flow.no_payload,
        };
        let judgement = self.detector.inspect(&subject, Some(flow));
        if let Some(action) = judgement.blocked.filter(|_| flow.verdict == FlowVerdict::Drop) {
            let (here, there) = (dir as usize, dir.other() as usize);
            for (at, wanted) in [(here, action != Action::RejectDst), (there, action != Action::Reject)] {
                if let Some(refused) = flow.refused.get_mut(at).filter(|_| action != Action::Drop) {
                    *refused = wanted;
                }
            }
        }
        let verdict = self.conclude(&judgement, &subject, Some(flow));
        if let (Some(to), Some(session)) = (due, flow.tcp.as_mut()) {
            let stream = session.stream(dir);
            stream.raw_progress = stream.raw_progress.max(to);
            stream.trigger = false;
        }
        self.scratch = bytes;
        self.pruned(flow);
        verdict
    }

    /// Lets go of what was looked at.
    fn pruned(&mut self, flow: &mut Flow) {
        let inline = self.settings.stream.inline;
        let passed = flow.verdict == FlowVerdict::Pass;
        let done = flow.app.is_some() && flow.no_payload || passed;
        if let Some(session) = flow.tcp.as_mut() {
            for (dir, chunk) in [
                (Dir::ToServer, self.settings.stream.to_server_chunk),
                (Dir::ToClient, self.settings.stream.to_client_chunk),
            ] {
                session.stream(dir).prune(if inline { chunk } else { 0 }, !done);
            }
        }
        let finished = |tx: &crate::app::Tx| tx.state.iter().all(|state| state.finished);
        while flow.txs.list.front().is_some_and(finished) {
            let over = flow.txs.list.pop_front();
            if let (Some(records), Some(tx)) = (&mut self.records, over) {
                records.transaction(flow, &tx);
            }
        }
        if flow.txs.list.len() > 64 {
            if let Some(records) = &mut self.records {
                flow.txs.list.iter().filter(|tx| finished(tx)).for_each(|tx| records.transaction(flow, tx));
            }
            flow.txs.list.retain(|tx| !finished(tx));
        }
    }

    /// Alerts and verdict of what detection found.
    fn conclude(&mut self, judgement: &Judgement, subject: &Subject<'_>, flow: Option<&Flow>) -> Verdict {
        self.counters.discarded += judgement.discarded as u64;
        for raised in &judgement.alerts {
            if let Some(alert) = self.alert(raised, judgement, subject, flow) {
                self.counters.alerts += 1;
                self.out.push(alert);
            }
        }
        match judgement.blocked {
            Some(action) if self.settings.outcome.prevent => {
                self.counters.dropped += 1;
                match (action, flow) {
                    (_, Some(flow)) if flow.verdict == FlowVerdict::Drop => refusal(flow, subject.dir),
                    (Action::Reject | Action::RejectBoth, _) => Verdict::Reject,
                    _ => Verdict::Drop,
                }
            }
            _ if judgement.passed && flow.is_some_and(|flow| flow.verdict == FlowVerdict::Pass) => Verdict::AcceptFlow,
            _ => Verdict::Accept,
        }
    }

    fn alert(
        &self,
        raised: &Raised,
        judgement: &Judgement,
        subject: &Subject<'_>,
        flow: Option<&Flow>,
    ) -> Option<Alert> {
        let rule = self.detector.rules.rules.get(raised.rule as usize)?.clone();
        let packet = subject.packet;
        let payload = subject.stream.filter(|_| raised.in_stream).unwrap_or(packet.payload);
        let tag = rule.effects.iter().find_map(|effect| match effect {
            crate::rules::model::Effect::Tag(tag) => Some(*tag),
            _ => None,
        });
        Some(Alert {
            tag,
            rule,
            action: raised.action,
            blocked: raised.action.blocks() && judgement.blocked.is_some(),
            packet: packet.number,
            time: packet.time,
            src: packet.src,
            dst: packet.dst,
            sport: packet.sport,
            dport: packet.dport,
            proto: packet.proto,
            app: flow.and_then(|flow| flow.app),
            to_server: subject.dir == Dir::ToServer,
            flow: flow.map(|flow| flow.id),
            tx: raised.tx,
            vlan: packet.vlan.iter().take(packet.vlans.into()).copied().collect(),
            payload: payload.get(..ALERT_PAYLOAD.min(payload.len())).unwrap_or_default().to_vec(),
            http: flow.and_then(|flow| crate::event::http_summary(flow, raised.tx)),
        })
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

impl Verdict {
    /// The graver of two.
    fn with(self, other: Self) -> Self {
        let weight = |verdict: Self| match verdict {
            Self::Accept => 0,
            Self::AcceptFlow | Self::AcceptReplies | Self::InspectReplies => 1,
            Self::Drop => 2,
            Self::DropFlow => 3,
            Self::Reject => 4,
        };
        if weight(other) > weight(self) { other } else { self }
    }

    /// Without what it says of a flow.
    fn of_packet(self) -> Self {
        match self {
            Self::AcceptFlow | Self::AcceptReplies | Self::InspectReplies => Self::Accept,
            Self::DropFlow => Self::Drop,
            other => other,
        }
    }

    /// Whether the packet goes on.
    pub fn accepts(self) -> bool {
        matches!(self, Self::Accept | Self::AcceptFlow | Self::AcceptReplies | Self::InspectReplies)
    }
}

/// What becomes of a packet of a flow that is dropped. Where one side is still to be refused, its packets must come.
fn refusal(flow: &Flow, dir: Dir) -> Verdict {
    match flow.refused {
        [false, false] => Verdict::DropFlow,
        sides if sides.get(dir as usize).copied().unwrap_or(false) => Verdict::Reject,
        _ => Verdict::Drop,
    }
}

/// A SYN on a connection that is over is a new one.
fn begins_anew(packet: &Packet<'_>, flow: &Flow) -> bool {
    let syn = packet.tcp.is_some_and(|tcp| tcp.flags & (tcp_flag::SYN | tcp_flag::ACK) == tcp_flag::SYN);
    syn && flow.tcp.as_ref().is_some_and(|session| session.state == State::Closed)
}
