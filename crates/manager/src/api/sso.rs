//! Single sign-on (OpenID Connect): sends a browser to a provider and takes it back.
//!
//! ```text
//! GET  /sign-in/sso/{provider}            → 303 to the provider; a cookie holds state, nonce and verifier, sealed;
//!                                           or to /sign-in?problem=<code>, where the provider is away
//! GET  /sign-in/sso/{provider}/callback   → 303 to the page that was asked for, with a session;
//!                                           or to /sign-in?problem=<code>
//! ```
//!
//! The cookie is `SameSite=Lax`, since the provider's site sends the browser back; it is good once, for ten minutes and for
//! the provider that it was made for, so an answer of another provider, of another browser or of before is worth nothing. It
//! counts as used once a code was exchanged: who sends codes that are none uses nothing up.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sakimori_identity::oidc::{self, Account, Request};
use sakimori_store::control::users::{self, Role, User};
use sakimori_store::control::{ALL_TENANTS, Change, ControlError, audit, provider_accounts, tenants};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use utoipa::IntoParams;

use super::authenticate::{self, Opening, Shown, Visit};
use super::extract::Query;
use super::problem::{self, Problem};
use super::users::{UserView, keep_an_admin};
use super::{App, browser, hash_of, secret};
use crate::sign_in::providers::{Failure, Known};
use crate::sign_in::settings::{Grant, Provider};
use crate::sign_in::ticket::SECONDS;

const PURPOSE: &str = "single sign-on";
const COOKIE: &str = "sakimori_sso";
const HOST_COOKIE: &str = "__Host-sakimori_sso";
/// Stands for a password in users who have none: no hash, so none fits.
const NO_PASSWORD: &str = "!";
/// Longest code or state that is looked at.
const MOST: usize = 4_096;

/// How a sign-in at a provider begins.
#[derive(Debug, Deserialize, IntoParams)]
pub struct Begin {
    /// The page of ours where it ends, `/` where absent.
    pub return_to: Option<String>,
}

/// How it ends. Providers add parameters of their own.
#[derive(Debug, Deserialize, IntoParams)]
pub struct End {
    /// What becomes a token.
    pub code: Option<String>,
    /// As it was sent.
    pub state: Option<String>,
    /// The issuer (RFC 9207).
    pub iss: Option<String>,
    /// What the provider says went wrong.
    pub error: Option<String>,
}

/// What the cookie holds.
#[derive(Debug, Serialize, Deserialize)]
struct Begun {
    provider: String,
    state: String,
    nonce: String,
    verifier: String,
    return_to: String,
}

fn known<'a>(app: &'a App, id: &str) -> Result<&'a Known, Problem> {
    app.shared.providers.get(id).map(|known| &**known).ok_or_else(|| Problem::new(problem::AUTH_PROVIDER))
}

/// Where a provider sends browsers back to.
fn back(app: &App, provider: &str) -> String {
    let base = app.shared.config.api.public_url.as_deref().unwrap_or_default();
    format!("{}/api/v1/sign-in/sso/{provider}/callback", base.trim_end_matches('/'))
}

/// A page of ours; anything else is `/`.
fn page(asked: Option<&str>) -> String {
    let ours = |path: &&str| {
        path.starts_with('/')
            && !path.starts_with("//")
            && path.len() <= 512
            && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
    };
    asked.filter(ours).unwrap_or("/").to_owned()
}

/// `GET /sign-in/sso/{provider}`
pub async fn begin(
    State(app): State<App>,
    Path(id): Path<String>,
    Query(asked): Query<Begin>,
) -> Result<Response, Problem> {
    let known = known(&app, &id)?;
    let now = app.shared.clock.now();
    let description = match known.description(now).await {
        Ok(description) => description,
        // A browser is on its way: it ends on a page, not on a document for programs.
        Err(failure) => return ended(&id, &unreachable(&failure)),
    };
    let random = || URL_SAFE_NO_PAD.encode(secret::random::<32>());
    let begun = Begun {
        provider: id,
        state: random(),
        nonce: random(),
        verifier: random(),
        return_to: page(asked.return_to.as_deref()),
    };
    let request = Request {
        client: &known.provider.client_id,
        back: &back(&app, &begun.provider),
        scopes: &known.provider.scopes,
        state: &begun.state,
        nonce: &begun.nonce,
        verifier: &begun.verifier,
    };
    let url = oidc::sign_in_url(&description, &request);
    let ticket = app.tickets.make(PURPOSE, &begun, now).map_err(|error| Problem::failed(&error))?;
    let mut response = to(&url)?;
    cookie(&app, response.headers_mut(), &ticket, SECONDS)?;
    Ok(response)
}

/// `GET /sign-in/sso/{provider}/callback`
pub async fn callback(
    State(app): State<App>,
    visit: Visit,
    headers: HeaderMap,
    Path(id): Path<String>,
    Query(end): Query<End>,
) -> Result<Response, Problem> {
    known(&app, &id)?;
    let mut response = match finish(&app, &visit, &headers, &id, &end).await {
        Ok(response) => response,
        Err(problem) => ended(&id, &problem)?,
    };
    cookie(&app, response.headers_mut(), "", 0)?;
    Ok(response)
}

/// Leads a browser back to the sign-in page, which says why.
fn ended(id: &str, problem: &Problem) -> Result<Response, Problem> {
    tracing::warn!(provider = id, code = problem.code.code, "a single sign-on did not come about");
    to(&format!("/sign-in?problem={}", problem.code.code))
}

async fn finish(app: &App, visit: &Visit, headers: &HeaderMap, id: &str, end: &End) -> Result<Response, Problem> {
    let known = known(app, id)?;
    let now = app.shared.clock.now();
    let refused = |reason: &str| {
        tracing::warn!(provider = id, reason, "the answer of a provider was not accepted");
        Problem::new(problem::AUTH_SSO)
    };
    let name = if is_secure(app) { HOST_COOKIE } else { COOKIE };
    let ticket = browser::named_cookie(headers, name).and_then(|text| app.tickets.read::<Begun>(PURPOSE, text, now));
    let ticket = ticket.filter(|ticket| ticket.about.provider == id);
    let ticket = ticket.ok_or_else(|| refused("this browser did not begin, or too long ago"))?;
    let begun = &ticket.about;
    let state = end.state.as_deref().unwrap_or_default();
    if !bool::from(state.as_bytes().ct_eq(begun.state.as_bytes())) {
        return Err(refused("the state is another one"));
    }
    let description = known.description(now).await.map_err(|failure| unreachable(&failure))?;
    let named = end.iss.as_deref();
    if named.map_or(description.names_issuer, |issuer| issuer != known.provider.issuer) {
        return Err(refused("it is an answer of another issuer"));
    }
    if let Some(error) = &end.error {
        return Err(refused(&format!("it says {:?}", error.chars().take(64).collect::<String>())));
    }
    let code = end.code.as_deref().filter(|code| (1..=MOST).contains(&code.len())).ok_or_else(|| refused("no code"))?;
    let exchanged = (code, back(app, id));
    let account = known.account(&app.shared, (exchanged.0, &exchanged.1), (&begun.verifier, &begun.nonce)).await;
    let account = account.map_err(|failure| match failure {
        Failure::Refused { .. } => refused(&failure.to_string()),
        other => unreachable(&other),
    })?;
    // Of two answers that are looked at at once, one is the first to take it; the provider gave a token for each code once.
    if !app.tickets.take(&ticket, now) {
        return Err(refused("it was used before"));
    }
    let mut change = app.shared.control.begin().await?;
    let user = user(app, &mut change, visit, &known.provider, &account).await?;
    let way = format!("sso:{id}");
    let opening = Opening { user, way, shown: Shown::Other, browser: true, forgiven: &[] };
    let (session, _) = authenticate::open(app, change, visit, opening).await?;
    let mut response = to(&begun.return_to)?;
    browser::set_cookie(response.headers_mut(), &session, app.session_seconds(), is_secure(app))?;
    Ok(response)
}

/// The user of an account, with the role that its claims give now; made where it is new and may be.
async fn user(
    app: &App,
    change: &mut Change,
    visit: &Visit,
    provider: &Provider,
    account: &Account,
) -> Result<User, Problem> {
    let refused = |reason: &str| {
        tracing::warn!(provider = provider.id, subject = account.subject, reason, "an account may not sign in");
        Problem::new(problem::AUTH_ACCOUNT)
    };
    let grant = provider.grant(account).ok_or_else(|| refused("no grant fits it"))?;
    let role = Role::parse(&grant.role).ok_or_else(|| refused("its grant names no role"))?;
    match provider_accounts::user(change.connection(), &provider.id, &account.subject).await? {
        Some(user) if user.disabled => Err(refused("the user is disabled")),
        Some(user) if user.tenant != grant.tenant => Err(refused("the user is of another tenant than the grant")),
        Some(user) if user.role == role => Ok(user),
        Some(mut user) => {
            let before = UserView::from(user.clone());
            (user.role, user.changed) = (role, app.shared.clock.now());
            users::update(change.connection(), &user).await?;
            keep_an_admin(change, &user.tenant).await?;
            note(app, change, visit, ("users:change", Some(&before)), &user).await?;
            Ok(user)
        }
        None if !provider.create => Err(refused("it has no user here, and none is made at a first sign-in")),
        None => make(app, change, visit, (provider, account), (grant, role)).await.map_err(|reason| match reason {
            Ok(reason) => refused(reason),
            Err(problem) => problem,
        }),
    }
}

async fn make(
    app: &App,
    change: &mut Change,
    visit: &Visit,
    (provider, account): (&Provider, &Account),
    (grant, role): (&Grant, Role),
) -> Result<User, Result<&'static str, Problem>> {
    let failed = |error: ControlError| Err(Problem::from(error));
    let name = provider.name(account).ok_or(Ok("no claim of it can be a user's name"))?;
    let read = app.shared.control.read();
    if grant.tenant != ALL_TENANTS && tenants::get(read, &grant.tenant).await.map_err(failed)?.is_none() {
        return Err(Ok("the tenant of its grant is not there"));
    }
    // A local user of this name is somebody else, whatever the provider says.
    if users::by_name(read, &grant.tenant, &name).await.map_err(failed)?.is_some() {
        return Err(Ok("a user of its name is there already"));
    }
    let now = app.shared.clock.now();
    let user = User {
        tenant: grant.tenant.clone(),
        id: sakimori_model::id::row_id(),
        name,
        role,
        password: NO_PASSWORD.into(),
        disabled: false,
        created: now,
        changed: now,
    };
    users::create(change.connection(), &user).await.map_err(failed)?;
    provider_accounts::create(change.connection(), &user, &provider.id, &account.subject).await.map_err(failed)?;
    note(app, change, visit, ("users:create", None), &user).await.map_err(Err)?;
    Ok(user)
}

/// Nobody did it by hand: the provider's word did.
async fn note(
    app: &App,
    change: &mut Change,
    visit: &Visit,
    (action, before): (&str, Option<&UserView>),
    user: &User,
) -> Result<(), Problem> {
    let entry = audit::Entry {
        tenant: &user.tenant,
        time: app.shared.clock.now(),
        actor: "system",
        action,
        target: &user.id,
        before: before.map(hash_of),
        after: Some(hash_of(&UserView::from(user.clone()))),
        address: &visit.address,
        request: &visit.request,
    };
    Ok(change.audit(&entry).await?)
}

/// Where a browser goes to be signed out of the provider too, as far as it is known without asking.
pub(super) fn sign_out_url(app: &App, way: &str) -> Option<String> {
    let known = app.shared.providers.get(way.strip_prefix("sso:")?)?;
    let home = app.shared.config.api.public_url.as_deref()?;
    let back = format!("{}/", home.trim_end_matches('/'));
    oidc::sign_out_url(&*known.known_description()?, &known.provider.client_id, &back)
}

fn unreachable(failure: &Failure) -> Problem {
    tracing::warn!(%failure, "single sign-on");
    Problem::new(problem::AUTH_PROVIDER_AWAY).retry_after(10)
}

fn is_secure(app: &App) -> bool {
    app.shared.config.api.public_url.as_deref().is_some_and(browser::is_https)
}

fn cookie(app: &App, headers: &mut HeaderMap, value: &str, seconds: i64) -> Result<(), Problem> {
    let (name, secure) = if is_secure(app) { (HOST_COOKIE, "; Secure") } else { (COOKIE, "") };
    let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}");
    headers.append(header::SET_COOKIE, HeaderValue::from_str(&text).map_err(|error| Problem::failed(&error))?);
    Ok(())
}

fn to(url: &str) -> Result<Response, Problem> {
    let mut response = StatusCode::SEE_OTHER.into_response();
    let value = HeaderValue::from_str(url).map_err(|error| Problem::failed(&error))?;
    response.headers_mut().insert(header::LOCATION, value);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_in_ends_on_a_page_of_ours() {
        assert_eq!(page(Some("/alerts?q=a%20b#x")), "/alerts?q=a%20b#x");
        for elsewhere in ["https://evil.example", "//evil.example", "/\\evil.example", "", "x", "/a\r\nb", "/ä"] {
            assert_eq!(page(Some(elsewhere)), "/", "{elsewhere}");
        }
        assert_eq!((page(None), page(Some(&format!("/{}", "a".repeat(600))))), ("/".into(), "/".into()));
    }
}
