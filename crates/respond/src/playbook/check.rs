//! A playbook's file is checked, and becomes a playbook. Every mistake is told with its line, and what would be right.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveTime;
use sakimori_model::rule::Scope;
use sakimori_model::schedule::Schedule;

use super::bounds::{Limits, Quiet, QuietHours, question};
use super::file::{
    Computed, File, FileAsk, FileLimits, FileQuiet, FileQuietHours, FileStep, FileTrigger, Input, OnAlert, OnFinding,
    OnSchedule, OnWebhook,
};
use super::places::Places;
use super::step::{Act, Aim, Ask, Each, OnFailure, Step, What};
use super::{MAX_FILE, MAX_STEPS, Playbook, PlaybookError, Trigger};
use crate::actions::{self, Descriptor, Runs, TargetKind};
use crate::condition::{Condition, Names};

/// Longest expiry that a step may ask for, in seconds.
const MAX_EXPIRY: u64 = 366 * 86_400;
/// Longest wait, time-out or time for an answer, in seconds.
const MAX_WAIT: u64 = 7 * 86_400;
/// Deepest nesting of steps.
const MAX_DEPTH: usize = 4;
/// Most retries of a step.
const MAX_RETRIES: u32 = 10;
/// Most items of a `for_each` that a file may allow.
const MAX_ITEMS: usize = 1_000;

/// Reads and checks a playbook. `file` is its path, for errors.
pub(super) fn parse(file: &str, text: &str) -> Result<Playbook, PlaybookError> {
    let fail = |line: usize, reason: String| PlaybookError { file: file.to_owned(), line, reason };
    if text.len() > MAX_FILE {
        return Err(fail(1, format!("a playbook of {} bytes is larger than {MAX_FILE}", text.len())));
    }
    let read: File = yaml_serde::from_str(text)
        .map_err(|error| fail(error.location().map_or(1, |at| at.line()), error.to_string()))?;
    let places = Places::of(text);
    check(read, file, text).map_err(|(path, offset, reason)| fail(places.line(&path) + offset, reason))
}

/// A mistake: the path of its value, lines below that, and what is wrong.
type Fault = (String, usize, String);

fn fault<T>(path: impl Into<String>, reason: impl Into<String>) -> Result<T, Fault> {
    Err((path.into(), 0, reason.into()))
}

fn check(read: File, file: &str, text: &str) -> Result<Playbook, Fault> {
    if !is_slug(&read.id) {
        return fault("id", "id must be a slug: letters, digits, - _ .");
    }
    let (trigger, scope) = trigger(read.trigger)?;
    let mut checking = Checking { scope, names: BTreeSet::new(), count: 0 };
    let steps = checking.steps(read.steps, "steps", Names { item: false, steps: false }, 0)?;
    let when = read.when.as_deref().map(|source| compile(source, "when", Names::default())).transpose()?;
    let during = Names { item: false, steps: true };
    let stop_when = read.stop_when.as_deref().map(|source| compile(source, "stop_when", during)).transpose()?;
    let quiet_hours = read.quiet_hours.map(quiet_hours).transpose()?;
    let limits = read.limits.map(limits).transpose()?;
    let bounded = stop_when.is_some() || quiet_hours.is_some() || limits.is_some();
    if scope == Scope::Host && (bounded || !steps.iter().all(Step::is_plain)) {
        return fault(
            "steps",
            "on a host a playbook orders actions and no more: limits, approvals, waits and what follows a failure need \
             scope: wide",
        );
    }
    if scope == Scope::Host && !read.enabled {
        return fault("enabled", "a playbook of hosts is switched off by policy: response.playbooks_off");
    }
    let expressions = || steps.iter().flat_map(Step::expressions).chain(&when).chain(&stop_when);
    let needs = expressions().fold(crate::condition::Needs::default(), |needs, one| needs.and(one.needs()));
    let plain = !bounded && matches!(trigger, Trigger::Alert { .. }) && steps.iter().all(Step::is_plain);
    Ok(Playbook {
        id: read.id,
        title: read.title,
        enabled: read.enabled,
        scope,
        trigger,
        when,
        stop_when,
        quiet_hours,
        limits,
        needs,
        plain,
        revision: super::revision(text),
        file: file.to_owned(),
        text: text.to_owned(),
        steps,
    })
}

fn trigger(read: FileTrigger) -> Result<(Trigger, Scope), Fault> {
    let mut found = Vec::new();
    if let Some(OnAlert { rules, severity_at_least: severity, scope }) = read.alert {
        found.push((Trigger::Alert { rules, severity }, scope));
    }
    if let Some(OnFinding { datasets, severity_at_least: severity }) = read.finding {
        found.push((Trigger::Finding { datasets, severity }, Scope::Wide));
    }
    if let Some(OnSchedule { cron, zone: named }) = read.schedule {
        let schedule = cron.parse::<Schedule>();
        let schedule = schedule.or_else(|error| fault("trigger.schedule.cron", error.to_string()))?;
        found.push((Trigger::Schedule { schedule, zone: zone(named, "trigger.schedule.zone")? }, Scope::Wide));
    }
    if read.manual.is_some() {
        found.push((Trigger::Manual, Scope::Wide));
    }
    if let Some(OnWebhook { way }) = read.webhook {
        if !is_slug(&way) {
            return fault(
                "trigger.webhook.way",
                "way is the name of an [[ingest.webhook]] of the manager's configuration",
            );
        }
        found.push((Trigger::Webhook { way }, Scope::Wide));
    }
    match (found.pop(), found.is_empty()) {
        (Some(one), true) => Ok(one),
        _ => fault("trigger", "a playbook has one trigger: alert, finding, schedule, manual or webhook"),
    }
}

fn zone(named: Option<String>, path: &str) -> Result<chrono_tz::Tz, Fault> {
    match named.as_deref().map(str::parse) {
        None => Ok(chrono_tz::UTC),
        Some(Ok(zone)) => Ok(zone),
        Some(Err(_)) => {
            fault(path, format!("unknown time zone {}; write one like Asia/Tokyo", named.unwrap_or_default()))
        }
    }
}

fn quiet_hours(read: FileQuietHours) -> Result<QuietHours, Fault> {
    let time = |text: &str, path: &str| match NaiveTime::parse_from_str(text, "%H:%M") {
        Ok(time) => Ok(time),
        Err(_) => fault(path, format!("{text} is not a time of day like \"22:00\"")),
    };
    let (from, to) = (time(&read.from, "quiet_hours.from")?, time(&read.to, "quiet_hours.to")?);
    if from == to {
        return fault("quiet_hours.to", "quiet hours end at another time than they begin");
    }
    let within = seconds(read.within.as_deref().unwrap_or("30m"), "quiet_hours.within", MAX_WAIT)?;
    let then = match (read.then, read.ask) {
        (FileQuiet::Wait, None) => Quiet::Wait,
        (FileQuiet::Skip, None) => Quiet::Skip,
        (FileQuiet::Ask, Some(channel)) if is_slug(&channel) => Quiet::Ask(question(
            channel,
            within,
            "These are quiet hours. Shall it be done now?",
            "静穏時間帯です。今すぐ実行しますか?",
        )),
        (FileQuiet::Ask, _) => return fault("quiet_hours", "then: ask needs ask: the channel that is asked"),
        (_, Some(_)) => return fault("quiet_hours.ask", "nobody is asked; write then: ask"),
    };
    Ok(QuietHours { from, to, zone: zone(read.zone, "quiet_hours.zone")?, then })
}

fn limits(read: FileLimits) -> Result<Limits, Fault> {
    if read.most.is_none() && read.share.is_none() {
        return fault("limits", "a limit is most: a number, or share: a percentage of the hosts, or both");
    }
    if read.share.is_some_and(|share| !(1..=100).contains(&share)) {
        return fault("limits.share", "a share is 1 to 100, in percent of the hosts");
    }
    if read.ask.as_ref().is_some_and(|channel| !is_slug(channel)) {
        return fault("limits.ask", "ask names a channel, like ops");
    }
    let ask = |channel| {
        question(
            channel,
            1_800,
            "This is more than the playbook's limit allows. Shall it be done all the same?",
            "プレイブックの上限を超えます。それでも実行しますか?",
        )
    };
    Ok(Limits {
        most: read.most,
        share: read.share,
        within_seconds: seconds(&read.within, "limits.within", MAX_EXPIRY)?,
        ask: read.ask.map(ask),
    })
}

struct Checking {
    scope: Scope,
    names: BTreeSet<String>,
    count: usize,
}

impl Checking {
    fn steps(&mut self, read: Vec<FileStep>, path: &str, names: Names, depth: usize) -> Result<Vec<Step>, Fault> {
        if depth > MAX_DEPTH {
            return fault(path, format!("steps are nested deeper than {MAX_DEPTH}"));
        }
        self.count += read.len();
        if read.is_empty() || self.count > MAX_STEPS {
            return fault(path, format!("a playbook has 1 to {MAX_STEPS} steps"));
        }
        let mut names = names;
        let mut steps = Vec::new();
        for (at, step) in read.into_iter().enumerate() {
            steps.push(self.step(step, &format!("{path}[{at}]"), names, depth)?);
            names.steps |= !self.names.is_empty();
        }
        Ok(steps)
    }

    fn step(&mut self, read: FileStep, path: &str, names: Names, depth: usize) -> Result<Step, Fault> {
        let inner = |name: &str| format!("{path}.{name}");
        if let Some(name) = &read.id {
            if !is_slug(name) {
                return fault(inner("id"), "a step's id must be a slug: letters, digits, - _ .");
            }
            if !self.names.insert(name.clone()) {
                return fault(inner("id"), format!("two steps are called {name}"));
            }
        }
        let when = read.when.as_deref().map(|source| compile(source, &inner("when"), names)).transpose()?;
        let kinds = [
            read.action.is_some(),
            read.approval.is_some(),
            read.parallel.is_some(),
            read.for_each.is_some(),
            read.wait.is_some(),
        ];
        if kinds.into_iter().filter(|is| *is).count() != 1 {
            return fault(path, "a step is one of action, approval, parallel, for_each and wait");
        }
        let acts = read.action.is_some();
        if !acts
            && (read.target.is_some() || read.channel.is_some() || read.expiry.is_some() || !read.inputs.is_empty())
        {
            return fault(path, "target, channel, expiry and inputs belong to an action");
        }
        if !acts && (read.retries > 0 || read.timeout.is_some()) {
            return fault(path, "retries and timeout belong to an action");
        }
        if read.for_each.is_none() && (read.most.is_some() || read.steps.is_some()) {
            return fault(path, "most and steps belong to for_each");
        }
        let asks = read.approval.is_some();
        // What others did is taken back where a step fails, but not for a message that could not be sent.
        let message =
            read.action.as_deref().and_then(actions::find).is_some_and(|known| known.target == TargetKind::Channel);
        let usual = match (self.scope, asks) {
            (Scope::Host, _) => OnFailure::Continue,
            (_, true) => OnFailure::Stop,
            _ if message || depth == 0 && self.count == 1 => OnFailure::Continue,
            _ => OnFailure::Undo,
        };
        let (name, on_failure) = (read.id.clone(), read.on_failure.unwrap_or(usual));
        let what = match read {
            FileStep { action: Some(_), .. } => What::Act(Box::new(self.act(read, path, names)?)),
            FileStep { approval: Some(ask), .. } => What::Ask(approval(ask, &inner("approval"))?),
            FileStep { parallel: Some(steps), .. } => {
                What::Beside(self.steps(steps, &inner("parallel"), names, depth + 1)?)
            }
            FileStep { for_each: Some(list), most, steps, .. } => {
                let Some(steps) = steps else { return fault(path, "for_each needs steps") };
                let most = most.unwrap_or(10);
                if !(1..=MAX_ITEMS).contains(&most) {
                    return fault(inner("most"), format!("most is 1 to {MAX_ITEMS}"));
                }
                let list = compile(&list, &inner("for_each"), names)?;
                let steps = self.steps(steps, &inner("steps"), Names { item: true, ..names }, depth + 1)?;
                What::Each(Each { list, most, steps })
            }
            FileStep { wait, .. } => What::Wait(seconds(&wait.unwrap_or_default(), &inner("wait"), MAX_WAIT)?),
        };
        Ok(Step { name, when, what, on_failure })
    }

    fn act(&self, read: FileStep, path: &str, names: Names) -> Result<Act, Fault> {
        let inner = |name: &str| format!("{path}.{name}");
        let id = read.action.unwrap_or_default();
        let Some(action) = actions::find(&id) else {
            let known: Vec<_> = actions::CATALOG.iter().map(|action| action.id).collect();
            return fault(inner("action"), format!("unknown action {id}; known are {}", known.join(", ")));
        };
        if self.scope == Scope::Host && action.runs != Runs::Host {
            return fault(inner("action"), format!("{} does not run on a host; write scope: wide", action.id));
        }
        let needs = |what: &str| fault(path, format!("{} needs {what}", action.id));
        let target = match (action.target, &read.target, &read.channel) {
            (TargetKind::Setting, ..) => {
                return fault(inner("action"), format!("{} is begun by a policy, not by a playbook", action.id));
            }
            (TargetKind::Channel, None, Some(name)) if is_slug(name) => Aim::Channel(name.clone()),
            (TargetKind::Channel, ..) => return needs("a channel, like ops, and no target"),
            (_, Some(source), None) => Aim::Expression(compile(source, &inner("target"), names)?),
            (TargetKind::Network, ..) => return needs("a target, like event.source.ip"),
            (TargetKind::File, ..) => return needs("a target, like event.file.path"),
            (TargetKind::Resource(kind), ..) => return needs(&format!("a target, which names a {kind}")),
        };
        let expiry_seconds = match read.expiry {
            None => None,
            Some(_) if !action.expires => return fault(inner("expiry"), format!("{} does not expire", action.id)),
            Some(text) => Some(seconds(&text, &inner("expiry"), MAX_EXPIRY)?),
        };
        let (mut inputs, mut computed) = (BTreeMap::new(), BTreeMap::new());
        for (name, input) in read.inputs {
            let here = inner(&format!("inputs.{name}"));
            let value = match &input {
                Input::Written(text) => Some(text),
                Input::Computed(_) => None,
            };
            check_input(action, &name, value).or_else(|reason| fault(&here, reason))?;
            match input {
                Input::Written(text) => drop(inputs.insert(name, text)),
                Input::Computed(Computed { cel }) => drop(computed.insert(name, compile(&cel, &here, names)?)),
            }
        }
        if read.retries > MAX_RETRIES {
            return fault(inner("retries"), format!("at most {MAX_RETRIES} retries"));
        }
        let timeout = read.timeout.as_deref().map(|text| seconds(text, &inner("timeout"), MAX_WAIT));
        Ok(Act {
            action,
            target,
            expiry_seconds,
            inputs,
            computed,
            retries: read.retries,
            timeout_seconds: timeout.transpose()?,
        })
    }
}

/// May the action have this input, and the value this length?
pub(super) fn check_input(action: &Descriptor, name: &str, value: Option<&String>) -> Result<(), String> {
    let most = match action.inputs.iter().find(|input| input.name == name) {
        Some(input) => input.most,
        None if action.runs == Runs::Account && [actions::ACCOUNT, actions::REGION].contains(&name) => 64,
        None => return Err(format!("{} has no input named {name}", action.id)),
    };
    match value {
        Some(value) if value.len() > most => Err(format!("input {name} is longer than {most} bytes")),
        _ => Ok(()),
    }
}

fn approval(read: FileAsk, path: &str) -> Result<Ask, Fault> {
    if !is_slug(&read.ask) {
        return fault(format!("{path}.ask"), "ask names a channel, like ops");
    }
    if !(1..=5).contains(&read.persons) {
        return fault(format!("{path}.persons"), "persons is 1 to 5");
    }
    if read.text.en.len() > 1_000 || read.text.ja.len() > 1_000 {
        return fault(format!("{path}.text"), "a question has at most 1000 bytes in each language");
    }
    Ok(Ask {
        within_seconds: seconds(&read.within, &format!("{path}.within"), MAX_WAIT)?,
        channel: read.ask,
        otherwise: read.otherwise,
        persons: read.persons,
        text: read.text,
    })
}

fn compile(source: &str, path: &str, names: Names) -> Result<Condition, Fault> {
    let key = path.rsplit('.').next().unwrap_or(path);
    Condition::compile_with(source, names)
        .map_err(|error| (path.to_owned(), error.line.saturating_sub(1), format!("{key}: {}", error.reason)))
}

fn is_slug(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// Seconds of `90s`, `30m`, `1h`, `7d`; at least one, at most `most`.
fn seconds(text: &str, path: &str, most: u64) -> Result<u64, Fault> {
    match duration(text).filter(|seconds| (1..=most).contains(seconds)) {
        Some(seconds) => Ok(seconds),
        None => fault(path, format!("{text} is not a time like 90s, 30m, 1h or 7d, up to {}d", most / 86_400)),
    }
}

fn duration(text: &str) -> Option<u64> {
    let unit = match text.as_bytes().last()? {
        b's' => 1,
        b'm' => 60,
        b'h' => 3600,
        b'd' => 86_400,
        _ => return None,
    };
    let number: u64 = text.get(..text.len() - 1)?.parse().ok()?;
    number.checked_mul(unit)
}
