//! One event with its original, and what happened around it: at the same host, by the same user, address or process,
//! what an alert was made of and which alerts an event led to, and what was done.

use axum::Json;
use axum::extract::{Path, State};
use sakimori_model::id::EventId;
use sakimori_model::{Event, FieldId, Timestamp, field};
use sakimori_store::control::Scope;
use sakimori_store::control::actions::{self, Filter};
use sakimori_store::lake::{Ask, Hit, Interval, Order};
use sakimori_store::query::{Expr, FieldRef, equals};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::access::Caller;
use super::actions::ActionView;
use super::events::{Document, interval};
use super::extract::Query;
use super::problem::{self, Problem};
use super::search::{self, EventRow};

/// What events are related by, the most telling first; of each the first value counts.
const BY: [FieldId; 8] = [
    field::PROCESS_ENTITY_ID,
    field::FILE_HASH_SHA256,
    field::USER_NAME,
    field::SOURCE_IP,
    field::CLIENT_IP,
    field::DESTINATION_IP,
    field::CONTAINER_ID,
    field::HOST_NAME,
];
/// Minutes on each side where the request does not say.
const MINUTES: i64 = 15;
/// Most minutes on each side.
const MOST_MINUTES: i64 = 24 * 60;
/// Rows of a group where the request does not say.
const USUAL: i64 = 10;
/// Most rows of a group.
const MOST: i64 = 100;
/// Related events are counted up to this.
const COUNTED: usize = 1_000;
/// Most events of an alert that are looked up, and most of its actions.
const MOST_CAUSES: usize = 50;

/// Where it is.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct EventQuery {
    /// Its `time` as a row of a search has it, RFC 3339: then it is found at once.
    pub time: Option<String>,
}

/// What is around it.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct RelatedQuery {
    /// Its `time` as a row of a search has it, RFC 3339.
    pub time: Option<String>,
    /// Minutes on each side, 1 to 1440; 15 where absent.
    pub minutes: Option<i64>,
    /// Rows of each group, 1 to 100; 10 where absent.
    pub limit: Option<i64>,
}

/// One event.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventDetail {
    /// `event.id`: names the occurrence.
    pub id: String,
    /// What rows are sorted by.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// When the manager took it.
    #[schema(value_type = String, format = DateTime)]
    pub received: Timestamp,
    /// The line as it came; absent where the event was made here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original: Option<String>,
    /// All values by dotted names.
    #[schema(value_type = Object)]
    pub fields: Map<String, Value>,
    /// The nested document.
    pub event: Document,
}

/// What is around an event.
#[derive(Debug, Serialize, ToSchema)]
pub struct Related {
    /// From this time on.
    #[schema(value_type = String, format = DateTime)]
    pub from: Timestamp,
    /// Before this time.
    #[schema(value_type = String, format = DateTime)]
    pub to: Timestamp,
    /// One a value that it shares with others.
    pub groups: Vec<RelatedGroup>,
    /// The events that an alert was made of, oldest first.
    pub causes: Vec<EventRow>,
    /// The alerts that it led to, or that are about the same alert.
    pub alerts: Vec<EventRow>,
    /// What was done because of it, newest first.
    pub actions: Vec<ActionView>,
}

/// Events that share a value with it.
#[derive(Debug, Serialize, ToSchema)]
pub struct RelatedGroup {
    /// The field.
    pub field: &'static str,
    /// The value.
    pub value: String,
    /// The search that finds them.
    pub q: String,
    /// How many there are, without itself.
    pub total: search::Total,
    /// The nearest in time before and after it, newest first.
    pub items: Vec<EventRow>,
}

/// `GET /events/{id}`
pub async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Query(asked): Query<EventQuery>,
) -> Result<Json<EventDetail>, Problem> {
    let hit = one(&app, &caller, &id, asked.time.as_deref()).await?;
    Ok(Json(EventDetail {
        id: hit.id.to_string(),
        time: hit.time,
        received: hit.received,
        original: hit.event.str(field::EVENT_ORIGINAL).map(str::to_owned),
        fields: search::flat(&hit.event),
        event: hit.event.into(),
    }))
}

/// `GET /events/{id}/related`
pub async fn related(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Query(asked): Query<RelatedQuery>,
) -> Result<Json<Related>, Problem> {
    let within = |name: &str, value: Option<i64>, usual: i64, most: i64| match value.unwrap_or(usual) {
        value if (1..=most).contains(&value) => Ok(value),
        value => Err(Problem::new(problem::REQUEST_QUERY).fault(name, format!("expected 1 to {most}, found {value}"))),
    };
    let minutes = within("minutes", asked.minutes, MINUTES, MOST_MINUTES)?;
    let limit = usize::try_from(within("limit", asked.limit, USUAL, MOST)?).unwrap_or(1);
    let hit = one(&app, &caller, &id, asked.time.as_deref()).await?;
    let (from, to) = (hit.time.plus_secs(-minutes * 60), hit.time.plus_secs(minutes * 60));
    let mut groups = Vec::new();
    for by in BY {
        let Some(value) = first(&hit.event, by) else { continue };
        let said = groups.iter().any(|group: &RelatedGroup| group.value == value);
        if !said {
            groups.extend(group(&app, &caller, &hit, (by, value), (from, to), limit).await?);
        }
    }
    let around = Interval { from: Some(from), to: Some(to) };
    Ok(Json(Related {
        from,
        to,
        groups,
        causes: causes(&app, &caller, &hit).await?,
        alerts: alerts(&app, &caller, &hit, around).await?,
        actions: done(&app, &caller, &hit).await?,
    }))
}

/// The event of this id.
pub(super) async fn one(app: &App, caller: &Caller, id: &str, time: Option<&str>) -> Result<Hit, Problem> {
    let near = interval(time, None)?.from;
    let id = EventId::parse(id).ok_or_else(|| Problem::new(problem::EVENT_MISSING))?;
    let found = app.shared.lake.event(caller.tenant(), &id, near).await?;
    found.ok_or_else(|| Problem::new(problem::EVENT_MISSING))
}

fn first(event: &Event, field: FieldId) -> Option<String> {
    let value = event.get(field)?.each().first()?.to_json();
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    (!text.is_empty()).then_some(text)
}

/// Events that share a value; none where there are none but itself.
async fn group(
    app: &App,
    caller: &Caller,
    hit: &Hit,
    (by, value): (FieldId, String),
    (from, to): (Timestamp, Timestamp),
    limit: usize,
) -> Result<Option<RelatedGroup>, Problem> {
    let query = equals(&FieldRef::from(by), &value);
    let lake = &app.shared.lake;
    let side =
        |interval: Interval, order: Order| Ask { query: &query, interval, limit, cursor: None, order, fields: None };
    let before = Interval { from: Some(from), to: Some(hit.time) };
    // The moment itself belongs to what came after.
    let after = Interval { from: Some(hit.time), to: Some(to) };
    let both = Interval { from: Some(from), to: Some(to) };
    let (total, before, after) = tokio::join!(
        lake.count_up_to(caller.tenant(), &query, both, COUNTED),
        lake.page(caller.tenant(), side(before, Order::Newest)),
        lake.page(caller.tenant(), Ask { limit: limit + 1, ..side(after, Order::Oldest) }),
    );
    let (count, more) = total?;
    let mut hits: Vec<Hit> = after?.hits.into_iter().filter(|other| other.id != hit.id).collect();
    hits.extend(before?.hits);
    hits.sort_by_key(|other| other.time.since(hit.time).abs());
    hits.truncate(limit);
    hits.sort_by_key(|other| std::cmp::Reverse((other.time, other.arrival)));
    let items: Vec<EventRow> = hits.iter().map(|hit| search::row(hit, None)).collect();
    Ok((!items.is_empty()).then(|| RelatedGroup {
        field: by.name(),
        value,
        q: query.to_string(),
        total: search::Total { count: count.saturating_sub(1), more },
        items,
    }))
}

/// The events that an alert names as its causes, oldest first.
pub(super) async fn causing(app: &App, caller: &Caller, alert: &Event) -> Result<Vec<Hit>, Problem> {
    let near = |field: FieldId| alert.date(field);
    let span = Interval { from: near(field::EVENT_START), to: near(field::EVENT_END).map(|end| end.plus_micros(1)) };
    let named = alert.get(field::SAKIMORI_ALERT_EVENTS).map(|value| value.each().to_vec()).unwrap_or_default();
    let ids = named.iter().take(MOST_CAUSES).filter_map(|id| EventId::parse(&id.to_json().as_str()?.to_owned()));
    let mut hits = app.shared.lake.events_by_id(caller.tenant(), &ids.collect::<Vec<_>>(), span).await?;
    hits.sort_by_key(|hit| (hit.time, hit.arrival));
    Ok(hits)
}

async fn causes(app: &App, caller: &Caller, hit: &Hit) -> Result<Vec<EventRow>, Problem> {
    Ok(causing(app, caller, &hit.event).await?.iter().map(|hit| search::row(hit, None)).collect())
}

/// Alerts that name this event as their cause; of an action's event, the alert that it is about.
async fn alerts(app: &App, caller: &Caller, hit: &Hit, around: Interval) -> Result<Vec<EventRow>, Problem> {
    let is_alert = equals(&FieldRef::from(field::EVENT_KIND), "alert");
    let named = equals(&FieldRef::from(field::SAKIMORI_ALERT_EVENTS), &hit.id.to_string());
    let mut about = vec![named];
    about.extend(
        hit.event.str(field::SAKIMORI_ALERT_ID).map(|id| equals(&FieldRef::from(field::SAKIMORI_ALERT_ID), id)),
    );
    let query = Expr::and(vec![is_alert, Expr::or(about)]);
    let found = app.shared.lake.search(caller.tenant(), &query, around, MOST_CAUSES, None).await?;
    Ok(found.hits.iter().filter(|other| other.id != hit.id).map(|hit| search::row(hit, None)).collect())
}

/// Actions whose cause is the alert that this event is or speaks of.
async fn done(app: &App, caller: &Caller, hit: &Hit) -> Result<Vec<ActionView>, Problem> {
    let Some(alert) = hit.event.str(field::SAKIMORI_ALERT_ID) else { return Ok(Vec::new()) };
    let filter = Filter { alert: Some(alert.to_owned()), ..Filter::default() };
    let scope = Scope::One(caller.tenant().to_owned());
    let most = i64::try_from(MOST_CAUSES).unwrap_or(i64::MAX);
    let jobs = actions::list(app.shared.control.read(), &scope, &filter, None, most).await?;
    Ok(jobs.into_iter().map(ActionView::from).collect())
}
