//! Upkeep of the table: the small files of a day become one, days whose time is over go, and files that no version
//! names are deleted. Each step may be cut off anywhere and be done again.
//!
//! - **Compaction** writes a new file beside the old ones and commits one version that takes those out and the new
//!   one in, as a change of no data. The commit waits for its turn after flushes; the reading and writing does not.
//! - **Retention** goes by the partition's day. What goes is counted by stream, and the commit that removes the
//!   files carries the new totals as Delta transactions (`expired/<tenant>/<origin>/<stream>`), so that the books
//!   know at every version what time has taken.
//! - **Vacuum** deletes what was taken out an hour ago or longer (a search pins a version, and none lasts as long),
//!   and files of a flush or compaction that never came to its commit, after a day.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::{ArrayRef, Date32Array, RecordBatch, new_null_array};
use datafusion::arrow::compute::cast;
use datafusion::parquet::arrow::ProjectionMask;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use deltalake_core::DeltaTable;
use deltalake_core::kernel::transaction::{CommitBuilder, CommitProperties};
use deltalake_core::kernel::{Action, LogicalFileView, TombstoneView, Transaction};
use deltalake_core::protocol::DeltaOperation;
use futures::TryStreamExt as _;
use sakimori_model::Timestamp;

use super::layout::{DAY, ORIGIN, STREAM, TENANT, layout};
use super::place::Place;
use super::rows::text_at;
use super::{Lake, LakeError, blocking, table};

/// A file of fewer bytes is small.
const SMALL: i64 = 16 << 20;
/// Small files are joined up to so many bytes and rows.
const JOINED: i64 = 32 << 20;
const JOINED_ROWS: usize = 250_000;
/// So many small files of a day that goes on are worth joining; of a day that is over two are.
const WORTH: usize = 8;
/// Most files that one commit takes out.
const MOST: usize = 1_000;
/// Before this a search may still read what was taken out, in seconds.
const PINNED: i64 = 3_600;
/// Before this a file without a version may still come to its commit, in seconds.
const UNBORN: i64 = 86_400;
/// What transactions that count expired events begin with.
const EXPIRED: &str = "expired";

/// What one round of compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Small files that are no more.
    pub files: usize,
    /// What they became.
    pub into: usize,
}

/// Files of one day that become one.
struct Group {
    tenant: String,
    day: i32,
    files: Vec<LogicalFileView>,
}

impl Lake {
    /// Joins small files, day by day.
    ///
    /// # Errors
    /// Those of disk and table; what was joined before stays joined.
    pub async fn compact(&self, now: Timestamp) -> Result<Compacted, LakeError> {
        let lake = self.clone();
        self.inner.engine.finish(async move { lake.compact_here(now).await }).await
    }

    /// Takes out the days that are older than so many days, by tenant. Gives how many events went.
    ///
    /// # Errors
    /// Those of disk and table; what went before stays counted.
    pub async fn expire(
        &self,
        keep_days: impl Fn(&str) -> i64 + Send + 'static,
        now: Timestamp,
    ) -> Result<u64, LakeError> {
        let lake = self.clone();
        self.inner.engine.finish(async move { lake.expire_here(keep_days, now).await }).await
    }

    /// Deletes files that no search can read any more. Gives how many; none while a [`super::TableCopy`] is held.
    ///
    /// # Errors
    /// Those of disk and table.
    pub async fn vacuum(&self, now: Timestamp) -> Result<usize, LakeError> {
        let lake = self.clone();
        self.inner.engine.finish(async move { lake.vacuum_here(now).await }).await
    }

    /// Events of a stream that retention has taken.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub async fn expired(&self, tenant: &str, origin: &str, stream: &str) -> Result<u64, LakeError> {
        let (table, name) = (self.table(), transaction(tenant, origin, stream));
        self.inner.engine.finish(async move { table::committed(&table, &name).await }).await
    }

    async fn compact_here(&self, now: Timestamp) -> Result<Compacted, LakeError> {
        let mut done = Compacted::default();
        let today = i32::try_from(now.day()).unwrap_or(i32::MAX);
        for group in groups(&self.table(), today)? {
            let (place, count) = (&self.inner.place, group.files.len());
            let rows = read_all(place, &group).await?;
            let name = format!("{}-joined", self.inner.options.writer);
            let add = table::write_file(place, &name, &group.tenant, group.day, rows).await?;
            let add = deltalake_core::kernel::Add { data_change: false, ..add };
            let operation = DeltaOperation::Optimize { predicate: None, target_size: JOINED };
            let removed = group.files.iter().map(|file| Action::Remove(file.remove_action(false)));
            let actions = removed.chain([Action::Add(add)]).collect();
            if self.change(&group.files, actions, Vec::new(), operation).await? {
                done.files += count;
                done.into += 1;
            }
        }
        Ok(done)
    }

    async fn expire_here(&self, keep_days: impl Fn(&str) -> i64 + Send, now: Timestamp) -> Result<u64, LakeError> {
        let mut gone = 0;
        loop {
            let mut old: BTreeMap<String, Vec<LogicalFileView>> = BTreeMap::new();
            for file in files(&self.table())? {
                let Some((tenant, day)) = place(&file) else { continue };
                if i64::from(day) < now.day() - keep_days(&tenant).max(1) {
                    old.entry(tenant).or_default().push(file);
                }
            }
            let Some((tenant, mut old)) = old.into_iter().next() else { return Ok(gone) };
            old.truncate(MOST);
            let mut counts: BTreeMap<(String, String), u64> = BTreeMap::new();
            for file in &old {
                let bytes = self.inner.place.read(file.path().as_ref()).await?;
                counts = blocking(move || count_streams(bytes, counts)).await?;
            }
            let mut totals = Vec::new();
            for ((origin, stream), count) in &counts {
                let name = transaction(&tenant, origin, stream);
                let total = table::committed(&self.table(), &name).await?.saturating_add(*count);
                totals.push(Transaction::new(&name, i64::try_from(total).unwrap_or(i64::MAX)));
            }
            let actions = old.iter().map(|file| Action::Remove(file.remove_action(true))).collect();
            let operation = DeltaOperation::Delete { predicate: Some("older than retention".into()) };
            if !self.change(&old, actions, totals, operation).await? {
                return Ok(gone);
            }
            gone += counts.values().sum::<u64>();
        }
    }

    /// Commits, where all these files are still in the newest version; false where one is not.
    async fn change(
        &self,
        files: &[LogicalFileView],
        actions: Vec<Action>,
        transactions: Vec<Transaction>,
        operation: DeltaOperation,
    ) -> Result<bool, LakeError> {
        let inner = &self.inner;
        let _one = inner.committing.lock().await;
        let mut table = DeltaTable::clone(&self.table());
        table.update_state().await.map_err(LakeError::table("read"))?;
        let there: HashSet<String> = self::files(&table)?.iter().map(|file| file.path().into_owned()).collect();
        if !files.iter().all(|file| there.contains(file.path().as_ref())) {
            return Ok(false);
        }
        let state = table.snapshot().map_err(LakeError::table("read"))?;
        let properties = CommitProperties::default().with_application_transactions(transactions);
        let done = CommitBuilder::from(properties)
            .with_actions(actions)
            .build(Some(state), table.log_store(), operation)
            .await
            .map_err(LakeError::table("commit to"))?;
        table.state = Some(done.snapshot());
        inner.place.sync_log(&table).await?;
        let committed = table::committed(&table, &inner.options.writer).await?;
        self.replace(table, committed);
        Ok(true)
    }

    async fn vacuum_here(&self, now: Timestamp) -> Result<usize, LakeError> {
        let readers = Arc::clone(&self.inner.readers);
        let Ok(_nobody_reads) = readers.try_write() else { return Ok(0) };
        // The files first: one that is written meanwhile is in no list, and so is not looked at.
        let there = self.inner.place.data_files().await?;
        let mut table = DeltaTable::clone(&self.table());
        table.update_state().await.map_err(LakeError::table("read"))?;
        let named: HashSet<PathBuf> = files(&table)?.iter().map(|file| PathBuf::from(file.path().as_ref())).collect();
        let taken_out = tombstones(&table).await?;
        let mut deleted = 0;
        for (path, changed) in there {
            let age = now.micros() / 1_000_000 - changed;
            let is_over = match taken_out.get(&path) {
                Some(at) => now.micros() / 1_000 - at > PINNED * 1_000,
                None => age > UNBORN,
            };
            if !named.contains(&path) && is_over {
                deleted += usize::from(self.inner.place.delete(&path.to_string_lossy()).await?);
            }
        }
        Ok(deleted)
    }
}

/// Names may hold a slash; each part is escaped as in a path.
fn transaction(tenant: &str, origin: &str, stream: &str) -> String {
    [EXPIRED, &table::plain(tenant), &table::plain(origin), &table::plain(stream)].join("/")
}

pub(super) fn files(table: &DeltaTable) -> Result<Vec<LogicalFileView>, LakeError> {
    let state = table.snapshot().map_err(LakeError::table("read"))?;
    Ok(state.log_data().iter().collect())
}

/// Tenant and day of a file.
pub(super) fn place(file: &LogicalFileView) -> Option<(String, i32)> {
    let mut values = file.partition_values_map();
    let day = values.remove(DAY)??;
    let day = chrono::NaiveDate::parse_from_str(&day, "%Y-%m-%d").ok()?;
    let days = day.signed_duration_since(chrono::NaiveDate::default()).num_days();
    Some((values.remove(TENANT)??, i32::try_from(days).ok()?))
}

/// The groups that are worth joining.
fn groups(table: &DeltaTable, today: i32) -> Result<Vec<Group>, LakeError> {
    let mut small: BTreeMap<(String, i32), Vec<LogicalFileView>> = BTreeMap::new();
    for file in files(table)?.into_iter().filter(|file| file.size() < SMALL) {
        if let Some(place) = place(&file) {
            small.entry(place).or_default().push(file);
        }
    }
    let mut groups = Vec::new();
    for ((tenant, day), mut files) in small {
        let worth = if day < today { 2 } else { WORTH };
        // Oldest first, so that what is joined lies together in time.
        files.sort_by_key(LogicalFileView::modification_time);
        let mut group: Vec<LogicalFileView> = Vec::new();
        let (mut bytes, mut rows) = (0, 0);
        for file in files {
            let (size, count) = (file.size(), file.num_records().unwrap_or(JOINED_ROWS));
            if !group.is_empty() && (bytes + size > JOINED || rows + count > JOINED_ROWS || group.len() >= MOST) {
                groups.push((worth, Group { tenant: tenant.clone(), day, files: std::mem::take(&mut group) }));
                (bytes, rows) = (0, 0);
            }
            bytes += size;
            rows += count;
            group.push(file);
        }
        groups.push((worth, Group { tenant, day, files: group }));
    }
    Ok(groups.into_iter().filter(|(worth, group)| group.files.len() >= *worth).map(|(_, group)| group).collect())
}

/// All rows of a group in the columns of this build.
async fn read_all(place: &Place, group: &Group) -> Result<Vec<RecordBatch>, LakeError> {
    let mut all = Vec::new();
    for file in &group.files {
        let (bytes, day) = (place.read(file.path().as_ref()).await?, group.day);
        let rows = blocking(move || {
            let rows = ParquetRecordBatchReaderBuilder::try_new(bytes)?.build()?;
            rows.map(|rows| in_layout(&rows?, day)).collect::<Result<Vec<_>, LakeError>>()
        });
        all.extend(rows.await?);
    }
    Ok(all)
}

/// A column that the file lacks is null; the day is the partition's.
fn in_layout(rows: &RecordBatch, day: i32) -> Result<RecordBatch, LakeError> {
    let count = rows.num_rows();
    let columns: Result<Vec<ArrayRef>, LakeError> = layout()
        .columns
        .iter()
        .map(|column| {
            let kind = column.kind.arrow();
            match rows.column_by_name(column.name) {
                _ if column.name == DAY => Ok(Arc::new(Date32Array::from(vec![day; count])) as ArrayRef),
                Some(values) if *values.data_type() == kind => Ok(Arc::clone(values)),
                Some(values) => Ok(cast(values, &kind)?),
                None => Ok(new_null_array(&kind, count)),
            }
        })
        .collect();
    Ok(RecordBatch::try_new(Arc::clone(&layout().schema), columns?)?)
}

/// Counts a file's rows by origin and stream, on top of what was counted before.
fn count_streams(
    bytes: Bytes,
    mut counts: BTreeMap<(String, String), u64>,
) -> Result<BTreeMap<(String, String), u64>, LakeError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
    // By place, since a name with a dot would be taken for a path.
    let wanted = [ORIGIN, STREAM].map(|name| builder.schema().index_of(name));
    let wanted: Vec<usize> = wanted.into_iter().collect::<Result<_, _>>()?;
    let columns = ProjectionMask::roots(builder.parquet_schema(), wanted);
    for rows in builder.with_projection(columns).build()? {
        let rows = rows?;
        let column = |name| rows.column_by_name(name);
        let (Some(origins), Some(streams)) = (column(ORIGIN), column(STREAM)) else {
            return Err(LakeError::Internal("a data file has no streams".into()));
        };
        for row in 0..rows.num_rows() {
            let text = |column| text_at(column, row).unwrap_or_default();
            match counts.get_mut(&(text(origins).to_owned(), text(streams).to_owned())) {
                Some(count) => *count += 1,
                None => {
                    counts.insert((text(origins).to_owned(), text(streams).to_owned()), 1);
                }
            }
        }
    }
    Ok(counts)
}

/// Files that were taken out, with the millisecond of that.
async fn tombstones(table: &DeltaTable) -> Result<BTreeMap<PathBuf, i64>, LakeError> {
    let state = table.snapshot().map_err(LakeError::table("read"))?;
    let log = table.log_store();
    let list: Vec<_> = state.all_tombstones(log.as_ref()).try_collect().await.map_err(LakeError::table("read"))?;
    let of = |one: &TombstoneView| Some((PathBuf::from(one.path().as_ref()), one.deletion_timestamp()?));
    Ok(list.iter().filter_map(of).collect())
}

#[cfg(test)]
#[path = "upkeep_tests.rs"]
mod tests;
