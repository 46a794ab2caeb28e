//! Who signs in: name, password and code against what is kept, failures that are counted, and the session that is opened.
//!
//! Failures are counted by what was typed and by the network the caller is in, an IPv4 address or an IPv6 /64; whoever has
//! to wait is not looked at. A right password, a wrong one and an unknown name all cost the same hash. Codes are asked for
//! once the password is right, and have a count of their own that lasts longer: who gets there knows the password.

use std::net::IpAddr;

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use sakimori_model::Timestamp;
use sakimori_model::ledger::Hash;
use sakimori_store::control::users::User;
use sakimori_store::control::{ALL_TENANTS, Change, audit, sessions};
use serde::Serialize;
use utoipa::ToSchema;

use super::listen::Peer;
use super::password::{self, address_wait, code_wait, user_wait};
use super::problem::{self, Problem};
use super::users::UserView;
use super::{App, RequestId, browser, factors, secret};
use crate::shared::Command;

/// Longest name of a browser that is kept.
const MOST_AGENT: usize = 256;

/// Where a sign-in comes from.
#[derive(Debug)]
pub struct Visit {
    /// The address.
    pub address: String,
    /// What failures are counted by.
    pub network: String,
    /// Id of the request.
    pub request: String,
    /// Does the browser speak TLS?
    pub secure: bool,
    /// Does it come from a page of ours?
    pub own_page: bool,
    /// The cookie's secret, where a browser was signed in before.
    former: Option<Hash>,
    agent: String,
}

impl FromRequestParts<App> for Visit {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let peer = parts.extensions.get::<Peer>().map(|peer| peer.0.ip());
        let agent = parts.headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        let public_url = app.shared.config.api.public_url.as_deref();
        let former =
            browser::cookie(parts, public_url).and_then(secret::read).filter(|read| read.0 == secret::Kind::Browser);
        Ok(Self {
            address: peer.map(|address| address.to_string()).unwrap_or_default(),
            network: peer.map(network).unwrap_or_default(),
            request: parts.extensions.get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default(),
            secure: browser::is_secure(parts, public_url),
            own_page: browser::from_own_page(parts, public_url),
            former: former.map(|read| read.1),
            agent: agent.chars().take(MOST_AGENT).collect(),
        })
    }
}

/// What somebody typed.
#[derive(Clone, Copy, Debug)]
pub struct Typed<'a> {
    /// Name of the user.
    pub name: &'a str,
    /// Password.
    pub password: &'a str,
    /// Tenant; without it users over all tenants, then the default one.
    pub tenant: Option<&'a str>,
    /// A code, or a recovery code.
    pub code: Option<&'a str>,
}

/// How somebody showed who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// By a password alone.
    Password,
    /// And by the code of this step.
    Step(i64),
    /// And by the recovery code of this hash.
    Recovery(Hash),
    /// By a passkey or a provider.
    Other,
}

impl Shown {
    /// Was it more than a password?
    pub fn is_strong(self) -> bool {
        self != Self::Password
    }
}

/// The user who typed this, or a failure that is counted.
///
/// # Errors
/// A wrong name, password or code; a code is needed; too many failures.
pub async fn authenticate(app: &App, typed: Typed<'_>, network: &str) -> Result<(User, Shown), Problem> {
    if typed.name.len() > 64 || typed.password.len() > password::LONGEST {
        return Err(Problem::new(problem::AUTH_FAILED));
    }
    let (by_name, by_address) = (password::subject(typed.name), by_network(network));
    let tenant = password::throttle_tenant(typed.tenant);
    let subjects = [(tenant, by_name.as_str()), (ALL_TENANTS, by_address.as_str())];
    throttled(app, &subjects).await?;
    let turn = app.hasher.turn().await?;
    // Again: of many tries that came at once, those that waited see the failures of the first ones.
    throttled(app, &subjects).await?;
    let user = password::find(&app.shared.control, typed.tenant, typed.name).await?;
    let hash = user.as_ref().map(|user| user.password.clone());
    let fits = turn.verify(typed.password, hash).await?;
    let Some(user) = user.filter(|user| fits && !user.disabled) else {
        failed(app, &[(subjects[0], user_wait), (subjects[1], address_wait)]).await?;
        tracing::warn!(name = typed.name, network, "a login failed");
        return Err(Problem::new(problem::AUTH_FAILED));
    };
    let shown = factors::code(app, &user, typed.code, &by_address).await?;
    Ok((user, shown))
}

/// What failures of a network are counted by.
pub fn by_network(network: &str) -> String {
    format!("address:{network}")
}

/// A count of the throttle: its tenant and subject.
pub type Subject<'a> = (&'a str, &'a str);

/// Is any of these to wait?
///
/// # Errors
/// One is.
pub async fn throttled(app: &App, subjects: &[Subject<'_>]) -> Result<(), Problem> {
    for (tenant, subject) in subjects {
        let now = app.shared.clock.now();
        if let Some(until) = sessions::throttled(app.shared.control.read(), tenant, subject, now).await? {
            return Err(Problem::new(problem::AUTH_THROTTLED).retry_after(until.since(now) / 1_000_000 + 1));
        }
    }
    Ok(())
}

/// Counts a failure of each.
///
/// # Errors
/// The database failed.
pub async fn failed(app: &App, subjects: &[(Subject<'_>, fn(i64) -> i64)]) -> Result<(), Problem> {
    let now = app.shared.clock.now();
    let mut change = app.shared.control.begin().await?;
    for ((tenant, subject), wait) in subjects {
        sessions::failed(change.connection(), tenant, subject, now, wait).await?;
    }
    Ok(change.commit().await?)
}

/// What wrong codes of a user are counted by.
pub fn by_code(user: &User) -> String {
    format!("code:{}", user.id)
}

/// Counts a wrong code, of the user and of the network.
///
/// # Errors
/// The database failed.
pub async fn wrong_code(app: &App, user: &User, by_address: &str) -> Result<Problem, Problem> {
    let subject = by_code(user);
    failed(app, &[((&user.tenant, &subject), code_wait), ((ALL_TENANTS, by_address), address_wait)]).await?;
    tracing::warn!(name = user.name, "a code was wrong");
    Ok(Problem::new(problem::AUTH_CODE))
}

/// A session that was opened.
#[derive(Debug, Serialize, ToSchema)]
pub struct Opened {
    /// To be sent as `Authorization: Bearer …`; absent for browsers, which get a cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// For browsers: what changes carry in the header `Sakimori-CSRF`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub csrf: Option<String>,
    /// When it ends.
    #[schema(value_type = String, format = DateTime)]
    pub expires: Timestamp,
    /// Who it is.
    pub user: UserView,
}

/// A session that is to be opened.
pub struct Opening<'a> {
    /// Whose.
    pub user: User,
    /// `password`, `passkey`, `sso:<provider>`.
    pub way: String,
    /// How it was shown.
    pub shown: Shown,
    /// A cookie for a browser, instead of a token?
    pub browser: bool,
    /// The counts that are forgiven.
    pub forgiven: &'a [Subject<'a>],
}

/// Opens a session in a change that may hold more; gives its secret. A browser that was signed in before is not any more.
///
/// # Errors
/// The code was used meanwhile; the database failed.
pub async fn open(
    app: &App,
    mut change: Change,
    visit: &Visit,
    opening: Opening<'_>,
) -> Result<(String, Opened), Problem> {
    let Opening { user, way, shown, browser, forgiven } = opening;
    if !factors::take(&mut change, app, &user, shown).await? {
        return Err(Problem::new(problem::AUTH_CODE));
    }
    let (text, hash) = secret::make(if browser { secret::Kind::Browser } else { secret::Kind::Session });
    let now = app.shared.clock.now();
    let session = sessions::Session {
        tenant: user.tenant.clone(),
        id: sakimori_model::id::row_id(),
        user_id: user.id.clone(),
        address: visit.address.clone(),
        created: now,
        expires: now.plus_secs(app.session_seconds()),
        browser,
        seen: now,
        way,
        strong: shown.is_strong(),
        agent: visit.agent.clone(),
    };
    if let Some(former) = visit.former.as_ref().filter(|_| browser) {
        sessions::delete_secret(change.connection(), former).await?;
    }
    sessions::create(change.connection(), &session, &hash).await?;
    for (tenant, subject) in forgiven {
        sessions::forgive(change.connection(), tenant, subject).await?;
    }
    let view = UserView::from(user);
    change
        .audit(&audit::Entry {
            tenant: &view.tenant,
            time: now,
            actor: &format!("user:{}", view.name),
            action: "session:open",
            target: &session.id,
            before: None,
            after: None,
            address: &session.address,
            request: &visit.request,
        })
        .await?;
    change.commit().await?;
    app.shared.outbox_changed.notify_one();
    app.shared.links.tell_all(&Command::Operators);
    // Whoever signs in from a blocked address is let through.
    app.shared.actions_changed.notify_waiters();
    let csrf = browser.then(|| browser::csrf(&text));
    let token = (!browser).then(|| text.clone());
    Ok((text, Opened { token, csrf, expires: session.expires, user: view }))
}

/// The answer to who signed in: a token, or a cookie.
///
/// # Errors
/// As [`open`].
pub async fn answer(app: &App, visit: &Visit, opening: Opening<'_>) -> Result<Response, Problem> {
    answer_in(app, app.shared.control.begin().await?, visit, opening).await
}

/// The same, in a change that holds more.
///
/// # Errors
/// As [`open`].
pub async fn answer_in(app: &App, change: Change, visit: &Visit, opening: Opening<'_>) -> Result<Response, Problem> {
    let browser = opening.browser;
    let (secret, opened) = open(app, change, visit, opening).await?;
    let mut response = (StatusCode::CREATED, Json(opened)).into_response();
    if browser {
        browser::set_cookie(response.headers_mut(), &secret, app.session_seconds(), visit.secure)?;
    }
    Ok(response)
}

/// What failures are counted by: whoever has one address of a /64 has all of them.
pub fn network(address: IpAddr) -> String {
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
