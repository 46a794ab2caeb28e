//! The ledger on disk: a crash at any byte, a record that somebody changed, and compaction.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sakimori_journal::{Journal, Options};
use sakimori_model::action::{Cause, Target};
use sakimori_model::ledger::{LedgerRecord, Step};
use sakimori_model::{Action, ActionState, Order, Timestamp};
use sakimori_respond::ledger::{Keep, Ledger, LedgerError};
use sakimori_respond::wide::{self, Limits};

fn now(seconds: i64) -> Timestamp {
    Timestamp::from_secs(1_800_000_000 + seconds)
}

fn action(id: &str) -> Action {
    let order = Order {
        id: id.to_owned(),
        action: "block_address".to_owned(),
        target: Target::Network("192.0.2.1".parse().unwrap()),
        expiry: None,
        cause: Cause::default(),
        via: None,
        probe: false,
        inputs: BTreeMap::new(),
        signatures: Vec::new(),
    };
    wide::plan(order, "agent-1", now(0), &Limits { expiry_seconds: 60, expiry_most_seconds: 100, grace_seconds: 30 })
}

fn begin(id: &str) -> Step {
    Step::Begin(Box::new(action(id)))
}

fn to(id: &str, state: ActionState) -> Step {
    Step::Change(wide::to(id, state))
}

fn open(dir: &Path) -> Ledger {
    Ledger::open(dir, Keep::default(), now(0)).unwrap().0
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn run(ledger: &mut Ledger, id: &str, until: &[ActionState]) {
    let steps = until.iter().map(|state| to(id, *state));
    ledger.write(std::iter::once(begin(id)).chain(steps).collect(), now(0)).unwrap();
}

const DONE: [ActionState; 3] = [ActionState::Approved, ActionState::Running, ActionState::Done];

#[test]
fn a_crash_at_any_byte_leaves_a_state_that_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    let mut seen: Vec<Vec<Option<ActionState>>> = Vec::new();
    let states = |ledger: &Ledger| ["a", "b"].map(|id| ledger.get(id).map(|action| action.state)).to_vec();
    seen.push(states(&ledger));
    for step in
        [begin("a"), to("a", DONE[0]), to("a", DONE[1]), begin("b"), to("a", DONE[2]), to("b", ActionState::Refused)]
    {
        ledger.write(vec![step], now(0)).unwrap();
        seen.push(states(&ledger));
    }
    drop(ledger);
    let file = segments(dir.path()).pop().unwrap();
    let whole = std::fs::read(&file).unwrap();
    let mut steps = 0;
    for length in 28..=whole.len() {
        let copy = tempfile::tempdir().unwrap();
        std::fs::write(copy.path().join(file.file_name().unwrap()), &whole[..length]).unwrap();
        let mut ledger = open(copy.path());
        let state = states(&ledger);
        assert_eq!(state, seen[ledger.head().0 as usize], "cut at {length}");
        steps = steps.max(ledger.head().0);
        ledger.write(vec![begin("c")], now(1)).unwrap();
        drop(ledger);
        assert!(open(copy.path()).get("c").is_some());
    }
    assert_eq!(steps, 6);
}

#[test]
fn a_changed_record_breaks_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    run(&mut ledger, "a", &DONE);
    run(&mut ledger, "b", &DONE);
    drop(ledger);
    // Somebody who knows the format writes the same journal again with one target changed, checksums and all.
    let read = Journal::open(dir.path(), Options::default()).unwrap().0.read(1, 1 << 20).unwrap();
    for forged in 1..=read.len() - 1 {
        let copy = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(copy.path(), Options::default()).unwrap();
        for (at, (_, bytes)) in read.iter().enumerate() {
            let mut record: LedgerRecord = postcard::from_bytes(bytes).unwrap();
            if at + 1 == forged {
                record.time = now(99);
            }
            journal.append(&postcard::to_stdvec(&record).unwrap()).unwrap();
        }
        journal.sync().unwrap();
        drop(journal);
        match Ledger::open(copy.path(), Keep::default(), now(0)) {
            Err(LedgerError::Broken { sequence, reason }) => {
                assert_eq!(sequence, forged as u64 + 1);
                assert!(reason.contains("hash of the one before"), "{reason}");
            }
            other => panic!("record {forged} was changed and nobody saw it: {:?}", other.map(|_| ())),
        }
    }
}

#[test]
fn what_the_state_machine_forbids_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    run(&mut ledger, "a", &[ActionState::Refused]);
    assert!(ledger.append(to("a", ActionState::Running), now(1)).is_err());
    assert!(ledger.append(to("nobody", ActionState::Running), now(1)).is_err());
    let head = ledger.head();
    drop(ledger);
    assert_eq!(open(dir.path()).head(), head);
}

#[test]
fn compaction_keeps_what_is_known_and_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    run(&mut ledger, "live", &DONE);
    for n in 0..4000 {
        run(&mut ledger, &format!("n{n}"), &[ActionState::Refused]);
    }
    let keep = Keep { never: 100, ..Keep::default() };
    let before = ledger.bytes();
    drop(ledger);
    let (mut ledger, _) = Ledger::open(dir.path(), keep, now(0)).unwrap();
    assert_eq!(ledger.len(), 101, "the oldest that never were in effect are forgotten");
    assert!(ledger.bytes() < before / 10, "{} of {before}", ledger.bytes());
    for n in 0..2500 {
        let id = format!("m{n}");
        ledger.append(begin(&id), now(1)).unwrap();
        ledger.append(to(&id, ActionState::Refused), now(1)).unwrap();
    }
    let before = ledger.bytes();
    ledger.tidy(now(1)).unwrap();
    assert!(ledger.bytes() < before / 5, "it compacts while it is open too: {} of {before}", ledger.bytes());
    let (live, head) = (ledger.get("live").cloned(), ledger.head());
    drop(ledger);
    let (ledger, _) = Ledger::open(dir.path(), keep, now(1)).unwrap();
    assert_eq!((ledger.get("live").cloned(), ledger.head(), ledger.len()), (live, head, 101));
    drop(ledger);
    let (ledger, _) = Ledger::open(dir.path(), Keep { seconds: 10, ..keep }, now(100_000)).unwrap();
    assert_eq!(ledger.len(), 1, "what ended long ago is forgotten, what is live is not");
}

#[test]
fn a_crash_during_compaction_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    run(&mut ledger, "live", &DONE);
    for n in 0..2200 {
        run(&mut ledger, &format!("n{n}"), &[ActionState::Refused]);
    }
    drop(ledger);
    let keep = Keep { never: 3, ..Keep::default() };
    let old = segments(dir.path()).pop().unwrap();
    let saved = std::fs::read(&old).unwrap();
    drop(Ledger::open(dir.path(), keep, now(0)).unwrap());
    let new = segments(dir.path()).pop().unwrap();
    let carried = std::fs::read(&new).unwrap();
    assert!(!old.exists() && new != old);
    for length in 28..=carried.len() {
        if length % 97 != 0 && length != carried.len() {
            continue;
        }
        let copy = tempfile::tempdir().unwrap();
        std::fs::write(copy.path().join(old.file_name().unwrap()), &saved).unwrap();
        std::fs::write(copy.path().join(new.file_name().unwrap()), &carried[..length]).unwrap();
        let (ledger, _) = Ledger::open(copy.path(), keep, now(0)).unwrap();
        assert_eq!(ledger.get("live").map(|action| action.state), Some(ActionState::Done));
        assert_eq!(ledger.len(), 4);
    }
}
