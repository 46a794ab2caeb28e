//! Orders about processes and packages of triage: what is asked of them before they are carried out ([`super::carrying`]).
//!
//! To add one: its descriptor in [`crate::actions`], a line in [`ACTS`], what is asked of its order in [`judge`], and an effect.

use std::sync::Arc;

use sakimori_model::{Action, Order, Timestamp};

use super::{HostActions, Touched};
use crate::actions::{Descriptor, collect_triage, freeze_processes, kill_tree, process};
use crate::guard::{Rate, Verdict};
use crate::ledger::LedgerError;
use crate::mandate::Authority;
use crate::ports::AddressBlocker;
use crate::wide::{self, Limits};

/// Those actions.
const ACTS: &[&Descriptor] = &[&kill_tree::DESCRIPTOR, &freeze_processes::DESCRIPTOR, &collect_triage::DESCRIPTOR];

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
            Some(other) if self.effects.contains_key(descriptor.id) => {
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

    fn may_act(
        &mut self,
        known: &'static Descriptor,
        action: &Action,
        authority: Authority,
        now: Timestamp,
    ) -> Verdict {
        let order = &action.order;
        let live = self.ledger.actions().filter(|one| one.order.action == known.id && in_effect(one)).count();
        let grace = freeze_processes::grace(self.ledger.actions().map(Arc::as_ref), action, now);
        let objection = self.mandate.objection(order, authority, now).map(|objection| objection.to_string());
        if !self.effects.contains_key(known.id) {
            return Verdict::NoEffect(format!("no effect: this host has nothing that could do {}", known.id));
        }
        if let Some(why) = self.blocker.halted().or(objection) {
            return Verdict::Refused(why);
        }
        if let Some(until) = grace.filter(|_| !wide::by_hand(&order.cause)) {
            return Verdict::Refused(format!("a person took it back here: not done again before {until}"));
        }
        judge(order, known, live, self.acts.entry(known.id).or_default(), now)
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

    /// Those in effect that end by themselves.
    pub(super) fn passing(&self) -> Vec<Arc<str>> {
        let passing =
            |action: &&Arc<Action>| in_effect(action) && of_it(&action.order).is_some_and(|known| known.expires);
        self.ledger.actions().filter(passing).map(|action| Arc::from(action.order.id.as_str())).collect()
    }
}

/// Is it in effect or under way? What cannot be taken back is over once it is done.
fn in_effect(action: &Action) -> bool {
    wide::is_live(action.state) && !wide::is_finished(action)
}
