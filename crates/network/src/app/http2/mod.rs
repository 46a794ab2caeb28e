//! HTTP/2 (RFC 9113): frames, header blocks, and a transaction a stream.
//!
//! Frames of the connection itself (settings, pings) are transactions of their own. A header block may go on over
//! frames without end: it is bounded, and beyond that an event.

mod hpack;
mod huffman;
mod info;

use std::collections::HashMap;

use hpack::Hpack;
pub(crate) use info::Http2Info;
use info::note;

use super::http1::{HttpTx, decode, decoders};
use super::tx::Kind;
use super::{Dir, File, HttpSettings, Parser, Status, Transactions, Tx};
use crate::reader::Reader;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Longest header block, and how many frames it may be cut into before that is an event.
const LONGEST_BLOCK: usize = 1 << 20;
const MOST_CONTINUATIONS: u32 = 32;
/// Most open streams.
const MOST_STREAMS: usize = 1024;
/// Longest frame that is waited for.
const LONGEST_FRAME: usize = 1 << 18;

/// A header block that is not whole yet.
#[derive(Debug)]
struct Block {
    stream: u32,
    ends: bool,
    data: Vec<u8>,
    frames: u32,
    promised: bool,
}

/// The parser of one connection.
#[derive(Debug)]
pub(crate) struct Http2 {
    settings: HttpSettings,
    buffers: [Vec<u8>; 2],
    tables: [Hpack; 2],
    blocks: [Option<Block>; 2],
    streams: HashMap<u32, u64>,
    prefaced: bool,
    upgraded: bool,
}

impl Http2 {
    pub(crate) fn new(settings: HttpSettings) -> Self {
        Self {
            settings,
            buffers: [Vec::new(), Vec::new()],
            tables: [Hpack::default(), Hpack::default()],
            blocks: [None, None],
            streams: HashMap::new(),
            prefaced: false,
            upgraded: false,
        }
    }

    fn fresh(&self) -> Kind {
        Kind::Http2(Box::new(HttpTx::new(&self.settings)), Box::default())
    }

    /// After an upgrade the request of HTTP/1 is that of stream 1.
    fn upgrade(&mut self, txs: &mut Transactions) {
        if std::mem::replace(&mut self.upgraded, true) {
            return;
        }
        let former = txs.list.iter().rev().find_map(|tx| match &tx.kind {
            Kind::Http(http) => Some(HttpTx {
                request_line: http.request_line.clone(),
                method: http.method.clone(),
                target: http.target.clone(),
                uri: http.uri.clone(),
                host: http.host.clone(),
                limits: http.limits,
                ..HttpTx::default()
            }),
            _ => None,
        });
        let Some(former) = former else { return };
        let mut former = former;
        for (name, value) in
            [(":method", former.method.clone()), (":path", former.target.clone()), (":authority", former.host.clone())]
        {
            former.add_header(Dir::ToServer, name.into(), value);
        }
        let tx = txs.open(Kind::Http2(Box::new(former), Box::default()));
        tx.finish(Dir::ToServer);
        self.streams.insert(1, tx.id);
        self.prefaced = false;
    }

    fn stream<'t>(&mut self, id: u32, txs: &'t mut Transactions) -> Option<&'t mut Tx> {
        if let Some(known) = self.streams.get(&id) {
            return txs.get(*known);
        }
        if self.streams.len() >= MOST_STREAMS {
            // Streams whose transaction is gone make room.
            self.streams.retain(|_, tx| txs.get(*tx).is_some());
            if self.streams.len() >= MOST_STREAMS {
                return None;
            }
        }
        let kind = self.fresh();
        let tx = txs.open(kind);
        self.streams.insert(id, tx.id);
        Some(tx)
    }

    /// One frame. `false` gives the connection up.
    fn frame(&mut self, dir: Dir, kind: u8, flags: u8, stream: u32, body: &[u8], txs: &mut Transactions) -> bool {
        let at = dir as usize;
        let open = self.blocks.get(at).and_then(Option::as_ref).map(|block| block.stream);
        if open.is_some() != (kind == 9) || open.is_some_and(|open| open != stream) {
            if let Some(tx) = txs.last() {
                tx.event("http2.invalid_header");
            }
            return false;
        }
        if stream == 0 || kind > 9 {
            let fresh = self.fresh();
            let tx = txs.open(fresh);
            self.of_connection(dir, kind, flags, body, tx);
            tx.finish(dir);
            tx.finish(dir.other());
            return true;
        }
        let Some(tx) = self.stream(stream, txs) else { return true };
        if let Kind::Http2(_, info) = &mut tx.kind {
            note(&mut info.frames, at, kind);
        }
        tx.touch(dir);
        match kind {
            0 => {
                let data = unpadded(body, flags).unwrap_or_default();
                content(tx, dir, data, flags & 1 != 0, self.settings.decompress_layers);
                if flags & 1 != 0 {
                    tx.finish(dir);
                }
            }
            1 | 5 => {
                let mut data = unpadded(body, flags).unwrap_or_default();
                if kind == 1 && flags & 0x20 != 0 {
                    if let (Kind::Http2(_, info), Some(weight)) = (&mut tx.kind, data.get(4)) {
                        note(&mut info.priorities, at, *weight);
                    }
                    data = data.get(5..).unwrap_or_default();
                }
                if kind == 5 {
                    data = data.get(4..).unwrap_or_default();
                }
                let block = Block {
                    stream,
                    ends: kind == 1 && flags & 1 != 0,
                    data: data.to_vec(),
                    frames: 0,
                    promised: kind == 5,
                };
                return self.header_block(dir, block, flags & 4 != 0, txs);
            }
            2 => {
                if let (Kind::Http2(_, info), Some(weight)) = (&mut tx.kind, body.get(4)) {
                    note(&mut info.priorities, at, *weight);
                }
            }
            3 => {
                if let (Kind::Http2(_, info), Some(code)) = (&mut tx.kind, Reader::new(body).u32()) {
                    note(&mut info.errors, at, code);
                }
                tx.finish(Dir::ToServer);
                tx.finish(Dir::ToClient);
            }
            8 => {
                if let (Kind::Http2(_, info), Some(size)) = (&mut tx.kind, Reader::new(body).u32()) {
                    note(&mut info.windows, at, size & 0x7fff_ffff);
                }
            }
            9 => {
                let Some(mut block) = self.blocks.get_mut(at).and_then(Option::take) else { return true };
                block.frames += 1;
                // A block without end is read on, so that what comes behind it is seen; what is too long of it is not kept.
                let room = LONGEST_BLOCK.saturating_sub(block.data.len());
                block.data.extend_from_slice(body.get(..room.min(body.len())).unwrap_or_default());
                if body.len() > room || block.frames > MOST_CONTINUATIONS {
                    tx.event("http2.reassembly_limit_reached");
                }
                return self.header_block(dir, block, flags & 4 != 0, txs);
            }
            _ => {}
        }
        true
    }

    fn of_connection(&mut self, dir: Dir, kind: u8, flags: u8, body: &[u8], tx: &mut Tx) {
        let at = dir as usize;
        let Kind::Http2(_, info) = &mut tx.kind else { return };
        note(&mut info.frames, at, kind);
        let mut reader = Reader::new(body);
        match kind {
            4 if flags & 1 == 0 => {
                while let (Some(id), Some(value)) = (reader.u16(), reader.u32()) {
                    note(&mut info.settings, at, (id, value));
                }
                if !body.len().is_multiple_of(6) {
                    tx.event("http2.invalid_frame_length");
                }
            }
            7 => {
                reader.u32();
                if let Some(code) = reader.u32() {
                    note(&mut info.errors, at, code);
                }
            }
            8 => {
                if let Some(size) = reader.u32() {
                    note(&mut info.windows, at, size & 0x7fff_ffff);
                }
            }
            10.. => tx.event("http2.unknown_frame_type"),
            _ => {}
        }
    }

    fn header_block(&mut self, dir: Dir, block: Block, whole: bool, txs: &mut Transactions) -> bool {
        let at = dir as usize;
        if !whole {
            if let Some(slot) = self.blocks.get_mut(at) {
                *slot = Some(block);
            }
            return true;
        }
        let Some(table) = self.tables.get_mut(at) else { return true };
        let (fields, read) = table.decode(&block.data);
        let sizes = std::mem::take(&mut table.size_updates);
        let include = self.settings.uri_include_all;
        let Some(tx) = self.stream(block.stream, txs) else { return true };
        if !read {
            tx.event("http2.invalid_header");
        }
        let Kind::Http2(http, info) = &mut tx.kind else { return true };
        if let Some(slot) = info.sizes.get_mut(at) {
            slot.extend(sizes);
        }
        let mut userinfo = false;
        let mut differs = false;
        for (name, value) in fields {
            match name.as_slice() {
                b":method" => http.method = value.clone(),
                b":path" => {
                    http.uri = super::http1::normalise(&value, include);
                    http.target = value.clone();
                }
                b":authority" | b"host" => {
                    userinfo |= name.first() == Some(&b':') && value.contains(&b'@');
                    let host = super::http1::host_without_port(&value);
                    differs |= !http.host.is_empty() && !http.host.eq_ignore_ascii_case(&host);
                    if http.host.is_empty() {
                        http.host = host;
                    }
                }
                b":status" => http.status = value.clone(),
                _ => {}
            }
            http.add_header(dir, name, value);
        }
        if dir == Dir::ToServer && !block.promised {
            http.request_line = [http.method.as_slice(), b" ", http.target.as_slice(), b" HTTP/2"].concat();
        } else if dir == Dir::ToClient {
            http.response_line = [b"HTTP/2 ".as_slice(), http.status.as_slice(), b"\r\n"].concat();
        }
        if userinfo {
            tx.event("http2.userinfo_in_uri");
        }
        if differs {
            tx.event("http2.authority_host_mismatch");
        }
        tx.reach(dir, 2);
        if block.ends {
            tx.finish(dir);
        }
        true
    }
}

/// A frame's content without its padding.
fn unpadded(body: &[u8], flags: u8) -> Option<&[u8]> {
    if flags & 8 == 0 {
        return Some(body);
    }
    let (padding, rest) = body.split_first()?;
    rest.get(..rest.len().checked_sub(usize::from(*padding))?)
}

fn content(tx: &mut Tx, dir: Dir, data: &[u8], last: bool, layers: usize) {
    tx.reach(dir, 3);
    let Kind::Http2(http, info) = &mut tx.kind else { return };
    let Some(coding) = info.codings.get_mut(dir as usize) else { return };
    let decoders = coding.get_or_insert_with(|| decoders(http.headers(dir).get(b"content-encoding"), layers, dir));
    let (data, bomb) = decode(decoders, data, last);
    let data: &[u8] = &data;
    if dir == Dir::ToServer {
        let room = http.limits.0.max(1).saturating_sub(http.request_body.len());
        http.request_body.extend_from_slice(data.get(..room.min(data.len())).unwrap_or_default());
    }
    let name = http.uri.rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec();
    let Some(files) = tx.files_mut(dir) else { return };
    if files.is_empty() {
        files.push(File::new(&name));
    }
    if let Some(file) = files.last_mut() {
        file.append(data);
    }
    if bomb {
        tx.event("http2.failed_decompression");
    }
}

impl Parser for Http2 {
    fn data(&mut self, dir: Dir, data: &[u8], txs: &mut Transactions) -> Status {
        self.upgrade(txs);
        let mut buffer = self.buffers.get_mut(dir as usize).map(std::mem::take).unwrap_or_default();
        buffer.extend_from_slice(data);
        let mut at = 0;
        if dir == Dir::ToServer && !self.prefaced {
            if buffer.len() < PREFACE.len() && PREFACE.starts_with(&buffer) {
                if let Some(slot) = self.buffers.first_mut() {
                    *slot = buffer;
                }
                return Status::Going;
            }
            self.prefaced = true;
            at = if buffer.starts_with(PREFACE) { PREFACE.len() } else { 0 };
        }
        let mut failed = false;
        while let Some(rest) = buffer.get(at..) {
            let mut reader = Reader::new(rest);
            let head = (reader.u24(), reader.u8(), reader.u8(), reader.u32());
            let (Some(length), Some(kind), Some(flags), Some(stream)) = head else { break };
            if length as usize > LONGEST_FRAME {
                if let Some(tx) = txs.last() {
                    tx.event("http2.long_frame_data");
                }
                failed = true;
                break;
            }
            let Some(body) = reader.take(length as usize) else { break };
            let body = body.to_vec();
            if !self.frame(dir, kind, flags, stream & 0x7fff_ffff, &body, txs) {
                failed = true;
                break;
            }
            at += 9 + body.len();
        }
        buffer.drain(..at.min(buffer.len()));
        if let Some(slot) = self.buffers.get_mut(dir as usize) {
            *slot = buffer;
        }
        if failed { Status::Failed } else { Status::Going }
    }

    fn kept(&self) -> usize {
        let buffers: usize = self.buffers.iter().map(Vec::capacity).sum();
        let blocks: usize = self.blocks.iter().flatten().map(|block| block.data.len()).sum();
        size_of::<Self>()
            + buffers
            + blocks
            + self.streams.len() * 24
            + self.tables.iter().map(Hpack::kept).sum::<usize>()
    }

    fn gap(&mut self, _: Dir, _: usize, _: &mut Transactions) -> Status {
        Status::Failed
    }

    fn end(&mut self, dir: Dir, txs: &mut Transactions) {
        for tx in txs.list.iter_mut().filter(|tx| !tx.is_complete(dir)) {
            tx.finish(dir);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::{AppProto, play::play};

    fn frame(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
        let mut out = (body.len() as u32).to_be_bytes()[1..].to_vec();
        out.extend([kind, flags]);
        out.extend(stream.to_be_bytes());
        out.extend(body);
        out
    }

    #[test]
    fn a_request_over_frames() {
        let block = hex::decode("828684418cf1e3c2e5f23a6ba0ab90f4ff").unwrap();
        let (one, two) = block.split_at(5);
        let bytes = [PREFACE.to_vec(), frame(4, 0, 0, &[]), frame(1, 1, 1, one), frame(9, 4, 1, two)].concat();
        let txs = play(AppProto::Http2, &[(Dir::ToServer, &bytes)]);
        let Kind::Http2(http, _) = &txs.list[1].kind else { panic!() };
        assert_eq!(
            (http.method.as_slice(), http.uri.as_slice(), http.host.as_slice()),
            (&b"GET"[..], &b"/"[..], &b"www.example.com"[..])
        );
        assert!(txs.list[1].is_complete(Dir::ToServer));
    }

    #[test]
    fn a_flood_of_continuations_is_an_event() {
        let mut bytes = [PREFACE.to_vec(), frame(1, 0, 1, &[0x82])].concat();
        for _ in 0..1000 {
            bytes.extend(frame(9, 0, 1, &[]));
        }
        let txs = play(AppProto::Http2, &[(Dir::ToServer, &bytes)]);
        assert!(txs.list[0].events.contains(&"http2.reassembly_limit_reached"));
    }
}
