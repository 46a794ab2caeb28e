//! A manager that is played: a CA, TLS 1.3 with an optional client certificate, enrolment and link. It keeps
//! what it was sent as the real one does: a batch counts once, by stream and sequence.
#![allow(dead_code, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sakimori_content::{Draft, SigningKey};
use sakimori_model::{Event, Order, field};
use sakimori_respond::seal::Act;
use sakimori_wire::agent as proto;
use sakimori_wire::agent::down::Message as Down;
use sakimori_wire::agent::enrolment_server::{Enrolment, EnrolmentServer};
use sakimori_wire::agent::link_server::{Link, LinkServer};
use sakimori_wire::agent::up::Message as Up;
use sakimori_wire::batch::{self, Batch};
use sakimori_wire::token::EnrolmentToken;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{Sender, channel};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};

#[derive(Default)]
struct Seen {
    received: BTreeMap<String, u64>,
    batches: Vec<Batch>,
    replies: Vec<proto::OrderReply>,
    hellos: Vec<proto::Hello>,
    provisional: Vec<proto::Provisional>,
    ledger: Vec<proto::LedgerAt>,
    streams: Vec<Sender<Result<proto::Down, Status>>>,
    used_tokens: Vec<String>,
    goodbyes: Vec<proto::goodbye::Reason>,
    /// What a welcome calls the newest policy and bundle.
    newest: Option<(u64, u64)>,
    /// Ids of agents as they were enrolled; the last one is spoken to.
    enrolled: Vec<String>,
}

pub struct Manager {
    pub acknowledge: Arc<AtomicBool>,
    pub revoked: Arc<AtomicBool>,
    /// Certificates end in ten days.
    pub short_lived: Arc<AtomicBool>,
    refusals: Arc<AtomicUsize>,
    seen: Arc<Mutex<Seen>>,
    address: SocketAddr,
    ca_der: Vec<u8>,
    key: SigningKey,
    /// Seals what hosts are told.
    pub order_key: SigningKey,
    /// Enrols as a manager did that had no order key.
    pub is_old: Arc<AtomicBool>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Clone)]
struct Service {
    acknowledge: Arc<AtomicBool>,
    revoked: Arc<AtomicBool>,
    short_lived: Arc<AtomicBool>,
    refusals: Arc<AtomicUsize>,
    seen: Arc<Mutex<Seen>>,
    address: SocketAddr,
    ca_pem: String,
    issuer: Arc<Issuer<'static, KeyPair>>,
    bundle_key: Vec<u8>,
    order_key: Vec<u8>,
    is_old: Arc<AtomicBool>,
}

impl Manager {
    pub fn start() -> Self {
        Self::on(std::net::TcpListener::bind("127.0.0.1:0").unwrap())
    }

    /// One that listens here, in whichever network namespace that is.
    pub fn on(listener: std::net::TcpListener) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let ca_key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = params.self_signed(&ca_key).unwrap();
        let (ca_pem, ca_der) = (ca.pem(), ca.der().to_vec());
        let issuer = Issuer::new(params, ca_key);
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![listener.local_addr().unwrap().ip().to_string()])
            .unwrap()
            .signed_by(&key, &issuer)
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(ca_der.clone())).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .unwrap();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![leaf.der().clone(), CertificateDer::from(ca_der.clone())],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = runtime.block_on(async { TcpListener::from_std(listener).unwrap() });
        let signing = sakimori_content::keys::generate().unwrap();
        let order_key = sakimori_content::keys::generate().unwrap();
        let service = Service {
            acknowledge: Arc::new(AtomicBool::new(true)),
            revoked: Arc::default(),
            short_lived: Arc::default(),
            refusals: Arc::default(),
            seen: Arc::default(),
            address,
            ca_pem,
            issuer: Arc::new(issuer),
            bundle_key: signing.verifying_key().to_bytes().to_vec(),
            order_key: order_key.verifying_key().to_bytes().to_vec(),
            is_old: Arc::default(),
        };
        let manager = Self {
            acknowledge: Arc::clone(&service.acknowledge),
            revoked: Arc::clone(&service.revoked),
            short_lived: Arc::clone(&service.short_lived),
            refusals: Arc::clone(&service.refusals),
            seen: Arc::clone(&service.seen),
            address,
            ca_der,
            key: signing,
            order_key,
            is_old: Arc::clone(&service.is_old),
            _runtime: runtime,
        };
        manager._runtime.spawn(serve(listener, TlsAcceptor::from(Arc::new(config)), service));
        manager
    }

    pub fn token(&self, secret: &str) -> String {
        EnrolmentToken {
            address: self.address.to_string(),
            ca_sha256: Sha256::digest(&self.ca_der).into(),
            secret: secret.into(),
        }
        .to_string()
    }

    pub fn enrolled(&self) -> usize {
        self.seen.lock().unwrap().used_tokens.len()
    }
    pub fn goodbyes(&self) -> Vec<proto::goodbye::Reason> {
        self.seen.lock().unwrap().goodbyes.clone()
    }
    /// Origins of the batches that came.
    pub fn origins(&self) -> std::collections::BTreeSet<String> {
        self.seen.lock().unwrap().batches.iter().map(|batch| batch.header.origin.clone()).collect()
    }
    pub fn hellos(&self) -> usize {
        self.seen.lock().unwrap().hellos.len()
    }
    pub fn hello_modules(&self) -> Vec<proto::ModuleVersion> {
        self.seen.lock().unwrap().hellos.last().unwrap().modules.clone()
    }
    pub fn batches(&self) -> usize {
        self.seen.lock().unwrap().batches.len()
    }
    pub fn refusals(&self) -> usize {
        self.refusals.load(Ordering::SeqCst)
    }
    pub fn replies(&self) -> Vec<proto::OrderReply> {
        self.seen.lock().unwrap().replies.clone()
    }

    /// Events of a stream, of each batch the first that came; sequences must have no gap.
    pub fn events(&self, stream: &str) -> Vec<Event> {
        let seen = self.seen.lock().unwrap();
        let mut last = 0;
        let mut found = Vec::new();
        for batch in seen.batches.iter().filter(|batch| batch.header.stream == stream) {
            if batch.header.sequence <= last {
                continue;
            }
            assert_eq!(batch.header.sequence, last + 1, "a gap in {stream}");
            last = batch.header.sequence;
            found.extend(batch.events.clone());
        }
        found
    }

    pub fn lines(&self, stream: &str) -> Vec<String> {
        self.events(stream)
            .iter()
            .filter(|event| event.str(field::SAKIMORI_ALERT_ID).is_none())
            .map(|event| event.str(field::EVENT_ORIGINAL).unwrap_or_default().to_owned())
            .collect()
    }

    pub fn said(&self, action: &str) -> usize {
        self.events("agent").iter().filter(|event| event.str(field::EVENT_ACTION) == Some(action)).count()
    }

    /// States of an action as they were told, in their order.
    pub fn states(&self, id: &str) -> Vec<String> {
        self.events("actions")
            .iter()
            .filter(|event| event.str(field::SAKIMORI_ACTION_ID) == Some(id))
            .map(|event| event.str(field::SAKIMORI_ACTION_STATE).unwrap().to_owned())
            .collect()
    }

    pub fn provisional(&self) -> Vec<String> {
        self.seen.lock().unwrap().provisional.iter().map(|one| one.id.clone()).collect()
    }
    pub fn ledger(&self) -> Vec<proto::LedgerAt> {
        self.seen.lock().unwrap().ledger.clone()
    }
    pub fn hello(&self) -> proto::Hello {
        self.seen.lock().unwrap().hellos.last().unwrap().clone()
    }

    /// What the next welcome calls the newest policy and bundle.
    pub fn set_newest(&self, policy: u64, bundle: u64) {
        self.seen.lock().unwrap().newest = Some((policy, bundle));
    }

    /// A seal of now for the one agent, by the key of orders.
    pub fn seal(&self, act: Act<'_>) -> Vec<u8> {
        seal_by(&self.order_key, "agent-1", act, 600)
    }

    /// An order with the manager's seal beside those of operators.
    pub fn order(&self, order: &Order, operators: &[&SigningKey]) -> Down {
        let mut order = order.clone();
        order.signatures = operators.iter().map(|key| seal_by(key, "agent-1", Act::Order(&order), 600)).collect();
        order.signatures.push(self.seal(Act::Order(&order)));
        Down::Order(proto::OrderDown { json: serde_json::to_vec(&order).unwrap() })
    }

    pub fn undo(&self, action: &str, by: &str) -> Down {
        let signatures = vec![self.seal(Act::Undo { action, by })];
        Down::Undo(proto::UndoDown { action_id: action.into(), by: by.into(), signatures })
    }

    pub fn policy(&self, number: u64, policy: &sakimori_model::policy::Policy) -> Down {
        let json = serde_json::to_vec(policy).unwrap();
        let signature = self.seal(Act::Policy { number, json: &json });
        Down::Policy(proto::PolicyDown { number, json, signature })
    }

    pub fn halt(&self, number: u64, halted: bool, undo: bool) -> Down {
        let (by, reason) = ("ann".to_owned(), "drill".to_owned());
        let signatures = vec![self.seal(Act::Halt { number, halted, undo, by: &by, reason: &reason })];
        Down::Halt(proto::HaltDown { number, halted, undo, by, reason, signatures })
    }

    pub fn operators(&self, addresses: &[&str]) -> Down {
        let parsed: Vec<std::net::IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let signatures = vec![self.seal(Act::Operators(&parsed))];
        let addresses = addresses.iter().map(|text| (*text).to_owned()).collect();
        Down::Operators(proto::OperatorsDown { addresses, signatures })
    }

    pub fn confirm(&self, action: &str, by: &str) -> Down {
        let signatures = vec![self.seal(Act::Confirm { action, by })];
        Down::Confirm(proto::ConfirmDown { action_id: action.into(), by: by.into(), signatures })
    }

    /// The order key, sealed by the bundle key.
    pub fn order_key_down(&self) -> Down {
        let key = self.order_key.verifying_key().to_bytes();
        let signatures = vec![seal_by(&self.key, "agent-1", Act::OrderKey(&key), 600)];
        Down::OrderKey(proto::OrderKeyDown { key: key.to_vec(), signatures })
    }

    pub fn send(&self, message: Down) {
        let stream = self.seen.lock().unwrap().streams.last().cloned().unwrap();
        stream.blocking_send(Ok(proto::Down { message: Some(message) })).unwrap();
    }

    pub fn break_streams(&self) {
        for stream in std::mem::take(&mut self.seen.lock().unwrap().streams) {
            let _ = stream.blocking_send(Err(Status::unavailable("the test breaks it")));
        }
    }

    pub fn bundle(&self, number: u64) -> Vec<u8> {
        self.bundle_by(number, &self.key)
    }

    pub fn forged_bundle(&self, number: u64) -> Vec<u8> {
        self.bundle_by(number, &sakimori_content::keys::generate().unwrap())
    }

    fn bundle_by(&self, number: u64, key: &SigningKey) -> Vec<u8> {
        sakimori_content::build(&sakimori_content::builtin(), Draft::from(number), key).unwrap()
    }
}

/// A seal of now, good for so many seconds.
pub fn seal_by(key: &SigningKey, host: &str, act: Act<'_>, seconds: i64) -> Vec<u8> {
    let now = sakimori_runtime::Clock::now(&sakimori_runtime::SystemClock);
    sakimori_respond::seal::seal(key, host, act, now, now.plus_secs(seconds))
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, service: Service) {
    let (to, from) = channel(8);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, to) = (acceptor.clone(), to.clone());
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    let _ = to.send(Ok::<_, std::io::Error>(Conn(stream))).await;
                }
            });
        }
    });
    tonic::transport::Server::builder()
        .add_service(EnrolmentServer::new(service.clone()))
        .add_service(LinkServer::new(service).max_decoding_message_size(16 << 20))
        .serve_with_incoming(ReceiverStream::new(from))
        .await
        .unwrap();
}

/// Has the peer a certificate?
#[derive(Clone, Copy)]
struct Peer(bool);

struct Conn(TlsStream<TcpStream>);

impl Connected for Conn {
    type ConnectInfo = Peer;
    fn connect_info(&self) -> Peer {
        Peer(self.0.get_ref().1.peer_certificates().is_some())
    }
}

impl AsyncRead for Conn {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Conn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl Service {
    fn sign(&self, csr_pem: &str, agent: &str) -> Result<String, Status> {
        let mut csr = CertificateSigningRequestParams::from_pem(csr_pem)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        csr.params.distinguished_name = rcgen::DistinguishedName::new();
        csr.params.distinguished_name.push(rcgen::DnType::CommonName, agent);
        let days = if self.short_lived.load(Ordering::SeqCst) { 10 } else { 90 };
        let out = std::process::Command::new("date").args(["-u", "-d", &format!("+{days} days"), "+%Y %m %d"]).output();
        let text = String::from_utf8(out.unwrap().stdout).unwrap();
        let date: Vec<i32> = text.split_whitespace().map(|part| part.parse().unwrap()).collect();
        csr.params.not_after = rcgen::date_time_ymd(date[0], date[1] as u8, date[2] as u8);
        Ok(csr.signed_by(&*self.issuer).map_err(|error| Status::internal(error.to_string()))?.pem())
    }
}

#[tonic::async_trait]
impl Enrolment for Service {
    async fn enrol(&self, request: Request<proto::EnrolRequest>) -> Result<Response<proto::EnrolReply>, Status> {
        let request = request.into_inner();
        let agent_id;
        {
            let mut seen = self.seen.lock().unwrap();
            if !request.token.starts_with("group") && seen.used_tokens.contains(&request.token) {
                return Err(Status::permission_denied("this token was used"));
            }
            seen.used_tokens.push(request.token);
            agent_id = format!("agent-{}", seen.enrolled.len() + 1);
            seen.enrolled.push(agent_id.clone());
            seen.received.clear();
        }
        Ok(Response::new(proto::EnrolReply {
            certificate_pem: self.sign(&request.csr_pem, &agent_id)?,
            agent_id,
            ca_pem: self.ca_pem.clone(),
            bundle_key: self.bundle_key.clone(),
            link_address: self.address.to_string(),
            order_key: if self.is_old.load(Ordering::SeqCst) { Vec::new() } else { self.order_key.clone() },
        }))
    }
}

#[tonic::async_trait]
impl Link for Service {
    type OpenStream = ReceiverStream<Result<proto::Down, Status>>;

    async fn open(&self, request: Request<Streaming<proto::Up>>) -> Result<Response<Self::OpenStream>, Status> {
        if !request.extensions().get::<Peer>().is_some_and(|peer| peer.0) {
            return Err(Status::unauthenticated("no certificate"));
        }
        if self.revoked.load(Ordering::SeqCst) {
            self.refusals.fetch_add(1, Ordering::SeqCst);
            return Err(Status::permission_denied("this agent is revoked"));
        }
        let (to, from) = channel(64);
        let mut incoming = request.into_inner();
        let this = self.clone();
        tokio::spawn(async move {
            while let Ok(Some(up)) = incoming.message().await {
                match up.message.unwrap() {
                    Up::Hello(hello) => {
                        let welcome = {
                            let mut seen = this.seen.lock().unwrap();
                            seen.hellos.push(hello);
                            seen.streams.push(to.clone());
                            proto::Welcome {
                                protocol: 1,
                                manager_version: "test".into(),
                                received: seen
                                    .received
                                    .iter()
                                    .map(|(stream, sequence)| proto::Receipt {
                                        stream: stream.clone(),
                                        sequence: *sequence,
                                    })
                                    .collect(),
                                policy: seen.newest.map(|(policy, _)| policy),
                                bundle: seen.newest.map(|(_, bundle)| bundle),
                            }
                        };
                        let _ = to.send(Ok(proto::Down { message: Some(Down::Welcome(welcome)) })).await;
                    }
                    Up::Batch(one) => {
                        let batch = batch::decode(&one.batch).unwrap();
                        assert!(this.seen.lock().unwrap().enrolled.contains(&batch.header.origin));
                        let (stream, sequence) = (batch.header.stream.clone(), batch.header.sequence);
                        let acknowledge = this.acknowledge.load(Ordering::SeqCst);
                        {
                            let mut seen = this.seen.lock().unwrap();
                            seen.batches.push(batch);
                            if acknowledge {
                                let last = seen.received.entry(stream.clone()).or_default();
                                *last = sequence.max(*last);
                            }
                        }
                        if acknowledge {
                            let receipt = proto::Receipt { stream, sequence };
                            let _ = to.send(Ok(proto::Down { message: Some(Down::Receipt(receipt)) })).await;
                        }
                    }
                    Up::Status(status) => {
                        serde_json::from_slice::<sakimori_wire::status::AgentStatus>(&status.json).unwrap();
                    }
                    Up::Provisional(one) => this.seen.lock().unwrap().provisional.push(one),
                    Up::LedgerAt(one) => this.seen.lock().unwrap().ledger.push(one),
                    Up::OrderReply(reply) => this.seen.lock().unwrap().replies.push(reply),
                    Up::Goodbye(goodbye) => {
                        this.seen.lock().unwrap().goodbyes.push(goodbye.reason());
                        break;
                    }
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(from)))
    }

    async fn renew(&self, request: Request<proto::RenewRequest>) -> Result<Response<proto::RenewReply>, Status> {
        if !request.extensions().get::<Peer>().is_some_and(|peer| peer.0) {
            return Err(Status::unauthenticated("no certificate"));
        }
        self.short_lived.store(false, Ordering::SeqCst);
        Ok(Response::new(proto::RenewReply { certificate_pem: self.sign(&request.into_inner().csr_pem, "agent-1")? }))
    }
}

/// A CONNECT proxy on a free port; counts the tunnels that it made.
pub fn proxy() -> (SocketAddr, Arc<AtomicUsize>) {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let tunnels = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&tunnels);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, count) = (client.unwrap(), Arc::clone(&count));
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).unwrap_or(0) == 1 {
                    head.push(byte[0]);
                }
                let head = String::from_utf8(head).unwrap();
                let target = head.strip_prefix("CONNECT ").unwrap().split(' ').next().unwrap();
                let mut server = std::net::TcpStream::connect(target).unwrap();
                client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
                let _ = std::io::copy(&mut server, &mut client);
            });
        }
    });
    (address, tunnels)
}
