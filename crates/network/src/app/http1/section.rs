//! Header sections and trailers: lines with any of the ends that clients and servers take for one.

use super::{Http1, LARGEST_SPARE, http};
use crate::app::{Dir, Transactions};

/// A line with its end, by the rules of the header section: LF, CR LF, LF CR, and in answers a CR alone.
struct Line {
    /// Bytes of the line with its end.
    length: usize,
    /// The end was a lone CR.
    lone_cr: bool,
    lf_cr: bool,
}

/// The next line of a header section; `None` while its end is not known.
fn header_line(buffer: &[u8], lf_cr: bool, ended: bool, dir: Dir) -> Option<Line> {
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
                // Servers take it for a part of the value, or refuse the request.
                Some(_) if dir == Dir::ToServer => from = at + 1,
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
pub(super) fn chomp(mut line: &[u8]) -> &[u8] {
    while let [rest @ .., b'\r' | b'\n'] = line {
        line = rest;
    }
    line
}

/// Whether nothing but an end is on the line.
pub(super) fn is_empty(line: &[u8]) -> bool {
    chomp(line).is_empty()
}

impl Http1 {
    /// One line of a header section or trailer. Gives `Some(true)` when the section is over.
    pub(super) fn header_step(&mut self, dir: Dir, txs: &mut Transactions) -> Option<bool> {
        let http11 = {
            let id = self.side(dir).tx?;
            let tx = http(txs.get(id)?)?;
            let protocol = if dir == Dir::ToServer { &tx.protocol } else { &tx.response_protocol };
            protocol.eq_ignore_ascii_case(b"HTTP/1.1")
        };
        let side = self.side(dir);
        let Some(line) = header_line(&side.buffer, side.lf_cr, side.ended, dir) else {
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
        // The buffer keeps its memory, and so do lines.
        let mut buffer = std::mem::take(&mut side.buffer);
        let over = self.header_taken(dir, &line, &buffer, http11, txs);
        buffer.drain(..line.length);
        self.side(dir).buffer = buffer;
        Some(over)
    }

    /// Takes a line from the front of some bytes. Gives whether the section is over.
    fn header_taken(&mut self, dir: Dir, line: &Line, buffer: &[u8], http11: bool, txs: &mut Transactions) -> bool {
        let (bytes, rest) = buffer.split_at(line.length.min(buffer.len()));
        let side = self.side(dir);
        side.lf_cr = line.lf_cr;
        side.header_bytes += bytes.len();
        let followed = rest.first().is_some_and(|next| *next != b'\n');
        let blank = matches!(bytes, [b' ' | b'\t', b'\n']) && followed;
        // A lone CR ends no section, a blank alone on its line does.
        if line.lone_cr && is_empty(bytes) {
            return false;
        }
        if blank || is_empty(bytes) {
            let open = side.open_header.take();
            self.add_header(dir, txs, open, bytes);
            return true;
        }
        let text = chomp(bytes);
        let folded = matches!(text.first(), Some(b' ' | b'\t'));
        let fresh = match side.open_header.as_mut().filter(|_| folded) {
            Some(open) if text.contains(&b':') && open.contains(&b':') && http11 && dir == Dir::ToClient => {
                text.get(1..)
            }
            Some(open) => {
                if open.len() + text.len() < 64 << 10 {
                    open.extend_from_slice(text);
                }
                None
            }
            None => Some(text),
        };
        let before = fresh.and_then(|text| {
            let mut line = std::mem::take(&mut side.spare_line);
            line.extend_from_slice(text);
            side.open_header.replace(line)
        });
        if folded && let Some(tx) = side.tx.and_then(|id| txs.get(id)) {
            tx.event(if dir == Dir::ToServer {
                "http.invalid_request_field_folding"
            } else {
                "http.invalid_response_field_folding"
            });
        }
        self.add_header(dir, txs, before, bytes);
        false
    }

    fn add_header(&mut self, dir: Dir, txs: &mut Transactions, line: Option<Vec<u8>>, raw: &[u8]) {
        let Some(tx) = self.side(dir).tx.and_then(|id| txs.get(id)) else { return };
        let Some(message) = http(tx) else { return };
        let headers = if dir == Dir::ToServer { &mut message.request } else { &mut message.response };
        if headers.raw.len() < 64 << 10 {
            headers.raw.extend_from_slice(raw);
        }
        if let Some(mut line) = line {
            headers.add(&line);
            if line.capacity() <= LARGEST_SPARE {
                line.clear();
                self.side(dir).spare_line = line;
            }
        }
    }
}
