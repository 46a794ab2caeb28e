//! What a search box shows beside the rows: how many events there were when ([`Lake::histogram`]), and which values a
//! field has ([`Lake::values`]). Both are bounded in what they give, and say what they did not look at.

use std::collections::{BTreeMap, HashMap};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::DataType;
use datafusion::functions::expr_fn::{lower, starts_with};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{cast, lit};
use datafusion::prelude::ident;
use sakimori_model::Timestamp;

use super::layout::TIME;
use super::rows::{long_at, text_at};
use super::search::{Interval, Order};
use super::slices::{slices, spans};
use super::{Lake, LakeError};
use crate::query::{Expr, FieldRef, values_of};

/// Most buckets of a histogram.
pub const MOST_BUCKETS: i64 = 1_000;
/// Most values that a histogram tells apart; the others are counted together.
pub const MOST_SERIES: usize = 10;
/// Most values of a field at a time.
pub const MOST_VALUES: usize = 1_000;
/// Widths that people can read, in seconds.
const WIDTHS: [i64; 20] = [
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400, 604_800,
    2_592_000,
];

/// Counts over time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Width of a bucket, in seconds.
    pub width: i64,
    /// In order, without gaps.
    pub buckets: Vec<Bucket>,
    /// Values that are told apart, the most frequent first; `None` is that of events without the field.
    pub series: Vec<(Option<String>, u64)>,
    /// All of them.
    pub total: u64,
}

/// One bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// It begins with this moment.
    pub from: Timestamp,
    /// Events in it.
    pub count: u64,
    /// Of them by value, in the order of the series; what is missing to the count has other values.
    pub by: Vec<u64>,
}

/// Values of a field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values {
    /// The most frequent first; those of equal frequency by themselves.
    pub items: Vec<(String, u64)>,
    /// Are there more values than these?
    pub more: bool,
    /// Only events from this moment on were looked at; all where absent.
    pub since: Option<Timestamp>,
}

/// A width by which an interval has at most so many buckets, in seconds.
pub fn width_for(from: Timestamp, to: Timestamp, buckets: i64) -> i64 {
    let seconds = to.since(from).max(0) / 1_000_000;
    let fits = |width: &&i64| seconds / **width < buckets.max(1);
    WIDTHS.iter().find(fits).copied().unwrap_or_else(|| seconds / buckets.max(1) + 1)
}

impl Lake {
    /// Counts what matches by time, and by a field where one is named. `width` is in seconds.
    ///
    /// # Errors
    /// `TooLarge` for more buckets than [`MOST_BUCKETS`] or a field of very many values, `TimedOut`.
    pub async fn histogram(
        &self,
        tenant: &str,
        query: &Expr,
        (from, to): (Timestamp, Timestamp),
        width: i64,
        by: Option<&FieldRef>,
    ) -> Result<Histogram, LakeError> {
        let width = width.max(1);
        let each = width.saturating_mul(1_000_000);
        let start = from.micros().div_euclid(each).saturating_mul(each);
        let buckets = to.micros().saturating_sub(start).max(0).saturating_add(each - 1) / each;
        if buckets > MOST_BUCKETS {
            return Err(LakeError::TooLarge(format!("{MOST_BUCKETS} buckets")));
        }
        let by = by.map(|field| values_of(field, true));
        let rows = self
            .aggregate(tenant, query, Interval { from: Some(from), to: Some(to) }, move |frame| {
                let bucket = (cast(ident(TIME), DataType::Int64) - lit(start)) / lit(each);
                let mut keys = vec![bucket.alias("bucket")];
                keys.extend(by.map(|value| value.alias("value")));
                let names: Vec<_> = ["bucket", "value"].into_iter().take(keys.len()).map(ident).collect();
                frame.select(keys)?.aggregate(names, vec![count(lit(1_i64)).alias("n")])
            })
            .await?;
        Ok(filled(&rows, (start, each), usize::try_from(buckets).unwrap_or(0), width))
    }

    /// The most frequent values of a field among what matches, that begin with `prefix` whatever its case. With
    /// `sample`, only the newest events are looked at, at least so many where there are.
    ///
    /// # Errors
    /// `TooLarge` where memory does not suffice, `TimedOut`.
    pub async fn values(
        &self,
        tenant: &str,
        query: &Expr,
        interval: Interval,
        field: &FieldRef,
        (prefix, limit, sample): (&str, usize, Option<u64>),
    ) -> Result<Values, LakeError> {
        let limit = limit.min(MOST_VALUES);
        let mut looked_at = interval;
        if let Some(sample) = sample {
            let slices = slices(spans(&self.table(), tenant)?, interval, Order::Newest, sample);
            looked_at = slices.first().copied().unwrap_or(interval);
        }
        let (value, prefix) = (values_of(field, false), prefix.to_lowercase());
        let rows = self
            .aggregate(tenant, query, looked_at, move |frame| {
                let mut frame = frame.select(vec![value.alias("value")])?;
                if frame.schema().field(0).data_type().is_nested() {
                    frame = frame.unnest_columns(&["value"])?;
                }
                frame = frame.filter(ident("value").is_not_null())?;
                if !prefix.is_empty() {
                    frame = frame.filter(starts_with(lower(ident("value")), lit(prefix)))?;
                }
                frame = frame.aggregate(vec![ident("value")], vec![count(lit(1_i64)).alias("n")])?;
                let order = vec![ident("n").sort(false, false), ident("value").sort(true, false)];
                frame.sort(order)?.limit(0, Some(limit + 1))
            })
            .await?;
        let mut items: Vec<(String, u64)> =
            rows.iter().flat_map(|rows| counted(rows, "value")).filter_map(|(value, n)| Some((value?, n))).collect();
        let more = items.len() > limit;
        items.truncate(limit);
        let since = looked_at.from.filter(|from| interval.from.is_none_or(|asked| asked < *from));
        Ok(Values { items, more, since })
    }
}

/// Text and number of each row.
fn counted(rows: &RecordBatch, name: &str) -> Vec<(Option<String>, u64)> {
    let (text, number) = (rows.column_by_name(name), rows.column_by_name("n"));
    (0..rows.num_rows())
        .map(|row| {
            let value = text.and_then(|column| text_at(column, row)).map(str::to_owned);
            let n = number.and_then(|column| long_at(column, row)).and_then(|n| u64::try_from(n).ok());
            (value, n.unwrap_or(0))
        })
        .collect()
}

/// A histogram of the groups, with the buckets that have nothing.
fn filled(batches: &[RecordBatch], (start, each): (i64, i64), buckets: usize, width: i64) -> Histogram {
    let split = batches.iter().any(|rows| rows.column_by_name("value").is_some());
    let mut groups: HashMap<Option<String>, BTreeMap<usize, u64>> = HashMap::new();
    for rows in batches {
        let numbers = rows.column_by_name("bucket");
        for (row, (value, n)) in counted(rows, "value").into_iter().enumerate() {
            let bucket = numbers.and_then(|column| long_at(column, row)).and_then(|at| usize::try_from(at).ok());
            if let Some(bucket) = bucket {
                *groups.entry(value).or_default().entry(bucket).or_default() += n;
            }
        }
    }
    let mut series: Vec<(Option<String>, u64)> =
        groups.iter().map(|(value, counts)| (value.clone(), counts.values().sum())).collect();
    series.sort_by(|(a, of_a), (b, of_b)| of_b.cmp(of_a).then_with(|| a.cmp(b)));
    let total = series.iter().map(|(_, n)| n).sum();
    series.truncate(MOST_SERIES);
    if !split {
        series.clear();
    }
    let mut out: Vec<Bucket> = (0..buckets)
        .map(|at| {
            let from = Timestamp::from_micros(start + i64::try_from(at).unwrap_or(0) * each);
            Bucket { from, count: 0, by: vec![0; series.len()] }
        })
        .collect();
    for (value, counts) in &groups {
        let place = series.iter().position(|(of, _)| of == value);
        for (at, n) in counts {
            let Some(bucket) = out.get_mut(*at) else { continue };
            bucket.count += n;
            if let Some(by) = place.and_then(|place| bucket.by.get_mut(place)) {
                *by += n;
            }
        }
    }
    Histogram { width, buckets: out, series, total }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_readable_and_few_enough() {
        let at = Timestamp::from_secs;
        assert_eq!(width_for(at(0), at(3_600), 60), 120);
        assert_eq!(width_for(at(0), at(3_599), 60), 60);
        assert_eq!(width_for(at(0), at(86_400 * 7), 100), 7_200);
        assert_eq!(width_for(at(5), at(5), 60), 1);
        let long = width_for(at(0), at(86_400 * 365 * 400), 10);
        assert!(86_400 * 365 * 400 / long < 10);
    }
}
