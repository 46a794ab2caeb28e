//! Content codings of bodies: gzip, zlib and raw deflate, told apart by what the bytes are, not by what the header says.

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};

/// Most bytes that one compressed byte may become on average, beyond the first ones.
const MOST_RATIO: usize = 2048;
/// What may come out whatever the ratio.
const FREE: usize = 1 << 20;

/// One layer of decompression.
pub(super) struct Decoder {
    state: Box<InflateState>,
    /// Bytes that were not enough to tell the format.
    head: Vec<u8>,
    mode: Mode,
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
    Ended,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self {
            state: InflateState::new_boxed(DataFormat::Raw),
            head: Vec::new(),
            mode: Mode::Sniffing,
            taken: 0,
            given: 0,
            bomb: false,
            broken: false,
        }
    }

    /// Decodes what came; `last` says that nothing follows.
    pub(super) fn decode(&mut self, data: &[u8], last: bool, out: &mut Vec<u8>) {
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

    fn run(&mut self, data: &[u8], out: &mut Vec<u8>) {
        match self.mode {
            Mode::Through => out.extend_from_slice(data),
            Mode::Inflating { .. } => self.inflate(data, out),
            Mode::Sniffing | Mode::Ended => {}
        }
    }

    fn inflate(&mut self, mut data: &[u8], out: &mut Vec<u8>) {
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
                return;
            }
            match result.status {
                Ok(MZStatus::StreamEnd) => {
                    self.mode = Mode::Ended;
                    return;
                }
                Ok(_) if data.is_empty() && result.bytes_written < block.len() => return,
                Ok(_) => {
                    if result.bytes_consumed == 0 && result.bytes_written == 0 {
                        return;
                    }
                }
                Err(MZError::Buf) => return,
                Err(_) => {
                    self.broken = true;
                    self.mode = Mode::Ended;
                    return;
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
        for bytes in [raw, zlib, gzip] {
            assert_eq!(decode(&[&bytes]), b"hello hello hello");
            let (one, two) = bytes.split_at(1);
            assert_eq!(decode(&[one, two]), b"hello hello hello");
        }
        assert_eq!(decode(&[b"plain text"]), b"plain text");
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
