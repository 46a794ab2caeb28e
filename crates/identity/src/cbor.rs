//! As much CBOR (RFC 8949) as passkeys are written in: integers, strings, arrays and maps of a stated length, and the
//! simple values. Depth and number of items are bounded, so that nothing grows beyond what was sent.

/// Deepest nesting.
const DEEPEST: usize = 8;
/// Most items of one value, with those within.
const MOST: usize = 1_024;

/// A value, whose strings are those of the bytes it was read from.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// An integer of either sign.
    Number(i64),
    /// Bytes.
    Bytes(&'a [u8]),
    /// Text.
    Text(&'a str),
    /// An array.
    Array(Vec<Self>),
    /// A map, in the order in which it was written; no key is there twice.
    Map(Vec<(Self, Self)>),
    /// True or false.
    Truth(bool),
    /// Null, undefined.
    Null,
}

impl<'a> Value<'a> {
    /// The value of a map under an integer.
    pub fn at(&self, key: i64) -> Option<&Self> {
        self.find(&Value::Number(key))
    }

    /// The value of a map under a text.
    pub fn named(&self, key: &str) -> Option<&Self> {
        self.find(&Value::Text(key))
    }

    fn find(&self, wanted: &Value<'_>) -> Option<&Self> {
        let Self::Map(pairs) = self else { return None };
        pairs.iter().find(|(key, _)| key == wanted).map(|(_, value)| value)
    }

    /// As an integer.
    pub fn number(&self) -> Option<i64> {
        if let Self::Number(number) = self { Some(*number) } else { None }
    }

    /// As bytes.
    pub fn bytes(&self) -> Option<&'a [u8]> {
        if let Self::Bytes(bytes) = self { Some(bytes) } else { None }
    }

    /// As text.
    pub fn text(&self) -> Option<&'a str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }
}

/// The value at the beginning, and what follows it; none where it is no such CBOR.
pub fn read(bytes: &[u8]) -> Option<(Value<'_>, &[u8])> {
    let mut reader = Reader { rest: bytes, left: MOST };
    let value = reader.value(0)?;
    Some((value, reader.rest))
}

struct Reader<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(usize::try_from(count).ok()?)?;
        self.rest = rest;
        Some(taken)
    }

    /// The number behind a head: its low five bits, or the bytes that they announce. Lengths without an end are not
    /// written by authenticators (CTAP2's canonical form) and not read.
    fn argument(&mut self, low: u8) -> Option<u64> {
        let size = match low {
            0..=23 => return Some(low.into()),
            24..=27 => 1_u64 << (low - 24),
            _ => return None,
        };
        Some(self.take(size)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn value(&mut self, depth: usize) -> Option<Value<'a>> {
        if depth > DEEPEST {
            return None;
        }
        self.left = self.left.checked_sub(1)?;
        let head = *self.take(1)?.first()?;
        let (kind, low) = (head >> 5, head & 31);
        if kind == 7 {
            return match low {
                20 => Some(Value::Truth(false)),
                21 => Some(Value::Truth(true)),
                22 | 23 => Some(Value::Null),
                _ => None,
            };
        }
        let argument = self.argument(low)?;
        match kind {
            0 => i64::try_from(argument).ok().map(Value::Number),
            1 => i64::try_from(argument).ok().map(|number| Value::Number(-1 - number)),
            2 => self.take(argument).map(Value::Bytes),
            3 => std::str::from_utf8(self.take(argument)?).ok().map(Value::Text),
            4 => (0..argument).map(|_| self.value(depth + 1)).collect::<Option<_>>().map(Value::Array),
            5 => self.map(argument, depth),
            _ => None,
        }
    }

    fn map(&mut self, count: u64, depth: usize) -> Option<Value<'a>> {
        let mut pairs: Vec<(Value<'a>, Value<'a>)> = Vec::new();
        for _ in 0..count {
            let key = self.value(depth + 1)?;
            // Two values under one key: what another reader takes for the key is not what we took.
            if !matches!(key, Value::Number(_) | Value::Text(_)) || pairs.iter().any(|(known, _)| *known == key) {
                return None;
            }
            let value = self.value(depth + 1)?;
            pairs.push((key, value));
        }
        Some(Value::Map(pairs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_the_standard() {
        // RFC 8949, appendix A.
        for (bytes, wanted) in [
            (&b"\x00"[..], Value::Number(0)),
            (b"\x18\x64", Value::Number(100)),
            (b"\x1b\x00\x00\x00\xe8\xd4\xa5\x10\x00", Value::Number(1_000_000_000_000)),
            (b"\x39\x03\xe7", Value::Number(-1_000)),
            (b"\x44\x01\x02\x03\x04", Value::Bytes(&[1, 2, 3, 4])),
            (b"\x64IETF", Value::Text("IETF")),
            (b"\x82\x01\xf5", Value::Array(vec![Value::Number(1), Value::Truth(true)])),
            (b"\xa1\x61a\xf6", Value::Map(vec![(Value::Text("a"), Value::Null)])),
        ] {
            assert_eq!(read(bytes), Some((wanted, &[][..])));
        }
        let (map, rest) = read(b"\xa2\x01\x02\x61a\x03rest").unwrap();
        assert_eq!((map.at(1).and_then(Value::number), map.named("a").and_then(Value::number)), (Some(2), Some(3)));
        assert_eq!((map.at(2), rest), (None, &b"rest"[..]));
    }

    #[test]
    fn what_is_cut_doubled_deep_or_large_is_refused() {
        for bad in [
            &b""[..],
            b"\x18",
            b"\x44\x01",
            b"\x5f\x41\x00\xff",
            b"\xa2\x01\x02\x01\x03",
            b"\xa1\xf6\x01",
            b"\x1b\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x62\xff\xff",
            b"\xfb\x00\x00\x00\x00\x00\x00\x00\x00",
            &[0x81; 100],
            &[&[0x99, 0xff, 0xff][..], &[0; 70_000]].concat(),
        ] {
            assert_eq!(read(bad), None, "{:x?}", bad.get(..8));
        }
    }
}
