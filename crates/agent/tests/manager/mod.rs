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
use sakimori_model::{Event, field};
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
    streams: Vec<Sender<Result<proto::Down, Status>>>,
    used_tokens: Vec<String>,
    goodbyes: Vec<proto::goodbye::Reason>,
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
}

impl Manager {
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let ca_key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = params.self_signed(&ca_key).unwrap();
        let (ca_pem, ca_der) = (ca.pem(), ca.der().to_vec());
        let issuer = Issuer::new(params, ca_key);
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
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
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let signing = sakimori_content::keys::generate().unwrap();
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
    fn sign(&self, csr_pem: &str) -> Result<String, Status> {
        let mut csr = CertificateSigningRequestParams::from_pem(csr_pem)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
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
            agent_id,
            certificate_pem: self.sign(&request.csr_pem)?,
            ca_pem: self.ca_pem.clone(),
            bundle_key: self.bundle_key.clone(),
            link_address: self.address.to_string(),
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
        Ok(Response::new(proto::RenewReply { certificate_pem: self.sign(&request.into_inner().csr_pem)? }))
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
