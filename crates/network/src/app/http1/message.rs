//! A request with its answer as far as they are known, and the limits of HTTP.

use super::{Headers, uri};
use crate::app::Dir;

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
    /// Bytes of the request as they came, as far as frames show them, and of the answer those before its body.
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

    /// Bytes that it keeps.
    pub(crate) fn kept(&self) -> usize {
        let lines = 2 * (self.request_line.len() + self.response_line.len()) + 2 * self.target.len();
        let bodies = [&self.request_body, &self.request_frame, &self.response_frame].map(Vec::capacity);
        size_of::<Self>() + lines + bodies.iter().sum::<usize>() + self.request.kept() + self.response.kept()
    }

    pub(crate) fn headers(&self, dir: Dir) -> &Headers {
        if dir == Dir::ToServer { &self.request } else { &self.response }
    }
}
