//! Playbooks with their conditions, and the ledger.

use std::path::Path;

use sakimori_journal::{Journal, Options};
use sakimori_model::rule::Scope;
use sakimori_model::{Event, field};
use sakimori_respond::ledger::{Keep, Ledger};
use sakimori_respond::playbook::{Playbook, Setting};

use super::{now, text};

/// A playbook with its CEL conditions: read or refused, and evaluated within bounds.
pub fn playbook_parse(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let Ok(playbook) = Playbook::parse("playbooks/fuzz.yml", text) else { return };
    let mut alert = Event::new();
    alert.set(field::SAKIMORI_ALERT_ID, "a");
    alert.set(field::EVENT_KIND, "alert");
    for scope in [Scope::Host, Scope::Wide] {
        let _ = playbook.evaluate(&alert, "a", &Setting { place: "fuzz", now: now(), scope });
    }
}

/// Records of a ledger that are whole by their sum but hold anything, each behind its length: the chain holds or it is
/// refused, and a refused one is not opened in part.
pub fn ledger_open(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    if fill(folder.path(), bytes).is_some()
        && let Ok((ledger, _)) = Ledger::open(folder.path(), Keep::default(), now())
    {
        let head = ledger.head();
        drop(ledger);
        let (again, _) = Ledger::open(folder.path(), Keep::default(), now()).expect("what opened once opens again");
        assert_eq!(again.head(), head);
    }
}

fn fill(folder: &Path, bytes: &[u8]) -> Option<()> {
    let options = Options { compress: false, ..Options::default() };
    let (journal, _) = Journal::open(folder, options).ok()?;
    let mut rest = bytes;
    while let Some((size, after)) = rest.split_first_chunk::<2>() {
        let (record, after) = after.split_at(usize::from(u16::from_le_bytes(*size)).min(after.len()));
        journal.append(record).ok()?;
        rest = after;
    }
    journal.sync().ok()
}
