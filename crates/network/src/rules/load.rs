//! Loads rule files: what can be read becomes rules in the order of their evaluation, the rest a list of reasons.

use std::collections::HashMap;
use std::sync::Arc;

use super::buffers::Buffer;
use super::builder::{Builder, Header};
use super::model::{Action, Effect, NO_PLACE, ProtoMatch, Rule};
use super::packet_tests::PacketTest;
use super::sets::DataSets;
use super::threshold::{self, GlobalRule};
use super::transform::Transform;
use super::variables::{Resolver, Variables};
use super::{keywords, syntax};
use crate::app::AppProto;

/// Reads files that rules name (data sets, hash lists); engines open none themselves.
pub type Files<'f> = &'f dyn Fn(&str) -> Option<String>;

/// Most different buffers with transforms that have a number.
const MOST_PLACES: usize = 512;

/// What rules are loaded with.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    pub variables: Variables,
    /// Order of actions, first to last.
    pub action_order: Vec<Action>,
    /// Text of a `classification.config`.
    pub classification: String,
    /// Text of a `threshold.config`.
    pub thresholds: String,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            variables: Variables::default(),
            action_order: vec![Action::Pass, Action::Drop, Action::Reject, Action::Alert],
            classification: String::new(),
            thresholds: String::new(),
        }
    }
}

/// A rule that could not be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Name of the file, as the caller gave it.
    pub file: String,
    /// From 1.
    pub line: usize,
    pub reason: String,
}

/// Rules in the order of their evaluation.
#[derive(Debug, Default)]
pub struct RuleSet {
    pub(crate) rules: Vec<Arc<Rule>>,
    pub(crate) global: Vec<GlobalRule>,
    pub(crate) sets: DataSets,
    order_of_actions: Vec<Action>,
    /// What could not be loaded.
    pub refused: Vec<Refused>,
}

/// What all rules share while they are loaded.
pub(crate) struct Shared<'v> {
    resolver: Resolver<'v>,
    files: Files<'v>,
    classes: HashMap<String, (String, u8)>,
    bits: HashMap<String, u32>,
    names: Vec<String>,
    places: Vec<(Buffer, Vec<Transform>)>,
    pub sets: DataSets,
}

impl Shared<'_> {
    /// The number of a bit's name.
    pub(crate) fn bit(&mut self, name: &str) -> u32 {
        if let Some(number) = self.bits.get(name) {
            return *number;
        }
        let number = self.names.len() as u32;
        self.names.push(name.to_owned());
        self.bits.insert(name.to_owned(), number);
        number
    }

    /// The number of a buffer with its transforms.
    pub(crate) fn place(&mut self, buffer: Buffer, transforms: &[Transform]) -> u32 {
        let known = self.places.iter().position(|known| known.0 == buffer && known.1 == transforms);
        let at = known.unwrap_or_else(|| {
            if self.places.len() < MOST_PLACES {
                self.places.push((buffer, transforms.to_vec()));
                self.places.len() - 1
            } else {
                MOST_PLACES
            }
        });
        u32::try_from(at).ok().filter(|_| at < MOST_PLACES).unwrap_or(NO_PLACE)
    }

    pub(crate) fn file(&self, path: &str) -> Option<String> {
        (self.files)(path)
    }

    pub(crate) fn class_priority(&self, class: &str) -> Option<u8> {
        self.classes.get(class).map(|class| class.1)
    }
}

impl RuleSet {
    /// Loads the texts of rule files, each with its name.
    pub fn load(texts: &[(&str, &str)], options: &LoadOptions, files: Files<'_>) -> Self {
        let mut shared = Shared {
            resolver: Resolver::new(&options.variables),
            files,
            classes: classes(&options.classification),
            bits: HashMap::new(),
            names: Vec::new(),
            places: Vec::new(),
            sets: DataSets::default(),
        };
        let (mut rules, mut refused) = (Vec::new(), Vec::new());
        let mut known: HashMap<(u32, u32), usize> = HashMap::new();
        for (file, text) in texts {
            let group: Arc<str> = group_of(file).into();
            for (line, rule) in syntax::rules(text) {
                match read(&rule, &mut shared).map(|rule| Rule { group: group.clone(), ..rule }) {
                    Ok(rule) => match known.get(&(rule.gid, rule.sid)) {
                        // Of two rules with one id the newer revision counts, of equal ones the first.
                        Some(at) => {
                            let newer = rules.get(*at).is_some_and(|other: &Rule| other.rev < rule.rev);
                            if let Some(slot) = rules.get_mut(*at).filter(|_| newer) {
                                *slot = rule;
                            } else {
                                let reason = format!("sid {} is there already", rule.sid);
                                refused.push(Refused { file: (*file).to_owned(), line, reason });
                            }
                        }
                        None => {
                            known.insert((rule.gid, rule.sid), rules.len());
                            rules.push(rule);
                        }
                    },
                    Err(reason) => refused.push(Refused { file: (*file).to_owned(), line, reason }),
                }
            }
        }
        order(&mut rules, &options.action_order);
        let (global, errors) = threshold::read(&options.thresholds, &options.variables);
        let wrong = errors.into_iter().map(|(line, reason)| Refused { file: "thresholds".into(), line, reason });
        refused.extend(wrong);
        let Shared { sets, .. } = shared;
        let order_of_actions = options.action_order.clone();
        Self { rules: rules.into_iter().map(Arc::new).collect(), global, sets, refused, order_of_actions }
    }

    /// Gives rules other actions than they are written with: what `action` says of each, where it says something.
    pub fn decide(&mut self, action: impl Fn(&Rule) -> Option<Action>) {
        let mut rules: Vec<Rule> = std::mem::take(&mut self.rules).into_iter().map(Arc::unwrap_or_clone).collect();
        for rule in &mut rules {
            if let Some(action) = action(rule) {
                rule.action = action;
            }
        }
        order(&mut rules, &self.order_of_actions);
        self.rules = rules.into_iter().map(Arc::new).collect();
    }

    pub fn len(&self) -> usize {
        self.rules.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// All rules, in the order of their evaluation.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().map(AsRef::as_ref)
    }
}

/// A file's name without folder and ending.
fn group_of(file: &str) -> &str {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

/// Reads one rule.
fn read(text: &str, shared: &mut Shared<'_>) -> Result<Rule, String> {
    let parts = syntax::parts(text)?;
    let action = Action::parse(parts.action).ok_or_else(|| format!("'{}' is no action", parts.action))?;
    let proto = protocol(parts.proto)?;
    let header = Header {
        text: text.into(),
        src: shared.resolver.addresses(parts.src)?,
        sport: shared.resolver.ports(parts.sport)?,
        dst: shared.resolver.addresses(parts.dst)?,
        dport: shared.resolver.ports(parts.dport)?,
        both_ways: parts.both_ways,
    };
    let mut builder = Builder::new(shared, action, proto);
    for (name, value) in &parts.options {
        keywords::option(&mut builder, name, value.as_deref()).map_err(|reason| format!("{name}: {reason}"))?;
    }
    builder.finish(header)
}

/// The protocol word of a header.
fn protocol(word: &str) -> Result<ProtoMatch, String> {
    let numbers = |numbers: &[u8]| ProtoMatch { numbers: numbers.to_vec(), ..ProtoMatch::default() };
    Ok(match word {
        "ip" => ProtoMatch::default(),
        "tcp" => numbers(&[6]),
        "tcp-pkt" => ProtoMatch { tcp_packet: true, ..numbers(&[6]) },
        "tcp-stream" => ProtoMatch { tcp_stream: true, ..numbers(&[6]) },
        "udp" => numbers(&[17]),
        "icmp" => numbers(&[1, 58]),
        "icmpv4" => numbers(&[1]),
        "icmpv6" => numbers(&[58]),
        "sctp" => numbers(&[132]),
        "ip4" | "ipv4" => ProtoMatch { version: Some(4), ..ProtoMatch::default() },
        "ip6" | "ipv6" => ProtoMatch { version: Some(6), ..ProtoMatch::default() },
        "pkthdr" => ProtoMatch { header_only: true, ..ProtoMatch::default() },
        other => {
            let app = AppProto::parse(other).ok_or_else(|| format!("protocol '{other}' is not known"))?;
            ProtoMatch { app: Some(app), ..numbers(app.transports()) }
        }
    })
}

/// Lines `config classification: name, description, priority`.
fn classes(text: &str) -> HashMap<String, (String, u8)> {
    let mut classes = HashMap::new();
    for line in text.lines() {
        let Some(rest) = line.trim().strip_prefix("config classification:") else { continue };
        let parts: Vec<&str> = rest.split(',').map(str::trim).collect();
        if let [name, description, priority] = parts.as_slice()
            && let Ok(priority) = priority.parse()
        {
            classes.insert((*name).to_owned(), ((*description).to_owned(), priority));
        }
    }
    classes
}

/// Sorts as rules are evaluated: by action, then those that set bits before those that test them, then by priority.
fn order(rules: &mut [Rule], actions: &[Action]) {
    let place = |action: Action| {
        let same = |other: &Action| {
            *other == action || (action.blocks() && *other == Action::Reject && action != Action::Drop)
        };
        actions.iter().position(same).unwrap_or(actions.len())
    };
    let class = |sets: bool, tests: bool| match (sets, tests) {
        (true, false) => 0,
        (true, true) => 1,
        (false, true) => 2,
        (false, false) => 3,
    };
    rules.sort_by_key(|rule| {
        let sets = |of: fn(&Effect) -> bool| rule.effects.iter().any(of);
        let tests = |of: fn(&PacketTest) -> bool| rule.packet.iter().any(of);
        let flow_bits = class(
            sets(|effect| matches!(effect, Effect::FlowBits(_))),
            tests(|test| matches!(test, PacketTest::FlowBits(_))),
        );
        let flow_ints = class(
            sets(|effect| matches!(effect, Effect::FlowInt(_))),
            tests(|test| matches!(test, PacketTest::FlowInt(_))),
        );
        let host_bits = class(
            sets(|effect| matches!(effect, Effect::HostBits(_))),
            tests(|test| matches!(test, PacketTest::HostBits(_))),
        );
        let pair_bits = class(
            sets(|effect| matches!(effect, Effect::XBits(_))),
            tests(|test| matches!(test, PacketTest::XBits(_))),
        );
        (place(rule.action), flow_bits, flow_ints, host_bits, pair_bits, rule.priority)
    });
    for (at, rule) in rules.iter_mut().enumerate() {
        rule.order = at as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> RuleSet {
        RuleSet::load(&[("f", text)], &LoadOptions::default(), &|_| None)
    }

    #[test]
    fn one_wrong_rule_leaves_the_rest() {
        let set = load(
            "alert tcp any any -> any any (sid:1;)\nalert tcp any any (sid:2;)\n\nalert tcp any any -> any any (nothing; sid:3;)\nalert ip any any -> any any (content:\"a\"; sid:4;)",
        );
        let sids: Vec<u32> = set.rules().map(|rule| rule.sid).collect();
        assert_eq!(sids, [1, 4]);
        let lines: Vec<usize> = set.refused.iter().map(|refused| refused.line).collect();
        assert_eq!(lines, [2, 4]);
        assert!(set.refused[1].reason.contains("nothing"));
    }

    #[test]
    fn evaluated_in_order() {
        let set = load(concat!(
            "alert tcp any any -> any any (priority:3; sid:1;)\n",
            "alert tcp any any -> any any (flowbits:isset,a; sid:2;)\n",
            "alert tcp any any -> any any (flowbits:set,a; sid:3;)\n",
            "alert tcp any any -> any any (priority:1; sid:4;)\n",
            "pass tcp any any -> any any (sid:5;)\n",
            "drop tcp any any -> any any (sid:6;)\n",
        ));
        let sids: Vec<u32> = set.rules().map(|rule| rule.sid).collect();
        assert_eq!(sids, [5, 6, 3, 2, 4, 1]);
    }

    #[test]
    fn a_decision_changes_what_a_rule_does_and_not_what_is_written() {
        let text = "drop tcp any any -> any any (sid:1;)\nalert tcp any any -> any any (sid:2;)";
        let mut set = RuleSet::load(&[("network/web.rules", text)], &LoadOptions::default(), &|_| None);
        set.decide(|rule| (rule.sid == 1 && &*rule.group == "web").then_some(Action::Alert));
        set.decide(|rule| (rule.sid == 2).then_some(Action::Drop));
        let found: Vec<_> = set.rules().map(|rule| (rule.sid, rule.action, rule.written)).collect();
        assert_eq!(found, [(2, Action::Drop, Action::Alert), (1, Action::Alert, Action::Drop)]);
    }

    #[test]
    fn newer_revision_counts() {
        let set = load("alert tcp any any -> any any (sid:1; rev:1;)\ndrop tcp any any -> any any (sid:1; rev:2;)");
        assert_eq!(set.rules().map(|rule| rule.action).collect::<Vec<_>>(), [Action::Drop]);
    }

    #[test]
    fn buffers_of_two_directions_do_not_load() {
        let set =
            load("alert http any any -> any any (http.uri; content:\"a\"; http.stat_code; content:\"200\"; sid:1;)");
        assert!(set.refused[0].reason.contains("directions"), "{:?}", set.refused);
        let set = load("alert http any any -> any any (http.uri; content:\"a\"; dns.query; content:\"b\"; sid:1;)");
        assert_eq!(set.refused.len(), 1);
    }
}
