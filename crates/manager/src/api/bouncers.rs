//! Bouncers: programs that block what we decide ([`super::decisions`]). The key is shown once, when it is made.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use sakimori_model::Timestamp;
use sakimori_store::control::bouncers::{self, Bouncer};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::access::Caller;
use super::extract::{Body, Page, PageQuery, Query, limit, place};
use super::problem::{self, Problem};
use super::{App, Done, secret};

/// A bouncer, without its key.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Bouncer)]
pub struct BouncerView {
    /// Its name, one of its tenant's.
    pub name: String,
    /// Its tenant: it is told of that one's blocks.
    pub tenant: String,
    /// Who made it.
    pub created_by: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// Up to when it was told.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_pull: Option<Timestamp>,
    /// What it calls itself.
    pub kind: String,
}

impl From<Bouncer> for BouncerView {
    fn from(bouncer: Bouncer) -> Self {
        let Bouncer { tenant, name, created_by, created, last_pull, kind } = bouncer;
        Self { name, tenant, created_by, created, last_pull, kind }
    }
}

/// A bouncer to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewBouncer {
    /// Its name: 1 to 64 letters, digits, hyphens, dots and underscores.
    pub name: String,
}

/// A bouncer that was made, with its key.
#[derive(Debug, Serialize, ToSchema)]
pub struct MadeBouncer {
    /// The key, for `X-Api-Key`: shown now and never again.
    pub key: String,
    /// The bouncer.
    pub bouncer: BouncerView,
}

/// `GET /bouncers`
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<BouncerView>>, Problem> {
    let limit = limit(query.limit)?;
    let after: (String, String) = place(query.cursor.as_deref())?.unwrap_or_default();
    let rows = bouncers::list(app.shared.control.read(), &caller.scope(), &after, limit + 1).await?;
    let place = |row: &Bouncer| (row.tenant.clone(), row.name.clone());
    Ok(Json(Page::of(rows, limit, place, BouncerView::from)))
}

/// `POST /bouncers`
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<NewBouncer>,
) -> Result<(StatusCode, Json<MadeBouncer>), Problem> {
    let right = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if !(1..=64).contains(&new.name.len()) || !new.name.chars().all(right) {
        let reason = "a name has 1 to 64 letters, digits, hyphens, dots and underscores";
        return Err(Problem::new(problem::BOUNCER_INVALID).fault("name", reason));
    }
    let (key, hash) = secret::make(secret::Kind::Bouncer);
    let bouncer = Bouncer {
        tenant: caller.tenant().to_owned(),
        name: new.name,
        created_by: caller.actor.clone(),
        created: app.shared.clock.now(),
        last_pull: None,
        kind: String::new(),
    };
    let mut change = app.shared.control.begin().await?;
    bouncers::create(change.connection(), &bouncer, &hash).await?;
    let bouncer = BouncerView::from(bouncer);
    let done = Done {
        tenant: &bouncer.tenant,
        action: "bouncers:create",
        target: &bouncer.name,
        before: None,
        after: Some(&bouncer),
    };
    app.done(change, &caller, done).await?;
    Ok((StatusCode::CREATED, Json(MadeBouncer { key, bouncer })))
}

/// `DELETE /bouncers/{name}`
pub async fn delete(State(app): State<App>, caller: Caller, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    let mut change = app.shared.control.begin().await?;
    let view = BouncerView::from(bouncers::get(change.connection(), caller.tenant(), &name).await?);
    bouncers::delete(change.connection(), &view.tenant, &view.name).await?;
    let done =
        Done { tenant: &view.tenant, action: "bouncers:delete", target: &view.name, before: Some(&view), after: None };
    app.done(change, &caller, done).await?;
    Ok(StatusCode::NO_CONTENT)
}
