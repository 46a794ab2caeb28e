//! Brotli (RFC 7932), as servers answer with it.

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, HuffmanCode, StandardAlloc};

type State = BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>;

/// One stream.
pub(super) struct Brotli {
    /// `None` once it is over or was none.
    state: Option<Box<State>>,
    /// What its window may take.
    window: usize,
    begun: bool,
}

/// What came of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    Going,
    /// The stream is over.
    Over,
    Broken,
}

impl Brotli {
    pub(super) fn new() -> Self {
        let state = State::new_strict(StandardAlloc::default(), StandardAlloc::default(), StandardAlloc::default());
        Self { state: Some(Box::new(state)), window: 0, begun: false }
    }

    /// Bytes that it keeps.
    pub(super) fn kept(&self) -> usize {
        if self.state.is_some() { self.window + size_of::<State>() + 1080 * size_of::<HuffmanCode>() } else { 0 }
    }

    /// Decodes what came, at most so many bytes.
    pub(super) fn decode(&mut self, data: &[u8], most: usize, out: &mut Vec<u8>) -> Came {
        let Some(state) = self.state.as_mut() else { return Came::Over };
        if let Some(first) = data.first().filter(|_| !self.begun) {
            (self.begun, self.window) = (true, 1 << window_bits(*first));
        }
        let mut block = [0u8; 8192];
        let (mut left, mut at, mut total, mut given) = (data.len(), 0, 0, 0);
        loop {
            let (mut room, mut wrote) = (block.len(), 0);
            let result =
                BrotliDecompressStream(&mut left, &mut at, data, &mut room, &mut wrote, &mut block, &mut total, state);
            out.extend_from_slice(block.get(..wrote).unwrap_or_default());
            given += wrote;
            let came = match result {
                BrotliResult::NeedsMoreOutput if given < most => continue,
                BrotliResult::NeedsMoreInput => return Came::Going,
                BrotliResult::ResultSuccess => Came::Over,
                BrotliResult::NeedsMoreOutput | BrotliResult::ResultFailure => Came::Broken,
            };
            self.state = None;
            return came;
        }
    }
}

/// The window's size in the first byte of a stream, as a power of two (RFC 7932, 9.1).
fn window_bits(first: u8) -> u32 {
    match (first & 1, first >> 1 & 7, first >> 4 & 7) {
        (0, ..) => 16,
        (_, 0, 0) => 17,
        (_, 0, high) => 8 + u32::from(high),
        (_, middle, _) => 17 + u32::from(middle),
    }
}
