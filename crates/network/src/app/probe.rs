//! Which protocol a stream speaks, by its first bytes and not by its port.
//!
//! A pattern that only one protocol begins with settles it; where bytes may still become one, it waits.

use super::{AppProto, Dir};

/// Bytes after which a stream that is nothing known stays unknown.
const ENOUGH: usize = 512;

/// Longest method.
const LONGEST_METHOD: usize = 32;

/// What the first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Yes(AppProto),
    /// Too few bytes to tell.
    Wait,
    No,
}

const METHODS: &[&str] = &[
    "GET",
    "PUT",
    "POST",
    "HEAD",
    "TRACE",
    "OPTIONS",
    "CONNECT",
    "DELETE",
    "PATCH",
    "PROPFIND",
    "PROPPATCH",
    "MKCOL",
    "COPY",
    "MOVE",
    "LOCK",
    "UNLOCK",
    "CHECKOUT",
    "UNCHECKOUT",
    "CHECKIN",
    "UPDATE",
    "LABEL",
    "REPORT",
    "MKWORKSPACE",
    "MKACTIVITY",
    "MERGE",
    "INVALID",
    "VERSION-CONTROL",
    "BASELINE-CONTROL",
    "SEARCH",
    "NOTIFY",
    "SUBSCRIBE",
    "ARBITRARY",
];

/// The first bytes of a stream in one direction.
pub(crate) fn probe(dir: Dir, data: &[u8], ports: (u16, u16), udp: bool, dns_ports: &[u16]) -> Found {
    let on = |port: u16| ports.0 == port || ports.1 == port;
    let dns = on(53) || dns_ports.iter().any(|port| on(*port));
    if udp {
        return if dns && super::dns::plausible(data, data.len()) {
            Found::Yes(AppProto::Dns)
        } else {
            udp_only(data, on)
        };
    }
    let line = if dir == Dir::ToServer { request_line(data) } else { Found::No };
    let mut wait = data.is_empty() || line == Found::Wait;
    let mut starts = |pattern: &[u8]| {
        wait |= data.len() < pattern.len() && pattern.starts_with(data);
        data.starts_with(pattern)
    };
    if dir == Dir::ToServer && starts(b"PRI * HTTP/2.0\r\n") {
        return Found::Yes(AppProto::Http2);
    }
    if dir == Dir::ToServer {
        for method in METHODS {
            if starts(method.as_bytes()) && matches!(data.get(method.len()), Some(b' ' | b'\t')) {
                return Found::Yes(AppProto::Http1);
            }
        }
        if line != Found::Wait && line != Found::No {
            return line;
        }
        for (word, app) in [
            (&b"EHLO "[..], AppProto::Smtp),
            (b"HELO ", AppProto::Smtp),
            (b"USER ", AppProto::Ftp),
            (b"PASS ", AppProto::Ftp),
            (b"PORT ", AppProto::Ftp),
            (b"AUTH SSL", AppProto::Ftp),
            (b"AUTH TLS", AppProto::Ftp),
            (b"FEAT", AppProto::Ftp),
            (b"RFB 003.", AppProto::Rfb),
        ] {
            if data.len() >= word.len() && data.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word)) {
                return Found::Yes(app);
            }
        }
    } else {
        if starts(b"HTTP/0.9 ") || starts(b"HTTP/1.0 ") || starts(b"HTTP/1.1 ") || starts(b"HTTP/1.") {
            return Found::Yes(AppProto::Http1);
        }
        if starts(b"220 ") || starts(b"220-") {
            // Both greet alike: the port and the words decide.
            let line = data.split(|byte| *byte == b'\n').next().unwrap_or_default().to_ascii_lowercase();
            let says = |word: &[u8]| memchr::memmem::find(&line, word).is_some();
            return if on(25) || on(587) || on(465) || says(b"smtp") {
                Found::Yes(AppProto::Smtp)
            } else if on(21) || says(b"ftp") {
                Found::Yes(AppProto::Ftp)
            } else {
                Found::Wait
            };
        }
        if starts(b"* OK ") {
            return Found::Yes(AppProto::Imap);
        }
        if starts(b"+OK ") {
            return Found::Yes(AppProto::Pop3);
        }
    }
    if starts(b"SSH-") {
        return Found::Yes(AppProto::Ssh);
    }
    match data {
        [0x14..=0x17, 3, 0..=4, ..] => return Found::Yes(AppProto::Tls),
        [0x16] | [0x16, 3] => wait = true,
        // SSLv2 hello: length with the high bit, type 1, version.
        [128..=255, _, 1, 0 | 3, 0..=3, ..] => return Found::Yes(AppProto::Tls),
        [_, _, _, _, 0xff | 0xfe, b'S', b'M', b'B', ..] => return Found::Yes(AppProto::Smb),
        [5, 0, 0..=19, ..] => return Found::Yes(AppProto::Dcerpc),
        _ => {}
    }
    if dns
        && let [high, low, rest @ ..] = data
        && super::dns::plausible(rest, u16::from_be_bytes([*high, *low]).into())
    {
        return Found::Yes(AppProto::Dns);
    }
    if wait || (dns && data.len() < 14) { if data.len() < ENOUGH { Found::Wait } else { Found::No } } else { Found::No }
}

/// Servers take methods that nobody has heard of, too: a word, a blank, a target, and a version at the line's end make a
/// request. Until the line is whole it may become one, and a segment may end anywhere, also right behind the word.
fn request_line(data: &[u8]) -> Found {
    let of_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let length = data.iter().take_while(|byte| of_token(byte)).count();
    if length == 0 || length > LONGEST_METHOD {
        return Found::No;
    }
    match (data.get(length), data.get(length + 1)) {
        (None, _) | (Some(b' ' | b'\t'), None) => return Found::Wait,
        (Some(b' ' | b'\t'), Some(_)) => {}
        _ => return Found::No,
    }
    let Some(end) = memchr::memchr(b'\n', data) else { return Found::Wait };
    let line = data.get(..end).unwrap_or_default().trim_ascii_end();
    let version = line.rsplit(|byte| matches!(byte, b' ' | b'\t')).next().unwrap_or_default();
    if version.starts_with(b"HTTP/") { Found::Yes(AppProto::Http1) } else { Found::No }
}

fn udp_only(data: &[u8], on: impl Fn(u16) -> bool) -> Found {
    match data {
        [0, 1..=5, ..] if on(69) => Found::Yes(AppProto::Tftp),
        [1 | 2, 1, 6, ..] if on(67) || on(68) => Found::Yes(AppProto::Dhcp),
        _ if on(123) && data.len() >= 48 => Found::Yes(AppProto::Ntp),
        _ => Found::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_bytes_and_not_by_port() {
        let tcp = |dir, data: &[u8]| probe(dir, data, (50_000, 4444), false, &[]);
        assert_eq!(tcp(Dir::ToServer, b"GET / HTTP/1.1"), Found::Yes(AppProto::Http1));
        assert_eq!(tcp(Dir::ToServer, b"GE"), Found::Wait);
        assert_eq!(tcp(Dir::ToServer, b"GET"), Found::Wait, "a segment may end behind the method");
        assert_eq!(tcp(Dir::ToServer, b"GETX / HTTP/1.1"), Found::Wait);
        assert_eq!(tcp(Dir::ToServer, b"GETX / HTTP/1.1\r\n"), Found::Yes(AppProto::Http1));
        assert_eq!(tcp(Dir::ToServer, b"jeff /?a=b HTTP/1.0\n\n"), Found::Yes(AppProto::Http1));
        assert_eq!(tcp(Dir::ToServer, b"SET name value\r\n"), Found::No);
        assert_eq!(tcp(Dir::ToServer, &[b'a'; 40]), Found::No);
        assert_eq!(tcp(Dir::ToServer, &[b"a /".as_slice(), &[b'b'; 600]].concat()), Found::No);
        assert_eq!(tcp(Dir::ToClient, b"SSH-2.0-x"), Found::Yes(AppProto::Ssh));
        assert_eq!(tcp(Dir::ToServer, &[0x16, 3, 1, 0, 5]), Found::Yes(AppProto::Tls));
    }
}
