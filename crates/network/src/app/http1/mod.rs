//! HTTP/1: requests and answers of a connection, read as tolerantly as browsers and servers do.
//!
//! The bytes of a direction that are not consumed yet lie in a bounded buffer; a small machine a direction eats
//! lines and bodies from it. Requests open transactions, answers find theirs by order.

mod body;
mod coding;
mod headers;
mod request;
mod response;
mod uri;

pub(crate) use headers::Headers;

use super::tx::{Kind, Transactions};
use super::{AppProto, Dir, Parser, Status};

/// Limits and choices of HTTP.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// Most bytes of a request's or answer's body that are looked at; 0 is no limit of its own.
    pub request_body_limit: usize,
    pub response_body_limit: usize,
    /// A body is looked at once it has so many bytes, or is whole.
    pub request_inspect_min: usize,
    pub response_inspect_min: usize,
    /// Most content codings over one another.
    pub decompress_layers: usize,
    /// Whether the normalised URI keeps scheme, host and port.
    pub uri_include_all: bool,
    /// Whether rules for HTTP/1 see HTTP/2 as well.
    pub http1_rules_on_http2: bool,
    /// Longest line.
    pub line_limit: usize,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            request_body_limit: 100 << 10,
            response_body_limit: 100 << 10,
            request_inspect_min: 32 << 10,
            response_inspect_min: 40 << 10,
            decompress_layers: 2,
            uri_include_all: false,
            http1_rules_on_http2: true,
            line_limit: 18_000,
        }
    }
}

/// A message as far as it is known.
#[derive(Debug, Default)]
pub(crate) struct HttpTx {
    pub request_line: Vec<u8>,
    pub method: Vec<u8>,
    pub target: Vec<u8>,
    pub uri: Vec<u8>,
    pub protocol: Vec<u8>,
    pub host: Vec<u8>,
    pub request: Headers,
    pub response_line: Vec<u8>,
    pub response_protocol: Vec<u8>,
    pub status: Vec<u8>,
    pub message: Vec<u8>,
    pub response: Headers,
    pub request_body: Vec<u8>,
    pub request_body_seen: u64,
    /// Bytes of the answer's body after decoding.
    pub response_body_seen: u64,
    /// The request ended early: the direction of the answer too.
    pub no_request: bool,
    /// Bytes of the request and of the answer as they came, as far as frames show them.
    pub request_frame: Vec<u8>,
    pub response_frame: Vec<u8>,
    pub limits: (usize, usize, usize, usize),
}

/// The normalised form of a target.
pub(crate) fn normalise(target: &[u8], all: bool) -> Vec<u8> {
    uri::normalise(target, all, false).0
}

/// A host in small letters, without user and port.
pub(crate) fn host_without_port(authority: &[u8]) -> Vec<u8> {
    uri::host_of(authority).to_ascii_lowercase()
}

impl HttpTx {
    /// An empty one, with the limits of its bodies.
    pub(crate) fn new(settings: &HttpSettings) -> Self {
        let limits = (
            settings.request_body_limit,
            settings.response_body_limit,
            settings.request_inspect_min,
            settings.response_inspect_min,
        );
        Self { limits, ..Self::default() }
    }

    /// Adds a header that came as a name and a value.
    pub(crate) fn add_header(&mut self, dir: Dir, name: Vec<u8>, value: Vec<u8>) {
        let headers = if dir == Dir::ToServer { &mut self.request } else { &mut self.response };
        headers.push(name, value);
    }

    pub(crate) fn headers(&self, dir: Dir) -> &Headers {
        if dir == Dir::ToServer { &self.request } else { &self.response }
    }
}

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
    /// A line ended by LF CR: what follows may be a mix of line ends.
    lf_cr: bool,
    decoders: Vec<coding::Decoder>,
    /// The transaction that is read.
    tx: Option<u64>,
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
            lf_cr: false,
            decoders: Vec::new(),
            tx: None,
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

/// A line with its end, by the rules of the header section: LF, CR LF, LF CR, and a CR alone.
struct Line {
    /// Bytes of the line with its end.
    length: usize,
    /// The end was a lone CR.
    lone_cr: bool,
    lf_cr: bool,
}

/// The next line of a header section; `None` while its end is not known.
fn header_line(buffer: &[u8], lf_cr: bool, ended: bool) -> Option<Line> {
    let mut from = 0;
    loop {
        let at = from + memchr::memchr2(b'\r', b'\n', buffer.get(from..)?)?;
        let next = buffer.get(at + 1).copied();
        if next.is_none() && !ended {
            return None;
        }
        if buffer.get(at) == Some(&b'\r') {
            match next {
                Some(b'\n') => {
                    // LF CR CR LF CR LF are two line ends only.
                    let mix = lf_cr && buffer.get(at + 2) == Some(&b'\r') && buffer.get(at + 3) == Some(&b'\n');
                    return Some(Line { length: at + if mix { 4 } else { 2 }, lone_cr: false, lf_cr: false });
                }
                Some(b'\r') => from = at + 1,
                _ => return Some(Line { length: at + 1, lone_cr: true, lf_cr: false }),
            }
        } else {
            let lf_cr = next == Some(b'\r');
            // LF CR LF is an end and an empty line, not a pair and a rest.
            return Some(Line { length: at + 1 + usize::from(lf_cr), lone_cr: false, lf_cr });
        }
    }
}

/// A line without the bytes of its end.
fn chomp(mut line: &[u8]) -> &[u8] {
    while let [rest @ .., b'\r' | b'\n'] = line {
        line = rest;
    }
    line
}

/// Whether nothing but an end is on the line.
fn is_empty(line: &[u8]) -> bool {
    chomp(line).is_empty()
}

impl Http1 {
    /// One line of a header section or trailer. Gives `Some(true)` when the section is over.
    fn header_step(&mut self, dir: Dir, txs: &mut Transactions) -> Option<bool> {
        let http11 = {
            let id = self.side(dir).tx?;
            let tx = http(txs.get(id)?)?;
            let protocol = if dir == Dir::ToServer { &tx.protocol } else { &tx.response_protocol };
            protocol.eq_ignore_ascii_case(b"HTTP/1.1")
        };
        let side = self.side(dir);
        let Some(line) = header_line(&side.buffer, side.lf_cr, side.ended) else {
            if !side.ended {
                return None;
            }
            // The connection ended inside of the headers: what is there counts.
            let rest = std::mem::take(&mut side.buffer);
            let open = side.open_header.take();
            self.add_header(dir, txs, open, &rest);
            if !rest.is_empty() {
                self.add_header(dir, txs, Some(chomp(&rest).to_vec()), &[]);
            }
            return Some(true);
        };
        side.lf_cr = line.lf_cr;
        let bytes: Vec<u8> = side.buffer.drain(..line.length).collect();
        side.header_bytes += bytes.len();
        let followed = side.buffer.first().is_some_and(|next| *next != b'\n');
        let blank = matches!(bytes.as_slice(), [b' ' | b'\t', b'\n']) && followed;
        // A lone CR ends no section, a blank alone on its line does.
        if line.lone_cr && is_empty(&bytes) {
            return Some(false);
        }
        if blank || is_empty(&bytes) {
            let open = side.open_header.take();
            self.add_header(dir, txs, open, &bytes);
            return Some(true);
        }
        let text = chomp(&bytes);
        let folded = matches!(text.first(), Some(b' ' | b'\t'));
        let before = match (folded, side.open_header.as_mut()) {
            (true, Some(open)) => {
                let fresh = text.contains(&b':') && open.contains(&b':') && http11 && dir == Dir::ToClient;
                if fresh {
                    side.open_header.replace(text.get(1..).unwrap_or_default().to_vec())
                } else {
                    if open.len() + text.len() < 64 << 10 {
                        open.extend_from_slice(text);
                    }
                    None
                }
            }
            _ => side.open_header.replace(text.to_vec()),
        };
        if folded && let Some(tx) = side.tx.and_then(|id| txs.get(id)) {
            tx.event(if dir == Dir::ToServer {
                "http.invalid_request_field_folding"
            } else {
                "http.invalid_response_field_folding"
            });
        }
        self.add_header(dir, txs, before, &bytes);
        Some(false)
    }

    fn add_header(&mut self, dir: Dir, txs: &mut Transactions, line: Option<Vec<u8>>, raw: &[u8]) {
        let Some(tx) = self.side(dir).tx.and_then(|id| txs.get(id)) else { return };
        let Some(message) = http(tx) else { return };
        let headers = if dir == Dir::ToServer { &mut message.request } else { &mut message.response };
        if headers.raw.len() < 64 << 10 {
            headers.raw.extend_from_slice(raw);
        }
        if let Some(line) = line {
            headers.add(&line);
        }
    }
}

#[cfg(test)]
mod tests;
