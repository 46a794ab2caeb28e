//! Agents: which hosts are protected, how they are, and taking one out.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use sakimori_model::Timestamp;
use sakimori_store::control::Scope;
use sakimori_store::control::agents::{self, Agent};
use serde::Serialize;
use serde_json::Value as Json_;
use utoipa::ToSchema;

use super::access::Caller;
use super::extract::{Page, PageQuery, Query, limit, place};
use super::problem::{self, Problem};
use super::{App, Done};
use crate::shared::Command;

/// An agent.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Agent)]
pub struct AgentView {
    /// Its id, also `agent.id` of its events.
    pub id: String,
    /// Tenant.
    pub tenant: String,
    /// Host name.
    pub name: String,
    /// Tags; each names a policy layer `group:<tag>`.
    pub tags: Vec<String>,
    /// `connected`; `away` for a moment; `silent`: it is away and did not say why; `stopped`: somebody stopped it;
    /// `retired`: its host is gone and not expected back; or `revoked`.
    pub state: String,
    /// Since when it is silent, stopped or retired.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub state_since: Option<Timestamp>,
    /// Id of the enrolment token that made it.
    pub token: String,
    /// What is known of the host.
    #[schema(value_type = Object)]
    pub host: Json_,
    /// Versions of program, protocol, config schema and engines.
    #[schema(value_type = Object)]
    pub versions: Json_,
    /// What it last said of modules, inputs and spool.
    #[schema(value_type = Object)]
    pub status: Json_,
    /// When it enrolled.
    #[schema(value_type = String, format = DateTime)]
    pub enrolled: Timestamp,
    /// When it last spoke.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_seen: Option<Timestamp>,
    /// When it was revoked.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked: Option<Timestamp>,
}

pub(super) fn view(app: &App, agent: Agent) -> AgentView {
    let json = |text: &str| serde_json::from_str(text).unwrap_or(Json_::Null);
    let state = crate::presence::shown(&agent, app.shared.links.connected(&agent.id));
    AgentView {
        state,
        state_since: agent.presence_since,
        token: agent.token,
        host: json(&agent.host),
        versions: json(&agent.versions),
        status: json(&agent.status),
        id: agent.id,
        tenant: agent.tenant,
        name: agent.name,
        tags: agent.tags,
        enrolled: agent.enrolled,
        last_seen: agent.last_seen,
        revoked: agent.revoked,
    }
}

/// The agent of this id, of the caller's tenant.
pub(super) async fn find(app: &App, caller: &Caller, id: &str) -> Result<Agent, Problem> {
    Ok(agents::get(app.shared.control.read(), &Scope::One(caller.tenant().to_owned()), id).await?)
}

/// `GET /agents`
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<AgentView>>, Problem> {
    let limit = limit(query.limit)?;
    let after: String = place(query.cursor.as_deref())?.unwrap_or_default();
    let scope = Scope::One(caller.tenant().to_owned());
    let rows = agents::list(app.shared.control.read(), &scope, &after, limit + 1).await?;
    Ok(Json(Page::of(rows, limit, |agent| agent.id.clone(), |agent| view(&app, agent))))
}

/// `GET /agents/{id}`
pub async fn get(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<Json<AgentView>, Problem> {
    let agent = find(&app, &caller, &id).await?;
    Ok(Json(view(&app, agent)))
}

/// What the audit log covers of an agent: what people decide about it, not what it says of itself.
#[derive(Serialize)]
struct Audited<'a> {
    id: &'a str,
    name: &'a str,
    tags: &'a [String],
    revoked: Option<Timestamp>,
}

fn audited(agent: &Agent, revoked: Option<Timestamp>) -> Audited<'_> {
    Audited { id: &agent.id, name: &agent.name, tags: &agent.tags, revoked }
}

/// `POST /agents/{id}/revoke`: its certificate is worth nothing from now on, its stream closes.
pub async fn revoke(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<AgentView>, Problem> {
    let agent = find(&app, &caller, &id).await?;
    let revoked = agent.revoked.unwrap_or_else(|| app.shared.clock.now());
    let mut change = app.shared.control.begin().await?;
    agents::revoke(change.connection(), &Scope::One(agent.tenant.clone()), &agent.id, revoked).await?;
    let (before, after) = (audited(&agent, agent.revoked), audited(&agent, Some(revoked)));
    let done = Done {
        tenant: &agent.tenant,
        action: "agents:revoke",
        target: &agent.id,
        before: Some(&before),
        after: Some(&after),
    };
    app.done(change, &caller, done).await?;
    app.shared.links.tell(&agent.id, &Command::Close);
    get(State(app), caller, Path(id)).await
}

/// `DELETE /agents/{id}`: forgets a revoked agent; its events and actions stay.
pub async fn delete(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    let agent = find(&app, &caller, &id).await?;
    if agent.revoked.is_none() {
        return Err(Problem::new(problem::AGENT_ACTIVE));
    }
    let mut change = app.shared.control.begin().await?;
    agents::delete(change.connection(), &Scope::One(agent.tenant.clone()), &agent.id).await?;
    let before = audited(&agent, agent.revoked);
    let done =
        Done { tenant: &agent.tenant, action: "agents:delete", target: &agent.id, before: Some(&before), after: None };
    app.done(change, &caller, done).await?;
    Ok(StatusCode::NO_CONTENT)
}
