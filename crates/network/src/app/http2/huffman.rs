//! The Huffman code of HPACK (RFC 7541, appendix B).
//!
//! The code is canonical, so the lengths of its 257 words give the words: shorter first, equal ones by symbol.

use std::sync::OnceLock;

/// Bits of each symbol; the last is the end of a string.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];
const LONGEST: usize = 30;

/// Words of one length: the first word, and where its symbol lies in the list.
#[derive(Clone, Copy, Debug, Default)]
struct Row {
    first: u32,
    count: u32,
    at: usize,
}

struct Code {
    symbols: Vec<u16>,
    rows: [Row; LONGEST + 1],
}

fn code() -> &'static Code {
    static CODE: OnceLock<Code> = OnceLock::new();
    CODE.get_or_init(|| {
        let mut symbols: Vec<u16> = (0..257).collect();
        let length = |symbol: &u16| LENGTHS.get(usize::from(*symbol)).copied().unwrap_or(0);
        symbols.sort_by_key(|symbol| (length(symbol), *symbol));
        let mut rows = [Row::default(); LONGEST + 1];
        let (mut next, mut at) = (0u32, 0usize);
        for (bits, row) in rows.iter_mut().enumerate() {
            next <<= 1;
            let count = symbols.iter().filter(|symbol| usize::from(length(symbol)) == bits).count();
            *row = Row { first: next, count: count as u32, at };
            next += count as u32;
            at += count;
        }
        Code { symbols, rows }
    })
}

/// Decodes a string; `None` where a word is none or the padding is wrong.
pub(super) fn decode(data: &[u8], most: usize) -> Option<Vec<u8>> {
    let code = code();
    let mut out = Vec::with_capacity(data.len() * 2);
    let (mut word, mut bits) = (0u32, 0usize);
    for byte in data {
        for shift in (0..8).rev() {
            word = word << 1 | u32::from(byte >> shift & 1);
            bits += 1;
            let row = code.rows.get(bits)?;
            let place = word.wrapping_sub(row.first);
            if word >= row.first && place < row.count {
                let symbol = *code.symbols.get(row.at + place as usize)?;
                out.push(u8::try_from(symbol).ok()?);
                if out.len() > most {
                    return None;
                }
                (word, bits) = (0, 0);
            }
        }
    }
    // What is left is the beginning of the end's word: ones.
    (bits < 8 && word == (1 << bits) - 1).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_rfc() {
        let decode =
            |text: &str| decode(&hex::decode(text).unwrap(), 100).map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(decode("f1e3c2e5f23a6ba0ab90f4ff").as_deref(), Some("www.example.com"));
        assert_eq!(decode("25a849e95bb8e8b4bf").as_deref(), Some("custom-value"));
        assert_eq!(decode("00ff00"), None);
    }
}
