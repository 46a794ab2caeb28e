//! What is changed on the host and put back later: isolations and locked users; who carries them out is in [`super::carrying`].
//!
//! The effect looks when the order is judged, so that the record with which an action begins holds what was there. One
//! action at a time has a target: an order for the same is fresh evidence, and prolongs the one that is there. What ends by
//! itself is looked after: [`HostActions::start`] and [`HostActions::watch`] make it so again where it was taken away.

use std::sync::Arc;

use sakimori_model::policy::Mode;
use sakimori_model::{Action, ActionState, Order, Timestamp};

use super::{HostActions, Touched, Which};
use crate::actions::{find, isolate_host, lock_user};
use crate::event::Changes;
use crate::guard::Verdict;
use crate::ledger::LedgerError;
use crate::mandate::Authority;
use crate::ports::{AddressBlocker, Look, MAX_FORMER, PortError};
use crate::wide::{self, Limits, Undo};

impl<B: AddressBlocker> HostActions<B> {
    /// Plans and judges one order. The id where it is to run.
    pub(super) fn admit_lasting(
        &mut self,
        order: Order,
        authority: Authority,
        now: Timestamp,
        touched: &mut Touched,
    ) -> Result<Option<Arc<str>>, LedgerError> {
        let expires = find(&order.action).is_some_and(|known| known.expires);
        let mut action = wide::plan(order, &self.place, now, &self.lasting_limits(authority));
        if !expires {
            (action.expires_at, action.expires_at_most) = (None, None);
        }
        if wide::needs_confirmation(&action.order) && !self.response.isolate_host.stay {
            action.confirm_by = Some(wide::later(now, wide::CONFIRM_SECONDS));
        }
        let mut absorbed = None;
        let verdict = self.verdict_of_lasting(&mut action, authority, now, &mut absorbed);
        if let Some(change) = absorbed {
            self.change(change, now, touched)?;
        }
        self.decide(action, verdict, now, touched)
    }

    fn lasting_limits(&self, authority: Authority) -> Limits {
        let policy = &self.response.isolate_host;
        let most = policy.expiry_most_seconds;
        Limits {
            expiry_seconds: policy.expiry_seconds,
            expiry_most_seconds: if self.is_free(authority) {
                most
            } else {
                most.min(self.mandate.alone.longest_seconds)
            },
            grace_seconds: self.policy.grace_seconds,
        }
    }

    fn verdict_of_lasting(
        &mut self,
        action: &mut Action,
        authority: Authority,
        now: Timestamp,
        absorbed: &mut Option<sakimori_model::ledger::Change>,
    ) -> Verdict {
        let order = &action.order;
        if !self.effects.contains_key(order.action.as_str()) {
            return Verdict::NoEffect(format!("no effect: this host cannot carry {} out", order.action));
        }
        if order.probe {
            return Verdict::NoEffect(
                "it follows from a probe, for which no host is isolated and nobody locked".to_owned(),
            );
        }
        if let Some(why) = self.blocker.halted() {
            return Verdict::Refused(why);
        }
        if let Some(objection) = self.mandate.objection(order, authority, now) {
            return Verdict::Refused(objection.to_string());
        }
        if wide::is_over(action, now) {
            return Verdict::Refused("its time was up before it could be carried out".to_owned());
        }
        // What is not right in itself is no evidence for what is there.
        let right = match order.action.as_str() {
            isolate_host::ID => isolate_host::judge(order, &self.place, &self.response.isolate_host),
            _ => lock_user::read(order).map_or_else(Verdict::Refused, |_| Verdict::Allowed),
        };
        if right != Verdict::Allowed {
            return right;
        }
        let by_hand = wide::by_hand(&order.cause);
        if let Some(until) = self.grace_of_lasting(order, now).filter(|_| !by_hand) {
            return Verdict::Refused(format!("a person took it back from {}: not again before {until}", order.target));
        }
        if let Some(other) = self.lasting_of(order) {
            *absorbed = action.expires_at.and_then(|end| wide::prolong(&other, end));
            let end = absorbed.as_ref().and_then(|change| change.expires_at).or(other.expires_at);
            let end = end.map(|end| format!(", until {end}")).unwrap_or_default();
            return Verdict::NoEffect(format!("in effect already by action {}{end}", other.order.id));
        }
        let verdict = match order.action.as_str() {
            lock_user::ID => lock_user::judge(order, &self.response.lock_user, &mut self.locks, now),
            _ => right,
        };
        let Some(effect) = self.effects.get_mut(order.action.as_str()).filter(|_| verdict == Verdict::Allowed) else {
            return verdict;
        };
        match effect.look(action) {
            Ok(Look::Ready { former, .. }) if former.len() > MAX_FORMER => {
                Verdict::Refused("what is there before is too much to be kept for the undo".to_owned())
            }
            Ok(Look::Ready { former, .. }) => {
                action.former = Some(former);
                Verdict::Allowed
            }
            Ok(Look::NoEffect(reason)) => Verdict::NoEffect(reason),
            Ok(Look::Refused(reason)) => Verdict::Refused(reason),
            Err(error) => Verdict::Refused(format!("what is there now cannot be read: {error}")),
        }
    }

    /// Until when a target is left alone from which a person took the same back.
    fn grace_of_lasting(&self, order: &Order, now: Timestamp) -> Option<Timestamp> {
        let same = |known: &&Arc<Action>| known.order.action == order.action && known.order.target == order.target;
        self.ledger.actions().filter(same).filter_map(|known| known.grace_until).filter(|until| *until > now).max()
    }

    /// The action that has this target already. A host has one isolation, whatever it was called by.
    fn lasting_of(&self, order: &Order) -> Option<Arc<Action>> {
        let mut all = self.lasting.iter().filter_map(|id| self.ledger.get(id));
        let same = |known: &&Arc<Action>| {
            known.order.action == order.action
                && (known.order.target == order.target || order.action == isolate_host::ID)
        };
        all.find(same).cloned()
    }

    pub(super) fn is_lasting(&self, id: &str) -> bool {
        self.ledger.get(id).is_some_and(|action| wide::is_lasting(&action.order))
    }

    /// Ids of those that end by themselves and are in effect: what "all" means beside blocks.
    pub(super) fn ending(&self) -> Vec<Arc<str>> {
        let ends = |id: &&Arc<str>| {
            let action = self.ledger.get(id);
            action.and_then(|action| find(&action.order.action)).is_some_and(|known| known.expires)
        };
        self.lasting.iter().filter(ends).cloned().collect()
    }

    /// Makes the host agree with the ledger about all of them.
    pub(super) fn keep_lasting(&mut self, now: Timestamp) -> Result<(), PortError> {
        let halted = self.blocker.halted().is_some();
        let all = self.lasting.iter().filter_map(|id| self.ledger.get(id));
        let in_effect = |action: &&Arc<Action>| action.state == ActionState::Done && !wide::is_over(action, now);
        let done: Vec<Arc<Action>> = all.filter(in_effect).cloned().collect();
        for (id, effect) in &mut self.effects {
            let of_it = done.iter().filter(|action| action.order.action == **id);
            let live: Vec<(&Action, Option<u64>)> = of_it.map(|action| (action.as_ref(), left(action, now))).collect();
            // While all answers are stopped nothing is made anew; what is there has its end.
            if live.is_empty() || !halted {
                effect.keep(&live)?;
            }
        }
        Ok(())
    }

    /// Looks after what is in effect: where somebody took it away, it is made so again.
    pub fn watch(&mut self, now: Timestamp) -> Option<PortError> {
        if self.lasting.is_empty() { None } else { self.keep_lasting(now).err() }
    }

    /// Brings what was prolonged or confirmed up to its time in the kernel. What fails is tried again by the next tick.
    pub(super) fn renew_lasting(&mut self, now: Timestamp) -> Result<(), LedgerError> {
        if self.renewals.is_empty() || self.blocker.halted().is_some() {
            return Ok(());
        }
        self.ledger.sync()?;
        for id in std::mem::take(&mut self.renewals) {
            let Some(action) = self.ledger.get(&id).filter(|action| action.state == ActionState::Done).cloned() else {
                continue;
            };
            let renewed = self.effects.get_mut(action.order.action.as_str());
            if let Some(Err(error)) = renewed.map(|effect| effect.apply(&action, left(&action, now))) {
                tracing::warn!(%error, action = %id, "it could not be prolonged; trying again");
                self.renewals.insert(id);
            }
        }
        Ok(())
    }

    /// Brings isolations up to what may pass now: the manager is elsewhere, or the policy lets others pass.
    ///
    /// # Errors
    /// The ledger's.
    pub fn renew_isolations(&mut self, now: Timestamp) -> Result<(), LedgerError> {
        let all = self.lasting.iter().filter_map(|id| self.ledger.get(id));
        let isolations = all.filter(|action| action.order.action == isolate_host::ID);
        self.renewals.extend(isolations.map(|action| Arc::from(action.order.id.as_str())));
        self.renew_lasting(now)
    }

    /// Takes back what the policy would not allow any more.
    pub(super) fn enforce_lasting(&mut self, now: Timestamp) -> Result<Changes, LedgerError> {
        let (mut detects, mut never): (Vec<String>, Vec<String>) = Default::default();
        for action in self.lasting.iter().filter_map(|id| self.ledger.get(id)) {
            let (order, id) = (&action.order, action.order.id.clone());
            if order.action == isolate_host::ID && self.response.isolate_host.mode == Mode::Detect {
                detects.push(id);
            } else if let Some(name) = order.target.name_of(lock_user::KIND)
                && lock_user::never(name, &self.response.lock_user).is_some()
            {
                never.push(id);
            }
        }
        let by = [(detects, "isolate_host only detects now"), (never, "the policy never locks this user now")];
        let mut changes = Changes::default();
        for (ids, why) in by.into_iter().filter(|(ids, _)| !ids.is_empty()) {
            changes.append(self.undo(&Which::Ids(ids), Undo::Policy(why), now)?);
        }
        Ok(changes)
    }
}

/// Milliseconds until its end; at least 1.
pub(super) fn left(action: &Action, now: Timestamp) -> Option<u64> {
    let end = action.end()?;
    Some(u64::try_from(end.since(now) / 1_000).unwrap_or(0).max(1))
}
