//! HPACK (RFC 7541): header blocks into names and values, with the table that both ends keep.

use std::collections::VecDeque;

use super::huffman;

/// Largest table, whatever the other side asks for.
const LARGEST_TABLE: usize = 64 << 10;
/// Longest name or value, most headers of a block, most bytes of all of them: a small block can name a large entry
/// of the table again and again.
const LONGEST: usize = 64 << 10;
const MOST_HEADERS: usize = 1024;
const MOST_BYTES: usize = 512 << 10;

type Field = (Vec<u8>, Vec<u8>);

const STATIC: &[(&str, &str)] = &[
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// One direction's table.
#[derive(Debug)]
pub(super) struct Hpack {
    table: VecDeque<Field>,
    size: usize,
    limit: usize,
    /// Sizes that the table was set to.
    pub size_updates: Vec<u64>,
}

impl Default for Hpack {
    fn default() -> Self {
        Self { table: VecDeque::new(), size: 0, limit: 4096, size_updates: Vec::new() }
    }
}

impl Hpack {
    /// Bytes that it keeps, by the count of RFC 7541, 4.1.
    pub(super) fn kept(&self) -> usize {
        self.size
    }

    /// Decodes a block; the flag says that all of it could be read.
    pub(super) fn decode(&mut self, mut data: &[u8]) -> (Vec<Field>, bool) {
        let mut out: Vec<Field> = Vec::new();
        let mut bytes = 0;
        while let Some(first) = data.first().copied() {
            let Some(field) = self.field(first, &mut data) else { return (out, false) };
            let Some((name, value)) = field else { continue };
            bytes += name.len() + value.len();
            if out.len() >= MOST_HEADERS || bytes > MOST_BYTES {
                return (out, false);
            }
            out.push((name, value));
        }
        (out, true)
    }

    /// One representation; `Some(None)` is a change of the table's size.
    fn field(&mut self, first: u8, data: &mut &[u8]) -> Option<Option<Field>> {
        if first & 0x80 != 0 {
            let index = integer(data, 7)?;
            return self.entry(index).map(Some);
        }
        if first & 0xe0 == 0x20 {
            let size = integer(data, 5)?;
            if self.size_updates.len() < 16 {
                self.size_updates.push(size);
            }
            self.limit = usize::try_from(size).unwrap_or(LARGEST_TABLE).min(LARGEST_TABLE);
            self.evict(0);
            return Some(None);
        }
        let keep = first & 0x40 != 0;
        let index = integer(data, if keep { 6 } else { 4 })?;
        let name = if index == 0 { string(data)? } else { self.entry(index)?.0 };
        let value = string(data)?;
        if keep {
            self.insert((name.clone(), value.clone()));
        }
        Some(Some((name, value)))
    }

    fn entry(&self, index: u64) -> Option<Field> {
        let at = usize::try_from(index).ok()?.checked_sub(1)?;
        match STATIC.get(at) {
            Some((name, value)) => Some((name.as_bytes().to_vec(), value.as_bytes().to_vec())),
            None => self.table.get(at - STATIC.len()).cloned(),
        }
    }

    fn insert(&mut self, field: Field) {
        let cost = field.0.len() + field.1.len() + 32;
        self.evict(cost);
        if cost <= self.limit {
            self.size += cost;
            self.table.push_front(field);
        }
    }

    fn evict(&mut self, room: usize) {
        while self.size + room > self.limit {
            let Some((name, value)) = self.table.pop_back() else { return };
            self.size -= name.len() + value.len() + 32;
        }
    }
}

fn integer(data: &mut &[u8], bits: u32) -> Option<u64> {
    let (first, rest) = data.split_first()?;
    *data = rest;
    let mask = (1u64 << bits) - 1;
    let mut value = u64::from(*first) & mask;
    if value < mask {
        return Some(value);
    }
    for shift in (0..35).step_by(7) {
        let (byte, rest) = data.split_first()?;
        *data = rest;
        value = value.checked_add(u64::from(byte & 0x7f) << shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn string(data: &mut &[u8]) -> Option<Vec<u8>> {
    let packed = data.first()? & 0x80 != 0;
    let length = usize::try_from(integer(data, 7)?).ok().filter(|length| *length <= LONGEST)?;
    let (text, rest) = data.split_at_checked(length)?;
    *data = rest;
    if packed { huffman::decode(text, LONGEST) } else { Some(text.to_vec()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_the_rfc() {
        let mut hpack = Hpack::default();
        let first = hex::decode("828684418cf1e3c2e5f23a6ba0ab90f4ff").unwrap();
        let (fields, whole) = hpack.decode(&first);
        assert!(whole);
        assert_eq!(fields.last().unwrap(), &(b":authority".to_vec(), b"www.example.com".to_vec()));
        let (fields, _) = hpack.decode(&hex::decode("828684be5886a8eb10649cbf").unwrap());
        assert_eq!(fields[3].1, b"www.example.com");
        assert_eq!(fields[4], (b"cache-control".to_vec(), b"no-cache".to_vec()));
        assert_eq!(STATIC.len(), 61);
    }

    #[test]
    fn the_table_and_what_comes_out_are_bounded() {
        let mut hpack = Hpack::default();
        let mut block = vec![0x40, 1, b'a', 0x7f, 0xe1, 0x1e];
        block.extend([b'v'; 4000]);
        block.extend(std::iter::repeat_n(0xbe, 100_000));
        let (fields, whole) = hpack.decode(&block);
        assert!(!whole && fields.len() <= MOST_HEADERS);
        assert!(hpack.size <= 4096);
    }
}
