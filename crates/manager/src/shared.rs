//! What the parts of a running manager share: handles, never rules.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock};

use arc_swap::ArcSwap;
use ed25519_dalek::VerifyingKey;
use sakimori_model::Event;
use sakimori_respond::ports::{AddressSet, Messenger};
use sakimori_runtime::{Stop, clock::SharedClock};
use sakimori_store::control::Control;
use sakimori_store::lake::Lake;
use sakimori_wire::agent::Down;
use tokio::sync::{Notify, Semaphore, broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::backup::StandStill;
use crate::ca::Authority;
use crate::config::Config;
use crate::ingest::IngestHandle;
use crate::metrics::Metrics;

/// Handles of a running manager.
pub struct Shared {
    /// Its configuration.
    pub config: Config,
    /// Its clock.
    pub clock: SharedClock,
    /// Told when it is to stop.
    pub stop: Stop,
    /// Control state.
    pub control: Control,
    /// Events.
    pub lake: Lake,
    /// Its certificate authority.
    pub authority: Authority,
    /// The way in for batches.
    pub ingest: IngestHandle,
    /// Agents that are connected now.
    pub links: Links,
    /// Rules in force.
    pub bundle: ArcSwap<Release>,
    /// Key that verifies bundles.
    pub bundle_key: VerifyingKey,
    /// The WAF's sets, where an account is configured.
    pub waf: Option<Arc<dyn AddressSet>>,
    /// Sends messages.
    pub messenger: Arc<dyn Messenger>,
    /// New events, for those who watch.
    pub live: broadcast::Sender<Arc<LiveEvent>>,
    /// Wakes the reconcilers of actions.
    pub actions_changed: Notify,
    /// Wakes the sender of what lies in the outbox.
    pub outbox_changed: Notify,
    /// Wakes the sender of messages.
    pub message_waiting: Notify,
    /// Told when the ingest task has ended, after its last flush was claimed.
    pub ingest_done: CancellationToken,
    /// Asks the ingest task to stand still while a backup takes its moment.
    pub stand_still: mpsc::Sender<StandStill>,
    /// The journal's first record that a backup needs; `u64::MAX` where none is under way.
    pub journal_kept: Arc<AtomicU64>,
    /// One backup at a time.
    pub backups: Arc<Semaphore>,
    /// Begins a flush before its time.
    pub flush_now: Notify,
    /// Number of the last flush that is claimed and may be written.
    pub flush_claimed: watch::Sender<u64>,
    /// Work for the ingest task: new rules.
    pub rules: watch::Sender<u64>,
    /// Figures.
    pub metrics: Metrics,
    /// Where the API listens, once it does.
    pub api_address: OnceLock<SocketAddr>,
    /// Where agents connect, once it listens.
    pub link_address: OnceLock<SocketAddr>,
}

/// A bundle as it is handed to agents.
#[derive(Debug)]
pub struct Release {
    /// Its number.
    pub number: u64,
    /// Signed bytes.
    pub bytes: Arc<Vec<u8>>,
}

/// A new event, as a search would show it.
#[derive(Debug)]
pub struct LiveEvent {
    /// Whose it is.
    pub tenant: String,
    /// The event, with its computed fields.
    pub event: Event,
}

/// Agents that are connected: a way down to each.
#[derive(Debug, Default)]
pub struct Links(Mutex<HashMap<String, Vec<(u64, mpsc::Sender<Command>)>>>);

/// What a stream to an agent is told.
#[derive(Clone, Debug)]
pub enum Command {
    /// Send this.
    Send(Down),
    /// The policy may have changed: send the effective one where its number is newer.
    Policy,
    /// The bundle changed: send it where it is newer.
    Bundle,
    /// Something waits in `agent_orders`.
    Orders,
    /// Close: the agent is revoked.
    Close,
}

impl Links {
    /// Adds a stream of an agent; `id` tells streams of one agent apart.
    pub fn add(&self, agent: &str, id: u64, sender: mpsc::Sender<Command>) {
        if let Ok(mut links) = self.0.lock() {
            links.entry(agent.to_owned()).or_default().push((id, sender));
        }
    }

    /// Takes a stream out.
    pub fn remove(&self, agent: &str, id: u64) {
        if let Ok(mut links) = self.0.lock()
            && let Some(streams) = links.get_mut(agent)
        {
            streams.retain(|stream| stream.0 != id);
            if streams.is_empty() {
                links.remove(agent);
            }
        }
    }

    /// Is the agent connected?
    pub fn connected(&self, agent: &str) -> bool {
        self.0.lock().is_ok_and(|links| links.contains_key(agent))
    }

    /// How many agents are connected.
    pub fn count(&self) -> usize {
        self.0.lock().map_or(0, |links| links.len())
    }

    /// Tells one agent; false where it is not connected or its queue is full.
    pub fn tell(&self, agent: &str, command: &Command) -> bool {
        self.0.lock().is_ok_and(|links| {
            links
                .get(agent)
                .is_some_and(|streams| streams.iter().any(|stream| stream.1.try_send(command.clone()).is_ok()))
        })
    }

    /// Tells all agents.
    pub fn tell_all(&self, command: &Command) {
        if let Ok(links) = self.0.lock() {
            for (_, sender) in links.values().flatten() {
                let _ = sender.try_send(command.clone());
            }
        }
    }
}
