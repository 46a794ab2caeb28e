//! Messages of syslog in a stream of bytes (RFC 6587): each counted, or each ended by a line feed, as its first byte says.
//!
//! ```text
//! 34 <34>1 2026-11-26T10:00:00Z h p - - - x       octet counting: a number, a space, so many bytes
//! <34>Nov 26 10:00:00 h p: x\n                    else up to the line feed
//! ```
//!
//! A message longer than [`MAX_MESSAGE`] is cut there, and its rest is left out; what is kept of an unfinished one is bounded
//! by that.

/// Longest message, in bytes.
pub const MAX_MESSAGE: usize = 64 << 10;
/// Most digits of a count.
const MAX_DIGITS: usize = 7;

/// Where the stream stands.
#[derive(Debug, Default)]
pub struct Frames {
    message: Vec<u8>,
    state: State,
    cut: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before a message.
    #[default]
    Begin,
    /// In what may be a count.
    Count,
    /// In a message of which so many bytes are still to come.
    Counted(usize),
    /// In a message that ends with a line feed.
    Line,
}

impl Frames {
    /// Takes bytes; each message that ends in them is handed out.
    pub fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8])) {
        while let Some((first, rest)) = bytes.split_first() {
            match self.state {
                State::Begin if matches!(first, b'\n' | b'\r' | 0) => bytes = rest,
                State::Begin if first.is_ascii_digit() && *first != b'0' => self.state = State::Count,
                State::Begin => self.state = State::Line,
                State::Count => {
                    bytes = rest;
                    if *first == b' ' {
                        // Digits alone are kept here, at most seven of them.
                        let count = std::str::from_utf8(&self.message).ok().and_then(|text| text.parse().ok());
                        self.message.clear();
                        self.state = State::Counted(count.unwrap_or(0));
                        continue;
                    }
                    if *first == b'\n' {
                        self.end(&mut each);
                        continue;
                    }
                    self.message.push(*first);
                    if !first.is_ascii_digit() || self.message.len() > MAX_DIGITS {
                        self.state = State::Line;
                    }
                }
                State::Counted(left) => {
                    let (taken, rest) = bytes.split_at(left.min(bytes.len()));
                    self.keep(taken);
                    bytes = rest;
                    self.state = State::Counted(left - taken.len());
                    if left == taken.len() {
                        self.end(&mut each);
                    }
                }
                State::Line => {
                    let end = bytes.iter().position(|byte| *byte == b'\n');
                    let (taken, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
                    self.keep(taken);
                    bytes = rest.get(1..).unwrap_or_default();
                    if end.is_some() {
                        self.end(&mut each);
                    }
                }
            }
        }
    }

    /// What is left when the stream ends: a message without its end.
    pub fn finish(&mut self, mut each: impl FnMut(&[u8])) {
        if !self.message.is_empty() {
            self.end(&mut each);
        }
    }

    /// Messages that were cut so far.
    pub fn cut(&self) -> u64 {
        self.cut
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = MAX_MESSAGE - self.message.len().min(MAX_MESSAGE);
        if room > 0 && bytes.len() > room || room == 0 && self.message.len() == MAX_MESSAGE && !bytes.is_empty() {
            // Counted where it first does not fit; the mark is one byte more than may be kept.
            self.message.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
            self.message.push(0);
            self.cut += 1;
        } else if room > 0 {
            self.message.extend_from_slice(bytes);
        }
    }

    fn end(&mut self, each: &mut impl FnMut(&[u8])) {
        self.message.truncate(MAX_MESSAGE);
        let message = self.message.strip_suffix(b"\n").unwrap_or(&self.message);
        let message = message.strip_suffix(b"\r").unwrap_or(message);
        if !message.is_empty() {
            each(message);
        }
        self.message.clear();
        self.state = State::Begin;
    }
}

/// One line of a message: what is in it cannot begin another one.
pub fn one_line(message: &[u8]) -> Vec<u8> {
    let message = message.get(..MAX_MESSAGE).unwrap_or(message);
    message.trim_ascii_end().iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pieces: &[&[u8]]) -> (Vec<String>, u64) {
        let (mut frames, mut out) = (Frames::default(), Vec::new());
        for piece in pieces {
            frames.feed(piece, |message| out.push(String::from_utf8_lossy(message).into_owned()));
        }
        frames.finish(|message| out.push(String::from_utf8_lossy(message).into_owned()));
        (out, frames.cut())
    }

    #[test]
    fn both_framings_may_be_mixed_and_cut_anywhere() {
        let stream = b"<1>one\n5 <2>ab<3>three\r\n6 <4>a\nb<5>end";
        let whole = all(&[stream]).0;
        assert_eq!(whole, ["<1>one", "<2>ab", "<3>three", "<4>a\nb", "<5>end"]);
        for at in 0..stream.len() {
            let (one, other) = stream.split_at(at);
            assert_eq!(all(&[one, other]).0, whole, "cut at {at}");
        }
        let single: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(all(&single).0, whole);
    }

    #[test]
    fn what_only_looks_like_a_count_is_a_line() {
        assert_eq!(all(&[b"12345678901 x\n2026-11-26 y\n7\n0 z\n"]).0, ["12345678901 x", "2026-11-26 y", "7", "0 z"]);
    }

    #[test]
    fn a_message_without_end_is_bounded_and_counted_once() {
        let long = vec![b'a'; MAX_MESSAGE * 3];
        let (messages, cut) = all(&[b"<1>", &long, &long, b"\n<2>b\n"]);
        assert_eq!(messages.iter().map(String::len).collect::<Vec<_>>(), [MAX_MESSAGE, 4]);
        assert_eq!(cut, 1);
        let counted = [b"200000 ".as_slice(), &vec![b'x'; 200_000], b"<3>c\n"].concat();
        let (messages, cut) = all(&[&counted]);
        assert_eq!((messages.len(), messages[1].as_str(), cut), (2, "<3>c", 1));
        assert_eq!(all(&[b"9999999 x"]).0, ["x"], "a claimed length alone costs nothing");
    }

    #[test]
    fn a_message_stays_one_line() {
        assert_eq!(one_line(b"<1>a\n<2>forged\r\n"), b"<1>a <2>forged");
    }
}
