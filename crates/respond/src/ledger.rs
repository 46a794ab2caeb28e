//! The ledger of a host's actions: hash-chained records in a journal, and the map that they add up to.
//!
//! A record is applied to the map as it is appended, so map and journal always say the same; [`Ledger::sync`]
//! makes any number of records durable with one fsync. Opening replays all records and checks the chain: each
//! record holds the hash of the one before, so none can be changed, left out or put in between without it
//! showing. Of the oldest record that is kept, the hash before is taken on trust (the manager has seen the heads).
//!
//! Where dead records outweigh the actions they led to, the ledger is compacted: in a new segment every kept
//! action begins again as it stands, chained to the records before, and then the older segments go. A crash in
//! between leaves both, which says the same twice.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use sakimori_journal::{Journal, Options, Recovery};
use sakimori_model::ledger::{Change, Hash, LedgerRecord, Step, chain};
use sakimori_model::{Action, ActionState, Timestamp};

use crate::wide;

/// Bytes of a segment.
const SEGMENT: u64 = 8 << 20;
/// Bytes read at once when replaying.
const CHUNK: usize = 1 << 20;
/// Dead records that are always tolerated.
const SLACK: u64 = 4096;

/// How long finished actions stay known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Seconds after its end.
    pub seconds: u64,
    /// Most that were in effect once (undone, expired).
    pub ended: usize,
    /// Most that never were (refused, without effect, failed): an enemy can cause these at no cost.
    pub never: usize,
}

impl Default for Keep {
    fn default() -> Self {
        Self { seconds: 30 * 86_400, ended: 200_000, never: 10_000 }
    }
}

/// Why the ledger cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The journal below.
    #[error("action ledger: {0}")]
    Journal(#[from] sakimori_journal::Error),
    /// A record that does not follow from the one before.
    #[error(
        "action ledger: record {sequence} {reason}; the ledger was changed or is damaged: compare it with the manager's copy, then move it away"
    )]
    Broken {
        /// The record.
        sequence: u64,
        /// What is wrong with it.
        reason: String,
    },
}

/// The open ledger.
#[derive(Debug)]
pub struct Ledger {
    journal: Journal,
    keep: Keep,
    /// Sequence and hash of the newest record.
    head: (u64, Hash),
    actions: HashMap<Arc<str>, Arc<Action>>,
    /// Finished actions by the moment of their end, those that were in effect and those that never were.
    ended: BTreeSet<(Timestamp, Arc<str>)>,
    never: BTreeSet<(Timestamp, Arc<str>)>,
}

impl Ledger {
    /// Opens or makes the ledger in a directory: replays it, checks the chain, and compacts it where that pays.
    pub fn open(dir: impl AsRef<Path>, keep: Keep, now: Timestamp) -> Result<(Self, Recovery), LedgerError> {
        // Records are small and are written while somebody waits: compressing them would cost more than it saves.
        let options = Options { segment_bytes: SEGMENT, max_bytes: u64::MAX, compress: false };
        let (journal, recovery) = Journal::open(dir, options)?;
        let mut ledger = Self {
            journal,
            keep,
            head: (0, [0; 32]),
            actions: HashMap::new(),
            ended: BTreeSet::new(),
            never: BTreeSet::new(),
        };
        ledger.replay()?;
        ledger.tidy(now)?;
        Ok((ledger, recovery))
    }

    /// Appends one step and applies it. Durable after the next [`Ledger::sync`]. A change that the state machine
    /// does not allow is [`LedgerError::Broken`] and is not written.
    pub fn append(&mut self, step: Step, now: Timestamp) -> Result<(), LedgerError> {
        let sequence = self.head.0 + 1;
        let record = LedgerRecord { sequence, time: now, previous: self.head.1, step };
        let broken = |reason: &str| LedgerError::Broken { sequence, reason: reason.to_owned() };
        if let Step::Change(change) = &record.step {
            let known = self.actions.get(change.action.as_str());
            if !known.is_some_and(|action| action.state.may_become(change.state)) {
                return Err(broken("is a change that its action does not allow"));
            }
        }
        let bytes = postcard::to_stdvec(&record).map_err(|error| broken(&format!("cannot be encoded: {error}")))?;
        self.journal.append(&bytes)?;
        self.head = (sequence, chain(&record.previous, &bytes));
        self.apply(record)
    }

    /// Makes all that was appended durable.
    pub fn sync(&self) -> Result<(), LedgerError> {
        Ok(self.journal.sync()?)
    }

    /// Appends a group of steps and makes them durable with one fsync.
    pub fn write(&mut self, steps: Vec<Step>, now: Timestamp) -> Result<(), LedgerError> {
        for step in steps {
            self.append(step, now)?;
        }
        self.sync()
    }

    /// An action by its id.
    pub fn get(&self, id: &str) -> Option<&Arc<Action>> {
        self.actions.get(id)
    }

    /// All actions that are known, in no order.
    pub fn actions(&self) -> impl Iterator<Item = &Arc<Action>> {
        self.actions.values()
    }

    /// Number of actions that are known.
    pub fn len(&self) -> usize {
        self.actions.len()
    }

    /// Is no action known?
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }

    /// Sequence and hash of the newest record, for others to remember.
    pub fn head(&self) -> (u64, Hash) {
        self.head
    }

    /// The head that the chain had at this record; `None` where the record is not there (any more).
    ///
    /// # Errors
    /// The disk, or a record that cannot be read.
    pub fn hash_at(&self, sequence: u64) -> Result<Option<Hash>, LedgerError> {
        if sequence == self.head.0 {
            return Ok(Some(self.head.1));
        }
        if sequence < self.journal.first() || sequence > self.head.0 {
            return Ok(None);
        }
        let records = self.journal.read(sequence, 1)?;
        let Some((_, bytes)) = records.first().filter(|(at, _)| *at == sequence) else { return Ok(None) };
        let broken = |reason: String| LedgerError::Broken { sequence, reason };
        let record = decode(bytes).map_err(|error| broken(format!("cannot be decoded: {error}")))?;
        Ok(Some(chain(&record.previous, bytes)))
    }

    /// Reads the whole ledger from the disk again and holds its chain against what was written and against heads that
    /// others remember. Returns how many records it has.
    ///
    /// # Errors
    /// The first record that is altered, missing or put in between, or that is not the one that others saw.
    pub fn verify(&self, known: &[(u64, Hash)]) -> Result<u64, LedgerError> {
        let mut from = self.journal.first();
        let first = from;
        let mut previous = None;
        let mut head = (first - 1, [0; 32]);
        let broken = |sequence: u64, reason: &str| LedgerError::Broken { sequence, reason: reason.to_owned() };
        loop {
            let records = self.journal.read(from, CHUNK)?;
            let Some((last, _)) = records.last() else { break };
            from = last + 1;
            for (sequence, bytes) in records {
                let record =
                    decode(&bytes).map_err(|error| broken(sequence, &format!("cannot be decoded: {error}")))?;
                let expected = previous.unwrap_or(if sequence == 1 { [0; 32] } else { record.previous });
                if record.sequence != sequence || record.previous != expected {
                    return Err(broken(sequence, "does not hold the hash of the one before"));
                }
                head = (sequence, chain(&record.previous, &bytes));
                previous = Some(head.1);
                if known.iter().any(|(at, hash)| *at == sequence && *hash != head.1) {
                    return Err(broken(sequence, "is not the one that the manager saw"));
                }
            }
        }
        if let Some((at, _)) = known.iter().find(|(at, _)| *at > head.0) {
            return Err(broken(*at, "is missing: the manager saw it"));
        }
        if head != self.head && self.head.0 >= first {
            return Err(broken(head.0 + 1, "is missing or altered: it was written"));
        }
        Ok(head.0 + 1 - first)
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.journal.bytes()
    }

    /// Forgets finished actions beyond what is kept, and compacts where dead records outweigh the actions.
    pub fn tidy(&mut self, now: Timestamp) -> Result<(), LedgerError> {
        let before = now.plus_secs(-i64::try_from(self.keep.seconds).unwrap_or(i64::MAX));
        let ended = forget(&mut self.ended, self.keep.ended, before);
        let never = forget(&mut self.never, self.keep.never, before);
        for id in ended.into_iter().chain(never) {
            self.actions.remove(&id);
        }
        let records = self.journal.next() - self.journal.first();
        let alive = self.actions.len() as u64;
        if records > 2 * alive + SLACK { self.compact(now) } else { Ok(()) }
    }

    /// Begins every kept action again in a new segment, then deletes the older ones.
    fn compact(&mut self, now: Timestamp) -> Result<(), LedgerError> {
        self.journal.roll()?;
        let first = self.journal.next();
        let mut actions: Vec<Arc<Action>> = self.actions.values().cloned().collect();
        actions.sort_by(|a, b| (a.planned_at, &a.order.id).cmp(&(b.planned_at, &b.order.id)));
        for action in actions {
            self.append(Step::Begin(Box::new(Arc::unwrap_or_clone(action))), now)?;
        }
        self.sync()?;
        Ok(self.journal.trim(first)?)
    }

    fn replay(&mut self) -> Result<(), LedgerError> {
        let mut from = self.journal.first();
        self.head.0 = from - 1;
        let mut anchored = from == 1;
        loop {
            let records = self.journal.read(from, CHUNK)?;
            let Some((last, _)) = records.last() else { return Ok(()) };
            from = last + 1;
            for (sequence, bytes) in records {
                let broken = |reason: String| LedgerError::Broken { sequence, reason };
                let record = decode(&bytes).map_err(|error| broken(format!("cannot be decoded: {error}")))?;
                if record.sequence != sequence {
                    return Err(broken(format!("says that it is record {}", record.sequence)));
                }
                if !std::mem::replace(&mut anchored, true) {
                    self.head.1 = record.previous;
                }
                if record.previous != self.head.1 {
                    return Err(broken("does not hold the hash of the one before".to_owned()));
                }
                self.head = (sequence, chain(&record.previous, &bytes));
                self.apply(record)?;
            }
        }
    }

    fn apply(&mut self, record: LedgerRecord) -> Result<(), LedgerError> {
        let LedgerRecord { sequence, time, step, .. } = record;
        let broken = |reason: &str| LedgerError::Broken { sequence, reason: reason.to_owned() };
        let (id, action) = match step {
            Step::Begin(action) => {
                let id: Arc<str> = Arc::from(action.order.id.as_str());
                let action: Arc<Action> = Arc::from(action);
                self.actions.insert(Arc::clone(&id), Arc::clone(&action));
                (id, action)
            }
            Step::Change(change) => {
                let Some((id, _)) = self.actions.get_key_value(change.action.as_str()) else {
                    return Err(broken("changes an action that is not known"));
                };
                let id = Arc::clone(id);
                let action = self.actions.get_mut(&id).expect("its key was just found");
                if !Arc::make_mut(action).apply(&change, time) {
                    return Err(broken("is a change that its action does not allow"));
                }
                (id, Arc::clone(action))
            }
        };
        // What is done and cannot be taken back, a scan, ended when it was done.
        let end = action.ended_at.or(action.done_at);
        if let (true, Some(end)) = (wide::is_finished(&action), end) {
            let was_in_effect = matches!(action.state, ActionState::Undone | ActionState::Expired | ActionState::Done);
            if was_in_effect {
                self.ended.insert((end, id))
            } else {
                self.never.insert((end, id))
            };
        }
        Ok(())
    }
}

/// A record as it lies on disk. Its last field was not there in earlier releases: their records end one byte before.
fn decode(bytes: &[u8]) -> Result<LedgerRecord, postcard::Error> {
    postcard::from_bytes(bytes).or_else(|error| match error {
        postcard::Error::DeserializeUnexpectedEnd => postcard::from_bytes(&[bytes, &[0]].concat()),
        other => Err(other),
    })
}

/// A change as a step.
pub(crate) fn step(change: Change) -> Step {
    Step::Change(change)
}

/// Takes the oldest out: those that ended before a moment, and those beyond a number.
fn forget(known: &mut BTreeSet<(Timestamp, Arc<str>)>, most: usize, before: Timestamp) -> Vec<Arc<str>> {
    let mut gone = Vec::new();
    while let Some((end, _)) = known.first() {
        if known.len() <= most && *end >= before {
            break;
        }
        gone.extend(known.pop_first().map(|(_, id)| id));
    }
    gone
}
