//! The memory segment: what arrived since the last flush, as record batches that a search reads at once.
//!
//! Batches of a tenant and day are kept as a list of record batches whose sizes fall, like the digits of a binary
//! number: two of about the same size become one, up to [`MERGED`] rows. So a thousand batches of one event are ten
//! record batches, and each row is copied a few times at most.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::error::ArrowError;
use sakimori_model::Timestamp;

use super::layout::layout;

/// Record batches of this many rows are not merged further.
const MERGED: usize = 8_192;
/// Nor those of this many bytes: a column's text may not pass 2 GiB.
const MERGED_BYTES: usize = 32 << 20;

/// What one flush will write.
#[derive(Clone, Debug, Default)]
pub(crate) struct Segment {
    /// Number of the flush that writes it.
    pub flush: u64,
    /// Record batches by tenant and day.
    pub rows: HashMap<String, BTreeMap<i32, Vec<RecordBatch>>>,
    /// Ids of its batches, in the order of their arrival.
    pub batches: Vec<String>,
    pub events: u64,
    pub bytes: usize,
    /// Arrival of its first batch.
    pub oldest: Option<Timestamp>,
}

impl Segment {
    pub fn new(flush: u64) -> Self {
        Self { flush, ..Self::default() }
    }

    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Adds a batch's record batches.
    pub fn add(
        &mut self,
        tenant: &str,
        batch: &str,
        arrival: Timestamp,
        days: BTreeMap<i32, RecordBatch>,
    ) -> Result<(), ArrowError> {
        let tenant_rows = self.rows.entry(tenant.to_owned()).or_default();
        for (day, rows) in days {
            self.events += rows.num_rows() as u64;
            let (freed, taken) = push_merged(tenant_rows.entry(day).or_default(), rows)?;
            self.bytes = (self.bytes + taken).saturating_sub(freed);
        }
        self.batches.push(batch.to_owned());
        self.oldest = Some(self.oldest.map_or(arrival, |oldest| oldest.min(arrival)));
        Ok(())
    }

    /// Record batches of a tenant.
    pub fn of(&self, tenant: &str) -> impl Iterator<Item = &RecordBatch> {
        self.rows.get(tenant).into_iter().flat_map(BTreeMap::values).flatten()
    }
}

/// Returns the bytes that went and those that came.
fn push_merged(list: &mut Vec<RecordBatch>, mut rows: RecordBatch) -> Result<(usize, usize), ArrowError> {
    let mut freed = 0;
    while let Some(last) = list.last() {
        let together = last.num_rows() + rows.num_rows();
        let bytes = || last.get_array_memory_size() + rows.get_array_memory_size();
        if last.num_rows() > rows.num_rows() * 2 || together > MERGED || bytes() > MERGED_BYTES {
            break;
        }
        rows = concat_batches(&Arc::clone(&layout().schema), [last, &rows])?;
        freed += list.pop().map_or(0, |last| last.get_array_memory_size());
    }
    let taken = rows.get_array_memory_size();
    list.push(rows);
    Ok((freed, taken))
}
