//! `syslog`: messages of RFC 5424 by UDP (RFC 5426), TCP or TLS (RFC 5425, octet counting of RFC 6587), one an alert, whose
//! text is a JSON document in ECS's fields or CEF.
//!
//! Syslog answers nothing: a message is delivered when it is written, and by TCP and TLS when the other side has not closed
//! the connection by then.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use sakimori_respond::actions::Safety;
use sakimori_respond::ports::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio_rustls::TlsConnector;

use super::syslog_wire::{self as wire, Form};
use super::{Failure, Key, Kind, Letter, Need, PATIENCE, Receipt, Receiver, Setting};
use crate::config::Channel;

/// Largest message by UDP: what a receiver should take (RFC 5426).
pub const MOST_DATAGRAM: usize = 2_048;
/// Largest message of a stream: what rsyslog takes as it is installed.
pub const MOST_FRAME: usize = 8_000;
/// So long the other side may take to close what it refuses.
const LINGER: Duration = Duration::from_millis(200);

/// What it is.
pub const KIND: Kind = Kind {
    id: "syslog",
    about: "RFC 5424 by UDP, TCP or TLS, with JSON or CEF in it",
    url: Need::Must("udp://host:514, tcp://host:601 or tls://host:6514"),
    secret: Need::Never,
    settings: &[
        Setting::may("format", "json (where absent) or cef"),
        Setting::may("facility", "its number, 0 to 23; 13 (log audit) where absent"),
        Setting::may("ca", "file with the certificate that signs the server's, PEM; the system's roots where absent"),
    ],
    safety: Safety::Repeatable,
    closes: false,
    findings: None,
    settles: 0,
    rate: (100, 6_000),
    open: |channel, _| Ok(Box::new(Syslog::open(channel)?)),
};

enum By {
    Udp,
    Tcp,
    Tls(Arc<rustls::ClientConfig>),
}

struct Syslog {
    host: String,
    port: u16,
    by: By,
    form: Form,
    facility: u8,
}

impl Syslog {
    fn open(channel: &Channel) -> Result<Self, String> {
        let url = url::Url::parse(&channel.url).map_err(|error| format!("url {}: {error}", channel.url))?;
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err("url is udp://host:514, tcp://host:601 or tls://host:6514".into());
        }
        let (by, usual) = match url.scheme() {
            "udp" => (By::Udp, 514),
            "tcp" => (By::Tcp, 601),
            "tls" => (By::Tls(tls(channel.setting("ca"))?), 6_514),
            other => return Err(format!("url begins with {other}; expected udp, tcp or tls")),
        };
        let form = match channel.setting("format") {
            None | Some("json") => Form::Json,
            Some("cef") => Form::Cef,
            Some(other) => return Err(format!("settings.format is {other}; expected json or cef")),
        };
        let facility = match channel.setting("facility").map(str::parse::<u8>) {
            None => 13,
            Some(Ok(number)) if number <= 23 => number,
            Some(_) => return Err("settings.facility is a number from 0 to 23".into()),
        };
        Ok(Self { host, port: url.port().unwrap_or(usual), by, form, facility })
    }

    async fn send(&self, letter: &Letter<'_>) -> Result<Receipt, Failure> {
        let most = if matches!(self.by, By::Udp) { MOST_DATAGRAM } else { MOST_FRAME };
        let messages = wire::messages(letter, self.form, self.facility, most);
        let address = (self.host.as_str(), self.port);
        let connect =
            |error: std::io::Error| Failure::not_taken(format!("connect to {}:{}: {error}", self.host, self.port));
        match &self.by {
            By::Udp => {
                let any = match tokio::net::lookup_host(address).await.map_err(connect)?.next() {
                    Some(std::net::SocketAddr::V6(_)) => "[::]:0",
                    Some(std::net::SocketAddr::V4(_)) => "0.0.0.0:0",
                    None => return Err(Failure::not_taken(format!("{} has no address", self.host))),
                };
                let socket = UdpSocket::bind(any).await.map_err(connect)?;
                socket.connect(address).await.map_err(connect)?;
                for message in &messages {
                    socket.send(message.as_bytes()).await.map_err(connect)?;
                }
            }
            By::Tcp => {
                let stream = TcpStream::connect(address).await.map_err(connect)?;
                self.frames(stream, &messages).await?;
            }
            By::Tls(config) => {
                let stream = TcpStream::connect(address).await.map_err(connect)?;
                let name = ServerName::try_from(self.host.clone())
                    .map_err(|error| Failure::Refused(format!("{}: {error}", self.host)))?;
                let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await.map_err(connect)?;
                self.frames(stream, &messages).await?;
            }
        }
        Ok(Receipt::said(format!("{} written; syslog answers nothing", messages.len())))
    }

    /// Writes frames with octet counting, and looks whether the other side refuses.
    async fn frames(
        &self,
        mut stream: impl AsyncRead + AsyncWrite + Unpin,
        messages: &[String],
    ) -> Result<(), Failure> {
        let mut bytes = Vec::new();
        for message in messages {
            bytes.extend_from_slice(format!("{} ", message.len()).as_bytes());
            bytes.extend_from_slice(message.as_bytes());
        }
        let lost = |error: std::io::Error| Failure::Unknown(format!("write to {}:{}: {error}", self.host, self.port));
        stream.write_all(&bytes).await.map_err(lost)?;
        stream.flush().await.map_err(lost)?;
        // No answer is the good one. One that closes at once has read nothing of it, or not all.
        let mut byte = [0_u8; 1];
        match tokio::time::timeout(LINGER, stream.read(&mut byte)).await {
            Ok(Err(error)) => Err(lost(error)),
            Ok(Ok(0)) => Err(Failure::Unknown(format!("{}:{} closed the connection at once", self.host, self.port))),
            _ => {
                let _ = stream.shutdown().await;
                Ok(())
            }
        }
    }
}

/// TLS to a server whose certificate this file signs, or one of the system's.
fn tls(ca: Option<&str>) -> Result<Arc<rustls::ClientConfig>, String> {
    sakimori_runtime::http::install_crypto();
    let mut roots = rustls::RootCertStore::empty();
    match ca {
        Some(path) => {
            let fail = |error: &dyn std::fmt::Display| format!("read {path}: {error}");
            let found = CertificateDer::pem_file_iter(path).map_err(|error| fail(&error))?;
            for certificate in found {
                let certificate = certificate.map_err(|error| fail(&error))?;
                roots.add(certificate).map_err(|error| fail(&error))?;
            }
        }
        None => {
            for certificate in rustls_native_certs::load_native_certs().certs {
                // One that cannot be read is one that signs nothing here.
                let _ = roots.add(certificate);
            }
        }
    }
    if roots.is_empty() {
        return Err("no certificate signs the server's; settings.ca names a file with one".into());
    }
    Ok(Arc::new(rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
}

impl Receiver for Syslog {
    fn tell<'a>(&'a self, letter: &'a Letter<'a>, _: &'a Key) -> BoxFuture<'a, Result<Receipt, Failure>> {
        Box::pin(async move {
            let silent = || Failure::Unknown(format!("{}:{} is silent", self.host, self.port));
            tokio::time::timeout(PATIENCE, self.send(letter)).await.map_err(|_| silent())?
        })
    }
}
