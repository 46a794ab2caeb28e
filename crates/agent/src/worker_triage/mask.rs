//! What a triage package leaves out. Of an environment the names stay and every value goes. In texts (command lines, autoruns,
//! ends of logs) what follows a word like `password`, `token` or `secret`, what stands behind a user's name in an address, and
//! the value of `Environment=` is replaced by `***`. Pure.
//!
//! False negatives: a secret that nothing calls one (`mysql -phunter2`, a bare argument). False positives: an innocent value
//! behind such a word.

/// Longest name of a variable.
const MAX_NAME: usize = 128;
/// Most names of one environment.
const MAX_NAMES: usize = 512;
/// Words whose value is a secret, in small letters.
const SECRETS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "api_key",
    "apikey",
    "api-key",
    "access_key",
    "access-key",
    "private_key",
    "credential",
    "authorization",
    "cookie",
];
/// Words that are followed by a secret after a blank.
const BEARERS: &[&str] = &["bearer ", "basic "];
/// What stands in the place of a secret.
const MASK: &str = "***";

/// A text without control characters, for lines.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).take(4_096).collect()
}

/// Names of the variables of an environment (`NAME=value`, each ended by a zero byte). What has no form of a name is no name.
pub fn names(environment: &[u8]) -> Vec<String> {
    let name = |one: &[u8]| {
        let end = one.iter().position(|byte| *byte == b'=')?;
        let name = one.get(..end).filter(|name| (1..=MAX_NAME).contains(&name.len()))?;
        let first = name.first().is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_');
        let rest = name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(byte));
        (first && rest).then(|| String::from_utf8_lossy(name).into_owned())
    };
    environment.split(|byte| *byte == 0).filter_map(name).take(MAX_NAMES).collect()
}

/// A text with its secrets masked, line by line. Bytes that are no UTF-8 are replaced.
pub fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    for one in text.split_inclusive('\n') {
        out.push_str(&line(one));
    }
    out
}

/// One line, or the words of a command.
pub fn line(line: &str) -> String {
    let small = line.to_ascii_lowercase();
    if let Some(at) =
        small.find("environment=").filter(|at| small.get(..*at).is_some_and(|before| before.trim().is_empty()))
    {
        return environment(line, at + "environment=".len());
    }
    let bytes = small.as_bytes();
    let mut hidden: Vec<(usize, usize)> = Vec::new();
    for word in SECRETS {
        for (at, _) in small.match_indices(word) {
            hidden.extend(value_of(bytes, at, at + word.len()));
        }
    }
    for word in BEARERS {
        for (at, _) in small.match_indices(word) {
            hidden.push((at + word.len(), end_of(bytes, at + word.len())));
        }
    }
    for (at, _) in small.match_indices("://") {
        hidden.extend(in_address(bytes, at + 3));
    }
    cover(line, hidden)
}

/// `NAME=value NAME=value`, some in quotes, of a unit's file: the names stay.
fn environment(line: &str, from: usize) -> String {
    let Some((head, rest)) = line.split_at_checked(from) else { return line.to_owned() };
    // A blank within quotes is a part of the value.
    let mut quote = None;
    let blank = |c: char| {
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '"' || c == '\'' => quote = Some(c),
            _ => {}
        }
        quote.is_none() && c.is_whitespace()
    };
    let names: Vec<String> = rest
        .split(blank)
        .filter_map(|word| word.trim_start_matches(['"', '\'']).split_once('=').map(|(name, _)| name))
        .filter(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'))
        .map(|name| format!("{name}={MASK}"))
        .collect();
    let end = if line.ends_with('\n') { "\n" } else { "" };
    format!("{head}{}{end}", names.join(" "))
}

/// Where the value of a word begins and ends: behind `=`, `:` or, for an option, a blank.
fn value_of(bytes: &[u8], word: usize, end: usize) -> Option<(usize, usize)> {
    let skip = |mut at: usize, what: fn(u8) -> bool| {
        while bytes.get(at).is_some_and(|byte| what(*byte)) {
            at += 1;
        }
        at
    };
    let name = skip(end, |byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    let quote = skip(name, |byte| b"\"'".contains(&byte));
    let blank = skip(quote, |byte| byte == b' ' || byte == b'\t');
    let from = match bytes.get(blank) {
        Some(b'=' | b':') => skip(blank + 1, |byte| b" \t\"'=".contains(&byte)),
        // `--password hunter2`: the word belongs to an option.
        Some(_) if blank > quote && is_option(bytes, word) => skip(blank, |byte| b"\"'".contains(&byte)),
        _ => return None,
    };
    let to = end_of(bytes, from);
    (to > from).then_some((from, to))
}

fn is_option(bytes: &[u8], at: usize) -> bool {
    let before = bytes.get(..at).unwrap_or_default();
    let word = before.iter().rposition(|byte| byte.is_ascii_whitespace()).map_or(0, |blank| blank + 1);
    bytes.get(word) == Some(&b'-')
}

/// Where a value ends that begins here.
fn end_of(bytes: &[u8], from: usize) -> usize {
    let ends = |byte: &u8| byte.is_ascii_whitespace() || b"\"',;&".contains(byte);
    let rest = bytes.get(from..).unwrap_or_default();
    from + rest.iter().position(ends).unwrap_or(rest.len())
}

/// `user:secret@host`: where the secret is.
fn in_address(bytes: &[u8], from: usize) -> Option<(usize, usize)> {
    let rest = bytes.get(from..end_of(bytes, from))?;
    let host = rest.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(rest.len());
    let at = rest.get(..host)?.iter().rposition(|byte| *byte == b'@')?;
    let colon = rest.get(..at)?.iter().position(|byte| *byte == b':')?;
    Some((from + colon + 1, from + at))
}

/// Puts the mask over these places, which may overlap. They begin and end beside ASCII, so between characters.
fn cover(line: &str, mut hidden: Vec<(usize, usize)>) -> String {
    hidden.sort_unstable();
    let (mut out, mut at) = (String::with_capacity(line.len()), 0);
    for (from, to) in hidden {
        if to <= at {
            continue;
        }
        if from > at {
            out.push_str(line.get(at..from).unwrap_or_default());
        }
        if from >= at {
            out.push_str(MASK);
        }
        at = to;
    }
    out.push_str(line.get(at..).unwrap_or_default());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_environment_only_names_are_kept() {
        let environment = b"PATH=/bin\0AWS_SECRET_ACCESS_KEY=hunter2\0junk hunter2\0=hunter2\0a b=hunter2\0X=\0";
        assert_eq!(names(environment), ["PATH", "AWS_SECRET_ACCESS_KEY", "X"]);
        assert!(names(&b"A=1\0".repeat(10_000)).len() <= MAX_NAMES);
        assert!(names(&[b"x".repeat(4_000), b"=1\0".to_vec()].concat()).is_empty());
    }

    #[test]
    fn what_is_called_a_secret_is_masked_and_nothing_else() {
        for (text, masked) in [
            ("run --password=hunter2 --user eve", "run --password=*** --user eve"),
            ("run --db-password hunter2 -v", "run --db-password *** -v"),
            ("DB_PASSWORD='hunter2' x", "DB_PASSWORD='***' x"),
            ("{\"api_key\": \"hunter2\", \"a\": 1}", "{\"api_key\": \"***\", \"a\": 1}"),
            ("curl https://eve:hunter2@example.org/a", "curl https://eve:***@example.org/a"),
            ("curl -H 'Authorization: Bearer hunter2'", "curl -H 'Authorization: *** ***'"),
            ("AWS_SECRET_ACCESS_KEY=hunter2", "AWS_SECRET_ACCESS_KEY=***"),
            ("Environment=\"A=hunter2\" TOKEN=hunter2\n", "Environment=A=*** TOKEN=***\n"),
            ("Environment='A=x hunter2=y' B=hunter2", "Environment=A=*** B=***"),
            ("Failed password for root from 192.0.2.1", "Failed password for root from 192.0.2.1"),
            ("/usr/sbin/sshd -D", "/usr/sbin/sshd -D"),
            ("pässword=ä token=ö", "pässword=ä token=***"),
        ] {
            assert_eq!(line(text), masked, "{text}");
        }
        assert_eq!(super::text(b"a\ntoken=x\nb"), "a\ntoken=***\nb");
    }

    #[test]
    fn any_bytes_are_a_text() {
        for seed in 0_u32..2_000 {
            let pool = b"password=:@/ \"'\xff\xc3\xa4token--Environment=\0\n";
            let mut state = seed;
            let bytes: Vec<u8> = (0..60)
                .map(|_| {
                    state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345);
                    pool[(state >> 16) as usize % pool.len()]
                })
                .collect();
            let _ = (text(&bytes), names(&bytes));
        }
    }
}
