//! What floods of alerts asked for and was not written one by one: how much, of what, and since when.

use axum::Json;
use axum::extract::State;
use sakimori_model::Timestamp;
use sakimori_store::control::{Scope, shed};
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::access::Caller;
use super::problem::Problem;

/// Most spans of one answer.
const MOST: i64 = 1_000;

/// A span of time in which something was shed.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShedSpan {
    /// `playbook:<id>`, or the agent whose actions they are.
    pub source: String,
    /// Slug of the action; `projection` for a host's actions that are not listed here one by one.
    pub kind: String,
    /// Channel of messages; else empty.
    pub target: String,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    pub began: Timestamp,
    /// When the last was shed.
    #[schema(value_type = String, format = DateTime)]
    pub last: Timestamp,
    /// How many.
    pub count: i64,
    /// One of the targets.
    pub sample: String,
}

/// All that are kept.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShedSpans {
    /// The newest first, at most 1000.
    pub items: Vec<ShedSpan>,
}

/// `GET /actions/shed`
pub async fn list(State(app): State<App>, caller: Caller) -> Result<Json<ShedSpans>, Problem> {
    let scope = Scope::One(caller.tenant().to_owned());
    let spans = shed::list(app.shared.control.read(), &scope, Timestamp::from_micros(0), MOST).await?;
    let items = spans.into_iter().map(|span| ShedSpan {
        source: span.source,
        kind: span.kind,
        target: span.target,
        began: Timestamp::from_micros(span.began),
        last: Timestamp::from_micros(span.last),
        count: span.count,
        sample: span.sample,
    });
    Ok(Json(ShedSpans { items: items.collect() }))
}
