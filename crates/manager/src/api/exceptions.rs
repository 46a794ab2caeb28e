//! Exceptions over alerts: what is found and expected, why, who answers for it, and until when. What one does, and what it
//! never holds back: [`crate::exceptions`].

use std::collections::{BTreeMap, HashMap, HashSet};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use sakimori_model::{Event, Timestamp};
use sakimori_store::control::exceptions::{self, Exception};
use sakimori_store::control::{Scope, agents as hosts};
use sakimori_store::query;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::access::Caller;
use super::enrolment::slug;
use super::events::{SearchQuery, find};
use super::extract::{Body, Page, Query, limit, place};
use super::problem::{self, Problem};
use super::{App, Done, agents};
use crate::exceptions::{Ready, condition};

/// Days that an exception holds where nobody says how long.
const USUAL_DAYS: i64 = 90;
/// Most days: whoever wants it longer looks at it again.
const MOST_DAYS: i64 = 365;
/// Longest reason and owner, in bytes.
const MOST_TEXT: usize = 1_000;
/// Most fields of one.
const MOST_FIELDS: usize = 16;
/// Alerts that a preview looks at.
const LOOKED_AT: i64 = 1_000;
/// Alerts that a preview shows.
const SHOWN: usize = 5;
/// What an exception is about, and what it is not.
const CONCERNS: &str = "alerts and the manager's playbooks; what a host's own playbook does about such an alert is not held \
                        back, switch the rule or the playbook there by policy";

/// How often each was used, and when last.
const USES: &str = "SELECT \"sakimori.alert.exception\", COUNT(*), MAX(\"@timestamp\") FROM events \
                    WHERE \"event.kind\" = 'alert' AND \"sakimori.alert.exception\" IS NOT NULL \
                    GROUP BY \"sakimori.alert.exception\"";

/// An exception.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Exception)]
pub struct ExceptionView {
    /// UUIDv7; `sakimori.alert.exception` of what it holds back.
    pub id: String,
    /// `rule.id` of the alerts.
    pub rule: String,
    /// The one host; empty for all.
    pub agent: String,
    /// The group of hosts; empty for all.
    pub group: String,
    /// What else holds of the alerts, in the search language; empty where nothing does.
    pub condition: String,
    /// Why they are expected.
    pub reason: String,
    /// Who answers for it.
    pub owner: String,
    /// Who wrote it.
    pub created_by: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// Until when it holds.
    #[schema(value_type = String, format = DateTime)]
    pub expires: Timestamp,
    /// Has it ended? Such a one is listed for 90 days.
    pub ended: bool,
    /// Alerts that it held back, as far as the lake has them.
    pub used: u64,
    /// `@timestamp` of the last.
    pub last_used: Option<String>,
    /// What it is about.
    pub concerns: &'static str,
}

/// Which exceptions.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ExceptionQuery {
    /// Those of this rule.
    pub rule: Option<String>,
    /// Those that end within so many days, and have not ended.
    pub ending_within_days: Option<i64>,
    /// Those that have ended too.
    #[serde(default)]
    pub ended: bool,
    /// Most rows, 1 to 1000; 100 where absent.
    pub limit: Option<i64>,
    /// `next` of the page before.
    pub cursor: Option<String>,
}

/// An exception to be made.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewException {
    /// `rule.id` of the alerts.
    pub rule: String,
    /// The one host, by its agent's id; all where absent.
    pub agent: Option<String>,
    /// Or a group of hosts.
    pub group: Option<String>,
    /// What else holds of the alerts: fields with their values,
    #[serde(default)]
    pub fields: BTreeMap<String, String>,
    /// or search text.
    pub condition: Option<String>,
    /// Why they are expected, 1 to 1000 bytes.
    #[serde(default)]
    pub reason: String,
    /// Who answers for it; who makes it where absent.
    pub owner: Option<String>,
    /// Days that it holds, 1 to 365; 90 where absent.
    pub days: Option<i64>,
}

/// What may change of an exception; absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExceptionPatch {
    /// Why.
    pub reason: Option<String>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// It holds for so many days from now, 1 to 365; 0: it ends now.
    pub days: Option<i64>,
}

/// What an exception would have held back.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExceptionPreview {
    /// Alerts of the rule in the last seven days that were looked at, newest first, at most 1000.
    pub looked_at: usize,
    /// Were there more?
    pub more: bool,
    /// Those that it would have held back.
    pub held: usize,
    /// The newest five of them.
    #[schema(value_type = Vec<Object>)]
    pub newest: Vec<Map<String, Value>>,
}

/// What the audit log covers.
#[derive(Serialize)]
struct Audited<'a> {
    rule: &'a str,
    agent: &'a str,
    group: &'a str,
    condition: &'a str,
    reason: &'a str,
    owner: &'a str,
    expires: Timestamp,
}

fn audited(exception: &Exception) -> Audited<'_> {
    Audited {
        rule: &exception.rule,
        agent: &exception.agent,
        group: &exception.tag,
        condition: &exception.condition,
        reason: &exception.reason,
        owner: &exception.owner,
        expires: exception.expires,
    }
}

type Uses = HashMap<String, (u64, Option<String>)>;

async fn uses(app: &App, caller: &Caller) -> Result<Uses, Problem> {
    let table = app.shared.lake.sql(caller.tenant(), USES).await?;
    let row = |row: Vec<Value>| match row.as_slice() {
        [Value::String(id), count, last] => {
            Some((id.clone(), (count.as_u64().unwrap_or(0), last.as_str().map(str::to_owned))))
        }
        _ => None,
    };
    Ok(table.rows.into_iter().filter_map(row).collect())
}

fn view(exception: Exception, uses: &Uses, now: Timestamp) -> ExceptionView {
    let (used, last_used) = uses.get(&exception.id).cloned().unwrap_or_default();
    ExceptionView {
        id: exception.id,
        rule: exception.rule,
        agent: exception.agent,
        group: exception.tag,
        condition: exception.condition,
        reason: exception.reason,
        owner: exception.owner,
        created_by: exception.created_by,
        created: exception.created,
        expires: exception.expires,
        ended: exception.expires <= now,
        used,
        last_used,
        concerns: CONCERNS,
    }
}

/// `GET /exceptions`
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<ExceptionQuery>,
) -> Result<Json<Page<ExceptionView>>, Problem> {
    let limit = limit(query.limit)?;
    if query.ending_within_days.is_some_and(|days| !(0..=MOST_DAYS).contains(&days)) {
        return Err(Problem::new(problem::REQUEST_QUERY).fault("ending_within_days", "expected 0 to 365"));
    }
    let after: String = place(query.cursor.as_deref())?.unwrap_or_default();
    let now = app.shared.clock.now();
    let within = query.ending_within_days.map(|days| now.plus_secs(days * 86_400));
    let mut rows = exceptions::list(app.shared.control.read(), caller.tenant()).await?;
    rows.retain(|one| {
        one.id > after
            && query.rule.as_ref().is_none_or(|rule| one.rule == *rule)
            && (query.ended && within.is_none() || one.expires > now)
            && within.is_none_or(|end| one.expires <= end)
    });
    let uses = uses(&app, &caller).await?;
    Ok(Json(Page::of(rows, limit, |one| one.id.clone(), |one| view(one, &uses, now))))
}

/// `GET /exceptions/{id}`
pub async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<ExceptionView>, Problem> {
    let exception = exceptions::get(app.shared.control.read(), caller.tenant(), &id).await?;
    Ok(Json(view(exception, &uses(&app, &caller).await?, app.shared.clock.now())))
}

/// `POST /exceptions`
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<NewException>,
) -> Result<(StatusCode, Json<ExceptionView>), Problem> {
    if new.reason.trim().is_empty() {
        return Err(wrong("reason", "say why these alerts are expected"));
    }
    let exception = checked(&app, &caller, new).await?;
    let mut change = app.shared.control.begin().await?;
    exceptions::create(change.connection(), &exception).await?;
    let after = audited(&exception);
    let done = Done {
        tenant: caller.tenant(),
        action: "exceptions:create",
        target: &exception.id,
        before: None,
        after: Some(&after),
    };
    app.done(change, &caller, done).await?;
    app.shared.exceptions.load(&app.shared.control, app.shared.clock.now()).await?;
    Ok((StatusCode::CREATED, Json(view(exception, &Uses::new(), app.shared.clock.now()))))
}

/// `POST /exceptions/preview`
pub async fn preview(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<NewException>,
) -> Result<Json<ExceptionPreview>, Problem> {
    let exception = checked(&app, &caller, new).await?;
    let of_group = match exception.tag.as_str() {
        "" => None,
        tag => Some(of_group(&app, &caller, tag).await?),
    };
    let ready = Ready::new(&exception, of_group)?;
    let now = app.shared.clock.now();
    let text = format!("event.kind:alert and {}", condition([("rule.id", exception.rule.as_str())]));
    let search = SearchQuery {
        from: Some(now.plus_secs(-7 * 86_400).to_string()),
        limit: Some(LOOKED_AT),
        ..SearchQuery::default()
    };
    let page: Page<Event> = find(&app, &caller, &query::parse(&text)?, &search).await?;
    let held: Vec<&Event> = page.items.iter().filter(|alert| ready.holds(alert, now)).collect();
    Ok(Json(ExceptionPreview {
        looked_at: page.items.len(),
        more: page.next.is_some(),
        held: held.len(),
        newest: held.iter().take(SHOWN).map(|event| event.to_json()).collect(),
    }))
}

async fn of_group(app: &App, caller: &Caller, tag: &str) -> Result<HashSet<String>, Problem> {
    let scope = Scope::One(caller.tenant().to_owned());
    let all = hosts::list(app.shared.control.read(), &scope, "", 100_000).await?;
    Ok(all.into_iter().filter(|agent| agent.tags.iter().any(|one| one == tag)).map(|agent| agent.id).collect())
}

/// `PATCH /exceptions/{id}`
pub async fn patch(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(patch): Body<ExceptionPatch>,
) -> Result<Json<ExceptionView>, Problem> {
    let now = app.shared.clock.now();
    let mut change = app.shared.control.begin().await?;
    let before = exceptions::get(change.connection(), caller.tenant(), &id).await?;
    let mut after = before.clone();
    if let Some(reason) = patch.reason {
        after.reason = text("reason", reason)?;
    }
    if let Some(owner) = patch.owner {
        after.owner = text("owner", owner)?;
    }
    match patch.days {
        None => {}
        Some(0) => after.expires = now,
        Some(days) if (1..=MOST_DAYS).contains(&days) => after.expires = now.plus_secs(days * 86_400),
        Some(_) => return Err(wrong("days", "expected 0 to 365")),
    }
    exceptions::update(change.connection(), &after).await?;
    let (seen, left) = (audited(&before), audited(&after));
    let done = Done {
        tenant: caller.tenant(),
        action: "exceptions:change",
        target: &id,
        before: Some(&seen),
        after: Some(&left),
    };
    app.done(change, &caller, done).await?;
    app.shared.exceptions.load(&app.shared.control, now).await?;
    get(State(app), caller, Path(id)).await
}

/// `DELETE /exceptions/{id}`
pub async fn delete(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    let mut change = app.shared.control.begin().await?;
    let before = exceptions::get(change.connection(), caller.tenant(), &id).await?;
    exceptions::delete(change.connection(), caller.tenant(), &id).await?;
    let seen = audited(&before);
    let done =
        Done { tenant: caller.tenant(), action: "exceptions:delete", target: &id, before: Some(&seen), after: None };
    app.done(change, &caller, done).await?;
    app.shared.exceptions.load(&app.shared.control, app.shared.clock.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn wrong(place: &str, reason: &str) -> Problem {
    Problem::new(problem::EXCEPTION_INVALID).fault(place, reason)
}

fn text(place: &str, text: String) -> Result<String, Problem> {
    match (1..=MOST_TEXT).contains(&text.trim().len()) {
        true => Ok(text.trim().to_owned()),
        false => Err(wrong(place, "it has 1 to 1000 bytes")),
    }
}

/// A row of what was asked for, within bounds.
async fn checked(app: &App, caller: &Caller, new: NewException) -> Result<Exception, Problem> {
    if !(1..=256).contains(&new.rule.len()) || new.rule.chars().any(char::is_control) {
        return Err(wrong("rule", "the id of a rule has 1 to 256 bytes"));
    }
    let agent = new.agent.unwrap_or_default();
    let tag = new.group.unwrap_or_default();
    if !agent.is_empty() && !tag.is_empty() {
        return Err(wrong("group", "give agent or group, one of them"));
    }
    if !agent.is_empty() {
        agents::find(app, caller, &agent).await?;
    }
    if !tag.is_empty() && !slug(&tag) {
        return Err(wrong("group", "a group is named by a tag"));
    }
    let condition = match (new.fields.is_empty(), new.condition) {
        (true, None) => String::new(),
        (true, Some(text)) => text.trim().to_owned(),
        (false, None) if new.fields.len() <= MOST_FIELDS => {
            if let Some(unknown) = new.fields.keys().find(|name| sakimori_model::catalog::lookup(name).is_none()) {
                return Err(wrong("fields", &format!("no field is called {unknown}")));
            }
            condition(new.fields.iter().map(|(field, value)| (field.as_str(), value.as_str())))
        }
        (false, None) => return Err(wrong("fields", "at most 16 fields")),
        (false, Some(_)) => return Err(wrong("condition", "give fields or condition, one of them")),
    };
    query::parse(&condition)?;
    let days = new.days.unwrap_or(USUAL_DAYS);
    if !(1..=MOST_DAYS).contains(&days) {
        return Err(wrong("days", "expected 1 to 365"));
    }
    let now = app.shared.clock.now();
    Ok(Exception {
        tenant: caller.tenant().to_owned(),
        id: sakimori_model::id::row_id(),
        rule: new.rule,
        agent,
        tag,
        condition,
        reason: match new.reason.as_str() {
            // Only a preview comes here without one.
            "" => String::new(),
            _ => text("reason", new.reason)?,
        },
        owner: text("owner", new.owner.unwrap_or_else(|| caller.name.clone()))?,
        created_by: caller.actor.clone(),
        created: now,
        expires: now.plus_secs(days * 86_400),
    })
}
