//! TLS: records and the handshake before encryption: hellos, certificates, and their fingerprints.
//!
//! Handshake messages are put together from records in a bounded buffer. After the handshake nothing is read.

mod certificate;
mod hello;

use std::borrow::Cow;

use certificate::Certificate;
use hello::Hello;

use super::tx::Kind;
use super::{Dir, Parser, Status, Transactions, Tx};
use crate::reader::Reader;
use crate::rules::app_tests::AppTest;
use crate::rules::buffers::Buffer;
use crate::rules::number::Compare;

/// Longest handshake message.
const LONGEST_MESSAGE: usize = 128 << 10;
const LONGEST_RECORD: usize = 16_384 + 2048;

/// One side of the connection.
#[derive(Debug, Default)]
struct Side {
    version: u16,
    random: Vec<u8>,
    sni: Vec<u8>,
    alpn: Vec<Vec<u8>>,
    ja3: Vec<u8>,
    ja3_hash: Vec<u8>,
    ja4: Vec<u8>,
    certificate: Option<Certificate>,
}

/// The connection.
#[derive(Debug, Default)]
pub(crate) struct TlsTx {
    sides: [Side; 2],
    states: u8,
}

impl TlsTx {
    fn side(&self, dir: Dir) -> &Side {
        let [client, server] = &self.sides;
        if dir == Dir::ToServer { client } else { server }
    }

    /// The version that the server chose, else what the client offered, in words.
    pub(crate) fn version_name(&self) -> Option<&'static str> {
        let [client, server] = &self.sides;
        match if server.version == 0 { client.version } else { server.version } {
            0x0300 => Some("SSLv3"),
            0x0301 => Some("TLS 1.0"),
            0x0302 => Some("TLS 1.1"),
            0x0303 => Some("TLS 1.2"),
            0x0304 => Some("TLS 1.3"),
            _ => None,
        }
    }

    pub(crate) fn value(&self, buffer: Buffer, dir: Dir) -> Option<Cow<'_, [u8]>> {
        let side = self.side(dir);
        let of_certificate = |pick: fn(&Certificate) -> &Vec<u8>| side.certificate.as_ref().map(pick);
        let data: &[u8] = match buffer {
            Buffer::TlsSni => &side.sni,
            Buffer::TlsRandom => &side.random,
            Buffer::TlsRandomTime => side.random.get(..4)?,
            Buffer::TlsRandomBytes => side.random.get(4..)?,
            Buffer::TlsAlpn => side.alpn.first()?,
            Buffer::Ja3String | Buffer::Ja3sString => &side.ja3,
            Buffer::Ja3Hash | Buffer::Ja3sHash => &side.ja3_hash,
            Buffer::Ja4Hash => &side.ja4,
            Buffer::TlsSubject => of_certificate(|certificate| &certificate.subject)?,
            Buffer::TlsIssuer => of_certificate(|certificate| &certificate.issuer)?,
            Buffer::TlsSerial => of_certificate(|certificate| &certificate.serial)?,
            Buffer::TlsFingerprint => of_certificate(|certificate| &certificate.fingerprint)?,
            Buffer::TlsCerts => of_certificate(|certificate| &certificate.der)?,
            Buffer::TlsSubjectAltName => side.certificate.as_ref()?.names.first()?,
            _ => return None,
        };
        (!data.is_empty()).then_some(Cow::Borrowed(data))
    }

    pub(crate) fn holds(&self, test: &AppTest, dir: Dir, now: i64) -> bool {
        let side = self.side(dir);
        let certificate = side.certificate.as_ref();
        let date = |wanted: &Compare<i64>, pick: fn(&Certificate) -> i64| {
            certificate.is_some_and(|one| wanted.holds(pick(one)))
        };
        match test {
            AppTest::TlsVersion(versions) => versions.contains(&side.version),
            AppTest::TlsState(states) => states.iter().any(|(state, negated)| (self.states & state != 0) != *negated),
            AppTest::TlsCertCount(wanted) => certificate.is_some_and(|one| wanted.holds(one.chain)),
            AppTest::TlsNotBefore(wanted) => date(wanted, |one| one.not_before),
            AppTest::TlsNotAfter(wanted) => date(wanted, |one| one.not_after),
            AppTest::TlsExpired(expired) => certificate.is_some_and(|one| {
                let now = now / 1_000_000;
                if *expired { one.not_after < now } else { (one.not_before..=one.not_after).contains(&now) }
            }),
            _ => false,
        }
    }
}

/// The parser of one connection.
#[derive(Debug, Default)]
pub(crate) struct Tls {
    buffers: [Vec<u8>; 2],
    handshakes: [Vec<u8>; 2],
    /// Encryption began in a direction.
    encrypted: [bool; 2],
    tx: Option<u64>,
}

impl Tls {
    fn record(&mut self, dir: Dir, kind: u8, body: &[u8], tx: &mut Tx) -> Result<(), &'static str> {
        let at = dir as usize;
        match kind {
            20 => {
                if let Some(flag) = self.encrypted.get_mut(at) {
                    *flag = true;
                }
                tx.finish(dir);
            }
            22 if !self.encrypted.get(at).copied().unwrap_or(true) => {
                let Some(slot) = self.handshakes.get_mut(at) else { return Ok(()) };
                let mut buffer = std::mem::take(slot);
                buffer.extend_from_slice(body);
                let mut used = 0;
                while let Some(rest) = buffer.get(used..) {
                    let mut reader = Reader::new(rest);
                    let (Some(kind), Some(length)) = (reader.u8(), reader.u24()) else { break };
                    if length as usize > LONGEST_MESSAGE {
                        return Err("tls.handshake_invalid_length");
                    }
                    let Some(message) = reader.take(length as usize) else { break };
                    handshake(dir, kind, message, tx)?;
                    used += 4 + message.len();
                }
                buffer.drain(..used.min(buffer.len()));
                *slot = buffer;
            }
            23 => {
                if let Some(flag) = self.encrypted.get_mut(at) {
                    *flag = true;
                }
                tx.finish(dir);
            }
            24 => heartbeat(body, tx, self.encrypted.get(at).copied().unwrap_or(true)),
            _ => {}
        }
        Ok(())
    }
}

fn heartbeat(body: &[u8], tx: &mut Tx, encrypted: bool) {
    let mut reader = Reader::new(body);
    let (Some(kind), Some(length)) = (reader.u8(), reader.u16()) else { return };
    if encrypted {
        return;
    }
    tx.event("tls.heartbeat_message");
    if !matches!(kind, 1 | 2) {
        tx.event("tls.invalid_heartbeat_message");
    } else if usize::from(length) + 16 > reader.len() {
        tx.event("tls.overflow_heartbeat_message");
    }
}

fn handshake(dir: Dir, kind: u8, body: &[u8], tx: &mut Tx) -> Result<(), &'static str> {
    let client = kind == 1;
    match (kind, dir) {
        (1, Dir::ToServer) | (2, Dir::ToClient) => {
            let hello = Hello::parse(body, client).ok_or("tls.invalid_handshake_message")?;
            for event in &hello.events {
                tx.event(event);
            }
            if let Kind::Tls(tls) = &mut tx.kind {
                tls.states |= if client { 1 } else { 2 };
                if let Some(side) = tls.sides.get_mut(dir as usize) {
                    let text = hello.ja3(client);
                    side.ja3_hash = hello::md5_hex(&text);
                    side.ja3 = text.into_bytes();
                    if client {
                        side.ja4 = hello.ja4().into_bytes();
                    }
                    side.version = hello.real_version();
                    side.random = hello.random;
                    side.sni = hello.sni;
                    side.alpn = hello.alpn;
                }
                // The server's choice is the connection's version.
                if !client && let [first, second] = &mut tls.sides {
                    first.version = second.version;
                }
            }
            tx.reach(dir, 1);
        }
        (11, _) => {
            let mut reader = Reader::new(body);
            let mut list = Reader::new(reader.counted24().ok_or("tls.certificate_invalid_length")?);
            let mut chain = 0;
            let mut first = None;
            while !list.is_empty() && chain < 64 {
                let Some(der) = list.counted24() else {
                    tx.event("tls.certificate_invalid_length");
                    return Err("tls.invalid_handshake_message");
                };
                first.get_or_insert(der);
                chain += 1;
            }
            if let Some(der) = first {
                match Certificate::parse(der) {
                    Ok(mut certificate) => {
                        certificate.chain = chain;
                        if let Kind::Tls(tls) = &mut tx.kind
                            && let Some(side) = tls.sides.get_mut(dir as usize)
                        {
                            side.certificate.get_or_insert(certificate);
                        }
                        tx.reach(dir, 2);
                    }
                    Err(event) => {
                        tx.event(event);
                        return Err("tls.invalid_handshake_message");
                    }
                }
            }
        }
        (16, _) => state(tx, 4),
        (12, _) => state(tx, 8),
        _ => {}
    }
    Ok(())
}

fn state(tx: &mut Tx, bit: u8) {
    if let Kind::Tls(tls) = &mut tx.kind {
        tls.states |= bit;
    }
}

impl Parser for Tls {
    fn data(&mut self, dir: Dir, data: &[u8], txs: &mut Transactions) -> Status {
        let id = match self.tx {
            Some(id) => id,
            None => *self.tx.insert(txs.open(Kind::Tls(Box::default())).id),
        };
        if self.encrypted == [true; 2] {
            return Status::Encrypted;
        }
        let Some(tx) = txs.get(id) else { return Status::Encrypted };
        let mut buffer = self.buffers.get_mut(dir as usize).map(std::mem::take).unwrap_or_default();
        buffer.extend_from_slice(data);
        let mut at = 0;
        while let Some(rest) = buffer.get(at..).filter(|rest| !rest.is_empty()) {
            let mut reader = Reader::new(rest);
            let (Some(kind), Some(version), Some(length)) = (reader.u8(), reader.u16(), reader.u16()) else { break };
            if !matches!(kind, 20..=24) {
                // The older hello has no record; it is let pass once.
                if at == 0 && kind & 0x80 != 0 && dir == Dir::ToServer {
                    let used = usize::from(u16::from_be_bytes([kind & 0x7f, (version >> 8) as u8])) + 2;
                    if rest.len() < used {
                        break;
                    }
                    state(tx, 1);
                    tx.reach(dir, 1);
                    at += used;
                    continue;
                }
                tx.event("tls.invalid_record_type");
                return Status::Failed;
            }
            if version >> 8 != 3 && !self.encrypted.get(dir as usize).copied().unwrap_or(false) {
                tx.event("tls.invalid_record_version");
                return Status::Failed;
            }
            if usize::from(length) > LONGEST_RECORD {
                tx.event("tls.invalid_record_length");
                return Status::Failed;
            }
            let Some(body) = reader.take(length.into()) else { break };
            let body = body.to_vec();
            if let Err(event) = self.record(dir, kind, &body, tx) {
                tx.event(event);
                if event != "tls.invalid_handshake_message" {
                    tx.event("tls.invalid_handshake_message");
                }
                return Status::Failed;
            }
            at += 5 + body.len();
        }
        buffer.drain(..at.min(buffer.len()));
        if let Some(slot) = self.buffers.get_mut(dir as usize) {
            *slot = buffer;
        }
        if self.encrypted == [true; 2] { Status::Encrypted } else { Status::Going }
    }

    fn kept(&self) -> usize {
        size_of::<Self>() + self.buffers.iter().map(Vec::capacity).sum::<usize>()
    }

    fn gap(&mut self, _: Dir, _: usize, _: &mut Transactions) -> Status {
        Status::Failed
    }

    fn end(&mut self, dir: Dir, txs: &mut Transactions) {
        if let Some(tx) = self.tx.and_then(|id| txs.get(id)) {
            tx.finish(dir);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::{AppProto, play::play};

    #[test]
    fn a_hello_over_two_records() {
        let mut body = vec![3, 3];
        body.extend([9; 32]);
        body.extend([0, 0, 2, 0x13, 1, 1, 0]);
        let message = [&[1, 0, 0, body.len() as u8][..], &body].concat();
        let (one, two) = message.split_at(10);
        let record = |part: &[u8]| [&[22, 3, 1, 0, part.len() as u8][..], part].concat();
        let txs = play(AppProto::Tls, &[(Dir::ToServer, &record(one)), (Dir::ToServer, &record(two))]);
        let Kind::Tls(tls) = &txs.list[0].kind else { panic!() };
        assert_eq!(tls.value(Buffer::Ja3String, Dir::ToServer).as_deref(), Some(&b"771,4865,,,"[..]));
    }

    #[test]
    fn nonsense_is_an_event() {
        let txs = play(AppProto::Tls, &[(Dir::ToServer, &[22, 3, 1, 0, 4, 1, 0, 0, 0])]);
        assert!(txs.list[0].events.contains(&"tls.invalid_handshake_message"));
    }
}
