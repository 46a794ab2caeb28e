//! The first table of the search for patterns: whether four bytes may be a window that is looked for, by their hash.

/// Places for each window, where a place is a byte.
const SPARSE_BYTES: usize = 64;

/// The first table, by the upper bits of a hash. Few windows have a byte each, which is one look less than a bit.
#[derive(Debug)]
pub(super) enum Table {
    Few(Box<[u8; 1 << 12]>),
    Some(Box<[u8; 1 << 14]>),
    Many(Box<[u64; 1 << 13]>),
}

/// One of its forms. The sizes are known to the compiler, so that no look is checked.
pub(super) trait Look {
    /// Whether a window of this hash may be one that is looked for.
    fn look(&self, hash: u32) -> bool;
}

impl Look for [u8; 1 << 12] {
    fn look(&self, hash: u32) -> bool {
        self.get((hash >> 20) as usize).is_some_and(|there| *there != 0)
    }
}

impl Look for [u8; 1 << 14] {
    fn look(&self, hash: u32) -> bool {
        self.get((hash >> 18) as usize).is_some_and(|there| *there != 0)
    }
}

impl Look for [u64; 1 << 13] {
    fn look(&self, hash: u32) -> bool {
        self.get((hash >> 19) as usize).is_some_and(|word| (word >> ((hash >> 13) & 63)) & 1 != 0)
    }
}

impl Table {
    pub(super) fn new(windows: usize) -> Self {
        match windows * SPARSE_BYTES {
            ..=0x1000 => Self::Few(Box::new([0; 1 << 12])),
            0x1001..=0x4000 => Self::Some(Box::new([0; 1 << 14])),
            _ => Self::Many(Box::new([0; 1 << 13])),
        }
    }

    pub(super) fn add(&mut self, hash: u32) {
        match self {
            Self::Few(table) => table.get_mut((hash >> 20) as usize).into_iter().for_each(|there| *there = 1),
            Self::Some(table) => table.get_mut((hash >> 18) as usize).into_iter().for_each(|there| *there = 1),
            Self::Many(table) => {
                table.get_mut((hash >> 19) as usize).into_iter().for_each(|word| *word |= 1 << ((hash >> 13) & 63));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_there_and_little_else() {
        for windows in [10_usize, 200, 5_000] {
            let mut table = Table::new(windows);
            // Spread over all hashes, as the multiplication does.
            let hash = |number: usize| (number as u32).wrapping_mul(0x9e37_79b1);
            (0..windows).for_each(|number| table.add(hash(number)));
            let there = |number: usize| match &table {
                Table::Few(table) => table.look(hash(number)),
                Table::Some(table) => table.look(hash(number)),
                Table::Many(table) => table.look(hash(number)),
            };
            assert!((0..windows).all(there));
            let wrong = (windows..windows + 100_000).filter(|number| there(*number)).count();
            assert!(wrong < 5_000, "{wrong} of 100,000 with {windows}");
        }
    }
}
