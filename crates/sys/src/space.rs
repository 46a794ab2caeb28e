//! Memory for the bytes of one file after another: used again without being cleared, grown without being copied, given
//! back where a large one made it large.

use std::io;
use std::ptr::NonNull;

/// Pages of this size are asked for; the kernel may give smaller ones.
const PAGE: usize = 2 << 20;

/// A private mapping without a file. What was written stays until it is written over or given back.
#[derive(Debug)]
pub struct Space {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping is this value's alone and belongs to no thread.
unsafe impl Send for Space {}

impl Space {
    /// Room for this many bytes at least. Memory is only taken as it is written to.
    ///
    /// # Errors
    /// The limits of this process.
    pub fn new(length: usize) -> io::Result<Self> {
        let length = rounded(length)?;
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping at a place of the kernel's choice overlaps nothing of ours.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, rights, flags, -1, 0) };
        Self::take(start, length)
    }

    fn take(start: *mut libc::c_void, length: usize) -> io::Result<Self> {
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // A request that it may refuse; a process that was told to have none of them keeps small pages.
        // SAFETY: the whole of a mapping that was just made.
        let _ = unsafe { libc::madvise(start, length, libc::MADV_HUGEPAGE) };
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("a mapping at no place"))?;
        Ok(Self { start, length })
    }

    /// All of it: what was written before, and zeros.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is readable and writable, anonymous (so initialised), and borrowed as this value is.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }

    /// Makes room for this many bytes at least; what was written stays.
    ///
    /// # Errors
    /// The limits of this process; it stays as it was.
    pub fn grow(&mut self, length: usize) -> io::Result<()> {
        let length = rounded(length)?;
        if length > self.length {
            // SAFETY: our own mapping, of which nothing is borrowed now; its old place is not used after success.
            let start = unsafe { libc::mremap(self.start.as_ptr().cast(), self.length, length, libc::MREMAP_MAYMOVE) };
            let grown = Self::take(start, length)?;
            // The old value would unmap what has moved.
            std::mem::forget(std::mem::replace(self, grown));
        }
        Ok(())
    }

    /// Gives back all but the first bytes: they read as zeros afterwards and take no memory.
    pub fn shrink(&mut self, keep: usize) {
        let keep = keep.div_ceil(PAGE).saturating_mul(PAGE);
        if keep < self.length {
            // SAFETY: a part of our own private mapping, whose bytes become zeros. A failure keeps the memory.
            let _ =
                unsafe { libc::madvise(self.start.as_ptr().add(keep).cast(), self.length - keep, libc::MADV_DONTNEED) };
        }
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        // SAFETY: ours, and nothing borrowed from it outlives it.
        let _ = unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

fn rounded(length: usize) -> io::Result<usize> {
    length.max(1).checked_next_multiple_of(PAGE).ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_stays_through_growth_and_is_zero_when_it_was_given_back() {
        let mut space = Space::new(10).unwrap();
        assert_eq!(space.bytes().len(), PAGE);
        assert!(space.bytes().iter().all(|byte| *byte == 0));
        space.bytes().fill(7);
        space.grow(5 * PAGE + 1).unwrap();
        assert_eq!(space.bytes().len(), 6 * PAGE);
        assert!(space.bytes()[..PAGE].iter().all(|byte| *byte == 7));
        assert!(space.bytes()[PAGE..].iter().all(|byte| *byte == 0));
        space.bytes().fill(8);
        space.shrink(PAGE + 1);
        assert!(space.bytes()[..2 * PAGE].iter().all(|byte| *byte == 8));
        assert!(space.bytes()[2 * PAGE..].iter().all(|byte| *byte == 0));
        space.shrink(usize::MAX);
        assert_eq!(space.bytes()[0], 8);
    }

    #[test]
    fn more_than_there_is_is_refused_and_changes_nothing() {
        assert!(Space::new(usize::MAX).is_err());
        let mut space = Space::new(1).unwrap();
        space.bytes()[0] = 5;
        assert!(space.grow(usize::MAX / 4).is_err());
        assert_eq!((space.bytes().len(), space.bytes()[0]), (PAGE, 5));
    }
}
