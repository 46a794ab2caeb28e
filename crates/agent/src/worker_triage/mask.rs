//! What a triage package leaves out. Of an environment the names stay and every value goes; so it is with the jobs of `at`, which
//! hold the whole environment of who ordered them, and with `/etc/environment`. In texts (command lines, autoruns, ends of logs)
//! what follows a word like `password`, `token`, `secret` or `key`, up to the next blank or the quote that closes it, what stands
//! behind a user's name in an address, and the value of `Environment=` is replaced by `***`. Pure.
//!
//! False negatives: a secret that nothing calls one (`mysql -phunter2`, a bare argument), and what goes on in the next line. False
//! positives: an innocent value behind such a word, and what follows it without a blank.

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
/// Ends of names whose value is one; `keyboard` is none.
const KEY: &str = "key";
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

/// A file of assignments as a shell reads them (`NAME=value`, `export NAME=value`): of each the name stays. A value ends with
/// its line, or with the line in which its last quote is closed; whatever else is there is masked as any text.
pub fn assignments(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_ref();
    while !rest.is_empty() {
        let end = rest.find('\n').map_or(rest.len(), |at| at + 1);
        let (one, after) = rest.split_at(end);
        let begun = one.trim_start();
        let begun = begun.strip_prefix("export ").unwrap_or(begun);
        let name = begun.split_once('=').map(|(name, _)| name).filter(|name| is_variable(name));
        let Some(name) = name else {
            out.push_str(&line(one));
            rest = after;
            continue;
        };
        out.push_str(&format!("{name}={MASK}\n"));
        let value = one.len() - begun.len() + name.len() + 1;
        rest = rest.get(value..).map_or("", |value| value.get(shell_end(value.as_bytes())..).unwrap_or_default());
    }
    out
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Behind the line in which what begins here ends: no quote is open there, and the line's end is not escaped.
fn shell_end(bytes: &[u8]) -> usize {
    let (mut quote, mut escaped) = (None, false);
    for (at, byte) in bytes.iter().enumerate() {
        match (byte, quote) {
            _ if escaped => escaped = false,
            (b'\\', None | Some(b'"')) => escaped = true,
            (b'"' | b'\'', None) => quote = Some(*byte),
            (byte, Some(open)) if *byte == open => quote = None,
            (b'\n', None) => return at + 1,
            _ => {}
        }
    }
    bytes.len()
}

/// The words of a command line. The value of an option or a variable is all the rest of its word, blanks too.
pub fn words<'a>(words: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut before = "";
    let mut masked = Vec::new();
    for word in words {
        let named = word.split_once('=').map(|(name, _)| name).filter(|name| is_variable(&name.replace('-', "_")));
        let is_secret = |name: &str| line(&format!("{name}=x")).ends_with(MASK);
        let is_value = line(&format!("{before} x")).ends_with(MASK);
        masked.push(match named {
            _ if is_value => MASK.to_owned(),
            // A command of a shell's: its assignments end at blanks.
            _ if before == "-c" => line(word),
            Some(name) if is_secret(name) => format!("{name}={MASK}"),
            _ => line(word),
        });
        before = word;
    }
    masked
}

/// One line, or a command.
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
    for (at, _) in small.match_indices(KEY) {
        if bytes.get(at + KEY.len()).is_none_or(|next| !next.is_ascii_alphabetic()) {
            hidden.extend(value_of(bytes, at, at + KEY.len()));
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
        Some(b'=' | b':') => skip(blank + 1, |byte| b" \t=".contains(&byte)),
        // `--password hunter2`: the word belongs to an option.
        Some(_) if blank > quote && is_option(bytes, word) => blank,
        _ => return None,
    };
    // Within quotes of its own a blank is a part of it.
    let (from, to) = match bytes.get(from) {
        Some(open @ (b'"' | b'\'')) => (from + 1, quoted_end(bytes, from + 1, *open)),
        _ => (from, end_of(bytes, from)),
    };
    (to > from).then_some((from, to))
}

/// Where what a quote opened before here is closed.
fn quoted_end(bytes: &[u8], from: usize, quote: u8) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    let mut escaped = false;
    let closes = |byte: &u8| {
        let now = std::mem::take(&mut escaped);
        escaped = !now && *byte == b'\\' && quote == b'"';
        !now && (*byte == quote || *byte == b'\n')
    };
    from + rest.iter().position(closes).unwrap_or(rest.len())
}

fn is_option(bytes: &[u8], at: usize) -> bool {
    let before = bytes.get(..at).unwrap_or_default();
    let word = before.iter().rposition(|byte| byte.is_ascii_whitespace()).map_or(0, |blank| blank + 1);
    bytes.get(word) == Some(&b'-')
}

/// Where a value ends that begins here: at a blank, or at a quote, which was opened before its name. Not at what is escaped.
fn end_of(bytes: &[u8], from: usize) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    let mut escaped = false;
    let ends = |byte: &u8| {
        let now = std::mem::take(&mut escaped);
        escaped = !now && *byte == b'\\';
        (!now && (byte.is_ascii_whitespace() || b"\"'".contains(byte))) || *byte == b'\n'
    };
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
            ("run --password=hunter2,;&x -v", "run --password=*** -v"),
            ("DB_PASSWORD=\"hunter2 x y\" z", "DB_PASSWORD=\"***\" z"),
            ("KEY=hunter2 X_KEY='hunter2 x' keyboard=us", "KEY=*** X_KEY='***' keyboard=us"),
            ("SECRET=hunter2\\ hunter2; export SECRET", "SECRET=*** export SECRET"),
            ("sh -c 'TOKEN=hunter2' x", "sh -c 'TOKEN=***' x"),
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
    fn of_assignments_only_names_are_kept() {
        let job = "#!/bin/sh\n# mail eve 0\numask 22\nHOME=/root; export HOME\nPW=hunter2\\ hunter2; export PW\n\
                   X=a\"\n\"hunter2; export X\nexport Y='hunter2\nhunter2'\ncd /root || {\n}\n/opt/run --token hunter2\n";
        let kept = assignments(job.as_bytes());
        assert!(!kept.contains("hunter2") && !kept.contains("/root;"), "{kept}");
        for line in ["#!/bin/sh", "HOME=***", "PW=***", "X=***", "Y=***", "cd /root || {", "/opt/run --token ***"] {
            assert!(kept.lines().any(|one| one == line), "{line}: {kept}");
        }
        assert_eq!(assignments(b"A=\"hunter2\nnever closed"), "A=***\n");
        assert_eq!(assignments(b"PATH=/bin"), "PATH=***\n");
    }

    #[test]
    fn of_a_word_all_is_its_value() {
        let words = |all: &[&str]| super::words(all.iter().copied());
        assert_eq!(words(&["x", "--token=hunter 2", "-v"]), ["x", "--token=***", "-v"]);
        assert_eq!(words(&["env", "API_KEY=hunter 2", "x"]), ["env", "API_KEY=***", "x"]);
        assert_eq!(words(&["x", "--password", "hunter 2", "--user=eve x"]), ["x", "--password", "***", "--user=eve x"]);
        assert_eq!(words(&["sh", "-c", "PASSWORD=hunter2 exec x"]), ["sh", "-c", "PASSWORD=*** exec x"]);
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
            let _ = (text(&bytes), names(&bytes), assignments(&bytes));
        }
    }
}
