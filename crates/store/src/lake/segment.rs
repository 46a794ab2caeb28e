//! The memory segment: what arrived since the last flush, as record batches that a search reads at once.
//!
//! Batches of a tenant and day are kept as a list of record batches whose sizes fall, like the digits of a binary
//! number: two of about the same size become one, up to [`MERGED`] rows. So a thousand batches of one event are ten
//! record batches, and each row is copied a few times at most.
//!
//! A record batch has as many columns as the catalog, so making one for two events costs as much as for two
//! hundred. Small batches are therefore gathered as they came and become columns together: when [`GATHER`] events
//! are there, or when a search or a flush asks for them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::error::ArrowError;
use sakimori_model::Timestamp;

use super::layout::layout;
use super::{StampedBatch, rows};

/// Record batches of this many rows are not merged further.
const MERGED: usize = 8_192;
/// Nor those of this many bytes: a column's text may not pass 2 GiB.
const MERGED_BYTES: usize = 32 << 20;

/// A batch of so many events becomes columns at once, and so do gathered ones of one tenant.
pub(crate) const GATHER: usize = 512;

/// So does one of so many bytes.
const LARGE: usize = 1 << 20;

/// What one flush will write.
#[derive(Clone, Debug, Default)]
pub(crate) struct Segment {
    /// Number of the flush that writes it.
    pub flush: u64,
    /// Record batches by tenant and day.
    pub rows: HashMap<String, BTreeMap<i32, Vec<RecordBatch>>>,
    /// Small batches by tenant, with the number of their events, not yet columns.
    gathered: HashMap<String, (Vec<Arc<StampedBatch>>, usize)>,
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

    /// Adds a batch; `columns` are its events where they were made already.
    pub fn add(
        &mut self,
        batch: &Arc<StampedBatch>,
        columns: Option<BTreeMap<i32, RecordBatch>>,
    ) -> Result<(), ArrowError> {
        match columns {
            Some(days) => self.push(&batch.tenant, days)?,
            None => {
                let (list, events) = self.gathered.entry(batch.tenant.clone()).or_default();
                list.push(Arc::clone(batch));
                *events += batch.events.len();
                self.bytes += weight(batch);
                if *events >= GATHER || weight(batch) > LARGE {
                    self.settle(&batch.tenant)?;
                }
            }
        }
        self.events += batch.events.len() as u64;
        self.batches.push(batch.header.id.clone());
        self.oldest = Some(self.oldest.map_or(batch.arrival, |oldest| oldest.min(batch.arrival)));
        Ok(())
    }

    /// Makes columns of what was gathered for a tenant.
    pub fn settle(&mut self, tenant: &str) -> Result<(), ArrowError> {
        let Some((list, _)) = self.gathered.get(tenant) else { return Ok(()) };
        let days = rows::encode(list)?;
        let freed: usize = list.iter().map(|batch| weight(batch)).sum();
        self.gathered.remove(tenant);
        self.bytes = self.bytes.saturating_sub(freed);
        self.push(tenant, days)
    }

    /// The same for all tenants.
    pub fn settle_all(&mut self) -> Result<(), ArrowError> {
        let tenants: Vec<String> = self.gathered.keys().cloned().collect();
        tenants.iter().try_for_each(|tenant| self.settle(tenant))
    }

    fn push(&mut self, tenant: &str, days: BTreeMap<i32, RecordBatch>) -> Result<(), ArrowError> {
        let of_tenant = self.rows.entry(tenant.to_owned()).or_default();
        for (day, rows) in days {
            let (freed, taken) = push_merged(of_tenant.entry(day).or_default(), rows)?;
            self.bytes = (self.bytes + taken).saturating_sub(freed);
        }
        Ok(())
    }

    /// Record batches of a tenant.
    pub fn of(&self, tenant: &str) -> impl Iterator<Item = &RecordBatch> {
        self.rows.get(tenant).into_iter().flat_map(BTreeMap::values).flatten()
    }
}

fn weight(batch: &StampedBatch) -> usize {
    batch.header.id.len() + 256 + batch.events.iter().map(|event| event.weight() + 64).sum::<usize>()
}

/// Returns the bytes that went and those that came.
fn push_merged(list: &mut Vec<RecordBatch>, mut rows: RecordBatch) -> Result<(usize, usize), ArrowError> {
    let mut freed = 0;
    // A batch is refused as a whole or taken as a whole: nothing is popped before its successor is made.
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
