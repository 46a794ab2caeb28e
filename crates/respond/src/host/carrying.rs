//! Effects that go through a [`HostEffect`], found by the slug of the action, and the records around them.
//!
//! One that takes longer than the caller's loop may wait ([`HostEffect::aside`]) becomes a [`Job`]: the caller takes it
//! ([`HostActions::take_jobs`]), runs it in another thread, those of one action in their order, and reports what came of it.
//!
//! What is given up is not over while a part of it may be left: it is being taken back ([`wide::withdraw`]), with growing waits
//! and for as long as it takes, and has failed when the effect says that nothing of it is there.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use sakimori_model::ledger::Change;
use sakimori_model::{Action, ActionState, Timestamp};

use super::lasting::left;
use super::{HostActions, Owed, Touched, acting};
use crate::event::Changes;
use crate::ledger::LedgerError;
use crate::ports::{AddressBlocker, Applied, HostEffect, PortError};
use crate::wide;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    /// Make it so, for so many milliseconds.
    Apply(Option<u64>),
    /// Put it back.
    Undo,
}

/// An effect that is carried out in a thread of its own.
pub struct Job {
    action: Arc<Action>,
    task: Task,
    effect: Box<dyn HostEffect>,
}

/// What came of a [`Job`].
#[derive(Debug)]
pub struct Report {
    id: String,
    came: Came,
}

#[derive(Debug)]
enum Came {
    /// All answers had been stopped: why.
    Stopped(String),
    Applied(Result<Applied, PortError>),
    Undone(Result<Option<String>, PortError>),
}

impl Job {
    /// Slug of the action: jobs of one follow each other.
    pub fn lane(&self) -> &str {
        &self.action.order.action
    }

    /// Carries it out. `halted` says who stopped all answers: it is asked right before the effect.
    pub fn run(mut self, halted: impl FnOnce() -> Option<String>) -> Report {
        let id = self.action.order.id.clone();
        let stopped = (self.task != Task::Undo).then(halted).flatten();
        let came = stopped.map_or_else(|| self.carry_out(), Came::Stopped);
        Report { id, came }
    }

    /// A defect of an effect ends neither the thread nor the action without a word: it is a failure like another, so what may be
    /// left of it is taken back.
    fn carry_out(&mut self) -> Came {
        let run = AssertUnwindSafe(|| self.task.run(self.effect.as_mut(), &self.action));
        catch_unwind(run).unwrap_or_else(|_| {
            tracing::error!(action = %self.action.order.id, slug = self.lane(), "an effect ended by a defect of this program");
            self.task.came_to(PortError::permanent("it ended by a defect of this program; its log says where"))
        })
    }
}

impl Task {
    fn run(self, effect: &mut dyn HostEffect, action: &Action) -> Came {
        match self {
            Self::Apply(left_ms) => Came::Applied(effect.apply(action, left_ms)),
            Self::Undo => Came::Undone(effect.undo(action)),
        }
    }

    fn came_to(self, error: PortError) -> Came {
        match self {
            Self::Apply(_) => Came::Applied(Err(error)),
            Self::Undo => Came::Undone(Err(error)),
        }
    }
}

impl<B: AddressBlocker> HostActions<B> {
    /// Who carries out the action of this slug. Without one it has no effect here.
    pub fn with_effect(mut self, action: &'static str, effect: Box<dyn HostEffect>) -> Self {
        self.effects.insert(action, effect);
        self
    }

    pub(super) fn is_of_port(&self, id: &str) -> bool {
        let order = self.ledger.get(id).map(|action| &action.order);
        order.is_some_and(|order| wide::is_lasting(order) || acting::of_it(order).is_some())
    }

    /// Carries out those whose running state is durable.
    pub(super) fn apply_effects(
        &mut self,
        ids: Vec<Arc<str>>,
        now: Timestamp,
        touched: &mut Touched,
    ) -> Result<(), LedgerError> {
        for id in ids {
            let Some(action) = self.ledger.get(&id).cloned() else { continue };
            let came = match self.blocker.halted() {
                Some(why) => Some(Came::Stopped(why)),
                None => self.work(&action, Task::Apply(left(&action, now))),
            };
            if let Some(came) = came {
                self.came(&action, came, now, touched)?;
            }
        }
        Ok(())
    }

    /// Takes back those whose undoing is durable. It is never given up: somebody waits for it.
    pub(super) fn take_effects_back(
        &mut self,
        ids: Vec<Arc<str>>,
        now: Timestamp,
        touched: &mut Touched,
    ) -> Result<(), LedgerError> {
        for id in ids {
            let Some(action) = self.ledger.get(&id).cloned() else { continue };
            match self.work(&action, Task::Undo) {
                Some(came) => self.came(&action, came, now, touched)?,
                // Nothing prolongs what is being taken back elsewhere.
                None if action.state == ActionState::Done => {
                    self.change(wide::to(&id, ActionState::Undoing), now, touched)?;
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Does it, or hands it out; what came of it where it was done here.
    fn work(&mut self, action: &Arc<Action>, task: Task) -> Option<Came> {
        let Some(effect) = self.effects.get_mut(action.order.action.as_str()) else {
            let error = format!("this host cannot carry {} out now", action.order.action);
            return Some(task.came_to(PortError::transient(error)));
        };
        let Some(effect) = effect.aside() else { return Some(task.run(effect.as_mut(), action)) };
        self.jobs.push(Job { action: Arc::clone(action), task, effect });
        let id = action.order.id.as_str();
        let owed = self.owed.entry(Arc::from(id)).or_insert(Owed::at(Timestamp::default()));
        owed.out = true;
        None
    }

    /// Writes what came of an effect.
    fn came(&mut self, action: &Action, came: Came, now: Timestamp, touched: &mut Touched) -> Result<(), LedgerError> {
        let id: Arc<str> = Arc::from(action.order.id.as_str());
        let change = match came {
            Came::Stopped(why) => return self.withdraw(&id, true, &why, now, touched),
            Came::Applied(Err(error)) => return self.failed(&id, &error, now, touched),
            Came::Applied(Ok(Applied::Done { former, remark })) => {
                Change { former, reason: remark, ..wide::to(&id, ActionState::Done) }
            }
            Came::Applied(Ok(Applied::NoEffect(why))) => wide::because(&id, ActionState::NoEffect, why),
            Came::Applied(Ok(Applied::Refused(why))) => wide::because(&id, ActionState::Refused, why),
            Came::Undone(Err(error)) => {
                tracing::warn!(%error, action = %id, "it could not be taken back; trying again");
                self.still_owed(id, now);
                return Ok(());
            }
            Came::Undone(Ok(remark)) => {
                let Some(change) = wide::undone(action, now) else {
                    self.owed.remove(&id);
                    return Ok(());
                };
                // Why nothing came of it stays said.
                let given_up = matches!(change.state, ActionState::Failed | ActionState::Refused);
                let before = change.reason.clone().or_else(|| action.reason.clone().filter(|_| given_up));
                let said: Vec<String> = before.into_iter().chain(remark).collect();
                Change { reason: (!said.is_empty()).then(|| said.join("; ")), ..change }
            }
        };
        self.settled(change, now, touched)
    }

    /// Nothing comes of one that runs, since it failed for good or all answers were `stopped`. What may be left of it is taken
    /// back before it is over.
    pub(super) fn withdraw(
        &mut self,
        id: &Arc<str>,
        stopped: bool,
        why: &str,
        now: Timestamp,
        touched: &mut Touched,
    ) -> Result<(), LedgerError> {
        let Some(action) = self.ledger.get(id).cloned() else { return Ok(()) };
        self.owed.remove(id);
        let has_effect = self.effects.contains_key(action.order.action.as_str());
        if !has_effect || !wide::can_be_undone(&action.order) {
            let end = if stopped { ActionState::Refused } else { ActionState::Failed };
            return self.change(wide::because(id, end, why), now, touched);
        }
        self.change(wide::withdraw(&action, stopped, why), now, touched)?;
        self.take_back(vec![Arc::clone(id)], now, touched)
    }

    /// What is to be carried out elsewhere, the oldest first. What was written for it is durable.
    pub fn take_jobs(&mut self) -> Vec<Job> {
        std::mem::take(&mut self.jobs)
    }

    /// Is it being carried out elsewhere?
    pub fn is_out(&self, id: &str) -> bool {
        self.owed.get(id).is_some_and(|owed| owed.out)
    }

    /// Takes what came of a job. One that was taken back meanwhile is not done any more, whatever is reported of it.
    ///
    /// # Errors
    /// The ledger's.
    pub fn reported(&mut self, report: Report, now: Timestamp) -> Result<Changes, LedgerError> {
        let mut touched = Touched::default();
        let Some(action) = self.ledger.get(&report.id).cloned() else { return Ok(Changes::default()) };
        let expected = match report.came {
            Came::Undone(_) => ActionState::Undoing,
            Came::Applied(_) | Came::Stopped(_) => ActionState::Running,
        };
        if action.state == expected {
            if let Some(owed) = self.owed.get_mut(report.id.as_str()) {
                owed.out = false;
            }
            self.came(&action, report.came, now, &mut touched)?;
            self.ledger.sync()?;
        }
        Ok(self.changes(touched, now))
    }
}
