//! The agents' channel: our own TLS acceptor feeding tonic. Enrolment is open to who has a token; the link is
//! for known, unrevoked agents, and an expired one may do one thing: renew. How many may knock, come in and stay:
//! [`crate::crowd`]. A host without an agent fetches its package here: [`crate::package`].

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use sakimori_model::Timestamp;
use sakimori_model::ledger::Hash;
use sakimori_store::control::agents::{self, Agent};
use sakimori_store::control::{ControlError, Scope, audit, enrolment};
use sakimori_wire::agent as proto;
use sakimori_wire::agent::enrolment_server::{Enrolment, EnrolmentServer};
use sakimori_wire::agent::link_server::{Link, LinkServer};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};
use tracing::{info, warn};

use crate::crowd::{Crowd, FETCH_TIME, STRANGER_TIME, Seat};
use crate::guesses::Guesses;
use crate::metrics::Metrics;
use crate::package;
use crate::shared::Shared;
use crate::stream::{Peer, serve_stream};

/// Calls of one connection that are answered at a time: an agent has its stream and a renewal.
const CALLS: u32 = 16;
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// Largest message of an agent: a batch with its frame.
const MESSAGE: usize = sakimori_wire::MAX_BATCH + 1024;
/// Commands that wait for a stream.
const COMMANDS: usize = 64;

/// Serves until the stop is told.
///
/// # Errors
/// TLS that cannot be set up, or a listener that fails.
pub async fn serve(shared: Arc<Shared>, listener: TcpListener) -> Result<(), String> {
    let acceptor = TlsAcceptor::from(shared.authority.link_tls().map_err(|error| format!("{error:#}"))?);
    let (sender, connections) = mpsc::channel::<io::Result<Connection>>(64);
    let service = Service { shared: Arc::clone(&shared), next: Arc::default(), guesses: Arc::default() };
    let mut routes = Routes::new(EnrolmentServer::new(service.clone()).max_decoding_message_size(64 * 1024))
        .add_service(LinkServer::new(service.clone()).max_decoding_message_size(MESSAGE));
    let package = axum::routing::get(package::serve).with_state(service);
    let router = std::mem::take(routes.axum_router_mut());
    *routes.axum_router_mut() = router.route(&format!("{}{{name}}", package::PATH), package);
    let server = tonic::transport::Server::builder()
        .concurrency_limit_per_connection(CALLS as usize)
        .max_concurrent_streams(CALLS)
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        .add_routes(routes)
        .serve_with_incoming(ReceiverStream::new(connections));
    let mut handshakes = JoinSet::new();
    let crowd = Crowd::default();
    let accept = async {
        loop {
            while handshakes.try_join_next().is_some() {}
            let (stream, address) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(problem) => {
                    warn!(error = %problem, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Some(seat) = crowd.knock(address.ip()) else {
                tell_turned_away(&shared, &crowd, address);
                continue;
            };
            let (acceptor, sender, crowd) = (acceptor.clone(), sender.clone(), crowd.clone());
            let shared = Arc::clone(&shared);
            handshakes.spawn(async move {
                let _ = stream.set_nodelay(true);
                match tokio::time::timeout(HANDSHAKE_TIME, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => {
                        let known = stream.get_ref().1.peer_certificates().is_some_and(|chain| !chain.is_empty());
                        let Some(seat) = crowd.enter(seat, known) else {
                            return tell_turned_away(&shared, &crowd, address);
                        };
                        let until = (!known).then(|| Box::pin(tokio::time::sleep(STRANGER_TIME)));
                        let stays = Arc::default();
                        let _ = sender.send(Ok(Connection { stream, address, until, stays, _seat: seat })).await;
                    }
                    Ok(Err(problem)) => info!(%address, error = %problem, "a handshake failed"),
                    Err(_) => info!(%address, "a handshake took too long"),
                }
            });
        }
    };
    tokio::select! {
        outcome = server => outcome.map_err(|error| error.to_string()),
        () = accept => Ok(()),
        () = shared.stop.wait() => Ok(()),
    }
}

/// Not for each one: a flood must not fill the log.
fn tell_turned_away(shared: &Shared, crowd: &Crowd, address: SocketAddr) {
    Metrics::add(&shared.metrics.link_refused, 1);
    let count = crowd.turned_away();
    if count.is_power_of_two() || count.is_multiple_of(1_000) {
        warn!(%address, count, "there are too many connections at once; this one was closed");
    }
}

/// A connection after its handshake.
struct Connection {
    stream: TlsStream<TcpStream>,
    address: SocketAddr,
    /// When one without a certificate has to go.
    until: Option<Pin<Box<tokio::time::Sleep>>>,
    /// May it stay longer, once?
    stays: Arc<AtomicBool>,
    _seat: Seat,
}

impl Connected for Connection {
    type ConnectInfo = Presented;
    fn connect_info(&self) -> Presented {
        let certificates = self.stream.get_ref().1.peer_certificates();
        Presented {
            certificate: certificates.and_then(<[_]>::first).map(|one| one.clone().into_owned()),
            address: self.address,
            stays: Arc::clone(&self.stays),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while let Some(until) = &mut self.until
            && until.as_mut().poll(cx).is_ready()
        {
            if !self.stays.swap(false, Ordering::Relaxed) {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.until = Some(Box::pin(tokio::time::sleep(FETCH_TIME)));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What the handshake showed.
#[derive(Clone)]
pub(crate) struct Presented {
    certificate: Option<CertificateDer<'static>>,
    pub(crate) address: SocketAddr,
    stays: Arc<AtomicBool>,
}

impl Presented {
    /// A stranger with a token has time to fetch the package.
    pub(crate) fn stays(&self) {
        self.stays.store(true, Ordering::Relaxed);
    }
}

#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) shared: Arc<Shared>,
    next: Arc<AtomicU64>,
    guesses: Arc<Mutex<Guesses>>,
}

impl Service {
    pub(crate) fn guesses(&self) -> std::sync::MutexGuard<'_, Guesses> {
        self.guesses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The agent that presented a certificate of ours, and that certificate's serial. `expired_too` for renewing.
    async fn agent<T>(&self, request: &Request<T>, expired_too: bool) -> Result<(Agent, String), Status> {
        let presented = request.extensions().get::<Presented>();
        let certificate = presented.and_then(|presented| presented.certificate.as_ref());
        let Some(certificate) = certificate else {
            return Err(Status::unauthenticated("a certificate of an enrolled agent is needed; enrol this host first"));
        };
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
            .map_err(|_| Status::unauthenticated("the certificate cannot be read"))?;
        let now = self.shared.clock.now();
        let until = Timestamp::from_secs(parsed.validity().not_after.timestamp());
        if until < now && !expired_too {
            return Err(Status::unauthenticated("the certificate is expired; renew it"));
        }
        let id = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok()).unwrap_or_default();
        let agent = match agents::get(self.shared.control.read(), &Scope::All, id).await {
            Ok(agent) => agent,
            Err(ControlError::Missing(_)) => return Err(Status::permission_denied("this agent is not known here")),
            Err(problem) => return Err(internal(problem)),
        };
        if agent.revoked.is_some() {
            return Err(Status::permission_denied("this agent is revoked"));
        }
        let presented = serial(&parsed);
        let mut good = agent.serial.split(' ').rev();
        let newest = good.next().is_some_and(|one| one == presented);
        let former = good.next();
        if !newest && former != Some(presented.as_str()) {
            return Err(Status::permission_denied("this certificate was replaced by a newer one"));
        }
        if newest && former.is_some() {
            let mut change = self.shared.control.begin().await.map_err(internal)?;
            agents::set_serial(change.connection(), &agent.id, &presented).await.map_err(internal)?;
            change.commit().await.map_err(internal)?;
        }
        Ok((agent, presented))
    }
}

/// As [`Agent::serial`] has it.
fn serial(certificate: &x509_parser::certificate::X509Certificate<'_>) -> String {
    hex::encode(certificate.raw_serial())
}

/// Which of them is not for a stranger to know.
pub(crate) fn refused() -> Status {
    Status::permission_denied(
        "this token is unknown, used up, expired or not for this network; ask for a new one (sakimori agents token)",
    )
}

fn internal(problem: impl std::fmt::Display) -> Status {
    Status::unavailable(problem.to_string())
}

fn hash(secret: &str) -> Hash {
    Sha256::digest(secret.as_bytes()).into()
}

#[tonic::async_trait]
impl Enrolment for Service {
    async fn enrol(&self, request: Request<proto::EnrolRequest>) -> Result<Response<proto::EnrolReply>, Status> {
        let Some(from) = request.extensions().get::<Presented>().map(|one| one.address.ip().to_canonical()) else {
            return Err(internal("the address of the connection is not known"));
        };
        let request = request.into_inner();
        let shared = &self.shared;
        let (now, address) = (shared.clock.now(), from.to_string());
        let secret = hash(&request.token);
        let wait = self.guesses().wait(from, now);
        if wait > 0 {
            return Err(Status::resource_exhausted(format!(
                "too many wrong tokens came from this network; try again in {wait} seconds"
            )));
        }
        // Before anything that costs: anyone may ask. A guess leaves no row behind, a token that is over does.
        let Some(known) = enrolment::find(shared.control.read(), &secret).await.map_err(internal)? else {
            self.guesses().wrong(from, now);
            info!(address, "an enrolment with an unknown token was refused");
            return Err(refused());
        };
        let id = sakimori_model::id::row_id();
        let signed = shared
            .authority
            .sign_agent(&request.csr_pem, &id, now)
            .map_err(|error| Status::invalid_argument(format!("{error:#}")))?;
        let mut change = shared.control.begin().await.map_err(internal)?;
        let token = match known.is_for(from) {
            true => enrolment::consume(change.connection(), &secret, &id, now).await.map_err(internal)?,
            false => None,
        };
        let entry = |tenant, target, action| audit::Entry {
            tenant,
            time: now,
            actor: "system",
            action,
            target,
            before: None,
            after: None,
            address: &address,
            request: "",
        };
        let Some(token) = token else {
            self.guesses().wrong(from, now);
            change.audit(&entry(&known.tenant, &known.id, "agents:enrol-refused")).await.map_err(internal)?;
            change.commit().await.map_err(internal)?;
            shared.outbox_changed.notify_one();
            return Err(refused());
        };
        let host = request.host.unwrap_or_default();
        let agent = Agent {
            tenant: token.tenant.clone(),
            id: id.clone(),
            name: host.name.chars().take(255).collect(),
            tags: token.tags,
            host: crate::stream::host_json(&host),
            versions: "{}".into(),
            status: "{}".into(),
            enrolled: now,
            last_seen: None,
            serial: signed.serial,
            revoked: None,
            token: token.id,
            machine: crate::stream::machine_json(&host),
            presence: String::new(),
            presence_since: None,
        };
        agents::create(change.connection(), &agent).await.map_err(internal)?;
        change.audit(&entry(&agent.tenant, &id, "agents:enrol")).await.map_err(internal)?;
        change.commit().await.map_err(internal)?;
        shared.outbox_changed.notify_one();
        Ok(Response::new(proto::EnrolReply {
            agent_id: id,
            certificate_pem: signed.pem,
            ca_pem: shared.authority.ca_pem().to_owned(),
            bundle_key: shared.bundle_key.to_bytes().to_vec(),
            link_address: advertised(shared),
            order_key: shared.order_key.verifying_key().to_bytes().to_vec(),
        }))
    }
}

#[tonic::async_trait]
impl Link for Service {
    type OpenStream = ReceiverStream<Result<proto::Down, Status>>;

    async fn open(&self, request: Request<Streaming<proto::Up>>) -> Result<Response<Self::OpenStream>, Status> {
        let (agent, _) = self.agent(&request, false).await?;
        let (down, answers) = mpsc::channel(COMMANDS);
        let (commands, told) = mpsc::channel(COMMANDS);
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.shared.links.add((&agent.tenant, &agent.id), id, commands);
        let peer = Peer { agent, stream: id };
        serve_stream(Arc::clone(&self.shared), peer, request.into_inner(), down, told);
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn renew(&self, request: Request<proto::RenewRequest>) -> Result<Response<proto::RenewReply>, Status> {
        let (agent, former) = self.agent(&request, true).await?;
        let now = self.shared.clock.now();
        let signed = self
            .shared
            .authority
            .sign_agent(&request.into_inner().csr_pem, &agent.id, now)
            .map_err(|error| Status::invalid_argument(format!("{error:#}")))?;
        let mut change = self.shared.control.begin().await.map_err(internal)?;
        let serials = format!("{former} {}", signed.serial);
        agents::set_serial(change.connection(), &agent.id, &serials).await.map_err(internal)?;
        change
            .audit(&audit::Entry {
                tenant: &agent.tenant,
                time: now,
                actor: &format!("agent:{}", agent.id),
                action: "agents:renew",
                target: &agent.id,
                before: None,
                after: None,
                address: "",
                request: "",
            })
            .await
            .map_err(internal)?;
        change.commit().await.map_err(internal)?;
        self.shared.outbox_changed.notify_one();
        Ok(Response::new(proto::RenewReply { certificate_pem: signed.pem }))
    }
}

/// How agents reach the link.
pub(crate) fn advertised(shared: &Shared) -> String {
    if shared.config.link.advertise.is_empty() {
        shared.link_address.get().map(ToString::to_string).unwrap_or_default()
    } else {
        shared.config.link.advertise.clone()
    }
}
