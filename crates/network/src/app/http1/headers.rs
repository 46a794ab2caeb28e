//! Header lines: cut, folded, joined, and read as tolerantly as clients and servers do.

/// Most headers of one message.
const MOST_HEADERS: usize = 1024;
/// Longest value after repeated headers were joined.
const LONGEST_VALUE: usize = 64 << 10;

/// One header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header {
    pub name: Vec<u8>,
    pub value: Vec<u8>,
}

/// Headers of a message, in order; a repeated one is joined to the first by a comma.
#[derive(Clone, Debug, Default)]
pub(crate) struct Headers {
    pub list: Vec<Header>,
    /// All header bytes as they came.
    pub raw: Vec<u8>,
    pub repeated: bool,
    pub repeated_length: bool,
    pub invalid: bool,
    pub too_many: bool,
}

pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c)
}

pub(super) fn trim(mut text: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = text {
        if !matches!(first, b' ' | b'\t') {
            break;
        }
        text = rest;
    }
    while let [rest @ .., last] = text {
        if !matches!(last, b' ' | b'\t') {
            break;
        }
        text = rest;
    }
    text
}

/// Compares without case and without the zero bytes that the other side may have.
pub(crate) fn same_name(name: &[u8], wanted: &[u8]) -> bool {
    if name.len() == wanted.len() {
        return name.eq_ignore_ascii_case(wanted);
    }
    if name.len() < wanted.len() {
        return false;
    }
    name.iter().filter(|byte| **byte != 0).map(u8::to_ascii_lowercase).eq(wanted.iter().map(u8::to_ascii_lowercase))
}

/// Whether a value holds a word, without case and zero bytes.
pub(crate) fn has_word(value: &[u8], word: &[u8]) -> bool {
    let lower: Vec<u8> = value.iter().filter(|byte| **byte != 0).map(u8::to_ascii_lowercase).collect();
    memchr::memmem::find(&lower, word).is_some()
}

impl Headers {
    /// Takes one logical line, without its end.
    pub(super) fn add(&mut self, line: &[u8]) {
        let (name, value) = match line.iter().position(|byte| *byte == b':') {
            None => {
                self.invalid = true;
                (&[] as &[u8], line)
            }
            Some(at) => {
                let (name, value) = line.split_at(at);
                let trimmed = trim_end(name);
                self.invalid |= trimmed.len() != name.len() || name.is_empty();
                (trimmed, trim(value.get(1..).unwrap_or_default()))
            }
        };
        let existing = self.list.iter_mut().find(|known| !name.is_empty() && same_name(&known.name, name));
        if let Some(known) = existing {
            self.repeated = true;
            // Of two lengths the first counts.
            if known.name.eq_ignore_ascii_case(b"content-length") {
                self.repeated_length = true;
            } else if known.value.len() + value.len() < LONGEST_VALUE {
                known.value.extend_from_slice(b", ");
                known.value.extend_from_slice(value);
            } else if same_name(&known.name, b"x-forwarded-for") {
                // The last one is the nearest proxy's; a client must not push it out.
                known.value = value.get(value.len().saturating_sub(LONGEST_VALUE)..).unwrap_or_default().to_vec();
            }
        } else if self.list.len() < MOST_HEADERS {
            self.list.push(Header { name: name.to_vec(), value: value.to_vec() });
        } else {
            self.too_many = true;
        }
    }

    /// Adds a header that is cut already.
    pub(crate) fn push(&mut self, name: Vec<u8>, value: Vec<u8>) {
        if self.list.len() < MOST_HEADERS {
            self.raw.extend_from_slice(&name);
            self.raw.extend_from_slice(b": ");
            self.raw.extend_from_slice(&value);
            self.raw.extend_from_slice(b"\r\n");
            self.list.push(Header { name, value });
        } else {
            self.too_many = true;
        }
    }

    pub(crate) fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.list.iter().find(|header| same_name(&header.name, name)).map(|header| header.value.as_slice())
    }

    /// The values of all headers of a name, in their order.
    pub(crate) fn all<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.list.iter().filter(move |header| same_name(&header.name, name)).map(|header| header.value.as_slice())
    }

    /// Bytes that they keep.
    pub(crate) fn kept(&self) -> usize {
        // As they came, and once more in their parts.
        2 * self.raw.capacity() + self.list.capacity() * size_of::<Header>()
    }

    /// All headers as `name: value` lines, without those that the test leaves out.
    pub(crate) fn joined(&self, leave_out: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.raw.len());
        for header in self.list.iter().filter(|header| !leave_out(&header.name)) {
            out.extend_from_slice(&header.name);
            out.extend_from_slice(b": ");
            out.extend_from_slice(&header.value);
            out.extend_from_slice(b"\r\n");
        }
        out
    }

    /// `\r\n` name `\r\n` name … `\r\n\r\n`.
    pub(crate) fn names(&self) -> Vec<u8> {
        let mut out = b"\r\n".to_vec();
        for header in &self.list {
            out.extend_from_slice(&header.name);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        out
    }
}

fn trim_end(mut text: &[u8]) -> &[u8] {
    while let [rest @ .., last] = text {
        if !is_space(*last) {
            break;
        }
        text = rest;
    }
    text
}

/// Length of a body: digits behind and before anything else.
pub(super) fn content_length(value: &[u8]) -> Option<u64> {
    let start = value.iter().position(u8::is_ascii_digit)?;
    let mut digits = value.get(start..)?.iter().take_while(|byte| byte.is_ascii_digit());
    digits
        .try_fold(0u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
        .filter(|length| *length <= i64::MAX as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerant_reading() {
        let mut headers = Headers::default();
        for line in [&b"A : b "[..], b"a:c", b"no colon", b"Content-Length: 5", b"content-length: 6", b"X\0Y: z"] {
            headers.add(line);
        }
        assert_eq!(headers.get(b"a"), Some(&b"b, c"[..]));
        assert_eq!(headers.get(b"content-length"), Some(&b"5"[..]));
        assert_eq!(headers.get(b"xy"), Some(&b"z"[..]));
        assert!(headers.invalid && headers.repeated_length);
        assert_eq!((content_length(b"x 12y"), content_length(b"none")), (Some(12), None));
    }

    #[test]
    fn what_the_nearest_proxy_wrote_is_not_pushed_out() {
        let mut headers = Headers::default();
        headers.add(format!("X-Forwarded-For: {}", "198.51.100.1,".repeat(5_100)).as_bytes());
        headers.add(b"x-forwarded-for: 203.0.113.7");
        assert!(
            headers.get(b"x-forwarded-for") == Some(&b"203.0.113.7"[..]),
            "what is longer than is kept goes before it"
        );
    }

    #[test]
    fn bounded() {
        let mut headers = Headers::default();
        for number in 0..2000 {
            headers.add(format!("h{number}: v").as_bytes());
            headers.add(b"same: 0123456789012345678901234567890123456789");
        }
        assert!(headers.list.len() <= MOST_HEADERS && headers.too_many);
        assert!(headers.get(b"same").unwrap().len() <= LONGEST_VALUE);
    }
}
