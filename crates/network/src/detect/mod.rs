//! Detection: which rules match a packet, its stream, and the transactions of its flow; and what follows from it.
//!
//! Order of one packet: rules of addresses only (once a flow and direction), rules on packets and streams, rules on
//! transactions (once a transaction and direction). What matched is then sorted as rules are evaluated, and
//! thresholds, `pass` and `drop` take effect in that order.

mod memory;
mod needles;
mod outcome;
mod packet;
mod prefilter;
mod steps;
mod table;
mod transactions;
mod views;

use std::sync::Arc;

pub(crate) use memory::HostMemory;
pub use outcome::OutcomeSettings;
pub(crate) use outcome::{Judgement, Raised};
use packet::Seen;
use prefilter::Prefilter;
use steps::Walk;

use crate::app::Dir;
use crate::decode::Packet;
use crate::flow::Flow;
use crate::rules::buffers::Buffer;
use crate::rules::model::{Effect, Rule};
use crate::rules::sets::DataSets;
use crate::rules::state::{BitCommand, IntCommand, IntValue};
use crate::rules::{RuleSet, transform};

/// Most flow bits and variables of one flow.
const MOST_FLOW_BITS: usize = 4096;

/// A rule that matched, with the transaction it matched in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    pub rule: u32,
    pub tx: Option<u64>,
    pub in_stream: bool,
}

/// What detection is asked to look at.
pub(crate) struct Subject<'a> {
    pub packet: &'a Packet<'a>,
    pub dir: Dir,
    pub established: bool,
    /// Bytes of the stream that are due.
    pub stream: Option<&'a [u8]>,
    /// The packet's bytes are among those.
    pub stream_has_packet: bool,
    /// The packet's bytes became part of a stream.
    pub in_stream: bool,
    /// Stream and protocol events of this packet.
    pub events: &'a [&'static str],
    /// Payloads are not looked at.
    pub no_payload: bool,
}

/// The rules, prepared, and what they remember.
pub(crate) struct Detector {
    pub(crate) rules: Arc<RuleSet>,
    /// There is a rule on bytes of packets and streams as they are.
    pub(crate) looks_at_payloads: bool,
    prefilter: Prefilter,
    pub(crate) hosts: HostMemory,
    pub(crate) sets: DataSets,
    candidates: Vec<u32>,
    views: views::Views,
    spare: transactions::Spare,
    variables: Vec<u64>,
    hits: Vec<Hit>,
    outcome: outcome::Outcome,
}

impl Detector {
    pub(crate) fn new(rules: Arc<RuleSet>, settings: OutcomeSettings) -> Self {
        Self {
            prefilter: Prefilter::new(&rules),
            looks_at_payloads: rules.rules.iter().any(|rule| !rule.payload.is_empty()),
            sets: rules.sets.clone(),
            outcome: outcome::Outcome::new(&rules, settings),
            rules,
            hosts: HostMemory::default(),
            candidates: Vec::new(),
            views: views::Views::default(),
            spare: transactions::Spare::default(),
            variables: Vec::new(),
            hits: Vec::new(),
        }
    }

    /// Judges a packet.
    pub(crate) fn inspect(&mut self, subject: &Subject<'_>, mut flow: Option<&mut Flow>) -> Judgement {
        self.hits.clear();
        self.ip_only(subject, &mut flow);
        self.packet_rules(subject, &mut flow);
        if let Some(flow) = flow.as_deref_mut() {
            self.transactions(subject, flow);
        }
        let mut hits = std::mem::take(&mut self.hits);
        hits.sort_by_key(|hit| (hit.rule, hit.tx.unwrap_or(u64::MAX)));
        let judgement = self.outcome.judge(&self.rules, &hits, subject, flow, &mut self.hosts);
        self.hits = hits;
        judgement
    }

    fn seen<'s>(&'s self, subject: &'s Subject<'_>, flow: Option<&'s Flow>) -> Seen<'s> {
        Seen {
            packet: subject.packet,
            flow,
            dir: subject.dir,
            established: subject.established,
            in_stream: subject.in_stream,
            hosts: &self.hosts,
            events: subject.events,
        }
    }

    fn ip_only(&mut self, subject: &Subject<'_>, flow: &mut Option<&mut Flow>) {
        if self.prefilter.ip_only.is_empty() || subject.packet.version == 0 {
            return;
        }
        if let Some(flow) = flow {
            let done = flow.ip_only_done.get_mut(subject.dir as usize);
            if done.is_some_and(|done| std::mem::replace(done, true)) {
                return;
            }
        }
        let rules = self.rules.clone();
        let list = std::mem::take(&mut self.prefilter.ip_only);
        for at in &list {
            let Some(rule) = rules.rules.get(*at as usize) else { continue };
            if self.seen(subject, flow.as_deref()).header(rule) {
                self.matched(*at, rule, None, false, subject, flow);
            }
        }
        self.prefilter.ip_only = list;
    }

    fn packet_rules(&mut self, subject: &Subject<'_>, flow: &mut Option<&mut Flow>) {
        let packet = subject.packet;
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.clear();
        if packet.version != 0 {
            self.prefilter.always(packet.proto, &mut candidates);
        }
        if !packet.events.is_empty() || !subject.events.is_empty() || packet.version == 0 || candidates.is_empty() {
            candidates.extend_from_slice(&self.prefilter.event_rules);
        }
        if let Some(matcher) = self.prefilter.payload.as_ref().filter(|_| !subject.no_payload) {
            if !packet.payload.is_empty() && !subject.stream_has_packet {
                matcher.search(packet.payload, &mut candidates);
            }
            if let Some(stream) = subject.stream {
                matcher.search(stream, &mut candidates);
            }
        }
        candidates.sort_unstable();
        candidates.dedup();
        if candidates.is_empty() {
            self.candidates = candidates;
            return;
        }
        let rules = self.rules.clone();
        for at in &candidates {
            let Some(rule) = rules.rules.get(*at as usize) else { continue };
            if let Some(in_stream) = self.packet_rule(rule, subject, flow.as_deref()) {
                self.matched(*at, rule, None, in_stream, subject, flow);
            }
        }
        self.candidates = candidates;
    }

    /// Whether a rule on packets matches; the value says whether its payload was found in the stream.
    fn packet_rule(&mut self, rule: &Rule, subject: &Subject<'_>, flow: Option<&Flow>) -> Option<bool> {
        let packet = subject.packet;
        if rule.real_packet && packet.made_up {
            return None;
        }
        {
            let seen = self.seen(subject, flow);
            if !seen.header(rule) || !seen.flow_wanted(rule) || !rule.packet.iter().all(|test| seen.holds(test)) {
                return None;
            }
        }
        self.variables.clear();
        for test in &rule.buffers {
            let data = packet_buffer(packet, test.buffer)?;
            let data = transform::apply_all(&test.transforms, data);
            if !Walk::new(&mut self.variables, &mut self.sets).holds(&test.steps, &data) {
                return None;
            }
        }
        if rule.payload.is_empty() {
            return Some(false);
        }
        if subject.no_payload {
            return None;
        }
        self.payload(rule, subject)
    }

    /// The payload of a rule, in the stream first where it wants one.
    fn payload(&mut self, rule: &Rule, subject: &Subject<'_>) -> Option<bool> {
        let only_stream = rule.needs_stream && subject.packet.proto == crate::decode::TCP;
        if only_stream {
            if let Some(stream) = subject.stream
                && Walk::new(&mut self.variables, &mut self.sets).holds(&rule.payload, stream)
            {
                return Some(true);
            }
            // What went into a stream is looked at there, unless the rule wants packets too.
            if !rule.needs_packet && subject.in_stream {
                return None;
            }
        }
        let payload = subject.packet.payload;
        if payload.is_empty() && (subject.packet.made_up || only_stream) {
            return None;
        }
        Walk::new(&mut self.variables, &mut self.sets).holds(&rule.payload, payload).then_some(false)
    }

    /// A rule has matched: what it changes, and the note of it.
    fn matched(
        &mut self,
        at: u32,
        rule: &Rule,
        tx: Option<u64>,
        in_stream: bool,
        subject: &Subject<'_>,
        flow: &mut Option<&mut Flow>,
    ) {
        for effect in &rule.effects {
            match effect {
                Effect::FlowBits(bits) => {
                    let Some(flow) = flow.as_deref_mut() else { continue };
                    for bit in &bits.bits {
                        let set = match bits.command {
                            BitCommand::Set => true,
                            BitCommand::Toggle => !flow.bits.contains(bit),
                            _ => false,
                        };
                        if !set {
                            flow.bits.remove(bit);
                        } else if flow.bits.len() < MOST_FLOW_BITS {
                            flow.bits.insert(*bit);
                        }
                    }
                }
                Effect::FlowInt(change) => {
                    let Some(flow) = flow.as_deref_mut() else { continue };
                    let value = match change.value {
                        IntValue::Number(number) => Some(number),
                        IntValue::Other(name) => flow.ints.get(&name).copied(),
                        IntValue::None => None,
                    };
                    let have = flow.ints.get(&change.name).copied();
                    let Some(value) = value.filter(|_| have.is_some() || flow.ints.len() < MOST_FLOW_BITS) else {
                        continue;
                    };
                    let have = have.unwrap_or(0);
                    flow.ints.insert(
                        change.name,
                        match change.command {
                            IntCommand::Add => have.wrapping_add(value),
                            IntCommand::Subtract => have.wrapping_sub(value),
                            _ => value,
                        },
                    );
                }
                Effect::XBits(bits) | Effect::HostBits(bits) => self.hosts.change(bits, subject.packet),
                Effect::Tag(_) => {}
            }
        }
        self.hits.push(Hit { rule: at, tx, in_stream });
    }
}

/// A buffer of a packet's headers.
fn packet_buffer<'a>(packet: &Packet<'a>, buffer: Buffer) -> Option<&'a [u8]> {
    let (version, proto, data) = match buffer {
        Buffer::TcpHeader => (0, crate::decode::TCP, packet.transport_header),
        Buffer::UdpHeader => (0, crate::decode::UDP, packet.transport_header),
        Buffer::Icmp4Header => (4, crate::decode::ICMP, packet.transport_header),
        Buffer::Icmp6Header => (6, crate::decode::ICMP6, packet.transport_header),
        Buffer::Ipv4Header => (4, 0, packet.ip_header),
        Buffer::Ipv6Header => (6, 0, packet.ip_header),
        _ => return None,
    };
    let fits = (version == 0 || version == packet.version) && (proto == 0 || proto == packet.proto);
    (fits && !data.is_empty()).then_some(data)
}
