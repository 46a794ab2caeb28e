//! The session of a request: opening one with name and password, who one is and what one may do, one's own password and
//! language, signing out here.
//!
//! Programs get a token, browsers a cookie ([`super::browser`]); neither is good as the other.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use sakimori_model::Timestamp;
use sakimori_store::control::{Scope, sessions, users};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::access::{Caller, PERMISSIONS};
use super::authenticate::{self, Opening, Typed, Visit, authenticate};
use super::extract::Body;
use super::password;
use super::problem::{self, Problem};
use super::users::write_password;
use super::{App, Done, browser, factors, sso};
use crate::shared::Command;

/// A login.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// Name of the user.
    pub name: String,
    /// Password.
    pub password: String,
    /// Tenant of the user; without it, users over all tenants and then the default tenant.
    pub tenant: Option<String>,
    /// A code of the user's device, or a recovery code. `auth/code-needed` says that one is needed.
    pub code: Option<String>,
    /// Is it a page of ours? Then the answer sets a cookie that no script can read, and has no token. Where absent, the
    /// browser's own `Origin` says it.
    pub browser: Option<bool>,
}

/// Who a request comes from.
#[derive(Debug, Serialize, ToSchema)]
pub struct Who {
    /// Name of the user or token.
    pub name: String,
    /// Tenant, `*` for all.
    pub tenant: String,
    /// `viewer`, `operator` or `admin`.
    pub role: &'static str,
    /// What may be done. Where `second_factor` is `required`, what begins with `session:` and nothing else.
    pub permissions: Vec<&'static str>,
    /// When session or token end.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires: Option<Timestamp>,
    /// `user` or `token`.
    pub kind: &'static str,
    /// How the session was opened: `password`, `passkey`, `sso:<provider>`; absent for a token.
    pub way: Option<String>,
    /// `shown`; `none` where a password was enough; `required` where it is not: set one up first.
    pub second_factor: &'static str,
    /// `en` or `ja`, where the user chose one.
    pub language: Option<String>,
    /// For a browser's session: what changes carry in the header `Sakimori-CSRF`.
    pub csrf: Option<String>,
    /// Seconds without a request after which a browser's session ends.
    pub idle_seconds: Option<i64>,
    /// Where a browser goes after signing out, so that it is signed out of its provider too.
    pub sign_out_url: Option<String>,
}

/// A change of one's own password.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnPassword {
    /// The present one.
    pub old: String,
    /// At least 12 characters.
    pub new: String,
    /// A code, for who has a second factor.
    pub code: Option<String>,
}

/// One's own language.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnLanguage {
    /// `en` or `ja`; null leaves it to the browser.
    pub language: Option<String>,
}

/// `POST /session`
pub async fn open(State(app): State<App>, visit: Visit, Body(login): Body<Login>) -> Result<Response, Problem> {
    let browser = login.browser.unwrap_or(visit.own_page);
    if browser && !visit.own_page {
        return Err(Problem::new(problem::AUTH_ORIGIN));
    }
    let tenant = login.tenant.as_deref();
    let typed = Typed { name: &login.name, password: &login.password, tenant, code: login.code.as_deref() };
    let (user, shown) = authenticate(&app, typed, &visit.network).await?;
    let (by_name, by_code) = (password::subject(&login.name), authenticate::by_code(&user));
    let home = user.tenant.clone();
    let forgiven = [(password::throttle_tenant(tenant), by_name.as_str()), (home.as_str(), by_code.as_str())];
    let opening = Opening { user, way: "password".into(), shown, browser, forgiven: &forgiven };
    authenticate::answer(&app, &visit, opening).await
}

/// `GET /session`
pub async fn get(State(app): State<App>, caller: Caller) -> Result<Json<Who>, Problem> {
    let held = PERMISSIONS.iter().filter(|permission| permission.held(caller.role, caller.over_all()));
    let held = held.filter(|permission| !caller.limited || permission.is_own());
    let language = match &caller.user {
        Some(id) => users::language(app.shared.control.read(), &caller.home, id).await?,
        None => None,
    };
    let session = caller.session.as_ref();
    let sign_out_url = session.and_then(|session| sso::sign_out_url(&app, &session.way));
    Ok(Json(Who {
        permissions: held.map(|permission| permission.name).collect(),
        role: caller.role.name(),
        expires: caller.ends,
        kind: if caller.user.is_some() { "user" } else { "token" },
        way: session.map(|session| session.way.clone()),
        second_factor: match session {
            _ if caller.limited => "required",
            Some(session) if session.strong => "shown",
            _ => "none",
        },
        language,
        csrf: session.and_then(|session| session.csrf.clone()),
        idle_seconds: session
            .filter(|session| session.csrf.is_some())
            .map(|_| i64::from(app.shared.config.sign_in.idle_minutes) * 60),
        sign_out_url,
        tenant: caller.home,
        name: caller.name,
    }))
}

/// `DELETE /session`: ends the session of the request. A request by API token has none to end.
pub async fn end(State(app): State<App>, visit: Visit, caller: Caller) -> Result<Response, Problem> {
    if let Some(session) = &caller.session {
        let mut change = app.shared.control.begin().await?;
        sessions::delete(change.connection(), &caller.home, &session.id).await?;
        let done: Done<'_, ()> =
            Done { tenant: &caller.home, action: "session:end", target: &session.id, before: None, after: None };
        app.done(change, &caller, done).await?;
        app.shared.links.tell_all(&Command::Operators);
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    browser::set_cookie(response.headers_mut(), "", 0, visit.secure)?;
    Ok(response)
}

/// `PUT /session/password`: one's own password; all of one's sessions end.
pub async fn set_password(
    State(app): State<App>,
    visit: Visit,
    caller: Caller,
    Body(body): Body<OwnPassword>,
) -> Result<StatusCode, Problem> {
    let id = caller.person()?.to_owned();
    // As a login: who took over an open session cannot guess faster than anybody else.
    again(&app, &visit, &caller, &body.old, body.code.as_deref(), "old").await?;
    let password = app.hasher.hash(&body.new).await?;
    let mut change = app.shared.control.begin().await?;
    let user = users::get(change.connection(), &Scope::One(caller.home.clone()), &id).await?;
    write_password(&app, change, &caller, user, password).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Has the one whose session it is show the password again, and a code where one is needed; `place` is the field.
///
/// # Errors
/// It is wrong, or there were too many failures.
pub async fn again(
    app: &App,
    visit: &Visit,
    caller: &Caller,
    password: &str,
    code: Option<&str>,
    place: &str,
) -> Result<(), Problem> {
    let typed = Typed { name: &caller.name, password, tenant: Some(&caller.home), code };
    let (user, shown) = authenticate(app, typed, &visit.network).await.map_err(|problem| match problem.code.code {
        "auth/failed" => Problem::new(problem::USER_INVALID).fault(place, "this is not the present password"),
        _ => problem,
    })?;
    let mut change = app.shared.control.begin().await?;
    if !factors::take(&mut change, app, &user, shown).await? {
        return Err(Problem::new(problem::AUTH_CODE));
    }
    Ok(change.commit().await?)
}

/// `PUT /session/language`
pub async fn set_language(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<OwnLanguage>,
) -> Result<Json<OwnLanguage>, Problem> {
    let id = caller.person()?.to_owned();
    let language = body.language.as_deref().unwrap_or_default();
    if !["", "en", "ja"].contains(&language) {
        return Err(Problem::new(problem::USER_INVALID).fault("language", "expected en or ja"));
    }
    let before = OwnLanguage { language: users::language(app.shared.control.read(), &caller.home, &id).await? };
    let mut change = app.shared.control.begin().await?;
    users::set_language(change.connection(), &caller.home, &id, language).await?;
    let done = Done {
        tenant: &caller.home,
        action: "session:language",
        target: &id,
        before: Some(&before),
        after: Some(&body),
    };
    app.done(change, &caller, done).await?;
    Ok(Json(body))
}
