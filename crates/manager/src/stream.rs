//! One stream of one agent: batches, states and replies up; receipts, policy, bundles and orders down.
//!
//! Batches are handed in one after the other and their receipts follow in order, while the next ones are read
//! already. What a stream is told comes by [`Command`]; the first `Close` ends it.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use sakimori_respond::guard::MOST_OPERATORS;
use sakimori_respond::seal::Act;
use sakimori_store::control::agents::{self, Agent};
use sakimori_store::control::halts::{self, Halt};
use sakimori_store::control::{ControlError, Scope, audit, sessions};
use sakimori_wire::PROTOCOL;
use sakimori_wire::agent as proto;
use sakimori_wire::agent::down::Message as Down;
use sakimori_wire::agent::up::Message as Up;
use sakimori_wire::machine::Machine;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::{Status, Streaming};
use tracing::{debug, info, warn};

use crate::ingest::{Accepted, IngestError};
use crate::presence::{self, Presence};
use crate::shared::{Command, Shared};
use crate::{heads, seals};

/// Batches that are handed in and not yet durable.
const IN_FLIGHT: usize = 16;
/// Most operators that an agent names.
const MOST_SIGNERS: usize = 256;
/// Largest status that is kept.
const MAX_STATUS: usize = 256 * 1024;

type Sender = mpsc::Sender<Result<proto::Down, Status>>;

/// Who is at the other end.
pub struct Peer {
    /// The agent.
    pub agent: Agent,
    /// Tells streams of one agent apart.
    pub stream: u64,
}

/// Serves a stream on a task of its own, which ends with the stream.
#[expect(clippy::disallowed_methods, reason = "a stream's task ends with its connection, which tonic owns")]
pub fn serve_stream(
    shared: Arc<Shared>,
    peer: Peer,
    incoming: Streaming<proto::Up>,
    down: Sender,
    told: mpsc::Receiver<Command>,
) {
    tokio::spawn(async move {
        let (agent, id) = (peer.agent.id.clone(), peer.stream);
        let outcome = Stream {
            shared: Arc::clone(&shared),
            peer,
            down: down.clone(),
            policy: 0,
            bundle: 0,
            halt: 0,
            operators: None,
            closed: false,
            left: false,
        }
        .run(incoming, told)
        .await;
        shared.links.remove(&agent, id);
        if let Err(status) = outcome {
            debug!(agent, reason = status.message(), "stream ended");
            let _ = down.send(Err(status)).await;
        }
    });
}

struct Stream {
    shared: Arc<Shared>,
    peer: Peer,
    down: Sender,
    policy: u64,
    bundle: u64,
    /// Number of the last halt or resume that was sent.
    halt: u64,
    /// Addresses of operators as they were sent.
    operators: Option<Vec<IpAddr>>,
    closed: bool,
    /// It said goodbye: what was handed in is finished, then the stream ends.
    left: bool,
}

impl Stream {
    async fn run(
        mut self,
        mut incoming: Streaming<proto::Up>,
        mut told: mpsc::Receiver<Command>,
    ) -> Result<(), Status> {
        let first = incoming.message().await?.and_then(|up| up.message);
        let Some(Up::Hello(hello)) = first else {
            return Err(Status::invalid_argument("the first message of a stream is a hello"));
        };
        self.hello(hello).await?;
        // Receipts go down in the order of their batches: each hand-in is its own task, answered from the front.
        let mut tasks: JoinSet<()> = JoinSet::new();
        let mut waiting: VecDeque<tokio::sync::oneshot::Receiver<Result<Accepted, IngestError>>> = VecDeque::new();
        let mut last_hand_in: Option<tokio::sync::oneshot::Receiver<()>> = None;
        loop {
            let room = waiting.len() < IN_FLIGHT;
            let front = async {
                match waiting.front_mut() {
                    Some(answer) => answer.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                command = told.recv() => self.command(command).await?,
                answer = front => {
                    waiting.pop_front();
                    self.receipt(answer.unwrap_or(Err(IngestError::NotReady("it was given up".into())))).await?;
                }
                message = incoming.message(), if room && !self.left => {
                    match message?.and_then(|up| up.message) {
                        None => return Ok(()),
                        Some(Up::Batch(batch)) => {
                            let (answer, receiver) = tokio::sync::oneshot::channel();
                            let (handed_in, next) = tokio::sync::oneshot::channel();
                            let before = last_hand_in.replace(next);
                            let (shared, tenant, id) =
                                (Arc::clone(&self.shared), self.peer.agent.tenant.clone(), self.peer.agent.id.clone());
                            tasks.spawn(async move {
                                let submit = shared.ingest.submit_after(&tenant, &id, batch.batch, before, handed_in);
                                let _ = answer.send(submit.await);
                            });
                            waiting.push_back(receiver);
                        }
                        Some(other) => self.message(other).await?,
                    }
                    while tasks.try_join_next().is_some() {}
                }
            }
            if self.closed {
                return Err(Status::permission_denied("this agent is revoked"));
            }
            if self.left && waiting.is_empty() {
                return Ok(());
            }
        }
    }

    async fn send(&self, message: Down) -> Result<(), Status> {
        let gone = |_| Status::cancelled("the agent is gone");
        self.down.send(Ok(proto::Down { message: Some(message) })).await.map_err(gone)
    }

    async fn hello(&mut self, hello: proto::Hello) -> Result<(), Status> {
        let (tenant, id) = (self.peer.agent.tenant.clone(), self.peer.agent.id.clone());
        let host = hello.host.clone().unwrap_or_default();
        let versions = json!({
            "protocol": hello.protocol,
            "agent": hello.agent_version,
            "modules": hello.modules.iter().map(|one| json!({"id": one.id, "config_schema": one.config_schema,
                "supported": one.config_schema <= sakimori_model::policy::SCHEMA_VERSION})).collect::<Vec<_>>(),
            "engines": hello.engines.iter().map(|one| json!({"id": one.id, "version": one.version})).collect::<Vec<_>>(),
            "policy": hello.policy,
            "bundle": hello.bundle,
            "ledger_head": hex::encode(&hello.ledger_head),
            "ledger_sequence": hello.ledger_sequence,
        });
        self.is_its_own_machine(&host).await?;
        let name: String = host.name.chars().take(255).collect();
        let write = async {
            let mut change = self.shared.control.begin().await?;
            let now = self.shared.clock.now();
            let known = agents::get(self.shared.control.read(), &Scope::All, &id).await?;
            agents::set_hello(change.connection(), &id, &name, &host_json(&host), &versions.to_string(), now).await?;
            agents::bind_machine(change.connection(), &id, &machine_json(&host)).await?;
            if !known.presence.is_empty() {
                change.audit(&presence::entry(&known, presence::BACK, now)).await?;
            }
            change.commit().await
        };
        write.await.map_err(internal)?;
        self.shared.outbox_changed.notify_one();
        info!(agent = id, host = name, version = hello.agent_version, "agent connected");
        let received = self.shared.ingest.received(&tenant, &id);
        // Told first, so that the agent knows what is still to come. A policy that cannot be used does not come.
        let newest = crate::policy::of_agent(&self.shared, &self.peer.agent).await;
        let welcome = proto::Welcome {
            policy: Some(newest.map_or(hello.policy, |(number, _)| number)),
            bundle: Some(self.shared.bundle.load().number),
            protocol: PROTOCOL.min(hello.protocol),
            manager_version: env!("CARGO_PKG_VERSION").into(),
            received: received.into_iter().map(|(stream, sequence)| proto::Receipt { stream, sequence }).collect(),
        };
        self.send(Down::Welcome(welcome)).await?;
        (self.policy, self.bundle, self.halt) = (hello.policy, hello.bundle, hello.halt);
        self.push_order_key(&hello.order_key).await?;
        self.push_halt().await?;
        self.push_operators().await?;
        let audit = heads::remembered(&self.shared, &self.peer.agent, hello.audit).await.map_err(internal)?;
        if !audit.is_empty() {
            let ledger_sequence = heads::now(&self.shared, &self.peer.agent).await.map_err(internal)?.ledger_sequence;
            self.send(Down::Heads(proto::HeadsDown { audit, ledger_sequence })).await?;
        }
        self.push_heads().await?;
        self.push_policy().await?;
        self.push_bundle().await?;
        self.push_orders().await
    }

    /// Refuses a copy of the agent: on a machine that the identity is not bound to, or while another one is connected.
    async fn is_its_own_machine(&self, host: &proto::Host) -> Result<(), Status> {
        let agent = &self.peer.agent;
        let bound: Machine = serde_json::from_str(&agent.machine).unwrap_or_default();
        let differs = bound.differs(&host.machine.clone().unwrap_or_default().into());
        let alone = differs.is_some() || self.shared.links.is_alone(&agent.id, self.peer.stream, &host.boot_id);
        if differs.is_none() && alone {
            return Ok(());
        }
        let now = self.shared.clock.now();
        warn!(agent = agent.id, host = host.name, differs, "a copy of an agent on another machine was refused");
        if self.shared.copies.is_news(&agent.id, now) {
            let mut change = self.shared.control.begin().await.map_err(internal)?;
            change.audit(&presence::entry(agent, presence::COPIED, now)).await.map_err(internal)?;
            change.commit().await.map_err(internal)?;
            self.shared.outbox_changed.notify_one();
        }
        Err(match differs {
            Some(fact) => Status::permission_denied(format!(
                "this identity belongs to another machine ({fact} differs); enrol this host with a token of its own"
            )),
            // A host that lost its power comes back before its former stream is known to be dead: it tries again.
            None => Status::unavailable("another machine is connected by this identity"),
        })
    }

    async fn goodbye(&mut self, reason: proto::goodbye::Reason) -> Result<(), Status> {
        self.left = true;
        let now = self.shared.clock.now();
        let (presence, action) = match reason {
            proto::goodbye::Reason::Stopped => (Presence::Stopped, presence::STOPPED),
            proto::goodbye::Reason::HostStops => (Presence::Retired, presence::RETIRED),
            proto::goodbye::Reason::Uninstalled => (Presence::Retired, presence::UNINSTALLED),
        };
        let agent = &self.peer.agent;
        info!(agent = agent.id, presence = presence.name(), "the agent says goodbye");
        let write = async {
            let mut change = self.shared.control.begin().await?;
            if agents::set_presence(change.connection(), &agent.id, presence.name(), None, now).await? {
                change.audit(&presence::entry(agent, action, now)).await?;
            }
            change.commit().await
        };
        write.await.map_err(internal)?;
        self.shared.outbox_changed.notify_one();
        Ok(())
    }

    async fn command(&mut self, command: Option<Command>) -> Result<(), Status> {
        match command {
            None | Some(Command::Close) => self.closed = true,
            Some(Command::Send(down)) => {
                if let Some(message) = down.message {
                    self.send(message).await?;
                }
            }
            Some(Command::Policy) => self.push_policy().await?,
            Some(Command::Bundle) => self.push_bundle().await?,
            Some(Command::Orders) => self.push_orders().await?,
            Some(Command::Halt) => self.push_halt().await?,
            Some(Command::Operators) => self.push_operators().await?,
            Some(Command::Confirm(id, by)) => self.confirm(id, by).await?,
        }
        Ok(())
    }

    async fn push_policy(&mut self) -> Result<(), Status> {
        match crate::policy::of_agent(&self.shared, &self.peer.agent).await {
            Ok((number, effective)) if number > self.policy => {
                let json = serde_json::to_vec(&effective.policy).map_err(internal)?;
                self.policy = number;
                let signature = self.seal(Act::Policy { number, json: &json });
                self.send(Down::Policy(proto::PolicyDown { number, json, signature })).await?;
            }
            Ok(_) => {}
            // The agent keeps what it has; the layer's author is told when he saves it.
            Err(problem) => warn!(agent = self.peer.agent.id, problem, "the policy cannot be used"),
        }
        Ok(())
    }

    async fn push_bundle(&mut self) -> Result<(), Status> {
        let release = self.shared.bundle.load_full();
        if release.number > self.bundle {
            self.bundle = release.number;
            let bundle = proto::BundleDown { number: release.number, bundle: release.bytes.to_vec() };
            self.send(Down::Bundle(bundle)).await?;
        }
        Ok(())
    }

    async fn push_orders(&mut self) -> Result<(), Status> {
        let agent = &self.peer.agent;
        let orders = agents::orders(self.shared.control.read(), &agent.tenant, &agent.id).await.map_err(internal)?;
        for one in orders {
            let message = seals::waiting(&self.shared, &agent.tenant, &agent.id, one).await.map_err(internal)?;
            if let Some(message) = message {
                self.send(message).await?;
            }
        }
        Ok(())
    }

    fn seal(&self, act: Act<'_>) -> Vec<u8> {
        seals::by_manager(&self.shared, &self.peer.agent.id, act)
    }

    /// An agent that enrolled before there was an order key gets it once, on the word of the bundle key.
    async fn push_order_key(&self, pinned: &[u8]) -> Result<(), Status> {
        if !pinned.is_empty() {
            return Ok(());
        }
        let key = self.shared.order_key.verifying_key().to_bytes();
        let (signer, clock) = (&self.shared.bundle_signer, &*self.shared.clock);
        let signatures = vec![seals::by(signer, clock, &self.peer.agent.id, Act::OrderKey(&key))];
        self.send(Down::OrderKey(proto::OrderKeyDown { key: key.to_vec(), signatures })).await
    }

    async fn push_halt(&mut self) -> Result<(), Status> {
        let Halt { number, halted, undo, by, reason, .. } =
            halts::get(self.shared.control.read(), &self.peer.agent.tenant).await.map_err(internal)?;
        let number = number.cast_unsigned();
        if number <= self.halt {
            return Ok(());
        }
        self.halt = number;
        let signatures = vec![self.seal(Act::Halt { number, halted, undo, by: &by, reason: &reason })];
        self.send(Down::Halt(proto::HaltDown { number, halted, undo, by, reason, signatures })).await
    }

    async fn push_operators(&mut self) -> Result<(), Status> {
        let addresses = operators(&self.shared, &self.peer.agent.tenant).await.map_err(internal)?;
        if self.operators.as_ref() == Some(&addresses) {
            return Ok(());
        }
        let signatures = vec![self.seal(Act::Operators(&addresses))];
        let texts = addresses.iter().map(ToString::to_string).collect();
        self.operators = Some(addresses);
        self.send(Down::Operators(proto::OperatorsDown { addresses: texts, signatures })).await
    }

    async fn push_heads(&self) -> Result<(), Status> {
        let heads = heads::now(&self.shared, &self.peer.agent).await.map_err(internal)?;
        self.send(Down::Heads(heads)).await
    }

    /// A provisional action stays: its sealed answer is what shows the host that the way here and back is open.
    async fn confirm(&self, id: String, by: String) -> Result<(), Status> {
        let signatures = vec![self.seal(Act::Confirm { action: &id, by: &by })];
        self.send(Down::Confirm(proto::ConfirmDown { action_id: id, by, signatures })).await
    }

    async fn receipt(&mut self, answer: Result<Accepted, IngestError>) -> Result<(), Status> {
        match answer {
            Ok(Accepted { stream, sequence, .. }) => {
                self.send(Down::Receipt(proto::Receipt { stream, sequence })).await
            }
            Err(problem @ IngestError::Refused(_)) => {
                warn!(agent = self.peer.agent.id, error = %problem, "a batch was refused");
                Err(Status::invalid_argument(problem.to_string()))
            }
            // The agent connects again and begins where the welcome says.
            Err(problem) => Err(Status::unavailable(problem.to_string())),
        }
    }

    async fn message(&mut self, message: Up) -> Result<(), Status> {
        let (tenant, id) = (&self.peer.agent.tenant, &self.peer.agent.id);
        let now = self.shared.clock.now();
        match message {
            Up::Status(status) => {
                let Some(text) = kept(&status.json) else { return Ok(()) };
                let mut change = self.shared.control.begin().await.map_err(internal)?;
                agents::set_status(change.connection(), id, &text, now).await.map_err(internal)?;
                change.commit().await.map_err(internal)?;
                self.push_heads().await
            }
            Up::Provisional(one) => {
                tracing::info!(agent = id, action = one.id, checks = one.checks.join(", "), "a change is confirmed");
                self.confirm(one.id.chars().take(128).collect(), "manager".into()).await
            }
            Up::LedgerAt(told) => heads::ledger(&self.shared, &self.peer.agent, told).await.map_err(internal),
            Up::OrderReply(reply) if reply.lacks > 0 => {
                let kind = if reply.undo { "undo" } else { "order" };
                let signers: Vec<String> =
                    reply.signers.iter().take(MOST_SIGNERS).map(|one| one.chars().take(256).collect()).collect();
                let signers = serde_json::to_string(&signers).map_err(internal)?;
                let mut change = self.shared.control.begin().await.map_err(internal)?;
                let waiting = (reply.id.as_str(), kind);
                agents::lacking(change.connection(), tenant, id, waiting, i64::from(reply.lacks), &signers)
                    .await
                    .map_err(internal)?;
                change.commit().await.map_err(internal)
            }
            Up::OrderReply(reply) => {
                let mut change = self.shared.control.begin().await.map_err(internal)?;
                let kind = if reply.undo { "undo" } else { "order" };
                // One that nothing waited for is an answer that came twice, or an agent's invention.
                if !agents::answered(change.connection(), tenant, id, &reply.id, kind).await.map_err(internal)? {
                    return Ok(());
                }
                let verb = match (reply.undo, reply.accepted) {
                    (false, true) => "actions:accepted",
                    (false, false) => "actions:refused",
                    (true, true) => "actions:undone",
                    (true, false) => "actions:undo-refused",
                };
                let actor = format!("agent:{id}");
                let entry = audit::Entry {
                    tenant,
                    time: now,
                    actor: &actor,
                    action: verb,
                    target: &reply.id,
                    before: None,
                    after: None,
                    address: "",
                    request: "",
                };
                change.audit(&entry).await.map_err(internal)?;
                change.commit().await.map_err(internal)?;
                self.shared.outbox_changed.notify_one();
                Ok(())
            }
            Up::Goodbye(goodbye) => self.goodbye(goodbye.reason()).await,
            Up::Hello(_) => Err(Status::invalid_argument("a second hello")),
            Up::Batch(_) => Ok(()),
        }
    }
}

/// Addresses from which somebody is signed in who may do something here, in a stable order. This machine's own are
/// never blocked anyway.
///
/// # Errors
/// The database failed.
pub async fn operators(shared: &Shared, tenant: &str) -> Result<Vec<IpAddr>, ControlError> {
    let most = i64::try_from(MOST_OPERATORS).unwrap_or(i64::MAX);
    let texts = sessions::addresses(shared.control.read(), tenant, shared.clock.now(), most).await?;
    let parsed = texts.iter().filter_map(|text| text.parse::<IpAddr>().ok()).map(|address| address.to_canonical());
    let mut addresses: Vec<IpAddr> = parsed.filter(|address| !address.is_loopback()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

/// The status, where it is one and of a sane size.
fn kept(json: &[u8]) -> Option<String> {
    if json.len() > MAX_STATUS {
        return None;
    }
    let status: sakimori_wire::status::AgentStatus = serde_json::from_slice(json).ok()?;
    serde_json::to_string(&status).ok()
}

/// Host facts as JSON.
pub fn host_json(host: &proto::Host) -> String {
    json!({
        "name": host.name, "id": host.id, "addresses": host.addresses, "os_name": host.os_name,
        "os_version": host.os_version, "kernel": host.kernel, "architecture": host.architecture,
    })
    .to_string()
}

/// The machine of a host as JSON; `{}` where an older agent does not say.
pub fn machine_json(host: &proto::Host) -> String {
    let machine = Machine::from(host.machine.clone().unwrap_or_default());
    if machine.is_unknown() {
        return "{}".into();
    }
    serde_json::to_string(&machine).unwrap_or_else(|_| "{}".into())
}

fn internal(problem: impl std::fmt::Display) -> Status {
    Status::unavailable(problem.to_string())
}
