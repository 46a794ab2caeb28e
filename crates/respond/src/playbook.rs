//! Playbooks: which actions an alert leads to. YAML with CEL conditions; evaluating one is pure.
//!
//! ```yaml
//! id: block-on-host                 # stable slug
//! title: { en: Block on the host, ja: ホストで遮断 }
//! trigger:
//!   alert:
//!     rules: [ssh-brute-force]      # any of these; all rules where absent
//!     severity_at_least: high       # informational where absent
//!     scope: host                   # where the playbook runs: host (agent) or wide (manager)
//! when: has(event.source.ip)        # CEL, true where absent
//! steps:
//!   - action: block_address
//!     target: event.source.ip       # CEL that gives text (a path for quarantine_file and scan_paths);
//!                                   # for a message `channel: ops` instead
//!     when: event.source.ip != ""   # CEL, true where absent
//!     expiry: 1h                    # s, m, h or d; the policy's where absent
//!     inputs: {}
//! ```
//!
//! CEL sees `event` (the alert as nested ECS JSON) and `alert` (`id`, `rule`, `severity`, `count`, `probe`). A field
//! that is absent makes a condition false and a target empty, which is no order. What a CEL expression may cost is
//! bounded by [`crate::condition`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use sakimori_model::action::{Cause, MAX_EVIDENCE, Target};
use sakimori_model::rule::{Scope, Severity, Text};
use sakimori_model::{Event, Network, Order, Timestamp, Value, field};
use serde::Deserialize;

use crate::actions::{self, Descriptor, Runs, TargetKind, quarantine_file};
use crate::condition::{Condition, Needs, Scene};
use crate::wide::{later, order_id};

/// Largest playbook file, in bytes.
pub const MAX_FILE: usize = 64 << 10;
/// Most steps of a playbook.
pub const MAX_STEPS: usize = 16;
/// Says of an alert that its rule is on trial.
pub const TRIAL: &str = "sakimori.network.trial";
/// `event.reason` of such an alert.
pub const TRIAL_REASON: &str = "let through, since the rule is on trial";
/// Longest expiry that a step may ask for, in seconds.
const MAX_EXPIRY: u64 = 366 * 86_400;

/// Why a playbook cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {reason}")]
pub struct PlaybookError {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, and what would be right.
    pub reason: String,
}

/// A playbook that has been checked.
#[derive(Debug)]
pub struct Playbook {
    /// Slug.
    pub id: String,
    /// Title.
    pub title: Text,
    /// Where it runs.
    pub scope: Scope,
    rules: BTreeSet<String>,
    severity: Severity,
    when: Option<Condition>,
    /// Of all expressions.
    needs: Needs,
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    action: &'static Descriptor,
    target: Aim,
    when: Option<Condition>,
    expiry_seconds: Option<u64>,
    inputs: BTreeMap<String, String>,
}

#[derive(Debug)]
enum Aim {
    Expression(Condition),
    Channel(String),
}

/// What an evaluation depends on beside the alert.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// Who would carry the actions out: the agent's id, or `manager`. Part of each order's id.
    pub place: &'a str,
    /// Now.
    pub now: Timestamp,
    /// Where the evaluation runs: playbooks of the other scope are silent.
    pub scope: Scope,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    id: String,
    title: Text,
    trigger: Trigger,
    #[serde(default)]
    when: Option<String>,
    steps: Vec<FileStep>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Trigger {
    alert: OnAlert,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OnAlert {
    #[serde(default)]
    rules: BTreeSet<String>,
    #[serde(default)]
    severity_at_least: Severity,
    scope: Scope,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileStep {
    action: String,
    #[serde(default)]
    target: Option<String>,
    #[serde(default)]
    channel: Option<String>,
    #[serde(default)]
    when: Option<String>,
    #[serde(default)]
    expiry: Option<String>,
    #[serde(default)]
    inputs: BTreeMap<String, String>,
}

impl Playbook {
    /// Reads and checks a playbook. `file` is its path, for errors.
    pub fn parse(file: &str, text: &str) -> Result<Self, PlaybookError> {
        let fail = |line: usize, reason: String| PlaybookError { file: file.to_owned(), line, reason };
        if text.len() > MAX_FILE {
            return Err(fail(1, format!("a playbook of {} bytes is larger than {MAX_FILE}", text.len())));
        }
        let read: File = yaml_serde::from_str(text)
            .map_err(|error| fail(error.location().map_or(1, |at| at.line()), error.to_string()))?;
        let slug = |text: &str| {
            !text.is_empty()
                && text.len() <= 64
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        if !slug(&read.id) {
            return Err(fail(line_of(text, "id", 0), "id must be a slug: letters, digits, - _ .".to_owned()));
        }
        if read.steps.is_empty() || read.steps.len() > MAX_STEPS {
            return Err(fail(line_of(text, "steps", 0), format!("a playbook has 1 to {MAX_STEPS} steps")));
        }
        let compile = |key: &str, nth: usize, source: &str| {
            Condition::compile(source).map_err(|error| {
                let line = line_of(text, key, nth) + block_offset(text, key, nth) + error.line.saturating_sub(1);
                fail(line, format!("{key}: {}", error.reason))
            })
        };
        let when = read.when.as_deref().map(|source| compile("when", 0, source)).transpose()?;
        // The keys of steps are found in the text by counting, since the YAML reader gives no lines for values.
        let (mut whens, mut targets) = (usize::from(when.is_some()), 0);
        if text_order_is_odd(text) {
            return Err(fail(line_of(text, "when", 1), "write a playbook's own `when` before its steps".to_owned()));
        }
        let mut steps = Vec::new();
        for (at, step) in read.steps.iter().enumerate() {
            let line = line_of(text, "action", at);
            let action = actions::find(&step.action).ok_or_else(|| {
                let known: Vec<_> = actions::CATALOG.iter().map(|action| action.id).collect();
                fail(line, format!("unknown action {}; known are {}", step.action, known.join(", ")))
            })?;
            let runs = if read.trigger.alert.scope == Scope::Host { Runs::Host } else { Runs::Manager };
            if runs == Runs::Host && action.runs != Runs::Host {
                return Err(fail(line, format!("{} does not run on a host; write scope: wide", action.id)));
            }
            let target = match (action.target, &step.target, &step.channel) {
                (TargetKind::Network | TargetKind::File | TargetKind::Resource(_), Some(source), None) => {
                    targets += 1;
                    Aim::Expression(compile("target", targets - 1, source)?)
                }
                (TargetKind::Channel, None, Some(name)) if slug(name) => Aim::Channel(name.clone()),
                (TargetKind::Network, ..) => {
                    return Err(fail(line, format!("{} needs a target, like event.source.ip", action.id)));
                }
                (TargetKind::File, ..) => {
                    return Err(fail(line, format!("{} needs a target, like event.file.path", action.id)));
                }
                (TargetKind::Resource(kind), ..) => {
                    return Err(fail(line, format!("{} needs a target, which names a {kind}", action.id)));
                }
                (TargetKind::Setting, ..) => {
                    return Err(fail(line, format!("{} is begun by a policy, not by a playbook", action.id)));
                }
                (TargetKind::Channel, ..) => {
                    return Err(fail(line, format!("{} needs a channel, like ops, and no target", action.id)));
                }
            };
            let when = step.when.as_deref().map(|source| compile("when", whens, source)).transpose()?;
            whens += usize::from(when.is_some());
            let expiry_seconds = match step.expiry.as_deref().map(|text| (duration(text), text)) {
                None => None,
                Some((Some(seconds), _)) if action.expires => Some(seconds),
                Some((Some(_), _)) => return Err(fail(line, format!("{} does not expire", action.id))),
                Some((None, text)) => {
                    return Err(fail(line, format!("expiry {text} is not a time like 90s, 30m, 1h or 7d, up to 366d")));
                }
            };
            check_inputs(action, &step.inputs).map_err(|reason| fail(line, reason))?;
            steps.push(Step { action, target, when, expiry_seconds, inputs: step.inputs.clone() });
        }
        let OnAlert { rules, severity_at_least: severity, scope } = read.trigger.alert;
        let aims = steps.iter().filter_map(|step| match &step.target {
            Aim::Expression(target) => Some(target),
            Aim::Channel(_) => None,
        });
        let conditions = when.iter().chain(steps.iter().filter_map(|step| step.when.as_ref())).chain(aims);
        let needs = conditions.fold(Needs::default(), |needs, one| needs.and(one.needs()));
        Ok(Self { id: read.id, title: read.title, scope, rules, severity, when, needs, steps })
    }

    /// The orders that an alert leads to. The same alert gives the same ids, so a replay does nothing twice.
    pub fn evaluate(&self, alert: &Event, alert_id: &str, setting: &Setting<'_>) -> Vec<Order> {
        self.explain(alert, alert_id, setting).0
    }

    /// What would be done and why not, one line for each step: a dry run.
    pub fn dry_run(&self, alert: &Event, alert_id: &str, setting: &Setting<'_>) -> Vec<String> {
        self.explain(alert, alert_id, setting).1
    }

    fn explain(&self, alert: &Event, alert_id: &str, setting: &Setting<'_>) -> (Vec<Order>, Vec<String>) {
        let not = |reason: String| (Vec::new(), vec![format!("{}: nothing: {reason}", self.id)]);
        if self.scope != setting.scope {
            return not("it runs elsewhere".to_owned());
        }
        // Whatever a playbook's author thought of: a trial only records.
        if alert.rest_at(TRIAL) == Some(&serde_json::Value::Bool(true)) {
            return not("its rule is on trial".to_owned());
        }
        let rule = alert.str(field::RULE_ID).unwrap_or_default();
        if !self.rules.is_empty() && !self.rules.contains(rule) {
            return not(format!("rule {rule} is not among its rules"));
        }
        let severity = alert.long(field::EVENT_SEVERITY).unwrap_or(0);
        if self.severity != Severity::Informational && severity < self.severity.number() {
            return not(format!("severity {severity} is below {}", self.severity.number()));
        }
        let scene = Scene::new(alert, alert_id, &self.needs);
        match self.when.as_ref().map(|when| when.holds(&scene)) {
            None | Some(Ok(true)) => {}
            Some(Ok(false)) => return not("its condition is false".to_owned()),
            Some(Err(reason)) => return not(format!("its condition cannot be answered: {reason}")),
        }
        let (mut orders, mut lines) = (Vec::new(), Vec::new());
        for step in &self.steps {
            match self.order(step, alert, alert_id, &scene, setting) {
                Ok(order) => {
                    let end = order.expiry.map(|end| format!(" until {end}")).unwrap_or_default();
                    lines.push(format!("{}: would {} {}{end} ({})", self.id, order.action, order.target, order.id));
                    orders.push(order);
                }
                Err(reason) => lines.push(format!("{}: no {}: {reason}", self.id, step.action.id)),
            }
        }
        (orders, lines)
    }

    fn order(
        &self,
        step: &Step,
        alert: &Event,
        alert_id: &str,
        scene: &Scene<'_>,
        setting: &Setting<'_>,
    ) -> Result<Order, String> {
        if let Some(when) = &step.when
            && !when.holds(scene)?
        {
            return Err("its condition is false".to_owned());
        }
        let target = match &step.target {
            Aim::Channel(name) => Target::Channel(name.clone()),
            Aim::Expression(target) => {
                let text = target.text(scene)?;
                match step.action.target {
                    TargetKind::File => Target::File(text),
                    TargetKind::Resource(kind) => actions::resource(kind, &text)?,
                    _ => Target::Network(text.parse::<Network>().map_err(|error| error.to_string())?),
                }
            }
        };
        let mut inputs = step.inputs.clone();
        if step.action.id == quarantine_file::ID
            && let Some(sum) = alert.str(field::FILE_HASH_SHA256)
        {
            // The content that the alert speaks of, and no other.
            inputs.entry(quarantine_file::SHA256.to_owned()).or_insert_with(|| sum.to_owned());
        }
        if step.action.runs == Runs::Account {
            // Where the event happened, unless the playbook says otherwise.
            for (name, id) in [(actions::ACCOUNT, field::CLOUD_ACCOUNT_ID), (actions::REGION, field::CLOUD_REGION)] {
                if let Some(value) = alert.str(id) {
                    inputs.entry(name.to_owned()).or_insert_with(|| value.to_owned());
                }
            }
        }
        Ok(Order {
            id: order_id(alert_id, step.action.id, &target, setting.place),
            action: step.action.id.to_owned(),
            target,
            expiry: step.expiry_seconds.map(|seconds| later(setting.now, seconds)),
            cause: self.cause(alert, alert_id),
            via: proxy(alert),
            probe: alert.bool(field::SAKIMORI_PROBE).unwrap_or(false),
            inputs,
            signatures: Vec::new(),
        })
    }

    fn cause(&self, alert: &Event, alert_id: &str) -> Cause {
        let text = |id| alert.str(id).unwrap_or_default().to_owned();
        let events = alert.get(field::SAKIMORI_ALERT_EVENTS).map(Value::each).unwrap_or_default();
        let id = |value: &Value| match value {
            Value::Str(text) => Some(text.to_string()),
            _ => None,
        };
        Cause {
            alert: alert_id.to_owned(),
            rule: text(field::RULE_ID),
            title: text(field::RULE_NAME),
            events: events.iter().filter_map(id).take(MAX_EVIDENCE).collect(),
            by: format!("playbook:{}", self.id),
        }
    }
}

/// Is this path of a bundle a playbook's?
pub fn is_playbook(path: &str) -> bool {
    path.starts_with("playbooks/")
        && [".yml", ".yaml"].iter().any(|end| path.ends_with(end))
        && !path.ends_with(".tests.yaml")
}

/// The playbooks of one scope among the files of a bundle, and what of all its playbooks cannot be used:
/// `file:line: reason`.
pub fn load<'a>(files: impl Iterator<Item = (&'a str, &'a [u8])>, scope: Scope) -> (Vec<Playbook>, Vec<String>) {
    let (mut playbooks, mut errors) = (Vec::new(), Vec::new());
    for (path, bytes) in files.filter(|(path, _)| is_playbook(path)) {
        let Ok(text) = std::str::from_utf8(bytes) else {
            errors.push(format!("{path}:1: the file is not UTF-8"));
            continue;
        };
        match Playbook::parse(path, text) {
            Ok(playbook) if playbook.scope == scope => playbooks.push(playbook),
            Ok(_) => {}
            Err(error) => errors.push(error.to_string()),
        }
    }
    (playbooks, errors)
}

/// The proxy through which the client came.
fn proxy(alert: &Event) -> Option<IpAddr> {
    alert.ip(field::SAKIMORI_PROXY_IP)
}

fn check_inputs(action: &Descriptor, inputs: &BTreeMap<String, String>) -> Result<(), String> {
    for (name, value) in inputs {
        let input = action.inputs.iter().find(|input| input.name == name);
        let input = input.ok_or_else(|| format!("{} has no input named {name}", action.id))?;
        if value.len() > input.most {
            return Err(format!("input {name} is longer than {} bytes", input.most));
        }
    }
    Ok(())
}

/// Seconds of `90s`, `30m`, `1h`, `7d`; at least one.
fn duration(text: &str) -> Option<u64> {
    let unit = match text.as_bytes().last()? {
        b's' => 1,
        b'm' => 60,
        b'h' => 3600,
        b'd' => 86_400,
        _ => return None,
    };
    let number: u64 = text.get(..text.len() - 1)?.parse().ok()?;
    number.checked_mul(unit).filter(|seconds| (1..=MAX_EXPIRY).contains(seconds))
}

/// Lines that begin with this key, from 1.
fn lines_of<'a>(text: &'a str, key: &'a str) -> impl Iterator<Item = (usize, &'a str)> + 'a {
    text.lines().enumerate().filter_map(move |(at, line)| {
        let rest = line.trim_start().trim_start_matches("- ").trim_start().strip_prefix(key)?;
        rest.trim_start().strip_prefix(':').map(|value| (at + 1, value.trim()))
    })
}

/// The line of the nth occurrence of a key; of the last one before it, or 1, where a flow style hides it.
fn line_of(text: &str, key: &str, nth: usize) -> usize {
    lines_of(text, key).take(nth + 1).last().map_or(1, |(line, _)| line)
}

/// 1 where the value begins on the line after its key (`|` or `>`).
fn block_offset(text: &str, key: &str, nth: usize) -> usize {
    lines_of(text, key).nth(nth).map_or(0, |(_, value)| usize::from(value.starts_with(['|', '>'])))
}

/// Does the playbook's own `when` follow its steps? Then counting would name wrong lines.
fn text_order_is_odd(text: &str) -> bool {
    let own = text.lines().position(|line| line.starts_with("when:"));
    let steps = text.lines().position(|line| line.starts_with("steps:"));
    matches!((own, steps), (Some(own), Some(steps)) if own > steps)
}

#[cfg(test)]
#[path = "playbook_tests.rs"]
mod tests;
