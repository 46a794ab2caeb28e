//! Buffers of transactions: the one place that knows where each buffer of the catalog lies.

use std::borrow::Cow;

use super::http1::{FRAME, Headers, HttpTx};
use super::tx::{Kind, Tx};
use super::{Dir, File};
use crate::rules::buffers::Buffer;

/// One value of a buffer.
pub(crate) struct Value<'a> {
    pub data: Cow<'a, [u8]>,
    /// Nothing more is added to it.
    pub last: bool,
    pub file: Option<&'a File>,
}

/// Who looks at the values; `true` ends the walk.
pub(crate) type Look<'l> = &'l mut dyn FnMut(Value<'_>) -> bool;

impl Tx {
    /// Walks the values of a buffer. Gives whether there was any.
    pub(crate) fn values(&self, buffer: Buffer, dir: Dir, look: Look<'_>) -> bool {
        let one = |data: &[u8], look: Look<'_>| {
            look(Value { data: Cow::Borrowed(data), last: true, file: None });
            true
        };
        match buffer {
            Buffer::FileData | Buffer::FileName | Buffer::FileMagic | Buffer::FileInfo => {
                self.file_values(buffer, dir, look)
            }
            _ => match &self.kind {
                Kind::Http(http) => http.values(buffer, dir, self, look),
                Kind::Http2(http, info) => match info.value(buffer, http, dir, look) {
                    Some(found) => found,
                    None => http.values(buffer, dir, self, look),
                },
                Kind::Dns(dns) => dns.values(buffer, look),
                Kind::Tls(tls) => tls.value(buffer, dir).is_some_and(|data| one(&data, look)),
                Kind::Ssh(ssh) => ssh.value(buffer, dir).is_some_and(|data| one(data, look)),
                Kind::Smtp(smtp) => smtp.values(buffer, look),
                Kind::Ftp(ftp) => match buffer {
                    Buffer::FtpCommand if !ftp.command.is_empty() => one(&ftp.command, look),
                    Buffer::FtpCommandData if !ftp.data.is_empty() => one(&ftp.data, look),
                    Buffer::FtpReply => {
                        for reply in &ftp.replies {
                            if look(Value { data: Cow::Borrowed(reply), last: true, file: None }) {
                                break;
                            }
                        }
                        !ftp.replies.is_empty()
                    }
                    _ => false,
                },
                Kind::FtpData(_) => false,
            },
        }
    }

    fn file_values(&self, buffer: Buffer, dir: Dir, look: Look<'_>) -> bool {
        let limits = match &self.kind {
            Kind::Http(http) | Kind::Http2(http, _) => Some(http.body_limits(dir)),
            _ => None,
        };
        let mut any = false;
        for file in self.files(dir) {
            let data: Cow<'_, [u8]> = match buffer {
                Buffer::FileData => {
                    let (most, least) = limits.unwrap_or((0, 0));
                    let data = limited(&file.data, most);
                    // A short body waits until it is whole.
                    if data.len() < least && !file.closed && (most == 0 || data.len() < most) {
                        continue;
                    }
                    Cow::Borrowed(data)
                }
                Buffer::FileName if !file.name.is_empty() => Cow::Borrowed(&file.name),
                Buffer::FileName => continue,
                Buffer::FileMagic => Cow::Borrowed(file.magic().as_bytes()),
                _ => Cow::Borrowed(&[]),
            };
            any = true;
            let last = buffer == Buffer::FileName || file.closed;
            if look(Value { data, last, file: Some(file) }) {
                break;
            }
        }
        any
    }
}

fn limited(data: &[u8], most: usize) -> &[u8] {
    if most == 0 { data } else { data.get(..most.min(data.len())).unwrap_or(data) }
}

impl HttpTx {
    fn body_limits(&self, dir: Dir) -> (usize, usize) {
        if dir == Dir::ToServer { (self.limits.0, self.limits.2) } else { (self.limits.1, self.limits.3) }
    }

    pub(crate) fn values(&self, buffer: Buffer, dir: Dir, tx: &Tx, look: Look<'_>) -> bool {
        let headers = self.headers(dir);
        let data: Option<Cow<'_, [u8]>> = match buffer {
            Buffer::HttpUri => filled(&self.uri),
            Buffer::HttpUriRaw => filled(&self.target),
            Buffer::HttpMethod => filled(&self.method),
            Buffer::HttpProtocol => filled(if dir == Dir::ToServer { &self.protocol } else { &self.response_protocol }),
            Buffer::HttpRequestLine => filled(&self.request_line),
            Buffer::HttpResponseLine => filled(&self.response_line),
            Buffer::HttpStatCode => filled(&self.status),
            Buffer::HttpStatMsg => filled(&self.message),
            Buffer::HttpHost => filled(&self.host),
            Buffer::HttpHostRaw => {
                self.request.get(b"host").or_else(|| self.request.get(b":authority")).and_then(filled)
            }
            Buffer::HttpHeaderRaw => filled(&headers.raw),
            Buffer::HttpHeader => {
                let cookie: &[u8] = if dir == Dir::ToServer { b"cookie" } else { b"set-cookie" };
                Some(headers.joined(|name| name.eq_ignore_ascii_case(cookie)))
                    .filter(|data| !data.is_empty())
                    .map(Cow::Owned)
            }
            Buffer::HttpHeaderNames if !headers.list.is_empty() => Some(Cow::Owned(headers.names())),
            Buffer::HttpCookie => get(headers, if dir == Dir::ToServer { b"cookie" } else { b"set-cookie" }),
            Buffer::HttpUserAgent => get(headers, b"user-agent"),
            Buffer::HttpAccept => get(headers, b"accept"),
            Buffer::HttpAcceptEnc => get(headers, b"accept-encoding"),
            Buffer::HttpAcceptLang => get(headers, b"accept-language"),
            Buffer::HttpReferer => get(headers, b"referer"),
            Buffer::HttpConnection => get(headers, b"connection"),
            Buffer::HttpContentLen => get(headers, b"content-length"),
            Buffer::HttpContentType => get(headers, b"content-type"),
            Buffer::HttpLocation => get(headers, b"location"),
            Buffer::HttpServer => get(headers, b"server"),
            Buffer::HttpStart => {
                let line = if dir == Dir::ToServer { &self.request_line } else { &self.response_line };
                let mut out = line.clone();
                out.extend_from_slice(b"\r\n");
                out.extend(headers.joined(|_| false));
                out.extend_from_slice(b"\r\n");
                Some(Cow::Owned(out))
            }
            Buffer::HttpRequestHeader | Buffer::HttpResponseHeader => return header_values(headers, look),
            Buffer::HttpRequestBody => {
                let (most, least) = (self.limits.0, self.limits.2);
                let whole = tx.is_complete(Dir::ToServer) || (most > 0 && self.request_body.len() >= most);
                let ready = whole || self.request_body.len() >= least;
                return ready && !self.request_body.is_empty() && {
                    look(Value { data: Cow::Borrowed(&self.request_body), last: whole, file: None });
                    true
                };
            }
            Buffer::HttpResponseBody => return tx.file_values(Buffer::FileData, Dir::ToClient, look),
            Buffer::FrameHttpRequest => filled(&self.request_frame),
            Buffer::FrameHttpResponse => {
                let file = tx.files(Dir::ToClient).first().filter(|_| matches!(tx.kind, Kind::Http(_)));
                let body = file.map_or(&[][..], |file| &file.data);
                let room = FRAME.saturating_sub(self.response_frame.len()).min(body.len());
                Some([&self.response_frame, body.get(..room).unwrap_or_default()].concat())
                    .filter(|frame| !frame.is_empty())
                    .map(Cow::Owned)
            }
            _ => None,
        };
        let Some(data) = data else { return false };
        let last = !buffer.is_frame() || tx.is_complete(dir);
        look(Value { data, last, file: None });
        true
    }
}

fn filled(data: &[u8]) -> Option<Cow<'_, [u8]>> {
    (!data.is_empty()).then_some(Cow::Borrowed(data))
}

/// A header's value, empty ones too.
fn get<'a>(headers: &'a Headers, name: &[u8]) -> Option<Cow<'a, [u8]>> {
    headers.get(name).map(Cow::Borrowed)
}

fn header_values(headers: &Headers, look: Look<'_>) -> bool {
    for header in &headers.list {
        let line = [header.name.as_slice(), b": ", header.value.as_slice()].concat();
        if look(Value { data: Cow::Owned(line), last: true, file: None }) {
            break;
        }
    }
    !headers.list.is_empty()
}
