//! The outer form of a rule: action, header, options. No keyword is known here.

/// A rule cut into its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parts<'a> {
    pub action: &'a str,
    pub proto: &'a str,
    pub src: &'a str,
    pub sport: &'a str,
    pub both_ways: bool,
    pub dst: &'a str,
    pub dport: &'a str,
    pub options: Vec<(&'a str, Option<String>)>,
}

/// Cuts one rule.
pub(crate) fn parts(rule: &str) -> Result<Parts<'_>, String> {
    let open = rule.find('(').ok_or("no options in parentheses")?;
    let (head, rest) = rule.split_at(open);
    let body = rest.trim_end().strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    let body = body.ok_or("the options do not end with a parenthesis")?;
    let words = header_words(head);
    let [action, proto, src, sport, arrow, dst, dport] = words.as_slice() else {
        return Err(format!("the header has {} parts instead of 7", words.len()));
    };
    let both_ways = match *arrow {
        "->" => false,
        "<>" => true,
        other => return Err(format!("'{other}' is no direction")),
    };
    Ok(Parts { action, proto, src, sport, both_ways, dst, dport, options: options(body)? })
}

/// Words of a header; what is in brackets is one word, whatever spaces it has.
fn header_words(head: &str) -> Vec<&str> {
    let (mut words, mut depth, mut start) = (Vec::new(), 0usize, None);
    for (at, letter) in head.char_indices() {
        match letter {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if letter.is_whitespace() && depth == 0 {
            if let Some(from) = start.take() {
                words.push(head.get(from..at).unwrap_or_default());
            }
        } else if start.is_none() {
            start = Some(at);
        }
    }
    if let Some(from) = start {
        words.push(head.get(from..).unwrap_or_default());
    }
    words
}

/// Splits the options at semicolons that are not escaped.
fn options(body: &str) -> Result<Vec<(&str, Option<String>)>, String> {
    let mut found = Vec::new();
    let (mut start, mut escaped, mut quoted) = (0, false, false);
    for (at, letter) in body.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            // A semicolon inside quotes ends the option as well unless escaped; quotes only matter to the message.
            ';' => {
                option(body.get(start..at).unwrap_or_default(), &mut found);
                start = at + 1;
            }
            _ => {}
        }
    }
    let rest = body.get(start..).unwrap_or_default().trim();
    if rest.is_empty() { Ok(found) } else { Err(format!("option '{rest}' does not end with a semicolon")) }
}

fn option<'a>(text: &'a str, found: &mut Vec<(&'a str, Option<String>)>) {
    let text = text.trim();
    if text.is_empty() {
        return;
    }
    match text.split_once(':') {
        Some((name, value)) => found.push((name.trim(), Some(value.trim().to_owned()))),
        None => found.push((text, None)),
    }
}

/// Rules of a file with the line that each begins on; comments and empty lines are left out, lines that end with a
/// backslash are joined.
pub(crate) fn rules(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_end_matches('\r');
        if open.is_none() && (line.trim().is_empty() || line.trim_start().starts_with('#')) {
            continue;
        }
        let (first, mut joined) = open.take().unwrap_or((number + 1, String::new()));
        if let Some(part) = line.trim_end().strip_suffix('\\') {
            joined.push_str(part);
            open = Some((first, joined));
        } else {
            joined.push_str(line);
            found.push((first, joined.trim().to_owned()));
        }
    }
    found.extend(open);
    found
}

/// The text in quotes, with whether a `!` stands before them.
pub(crate) fn quoted(value: &str) -> Result<(bool, &str), String> {
    let value = value.trim();
    let (negated, value) = value.strip_prefix('!').map_or((false, value), |rest| (true, rest.trim_start()));
    let inside = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    Ok((negated, inside.unwrap_or(value)))
}

/// Bytes of a content: text, `|hex|`, and the escapes `\"`, `\;`, `\\`, `\:`.
pub(crate) fn content_bytes(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut letters = text.bytes();
    let (mut hex, mut half) = (false, None::<u8>);
    while let Some(byte) = letters.next() {
        match byte {
            b'|' => {
                if half.take().is_some() {
                    return Err("a byte in hexadecimal has one digit".into());
                }
                hex = !hex;
            }
            _ if hex => {
                if byte == b' ' {
                    continue;
                }
                let digit = char::from(byte).to_digit(16).ok_or("no hexadecimal digit between bars")? as u8;
                match half.take() {
                    None => half = Some(digit),
                    Some(high) => bytes.push(high << 4 | digit),
                }
            }
            b'\\' => match letters.next() {
                Some(escaped @ (b'"' | b';' | b'\\' | b':')) => bytes.push(escaped),
                Some(other) => return Err(format!("'\\{}' is no escape", char::from(other))),
                None => return Err("an escape at the end".into()),
            },
            other => bytes.push(other),
        }
    }
    if hex {
        return Err("a bar is missing".into());
    }
    if bytes.is_empty() { Err("an empty content".into()) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_in_parts() {
        let rule = r#"alert http [1.1.1.1, 2.2.2.2] any <> $HOME_NET [80,443] (msg:"a \; b: c"; nocase; sid:1;)"#;
        let parts = parts(rule).unwrap();
        assert_eq!(
            (parts.action, parts.src, parts.dport, parts.both_ways),
            ("alert", "[1.1.1.1, 2.2.2.2]", "[80,443]", true)
        );
        assert_eq!(
            parts.options,
            [("msg", Some(r#""a \; b: c""#.into())), ("nocase", None), ("sid", Some("1".into()))]
        );
    }

    #[test]
    fn lines_are_joined_and_counted() {
        let text = "# comment\n\nalert \\\n  tcp\n#x\ndrop";
        assert_eq!(rules(text), [(3, "alert   tcp".into()), (6, "drop".into())]);
    }

    #[test]
    fn contents() {
        assert_eq!(content_bytes(r"a|0d 0A|b\;").unwrap(), b"a\r\nb;");
        for wrong in ["", "|0|", "|0d", "|zz|", r"a\n"] {
            assert!(content_bytes(wrong).is_err(), "{wrong}");
        }
    }
}
