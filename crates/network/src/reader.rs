//! A cursor over bytes that an enemy wrote: every read is checked and none of them copies.

/// Reads big-endian numbers and slices from the front; `None` where the bytes do not suffice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn len(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.rest.split_at_checked(count)?;
        self.rest = tail;
        Some(head)
    }

    pub(crate) fn skip(&mut self, count: usize) -> Option<()> {
        self.take(count).map(|_| ())
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        Some(number(self.take(2)?) as u16)
    }

    pub(crate) fn u24(&mut self) -> Option<u32> {
        Some(number(self.take(3)?) as u32)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        Some(number(self.take(4)?) as u32)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        Some(number(self.take(8)?))
    }

    /// A slice behind its own length of one byte.
    pub(crate) fn counted8(&mut self) -> Option<&'a [u8]> {
        let count = self.u8()?;
        self.take(count.into())
    }

    /// A slice behind its own length of two bytes.
    pub(crate) fn counted16(&mut self) -> Option<&'a [u8]> {
        let count = self.u16()?;
        self.take(count.into())
    }

    /// A slice behind its own length of three bytes.
    pub(crate) fn counted24(&mut self) -> Option<&'a [u8]> {
        let count = self.u24()?;
        self.take(count as usize)
    }
}

/// Big-endian number of up to eight bytes.
pub(crate) fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}

/// The two bytes at a place, big-endian.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at.checked_add(2)?).map(|two| number(two) as u16)
}

/// The four bytes at a place, big-endian.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?).map(|four| number(four) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_to_the_end_and_not_beyond() {
        let mut reader = Reader::new(&[1, 0, 2, 0, 1, 9, 8]);
        assert_eq!((reader.u8(), reader.u16()), (Some(1), Some(2)));
        assert_eq!(reader.counted16(), Some([9].as_slice()));
        assert_eq!((reader.u16(), reader.len(), reader.u8()), (None, 1, Some(8)));
        assert_eq!((reader.u8(), reader.is_empty()), (None, true));
    }
}
