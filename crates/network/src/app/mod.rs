//! Application protocols: what the streams of a flow mean.
//!
//! A parser takes the bytes of both directions in order and fills transactions ([`Tx`]): one request with its
//! answer, one message, one connection. Detection looks at transactions only, through the catalog of buffers.
//! Every parser bounds what it keeps; what is anomalous becomes an event of the transaction.

pub(crate) mod access;
mod dns;
mod files;
mod ftp;
pub(crate) mod http1;
mod http2;
mod parameter;
mod probe;
mod proto;
mod smtp;
mod ssh;
mod tls;
mod tx;

pub(crate) use dns::DnsTx;
pub(crate) use files::File;
pub(crate) use http1::HttpTx;
pub use proto::AppProto;
pub(crate) use tls::TlsTx;

/// Most bytes of a file or body that are kept.
pub(crate) fn files_most() -> usize {
    files::MOST_KEPT
}

pub(crate) use probe::{Found, probe};

pub(crate) use ftp::FtpData;
pub(crate) use tx::{Kind, Seen, Transactions, Tx, TxState};

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
    /// Bytes that it holds and that its sender can make grow.
    fn kept(&self) -> usize;
    /// Whether a gap can be got over.
    fn bears_gaps(&self) -> bool {
        false
    }
    /// So many bytes of a direction would be content and nothing else, and a gap in them would be got over.
    fn content_ahead(&self, _dir: Dir) -> u64 {
        0
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

/// Runs bytes through the parser of a protocol, cut into pieces of changing length and direction: what a fuzz target
/// asks for. Gives how many transactions there were.
#[doc(hidden)]
pub fn exercise(app: AppProto, bytes: &[u8]) -> usize {
    let settings = AppSettings::default();
    let Some(mut parser) = parser(app, &settings, bytes.first().is_some_and(|byte| byte & 1 == 1)) else { return 0 };
    let mut txs = Transactions::default();
    let mut rest = bytes;
    while let Some((head, tail)) = rest.split_first() {
        let dir = if head & 0x80 == 0 { Dir::ToServer } else { Dir::ToClient };
        let count = match head & 0x7f {
            0x7f => tail.len(),
            short => usize::from(short).min(tail.len()),
        };
        let (piece, after) = tail.split_at(count);
        let status = if piece.is_empty() { parser.gap(dir, 3, &mut txs) } else { parser.data(dir, piece, &mut txs) };
        parser.expected();
        if status == Status::Failed {
            break;
        }
        rest = after;
    }
    for dir in [Dir::ToServer, Dir::ToClient] {
        parser.end(dir, &mut txs);
    }
    for tx in &txs.list {
        for def in crate::rules::buffers::BUFFERS {
            for dir in [Dir::ToServer, Dir::ToClient] {
                tx.values(def.buffer, dir, &mut |_| false);
            }
        }
    }
    txs.list.len()
}

#[cfg(test)]
mod hostile {
    use super::*;

    /// What each parser knows, to be bent.
    const SEEDS: &[(AppProto, &[u8])] = &[
        (AppProto::Http1, b"\x40POST /a%2f..?x=%41 HTTP/1.1\r\nHost: a:1\r\nTransfer-Encoding: chunked\r\n\r\n\x14 3;x\r\nabc\r\n0\r\nT: x\r\n\r\n\xffHTTP/1.1 200 OK\r\nContent-Encoding: gzip, deflate\r\nContent-Length: 9\r\n\r\n\x1f\x8b\x08\x1c\x00\x00\x00\x00\x00"),
        (AppProto::Http1, b"\x7fPOST / HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=B\r\nContent-Length: 80\r\n\r\n--B\r\nContent-Disposition: form-data; filename=\"x\"\r\n\r\nabc\r\n--B--\r\n"),
        (AppProto::Http2, b"\x7fPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64\x00\x00\x11\x01\x05\x00\x00\x00\x01\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"),
        (AppProto::Dns, b"\x7f\x00\x1d\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x01a\x03com\x00\x00\x01\x00\x01\x00\x0c\x00\x01\x81\x80\xc0\x0c"),
        (AppProto::Tls, b"\x7f\x16\x03\x01\x00\x37\x01\x00\x00\x33\x03\x0300000000000000000000000000000000\x00\x00\x02\x13\x01\x01\x00\x00\x08\x00\x00\x00\x04\x00\x02\x00\x00\x16\x03\x01\x00\x08\x0b\x00\x00\x04\x00\x00\x01\x30"),
        (AppProto::Ssh, b"\x10SSH-2.0-OpenSSH\n\x7f\x00\x00\x00\x30\x04\x140000000000000000\x00\x00\x00\x01a\x00\x00\x00\x01b\x00\x00\x00\x01c"),
        (AppProto::Smtp, b"\x87220 a\r\n\x7fEHLO a\r\nMAIL FROM:<a>\r\nRCPT TO:<b>\r\nDATA\r\nContent-Type: multipart/mixed; boundary=B\r\n\r\n--B\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=x\r\n\r\nYWJj\r\n--B--\r\n.\r\nBDAT 3 LAST\r\nabc"),
        (AppProto::Ftp, b"\x86220 a\n\x10PORT 1,2,3,4,5,6\n\x10RETR x\r\n"),
        (AppProto::FtpData, b"\x05abcde\x00\x82ab"),
    ];

    #[test]
    fn no_bytes_make_a_parser_panic() {
        let rounds: u64 = option_env!("SAKIMORI_HOSTILE_ROUNDS").and_then(|text| text.parse().ok()).unwrap_or(3000);
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for (app, seed) in SEEDS {
            for _ in 0..rounds {
                let mut bytes = seed.to_vec();
                for _ in 0..1 + next() % 6 {
                    let at = next() as usize % bytes.len();
                    match next() % 5 {
                        0 => bytes[at] = next() as u8,
                        1 => bytes[at] ^= 1 << (next() % 8),
                        2 => bytes.truncate(at.max(1)),
                        3 => bytes.insert(at, next() as u8),
                        _ => {
                            let piece = bytes[at..].to_vec();
                            bytes.extend(piece);
                            bytes.truncate(4096);
                        }
                    }
                }
                exercise(*app, &bytes);
            }
        }
    }
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
