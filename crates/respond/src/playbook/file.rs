//! A playbook's file: its YAML form, as it is written. What it may hold is checked in [`super::check`].

use std::collections::{BTreeMap, BTreeSet};

use sakimori_model::rule::{Scope, Severity, Text};
use serde::Deserialize;

use super::step::{OnFailure, Otherwise};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) id: String,
    pub(super) title: Text,
    #[serde(default = "yes")]
    pub(super) enabled: bool,
    pub(super) trigger: FileTrigger,
    #[serde(default)]
    pub(super) when: Option<String>,
    #[serde(default)]
    pub(super) stop_when: Option<String>,
    #[serde(default)]
    pub(super) quiet_hours: Option<FileQuietHours>,
    #[serde(default)]
    pub(super) limits: Option<FileLimits>,
    pub(super) steps: Vec<FileStep>,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileTrigger {
    #[serde(default)]
    pub(super) alert: Option<OnAlert>,
    #[serde(default)]
    pub(super) finding: Option<OnFinding>,
    #[serde(default)]
    pub(super) schedule: Option<OnSchedule>,
    #[serde(default)]
    pub(super) manual: Option<Nothing>,
    #[serde(default)]
    pub(super) webhook: Option<OnWebhook>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OnWebhook {
    pub(super) way: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OnAlert {
    #[serde(default)]
    pub(super) rules: BTreeSet<String>,
    #[serde(default)]
    pub(super) severity_at_least: Severity,
    pub(super) scope: Scope,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OnFinding {
    #[serde(default)]
    pub(super) datasets: BTreeSet<String>,
    #[serde(default)]
    pub(super) severity_at_least: Severity,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OnSchedule {
    pub(super) cron: String,
    #[serde(default)]
    pub(super) zone: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileQuietHours {
    pub(super) from: String,
    pub(super) to: String,
    #[serde(default)]
    pub(super) zone: Option<String>,
    pub(super) then: FileQuiet,
    #[serde(default)]
    pub(super) ask: Option<String>,
    #[serde(default)]
    pub(super) within: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FileQuiet {
    Wait,
    Skip,
    Ask,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileLimits {
    #[serde(default)]
    pub(super) most: Option<u32>,
    #[serde(default)]
    pub(super) share: Option<u32>,
    pub(super) within: String,
    #[serde(default)]
    pub(super) ask: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileStep {
    #[serde(default)]
    pub(super) id: Option<String>,
    #[serde(default)]
    pub(super) when: Option<String>,
    #[serde(default)]
    pub(super) on_failure: Option<OnFailure>,
    #[serde(default)]
    pub(super) action: Option<String>,
    #[serde(default)]
    pub(super) target: Option<String>,
    #[serde(default)]
    pub(super) channel: Option<String>,
    #[serde(default)]
    pub(super) expiry: Option<String>,
    #[serde(default)]
    pub(super) inputs: BTreeMap<String, Input>,
    #[serde(default)]
    pub(super) retries: u32,
    #[serde(default)]
    pub(super) timeout: Option<String>,
    #[serde(default)]
    pub(super) approval: Option<FileAsk>,
    #[serde(default)]
    pub(super) parallel: Option<Vec<FileStep>>,
    #[serde(default)]
    pub(super) for_each: Option<String>,
    #[serde(default)]
    pub(super) most: Option<usize>,
    #[serde(default)]
    pub(super) steps: Option<Vec<FileStep>>,
    #[serde(default)]
    pub(super) wait: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Input {
    Written(String),
    Computed(Computed),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Computed {
    pub(super) cel: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileAsk {
    pub(super) ask: String,
    pub(super) within: String,
    #[serde(default = "deny")]
    pub(super) otherwise: Otherwise,
    #[serde(default = "one")]
    pub(super) persons: u32,
    pub(super) text: Text,
}

fn deny() -> Otherwise {
    Otherwise::Deny
}

fn one() -> u32 {
    1
}
