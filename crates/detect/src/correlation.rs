//! Sigma correlations over the stream: `event_count`, `value_count`, `temporal`, `temporal_ordered`.
//!
//! **When it fires.** Each contributing event is put into the window of its group (tenant, then the values of
//! `group-by`; a field that an event lacks is an empty value). The condition is judged over the timespan that ends
//! at that event, and, where it came late, over those that end at the latest entries that it can reach. When it
//! holds, the correlation fires and what contributed is used up.
//!
//! **One alert for a burst.** After it fired, a group is quiet for a timespan. What comes meanwhile is kept, so an
//! attack that still goes on when the timespan is over fires again at once: fresh evidence, which prolongs a
//! block, and no more than one alert a timespan.
//!
//! A correlation that is only a part of another (and does not itself make alerts) is never quiet and uses nothing
//! up: it holds for as long as its condition does, so an order of steps sees its latest moment.
//!
//! **Bounds.** Groups a tenant may have in one correlation: `Options::max_groups`; beyond, the eighth that was
//! touched longest ago goes and is counted. Ids in an alert: 32. Counted values longer than 64 bytes are kept as
//! their hash.
//!
//! Not supported, refused at load: `value_sum`, `value_avg`, `value_percentile`, `value_median`, windows other
//! than sliding, `not` in a condition over rules (it could only be known when the window has passed).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::RandomState;
use std::sync::Arc;

use hashbrown::hash_map::EntryRef;
use rsigma_eval::Event as _;
use rsigma_parser::{ConditionOperator, CorrelationCondition, CorrelationRule, CorrelationType, WindowMode};
use sha2::{Digest, Sha256};

use crate::condition::{Kind, check_expression, holds};
use crate::rule::Meta;
use crate::view::{View, scalar};
use crate::window::{Entry, Hold, Shape, Window};

/// Most ids that an alert names.
pub(crate) const MAX_IDS: usize = 32;
/// Highest threshold.
const MAX_THRESHOLD: u64 = 10_000;
/// Longest timespan, in seconds.
const MAX_SPAN: u64 = 31 * 86_400;
/// How long a group is kept beyond its timespan, by the clock of arrival: deliveries may be that far apart.
const SLACK: i64 = 15 * 60 * 1_000_000;
/// A counted value of more bytes is kept as its hash.
const MAX_VALUE: usize = 64;
/// Most windows that are judged again for an event that came late.
const MAX_LATER: usize = 64;
/// Longest group key.
const MAX_KEY: usize = 4096;

/// Windows by group. What groups are called is for attackers to choose, so the hash is keyed.
type Groups = hashbrown::HashMap<String, Window, RandomState>;

/// A rule that contributes.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    /// As it was named.
    pub name: String,
    /// Paths of `group-by`, aliases resolved.
    pub group_by: Vec<String>,
    /// Which of the lists of paths that the detector knows this is: rules that group alike share the key.
    pub list: usize,
}

/// A correlation and its open windows.
#[derive(Debug)]
pub(crate) struct Correlation {
    pub meta: Meta,
    pub inputs: Vec<Input>,
    /// Names of the grouping, for people.
    pub group_by: Vec<String>,
    /// It only serves other correlations.
    pub is_part: bool,
    kind: Kind,
    predicates: Vec<(ConditionOperator, u64)>,
    shape: Shape,
    /// Hash of its own text and of those that it counts: windows are taken over only where it is equal.
    pub definition: [u8; 32],
    tenants: BTreeMap<Box<str>, Groups>,
    added: usize,
}

/// That a correlation holds.
#[derive(Clone, Debug)]
pub(crate) struct Signal {
    /// Ids of what contributed, oldest first, the last [`MAX_IDS`].
    pub ids: Vec<Arc<str>>,
    /// How many events or values.
    pub count: usize,
    /// The earliest and the latest.
    pub span: (i64, i64),
    /// The key of the group, with the tenant.
    pub key: String,
}

/// One contribution of one event.
pub(crate) struct Contribution<'a> {
    pub slot: usize,
    /// Of the group, as [`group_key`] makes it.
    pub key: &'a str,
    pub view: &'a View<'a>,
    pub time: i64,
    pub arrival: i64,
    pub tenant: &'a str,
    pub ids: &'a [Arc<str>],
}

impl Correlation {
    /// Checks and prepares what was written.
    pub(crate) fn new(meta: Meta, rule: &CorrelationRule, lateness: i64) -> Result<Self, String> {
        let (predicates, expression, fields) = match &rule.condition {
            CorrelationCondition::Threshold { predicates, field, .. } => (predicates.clone(), None, field.clone()),
            CorrelationCondition::Extended(expression) => (Vec::new(), Some(expression.clone()), None),
        };
        if rule.rules.is_empty() {
            return Err("a correlation needs at least one rule under `rules`".into());
        }
        if rule.window != WindowMode::Sliding {
            return Err("windows other than sliding are not supported".into());
        }
        if rule.timespan.seconds == 0 || rule.timespan.seconds > MAX_SPAN {
            return Err("the timespan must be from 1s to 31d".into());
        }
        let kind = match (rule.correlation_type, fields, expression) {
            (CorrelationType::EventCount, _, None) => Kind::Events,
            (CorrelationType::ValueCount, Some(fields), None) => Kind::Values(fields),
            (CorrelationType::ValueCount, None, _) => return Err("value_count needs `condition.field`".into()),
            (CorrelationType::Temporal, _, expression) => {
                if let Some(expression) = &expression {
                    check_expression(expression, &rule.rules)?;
                }
                Kind::Together(expression)
            }
            (CorrelationType::TemporalOrdered, _, None) => Kind::Ordered,
            (CorrelationType::TemporalOrdered, _, Some(_)) => {
                return Err("temporal_ordered takes no condition over rules: their order is the condition".into());
            }
            (_, _, Some(_)) => return Err("a condition over rules needs type temporal".into()),
            (other, _, _) => return Err(format!("correlation type {} is not supported", other.as_str())),
        };
        let counts = matches!(kind, Kind::Events | Kind::Values(_));
        let highest = predicates.iter().map(|(_, number)| *number).max().unwrap_or(0);
        if highest > MAX_THRESHOLD {
            return Err(format!("a threshold may be {MAX_THRESHOLD} at most"));
        }
        let need = if counts { usize::try_from(highest).unwrap_or(0) + 1 } else { 4 * rule.rules.len() };
        let inputs = rule
            .rules
            .iter()
            .map(|name| Input {
                list: 0,
                name: name.clone(),
                group_by: rule.group_by.iter().map(|field| resolve(rule, field, name)).collect(),
            })
            .collect();
        Ok(Self {
            definition: meta.digest,
            meta,
            inputs,
            group_by: rule.group_by.clone(),
            is_part: false,
            shape: Shape {
                span: i64::try_from(rule.timespan.seconds).unwrap_or(i64::MAX / 4).saturating_mul(1_000_000),
                lateness,
                most: 2 * need.max(1),
                hold: match kind {
                    Kind::Events => Hold::All,
                    Kind::Values(_) => Hold::Values,
                    Kind::Together(_) => Hold::Rules,
                    Kind::Ordered => Hold::Runs,
                },
            },
            kind,
            predicates,
            tenants: BTreeMap::new(),
            added: 0,
        })
    }

    /// Does its grouping stay within a host?
    pub(crate) fn stays_on_host(&self) -> bool {
        self.group_by.iter().any(|field| matches!(field.as_str(), "host.name" | "host.id" | "agent.id"))
    }

    /// Takes one contribution. Gives a signal when it fires. `evicted` is raised by the groups that had to go.
    pub(crate) fn contribute(
        &mut self,
        what: &Contribution<'_>,
        max_groups: usize,
        evicted: &mut u64,
    ) -> Option<Signal> {
        let value = match &self.kind {
            Kind::Values(fields) => Some(counted(what.view, fields)?),
            _ => None,
        };
        let counts = matches!(self.kind, Kind::Events | Kind::Values(_));
        // An event that several of its rules match counts once.
        let slot = if counts { 0 } else { u32::try_from(what.slot).unwrap_or(u32::MAX) };
        let entry = Entry::new(what.time, slot, value, what.ids)?;
        if !self.tenants.contains_key(what.tenant) {
            self.tenants.insert(what.tenant.into(), Groups::default());
        }
        let groups = self.tenants.get_mut(what.tenant)?;
        if groups.len() >= max_groups.max(1) && !groups.contains_key(what.key) {
            *evicted += make_room(groups, what.arrival, self.shape.span.saturating_add(SLACK));
        }
        let window = match groups.entry_ref(what.key) {
            EntryRef::Occupied(known) => known.into_mut(),
            EntryRef::Vacant(place) => {
                self.added += 1;
                place.insert(Window::default())
            }
        };
        window.touched = what.arrival;
        if !window.add(entry, &self.shape) && !self.is_part {
            return None;
        }
        if !self.is_part && window.is_quiet(what.time, self.shape.span) {
            return None;
        }
        let span = self.shape.span;
        // Mostly there is nothing later; where there is, what came late may complete a window that ends there.
        let reach = what.time.saturating_add(span);
        let later = window.entries.iter().rev().map(|entry| entry.time).take_while(|time| *time > what.time);
        let held = [what.time]
            .into_iter()
            .chain(later.filter(|time| *time <= reach).take(MAX_LATER))
            .map(|end| (end.saturating_sub(span), end))
            .find(|(from, to)| holds(&self.kind, &self.predicates, &self.inputs, window, *from, *to))?;
        let taken = if self.is_part {
            window.between(held.0, held.1).cloned().collect()
        } else {
            window.fired = Some(what.time);
            window.take(held.0, held.1)
        };
        Some(signal(&taken, what.tenant, what.key))
    }

    /// Forgets groups into which nothing came for long.
    pub(crate) fn expire(&mut self, now: i64) {
        let keep = self.shape.span.saturating_add(self.shape.lateness).saturating_add(SLACK);
        for groups in self.tenants.values_mut() {
            groups.retain(|_, window| {
                // The clock was put back: what lies in its future is counted from now.
                window.touched = window.touched.min(now);
                now.saturating_sub(window.touched) <= keep
            });
        }
        self.tenants.retain(|_, groups| !groups.is_empty());
        self.added = 0;
    }

    /// Open groups.
    pub(crate) fn groups(&self) -> usize {
        self.tenants.values().map(Groups::len).sum()
    }

    /// Is it time to forget? Depends on what was fed alone, so a replay does it at the same events.
    pub(crate) fn is_due(&self) -> bool {
        self.added > 1024 && self.added > self.groups() / 2
    }

    /// The open windows, sorted.
    pub(crate) fn windows(&self) -> Vec<(&str, Vec<(&str, &Window)>)> {
        self.tenants
            .iter()
            .map(|(tenant, groups)| {
                let mut list: Vec<(&str, &Window)> =
                    groups.iter().map(|(key, window)| (key.as_ref(), window)).collect();
                list.sort_by_key(|(key, _)| *key);
                (tenant.as_ref(), list)
            })
            .collect()
    }

    /// Takes windows over.
    pub(crate) fn set_windows(&mut self, windows: Vec<(String, Vec<(String, Window)>)>, added: usize) {
        self.tenants =
            windows.into_iter().map(|(tenant, groups)| (tenant.into(), groups.into_iter().collect())).collect();
        self.added = added;
    }

    /// Groups added since the last time groups were forgotten.
    pub(crate) fn added(&self) -> usize {
        self.added
    }
}

/// The path of a grouping field in events of one rule.
fn resolve(rule: &CorrelationRule, field: &str, name: &str) -> String {
    let alias = rule.aliases.iter().find(|alias| alias.alias == field);
    alias.and_then(|alias| alias.mapping.get(name)).map_or_else(|| field.to_owned(), Clone::clone)
}

fn signal(entries: &[Entry], tenant: &str, key: &str) -> Signal {
    let mut ids: Vec<Arc<str>> = Vec::new();
    for id in entries.iter().flat_map(Entry::ids) {
        if !ids.contains(id) {
            ids.push(id.clone());
        }
        if ids.len() > 4 * MAX_IDS {
            ids.remove(0);
        }
    }
    let ids = ids.split_off(ids.len().saturating_sub(MAX_IDS));
    Signal {
        ids,
        count: entries.len(),
        span: (entries.first().map_or(0, |entry| entry.time), entries.last().map_or(0, |entry| entry.time)),
        key: format!("{}:{tenant}{key}", tenant.len()),
    }
}

/// The values of a grouping, each with its length before it, so that no value can pretend to be two.
pub(crate) fn group_key(view: &View<'_>, paths: &[String]) -> String {
    let mut key = String::with_capacity(48);
    for path in paths {
        let value = view.get_field(path);
        let text = value.as_ref().and_then(scalar).unwrap_or_default();
        // Writing into a String does not fail.
        let _ = write!(key, "{}:{text}", text.len());
    }
    if key.len() > MAX_KEY {
        return format!("#{}", hex::encode(Sha256::digest(key.as_bytes())));
    }
    key
}

/// The counted value of an event; where it has none, it does not count.
fn counted(view: &View<'_>, fields: &[String]) -> Option<Box<str>> {
    let mut text = String::new();
    for (at, field) in fields.iter().enumerate() {
        let value = view.get_field(field)?;
        if at > 0 {
            text.push('\u{1f}');
        }
        text.push_str(&scalar(&value)?);
    }
    if text.len() > MAX_VALUE {
        text = format!("#{}", hex::encode(Sha256::digest(text.as_bytes())));
    }
    Some(text.into())
}

/// Forgets what is over, and if that is not enough the eighth that was touched longest ago. Gives how many of
/// those that were not over had to go.
fn make_room(groups: &mut Groups, now: i64, keep: i64) -> u64 {
    let before = groups.len();
    groups.retain(|_, window| now.saturating_sub(window.touched) <= keep);
    if groups.len() + before / 8 < before {
        return 0;
    }
    let mut ages: Vec<(i64, String)> = groups.iter().map(|(key, window)| (window.touched, key.clone())).collect();
    let go = (before / 8).max(1).min(ages.len());
    ages.sort_unstable();
    for (_, key) in ages.iter().take(go) {
        groups.remove(key);
    }
    go as u64
}
