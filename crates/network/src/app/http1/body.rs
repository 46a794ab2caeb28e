//! Bodies: by length, by chunks, until the end; content codings; files inside.

use std::borrow::Cow;

use super::coding::Decoder;
use super::headers::has_word;
use super::{FRAME, Http1, State, Step, http};
use crate::app::parameter::parameter;
use crate::app::{Dir, File, Transactions, Tx};

/// Decoders for a `Content-Encoding` value.
pub(crate) fn decoders(value: Option<&[u8]>, most: usize, dir: Dir) -> Vec<Decoder> {
    let words = value.unwrap_or_default().split(|byte| matches!(byte, b',' | b' ' | b'\t'));
    // Of what clients send, brotli is not decoded: hardly a server does, and its window may be as large as 16 MiB.
    let known = words.filter_map(|word| match word {
        _ if has_word(word, b"gzip") || has_word(word, b"deflate") => Some(Decoder::new()),
        _ if dir == Dir::ToClient && word.eq_ignore_ascii_case(b"br") => Some(Decoder::brotli()),
        _ => None,
    });
    known.take(most).collect()
}

/// Bytes through decoders; `last` says that nothing follows. The flag tells of a bomb.
pub(crate) fn decode<'d>(decoders: &mut [Decoder], data: &'d [u8], last: bool) -> (Cow<'d, [u8]>, bool) {
    let mut data = Cow::Borrowed(data);
    let mut bomb = false;
    for decoder in decoders {
        let mut out = Vec::new();
        decoder.decode(&data, last, &mut out);
        bomb |= decoder.bomb;
        data = Cow::Owned(out);
    }
    (data, bomb)
}

/// Whether a byte may stand in a line of a chunk's length besides digits.
fn is_control(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n' | b' ' | b'\t' | 0x0b | 0x0c)
}

impl Http1 {
    pub(super) fn body_step(&mut self, dir: Dir, txs: &mut Transactions) -> Step {
        let side = self.side(dir);
        if side.buffer.is_empty() {
            return Step::Wait;
        }
        match side.state {
            State::Counted(_) | State::Chunk(_) | State::UntilClose => {
                // The buffer keeps its memory.
                let mut buffer = std::mem::take(&mut side.buffer);
                let left = self.body_bytes(dir, &buffer, txs).len();
                buffer.drain(..buffer.len() - left);
                self.side(dir).buffer = buffer;
                if matches!(self.side(dir).state, State::UntilClose) { Step::Wait } else { Step::Again }
            }
            State::ChunkLength => self.chunk_length(dir, txs),
            State::ChunkEnd => {
                let Some(at) = memchr::memchr(b'\n', &side.buffer) else {
                    side.buffer.clear();
                    return Step::Wait;
                };
                side.consume(at + 1);
                side.state = State::ChunkLength;
                Step::Again
            }
            _ => Step::Wait,
        }
    }

    fn chunk_length(&mut self, dir: Dir, txs: &mut Transactions) -> Step {
        let side = self.side(dir);
        let mut end = None;
        for (at, byte) in side.buffer.iter().enumerate() {
            let line = side.buffer.get(..=at).unwrap_or_default();
            // Something that cannot be a length ends the search early.
            if *byte == b'\n' || (!is_control(*byte) && !probe_length(line)) {
                end = Some(at + 1);
                break;
            }
        }
        let Some(end) = end else { return Step::Wait };
        let line = side.buffer.get(..end).unwrap_or_default();
        let digits = line.get(line.iter().take_while(|byte| is_control(**byte)).count()..).unwrap_or_default();
        if digits.is_empty() {
            side.consume(end);
            return Step::Again;
        }
        let count = digits.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let extension = digits.get(count..).is_some_and(|rest| rest.contains(&b';'));
        let length = digits.get(..count).and_then(|digits| std::str::from_utf8(digits).ok());
        let length =
            length.and_then(|digits| u64::from_str_radix(digits, 16).ok()).filter(|length| *length <= i32::MAX as u64);
        let event = match (dir, length) {
            (Dir::ToServer, None) => Some("http.invalid_request_chunk_len"),
            (Dir::ToClient, None) => Some("http.invalid_response_chunk_len"),
            (Dir::ToServer, _) if extension => Some("http.request_chunk_extension"),
            (Dir::ToClient, _) if extension => Some("http.response_chunk_extension"),
            _ => None,
        };
        let id = side.tx;
        match length {
            None if dir == Dir::ToServer => {
                if let (Some(event), Some(tx)) = (event, id.and_then(|id| txs.get(id))) {
                    tx.event(event);
                }
                return Step::Fail;
            }
            // What is no length is content until the end, the line included.
            None => side.state = State::UntilClose,
            Some(0) => {
                side.consume(end);
                side.state = State::Trailer;
            }
            Some(length) => {
                side.consume(end);
                side.state = State::Chunk(length);
            }
        }
        if let (Some(event), Some(tx)) = (event, id.and_then(|id| txs.get(id))) {
            tx.event(event);
        }
        Step::Again
    }

    fn after_body(&mut self, dir: Dir, txs: &mut Transactions) {
        if dir == Dir::ToServer {
            self.message_over(dir, txs);
        } else {
            self.response.state = State::Finalize;
        }
    }

    /// Takes what is of the body at the front of some bytes, and gives the rest.
    pub(super) fn body_bytes<'d>(&mut self, dir: Dir, bytes: &'d [u8], txs: &mut Transactions) -> &'d [u8] {
        let left = match self.side(dir).state {
            State::Counted(left) | State::Chunk(left) => left,
            State::UntilClose => u64::MAX,
            _ => return bytes,
        };
        let (body, rest) = bytes.split_at(bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
        let left = left - body.len() as u64;
        let side = self.side(dir);
        match &mut side.state {
            State::Chunk(_) if left == 0 => side.state = State::ChunkEnd,
            State::Counted(was) | State::Chunk(was) => *was = left,
            _ => {}
        }
        self.content(dir, txs, body);
        if left == 0 && matches!(self.side(dir).state, State::Counted(_)) {
            self.after_body(dir, txs);
        }
        rest
    }

    /// Body bytes as they came: through the decoders to the transaction.
    pub(super) fn content(&mut self, dir: Dir, txs: &mut Transactions, data: &[u8]) {
        let last = self.side(dir).ended;
        let (data, bomb) = decode(&mut self.side(dir).decoders, data, last);
        let Some(tx) = self.side(dir).tx.and_then(|id| txs.get(id)) else { return };
        if bomb {
            tx.event("http.compression_bomb");
        }
        tx.reach(dir, 3);
        if dir == Dir::ToClient {
            answer_content(tx, &data);
        } else {
            let part = self.request.multipart.as_mut();
            request_content(tx, &data, part);
        }
    }

    /// A message is whole.
    pub(super) fn message_over(&mut self, dir: Dir, txs: &mut Transactions) {
        if !self.side(dir).decoders.is_empty() {
            self.flush(dir, txs);
        }
        let side = self.side(dir);
        side.state = State::Line;
        side.open_header = None;
        side.lf_cr = false;
        side.decoders.clear();
        side.header_bytes = 0;
        side.multipart = None;
        let Some(id) = side.tx.take() else { return };
        if dir == Dir::ToClient {
            self.next_answer = id + 1;
        }
        if let Some(tx) = txs.get(id) {
            // An answer that comes before its request is whole ends the request as well.
            tx.finish(dir);
        }
    }

    /// Lets decoders give what they held back.
    fn flush(&mut self, dir: Dir, txs: &mut Transactions) {
        let ended = std::mem::replace(&mut self.side(dir).ended, true);
        self.content(dir, txs, &[]);
        self.side(dir).ended = ended;
    }
}

/// Like the length of a chunk so far, or too short to tell.
fn probe_length(line: &[u8]) -> bool {
    if line.len() < 8 {
        return true;
    }
    let first = line.iter().find(|byte| !is_control(**byte));
    first.is_none_or(u8::is_ascii_hexdigit)
}

fn answer_content(tx: &mut Tx, data: &[u8]) {
    let Some(message) = http(tx) else { return };
    message.response_body_seen += data.len() as u64;
    if tx.files(Dir::ToClient).is_empty() {
        let name = http(tx).map(|message| {
            disposition(message.response.get(b"content-disposition")).unwrap_or_else(|| name_of(&message.uri))
        });
        if let Some(files) = tx.files_mut(Dir::ToClient) {
            files.push(File { name: name.unwrap_or_default(), ..File::default() });
        }
    }
    if let Some(file) = tx.files_mut(Dir::ToClient).and_then(|files| files.last_mut()) {
        file.append(data);
    }
}

fn request_content(tx: &mut Tx, data: &[u8], multipart: Option<&mut Multipart>) {
    let Some(message) = http(tx) else { return };
    message.request_body_seen += data.len() as u64;
    let limit = if message.limits.0 == 0 { crate::app::files_most() } else { message.limits.0 };
    let room = limit.saturating_sub(message.request_body.len());
    message.request_body.extend_from_slice(data.get(..room.min(data.len())).unwrap_or_default());
    let frame_room = FRAME.saturating_sub(message.request_frame.len());
    message.request_frame.extend_from_slice(data.get(..frame_room.min(data.len())).unwrap_or_default());
    if let Some(multipart) = multipart {
        let Some(files) = tx.files_mut(Dir::ToServer) else { return };
        return multipart.feed(data, files);
    }
    let upload = message.method.eq_ignore_ascii_case(b"PUT") || message.method.eq_ignore_ascii_case(b"POST");
    if !upload {
        return;
    }
    if tx.files(Dir::ToServer).is_empty() {
        let name = http(tx).map(|message| {
            disposition(message.request.get(b"content-disposition")).unwrap_or_else(|| name_of(&message.uri))
        });
        if let Some(files) = tx.files_mut(Dir::ToServer) {
            files.push(File::new(&name.unwrap_or_default()));
        }
    }
    let Some(files) = tx.files_mut(Dir::ToServer) else { return };
    if let Some(file) = files.last_mut() {
        file.append(data);
    }
}

/// The name in a `Content-Disposition`.
fn disposition(value: Option<&[u8]>) -> Option<Vec<u8>> {
    let value = value?;
    let Some(at) = memchr::memmem::find(&value.to_ascii_lowercase(), b"filename=") else {
        return parameter(value, b"filename");
    };
    let rest = value.get(at + 9..)?;
    let name = match rest.strip_prefix(b"\"") {
        Some(quoted) => quoted.split(|byte| *byte == b'"').next()?,
        None => rest.split(|byte| matches!(byte, b';' | b' ' | b'\r')).next()?,
    };
    Some(name.to_vec())
}

/// The path of a URI, as the name of what it leads to.
fn name_of(uri: &[u8]) -> Vec<u8> {
    let path = uri.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default();
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec()
}

/// Most parts of one body that become files.
const MOST_PARTS: usize = 64;

/// A multipart body: files in it are cut out as they come.
#[derive(Debug)]
pub(super) struct Multipart {
    mark: Vec<u8>,
    buffer: Vec<u8>,
    /// In a part: whether it is a file.
    inside: Option<bool>,
}

impl Multipart {
    /// From the value of `Content-Type`.
    pub(super) fn from_type(value: &[u8]) -> Option<Self> {
        let lower = value.to_ascii_lowercase();
        if !lower.starts_with(b"multipart/") {
            return None;
        }
        let boundary = parameter(value, b"boundary")?;
        let mark = [b"--", boundary.as_slice()].concat();
        Some(Self { mark, buffer: Vec::new(), inside: None })
    }

    pub(super) fn kept(&self) -> usize {
        self.buffer.len()
    }

    pub(super) fn feed(&mut self, data: &[u8], files: &mut Vec<File>) {
        self.buffer.extend_from_slice(data);
        loop {
            let at = memchr::memmem::find(&self.buffer, &self.mark);
            if let Some(file) = self.inside.filter(|file| *file).and_then(|_| files.last_mut()) {
                // What may be the beginning of the next mark waits.
                let end = at.unwrap_or(self.buffer.len().saturating_sub(self.mark.len() + 4));
                let content: Vec<u8> = self.buffer.drain(..end).collect();
                let content = if at.is_some() {
                    content.strip_suffix(b"\r\n").or(content.strip_suffix(b"\n")).unwrap_or(&content)
                } else {
                    &content
                };
                file.append(content);
                if at.is_some() {
                    file.close(false);
                }
            } else {
                let end = at.unwrap_or(self.buffer.len().saturating_sub(self.mark.len() + 4));
                self.buffer.drain(..end);
            }
            if at.is_none() {
                return;
            }
            // The mark, its line end, and the part's headers.
            let after = self.buffer.get(self.mark.len()..).unwrap_or_default();
            if after.starts_with(b"--") {
                self.buffer.clear();
                self.inside = None;
                return;
            }
            let Some((length, skip)) = blank_line(after) else {
                if self.buffer.len() > 16 << 10 {
                    self.buffer.drain(..self.mark.len());
                    self.inside = None;
                    continue;
                }
                self.inside = None;
                return;
            };
            let headers = after.get(..length).unwrap_or_default().to_vec();
            self.buffer.drain(..self.mark.len() + length + skip);
            let name = disposition(Some(&headers));
            self.inside = Some(name.is_some() && files.len() < MOST_PARTS);
            if let Some(name) = name.filter(|_| files.len() < MOST_PARTS) {
                files.push(File::new(&name));
            }
        }
    }
}

/// Where headers end: their length, and that of the empty line.
fn blank_line(data: &[u8]) -> Option<(usize, usize)> {
    let crlf = memchr::memmem::find(data, b"\r\n\r\n").map(|at| (at, 4));
    let lf = memchr::memmem::find(data, b"\n\n").map(|at| (at, 2));
    match (crlf, lf) {
        (Some(one), Some(two)) => Some(if one.0 < two.0 { one } else { two }),
        (one, two) => one.or(two),
    }
}
