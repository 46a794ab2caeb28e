//! Events: search, SQL, counts, the balance of the books, and a live feed.
//!
//! The search language is the one of `sakimori_store::query`; the live feed judges each new event with the same
//! expression, so that it never disagrees with a search.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use futures::Stream;
use sakimori_model::{Event, Timestamp, field};
use sakimori_runtime::Stop;
use sakimori_store::lake::{Interval, LakeError};
use sakimori_store::query::{self, Expr};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::access::Caller;
use super::extract::{Body, Page, Query, limit};
use super::problem::{self, Problem};
use super::watch::Watch;
use crate::books;
use crate::shared::LiveEvent;

/// A search.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct SearchQuery {
    /// Search text, `source.ip:198.51.100.0/24 and not user.name:ro*`; everything where absent.
    pub q: Option<String>,
    /// Earliest `@timestamp`, RFC 3339.
    pub from: Option<String>,
    /// Before this `@timestamp`, RFC 3339.
    pub to: Option<String>,
    /// Most events, 1 to 1000; 100 where absent.
    pub limit: Option<i64>,
    /// `next` of the page before.
    pub cursor: Option<String>,
}

/// What to count.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct CountQuery {
    /// Search text; everything where absent.
    pub q: Option<String>,
    /// Earliest `@timestamp`, RFC 3339.
    pub from: Option<String>,
    /// Before this `@timestamp`, RFC 3339.
    pub to: Option<String>,
}

/// What to watch.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct TailQuery {
    /// Search text; everything where absent.
    pub q: Option<String>,
}

/// A statement.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// One SELECT over the table `events`; columns are field names in double quotes.
    pub sql: String,
}

/// An ECS document, nested.
#[derive(Debug, Serialize, ToSchema)]
#[schema(value_type = Object)]
pub struct Document(pub Map<String, Value>);

impl From<Event> for Document {
    fn from(event: Event) -> Self {
        Self(event.to_json())
    }
}

/// The result of a statement.
#[derive(Debug, Serialize, ToSchema)]
pub struct Rows {
    /// Names of its columns.
    pub columns: Vec<String>,
    /// Its rows.
    #[schema(value_type = Vec<Vec<Object>>)]
    pub rows: Vec<Vec<Value>>,
    /// Were there more rows than a result may have? Then these are the first.
    pub more: bool,
}

/// A count.
#[derive(Debug, Serialize, ToSchema)]
pub struct Count {
    /// How many.
    pub count: u64,
}

/// The books: what came in, what is stored, what was lost and where.
#[derive(Debug, Serialize, ToSchema)]
pub struct Balance {
    /// One row an agent and stream.
    #[schema(value_type = Vec<Object>)]
    pub items: Vec<books::Row>,
    /// Do all of them balance?
    pub balanced: bool,
}

/// The expression of a search text.
pub(super) fn expression(text: Option<&str>) -> Result<Expr, Problem> {
    Ok(text.map_or(Ok(Expr::All), query::parse)?)
}

/// The interval of a search.
pub(super) fn interval(from: Option<&str>, to: Option<&str>) -> Result<Interval, Problem> {
    Ok(Interval { from: moment("from", from)?, to: moment("to", to)? })
}

/// A time that a parameter gives.
pub(super) fn moment(place: &str, text: Option<&str>) -> Result<Option<Timestamp>, Problem> {
    let Some(text) = text else { return Ok(None) };
    Timestamp::parse(text).map(Some).ok_or_else(|| {
        let reason = format!("expected a time such as 2026-01-02T03:04:05Z, found {text:?}");
        Problem::new(problem::REQUEST_QUERY).fault(place, reason)
    })
}

/// `GET /events`
pub async fn search(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<SearchQuery>,
) -> Result<Json<Page<Document>>, Problem> {
    let expression = expression(query.q.as_deref())?;
    let page = find(&app, &caller, &expression, &query).await?;
    Ok(Json(page))
}

/// A page of what an expression finds in the interval of a search.
pub(super) async fn find<T: From<Event>>(
    app: &App,
    caller: &Caller,
    expression: &Expr,
    query: &SearchQuery,
) -> Result<Page<T>, Problem> {
    let interval = interval(query.from.as_deref(), query.to.as_deref())?;
    let most = usize::try_from(limit(query.limit)?).unwrap_or(1);
    // The lake's cursors name a place in its order; outside they are opaque as all of ours.
    let cursor: Option<String> = super::extract::place(query.cursor.as_deref())?;
    let found = app.shared.lake.search(caller.tenant(), expression, interval, most, cursor.as_deref()).await?;
    let items = found.hits.into_iter().map(|hit| hit.event.into()).collect();
    Ok(Page { items, next: found.cursor.map(|cursor| super::extract::cursor(&cursor)) })
}

/// `GET /events/count`
pub async fn count(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<CountQuery>,
) -> Result<Json<Count>, Problem> {
    let expression = expression(query.q.as_deref())?;
    let interval = interval(query.from.as_deref(), query.to.as_deref())?;
    Ok(Json(Count { count: app.shared.lake.count(caller.tenant(), &expression, interval).await? }))
}

/// `POST /events/sql`
pub async fn sql(
    State(app): State<App>,
    caller: Caller,
    Body(statement): Body<Statement>,
) -> Result<Json<Rows>, Problem> {
    let table = app.shared.lake.sql(caller.tenant(), &statement.sql).await;
    let table = table.map_err(|error| misread(error, &statement.sql))?;
    Ok(Json(Rows { columns: table.columns, rows: table.rows, more: table.more }))
}

/// A statement that cannot be run, with its place where the parser tells one.
fn misread(error: LakeError, sql: &str) -> Problem {
    let LakeError::Query(reason) = &error else { return error.into() };
    // A name that is not there is answered by all that are.
    let reason: String = reason.split(" Valid fields are").next().unwrap_or_default().chars().take(1_000).collect();
    let number = |label: &str| -> Option<usize> {
        let (_, after) = reason.rsplit_once(label)?;
        after.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    let offset = number("Line: ").zip(number("Column: ")).and_then(|(line, column)| {
        let before: usize = sql.split_inclusive('\n').take(line.checked_sub(1)?).map(str::len).sum();
        let within: usize = sql.get(before..)?.chars().take(column.checked_sub(1)?).map(char::len_utf8).sum();
        Some(sql.get(..before + within)?.encode_utf16().count())
    });
    let expected = "one SELECT over events or alerts; columns are field names in double quotes, \"source.ip\"";
    Problem::new(problem::EVENTS_QUERY).detail(&reason).mark(problem::Fault {
        place: "sql".to_owned(),
        reason,
        offset,
        length: offset.map(|_| 1),
        expected: Some(expected.to_owned()),
    })
}

/// `GET /events/balance`
pub async fn balance(State(app): State<App>, caller: Caller) -> Result<Json<Balance>, Problem> {
    let items = books::balance(&app.shared, caller.tenant()).await.map_err(|error| Problem::failed(&error))?;
    Ok(Json(Balance { balanced: items.iter().all(|row| row.balanced), items }))
}

/// `GET /events/tail`: new events as server-sent events. One that cannot keep up is told how many it missed. As [`Watch`] says,
/// one has a few, and each ends with its session.
pub async fn tail(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<TailQuery>,
) -> Result<Sse<impl Stream<Item = Result<Sent, Infallible>>>, Problem> {
    let expression = expression(query.q.as_deref())?;
    let (live, tenant) = (app.shared.live.subscribe(), caller.tenant().to_owned());
    let tail = Tail { live, tenant, expression, stop: app.shared.stop.clone(), watch: Watch::begin(&app, caller)? };
    let feed = futures::stream::unfold(tail, |mut tail| async move {
        let sent = tail.next().await?;
        Some((Ok(sent), tail))
    });
    Ok(Sse::new(feed).keep_alive(KeepAlive::default()))
}

struct Tail {
    live: Receiver<Arc<LiveEvent>>,
    tenant: String,
    expression: Expr,
    stop: Stop,
    watch: Watch,
}

impl Tail {
    /// The next thing to send; nothing once it is over.
    async fn next(&mut self) -> Option<Sent> {
        loop {
            let next = tokio::select! {
                next = self.live.recv() => next,
                () = self.watch.time_to_look() => match self.watch.may_go_on().await {
                    true => continue,
                    false => return None,
                },
                () = self.stop.wait() => return None,
            };
            match next {
                Ok(new) if new.tenant == self.tenant && self.expression.matches(&new.event) => {
                    return Some(sent(&new.event));
                }
                Ok(_) => {}
                Err(RecvError::Lagged(count)) => {
                    return Some(Sent::default().event("lost").data(json!({"count": count}).to_string()));
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

fn sent(event: &Event) -> Sent {
    let sent = Sent::default().event("event");
    let sent = match event.str(field::EVENT_ID) {
        // A line break would end the field and begin another.
        Some(id) if !id.chars().any(char::is_control) => sent.id(id),
        _ => sent,
    };
    sent.data(Value::Object(event.to_json()).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_that_cannot_be_read_has_its_place() {
        let sql = "SELECT ä\nFROM WHERE";
        let error = LakeError::Query("Expected: identifier, found: WHERE at Line: 2, Column: 6".into());
        let problem = misread(error, sql);
        let fault = problem.faults().first().unwrap();
        assert_eq!((fault.offset, fault.length), (Some(14), Some(1)));
        let far = LakeError::Query("x at Line: 99, Column: 7".into());
        assert_eq!(misread(far, sql).faults().first().unwrap().offset, Some(sql.encode_utf16().count()));
        let named = LakeError::Query("No field named a. Valid fields are b, c".into());
        assert_eq!(misread(named, sql).faults().first().unwrap().reason, "No field named a.");
        assert_eq!(misread(LakeError::Cursor, sql).code.code, "request/cursor");
    }
}
