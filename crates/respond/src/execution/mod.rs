//! An execution: one playbook at work on one alert, finding, moment or wish, step by step, as a record that survives its
//! driver.
//!
//! [`advance`] is pure: from the record, the state of the actions that it ordered, and what people answered, it changes the
//! record and says what has to be ordered or taken back. The driver writes both in one transaction, so that a crash
//! anywhere repeats at most the reading; ids of orders follow from the step, so that nothing is ordered twice.
//!
//! ```text
//! running ─┬→ done         every step is over
//!          ├→ stopped      a stop condition held, all answers are stopped, or a person took a step back
//!          ├→ denied       a person said no, or nobody answered
//!          ├→ skipped      quiet hours
//!          ├→ failed       a step failed, and what was done stays
//!          └→ undoing ─┬→ compensated   a step failed; what was done before is taken back, the last first
//!                      └→ undone        a person took all of it back
//! ```

mod back;
mod rehearse;
mod walk;

use std::collections::BTreeMap;

use sakimori_model::{Action, Event, Order, Timestamp};
use serde::{Deserialize, Serialize};

pub use self::back::take_back_only;
pub use self::rehearse::{Would, rehearse};
pub use self::walk::{ASK, advance};
use crate::playbook::{Otherwise, Playbook};

/// Where an execution is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Its steps are gone through.
    Running,
    /// What it did is being taken back.
    Undoing,
    /// Every step is over.
    Done,
    /// A stop condition held, all answers are stopped, or a person took a step back.
    Stopped,
    /// A person said no, or nobody answered in time.
    Denied,
    /// Quiet hours.
    Skipped,
    /// A step failed, and what was done stays.
    Failed,
    /// A step failed, and what was done before was taken back.
    Compensated,
    /// A person took all of it back.
    Undone,
}

impl State {
    /// The name that JSON and the command line use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Undoing => "undoing",
            Self::Done => "done",
            Self::Stopped => "stopped",
            Self::Denied => "denied",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
            Self::Compensated => "compensated",
            Self::Undone => "undone",
        }
    }

    /// Will nothing more happen by itself?
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Running | Self::Undoing)
    }
}

/// One execution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Execution {
    /// Its id: of playbook and alert for one that an alert began, so that a replay finds it.
    pub id: String,
    /// Slug of the playbook.
    pub playbook: String,
    /// Which text of it.
    pub revision: String,
    /// The alert or finding; empty where there is none.
    pub alert: String,
    /// Who began it: `playbook:<id>` for its trigger, or a person.
    pub by: String,
    /// When it began.
    pub started: Timestamp,
    /// Where it is.
    pub state: State,
    /// Why it is there, in English.
    pub reason: Option<String>,
    /// What became of each step, by its place: `0`, `1.2`, `3[0].1`.
    pub steps: BTreeMap<String, Progress>,
    /// What it becomes once all is taken back.
    pub becomes: Option<State>,
    /// Number of the next step that begins.
    pub next: u32,
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Where it is.
    pub state: StepState,
    /// Since when.
    pub since: Timestamp,
    /// In which order steps began: taking back goes the other way.
    pub number: u32,
    /// The action that it ordered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// The message that asks people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// How often it was ordered again.
    #[serde(default)]
    pub retries: u32,
    /// Does the action count against the playbook's limits? Of several on one target the first does.
    #[serde(default)]
    pub counts: bool,
    /// What it waits for at the longest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The list of a `for_each`, as it was when it began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<String>,
    /// The question, where it waits for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<Question>,
}

/// A question that waits for an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// In English.
    pub en: String,
    /// In Japanese; empty where there is none.
    pub ja: String,
    /// How many people must allow it.
    pub persons: u32,
    /// What holds where nobody answers.
    pub otherwise: Otherwise,
}

/// Where a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Its action is ordered, or the list of its items is known.
    Ordered,
    /// It waits for an answer or a moment.
    Waiting,
    /// It is over.
    Done,
    /// Its condition was false.
    Skipped,
    /// It failed.
    Failed,
    /// It was taken back.
    Undone,
    /// It cannot be taken back.
    Kept,
}

impl StepState {
    /// The name that JSON, conditions and the command line use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ordered => "ordered",
            Self::Waiting => "waiting",
            Self::Done => "done",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
            Self::Undone => "undone",
            Self::Kept => "kept",
        }
    }
}

/// An answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Who.
    pub by: String,
    /// Yes?
    pub allow: bool,
    /// When.
    pub at: Timestamp,
}

/// What [`advance`] looks at beside the record.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The alert or finding, or what a person gave.
    pub event: &'a Event,
    /// Now.
    pub now: Timestamp,
    /// The actions that this execution ordered, by id. One that is not there yet is ordered again, under the same id.
    pub actions: &'a BTreeMap<String, Action>,
    /// What people answered, by the step's place.
    pub answers: &'a BTreeMap<String, Vec<Answer>>,
    /// Actions of other executions of this playbook within the time of its limits, messages apart.
    pub done_by_others: usize,
    /// Hosts of the tenant.
    pub hosts: usize,
    /// Why nothing is done, where all answers are stopped.
    pub halted: Option<&'a str>,
    /// Who wants all of it taken back.
    pub undo: Option<&'a str>,
}

/// What the driver has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Order this.
    Order(Box<Order>),
    /// Take this action back, for this reason; by this person, where one asked for it.
    TakeBack {
        /// The action.
        action: String,
        /// Why.
        reason: String,
        /// Who.
        by: Option<String>,
    },
    /// A host has not taken this order: it must not take it any more.
    Withdraw(String),
}

impl Execution {
    /// A new one, of which nothing has begun.
    pub fn new(id: String, playbook: &Playbook, alert: &str, by: &str, now: Timestamp) -> Self {
        Self {
            id,
            playbook: playbook.id.clone(),
            revision: playbook.revision.clone(),
            alert: alert.to_owned(),
            by: by.to_owned(),
            started: now,
            state: State::Running,
            reason: None,
            steps: BTreeMap::new(),
            becomes: None,
            next: 0,
        }
    }

    /// The actions that it ordered.
    pub fn actions(&self) -> impl Iterator<Item = &str> {
        self.steps.values().flat_map(|step| [step.action.as_deref(), step.asked.as_deref()]).flatten()
    }

    /// When it has to be looked at again by itself; actions and answers apart.
    pub fn wake_at(&self) -> Option<Timestamp> {
        let waits = |step: &&Progress| matches!(step.state, StepState::Ordered | StepState::Waiting);
        self.steps.values().filter(waits).filter_map(|step| step.until).min()
    }

    /// How many targets that count against the playbook's limits it hit since a moment.
    pub fn counted_since(&self, since: Timestamp) -> usize {
        self.counting().filter(|(_, step)| step.since >= since).count()
    }

    /// The steps that count, one for each target: place and progress.
    pub(crate) fn counting(&self) -> impl Iterator<Item = (&str, &Progress)> {
        let counts = |step: &Progress| step.counts && !matches!(step.state, StepState::Failed | StepState::Undone);
        self.steps.iter().filter(move |(_, step)| counts(step)).map(|(place, step)| (place.as_str(), step))
    }

    /// The steps that wait for people: place and question.
    pub fn questions(&self) -> impl Iterator<Item = (&str, &Question, Option<Timestamp>)> {
        let waits = |step: &Progress| step.state == StepState::Waiting && self.state == State::Running;
        self.steps
            .iter()
            .filter(move |(_, step)| waits(step))
            .filter_map(|(place, step)| Some((place.as_str(), step.question.as_ref()?, step.until)))
    }
}

/// The id of the execution that an alert begins: of playbook and alert, so that a replay finds it there.
pub fn id_for(playbook: &str, alert: &str) -> String {
    use sha2::{Digest, Sha256};
    let mut digest = Sha256::new();
    for part in ["execution", playbook, alert] {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    hex::encode(digest.finalize().get(..16).unwrap_or_default())
}

#[cfg(test)]
mod tests;
