//! One segment: its file, what is known about it, and where in it a record lies.

use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::record::{HEADER, Header};
use crate::{Result, io};

/// One index entry at least this many bytes after the last: 16 bytes of memory for each.
const INDEX_STEP: u64 = 128 << 10;

/// A segment of an open journal.
#[derive(Debug)]
pub(crate) struct Segment {
    pub path: PathBuf,
    pub file: Arc<File>,
    pub salt: u32,
    /// Sequence of its first record.
    pub first: u64,
    /// Sequence after its last record.
    pub end: u64,
    /// Bytes of header and records, in the file or still in the buffer.
    pub bytes: u64,
    /// Some of its records: sequence and offset, both growing.
    index: Vec<(u64, u64)>,
}

impl Segment {
    /// Makes an empty segment on disk: synced under another name, then renamed, then the directory synced.
    pub fn create(dir: &Path, first: u64) -> Result<Self> {
        let path = dir.join(file_name(first));
        let draft = path.with_extension("new");
        let salt = salt();
        let file =
            io("create", &draft, File::options().read(true).write(true).create(true).truncate(true).open(&draft))?;
        io("write", &draft, file.write_all_at(&Header { salt, first }.encode(), 0))?;
        io("sync", &draft, file.sync_all())?;
        io("rename", &draft, std::fs::rename(&draft, &path))?;
        sync_dir(dir)?;
        Ok(Self::known(path, file, salt, first))
    }

    /// A segment whose records are still to be [`Segment::add`]ed.
    pub fn known(path: PathBuf, file: File, salt: u32, first: u64) -> Self {
        let bytes = HEADER as u64;
        Self { path, file: Arc::new(file), salt, first, end: first, bytes, index: Vec::new() }
    }

    /// Notes a record of this length at the end.
    pub fn add(&mut self, length: u64) {
        if self.index.last().is_none_or(|(_, at)| self.bytes - at >= INDEX_STEP) {
            self.index.push((self.end, self.bytes));
        }
        self.end += 1;
        self.bytes += length;
    }

    /// The nearest known place at or before a record: sequence and offset.
    pub fn near(&self, sequence: u64) -> (u64, u64) {
        let after = self.index.partition_point(|(known, _)| *known <= sequence);
        after.checked_sub(1).and_then(|at| self.index.get(at)).copied().unwrap_or((self.first, HEADER as u64))
    }
}

/// Makes names in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    io("sync directory", dir, File::open(dir).and_then(|dir| dir.sync_all()))
}

/// `00000000000000000001.seg`
pub(crate) fn file_name(first: u64) -> String {
    format!("{first:020}.seg")
}

/// The first sequence that a file's name says, where it is a segment's name.
pub(crate) fn first_of_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

/// Unknown to those who can only write records: std seeds each hasher's keys from the system's randomness.
fn salt() -> u32 {
    std::hash::RandomState::new().build_hasher().finish() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_sequence_and_come_back() {
        assert_eq!(file_name(1), "00000000000000000001.seg");
        assert!(file_name(9) < file_name(10));
        assert_eq!(first_of_name(&file_name(u64::MAX)), Some(u64::MAX));
        for other in ["1.seg", "0000000000000000000x.seg", "00000000000000000001.new", "ledger"] {
            assert_eq!(first_of_name(other), None, "{other}");
        }
    }

    #[test]
    fn the_index_points_at_or_before() {
        let dir = tempfile::tempdir().unwrap();
        let mut segment = Segment::create(dir.path(), 5).unwrap();
        assert_eq!(segment.near(5), (5, 28));
        for _ in 0..1000 {
            segment.add(1000);
        }
        for sequence in 5..1005 {
            let (known, at) = segment.near(sequence);
            assert!(known <= sequence && sequence - known <= 132);
            assert_eq!(at, 28 + (known - 5) * 1000);
        }
    }
}
