//! What all ways in share: messages go to the way's worker, its events to the ingest task, and who sent them is answered once
//! they are durable.

use std::collections::BTreeMap;
use std::sync::Arc;

use sakimori_model::{Event, field};
use sakimori_runtime::{Restart, Supervisor, Task};
use sakimori_wire::batch::Loss;
use tokio::sync::Semaphore;

use super::parser::Parser;
use super::settings::{Sns, Sqs, Syslog, Ways, Webhook};
use super::sns::Certificates;
use super::webhook::Replays;
use super::worker::Message;
use super::{IngestError, sqs, syslog};
use crate::shared::Shared;

/// Most events of one batch: a message may hold many.
const MAX_EVENTS: usize = 10_000;
/// Requests of one way at a time; each waits for the one worker.
const SEATS: usize = 16;

/// One way in.
#[derive(Clone)]
pub struct Way {
    /// Its name.
    pub name: String,
    /// Whose events these are.
    pub tenant: String,
    /// Its worker.
    pub parser: Parser,
    /// Requests that are worked on at a time.
    pub seats: Arc<Semaphore>,
}

/// How a way is told apart.
#[derive(Clone)]
pub enum Kind {
    /// Posted, signed.
    Webhook(Webhook),
    /// Posted by SNS.
    Sns(Sns),
    /// Read from a queue.
    Sqs(Sqs),
    /// Sent by syslog.
    Syslog(Syslog),
}

/// What became of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Events that were taken.
    pub events: u64,
    /// Events that were here before.
    pub repeated: u64,
}

/// The ways of a manager, by name.
#[derive(Clone, Default)]
pub struct Open {
    ways: BTreeMap<String, (Way, Kind)>,
    /// Signed requests that were believed.
    pub replays: Arc<Replays>,
    /// Certificates that sign messages of SNS.
    pub certificates: Arc<Certificates>,
}

impl Open {
    /// As the configuration names them.
    pub fn new(ways: &Ways) -> Self {
        let mut open = BTreeMap::new();
        let mut add = |name: &str, tenant: &str, sources: &[String], kind: Kind| {
            let (parser, seats) = (Parser::new(name, sources), Arc::new(Semaphore::new(SEATS)));
            let way = Way { name: name.to_owned(), tenant: tenant.to_owned(), parser, seats };
            open.insert(name.to_owned(), (way, kind));
        };
        for way in &ways.webhook {
            add(&way.name, &way.tenant, &way.sources, Kind::Webhook(way.clone()));
        }
        for way in &ways.sns {
            add(&way.name, &way.tenant, &way.sources, Kind::Sns(way.clone()));
        }
        for way in &ways.sqs {
            add(&way.name, &way.tenant, &way.sources, Kind::Sqs(way.clone()));
        }
        for way in &ways.syslog {
            add(&way.name, &way.tenant, &way.sources, Kind::Syslog(way.clone()));
        }
        Self { ways: open, ..Self::default() }
    }

    /// The way of this name.
    pub fn find(&self, name: &str) -> Option<&(Way, Kind)> {
        self.ways.get(name)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &(Way, Kind)> {
        self.ways.values()
    }
}

impl Way {
    /// Takes messages; returns once what is new of them is durable.
    ///
    /// # Errors
    /// Not now: whoever sent them sends them again.
    pub async fn take(
        &self,
        shared: &Arc<Shared>,
        messages: Vec<Message>,
        losses: Vec<Loss>,
    ) -> Result<Delivered, IngestError> {
        let events = self.parser.events(shared, messages).await.map_err(IngestError::NotReady)?;
        self.arrive(shared, events, losses).await
    }

    /// As [`Self::take`], of a live source: nobody sends such a message twice, so none is remembered.
    ///
    /// # Errors
    /// Not now.
    pub async fn take_live(
        &self,
        shared: &Arc<Shared>,
        messages: Vec<Message>,
        losses: Vec<Loss>,
    ) -> Result<Delivered, IngestError> {
        let mut events = self.parser.events(shared, messages).await.map_err(IngestError::NotReady)?;
        for event in &mut events {
            event.remove(field::SAKIMORI_OCCURRENCE);
        }
        self.arrive(shared, events, losses).await
    }

    async fn arrive(
        &self,
        shared: &Arc<Shared>,
        mut events: Vec<Event>,
        losses: Vec<Loss>,
    ) -> Result<Delivered, IngestError> {
        let mut delivered = Delivered::default();
        let mut losses = Some(losses).filter(|losses| !losses.is_empty());
        while !events.is_empty() || losses.is_some() {
            let rest = events.split_off(portion_of(&events));
            let portion = std::mem::replace(&mut events, rest);
            let count = portion.len() as u64;
            let accepted =
                shared.ingest.arrive(&self.tenant, &self.name, portion, losses.take().unwrap_or_default()).await?;
            delivered.events += accepted.events;
            delivered.repeated += count.saturating_sub(accepted.events);
        }
        Ok(delivered)
    }
}

/// How many of these events make one portion: so many that they fit into a record of the journal with room to spare.
fn portion_of(events: &[Event]) -> usize {
    let size = |event: &Event| {
        let long = [field::EVENT_ORIGINAL, field::MESSAGE].map(|id| event.str(id).map_or(0, str::len));
        2_048 + 2 * long.iter().sum::<usize>()
    };
    let mut bytes = 0;
    let fits = events.iter().take(MAX_EVENTS).take_while(|event| {
        bytes += size(event);
        bytes <= MAX_PORTION
    });
    // One alone goes whatever it is; the journal refuses it where it is too long.
    fits.count().max(1).min(events.len())
}

/// Most bytes of one portion, about.
const MAX_PORTION: usize = 16 << 20;

/// Starts what reads: queues and listeners. Webhooks and topics come by the API.
pub fn start(supervisor: &mut Supervisor, shared: &Arc<Shared>) {
    for (way, kind) in shared.ways.all() {
        let (way, handles) = (way.clone(), Arc::clone(shared));
        match kind.clone() {
            Kind::Sqs(settings) => supervisor.start(Task { name: "ingest-sqs", restart: Restart::USUAL }, move |_| {
                sqs::run(Arc::clone(&handles), way.clone(), settings.clone())
            }),
            Kind::Syslog(settings) => {
                supervisor.start(Task { name: "ingest-syslog", restart: Restart::USUAL }, move |_| {
                    syslog::run(Arc::clone(&handles), way.clone(), settings.clone())
                });
            }
            Kind::Webhook(_) | Kind::Sns(_) => {}
        }
    }
}
