//! The spool: every batch of every stream, on disk, until the manager has it and a detection snapshot
//! covers it.
//!
//! One journal (`crates/journal`, D4) holds the batches in the order in which they were made, which is the
//! order in which detection saw them. A record is a batch as `wire::batch` frames it; where a batch asks for
//! host actions, a record of orders stands right before it, so that a crash between spool and ledger loses
//! none. Beside the journal lies `streams.json`: for each stream its last sequence, next event and position,
//! written whenever records are trimmed away, so that a stream outlives its records.
//!
//! A batch and the position of its source are one record: a crash at any moment finds both or neither, so no
//! line is lost or read twice.
//!
//! Overflow (D3): above its limit the spool takes no more batches of pausable sources (their reading stops;
//! the position is the spool). Streams of alerts about the agent and of action records have a reserve of an
//! eighth of the limit on top. Without a manager nobody fetches batches, so there the oldest records go
//! instead, counted as a loss in the next batch of their stream.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sakimori_journal::{Journal, Options, Reader};
use sakimori_model::{Event, Order, Timestamp, id};
use sakimori_wire::batch::{self, Batch, BatchHeader, Loss};
use serde::{Deserialize, Serialize};

use crate::files::write_atomically;

pub use replay::Replay;
use room::{RESERVE, make_reserve, no_room};

/// Record of orders: magic, then postcard of [`Orders`].
const ORDERS: &[u8; 4] = b"SKO1";
/// Most bytes that are read at a time when the spool is opened or replayed.
const CHUNK: usize = 4 << 20;
/// Orders older than this are not given to the ledger again.
const PENDING_SECONDS: i64 = 3_600;

/// What a stream needs to go on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// Last sequence that was spooled.
    pub sequence: u64,
    /// Number of the next event.
    pub next_event: u64,
    /// Last sequence that the manager has.
    pub received: u64,
    /// Last sequence that a durable detection snapshot covers.
    pub covered: u64,
    /// Position of the source after the last batch.
    pub position: Option<Vec<u8>>,
    /// What was shed and is not yet told in a batch.
    pub losses: Vec<Loss>,
    /// Events that were counted as lost, in all.
    #[serde(default)]
    pub lost: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    origin: String,
    streams: BTreeMap<String, Stream>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Orders {
    at: Timestamp,
    stream: String,
    sequence: u64,
    orders: Vec<Order>,
}

/// One record of the journal, in memory: which batch it is. `stream` indexes `names`; `u32::MAX` for orders.
#[derive(Clone, Copy, Debug)]
struct Entry {
    stream: u32,
    count: u32,
    sequence: u64,
}
const NO_STREAM: u32 = u32::MAX;

/// What is kept and how much.
#[derive(Clone, Debug)]
pub struct SpoolOptions {
    /// Folder of the spool.
    pub dir: PathBuf,
    /// The agent's id: origin of its batches.
    pub origin: String,
    /// Most bytes for batches of pausable sources.
    pub most_bytes: u64,
    /// Is there a manager that fetches batches?
    pub fetched: bool,
}

/// The open spool.
pub struct Spool {
    options: SpoolOptions,
    journal: Journal,
    streams: BTreeMap<String, Stream>,
    names: Vec<String>,
    /// Entries of the journal's records from `base` on, without gaps.
    entries: VecDeque<Entry>,
    base: u64,
    dirty: bool,
    /// The disk had no room at the last try.
    full: bool,
    /// The first record of orders that this version does not understand.
    strange: Option<u64>,
    /// Orders that were found on opening, for the ledger to compare.
    pending: Vec<(Timestamp, Order)>,
}

impl Spool {
    /// Opens the spool, or makes it. Records of another agent id (this host was enrolled anew) are dropped; the
    /// positions stay.
    ///
    /// # Errors
    /// Where the disk says no, or the journal is damaged in its middle.
    pub fn open(options: SpoolOptions) -> Result<Self> {
        std::fs::create_dir_all(&options.dir).with_context(|| format!("cannot make {}", options.dir.display()))?;
        let kept_path = options.dir.join("streams.json");
        let mut kept: Kept = match std::fs::read(&kept_path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .with_context(|| format!("cannot read {}; move it away to begin anew", kept_path.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Kept { origin: options.origin.clone(), streams: BTreeMap::new() }
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", kept_path.display())),
        };
        let journal_dir = options.dir.join("journal");
        let journal_options = Options {
            segment_bytes: (options.most_bytes / 32).clamp(64 << 10, 16 << 20),
            // The limits are ours; the journal's own is a last resort above them.
            max_bytes: options.most_bytes.saturating_mul(2).saturating_add(64 << 20),
            compress: false,
        };
        let (mut journal, mut recovery) = Journal::open(&journal_dir, journal_options)?;
        let mut spool = Self::over(options, journal, &mut kept)?;
        if kept.origin != spool.options.origin {
            let positions: BTreeMap<String, Stream> = spool
                .streams
                .iter()
                .map(|(name, stream)| (name.clone(), Stream { position: stream.position.clone(), ..Stream::default() }))
                .collect();
            let options = spool.options.clone();
            drop(spool);
            kept = Kept { origin: options.origin.clone(), streams: positions };
            // First the positions under the new name, then the old records: a crash between the two begins here again.
            std::fs::remove_dir_all(&journal_dir).context("cannot remove the spool of the former agent id")?;
            write_atomically(&kept_path, &serde_json::to_vec(&kept)?, 0o600)?;
            (journal, recovery) = Journal::open(&journal_dir, journal_options)?;
            spool = Self::over(options, journal, &mut kept)?;
        }
        if recovery.torn_bytes > 0 {
            tracing::info!(bytes = recovery.torn_bytes, "the end of the spool was torn and is cut off");
        }
        if spool.keep_if_there_is_room()? {
            spool.full |= make_reserve(&spool.options.dir).is_err_and(|error| no_room(&error));
        }
        Ok(spool)
    }

    fn over(options: SpoolOptions, journal: Journal, kept: &mut Kept) -> Result<Self> {
        let base = journal.first();
        let mut spool = Self {
            options,
            journal,
            streams: std::mem::take(&mut kept.streams),
            names: Vec::new(),
            entries: VecDeque::new(),
            base,
            dirty: false,
            full: false,
            strange: None,
            pending: Vec::new(),
        };
        let mut next = base;
        let mut orders: Option<Orders> = None;
        while next < spool.journal.next() {
            let records = spool.journal.read(next, CHUNK)?;
            if records.is_empty() {
                break;
            }
            for (number, record) in records {
                if number != next {
                    bail!("spool record {next} is missing");
                }
                next = number + 1;
                if let Some(body) = record.strip_prefix(ORDERS) {
                    // Their alerts lie in the batch, so no host is left without an agent for them.
                    orders = postcard::from_bytes(body).map_err(|_| spool.strange.get_or_insert(number)).ok();
                    spool.entries.push_back(Entry { stream: NO_STREAM, count: 0, sequence: 0 });
                    continue;
                }
                let header = batch::peek(&record).with_context(|| {
                    format!("spool record {number} is neither a batch nor orders; a later version may have written it")
                })?;
                if let Some(orders) = orders.take()
                    && orders.stream == header.stream
                    && orders.sequence == header.sequence
                {
                    spool.pending.extend(orders.orders.into_iter().map(|order| (orders.at, order)));
                }
                spool.note(&header);
            }
        }
        Ok(spool)
    }

    /// Orders of batches that are still here and not older than an hour, for the ledger, which knows by their ids
    /// those that it took. (The ledger forgets what ended long ago, so older ones must not come again.)
    pub fn take_pending_orders(&mut self, now: Timestamp) -> Vec<Order> {
        let since = now.plus_secs(-PENDING_SECONDS);
        let pending = std::mem::take(&mut self.pending);
        pending.into_iter().filter(|(at, _)| *at > since).map(|(_, order)| order).collect()
    }

    /// What was found on opening and is not understood, once.
    pub fn take_strange(&mut self) -> Option<String> {
        let record = self.strange.take()?;
        Some(format!(
            "orders in spool record {record} are not of this version and are not carried out; their alerts stay"
        ))
    }

    /// State of a stream (a new one where it is unknown).
    pub fn stream(&self, name: &str) -> Stream {
        self.streams.get(name).cloned().unwrap_or_default()
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.journal.bytes()
    }

    /// Batches that the manager does not have.
    pub fn waiting(&self) -> u64 {
        self.entries.iter().filter(|entry| !self.is_received(entry)).count() as u64
    }

    /// May batches of pausable sources still come?
    pub fn has_room(&self) -> bool {
        !self.full && (!self.options.fetched || self.journal.bytes() < self.options.most_bytes)
    }

    /// Had the disk no room at the last try? Then nothing new is taken, and what is there is sent and let go.
    pub fn is_disk_full(&self) -> bool {
        self.full
    }

    /// Appends an encoded batch of a worker, with the orders that it asks for. Durable after [`Spool::sync`].
    ///
    /// # Errors
    /// Where its sequence is not the next of its stream, or the disk says no; nothing is appended then.
    pub fn append(&mut self, bytes: &[u8], orders: &[Order], now: Timestamp) -> Result<BatchHeader> {
        let header = batch::peek(bytes).context("a worker sent no batch")?;
        let stream = self.streams.entry(header.stream.clone()).or_default();
        if header.sequence != stream.sequence + 1 || header.first_event != stream.next_event {
            bail!(
                "stream {} is at sequence {} and event {}, and the batch says {} and {}",
                header.stream,
                stream.sequence,
                stream.next_event,
                header.sequence,
                header.first_event
            );
        }
        if !self.options.fetched {
            self.shed()?;
        }
        if !orders.is_empty() {
            let body =
                Orders { at: now, stream: header.stream.clone(), sequence: header.sequence, orders: orders.to_vec() };
            let record = postcard::to_extend(&body, ORDERS.to_vec()).context("cannot encode orders")?;
            self.append_record(&record)?;
            self.entries.push_back(Entry { stream: NO_STREAM, count: 0, sequence: 0 });
        }
        self.append_record(bytes)?;
        self.note(&header);
        if let Some(stream) = self.streams.get_mut(&header.stream) {
            // What was waiting to be told has been told, where the batch carries it; what its worker lost is new.
            for loss in &header.losses {
                match stream.losses.iter().position(|told| told == loss) {
                    Some(at) => {
                        stream.losses.remove(at);
                    }
                    None => stream.lost = stream.lost.saturating_add(loss.count),
                }
            }
        }
        self.dirty = true;
        Ok(header)
    }

    fn append_record(&mut self, record: &[u8]) -> Result<()> {
        let appended = self.journal.append(record).map_err(anyhow::Error::from);
        self.full |= appended.as_ref().is_err_and(no_room);
        appended.map(|_| ())
    }

    /// Makes a batch of the agent's own events and appends it. Refused only where even the reserve is used up.
    ///
    /// # Errors
    /// Where the reserve is used up or the disk says no.
    pub fn append_own(&mut self, name: &str, events: Vec<Event>, position: Option<Vec<u8>>) -> Result<()> {
        if self.options.fetched && self.journal.bytes() >= self.options.most_bytes + self.options.most_bytes / 8 {
            let count = events.len() as u64;
            self.lose(name, count, "spool_full", None);
            bail!("the spool and its reserve are full; {count} events of stream {name} are lost and counted");
        }
        let stream = self.stream(name);
        let header = BatchHeader {
            id: id::batch_id(&self.options.origin, name, stream.sequence + 1),
            origin: self.options.origin.clone(),
            stream: name.to_owned(),
            sequence: stream.sequence + 1,
            first_event: stream.next_event,
            count: u32::try_from(events.len()).unwrap_or(u32::MAX),
            bundle: 0,
            losses: stream.losses.clone(),
            position,
        };
        let count = events.len() as u64;
        let bytes = batch::encode(&Batch { header, events })?;
        let appended = self.append(&bytes, &[], Timestamp::default());
        if self.full && appended.is_err() {
            self.lose(name, count, "disk_full", None);
        }
        appended.map(|_| ())
    }

    /// Notes a loss, to be told in the next batch of the stream.
    pub fn lose(&mut self, name: &str, count: u64, cause: &str, at: Option<Timestamp>) {
        let now = at.unwrap_or_default();
        let stream = self.streams.entry(name.to_owned()).or_default();
        stream.lost = stream.lost.saturating_add(count);
        let same = |loss: &&mut Loss| loss.cause == cause;
        match stream.losses.iter_mut().find(same) {
            Some(loss) => {
                loss.count = loss.count.saturating_add(count);
                loss.to = loss.to.max(now);
            }
            None => stream.losses.push(Loss { count, cause: cause.into(), place: name.into(), from: now, to: now }),
        }
    }

    /// Makes all that was appended durable.
    ///
    /// # Errors
    /// Where the disk says no.
    pub fn sync(&mut self) -> Result<()> {
        if self.dirty {
            self.journal.sync()?;
            self.dirty = false;
        }
        Ok(())
    }

    /// As [`Spool::sync`]; false where the disk has no room: what was appended waits for some, and may be tried again.
    ///
    /// # Errors
    /// Where the disk fails otherwise.
    pub fn try_sync(&mut self) -> Result<bool> {
        match self.sync() {
            Ok(()) => Ok(true),
            Err(error) if no_room(&error) => {
                self.full = true;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Tries again where the disk had no room; to be called every second or so.
    ///
    /// # Errors
    /// Where the disk fails otherwise.
    pub fn look_for_room(&mut self) -> Result<()> {
        if self.full {
            match self.keep().and_then(|()| make_reserve(&self.options.dir)) {
                Ok(()) => self.full = false,
                Err(error) if no_room(&error) => self.trim()?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Is something appended that is not durable yet?
    pub fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// A reader for another thread.
    pub fn reader(&self) -> Reader {
        self.journal.reader()
    }

    /// First record that is still here, and the one after the last.
    pub fn range(&self) -> (u64, u64) {
        (self.base, self.base + self.entries.len() as u64)
    }

    /// All records below this one are durable; only they may leave the host.
    pub fn durable(&self) -> u64 {
        self.journal.durable()
    }

    /// Is this record a batch that the manager does not have?
    pub fn must_send(&self, record: u64) -> bool {
        record
            .checked_sub(self.base)
            .and_then(|at| self.entries.get(usize::try_from(at).ok()?))
            .is_some_and(|entry| entry.stream != NO_STREAM && !self.is_received(entry))
    }

    /// The manager has this stream up to this sequence. More than was ever spooled (this disk was set back)
    /// moves the stream on, so that no sequence is used twice: then true.
    ///
    /// # Errors
    /// Where the disk says no.
    pub fn received(&mut self, name: &str, sequence: u64) -> Result<bool> {
        let stream = self.streams.entry(name.to_owned()).or_default();
        let ahead = sequence > stream.sequence;
        if ahead {
            stream.sequence = sequence;
        }
        if sequence > stream.received {
            stream.received = sequence;
            self.trim()?;
        }
        Ok(ahead)
    }

    /// A detection snapshot that is durable covers these.
    ///
    /// # Errors
    /// Where the disk says no.
    pub fn covered(&mut self, covers: &[(String, u64)]) -> Result<()> {
        for (name, sequence) in covers {
            if let Some(stream) = self.streams.get_mut(name) {
                stream.covered = stream.covered.max(*sequence);
            }
        }
        self.trim()
    }

    /// Deletes what is received and covered, from the oldest on, in whole segments.
    fn trim(&mut self) -> Result<()> {
        if !self.options.fetched {
            return Ok(());
        }
        let before = self.base;
        while let Some(entry) = self.entries.front().copied() {
            if !self.is_received(&entry) || !self.is_covered(&entry) {
                break;
            }
            self.entries.pop_front();
            self.base += 1;
        }
        // Not for every receipt: `streams.json` is written first. Where room is short, at once.
        let many = self.base.saturating_sub(self.journal.first()) >= 64;
        let short = self.full || self.journal.bytes() > self.options.most_bytes / 2;
        if (self.base > before || self.full) && (many || short) {
            self.let_go()?;
        }
        Ok(())
    }

    /// Writes down what is let go, then lets go of it. On a full disk the reserve makes the room for that; where even
    /// that is not enough, it is tried again later.
    fn let_go(&mut self) -> Result<()> {
        if self.keep_if_there_is_room()? {
            self.journal.trim(self.base)?;
        }
        Ok(())
    }

    fn keep_if_there_is_room(&mut self) -> Result<bool> {
        let mut kept = self.keep();
        if kept.as_ref().is_err_and(no_room) {
            self.full = true;
            let _ = std::fs::remove_file(self.options.dir.join(RESERVE));
            kept = self.keep();
        }
        match kept {
            Err(error) if no_room(&error) => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// Without a manager: the oldest records go, so that the newest fit.
    fn shed(&mut self) -> Result<()> {
        if self.journal.bytes() < self.options.most_bytes {
            return Ok(());
        }
        let goal = self.entries.len() - self.entries.len() / 8;
        while self.entries.len() > goal.max(1) {
            let Some(entry) = self.entries.pop_front() else { break };
            self.base += 1;
            if let Some(name) = self.names.get(entry.stream as usize).cloned() {
                self.lose(&name, u64::from(entry.count), "shed_without_manager", None);
            }
        }
        self.let_go()
    }

    /// Writes `streams.json`.
    ///
    /// # Errors
    /// Where the disk says no.
    pub fn keep(&mut self) -> Result<()> {
        // A position must never be ahead of what is durable.
        self.sync()?;
        let kept = Kept { origin: self.options.origin.clone(), streams: self.streams.clone() };
        write_atomically(&self.options.dir.join("streams.json"), &serde_json::to_vec(&kept)?, 0o600)
    }

    fn note(&mut self, header: &BatchHeader) {
        let number = match self.names.iter().position(|name| *name == header.stream) {
            Some(number) => number,
            None => {
                self.names.push(header.stream.clone());
                self.names.len() - 1
            }
        };
        self.entries.push_back(Entry {
            stream: u32::try_from(number).unwrap_or(NO_STREAM),
            count: header.count,
            sequence: header.sequence,
        });
        let stream = self.streams.entry(header.stream.clone()).or_default();
        if header.sequence > stream.sequence {
            stream.sequence = header.sequence;
            stream.next_event = header.first_event + u64::from(header.count);
            if header.position.is_some() {
                stream.position.clone_from(&header.position);
            }
        }
    }

    fn is_received(&self, entry: &Entry) -> bool {
        self.of(entry).is_none_or(|stream| entry.sequence <= stream.received)
    }

    fn is_covered(&self, entry: &Entry) -> bool {
        match self.names.get(entry.stream as usize) {
            Some(name) if !is_own(name) => self.streams.get(name).is_none_or(|stream| entry.sequence <= stream.covered),
            _ => true,
        }
    }

    fn of(&self, entry: &Entry) -> Option<&Stream> {
        self.names.get(entry.stream as usize).and_then(|name| self.streams.get(name))
    }
}

/// Streams of which no rule of the host makes anything more: the supervisor's own, and those of network workers.
pub fn is_own(stream: &str) -> bool {
    stream == AGENT_STREAM || stream == ACTIONS_STREAM || stream.starts_with(NETWORK_STREAM)
}

/// The stream of alerts of a `network` worker, by the place of its queue.
pub fn network_stream(queue: usize) -> String {
    format!("{NETWORK_STREAM}{queue}")
}

/// Events about the agent itself.
pub const AGENT_STREAM: &str = "agent";
/// Alerts of network workers; what follows is the place of the queue.
const NETWORK_STREAM: &str = "network.";
/// Records of host actions.
pub const ACTIONS_STREAM: &str = "actions";

/// Folder of the spool in a state folder.
pub fn folder(state: &Path) -> PathBuf {
    state.join("spool")
}

mod replay;
mod room;
#[cfg(test)]
mod tests;
