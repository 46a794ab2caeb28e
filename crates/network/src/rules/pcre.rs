//! `pcre`: Perl patterns on bytes.
//!
//! Patterns that need neither look-around nor back-references run on the `regex` crate, in linear time. The others
//! run on a backtracking engine with a step limit; that one takes text only, so there each byte is the character of
//! the same number. On ASCII, which is text already, a pattern of the first kind goes before it, which matches wherever
//! it does: most bytes end there.
//!
//! Every pattern is compiled when its rule is loaded, so that a wrong one is told then. It is not kept: it is compiled
//! again when it is asked ([`OnDemand`]).

use std::borrow::Cow;
use std::sync::Arc;

use super::buffers::Buffer;
use super::patterns::OnDemand;
use super::required::{self, Required};

/// Most steps of the backtracking engine, as the match limit of Suricata.
const BACKTRACK_LIMIT: usize = 100_000;
/// Largest compiled program.
const SIZE_LIMIT: usize = 4 << 20;
/// Most memory of a program at work, in each direction; it goes on without where that is not enough.
const CACHE_LIMIT: usize = 512 << 10;

/// What a captured group is kept as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Capture {
    pub group: usize,
    pub name: String,
    pub of_flow: bool,
}

#[derive(Clone, Debug)]
enum Engine {
    Plain(Arc<OnDemand<regex::bytes::Regex>>),
    Full {
        regex: Arc<OnDemand<fancy_regex::Regex>>,
        /// Matches ASCII wherever the other does.
        relaxed: Option<Arc<OnDemand<regex::bytes::Regex>>>,
    },
}

/// A pattern with its flags.
#[derive(Clone, Debug)]
pub(crate) struct Pcre {
    engine: Engine,
    pub negated: bool,
    pub relative: bool,
    pub relative_next: bool,
    /// Some step behind looks from where this one ends.
    pub place_wanted: bool,
    pub captures: Vec<Capture>,
    /// Literals of which one is wherever it matches.
    pub required: Option<Required>,
}

/// A compiled pattern and the buffer that its flags name.
pub(crate) struct Parsed {
    pub pcre: Pcre,
    pub buffer: Option<Buffer>,
}

impl Pcre {
    /// Compiles `/pattern/flags`, with names for captured groups behind it.
    pub(crate) fn parse(value: &str) -> Result<Parsed, String> {
        let value = value.trim();
        let (negated, value) = value.strip_prefix('!').map_or((false, value), |rest| (true, rest.trim_start()));
        let value = value.strip_prefix('"').unwrap_or(value);
        let value = value.strip_suffix('"').unwrap_or(value);
        let body = value.strip_prefix('/').ok_or("a pattern begins with a slash")?;
        let end = body.rfind('/').ok_or("a pattern ends with a slash")?;
        let (pattern, rest) = (body.get(..end).unwrap_or_default(), body.get(end + 1..).unwrap_or_default());
        let (flags, names) = rest.split_once(',').map_or((rest, ""), |(flags, names)| (flags, names));
        let (mut insensitive, mut multi, mut dot, mut extended) = (false, false, false, false);
        let (mut anchored, mut ungreedy, mut dollar_end, mut relative) = (false, false, false, false);
        let mut buffer = None;
        for flag in flags.trim().chars() {
            match flag {
                'i' => insensitive = true,
                'm' => multi = true,
                's' => dot = true,
                'x' => extended = true,
                'A' => anchored = true,
                'E' => dollar_end = true,
                'G' => ungreedy = true,
                'R' => relative = true,
                'B' | 'O' => {}
                other => buffer = Some(flag_buffer(other).ok_or_else(|| format!("'{other}' is no flag of pcre"))?),
            }
        }
        let mut text = String::new();
        for (on, letter) in [(insensitive, 'i'), (multi, 'm'), (dot, 's'), (extended, 'x'), (ungreedy, 'U')] {
            if on {
                text.push(letter);
            }
        }
        let head = if text.is_empty() { String::new() } else { format!("(?{text})") };
        let pattern = rewrite(pattern, !multi && !dollar_end);
        let whole = if anchored { format!("{head}\\A(?:{pattern})") } else { format!("{head}{pattern}") };
        let Compiled { engine, names: groups, required } = compile(&whole)?;
        let captures = captures(names, groups);
        let required = required.filter(|_| !negated);
        let pcre = Pcre { engine, negated, relative, relative_next: false, place_wanted: true, captures, required };
        Ok(Parsed { pcre, buffer })
    }

    /// The first match at or behind a place: its start and end.
    pub(crate) fn find(&self, data: &[u8], from: usize) -> Option<(usize, usize)> {
        // What lies before the place is out of sight, as it is for Suricata.
        let data = data.get(from..)?;
        match &self.engine {
            Engine::Plain(regex) => regex.regex()?.find(data).map(|found| (from + found.start(), from + found.end())),
            Engine::Full { regex, relaxed } => {
                let text = text_of(data, relaxed.as_ref())?;
                let found = regex.regex()?.find(&text).ok().flatten()?;
                let count = |end: usize| text.get(..end).map_or(0, |part| part.chars().count());
                Some((from + count(found.start()), from + count(found.end())))
            }
        }
    }

    /// Whether there is a match at or behind a place, where nobody asks which.
    pub(crate) fn is_match(&self, data: &[u8], from: usize) -> bool {
        match (&self.engine, data.get(from..)) {
            (_, None) => false,
            (Engine::Plain(regex), Some(data)) => regex.regex().is_some_and(|regex| regex.is_match(data)),
            (Engine::Full { regex, relaxed }, Some(data)) => {
                text_of(data, relaxed.as_ref()).and_then(|text| regex.regex()?.is_match(&text).ok()).unwrap_or(false)
            }
        }
    }

    /// What the named groups captured, of the first match behind a place.
    pub(crate) fn captured(&self, data: &[u8], from: usize) -> Vec<(usize, Vec<u8>)> {
        let Some(data) = data.get(from..).filter(|_| !self.captures.is_empty()) else { return Vec::new() };
        let groups = self.captures.iter().enumerate();
        match &self.engine {
            Engine::Plain(regex) => {
                let Some(regex) = regex.regex() else { return Vec::new() };
                regex.captures(data).map_or_else(Vec::new, |found| {
                    groups
                        .filter_map(|(at, capture)| Some((at, found.get(capture.group)?.as_bytes().to_vec())))
                        .collect()
                })
            }
            Engine::Full { regex, .. } => {
                let Some(text) = text_of(data, None) else { return Vec::new() };
                let Some(regex) = regex.regex() else { return Vec::new() };
                let Ok(Some(found)) = regex.captures(&text) else { return Vec::new() };
                let bytes = |text: &str| text.chars().map(|letter| u32::from(letter) as u8).collect::<Vec<u8>>();
                groups.filter_map(|(at, capture)| Some((at, bytes(found.get(capture.group)?.as_str())))).collect()
            }
        }
    }
}

/// The bytes as text, each the character of the same number; nothing where a match is out of the question.
fn text_of<'d>(data: &'d [u8], relaxed: Option<&Arc<OnDemand<regex::bytes::Regex>>>) -> Option<Cow<'d, str>> {
    match std::str::from_utf8(data) {
        Ok(text) if data.is_ascii() => {
            let relaxed = relaxed.and_then(OnDemand::regex);
            relaxed.is_none_or(|relaxed| relaxed.is_match(data)).then_some(Cow::Borrowed(text))
        }
        _ => Some(Cow::Owned(data.iter().map(|byte| char::from(*byte)).collect())),
    }
}

/// A regular expression on bytes for transforms.
pub(crate) fn plain(pattern: &str) -> Result<regex::bytes::Regex, String> {
    of_bytes(&rewrite(pattern, true)).map_err(|error| reason(&error.to_string()))
}

fn of_bytes(pattern: &str) -> Result<regex::bytes::Regex, regex::Error> {
    regex::bytes::RegexBuilder::new(pattern).unicode(false).size_limit(SIZE_LIMIT).dfa_size_limit(CACHE_LIMIT).build()
}

fn of_text(pattern: &str) -> Result<fancy_regex::Regex, fancy_regex::Error> {
    fancy_regex::RegexBuilder::new(pattern)
        .backtrack_limit(BACKTRACK_LIMIT)
        .delegate_size_limit(SIZE_LIMIT)
        .delegate_dfa_size_limit(CACHE_LIMIT)
        .build()
}

/// A pattern that was compiled, the names of its groups, and literals of which one is wherever it matches.
struct Compiled {
    engine: Engine,
    names: Vec<Option<String>>,
    required: Option<Required>,
}

fn compile(pattern: &str) -> Result<Compiled, String> {
    if let Ok(regex) = of_bytes(pattern) {
        return Ok(Compiled {
            engine: Engine::Plain(OnDemand::new(pattern, |pattern| of_bytes(pattern).ok())),
            names: regex.capture_names().map(|name| name.map(str::to_owned)).collect(),
            required: required::of(pattern, true),
        });
    }
    let regex = of_text(pattern).map_err(|error| reason(&error.to_string()))?;
    let relaxed = required::relaxed(pattern).filter(|text| of_bytes(text).is_ok());
    Ok(Compiled {
        engine: Engine::Full {
            regex: OnDemand::new(pattern, |pattern| of_text(pattern).ok()),
            relaxed: relaxed.as_deref().map(|text| OnDemand::new(text, |pattern| of_bytes(pattern).ok())),
        },
        names: regex.capture_names().map(|name| name.map(str::to_owned)).collect(),
        required: relaxed.and_then(|text| required::of(&text, false)),
    })
}

fn reason(error: &str) -> String {
    format!("cannot compile the pattern: {}", error.lines().last().unwrap_or(error).trim())
}

/// Writes what Perl allows and the `regex` crate does not in its way: escapes of letters and signs that mean
/// themselves, `$` before a last line end, `(?<name>` and the like stay.
fn rewrite(pattern: &str, dollar_before_newline: bool) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut letters = pattern.chars().peekable();
    let mut class = false;
    let mut class_start = false;
    while let Some(letter) = letters.next() {
        let at_start = std::mem::take(&mut class_start);
        match letter {
            '\\' => match letters.next() {
                Some('Z') if !class => out.push_str("(?:\\n?\\z)"),
                Some('R') if !class => out.push_str("(?:\\r\\n|\\n|\\r)"),
                Some('h') if !class => out.push_str("[ \\t]"),
                Some('h') => out.push_str(" \\t"),
                Some('H') if !class => out.push_str("[^ \\t]"),
                Some('e') => out.push_str("\\x1B"),
                Some('x') => {
                    let digit = letters.next_if(|next| next.is_ascii_hexdigit());
                    match (digit, digit.and_then(|_| letters.next_if(|next| next.is_ascii_hexdigit()))) {
                        (Some(one), Some(two)) => out.extend(['\\', 'x', one, two]),
                        (Some(one), None) => out.extend(['\\', 'x', '0', one]),
                        _ if letters.peek() == Some(&'{') => out.push_str("\\x"),
                        _ => out.push_str("\\x00"),
                    }
                }
                Some('0') => out.push_str("\\x00"),
                Some(escaped) if escaped.is_ascii_alphanumeric() => out.extend(['\\', escaped]),
                Some(escaped) if escaped.is_ascii() && !escaped.is_ascii_control() && !matches!(escaped, '<' | '>') => {
                    out.push_str(&format!("\\x{:02X}", escaped as u32));
                }
                Some(escaped) => out.push(escaped),
                None => out.push_str("\\\\"),
            },
            '[' if class && letters.peek() == Some(&':') => out.push('['),
            '[' if class => out.push_str("\\["),
            '[' => {
                class = true;
                class_start = true;
                out.push('[');
                if letters.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                if letters.next_if_eq(&']').is_some() {
                    out.push_str("\\]");
                }
            }
            ':' if class
                && letters.peek() == Some(&']')
                && out.rfind("[:").is_some_and(|at| !out.get(at..).is_some_and(|tail| tail.contains(']'))) =>
            {
                letters.next();
                out.push_str(":]");
            }
            ']' if class => {
                class = false;
                out.push(']');
            }
            // Twice in a class these would be set operations.
            '&' | '~' | '-' if class && !at_start && letters.peek() == Some(&letter) => {
                out.push('\\');
                out.push(letter);
            }
            '$' if !class && dollar_before_newline => out.push_str("(?:\\n?\\z)"),
            // A brace that opens no repetition means itself.
            '{' if !class => {
                let ahead: String = letters.clone().take_while(|next| *next != '}').collect();
                let closed = letters.clone().any(|next| next == '}');
                let repeats = closed
                    && ahead.starts_with(|first: char| first.is_ascii_digit())
                    && ahead.chars().all(|next| next.is_ascii_digit() || next == ',');
                out.push_str(if repeats { "{" } else { "\\{" });
            }
            '}' if !class => {
                let open = out.rfind('{').filter(|at| !out.get(..*at).is_some_and(|head| head.ends_with('\\')));
                let closes = open.is_some_and(|at| !out.get(at..).is_some_and(|tail| tail.contains('}')));
                out.push_str(if closes { "}" } else { "\\}" });
            }
            other => out.push(other),
        }
    }
    out
}

/// Names of captured groups: behind the flags (`flow:a, pkt:b`), or as group names (`(?P<flow_a>…)`).
fn captures(names: &str, groups: Vec<Option<String>>) -> Vec<Capture> {
    let mut found = Vec::new();
    for (at, name) in names.split(',').map(str::trim).filter(|name| !name.is_empty()).enumerate() {
        if let Some((scope @ ("flow" | "pkt"), name)) = name.split_once(':') {
            found.push(Capture { group: at + 1, name: name.trim().to_owned(), of_flow: scope == "flow" });
        }
    }
    for (group, name) in groups.into_iter().enumerate() {
        let Some(name) = name else { continue };
        if let Some(rest) = name.strip_prefix("flow_") {
            found.push(Capture { group, name: rest.to_owned(), of_flow: true });
        } else if let Some(rest) = name.strip_prefix("pkt_") {
            found.push(Capture { group, name: rest.to_owned(), of_flow: false });
        }
    }
    found
}

/// The buffer that a flag letter names.
fn flag_buffer(flag: char) -> Option<Buffer> {
    Some(match flag {
        'U' => Buffer::HttpUri,
        'I' => Buffer::HttpUriRaw,
        'P' => Buffer::HttpRequestBody,
        'Q' => Buffer::HttpResponseBody,
        'H' => Buffer::HttpHeader,
        'D' => Buffer::HttpHeaderRaw,
        'M' => Buffer::HttpMethod,
        'C' => Buffer::HttpCookie,
        'S' => Buffer::HttpStatCode,
        'Y' => Buffer::HttpStatMsg,
        'V' => Buffer::HttpUserAgent,
        'W' => Buffer::HttpHost,
        'Z' => Buffer::HttpHostRaw,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(pattern: &str, data: &[u8]) -> Option<(usize, usize)> {
        Pcre::parse(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}")).pcre.find(data, 0)
    }

    #[test]
    fn a_pattern_is_compiled_when_it_is_asked_and_a_wrong_one_when_it_is_loaded() {
        let kept = |pcre: &Pcre| match &pcre.engine {
            Engine::Plain(regex) => regex.is_compiled(),
            Engine::Full { regex, .. } => regex.is_compiled(),
        };
        for (pattern, data) in [(r"/a\d+/", b"xa12"), (r"/(?<=x)a\d+/", b"xa12")] {
            let pcre = Pcre::parse(pattern).unwrap().pcre;
            assert!(!kept(&pcre), "{pattern}");
            let copy = pcre.clone();
            assert_eq!(pcre.find(data, 0), Some((1, 4)), "{pattern}");
            assert!(kept(&pcre) && kept(&copy), "{pattern}");
        }
        // The costly one is not, where the one before it says that nothing can match.
        let pcre = Pcre::parse(r"/(?<=x)a\d+/").unwrap().pcre;
        assert!(!pcre.is_match(b"none", 0) && pcre.find(b"none", 0).is_none() && !kept(&pcre));
        assert!(pcre.is_match(b"xa12", 0) && kept(&pcre));
        for pattern in [r"/a(/", r"/(?<=x)a(/"] {
            assert!(Pcre::parse(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn perl_forms() {
        assert_eq!(find(r"/a\/b\-c/", b"xa/b-c"), Some((1, 6)));
        assert_eq!(find(r"/[^]]{2}$/", b"ab\n"), Some((0, 3)));
        assert_eq!(find(r"/\xff[\x00-\x1f]/", b"\xff\x01"), Some((0, 2)));
        assert_eq!(find(r"/a{b}/", b"a{b}"), Some((0, 4)));
        assert_eq!(find(r"/^[[:alpha:]_]+=/i", b"Ab_=1"), Some((0, 4)));
        assert_eq!(find(r"/[a&&b]+/", b"&&"), Some((0, 2)));
    }

    #[test]
    fn look_around_and_back_references_on_bytes() {
        assert_eq!(find(r"/(.)\1(?!c)/s", b"\xe9aabb"), Some((1, 3)));
        assert_eq!(find(r"/(?<=\xff)a/", b"\xff\xffa"), Some((2, 3)));
    }

    #[test]
    fn flags_and_captures() {
        let parsed = Pcre::parse(r#""/(\d+) (?P<pkt_b>.)/URi, flow:a""#).unwrap();
        assert_eq!(parsed.buffer, Some(Buffer::HttpUri));
        assert!(parsed.pcre.relative);
        let names: Vec<_> = parsed.pcre.captures.iter().map(|capture| capture.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(parsed.pcre.captured(b"x12 y", 0), [(0, b"12".to_vec()), (1, b"y".to_vec())]);
        assert!(Pcre::parse("/a/!").is_err() && Pcre::parse("a").is_err());
    }
}
