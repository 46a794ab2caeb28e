//! One tenant's events, of table and memory together, as one frame: the only thing that a query ever sees.
//!
//! The tenant is filtered below everything that a query can say, and its column is put back as a constant.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
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
    Part { tenant, interval, query, runs: None, columns: None }.frame(session, pin).await
}

/// A part of the events.
pub(super) struct Part<'a> {
    pub tenant: &'a str,
    pub interval: Interval,
    /// A search that they match.
    pub query: &'a Expr,
    /// On disk they are read in these runs of time alone, where some are named.
    pub runs: Option<&'a [Interval]>,
    /// The columns that are asked for, all where none are named: a plan costs by its columns, read or not.
    pub columns: Option<&'a [&'static str]>,
}

impl Part<'_> {
    pub async fn frame(&self, session: &SessionContext, pin: Pin) -> Result<DataFrame, LakeError> {
        let files = pin.table.snapshot().map_err(LakeError::table("read"))?.log_data().num_files();
        let disk = if files > 0 { Some(self.on_disk(session, &pin.table).await?) } else { None };
        match disk {
            Some(disk) if pin.memory.is_empty() => Ok(disk),
            Some(disk) => Ok(self.in_memory(session, pin.memory)?.union(disk)?),
            None => self.in_memory(session, pin.memory),
        }
    }

    fn in_memory(&self, session: &SessionContext, rows: Vec<RecordBatch>) -> Result<DataFrame, LakeError> {
        let memory = MemTable::try_new(Arc::clone(&layout().schema), vec![rows])?;
        let mut frame = session.read_table(Arc::new(memory))?;
        if let Some(within) = self.interval.condition() {
            frame = frame.filter(within)?;
        }
        Ok(frame.select(self.selected(false))?.filter(self.query.to_datafusion())?)
    }

    async fn on_disk(&self, session: &SessionContext, table: &DeltaTable) -> Result<DataFrame, LakeError> {
        let state = table.snapshot().map_err(LakeError::table("read"))?;
        let provider = table
            .table_provider()
            .with_eager_snapshot(state.snapshot().clone())
            .with_session(Arc::new(session.state()))
            .await?;
        let mut condition = ident(TENANT).eq(lit(self.tenant));
        if let Some(days) = self.interval.days() {
            condition = condition.and(days);
        }
        if let Some(within) = self.interval.condition() {
            condition = condition.and(within);
        }
        if let Some(runs) = self.runs {
            let runs = runs.iter().filter_map(|run| run.condition()).reduce(Logical::or);
            condition = condition.and(runs.unwrap_or_else(|| lit(false)));
        }
        let disk = session.read_table(provider)?.filter(condition)?.select(self.selected(true))?;
        let whole = is_whole(table, self.tenant, self.interval)?;
        Ok(disk.filter(if whole { self.query.to_datafusion_of_whole() } else { self.query.to_datafusion() })?)
    }

    /// The columns that are asked for, those that the search reads, and the tenant's as a constant.
    fn selected(&self, disk: bool) -> Vec<Logical> {
        let query = self.query.to_datafusion();
        let read: HashSet<&str> = query.column_refs().into_iter().map(|column| column.name()).collect();
        let is_selected = |name: &str| self.columns.is_none_or(|asked| asked.contains(&name) || read.contains(name));
        let mut all = vec![lit(self.tenant).alias(TENANT)];
        all.extend(layout().columns.iter().filter(|column| is_selected(column.name)).map(|column| {
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
