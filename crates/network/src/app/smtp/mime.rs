//! MIME (RFC 2045, 2046): headers, parts, and the decoding of their content, a line at a time.

use crate::app::parameter::parameter;
use crate::app::tx::Kind;
use crate::app::{Dir, File, Tx};

/// Most parts, and deepest nesting.
const MOST_PARTS: usize = 128;
const DEEPEST: usize = 10;
/// Longest header with its continuations.
const LONGEST_HEADER: usize = 16 << 10;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Coding {
    #[default]
    Plain,
    Base64,
    Quoted,
}

/// Where in a message the lines are.
#[derive(Debug)]
pub(super) struct Mime {
    headers: bool,
    open: Vec<u8>,
    boundaries: Vec<Vec<u8>>,
    coding: Coding,
    name: Option<Vec<u8>>,
    in_file: bool,
    first: bool,
    parts: usize,
    bits: (u32, u32),
    /// The message's own headers are over.
    top_done: bool,
    plain_text: bool,
}

impl Default for Mime {
    fn default() -> Self {
        Self {
            headers: true,
            open: Vec::new(),
            boundaries: Vec::new(),
            coding: Coding::Plain,
            name: None,
            in_file: false,
            first: true,
            parts: 0,
            bits: (0, 0),
            top_done: false,
            plain_text: true,
        }
    }
}

impl Mime {
    /// One line without its end.
    pub(super) fn line(&mut self, text: &[u8], tx: &mut Tx) {
        if self.headers {
            return self.header_line(text, tx);
        }
        if let Some(rest) = text.strip_prefix(b"--")
            && let Some(at) = self.boundaries.iter().rposition(|boundary| rest.starts_with(boundary))
        {
            let length = self.boundaries.get(at).map_or(0, Vec::len);
            let over = rest.get(length..).is_some_and(|tail| tail.starts_with(b"--"));
            self.close(tx);
            self.boundaries.truncate(if over { at } else { at + 1 });
            self.headers = !over;
            self.coding = Coding::Plain;
            self.name = None;
            self.parts += 1;
            return;
        }
        self.body_line(text, tx);
    }

    fn header_line(&mut self, text: &[u8], tx: &mut Tx) {
        if matches!(text.first(), Some(b' ' | b'\t')) && !self.open.is_empty() {
            if self.open.len() < LONGEST_HEADER {
                self.open.extend_from_slice(text);
            }
            return;
        }
        let header = std::mem::replace(&mut self.open, text.to_vec());
        self.header(&header, tx);
        if !text.is_empty() {
            return;
        }
        self.headers = false;
        self.top_done = true;
        tx.reach(Dir::ToServer, 2);
        self.bits = (0, 0);
        self.first = true;
        let named = self.name.is_some();
        if (named || (!self.plain_text && self.boundaries.is_empty())) && self.parts < MOST_PARTS {
            self.in_file = true;
            let name = self.name.clone().unwrap_or_default();
            if let Some(files) = tx.files_mut(Dir::ToServer) {
                files.push(File::new(&name));
            }
        }
    }

    fn header(&mut self, header: &[u8], tx: &mut Tx) {
        let Some(colon) = memchr::memchr(b':', header) else { return };
        let (name, value) = header.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        let lower = value.to_ascii_lowercase();
        match name.to_ascii_lowercase().as_slice() {
            b"content-transfer-encoding" => {
                let says = |word: &[u8]| memchr::memmem::find(&lower, word).is_some();
                self.coding = if says(b"base64") {
                    Coding::Base64
                } else if says(b"quoted-printable") {
                    Coding::Quoted
                } else {
                    Coding::Plain
                };
            }
            b"content-type" => {
                self.plain_text = lower.starts_with(b"text/") || lower.starts_with(b"multipart/");
                if let Some(boundary) = parameter(value, b"boundary")
                    && self.boundaries.len() < DEEPEST
                {
                    if boundary.len() > 254 {
                        tx.event("smtp.mime_long_boundary");
                    }
                    self.boundaries.push(boundary);
                }
                if let Some(name) = parameter(value, b"name") {
                    self.name.get_or_insert(name);
                }
            }
            b"content-disposition" => {
                if let Some(name) = parameter(value, b"filename") {
                    self.name = Some(name);
                }
            }
            field => {
                if let Kind::Smtp(smtp) = &mut tx.kind
                    && !self.top_done
                {
                    match field {
                        b"from" => smtp.header_from = value.to_vec(),
                        b"to" => smtp.header_to = value.to_vec(),
                        b"subject" => smtp.subject = value.to_vec(),
                        _ => {}
                    }
                }
            }
        }
    }

    fn body_line(&mut self, text: &[u8], tx: &mut Tx) {
        if !self.in_file {
            return;
        }
        let mut out = Vec::with_capacity(text.len() + 2);
        match self.coding {
            Coding::Base64 => self.base64(text, &mut out),
            Coding::Quoted => {
                // Blanks at the end of a line are none of it (RFC 2045, 6.7).
                let text = text.trim_ascii_end();
                let soft = text.strip_suffix(b"=");
                quoted(soft.unwrap_or(text), &mut out);
                if soft.is_none() {
                    out.extend_from_slice(b"\r\n");
                }
            }
            Coding::Plain => {
                // The line end before a boundary belongs to the boundary.
                if !std::mem::take(&mut self.first) {
                    out.extend_from_slice(b"\r\n");
                }
                out.extend_from_slice(text);
            }
        }
        if let Some(file) = tx.files_mut(Dir::ToServer).and_then(|files| files.last_mut()) {
            file.append(&out);
        }
        tx.reach(Dir::ToServer, 3);
    }

    fn base64(&mut self, text: &[u8], out: &mut Vec<u8>) {
        for byte in text {
            let value = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                // Here a group ends, though another may follow.
                b'=' => {
                    self.bits = (0, 0);
                    continue;
                }
                _ => continue,
            };
            self.bits = (self.bits.0 << 6 | u32::from(value), self.bits.1 + 6);
            if self.bits.1 >= 8 {
                self.bits.1 -= 8;
                out.push((self.bits.0 >> self.bits.1) as u8);
                self.bits.0 &= (1 << self.bits.1) - 1;
            }
        }
    }

    fn close(&mut self, tx: &mut Tx) {
        if std::mem::take(&mut self.in_file)
            && let Some(file) = tx.files_mut(Dir::ToServer).and_then(|files| files.last_mut())
        {
            file.close(false);
            tx.touch(Dir::ToServer);
        }
    }

    /// The message is over.
    pub(super) fn end(mut self, tx: &mut Tx) {
        self.close(tx);
    }
}

fn quoted(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        if *byte == b'='
            && let [high, low, after @ ..] = tail
            && let (Some(high), Some(low)) = (char::from(*high).to_digit(16), char::from(*low).to_digit(16))
        {
            out.push((high * 16 + low) as u8);
            rest = after;
        } else {
            out.push(*byte);
        }
    }
}
