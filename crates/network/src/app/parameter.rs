//! Parameters of a header's value (`; name="value"`), as mail and forms write them.

/// The value of a parameter: in quotes or not, with blanks around the sign, and also where the name has the star of
/// RFC 2231 and 5987 (`filename*0*=`).
pub(crate) fn parameter(value: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    let mut rest = value;
    loop {
        // The parameters stand behind the first semicolon, but who reads tolerantly takes the first for one, too.
        let (part, tail) = part(rest);
        if let Some(found) = named(part, name) {
            return (!found.is_empty()).then(|| found.to_vec());
        }
        rest = tail?;
    }
}

/// Up to the next semicolon outside of quotes, and what is behind it.
fn part(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut quoted = false;
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b';' if !quoted => return (text.get(..at).unwrap_or_default(), text.get(at + 1..)),
            _ => {}
        }
    }
    (text, None)
}

/// The value behind the first sign that the name stands before.
fn named<'v>(part: &'v [u8], name: &[u8]) -> Option<&'v [u8]> {
    let mut quoted = false;
    let signs = part.iter().enumerate().filter(|(_, byte)| {
        quoted ^= **byte == b'"';
        **byte == b'=' && !quoted
    });
    signs.filter_map(|(at, _)| part.split_at_checked(at)).find_map(|(left, right)| value_of(left, right, name))
}

fn value_of<'v>(left: &[u8], right: &'v [u8], name: &[u8]) -> Option<&'v [u8]> {
    // Perhaps there was no semicolon before it.
    let left = left.trim_ascii().rsplit(|byte| byte.is_ascii_whitespace() || *byte == b',').next()?;
    let word = left.split(|byte| *byte == b'*').next()?;
    if !word.eq_ignore_ascii_case(name) {
        return None;
    }
    let value = right.get(1..)?.trim_ascii();
    match value.strip_prefix(b"\"") {
        Some(quoted) => quoted.split(|byte| *byte == b'"').next(),
        None => value.split(|byte| matches!(byte, b' ' | b'\t' | b',' | b'\r' | b'\n')).next(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_it_is_written() {
        let get = |value: &str, name: &str| {
            parameter(value.as_bytes(), name.as_bytes()).map(|found| String::from_utf8(found).unwrap())
        };
        assert_eq!(get("multipart/mixed; boundary=\"a;b c\"", "boundary").as_deref(), Some("a;b c"));
        assert_eq!(get("multipart/mixed; x=y;\tBOUNDARY = B ; z", "boundary").as_deref(), Some("B"));
        assert_eq!(get("attachment; filename*0*=utf-8''a; filename*1=b", "filename").as_deref(), Some("utf-8''a"));
        assert_eq!(get("form-data name=f, filename=x.php", "filename").as_deref(), Some("x.php"));
        assert_eq!(get("form-data; name=\"filename=y\" filename=x", "filename").as_deref(), Some("x"));
        assert_eq!((get("attachment; filename=", "filename"), get("a", "b")), (None, None));
    }
}
