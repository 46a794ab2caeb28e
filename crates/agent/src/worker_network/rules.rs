//! The rules of a bundle as a policy has them: what each does is decided here, what it looks for in the engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use sakimori_model::policy::{KeepPackets, RuleMode};
use sakimori_model::rule::Scope;
use sakimori_network::{Action, Prepared, Rule, RuleSet, Settings};
use sakimori_respond::playbook::{self, Playbook};
use sakimori_wire::ipc_network::{FromNetwork, NetworkRules, RuleOrGroup};

use crate::modules::intrusion_prevention::{PROBE_RULE, probe_rule};

/// Errors that are told.
const MAX_ERRORS: usize = 200;
/// Folder of a bundle.
const FOLDER: &str = "network/";

/// Rules that are ready, and what goes with them.
pub struct Loaded {
    /// They.
    pub rules: Arc<RuleSet>,
    /// The same, for an engine that runs.
    pub prepared: Prepared,
    /// Playbooks of this host.
    pub playbooks: Vec<Playbook>,
    /// Number of the bundle.
    pub bundle: u64,
    /// Rules on trial.
    pub trial: Vec<u32>,
    /// Packets of which alerted flows are kept.
    pub keep: KeepPackets,
    errors: Vec<String>,
}

impl Loaded {
    /// All but the probe's own.
    fn told(&self) -> impl Iterator<Item = &Rule> {
        self.rules.rules().filter(|rule| rule.sid != PROBE_RULE)
    }

    /// What is said of them.
    pub fn ready(&self) -> FromNetwork {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        FromNetwork::Ready {
            bundle: self.bundle,
            rules: count(self.told().count()),
            preventing: count(self.told().filter(|rule| rule.action.blocks()).count()),
            errors: self.errors.clone(),
        }
    }
}

/// Loads them. What does not load is listed, the rest works.
pub fn load(from: &NetworkRules) -> Loaded {
    let files: BTreeMap<String, Vec<u8>> = from.files.iter().cloned().collect();
    let text = |path: &str| files.get(path).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let mut settings = Settings::inline();
    settings.load.classification = text("network/classification.config").unwrap_or_default();
    settings.load.thresholds = text("network/threshold.config").unwrap_or_default();
    let texts: Vec<(&String, String)> = files
        .iter()
        .filter(|(path, _)| path.starts_with(FOLDER) && path.ends_with(".rules"))
        .map(|(path, bytes)| (path, String::from_utf8_lossy(bytes).into_owned()))
        .collect();
    let probe = from.probe.map(probe_rule);
    let mut named: Vec<(&str, &str)> = texts.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    named.extend(probe.iter().map(|text| ("proof.rules", text.as_str())));
    let mut rules = RuleSet::load(&named, &settings.load, &|name| text(&format!("{FOLDER}{name}")));
    rules.decide(|rule| decide(rule, from));
    let mut errors: Vec<String> =
        rules.refused.iter().map(|one| format!("{}:{}: {}", one.file, one.line, one.reason)).collect();
    let contents = files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
    let (playbooks, wrong) = playbook::load(contents, Scope::Host);
    errors.extend(wrong);
    errors.truncate(MAX_ERRORS);
    let rules = Arc::new(rules);
    let prepared = Prepared::new(rules.clone(), &settings);
    Loaded {
        rules,
        prepared,
        playbooks,
        bundle: from.bundle,
        trial: from.trial.clone(),
        keep: from.keep.clone(),
        errors,
    }
}

/// What the policy makes of a rule: where it is silent, the module's mode; a rule that lets flows pass does so always.
fn decide(rule: &Rule, policy: &NetworkRules) -> Option<Action> {
    if rule.sid == PROBE_RULE {
        return (!policy.prevent).then_some(Action::Alert);
    }
    if matches!(rule.action, Action::Pass | Action::Config) {
        return (mode(rule, policy) == Some(RuleMode::Off)).then_some(Action::Config);
    }
    let usual = if policy.prevent && rule.written.blocks() { RuleMode::Prevent } else { RuleMode::Detect };
    match mode(rule, policy).unwrap_or(usual) {
        // Matches, and nothing comes of it.
        RuleMode::Off => Some(Action::Config),
        RuleMode::Detect => Some(Action::Alert),
        RuleMode::Prevent if rule.written.blocks() => None,
        RuleMode::Prevent => Some(Action::Drop),
    }
}

fn mode(rule: &Rule, policy: &NetworkRules) -> Option<RuleMode> {
    if policy.trial.contains(&rule.sid) {
        return Some(RuleMode::Detect);
    }
    let last =
        |wanted: RuleOrGroup| policy.overrides.iter().rev().find(|(whose, _)| *whose == wanted).map(|(_, mode)| *mode);
    last(RuleOrGroup::Rule(rule.sid)).or_else(|| last(RuleOrGroup::Group(rule.group.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_decides_what_each_rule_does() {
        let text = "drop http any any -> any any (http.uri; content:\"/a\"; sid:1;)\n\
                    alert http any any -> any any (http.uri; content:\"/b\"; sid:2;)\n\
                    reject http any any -> any any (http.uri; content:\"/c\"; sid:3;)\n\
                    pass http any any -> any any (http.uri; content:\"/d\"; sid:4;)\n\
                    drop nonsense\n";
        let actions = |prevent, overrides: Vec<(RuleOrGroup, RuleMode)>, trial: Vec<u32>| {
            let files = vec![("network/web.rules".to_owned(), text.as_bytes().to_vec())];
            let loaded = load(&NetworkRules {
                bundle: 5,
                files,
                prevent,
                overrides,
                trial,
                probe: Some(7_609),
                keep: KeepPackets::default(),
            });
            assert_eq!(loaded.errors.len(), 1, "{:?}", loaded.errors);
            assert!(loaded.errors[0].starts_with("network/web.rules:5:"));
            let FromNetwork::Ready { rules: 4, .. } = loaded.ready() else { panic!("the probe's rule is not told") };
            let probe = loaded.rules.rules().find(|rule| rule.sid == PROBE_RULE).unwrap().action;
            assert_eq!(probe, if prevent { Action::Drop } else { Action::Alert });
            let mut found: Vec<_> = loaded.told().map(|rule| (rule.sid, rule.action)).collect();
            found.sort_unstable();
            found.into_iter().map(|(_, action)| action).collect::<Vec<_>>()
        };
        use Action::{Alert, Config, Drop, Pass, Reject};
        assert_eq!(actions(true, Vec::new(), Vec::new()), [Drop, Alert, Reject, Pass]);
        assert_eq!(actions(false, Vec::new(), Vec::new()), [Alert, Alert, Alert, Pass]);
        assert_eq!(actions(true, Vec::new(), vec![3]), [Drop, Alert, Alert, Pass]);
        let group = |mode| (RuleOrGroup::Group("web".into()), mode);
        let rule = |sid, mode| (RuleOrGroup::Rule(sid), mode);
        let overrides = vec![rule(1, RuleMode::Detect), group(RuleMode::Prevent), rule(3, RuleMode::Off)];
        assert_eq!(actions(false, overrides, Vec::new()), [Alert, Drop, Config, Pass]);
        assert_eq!(actions(true, vec![group(RuleMode::Off)], Vec::new()), [Config; 4]);
    }
}
