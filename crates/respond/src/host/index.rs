//! Writing steps, and keeping what is looked up by target or by time in step with the ledger.

use std::sync::Arc;

use sakimori_model::ledger::{Change, Step};
use sakimori_model::{Action, ActionState, Timestamp};

use super::{HostActions, Owed, Touched};
use crate::actions::scan_paths;
use crate::ledger::{LedgerError, step};
use crate::ports::AddressBlocker;
use crate::wide;

impl<B: AddressBlocker> HostActions<B> {
    pub(super) fn begin(&mut self, action: Action, now: Timestamp, touched: &mut Touched) -> Result<(), LedgerError> {
        let id: Arc<str> = Arc::from(action.order.id.as_str());
        self.ledger.append(Step::Begin(Box::new(action)), now)?;
        self.after(&id, now, touched);
        Ok(())
    }

    /// Writes a change (not yet durable) and brings the indexes up to it.
    pub(super) fn change(&mut self, change: Change, now: Timestamp, touched: &mut Touched) -> Result<(), LedgerError> {
        let id: Arc<str> = Arc::from(change.action.as_str());
        if let Some(former) = self.ledger.get(&id).cloned() {
            self.unindex(&id, &former);
        }
        let prolongs = change.state == ActionState::Done && (change.expires_at.is_some() || change.confirmed);
        let written = self.ledger.append(step(change), now);
        self.after(&id, now, touched);
        written?;
        if prolongs {
            self.stale.extend(self.ledger.get(&id).and_then(|action| wide::network(&action.order)));
            if self.is_lasting(&id) {
                self.renewals.insert(Arc::clone(&id));
            }
        }
        Ok(())
    }

    pub(super) fn after(&mut self, id: &Arc<str>, now: Timestamp, touched: &mut Touched) {
        if let Some(action) = self.ledger.get(id).cloned() {
            self.index(&action, now);
            touched.add(id);
        }
    }

    pub(super) fn index(&mut self, action: &Action, now: Timestamp) {
        let id: Arc<str> = Arc::from(action.order.id.as_str());
        if matches!(action.state, ActionState::Approved | ActionState::Running | ActionState::Undoing) {
            self.owed.entry(Arc::clone(&id)).or_insert(Owed::at(now));
        }
        if let (ActionState::Done, Some(end)) = (action.state, action.end()) {
            self.ends.insert((end, Arc::clone(&id)));
        }
        if action.order.action == scan_paths::ID && matches!(action.state, ActionState::Approved | ActionState::Running)
        {
            self.scanning.insert(Arc::clone(&id));
        }
        if wide::is_lasting(&action.order) && wide::is_live(action.state) {
            self.lasting.insert(Arc::clone(&id));
        }
        let Some(network) = wide::network(&action.order) else { return };
        if wide::is_live(action.state) {
            self.live.entry(network).or_default().push(Arc::clone(&id));
            self.live_count += 1;
        }
        if let Some(until) = action.grace_until.filter(|until| *until > now) {
            let known = self.graces.entry(network).or_insert(until);
            *known = until.max(*known);
        }
    }

    pub(super) fn unindex(&mut self, id: &Arc<str>, action: &Action) {
        if let Some(end) = action.end() {
            self.ends.remove(&(end, Arc::clone(id)));
        }
        self.scanning.remove(id);
        self.lasting.remove(id);
        let Some(network) = wide::network(&action.order) else { return };
        if wide::is_live(action.state)
            && let Some(ids) = self.live.get_mut(&network)
        {
            ids.retain(|other| other != id);
            self.live_count -= 1;
            if ids.is_empty() {
                self.live.remove(&network);
            }
        }
    }
}
