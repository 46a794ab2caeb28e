//! Why a rule in the Suricata language fired, as far as an alert keeps it: its contents, in order, and where each lies
//! in the bytes that were kept. Rules are not judged again here: the packets are gone, and what an alert keeps is a
//! part of them. So a content that is not found in it is said to be not kept, and not to be absent.

use crate::rules::{content_bytes, parts, quoted, rules};

/// A rule as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// Line of its file, from 1.
    pub line: usize,
    /// All of it.
    pub text: String,
}

/// One content or expression of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// `content` or `pcre`.
    pub keyword: &'static str,
    /// The buffer that it looks into: `http.uri`, … or `payload`.
    pub buffer: String,
    /// As it is written.
    pub written: String,
    /// Does the rule want it not to be there?
    pub negated: bool,
    /// Where it lies in what was kept.
    pub found: Option<Found>,
}

/// A place in what was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// In which of the given texts.
    pub place: &'static str,
    /// From this byte.
    pub from: usize,
    /// Up to this one.
    pub to: usize,
}

/// What an alert keeps, by name.
pub type Kept<'a> = [(&'static str, &'a [u8])];

/// The rule of this number in the text of a file.
pub fn find(file: &str, sid: u32) -> Option<Text> {
    let number = sid.to_string();
    let is = |text: &str| {
        parts(text).is_ok_and(|parts| {
            parts.options.iter().any(|(name, value)| *name == "sid" && value.as_deref() == Some(number.as_str()))
        })
    };
    rules(file).into_iter().find(|(_, text)| text.contains(&number) && is(text)).map(|(line, text)| Text { line, text })
}

/// The contents of a rule, and where each is.
pub fn contents(rule: &str, kept: &Kept<'_>) -> Vec<Content> {
    let Ok(parts) = parts(rule) else { return Vec::new() };
    let mut out: Vec<Content> = Vec::new();
    let mut buffer = "payload".to_owned();
    let mut wanted: Vec<(usize, Vec<u8>, bool)> = Vec::new();
    for (name, value) in &parts.options {
        match (*name, value.as_deref()) {
            ("content", Some(value)) => {
                let Ok((negated, written)) = quoted(value) else { continue };
                if let Ok(bytes) = content_bytes(written) {
                    wanted.push((out.len(), bytes, false));
                }
                let (buffer, written) = (buffer.clone(), written.to_owned());
                out.push(Content { keyword: "content", buffer, written, negated, found: None });
            }
            ("pcre", Some(value)) => {
                let Ok((negated, written)) = quoted(value) else { continue };
                let (buffer, written) = (buffer.clone(), written.to_owned());
                out.push(Content { keyword: "pcre", buffer, written, negated, found: None });
            }
            ("nocase", _) => {
                if let Some(last) = wanted.last_mut() {
                    last.2 = true;
                }
            }
            ("pkt_data", _) => "payload".clone_into(&mut buffer),
            (name, None) if is_buffer(name) => name.clone_into(&mut buffer),
            // The older way names the buffer after its content.
            (name, None) if name.starts_with("http_") => {
                if let Some(last) = out.last_mut() {
                    last.buffer = name.replacen('_', ".", 1);
                }
            }
            _ => {}
        }
    }
    for (at, bytes, any_case) in wanted {
        if let Some(content) = out.get_mut(at).filter(|content| !content.negated) {
            content.found = locate(&content.buffer, &bytes, any_case, kept);
        }
    }
    out
}

fn is_buffer(name: &str) -> bool {
    name == "file_data"
        || name.split_once('.').is_some_and(|(family, _)| {
            ["http", "http2", "http1", "tls", "dns", "ssh", "smb", "file", "ftp", "smtp", "mqtt", "rfb", "sip", "krb5"]
                .contains(&family)
        })
}

/// In what belongs to the buffer first, else in the bytes around the match.
fn locate(buffer: &str, wanted: &[u8], any_case: bool, kept: &Kept<'_>) -> Option<Found> {
    let own = |name: &str| match buffer {
        "http.uri" | "http.uri.raw" | "http.request_line" => name == "url.original",
        "http.user_agent" => name == "user_agent.original",
        "http.host" | "http.host.raw" => name == "url.domain",
        "http.method" => name == "http.request.method",
        _ => false,
    };
    let find = |(place, text): &(&'static str, &[u8])| {
        let same = |window: &[u8]| if any_case { window.eq_ignore_ascii_case(wanted) } else { window == wanted };
        let from = text.windows(wanted.len().max(1)).position(same)?;
        Some(Found { place, from, to: from + wanted.len() })
    };
    let of_buffer = kept.iter().filter(|(name, _)| own(name)).find_map(find);
    of_buffer.or_else(|| kept.iter().filter(|(name, _)| *name == "payload").find_map(find))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# one\nalert http any any -> any any (msg:\"a\"; http.uri; content:\"/ETC/\"; nocase; content:!\"x\"; \
        http.user_agent; content:\"|63 75|rl\"; pkt_data; content:\"zz\\;\"; pcre:\"/a+/U\"; sid:12; rev:1;)\n\
        alert tcp any any -> any any (msg:\"sid:12\"; content:\"b\"; http_uri; sid:123;)\n";

    #[test]
    fn contents_are_found_where_they_were_kept() {
        let rule = find(FILE, 12).unwrap();
        assert_eq!(rule.line, 2);
        let kept: &Kept<'_> =
            &[("url.original", b"/a/etc/passwd"), ("payload", b"GET curl"), ("user_agent.original", b"none")];
        let found = contents(&rule.text, kept);
        let of =
            |at: usize| (found[at].buffer.as_str(), found[at].found.as_ref().map(|one| (one.place, one.from, one.to)));
        assert_eq!(of(0), ("http.uri", Some(("url.original", 2, 7))));
        assert!(found[1].negated && found[1].found.is_none());
        assert_eq!(of(2), ("http.user_agent", Some(("payload", 4, 8))), "else around the match");
        assert_eq!(of(3), ("payload", None), "not kept");
        assert_eq!((found[4].keyword, found[4].written.as_str()), ("pcre", "/a+/U"));
        assert_eq!(contents(&find(FILE, 123).unwrap().text, kept)[0].buffer, "http.uri");
        assert_eq!(find(FILE, 1), None);
        assert!(contents("no rule", kept).is_empty());
    }
}
