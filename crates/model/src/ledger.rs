//! A ledger record: one step in the life of an action, chained to the record before by its hash.
//!
//! The same record form serves the agent's ledger (a file), the manager's ledger and the audit log (rows).

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::action::{Action, ActionState};
use crate::time::Timestamp;

/// SHA-256.
pub type Hash = [u8; 32];

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// A new action, or one carried over when the ledger is compacted: whole.
    Begin(Box<Action>),
    /// A later state of a known one.
    Change(Change),
}

/// A change of a known action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Id of the action.
    pub action: String,
    /// Its new state.
    pub state: ActionState,
    /// Why, where it needs saying.
    pub reason: Option<String>,
    /// What was there before, when it took effect.
    pub former: Option<String>,
    /// New end, when prolonged.
    pub expires_at: Option<Timestamp>,
    /// Until when it is not repeated, when undone by hand.
    pub grace_until: Option<Timestamp>,
    /// The person who did it, where one did.
    pub by: Option<String>,
    /// Is a provisional action confirmed by this?
    #[serde(default)]
    pub confirmed: bool,
}

/// One record of a ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerRecord {
    /// From 1, without gaps.
    pub sequence: u64,
    /// When it was written.
    pub time: Timestamp,
    /// Hash of the record before; zeros before the first.
    pub previous: Hash,
    /// What it says.
    pub step: Step,
}

/// The next hash of a chain: SHA-256 over the former hash and the encoded record.
pub fn chain(previous: &Hash, record: &[u8]) -> Hash {
    let mut digest = Sha256::new();
    digest.update(previous);
    digest.update(record);
    digest.finalize().into()
}

impl Action {
    /// Applies a change. False where the state machine does not allow it; the action is then as before.
    pub fn apply(&mut self, change: &Change, time: Timestamp) -> bool {
        if !self.state.may_become(change.state) {
            return false;
        }
        if change.state == ActionState::Done {
            if self.state == ActionState::Done && change.expires_at.is_some() && !change.confirmed {
                self.prolonged += 1;
            }
            self.done_at.get_or_insert(time);
        }
        self.state = change.state;
        if change.reason.is_some() {
            self.reason.clone_from(&change.reason);
        }
        if change.former.is_some() {
            self.former.clone_from(&change.former);
        }
        if change.expires_at.is_some() {
            self.expires_at = change.expires_at;
        }
        if change.grace_until.is_some() {
            self.grace_until = change.grace_until;
        }
        if change.confirmed {
            self.confirm_by = None;
        } else if change.by.is_some() {
            self.undone_by.clone_from(&change.by);
        }
        if change.state.is_final() {
            self.ended_at = Some(time);
        }
        true
    }
}
