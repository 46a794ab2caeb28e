//! FTP: commands and replies, and the data connections that they announce.
//!
//! A `PORT`, `EPRT`, `PASV` or `EPSV` tells the port of the next data connection; `RETR` and `STOR` name its file.

use std::net::IpAddr;

use super::tx::Kind;
use super::{Dir, File, Parser, Status, Transactions};

/// Longest line that is kept.
const LONGEST_LINE: usize = 4096;

/// A data connection that was announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    pub port: u16,
    /// Where the one that listens is, if it was said.
    pub address: Option<IpAddr>,
    pub file: Vec<u8>,
    pub command: Vec<u8>,
    /// The client sends the file.
    pub upload: bool,
}

/// One command with its replies.
#[derive(Debug, Default)]
pub(crate) struct FtpTx {
    pub command: Vec<u8>,
    pub data: Vec<u8>,
    pub replies: Vec<Vec<u8>>,
}

/// The file of a data connection.
#[derive(Debug, Default)]
pub(crate) struct FtpDataTx {
    pub command: Vec<u8>,
}

#[derive(Debug, Default)]
pub(crate) struct Ftp {
    buffers: [Vec<u8>; 2],
    skipping: [bool; 2],
    port: Option<(u16, Option<IpAddr>)>,
    ready: Option<Expected>,
    tx: Option<u64>,
    /// `AUTH TLS` was asked for.
    auth: bool,
    secured: bool,
}

impl Ftp {
    fn command(&mut self, line: &[u8], txs: &mut Transactions) {
        let end = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
        let (word, rest) = line.split_at(end);
        let argument = rest.strip_prefix(b" ").unwrap_or(rest);
        let command = word.to_ascii_uppercase();
        if let Some(former) = self.tx.and_then(|id| txs.get(id)) {
            former.finish(Dir::ToServer);
            former.finish(Dir::ToClient);
        }
        let tx = txs.open(Kind::Ftp(Box::new(FtpTx {
            command: command.clone(),
            data: argument.to_vec(),
            replies: Vec::new(),
        })));
        tx.finish(Dir::ToServer);
        self.tx = Some(tx.id);
        match command.as_slice() {
            b"PORT" => self.port = numbers(argument),
            b"EPRT" => self.port = extended(argument),
            b"AUTH" => self.auth = true,
            b"RETR" | b"STOR" | b"STOU" | b"APPE" => {
                if let Some((port, address)) = self.port.take() {
                    let upload = command.as_slice() != b"RETR";
                    self.ready = Some(Expected { port, address, file: argument.to_vec(), command, upload });
                }
            }
            _ => {}
        }
    }

    fn reply(&mut self, line: &[u8], txs: &mut Transactions) {
        let tx = match self.tx {
            Some(id) => txs.get(id),
            None => {
                // The server's welcome.
                let tx = txs.open(Kind::Ftp(Box::default()));
                tx.finish(Dir::ToServer);
                self.tx = Some(tx.id);
                Some(tx)
            }
        };
        let code = line.get(..3).unwrap_or_default();
        if code == b"227" || code == b"229" {
            let inside =
                line.split(|byte| *byte == b'(').nth(1).and_then(|rest| rest.split(|byte| *byte == b')').next());
            self.port = inside.and_then(|inside| if code == b"227" { numbers(inside) } else { extended(inside) });
        }
        if code == b"234" && self.auth {
            self.secured = true;
        }
        let Some(tx) = tx else { return };
        let last = line.get(3) == Some(&b' ') || line.len() == 3;
        if let Kind::Ftp(ftp) = &mut tx.kind
            && ftp.replies.len() < 64
        {
            ftp.replies.push(line.to_vec());
        }
        tx.reach(Dir::ToClient, 1);
        if last && !code.starts_with(b"1") {
            tx.finish(Dir::ToClient);
        }
    }
}

/// `h1,h2,h3,h4,p1,p2`.
fn numbers(text: &[u8]) -> Option<(u16, Option<IpAddr>)> {
    let text = std::str::from_utf8(text).ok()?;
    let parts: Vec<u8> = text.split(',').map(|part| part.trim().parse().ok()).collect::<Option<_>>()?;
    match parts.as_slice() {
        [a, b, c, d, high, low] => Some((u16::from_be_bytes([*high, *low]), Some(IpAddr::from([*a, *b, *c, *d])))),
        _ => None,
    }
}

/// `|1|address|port|`.
fn extended(text: &[u8]) -> Option<(u16, Option<IpAddr>)> {
    let text = std::str::from_utf8(text).ok()?;
    let mark = text.chars().next()?;
    let parts: Vec<&str> = text.split(mark).collect();
    Some((parts.get(3)?.parse().ok()?, parts.get(2).and_then(|part| part.parse().ok())))
}

impl Parser for Ftp {
    fn data(&mut self, dir: Dir, data: &[u8], txs: &mut Transactions) -> Status {
        if let Some(buffer) = self.buffers.get_mut(dir as usize) {
            buffer.extend_from_slice(data);
        }
        loop {
            let Some(buffer) = self.buffers.get_mut(dir as usize) else { return Status::Going };
            let Some(at) = memchr::memchr(b'\n', buffer) else {
                if buffer.len() > LONGEST_LINE {
                    buffer.clear();
                    let skipped = self.skipping.get_mut(dir as usize).is_some_and(|skip| std::mem::replace(skip, true));
                    if !skipped {
                        self.too_long(dir, txs);
                    }
                }
                break;
            };
            let line: Vec<u8> = buffer.drain(..=at).collect();
            let line = line.strip_suffix(b"\n").unwrap_or(&line);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if self.skipping.get_mut(dir as usize).is_some_and(std::mem::take) {
                continue;
            }
            let long = line.len() > LONGEST_LINE;
            let line = line.get(..LONGEST_LINE.min(line.len())).unwrap_or_default();
            if dir == Dir::ToServer {
                self.command(line, txs)
            } else {
                self.reply(line, txs)
            }
            if long {
                self.too_long(dir, txs);
            }
        }
        if self.secured { Status::Upgrade(super::AppProto::Tls) } else { Status::Going }
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

    fn expected(&mut self) -> Option<Expected> {
        self.ready.take()
    }
}

impl Ftp {
    fn too_long(&mut self, dir: Dir, txs: &mut Transactions) {
        let name = if dir == Dir::ToServer { "ftp.request_command_too_long" } else { "ftp.response_command_too_long" };
        match self.tx.and_then(|id| txs.get(id)) {
            Some(tx) if dir == Dir::ToClient => tx.event(name),
            _ => {
                let known = txs.last().filter(
                    |tx| matches!(&tx.kind, Kind::Ftp(ftp) if ftp.data.len() + ftp.command.len() >= LONGEST_LINE - 1),
                );
                match known {
                    Some(tx) => tx.event(name),
                    None => {
                        let tx = txs.open(Kind::Ftp(Box::default()));
                        tx.event(name);
                        tx.finish(Dir::ToServer);
                        self.tx = Some(tx.id);
                    }
                }
            }
        }
    }
}

/// A data connection: all of it is one file.
#[derive(Debug, Default)]
pub(crate) struct FtpData {
    pub(crate) file: Vec<u8>,
    pub(crate) command: Vec<u8>,
    tx: Option<u64>,
}

impl FtpData {
    pub(crate) fn announced(expected: &Expected) -> Self {
        Self { file: expected.file.clone(), command: expected.command.clone(), tx: None }
    }
}

impl Parser for FtpData {
    fn data(&mut self, dir: Dir, data: &[u8], txs: &mut Transactions) -> Status {
        let id = match self.tx {
            Some(id) => id,
            None => {
                let tx = txs.open(Kind::FtpData(Box::new(FtpDataTx { command: self.command.clone() })));
                tx.finish(dir.other());
                if let Some(files) = tx.files_mut(dir) {
                    files.push(File::new(&self.file));
                }
                *self.tx.insert(tx.id)
            }
        };
        if let Some(tx) = txs.get(id) {
            if let Some(file) = tx.files_mut(dir).and_then(|files| files.last_mut()) {
                file.append(data);
            }
            tx.reach(dir, 3);
        }
        Status::Going
    }

    fn kept(&self) -> usize {
        size_of::<Self>()
    }

    fn gap(&mut self, dir: Dir, _: usize, txs: &mut Transactions) -> Status {
        if let Some(tx) = self.tx.and_then(|id| txs.get(id)) {
            tx.files_mut(dir).into_iter().flatten().for_each(|file| file.cut = true);
        }
        Status::Going
    }

    fn end(&mut self, dir: Dir, txs: &mut Transactions) {
        if let Some(tx) = self.tx.and_then(|id| txs.get(id)) {
            tx.finish(dir);
        }
    }

    fn bears_gaps(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::{AppProto, play::play};

    #[test]
    fn a_transfer_is_announced() {
        let (mut ftp, mut txs) = (Ftp::default(), Transactions::default());
        ftp.data(Dir::ToClient, b"220 hello\r\n", &mut txs);
        ftp.data(Dir::ToServer, b"PASV\r\n", &mut txs);
        ftp.data(Dir::ToClient, b"227 Entering (10,0,0,1,4,1).\r\n", &mut txs);
        ftp.data(Dir::ToServer, b"RETR a.txt\r\n", &mut txs);
        let expected = ftp.expected().unwrap();
        assert_eq!((expected.port, expected.file.as_slice(), expected.upload), (1025, &b"a.txt"[..], false));
    }

    #[test]
    fn long_commands_are_an_event_and_not_kept() {
        let line = [vec![b'A'; 10_000], b"\r\nNOOP\r\n".to_vec()].concat();
        let txs = play(AppProto::Ftp, &[(Dir::ToServer, &line)]);
        assert!(txs.list.iter().any(|tx| tx.events.contains(&"ftp.request_command_too_long")));
    }
}
