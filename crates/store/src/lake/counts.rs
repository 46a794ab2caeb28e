//! Counts: of a search, whole or up to a bound, of the books, of a tenant's rows, and since when there are some.

use std::path::PathBuf;

use datafusion::arrow::array::RecordBatch;
use datafusion::dataframe::DataFrame;
use datafusion::functions_aggregate::expr_fn::{count, max, min};
use datafusion::logical_expr::lit;
use datafusion::prelude::ident;
use sakimori_model::Timestamp;

use super::engine::collect;
use super::layout::{ORIGIN, STREAM, TIME};
use super::rows::{date_at, long_at, text_at};
use super::search::Interval;
use super::slices::spans;
use super::view::matching;
use super::{Lake, LakeError, upkeep};
use crate::query::Expr;

/// Most groups that an aggregation may give.
const MOST_GROUPS: usize = 1_000_000;

/// What the table and the memory hold of one stream.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamCount {
    /// Who sent it: an agent's id, or `manager`.
    pub origin: String,
    /// Which of its streams.
    pub stream: String,
    /// Events.
    pub events: u64,
    /// Time of the earliest.
    pub first: Timestamp,
    /// Time of the latest.
    pub last: Timestamp,
}

/// What a tenant has, without reading a row of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Events, in table and memory.
    pub events: u64,
    /// Time of the earliest, or a little before.
    pub first: Option<Timestamp>,
    /// Time of the latest, or a little after.
    pub last: Option<Timestamp>,
}

impl Lake {
    /// Counts a tenant's events.
    ///
    /// # Errors
    /// `TimedOut`, and those of the table.
    pub async fn count(&self, tenant: &str, query: &Expr, interval: Interval) -> Result<u64, LakeError> {
        let batches = self
            .aggregate(tenant, query, interval, move |frame| {
                frame.aggregate(vec![], vec![count(lit(1_i64)).alias("n")])
            })
            .await?;
        Ok(number(&batches))
    }

    /// Counts a tenant's events up to `most`: how many, and whether there are more.
    ///
    /// # Errors
    /// `TimedOut`, and those of the table.
    pub async fn count_up_to(
        &self,
        tenant: &str,
        query: &Expr,
        interval: Interval,
        most: usize,
    ) -> Result<(u64, bool), LakeError> {
        let batches = self
            .aggregate(tenant, query, interval, move |frame| {
                let some = frame.select(vec![ident(TIME)])?.limit(0, Some(most.saturating_add(1)))?;
                some.aggregate(vec![], vec![count(lit(1_i64)).alias("n")])
            })
            .await?;
        let (found, most) = (number(&batches), most as u64);
        Ok((found.min(most), found > most))
    }

    /// Counts a tenant's events by who sent them and in which stream: the stored side of the books.
    ///
    /// # Errors
    /// `TimedOut`, and those of the table.
    pub async fn count_by_stream(&self, tenant: &str) -> Result<Vec<StreamCount>, LakeError> {
        let batches = self
            .aggregate(tenant, &Expr::All, Interval::default(), |frame| {
                let numbers =
                    vec![count(lit(1_i64)).alias("n"), min(ident(TIME)).alias("first"), max(ident(TIME)).alias("last")];
                frame.aggregate(vec![ident(ORIGIN), ident(STREAM)], numbers)
            })
            .await?;
        let mut counts: Vec<StreamCount> = batches.iter().flat_map(stream_counts).collect();
        counts.sort();
        Ok(counts)
    }

    /// How many events a tenant has, and from when until when: by the statistics of the table's files.
    ///
    /// # Errors
    /// Those of the table.
    pub async fn extent(&self, tenant: &str) -> Result<Extent, LakeError> {
        let (pin, tenant) = (self.pin(tenant)?, tenant.to_owned());
        self.inner
            .engine
            .run(async move {
                let mut extent = Extent::default();
                let mut add = |events: u64, first: Option<Timestamp>, last: Option<Timestamp>| {
                    extent.events += events;
                    extent.first = [extent.first, first].into_iter().flatten().min();
                    extent.last = extent.last.max(last);
                };
                for rows in &pin.memory {
                    let times = rows.column_by_name(TIME);
                    let times = || (0..rows.num_rows()).filter_map(|row| date_at(times?, row));
                    add(rows.num_rows() as u64, times().min(), times().max());
                }
                for span in spans(&pin.table, &tenant)?.unwrap_or_default() {
                    add(span.rows, Some(span.least), Some(span.most));
                }
                Ok(extent)
            })
            .await
    }

    /// The Parquet files of a tenant in the newest version of a table on disk: for other readers.
    ///
    /// # Errors
    /// Those of the table.
    pub async fn files(&self, tenant: &str) -> Result<Vec<PathBuf>, LakeError> {
        let (table, dir, tenant) = (self.table(), self.inner.dir.clone(), tenant.to_owned());
        let find = async move {
            let files = upkeep::files(&table)?;
            let own = files.iter().filter(|file| upkeep::place(file).is_some_and(|(of, _)| of == tenant));
            Ok(own.map(|file| dir.join(file.path().as_ref())).collect())
        };
        self.inner.engine.run(find).await
    }

    /// Runs an aggregation over what matches.
    pub(super) async fn aggregate(
        &self,
        tenant: &str,
        query: &Expr,
        interval: Interval,
        of: impl FnOnce(DataFrame) -> datafusion::error::Result<DataFrame> + Send + 'static,
    ) -> Result<Vec<RecordBatch>, LakeError> {
        let (pin, session, tenant) = (self.pin(tenant)?, self.inner.engine.session(), tenant.to_owned());
        let (bytes, query) = (self.inner.engine.max_result_bytes(), query.clone());
        self.inner
            .engine
            .run(async move {
                let frame = of(matching(&session, pin, &tenant, interval, &query).await?)?;
                let found = collect(frame, MOST_GROUPS, bytes).await?;
                if found.more { Err(LakeError::TooLarge(format!("{MOST_GROUPS} groups"))) } else { Ok(found.batches) }
            })
            .await
    }
}

fn number(batches: &[RecordBatch]) -> u64 {
    let number = batches.first().and_then(|rows| long_at(rows.column_by_name("n")?, 0));
    number.and_then(|number| u64::try_from(number).ok()).unwrap_or(0)
}

fn stream_counts(rows: &RecordBatch) -> Vec<StreamCount> {
    let column = |name: &str| rows.column_by_name(name);
    (0..rows.num_rows())
        .filter_map(|row| {
            Some(StreamCount {
                origin: text_at(column(ORIGIN)?, row).unwrap_or_default().to_owned(),
                stream: text_at(column(STREAM)?, row).unwrap_or_default().to_owned(),
                events: u64::try_from(long_at(column("n")?, row)?).ok()?,
                first: date_at(column("first")?, row)?,
                last: date_at(column("last")?, row)?,
            })
        })
        .collect()
}
