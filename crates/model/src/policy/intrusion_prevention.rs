//! Intrusion prevention inline: what is inspected, which rules act, and what happens where nobody can judge.

use serde::{Deserialize, Serialize};

use super::{KeepPackets, Mode, Switch};

/// Intrusion prevention inline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IntrusionPrevention {
    /// On or off.
    pub state: Switch,
    /// Drop what rules say to drop, or only record it.
    pub mode: Mode,
    /// What differs for single rules and groups of rules. Later ones count more, those of a rule more than those of
    /// its group.
    pub overrides: Vec<RuleOverride>,
    /// Rules on trial, by their numbers: they record what they would have done, whatever the mode.
    pub trial: Vec<u32>,
    /// Interfaces whose packets are inspected; empty: all but the loopback device.
    pub interfaces: Vec<String>,
    /// TCP and UDP ports that are inspected, at either end; empty: all.
    pub ports: Vec<u16>,
    /// Own ports of this host that are never inspected, so that it can be reached whatever happens.
    pub except_ports: Vec<u16>,
    /// What happens to packets that nobody can judge.
    pub fail: Fail,
    /// How long packets wait for a worker that is started anew, in milliseconds, before that happens.
    pub wait_ms: u32,
    /// How long a worker may be silent, in milliseconds.
    pub slow_ms: u32,
    /// Queues, each with a process that inspects.
    pub queues: u16,
    /// Number of the first queue.
    pub first_queue: u16,
    /// Lowest of the three bits of packet and connection marks that are used; at most 29.
    pub mark_bit: u8,
    /// Packets of alerted flows that are kept on the host.
    pub keep_packets: KeepPackets,
}

/// Another mode for a rule or a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleOverride {
    /// Number of the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<u32>,
    /// Name of the group: that of the rules' file, without its ending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// What applies.
    pub mode: RuleMode,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleMode {
    /// Nothing.
    Off,
    /// It records.
    Detect,
    /// It records and drops, also where it is written to alert only.
    Prevent,
}

/// What happens to what nobody can judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fail {
    /// It goes on.
    Open,
    /// It does not.
    Closed,
}

impl Default for IntrusionPrevention {
    /// Off; once on, it records, and fails open.
    fn default() -> Self {
        Self {
            state: Switch::Off,
            mode: Mode::Detect,
            overrides: Vec::new(),
            trial: Vec::new(),
            interfaces: Vec::new(),
            ports: Vec::new(),
            except_ports: vec![22],
            fail: Fail::Open,
            wait_ms: 500,
            slow_ms: 2_000,
            queues: 1,
            first_queue: 7_300,
            mark_bit: 28,
            keep_packets: KeepPackets::default(),
        }
    }
}

impl IntrusionPrevention {
    /// The mode of a rule, where it differs from the module's.
    pub fn mode_of(&self, rule: u32, group: &str) -> Option<RuleMode> {
        if self.trial.contains(&rule) {
            return Some(RuleMode::Detect);
        }
        let last = |fits: &dyn Fn(&RuleOverride) -> bool| {
            self.overrides.iter().rev().find(|one| fits(one)).map(|one| one.mode)
        };
        last(&|one| one.rule == Some(rule)).or_else(|| last(&|one| one.group.as_deref() == Some(group)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_counts_more_than_its_group_the_later_more_than_the_earlier_and_a_trial_most() {
        let one = |rule, group: Option<&str>, mode| RuleOverride { rule, group: group.map(str::to_owned), mode };
        let policy = IntrusionPrevention {
            overrides: vec![
                one(Some(1), None, RuleMode::Prevent),
                one(None, Some("web"), RuleMode::Detect),
                one(None, Some("web"), RuleMode::Off),
                one(Some(3), None, RuleMode::Prevent),
            ],
            trial: vec![3],
            ..IntrusionPrevention::default()
        };
        let modes = [1, 2, 3].map(|rule| policy.mode_of(rule, "web"));
        assert_eq!(modes, [Some(RuleMode::Prevent), Some(RuleMode::Off), Some(RuleMode::Detect)]);
        assert_eq!(policy.mode_of(2, "other"), None);
    }
}
