//! Rules that speak too often, the loudest first, each with what most of its alerts share and an exception that would help.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use sakimori_model::{Event, field};
use sakimori_store::control::alerts::{self, Status};
use sakimori_store::query;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::access::Caller;
use super::events::{SearchQuery, find};
use super::extract::{Page, Query};
use super::problem::{self, Problem};
use crate::exceptions::condition;
use crate::noisy::{Sample, propose, sample, shares};

/// Alerts that are looked at of each rule.
const LOOKED_AT: i64 = 500;
/// Most rules of one answer.
const MOST: i64 = 50;

/// Which span, and how many.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct NoisyQuery {
    /// How many days back, 1 to 90; 7 where absent.
    pub days: Option<i64>,
    /// Most rules, 1 to 50; 10 where absent.
    pub limit: Option<i64>,
}

/// How often a field has a value.
#[derive(Debug, Serialize, ToSchema)]
pub struct FieldShare {
    /// The field.
    pub field: &'static str,
    /// Its value.
    pub value: String,
    /// Alerts with it, of those that were looked at.
    pub count: usize,
    /// Share, 0 to 1.
    pub share: f64,
}

/// An exception that would help, as `POST /exceptions` takes it; only a reason is missing.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProposedException {
    /// The rule.
    pub rule: String,
    /// Fields with their values.
    pub fields: BTreeMap<&'static str, String>,
    /// The same as search text.
    pub condition: String,
    /// Alerts of those that were looked at that it would hold back.
    pub held: usize,
    /// Their share, 0 to 1.
    pub share: f64,
}

/// A rule that speaks often.
#[derive(Debug, Serialize, ToSchema)]
pub struct NoisyRule {
    /// `rule.id`.
    pub rule: String,
    /// Its title.
    pub title: String,
    /// Alerts in the span, without those that an exception holds back.
    pub alerts: u64,
    /// Alerts a day.
    pub per_day: f64,
    /// On how many hosts.
    pub hosts: u64,
    /// Alerts that were looked at, the newest.
    pub looked_at: usize,
    /// Those of them that somebody closed.
    pub closed: usize,
    /// Share of the closed ones that were closed as false; absent where nobody says so.
    pub false_share: Option<f64>,
    /// What most of them share.
    pub fields: Vec<FieldShare>,
    /// An exception that would help, where there is one.
    pub proposal: Option<ProposedException>,
}

/// Rules that speak often.
#[derive(Debug, Serialize, ToSchema)]
pub struct NoisyRules {
    /// The span, in days.
    pub days: i64,
    /// The loudest first.
    pub items: Vec<NoisyRule>,
}

/// `GET /rules/noisy`
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(asked): Query<NoisyQuery>,
) -> Result<Json<NoisyRules>, Problem> {
    let (days, limit) = (asked.days.unwrap_or(7), asked.limit.unwrap_or(10));
    let wrong = |place: &str, reason: &str| Err(Problem::new(problem::REQUEST_QUERY).fault(place, reason));
    if !(1..=90).contains(&days) {
        return wrong("days", "expected 1 to 90");
    }
    if !(1..=MOST).contains(&limit) {
        return wrong("limit", "expected 1 to 50");
    }
    let from = app.shared.clock.now().plus_secs(-days * 86_400);
    // Numbers and a time of ours: nothing that anybody wrote is in the statement.
    let loudest = format!(
        "SELECT \"rule.id\", MAX(\"rule.name\"), COUNT(*), COUNT(DISTINCT \"host.name\") FROM events \
         WHERE \"event.kind\" = 'alert' AND \"rule.id\" IS NOT NULL AND \"rule.ruleset\" IS NOT NULL \
         AND \"sakimori.alert.exception\" IS NULL AND \"@timestamp\" >= TIMESTAMP '{from}' \
         GROUP BY \"rule.id\" ORDER BY COUNT(*) DESC, \"rule.id\" LIMIT {limit}"
    );
    let table = app.shared.lake.sql(caller.tenant(), &loudest).await?;
    let mut items = Vec::new();
    for row in table.rows {
        let [Value::String(rule), title, alerts, hosts] = row.as_slice() else { continue };
        let counted = (alerts.as_u64().unwrap_or(0), hosts.as_u64().unwrap_or(0));
        let title = title.as_str().unwrap_or_default().to_owned();
        items.push(one(&app, &caller, (rule.clone(), title), counted, (days, &from.to_string())).await?);
    }
    Ok(Json(NoisyRules { days, items }))
}

async fn one(
    app: &App,
    caller: &Caller,
    (rule, title): (String, String),
    (alerts_, hosts): (u64, u64),
    (days, from): (i64, &str),
) -> Result<NoisyRule, Problem> {
    let text =
        format!("event.kind:alert and not sakimori.alert.exception:* and {}", condition([("rule.id", rule.as_str())]));
    let search = SearchQuery { from: Some(from.to_owned()), limit: Some(LOOKED_AT), ..SearchQuery::default() };
    let page: Page<Event> = find(app, caller, &query::parse(&text)?, &search).await?;
    let ids: Vec<&str> = page.items.iter().filter_map(|alert| alert.str(field::SAKIMORI_ALERT_ID)).collect();
    let notes = alerts::of(app.shared.control.read(), caller.tenant(), &ids).await?;
    let samples: Vec<Sample> = page.items.iter().map(sample).collect();
    let proposal = propose(&samples).map(|proposal| {
        let fields: BTreeMap<&'static str, String> = proposal.fields.into_iter().collect();
        ProposedException {
            rule: rule.clone(),
            condition: condition(fields.iter().map(|(field, value)| (*field, value.as_str()))),
            fields,
            held: proposal.held,
            share: proposal.share,
        }
    });
    let told = shares(&samples).into_iter().map(|share| FieldShare {
        field: share.field,
        value: share.value,
        count: share.count,
        share: share.share,
    });
    Ok(NoisyRule {
        alerts: alerts_,
        per_day: alerts_ as f64 / days as f64,
        hosts,
        looked_at: samples.len(),
        closed: notes.values().filter(|note| note.status == Status::Closed).count(),
        false_share: None,
        fields: told.collect(),
        proposal,
        rule,
        title,
    })
}
