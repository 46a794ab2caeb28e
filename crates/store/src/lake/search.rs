//! Searches: newest first with a cursor, counts, and the counts of the books.
//!
//! A search goes in two steps over the same pin: first the places of the newest matching rows (few columns), then
//! the whole rows at those places (few rows). The order is (time, arrival, batch, index), newest first; a cursor is
//! the place of the last row, so that what arrives meanwhile moves no page.

use std::collections::HashMap;

use datafusion::arrow::array::RecordBatch;
use datafusion::dataframe::DataFrame;
use datafusion::functions_aggregate::expr_fn::{count, max, min};
use datafusion::logical_expr::{Expr as Logical, SortExpr, lit};
use datafusion::prelude::ident;
use sakimori_model::Timestamp;

use super::engine::collect;
use super::ingest::Pin;
use super::layout::{ARRIVAL, BATCH, INDEX, ORIGIN, STREAM, TIME};
use super::rows::{date_at, decode, long_at, text_at};
use super::view::{events, moment};
use super::{Hit, Lake, LakeError};
use crate::query::Expr;

/// From (with it) and to (without it), over the time that searches sort by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interval {
    /// Earliest.
    pub from: Option<Timestamp>,
    /// Before this.
    pub to: Option<Timestamp>,
}

/// A page of a search.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Newest first.
    pub hits: Vec<Hit>,
    /// Where the next page begins; none after the last.
    pub cursor: Option<String>,
}

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

/// The place of a row in the order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    time: Timestamp,
    arrival: i64,
    batch: String,
    index: i64,
}

impl Lake {
    /// Searches a tenant's events, newest first.
    ///
    /// # Errors
    /// `Cursor` where it is none, `TooLarge` where the limit or the page is, `TimedOut`.
    pub async fn search(
        &self,
        tenant: &str,
        query: &Expr,
        interval: Interval,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<Found, LakeError> {
        let most = self.inner.options.max_rows;
        if limit > most {
            return Err(LakeError::TooLarge(format!("{most} rows a page")));
        }
        let mut condition = query.to_datafusion();
        if let Some(cursor) = cursor {
            condition = condition.and(Place::parse(cursor).ok_or(LakeError::Cursor)?.after());
        }
        let (pin, again) = self.pin_twice(tenant)?;
        let (session, tenant) = (self.inner.engine.session(), tenant.to_owned());
        let bytes = self.inner.engine.max_result_bytes();
        self.inner
            .engine
            .run(async move {
                let places = events(&session, pin, &tenant, interval).await?.filter(condition)?;
                let places = places.select([TIME, ARRIVAL, BATCH, INDEX].map(ident))?.sort(newest_first())?;
                // One more than asked for tells whether there is a next page.
                let places = collect(places.limit(0, Some(limit + 1))?, limit, bytes).await?;
                let more = places.more;
                let places = places_of(&places.batches);
                let Some((newest, oldest)) = places.first().zip(places.last()) else { return Ok(Found::default()) };
                let cursor = more.then(|| oldest.to_string());
                let span = Interval { from: Some(oldest.time), to: Some(newest.time.plus_micros(1)) };
                let wanted = places.iter().map(|place| lit(place.arrival)).collect();
                let rows =
                    events(&session, again, &tenant, span).await?.filter(ident(ARRIVAL).in_list(wanted, false))?;
                // Another writer may have used the same numbers of arrival.
                let rows = collect(rows, most.saturating_mul(4), bytes).await?;
                Ok(Found { hits: in_order(&places, &rows.batches, &tenant), cursor })
            })
            .await
    }

    /// Counts a tenant's events.
    ///
    /// # Errors
    /// `TimedOut`, and those of the table.
    pub async fn count(&self, tenant: &str, query: &Expr, interval: Interval) -> Result<u64, LakeError> {
        let condition = query.to_datafusion();
        let batches = self
            .aggregate(tenant, interval, move |frame| {
                frame.filter(condition)?.aggregate(vec![], vec![count(lit(1_i64)).alias("n")])
            })
            .await?;
        let number = batches.first().and_then(|rows| long_at(rows.column_by_name("n")?, 0));
        Ok(number.and_then(|number| u64::try_from(number).ok()).unwrap_or(0))
    }

    /// Counts a tenant's events by who sent them and in which stream: the stored side of the books.
    ///
    /// # Errors
    /// `TimedOut`, and those of the table.
    pub async fn count_by_stream(&self, tenant: &str) -> Result<Vec<StreamCount>, LakeError> {
        let batches = self
            .aggregate(tenant, Interval::default(), |frame| {
                let numbers =
                    vec![count(lit(1_i64)).alias("n"), min(ident(TIME)).alias("first"), max(ident(TIME)).alias("last")];
                frame.aggregate(vec![ident(ORIGIN), ident(STREAM)], numbers)
            })
            .await?;
        let mut counts: Vec<StreamCount> = batches.iter().flat_map(stream_counts).collect();
        counts.sort();
        Ok(counts)
    }

    async fn aggregate(
        &self,
        tenant: &str,
        interval: Interval,
        of: impl FnOnce(DataFrame) -> datafusion::error::Result<DataFrame> + Send + 'static,
    ) -> Result<Vec<RecordBatch>, LakeError> {
        let (pin, session, tenant) = (self.pin(tenant)?, self.inner.engine.session(), tenant.to_owned());
        let bytes = self.inner.engine.max_result_bytes();
        self.inner
            .engine
            .run(async move {
                let frame = of(events(&session, pin, &tenant, interval).await?)?;
                let found = collect(frame, 1_000_000, bytes).await?;
                if found.more { Err(LakeError::TooLarge("1000000 groups".into())) } else { Ok(found.batches) }
            })
            .await
    }

    /// The same pin for both steps of a search.
    fn pin_twice(&self, tenant: &str) -> Result<(Pin, Pin), LakeError> {
        let pin = self.pin(tenant)?;
        let again = Pin { table: std::sync::Arc::clone(&pin.table), memory: pin.memory.clone() };
        Ok((pin, again))
    }
}

impl Place {
    /// What comes after it in the order.
    fn after(&self) -> Logical {
        let steps: [(&str, Logical); 4] = [
            (TIME, moment(self.time)),
            (ARRIVAL, lit(self.arrival)),
            (BATCH, lit(self.batch.as_str())),
            (INDEX, lit(self.index)),
        ];
        let later = steps.into_iter().rev().fold(None, |later: Option<Logical>, (name, value)| {
            let below = ident(name).lt(value.clone());
            Some(match later {
                Some(later) => below.or(ident(name).eq(value).and(later)),
                None => below,
            })
        });
        // The first step alone leaves files out.
        later.unwrap_or_else(|| lit(false)).and(ident(TIME).lt_eq(moment(self.time)))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, '~');
        let time: i64 = parts.next()?.parse().ok()?;
        let (arrival, index) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let batch = parts.next()?.to_owned();
        (batch.len() <= 1024).then_some(Self { time: Timestamp::from_micros(time), arrival, batch, index })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}~{}~{}~{}", self.time.micros(), self.arrival, self.index, self.batch)
    }
}

fn newest_first() -> Vec<SortExpr> {
    [TIME, ARRIVAL, BATCH, INDEX].map(|name| ident(name).sort(false, false)).into()
}

fn places_of(batches: &[RecordBatch]) -> Vec<Place> {
    let mut places = Vec::new();
    for rows in batches {
        for row in 0..rows.num_rows() {
            let place = || {
                Some(Place {
                    time: date_at(rows.column_by_name(TIME)?, row)?,
                    arrival: long_at(rows.column_by_name(ARRIVAL)?, row)?,
                    batch: text_at(rows.column_by_name(BATCH)?, row)?.to_owned(),
                    index: long_at(rows.column_by_name(INDEX)?, row)?,
                })
            };
            places.extend(place());
        }
    }
    places
}

fn in_order(places: &[Place], batches: &[RecordBatch], tenant: &str) -> Vec<Hit> {
    let mut hits: HashMap<(String, i64), Hit> = batches
        .iter()
        .flat_map(|rows| decode(rows, tenant))
        .map(|hit| ((hit.id.batch.clone(), i64::from(hit.id.index)), hit))
        .collect();
    places.iter().filter_map(|place| hits.remove(&(place.batch.clone(), place.index))).collect()
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
