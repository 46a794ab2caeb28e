//! The direction to the client: status lines, headers, and how the body's end is told.

use super::headers::{content_length, has_word, is_space};
use super::{FRAME, Http1, State, Step, chomp, http, is_empty};
use crate::app::{AppProto, Dir, Transactions};

impl Http1 {
    pub(super) fn response_step(&mut self, txs: &mut Transactions) -> Step {
        match self.response.state {
            State::Line => self.response_line(txs),
            State::Headers => match self.header_step(Dir::ToClient, txs) {
                None => Step::Wait,
                Some(false) => Step::Again,
                Some(true) => self.response_headers_done(txs),
            },
            State::Trailer => match self.header_step(Dir::ToClient, txs) {
                None => Step::Wait,
                Some(false) => Step::Again,
                Some(true) => {
                    self.response.state = State::Finalize;
                    Step::Again
                }
            },
            State::Finalize => self.response_finalize(txs),
            State::Ignore => {
                self.response.buffer.clear();
                Step::Wait
            }
            _ => self.body_step(Dir::ToClient, txs),
        }
    }

    /// The transaction that the answer belongs to; opened if its request was not seen.
    fn answer_tx(&mut self, txs: &mut Transactions) -> u64 {
        let found = txs.list.iter().find(|tx| tx.id >= self.next_answer).map(|tx| tx.id);
        let id = found.unwrap_or_else(|| {
            let mut kind = self.fresh();
            if let super::Kind::Http(message) = &mut kind {
                message.no_request = true;
                message.uri = b"/libhtp::request_uri_not_seen".to_vec();
            }
            let tx = txs.open(kind);
            tx.event("http.unable_to_match_response_to_request");
            tx.id
        });
        self.response.tx = Some(id);
        id
    }

    fn response_line(&mut self, txs: &mut Transactions) -> Step {
        let buffer = &self.response.buffer;
        if buffer.is_empty() {
            return Step::Wait;
        }
        let length = match memchr::memchr2(b'\r', b'\n', buffer) {
            None if self.response.ended => buffer.len(),
            None => return Step::Wait,
            Some(at) if buffer.get(at) == Some(&b'\n') => at + 1,
            Some(at) => match buffer.get(at + 1) {
                None if !self.response.ended => return Step::Wait,
                Some(b'\n') => at + 2,
                _ => at + 1,
            },
        };
        let line = buffer.get(..length).unwrap_or_default().to_vec();
        // Empty lines before an answer are passed over.
        if is_empty(&line) || line.iter().all(|byte| is_space(*byte)) {
            self.response.consume(length);
            return Step::Again;
        }
        let text = chomp(&line).to_vec();
        let id = self.answer_tx(txs);
        let Some(tx) = txs.get(id) else { return Step::Fail };
        if no_status_line(&text) {
            // Junk before a status line is passed over, anything else is content as browsers take it.
            let next = self.response.buffer.get(length);
            if self.response.buffer.len() > length + 1 && (next == Some(&b'H') || text.len() <= 2) {
                self.response.consume(length);
                return Step::Again;
            }
            tx.reach(Dir::ToClient, 2);
            self.response.decoders.clear();
            self.response.state = State::UntilClose;
            return Step::Again;
        }
        self.response.consume(length);
        let (protocol, rest) = word(&text);
        let (status, rest) = word(rest);
        let message_text = rest.get(rest.iter().take_while(|byte| is_space(**byte)).count()..).unwrap_or_default();
        let valid = status.len() == 3 && status.iter().all(u8::is_ascii_digit);
        if let Some(message) = http(tx) {
            message.response_line = text.clone();
            message.response_protocol = protocol.to_vec();
            message.status = status.to_vec();
            message.message = message_text.to_vec();
            message.response = super::Headers::default();
            message.response_frame = line;
        }
        if !valid {
            tx.event("http.response_invalid_status");
        }
        tx.reach(Dir::ToClient, 1);
        self.response.state = State::Headers;
        Step::Again
    }

    fn response_headers_done(&mut self, txs: &mut Transactions) -> Step {
        let Some(id) = self.response.tx else { return Step::Fail };
        let Some(tx) = txs.get(id) else { return Step::Fail };
        let Some(message) = http(tx) else { return Step::Fail };
        if message.response_frame.len() < FRAME {
            message.response_frame.extend_from_slice(&message.response.raw);
        }
        let headers = &message.response;
        let status: u16 = std::str::from_utf8(&message.status).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        let coding = headers.get(b"transfer-encoding");
        let length = headers.get(b"content-length");
        let chunked = coding.is_some_and(|value| has_word(value, b"chunked"));
        let counted = length.map(content_length);
        let nothing_said = coding.is_none() && length.is_none();
        let head = message.method.eq_ignore_ascii_case(b"HEAD");
        let connect = message.method.eq_ignore_ascii_case(b"CONNECT");
        let codings = headers.get(b"content-encoding").map(<[u8]>::to_vec);
        let odd = chunked && !coding.is_some_and(|value| value.eq_ignore_ascii_case(b"chunked"));
        let h2c = headers.get(b"upgrade").is_some_and(|value| has_word(value, b"h2c"));
        let flags = (headers.invalid, headers.repeated, headers.repeated_length);
        // An interim answer: the real one follows.
        if status == 100 && nothing_said && !self.interim {
            self.interim = true;
            self.response.state = State::Line;
            return Step::Again;
        }
        self.interim = false;
        for (holds, event) in [
            (flags.0, "http.response_header_invalid"),
            (flags.1, "http.response_header_repetition"),
            (flags.2, "http.duplicate_content_length_field_in_response"),
            (odd, "http.response_abnormal_transfer_encoding"),
        ] {
            if holds {
                tx.event(event);
            }
        }
        tx.reach(Dir::ToClient, 2);
        self.response.decoders =
            super::body::decoders(codings.as_deref(), self.settings.decompress_layers, Dir::ToClient);
        let bodiless = matches!(status, 100..=199 | 204 | 304) && nothing_said;
        let none = head || bodiless;
        self.response.state = match counted {
            _ if status == 101 && h2c => {
                self.upgrade = Some(AppProto::Http2);
                tx.finish(Dir::ToClient);
                State::Ignore
            }
            _ if status == 101 && nothing_said => State::Ignore,
            _ if connect && (200..300).contains(&status) => {
                self.upgrade = None;
                tx.finish(Dir::ToClient);
                State::Ignore
            }
            _ if none => State::Finalize,
            _ if chunked => State::ChunkLength,
            Some(Some(0)) => State::Finalize,
            Some(Some(length)) => State::Counted(length),
            Some(None) => {
                tx.event("http.invalid_content_length_field_in_response");
                return Step::Fail;
            }
            None => State::UntilClose,
        };
        if matches!(self.response.state, State::Ignore)
            && let Some(tx) = txs.get(id)
        {
            tx.finish(Dir::ToClient);
        }
        Step::Again
    }

    /// The answer is whole; bytes that are no status line are still content of it.
    fn response_finalize(&mut self, txs: &mut Transactions) -> Step {
        let buffer = &self.response.buffer;
        if !buffer.is_empty() && no_status_line(buffer.get(..buffer.len().min(64)).unwrap_or_default()) {
            let short = buffer.len() < 8 && !self.response.ended && b"HTTP/1.".starts_with(buffer.as_slice());
            if !short && !is_empty(buffer) {
                let data = std::mem::take(&mut self.response.buffer);
                if let Some(tx) = self.response.tx.and_then(|id| txs.get(id)) {
                    tx.event("http.response_body_unexpected");
                }
                self.content(Dir::ToClient, txs, &data);
                return Step::Again;
            }
        }
        self.message_over(Dir::ToClient, txs);
        if self.response.buffer.is_empty() { Step::Wait } else { Step::Again }
    }
}

/// Whether a line is no status line in the eyes of browsers.
fn no_status_line(line: &[u8]) -> bool {
    let skip = line.iter().take_while(|byte| is_space(**byte) || **byte == 0).count();
    !line.get(skip..skip + 4).is_some_and(|word| word.eq_ignore_ascii_case(b"http"))
}

/// The first word, and what follows it.
fn word(text: &[u8]) -> (&[u8], &[u8]) {
    let start = text.iter().take_while(|byte| is_space(**byte)).count();
    let text = text.get(start..).unwrap_or_default();
    text.split_at(text.iter().position(|byte| is_space(*byte)).unwrap_or(text.len()))
}
