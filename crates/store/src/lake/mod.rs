//! The lake: every event, in memory at once and in a Delta table soon after.
//!
//! ```text
//! ingest(batch) → active segment ──seal()──▶ sealed segment N ──commit(N)──▶ table version with txn(writer, N)
//!                       │                          │                             │
//!                       └──────────── a search pins all three under one lock ────┘
//! ```
//!
//! A search reads the table at one version together with the segments whose flush is above that version's `txn`
//! (D7). The commit's version and the removal of its segment become visible in the same instant, so an event is
//! seen once at every moment. The caller fixes what a flush holds (`seal` names its batches), writes its claims,
//! and commits; after a crash it asks [`Lake::committed_flush`] and settles the open claims (D2). A commit that is
//! repeated is a no-op if the table has that number.
//!
//! Nothing here reads a clock: time comes with the batches and in arguments (file names alone use UUIDv7).

mod copy;
mod counts;
mod engine;
mod error;
mod footers;
mod groups;
mod ingest;
mod keys;
pub(crate) mod layout;
mod needles;
mod place;
pub(crate) mod rows;
mod search;
mod segment;
mod slices;
mod sql;
mod table;
mod upkeep;
mod view;

#[cfg(test)]
mod flush_tests;
#[cfg(test)]
mod measure_tests;
#[cfg(test)]
mod page_tests;
#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod search_tests;

use std::path::PathBuf;
use std::time::Duration;

use sakimori_model::id::EventId;
use sakimori_model::{Event, Timestamp};
use sakimori_wire::batch::BatchHeader;

pub use self::copy::{TableCopy, TableFile, TableWriter};
pub use self::counts::{Extent, StreamCount};
pub use self::error::LakeError;
pub use self::groups::{Bucket, Histogram, MOST_BUCKETS, MOST_VALUES, Values, width_for};
pub use self::ingest::Lake;
pub use self::layout::is_list;
pub use self::place::BucketOptions;
pub use self::rows::{placed, stamp};
pub use self::search::{Ask, Found, Interval, Order};
pub use self::sql::Table;
pub use self::upkeep::Compacted;

/// How a lake is kept.
#[derive(Clone, Debug)]
pub struct LakeOptions {
    /// Directory of the table; with a bucket, of what queries spill.
    pub dir: PathBuf,
    /// The bucket that holds the table instead.
    pub bucket: Option<BucketOptions>,
    /// Id of this writer, stable over restarts: it numbers its flushes (D2).
    pub writer: String,
    /// A segment of this size is due for a flush, in bytes.
    pub flush_bytes: usize,
    /// A segment of this age is due for a flush, in seconds.
    pub flush_seconds: i64,
    /// Ingest is refused while this much waits in memory, in bytes.
    pub max_memory: usize,
    /// Threads of the query engine.
    pub threads: usize,
    /// Memory of all queries together, in bytes.
    pub query_memory: usize,
    /// Disk that queries may spill to, in bytes.
    pub max_spill_bytes: u64,
    /// A query is stopped after this time.
    pub query_timeout: Duration,
    /// Rows that a search looks through first; what is not found there is looked for in ever more.
    pub slice_rows: u64,
    /// Most rows of a result.
    pub max_rows: usize,
    /// Most bytes of a result, in memory.
    pub max_result_bytes: usize,
}

impl LakeOptions {
    /// The defaults: flush at 128 MiB or 60 s (D7), 512 MiB for queries, a minute each.
    pub fn new(dir: impl Into<PathBuf>, writer: impl Into<String>) -> Self {
        Self {
            dir: dir.into(),
            bucket: None,
            writer: writer.into(),
            flush_bytes: 128 << 20,
            flush_seconds: 60,
            max_memory: 512 << 20,
            threads: 2,
            query_memory: 512 << 20,
            max_spill_bytes: 4 << 30,
            query_timeout: Duration::from_secs(60),
            slice_rows: slices::FIRST,
            max_rows: 10_000,
            max_result_bytes: 128 << 20,
        }
    }
}

/// A batch as the manager received it.
#[derive(Clone, Debug)]
pub struct StampedBatch {
    /// From the authenticated sender, never from content (D20).
    pub tenant: String,
    /// Who sent it and where it stands.
    pub header: BatchHeader,
    /// Its events, in their order.
    pub events: Vec<Event>,
    /// When it arrived.
    pub arrival: Timestamp,
    /// Number of arrival of its first event; the next ones follow it.
    pub first_sequence: u64,
}

/// One event that a search found.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// Its id.
    pub id: EventId,
    /// What it is sorted by: see `layout`.
    pub time: Timestamp,
    /// When its batch arrived.
    pub received: Timestamp,
    /// Its number of arrival.
    pub arrival: u64,
    /// The document, with `event.id` and the other computed fields.
    pub event: Event,
}

/// What a flush holds: fixed when it is sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlushSet {
    /// Its number.
    pub number: u64,
    /// Ids of its batches.
    pub batches: Vec<String>,
    /// Events in them.
    pub events: u64,
}

/// How a commit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// The table has it now.
    Now {
        /// Version of the table.
        version: u64,
    },
    /// The table had this flush already; nothing was written.
    Already,
}

/// What waits in memory and what the disk has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LakeStatus {
    /// Events not yet in the table.
    pub waiting_events: u64,
    /// Their bytes in memory.
    pub waiting_bytes: usize,
    /// Segments sealed but not committed.
    pub sealed: usize,
    /// Version of the table.
    pub version: u64,
    /// Last flush of this writer that is in the table.
    pub committed: u64,
    /// Free bytes of the disk, for those without privilege.
    pub disk_free: u64,
    /// Size of the disk in bytes.
    pub disk_size: u64,
}

/// Work for a thread that may wait for a disk.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LakeError> + Send + 'static,
) -> Result<T, LakeError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| LakeError::Internal(error.to_string()))?
}
