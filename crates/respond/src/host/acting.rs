//! Actions of a host that are neither blocks nor about files: each through its own [`HostAct`], found by its slug, with the
//! same ledger around the effect. One that takes longer than the caller may wait runs on until [`HostActions::reported`].
//!
//! To add one: its descriptor in [`crate::actions`], a line in [`ACTS`], what is asked of its order in [`judge`], and an effect.

use std::sync::Arc;

use sakimori_model::ledger::Change;
use sakimori_model::{Action, ActionState, Order, Timestamp};

use super::{HostActions, Owed, Touched};
use crate::actions::{Descriptor, collect_triage, freeze_processes, kill_tree, process};
use crate::event::Changes;
use crate::guard::{Rate, Verdict};
use crate::ledger::LedgerError;
use crate::mandate::Authority;
use crate::ports::{AddressBlocker, Applied, HostAct, PortError};
use crate::wide::{self, Limits};

/// Those actions.
const ACTS: &[&Descriptor] = &[&kill_tree::DESCRIPTOR, &freeze_processes::DESCRIPTOR, &collect_triage::DESCRIPTOR];

/// What carries an action out, and how often alerts led to it lately.
pub(super) struct Acting {
    pub(super) effect: Box<dyn HostAct>,
    rate: Rate,
}

/// The action of an order, where it is one of these.
pub(super) fn of_it(order: &Order) -> Option<&'static Descriptor> {
    ACTS.iter().find(|known| known.id == order.action).copied()
}

/// What the order itself tells; `live` are those of its kind that are in effect or under way.
fn judge(order: &Order, descriptor: &Descriptor, live: usize, rate: &mut Rate, now: Timestamp) -> Verdict {
    match descriptor.id {
        collect_triage::ID => collect_triage::judge(order, live, rate, now),
        freeze_processes::ID if live >= freeze_processes::MOST_LIVE => {
            Verdict::Refused(format!("{live} are in effect already; take some back first"))
        }
        _ => process::judge(order, descriptor, rate, now),
    }
}

impl<B: AddressBlocker> HostActions<B> {
    /// Who carries out the action of this slug. Without one it has no effect here.
    pub fn with_act(mut self, action: &'static str, effect: Box<dyn HostAct>) -> Self {
        self.acts.insert(action, Acting { effect, rate: Rate::default() });
        self
    }

    /// Plans and judges one such order. The id where it is to run.
    pub(super) fn admit_act(
        &mut self,
        descriptor: &'static Descriptor,
        order: Order,
        authority: Authority,
        now: Timestamp,
        touched: &mut Touched,
    ) -> Result<Option<Arc<str>>, LedgerError> {
        let most = if self.is_free(authority) { u64::MAX } else { self.mandate.alone.longest_seconds };
        let limits = freeze_processes::LIMITS;
        let limits = Limits { expiry_most_seconds: limits.expiry_most_seconds.min(most), ..limits };
        let mut action = wide::plan(order, &self.place, now, &limits);
        if !descriptor.expires {
            (action.expires_at, action.expires_at_most) = (None, None);
        }
        let verdict = match self.same_act(&action) {
            // Fresh evidence for what is done already.
            Some(other) if self.acts.contains_key(descriptor.id) => {
                let longer = action.expires_at.and_then(|end| wide::prolong(&other, end));
                if let Some(change) = longer {
                    self.change(change, now, touched)?;
                }
                Verdict::NoEffect(format!("action {} does it already", other.order.id))
            }
            _ => self.may_act(descriptor, &action, authority, now),
        };
        self.decide(action, verdict, now, touched)
    }

    fn may_act(&mut self, known: &Descriptor, action: &Action, authority: Authority, now: Timestamp) -> Verdict {
        let order = &action.order;
        let live = self.ledger.actions().filter(|one| one.order.action == known.id && in_effect(one)).count();
        let grace = freeze_processes::grace(self.ledger.actions().map(Arc::as_ref), action, now);
        let objection = self.mandate.objection(order, authority, now).map(|objection| objection.to_string());
        let Some(acting) = self.acts.get_mut(known.id) else {
            return Verdict::NoEffect(format!("no effect: this host has nothing that could do {}", known.id));
        };
        if let Some(why) = self.blocker.halted().or(objection) {
            return Verdict::Refused(why);
        }
        if let Some(until) = grace.filter(|_| !wide::by_hand(&order.cause)) {
            return Verdict::Refused(format!("a person took it back here: not done again before {until}"));
        }
        judge(order, known, live, &mut acting.rate, now)
    }

    /// The same that an alert asked for and that is in effect or under way; what a person orders is always another one.
    fn same_act(&self, action: &Action) -> Option<Arc<Action>> {
        let (wanted, kill) = (&action.order, action.order.action == kill_tree::ID);
        let same = |known: &&Arc<Action>| {
            let known_order = &known.order;
            in_effect(known)
                && known_order.action == wanted.action
                && known_order.target == wanted.target
                && !process::is_dry_run(known_order)
        };
        // A program that was ended may have been started again.
        let asked_by_alert = !wide::by_hand(&wanted.cause) && !process::is_dry_run(wanted) && !kill;
        asked_by_alert.then(|| self.ledger.actions().find(same).cloned()).flatten()
    }

    pub(super) fn is_act(&self, id: &str) -> bool {
        self.ledger.get(id).is_some_and(|action| of_it(&action.order).is_some())
    }

    /// Those in effect that end by themselves.
    pub(super) fn passing(&self) -> Vec<Arc<str>> {
        let passing =
            |action: &&Arc<Action>| in_effect(action) && of_it(&action.order).is_some_and(|known| known.expires);
        self.ledger.actions().filter(passing).map(|action| Arc::from(action.order.id.as_str())).collect()
    }

    /// Carries out those whose running state is durable.
    pub(super) fn act(&mut self, ids: Vec<Arc<str>>, now: Timestamp, touched: &mut Touched) -> Result<(), LedgerError> {
        for id in ids {
            let Some(action) = self.ledger.get(&id).cloned() else { continue };
            if let Some(why) = self.blocker.halted() {
                self.clear_up(&action);
                self.settled(wide::because(&id, ActionState::Refused, why), now, touched)?;
                continue;
            }
            let outcome = match self.acts.get_mut(action.order.action.as_str()) {
                Some(acting) => acting.effect.apply(&action, now),
                None => Err(PortError::permanent("this host has nothing that could do it")),
            };
            match outcome {
                Ok(Applied::Done { former, remark }) => {
                    let change = Change { former, reason: remark, ..wide::to(&id, ActionState::Done) };
                    self.settled(change, now, touched)?;
                }
                Ok(Applied::NoEffect(why)) => {
                    self.settled(wide::because(&id, ActionState::NoEffect, why), now, touched)?;
                }
                Ok(Applied::Refused(why)) => {
                    self.settled(wide::because(&id, ActionState::Refused, why), now, touched)?;
                }
                Ok(Applied::Begun) => drop(self.owed.remove(&id)),
                Err(error) => {
                    self.failed(&id, &error, now, touched)?;
                    let given_up = self.ledger.get(&id).is_some_and(|action| action.state == ActionState::Failed);
                    if given_up {
                        self.clear_up(&action);
                    }
                }
            }
        }
        Ok(())
    }

    /// Nothing comes of it: what was done of it so far is put back.
    fn clear_up(&mut self, action: &Action) {
        let can = of_it(&action.order).is_some_and(|known| known.undo.is_some());
        if can && let Err(error) = self.put_back(action) {
            tracing::warn!(%error, id = action.order.id, "what an action left half done cannot be put back");
        }
    }

    /// Takes back those whose undoing is durable. It is never given up: somebody waits for it.
    pub(super) fn take_acts_back(
        &mut self,
        ids: Vec<Arc<str>>,
        now: Timestamp,
        touched: &mut Touched,
    ) -> Result<(), LedgerError> {
        for id in ids {
            let Some(action) = self.ledger.get(&id).cloned() else { continue };
            match self.put_back(&action) {
                Ok(remark) => match wide::undone(&action, now) {
                    Some(change) => {
                        let reason = remark.or(change.reason.clone());
                        self.settled(Change { reason, ..change }, now, touched)?;
                    }
                    None => drop(self.owed.remove(&id)),
                },
                Err(error) => {
                    tracing::warn!(%error, %id, "an action could not be taken back; trying again");
                    let failures = self.owed.get(&id).map_or(0, |owed| owed.failures) + 1;
                    self.owed.insert(id, Owed { failures, at: wide::retry_always_at(failures, now) });
                }
            }
        }
        Ok(())
    }

    fn put_back(&mut self, action: &Action) -> Result<Option<String>, PortError> {
        match self.acts.get_mut(action.order.action.as_str()) {
            Some(acting) => acting.effect.undo(action),
            None => Err(PortError::transient("this host has nothing that could take it back")),
        }
    }

    /// One that was under way is over: what it left to know, or why it failed. One that is not running changes nothing.
    ///
    /// # Errors
    /// The ledger's.
    pub fn reported(
        &mut self,
        id: &str,
        outcome: Result<(String, String), String>,
        now: Timestamp,
    ) -> Result<Changes, LedgerError> {
        let mut touched = Touched::default();
        let running = self.ledger.get(id).is_some_and(|action| action.state == ActionState::Running);
        if running && self.is_act(id) {
            let change = match outcome {
                Ok((former, remark)) => Change { former: Some(former), ..wide::because(id, ActionState::Done, remark) },
                Err(reason) => wide::because(id, ActionState::Failed, reason),
            };
            self.settled(change, now, &mut touched)?;
            self.ledger.sync()?;
        }
        Ok(self.changes(touched, now))
    }
}

/// Is it in effect or under way? What cannot be taken back is over once it is done.
fn in_effect(action: &Action) -> bool {
    wide::is_live(action.state) && !wide::is_finished(action)
}
