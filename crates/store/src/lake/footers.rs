//! What files say of themselves at their ends: of each row group the times, and of each column where it is and how many
//! values it lacks. Footers are kept in the engine's cache, which the scans of the table share, and which is bounded.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::parquet::file::metadata::{ColumnChunkMetaData, PageIndexPolicy, ParquetMetaData, RowGroupMetaData};
use datafusion::parquet::file::statistics::Statistics;
use datafusion::prelude::SessionContext;
use deltalake_core::DeltaTable;
use deltalake_core::kernel::LogicalFileView;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};
use sakimori_model::Timestamp;

use super::layout::TIME;
use super::search::Interval;
use super::slices::span_of;
use super::{LakeError, upkeep};

/// Of a file's end so much is read first: its footer, where that is not larger.
const FOOTER: usize = 128 << 10;

/// Reads footers of a table's files.
pub(super) struct Footers {
    pub store: Arc<dyn ObjectStore>,
    cache: Arc<FileMetadataCache>,
}

impl Footers {
    pub fn new(session: &SessionContext, table: &DeltaTable) -> Self {
        let cache = session.runtime_env().cache_manager.get_file_metadata_cache();
        Self { store: table.log_store().root_object_store(None), cache }
    }

    pub async fn of(&self, file: &ObjectMeta) -> Result<Arc<ParquetMetaData>, LakeError> {
        let footer = DFParquetMetadata::new(&*self.store, file)
            .with_file_metadata_cache(Some(Arc::clone(&self.cache)))
            .with_metadata_size_hint(Some(FOOTER))
            .with_page_index_policy(Some(PageIndexPolicy::Skip));
        Ok(footer.fetch_metadata().await?)
    }
}

/// The file as a scan of the table names it, so that each finds the footers that the other has kept.
pub(super) fn object(table: &DeltaTable, file: &LogicalFileView) -> Result<ObjectMeta, LakeError> {
    let path = file.path();
    let internal = |error: &dyn std::error::Error| LakeError::Internal(format!("{path}: {error}"));
    let mut root = table.log_store().root_url().clone();
    if !root.path().ends_with('/') {
        root.set_path(&format!("{}/", root.path()));
    }
    let url = root.join(&path).map_err(|error| internal(&error))?;
    let location = Path::from_url_path(url.path()).map_err(|error| internal(&error))?;
    let size = u64::try_from(file.size()).unwrap_or_default();
    Ok(ObjectMeta { location, size, last_modified: chrono::DateTime::UNIX_EPOCH, e_tag: None, version: None })
}

/// Columns of which some row in these runs of time has a value, by what files say: the rows of a page have far fewer than
/// the table.
pub(super) async fn filled(
    session: &SessionContext,
    table: &DeltaTable,
    tenant: &str,
    runs: &[Interval],
) -> Result<BTreeSet<String>, LakeError> {
    let (footers, mut filled) = (Footers::new(session, table), BTreeSet::new());
    let mut note = |column: &ColumnChunkMetaData| {
        let nulls = column.statistics().and_then(Statistics::null_count_opt);
        if nulls.is_none_or(|nulls| i64::try_from(nulls) != Ok(column.num_values())) {
            filled.extend(column.column_path().parts().first().cloned());
        }
    };
    let touches = |part: Interval| runs.iter().any(|run| run.overlap(part).is_some());
    for file in upkeep::files(table)? {
        if upkeep::place(&file).is_none_or(|(of, _)| of != tenant) {
            continue;
        }
        let whole = span_of(&file).map(|span| span.interval()).unwrap_or_default();
        if !touches(whole) {
            continue;
        }
        let footer = footers.of(&object(table, &file)?).await?;
        let groups = footer.row_groups().iter().filter(|group| touches(times(group).unwrap_or(whole)));
        groups.flat_map(RowGroupMetaData::columns).for_each(&mut note);
    }
    Ok(filled)
}

/// From the earliest to the latest row of a row group.
pub(super) fn times(group: &RowGroupMetaData) -> Option<Interval> {
    let is_time = |column: &&ColumnChunkMetaData| matches!(column.column_path().parts(), [name] if name == TIME);
    match group.columns().iter().find(is_time)?.statistics()? {
        Statistics::Int64(values) => Some(Interval {
            from: Some(Timestamp::from_micros(*values.min_opt()?)),
            to: Some(Timestamp::from_micros(*values.max_opt()?).plus_micros(1)),
        }),
        _ => None,
    }
}
