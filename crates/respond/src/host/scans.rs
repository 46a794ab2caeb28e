//! Scans: ordered, begun, and over when their report comes. The record runs as long as the scan does, over restarts of
//! the agent too: what a start finds running is begun again, which a scan that is there already takes for nothing.

use std::sync::Arc;

use sakimori_model::{ActionState, Order, Timestamp};

use super::{HostActions, Touched};
use crate::actions::scan_paths;
use crate::event::Changes;
use crate::guard::Verdict;
use crate::ledger::LedgerError;
use crate::mandate::Authority;
use crate::ports::{AddressBlocker, PortError};
use crate::wide::{self, Limits};

impl<B: AddressBlocker> HostActions<B> {
    /// Plans and judges one order to scan. The id where it is to run.
    pub(super) fn admit_scan(
        &mut self,
        order: Order,
        authority: Authority,
        now: Timestamp,
        touched: &mut Touched,
    ) -> Result<Option<Arc<str>>, LedgerError> {
        let mut action = wide::plan(order, &self.place, now, &Limits::from(&self.policy));
        (action.expires_at, action.expires_at_most) = (None, None);
        let order = &action.order;
        let objection = self.mandate.objection(order, authority, now).map(|objection| objection.to_string());
        let verdict = match (&self.scanner, self.blocker.halted().or(objection), self.same_scan(order)) {
            (None, ..) => Verdict::NoEffect("no effect: this host has no scanner".to_owned()),
            (_, Some(why), _) => Verdict::Refused(why),
            (_, _, Some(other)) => Verdict::NoEffect(format!("it is being scanned already by action {other}")),
            _ => scan_paths::judge(order, &self.antimalware, self.scanning.len(), &mut self.scans, now),
        };
        self.decide(action, verdict, now, touched)
    }

    /// A scan of the same that an alert asked for and that is not over; what a person orders is always another one.
    fn same_scan(&self, order: &Order) -> Option<Arc<str>> {
        let same = |id: &&Arc<str>| {
            let known = self.ledger.get(id).map(|action| &action.order);
            known.is_some_and(|known| known.target == order.target && known.inputs == order.inputs)
        };
        self.scanning.iter().find(same).filter(|_| !wide::by_hand(&order.cause)).cloned()
    }

    pub(super) fn is_scan(&self, id: &str) -> bool {
        self.ledger.get(id).is_some_and(|action| action.order.action == scan_paths::ID)
    }

    /// Begins scans whose running state is durable. They are over when [`HostActions::scanned`] says so.
    pub(super) fn begin_scans(
        &mut self,
        ids: Vec<Arc<str>>,
        now: Timestamp,
        touched: &mut Touched,
    ) -> Result<(), LedgerError> {
        for id in ids {
            let Some(action) = self.ledger.get(&id).cloned() else { continue };
            let outcome = match &mut self.scanner {
                Some(scanner) => scanner.begin(&action),
                None => Err(PortError::permanent("this host has no scanner")),
            };
            match outcome {
                Ok(()) => drop(self.owed.remove(&id)),
                Err(error) => self.failed(&id, &error, now, touched)?,
            }
        }
        Ok(())
    }

    /// Ends scans whose undoing is durable: one that waits does not begin, one under way stops after the file at hand.
    pub(super) fn end_scans(
        &mut self,
        ids: Vec<Arc<str>>,
        now: Timestamp,
        touched: &mut Touched,
    ) -> Result<(), LedgerError> {
        if let Some(scanner) = &mut self.scanner {
            ids.iter().for_each(|id| scanner.end(id));
        }
        self.all_undone(ids, now, touched)
    }

    /// A scan is over: what came of it, and whether it ran to its end. One that no action asked for changes nothing.
    ///
    /// # Errors
    /// The ledger's.
    pub fn scanned(&mut self, id: &str, whole: bool, report: &str, now: Timestamp) -> Result<Changes, LedgerError> {
        let mut touched = Touched::default();
        let running = self.ledger.get(id).is_some_and(|action| action.state == ActionState::Running);
        if running && self.is_scan(id) {
            let state = if whole { ActionState::Done } else { ActionState::Failed };
            self.settled(wide::because(id, state, report), now, &mut touched)?;
            self.ledger.sync()?;
        }
        Ok(self.changes(touched, now))
    }
}
