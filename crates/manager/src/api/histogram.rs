//! `histogram`: how many events there were when, and of which kinds.

use std::time::Instant;

use axum::Json;
use axum::extract::State;
use sakimori_model::Timestamp;
use sakimori_store::lake::{MOST_BUCKETS, width_for};
use sakimori_store::query::FieldRef;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::access::Caller;
use super::events::{expression, interval};
use super::extract::Query;
use super::problem::{self, Problem};

/// Buckets where the request does not say.
const USUAL: i64 = 60;
/// Most buckets by number.
const MOST: i64 = 400;

/// What to count.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct HistogramQuery {
    /// Search text; everything where absent.
    pub q: Option<String>,
    /// From this time on, RFC 3339; the earliest event where absent.
    pub from: Option<String>,
    /// Before this time, RFC 3339; after the latest event where absent.
    pub to: Option<String>,
    /// A field by whose values the counts are split: the ten most frequent ones.
    pub by: Option<String>,
    /// At most so many buckets, 1 to 400; 60 where absent. The width is one that people can read.
    pub buckets: Option<i64>,
    /// Width of a bucket in seconds instead.
    pub width: Option<i64>,
}

/// Counts over time.
#[derive(Debug, Serialize, ToSchema)]
pub struct HistogramView {
    /// The first bucket begins here or before.
    #[schema(value_type = String, format = DateTime)]
    pub from: Timestamp,
    /// The last one ends here or after.
    #[schema(value_type = String, format = DateTime)]
    pub to: Timestamp,
    /// Width of a bucket in seconds.
    pub width: i64,
    /// All of them, in order.
    pub buckets: Vec<BucketView>,
    /// The values that are told apart, the most frequent first; empty where no field was named.
    pub series: Vec<SeriesView>,
    /// Events in all buckets.
    pub total: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// One bucket.
#[derive(Debug, Serialize, ToSchema)]
pub struct BucketView {
    /// It begins with this moment.
    #[schema(value_type = String, format = DateTime)]
    pub from: Timestamp,
    /// Events in it.
    pub count: u64,
    /// Of them by value, in the order of `series`; what is missing to the count has other values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub by: Vec<u64>,
}

/// One value of the field by which is split.
#[derive(Debug, Serialize, ToSchema)]
pub struct SeriesView {
    /// The value; absent for events that have none.
    pub value: Option<String>,
    /// Events with it.
    pub count: u64,
}

/// `GET /events/histogram`
pub async fn get(
    State(app): State<App>,
    caller: Caller,
    Query(asked): Query<HistogramQuery>,
) -> Result<Json<HistogramView>, Problem> {
    let began = Instant::now();
    let wrong = |place: &str, reason: String| Problem::new(problem::REQUEST_QUERY).fault(place, reason);
    let query = expression(asked.q.as_deref())?;
    let given = interval(asked.from.as_deref(), asked.to.as_deref())?;
    let by = asked.by.as_deref().map(field).transpose()?;
    let lake = &app.shared.lake;
    let (from, to) = match (given.from, given.to) {
        (Some(from), Some(to)) => (from, to),
        (from, to) => {
            let extent = lake.extent(caller.tenant()).await?;
            let now = app.shared.clock.now();
            let last = extent.last.map_or(now, |last| last.plus_micros(1));
            (from.or(extent.first).unwrap_or(now), to.unwrap_or(last))
        }
    };
    let to = to.max(from);
    let buckets = asked.buckets.unwrap_or(USUAL);
    if !(1..=MOST).contains(&buckets) {
        return Err(wrong("buckets", format!("expected 1 to {MOST}, found {buckets}")));
    }
    let width = asked.width.unwrap_or_else(|| width_for(from, to, buckets));
    if width < 1 || to.since(from) / 1_000_000 / width >= MOST_BUCKETS {
        return Err(wrong("width", format!("expected seconds, and at most {MOST_BUCKETS} buckets")));
    }
    let found = lake.histogram(caller.tenant(), &query, (from, to), width, by.as_ref()).await?;
    let bucket = |one: sakimori_store::lake::Bucket| BucketView { from: one.from, count: one.count, by: one.by };
    Ok(Json(HistogramView {
        from,
        to,
        width: found.width,
        buckets: found.buckets.into_iter().map(bucket).collect(),
        series: found.series.into_iter().map(|(value, count)| SeriesView { value, count }).collect(),
        total: found.total,
        took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    }))
}

/// A field that is named by a request.
pub(super) fn field(name: &str) -> Result<FieldRef, Problem> {
    let name = name.trim().trim_matches('"');
    if name.is_empty() || name.len() > 256 || name.split('.').any(str::is_empty) {
        let reason = format!("{name:?} is no name of a field; one is like source.ip");
        return Err(Problem::new(problem::EVENTS_FIELD).fault("field", reason));
    }
    Ok(FieldRef::path(name))
}
