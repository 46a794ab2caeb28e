//! The mark that stops all answers on this host: a file of root's in the state folder.
//!
//! It is put and taken by the command itself, so that a stop needs neither the manager nor a supervisor that lives.
//! Whatever is about to have an effect looks at it first. While it is there nothing new is blocked, refused or
//! quarantined; taking back goes on. A mark that cannot be read is a mark.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sakimori_model::Timestamp;
use serde::{Deserialize, Serialize};

use crate::files::write_atomically;

/// Longest reason.
const MAX_REASON: usize = 1_000;

/// Who stopped the answers, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halted {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: String,
    /// Why; may be empty.
    pub reason: String,
    /// Was what is in effect to be taken back?
    pub undo: bool,
    /// Did the manager? What root at the host stopped, the manager cannot let go on.
    pub manager: bool,
}

impl Halted {
    /// In words, for refusals and status.
    pub fn words(&self) -> String {
        let reason = if self.reason.is_empty() { String::new() } else { format!(": {}", self.reason) };
        let host = if self.manager { "at the manager" } else { "at this host" };
        format!("all answers are stopped by {} {host} since {}{reason}", self.by, self.at)
    }
}

/// The file in a state folder.
pub fn path(state: &Path) -> PathBuf {
    state.join("halted")
}

/// The mark, where it is there.
pub fn read(state: &Path) -> Option<Halted> {
    let damaged = |why: String| {
        let (at, by) = (Timestamp::default(), "somebody".into());
        Some(Halted { at, by, reason: format!("the mark cannot be read: {why}"), undo: false, manager: false })
    };
    match std::fs::read(path(state)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => damaged(error.to_string()),
        Ok(bytes) => serde_json::from_slice(&bytes).map_or_else(|error| damaged(error.to_string()), Some),
    }
}

/// Puts the mark, durably. One that asks to take things back is not replaced by one that does not.
///
/// # Errors
/// Where the disk says no.
pub fn put(state: &Path, mut halted: Halted) -> Result<()> {
    halted.reason = halted.reason.chars().filter(|c| !c.is_control()).take(MAX_REASON).collect();
    if let Some(there) = read(state) {
        halted.undo |= there.undo;
        // What root at this host stopped stays his.
        halted.manager &= there.manager;
    }
    write_atomically(&path(state), &serde_json::to_vec(&halted)?, 0o600)
}

/// Takes the mark away, durably. False where there was none.
///
/// # Errors
/// Where the disk says no.
pub fn take(state: &Path) -> Result<bool> {
    match std::fs::remove_file(path(state)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        other => other.with_context(|| format!("cannot remove {}", path(state).display()))?,
    }
    std::fs::File::open(state).and_then(|folder| folder.sync_all()).context("cannot make the removal durable")?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(undo: bool, manager: bool) -> Halted {
        Halted { at: Timestamp::from_secs(1), by: "ann".into(), reason: "a\nb".into(), undo, manager }
    }

    #[test]
    fn a_mark_is_put_read_and_taken_and_garbage_is_a_mark() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path();
        assert_eq!(read(state), None);
        assert!(!take(state).unwrap());
        put(state, mark(true, false)).unwrap();
        put(state, mark(false, true)).unwrap();
        let there = read(state).unwrap();
        assert!(there.undo && !there.manager, "the stricter of both: {there:?}");
        assert_eq!(there.reason, "ab");
        assert!(take(state).unwrap());
        assert_eq!(read(state), None);
        std::fs::write(path(state), "garbage").unwrap();
        assert!(read(state).unwrap().words().contains("cannot be read"));
    }
}
