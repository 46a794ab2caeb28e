//! How senders hand batches to the ingest task, and what they can ask of how far streams have come.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use sakimori_model::Event;
use sakimori_store::control::flushes;
use sakimori_wire::batch::{self, Batch, BatchHeader, Loss};
use tokio::sync::{mpsc, oneshot};

use super::occurrences::{ORIGIN, Occurrences, STREAM};
use super::{Accepted, IngestError, MANAGER};

/// Batches that wait for the task.
const QUEUE: usize = 256;

/// How far a stream has come: last sequence, events.
pub type Streams = HashMap<(String, String, String), (u64, u64)>;

/// A batch on its way in.
pub struct Incoming {
    pub(super) tenant: String,
    pub(super) bytes: Vec<u8>,
    pub(super) batch: Batch,
    pub(super) reply: oneshot::Sender<Result<Accepted, IngestError>>,
    /// Did it come by a way in? Then the task takes out what it has already, and numbers it.
    pub(super) by_way: bool,
}

/// The sender's end. Cheap to clone.
#[derive(Clone)]
pub struct IngestHandle {
    sender: mpsc::Sender<Incoming>,
    pub(super) streams: Arc<Mutex<Streams>>,
    pub(super) ready: Arc<AtomicBool>,
    /// What came by ways in.
    pub(super) occurrences: Arc<Mutex<Occurrences>>,
}

impl IngestHandle {
    /// A handle and what the task needs.
    pub fn new(streams: Streams, occurrences: Occurrences) -> (Self, mpsc::Receiver<Incoming>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let handle = Self {
            sender,
            streams: Arc::new(Mutex::new(streams)),
            ready: Arc::new(AtomicBool::new(true)),
            occurrences: Arc::new(Mutex::new(occurrences)),
        };
        (handle, receiver)
    }

    /// Hands in events that came by a way; returns once those that are new are durable, with how many they are.
    ///
    /// # Errors
    /// See [`IngestError`].
    pub async fn arrive(
        &self,
        tenant: &str,
        way: &str,
        events: Vec<Event>,
        losses: Vec<Loss>,
    ) -> Result<Accepted, IngestError> {
        let header = BatchHeader {
            origin: format!("{ORIGIN}{way}"),
            stream: STREAM.to_owned(),
            losses,
            ..BatchHeader::default()
        };
        let (reply, answer) = oneshot::channel();
        let batch = Batch { header, events };
        let incoming = Incoming { tenant: tenant.to_owned(), bytes: Vec::new(), batch, reply, by_way: true };
        let stopped = || IngestError::NotReady("the manager is stopping".into());
        self.sender.send(incoming).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// How many occurrences had to be forgotten before their time.
    pub fn forgotten(&self) -> u64 {
        self.occurrences.lock().map_or(0, |all| all.forgotten())
    }

    /// Hands a batch in; returns once it is durable, or was so before.
    ///
    /// # Errors
    /// See [`IngestError`].
    pub async fn submit(&self, tenant: &str, origin: &str, bytes: Vec<u8>) -> Result<Accepted, IngestError> {
        let (handed_in, _) = oneshot::channel();
        self.submit_after(tenant, origin, bytes, None, handed_in).await
    }

    /// As [`Self::submit`], but queued behind another hand-in of the same sender, whose order must be kept:
    /// waits for `before`, and tells `handed_in` once the batch is in the queue.
    ///
    /// # Errors
    /// See [`IngestError`].
    pub async fn submit_after(
        &self,
        tenant: &str,
        origin: &str,
        bytes: Vec<u8>,
        before: Option<oneshot::Receiver<()>>,
        handed_in: oneshot::Sender<()>,
    ) -> Result<Accepted, IngestError> {
        let batch = checked(origin, &bytes);
        if let Some(before) = before {
            // One that failed has said so to the stream, which ends then.
            let _ = before.await;
        }
        let (reply, answer) = oneshot::channel();
        let stopped = || IngestError::NotReady("the manager is stopping".into());
        let incoming = Incoming { tenant: tenant.to_owned(), bytes, batch: batch?, reply, by_way: false };
        self.sender.send(incoming).await.map_err(|_| stopped())?;
        let _ = handed_in.send(());
        answer.await.map_err(|_| stopped())?
    }

    /// Last durable sequence of each stream of an origin.
    pub fn received(&self, tenant: &str, origin: &str) -> Vec<(String, u64)> {
        self.streams.lock().map_or_else(
            |_| Vec::new(),
            |streams| {
                streams
                    .iter()
                    .filter(|((of, by, _), _)| of == tenant && by == origin)
                    .map(|((_, _, stream), (sequence, _))| (stream.clone(), *sequence))
                    .collect()
            },
        )
    }

    /// Last sequence and events of one stream.
    pub fn stream(&self, tenant: &str, origin: &str, stream: &str) -> (u64, u64) {
        let key = (tenant.to_owned(), origin.to_owned(), stream.to_owned());
        self.streams.lock().ok().and_then(|streams| streams.get(&key).copied()).unwrap_or_default()
    }

    /// All streams of a tenant: origin, stream, last sequence, events.
    pub fn streams(&self, tenant: &str) -> Vec<(String, String, u64, u64)> {
        self.streams.lock().map_or_else(
            |_| Vec::new(),
            |streams| {
                streams
                    .iter()
                    .filter(|((of, _, _), _)| of == tenant)
                    .map(|((_, origin, stream), (sequence, events))| {
                        (origin.clone(), stream.clone(), *sequence, *events)
                    })
                    .collect()
            },
        )
    }

    /// Can batches be taken?
    pub fn ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed) && !self.sender.is_closed()
    }

    pub(super) fn note(&self, tenant: &str, origin: &str, stream: &str, sequence: u64, events: u64) {
        if let Ok(mut streams) = self.streams.lock() {
            let entry = streams.entry((tenant.to_owned(), origin.to_owned(), stream.to_owned())).or_default();
            *entry = (sequence, entry.1 + events);
        }
    }

    pub(super) fn rows(&self) -> Vec<flushes::Stream> {
        self.streams.lock().map_or_else(
            |_| Vec::new(),
            |streams| {
                streams
                    .iter()
                    .map(|((tenant, origin, stream), (sequence, events))| flushes::Stream {
                        tenant: tenant.clone(),
                        origin: origin.clone(),
                        stream: stream.clone(),
                        sequence: sequence.cast_signed(),
                        events: events.cast_signed(),
                    })
                    .collect()
            },
        )
    }
}

/// Decodes a batch of this origin.
fn checked(origin: &str, bytes: &[u8]) -> Result<Batch, IngestError> {
    let batch = batch::decode(bytes).map_err(|error| IngestError::Refused(error.to_string()))?;
    if batch.header.origin != origin {
        return Err(IngestError::Refused(format!("its origin is {}, the sender is {origin}", batch.header.origin)));
    }
    let id = sakimori_model::id::batch_id(origin, &batch.header.stream, batch.header.sequence);
    if origin != MANAGER && batch.header.id != id {
        return Err(IngestError::Refused(format!("its id is {}, not {id}", batch.header.id)));
    }
    Ok(batch)
}
