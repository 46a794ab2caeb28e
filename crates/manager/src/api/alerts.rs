//! Alerts: the events of kind `alert`, with what people say of them.

use axum::Json;
use axum::extract::{Path, State};
use sakimori_model::{Event, Timestamp, field};
use sakimori_store::control::alerts::{self, Note, Status};
use sakimori_store::query::{self, Expr};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::access::Caller;
use super::events::{SearchQuery, expression, find};
use super::extract::{Body, Page, Query};
use super::problem::{self, Problem};
use super::{App, Done};
use crate::exceptions::SUPPRESSED;
use crate::jobs::deliver;

/// Longest comment, in bytes.
const COMMENT: usize = 4_096;

/// An alert.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Alert)]
pub struct AlertView {
    /// `sakimori.alert.id`.
    pub id: String,
    /// `open`, `acknowledged` or `closed`; `suppressed` where an exception holds it back.
    pub status: &'static str,
    /// What somebody says of it.
    pub comment: String,
    /// Who set status and comment; empty where nobody has.
    pub changed_by: String,
    /// When.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub changed: Option<Timestamp>,
    /// The event, an ECS document.
    #[schema(value_type = Object)]
    pub event: Map<String, Value>,
}

/// What may change of an alert; absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AlertPatch {
    /// `open`, `acknowledged` or `closed`.
    pub status: Option<String>,
    /// At most 4096 bytes.
    pub comment: Option<String>,
}

/// What the audit log covers.
#[derive(Serialize)]
struct Said<'a> {
    status: &'a str,
    comment: &'a str,
}

struct Found(Event);

impl From<Event> for Found {
    fn from(event: Event) -> Self {
        Self(event)
    }
}

pub(super) fn view(mut event: Event, note: Option<&Note>) -> AlertView {
    let held_back = event.get(field::SAKIMORI_ALERT_EXCEPTION).is_some();
    let status = match note {
        Some(note) => note.status.name(),
        None if held_back => SUPPRESSED,
        None => Status::Open.name(),
    };
    event.set(field::SAKIMORI_ALERT_STATUS, status);
    AlertView {
        id: event.str(field::SAKIMORI_ALERT_ID).unwrap_or_default().to_owned(),
        status,
        comment: note.map(|note| note.comment.clone()).unwrap_or_default(),
        changed_by: note.map(|note| note.author.clone()).unwrap_or_default(),
        changed: note.map(|note| note.changed),
        event: event.to_json(),
    }
}

/// `GET /alerts`
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<SearchQuery>,
) -> Result<Json<Page<AlertView>>, Problem> {
    // Who asks for what exceptions hold back names them: sakimori.alert.exception:*
    let asks = query.q.as_deref().is_some_and(|text| text.contains("sakimori.alert.exception"));
    let kind = if asks { "event.kind:alert" } else { "event.kind:alert and not sakimori.alert.exception:*" };
    let wanted = Expr::and(vec![query::parse(kind)?, expression(query.q.as_deref())?]);
    let page: Page<Found> = find(&app, &caller, &wanted, &query).await?;
    let ids: Vec<&str> = page.items.iter().filter_map(|found| found.0.str(field::SAKIMORI_ALERT_ID)).collect();
    let notes = alerts::of(app.shared.control.read(), caller.tenant(), &ids).await?;
    let items = page.items.into_iter().map(|Found(event)| {
        let note = event.str(field::SAKIMORI_ALERT_ID).and_then(|id| notes.get(id));
        view(event, note)
    });
    Ok(Json(Page { items: items.collect(), next: page.next }))
}

/// `GET /alerts/{id}`
pub async fn get(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<Json<AlertView>, Problem> {
    let event = one(&app, &caller, &id).await?;
    let mut notes = alerts::of(app.shared.control.read(), caller.tenant(), &[&id]).await?;
    Ok(Json(view(event, notes.remove(&id).as_ref())))
}

/// `PATCH /alerts/{id}`
pub async fn patch(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(patch): Body<AlertPatch>,
) -> Result<Json<AlertView>, Problem> {
    let wrong = |place: &str, reason: &str| Problem::new(problem::ALERT_INVALID).fault(place, reason);
    let status = match patch.status.as_deref().map(Status::parse) {
        Some(None) => return Err(wrong("status", "expected open, acknowledged or closed")),
        Some(status) => status,
        None => None,
    };
    if patch.comment.as_ref().is_some_and(|comment| comment.len() > COMMENT) {
        return Err(wrong("comment", "a comment has at most 4096 bytes"));
    }
    let event = one(&app, &caller, &id).await?;
    let mut change = app.shared.control.begin().await?;
    let before = alerts::get(change.connection(), caller.tenant(), &id).await?;
    let (old_status, old_comment) =
        before.as_ref().map_or((Status::Open, ""), |note| (note.status, note.comment.as_str()));
    let note = Note {
        tenant: caller.tenant().to_owned(),
        alert: id.clone(),
        status: status.unwrap_or(old_status),
        comment: patch.comment.unwrap_or_else(|| old_comment.to_owned()),
        author: caller.actor.clone(),
        changed: app.shared.clock.now(),
    };
    alerts::put(change.connection(), &note).await?;
    let closed = match note.status {
        Status::Closed => {
            let (of, said) = ((caller.tenant(), id.as_str()), (caller.actor.as_str(), note.comment.as_str()));
            deliver::close(&app.shared, &mut change, of, said, note.changed).await?
        }
        _ => Vec::new(),
    };
    let before = Said { status: old_status.name(), comment: old_comment };
    let after = Said { status: note.status.name(), comment: &note.comment };
    let done = Done {
        tenant: caller.tenant(),
        action: "alerts:change",
        target: &id,
        before: Some(&before),
        after: Some(&after),
    };
    app.done(change, &caller, done).await?;
    for channel in closed {
        app.shared.channels.wake(&channel);
    }
    Ok(Json(view(event, Some(&note))))
}

/// The alert of this id.
pub(super) async fn one(app: &App, caller: &Caller, id: &str) -> Result<Event, Problem> {
    let missing = || Problem::new(problem::ALERT_MISSING);
    // An id is a hash in hex; nothing else reaches the search language.
    if !(1..=64).contains(&id.len()) || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(missing());
    }
    let wanted = query::parse(&format!("event.kind:alert and sakimori.alert.id:\"{id}\""))?;
    let query = SearchQuery { limit: Some(1), ..SearchQuery::default() };
    let page: Page<Found> = find(app, caller, &wanted, &query).await?;
    page.items.into_iter().next().map(|found| found.0).ok_or_else(missing)
}
