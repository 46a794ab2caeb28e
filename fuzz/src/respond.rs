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

/// A message about an alert in which all that may come from outside is any text: facts that are JSON, each value on one line
/// of bounded length, and a question's pages nothing but web addresses.
pub fn message_compose(bytes: &[u8]) {
    use sakimori_model::{Event, Timestamp, field};
    use sakimori_respond::message::{LONGEST, Notice, compose, line};
    let Some(text) = text(bytes) else { return };
    let mut alert = Event::new();
    for name in [field::RULE_NAME, field::USER_NAME, field::HOST_NAME, field::MESSAGE] {
        alert.set(name, text.to_owned());
    }
    let until = Timestamp::from_secs(0);
    let ask = serde_json::json!({ "question_en": text, "url": text, "otherwise": "deny" });
    let notice = Notice { alert: &alert, actions: &[], text: Some(text) };
    let message = compose("m", "ops", &[notice], Some(&ask), until);
    let facts: serde_json::Value = serde_json::from_str(&message.body).expect("facts are JSON");
    let one = &facts["alerts"][0];
    for value in [&one["user"], &one["host"], &one["text"], &one["rule"]["title"], &facts["ask"]["question_en"]] {
        let Some(value) = value.as_str() else { continue };
        assert!(value.chars().count() <= LONGEST + 1 && !value.contains(char::is_control), "{value:?}");
        assert_eq!(line(value), value, "what is a line stays as it is");
    }
    if let Some(page) = facts["ask"]["url"].as_str() {
        assert!(page.starts_with("http") && !page.contains(['<', '>', '"', ' ', '|', '\n']), "{page:?}");
    }
}
