//! Application protocols: what the streams of a flow mean.
//!
//! A parser takes the bytes of both directions in order and fills transactions ([`Tx`]): one request with its
//! answer, one message, one connection. Detection looks at transactions only, through the catalog of buffers.
//! Every parser bounds what it keeps; what is anomalous becomes an event of the transaction.

mod access;
mod dns;
mod files;
mod ftp;
pub(crate) mod http1;
mod http2;
mod probe;
mod proto;
mod smtp;
mod ssh;
mod tls;
mod tx;

pub(crate) use files::File;
pub use proto::AppProto;

/// Most bytes of a file or body that are kept.
pub(crate) fn files_most() -> usize {
    files::MOST_KEPT
}

pub(crate) use probe::{Found, probe};

pub(crate) use ftp::FtpData;
pub(crate) use tx::{Kind, Transactions, Tx, TxState};

pub use http1::HttpSettings;

/// Direction of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Dir {
    ToServer = 0,
    ToClient = 1,
}

impl Dir {
    pub(crate) fn other(self) -> Self {
        if self == Self::ToServer { Self::ToClient } else { Self::ToServer }
    }
}

/// Settings of all parsers.
#[derive(Clone, Debug, Default)]
pub struct AppSettings {
    pub http: HttpSettings,
    /// Most transactions of one flow that are open at once.
    pub most_transactions: Option<usize>,
    /// UDP and TCP ports of DNS besides what is recognised.
    pub dns_ports: Vec<u16>,
}

/// What a parser says after it took bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Going,
    /// The parser gave up; the flow is not parsed any more.
    Failed,
    /// From here on the flow speaks another protocol.
    Upgrade(AppProto),
    /// Nothing of the flow needs to be seen any more: it is encrypted.
    Encrypted,
}

/// A parser of one flow.
pub(crate) trait Parser: Send {
    /// Takes the next bytes of a direction.
    fn data(&mut self, dir: Dir, data: &[u8], txs: &mut Transactions) -> Status;
    /// Bytes of a direction are missing.
    fn gap(&mut self, dir: Dir, length: usize, txs: &mut Transactions) -> Status;
    /// No more bytes come in a direction.
    fn end(&mut self, dir: Dir, txs: &mut Transactions);
    /// Whether a gap can be got over.
    fn bears_gaps(&self) -> bool {
        false
    }
    /// Bytes that were not consumed when another protocol takes over.
    fn leftover(&mut self, _dir: Dir) -> Vec<u8> {
        Vec::new()
    }
    /// A data connection that was agreed on: its port and the file's name, and the direction of the bytes.
    fn expected(&mut self) -> Option<ftp::Expected> {
        None
    }
}

pub(crate) use ftp::Expected;

/// Makes the parser of a protocol; `None` where there is none yet.
pub(crate) fn parser(app: AppProto, settings: &AppSettings, udp: bool) -> Option<Box<dyn Parser>> {
    Some(match app {
        AppProto::Http1 => Box::new(http1::Http1::new(settings.http.clone())),
        AppProto::Http2 => Box::new(http2::Http2::new(settings.http.clone())),
        AppProto::Dns => Box::new(dns::Dns::new(udp)),
        AppProto::Tls => Box::new(tls::Tls::default()),
        AppProto::Ssh => Box::new(ssh::Ssh::default()),
        AppProto::Smtp => Box::new(smtp::Smtp::default()),
        AppProto::Ftp => Box::new(ftp::Ftp::default()),
        AppProto::FtpData => Box::new(ftp::FtpData::default()),
        _ => return None,
    })
}

#[cfg(test)]
pub(crate) mod play {
    //! Plays bytes into a parser for its tests.
    use super::*;

    /// Runs pieces through a fresh parser, ends both directions, and returns the transactions.
    pub(crate) fn play(app: AppProto, pieces: &[(Dir, &[u8])]) -> Transactions {
        let mut parser = parser(app, &AppSettings::default(), false).unwrap();
        let mut txs = Transactions::default();
        for (dir, piece) in pieces {
            if parser.data(*dir, piece, &mut txs) == Status::Failed {
                return txs;
            }
        }
        parser.end(Dir::ToServer, &mut txs);
        parser.end(Dir::ToClient, &mut txs);
        txs
    }
}
