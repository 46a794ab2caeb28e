//! The Delta table: opened or created, given the columns that it lacks, and appended to durably.
//!
//! A flush writes its Parquet files itself (one a tenant and day, sorted by time), makes them durable, and then
//! commits one version that adds them all together with `txn(appId = writer, version = flush number)` (D2). A crash
//! before the commit leaves files that no version names; a commit that is in the log is the truth, whatever this
//! process remembers. After the commit the log file and its directory are made durable too, so that the caller may
//! trim its journal.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::{SortColumn, SortOptions, concat_batches, lexsort_to_indices, take_record_batch};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::properties::{EnabledStatistics, WriterProperties};
use datafusion::parquet::schema::types::ColumnPath;
use deltalake_core::kernel::transaction::{CommitBuilder, CommitProperties};
use deltalake_core::kernel::{Action, Add, StructField, StructType, Transaction};
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use deltalake_core::{DeltaTable, TableProperty};
use sakimori_model::{FieldId, Timestamp, field};

use super::LakeError;
use super::layout::{DAY, TENANT, layout, own};
use super::place::Place;
use super::rows::{date_at, is_whole, long_at};
use super::segment::Segment;

/// Rows of one row group: small enough that a time range leaves most of a file unread.
const ROW_GROUP: usize = 65_536;

/// Fields that are looked for by one value among very many: files carry a bloom filter of each, by which SQL (`--sql`
/// and other readers) and searches for one address leave row groups out; searches for other values go by dictionaries (docs/adr/0008).
const LOOKED_UP: [FieldId; 8] = [
    field::SOURCE_IP,
    field::DESTINATION_IP,
    field::CLIENT_IP,
    field::USER_NAME,
    field::HOST_NAME,
    field::FILE_HASH_SHA256,
    field::PROCESS_HASH_SHA256,
    field::SAKIMORI_ALERT_ID,
];

/// Opens the table, creating it or adding the columns of this build that it lacks.
pub(crate) async fn open(place: &Place) -> Result<DeltaTable, LakeError> {
    let mut table = place.table()?;
    if !table.verify_deltatable_existence().await.map_err(LakeError::table("open"))? {
        table = table
            .create()
            .with_table_name("events")
            .with_columns(layout().delta())
            .with_partition_columns([TENANT, DAY])
            .with_configuration_property(TableProperty::CheckpointInterval, Some("20"))
            .await
            .map_err(LakeError::table("create"))?;
        place.sync_log(&table).await?;
        return Ok(table);
    }
    table.load().await.map_err(LakeError::table("load"))?;
    let missing = missing(&table)?;
    if !missing.is_empty() {
        table = table.add_columns().with_fields(missing).await.map_err(LakeError::table("add columns to"))?;
        place.sync_log(&table).await?;
    }
    Ok(table)
}

fn missing(table: &DeltaTable) -> Result<Vec<StructField>, LakeError> {
    let state = table.snapshot().map_err(LakeError::table("read"))?;
    let schema: &StructType = &state.schema();
    Ok(layout().delta().into_iter().filter(|field| schema.field(field.name()).is_none()).collect())
}

/// The highest flush of this writer that is in the table; 0 where there is none.
pub(crate) async fn committed(table: &DeltaTable, writer: &str) -> Result<u64, LakeError> {
    let state = table.snapshot().map_err(LakeError::table("read"))?;
    let version = state
        .transaction_version(table.log_store().as_ref(), writer)
        .await
        .map_err(LakeError::table("read the transactions of"))?;
    Ok(version.and_then(|version| u64::try_from(version).ok()).unwrap_or(0))
}

/// Writes the files of a segment, durably, and returns what the commit adds.
pub(crate) async fn write_files(place: &Place, writer: &str, segment: &Segment) -> Result<Vec<Add>, LakeError> {
    let mut adds = Vec::new();
    for (tenant, days) in &segment.rows {
        for (day, rows) in days {
            if rows.iter().any(|rows| rows.num_rows() > 0) {
                let name = format!("{}-{}", plain(writer), segment.flush);
                adds.push(write_file(place, &name, tenant, *day, rows.clone()).await?);
            }
        }
    }
    Ok(adds)
}

/// Writes one file, durably: rows of one tenant and day. Its name begins with `name` and is used once.
pub(crate) async fn write_file(
    place: &Place,
    name: &str,
    tenant: &str,
    day: i32,
    rows: Vec<RecordBatch>,
) -> Result<Add, LakeError> {
    let day_text = Timestamp::from_secs(i64::from(day) * 86_400).to_chrono().format("%Y-%m-%d").to_string();
    let (bytes, newest, stats, whole) = super::blocking(move || parquet(&rows)).await?;
    let mark = if whole { layout().mark.as_str() } else { "" };
    let id = uuid::Uuid::now_v7().simple();
    let path = format!("{TENANT}={}/{DAY}={day_text}/{name}-{id}{mark}.parquet", plain(tenant));
    let size = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
    place.write(&path, bytes).await?;
    Ok(Add {
        path,
        partition_values: HashMap::from([
            (TENANT.to_owned(), Some(tenant.to_owned())),
            (DAY.to_owned(), Some(day_text)),
        ]),
        size,
        modification_time: newest.micros() / 1000,
        data_change: true,
        stats: Some(stats),
        tags: None,
        deletion_vector: None,
        base_row_id: None,
        default_row_commit_version: None,
        clustering_provider: None,
    })
}

/// A file of these rows in the order of time, with the arrival of the newest, the statistics, and whether it is whole.
fn parquet(rows: &[RecordBatch]) -> Result<(Vec<u8>, Timestamp, String, bool), LakeError> {
    let rows = sorted(rows)?;
    let mut bytes = Vec::new();
    let mut parquet = ArrowWriter::try_new(&mut bytes, rows.schema(), Some(properties(rows.num_rows())?))?;
    parquet.write(&rows)?;
    parquet.close()?;
    Ok((bytes, newest(&rows), stats(&rows), is_whole(&rows)))
}

fn properties(rows: usize) -> Result<WriterProperties, LakeError> {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_max_row_group_row_count(Some(ROW_GROUP))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_created_by("sakimori".into());
    // No filter is larger than what a row group can hold.
    let distinct = rows.clamp(1, ROW_GROUP) as u64;
    for field in LOOKED_UP {
        let column = ColumnPath::new(vec![field.name().to_owned()]);
        properties = properties
            .set_column_bloom_filter_enabled(column.clone(), true)
            .set_column_bloom_filter_fpp(column.clone(), 0.01)
            .set_column_bloom_filter_max_ndv(column, distinct);
    }
    Ok(properties.build())
}

/// One record batch in the order of time, without the partition column.
fn sorted(rows: &[RecordBatch]) -> Result<RecordBatch, LakeError> {
    let all = concat_batches(&Arc::clone(&layout().schema), rows)?;
    let column = |at: usize| SortColumn {
        values: Arc::clone(all.column(at)),
        options: Some(SortOptions { descending: true, nulls_first: false }),
    };
    let order = lexsort_to_indices(&[column(own::TIME), column(own::ARRIVAL)], None)?;
    let mut all = take_record_batch(&all, &order)?;
    all.remove_column(own::DAY);
    Ok(all)
}

/// Count, and least and most of time and arrival: what readers leave files out by.
fn stats(rows: &RecordBatch) -> String {
    let column = |at: usize| layout().columns.get(at).and_then(|column| rows.column_by_name(column.name));
    let times = column(own::TIME).map(|column| (date_at(column, rows.num_rows() - 1), date_at(column, 0)));
    let arrivals = column(own::ARRIVAL).map(|column| {
        let values = || (0..rows.num_rows()).filter_map(|row| long_at(column, row));
        (values().min(), values().max())
    });
    let name = |at: usize| layout().columns.get(at).map_or("", |column| column.name);
    let side = |time: Option<Timestamp>, arrival: Option<i64>| serde_json::json!({name(own::TIME): time.map(|time| time.to_string()), name(own::ARRIVAL): arrival});
    let (least, most) = times.unwrap_or_default();
    let (first, last) = arrivals.unwrap_or_default();
    serde_json::json!({
        "numRecords": rows.num_rows(),
        "minValues": side(least, first),
        "maxValues": side(most, last),
        "nullCount": {name(own::TIME): 0, name(own::ARRIVAL): 0},
    })
    .to_string()
}

fn newest(rows: &RecordBatch) -> Timestamp {
    let column = layout().columns.get(own::RECEIVED).and_then(|column| rows.column_by_name(column.name));
    column
        .map(|column| (0..rows.num_rows()).filter_map(|row| date_at(column, row)).max().unwrap_or_default())
        .unwrap_or_default()
}

/// Commits a flush as one version with the writer's number in it.
pub(crate) async fn commit(
    table: &DeltaTable,
    writer: &str,
    flush: u64,
    adds: Vec<Add>,
) -> Result<DeltaTable, LakeError> {
    let state = table.snapshot().map_err(LakeError::table("read"))?;
    let number = i64::try_from(flush).map_err(|_| LakeError::Internal("flush numbers are used up".into()))?;
    let properties = CommitProperties::default().with_application_transaction(Transaction::new(writer, number));
    let operation = DeltaOperation::Write {
        mode: SaveMode::Append,
        partition_by: Some(vec![TENANT.into(), DAY.into()]),
        predicate: None,
    };
    let done = CommitBuilder::from(properties)
        .with_actions(adds.into_iter().map(Action::Add).collect())
        .build(Some(state), table.log_store(), operation)
        .await
        .map_err(LakeError::table("commit to"))?;
    let mut table = table.clone();
    table.state = Some(done.snapshot());
    Ok(table)
}

/// A name that is safe in a path: other characters become their hexadecimal code.
pub(crate) fn plain(name: &str) -> String {
    let safe = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    name.bytes().map(|byte| if safe(&byte) { char::from(byte).to_string() } else { format!("~{byte:02x}") }).collect()
}
