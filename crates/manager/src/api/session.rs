//! Sessions: logging in with name and password, who one is, logging out.
//!
//! A login answers with a token for programs and sets it as a cookie for browsers (HttpOnly, SameSite=Strict).
//! Failures are counted by what was typed and by the network the caller is in, an IPv4 address or an IPv6 /64;
//! whoever has to wait is not looked at. A right answer, a wrong password and an unknown name all cost the same
//! hash.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, extract::Extension, extract::FromRequest};
use sakimori_model::Timestamp;
use sakimori_store::control::users::{self, User};
use sakimori_store::control::{ALL_TENANTS, Scope, sessions};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::access::{COOKIE, Caller, PERMISSIONS};
use super::extract::Body;
use super::listen::Peer;
use super::password::{self, address_wait, user_wait};
use super::problem::{self, Problem};
use super::users::{UserView, write_password};
use super::{App, Done, RequestId, secret};
use crate::shared::Command;

/// How long a session lasts, in seconds.
const LASTS: i64 = 12 * 3_600;

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
}

/// A session that was opened.
#[derive(Debug, Serialize, ToSchema)]
pub struct Opened {
    /// To be sent as `Authorization: Bearer …`.
    pub token: String,
    /// When it ends.
    #[schema(value_type = String, format = DateTime)]
    pub expires: Timestamp,
    /// Who it is.
    pub user: UserView,
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
    /// What may be done.
    pub permissions: Vec<&'static str>,
    /// When session or token end.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires: Option<Timestamp>,
}

/// A change of one's own password.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnPassword {
    /// The present one.
    pub old: String,
    /// At least 12 characters.
    pub new: String,
}

/// `POST /session`
pub async fn open(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let peer = request.extensions().get::<Peer>().copied();
    let id = request.extensions().get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
    let Body(login) = Body::<Login>::from_request(request, &app).await?;
    if login.name.len() > 64 || login.password.len() > password::LONGEST {
        return Err(Problem::new(problem::AUTH_FAILED));
    }
    let network = peer.map(|peer| network(peer.0.ip())).unwrap_or_default();
    let user = authenticate(&app, &login, &network).await?;
    let (token, hash) = secret::make(secret::Kind::Session);
    let now = app.shared.clock.now();
    let session = sessions::Session {
        tenant: user.tenant.clone(),
        id: sakimori_model::id::row_id(),
        user_id: user.id.clone(),
        address: peer.map(|peer| peer.0.ip().to_string()).unwrap_or_default(),
        created: now,
        expires: now.plus_secs(LASTS),
    };
    let mut change = app.shared.control.begin().await?;
    sessions::create(change.connection(), &session, &hash).await?;
    let tenant = password::throttle_tenant(login.tenant.as_deref());
    sessions::forgive(change.connection(), tenant, &password::subject(&login.name)).await?;
    let view = UserView::from(user);
    change
        .audit(&sakimori_store::control::audit::Entry {
            tenant: &view.tenant,
            time: now,
            actor: &format!("user:{}", view.name),
            action: "session:open",
            target: &session.id,
            before: None,
            after: None,
            address: &session.address,
            request: &id,
        })
        .await?;
    change.commit().await?;
    app.shared.outbox_changed.notify_one();
    app.shared.links.tell_all(&Command::Operators);
    // Whoever signs in from a blocked address is let through.
    app.shared.actions_changed.notify_waiters();
    let opened = Opened { token: token.clone(), expires: session.expires, user: view };
    let mut response = (StatusCode::CREATED, Json(opened)).into_response();
    set_cookie(response.headers_mut(), &token, LASTS, peer.is_some_and(|peer| peer.1))?;
    Ok(response)
}

/// The user of a login, or a failure that is counted.
async fn authenticate(app: &App, login: &Login, network: &str) -> Result<User, Problem> {
    let control = &app.shared.control;
    let (by_name, by_address) = (password::subject(&login.name), format!("address:{network}"));
    let subjects = [(password::throttle_tenant(login.tenant.as_deref()), &by_name), (ALL_TENANTS, &by_address)];
    throttled(app, subjects).await?;
    let turn = app.hasher.turn().await?;
    // Again: of many tries that came at once, those that waited see the failures of the first ones.
    throttled(app, subjects).await?;
    let user = password::find(control, login.tenant.as_deref(), &login.name).await?;
    let hash = user.as_ref().map(|user| user.password.clone());
    let fits = turn.verify(&login.password, hash).await?;
    match user {
        Some(user) if fits && !user.disabled => Ok(user),
        _ => {
            let now = app.shared.clock.now();
            let mut change = control.begin().await?;
            let [(tenant, name), (all, address)] = subjects;
            sessions::failed(change.connection(), tenant, name, now, user_wait).await?;
            sessions::failed(change.connection(), all, address, now, address_wait).await?;
            change.commit().await?;
            tracing::warn!(name = login.name, network, "a login failed");
            Err(Problem::new(problem::AUTH_FAILED))
        }
    }
}

async fn throttled(app: &App, subjects: [(&str, &String); 2]) -> Result<(), Problem> {
    for (tenant, subject) in subjects {
        let now = app.shared.clock.now();
        if let Some(until) = sessions::throttled(app.shared.control.read(), tenant, subject, now).await? {
            return Err(Problem::new(problem::AUTH_THROTTLED).retry_after(until.since(now) / 1_000_000 + 1));
        }
    }
    Ok(())
}

/// `GET /session`
pub async fn get(caller: Caller) -> Json<Who> {
    let held = PERMISSIONS.iter().filter(|permission| permission.held(caller.role, caller.over_all()));
    Json(Who {
        permissions: held.map(|permission| permission.name).collect(),
        role: caller.role.name(),
        expires: caller.ends,
        tenant: caller.home,
        name: caller.name,
    })
}

/// `DELETE /session`: ends the session of the request. A request by API token has none to end.
pub async fn end(State(app): State<App>, peer: Option<Extension<Peer>>, caller: Caller) -> Result<Response, Problem> {
    if let Some(id) = &caller.session {
        let mut change = app.shared.control.begin().await?;
        sessions::delete(change.connection(), &caller.home, id).await?;
        let done: Done<'_, ()> =
            Done { tenant: &caller.home, action: "session:end", target: id, before: None, after: None };
        app.done(change, &caller, done).await?;
        app.shared.links.tell_all(&Command::Operators);
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    set_cookie(response.headers_mut(), "", 0, peer.is_some_and(|peer| peer.0.1))?;
    Ok(response)
}

/// `PUT /session/password`: one's own password; all of one's sessions end.
pub async fn set_password(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<OwnPassword>,
) -> Result<StatusCode, Problem> {
    let no_user = || Problem::new(problem::USER_MISSING).detail("an API token has no password");
    let wrong_old = || Problem::new(problem::USER_INVALID).fault("old", "this is not the present password");
    let id = caller.user.clone().ok_or_else(no_user)?;
    if body.old.len() > password::LONGEST {
        return Err(wrong_old());
    }
    // As a login: who took over an open session cannot guess faster than anybody else.
    let login = Login { name: caller.name.clone(), password: body.old, tenant: Some(caller.home.clone()) };
    let network = caller.address.parse().map(network).unwrap_or_default();
    authenticate(&app, &login, &network).await.map_err(|problem| match problem.code.code {
        "auth/failed" => wrong_old(),
        _ => problem,
    })?;
    let password = app.hasher.hash(&body.new).await?;
    let mut change = app.shared.control.begin().await?;
    let user = users::get(change.connection(), &Scope::One(caller.home.clone()), &id).await?;
    write_password(&app, change, &caller, user, password).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn set_cookie(headers: &mut HeaderMap, value: &str, seconds: i64, tls: bool) -> Result<(), Problem> {
    let secure = if tls { "; Secure" } else { "" };
    let text = format!("{COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
    headers.insert(header::SET_COOKIE, HeaderValue::from_str(&text).map_err(|error| Problem::failed(&error))?);
    Ok(())
}

/// What failures are counted by: whoever has one address of a /64 has all of them.
fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_count_by_address_or_by_the_64_that_it_is_in() {
        let name = |text: &str| network(text.parse().unwrap());
        assert_eq!(name("192.0.2.1"), name("::ffff:192.0.2.1"));
        assert_eq!(name("2001:db8:1:2::5"), name("2001:db8:1:2:ffff::1"));
        assert_ne!(name("2001:db8:1:2::5"), name("2001:db8:1:3::5"));
    }
}
