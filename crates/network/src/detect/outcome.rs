//! From matches to alerts and a verdict: thresholds, suppression, `pass` and `drop` in the order of the rules.

use std::collections::HashMap;

use super::memory::HostMemory;
use super::{Hit, Subject};
use crate::flow::{Flow, FlowVerdict};
use crate::rules::model::{Action, Rule};
use crate::rules::packet_tests::PacketTest;
use crate::rules::ranges::address_number;
use crate::rules::threshold::{Global, RateFilter, Threshold, ThresholdKind};
use crate::rules::{RuleSet, state::Track};

/// How matches become alerts.
#[derive(Clone, Debug)]
pub struct OutcomeSettings {
    /// Packets can be dropped.
    pub prevent: bool,
    /// Most alerts of one packet.
    pub most_alerts: usize,
}

impl Default for OutcomeSettings {
    fn default() -> Self {
        Self { prevent: false, most_alerts: 15 }
    }
}

/// An alert before it has words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Raised {
    pub rule: u32,
    pub tx: Option<u64>,
    pub action: Action,
    pub in_stream: bool,
}

/// What is to be done with the packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Judgement {
    pub alerts: Vec<Raised>,
    /// The action that stops the packet.
    pub blocked: Option<Action>,
    pub passed: bool,
    /// Matches that were too many for one packet.
    pub discarded: usize,
}

/// Thresholds by rule.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    settings: OutcomeSettings,
    globals: HashMap<u32, Vec<Global>>,
}

impl Outcome {
    pub(super) fn new(rules: &RuleSet, settings: OutcomeSettings) -> Self {
        let mut globals: HashMap<u32, Vec<Global>> = HashMap::new();
        for (at, rule) in rules.rules.iter().enumerate() {
            let fitting = rules.global.iter().filter(|global| {
                (global.gid == 0 || global.gid == rule.gid) && (global.sid == 0 || global.sid == rule.sid)
            });
            for global in fitting {
                // A filter of the rule itself goes before one for all rules.
                if global.sid == 0 && matches!(global.what, Global::Filter(_)) && rule.threshold.is_some() {
                    continue;
                }
                globals.entry(at as u32).or_default().push(global.what.clone());
            }
        }
        Self { settings, globals }
    }

    pub(super) fn judge(
        &self,
        rules: &RuleSet,
        hits: &[Hit],
        subject: &Subject<'_>,
        mut flow: Option<&mut Flow>,
        hosts: &mut HostMemory,
    ) -> Judgement {
        let mut judgement = Judgement::default();
        let mut told = 0usize;
        for hit in hits {
            let Some(rule) = rules.rules.get(hit.rule as usize) else { continue };
            let packet = subject.packet;
            if let Some(filter) = &rule.detection_filter
                && !hosts.passes(filter, id(rule) | 1 << 61, packet)
            {
                continue;
            }
            let (mut action, mut silent) = (rule.action, rule.no_alert);
            for global in self.globals.get(&hit.rule).into_iter().flatten() {
                match global {
                    Global::Suppress { track, addresses } => silent |= suppressed(*track, addresses, subject),
                    Global::Filter(threshold) => silent |= !hosts.passes(threshold, id(rule) | 1 << 63, packet),
                    Global::Rate(RateFilter { threshold, action: new, timeout }) => {
                        if hosts.rate(threshold, *timeout, id(rule) | 1 << 62, packet) {
                            action = *new;
                        }
                    }
                }
            }
            if let Some(threshold) = &rule.threshold {
                silent |= !self.within(threshold, rule, subject, hosts);
            }
            if action == Action::Pass {
                judgement.passed = true;
                if rule.alert_too && !silent {
                    judgement.alerts.push(raised(hit, action));
                }
                if let Some(flow) = flow.as_deref_mut().filter(|_| for_flow(rule, hit)) {
                    flow.verdict = FlowVerdict::Pass;
                }
                break;
            }
            let blocks = action.blocks();
            if blocks && judgement.blocked.is_none() {
                judgement.blocked = Some(action);
            }
            // Where nothing can be dropped, the rest of the flow still counts as dropped: it is not judged.
            if blocks && let Some(flow) = flow.as_deref_mut().filter(|_| for_flow(rule, hit)) {
                flow.verdict = FlowVerdict::Drop;
            }
            if !silent && action != Action::Config {
                told += 1;
                // What is too much to be told still takes effect.
                if told > self.settings.most_alerts {
                    judgement.discarded += 1;
                } else {
                    judgement.alerts.push(raised(hit, action));
                }
            }
        }
        judgement
    }

    fn within(&self, threshold: &Threshold, rule: &Rule, subject: &Subject<'_>, hosts: &mut HostMemory) -> bool {
        debug_assert!(threshold.kind != ThresholdKind::Detection);
        hosts.passes(threshold, id(rule), subject.packet)
    }
}

fn raised(hit: &Hit, action: Action) -> Raised {
    Raised { rule: hit.rule, tx: hit.tx, action, in_stream: hit.in_stream }
}

fn id(rule: &Rule) -> u64 {
    u64::from(rule.gid & 0xffff) << 32 | u64::from(rule.sid)
}

/// Whether the verdict of a rule is for the rest of the flow: rules on streams, transactions and addresses are,
/// rules on single packets are not.
fn for_flow(rule: &Rule, hit: &Hit) -> bool {
    let protocol = rule.packet.iter().all(|test| matches!(test, PacketTest::AppProtocol { .. }));
    let header = protocol && rule.payload.is_empty() && rule.buffers.is_empty() && rule.flow.is_none();
    hit.tx.is_some() || hit.in_stream || header || (rule.proto.app.is_some() && rule.payload.is_empty())
}

fn suppressed(track: Option<Track>, addresses: &crate::rules::ranges::Ranges, subject: &Subject<'_>) -> bool {
    let (src, dst) = (address_number(subject.packet.src), address_number(subject.packet.dst));
    match track {
        None => true,
        Some(Track::Src) => addresses.contains(src),
        Some(Track::Dst) => addresses.contains(dst),
        _ => addresses.contains(src) || addresses.contains(dst),
    }
}
