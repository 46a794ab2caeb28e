//! The way in: batches are journalled, made durable together, acknowledged, and then folded.
//!
//! One task owns the order of things. It gathers what waits, appends each batch to the journal, syncs once for
//! all of them, and only then answers the senders. What is durable goes into the lake's memory, where it is
//! searchable at once, and through detection and playbooks ([`crate::fold`]). A flush is begun here too, so
//! that what it claims, the state of detection and the journal position are of one moment; the writing itself
//! is another task's ([`crate::jobs::flush`]).
//!
//! A batch is accepted once: its sequence must be the next of its stream. One that is here already is
//! acknowledged and not stored; one that leaves a gap is refused, and the sender goes back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sakimori_journal::Journal;
use sakimori_model::Timestamp;
use sakimori_store::control::{ControlError, flushes, occurrences as rows};
use sakimori_wire::batch::{self, Batch};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::backup::since::Gaps;
use crate::backup::{self, StandStill};
use crate::disk;
use crate::fold::Fold;
use crate::metrics::Metrics;
use crate::shared::Shared;

mod handle;
pub mod occurrences;
pub mod parser;
pub mod settings;
pub mod sns;
mod sqs;
pub mod syslog;
pub mod ways;
pub mod webhook;
pub mod worker;

pub use handle::{Incoming, IngestHandle, Streams};

/// Origin of the manager's own streams.
pub const MANAGER: &str = "manager";
/// Bytes that one sync covers at the most.
const GROUP_BYTES: usize = 32 << 20;

/// A journal record.
#[derive(Debug, Serialize, Deserialize)]
pub struct Record {
    /// Whose it is, from the authenticated sender.
    pub tenant: String,
    /// When it came.
    pub received: Timestamp,
    /// Arrival sequence of its first event.
    pub arrival: u64,
    /// The batch in its framing.
    #[serde(with = "bytes")]
    pub batch: Vec<u8>,
}

mod bytes {
    pub fn serialize<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }
    pub fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl serde::de::Visitor<'_> for Bytes {
            type Value = Vec<u8>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
        }
        deserializer.deserialize_byte_buf(Bytes)
    }
}

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IngestError {
    /// Damaged, too large, or of somebody else.
    #[error("batch refused: {0}")]
    Refused(String),
    /// Not the next of its stream.
    #[error("stream {stream} goes on at {expected}, not at {found}")]
    Gap {
        /// Which.
        stream: String,
        /// Where it goes on.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// The journal is full or failing; try again later.
    #[error("not ready: {0}")]
    NotReady(String),
}

/// A batch that is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Events of it that were taken now.
    pub events: u64,
    /// Its stream.
    pub stream: String,
    /// Its sequence.
    pub sequence: u64,
}

/// What comes to the task.
pub struct Ways {
    /// Batches from senders.
    pub batches: mpsc::Receiver<Incoming>,
    /// Backups that take their moment.
    pub asked: mpsc::Receiver<StandStill>,
}

/// The task.
pub struct Ingest {
    /// Handles.
    pub shared: Arc<Shared>,
    /// The journal.
    pub journal: Arc<Journal>,
    /// Next arrival sequence.
    pub arrival: u64,
    /// Last journal record that is folded.
    pub position: u64,
    /// Detection and playbooks.
    pub fold: Fold,
    /// What comes to the task.
    pub ways: Ways,
    /// Gaps that a restore left.
    pub gaps: Gaps,
    /// Sealed, and not claimed yet.
    pub unclaimed: Option<Claim>,
    /// Room for what comes.
    pub disk: disk::Watch,
}

impl Ingest {
    /// Runs until the stop is told and what waited is done.
    ///
    /// # Errors
    /// A journal that fails: nothing may be acknowledged any more.
    pub async fn run(&mut self) -> Result<(), String> {
        let shared = Arc::clone(&self.shared);
        let mut rules = shared.rules.subscribe();
        let mut tick = tokio::time::interval(Duration::from_millis(500));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                incoming = self.ways.batches.recv() => match incoming {
                    Some(first) => self.take(first).await?,
                    None => return Ok(()),
                },
                _ = tick.tick() => {
                    if shared.lake.due(shared.clock.now()) {
                        self.begin_flush().await;
                    }
                }
                Some(ask) = self.ways.asked.recv() => {
                    backup::stand_still(&shared.control, &self.journal, ask).await;
                }
                () = shared.flush_now.notified() => self.begin_flush().await,
                changed = rules.changed() => if changed.is_ok() { self.swap_rules() },
                () = shared.stop.wait() => {
                    while let Ok(first) = self.ways.batches.try_recv() {
                        self.take(first).await?;
                    }
                    self.begin_flush().await;
                    return Ok(());
                }
            }
        }
    }

    /// Takes a batch and all that wait behind it, with one sync.
    async fn take(&mut self, first: Incoming) -> Result<(), String> {
        let mut group = vec![first];
        let mut size = group.iter().map(|one| one.bytes.len()).sum::<usize>();
        while size < GROUP_BYTES
            && let Ok(next) = self.ways.batches.try_recv()
        {
            size += next.bytes.len();
            group.push(next);
        }
        let mut answers = Vec::with_capacity(group.len());
        let mut taken = Vec::with_capacity(group.len());
        for mut incoming in group {
            match self.append(&mut incoming) {
                Ok(None) => {
                    Metrics::add(&self.shared.metrics.batches_repeated, 1);
                    let accepted = Accepted { events: 0, ..accepted(&incoming.batch) };
                    answers.push((incoming.reply, Ok(accepted)));
                }
                Ok(Some((position, record))) => {
                    let accepted = accepted(&incoming.batch);
                    answers.push((incoming.reply, Ok(accepted)));
                    taken.push((position, record, incoming.batch));
                }
                Err(error) => {
                    Metrics::add(&self.shared.metrics.batches_refused, 1);
                    answers.push((incoming.reply, Err(error)));
                }
            }
        }
        self.sync().await?;
        for (reply, answer) in answers {
            // A sender that has gone away asks again.
            let _ = reply.send(answer);
        }
        for (position, record, batch) in taken {
            self.fold(position, record, batch).await?;
        }
        Ok(())
    }

    /// Appends where it is the next of its stream; `None` where it is here already.
    fn append(&mut self, incoming: &mut Incoming) -> Result<Option<(u64, Record)>, IngestError> {
        if incoming.by_way {
            return self.append_new(incoming);
        }
        let handle = self.shared.ingest.clone();
        let header = &incoming.batch.header;
        let (last, counted) = handle.stream(&incoming.tenant, &header.origin, &header.stream);
        if header.sequence <= last {
            return Ok(None);
        }
        // The manager's own events are few, and tell of what is wrong; its streams are numbered by the outbox, which
        // may leave numbers out.
        if header.origin != MANAGER {
            let now = self.shared.clock.now();
            let over = self.gaps.over(&incoming.tenant, header, (last, counted), now);
            if header.sequence != last + 1 && over.is_none() {
                let (stream, found) = (header.stream.clone(), header.sequence);
                return Err(IngestError::Gap { stream, expected: last + 1, found });
            }
            if let Some(reason) = self.disk.full(&self.shared) {
                return Err(IngestError::NotReady(reason.to_owned()));
            }
            if let Some(loss) = over {
                // In the batch itself, so that a replay tells it too.
                incoming.batch.header.losses.push(loss);
                incoming.bytes =
                    batch::encode(&incoming.batch).map_err(|error| IngestError::Refused(error.to_string()))?;
            }
        }
        self.journal(incoming).map(Some)
    }

    /// Appends what of it is new ([`occurrences`]), as the next of its stream; `None` where nothing is.
    fn append_new(&mut self, incoming: &mut Incoming) -> Result<Option<(u64, Record)>, IngestError> {
        let failed = |error: &dyn std::fmt::Display| IngestError::Refused(error.to_string());
        let (tenant, batch) = (&incoming.tenant, &mut incoming.batch);
        let origin = batch.header.origin.clone();
        let all = Arc::clone(&self.shared.ingest.occurrences);
        let mut all = all.lock().map_err(|error| failed(&error))?;
        all.sift(tenant, &origin, &mut batch.events);
        if batch.events.is_empty() && batch.header.losses.is_empty() {
            return Ok(None);
        }
        if let Some(reason) = self.disk.full(&self.shared) {
            return Err(IngestError::NotReady(reason.to_owned()));
        }
        let (last, counted) = self.shared.ingest.stream(tenant, &origin, &batch.header.stream);
        let header = &mut batch.header;
        (header.sequence, header.first_event) = (last + 1, counted);
        header.count = u32::try_from(batch.events.len()).unwrap_or(u32::MAX);
        header.id = sakimori_model::id::batch_id(&origin, &header.stream, header.sequence);
        incoming.bytes = batch::encode(batch).map_err(|error| failed(&error))?;
        let appended = self.journal(incoming)?;
        all.note(&incoming.tenant, &origin, &incoming.batch.events, self.shared.clock.now());
        Ok(Some(appended))
    }

    /// Appends it to the journal, and notes how far its stream has come.
    fn journal(&mut self, incoming: &Incoming) -> Result<(u64, Record), IngestError> {
        let header = &incoming.batch.header;
        let record = Record {
            tenant: incoming.tenant.clone(),
            received: self.shared.clock.now(),
            arrival: self.arrival,
            batch: incoming.bytes.clone(),
        };
        let encoded = postcard(&record)?;
        let position = self.journal.append(&encoded).map_err(|error| {
            if matches!(error, sakimori_journal::Error::Full { .. }) {
                self.shared.flush_now.notify_one();
            }
            IngestError::NotReady(error.to_string())
        })?;
        let events = incoming.batch.events.len() as u64;
        self.arrival += events;
        self.gaps.close(&incoming.tenant, header);
        self.shared.ingest.note(&incoming.tenant, &header.origin, &header.stream, header.sequence, events);
        Metrics::add(&self.shared.metrics.batches, 1);
        Metrics::add(&self.shared.metrics.events, events);
        Ok((position, record))
    }

    /// The bundle changed: the same windows under new rules.
    fn swap_rules(&mut self) {
        let release = self.shared.bundle.load_full();
        match sakimori_content::bundle::verify(
            &release.bytes,
            &self.shared.bundle_key,
            release.number.saturating_sub(1),
        ) {
            Ok(bundle) => self.fold.swap(&bundle.files, bundle.number),
            Err(problem) => {
                tracing::error!(error = %problem, "the bundle in force cannot be read; rules stay as they are")
            }
        }
    }

    async fn sync(&self) -> Result<(), String> {
        let journal = Arc::clone(&self.journal);
        let outcome = tokio::task::spawn_blocking(move || journal.sync()).await;
        outcome.map_err(|error| error.to_string())?.map_err(|error| {
            self.shared.ingest.ready.store(false, Ordering::Relaxed);
            format!("make the journal durable: {error}")
        })
    }

    /// Into the lake and through detection; what the manager's own rules find follows at once.
    async fn fold(&mut self, position: u64, record: Record, batch: Batch) -> Result<(), String> {
        let own = self.fold.batch(&self.shared, position, &record, batch, true).await?;
        self.position = position;
        self.append_own(own).await
    }

    /// Journals and folds what the manager's own rules found.
    pub async fn append_own(&mut self, mut own: crate::fold::OwnAlerts) -> Result<(), String> {
        while let Some((tenant, alerts)) = own.pop() {
            let (last, first_event) = self.shared.ingest.stream(&tenant, MANAGER, "detect");
            let batch = crate::fold::alert_batch(alerts, last + 1, first_event);
            let bytes = batch::encode(&batch).map_err(|error| error.to_string())?;
            let (reply, _) = oneshot::channel();
            let mut incoming = Incoming { tenant, bytes, batch, reply, by_way: false };
            if let Some((position, record)) = self.append(&mut incoming).map_err(|error| error.to_string())? {
                self.sync().await?;
                own.extend(self.fold.batch(&self.shared, position, &record, incoming.batch, true).await?);
                self.position = position;
            }
        }
        Ok(())
    }

    /// Seals what is in memory, claims it, and stores detection's state of the same moment. A claim that fails
    /// is made again with what was sealed then: unclaimed nothing is written.
    async fn begin_flush(&mut self) {
        if self.unclaimed.is_none() {
            // One flush at a time: what is sealed and not yet committed goes first.
            if !self.shared.lake.sealed().is_empty() {
                return;
            }
            match self.shared.lake.seal() {
                Ok(None) => return,
                Ok(Some(set)) => {
                    let flush = flushes::Flush {
                        number: set.number.cast_signed(),
                        position: self.position.cast_signed(),
                        arrival: self.arrival.cast_signed(),
                        committed: false,
                    };
                    let fresh = self.shared.ingest.occurrences.lock().map(|mut all| all.take_fresh());
                    self.unclaimed = Some(Claim {
                        flush,
                        batches: set.batches,
                        state: self.fold.snapshot(),
                        streams: self.shared.ingest.rows(),
                        occurrences: fresh.unwrap_or_default(),
                    });
                }
                Err(problem) => {
                    tracing::error!(error = %problem, "a flush could not be sealed; it is tried again");
                    return;
                }
            }
        }
        if let Some(claim) = &self.unclaimed {
            match self.claim(claim).await {
                Ok(()) => {
                    self.shared.flush_claimed.send_replace(claim.flush.number.cast_unsigned());
                    self.unclaimed = None;
                    // Alerts before the checkpoint are not found again by a replay.
                    self.fold.forget_told();
                }
                Err(problem) => tracing::error!(error = %problem, "a flush could not be claimed; it is tried again"),
            }
        }
    }

    async fn claim(&self, claim: &Claim) -> Result<(), ControlError> {
        let Claim { flush, batches, state, streams, occurrences } = claim;
        let mut change = self.shared.control.begin().await?;
        let connection = change.connection();
        let now = self.shared.clock.now();
        flushes::claim(connection, crate::WRITER, *flush, batches, now).await?;
        if !occurrences.is_empty() {
            rows::put(connection, occurrences).await?;
            rows::forget(connection, now.plus_secs(-occurrences::KEEP_SECONDS)).await?;
        }
        for row in streams {
            flushes::put_stream(connection, row).await?;
        }
        let checkpoint = flushes::Checkpoint {
            position: flush.position,
            engine: crate::fold::ENGINE.to_owned(),
            state: state.clone(),
        };
        flushes::put_checkpoint(connection, crate::fold::CHECKPOINT, &checkpoint).await?;
        change.commit().await
    }
}

/// A sealed flush with what is stored beside its claim.
pub struct Claim {
    flush: flushes::Flush,
    batches: Vec<String>,
    /// Detection's.
    state: Vec<u8>,
    streams: Vec<flushes::Stream>,
    occurrences: Vec<rows::Occurrence>,
}

fn accepted(batch: &Batch) -> Accepted {
    let events = batch.events.len() as u64;
    Accepted { events, stream: batch.header.stream.clone(), sequence: batch.header.sequence }
}

fn postcard(record: &Record) -> Result<Vec<u8>, IngestError> {
    postcard::to_stdvec(record).map_err(|error| IngestError::Refused(error.to_string()))
}
