//! SMTP with MIME: commands, replies, and the messages with their attachments.
//!
//! One transaction is one message, from `MAIL FROM` to the end of its data. Attachments become files; their content
//! is decoded (Base64, quoted-printable) as it comes, line by line.

mod mime;

use std::borrow::Cow;

use mime::Mime;

use super::access::{Look, Value};
use super::tx::Kind;
use super::{Dir, Parser, Status, Transactions, Tx};
use crate::rules::buffers::Buffer;

/// Longest line that is kept whole.
const LONGEST_LINE: usize = 4096;
/// Most recipients that are kept.
const MOST_RECIPIENTS: usize = 128;

/// One message and the words around it.
#[derive(Debug, Default)]
pub(crate) struct SmtpTx {
    pub helo: Vec<u8>,
    pub from: Vec<u8>,
    pub to: Vec<Vec<u8>>,
    pub header_from: Vec<u8>,
    pub header_to: Vec<u8>,
    pub subject: Vec<u8>,
}

impl SmtpTx {
    pub(crate) fn values(&self, buffer: Buffer, look: Look<'_>) -> bool {
        let one = match buffer {
            Buffer::SmtpHelo => &self.helo,
            Buffer::SmtpMailFrom => &self.from,
            Buffer::EmailFrom => &self.header_from,
            Buffer::EmailSubject => &self.subject,
            Buffer::EmailTo => &self.header_to,
            Buffer::SmtpRcptTo => {
                for data in &self.to {
                    if look(Value { data: Cow::Borrowed(data), last: true, file: None }) {
                        break;
                    }
                }
                return !self.to.is_empty();
            }
            _ => return false,
        };
        if !one.is_empty() {
            look(Value { data: Cow::Borrowed(one), last: true, file: None });
        }
        !one.is_empty()
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Commands,
    /// `DATA` was sent; the server has not agreed yet, but clients that pipeline do not wait.
    Data,
    /// So many bytes of a `BDAT` are left.
    Chunk(u64, bool),
}

/// The parser of one connection.
#[derive(Debug, Default)]
pub(crate) struct Smtp {
    buffers: [Vec<u8>; 2],
    /// The rest of a line that is too long is passed over.
    skipping: [bool; 2],
    mode: Mode,
    /// The beginning of a line whose end is in another `BDAT`.
    partial: Vec<u8>,
    helo: Vec<u8>,
    tx: Option<u64>,
    mime: Option<Mime>,
    /// Words of commands that wait for a reply.
    waiting: std::collections::VecDeque<Word>,
    greeted: bool,
    tls: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Data,
    StartTls,
    Other,
}

impl Smtp {
    fn tx<'t>(&mut self, txs: &'t mut Transactions) -> Option<&'t mut Tx> {
        let id = match self.tx {
            Some(id) => id,
            None => {
                let message = SmtpTx { helo: self.helo.clone(), ..SmtpTx::default() };
                let tx = txs.open(Kind::Smtp(Box::new(message)));
                tx.reach(Dir::ToServer, 1);
                *self.tx.insert(tx.id)
            }
        };
        txs.get(id)
    }

    fn finish(&mut self, txs: &mut Transactions) {
        if let (Some(mime), Some(tx)) = (self.mime.take(), self.tx.and_then(|id| txs.get(id))) {
            mime.end(tx);
        }
        if let Some(tx) = self.tx.take().and_then(|id| txs.get(id)) {
            tx.finish(Dir::ToServer);
            tx.finish(Dir::ToClient);
        }
    }

    fn command(&mut self, line: &[u8], txs: &mut Transactions) {
        let upper = line.get(..10.min(line.len())).unwrap_or_default().to_ascii_uppercase();
        let rest = |skip: usize| line.get(skip..).unwrap_or_default().trim_ascii().to_vec();
        let address = |skip: usize| -> Vec<u8> {
            let text = rest(skip);
            let start = text.iter().position(|byte| *byte == b'<').map_or(0, |at| at + 1);
            let end = text.iter().position(|byte| *byte == b'>').unwrap_or(text.len());
            text.get(start..end).unwrap_or_default().to_vec()
        };
        let mut word = Word::Other;
        if upper.starts_with(b"EHLO") || upper.starts_with(b"HELO") {
            self.helo = rest(4);
            let helo = self.helo.clone();
            if let Some(tx) = self.tx(txs)
                && let Kind::Smtp(smtp) = &mut tx.kind
            {
                smtp.helo = helo;
                tx.reach(Dir::ToServer, 1);
            }
        } else if upper.starts_with(b"MAIL FROM:") {
            let from = address(10);
            let begun = self
                .tx
                .and_then(|id| txs.get(id))
                .is_some_and(|tx| matches!(&tx.kind, Kind::Smtp(smtp) if !smtp.from.is_empty()));
            if begun {
                self.finish(txs);
            }
            if let Some(tx) = self.tx(txs)
                && let Kind::Smtp(smtp) = &mut tx.kind
            {
                smtp.from = from;
                tx.touch(Dir::ToServer);
            }
        } else if upper.starts_with(b"RCPT TO:") {
            let to = address(8);
            let duplicate = self.tx(txs).is_some_and(|tx| {
                let mut full = false;
                if let Kind::Smtp(smtp) = &mut tx.kind {
                    full = smtp.to.contains(&to);
                    if smtp.to.len() < MOST_RECIPIENTS {
                        smtp.to.push(to);
                    }
                }
                tx.touch(Dir::ToServer);
                full
            });
            if duplicate && let Some(tx) = self.tx(txs) {
                tx.event("smtp.duplicate_fields");
            }
        } else if upper.starts_with(b"DATA") && line.trim_ascii().len() == 4 {
            word = Word::Data;
            self.mode = Mode::Data;
            self.mime = Some(Mime::default());
            self.tx(txs);
        } else if upper.starts_with(b"BDAT") {
            let text = rest(4);
            let mut words = text.split(|byte| *byte == b' ');
            let size = words.next().and_then(|word| std::str::from_utf8(word).ok()?.parse::<u64>().ok());
            let last = words.any(|word| word.eq_ignore_ascii_case(b"LAST"));
            match size {
                Some(size) => {
                    self.mode = if size > 0 { Mode::Chunk(size, last) } else { Mode::Commands };
                    self.mime.get_or_insert_with(Mime::default);
                    self.tx(txs);
                    if size == 0 && last {
                        self.chunk(&[], true, txs);
                    }
                }
                None => {
                    if let Some(tx) = self.tx(txs) {
                        tx.event("smtp.bdat_chunk_len_exceeded");
                    }
                }
            }
        } else if upper.starts_with(b"STARTTLS") {
            word = Word::StartTls;
        } else if upper.starts_with(b"RSET") {
            self.finish(txs);
        }
        if self.waiting.len() < 256 {
            self.waiting.push_back(word);
        }
    }

    fn reply(&mut self, line: &[u8], txs: &mut Transactions) {
        // Lines of a reply that goes on.
        if line.get(3) == Some(&b'-') {
            return;
        }
        let code = line.get(..3).unwrap_or_default();
        if !code.iter().all(u8::is_ascii_digit) || code.len() < 3 {
            if let Some(tx) = self.tx(txs) {
                tx.event("smtp.invalid_reply");
            }
            return;
        }
        if !self.greeted {
            self.greeted = true;
            if code.starts_with(b"2") {
                return;
            }
            if let Some(tx) = self.tx(txs) {
                tx.event("smtp.no_server_welcome_message");
            }
        }
        match self.waiting.pop_front() {
            Some(Word::StartTls) if code == b"220" => self.tls = true,
            Some(Word::StartTls) => {
                if let Some(tx) = self.tx(txs) {
                    tx.event("smtp.tls_rejected");
                }
            }
            Some(Word::Data) if !code.starts_with(b"3") => {
                self.mode = Mode::Commands;
                if let Some(tx) = self.tx(txs) {
                    tx.event("smtp.data_command_rejected");
                }
            }
            _ => {}
        }
    }

    fn line(&mut self, dir: Dir, line: &[u8], txs: &mut Transactions) {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if dir == Dir::ToClient {
            return self.reply(text, txs);
        }
        if self.mode != Mode::Data {
            return self.command(text, txs);
        }
        if text == b"." {
            self.mode = Mode::Commands;
            return self.finish(txs);
        }
        let text = if text.starts_with(b"..") { text.get(1..).unwrap_or_default() } else { text };
        self.content(text, txs);
    }

    /// Bytes of a `BDAT`; a line may go on in the next one.
    fn chunk(&mut self, piece: &[u8], last: bool, txs: &mut Transactions) {
        for line in piece.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(line);
            if line.ends_with(b"\n") || self.partial.len() >= LONGEST_LINE {
                self.partial_line(txs);
            }
        }
        if last {
            self.partial_line(txs);
            self.finish(txs);
        }
    }

    fn partial_line(&mut self, txs: &mut Transactions) {
        let line = std::mem::take(&mut self.partial);
        if !line.is_empty() {
            let text = line.strip_suffix(b"\n").unwrap_or(&line);
            self.content(text.strip_suffix(b"\r").unwrap_or(text), txs);
        }
    }

    fn content(&mut self, text: &[u8], txs: &mut Transactions) {
        if let (Some(mime), Some(tx)) = (self.mime.as_mut(), self.tx.and_then(|id| txs.get(id))) {
            mime.line(text, tx);
        }
    }
}

impl Parser for Smtp {
    fn data(&mut self, dir: Dir, data: &[u8], txs: &mut Transactions) -> Status {
        let mut buffer = self.buffers.get_mut(dir as usize).map(std::mem::take).unwrap_or_default();
        buffer.extend_from_slice(data);
        let mut at = 0;
        while let Some(rest) = buffer.get(at..).filter(|rest| !rest.is_empty()) {
            if let (Dir::ToServer, Mode::Chunk(left, last)) = (dir, &self.mode) {
                let (left, last) = (*left, *last);
                let count = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                self.chunk(rest.get(..count).unwrap_or_default(), left == count as u64 && last, txs);
                let left = left - count as u64;
                self.mode = if left > 0 { Mode::Chunk(left, last) } else { Mode::Commands };
                at += count;
                continue;
            }
            let end = memchr::memchr(b'\n', rest).map(|end| end + 1);
            let skipping = self.skipping.get(dir as usize).copied().unwrap_or(false);
            let end = match end {
                Some(end) => end,
                None if rest.len() < LONGEST_LINE => break,
                // What is too long is taken in pieces.
                None => rest.len(),
            };
            let whole = rest.get(end - 1) == Some(&b'\n');
            let line = rest.get(..end).unwrap_or_default().to_vec();
            at += end;
            let body = dir == Dir::ToServer && self.mode != Mode::Commands;
            if !body && (line.len() > LONGEST_LINE || !whole) {
                let name = if dir == Dir::ToServer {
                    "smtp.max_command_line_len_exceeded"
                } else {
                    "smtp.max_reply_line_len_exceeded"
                };
                if let Some(tx) = self.tx(txs) {
                    tx.event(name);
                }
            }
            if let Some(flag) = self.skipping.get_mut(dir as usize) {
                *flag = !whole && !body;
            }
            if !skipping {
                self.line(dir, &line, txs);
            }
            if self.tls {
                return Status::Upgrade(super::AppProto::Tls);
            }
        }
        buffer.drain(..at.min(buffer.len()));
        if let Some(slot) = self.buffers.get_mut(dir as usize) {
            *slot = buffer;
        }
        Status::Going
    }

    fn kept(&self) -> usize {
        size_of::<Self>()
            + self.buffers.iter().map(Vec::capacity).sum::<usize>()
            + self.partial.len()
            + self.waiting.len()
    }

    fn gap(&mut self, _: Dir, _: usize, _: &mut Transactions) -> Status {
        Status::Failed
    }

    fn end(&mut self, dir: Dir, txs: &mut Transactions) {
        if dir == Dir::ToServer {
            self.finish(txs);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::{AppProto, play::play};

    #[test]
    fn chunks_cut_where_they_like() {
        let mail = b"Content-Type: x/y; name=a\r\nContent-Transfer-Encoding: base64\r\n\r\naGVsbG8=\r\n";
        for size in [1, 7, 50, mail.len()] {
            let mut said = b"EHLO a\r\nMAIL FROM:<a@b>\r\n".to_vec();
            for part in mail.chunks(size) {
                said.extend(format!("BDAT {}\r\n", part.len()).bytes());
                said.extend(part);
            }
            said.extend(b"BDAT 0 LAST\r\nQUIT\r\n");
            let txs = play(AppProto::Smtp, &[(Dir::ToClient, b"220 x\r\n"), (Dir::ToServer, &said)]);
            assert_eq!(txs.list[0].files(Dir::ToServer)[0].data, b"hello", "{size}");
        }
    }

    #[test]
    fn an_attachment() {
        let mail = b"EHLO me\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nSubject: hi\r\nContent-Type: multipart/mixed; boundary=\"B\"\r\n\r\n--B\r\nContent-Disposition: attachment; filename=\"x.bin\"\r\nContent-Transfer-Encoding: base64\r\n\r\naGVs\r\nbG8=\r\n--B--\r\n.\r\nQUIT\r\n";
        let txs = play(AppProto::Smtp, &[(Dir::ToClient, b"220 x\r\n"), (Dir::ToServer, mail)]);
        let tx = &txs.list[0];
        let file = &tx.files(Dir::ToServer)[0];
        assert_eq!((file.name.as_slice(), file.data.as_slice(), file.closed), (&b"x.bin"[..], &b"hello"[..], true));
        let Kind::Smtp(smtp) = &tx.kind else { panic!() };
        assert_eq!(
            (smtp.from.as_slice(), smtp.subject.as_slice(), smtp.helo.as_slice()),
            (&b"a@b"[..], &b"hi"[..], &b"me"[..])
        );
    }
}
