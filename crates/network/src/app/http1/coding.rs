//! Content codings of bodies: gzip, zlib and raw deflate, told apart by what the bytes are, not by what the header says;
//! and brotli, where the header says so.

use super::brotli::{Brotli, Came};
use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};

/// Most bytes that one compressed byte may become on average, beyond the first ones.
const MOST_RATIO: usize = 2048;
/// What may come out whatever the ratio.
const FREE: usize = 1 << 20;

/// Longest header of a further member of gzip.
const LONGEST_HEADER: usize = 512;

/// One layer of decompression.
pub(crate) struct Decoder {
    state: Box<InflateState>,
    /// Bytes that were not enough to tell the format.
    head: Vec<u8>,
    mode: Mode,
    /// It is brotli, which no bytes tell by themselves.
    brotli: Option<Box<Brotli>>,
    taken: usize,
    given: usize,
    /// The ratio is beyond what is reasonable: nothing more comes out.
    pub bomb: bool,
    /// The bytes are not what was announced.
    pub broken: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Sniffing,
    Inflating {
        zlib: bool,
    },
    /// What comes goes through as it is.
    Through,
    /// A member of gzip is over: behind its sum and length there may be another.
    Between,
    Ended,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self {
            state: InflateState::new_boxed(DataFormat::Raw),
            head: Vec::new(),
            mode: Mode::Sniffing,
            brotli: None,
            taken: 0,
            given: 0,
            bomb: false,
            broken: false,
        }
    }

    /// Of a body that is said to be brotli.
    pub(crate) fn brotli() -> Self {
        Self { brotli: Some(Box::new(Brotli::new())), ..Self::new() }
    }

    /// Bytes that it keeps.
    pub(crate) fn kept(&self) -> usize {
        let tables = size_of::<InflateState>() + size_of::<Self>();
        tables + self.head.len() + self.brotli.as_ref().map_or(0, |brotli| brotli.kept())
    }

    /// Decodes what came; `last` says that nothing follows.
    pub(crate) fn decode(&mut self, data: &[u8], last: bool, out: &mut Vec<u8>) {
        if let Some(brotli) = self.brotli.as_mut() {
            let begun = self.taken > 0;
            self.taken += data.len();
            let most = FREE.max(self.taken.saturating_mul(MOST_RATIO));
            let before = out.len();
            match brotli.decode(data, most, out) {
                Came::Broken if !begun && out.len() == before => {
                    self.brotli = None;
                    self.mode = Mode::Through;
                    out.extend_from_slice(data);
                }
                Came::Broken => (self.bomb, self.broken) = (out.len() - before >= most, true),
                Came::Going | Came::Over => {}
            }
            return;
        }
        if self.mode != Mode::Sniffing {
            return self.run(data, out);
        }
        self.head.extend_from_slice(data);
        let Some((mode, skip)) = sniff(&self.head, last) else {
            if last || self.head.len() > 64 << 10 {
                self.mode = Mode::Through;
                let head = std::mem::take(&mut self.head);
                self.run(&head, out);
            }
            return;
        };
        self.mode = mode;
        if let Mode::Inflating { zlib } = mode {
            self.state.reset(if zlib { DataFormat::Zlib } else { DataFormat::Raw });
        }
        let head = std::mem::take(&mut self.head);
        let before = out.len();
        self.run(head.get(skip..).unwrap_or_default(), out);
        // Broken at the very start: perhaps there was no header, or it was none of compression.
        if self.broken {
            out.truncate(before);
            self.mode = Mode::Inflating { zlib: false };
            self.broken = false;
            self.state.reset(DataFormat::Raw);
            self.run(&head, out);
            if self.broken {
                out.truncate(before);
                self.mode = Mode::Through;
                self.run(&head, out);
            }
        }
    }

    fn run(&mut self, mut data: &[u8], out: &mut Vec<u8>) {
        while !data.is_empty() {
            let used = match self.mode {
                Mode::Through => {
                    out.extend_from_slice(data);
                    return;
                }
                Mode::Inflating { .. } => self.inflate(data, out),
                Mode::Between => self.another(data),
                Mode::Sniffing | Mode::Ended => return,
            };
            data = data.get(used..).unwrap_or_default();
        }
    }

    /// Takes what lies behind a member: eight bytes that end it, then perhaps the header of the next. Gives how much.
    fn another(&mut self, data: &[u8]) -> usize {
        for (at, byte) in data.iter().enumerate() {
            self.head.push(*byte);
            let next = self.head.get(8..).unwrap_or_default();
            let over = match next {
                [0x1f, 0x8b, 8, flags, ..] => gzip_header(next, *flags).is_some(),
                short => {
                    if ![0x1f, 0x8b, 8].starts_with(short) {
                        break;
                    }
                    false
                }
            };
            if over {
                self.head.clear();
                self.mode = Mode::Inflating { zlib: false };
                self.state.reset(DataFormat::Raw);
                return at + 1;
            }
            if self.head.len() > LONGEST_HEADER {
                break;
            }
        }
        // Not all of the header is there, or it is none.
        let next = self.head.get(8..).unwrap_or_default();
        let may_be = next.iter().zip([0x1f, 0x8b, 8]).all(|(one, other)| *one == other);
        if !may_be || self.head.len() > LONGEST_HEADER {
            self.mode = Mode::Ended;
        }
        data.len()
    }

    /// Gives how much it took.
    fn inflate(&mut self, all: &[u8], out: &mut Vec<u8>) -> usize {
        let mut data = all;
        let mut block = [0u8; 8192];
        loop {
            let result = inflate(&mut self.state, data, &mut block, MZFlush::None);
            self.taken += result.bytes_consumed;
            self.given += result.bytes_written;
            out.extend_from_slice(block.get(..result.bytes_written).unwrap_or_default());
            data = data.get(result.bytes_consumed..).unwrap_or_default();
            if self.given > FREE && self.given / MOST_RATIO > self.taken {
                self.bomb = true;
                self.mode = Mode::Ended;
                return all.len();
            }
            match result.status {
                Ok(MZStatus::StreamEnd) => {
                    self.mode = Mode::Between;
                    self.head.clear();
                    return all.len() - data.len();
                }
                Ok(_) if data.is_empty() && result.bytes_written < block.len() => return all.len(),
                Ok(_) => {
                    if result.bytes_consumed == 0 && result.bytes_written == 0 {
                        return all.len();
                    }
                }
                Err(MZError::Buf) => return all.len(),
                Err(_) => {
                    self.broken = true;
                    self.mode = Mode::Ended;
                    return all.len();
                }
            }
        }
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Decoder").field("mode", &self.mode).field("taken", &self.taken).finish_non_exhaustive()
    }
}

/// The format and the length of its header; `None` while there are too few bytes.
fn sniff(head: &[u8], last: bool) -> Option<(Mode, usize)> {
    match head {
        [0x1f, 0x8b, 8, flags, ..] => gzip_header(head, *flags).map(|skip| (Mode::Inflating { zlib: false }, skip)),
        [0x1f] | [0x1f, 0x8b] | [0x1f, 0x8b, 8] if !last => None,
        [first, second, ..] if first & 15 == 8 && u16::from_be_bytes([*first, *second]).is_multiple_of(31) => {
            Some((Mode::Inflating { zlib: true }, 0))
        }
        [_] | [] if !last => None,
        _ => Some((Mode::Inflating { zlib: false }, 0)),
    }
}

fn gzip_header(head: &[u8], flags: u8) -> Option<usize> {
    let mut at = 10;
    if flags & 4 != 0 {
        let length = usize::from(*head.get(at)?) | usize::from(*head.get(at + 1)?) << 8;
        at += 2 + length;
    }
    for flag in [8, 16] {
        if flags & flag != 0 {
            at += head.get(at..)?.iter().position(|byte| *byte == 0)? + 1;
        }
    }
    if flags & 2 != 0 {
        at += 2;
    }
    (at <= head.len()).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(pieces: &[&[u8]]) -> Vec<u8> {
        let (mut decoder, mut out) = (Decoder::new(), Vec::new());
        for piece in pieces {
            decoder.decode(piece, false, &mut out);
        }
        decoder.decode(&[], true, &mut out);
        out
    }

    #[test]
    fn formats_are_told_apart() {
        let raw = miniz_oxide::deflate::compress_to_vec(b"hello hello hello", 6);
        let zlib = miniz_oxide::deflate::compress_to_vec_zlib(b"hello hello hello", 6);
        let mut gzip = vec![0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3, b'n', 0];
        gzip.extend(&raw);
        // A member of gzip ends with its sum and length, and another may follow.
        gzip.extend([0; 8]);
        assert_eq!(decode(&[&gzip, &gzip]), b"hello hello hellohello hello hello");
        for bytes in [raw, zlib, gzip] {
            assert_eq!(decode(&[&bytes]), b"hello hello hello");
            let (one, two) = bytes.split_at(1);
            assert_eq!(decode(&[one, two]), b"hello hello hello");
        }
        assert_eq!(decode(&[b"plain text"]), b"plain text");
    }

    #[test]
    fn brotli() {
        let bytes = hex::decode("1b1c00f81da9519f3be23aac0cce4eb1e5554b5ae9824c81e0109e98e002").unwrap();
        for size in [1, 5, bytes.len()] {
            let (mut decoder, mut out) = (Decoder::brotli(), Vec::new());
            bytes.chunks(size).for_each(|part| decoder.decode(part, false, &mut out));
            assert_eq!(out, b"evil-payload and evil-payload");
        }
        let (mut decoder, mut out) = (Decoder::brotli(), Vec::new());
        decoder.decode(b"\xff\xff plain", true, &mut out);
        assert_eq!(out, b"\xff\xff plain");
    }

    #[test]
    fn a_bomb_is_cut() {
        let bomb = miniz_oxide::deflate::compress_to_vec_zlib(&vec![0; 64 << 20], 9);
        let twice = miniz_oxide::deflate::compress_to_vec_zlib(&bomb, 9);
        let (mut decoder, mut out) = (Decoder::new(), Vec::new());
        decoder.decode(&twice, true, &mut out);
        assert!(out.len() <= bomb.len());
        assert!(!decoder.broken);
    }
}
