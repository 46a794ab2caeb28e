//! The direction to the server: request lines, headers and what follows them.

use super::headers::{content_length, has_word, is_space, trim};
use super::uri::{host_of, normalise, split_authority, without_port};
use super::{FRAME, Http1, State, Step, chomp, http, is_empty};
use crate::app::{AppProto, Dir, Transactions};

impl Http1 {
    pub(super) fn request_step(&mut self, txs: &mut Transactions) -> Step {
        match self.request.state {
            State::Line => self.request_line(txs),
            State::Headers | State::Trailer => match self.header_step(Dir::ToServer, txs) {
                None => Step::Wait,
                Some(false) => Step::Again,
                Some(true) if matches!(self.request.state, State::Trailer) => {
                    self.message_over(Dir::ToServer, txs);
                    Step::Again
                }
                Some(true) => self.request_headers_done(txs),
            },
            State::Ignore => {
                self.request.buffer.clear();
                Step::Wait
            }
            State::Finalize => {
                self.request.state = State::Line;
                Step::Again
            }
            _ => self.body_step(Dir::ToServer, txs),
        }
    }

    fn request_line(&mut self, txs: &mut Transactions) -> Step {
        let end = memchr::memchr(b'\n', &self.request.buffer);
        let length = match end {
            Some(at) => at + 1,
            None if self.request.ended && !self.request.buffer.is_empty() => self.request.buffer.len(),
            None => return Step::Wait,
        };
        let line: Vec<u8> = self.request.buffer.drain(..length).collect();
        if is_empty(&line) {
            return Step::Again;
        }
        let fresh = self.fresh();
        let all = self.settings.uri_include_all;
        // An answer that came first has opened the transaction.
        let waiting = txs.list.iter().find(|tx| matches!(&tx.kind, super::Kind::Http(http) if http.no_request && http.method.is_empty() && tx.stage(Dir::ToServer) == 0)).map(|tx| tx.id);
        let tx = match waiting.and_then(|id| txs.get(id)) {
            Some(_) => txs.get(waiting.unwrap_or(0)),
            None => Some(txs.open(fresh)),
        };
        let Some(tx) = tx else { return Step::Fail };
        self.requests += 1;
        self.request.tx = Some(tx.id);
        let text = chomp(&line);
        let parts = request_parts(text);
        let torn = std::mem::take(&mut self.request.torn);
        let connect = parts.method.eq_ignore_ascii_case(b"CONNECT");
        let (uri, notes) = normalise(parts.target, all, connect);
        if notes.double_encoded {
            tx.event("http.double_encoded_uri");
        }
        if parts.method.is_empty() || text.first().is_some_and(|byte| is_space(*byte)) {
            tx.event("http.request_line_leading_whitespace");
        }
        let old = parts.protocol.is_empty();
        if let Some(message) = http(tx) {
            message.request_line = text.to_vec();
            message.method = parts.method.to_vec();
            message.target = parts.target.to_vec();
            message.uri = uri;
            message.protocol = parts.protocol.to_vec();
            message.request_frame = if torn { Vec::new() } else { line };
        }
        tx.reach(Dir::ToServer, 1);
        self.connect = connect;
        if old {
            // HTTP/0.9 has no headers; but the protocol may just be missing.
            let looks = memchr::memchr(
                b':',
                chomp(self.request.buffer.split(|byte| *byte == b'\n').next().unwrap_or_default()),
            );
            if looks.is_none() {
                tx.reach(Dir::ToServer, 2);
                self.message_over(Dir::ToServer, txs);
                return Step::Again;
            }
        }
        self.request.state = State::Headers;
        Step::Again
    }

    fn request_headers_done(&mut self, txs: &mut Transactions) -> Step {
        let Some(tx) = self.request.tx.and_then(|id| txs.get(id)) else { return Step::Fail };
        let Some(message) = http(tx) else { return Step::Fail };
        if message.request_frame.len() < FRAME {
            message.request_frame.extend_from_slice(&message.request.raw);
        }
        let headers = &message.request;
        let chunked = headers.get(b"transfer-encoding").is_some_and(|value| has_word(value, b"chunked"));
        let length = headers.get(b"content-length");
        let counted = length.map(content_length);
        let both = chunked && length.is_some();
        let invalid_te = headers.get(b"transfer-encoding").is_some() && !chunked;
        let codings = headers.get(b"content-encoding").map(<[u8]>::to_vec);
        let multipart = super::body::Multipart::from_type(headers.get(b"content-type").unwrap_or_default());
        let (authority, _) = split_authority(&message.target);
        let host_header = headers.get(b"host").map(<[u8]>::to_vec);
        let host = if self.connect { without_port(&message.target) } else { host_of(authority) };
        let mut host = host.to_vec();
        if host.is_empty() {
            host = host_header.as_deref().map(|value| without_port(trim(value)).to_vec()).unwrap_or_default();
        }
        host.make_ascii_lowercase();
        let missing = host_header.is_none() && message.protocol.eq_ignore_ascii_case(b"HTTP/1.1");
        let differs = host_header
            .as_deref()
            .is_some_and(|value| !authority.is_empty() && !without_port(trim(value)).eq_ignore_ascii_case(&host));
        let bad_host = host_header.as_deref().is_some_and(|value| !valid_host(without_port(trim(value))));
        let auth = headers.get(b"authorization").map(<[u8]>::to_vec);
        let upgrade = headers.get(b"upgrade").is_some_and(|value| has_word(value, b"h2c"));
        let flags = (headers.invalid, headers.repeated, headers.repeated_length);
        message.host = host;
        let put = message.method.eq_ignore_ascii_case(b"PUT");
        let prior = self.requests == 1 && message.method == b"PRI";
        for (holds, event) in [
            (flags.0, "http.request_header_invalid"),
            (flags.1, "http.request_header_repetition"),
            (flags.2, "http.duplicate_content_length_field_in_request"),
            (both, "http.ambiguous_content_length"),
            (invalid_te, "http.invalid_transfer_encoding_value_in_request"),
            (missing, "http.missing_host_header"),
            (differs, "http.host_header_ambiguous"),
            (bad_host, "http.request_header_host_invalid"),
            (auth.as_deref().is_some_and(unknown_auth), "http.request_auth_unrecognized"),
        ] {
            if holds {
                tx.event(event);
            }
        }
        tx.reach(Dir::ToServer, 2);
        let _ = (put, upgrade);
        if prior {
            self.upgrade = Some(AppProto::Http2);
        }
        self.request.multipart = multipart;
        self.request.decoders =
            super::body::decoders(codings.as_deref(), self.settings.decompress_layers, Dir::ToServer);
        self.request.state = match (chunked, counted) {
            _ if self.connect => State::Ignore,
            (true, _) => State::ChunkLength,
            (_, Some(Some(0))) | (_, None) => {
                self.message_over(Dir::ToServer, txs);
                return Step::Again;
            }
            (_, Some(Some(length))) => State::Counted(length),
            (_, Some(None)) => {
                tx.event("http.invalid_content_length_field_in_request");
                return Step::Fail;
            }
        };
        Step::Again
    }
}

struct RequestParts<'a> {
    method: &'a [u8],
    target: &'a [u8],
    protocol: &'a [u8],
}

/// Method, target and protocol; any white space parts them, what is missing is empty.
fn request_parts(line: &[u8]) -> RequestParts<'_> {
    let skip = |text: &[u8]| text.iter().take_while(|byte| is_space(**byte)).count();
    let start = skip(line);
    let line = line.get(start..).unwrap_or_default();
    let end = line.iter().position(|byte| is_space(*byte)).unwrap_or(line.len());
    let (method, rest) = line.split_at(end);
    let rest = rest.get(skip(rest)..).unwrap_or_default();
    let end = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
    let (mut target, mut protocol) = rest.split_at(end);
    // Other white space parts them only where there is no blank.
    if protocol.is_empty()
        && let Some(at) = target.iter().position(|byte| is_space(*byte))
    {
        (target, protocol) = target.split_at(at);
    }
    let from = skip(protocol);
    let protocol = trim(protocol.get(from..).unwrap_or_default());
    RequestParts { method, target, protocol }
}

fn valid_host(host: &[u8]) -> bool {
    if let Some(inside) = host.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]")) {
        return std::str::from_utf8(inside).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok());
    }
    let label = |label: &[u8]| !label.is_empty() && label.len() <= 63;
    let letters = host.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    let host = host.strip_suffix(b".").unwrap_or(host);
    !host.is_empty() && host.len() <= 255 && letters && host.split(|byte| *byte == b'.').all(label)
}

fn unknown_auth(value: &[u8]) -> bool {
    let word = value.split(|byte| is_space(*byte)).next().unwrap_or_default();
    !["basic", "digest", "bearer"].iter().any(|known| word.eq_ignore_ascii_case(known.as_bytes()))
}
