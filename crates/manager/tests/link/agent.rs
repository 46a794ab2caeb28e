//! A world with one state folder and managers started in it, and an agent that speaks the real protocol.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use sakimori_manager::config::Config;
use sakimori_manager::{Manager, Running};
use sakimori_model::{Event, Timestamp, field};
use sakimori_wire::agent as proto;
use sakimori_wire::agent::down::Message as Down;
use sakimori_wire::agent::enrolment_client::EnrolmentClient;
use sakimori_wire::agent::link_client::LinkClient;
use sakimori_wire::agent::up::Message as Up;
use sakimori_wire::batch::{Batch, BatchHeader, encode};
use sakimori_wire::token::EnrolmentToken;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

const PATIENCE: Duration = Duration::from_secs(30);

/// A folder, and a runtime that can be taken away as a SIGKILL would.
pub struct World {
    dir: tempfile::TempDir,
    runtime: Mutex<Option<tokio::runtime::Runtime>>,
    password: Mutex<String>,
}

impl World {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), runtime: Mutex::default(), password: Mutex::default() }
    }

    pub fn run<T>(&self, work: impl Future<Output = T>) -> T {
        let mut runtime = self.runtime.lock().unwrap();
        let runtime = runtime.get_or_insert_with(|| {
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
        });
        runtime.block_on(work)
    }

    /// The state folder.
    pub fn state(&self) -> std::path::PathBuf {
        self.dir.path().join("state")
    }

    /// The file with the key that seals its secrets.
    pub fn seal_key(&self) -> std::path::PathBuf {
        self.dir.path().join("state.seal.key")
    }

    /// The same people as in another world.
    pub fn know(&self, other: &Self) {
        self.password.lock().unwrap().clone_from(&other.password.lock().unwrap());
    }

    /// Ends all tasks where they are.
    pub fn kill(&self) {
        self.runtime.lock().unwrap().take().unwrap().shutdown_timeout(PATIENCE);
    }

    pub async fn start(&self) -> Running {
        self.start_with(|_| {}).await
    }

    pub async fn start_with(&self, change: impl FnOnce(&mut Config)) -> Running {
        let mut config = self.config();
        change(&mut config);
        self.know_first(Manager::start(config).await.unwrap())
    }

    /// Notes the first password, where this start made it.
    pub fn know_first(&self, running: Running) -> Running {
        if let Some(password) = &running.first_password {
            self.password.lock().unwrap().clone_from(password);
        }
        running
    }

    pub fn config(&self) -> Config {
        let mut config = Config { state_dir: self.state(), ..Config::default() };
        config.api.listen = "127.0.0.1:0".parse().unwrap();
        config.link.listen = "127.0.0.1:0".parse().unwrap();
        // The disk of whoever runs the tests may be as full as it likes.
        config.lake.least_free_percent = 0;
        config
    }

    /// Status of a POST, as the first user.
    pub async fn status(&self, manager: &Running, path: &str, body: Value) -> u16 {
        self.raw(manager, reqwest::Method::POST, path, Some(body)).await.0
    }

    /// Id of the first user.
    pub async fn user(&self, manager: &Running) -> String {
        let page = self.ask(manager, "/api/v1/users").await;
        page["items"][0]["id"].as_str().unwrap().to_owned()
    }

    /// A request as the first user.
    pub async fn request(&self, manager: &Running, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let client = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        let base = format!("http://{}", manager.api_addr);
        let password = self.password.lock().unwrap().clone();
        let session =
            client.post(format!("{base}/api/v1/session")).json(&json!({"name": "admin", "password": password}));
        let session: Value = session.send().await.unwrap().json().await.unwrap();
        client.request(method, format!("{base}{path}")).bearer_auth(session["token"].as_str().unwrap())
    }

    async fn call(&self, manager: &Running, method: reqwest::Method, path: &str, body: Option<Value>) -> Value {
        let (status, text) = self.raw(manager, method, path, body).await;
        assert!((200..300).contains(&status), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    async fn raw(&self, manager: &Running, method: reqwest::Method, path: &str, body: Option<Value>) -> (u16, String) {
        let mut request = self.request(manager, method, path).await;
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    pub async fn ask(&self, manager: &Running, path: &str) -> Value {
        self.call(manager, reqwest::Method::GET, path, None).await
    }

    pub async fn post(&self, manager: &Running, path: &str, body: Value) -> Value {
        self.call(manager, reqwest::Method::POST, path, Some(body)).await
    }

    pub async fn put(&self, manager: &Running, path: &str, body: Value) -> Value {
        self.call(manager, reqwest::Method::PUT, path, Some(body)).await
    }

    pub async fn token(&self, manager: &Running) -> EnrolmentToken {
        self.token_like(manager, json!({"name": "test"})).await.0
    }

    /// A token, and its id.
    pub async fn token_like(&self, manager: &Running, like: Value) -> (EnrolmentToken, String) {
        let answer = self.post(manager, "/api/v1/enrolment-tokens", like).await;
        (answer["token"].as_str().unwrap().parse().unwrap(), answer["enrolment"]["id"].as_str().unwrap().to_owned())
    }

    pub async fn delete(&self, manager: &Running, path: &str) {
        self.call(manager, reqwest::Method::DELETE, path, None).await;
    }

    /// State of an agent, as the API shows it.
    pub async fn presence(&self, manager: &Running, agent: &str) -> String {
        self.ask(manager, &format!("/api/v1/agents/{agent}")).await["state"].as_str().unwrap().to_owned()
    }

    pub async fn count(&self, manager: &Running, query: &str) -> u64 {
        self.ask(manager, &format!("/api/v1/events/count?q={query}")).await["count"].as_u64().unwrap()
    }

    /// Ids and states of all actions.
    pub async fn actions(&self, manager: &Running) -> Vec<(String, String)> {
        let page = self.ask(manager, "/api/v1/actions?limit=500").await;
        let list = page["items"].as_array().unwrap();
        list.iter()
            .map(|one| (one["order"]["id"].as_str().unwrap().to_owned(), one["state"].as_str().unwrap().to_owned()))
            .collect()
    }
}

/// Failed logins.
pub fn events(count: usize) -> Vec<Event> {
    (0..count)
        .map(|number| {
            let mut event = Event::new();
            event.set(field::TIMESTAMP, Timestamp::from_secs(1_790_000_000));
            event.set(field::EVENT_KIND, "event");
            event.set(field::SOURCE_IP, "203.0.113.9".parse::<std::net::IpAddr>().unwrap());
            event.set(field::SOURCE_PORT, number as i64);
            event
        })
        .collect()
}

/// Key and certificate of another CA in the name of this agent.
pub fn forged_identity(id: &str) -> (String, String) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::<String>::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, "Sakimori CA");
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, id);
    (key.serialize_pem(), params.signed_by(&key, &issuer).unwrap().pem())
}

#[derive(Clone)]
pub struct Agent {
    pub id: String,
    pub order_key: Vec<u8>,
    /// What it says of itself at connect.
    pub hello: proto::Hello,
    pub key_pem: String,
    pub certificate_pem: String,
    ca_pem: String,
    pub address: String,
}

impl Agent {
    pub async fn enrol(token: &EnrolmentToken) -> Result<Self, Status> {
        Self::enrol_on(token, proto::Host { name: "web1".into(), ..proto::Host::default() }).await
    }

    /// Enrols as a host with these facts.
    pub async fn enrol_on(token: &EnrolmentToken, host: proto::Host) -> Result<Self, Status> {
        let key = KeyPair::generate().unwrap();
        let request = request(&key);
        // The token's hash is checked by the real agent's own tests; here any server is believed.
        let channel = connect(&token.address, believing()).await?;
        let ask = proto::EnrolRequest { token: token.secret.clone(), csr_pem: request, host: Some(host) };
        let reply = EnrolmentClient::new(channel).enrol(ask).await?.into_inner();
        Ok(Self {
            id: reply.agent_id,
            hello: proto::Hello { order_key: vec![1; 16], ..proto::Hello::default() },
            order_key: reply.order_key,
            key_pem: key.serialize_pem(),
            certificate_pem: reply.certificate_pem,
            ca_pem: reply.ca_pem,
            address: reply.link_address,
        })
    }

    pub fn request(&self) -> String {
        request(&KeyPair::from_pem(&self.key_pem).unwrap())
    }

    fn tls(&self, with_certificate: bool) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca_pem.as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        if !with_certificate {
            return config.with_no_client_auth();
        }
        let chain = vec![CertificateDer::from_pem_slice(self.certificate_pem.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).unwrap();
        config.with_client_auth_cert(chain, key).unwrap()
    }

    pub async fn open(&self) -> Result<Stream, Status> {
        self.open_with(self.tls(true), proto::Host::default()).await
    }

    /// Connects from a host with these facts.
    pub async fn open_on(&self, host: proto::Host) -> Result<Stream, Status> {
        self.open_with(self.tls(true), host).await
    }

    pub async fn without_certificate(&self) -> Status {
        self.open_with(self.tls(false), proto::Host::default()).await.err().unwrap()
    }

    async fn open_with(&self, tls: ClientConfig, host: proto::Host) -> Result<Stream, Status> {
        let channel = connect(&self.address, tls).await?;
        let (up, receiver) = mpsc::channel(64);
        let hello = proto::Hello {
            protocol: sakimori_wire::PROTOCOL,
            agent_version: "test".into(),
            host: Some(host),
            modules: vec![proto::ModuleVersion { id: "log_inspection".into(), config_schema: 1 }],
            ..self.hello.clone()
        };
        up.send(proto::Up { message: Some(Up::Hello(hello)) }).await.unwrap();
        let down = LinkClient::new(channel)
            .max_decoding_message_size(16 << 20)
            .open(ReceiverStream::new(receiver))
            .await?
            .into_inner();
        let mut stream = Stream { up, down, welcome: Vec::new() };
        if let Down::Welcome(welcome) = stream.next().await? {
            stream.welcome = welcome.received.into_iter().map(|one| (one.stream, one.sequence)).collect();
        }
        Ok(stream)
    }

    pub async fn renew(&self) -> Result<String, Status> {
        let channel = connect(&self.address, self.tls(true)).await?;
        let ask = proto::RenewRequest { csr_pem: self.request() };
        Ok(LinkClient::new(channel).renew(ask).await?.into_inner().certificate_pem)
    }

    pub fn batch(&self, stream: &str, sequence: u64, events: Vec<Event>) -> Vec<u8> {
        self.batch_at(stream, sequence, 0, events)
    }

    pub fn batch_at(&self, stream: &str, sequence: u64, first_event: u64, events: Vec<Event>) -> Vec<u8> {
        let header = BatchHeader {
            id: sakimori_model::id::batch_id(&self.id, stream, sequence),
            origin: self.id.clone(),
            stream: stream.into(),
            sequence,
            first_event,
            bundle: 1,
            ..BatchHeader::default()
        };
        encode(&Batch { header, events }).unwrap()
    }
}

fn request(key: &KeyPair) -> String {
    CertificateParams::default().serialize_request(key).unwrap().pem().unwrap()
}

pub struct Stream {
    up: mpsc::Sender<proto::Up>,
    down: Streaming<proto::Down>,
    pub welcome: Vec<(String, u64)>,
}

impl Stream {
    pub async fn send(&self, batch: Vec<u8>) {
        let _ = self.up.send(proto::Up { message: Some(Up::Batch(proto::BatchUp { batch })) }).await;
    }

    async fn next(&mut self) -> Result<Down, Status> {
        let message = tokio::time::timeout(PATIENCE, self.down.message()).await.expect("an answer in time")?;
        message.and_then(|down| down.message).ok_or_else(|| Status::cancelled("the stream ended"))
    }

    pub async fn receipt(&mut self) -> (String, u64) {
        loop {
            if let Down::Receipt(receipt) = self.next().await.unwrap() {
                return (receipt.stream, receipt.sequence);
            }
        }
    }

    /// The next receipt; none where the stream ends before it.
    pub async fn try_receipt(&mut self) -> Option<(String, u64)> {
        loop {
            match self.next().await {
                Ok(Down::Receipt(receipt)) => return Some((receipt.stream, receipt.sequence)),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    pub async fn policy(&mut self) -> (u64, String) {
        loop {
            if let Down::Policy(policy) = self.next().await.unwrap() {
                return (policy.number, String::from_utf8(policy.json).unwrap());
            }
        }
    }

    pub async fn bundle(&mut self) -> u64 {
        loop {
            if let Down::Bundle(bundle) = self.next().await.unwrap() {
                return bundle.number;
            }
        }
    }

    /// The next message that the test looks for.
    pub async fn find<T>(&mut self, mut look: impl FnMut(Down) -> Option<T>) -> T {
        loop {
            if let Some(found) = look(self.next().await.unwrap()) {
                return found;
            }
        }
    }

    pub async fn say(&self, message: Up) {
        let _ = self.up.send(proto::Up { message: Some(message) }).await;
    }

    /// Id of the next action that is to be taken back.
    pub async fn undo(&mut self) -> String {
        loop {
            if let Down::Undo(undo) = self.next().await.unwrap() {
                return undo.action_id;
            }
        }
    }

    pub async fn answer(&self, id: &str, undo: bool) {
        let reply = proto::OrderReply { id: id.into(), accepted: true, undo, ..proto::OrderReply::default() };
        let _ = self.up.send(proto::Up { message: Some(Up::OrderReply(reply)) }).await;
    }

    /// Says why it goes, and waits until the manager has taken it.
    pub async fn goodbye(mut self, reason: proto::goodbye::Reason) {
        let goodbye = proto::Goodbye { reason: reason.into() };
        self.up.send(proto::Up { message: Some(Up::Goodbye(goodbye)) }).await.unwrap();
        self.end().await;
    }

    /// Reads until the manager ends the stream.
    pub async fn end(&mut self) -> Status {
        loop {
            if let Err(status) = self.next().await {
                return status;
            }
        }
    }
}

async fn connect(address: &str, mut tls: ClientConfig) -> Result<Channel, Status> {
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let (host, port) = sakimori_wire::token::split_address(address).unwrap();
    let (host, target) = (host.to_owned(), format!("{host}:{port}"));
    let connector = TlsConnector::from(Arc::new(tls));
    let connect = tower::service_fn(move |_: http::Uri| {
        let (connector, host, target) = (connector.clone(), host.clone(), target.clone());
        async move {
            let stream = TcpStream::connect(&target).await?;
            let name = ServerName::try_from(host).map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>(TokioIo::new(connector.connect(name, stream).await?))
        }
    });
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect_with_connector(connect).await.map_err(|error| Status::unauthenticated(format!("{error:?}")))
}

pub fn believing() -> ClientConfig {
    #[derive(Debug)]
    struct Any(Arc<rustls::crypto::CryptoProvider>);
    impl rustls::client::danger::ServerCertVerifier for Any {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: rustls_pki_types::UnixTime,
        ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
            Ok(rustls::client::danger::ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            Err(rustls::Error::General("TLS 1.3".into()))
        }
        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
        }
        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Any(provider)))
        .with_no_client_auth()
}
