//! The uplink as the supervisor sees it: which batches are on their way to the manager, and what comes down.
//!
//! Batches go in the order of the spool's records, only durable ones, and no more at a time than a window. A
//! receipt makes room. After a new connection the manager says what it has, and all from there on goes again.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use prost::Message as _;
use sakimori_journal::Reader;
use sakimori_sys::cgroup::Group;
use sakimori_wire::batch;
use sakimori_wire::ipc::ToUplink::Versions;
use sakimori_wire::ipc::{Farewell, FromUplink, ToUplink, UplinkStart};

use super::worker::{self, Backoff, Kind, Process};
use super::{Message, Supervisor};
use crate::config::Config;
use crate::enroll::Enrolled;
use crate::halt::Halted;
use crate::host_facts::HostFacts;
use crate::modules::CATALOG;
use crate::spool::Spool;

/// Most batches on their way.
const WINDOW: usize = 128;
/// How long a goodbye may take, longer than the worker gives it.
const GOODBYE: Duration = Duration::from_secs(4);
/// Most bytes on their way.
const WINDOW_BYTES: usize = 8 << 20;

/// The uplink worker and its window.
pub struct Link {
    /// Control group of the worker.
    group: Option<Group>,
    start: UplinkStart,
    identity: PathBuf,
    to: SyncSender<Message>,
    process: Option<Process>,
    generation: u64,
    backoff: Backoff,
    connected: bool,
    /// What the manager called the newest policy and bundle when it was last connected to, or sent since.
    newest: Option<(u64, u64)>,
    reader: Reader,
    /// Next record of the spool to send.
    next: u64,
    flying: VecDeque<(String, u64, usize)>,
    flying_bytes: usize,
    /// What the next hello says, a [`ToUplink::Versions`].
    versions: Option<ToUplink>,
}

impl Link {
    /// Nothing is started yet.
    pub fn new(
        config: &Config,
        enrolled: &Enrolled,
        facts: &HostFacts,
        spool: &Spool,
        group: Option<Group>,
        to: SyncSender<Message>,
    ) -> Self {
        let start = UplinkStart {
            address: enrolled.manager(config).to_owned(),
            proxy: config.agent.proxy.clone(),
            agent: enrolled.agent_id.clone(),
            host: facts.to_proto().encode_to_vec(),
            modules: CATALOG.iter().map(|module| (module.id.to_owned(), module.config_schema)).collect(),
            engines: vec![("detect".into(), env!("CARGO_PKG_VERSION").into())],
        };
        Self {
            group,
            start,
            identity: config.identity(),
            to,
            process: None,
            generation: 0,
            backoff: Backoff::default(),
            connected: false,
            newest: None,
            reader: spool.reader(),
            next: 0,
            flying: VecDeque::new(),
            flying_bytes: 0,
            versions: None,
        }
    }

    /// Starts the worker; where that fails it is tried again later.
    ///
    /// # Errors
    /// Never for now; kept for the loop's sake.
    pub fn start(&mut self) -> Result<()> {
        self.backoff.clear();
        if let Err(error) = self.try_start() {
            tracing::error!(error = format!("{error:#}"), "cannot start the uplink");
            self.backoff.ended(false);
        }
        Ok(())
    }

    fn try_start(&mut self) -> Result<()> {
        use rustix::fs::{Mode, OFlags};
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let folder = rustix::fs::open(&self.identity, flags, Mode::empty())
            .with_context(|| format!("cannot open {}; enrol this host again", self.identity.display()))?;
        self.generation += 1;
        let (generation, to) = (self.generation, self.to.clone());
        let process = worker::spawn(Kind::Uplink, self.group.clone())?.run(move |message: Option<FromUplink>| {
            let message = match message {
                Some(message) => Message::Uplink(generation, message),
                None => Message::UplinkGone(generation),
            };
            to.send(message).is_ok()
        })?;
        process.send(&ToUplink::Start(Box::new(self.start.clone())), vec![folder]);
        // The worker waits for it.
        let versions = self.versions.clone().context("nothing is known yet that a hello says")?;
        process.send(&versions, Vec::new());
        self.process = Some(process);
        Ok(())
    }

    /// The worker ended: how, unless that was wanted.
    pub fn gone(&mut self, generation: u64, stopping: bool) -> Option<String> {
        if generation != self.generation {
            return None;
        }
        let (reason, healthy) = self.process.take()?.end();
        self.disconnected();
        if stopping {
            return None;
        }
        self.backoff.ended(healthy);
        Some(reason)
    }

    /// Is the stream up?
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// Numbers of the newest policy and bundle that the manager has for this agent, as far as it said so.
    pub fn newest(&self) -> Option<(u64, u64)> {
        self.newest
    }

    /// When the worker is started again.
    pub fn restart_due(&self) -> Option<Instant> {
        self.backoff.due()
    }

    /// What the next hello says, a [`ToUplink::Versions`].
    fn versions(&mut self, versions: ToUplink) {
        if self.versions.as_ref() != Some(&versions) {
            self.send(&versions);
            self.versions = Some(versions);
        }
    }

    /// State for the manager.
    pub fn status(&self, json: Vec<u8>) {
        self.send(&ToUplink::Status(json));
    }

    /// Says goodbye, and gives that its time.
    pub fn stop(&mut self, farewell: Farewell) {
        self.send(&ToUplink::Stop(farewell));
        if let Some(process) = self.process.take() {
            process.end_within(if self.connected { GOODBYE } else { Duration::ZERO });
        }
    }

    /// To the worker.
    pub fn send(&self, message: &ToUplink) {
        if let Some(process) = &self.process {
            process.send(message, Vec::new());
        }
    }

    fn connected(&mut self, first: u64) {
        self.connected = true;
        self.next = first;
        self.flying.clear();
        self.flying_bytes = 0;
        self.send(&ToUplink::Resume);
    }

    fn disconnected(&mut self) {
        self.connected = false;
        self.flying.clear();
        self.flying_bytes = 0;
    }

    fn receipt(&mut self, stream: &str, sequence: u64) {
        self.flying.retain(|(name, number, _)| name != stream || *number > sequence);
        self.flying_bytes = self.flying.iter().map(|(_, _, bytes)| bytes).sum();
    }

    /// Sends what the window allows.
    ///
    /// # Errors
    /// Where the spool cannot be read.
    pub fn pump(&mut self, spool: &Spool) -> Result<()> {
        if !self.connected {
            return Ok(());
        }
        let end = spool.durable().min(spool.range().1);
        self.next = self.next.max(spool.range().0);
        while self.next < end && self.flying.len() < WINDOW && self.flying_bytes < WINDOW_BYTES {
            if !spool.must_send(self.next) {
                self.next += 1;
                continue;
            }
            for (number, bytes) in self.reader.read(self.next, 1 << 20)? {
                if number >= end || self.flying.len() >= WINDOW {
                    return Ok(());
                }
                self.next = number + 1;
                if !spool.must_send(number) {
                    continue;
                }
                let header = batch::peek(&bytes).context("a record of the spool is no batch")?;
                self.flying_bytes += bytes.len();
                self.flying.push_back((header.stream.clone(), header.sequence, bytes.len()));
                self.send(&ToUplink::Batch { stream: header.stream, sequence: header.sequence, bytes });
            }
        }
        Ok(())
    }
}

impl Supervisor {
    /// A message of the uplink worker.
    pub(super) fn on_uplink(&mut self, generation: u64, message: FromUplink) -> Result<()> {
        let Some(link) = self.link.as_mut().filter(|link| link.generation == generation) else { return Ok(()) };
        match message {
            FromUplink::Connected { peer, received, newest } => {
                link.newest = newest;
                let mut ahead = false;
                for (stream, sequence) in received {
                    ahead |= self.spool.received(&stream, sequence)?;
                }
                if ahead {
                    // This disk was set back to an earlier state: go on after what the manager has.
                    tracing::warn!("the manager has batches that this spool never held; their numbers are passed over");
                    self.logs.kill();
                }
                link.connected(self.spool.range().0);
                if !peer.is_unspecified() {
                    let events = self.actions.set_manager(peer, self.now())?;
                    self.spool_actions(events)?;
                }
                self.tell_versions();
                self.report()
            }
            FromUplink::Resolved(addresses) => {
                // An isolated host lets only known addresses pass.
                for address in addresses.into_iter().take(super::actions::MOST_MANAGERS) {
                    let events = self.actions.set_manager(address, self.now())?;
                    self.spool_actions(events)?;
                }
                Ok(())
            }
            FromUplink::Disconnected { reason } => {
                tracing::debug!(reason, "no connection to the manager");
                link.disconnected();
                Ok(())
            }
            FromUplink::Receipt { stream, sequence } => {
                // No more than was ever sent: a receipt is not a way to make the spool forget.
                let sequence = sequence.min(self.spool.stream(&stream).sequence);
                link.receipt(&stream, sequence);
                self.spool.received(&stream, sequence)?;
                Ok(())
            }
            FromUplink::Policy { number, json, signature } => {
                if let Some((policy, _)) = &mut link.newest {
                    *policy = number.max(*policy);
                }
                self.take_sealed_policy(number, &json, signature)
            }
            FromUplink::Bundle(bytes) => self.take_bundle(bytes),
            FromUplink::Order(order) => self.take_order(*order),
            FromUplink::Undo { action, by, signatures } => self.take_undo(action, &by, &signatures),
            FromUplink::OrderKey { key, signatures } => self.take_order_key(&key, &signatures),
            FromUplink::Halt { number, halted, undo, by, reason, signatures } => {
                let mark = Halted { at: self.now(), by, reason, undo, manager: true };
                self.take_halt(number, halted, mark, &signatures)
            }
            FromUplink::Confirm { action, by, signatures } => self.take_confirm(&action, &by, &signatures),
            FromUplink::Operators { addresses, signatures } => self.take_operators(addresses, &signatures),
            FromUplink::Heads { audit, ledger } => self.take_heads(audit, ledger),
        }
    }

    /// What the next hello says.
    pub(super) fn tell_versions(&mut self) {
        let versions = Versions {
            policy: self.policy.number,
            bundle: self.bundles.number(),
            ledger: self.actions.head(),
            order_key: self.power.order_key_id(),
            halt: self.power.halt_number,
            audit: self.heads.known(),
        };
        if let Some(link) = &mut self.link {
            link.versions(versions);
        }
    }
}
