//! How a detector works, and what it counts.

use crate::source::{LogSource, SigmaSource};

/// Where a detector runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// In an agent: rules of host scope.
    Agent,
    /// In the manager: wide rules, and those of host scope on events that no agent judged.
    Manager,
    /// In a hunt or a test: every rule on every event.
    #[default]
    Anywhere,
}

/// How a detector works.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it runs.
    pub place: Place,
    /// What datasets are in Sigma's words.
    pub sources: Vec<(String, Vec<SigmaSource>)>,
    /// Number of the bundle; alerts carry it.
    pub bundle: Option<u64>,
    /// Most open groups of a tenant in one correlation.
    pub max_groups: usize,
    /// Seconds by which an event may come late.
    pub lateness_seconds: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { place: Place::Anywhere, sources: Vec::new(), bundle: None, max_groups: 20_000, lateness_seconds: 60 }
    }
}

impl Options {
    /// With what these log sources say of their datasets.
    #[must_use]
    pub fn with_sources(mut self, sources: &[LogSource]) -> Self {
        self.sources.extend(sources.iter().map(|source| (source.dataset.clone(), source.sigma.clone())));
        self
    }
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Events that were judged.
    pub events: u64,
    /// Rules that were evaluated on them.
    pub evaluated: u64,
    /// Alerts.
    pub alerts: u64,
    /// Groups that had to go before their time, since there were too many.
    pub evicted_groups: u64,
    /// Groups of rules that are no more or were changed, at a restore.
    pub dropped_groups: u64,
    /// Groups that are open now.
    pub open_groups: u64,
}
