//! Finds which of many short patterns are in some bytes, whatever their case: what stands before every rule.
//!
//! Four bytes of the data at a time are looked at, at every fourth place where no pattern is shorter than seven bytes (at
//! every one where one has only four). Of each pattern as many windows of four bytes, one after the other, are known as
//! places are left out, so that one of them falls on a place that is looked at, wherever the pattern begins; they are
//! those that the fewest other patterns have. A table of bits, small enough for the nearest caches, says of four bytes
//! whether they may be such a window: one multiplication and one look, and nearly always "no". Where it says "may be", the
//! windows of that value are looked up and their patterns compared. Patterns of two and three bytes have a table of
//! pairs, those of one byte are looked for one by one.
//!
//! Bytes are folded by setting the bit that tells a letter's case; that makes some other bytes alike as well, which the
//! comparison tells apart.

use std::collections::HashMap;

use ahash::RandomState;

/// Bits of the table: at least, at most, and for each window.
const LEAST_BITS: u32 = 12;
const MOST_BITS: u32 = 19;
const SPARSE: usize = 16;
/// 2³² by the golden ratio: spreads what differs in few bits (Knuth, The Art of Computer Programming, 6.4).
const SPREAD: u32 = 0x9e37_79b1;
const FOLD: u32 = 0x2020_2020;
const WINDOW: usize = 4;
/// Most places of which one is looked at.
const MOST_STRIDE: usize = 4;

/// A pattern, and where in it a window begins.
type Head = (u32, u32);

/// Patterns, ready to be looked for.
#[derive(Debug)]
pub(crate) struct Needles {
    /// In small letters.
    patterns: Vec<Vec<u8>>,
    stride: usize,
    may_be: Vec<u64>,
    /// How far a hash is shifted to be the number of a bit.
    shift: u32,
    /// Places in `heads`, by the folded window.
    windows: HashMap<u32, (u32, u32), RandomState>,
    heads: Vec<Head>,
    /// Patterns of two and three bytes by their folded pair; empty where there are none.
    pairs: HashMap<u16, Vec<Head>, RandomState>,
    pair_bits: Vec<u64>,
    /// Patterns of one byte.
    singles: Vec<(u8, u32)>,
}

fn window_at(pattern: &[u8], at: usize) -> Option<u32> {
    pattern.get(at..)?.first_chunk::<WINDOW>().map(|four| u32::from_le_bytes(*four) | FOLD)
}

fn pair_at(pattern: &[u8], at: usize) -> Option<u16> {
    pattern.get(at..)?.first_chunk::<2>().map(|two| u16::from_le_bytes(*two) | FOLD as u16)
}

fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl Needles {
    /// From patterns that are not empty, in small letters.
    pub(crate) fn new(patterns: Vec<Vec<u8>>) -> Self {
        let long = patterns.iter().map(Vec::len).filter(|length| *length >= WINDOW);
        let stride = long.clone().min().map_or(1, |shortest| (shortest - WINDOW + 1).min(MOST_STRIDE));
        let windows = long.count() * stride;
        let bits = (windows * SPARSE).next_power_of_two().ilog2().clamp(LEAST_BITS, MOST_BITS);
        let mut needles = Self {
            stride,
            may_be: vec![0; 1 << (bits - 6)],
            shift: 32 - bits,
            windows: HashMap::default(),
            heads: Vec::with_capacity(windows),
            pairs: HashMap::default(),
            pair_bits: Vec::new(),
            singles: Vec::new(),
            patterns,
        };
        needles.choose_windows();
        needles.choose_pairs();
        needles
    }

    fn choose_windows(&mut self) {
        // How many patterns have a window; one that many have is likely to be in the traffic as well.
        let mut common: HashMap<u32, u32, RandomState> = HashMap::default();
        for pattern in &self.patterns {
            for window in (0..pattern.len()).map_while(|at| window_at(pattern, at)) {
                *common.entry(window).or_default() += 1;
            }
        }
        let cost = |window: u32| (run(window), common.get(&window).copied().unwrap_or(0), plainness(window));
        let mut chosen: Vec<(u32, Head)> = Vec::new();
        for (number, pattern) in self.patterns.iter().enumerate().filter(|(_, pattern)| pattern.len() >= WINDOW) {
            let windows: Vec<u32> = (0..pattern.len()).map_while(|at| window_at(pattern, at)).collect();
            let best = windows
                .windows(self.stride)
                .enumerate()
                .min_by_key(|(_, some)| some.iter().map(|one| cost(*one)).max());
            let Some((from, some)) = best else { continue };
            chosen.extend((from..).zip(some).map(|(at, window)| (*window, (small(number), small(at)))));
        }
        chosen.sort_unstable();
        for (window, head) in chosen {
            let end = small(self.heads.len());
            self.windows.entry(window).or_insert((end, end)).1 = end + 1;
            self.heads.push(head);
            let bit = window.wrapping_mul(SPREAD) >> self.shift;
            if let Some(word) = self.may_be.get_mut((bit >> 6) as usize) {
                *word |= 1 << (bit & 63);
            }
        }
    }

    fn choose_pairs(&mut self) {
        for (number, pattern) in self.patterns.iter().enumerate() {
            if let [one] = pattern.as_slice() {
                self.singles.push((*one, small(number)));
            } else if pattern.len() < WINDOW {
                let pairs = (0..pattern.len()).filter_map(|at| Some((pair_at(pattern, at)?, small(at))));
                if let Some((pair, at)) = pairs.min_by_key(|(pair, _)| plainness((*pair).into())) {
                    self.pairs.entry(pair).or_default().push((small(number), at));
                }
            }
        }
        if !self.pairs.is_empty() {
            self.pair_bits = vec![0; 1 << 10];
            for pair in self.pairs.keys() {
                if let Some(word) = self.pair_bits.get_mut(usize::from(pair >> 6)) {
                    *word |= 1 << (pair & 63);
                }
            }
        }
    }

    /// Tells of each pattern that is in the bytes, of some more than once.
    pub(crate) fn search(&self, data: &[u8], found: &mut impl FnMut(usize)) {
        if !self.heads.is_empty() {
            // Each stride of its own code: it is known there, and the loop is short.
            match self.stride {
                1 => self.search_by::<1>(data, found),
                2 => self.search_by::<2>(data, found),
                3 => self.search_by::<3>(data, found),
                _ => self.search_by::<4>(data, found),
            }
        }
        if !self.pair_bits.is_empty() {
            for (at, two) in data.windows(2).enumerate() {
                let &[a, b] = two else { continue };
                let pair = u16::from_le_bytes([a, b]) | FOLD as u16;
                let word = self.pair_bits.get(usize::from(pair >> 6)).copied().unwrap_or(0);
                if (word >> (pair & 63)) & 1 != 0 {
                    let heads = self.pairs.get(&pair).map_or(&[][..], Vec::as_slice);
                    self.compare(data, at, heads, found);
                }
            }
        }
        for (byte, number) in &self.singles {
            if memchr::memchr2(*byte, byte.to_ascii_uppercase(), data).is_some() {
                found(*number as usize);
            }
        }
    }

    fn search_by<const STRIDE: usize>(&self, data: &[u8], found: &mut impl FnMut(usize)) {
        let (bits, shift) = (self.may_be.as_slice(), self.shift & 31);
        // Runs of one byte are common, and would be looked up at each place.
        let mut nothing = None;
        for (at, four) in data.windows(WINDOW).enumerate().step_by(STRIDE) {
            let &[a, b, c, d] = four else { continue };
            let window = u32::from_le_bytes([a, b, c, d]) | FOLD;
            let bit = window.wrapping_mul(SPREAD) >> shift;
            let may_be = bits.get((bit >> 6) as usize).is_some_and(|word| (word >> (bit & 63)) & 1 != 0);
            if may_be && nothing != Some(window) && !self.at_window(data, at, window, found) {
                nothing = Some(window);
            }
        }
    }

    /// False where no pattern has such a window.
    #[cold]
    fn at_window(&self, data: &[u8], at: usize, window: u32, found: &mut impl FnMut(usize)) -> bool {
        let Some((from, to)) = self.windows.get(&window) else { return false };
        let heads = self.heads.get(*from as usize..*to as usize).unwrap_or_default();
        self.compare(data, at, heads, found);
        true
    }

    fn compare(&self, data: &[u8], at: usize, heads: &[Head], found: &mut impl FnMut(usize)) {
        for (number, before) in heads {
            let Some(pattern) = self.patterns.get(*number as usize) else { continue };
            let Some(start) = at.checked_sub(*before as usize) else { continue };
            if data.get(start..start + pattern.len()).is_some_and(|bytes| bytes.eq_ignore_ascii_case(pattern)) {
                found(*number as usize);
            }
        }
    }
}

/// Whether four bytes are alike: the last choice, since in a run of them they are at every place.
fn run(window: u32) -> bool {
    window == window.rotate_left(8)
}

/// How plain the bytes of a window are: letters and blanks are in most texts, other signs in fewer.
fn plainness(window: u32) -> u32 {
    let weight = |byte: u8| match byte {
        b'a'..=b'z' | b' ' => 3,
        b'0'..=b'9' | b'/' | b'.' | b'-' | b'=' => 2,
        _ => 1,
    };
    window.to_le_bytes().into_iter().map(weight).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(patterns: &[Vec<u8>], data: &[u8]) -> Vec<usize> {
        let mut all = Vec::new();
        Needles::new(patterns.to_vec()).search(data, &mut |number| all.push(number));
        all.sort_unstable();
        all.dedup();
        all
    }

    #[test]
    fn whatever_its_case_and_length() {
        let patterns = ["/etc/passwd", "a", "ab", "xyz", "union", "nion"].map(|text| text.as_bytes().to_vec());
        assert_eq!(found(&patterns, b"cat /ETC/passwd"), [0, 1]);
        assert_eq!(found(&patterns, b"UNION aB xYz"), [1, 2, 3, 4, 5]);
        assert_eq!(found(&patterns, b""), Vec::<usize>::new());
        assert_eq!(found(&patterns, b"/etc\x0fpasswd"), [1], "folding makes these alike, the comparison does not");
    }

    proptest! {
        /// The same as looking for each by itself, on few letters, so that there are many matches and overlaps.
        #[test]
        fn as_looking_for_each(
            patterns in prop::collection::vec("[abA@`]{1,9}", 0..12),
            least in 1_usize..8,
            data in "[aAbB@`x]{0,60}",
        ) {
            let patterns: Vec<Vec<u8>> = patterns.iter().map(|text| text.to_ascii_lowercase().into_bytes()).collect();
            // Each stride has its turn.
            let patterns: Vec<Vec<u8>> = patterns.into_iter().filter(|pattern| pattern.len() >= least).collect();
            let small = data.to_ascii_lowercase().into_bytes();
            let expected: Vec<usize> = (0..patterns.len())
                .filter(|number| small.windows(patterns[*number].len()).any(|part| part == patterns[*number]))
                .collect();
            prop_assert_eq!(found(&patterns, data.as_bytes()), expected);
        }

        #[test]
        fn any_bytes(
            patterns in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..9), 0..40),
            data in prop::collection::vec(any::<u8>(), 0..400),
        ) {
            let patterns: Vec<Vec<u8>> = patterns.iter().map(|bytes| bytes.to_ascii_lowercase()).collect();
            let mut data = data;
            for pattern in patterns.iter().step_by(2) {
                data.extend(pattern);
            }
            let small = data.to_ascii_lowercase();
            let expected: Vec<usize> = (0..patterns.len())
                .filter(|number| small.windows(patterns[*number].len()).any(|part| part == patterns[*number]))
                .collect();
            prop_assert_eq!(found(&patterns, &data), expected);
        }
    }
}
