//! From an order to a decision: plan, guard, policy, grace time, evidence for a block that is there, and rates.

use std::sync::Arc;

use sakimori_model::ledger::Change;
use sakimori_model::policy::{Mode, Switch};
use sakimori_model::{Action, ActionState, Network, Order, Timestamp};

use super::{HostActions, Touched, acting};
use crate::actions::{quarantine_file, scan_paths};
use crate::guard::{Verdict, judge};
use crate::ledger::LedgerError;
use crate::mandate::Authority;
use crate::ports::AddressBlocker;
use crate::wide::{self, Limits};

impl<B: AddressBlocker> HostActions<B> {
    /// Plans and judges one order and writes what comes of it, not yet durable. The id where it is to run.
    pub(super) fn admit(
        &mut self,
        order: Order,
        authority: Authority,
        now: Timestamp,
        touched: &mut Touched,
    ) -> Result<Option<Arc<str>>, LedgerError> {
        if let Some(reason) = self.guard.switched_off(&order) {
            let action = wide::plan(order, &self.place, now, &self.limits(authority));
            return self.decide(action, Verdict::Refused(reason), now, touched);
        }
        if order.action == quarantine_file::ID {
            return self.admit_file(order, authority, now, touched);
        }
        if order.action == scan_paths::ID {
            return self.admit_scan(order, authority, now, touched);
        }
        if wide::is_lasting(&order) {
            return self.admit_lasting(order, authority, now, touched);
        }
        if let Some(descriptor) = acting::of_it(&order) {
            return self.admit_act(descriptor, order, authority, now, touched);
        }
        let mut action = wide::plan(order, &self.place, now, &self.limits(authority));
        if wide::needs_confirmation(&action.order) {
            action.confirm_by = Some(wide::later(now, wide::CONFIRM_SECONDS));
        }
        let mut absorbed = None;
        let verdict = self.verdict(&action, authority, now, &mut absorbed);
        if let Some(change) = absorbed {
            self.change(change, now, touched)?;
        }
        self.decide(action, verdict, now, touched)
    }

    /// Writes what was decided. The id where it is to run.
    pub(super) fn decide(
        &mut self,
        mut action: Action,
        verdict: Verdict,
        now: Timestamp,
        touched: &mut Touched,
    ) -> Result<Option<Arc<str>>, LedgerError> {
        let id: Arc<str> = Arc::from(action.order.id.as_str());
        let (state, reason) = match verdict {
            Verdict::Allowed => (ActionState::Approved, None),
            Verdict::Refused(reason) => (ActionState::Refused, Some(reason)),
            Verdict::NoEffect(reason) => (ActionState::NoEffect, Some(reason)),
        };
        action.apply(&Change { reason, ..wide::to(&id, state) }, now);
        self.begin(action, now, touched)?;
        if state != ActionState::Approved {
            return Ok(None);
        }
        self.change(wide::to(&id, ActionState::Running), now, touched)?;
        Ok(Some(id))
    }

    /// As policy says, within the mandate where it is not root or operators who order.
    fn limits(&self, authority: Authority) -> Limits {
        let policy = Limits::from(&self.policy);
        if self.is_free(authority) {
            return policy;
        }
        let most = policy.expiry_most_seconds.min(self.mandate.alone.longest_seconds);
        Limits { expiry_most_seconds: most, ..policy }
    }

    /// Has somebody spoken whom the mandate's own limits do not bind?
    pub(super) fn is_free(&self, authority: Authority) -> bool {
        match authority {
            Authority::Root => true,
            Authority::Manager { operators } => {
                self.mandate.operators.needed > 0 && operators >= self.mandate.operators.needed
            }
            Authority::Rules => false,
        }
    }

    pub(super) fn verdict(
        &mut self,
        action: &Action,
        authority: Authority,
        now: Timestamp,
        absorbed: &mut Option<Change>,
    ) -> Verdict {
        let order = &action.order;
        let verdict = judge(order, &self.guard);
        let (Verdict::Allowed, Some(network)) = (&verdict, wide::network(order)) else { return verdict };
        if self.policy.state == Switch::Off {
            return Verdict::NoEffect("no effect: block_address is off".to_owned());
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
        if self.policy.mode == Mode::Detect {
            return Verdict::NoEffect(format!("detect mode: would block {network}"));
        }
        if let Some((target, until)) = self.grace(&network, now).filter(|_| !wide::by_hand(&order.cause)) {
            return Verdict::Refused(format!("a person unblocked {target}: not blocked again before {until}"));
        }
        if let Some(other) = self.covering(&network).filter(|_| !wide::by_hand(&order.cause)) {
            *absorbed = action.expires_at.and_then(|end| wide::prolong(&other, end));
            let end = absorbed.as_ref().and_then(|change| change.expires_at).or(other.expires_at);
            let end = end.map(|end| format!(", until {end}")).unwrap_or_default();
            return Verdict::NoEffect(format!("already blocked by action {}{end}", other.order.id));
        }
        if self.live_count >= self.policy.most as usize {
            return Verdict::Refused(format!("the most blocks at a time, {}, are in effect", self.policy.most));
        }
        let policy = self.policy.most_per_minute;
        let most = if self.is_free(authority) { policy } else { policy.min(self.mandate.alone.most_per_minute) };
        if !self.rate.take(now, most) {
            return Verdict::Refused(format!("the most new blocks a minute, {most}, were made"));
        }
        Verdict::Allowed
    }

    /// A target that a person unblocked, that shares an address with this network and is still to be left alone.
    pub(super) fn grace(&self, network: &Network, now: Timestamp) -> Option<(Network, Timestamp)> {
        let hit = |(target, until): (&Network, &Timestamp)| (*until > now).then_some((*target, *until));
        let wider = (0..=network.prefix())
            .filter_map(|prefix| Network::new(network.address(), prefix))
            .filter_map(|wider| self.graces.get_key_value(&wider))
            .find_map(hit);
        // Networks sort by their first address, so those within this one follow each other.
        wider.or_else(|| {
            let within = self.graces.range(network..).take_while(|(target, _)| network.contains(target.address()));
            within.filter(|(target, _)| target.overlaps(network)).find_map(hit)
        })
    }

    /// A live action of an alert with exactly this target.
    pub(super) fn covering(&self, network: &Network) -> Option<Arc<Action>> {
        let ids = self.live.get(network)?;
        let mut actions = ids.iter().filter_map(|id| self.ledger.get(id));
        actions.find(|action| action.state != ActionState::Undoing).cloned()
    }
}
