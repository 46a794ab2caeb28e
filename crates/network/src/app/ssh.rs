//! SSH (RFC 4253): banners, and the key exchange's algorithms as HASSH.

use md5::{Digest, Md5};

use super::tx::Kind;
use super::{Dir, Parser, Status, Transactions};
use crate::reader::Reader;
use crate::rules::buffers::Buffer;

/// Longest banner and longest record that are taken.
const LONGEST_BANNER: usize = 1024;
const LONGEST_RECORD: usize = 64 << 10;

/// One side's banner and algorithms.
#[derive(Debug, Default)]
pub(crate) struct Side {
    pub proto: Vec<u8>,
    pub software: Vec<u8>,
    pub algorithms: Vec<u8>,
    pub hash: Vec<u8>,
}

/// The connection.
#[derive(Debug, Default)]
pub(crate) struct SshTx {
    pub sides: [Side; 2],
}

impl SshTx {
    pub(crate) fn value(&self, buffer: Buffer, dir: Dir) -> Option<&[u8]> {
        let [client, server] = &self.sides;
        let side = if dir == Dir::ToServer { client } else { server };
        let data = match buffer {
            Buffer::SshProto => &side.proto,
            Buffer::SshSoftware => &side.software,
            Buffer::SshHassh => &client.hash,
            Buffer::SshHasshString => &client.algorithms,
            Buffer::SshHasshServer => &server.hash,
            Buffer::SshHasshServerString => &server.algorithms,
            _ => return None,
        };
        (!data.is_empty()).then_some(data)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Banner,
    Records,
    Done,
}

/// The parser of one connection.
#[derive(Debug, Default)]
pub(crate) struct Ssh {
    buffers: [Vec<u8>; 2],
    stages: [Stage; 2],
    tx: Option<u64>,
}

impl Parser for Ssh {
    fn data(&mut self, dir: Dir, data: &[u8], txs: &mut Transactions) -> Status {
        let id = match self.tx {
            Some(id) => id,
            None => *self.tx.insert(txs.open(Kind::Ssh(Box::default())).id),
        };
        let Some(tx) = txs.get(id) else { return Status::Failed };
        let (Some(buffer), Some(stage)) = (self.buffers.get_mut(dir as usize), self.stages.get_mut(dir as usize))
        else {
            return Status::Failed;
        };
        if *stage == Stage::Done {
            return if self.stages == [Stage::Done; 2] { Status::Encrypted } else { Status::Going };
        }
        buffer.extend_from_slice(data);
        if *stage == Stage::Banner {
            // Lines before the banner are allowed.
            loop {
                let Some(at) = memchr::memchr(b'\n', buffer) else {
                    if buffer.len() > LONGEST_BANNER {
                        tx.event("ssh.long_banner");
                        return Status::Failed;
                    }
                    return Status::Going;
                };
                let line: Vec<u8> = buffer.drain(..=at).collect();
                let line = line.strip_suffix(b"\n").unwrap_or(&line);
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                let Some(rest) = line.strip_prefix(b"SSH-") else { continue };
                let dash = memchr::memchr(b'-', rest);
                if line.len() > 256 {
                    tx.event("ssh.long_banner");
                }
                let Some(dash) = dash else {
                    tx.event("ssh.invalid_banner");
                    return Status::Failed;
                };
                let (proto, software) = rest.split_at(dash);
                let software = software.get(1..).unwrap_or_default();
                let software = software.split(|byte| *byte == b' ').next().unwrap_or_default();
                if let Kind::Ssh(ssh) = &mut tx.kind
                    && let Some(side) = ssh.sides.get_mut(dir as usize)
                {
                    side.proto = proto.to_vec();
                    side.software = software.to_vec();
                }
                tx.reach(dir, 1);
                *stage = Stage::Records;
                break;
            }
        }
        loop {
            let mut reader = Reader::new(buffer);
            let Some(length) = reader.u32() else { return Status::Going };
            if length as usize > LONGEST_RECORD || length < 2 {
                tx.event("ssh.invalid_record");
                *stage = Stage::Done;
                tx.finish(dir);
                return Status::Going;
            }
            let Some(record) = reader.take(length as usize) else { return Status::Going };
            match record.get(1) {
                Some(20) => {
                    if let Some(algorithms) = hassh(record.get(2..).unwrap_or_default(), dir)
                        && let Kind::Ssh(ssh) = &mut tx.kind
                        && let Some(side) = ssh.sides.get_mut(dir as usize)
                        && side.hash.is_empty()
                    {
                        side.hash = hex::encode(Md5::digest(&algorithms)).into_bytes();
                        side.algorithms = algorithms;
                    }
                    tx.reach(dir, 2);
                }
                Some(21) => {
                    *stage = Stage::Done;
                    tx.finish(dir);
                    buffer.clear();
                    return Status::Going;
                }
                _ => {}
            }
            let used = 4 + length as usize;
            buffer.drain(..used);
        }
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

/// Key exchange; encryption, MAC and compression of the direction, with semicolons between.
fn hassh(body: &[u8], dir: Dir) -> Option<Vec<u8>> {
    let mut reader = Reader::new(body);
    reader.skip(16)?;
    let lists: Vec<&[u8]> = (0..8)
        .map(|_| {
            let length = reader.u32()?;
            reader.take(length as usize)
        })
        .collect::<Option<_>>()?;
    let pick = usize::from(dir == Dir::ToClient);
    let wanted = [0, 2 + pick, 4 + pick, 6 + pick];
    let parts: Vec<&[u8]> = wanted.iter().filter_map(|at| lists.get(*at).copied()).collect();
    Some(parts.join(&b';'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::{AppProto, play::play};

    #[test]
    fn banner_and_algorithms() {
        let mut body = vec![4, 20];
        body.extend([0; 16]);
        for list in ["kex", "key", "c2s", "s2c", "m1", "m2", "z1", "z2", "", ""] {
            body.extend((list.len() as u32).to_be_bytes());
            body.extend(list.as_bytes());
        }
        body.extend([0; 9]);
        let record = [&(body.len() as u32).to_be_bytes()[..], &body].concat();
        let txs = play(
            AppProto::Ssh,
            &[(Dir::ToServer, b"SSH-2.0-Open"), (Dir::ToServer, b"SSH_9 comment\r\n"), (Dir::ToServer, &record)],
        );
        let Kind::Ssh(ssh) = &txs.list[0].kind else { panic!() };
        assert_eq!(ssh.value(Buffer::SshSoftware, Dir::ToServer), Some(&b"OpenSSH_9"[..]));
        assert_eq!(ssh.value(Buffer::SshHasshString, Dir::ToServer), Some(&b"kex;c2s;m1;z1"[..]));
    }

    #[test]
    fn an_endless_banner_is_given_up() {
        let txs = play(AppProto::Ssh, &[(Dir::ToClient, &[b'S'; 2000])]);
        assert!(txs.list[0].events.contains(&"ssh.long_banner"));
    }
}
