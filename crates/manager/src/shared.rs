//! What the parts of a running manager share: handles, never rules.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock};

use arc_swap::ArcSwap;
use ed25519_dalek::{SigningKey, VerifyingKey};
use sakimori_model::Event;
use sakimori_respond::ports::AddressSet;
use sakimori_runtime::{Stop, clock::SharedClock};
use sakimori_store::control::Control;
use sakimori_store::lake::Lake;
use sakimori_wire::agent::Down;
use tokio::sync::{Notify, Semaphore, broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::accounts::Accounts;
use crate::backup::StandStill;
use crate::ca::Authority;
use crate::channels::Channels;
use crate::config::Config;
use crate::exceptions::Table as Exceptions;
use crate::flood::Floods;
use crate::ingest::IngestHandle;
use crate::ingest::ways::Open;
use crate::metrics::Metrics;
use crate::presence::Copies;
use crate::sealing::Sealing;
use crate::sign_in::providers::Providers;

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
    /// The keys that seal secrets.
    pub sealing: Arc<Sealing>,
    /// Events.
    pub lake: Lake,
    /// Its certificate authority.
    pub authority: Authority,
    /// The way in for batches.
    pub ingest: IngestHandle,
    /// The ways in for what others send.
    pub ways: Open,
    /// Where syslog is listened for, by the name of its way, once it is.
    pub syslog_addresses: Mutex<HashMap<String, SocketAddr>>,
    /// Agents that are connected now.
    pub links: Links,
    /// Of which agents a copy on another machine was told.
    pub copies: Copies,
    /// Rules in force.
    pub bundle: ArcSwap<Release>,
    /// Held while they are exchanged: what comes at the same time is judged by what is there then.
    pub exchange: Mutex<()>,
    /// Key that verifies bundles.
    pub bundle_key: VerifyingKey,
    /// Key that signs bundles, and once the order key.
    pub bundle_signer: SigningKey,
    /// Key that seals what hosts are told.
    pub order_key: SigningKey,
    /// The WAF's sets, where an account is configured.
    pub waf: Option<Arc<dyn AddressSet>>,
    /// Cloud accounts, and what carries actions out in each.
    pub accounts: Accounts,
    /// Where messages go.
    pub channels: Channels,
    /// Providers of single sign-on.
    pub providers: Providers,
    /// Which alerts are expected.
    pub exceptions: Exceptions,
    /// New events, for those who watch.
    pub live: broadcast::Sender<Arc<LiveEvent>>,
    /// What floods of alerts may write.
    pub floods: Mutex<Floods>,
    /// Wakes the reconcilers of actions.
    pub actions_changed: Notify,
    /// Wakes what drives executions of playbooks.
    pub executions_changed: Notify,
    /// Wakes the sender of what lies in the outbox.
    pub outbox_changed: Notify,
    /// Wakes what makes messages.
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
    /// Its number of arrival.
    pub arrival: u64,
    /// The event, with its computed fields.
    pub event: Event,
}

/// Agents that are connected: of each its tenant, and a way down.
#[derive(Debug, Default)]
pub struct Links(Mutex<HashMap<String, (String, Vec<Stream>)>>);

/// One stream of an agent: its number, the way down, and the boot id of its machine once that is known.
#[derive(Debug)]
struct Stream(u64, mpsc::Sender<Command>, String);

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
    /// All automatic answers stop or go on: send it where it is newer.
    Halt,
    /// Somebody signed in or out.
    Operators,
    /// A provisional action of this agent's is to stay: its id, and who says so.
    Confirm(String, String),
    /// Close: the agent is revoked.
    Close,
}

impl Links {
    /// Adds a stream of a tenant's agent; `id` tells streams of one agent apart.
    pub fn add(&self, (tenant, agent): (&str, &str), id: u64, sender: mpsc::Sender<Command>) {
        if let Ok(mut links) = self.0.lock() {
            let (_, streams) = links.entry(agent.to_owned()).or_insert_with(|| (tenant.to_owned(), Vec::new()));
            streams.push(Stream(id, sender, String::new()));
        }
    }

    /// Takes a stream out.
    pub fn remove(&self, agent: &str, id: u64) {
        if let Ok(mut links) = self.0.lock()
            && let Some((_, streams)) = links.get_mut(agent)
        {
            streams.retain(|stream| stream.0 != id);
            if streams.is_empty() {
                links.remove(agent);
            }
        }
    }

    /// Notes on which machine the stream's agent runs. False where another machine is connected as this agent.
    pub fn is_alone(&self, agent: &str, id: u64, boot: &str) -> bool {
        let Ok(mut links) = self.0.lock() else { return true };
        let Some((_, streams)) = links.get_mut(agent).filter(|_| !boot.is_empty()) else { return true };
        if streams.iter().any(|one| one.0 != id && !one.2.is_empty() && one.2 != boot) {
            return false;
        }
        streams.iter_mut().filter(|one| one.0 == id).for_each(|one| boot.clone_into(&mut one.2));
        true
    }

    /// Is the agent connected?
    pub fn connected(&self, agent: &str) -> bool {
        self.0.lock().is_ok_and(|links| links.contains_key(agent))
    }

    /// How many agents are connected.
    pub fn count(&self) -> usize {
        self.0.lock().map_or(0, |links| links.len())
    }

    /// How many of a tenant's are.
    pub fn count_of(&self, tenant: &str) -> usize {
        self.0.lock().map_or(0, |links| links.values().filter(|(of, _)| of == tenant).count())
    }

    /// Tells one agent; false where it is not connected or its queue is full.
    pub fn tell(&self, agent: &str, command: &Command) -> bool {
        self.0.lock().is_ok_and(|links| {
            links
                .get(agent)
                .is_some_and(|(_, streams)| streams.iter().any(|stream| stream.1.try_send(command.clone()).is_ok()))
        })
    }

    /// Tells all agents.
    pub fn tell_all(&self, command: &Command) {
        if let Ok(links) = self.0.lock() {
            for stream in links.values().flat_map(|(_, streams)| streams) {
                let _ = stream.1.try_send(command.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_identity_is_one_machine_at_a_time() {
        let links = Links::default();
        let add = |id| links.add(("default", "agent"), id, mpsc::channel(1).0);
        add(1);
        assert!(links.is_alone("agent", 1, "boot-a"));
        add(2);
        assert!(links.is_alone("agent", 2, "boot-a"), "the same machine connects again");
        add(3);
        assert!(!links.is_alone("agent", 3, "boot-b"), "another machine by the same identity");
        assert!(links.is_alone("agent", 3, ""), "an older agent does not say");
        links.add(("acme", "other"), 4, mpsc::channel(1).0);
        assert_eq!(["default", "acme", "x"].map(|tenant| links.count_of(tenant)), [1, 1, 0], "not by streams");
        links.remove("agent", 1);
        links.remove("agent", 2);
        assert!(links.is_alone("agent", 3, "boot-b"), "the former one is gone");
    }
}
