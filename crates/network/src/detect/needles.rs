//! Finds which of many short patterns are in some bytes, whatever their case: what stands before every rule.
//!
//! Four bytes of the data at a time are looked at, at every fourth place where no pattern is shorter than seven bytes (at
//! every one where one has only four). Of each pattern as many windows of four bytes, one after the other, are known as
//! places are left out, so that one of them falls on a place that is looked at, wherever the pattern begins; they are
//! those that the fewest other patterns have. A table, small enough for the nearest caches, says of four bytes whether they
//! may be such a window: one multiplication and one look, and nearly always "no". Where it says "may be", a
//! second table by another multiplication says so again, then the windows of that value are looked up and their patterns
//! compared. Patterns of two and three bytes have a table of pairs, those of one byte are looked for one by one.
//!
//! Eight bytes are loaded at once and give all their windows, whose looks are asked about together: what may be a window is
//! rare, and a processor that guesses wrong at each of them would take longer for that than for the looks.
//!
//! Bytes are folded by setting the bit that tells a letter's case; that makes some other bytes alike as well, which the
//! comparison tells apart.

use std::collections::HashMap;

use ahash::RandomState;

use super::table::{Look, Table};

/// Bits of the second table: at least, at most, and for each window.
const LEAST_BITS: u32 = 12;
const MOST_BITS: u32 = 19;
const SPARSE: usize = 16;
/// 2³² by the golden ratio: spreads what differs in few bits (Knuth, The Art of Computer Programming, 6.4).
const SPREAD: u32 = 0x9e37_79b1;
/// The same by another odd number: what agrees by the one differs by the other.
const SPREAD_AGAIN: u32 = 0x85eb_ca6b;
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
    longest: usize,
    may_be: Table,
    /// The second table.
    is_likely: Vec<u64>,
    /// How far a hash is shifted to be the number of one of its bits.
    shift: u32,
    /// Places in `heads`, by the folded window.
    windows: HashMap<u32, (u32, u32), RandomState>,
    heads: Vec<Head>,
    /// Patterns of two and three bytes by their folded pair, sorted; empty where there are none.
    pairs: Vec<(u16, Head)>,
    pair_bits: Option<Box<[u64; 1 << 10]>>,
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
        // Two or four go into eight bytes.
        let stride = if stride == 3 { 2 } else { stride };
        let windows = long.count() * stride;
        let bits = (windows * SPARSE).next_power_of_two().ilog2().clamp(LEAST_BITS, MOST_BITS);
        let mut needles = Self {
            stride,
            longest: patterns.iter().map(Vec::len).max().unwrap_or(0),
            may_be: Table::new(windows),
            is_likely: vec![0; 1 << (bits - 6)],
            shift: 32 - bits,
            windows: HashMap::default(),
            heads: Vec::with_capacity(windows),
            pairs: Vec::new(),
            pair_bits: None,
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
            self.may_be.add(window.wrapping_mul(SPREAD));
            let bit = window.wrapping_mul(SPREAD_AGAIN) >> self.shift;
            if let Some(word) = self.is_likely.get_mut((bit >> 6) as usize) {
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
                    self.pairs.push((pair, (small(number), at)));
                }
            }
        }
        self.pairs.sort_unstable();
        for (pair, _) in &self.pairs {
            let bits = self.pair_bits.get_or_insert_with(|| Box::new([0; 1 << 10]));
            if let Some(word) = bits.get_mut(usize::from(pair >> 6)) {
                *word |= 1 << (pair & 63);
            }
        }
    }

    /// Bytes of the longest pattern.
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }

    /// Tells of each pattern that is in the bytes, of some more than once.
    pub(crate) fn search(&self, data: &[u8], found: &mut impl FnMut(usize)) {
        if !self.heads.is_empty() {
            // Each table and stride of its own code: they are known there, and the loop is short.
            match &self.may_be {
                Table::Few(table) => self.search_in(table.as_ref(), data, found),
                Table::Some(table) => self.search_in(table.as_ref(), data, found),
                Table::Many(table) => self.search_in(table.as_ref(), data, found),
            }
        }
        if let Some(bits) = &self.pair_bits {
            self.search_pairs(bits, data, found);
        }
        for (byte, number) in &self.singles {
            if memchr::memchr2(*byte, byte.to_ascii_uppercase(), data).is_some() {
                found(*number as usize);
            }
        }
    }

    fn search_in(&self, table: &impl Look, data: &[u8], found: &mut impl FnMut(usize)) {
        match self.stride {
            1 => self.search_by::<1>(table, data, found),
            2 => self.search_by::<2>(table, data, found),
            _ => self.search_by::<4>(table, data, found),
        }
    }

    fn search_by<const STRIDE: usize>(&self, table: &impl Look, data: &[u8], found: &mut impl FnMut(usize)) {
        let may_be = |window: u32| table.look(window.wrapping_mul(SPREAD));
        // Runs of one byte are common, and would be looked up at each place.
        let mut nothing = None;
        let mut look = |at: usize, window: u32| {
            if nothing != Some(window) && !self.at_window(data, at, window, found) {
                nothing = Some(window);
            }
        };
        // Eight bytes have five windows, of which those at whole strides are looked at.
        let together = STRIDE * (4 / STRIDE + 1).min(4);
        let mut next = 0;
        for (at, eight) in data.windows(8).enumerate().step_by(together) {
            let Some(eight) = eight.first_chunk::<8>() else { continue };
            let eight = u64::from_le_bytes(*eight) | u64::from(FOLD) << 32 | u64::from(FOLD);
            let mut some = false;
            for place in (0..together.min(5)).step_by(STRIDE) {
                some |= may_be((eight >> (8 * place)) as u32);
            }
            if some {
                for place in (0..together.min(5)).step_by(STRIDE) {
                    let window = (eight >> (8 * place)) as u32;
                    if may_be(window) {
                        look(at + place, window);
                    }
                }
            }
            next = at + together;
        }
        let rest = data.get(next..).unwrap_or_default();
        for (at, four) in rest.windows(WINDOW).enumerate().step_by(STRIDE) {
            let Some(four) = four.first_chunk::<WINDOW>() else { continue };
            let window = u32::from_le_bytes(*four) | FOLD;
            if may_be(window) {
                look(next + at, window);
            }
        }
    }

    fn search_pairs(&self, bits: &[u64; 1 << 10], data: &[u8], found: &mut impl FnMut(usize)) {
        let may_be = |pair: u16| bits.get(usize::from(pair >> 6)).map_or(0, |word| (word >> (pair & 63)) & 1);
        let mut look = |at: usize, pair: u16| {
            let from = self.pairs.partition_point(|known| known.0 < pair);
            for (_, head) in self.pairs.iter().skip(from).take_while(|known| known.0 == pair) {
                self.compare(data, at, std::slice::from_ref(head), found);
            }
        };
        let mut next = 0;
        // Eight bytes have seven pairs.
        for (at, eight) in data.windows(8).enumerate().step_by(7) {
            let Some(eight) = eight.first_chunk::<8>() else { continue };
            let eight = u64::from_le_bytes(*eight) | u64::from(FOLD) << 32 | u64::from(FOLD);
            let some = (0..7).fold(0, |some, place| some | may_be((eight >> (8 * place)) as u16));
            for place in (0..7).filter(|_| some != 0) {
                let pair = (eight >> (8 * place)) as u16;
                if may_be(pair) != 0 {
                    look(at + place, pair);
                }
            }
            next = at + 7;
        }
        let rest = data.get(next..).unwrap_or_default();
        for (at, two) in rest.windows(2).enumerate() {
            let Some(two) = two.first_chunk::<2>() else { continue };
            let pair = u16::from_le_bytes(*two) | FOLD as u16;
            if may_be(pair) != 0 {
                look(next + at, pair);
            }
        }
    }

    /// False where no pattern has such a window.
    #[cold]
    fn at_window(&self, data: &[u8], at: usize, window: u32, found: &mut impl FnMut(usize)) -> bool {
        let bit = window.wrapping_mul(SPREAD_AGAIN) >> (self.shift & 31);
        if self.is_likely.get((bit >> 6) as usize).is_none_or(|word| (word >> (bit & 63)) & 1 == 0) {
            return false;
        }
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
