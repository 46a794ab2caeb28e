//! Locks a local user: the mark before his password's hash, and the expiry of the account; see
//! [`sakimori_respond::actions::lock_user`] for what that keeps out.
//!
//! - [`accounts`]: the tables, as bytes in and out
//! - [`table`]: one of them rewritten in one step
//! - [`sessions`]: his processes
//!
//! Everything is judged again right before the effect: who a name is may have changed since the order.

pub mod accounts;
pub mod sessions;
pub mod table;

use std::path::Path;

use accounts::Former;
use sakimori_model::Action;
use sakimori_respond::actions::lock_user;
use sakimori_respond::ports::{Applied, HostEffect, Look, PortError};
use table::Tables;

/// Users below this number, and `nobody`, are of services: their processes are not ended together.
const FIRST_PERSON: u32 = 1_000;
const NOBODY: u32 = 65_534;
const MICROS_OF_A_DAY: i64 = 86_400_000_000;

/// The effect of `lock_user` on the accounts below a root folder.
#[derive(Clone, Debug)]
pub struct Locker {
    tables: Tables,
    /// User ids that are never locked: the agent's own workers.
    never: Vec<u32>,
}

impl Locker {
    /// Below this root, `/` for this system's own accounts. Nothing is touched yet.
    pub fn new(root: &Path, never: &[u32]) -> Self {
        Self { tables: Tables::at(root), never: never.to_vec() }
    }

    /// The user's number, or why he must not be locked.
    fn allowed(&self, action: &Action) -> Result<Result<u32, String>, PortError> {
        let (name, end_sessions) = lock_user::read(&action.order).map_err(PortError::permanent)?;
        let [passwd, group, shadow] = ["passwd", "group", "shadow"].map(|table| self.tables.read(table));
        let (passwd, group, shadow) = (passwd?, group?, shadow?);
        let user = match accounts::user(&passwd, name) {
            Ok(Some(user)) => user,
            Ok(None) => return Ok(Err(format!("{name} is no user of this host's own; lock him where he is kept"))),
            Err(reason) => return Ok(Err(reason)),
        };
        let today = action.planned_at.micros().div_euclid(MICROS_OF_A_DAY);
        let admin = accounts::admins(&passwd, &group).iter().any(|one| one == name);
        let refusal = if user.uid == 0 {
            Some(format!("never locked: {name} is root"))
        } else if self.never.contains(&user.uid) {
            Some(format!("never locked: {name} is a user of the agent's own"))
        } else if admin && !accounts::another_admin(&passwd, &group, &shadow, name, today) {
            Some(format!("never locked: {name} is the last who can become root on this host"))
        } else if end_sessions && (user.uid < FIRST_PERSON || user.uid == NOBODY) {
            Some(format!(
                "{name} is a user of services, whose processes are not ended together; leave end_sessions out"
            ))
        } else {
            None
        };
        Ok(refusal.map_or(Ok(user.uid), Err))
    }
}

fn name_of(action: &Action) -> Result<(&str, bool), PortError> {
    lock_user::read(&action.order).map_err(PortError::permanent)
}

impl Locker {
    /// Reads whether the lock is in effect: `None` where it is, else what is not so. Processes that are left say nothing about
    /// it: a lock does not end them.
    ///
    /// # Errors
    /// The tables cannot be read.
    pub fn verify(&self, action: &Action) -> Result<Option<String>, PortError> {
        let (name, _) = name_of(action)?;
        let locked = accounts::is_locked(&self.tables.read("shadow")?, name).map_err(PortError::permanent)?;
        Ok((!locked).then(|| format!("{name} is not locked")))
    }
}

impl HostEffect for Locker {
    fn aside(&self) -> Option<Box<dyn HostEffect>> {
        Some(Box::new(self.clone()))
    }

    fn look(&mut self, action: &Action) -> Result<Look, PortError> {
        let uid = match self.allowed(action)? {
            Ok(uid) => uid,
            Err(reason) => return Ok(Look::Refused(reason)),
        };
        let (name, end_sessions) = name_of(action)?;
        let shadow = self.tables.read("shadow")?;
        let former = match accounts::former(&shadow, name) {
            Ok(Some(former)) => former,
            Ok(None) => {
                return Ok(Look::Refused(format!("{name} has no line in shadow, so nothing can lock him there")));
            }
            Err(reason) => return Ok(Look::Refused(reason)),
        };
        if accounts::is_locked(&shadow, name).map_err(PortError::permanent)? && !end_sessions {
            return Ok(Look::NoEffect(format!("{name} is locked and expired already")));
        }
        let mut would = vec![format!("put a mark before the password of {name} and expire the account")];
        if end_sessions {
            would.push(format!("end {} processes of user id {uid}", sessions::left(uid)));
        }
        let former = serde_json::to_string(&former).map_err(|error| PortError::permanent(error.to_string()))?;
        Ok(Look::Ready { former, would })
    }

    fn apply(&mut self, action: &Action, _left_ms: Option<u64>) -> Result<Applied, PortError> {
        let uid = self.allowed(action)?.map_err(PortError::permanent)?;
        let (name, end_sessions) = name_of(action)?;
        self.tables.change(|shadow| Ok((accounts::locked(shadow, name)?, ())))?;
        if let Some(what) = self.verify(action)? {
            return Err(PortError::transient(format!("it did not take effect: {what}")));
        }
        let mut remarks = Vec::new();
        if end_sessions {
            let (ended, left) = sessions::end(uid);
            if ended > 0 {
                remarks.push(format!("{ended} processes were ended, which cannot be taken back"));
            }
            if left > 0 {
                remarks.push(format!(
                    "{left} processes of {name} are left: they wait in the kernel, or begin faster than they end"
                ));
            }
        }
        Ok(Applied::Done { former: None, remark: (!remarks.is_empty()).then(|| remarks.join("; ")) })
    }

    fn undo(&mut self, action: &Action) -> Result<Option<String>, PortError> {
        let (name, _) = name_of(action)?;
        let Some(former) = action.former.as_deref() else { return Ok(None) };
        let former: Former = serde_json::from_str(former)
            .map_err(|error| PortError::permanent(format!("the record of the lock is damaged: {error}")))?;
        let others = self.tables.change(|shadow| {
            if accounts::former(shadow, name)?.is_none() {
                // The user was removed meanwhile.
                return Ok((shadow.to_vec(), vec!["the user, who is gone"]));
            }
            accounts::unlocked(shadow, name, &former)
        })?;
        Ok((!others.is_empty())
            .then(|| format!("somebody else changed meanwhile, and it stays: {}", others.join(", "))))
    }
}
