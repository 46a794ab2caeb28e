//! Scans that the ledger asks for: by order of the manager, or of a playbook of this host.
//!
//! ```text
//! order → ledger: running ──fsync──→ wish → waiting → work → over ──→ ledger: done or failed ──fsync──→ `scans.json`
//! ```
//! The scan has the action's id, so its events, alerts and figures say which order they are of. A crash between two of
//! these makes the ledger wish again; what waits, is under way or is over is not begun twice. The ledger hears that a scan
//! is over before `scans.json` forgets it, so no order stays open.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use sakimori_model::Action;
use sakimori_respond::actions::scan_paths;
use sakimori_respond::ports::{PathScanner, PortError};
use sakimori_respond::wide;
use sakimori_wire::scans::ScanStatus;

use super::kept::Request;
use crate::supervisor::Supervisor;

/// Why one that its order's undo ends is not whole.
const TAKEN_BACK: &str = "its order was taken back";

/// What the ledger wishes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wish {
    Begin(Request),
    End(String),
}

/// What the ledger wishes and the loop has not seen, shared by both. As bounded as the ledger's running scans.
#[derive(Clone, Debug, Default)]
pub struct Wishes(Arc<Mutex<VecDeque<Wish>>>);

impl Wishes {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Wish>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PathScanner for Wishes {
    fn begin(&mut self, action: &Action) -> Result<(), PortError> {
        let order = &action.order;
        let scan = scan_paths::scan(order).map_err(PortError::permanent)?;
        let by = match wide::by_hand(&order.cause) {
            true => format!("{}, by the manager", order.cause.by),
            false => order.cause.by.clone(),
        };
        let request = Request { id: order.id.clone(), ..Request::of(&scan, &by) };
        let mut wishes = self.lock();
        if !wishes.iter().any(|wish| matches!(wish, Wish::Begin(known) if known.id == request.id)) {
            wishes.push_back(Wish::Begin(request));
        }
        Ok(())
    }

    fn end(&mut self, action: &str) {
        self.lock().push_back(Wish::End(action.to_owned()));
    }
}

impl Supervisor {
    /// Sees to what the ledger wishes.
    pub(super) fn take_wishes(&mut self) {
        let wishes: Vec<Wish> = self.actions.scan_wishes().lock().drain(..).collect();
        for wish in wishes {
            match wish {
                Wish::Begin(request) => {
                    let (id, names) = (request.id.clone(), request.names());
                    let over = self.scans.kept.last.clone().filter(|last| last.id == id);
                    let kept = &self.scans.kept;
                    let known = kept.waiting.iter().any(|one| one.id == id)
                        || kept.work.as_ref().is_some_and(|work| work.request.id == id);
                    if let Some(over) = over {
                        self.scans.over.push(over);
                    } else if !known && let Err(reason) = self.ask_for(request) {
                        let refused = ScanStatus {
                            id,
                            name: names.name,
                            state: "failed".into(),
                            detail: reason,
                            ..Default::default()
                        };
                        self.scans.over.push(refused);
                    }
                }
                Wish::End(id) => {
                    // One that is over by now has nothing to end.
                    let _ = self.cancel_scan(Some(&id), TAKEN_BACK);
                }
            }
        }
    }

    /// Tells the ledger what came of scans that are over. Those that nobody ordered are none of its business.
    pub(super) fn settle_scans(&mut self) -> Result<()> {
        for scan in std::mem::take(&mut self.scans.over) {
            let whole = scan.state == "finished";
            let now = self.now();
            let told = self.actions.scanned(&scan.id, whole, &super::telling::in_words(&scan), now)?;
            self.spool_actions(told)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sakimori_model::action::{Cause, Target};
    use sakimori_model::{Order, Timestamp};
    use sakimori_respond::wide::{Limits, plan};

    #[test]
    fn a_wish_is_kept_once_and_says_who_asked() {
        let order = Order {
            id: "a".into(),
            action: scan_paths::ID.into(),
            target: Target::File("/srv".into()),
            expiry: None,
            cause: Cause { by: "ann".into(), ..Cause::default() },
            via: None,
            probe: false,
            inputs: Default::default(),
            signatures: Vec::new(),
        };
        let limits = Limits { expiry_seconds: 1, expiry_most_seconds: 1, grace_seconds: 1 };
        let mut action = plan(order, "host", Timestamp::from_secs(1), &limits);
        let mut wishes = Wishes::default();
        wishes.begin(&action).unwrap();
        wishes.begin(&action).unwrap();
        wishes.end("a");
        let seen: Vec<Wish> = wishes.lock().drain(..).collect();
        let [Wish::Begin(request), Wish::End(ended)] = seen.as_slice() else { panic!("{seen:?}") };
        assert_eq!((request.id.as_str(), request.by.as_str(), ended.as_str()), ("a", "ann, by the manager", "a"));
        action.order.target = Target::File("srv".into());
        assert!(!wishes.begin(&action).unwrap_err().is_transient(), "it will never be right");
    }
}
