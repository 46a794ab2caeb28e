//! The detector: events go in, alerts come out. A fold, so that the same events make the same alerts (D8).
//!
//! For an event the index of its log source names the rules that may match, the reference evaluator decides, and
//! what matched becomes an alert or contributes to correlations, the ones that count others after those that are
//! counted. Nothing but the arguments is read: time is the event's, where it has one that can be (not more than
//! five minutes after its arrival), else that of its arrival.
//!
//! Where it runs decides what it says (D9): an agent judges host-scope rules; a manager judges the wide ones, and
//! those of host scope on events that no agent has judged (without `sakimori.detect.bundle`).

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use rsigma_eval::compiler::eval_condition;
use sakimori_model::id::EventId;
use sakimori_model::rule::{RuleInfo, Scope};
use sakimori_model::{Event, Timestamp, field};

use crate::alert::{Finding, alert};
use crate::correlation::{Contribution, Correlation, group_key};
use crate::error::ContentError;
use crate::graph::{Graph, Quiet};
use crate::index::Index;
use crate::logsource;
use crate::options::{Counters, Options, Place};
use crate::rule::{Documents, Meta, Rule};
use crate::source::{LogSource, SigmaSource};
use crate::view::View;

/// An event's time may be so much later than its arrival, in microseconds; beyond, its clock is wrong.
const FUTURE: i64 = 5 * 60 * 1_000_000;
/// Most datasets whose rules are kept sorted; an agent that invents names cannot make it more.
const MAX_DATASETS: usize = 256;

/// Rules at work, with their open windows.
pub struct Detector {
    pub(crate) rules: Vec<Rule>,
    pub(crate) correlations: Vec<Correlation>,
    /// Of rules and of correlations: who counts it, as (correlation, slot).
    rule_links: Vec<Vec<(usize, usize)>>,
    correlation_links: Vec<Vec<(usize, usize)>>,
    rule_uses: Vec<Uses>,
    correlation_uses: Vec<Uses>,
    sources: HashMap<String, Vec<SigmaSource>>,
    indexes: HashMap<Box<str>, Index>,
    options: Options,
    pub(crate) counters: Counters,
    candidates: Vec<usize>,
    /// Paths by which rules group, each list once.
    lists: Vec<Vec<String>>,
}

/// A rule and where it is written.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'a> {
    /// Its envelope.
    pub info: &'a RuleInfo,
    /// Its file.
    pub file: &'a str,
    /// The line where it begins, from 1.
    pub line: usize,
    /// Does it count what other rules found?
    pub correlation: bool,
}

/// What a rule or correlation is needed for.
#[derive(Clone, Copy, Debug, Default)]
struct Uses {
    /// It makes alerts.
    alerts: bool,
    /// Directly or through others, for an alert of host scope.
    host: bool,
    /// … of wide scope.
    wide: bool,
}

impl Detector {
    /// Loads Sigma files given as (path, text). What is wrong with one rule does not keep the others away.
    pub fn load<P: AsRef<str>, T: AsRef<str>>(files: &[(P, T)], options: Options) -> (Self, Vec<ContentError>) {
        let mut documents = Documents::default();
        for (path, text) in files {
            documents.read(path.as_ref(), text.as_ref());
        }
        Self::build(documents, options)
    }

    /// Loads `sigma/**/*.yml` and the log sources of a bundle's files.
    pub fn from_files(files: &BTreeMap<String, Vec<u8>>, options: Options) -> (Self, Vec<ContentError>) {
        let (sources, mut errors) = LogSource::load_all(files);
        let mut documents = Documents::default();
        for (path, bytes) in files.iter().filter(|(path, _)| is_rule(path)) {
            match std::str::from_utf8(bytes) {
                Ok(text) => documents.read(path, text),
                Err(_) => documents.errors.push(ContentError::new(path, 1, "the file is not UTF-8")),
            }
        }
        let (detector, found) = Self::build(documents, options.with_sources(&sources));
        errors.extend(found);
        (detector, errors)
    }

    fn build(mut documents: Documents, options: Options) -> (Self, Vec<ContentError>) {
        let mut errors = std::mem::take(&mut documents.errors);
        let mut muted = std::mem::take(&mut documents.muted);
        let mut seen: HashMap<String, String> = HashMap::new();
        let mut unique = |meta: &Meta, errors: &mut Vec<ContentError>| {
            let other = seen.insert(meta.info.id.clone(), meta.file.clone());
            if let Some(other) = &other {
                let reason = format!("the id {:?} is that of a rule in {other} too", meta.info.id);
                errors.push(ContentError::new(&meta.file, meta.line, reason));
            }
            other.is_none()
        };
        documents.rules.retain(|rule| unique(&rule.meta, &mut errors));
        documents.correlations.retain(|written| unique(&written.meta, &mut errors));

        let Documents { rules, correlations: written, .. } = documents;
        let mut graph = Graph::new(&rules, written.len());
        let before = errors.len();
        let correlations = graph.place(&rules, written, &options, &mut errors);
        // What stands beside a correlation that cannot be used was there to be counted.
        muted.extend(errors.iter().skip(before).map(|error| error.file.clone()));
        let mut detector = Self {
            rule_uses: vec![Uses::default(); rules.len()],
            correlation_uses: vec![Uses::default(); correlations.len()],
            rules,
            correlations,
            rule_links: graph.rule_links,
            correlation_links: graph.correlation_links,
            sources: options.sources.iter().cloned().collect(),
            indexes: HashMap::new(),
            options,
            counters: Counters::default(),
            candidates: Vec::new(),
            lists: Vec::new(),
        };
        for input in detector.correlations.iter_mut().flat_map(|one| &mut one.inputs) {
            let known = detector.lists.iter().position(|list| *list == input.group_by);
            input.list = known.unwrap_or_else(|| {
                detector.lists.push(input.group_by.clone());
                detector.lists.len() - 1
            });
        }
        detector.find_uses(&graph.quiet, &muted);
        (detector, errors)
    }

    /// Decides who makes alerts and who is needed where. Who counts stands after whom it counts.
    fn find_uses(&mut self, quiet: &Quiet, muted: &[String]) {
        let of = |meta: &Meta, alerts: bool, links: &[(usize, usize)], above: &[Uses]| {
            let own = |scope| alerts && meta.info.scope == scope;
            let through = |need: fn(&Uses) -> bool| links.iter().filter_map(|(at, _)| above.get(*at)).any(need);
            Uses {
                alerts,
                host: own(Scope::Host) || through(|uses| uses.host),
                wide: own(Scope::Wide) || through(|uses| uses.wide),
            }
        };
        for at in (0..self.correlations.len()).rev() {
            let (Some(correlation), Some(links)) = (self.correlations.get_mut(at), self.correlation_links.get(at))
            else {
                continue;
            };
            let alerts = !quiet.correlations.get(at).copied().unwrap_or(false);
            correlation.is_part = !alerts;
            let uses = of(&correlation.meta, alerts, links, &self.correlation_uses);
            if let Some(place) = self.correlation_uses.get_mut(at) {
                *place = uses;
            }
        }
        for (at, rule) in self.rules.iter().enumerate() {
            let mute = muted.contains(&rule.meta.file) && !rule.meta.declared;
            let alerts = !quiet.rules.get(at).copied().unwrap_or(false) && !mute;
            let links = self.rule_links.get(at).map(Vec::as_slice).unwrap_or_default();
            let uses = of(&rule.meta, alerts, links, &self.correlation_uses);
            if let Some(place) = self.rule_uses.get_mut(at) {
                *place = uses;
            }
        }
    }

    /// Where each rule that makes alerts here stands in its files, and whether it counts what others found.
    pub fn places(&self) -> impl Iterator<Item = Placed<'_>> {
        let here = |uses: &Uses, info: &RuleInfo| {
            uses.alerts && (self.options.place != Place::Agent || info.scope == Scope::Host)
        };
        let single = self.rules.iter().zip(&self.rule_uses).map(|(rule, uses)| (&rule.meta, uses, false));
        let counted = self.correlations.iter().zip(&self.correlation_uses);
        let counted = counted.map(|(correlation, uses)| (&correlation.meta, uses, true));
        let all = single.chain(counted).filter(move |(meta, uses, _)| here(uses, &meta.info));
        all.map(|(meta, _, correlation)| Placed { info: &meta.info, file: &meta.file, line: meta.line, correlation })
    }

    /// Envelopes of all rules that make alerts here.
    pub fn rules(&self) -> impl Iterator<Item = &RuleInfo> {
        self.places().map(|placed| placed.info)
    }

    /// Judges one event; alerts are appended.
    pub fn feed(&mut self, event: &Event, id: &EventId, arrival: Timestamp, tenant: &str, out: &mut Vec<Event>) {
        // What is an alert already was judged; to judge it again would make alerts of alerts.
        if event.get(field::SAKIMORI_ALERT_ID).is_some() {
            return;
        }
        // A finding that came again and says what it said before was judged then.
        if event.bool(field::SAKIMORI_REPEATED) == Some(true) {
            return;
        }
        self.counters.events += 1;
        let judged = event.get(field::SAKIMORI_DETECT_BUNDLE).is_some();
        let view = View(event);
        let mut candidates = std::mem::take(&mut self.candidates);
        self.index(event.str(field::EVENT_DATASET)).candidates(&view, &mut candidates);
        let mut hit =
            Hit { event, view: &view, id, arrival, tenant, judged, own: None, keys: Vec::new(), queue: Vec::new() };
        for at in candidates.iter().copied() {
            self.judge(at, &mut hit, out);
        }
        if !hit.queue.is_empty() {
            self.correlate(&mut hit, out);
        }
        self.candidates = candidates;
    }

    /// Passes time: forgets groups into which nothing came for long. No rule needs time alone to fire.
    pub fn advance(&mut self, now: Timestamp, _out: &mut Vec<Event>) {
        for correlation in &mut self.correlations {
            correlation.expire(now.micros());
        }
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        let open = self.correlations.iter().map(Correlation::groups).sum::<usize>();
        Counters { open_groups: open as u64, ..self.counters }
    }

    /// The candidates of a dataset.
    fn index(&mut self, dataset: Option<&str>) -> &Index {
        let name = dataset.unwrap_or_default();
        if !self.indexes.contains_key(name) {
            if self.indexes.len() >= MAX_DATASETS {
                self.indexes.clear();
            }
            let undescribed;
            let events = match dataset {
                None => None,
                Some(dataset) => match self.sources.get(dataset) {
                    Some(sources) => Some(sources.as_slice()),
                    None => {
                        undescribed = logsource::undescribed(dataset);
                        Some(undescribed.as_slice())
                    }
                },
            };
            let only_host = self.options.place == Place::Agent;
            let rules = self.rules.iter().zip(&self.rule_uses).enumerate();
            let index = Index::build(
                rules
                    .filter(|(_, (_, uses))| uses.host || (uses.wide && !only_host))
                    .filter(|(_, (rule, _))| logsource::applies(&rule.logsource, events))
                    .map(|(at, (rule, _))| (at, &rule.witnesses)),
            );
            self.indexes.insert(name.into(), index);
        }
        self.indexes.get(name).expect("it was just put there")
    }

    /// Is this needed for an event here?
    fn is_on(&self, uses: &Uses, judged: bool) -> bool {
        match self.options.place {
            Place::Agent => uses.host,
            Place::Manager => uses.wide || (uses.host && !judged),
            Place::Anywhere => uses.host || uses.wide,
        }
    }

    /// May it make an alert of an event here?
    fn speaks(&self, uses: &Uses, scope: Scope, judged: bool) -> bool {
        uses.alerts
            && match self.options.place {
                Place::Agent => scope == Scope::Host,
                Place::Manager => scope == Scope::Wide || !judged,
                Place::Anywhere => true,
            }
    }

    /// Evaluates one rule.
    fn judge(&mut self, at: usize, hit: &mut Hit<'_>, out: &mut Vec<Event>) {
        let (Some(rule), Some(uses)) = (self.rules.get(at), self.rule_uses.get(at)) else { return };
        if !self.is_on(uses, hit.judged) {
            return;
        }
        self.counters.evaluated += 1;
        let matches = rule.plain.as_ref().and_then(|plain| plain.matches(hit.event)).unwrap_or_else(|| {
            let mut names = Vec::new();
            let compiled = &rule.compiled;
            compiled.conditions.iter().any(|one| eval_condition(one, &compiled.detections, hit.view, &mut names))
        });
        if !matches {
            return;
        }
        let ids = hit.ids();
        if self.speaks(uses, rule.meta.info.scope, hit.judged) {
            let time = hit.time().micros();
            out.push(alert(&Finding {
                meta: &rule.meta,
                event: hit.event,
                tenant: hit.tenant,
                ids: &ids,
                count: 1,
                span: (time, time),
                key: hit.tenant,
                group_by: &[],
                bundle: self.options.bundle,
            }));
            self.counters.alerts += 1;
        }
        for (correlation, slot) in self.rule_links.get(at).into_iter().flatten() {
            hit.queue.push((*correlation, *slot, ids.clone()));
        }
    }

    /// Works off contributions, those to who is counted before those to who counts.
    fn correlate(&mut self, hit: &mut Hit<'_>, out: &mut Vec<Event>) {
        let time = hit.time().micros();
        while let Some(first) = hit.queue.iter().enumerate().min_by_key(|(_, one)| (one.0, one.1)).map(|(at, _)| at) {
            let (at, slot, ids) = hit.queue.swap_remove(first);
            let uses = self.correlation_uses.get(at).copied().unwrap_or_default();
            if !self.is_on(&uses, hit.judged) {
                continue;
            }
            let Some(correlation) = self.correlations.get_mut(at) else { continue };
            if correlation.is_due() {
                correlation.expire(hit.arrival.micros());
            }
            let list = correlation.inputs.get(slot).map_or(0, |input| input.list);
            let key = hit.key(list, &self.lists);
            let what = Contribution {
                slot,
                key: &key,
                view: hit.view,
                time,
                arrival: hit.arrival.micros(),
                tenant: hit.tenant,
                ids: &ids,
            };
            let evicted = &mut self.counters.evicted_groups;
            let Some(signal) = correlation.contribute(&what, self.options.max_groups, evicted) else { continue };
            for (above, slot) in self.correlation_links.get(at).into_iter().flatten() {
                hit.queue.push((*above, *slot, signal.ids.clone().into()));
            }
            let Some(correlation) = self.correlations.get(at) else { continue };
            if self.speaks(&uses, correlation.meta.info.scope, hit.judged) {
                out.push(alert(&Finding {
                    meta: &correlation.meta,
                    event: hit.event,
                    tenant: hit.tenant,
                    ids: &signal.ids,
                    count: signal.count,
                    span: signal.span,
                    key: &signal.key,
                    group_by: &correlation.group_by,
                    bundle: self.options.bundle,
                }));
                self.counters.alerts += 1;
            }
        }
    }
}

/// An event that is being judged.
struct Hit<'a> {
    event: &'a Event,
    view: &'a View<'a>,
    id: &'a EventId,
    arrival: Timestamp,
    tenant: &'a str,
    judged: bool,
    /// Its id, made when somebody needs it.
    own: Option<Arc<[Arc<str>]>>,
    /// Its group keys, by list of paths.
    keys: Vec<Option<Rc<str>>>,
    /// Correlation, slot, ids.
    queue: Vec<(usize, usize, Arc<[Arc<str>]>)>,
}

impl Hit<'_> {
    fn ids(&mut self) -> Arc<[Arc<str>]> {
        self.own.get_or_insert_with(|| Arc::from([Arc::from(self.id.to_string())])).clone()
    }

    /// Its key in groups by this list of paths.
    fn key(&mut self, list: usize, lists: &[Vec<String>]) -> Rc<str> {
        if self.keys.is_empty() {
            self.keys.resize(lists.len(), None);
        }
        let paths = lists.get(list).map(Vec::as_slice).unwrap_or_default();
        match self.keys.get_mut(list) {
            Some(key) => key.get_or_insert_with(|| group_key(self.view, paths).into()).clone(),
            None => group_key(self.view, paths).into(),
        }
    }

    /// The event's own time, if it can be.
    fn time(&self) -> Timestamp {
        self.event.timestamp().filter(|time| time.since(self.arrival) <= FUTURE).unwrap_or(self.arrival)
    }
}

/// Is it a file of rules, by its path in the content?
pub(crate) fn is_rule(path: &str) -> bool {
    path.starts_with("sigma/") && (path.ends_with(".yml") || path.ends_with(".yaml")) && !path.ends_with(".tests.yaml")
}

#[cfg(test)]
#[path = "detector_tests.rs"]
mod tests;
