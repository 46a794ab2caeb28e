//! What is known to be clean: files by identity, as they were when they were judged.
//!
//! An entry holds while the file's size and times stay, and is dropped when anybody opens the file to write: such an
//! open passes by the keeper, and [`has_writer`](sakimori_sys::fanotify::has_writer) sees it however quietly it writes
//! afterwards. Bounded by two halves: when the young one is full, the old one goes.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;

/// Entries of one half.
const HALF: usize = 100_000;

/// Which file: device and inode.
pub type Identity = (u64, u64);

/// A file as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Which.
    pub identity: Identity,
    /// Size in bytes.
    pub size: i64,
    /// Is it a regular file?
    pub regular: bool,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Reads it from a descriptor.
    pub fn of(file: &impl AsFd) -> io::Result<Self> {
        let stat = rustix::fs::fstat(file)?;
        #[allow(clippy::useless_conversion, clippy::unnecessary_fallible_conversions)] // differs between platforms
        let nanoseconds = |value| i64::try_from(value).unwrap_or(0);
        Ok(Self {
            identity: (stat.st_dev, stat.st_ino),
            size: stat.st_size,
            regular: rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile,
            modified: (stat.st_mtime, nanoseconds(stat.st_mtime_nsec)),
            changed: (stat.st_ctime, nanoseconds(stat.st_ctime_nsec)),
        })
    }
}

/// The cache.
#[derive(Debug, Default)]
pub struct Cache {
    young: HashMap<Identity, Stamp>,
    old: HashMap<Identity, Stamp>,
}

impl Cache {
    /// Is it known, as it is now?
    pub fn knows(&mut self, stamp: &Stamp) -> bool {
        if self.young.get(&stamp.identity) == Some(stamp) {
            return true;
        }
        let known = self.old.get(&stamp.identity) == Some(stamp);
        if known {
            self.remember(*stamp);
        }
        known
    }

    /// It is clean, as it is now.
    pub fn remember(&mut self, stamp: Stamp) {
        if self.young.len() >= HALF {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(stamp.identity, stamp);
    }

    /// Nothing is known of it any more.
    pub fn drop_file(&mut self, identity: &Identity) {
        self.young.remove(identity);
        self.old.remove(identity);
    }

    /// Nothing is known of anything.
    pub fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(inode: u64, size: i64) -> Stamp {
        Stamp { identity: (1, inode), size, regular: true, modified: (1, 2), changed: (3, 4) }
    }

    #[test]
    fn an_entry_holds_while_the_file_stays_as_it_is() {
        let mut cache = Cache::default();
        cache.remember(stamp(1, 10));
        assert!(cache.knows(&stamp(1, 10)) && !cache.knows(&stamp(1, 11)) && !cache.knows(&stamp(2, 10)));
        assert!(!cache.knows(&Stamp { changed: (3, 5), ..stamp(1, 10) }));
        cache.drop_file(&(1, 1));
        assert!(!cache.knows(&stamp(1, 10)));
    }

    #[test]
    fn what_is_used_stays_and_the_rest_is_bounded() {
        let mut cache = Cache::default();
        for inode in 0..(5 * HALF as u64) {
            cache.remember(stamp(inode, 1));
            assert!(cache.knows(&stamp(0, 1)));
        }
        assert!(cache.young.len() + cache.old.len() <= 2 * HALF);
        cache.clear();
        assert!(!cache.knows(&stamp(0, 1)));
    }
}
