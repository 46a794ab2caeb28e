//! Files: taken into quarantine and given back, each by itself, with the same ledger around the effect.
//!
//! What cannot be given back now (something is in its place) stays in effect and says why; it is not tried again by
//! itself, since a person has to make room first.

use std::sync::Arc;

use sakimori_model::ledger::Change;
use sakimori_model::{ActionState, Order, Timestamp};

use super::{HostActions, Touched};
use crate::actions::quarantine_file;
use crate::event::Changes;
use crate::guard::Verdict;
use crate::ledger::LedgerError;
use crate::mandate::Authority;
use crate::ports::{AddressBlocker, Held, PortError, Taking};
use crate::wide::{self, Limits};

impl<B: AddressBlocker> HostActions<B> {
    /// Plans and judges one order about a file. The id where it is to run.
    pub(super) fn admit_file(
        &mut self,
        order: Order,
        authority: Authority,
        now: Timestamp,
        touched: &mut Touched,
    ) -> Result<Option<Arc<str>>, LedgerError> {
        let mut action = wide::plan(order, &self.place, now, &Limits::from(&self.policy));
        (action.expires_at, action.expires_at_most) = (None, None);
        let objection = self.mandate.objection(&action.order, authority, now).map(|objection| objection.to_string());
        let verdict = match (&self.vault, self.blocker.halted().or(objection)) {
            (None, _) => Verdict::NoEffect("no effect: this host has no quarantine".to_owned()),
            (Some(_), Some(why)) => Verdict::Refused(why),
            (Some(_), None) => quarantine_file::judge(&action.order, &self.antimalware, &mut self.taken, now),
        };
        self.decide(action, verdict, now, touched)
    }

    pub(super) fn is_of_file(&self, id: &str) -> bool {
        self.ledger.get(id).is_some_and(|action| wide::is_of_file(&action.order))
    }

    /// Takes files whose running state is durable.
    pub(super) fn take_files(
        &mut self,
        ids: Vec<Arc<str>>,
        now: Timestamp,
        touched: &mut Touched,
    ) -> Result<(), LedgerError> {
        for id in ids {
            let Some(action) = self.ledger.get(&id).cloned() else { continue };
            if let Some(why) = self.blocker.halted() {
                self.settled(wide::because(&id, ActionState::Refused, why), now, touched)?;
                continue;
            }
            let outcome = match &mut self.vault {
                Some(vault) => vault.take(&action, now),
                None => Err(PortError::permanent("this host has no quarantine")),
            };
            match outcome {
                Ok(Taking::Taken { former, remark }) => {
                    let change = Change { former: Some(former), reason: remark, ..wide::to(&id, ActionState::Done) };
                    self.settled(change, now, touched)?;
                }
                Ok(Taking::Gone(reason)) => {
                    self.settled(wide::because(&id, ActionState::NoEffect, reason), now, touched)?;
                }
                Err(error) => self.failed(&id, &error, now, touched)?,
            }
        }
        Ok(())
    }

    /// Gives files back whose undoing is durable.
    pub(super) fn give_files_back(
        &mut self,
        ids: Vec<Arc<str>>,
        now: Timestamp,
        touched: &mut Touched,
    ) -> Result<(), LedgerError> {
        for id in ids {
            let Some(action) = self.ledger.get(&id).cloned() else { continue };
            let outcome = match (&mut self.vault, &action.former) {
                (Some(vault), Some(former)) => vault.give_back(&action, former),
                (Some(_), None) => Ok(()),
                (None, _) => Err(PortError::permanent("this host has no quarantine")),
            };
            match outcome {
                Ok(()) => self.all_undone([id], now, touched)?,
                Err(error) => {
                    let reason = format!("it is still in quarantine: {error}");
                    self.settled(wide::because(&id, ActionState::Done, reason), now, touched)?;
                }
            }
        }
        Ok(())
    }

    /// After a start: what was given back or deleted while the agent did not run is no longer in effect.
    pub(super) fn missed_files(&mut self, now: Timestamp, touched: &mut Touched) -> Result<(), LedgerError> {
        let Some(vault) = &mut self.vault else { return Ok(()) };
        let mut gone = Vec::new();
        for action in self.ledger.actions().filter(|action| action.state == ActionState::Done) {
            let Some(former) = action.former.as_ref().filter(|_| wide::is_of_file(&action.order)) else { continue };
            let held = vault.held(action, former);
            if held != Held::Here {
                gone.push((Arc::<str>::from(action.order.id.as_str()), held));
            }
        }
        for (id, held) in gone {
            if held == Held::Deleted {
                self.end_deleted(&id, "somebody, while the agent did not run", now, touched)?;
                continue;
            }
            let reason = "given back while the agent did not run";
            self.change(wide::because(&id, ActionState::Undoing, reason), now, touched)?;
            self.settled(wide::to(&id, ActionState::Undone), now, touched)?;
        }
        self.ledger.sync()
    }

    /// A person deleted what this action took.
    ///
    /// # Errors
    /// The ledger's.
    pub fn deleted(&mut self, id: &str, by: &str, now: Timestamp) -> Result<Changes, LedgerError> {
        let mut touched = Touched::default();
        self.end_deleted(&Arc::from(id), by, now, &mut touched)?;
        self.ledger.sync()?;
        Ok(self.changes(touched, now))
    }

    fn end_deleted(
        &mut self,
        id: &Arc<str>,
        by: &str,
        now: Timestamp,
        touched: &mut Touched,
    ) -> Result<(), LedgerError> {
        let reason = format!("deleted for good by {by}");
        self.change(wide::because(id, ActionState::Expired, reason), now, touched)
    }
}
