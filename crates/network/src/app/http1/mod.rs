//! HTTP/1: requests and answers of a connection, read as tolerantly as browsers and servers do.
//!
//! The bytes of a direction that are not consumed yet lie in a bounded buffer; a small machine a direction eats
//! lines and bodies from it. Requests open transactions, answers find theirs by order.

mod best_fit;
mod body;
mod brotli;
mod coding;
mod headers;
mod message;
mod request;
mod response;
mod section;
mod uri;

pub(crate) use body::{decode, decoders};
pub(crate) use coding::Decoder;
pub(crate) use headers::Headers;
pub use message::HttpSettings;
pub(crate) use message::{HttpTx, host_without_port, normalise};
use section::{chomp, is_empty};

use super::tx::{Kind, Transactions};
use super::{AppProto, Dir, Parser, Status};

/// Most bytes of a message that frames show.
pub(crate) const FRAME: usize = 64 << 10;
/// Longest header line whose memory is kept for the next one.
const LARGEST_SPARE: usize = 1024;
/// Bytes that are taken at once.
const PIECE: usize = 4096;

/// Where a direction stands.
#[derive(Debug)]
enum State {
    Line,
    Headers,
    /// So many bytes of the body are left.
    Counted(u64),
    UntilClose,
    ChunkLength,
    Chunk(u64),
    ChunkEnd,
    Trailer,
    /// An answer is over; what follows may still belong to it.
    Finalize,
    /// Nothing is read any more (a tunnel).
    Ignore,
}

/// One direction.
#[derive(Debug)]
struct Side {
    /// What is not consumed yet.
    buffer: Vec<u8>,
    state: State,
    /// The header line that may still be continued.
    open_header: Option<Vec<u8>>,
    /// Room for the next one.
    spare_line: Vec<u8>,
    /// A line ended by LF CR: what follows may be a mix of line ends.
    lf_cr: bool,
    decoders: Vec<coding::Decoder>,
    /// The transaction that is read.
    tx: Option<u64>,
    /// Bytes are missing in the line that is read.
    torn: bool,
    ended: bool,
    header_bytes: usize,
    multipart: Option<body::Multipart>,
}

impl Side {
    fn new() -> Self {
        Self {
            buffer: Vec::new(),
            state: State::Line,
            open_header: None,
            spare_line: Vec::new(),
            lf_cr: false,
            decoders: Vec::new(),
            tx: None,
            torn: false,
            ended: false,
            header_bytes: 0,
            multipart: None,
        }
    }

    fn consume(&mut self, count: usize) {
        self.buffer.drain(..count.min(self.buffer.len()));
    }
}

/// Whether a step made progress.
enum Step {
    Again,
    Wait,
    Fail,
}

/// The parser of one connection.
#[derive(Debug)]
pub(crate) struct Http1 {
    settings: HttpSettings,
    request: Side,
    response: Side,
    /// The transaction that the next answer belongs to.
    next_answer: u64,
    requests: u64,
    upgrade: Option<AppProto>,
    connect: bool,
    interim: bool,
}

impl Http1 {
    pub(crate) fn new(settings: HttpSettings) -> Self {
        Self {
            settings,
            request: Side::new(),
            response: Side::new(),
            next_answer: 0,
            requests: 0,
            upgrade: None,
            connect: false,
            interim: false,
        }
    }

    fn side(&mut self, dir: Dir) -> &mut Side {
        if dir == Dir::ToServer { &mut self.request } else { &mut self.response }
    }

    fn run(&mut self, dir: Dir, txs: &mut Transactions) -> Status {
        loop {
            let step = if dir == Dir::ToServer { self.request_step(txs) } else { self.response_step(txs) };
            match step {
                Step::Again => {}
                Step::Wait => break,
                Step::Fail => return Status::Failed,
            }
            if let Some(app) = self.upgrade.take() {
                return Status::Upgrade(app);
            }
        }
        if self.side(dir).buffer.len() > self.settings.line_limit {
            let name =
                if dir == Dir::ToServer { "http.request_field_too_long" } else { "http.response_field_too_long" };
            if let Some(tx) = self.side(dir).tx.and_then(|id| txs.get(id)) {
                tx.event(name);
            }
            return Status::Failed;
        }
        Status::Going
    }

    fn fresh(&self) -> Kind {
        Kind::Http(Box::new(HttpTx::new(&self.settings)))
    }
}

/// The HTTP part of a transaction.
pub(super) fn http(tx: &mut super::Tx) -> Option<&mut HttpTx> {
    match &mut tx.kind {
        Kind::Http(http) | Kind::Http2(http, _) => Some(http),
        _ => None,
    }
}

impl Parser for Http1 {
    fn data(&mut self, dir: Dir, data: &[u8], txs: &mut Transactions) -> Status {
        // In pieces, so that taking many short lines off the front stays cheap.
        for (number, piece) in data.chunks(PIECE).enumerate() {
            // Of a body they need no stop on the way.
            let piece = if self.side(dir).buffer.is_empty() { self.body_bytes(dir, piece, txs) } else { piece };
            self.side(dir).buffer.extend_from_slice(piece);
            let status = self.run(dir, txs);
            if let Status::Upgrade(_) = status {
                let rest = data.get((number + 1) * PIECE..).unwrap_or_default();
                self.side(dir).buffer.extend_from_slice(rest);
            }
            if status != Status::Going {
                return status;
            }
        }
        Status::Going
    }

    fn gap(&mut self, dir: Dir, length: usize, txs: &mut Transactions) -> Status {
        let side = self.side(dir);
        if matches!(side.state, State::Line) && dir == Dir::ToServer && !side.buffer.is_empty() {
            // What is left of a request line is still worth a look, but its bytes were not in a row.
            side.torn = true;
            return Status::Going;
        }
        side.buffer.clear();
        // Inside a body a gap is only missing content; elsewhere the place in the message is lost.
        match &mut side.state {
            State::Counted(left) if *left >= length as u64 => {
                *left -= length as u64;
                let over = *left == 0;
                if over {
                    self.message_over(dir, txs);
                }
            }
            State::Chunk(left) if *left > length as u64 => *left -= length as u64,
            State::UntilClose | State::Ignore => {}
            _ => {
                side.state = State::Ignore;
                if let Some(tx) = side.tx.and_then(|id| txs.get(id)) {
                    tx.finish(dir);
                }
                return Status::Going;
            }
        }
        let id = self.side(dir).tx;
        if let Some(tx) = id.and_then(|id| txs.get(id)) {
            for file in tx.files_mut(dir).into_iter().flatten() {
                file.cut = true;
            }
        }
        Status::Going
    }

    fn end(&mut self, dir: Dir, txs: &mut Transactions) {
        if self.side(dir).ended {
            return;
        }
        self.side(dir).ended = true;
        self.run(dir, txs);
        let ignored = matches!(self.side(dir).state, State::Ignore);
        if let Some(tx) = self.side(dir).tx.and_then(|id| txs.get(id)).filter(|_| !ignored) {
            tx.finish(dir);
        }
    }

    fn kept(&self) -> usize {
        let side = |side: &Side| {
            let part = side.multipart.as_ref().map_or(0, body::Multipart::kept);
            let lines = side.spare_line.capacity() + side.open_header.as_ref().map_or(0, Vec::capacity);
            side.buffer.capacity() + lines + part + side.decoders.iter().map(Decoder::kept).sum::<usize>()
        };
        size_of::<Self>() + side(&self.request) + side(&self.response)
    }

    fn bears_gaps(&self) -> bool {
        true
    }

    fn content_ahead(&self, dir: Dir) -> u64 {
        let side = if dir == Dir::ToServer { &self.request } else { &self.response };
        match side.state {
            State::Counted(left) => left,
            State::UntilClose | State::Ignore => u64::MAX,
            _ => 0,
        }
    }

    fn leftover(&mut self, dir: Dir) -> Vec<u8> {
        std::mem::take(&mut self.side(dir).buffer)
    }
}

#[cfg(test)]
mod tests;
