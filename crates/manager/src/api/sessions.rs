//! One's own sessions: from where one is signed in, and signing out there. An admin ends those of a user.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use sakimori_model::Timestamp;
use sakimori_store::control::{sessions, users};
use serde::Serialize;
use utoipa::ToSchema;

use super::access::Caller;
use super::authenticate::Visit;
use super::problem::{self, Problem};
use super::{App, Done, browser};
use crate::shared::Command;

/// A session.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Session)]
pub struct SessionView {
    /// UUIDv7.
    pub id: String,
    /// Is it the one of this request?
    pub current: bool,
    /// A browser's, or a program's?
    pub browser: bool,
    /// `password`, `passkey`, `sso:<provider>`.
    pub way: String,
    /// From where it was opened.
    pub address: String,
    /// What the browser or program calls itself.
    pub agent: String,
    /// When opened.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// Its last request, to within a minute.
    #[schema(value_type = String, format = DateTime)]
    pub seen: Timestamp,
    /// When it ends.
    #[schema(value_type = String, format = DateTime)]
    pub expires: Timestamp,
}

/// One's sessions.
#[derive(Debug, Serialize, ToSchema)]
pub struct Sessions {
    /// The newest first; 32 at the most.
    pub sessions: Vec<SessionView>,
}

/// `GET /sessions`
pub async fn list(State(app): State<App>, caller: Caller) -> Result<Json<Sessions>, Problem> {
    let (now, idle) = app.now_and_idle();
    let user = caller.person()?;
    let found = sessions::of_user(app.shared.control.read(), &caller.home, user, now, idle).await?;
    let current = caller.session.as_ref().map(|session| session.id.clone()).unwrap_or_default();
    let view = |session: sessions::Session| SessionView {
        current: session.id == current,
        id: session.id,
        browser: session.browser,
        way: session.way,
        address: session.address,
        agent: session.agent,
        created: session.created,
        seen: session.seen,
        expires: session.expires,
    };
    Ok(Json(Sessions { sessions: found.into_iter().map(view).collect() }))
}

/// `DELETE /sessions/{id}`
pub async fn end(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    let user = caller.person()?;
    let mut change = app.shared.control.begin().await?;
    if !sessions::delete_of(change.connection(), &caller.home, user, &id).await? {
        return Err(Problem::new(problem::SESSION_MISSING));
    }
    let done: Done<'_, ()> =
        Done { tenant: &caller.home, action: "session:end", target: &id, before: None, after: None };
    app.done(change, &caller, done).await?;
    app.shared.links.tell_all(&Command::Operators);
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /sessions`: signs out everywhere, here too.
pub async fn end_all(State(app): State<App>, visit: Visit, caller: Caller) -> Result<Response, Problem> {
    let user = caller.person()?.to_owned();
    end_of(&app, &caller, &caller.home, &user).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    browser::set_cookie(response.headers_mut(), "", 0, visit.secure)?;
    Ok(response)
}

/// `DELETE /users/{id}/sessions`
pub async fn end_of_user(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let user = users::get(app.shared.control.read(), &caller.scope(), &id).await?;
    end_of(&app, &caller, &user.tenant, &user.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn end_of(app: &App, caller: &Caller, tenant: &str, user: &str) -> Result<(), Problem> {
    let mut change = app.shared.control.begin().await?;
    sessions::delete_all(change.connection(), tenant, user).await?;
    let done: Done<'_, ()> = Done { tenant, action: "sessions:end", target: user, before: None, after: None };
    app.done(change, caller, done).await?;
    app.shared.links.tell_all(&Command::Operators);
    Ok(())
}
