//! Policy: what is on, off and how, per host.
//!
//! A policy is layers, default ← tenant ← group … ← host. A leaf is replaced whole, lists too unless
//! `add:` or `remove:` is written; `inherit` as a leaf's value means the layer says nothing. [`merge`] is
//! pure and keeps for every leaf the layer that set it, so that "what applies here, and why" has one answer.
//! An agent gets the result only, numbered, never an older one.

mod antimalware;
mod keep;
mod lasting;
mod scan;
pub mod schema;
mod skew;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::address::Network;

pub use antimalware::{Absent, Antimalware, Excluded, Unjudged};
pub use keep::KeepPackets;
pub use lasting::{IsolateHost, LockUser};
pub use scan::{Found, Left, Missed, Scan};
pub use skew::read;

/// Settings of several parts that are one: a layer replaces them whole.
const WHOLE: &[&str] = &["modules.antimalware.absent"];

/// Version of the policy's schema, stated at connect (D21).
pub const SCHEMA_VERSION: u32 = 1;

/// The effective policy of one host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// One section a module.
    pub modules: Modules,
    /// What the automatic answers must respect everywhere.
    pub response: Response,
    /// What it means when an agent is away.
    #[serde(default)]
    pub presence: Presence,
}

/// What it means when an agent is away; the manager's affair, for each host by its groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Presence {
    /// An agent that said no goodbye and was not heard of for so many seconds is silent, which is an event.
    pub silent_after_seconds: u64,
    /// Hosts that come and go by themselves: one that was not heard of for so many seconds is retired, and never
    /// silent. 0: hosts stay.
    pub retire_after_seconds: u64,
}

impl Default for Presence {
    fn default() -> Self {
        Self { silent_after_seconds: 30, retire_after_seconds: 0 }
    }
}

/// Sections of the modules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Modules {
    /// Reads logs, makes events, runs host-scope rules.
    pub log_inspection: LogInspection,
    /// Blocks addresses in nftables.
    pub block_address: BlockAddress,
    /// Keeps malicious files from being opened.
    #[serde(default)]
    pub antimalware: Antimalware,
    /// Inspects packets before they are delivered.
    #[serde(default)]
    pub intrusion_prevention: IntrusionPrevention,
}

/// Is a module on?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Switch {
    /// Runs.
    On,
    /// No process, no hook, and nothing leaves the host.
    Off,
}

/// Does an enforcer act, or only say what it would do?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Says what it would do.
    Detect,
    /// Acts.
    Prevent,
}

/// Log inspection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogInspection {
    /// On or off.
    pub state: Switch,
    /// What is read. A log that is absent is a state, not an error.
    pub sources: Vec<LogInput>,
}

/// One log that is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogInput {
    /// Name of this input, unique on the host; names its stream.
    pub name: String,
    /// Slug of the log source in `content/logs`, `linux/auth`.
    pub source: String,
    /// A file, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The journal's unit or identifier filters (`SYSLOG_IDENTIFIER=sshd`), where it is the journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<Vec<String>>,
    /// Time zone of times without one; the host's where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Its events are a probe's: they carry `sakimori.probe`, and what follows stays on the host.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub probe: bool,
}

/// The enforcer `block_address`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockAddress {
    /// On or off.
    pub state: Switch,
    /// Act, or say what it would do.
    pub mode: Mode,
    /// How long a block lasts, in seconds, unless the playbook says otherwise.
    pub expiry_seconds: u64,
    /// The longest that fresh evidence may prolong a block to, from its beginning.
    pub expiry_most_seconds: u64,
    /// After an undo by hand, how long the same target is not blocked again.
    pub grace_seconds: u64,
    /// Most new blocks a minute; more are refused with an event.
    pub most_per_minute: u32,
    /// Most blocks at a time; one more is refused with an event.
    pub most: u32,
}

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

/// What every answer respects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Response {
    /// Never blocked anywhere.
    pub allow: Vec<Network>,
    /// Proxies and load balancers whose X-Forwarded-For is believed; never blocked anywhere.
    pub trusted_proxies: Vec<Network>,
    /// Playbooks that are shipped switched off and run here, by their slugs.
    #[serde(default)]
    pub playbooks_on: Vec<String>,
    /// Playbooks that do not run here, by their slugs.
    #[serde(default)]
    pub playbooks_off: Vec<String>,
    /// Hosts cut off from all but their manager.
    #[serde(default)]
    pub isolate_host: IsolateHost,
    /// Users of a host that may not sign in.
    #[serde(default)]
    pub lock_user: LockUser,
    /// Programs that are never ended or frozen anywhere, by the whole path of their executable.
    #[serde(default)]
    pub never_kill: Vec<String>,
}

impl Response {
    /// Does a playbook run, that is switched on as it is shipped or not?
    pub fn runs(&self, playbook: &str, enabled: bool) -> bool {
        let listed = |list: &[String]| list.iter().any(|one| one == playbook);
        (enabled || listed(&self.playbooks_on)) && !listed(&self.playbooks_off)
    }
}

/// A layer: its name (`default`, `tenant`, `group:web`, `host`) and what it says.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Shown beside each leaf that it set.
    pub name: String,
    /// A tree in the form of [`Policy`], with any leaf left out.
    pub tree: Map<String, Json>,
}

/// The result of merging.
#[derive(Clone, Debug, PartialEq)]
pub struct Effective {
    /// What applies.
    pub policy: Policy,
    /// For each leaf, by dotted path, the layers that set it, the deciding one last.
    pub origin: BTreeMap<String, Vec<String>>,
}

/// A policy that cannot be used: the layer, the place in it, and why.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("policy layer {layer}: {path}: {reason}")]
pub struct PolicyError {
    /// Name of the layer.
    pub layer: String,
    /// Dotted path.
    pub path: String,
    /// What is wrong.
    pub reason: String,
}

/// The layer under all others: detect, and block only what is certain.
pub fn default_layer() -> Layer {
    let policy = Policy {
        modules: Modules {
            log_inspection: LogInspection {
                state: Switch::On,
                sources: vec![
                    file_input("auth", "linux/auth", "/var/log/auth.log"),
                    LogInput {
                        journal: Some(
                            [
                                "sshd",
                                "sshd-session",
                                "sudo",
                                "su",
                                "useradd",
                                "usermod",
                                "groupadd",
                                "gpasswd",
                                "passwd",
                            ]
                            .map(|name| format!("SYSLOG_IDENTIFIER={name}"))
                            .into(),
                        ),
                        file: None,
                        ..file_input("journal-auth", "linux/auth", "")
                    },
                    file_input("nginx-access", "nginx/access", "/var/log/nginx/access.log"),
                ],
            },
            block_address: BlockAddress {
                state: Switch::On,
                mode: Mode::Prevent,
                expiry_seconds: 3_600,
                expiry_most_seconds: 86_400,
                grace_seconds: 3_600,
                most_per_minute: 600,
                most: 200_000,
            },
            antimalware: Antimalware::default(),
            intrusion_prevention: IntrusionPrevention::default(),
        },
        response: Response {
            allow: Vec::new(),
            trusted_proxies: Vec::new(),
            playbooks_on: Vec::new(),
            playbooks_off: Vec::new(),
            isolate_host: IsolateHost::default(),
            lock_user: LockUser::default(),
            never_kill: Vec::new(),
        },
        presence: Presence::default(),
    };
    let Ok(Json::Object(tree)) = serde_json::to_value(policy) else {
        unreachable!("a policy is an object");
    };
    Layer { name: "default".into(), tree }
}

fn file_input(name: &str, source: &str, file: &str) -> LogInput {
    LogInput {
        name: name.into(),
        source: source.into(),
        file: Some(file.into()),
        journal: None,
        zone: None,
        probe: false,
    }
}

/// Merges layers from the most general to the most special. The first must be complete
/// ([`default_layer`]).
///
/// # Errors
/// The first layer and path that is unknown or of the wrong type.
pub fn merge(layers: &[Layer]) -> Result<Effective, PolicyError> {
    let mut tree = Map::new();
    let mut origin: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut policy = None;
    for (number, layer) in layers.iter().enumerate() {
        if number > 0 {
            known(&tree, &layer.tree, "", layer)?;
        }
        overlay(&mut tree, &layer.tree, "", layer, &mut origin)?;
        // Checked after every layer, so that the error names the one that broke it.
        policy = Some(typed(&tree, layer)?);
    }
    policy.map(|policy| Effective { policy, origin }).ok_or_else(|| PolicyError {
        layer: "none".into(),
        path: String::new(),
        reason: "no layer was given".into(),
    })
}

fn typed(tree: &Map<String, Json>, layer: &Layer) -> Result<Policy, PolicyError> {
    serde_json::from_value(Json::Object(tree.clone())).map_err(|error| PolicyError {
        layer: layer.name.clone(),
        path: "policy".into(),
        reason: error.to_string(),
    })
}

/// Every group that a layer names must exist; a leaf's own content is checked by its type.
fn known(
    base: &Map<String, Json>,
    layer_tree: &Map<String, Json>,
    path: &str,
    layer: &Layer,
) -> Result<(), PolicyError> {
    for (name, value) in layer_tree {
        let path = join(path, name);
        match (base.get(name), value) {
            (None, _) => {
                let mut names: Vec<&str> = base.keys().map(String::as_str).collect();
                names.sort_unstable();
                return Err(PolicyError {
                    layer: layer.name.clone(),
                    path,
                    reason: format!("unknown key; known here: {}", names.join(", ")),
                });
            }
            (Some(Json::Object(_)), Json::Object(_)) if WHOLE.contains(&path.as_str()) => {}
            (Some(Json::Object(base)), Json::Object(inner)) => known(base, inner, &path, layer)?,
            (Some(Json::Object(_)), Json::String(word)) if word == "inherit" => {}
            (Some(Json::Object(_)), _) => {
                return Err(PolicyError {
                    layer: layer.name.clone(),
                    path,
                    reason: "expected a group of settings".into(),
                });
            }
            (Some(_), _) => {}
        }
    }
    Ok(())
}

fn overlay(
    tree: &mut Map<String, Json>,
    over: &Map<String, Json>,
    path: &str,
    layer: &Layer,
    origin: &mut BTreeMap<String, Vec<String>>,
) -> Result<(), PolicyError> {
    for (name, value) in over {
        let path = join(path, name);
        match (tree.get_mut(name), value) {
            (_, Json::String(word)) if word == "inherit" => {}
            (Some(Json::Object(below)), Json::Object(inner)) if !WHOLE.contains(&path.as_str()) => {
                overlay(below, inner, &path, layer, origin)?;
            }
            (None, Json::Object(inner)) => {
                let mut below = Map::new();
                overlay(&mut below, inner, &path, layer, origin)?;
                tree.insert(name.clone(), Json::Object(below));
            }
            (Some(Json::Array(list)), Json::Object(edit)) => {
                edit_list(list, edit).map_err(|reason| PolicyError {
                    layer: layer.name.clone(),
                    path: path.clone(),
                    reason,
                })?;
                origin.entry(path).or_default().push(layer.name.clone());
            }
            (_, value) => {
                tree.insert(name.clone(), value.clone());
                origin.insert(path, vec![layer.name.clone()]);
            }
        }
    }
    Ok(())
}

/// `add:` appends what is not there, `remove:` takes out equal values, or, of named items, those of that name.
fn edit_list(list: &mut Vec<Json>, edit: &Map<String, Json>) -> Result<(), String> {
    for (verb, values) in edit {
        let Json::Array(values) = values else { return Err(format!("{verb}: expected a list")) };
        match verb.as_str() {
            "add" => {
                for value in values {
                    if !list.contains(value) {
                        list.push(value.clone());
                    }
                }
            }
            "remove" => list.retain(|one| !values.iter().any(|value| value == one || one.get("name") == Some(value))),
            other => return Err(format!("a list is replaced, or edited by add and remove; found {other}")),
        }
    }
    Ok(())
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn layer(name: &str, tree: Json) -> Layer {
        match tree {
            Json::Object(tree) => Layer { name: name.into(), tree },
            other => panic!("not an object: {other}"),
        }
    }

    #[test]
    fn the_nearest_layer_wins_and_is_named() {
        let effective = merge(&[
            default_layer(),
            layer("tenant", json!({"modules": {"block_address": {"expiry_seconds": 60, "mode": "detect"}}})),
            layer("host", json!({"modules": {"block_address": {"mode": "prevent", "expiry_seconds": "inherit"}}})),
        ])
        .expect("valid");
        assert_eq!(effective.policy.modules.block_address.expiry_seconds, 60);
        assert_eq!(effective.policy.modules.block_address.mode, Mode::Prevent);
        assert_eq!(effective.origin["modules.block_address.expiry_seconds"], ["tenant"]);
        assert_eq!(effective.origin["modules.block_address.mode"], ["host"]);
        assert_eq!(effective.origin["response.allow"], ["default"]);
    }

    #[test]
    fn lists_are_replaced_or_edited() {
        let added = merge(&[
            default_layer(),
            layer("tenant", json!({"response": {"allow": ["192.0.2.0/24"]}})),
            layer(
                "host",
                json!({"response": {"allow": {"add": ["2001:db8::/32"], "remove": ["192.0.2.0/24"]}},
                "modules": {"log_inspection": {"sources": {"remove": ["auth"]}}}}),
            ),
        ])
        .expect("valid");
        assert_eq!(added.policy.response.allow.iter().map(ToString::to_string).collect::<Vec<_>>(), ["2001:db8::/32"]);
        assert_eq!(added.origin["response.allow"], ["tenant", "host"]);
        assert!(added.policy.modules.log_inspection.sources.iter().all(|input| input.name != "auth"));
    }

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

    #[test]
    fn what_is_wrong_is_named_with_layer_and_path() {
        let error =
            merge(&[default_layer(), layer("tenant", json!({"modules": {"block_adress": {}}}))]).expect_err("typo");
        assert_eq!((error.layer.as_str(), error.path.as_str()), ("tenant", "modules.block_adress"));
        let error =
            merge(&[default_layer(), layer("host", json!({"response": {"allow": ["x"]}}))]).expect_err("no network");
        assert_eq!(error.layer, "host");
        assert!(error.reason.contains("192.0.2.0/24"), "{error}");
    }

    proptest! {
        #[test]
        fn a_layer_that_says_nothing_changes_nothing(seconds in any::<u32>()) {
            let own = layer("host", json!({"modules": {"block_address": {"expiry_seconds": seconds}}}));
            let with = merge(&[default_layer(), layer("tenant", json!({})), own.clone()]).expect("valid");
            let without = merge(&[default_layer(), own]).expect("valid");
            prop_assert_eq!(with, without);
        }
    }
}
