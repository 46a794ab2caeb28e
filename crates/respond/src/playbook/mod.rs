//! Playbooks: what an alert, a finding, a clock or a person leads to. YAML with CEL; evaluating one is pure.
//!
//! ```yaml
//! id: isolate-on-malware            # stable slug
//! title: { en: Isolate the instance, ja: インスタンスを隔離 }
//! enabled: false                    # true where absent; policy: response.playbooks_on, response.playbooks_off
//! trigger:                          # one of these
//!   alert:
//!     rules: [malware-found]        # any of these; all rules where absent
//!     severity_at_least: high       # informational where absent
//!     scope: wide                   # where it runs: host (agent) or wide (manager)
//!   # finding: { datasets: [posture.aws], severity_at_least: high }   # an event of event.kind: state
//!   # schedule: { cron: "30 2 * * sun", zone: Asia/Tokyo }
//!   # manual: {}
//!   # webhook: { way: deploys }     # what came by [[ingest.webhook]] of that name
//! when: has(event.cloud.instance.id)  # CEL, true where absent
//! stop_when: steps.tell == "failed" # CEL, looked at before each step
//! quiet_hours: { from: "22:00", to: "07:00", zone: Asia/Tokyo, then: ask, ask: ops }   # or wait, skip
//! limits: { most: 3, share: 20, within: 1h, ask: ops }   # refused where nobody is asked
//! steps:
//!   - id: evidence                  # for conditions of later steps: steps.evidence == "done"
//!     action: disks_snapshot
//!     target: event.cloud.instance.id   # CEL that gives text; for a message `channel: ops` instead
//!     when: event.file.path != ""   # CEL, true where absent
//!     inputs: { note: written, user: { cel: event.user.name } }
//!     expiry: 1h                    # s, m, h or d
//!     retries: 2
//!     timeout: 20m                  # then it is taken back and has failed
//!     on_failure: continue          # or undo (the usual: what was done is taken back), or stop
//!   - approval: { ask: ops, within: 30m, otherwise: deny, persons: 1, text: { en: Isolate?, ja: 隔離しますか } }
//!   - parallel: [ { action: … }, { action: … } ]
//!   - { for_each: event.related.ip, most: 10, steps: [ { action: waf_block, target: item } ] }
//!   - wait: 5m
//! ```
//!
//! CEL sees `event` (the alert as nested ECS JSON) and `alert` (`id`, `rule`, `severity`, `count`, `probe`). A field
//! that is absent makes a condition false and a target empty, which is no order. What a CEL expression may cost is
//! bounded by [`crate::condition`].
//!
//! No playbook begins itself: an alert about what an action did leads to messages alone, one of a scan to no other scan, and a
//! message of ours that comes in again by a way is refused there.
//!
//! A playbook of one trigger by alert whose steps are orders and nothing else is *plain*: its orders follow from the alert
//! at once ([`Playbook::evaluate`]). Every other one is an [execution](crate::execution) that is driven step by step.

mod bounds;
mod check;
mod file;
mod places;
mod step;

use std::collections::BTreeSet;
use std::net::IpAddr;

use sakimori_model::action::{Cause, MAX_EVIDENCE, Target};
use sakimori_model::rule::{Scope, Severity, Text};
use sakimori_model::schedule::Schedule;
use sakimori_model::{Event, Network, Order, Timestamp, Value, field};

pub use self::bounds::{Limits, Quiet, QuietHours};
pub use self::step::{Act, Aim, Ask, Each, OnFailure, Otherwise, Step, What};
use crate::actions::{self, Runs, TargetKind, quarantine_file, scan_paths};
use crate::condition::{Condition, Needs, Scene};
use crate::wide::{later, order_id};

/// Largest playbook file, in bytes.
pub const MAX_FILE: usize = 64 << 10;
/// Most steps of a playbook, with those within others.
pub const MAX_STEPS: usize = 32;
/// Says of an alert that its rule is on trial.
pub const TRIAL: &str = "sakimori.network.trial";
/// `event.reason` of such an alert.
pub const TRIAL_REASON: &str = "let through, since the rule is on trial";

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
    /// Does it run without being switched on?
    pub enabled: bool,
    /// Where it runs.
    pub scope: Scope,
    /// What begins it.
    pub trigger: Trigger,
    /// Names its text: another text is another revision.
    pub revision: String,
    /// Where it was read.
    pub file: String,
    /// The whole of it, YAML.
    pub text: String,
    pub(crate) when: Option<Condition>,
    pub(crate) stop_when: Option<Condition>,
    /// Hours in which it does not act by itself.
    pub quiet_hours: Option<QuietHours>,
    /// Its blast radius.
    pub limits: Option<Limits>,
    /// Of all expressions.
    pub(crate) needs: Needs,
    plain: bool,
    /// What is done, in this order.
    pub steps: Vec<Step>,
}

/// What begins a playbook.
#[derive(Clone, Debug)]
pub enum Trigger {
    /// An alert of these rules (any where empty) and at least this severity.
    Alert {
        /// Slugs.
        rules: BTreeSet<String>,
        /// The least.
        severity: Severity,
    },
    /// A finding: what `event.kind: state` says of a posture, of these data sets (any where empty).
    Finding {
        /// `event.dataset`.
        datasets: BTreeSet<String>,
        /// The least.
        severity: Severity,
    },
    /// The clock.
    Schedule {
        /// When.
        schedule: Schedule,
        /// Where its times are local.
        zone: chrono_tz::Tz,
    },
    /// A person.
    Manual,
    /// An event that came by this way in: a signed request from elsewhere.
    Webhook {
        /// Its name in the manager's configuration.
        way: String,
    },
}

impl Trigger {
    /// Its name in a file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Alert { .. } => "alert",
            Self::Finding { .. } => "finding",
            Self::Schedule { .. } => "schedule",
            Self::Manual => "manual",
            Self::Webhook { .. } => "webhook",
        }
    }
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

impl Playbook {
    /// Reads and checks a playbook. `file` is its path, for errors.
    ///
    /// # Errors
    /// File, line and reason of the first mistake.
    pub fn parse(file: &str, text: &str) -> Result<Self, PlaybookError> {
        check::parse(file, text)
    }

    /// Do its orders follow from an alert at once, with nothing to wait for?
    pub fn is_plain(&self) -> bool {
        self.plain
    }

    /// All actions that it may order.
    pub fn acts(&self) -> Vec<&Act> {
        self.steps.iter().flat_map(Step::acts).collect()
    }

    /// Is it begun by this event, an alert or a finding? The error is the reason why not.
    ///
    /// # Errors
    /// The reason, in a sentence.
    pub fn fits(&self, event: &Event, id: &str, scope: Scope) -> Result<(), String> {
        if self.scope != scope {
            return Err("it runs elsewhere".to_owned());
        }
        // Whatever a playbook's author thought of: a trial only records.
        if event.rest_at(TRIAL) == Some(&serde_json::Value::Bool(true)) {
            return Err("its rule is on trial".to_owned());
        }
        self.begins_itself(event)?;
        let least = match &self.trigger {
            Trigger::Alert { rules, severity } => {
                let rule = event.str(field::RULE_ID).unwrap_or_default();
                if event.str(field::EVENT_KIND) == Some("state") {
                    return Err("it is begun by an alert".to_owned());
                }
                if !rules.is_empty() && !rules.contains(rule) {
                    return Err(format!("rule {rule} is not among its rules"));
                }
                *severity
            }
            Trigger::Finding { datasets, severity } => {
                let dataset = event.str(field::EVENT_DATASET).unwrap_or_default();
                if event.str(field::EVENT_KIND) != Some("state") {
                    return Err("it is begun by a finding".to_owned());
                }
                if !datasets.is_empty() && !datasets.contains(dataset) {
                    return Err(format!("data set {dataset} is not among its data sets"));
                }
                *severity
            }
            other => return Err(format!("it is begun by {}", other.name())),
        };
        let severity = event.long(field::EVENT_SEVERITY).unwrap_or(0);
        if least != Severity::Informational && severity < least.number() {
            return Err(format!("severity {severity} is below {}", least.number()));
        }
        self.condition_holds(event, id)
    }

    /// Would it go round and round? An alert about what an action did begins messages and nothing else: else an action, the
    /// alert about it and the playbook that orders the next would follow one another for ever, by one playbook or several in
    /// turn. An alert of a scan begins no other scan, which finds the same again.
    fn begins_itself(&self, event: &Event) -> Result<(), String> {
        let acts = self.acts();
        if let Some(of) = event.str(field::SAKIMORI_ACTION_ID)
            && let Some(act) = acts.iter().find(|act| !matches!(act.target, Aim::Channel(_)))
        {
            return Err(format!(
                "it would begin itself: the alert is about action {of}, and may lead to messages but not to {}",
                act.action.id
            ));
        }
        if let Some(of) = event.str(field::SAKIMORI_SCAN_ID)
            && acts.iter().any(|act| act.action.id == scan_paths::ID)
        {
            return Err(format!("it would begin itself: scan {of} found this, and the next scan finds it again"));
        }
        Ok(())
    }

    /// Does its own condition hold for this event?
    ///
    /// # Errors
    /// The reason why not, in a sentence.
    pub fn condition_holds(&self, event: &Event, id: &str) -> Result<(), String> {
        let Some(when) = &self.when else { return Ok(()) };
        match when.holds(&Scene::new(event, id, when.needs())) {
            Ok(true) => Ok(()),
            Ok(false) => Err("its condition is false".to_owned()),
            Err(reason) => Err(format!("its condition cannot be answered: {reason}")),
        }
    }

    /// The orders that an alert leads to, of a plain playbook; none of another. The same alert gives the same ids, so a
    /// replay does nothing twice.
    pub fn evaluate(&self, alert: &Event, alert_id: &str, setting: &Setting<'_>) -> Vec<Order> {
        if self.plain { self.explain(alert, alert_id, setting).0 } else { Vec::new() }
    }

    /// What would be done and why not, one line for each step: a dry run of a plain playbook.
    pub fn dry_run(&self, alert: &Event, alert_id: &str, setting: &Setting<'_>) -> Vec<String> {
        self.explain(alert, alert_id, setting).1
    }

    fn explain(&self, alert: &Event, alert_id: &str, setting: &Setting<'_>) -> (Vec<Order>, Vec<String>) {
        if let Err(reason) = self.fits(alert, alert_id, setting.scope) {
            return (Vec::new(), vec![format!("{}: nothing: {reason}", self.id)]);
        }
        let scene = Scene::new(alert, alert_id, &self.needs);
        let (mut orders, mut lines) = (Vec::new(), Vec::new());
        for step in &self.steps {
            let What::Act(act) = &step.what else { continue };
            let order = match step.when.as_ref().map(|when| when.holds(&scene)) {
                Some(Ok(false)) => Err("its condition is false".to_owned()),
                Some(Err(reason)) => Err(reason),
                None | Some(Ok(true)) => {
                    self.order(act, alert, alert_id, &scene, &Naming { keyed_by: alert_id, setting })
                }
            };
            match order {
                Ok(order) => {
                    let end = order.expiry.map(|end| format!(" until {end}")).unwrap_or_default();
                    lines.push(format!("{}: would {} {}{end} ({})", self.id, order.action, order.target, order.id));
                    orders.push(order);
                }
                Err(reason) => lines.push(format!("{}: no {}: {reason}", self.id, act.action.id)),
            }
        }
        (orders, lines)
    }

    /// The order of a step.
    ///
    /// # Errors
    /// Why there is none: no target, or an input that cannot be.
    pub(crate) fn order(
        &self,
        act: &Act,
        event: &Event,
        alert_id: &str,
        scene: &Scene<'_>,
        naming: &Naming<'_>,
    ) -> Result<Order, String> {
        let target = match &act.target {
            Aim::Channel(name) => Target::Channel(name.clone()),
            Aim::Expression(target) => {
                let text = target.text(scene)?;
                match act.action.target {
                    TargetKind::File => Target::File(text),
                    TargetKind::Resource(kind) => actions::resource(kind, &text)?,
                    _ => Target::Network(text.parse::<Network>().map_err(|error| error.to_string())?),
                }
            }
        };
        let mut inputs = act.inputs.clone();
        for (name, value) in &act.computed {
            let value = value.text(scene).map_err(|reason| format!("input {name}: {reason}"))?;
            check::check_input(act.action, name, Some(&value))?;
            inputs.insert(name.clone(), value);
        }
        if act.action.id == quarantine_file::ID
            && let Some(sum) = event.str(field::FILE_HASH_SHA256)
        {
            // The content that the alert speaks of, and no other.
            inputs.entry(quarantine_file::SHA256.to_owned()).or_insert_with(|| sum.to_owned());
        }
        if act.action.runs == Runs::Account {
            // Where the event happened, unless the playbook says otherwise.
            for (name, id) in [(actions::ACCOUNT, field::CLOUD_ACCOUNT_ID), (actions::REGION, field::CLOUD_REGION)] {
                if let Some(value) = event.str(id).filter(|value| value.len() <= 64) {
                    inputs.entry(name.to_owned()).or_insert_with(|| value.to_owned());
                }
            }
        }
        let Naming { keyed_by, setting } = naming;
        Ok(Order {
            id: order_id(keyed_by, act.action.id, &target, setting.place),
            action: act.action.id.to_owned(),
            target,
            expiry: act.expiry_seconds.map(|seconds| later(setting.now, seconds)),
            cause: self.cause(event, alert_id),
            via: proxy(event),
            probe: event.bool(field::SAKIMORI_PROBE).unwrap_or(false),
            inputs,
            signatures: Vec::new(),
        })
    }

    /// Why an action of this playbook exists.
    pub(crate) fn cause(&self, event: &Event, alert_id: &str) -> Cause {
        let text = |id| event.str(id).unwrap_or_default().to_owned();
        let events = event.get(field::SAKIMORI_ALERT_EVENTS).map(Value::each).unwrap_or_default();
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

/// What an order's id is made of, beside action and target.
pub(crate) struct Naming<'a> {
    /// The alert, or the step of an execution.
    pub(crate) keyed_by: &'a str,
    /// Place and moment.
    pub(crate) setting: &'a Setting<'a>,
}

/// The name of a text: the first half of its SHA-256, in hexadecimal.
pub(crate) fn revision(text: &str) -> String {
    use sha2::{Digest, Sha256};
    hex::encode(Sha256::digest(text).get(..16).unwrap_or_default())
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
fn proxy(event: &Event) -> Option<IpAddr> {
    event.ip(field::SAKIMORI_PROXY_IP)
}

#[cfg(test)]
mod tests;
