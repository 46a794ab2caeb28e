//! The catalog of buffers: what rules can look at, by which words, of which protocol, from which stage on.
//!
//! A stage is how far a transaction has come in one direction (see `app::Stage`): a buffer is looked at once its
//! transaction has reached the stage, and is final from then on unless it grows ([`Def::grows`]).

use crate::app::AppProto;

/// Everything that has bytes to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Buffer {
    TcpHeader,
    UdpHeader,
    Ipv4Header,
    Ipv6Header,
    Icmp4Header,
    Icmp6Header,
    HttpUri,
    HttpUriRaw,
    HttpMethod,
    HttpProtocol,
    HttpRequestLine,
    HttpResponseLine,
    HttpHeader,
    HttpHeaderRaw,
    HttpHeaderNames,
    HttpRequestHeader,
    HttpResponseHeader,
    HttpCookie,
    HttpUserAgent,
    HttpHost,
    HttpHostRaw,
    HttpAccept,
    HttpAcceptEnc,
    HttpAcceptLang,
    HttpReferer,
    HttpConnection,
    HttpContentLen,
    HttpContentType,
    HttpLocation,
    HttpServer,
    HttpStart,
    HttpStatCode,
    HttpStatMsg,
    HttpRequestBody,
    HttpResponseBody,
    Http2HeaderName,
    FileData,
    FileName,
    FileMagic,
    FileInfo,
    DnsQuery,
    DnsAnswerName,
    DnsQueryName,
    TlsSni,
    TlsSubject,
    TlsIssuer,
    TlsSerial,
    TlsFingerprint,
    TlsCerts,
    TlsVersionText,
    TlsRandom,
    TlsRandomTime,
    TlsRandomBytes,
    TlsAlpn,
    TlsSubjectAltName,
    Ja3Hash,
    Ja3String,
    Ja3sHash,
    Ja3sString,
    Ja4Hash,
    SshProto,
    SshSoftware,
    SshHassh,
    SshHasshString,
    SshHasshServer,
    SshHasshServerString,
    SmtpHelo,
    SmtpMailFrom,
    SmtpRcptTo,
    EmailFrom,
    EmailSubject,
    EmailTo,
    FtpCommand,
    FtpCommandData,
    FtpReply,
    FrameHttpRequest,
    FrameHttpResponse,
    FrameStream,
}

/// What the catalog says of a buffer.
#[derive(Debug)]
pub(crate) struct Def {
    pub buffer: Buffer,
    /// The sticky word, its other spellings, and the older one that acts on the content before it.
    pub names: &'static [&'static str],
    pub modifier: Option<&'static str>,
    pub app: &'static [AppProto],
    /// Stage of the direction to the server, and of the one to the client.
    pub to_server: Option<u8>,
    pub to_client: Option<u8>,
    /// Gets longer while the transaction goes on.
    pub grows: bool,
}

const HTTP: &[AppProto] = &[AppProto::Http1, AppProto::Http2];
const HTTP1: &[AppProto] = &[AppProto::Http1];
const HTTP2: &[AppProto] = &[AppProto::Http2];
const DNS: &[AppProto] = &[AppProto::Dns];
const TLS: &[AppProto] = &[AppProto::Tls];
const SSH: &[AppProto] = &[AppProto::Ssh];
const SMTP: &[AppProto] = &[AppProto::Smtp];
const FTP: &[AppProto] = &[AppProto::Ftp];
const FILES: &[AppProto] = &[AppProto::Http1, AppProto::Http2, AppProto::Smtp, AppProto::FtpData];

const fn def(
    buffer: Buffer,
    names: &'static [&'static str],
    modifier: Option<&'static str>,
    app: &'static [AppProto],
    to_server: Option<u8>,
    to_client: Option<u8>,
) -> Def {
    Def { buffer, names, modifier, app, to_server, to_client, grows: false }
}

const fn growing(def: Def) -> Def {
    Def { grows: true, ..def }
}

const NONE: &[AppProto] = &[];

/// Every buffer, in the order of [`Buffer`].
pub(crate) const BUFFERS: &[Def] = &[
    def(Buffer::TcpHeader, &["tcp.hdr"], None, NONE, None, None),
    def(Buffer::UdpHeader, &["udp.hdr"], None, NONE, None, None),
    def(Buffer::Ipv4Header, &["ipv4.hdr"], None, NONE, None, None),
    def(Buffer::Ipv6Header, &["ipv6.hdr"], None, NONE, None, None),
    def(Buffer::Icmp4Header, &["icmpv4.hdr"], None, NONE, None, None),
    def(Buffer::Icmp6Header, &["icmpv6.hdr"], None, NONE, None, None),
    def(Buffer::HttpUri, &["http.uri"], Some("http_uri"), HTTP, Some(1), None),
    def(Buffer::HttpUriRaw, &["http.uri.raw"], Some("http_raw_uri"), HTTP, Some(1), None),
    def(Buffer::HttpMethod, &["http.method"], Some("http_method"), HTTP, Some(1), None),
    def(Buffer::HttpProtocol, &["http.protocol", "http_protocol"], None, HTTP, Some(1), Some(1)),
    def(Buffer::HttpRequestLine, &["http.request_line", "http_request_line"], None, HTTP, Some(1), None),
    def(Buffer::HttpResponseLine, &["http.response_line", "http_response_line"], None, HTTP, None, Some(1)),
    def(Buffer::HttpHeader, &["http.header"], Some("http_header"), HTTP, Some(2), Some(2)),
    def(Buffer::HttpHeaderRaw, &["http.header.raw"], Some("http_raw_header"), HTTP, Some(2), Some(2)),
    def(Buffer::HttpHeaderNames, &["http.header_names", "http_header_names"], None, HTTP, Some(2), Some(2)),
    def(Buffer::HttpRequestHeader, &["http.request_header"], None, HTTP, Some(2), None),
    def(Buffer::HttpResponseHeader, &["http.response_header"], None, HTTP, None, Some(2)),
    def(Buffer::HttpCookie, &["http.cookie"], Some("http_cookie"), HTTP, Some(2), Some(2)),
    def(Buffer::HttpUserAgent, &["http.user_agent"], Some("http_user_agent"), HTTP, Some(2), None),
    def(Buffer::HttpHost, &["http.host"], Some("http_host"), HTTP, Some(2), None),
    def(Buffer::HttpHostRaw, &["http.host.raw"], Some("http_raw_host"), HTTP, Some(2), None),
    def(Buffer::HttpAccept, &["http.accept", "http_accept"], None, HTTP, Some(2), None),
    def(Buffer::HttpAcceptEnc, &["http.accept_enc", "http_accept_enc"], None, HTTP, Some(2), None),
    def(Buffer::HttpAcceptLang, &["http.accept_lang", "http_accept_lang"], None, HTTP, Some(2), None),
    def(Buffer::HttpReferer, &["http.referer", "http_referer"], None, HTTP, Some(2), None),
    def(Buffer::HttpConnection, &["http.connection", "http_connection"], None, HTTP, Some(2), Some(2)),
    def(Buffer::HttpContentLen, &["http.content_len", "http_content_len"], None, HTTP, Some(2), Some(2)),
    def(Buffer::HttpContentType, &["http.content_type", "http_content_type"], None, HTTP, Some(2), Some(2)),
    def(Buffer::HttpLocation, &["http.location"], None, HTTP, None, Some(2)),
    def(Buffer::HttpServer, &["http.server"], None, HTTP, None, Some(2)),
    def(Buffer::HttpStart, &["http.start", "http_start"], None, HTTP1, Some(2), Some(2)),
    def(Buffer::HttpStatCode, &["http.stat_code"], Some("http_stat_code"), HTTP, None, Some(1)),
    def(Buffer::HttpStatMsg, &["http.stat_msg"], Some("http_stat_msg"), HTTP, None, Some(1)),
    growing(def(Buffer::HttpRequestBody, &["http.request_body"], Some("http_client_body"), HTTP, Some(3), None)),
    growing(def(Buffer::HttpResponseBody, &["http.response_body"], Some("http_server_body"), HTTP, None, Some(3))),
    def(Buffer::Http2HeaderName, &["http2.header_name"], None, HTTP2, Some(2), Some(2)),
    growing(def(Buffer::FileData, &["file.data", "file_data"], None, FILES, Some(3), Some(3))),
    growing(def(Buffer::FileName, &["file.name"], None, FILES, Some(2), Some(2))),
    growing(def(Buffer::FileMagic, &["file.magic"], None, FILES, Some(3), Some(3))),
    growing(def(Buffer::FileInfo, &[], None, FILES, Some(2), Some(2))),
    def(Buffer::DnsQuery, &["dns.query", "dns_query"], None, DNS, Some(1), None),
    def(Buffer::DnsAnswerName, &["dns.answer.name"], None, DNS, Some(1), Some(1)),
    def(Buffer::DnsQueryName, &["dns.query.name"], None, DNS, Some(1), Some(1)),
    def(Buffer::TlsSni, &["tls.sni", "tls_sni"], None, TLS, Some(1), None),
    def(Buffer::TlsSubject, &["tls.cert_subject", "tls_cert_subject"], None, TLS, Some(2), Some(2)),
    def(Buffer::TlsIssuer, &["tls.cert_issuer", "tls_cert_issuer"], None, TLS, Some(2), Some(2)),
    def(Buffer::TlsSerial, &["tls.cert_serial", "tls_cert_serial"], None, TLS, Some(2), Some(2)),
    def(Buffer::TlsFingerprint, &["tls.cert_fingerprint", "tls_cert_fingerprint"], None, TLS, Some(2), Some(2)),
    def(Buffer::TlsCerts, &["tls.certs", "tls_certs"], None, TLS, Some(2), Some(2)),
    def(Buffer::TlsVersionText, &[], None, TLS, Some(1), Some(1)),
    def(Buffer::TlsRandom, &["tls.random"], None, TLS, Some(1), Some(1)),
    def(Buffer::TlsRandomTime, &["tls.random_time"], None, TLS, Some(1), Some(1)),
    def(Buffer::TlsRandomBytes, &["tls.random_bytes"], None, TLS, Some(1), Some(1)),
    def(Buffer::TlsAlpn, &["tls.alpn"], None, TLS, Some(1), Some(1)),
    def(Buffer::TlsSubjectAltName, &["tls.subjectaltname"], None, TLS, None, Some(2)),
    def(Buffer::Ja3Hash, &["ja3.hash", "ja3_hash"], None, TLS, Some(1), None),
    def(Buffer::Ja3String, &["ja3.string", "ja3_string"], None, TLS, Some(1), None),
    def(Buffer::Ja3sHash, &["ja3s.hash"], None, TLS, None, Some(1)),
    def(Buffer::Ja3sString, &["ja3s.string"], None, TLS, None, Some(1)),
    def(Buffer::Ja4Hash, &["ja4.hash"], None, TLS, Some(1), None),
    def(Buffer::SshProto, &["ssh.proto", "ssh_proto"], None, SSH, Some(1), Some(1)),
    def(Buffer::SshSoftware, &["ssh.software", "ssh_software"], None, SSH, Some(1), Some(1)),
    def(Buffer::SshHassh, &["ssh.hassh"], None, SSH, Some(2), None),
    def(Buffer::SshHasshString, &["ssh.hassh.string"], None, SSH, Some(2), None),
    def(Buffer::SshHasshServer, &["ssh.hassh.server"], None, SSH, None, Some(2)),
    def(Buffer::SshHasshServerString, &["ssh.hassh.server.string"], None, SSH, None, Some(2)),
    def(Buffer::SmtpHelo, &["smtp.helo"], None, SMTP, Some(1), None),
    def(Buffer::SmtpMailFrom, &["smtp.mail_from"], None, SMTP, Some(1), None),
    def(Buffer::SmtpRcptTo, &["smtp.rcpt_to"], None, SMTP, Some(1), None),
    def(Buffer::EmailFrom, &["email.from"], None, SMTP, Some(2), None),
    def(Buffer::EmailSubject, &["email.subject"], None, SMTP, Some(2), None),
    def(Buffer::EmailTo, &["email.to"], None, SMTP, Some(2), None),
    def(Buffer::FtpCommand, &["ftp.command"], None, FTP, Some(1), None),
    def(Buffer::FtpCommandData, &["ftp.command_data"], None, FTP, Some(1), None),
    def(Buffer::FtpReply, &["ftp.reply"], None, FTP, None, Some(1)),
    growing(def(Buffer::FrameHttpRequest, &[], None, HTTP1, Some(0), None)),
    growing(def(Buffer::FrameHttpResponse, &[], None, HTTP1, None, Some(0))),
    growing(def(Buffer::FrameStream, &[], None, HTTP1, Some(0), Some(0))),
];

impl Buffer {
    pub(crate) fn def(self) -> &'static Def {
        // The catalog is in the order of the enumeration; a test holds that.
        BUFFERS.get(self as usize).unwrap_or(&BUFFERS_FIRST)
    }

    /// Of a transaction, and not of a packet.
    pub(crate) fn is_app(self) -> bool {
        self > Self::Icmp6Header
    }

    /// Put together of parts each time that it is looked at.
    pub(crate) fn is_composed(self) -> bool {
        matches!(
            self,
            Self::HttpHeader
                | Self::HttpHeaderNames
                | Self::HttpRequestHeader
                | Self::HttpResponseHeader
                | Self::HttpStart
        )
    }

    pub(crate) fn is_frame(self) -> bool {
        self >= Self::FrameHttpRequest
    }

    pub(crate) fn sticky(name: &str) -> Option<Self> {
        BUFFERS.iter().find(|def| def.names.contains(&name)).map(|def| def.buffer)
    }

    pub(crate) fn modifier(name: &str) -> Option<Self> {
        BUFFERS.iter().find(|def| def.modifier == Some(name)).map(|def| def.buffer)
    }
}

const BUFFERS_FIRST: Def = def(Buffer::TcpHeader, &["tcp.hdr"], None, NONE, None, None);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalog_is_in_order() {
        for (at, def) in BUFFERS.iter().enumerate() {
            assert_eq!(def.buffer as usize, at, "{:?}", def.buffer);
            assert_eq!(def.buffer.is_app(), !def.app.is_empty());
        }
    }
}
