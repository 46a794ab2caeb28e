//! The normalised form of a request's URI: what a server would look at.

use super::best_fit;

/// What decoding found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct UriNotes {
    /// A percent sign was itself encoded.
    pub double_encoded: bool,
}

/// Path decoded, separators made one, dots resolved; the query with its unreserved letters decoded. With `all` the
/// scheme, host and port stay in front.
pub(crate) fn normalise(target: &[u8], all: bool, connect: bool) -> (Vec<u8>, UriNotes) {
    let mut notes = UriNotes::default();
    if connect {
        return (target.to_vec(), notes);
    }
    let (front, rest) = split_authority(target);
    let mut out = Vec::with_capacity(target.len());
    if all {
        out.extend_from_slice(front);
    }
    let fragment = rest.iter().position(|byte| *byte == b'#').unwrap_or(rest.len());
    let (rest, fragment) = rest.split_at(fragment);
    let query = rest.iter().position(|byte| *byte == b'?').unwrap_or(rest.len());
    let (path, query) = rest.split_at(query);
    out.extend(resolve_dots(&decode_path(path, &mut notes)));
    if !query.is_empty() {
        out.extend(decode_query(query, &mut notes));
    }
    out.extend_from_slice(fragment);
    (out, notes)
}

/// The authority of an absolute URI (`http://host:port`), and what follows it.
pub(crate) fn split_authority(target: &[u8]) -> (&[u8], &[u8]) {
    if target.first() == Some(&b'/') {
        return (&[], target);
    }
    let Some(colon) = target.iter().position(|byte| *byte == b':') else { return (&[], target) };
    let scheme = target.get(..colon).unwrap_or_default();
    if scheme.is_empty() || !scheme.iter().all(u8::is_ascii_alphanumeric) {
        return (&[], target);
    }
    let Some(rest) = target.get(colon + 1..).and_then(|rest| rest.strip_prefix(b"//")) else { return (&[], target) };
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    target.split_at(colon + 3 + end)
}

/// The host of an authority, without user and port.
pub(crate) fn host_of(authority: &[u8]) -> &[u8] {
    let start = memchr::memmem::find(authority, b"://").map_or(0, |at| at + 3);
    let rest = authority.get(start..).unwrap_or_default();
    let user = rest.iter().rposition(|byte| *byte == b'@').map_or(0, |at| at + 1);
    without_port(rest.get(user..).unwrap_or_default())
}

/// A host without `:port`.
pub(crate) fn without_port(host: &[u8]) -> &[u8] {
    if host.first() == Some(&b'[') {
        let end = host.iter().position(|byte| *byte == b']').map_or(host.len(), |at| at + 1);
        return host.get(..end).unwrap_or(host);
    }
    let end = host.iter().position(|byte| *byte == b':').unwrap_or(host.len());
    host.get(..end).unwrap_or(host)
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let high = char::from(high).to_digit(16)?;
    let low = char::from(low).to_digit(16)?;
    Some((high * 16 + low) as u8)
}

fn decode_path(path: &[u8], notes: &mut UriNotes) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        let mut byte = *first;
        if byte == b'%' {
            if let [high, low, after @ ..] = tail
                && let Some(decoded) = hex(*high, *low)
            {
                notes.double_encoded |= decoded == b'%' && encoded_follows(after);
                byte = decoded;
                rest = after;
            } else if let [b'u' | b'U', a, b, c, d, after @ ..] = tail
                && let (Some(high), Some(low)) = (hex(*a, *b), hex(*c, *d))
            {
                // Half and full width forms of ASCII; what has no such form becomes a question mark.
                byte = match (high, low) {
                    (0, low) => low,
                    (0xff, 0x01..=0x5e) => low + 0x20,
                    _ => b'?',
                };
                rest = after;
            }
        }
        out.push(byte);
    }
    let mut out = best_fit::fold(out);
    // Either slash parts, and several part like one.
    let mut before = 0;
    out.retain_mut(|byte| {
        if *byte == b'\\' {
            *byte = b'/';
        }
        let again = *byte == b'/' && before == b'/';
        before = *byte;
        !again
    });
    out
}

fn encoded_follows(rest: &[u8]) -> bool {
    matches!(rest, [high, low, ..] if hex(*high, *low).is_some())
}

/// Unreserved letters are decoded, other escapes stay.
fn decode_query(query: &[u8], notes: &mut UriNotes) -> Vec<u8> {
    let mut out = Vec::with_capacity(query.len());
    let mut rest = query;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first == b'%'
            && let [high, low, after @ ..] = tail
            && let Some(decoded) = hex(*high, *low)
        {
            notes.double_encoded |= decoded == b'%' && encoded_follows(after);
            out.push(decoded);
            rest = after;
        } else {
            out.push(*first);
        }
    }
    out
}

/// Removes `.` and `..` segments (RFC 3986, 5.2.4).
fn resolve_dots(path: &[u8]) -> Vec<u8> {
    if memchr::memmem::find(path, b"/.").is_none() && !path.starts_with(b".") {
        return path.to_vec();
    }
    let mut out: Vec<u8> = Vec::with_capacity(path.len());
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix(b"../").or_else(|| rest.strip_prefix(b"./")) {
            rest = after;
        } else if rest.starts_with(b"/./") {
            rest = rest.get(2..).unwrap_or_default();
        } else if rest == b"/." {
            rest = b"/";
        } else if rest.starts_with(b"/../") || rest == b"/.." {
            let cut = out.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
            out.truncate(cut);
            rest = if rest.len() == 3 { b"/" } else { rest.get(3..).unwrap_or_default() };
        } else if matches!(rest, b"." | b"..") {
            rest = &[];
        } else {
            let end = rest.iter().skip(1).position(|byte| *byte == b'/').map_or(rest.len(), |at| at + 1);
            let (segment, after) = rest.split_at(end);
            out.extend_from_slice(segment);
            rest = after;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(target: &str) -> String {
        String::from_utf8_lossy(&normalise(target.as_bytes(), false, false).0).into_owned()
    }

    #[test]
    fn paths() {
        assert_eq!(normal("/a/%2e%2e/b//c\\d"), "/b/c/d");
        assert_eq!(normal("/%u0041%uff0fx"), "/A/x");
        assert_eq!(normal("/a/..%c0%afetc%e2%88%95passwd"), "/etc/passwd");
        assert_eq!(normal("http://user@host:80/x?y=%41#z"), "/x?y=A#z");
        assert_eq!(normal("/../../etc/./passwd"), "/etc/passwd");
        assert!(normalise(b"/%2541", false, false).1.double_encoded);
        assert_eq!(host_of(b"http://u@h:8080"), b"h");
        assert_eq!(without_port(b"[::1]:80"), b"[::1]");
    }
}
