//! The one stop: all automatic answers of the tenant stop everywhere, on hosts and in the cloud, or go on.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use sakimori_model::Timestamp;
use sakimori_store::control::Scope;
use sakimori_store::control::agents;
use sakimori_store::control::halts::{self, Halt};
use sakimori_wire::status::AgentStatus;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::access::Caller;
use super::extract::Body;
use super::problem::{self, Problem};
use super::{App, Done};
use crate::respond;
use crate::shared::Command;

/// Most hosts of one answer.
const MOST_HOSTS: i64 = 10_000;
/// Longest reason, in bytes.
const MOST_REASON: usize = 1_000;

/// How it stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct HaltView {
    /// Are all automatic answers stopped?
    pub halted: bool,
    /// Grows with every change; 0 where there never was one.
    pub number: i64,
    /// Was what is in effect to be taken back?
    pub undo: bool,
    /// Who changed it last.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub at: Option<Timestamp>,
    /// How each host stands, as it last said.
    pub hosts: Vec<HostHalt>,
}

/// How a host stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct HostHalt {
    /// Its agent.
    pub agent: String,
    /// Name of the host.
    pub name: String,
    /// Is it connected? One that is away hears of a stop when it connects; what its kernel blocks ends by itself.
    pub connected: bool,
    /// Number of the last change that it took.
    pub number: u64,
    /// Who stopped its answers, and why; a person at the host may have.
    pub halted: Option<String>,
}

/// What is to stop.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewHalt {
    /// Take back what is in effect, too.
    #[serde(default)]
    pub undo: bool,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// `GET /halt`
pub async fn get(State(app): State<App>, caller: Caller) -> Result<Json<HaltView>, Problem> {
    let halt = halts::get(app.shared.control.read(), caller.tenant()).await?;
    Ok(Json(view(&app, &caller, halt).await?))
}

/// `POST /halt`
pub async fn halt(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<NewHalt>,
) -> Result<(StatusCode, Json<HaltView>), Problem> {
    set(&app, &caller, true, new).await
}

/// `POST /halt/resume`
pub async fn resume(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<NewHalt>,
) -> Result<(StatusCode, Json<HaltView>), Problem> {
    set(&app, &caller, false, NewHalt { undo: false, ..new }).await
}

async fn set(app: &App, caller: &Caller, halted: bool, new: NewHalt) -> Result<(StatusCode, Json<HaltView>), Problem> {
    if new.reason.len() > MOST_REASON {
        let fault = format!("a reason has at most {MOST_REASON} bytes");
        return Err(Problem::new(problem::ACTION_INVALID).fault("reason", fault));
    }
    let (shared, tenant) = (&app.shared, caller.tenant());
    let now = shared.clock.now();
    let mut change = shared.control.begin().await?;
    let next = Halt { number: 0, halted, undo: new.undo, by: caller.name.clone(), reason: new.reason, at: now };
    let halt = halts::set(change.connection(), tenant, next).await?;
    if let Some(words) = halt.words().filter(|_| halt.undo) {
        respond::undo_own(shared, &mut change, tenant, &words, now).await?;
    }
    let done = Done {
        tenant,
        action: if halted { "halt:stop" } else { "halt:resume" },
        target: &halt.number.to_string(),
        before: None,
        after: Some(&halt),
    };
    app.done(change, caller, done).await?;
    shared.actions_changed.notify_waiters();
    shared.links.tell_all(&Command::Halt);
    Ok((StatusCode::ACCEPTED, Json(view(app, caller, halt).await?)))
}

async fn view(app: &App, caller: &Caller, halt: Halt) -> Result<HaltView, Problem> {
    let scope = Scope::One(caller.tenant().to_owned());
    let agents = agents::list(app.shared.control.read(), &scope, "", MOST_HOSTS).await?;
    let hosts = agents.into_iter().filter(|agent| agent.revoked.is_none()).map(|agent| {
        let status: AgentStatus = serde_json::from_str(&agent.status).unwrap_or_default();
        HostHalt {
            connected: app.shared.links.connected(&agent.id),
            agent: agent.id,
            name: agent.name,
            number: status.halt_number,
            halted: status.halted,
        }
    });
    let at = (halt.number > 0).then_some(halt.at);
    let Halt { number, halted, undo, by, reason, .. } = halt;
    Ok(HaltView { halted, number, undo, by, reason, at, hosts: hosts.collect() })
}
