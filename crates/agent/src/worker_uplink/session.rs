//! One connection to the manager, from hello to its end.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rcgen::{CertificateParams, KeyPair};
use sakimori_runtime::{Clock, SystemClock};
use sakimori_wire::PROTOCOL;
use sakimori_wire::agent as proto;
use sakimori_wire::agent::down::Message as Down;
use sakimori_wire::agent::link_client::LinkClient;
use sakimori_wire::agent::up::Message as Up;
use sakimori_wire::ipc::{Farewell, FromUplink, Reply, ToUplink, UplinkStart};
use tokio::sync::mpsc::{Sender, UnboundedReceiver, channel};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::identity::Identity;
use super::tls;

/// Largest message down: a bundle.
const MAX_DOWN: usize = 16 * 1024 * 1024;
/// A certificate with fewer seconds left is renewed (D22: they live 90 days, renewed at 30).
const RENEW_BEFORE: i64 = 30 * 86_400;
/// Messages that wait for the connection while it is slow; the supervisor's window is smaller.
const MAX_WAITING: usize = 1_024;

/// How long a goodbye may take.
const FAREWELL: Duration = Duration::from_secs(3);

/// How a connection ended.
#[derive(Debug)]
pub enum Ending {
    /// The supervisor wants it.
    Stop,
    /// It broke, or could not be made.
    Broken {
        /// Why.
        reason: String,
        /// How long it held.
        lasted: Duration,
    },
    /// The manager does not want this agent.
    Refused {
        /// Why.
        reason: String,
    },
}

/// What outlives a connection.
pub struct Session {
    start: UplinkStart,
    identity: Identity,
    from_supervisor: UnboundedReceiver<ToUplink>,
    to_supervisor: Sender<FromUplink>,
    /// What a hello says, from the last `Versions`.
    versions: proto::Hello,
    /// Connections that were told to the supervisor and that it has not answered by `Resume`.
    unanswered: u32,
    status: Option<Vec<u8>>,
}

impl Session {
    /// Before the first connection.
    pub fn new(
        start: UplinkStart,
        identity: Identity,
        from_supervisor: UnboundedReceiver<ToUplink>,
        to_supervisor: Sender<FromUplink>,
    ) -> Self {
        Self {
            start,
            identity,
            from_supervisor,
            to_supervisor,
            versions: proto::Hello::default(),
            unanswered: 0,
            status: None,
        }
    }

    /// Hands a message to the supervisor; waits while it is busy, so that no manager fills this process.
    pub async fn tell(&self, message: FromUplink) {
        let _ = self.to_supervisor.send(message).await;
    }

    /// Waits between two connections; true where the supervisor wants an end.
    pub async fn rest(&mut self, wait: Duration) -> bool {
        let end = tokio::time::sleep(wait);
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => return false,
                message = self.from_supervisor.recv() => match message {
                    None => return true,
                    Some(message) => if self.take(message).is_err() { return true },
                },
            }
        }
    }

    /// One connection.
    pub async fn once(&mut self) -> Ending {
        // What came while there was no connection: the newest versions count, batches are sent again later.
        while let Ok(message) = self.from_supervisor.try_recv() {
            if self.take(message).is_err() {
                return Ending::Stop;
            }
        }
        let began = Instant::now();
        let broken = |reason: String| Ending::Broken { reason, lasted: began.elapsed() };
        let peer = Arc::new(Mutex::new(None));
        let channel = match self.connect(Arc::clone(&peer)).await {
            Ok(channel) => channel,
            Err(error) => return broken(format!("{error:#}")),
        };
        match self.renew(channel.clone()).await {
            // The next connection shows the new certificate; the old one may have ended.
            Ok(true) => return broken("the certificate was renewed".into()),
            Ok(false) => {}
            Err(status) => return refused_or(&status).unwrap_or_else(|| broken(tls::explain(&status))),
        }
        let (up, outgoing) = channel_pair();
        let mut client = LinkClient::new(channel).max_decoding_message_size(MAX_DOWN);
        if up.send(message(Up::Hello(self.hello()))).await.is_err() {
            return broken("the stream closed at once".into());
        }
        let mut incoming = match client.open(ReceiverStream::new(outgoing)).await {
            Ok(response) => response.into_inner(),
            Err(status) => return refused_or(&status).unwrap_or_else(|| broken(tls::explain(&status))),
        };
        let peer = peer.lock().ok().and_then(|peer| *peer).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        match self.carry(&up, &mut incoming, peer).await {
            None => Ending::Stop,
            Some(Ok(())) => broken("the manager closed the stream".into()),
            Some(Err(status)) => refused_or(&status).unwrap_or_else(|| broken(tls::explain(&status))),
        }
    }

    /// `None`: the supervisor wants an end.
    async fn carry(
        &mut self,
        up: &tokio::sync::mpsc::Sender<proto::Up>,
        incoming: &mut Streaming<proto::Down>,
        peer: IpAddr,
    ) -> Option<Result<(), Status>> {
        let mut waiting: VecDeque<proto::Up> = VecDeque::new();
        waiting.extend(self.status.clone().map(|json| message(Up::Status(proto::Status { json }))));
        loop {
            tokio::select! {
                permit = up.reserve(), if !waiting.is_empty() => match permit {
                    Err(_) => return Some(Ok(())),
                    Ok(permit) => if let Some(message) = waiting.pop_front() { permit.send(message) },
                },
                down = incoming.message() => match down {
                    Err(status) => return Some(Err(status)),
                    Ok(None) => return Some(Ok(())),
                    Ok(Some(down)) => self.come(down, peer).await,
                },
                message = self.from_supervisor.recv(), if waiting.len() < MAX_WAITING => match message {
                    None => return None,
                    Some(message) => match self.take(message) {
                        Err(Stopped(farewell)) => {
                            let _ = tokio::time::timeout(FAREWELL, say_goodbye(up, waiting, incoming, farewell)).await;
                            return None;
                        }
                        Ok(up) => waiting.extend(up),
                    },
                },
            }
        }
    }

    /// A message of the supervisor, as what goes up where something does.
    fn take(&mut self, from: ToUplink) -> Result<Option<proto::Up>, Stopped> {
        Ok(match from {
            ToUplink::Stop(farewell) => return Err(Stopped(farewell)),
            ToUplink::Start(_) => None,
            ToUplink::Resume => {
                self.unanswered = self.unanswered.saturating_sub(1);
                None
            }
            ToUplink::Versions { policy, bundle, ledger, order_key, halt, audit } => {
                let (ledger_sequence, ledger_head) = ledger;
                let audit = audit
                    .into_iter()
                    .map(|(chain, sequence, hash)| proto::AuditHead { chain, sequence, hash })
                    .collect();
                let hello = proto::Hello { policy, bundle, ledger_head, ledger_sequence, ..proto::Hello::default() };
                self.versions = proto::Hello { order_key, halt, audit, ..hello };
                None
            }
            ToUplink::Batch { bytes, .. } => {
                (self.unanswered == 0).then(|| message(Up::Batch(proto::BatchUp { batch: bytes })))
            }
            ToUplink::Status(json) => {
                self.status = Some(json.clone());
                Some(message(Up::Status(proto::Status { json })))
            }
            ToUplink::OrderReply(Reply { id, accepted, reason, undo, lacks, signers }) => {
                Some(message(Up::OrderReply(proto::OrderReply { id, accepted, reason, undo, lacks, signers })))
            }
            ToUplink::Provisional { id, checks } => Some(message(Up::Provisional(proto::Provisional { id, checks }))),
            ToUplink::LedgerAt { sequence, hash, head: (head_sequence, head) } => {
                Some(message(Up::LedgerAt(proto::LedgerAt { sequence, hash, head_sequence, head })))
            }
        })
    }

    /// A message of the manager, handed on.
    async fn come(&mut self, down: proto::Down, peer: IpAddr) {
        let told = match down.message {
            // A newer manager's message that this version does not know.
            None => return,
            Some(Down::Welcome(welcome)) => {
                tracing::info!(manager = welcome.manager_version, "connected");
                self.unanswered += 1;
                let received = welcome.received.into_iter().map(|one| (one.stream, one.sequence)).collect();
                FromUplink::Connected { peer, received, newest: welcome.policy.zip(welcome.bundle) }
            }
            Some(Down::Receipt(one)) => FromUplink::Receipt { stream: one.stream, sequence: one.sequence },
            Some(Down::Policy(one)) => {
                FromUplink::Policy { number: one.number, json: one.json, signature: one.signature }
            }
            Some(Down::Bundle(one)) => FromUplink::Bundle(one.bundle),
            Some(Down::Order(one)) => match serde_json::from_slice(&one.json) {
                Ok(order) => FromUplink::Order(Box::new(order)),
                Err(error) => {
                    tracing::warn!(%error, "the manager sent an order that is not understood");
                    return;
                }
            },
            Some(Down::Undo(one)) => FromUplink::Undo { action: one.action_id, by: one.by, signatures: one.signatures },
            Some(Down::OrderKey(one)) => FromUplink::OrderKey { key: one.key, signatures: one.signatures },
            Some(Down::Halt(one)) => FromUplink::Halt {
                number: one.number,
                halted: one.halted,
                undo: one.undo,
                by: one.by,
                reason: one.reason,
                signatures: one.signatures,
            },
            Some(Down::Confirm(one)) => {
                FromUplink::Confirm { action: one.action_id, by: one.by, signatures: one.signatures }
            }
            Some(Down::Operators(one)) => {
                let addresses: Result<Vec<IpAddr>, _> = one.addresses.iter().map(|text| text.parse()).collect();
                let Ok(addresses) = addresses else {
                    tracing::warn!("the manager named addresses of operators that are none");
                    return;
                };
                FromUplink::Operators { addresses, signatures: one.signatures }
            }
            Some(Down::Heads(one)) => {
                let audit = one.audit.into_iter().map(|head| (head.chain, head.sequence, head.hash)).collect();
                FromUplink::Heads { audit, ledger: one.ledger_sequence }
            }
        };
        self.tell(told).await;
    }

    async fn connect(&self, peer: Arc<Mutex<Option<IpAddr>>>) -> Result<Channel> {
        let config = tls::mutual(&self.identity)?;
        // A host that is isolated lets addresses pass that are known before they are connected to.
        let addresses = tls::addresses(&self.start.address, self.start.proxy.as_deref()).await;
        if !addresses.is_empty() {
            self.tell(FromUplink::Resolved(addresses)).await;
        }
        tls::open(&self.start.address, self.start.proxy.as_deref(), config, peer).await
    }

    /// Renews the certificate where its end is near. True where there is a new one. While the old one is good, a
    /// refusal changes nothing.
    async fn renew(&self, channel: Channel) -> Result<bool, Status> {
        let now = SystemClock.now().micros() / 1_000_000;
        let left = self.identity.seconds_left(now).unwrap_or(i64::MAX);
        if left >= RENEW_BEFORE {
            return Ok(false);
        }
        let csr_pem = self.request().map_err(|error| Status::internal(format!("{error:#}")))?;
        let reply = match LinkClient::new(channel).renew(proto::RenewRequest { csr_pem }).await {
            Ok(reply) => reply.into_inner(),
            Err(status) if left > 0 => {
                tracing::warn!(reason = tls::explain(&status), "the agent's certificate could not be renewed");
                return Ok(false);
            }
            Err(status) => return Err(status),
        };
        match self.identity.renew(&reply.certificate_pem) {
            Ok(()) => {
                tracing::info!("the agent's certificate is renewed");
                Ok(true)
            }
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "cannot keep the renewed certificate");
                Ok(false)
            }
        }
    }

    fn request(&self) -> Result<String> {
        let key = KeyPair::from_pem(&self.identity.key_pem()?).context("key.pem holds no usable key")?;
        Ok(CertificateParams::default().serialize_request(&key)?.pem()?)
    }

    fn hello(&self) -> proto::Hello {
        use prost::Message as _;
        proto::Hello {
            protocol: PROTOCOL,
            agent_version: env!("CARGO_PKG_VERSION").into(),
            host: proto::Host::decode(self.start.host.as_slice()).ok(),
            modules: self
                .start
                .modules
                .iter()
                .map(|(id, schema)| proto::ModuleVersion { id: id.clone(), config_schema: *schema })
                .collect(),
            engines: self
                .start
                .engines
                .iter()
                .map(|(id, version)| proto::EngineVersion { id: id.clone(), version: version.clone() })
                .collect(),
            ..self.versions.clone()
        }
    }
}

/// Sends what waits and the goodbye, and reads until the manager has taken it: it ends the stream then.
async fn say_goodbye(
    up: &tokio::sync::mpsc::Sender<proto::Up>,
    waiting: VecDeque<proto::Up>,
    incoming: &mut Streaming<proto::Down>,
    farewell: Farewell,
) {
    use proto::goodbye::Reason;
    let reason = match farewell {
        Farewell::Stopped => Reason::Stopped,
        Farewell::HostStops => Reason::HostStops,
        Farewell::Uninstalled => Reason::Uninstalled,
    };
    let goodbye = message(Up::Goodbye(proto::Goodbye { reason: reason.into() }));
    for one in waiting.into_iter().chain([goodbye]) {
        if up.send(one).await.is_err() {
            return;
        }
    }
    while let Ok(Some(_)) = incoming.message().await {}
}

/// The supervisor wants an end.
#[derive(Debug)]
struct Stopped(Farewell);

fn message(up: Up) -> proto::Up {
    proto::Up { message: Some(up) }
}

fn channel_pair() -> (tokio::sync::mpsc::Sender<proto::Up>, tokio::sync::mpsc::Receiver<proto::Up>) {
    channel(32)
}

fn refused_or(status: &Status) -> Option<Ending> {
    matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated)
        .then(|| Ending::Refused { reason: status.message().to_owned() })
}
