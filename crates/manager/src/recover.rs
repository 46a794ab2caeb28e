//! What a start does about what a stop or a crash left: settle open claims, replay the journal.
//!
//! 1. The table is asked for the last flush of this writer (D2). Claims up to it are settled, later ones are
//!    given up: their batches are in the journal still.
//! 2. Streams are what control state says, or further where the journal has more.
//! 3. Records after the last committed flush go into the lake's memory again; records after detection's
//!    checkpoint are folded again. Both find what they did before, and do nothing twice.

use std::collections::HashSet;
use std::sync::Arc;

use sakimori_journal::{Journal, Options};
use sakimori_store::control::{Control, Scope, agents, flushes, occurrences};
use sakimori_store::lake::Lake;
use sakimori_wire::batch;
use tracing::{info, warn};

use crate::WRITER;
use crate::backup::since::Gaps;
use crate::config::Config;
use crate::fold::{self, CHECKPOINT, Fold};
use crate::ingest::occurrences::{ORIGIN, Occurrences};
use crate::ingest::{Ingest, Record, Streams, Ways};
use crate::shared::Shared;

/// A start that replayed more records than this has them written to the table at once. Else a manager that is ended
/// again and again before its next flush would find more to replay each time, until it did nothing else.
const MANY: u64 = 64;
/// Most occurrences of all ways that a start reads; each way keeps [`crate::ingest::occurrences::MOST`] in memory.
const MOST_OCCURRENCES: i64 = 1_000_000;
/// Bytes of the journal that are read at a time.
const PORTION: usize = 8 << 20;

/// What was found.
pub struct Recovered {
    /// The journal.
    pub journal: Arc<Journal>,
    /// How far each stream has come.
    pub streams: Streams,
    arrival: u64,
    /// Last record that the table has.
    committed: u64,
    checkpoint: Option<flushes::Checkpoint>,
    told: HashSet<String>,
    gaps: Gaps,
    /// What came by ways in.
    pub occurrences: Occurrences,
}

/// Opens the journal, settles claims, and finds where everything stands.
///
/// # Errors
/// A journal that is damaged in its middle, or control state that cannot be read.
pub async fn open(config: &Config, control: &Control, lake: &Lake) -> anyhow::Result<Recovered> {
    let options = Options { max_bytes: config.lake.journal_bytes, compress: false, ..Options::default() };
    let (journal, recovery) = Journal::open(config.state_dir.join("journal"), options)?;
    if recovery.torn_bytes > 0 {
        warn!(
            bytes = recovery.torn_bytes,
            "the journal's last write was torn by a crash and is cut; nothing in it was acknowledged"
        );
    }
    let in_table = lake.committed_flush().await?.cast_signed();
    let mut change = control.begin().await?;
    flushes::settle(change.connection(), WRITER, in_table).await?;
    flushes::give_up(change.connection(), WRITER, in_table).await?;
    change.commit().await?;
    let last = flushes::last_committed(control.read(), WRITER).await?;
    let checkpoint = flushes::checkpoint(control.read(), CHECKPOINT).await?;
    let mut recovered = Recovered {
        journal: Arc::new(journal),
        streams: Streams::new(),
        arrival: last.map_or(0, |flush| flush.arrival.cast_unsigned()),
        committed: last.map_or(0, |flush| flush.position.cast_unsigned()),
        checkpoint,
        told: HashSet::new(),
        gaps: Gaps::default(),
        occurrences: Occurrences::restore(occurrences::newest(control.read(), MOST_OCCURRENCES).await?),
    };
    for row in flushes::streams(control.read()).await? {
        let key = (row.tenant, row.origin, row.stream);
        recovered.streams.insert(key, (row.sequence.cast_unsigned(), row.events.cast_unsigned()));
    }
    recovered.scan()?;
    let agents = agents::list(control.read(), &Scope::All, "", i64::MAX).await?;
    let agents = agents.into_iter().map(|agent| (agent.id, agent.enrolled));
    recovered.gaps = Gaps::open(&config.state_dir, &recovered.streams, agents)?;
    Ok(recovered)
}

impl Recovered {
    /// Reads all records once for streams, arrival numbers and own alerts.
    fn scan(&mut self) -> anyhow::Result<()> {
        let journal = Arc::clone(&self.journal);
        each(&journal, |_, record, batch| {
            let header = &batch.header;
            let events = batch.events.len() as u64;
            self.arrival = self.arrival.max(record.arrival + events);
            let key = (record.tenant.clone(), header.origin.clone(), header.stream.clone());
            let entry = self.streams.entry(key).or_default();
            if header.sequence > entry.0 {
                *entry = (header.sequence, entry.1 + events);
            }
            self.told.extend(fold::told_ids(&batch));
            if header.origin.starts_with(ORIGIN) {
                self.occurrences.note(&record.tenant, &header.origin, &batch.events, record.received);
            }
            Ok(())
        })
    }

    /// Folds again what is not covered, and gives the task that goes on from there.
    ///
    /// # Errors
    /// Control state or journal that cannot be read or written.
    pub async fn replay(self, shared: &Arc<Shared>, mut fold: Fold, ways: Ways) -> Result<Ingest, String> {
        let from = self.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.position.cast_unsigned());
        if let Some(checkpoint) = &self.checkpoint {
            fold.restore(checkpoint);
        }
        for id in self.told {
            fold.note_told(&id);
        }
        let mut position = self.committed.max(from);
        let mut own = Vec::new();
        let mut replayed = 0_u64;
        let mut next = self.journal.first();
        loop {
            let portion = self.journal.read(next, PORTION).map_err(|error| error.to_string())?;
            let Some((last, _)) = portion.last() else { break };
            next = last + 1;
            for (at, bytes) in portion {
                let (record, batch) = read(&bytes)?;
                if at > from {
                    own.extend(fold.batch(shared, at, &record, batch, at > self.committed).await?);
                } else if at > self.committed {
                    fold.store(shared, &record, batch).await;
                }
                position = position.max(at);
                replayed += 1;
            }
        }
        if replayed > 0 {
            info!(records = replayed, "journal replayed");
        }
        if replayed > MANY {
            shared.flush_now.notify_one();
        }
        let mut task = Ingest {
            shared: Arc::clone(shared),
            journal: self.journal,
            arrival: self.arrival,
            position,
            fold,
            ways,
            gaps: self.gaps,
            unclaimed: None,
            disk: Default::default(),
        };
        task.append_own(own).await?;
        Ok(task)
    }
}

fn each(
    journal: &Journal,
    mut with: impl FnMut(u64, Record, batch::Batch) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut next = journal.first();
    loop {
        let portion = journal.read(next, PORTION)?;
        let Some((last, _)) = portion.last() else { return Ok(()) };
        next = last + 1;
        for (at, bytes) in portion {
            let (record, batch) = read(&bytes).map_err(anyhow::Error::msg)?;
            with(at, record, batch)?;
        }
    }
}

fn read(bytes: &[u8]) -> Result<(Record, batch::Batch), String> {
    let record: Record = postcard::from_bytes(bytes).map_err(|error| format!("read a journal record: {error}"))?;
    let batch = batch::decode(&record.batch).map_err(|error| format!("read a journal record: {error}"))?;
    Ok((record, batch))
}
