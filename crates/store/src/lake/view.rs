//! One tenant's events, of table and memory together, as one frame: the only thing that a query ever sees.
//!
//! The tenant is filtered below everything that a query can say, and its column is put back as a constant.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::dataframe::DataFrame;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::{Expr as Logical, cast, lit};
use datafusion::prelude::{SessionContext, ident};
use deltalake_core::DeltaTable;
use deltalake_core::kernel::LogicalFileView;
use sakimori_model::Timestamp;

use super::ingest::Pin;
use super::layout::{DAY, TENANT, TIME, layout};
use super::search::Interval;
use super::{LakeError, upkeep};
use crate::query::Expr;

/// The events of a tenant within an interval, all columns.
pub(super) async fn events(
    session: &SessionContext,
    pin: Pin,
    tenant: &str,
    interval: Interval,
) -> Result<DataFrame, LakeError> {
    matching(session, pin, tenant, interval, &Expr::All).await
}

/// Those of them that a search matches.
pub(super) async fn matching(
    session: &SessionContext,
    pin: Pin,
    tenant: &str,
    interval: Interval,
    query: &Expr,
) -> Result<DataFrame, LakeError> {
    matching_in(session, pin, tenant, interval, None, query).await
}

/// The same, on disk in these runs of time alone, where some are named.
pub(super) async fn matching_in(
    session: &SessionContext,
    pin: Pin,
    tenant: &str,
    interval: Interval,
    runs: Option<&[Interval]>,
    query: &Expr,
) -> Result<DataFrame, LakeError> {
    let memory = MemTable::try_new(Arc::clone(&layout().schema), vec![pin.memory])?;
    let mut frame = session.read_table(Arc::new(memory))?;
    if let Some(within) = interval.condition() {
        frame = frame.filter(within)?;
    }
    let frame = frame.select(columns(tenant, false))?.filter(query.to_datafusion())?;
    let state = pin.table.snapshot().map_err(LakeError::table("read"))?;
    if state.log_data().num_files() == 0 {
        return Ok(frame);
    }
    let table = pin
        .table
        .table_provider()
        .with_eager_snapshot(state.snapshot().clone())
        .with_session(Arc::new(session.state()))
        .await?;
    let mut condition = ident(TENANT).eq(lit(tenant));
    if let Some(days) = interval.days() {
        condition = condition.and(days);
    }
    if let Some(within) = interval.condition() {
        condition = condition.and(within);
    }
    if let Some(runs) = runs {
        let runs = runs.iter().filter_map(|run| run.condition()).reduce(Logical::or);
        condition = condition.and(runs.unwrap_or_else(|| lit(false)));
    }
    let disk = session.read_table(table)?.filter(condition)?.select(columns(tenant, true))?;
    let whole = is_whole(&pin.table, tenant, interval)?;
    let disk = disk.filter(if whole { query.to_datafusion_of_whole() } else { query.to_datafusion() })?;
    Ok(frame.union(disk)?)
}

/// Is every file that may have rows of the interval one that is read without its rest?
fn is_whole(table: &DeltaTable, tenant: &str, interval: Interval) -> Result<bool, LakeError> {
    let day = |time: Option<Timestamp>| time.and_then(|time| i32::try_from(time.day()).ok());
    let (first, last) = (day(interval.from), day(interval.to));
    Ok(upkeep::files(table)?.iter().all(|file| {
        let beside = upkeep::place(file).is_some_and(|(of, day)| {
            of != tenant || first.is_some_and(|first| day < first) || last.is_some_and(|last| day > last)
        });
        beside || is_whole_file(file)
    }))
}

/// Is the file one whose rest has no value of a field that has a column?
pub(super) fn is_whole_file(file: &LogicalFileView) -> bool {
    file.path().strip_suffix(".parquet").is_some_and(|name| name.ends_with(&layout().mark))
}

fn columns(tenant: &str, disk: bool) -> Vec<Logical> {
    let mut all = vec![lit(tenant).alias(TENANT)];
    all.extend(layout().columns.iter().map(|column| {
        let value = ident(column.name);
        if disk && column.name == DAY {
            // The scan hands partition values as a dictionary.
            cast(value, DataType::Date32).alias(DAY)
        } else {
            value.alias(column.name)
        }
    }));
    all
}

impl Interval {
    /// Over the time that searches sort by.
    pub(super) fn condition(self) -> Option<Logical> {
        let from = self.from.map(|from| ident(TIME).gt_eq(moment(from)));
        let to = self.to.map(|to| ident(TIME).lt(moment(to)));
        from.into_iter().chain(to).reduce(Logical::and)
    }

    /// The same over the partitions: the day is that time's day.
    fn days(self) -> Option<Logical> {
        let day = |time: Timestamp| lit(ScalarValue::Date32(i32::try_from(time.day()).ok()));
        let from = self.from.map(|from| ident(DAY).gt_eq(day(from)));
        let to = self.to.map(|to| ident(DAY).lt_eq(day(to)));
        from.into_iter().chain(to).reduce(Logical::and)
    }
}

pub(super) fn moment(time: Timestamp) -> Logical {
    lit(ScalarValue::TimestampMicrosecond(Some(time.micros()), Some("UTC".into())))
}
