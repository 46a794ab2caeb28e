//! Append-only segment log: the agent's spool and ledger, the manager's journal (D4).
//!
//! A journal is a directory of segments named by the number of their first record,
//! `00000000000000000001.seg`. Integers are little-endian.
//!
//! ```text
//! segment = header record*
//! header  = magic "SAKIJRNL" | version u16 = 1 | zero u16 | salt u32 | first sequence u64 | crc u32
//! record  = length u32 | crc u32 | sequence u64 | behind u32 | flags u8 | payload (length bytes)
//! payload = the record's bytes, or with flag bit 0: size u32 | zstd frame of that size once decoded
//! ```
//!
//! - Sequences start at 1 and have no gap, within a segment and from one to the next.
//! - `crc` is CRC-32C (RFC 3720) over the salt and all the other bytes of the record. The salt is random for
//!   each segment, so a payload that an enemy wrote (a log line) cannot look like a record.
//! - `behind` is how many records before this one were not known to be durable when it was written. With
//!   it, recovery can tell a write that never happened from one that was damaged later.
//! - A segment is created under another name, written, synced, renamed, and its directory synced; the former
//!   segment is synced before. So only the last segment can have a torn tail.
//!
//! Opening reads every record. Damage that is not followed by a good record is a torn tail and is cut off
//! ([`Recovery`]). Damage that is followed by one stops with an error that names segment and offset, except
//! where the damaged bytes were never written (zeros) and no later record shows that they were durable: a
//! power failure may persist pages out of order.
//!
//! [`Journal::append`] fills a buffer; [`Journal::sync`] makes all that was appended durable, for several
//! threads with one `fdatasync`. Nothing here knows what the records mean.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic))]

mod journal;
mod reader;
mod record;
mod recover;
mod segment;

use std::path::PathBuf;

pub use journal::Journal;
pub use reader::Reader;

/// Largest record, in bytes, encoded or decoded.
pub const MAX_RECORD: usize = 64 << 20;

/// How a journal behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// A segment that has reached this many bytes is followed by a new one.
    pub segment_bytes: u64,
    /// Most bytes on disk; an append beyond it is refused with [`Error::Full`].
    pub max_bytes: u64,
    /// Compress records where it pays.
    pub compress: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, max_bytes: 1 << 30, compress: true }
    }
}

/// What opening found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Segments that were read.
    pub segments: usize,
    /// Good records.
    pub records: u64,
    /// Bytes of a torn tail that were cut off; 0 after a clean stop.
    pub torn_bytes: u64,
    /// Where the tail was cut: segment and offset.
    pub torn_at: Option<(PathBuf, u64)>,
}

/// Why a journal cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk said no.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What came back.
        source: std::io::Error,
    },
    /// Another process has it open.
    #[error("open journal {}: another process has it open; stop that one first", dir.display())]
    Busy {
        /// The journal.
        dir: PathBuf,
    },
    /// A journal is to be made where something is.
    #[error("make journal {}: the folder is not empty; name another or move what is there away", dir.display())]
    NotEmpty {
        /// The folder.
        dir: PathBuf,
    },
    /// A record in the middle is damaged.
    #[error("read journal segment {} at offset {offset}: {reason}; restore it from a copy or move it away", segment.display())]
    Damaged {
        /// The segment.
        segment: PathBuf,
        /// Where the damage begins, in bytes from its start.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// Records are missing between one and the next.
    #[error("read journal segment {} at offset {offset}: expected record {expected}, found {found}; a segment is missing or was replaced", segment.display())]
    Gap {
        /// The segment.
        segment: PathBuf,
        /// Where the later record lies.
        offset: u64,
        /// Sequence that should be there.
        expected: u64,
        /// Sequence that is there.
        found: u64,
    },
    /// `max_bytes` would be exceeded; the caller sheds, waits or trims.
    #[error(
        "append to journal: {bytes} bytes are in use and {max_bytes} are allowed; raise the limit or let the reader catch up"
    )]
    Full {
        /// In use.
        bytes: u64,
        /// Allowed.
        max_bytes: u64,
    },
    /// One record is larger than [`MAX_RECORD`].
    #[error("append to journal: a record of {0} bytes is larger than {MAX_RECORD}; split it")]
    TooLarge(usize),
    /// An earlier `fdatasync` failed, so what is durable is unknown.
    #[error("append to journal: an earlier sync failed, so what is on disk is unknown; reopen the journal")]
    Failed,
}

/// Shorthand.
pub type Result<T> = std::result::Result<T, Error>;

pub(crate) fn io<T>(doing: &'static str, path: &std::path::Path, result: std::io::Result<T>) -> Result<T> {
    result.map_err(|source| Error::Io { doing, path: path.to_owned(), source })
}
