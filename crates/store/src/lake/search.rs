//! Searches: rows in the order of time with a cursor, one event by its id, and what arrived since.
//!
//! A search goes slice by slice of time (`slices`), and only where row groups say that they may have what is looked for
//! (`needles`). It goes in two steps over the same pin: first the places of the first matching rows (few columns), then
//! the whole rows at those places (few rows); what is rare is read whole at once. The order is (time, arrival, batch,
//! index), newest first unless asked for otherwise; a cursor is the place of the last row, so that what arrives meanwhile
//! moves no page.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use datafusion::arrow::array::{Array as _, RecordBatch};
use datafusion::dataframe::DataFrame;
use datafusion::logical_expr::{Expr as Logical, SortExpr, lit};
use datafusion::prelude::{SessionContext, ident};
use sakimori_model::id::EventId;
use sakimori_model::{FieldId, Timestamp};

use super::engine::collect;
use super::ingest::Pin;
use super::layout::{ARRIVAL, BATCH, INDEX, RECEIVED, REST, STREAM, TIME, layout};
use super::needles::{self, Told};
use super::rows::{date_at, decode, long_at, text_at};
use super::slices::{cuts, slices, spans};
use super::view::{Part, events, matching, moment};
use super::{Hit, Lake, LakeError, footers};
use crate::query::Expr;

/// From (with it) and to (without it), over the time that searches sort by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interval {
    /// Earliest.
    pub from: Option<Timestamp>,
    /// Before this.
    pub to: Option<Timestamp>,
}

impl Interval {
    /// Is there no moment in it?
    pub(super) fn is_empty(self) -> bool {
        self.from.zip(self.to).is_some_and(|(from, to)| from >= to)
    }

    /// What is in both; `None` where no moment is.
    pub(super) fn overlap(self, other: Self) -> Option<Self> {
        let earlier = |one: Timestamp| other.to.map_or(one, |to| to.min(one));
        let both = Self { from: self.from.max(other.from), to: self.to.map(earlier).or(other.to) };
        (!both.is_empty()).then_some(both)
    }
}

/// By time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Newest first.
    #[default]
    Newest,
    /// Oldest first.
    Oldest,
}

/// What is asked of a search.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// What the rows match.
    pub query: &'a Expr,
    /// When they were.
    pub interval: Interval,
    /// Most rows.
    pub limit: usize,
    /// The cursor of the page before.
    pub cursor: Option<&'a str>,
    /// In which order.
    pub order: Order,
    /// Fields that the events are read with; all where absent.
    pub fields: Option<Vec<FieldId>>,
}

/// A page of a search.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// In order.
    pub hits: Vec<Hit>,
    /// Where the next page begins; none after the last.
    pub cursor: Option<String>,
}

/// The place of a row in the order, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Place {
    time: Timestamp,
    arrival: i64,
    batch: String,
    index: i64,
}

impl Lake {
    /// Searches a tenant's events, newest first, whole.
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
        self.page(tenant, Ask { query, interval, limit, cursor, order: Order::Newest, fields: None }).await
    }

    /// Searches a tenant's events.
    ///
    /// # Errors
    /// `Cursor` where it is none, `TooLarge` where the limit or the page is, `TimedOut`.
    pub async fn page(&self, tenant: &str, ask: Ask<'_>) -> Result<Found, LakeError> {
        let most = self.inner.options.max_rows;
        let Ask { limit, order, mut interval, .. } = ask;
        if limit > most {
            return Err(LakeError::TooLarge(format!("{most} rows a page")));
        }
        let mut after = None;
        if let Some(cursor) = ask.cursor {
            let place = Place::parse(cursor).ok_or(LakeError::Cursor)?;
            match order {
                Order::Newest => {
                    let end = place.time.plus_micros(1);
                    interval.to = Some(interval.to.map_or(end, |to| to.min(end)));
                }
                Order::Oldest => {
                    interval.from = Some(interval.from.map_or(place.time, |from| from.max(place.time)));
                }
            }
            after = Some(place.after(order));
        }
        if interval.is_empty() {
            return Ok(Found::default());
        }
        let reading = Reading {
            session: self.inner.engine.session(),
            pin: self.pin(tenant)?,
            tenant: tenant.to_owned(),
            query: Arc::new(ask.query.clone()),
            order,
            after,
            columns: ask.fields.map(|fields| columns_of(&fields)),
            bytes: self.inner.engine.max_result_bytes(),
        };
        let first = self.inner.options.slice_rows;
        self.inner
            .engine
            .run(async move {
                let (mut places, mut rows, mut more) = (Vec::new(), Vec::new(), false);
                let spans = spans(&reading.pin.table, &reading.tenant)?;
                for slice in slices(spans, interval, order, first) {
                    let told = reading.told(slice).await?;
                    if reading.pin.memory.is_empty() && told.runs.as_ref().is_some_and(Vec::is_empty) {
                        continue;
                    }
                    let missing = limit - places.len();
                    if told.is_rare()
                        && let Some((found, batches)) = reading.whole(&told, missing, size_of(&rows)).await?
                    {
                        places.extend(found);
                        rows.extend(batches);
                        continue;
                    }
                    let found = reading.places(&told, missing).await?;
                    places.extend(found.0);
                    more = found.1;
                    if more {
                        break;
                    }
                }
                let cursor = places.last().filter(|_| more).map(Place::to_string);
                let read: HashSet<Place> = places_of(&rows).into_iter().collect();
                let unread: Vec<Place> = places.iter().filter(|place| !read.contains(*place)).cloned().collect();
                if !unread.is_empty() {
                    // Another writer may have used the same numbers of arrival.
                    rows.extend(reading.rows(&unread, most.saturating_mul(4), size_of(&rows)).await?);
                }
                Ok(Found { hits: in_order(&places, &rows, &reading.tenant), cursor })
            })
            .await
    }

    /// One event by its id. `near` is its time as a search said it, where it is known: then nothing else is read.
    ///
    /// # Errors
    /// `TimedOut`, and those of the table.
    pub async fn event(&self, tenant: &str, id: &EventId, near: Option<Timestamp>) -> Result<Option<Hit>, LakeError> {
        let spans =
            [near.map(|at| Interval { from: Some(at), to: Some(at.plus_micros(1)) }), Some(Interval::default())];
        for interval in spans.into_iter().flatten() {
            let is_it = ident(BATCH).eq(lit(id.batch.as_str())).and(ident(INDEX).eq(lit(i64::from(id.index))));
            let (pin, session, of) = (self.pin(tenant)?, self.inner.engine.session(), tenant.to_owned());
            let bytes = self.inner.engine.max_result_bytes();
            let found = self.inner.engine.run(async move {
                let frame = events(&session, pin, &of, interval).await?.filter(is_it)?;
                let rows = collect(frame, 1, bytes).await?;
                Ok(rows.batches.iter().flat_map(|rows| decode(rows, &of)).next())
            });
            if let Some(hit) = found.await? {
                return Ok(Some(hit));
            }
        }
        Ok(None)
    }

    /// Events by their ids, in no order; those that are not there are left out. They are looked for in `span` first.
    ///
    /// # Errors
    /// `TimedOut`, and those of the table.
    pub async fn events_by_id(&self, tenant: &str, ids: &[EventId], span: Interval) -> Result<Vec<Hit>, LakeError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let batches = ids.iter().map(|id| lit(id.batch.as_str())).collect();
        let indexes = ids.iter().map(|id| lit(i64::from(id.index))).collect();
        let among = ident(BATCH).in_list(batches, false).and(ident(INDEX).in_list(indexes, false));
        let mut hits: Vec<Hit> = Vec::new();
        for interval in [span, Interval::default()] {
            if hits.len() == ids.len() {
                break;
            }
            let (pin, session, of) = (self.pin(tenant)?, self.inner.engine.session(), tenant.to_owned());
            let (bytes, among) = (self.inner.engine.max_result_bytes(), among.clone());
            let found = self.inner.engine.run(async move {
                let frame = events(&session, pin, &of, interval).await?.filter(among)?;
                // Batches and indexes may cross: every batch has an event of each index.
                let rows = collect(frame, 100_000, bytes).await?;
                Ok(rows.batches.iter().flat_map(|rows| decode(rows, &of)).collect::<Vec<Hit>>())
            });
            hits = found.await?.into_iter().filter(|hit| ids.contains(&hit.id)).collect();
        }
        Ok(hits)
    }

    /// What arrived after a number of arrival and matches, in the order of arrival, at most `limit`.
    ///
    /// # Errors
    /// `TimedOut`, and those of the table.
    pub async fn arrived_after(
        &self,
        tenant: &str,
        arrival: u64,
        query: &Expr,
        limit: usize,
    ) -> Result<Vec<Hit>, LakeError> {
        let arrival = i64::try_from(arrival).unwrap_or(i64::MAX);
        let (pin, session, tenant) = (self.pin(tenant)?, self.inner.engine.session(), tenant.to_owned());
        let (bytes, query) = (self.inner.engine.max_result_bytes(), query.clone());
        self.inner
            .engine
            .run(async move {
                let frame = matching(&session, pin, &tenant, Interval::default(), &query).await?;
                let frame =
                    frame.filter(ident(ARRIVAL).gt(lit(arrival)))?.sort(vec![ident(ARRIVAL).sort(true, false)])?;
                let rows = collect(frame.limit(0, Some(limit))?, limit, bytes).await?;
                Ok(rows.batches.iter().flat_map(|rows| decode(rows, &tenant)).collect())
            })
            .await
    }
}

/// A search as it is read, part by part.
struct Reading {
    session: SessionContext,
    pin: Pin,
    tenant: String,
    query: Arc<Expr>,
    order: Order,
    /// Only what this holds for.
    after: Option<Logical>,
    /// Columns that the events are read with; all that have a value where absent.
    columns: Option<Vec<&'static str>>,
    /// Most bytes of a page.
    bytes: usize,
}

impl Reading {
    async fn told(&self, slice: Interval) -> Result<Told, LakeError> {
        needles::told(&self.session, &self.pin.table, &self.tenant, slice, &self.query).await
    }

    /// What matches in a part.
    async fn frame(&self, told: &Told, columns: &[&'static str]) -> Result<DataFrame, LakeError> {
        let part = Part {
            tenant: &self.tenant,
            interval: told.interval,
            query: &self.query,
            runs: told.runs.as_deref(),
            columns: Some(columns),
        };
        let mut frame = part.frame(&self.session, self.pin.clone()).await?;
        if let Some(after) = &self.after {
            frame = frame.filter(after.clone())?;
        }
        Ok(frame.select(columns.iter().copied().map(ident).collect::<Vec<_>>())?)
    }

    /// Where the first rows are that match in a part, in order, and whether there are more.
    async fn places(&self, told: &Told, most: usize) -> Result<(Vec<Place>, bool), LakeError> {
        let frame = self.frame(told, &PLACE).await?.sort(by_time(self.order))?;
        // One more than asked for tells whether there is a next page.
        let found = collect(frame.limit(0, Some(most.saturating_add(1)))?, most, self.bytes).await?;
        Ok((places_of(&found.batches), found.more))
    }

    /// All rows that match in a part, and where they are, in order; `None` where they are more than so many, or too large beside
    /// the bytes that the page has.
    async fn whole(
        &self,
        told: &Told,
        most: usize,
        has: usize,
    ) -> Result<Option<(Vec<Place>, Vec<RecordBatch>)>, LakeError> {
        let columns = self.columns_in(told.runs.as_deref().unwrap_or(&[told.interval])).await?;
        let found = match collect(self.frame(told, &columns).await?, most, self.bytes.saturating_sub(has)).await {
            Err(LakeError::TooLarge(_)) => return Ok(None),
            found => found?,
        };
        let mut places = places_of(&found.batches);
        match self.order {
            Order::Newest => places.sort_unstable_by(|one, other| other.cmp(one)),
            Order::Oldest => places.sort_unstable(),
        }
        Ok((!found.more).then_some((places, found.batches)))
    }

    /// The rows at these places, and perhaps others, at most so many, beside the bytes that the page has.
    async fn rows(&self, places: &[Place], most: usize, has: usize) -> Result<Vec<RecordBatch>, LakeError> {
        let runs = runs_of(places);
        let spans: Vec<Interval> = runs.iter().filter_map(|run| span_of(run)).collect();
        let columns = self.columns_in(&spans).await?;
        let interval = span_of(&places.iter().collect::<Vec<_>>()).unwrap_or_default();
        let part = Part { tenant: &self.tenant, interval, query: &Expr::All, runs: None, columns: Some(&columns) };
        let frame = part.frame(&self.session, self.pin.clone()).await?.filter(around(&runs))?;
        let frame = frame.select(columns.into_iter().map(ident).collect::<Vec<_>>())?;
        match collect(frame, most, self.bytes.saturating_sub(has)).await {
            Err(LakeError::TooLarge(_)) => Err(LakeError::TooLarge(format!("{} bytes", self.bytes))),
            found => Ok(found?.batches),
        }
    }

    /// The columns to read rows of these spans, or of memory, with.
    async fn columns_in(&self, spans: &[Interval]) -> Result<Vec<&'static str>, LakeError> {
        if let Some(columns) = &self.columns {
            return Ok(columns.clone());
        }
        let on_disk = footers::filled(&self.session, &self.pin.table, &self.tenant, spans).await?;
        let in_memory = |name: &str| {
            let column =
                |rows: &RecordBatch| rows.column_by_name(name).is_some_and(|column| column.null_count() < column.len());
            self.pin.memory.iter().any(column)
        };
        let names = layout().columns.iter().map(|column| column.name).filter(|name| !NEEDED.contains(name));
        Ok(NEEDED.into_iter().chain(names.filter(|name| on_disk.contains(*name) || in_memory(name))).collect())
    }
}

/// The columns that make a row's place.
const PLACE: [&str; 4] = [TIME, ARRIVAL, BATCH, INDEX];

/// The columns that every row needs.
const NEEDED: [&str; 7] = [TIME, BATCH, INDEX, ARRIVAL, RECEIVED, STREAM, REST];

/// The columns of these fields, and those that every row needs.
fn columns_of(fields: &[FieldId]) -> Vec<&'static str> {
    let mut columns = NEEDED.to_vec();
    for field in fields {
        let column = layout().column(*field).and_then(|at| layout().columns.get(at)).map(|column| column.name);
        columns.extend(column.filter(|column| !columns.contains(column)));
    }
    columns
}

/// Bytes of these rows.
fn size_of(rows: &[RecordBatch]) -> usize {
    rows.iter().map(RecordBatch::get_array_memory_size).sum()
}

/// From the first to the last of these places.
fn span_of(places: &[&Place]) -> Option<Interval> {
    let times = || places.iter().map(|place| place.time);
    Some(Interval { from: Some(times().min()?), to: Some(times().max()?.plus_micros(1)) })
}

/// Places in the order of time, cut into runs at the widest gaps.
fn runs_of(places: &[Place]) -> Vec<Vec<&Place>> {
    let mut sorted: Vec<&Place> = places.iter().collect();
    sorted.sort_by_key(|place| place.time);
    let gaps: Vec<i64> =
        sorted.iter().zip(sorted.iter().skip(1)).map(|(one, next)| next.time.since(one.time)).collect();
    let mut runs: Vec<Vec<&Place>> = Vec::new();
    for cut in cuts(&gaps).into_iter().rev() {
        runs.push(sorted.split_off((cut + 1).min(sorted.len())));
    }
    runs.push(sorted);
    runs
}

/// Holds for the rows of these runs.
fn around(runs: &[Vec<&Place>]) -> Logical {
    let of_run = |run: &Vec<&Place>| {
        let (first, last) = (run.first()?, run.last()?);
        let arrivals = run.iter().map(|place| lit(place.arrival)).collect();
        let within = ident(TIME).gt_eq(moment(first.time)).and(ident(TIME).lt_eq(moment(last.time)));
        Some(within.and(ident(ARRIVAL).in_list(arrivals, false)))
    };
    runs.iter().filter_map(of_run).reduce(Logical::or).unwrap_or_else(|| lit(false))
}

impl Place {
    /// What comes after it in the order.
    fn after(&self, order: Order) -> Logical {
        let steps: [(&str, Logical); 4] = [
            (TIME, moment(self.time)),
            (ARRIVAL, lit(self.arrival)),
            (BATCH, lit(self.batch.as_str())),
            (INDEX, lit(self.index)),
        ];
        let beyond = |name: &str, value: Logical| match order {
            Order::Newest => ident(name).lt(value),
            Order::Oldest => ident(name).gt(value),
        };
        let later = steps.into_iter().rev().fold(None, |later: Option<Logical>, (name, value)| {
            let beyond = beyond(name, value.clone());
            Some(match later {
                Some(later) => beyond.or(ident(name).eq(value).and(later)),
                None => beyond,
            })
        });
        later.unwrap_or_else(|| lit(false))
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

fn by_time(order: Order) -> Vec<SortExpr> {
    PLACE.map(|name| ident(name).sort(order == Order::Oldest, false)).into()
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
