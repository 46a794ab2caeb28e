//! The way to the manager: TCP, or a CONNECT tunnel through a proxy, then TLS 1.3 that trusts one CA.
//!
//! On the first connection, at enrolment, the CA is not on this host yet: the token carries the SHA-256 of its
//! certificate. The manager sends it in its chain, and [`PinnedCa`] takes it as the root where the hash is
//! right; all else (name, times, signatures) is verified as always.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::rt::TokioIo;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tower::Service;

use super::identity::Identity;

/// Most addresses of a name that are told.
const MOST_ADDRESSES: usize = 8;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Client side of the mutual TLS of the agent channel.
///
/// # Errors
/// Where the identity cannot be read.
pub fn mutual(identity: &Identity) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in identity.ca()? {
        roots.add(certificate).context("ca.pem holds no usable CA")?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .context("TLS 1.3 is not there")?
        .with_root_certificates(roots)
        .with_client_auth_cert(identity.certificates()?, identity.key()?)
        .context("key and certificate of the identity do not fit")?;
    Ok(with_http2(config))
}

/// Client side of the enrolment's TLS: the server proves itself by a CA of this hash.
///
/// # Errors
/// Where TLS 1.3 is not there.
pub fn pinned(ca_sha256: [u8; 32]) -> Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .context("TLS 1.3 is not there")?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedCa { ca_sha256, provider }))
        .with_no_client_auth();
    Ok(with_http2(config))
}

fn with_http2(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// Addresses of the name that will be connected to, the proxy's where there is one; none where it is an address, or the name
/// servers do not say.
pub async fn addresses(address: &str, proxy: Option<&str>) -> Vec<IpAddr> {
    let (host, port) = match proxy.and_then(|proxy| proxy.parse::<tonic::codegen::http::Uri>().ok()) {
        Some(proxy) => (proxy.host().unwrap_or_default().to_owned(), proxy.port_u16().unwrap_or(80)),
        None => match sakimori_wire::token::split_address(address) {
            Some((host, port)) => (host.to_owned(), port),
            None => return Vec::new(),
        },
    };
    if host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok() {
        return Vec::new();
    }
    let looked = tokio::time::timeout(CONNECT_TIMEOUT, tokio::net::lookup_host((host, port))).await;
    let Ok(Ok(found)) = looked else { return Vec::new() };
    let mut all: Vec<IpAddr> = found.map(|one| one.ip().to_canonical()).take(MOST_ADDRESSES).collect();
    all.dedup();
    all
}

/// Opens a gRPC channel to `host:port`. The address that was connected to (the proxy's, where there is one) is
/// put into `peer`.
///
/// # Errors
/// What failed: name, connection, proxy or TLS.
pub async fn open(
    address: &str,
    proxy: Option<&str>,
    config: ClientConfig,
    peer: Arc<Mutex<Option<IpAddr>>>,
) -> Result<Channel> {
    let (host, port) = sakimori_wire::token::split_address(address)
        .with_context(|| format!("expected host:port of the manager, found \"{address}\""))?;
    let name = ServerName::try_from(host.to_owned()).with_context(|| format!("\"{host}\" is no name of a host"))?;
    let target = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let proxy = match proxy {
        Some(proxy) => Some(proxy.parse().with_context(|| format!("expected http://host:port, found \"{proxy}\""))?),
        None => None,
    };
    let connector = TlsConnector::from(Arc::new(config));
    let endpoint = Endpoint::from_shared(format!("http://{target}"))
        .with_context(|| format!("\"{address}\" is no address of a manager"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true);
    let connect = tower::service_fn(move |_: tonic::codegen::http::Uri| {
        let (connector, name, target, proxy, peer) =
            (connector.clone(), name.clone(), target.clone(), proxy.clone(), Arc::clone(&peer));
        async move {
            let stream = tokio::time::timeout(CONNECT_TIMEOUT, dial(&target, proxy, connector, name, &peer))
                .await
                .map_err(|_| std::io::Error::new(std::io::ErrorKind::TimedOut, "no connection in time"))??;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    endpoint.connect_with_connector(connect).await.map_err(|error| anyhow::anyhow!(explain(&error)))
}

async fn dial(
    target: &str,
    proxy: Option<tonic::codegen::http::Uri>,
    connector: TlsConnector,
    name: ServerName<'static>,
    peer: &Mutex<Option<IpAddr>>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = match proxy {
        None => TcpStream::connect(target).await?,
        Some(proxy) => {
            let uri = format!("https://{target}").parse().map_err(std::io::Error::other)?;
            let mut tunnel = Tunnel::new(proxy, HttpConnector::new());
            std::future::poll_fn(|context| tunnel.poll_ready(context)).await.map_err(std::io::Error::other)?;
            tunnel.call(uri).await.map_err(std::io::Error::other)?.into_inner()
        }
    };
    stream.set_nodelay(true)?;
    if let (Ok(address), Ok(mut peer)) = (stream.peer_addr(), peer.lock()) {
        *peer = Some(address.ip().to_canonical());
    }
    connector.connect(name, stream).await
}

/// An error with its causes, in one line.
pub fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    text
}

/// Takes the one CA of the presented chain that has the pinned hash as the only root.
#[derive(Debug)]
struct PinnedCa {
    ca_sha256: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedCa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let is_pinned = |one: &&CertificateDer<'_>| <[u8; 32]>::from(Sha256::digest(one)) == self.ca_sha256;
        let Some(ca) = intermediates.iter().find(is_pinned) else {
            return Err(rustls::Error::General(
                "the manager's CA is not the one that the token names; ask for a new token".into(),
            ));
        };
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 is required".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
