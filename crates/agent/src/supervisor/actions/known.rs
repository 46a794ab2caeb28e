//! What is known of this host's actions: read, and nothing changed.

use std::sync::Arc;

use anyhow::Result;
use sakimori_model::ledger::Hash;
use sakimori_model::policy::Policy;
use sakimori_model::{Action, ActionState, Timestamp};
use sakimori_respond::actions::{prevent_mode, quarantine_file};
use sakimori_respond::wide;
use sakimori_wire::status::ModuleStatus;

use super::Actions;
use crate::modules::block_address::DESCRIPTOR;

impl Actions {
    /// Was the last switch of this module to prevent taken back, by the clock or by a person?
    pub fn is_reverted(&self, module: &str) -> bool {
        let setting = prevent_mode::setting(module);
        let of_it = self.host.actions().filter(|action| action.order.target == setting);
        of_it
            .max_by_key(|action| (action.planned_at, action.order.id.clone()))
            .is_some_and(|newest| newest.state.is_final() && newest.undone_by.as_deref() != Some("policy"))
    }

    /// Ids of provisional actions.
    pub fn provisional(&self) -> Vec<String> {
        self.host.provisional().map(|action| action.order.id.clone()).collect()
    }

    /// The newest known action of which this holds.
    pub fn newest(&self, holds: impl Fn(&Action) -> bool) -> Option<&Action> {
        let all = self.host.actions().map(Arc::as_ref).filter(|action| holds(action));
        all.max_by_key(|action| action.planned_at)
    }

    /// Is it being carried out elsewhere?
    pub fn is_out(&self, id: &str) -> bool {
        self.host.is_out(id)
    }

    /// The action that put this item into quarantine, and has it there.
    pub fn that_took(&self, item: &str) -> Option<&Arc<Action>> {
        let took = |action: &&Arc<Action>| {
            action.state == ActionState::Done
                && action.order.action == quarantine_file::ID
                && action.former.as_deref() == Some(item)
        };
        self.host.actions().find(took)
    }

    /// Next moment at which [`Actions::tick`] has something to do.
    pub fn next_tick(&self) -> Option<Timestamp> {
        self.host.next_tick()
    }

    /// An action by its id.
    pub fn action(&self, id: &str) -> Option<&Arc<Action>> {
        self.host.action(id)
    }

    /// All known actions, by their beginning; those in effect, or all.
    pub fn list(&self, all: bool) -> Vec<Action> {
        let mut list: Vec<Action> = self
            .host
            .actions()
            .filter(|action| all || !wide::is_finished(action))
            .map(|action| (**action).clone())
            .collect();
        list.sort_by(|a, b| a.planned_at.cmp(&b.planned_at).then_with(|| a.order.id.cmp(&b.order.id)));
        list
    }

    /// Blocks in effect.
    pub fn live(&self) -> u64 {
        self.host.live() as u64
    }

    /// Newest record of the ledger, and the head of its hash chain.
    pub fn head(&self) -> (u64, Vec<u8>) {
        let (sequence, hash) = self.host.head();
        (sequence, hash.to_vec())
    }

    /// The chain's hash at a record.
    ///
    /// # Errors
    /// The ledger's.
    pub fn hash_at(&self, sequence: u64) -> Result<Option<Hash>> {
        Ok(self.host.ledger().hash_at(sequence)?)
    }

    /// Reads the ledger from the disk again and holds it against heads that others saw.
    ///
    /// # Errors
    /// The first record that is not as it was written.
    pub fn verify(&self, seen: &[(u64, Hash)]) -> Result<u64> {
        Ok(self.host.ledger().verify(seen)?)
    }

    /// State of the module.
    pub fn status(&self, policy: &Policy) -> ModuleStatus {
        let state = match (&self.problem, (DESCRIPTOR.is_on)(policy)) {
            (_, false) => "off",
            (Some(_), true) => "failing",
            (None, true) => "on",
        };
        ModuleStatus {
            id: DESCRIPTOR.id.into(),
            state: state.into(),
            detail: self.problem.clone().unwrap_or_default(),
            restarts: 0,
            rules: None,
        }
    }
}
