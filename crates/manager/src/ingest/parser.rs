//! A way's worker as the manager sees it: asked on a thread that may wait, started again where it died.
//!
//! A message that ends its worker, or that it does not answer in time, is asked about once more alone; does it end that one
//! too, it becomes a dead letter with the reason, made here without a look into it. So one message costs one message.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sakimori_detect::arrival;
use sakimori_detect::sns::Envelope;
use sakimori_model::{Event, Timestamp, field};
use sakimori_sys::channel::Waited;
use sakimori_sys::memory;
use sakimori_sys::worker::{Identity, Worker, WorkerSpec, spawn};
use sakimori_wire::batch;

use super::worker::{Ask, Message, Say, UID};
use crate::shared::Shared;

/// How long a worker may take to start.
const START: Duration = Duration::from_secs(60);
/// How long it may take to compile its log sources.
const LOAD: Duration = Duration::from_secs(120);
/// How long it may take for some messages.
const ANSWER: Duration = Duration::from_secs(20);
/// Most bytes that are asked about at once.
pub const MAX_ASKED: usize = 4 << 20;

/// How a worker of this program is started: `sakimori worker ingest`.
pub fn spec() -> WorkerSpec {
    WorkerSpec { network: false, ..WorkerSpec::own("ingest", &["worker", "ingest"], UID, UID) }
}

/// The worker of one way.
#[derive(Clone)]
pub struct Parser {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    way: String,
    sources: Vec<String>,
    worker: Option<Worker>,
    /// The bundle whose log sources it has.
    bundle: u64,
}

impl Parser {
    /// Of a way and the log sources that it names. Nothing is started yet.
    pub fn new(way: &str, sources: &[String]) -> Self {
        let inner = Inner { way: way.to_owned(), sources: sources.to_vec(), worker: None, bundle: 0 };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// The events of these messages.
    ///
    /// # Errors
    /// No worker can be started: ask again later.
    pub async fn events(&self, shared: &Arc<Shared>, messages: Vec<Message>) -> Result<Vec<Event>, String> {
        let received = shared.clock.now();
        self.with(shared, move |inner, shared| inner.events(shared, received, messages)).await
    }

    /// What an envelope of SNS says.
    ///
    /// # Errors
    /// It is none, or no worker can be started.
    pub async fn envelope(&self, shared: &Arc<Shared>, body: Vec<u8>) -> Result<Result<Envelope, String>, String> {
        self.with(shared, move |inner, shared| match inner.ask(shared, &Ask::Envelope(body)) {
            Ok(Say::Envelope(answer)) => Ok(answer),
            Ok(_) => Err("the worker answered something else".into()),
            Err(Failed::Died(reason)) => Ok(Err(reason)),
            Err(Failed::None(reason)) => Err(reason),
        })
        .await
    }

    async fn with<T: Send + 'static>(
        &self,
        shared: &Arc<Shared>,
        work: impl FnOnce(&mut Inner, &Shared) -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        let (inner, shared) = (Arc::clone(&self.inner), Arc::clone(shared));
        let asked = tokio::task::spawn_blocking(move || {
            work(&mut inner.lock().unwrap_or_else(PoisonError::into_inner), &shared)
        });
        asked.await.map_err(|error| error.to_string())?
    }
}

/// Why there is no answer.
enum Failed {
    /// There is no worker.
    None(String),
    /// There was one, and it is gone.
    Died(String),
}

impl Inner {
    fn events(&mut self, shared: &Shared, received: Timestamp, messages: Vec<Message>) -> Result<Vec<Event>, String> {
        let mut events = Vec::new();
        let mut together: Vec<Message> = Vec::new();
        let mut size = 0;
        for message in messages {
            if size + message.body.len() > MAX_ASKED && !together.is_empty() {
                self.some(shared, received, std::mem::take(&mut together), &mut events)?;
                size = 0;
            }
            size += message.body.len();
            together.push(message);
        }
        if !together.is_empty() {
            self.some(shared, received, together, &mut events)?;
        }
        for event in &mut events {
            event.set(field::SAKIMORI_WAY, self.way.clone());
        }
        Ok(events)
    }

    /// Messages that are asked about together; one by one where that fails.
    fn some(
        &mut self,
        shared: &Shared,
        received: Timestamp,
        messages: Vec<Message>,
        out: &mut Vec<Event>,
    ) -> Result<(), String> {
        let reason = match self.open(shared, received, &messages) {
            Ok(events) => {
                out.extend(events);
                return Ok(());
            }
            Err(Failed::None(reason)) => return Err(reason),
            Err(Failed::Died(reason)) => reason,
        };
        tracing::warn!(way = self.way, reason, messages = messages.len(), "messages could not be read together");
        if let [one] = messages.as_slice() {
            out.push(dead(one, &reason, received));
            return Ok(());
        }
        for one in messages {
            match self.open(shared, received, std::slice::from_ref(&one)) {
                Ok(events) => out.extend(events),
                Err(Failed::None(reason)) => return Err(reason),
                Err(Failed::Died(reason)) => out.push(dead(&one, &reason, received)),
            }
        }
        Ok(())
    }

    fn open(&mut self, shared: &Shared, received: Timestamp, messages: &[Message]) -> Result<Vec<Event>, Failed> {
        let ask = Ask::Open { received, messages: messages.to_vec() };
        match self.ask(shared, &ask)? {
            Say::Made(bytes) => {
                let batch = batch::decode(&bytes).map_err(|error| Failed::Died(error.to_string()))?;
                Ok(batch.events)
            }
            Say::Refused(reason) => Err(Failed::Died(reason)),
            _ => Err(Failed::Died("the worker answered something else".into())),
        }
    }

    fn ask(&mut self, shared: &Shared, ask: &Ask) -> Result<Say, Failed> {
        let worker = self.ready(shared).map_err(Failed::None)?;
        let answer = exchange(worker, ask, &[], ANSWER);
        answer.map_err(|reason| {
            // Dropping it kills it.
            self.worker = None;
            Failed::Died(format!("the worker that read it ended: {reason}"))
        })
    }

    /// A worker with the log sources of the bundle in force.
    fn ready(&mut self, shared: &Shared) -> Result<&Worker, String> {
        let release = shared.bundle.load_full();
        if self.worker.is_none() || self.bundle != release.number {
            let files = sakimori_content::bundle::verify(&release.bytes, &shared.bundle_key, 0)
                .map_err(|error| format!("the bundle in force cannot be read: {error}"))?
                .files;
            let logs: std::collections::BTreeMap<_, _> =
                files.into_iter().filter(|(path, _)| path.starts_with("logs/") && !path.contains("/cases/")).collect();
            let worker = match self.worker.take() {
                Some(worker) => worker,
                None => start(&self.way)?,
            };
            let bytes = postcard::to_stdvec(&logs).map_err(|error| error.to_string())?;
            let memory = memory::sealed("log sources", &bytes).map_err(|error| error.to_string())?;
            let ask = Ask::Load(self.sources.clone());
            match exchange(&worker, &ask, &[memory.as_fd()], LOAD)? {
                Say::Loaded(count, errors) => {
                    for error in &errors {
                        tracing::warn!(way = self.way, "a log source was left out: {error}");
                    }
                    tracing::info!(way = self.way, count, bundle = release.number, "log sources of a way in");
                }
                _ => return Err("the worker answered something else".into()),
            }
            self.bundle = release.number;
            self.worker = Some(worker);
        }
        self.worker.as_ref().ok_or_else(|| "there is no worker".to_owned())
    }
}

fn start(way: &str) -> Result<Worker, String> {
    let worker = spawn(&spec()).map_err(|error| error.to_string())?;
    match receive(&worker, START)? {
        Say::Ready(landlock) => {
            let shared = matches!(worker.identity, Identity::Shared { .. });
            tracing::info!(way, landlock, own_user = !shared, "the worker of a way in is ready");
        }
        _ => return Err("the worker answered something else".into()),
    }
    Ok(worker)
}

fn exchange(
    worker: &Worker,
    ask: &Ask,
    descriptors: &[std::os::fd::BorrowedFd<'_>],
    limit: Duration,
) -> Result<Say, String> {
    let bytes = postcard::to_stdvec(ask).map_err(|error| error.to_string())?;
    worker.channel.send(&bytes, descriptors).map_err(|error| error.to_string())?;
    receive(worker, limit)
}

fn receive(worker: &Worker, limit: Duration) -> Result<Say, String> {
    match worker.channel.recv_timeout(limit).map_err(|error| error.to_string())? {
        Waited::Frame((body, _)) => postcard::from_bytes(&body).map_err(|error| error.to_string()),
        Waited::Closed => Err("it closed its channel".into()),
        Waited::TimedOut => Err(format!("it said nothing for {} s", limit.as_secs())),
    }
}

/// The event of a message that nobody could read.
fn dead(message: &Message, reason: &str, received: Timestamp) -> Event {
    let name = match message.id.is_empty() {
        true => arrival::key([b"body".as_slice(), &message.body]),
        false => arrival::key([b"poison".as_slice(), message.id.as_bytes()]),
    };
    let mut event = arrival::dead_letter(reason, &message.body, &name, received);
    put(&mut event, message.sender);
    event
}

fn put(event: &mut Event, sender: Option<IpAddr>) {
    if let Some(sender) = sender {
        event.set(field::OBSERVER_IP, sender);
    }
}
