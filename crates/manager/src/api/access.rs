//! Who may do what: the table of permissions, and the check in front of every route.
//!
//! A permission is `resource:verb` and has the least role that holds it. A route names its permission in
//! [`super::routes`]; nothing else grants anything. `everywhere` marks what concerns the whole installation:
//! it needs a user or token over all tenants as well.

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use sakimori_model::Timestamp;
use sakimori_store::control::audit::{Origin, within};
use sakimori_store::control::users::Role;
use sakimori_store::control::{ALL_TENANTS, DEFAULT_TENANT, Scope, sessions, tenants, tokens};

use super::listen::Peer;
use super::problem::{self, Problem};
use super::{App, RequestId, browser, secret};

/// The header by which somebody over all tenants names one of them.
pub const TENANT_HEADER: &str = "sakimori-tenant";
/// How exactly the last use of a token is kept, in seconds: more would write at every request.
const USE_SECONDS: i64 = 300;

/// One permission.
#[derive(Debug, PartialEq, Eq)]
pub struct Permission {
    /// `resource:verb`.
    pub name: &'static str,
    /// The least role that holds it.
    pub least: Role,
    /// Is it for users and tokens over all tenants only?
    pub everywhere: bool,
}

impl Permission {
    const fn of(name: &'static str, least: Role) -> Self {
        Self { name, least, everywhere: false }
    }

    const fn everywhere(name: &'static str, least: Role) -> Self {
        Self { name, least, everywhere: true }
    }

    /// The permission of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        PERMISSIONS.iter().find(|permission| permission.name == name)
    }

    /// Is it about oneself and one's own session?
    pub fn is_own(&self) -> bool {
        self.name.starts_with("session:")
    }

    /// Does a role over one tenant, or over all, hold it?
    pub fn held(&self, role: Role, over_all: bool) -> bool {
        role >= self.least && (over_all || !self.everywhere)
    }
}

/// All permissions.
pub const PERMISSIONS: &[Permission] = &[
    Permission::of("session:read", Role::Viewer),
    Permission::of("session:end", Role::Viewer),
    Permission::of("session:password", Role::Viewer),
    Permission::of("session:language", Role::Viewer),
    Permission::of("session:factors", Role::Viewer),
    Permission::of("events:read", Role::Viewer),
    Permission::of("searches:read", Role::Viewer),
    Permission::of("searches:write", Role::Operator),
    Permission::of("alerts:read", Role::Viewer),
    Permission::of("alerts:write", Role::Operator),
    Permission::of("actions:read", Role::Viewer),
    Permission::of("actions:order", Role::Operator),
    Permission::of("actions:undo", Role::Operator),
    Permission::of("messages:read", Role::Viewer),
    Permission::of("messages:send", Role::Operator),
    Permission::of("orders:sign", Role::Operator),
    Permission::of("halt:write", Role::Operator),
    Permission::of("agents:read", Role::Viewer),
    Permission::of("agents:revoke", Role::Admin),
    Permission::of("agents:delete", Role::Admin),
    Permission::of("enrolment-tokens:read", Role::Operator),
    Permission::of("enrolment-tokens:write", Role::Operator),
    Permission::of("policies:read", Role::Viewer),
    Permission::of("policies:write", Role::Operator),
    Permission::of("secrets:read", Role::Operator),
    Permission::of("secrets:write", Role::Admin),
    Permission::everywhere("sealing:read", Role::Admin),
    Permission::everywhere("sealing:rotate", Role::Admin),
    Permission::of("bouncers:read", Role::Operator),
    Permission::of("bouncers:write", Role::Admin),
    Permission::of("rules:read", Role::Viewer),
    Permission::of("exceptions:read", Role::Viewer),
    Permission::of("exceptions:write", Role::Operator),
    Permission::of("playbooks:read", Role::Viewer),
    Permission::of("playbooks:run", Role::Operator),
    Permission::of("executions:read", Role::Viewer),
    Permission::of("executions:answer", Role::Operator),
    Permission::of("executions:undo", Role::Operator),
    Permission::everywhere("cloud:read", Role::Operator),
    Permission::everywhere("cloud:check", Role::Operator),
    Permission::of("bundles:read", Role::Viewer),
    Permission::everywhere("bundles:write", Role::Admin),
    Permission::of("users:read", Role::Admin),
    Permission::of("users:write", Role::Admin),
    Permission::of("tokens:read", Role::Admin),
    Permission::of("tokens:write", Role::Admin),
    Permission::everywhere("tenants:read", Role::Admin),
    Permission::everywhere("tenants:write", Role::Admin),
    Permission::of("audit:read", Role::Admin),
    Permission::everywhere("backups:create", Role::Admin),
];

/// Somebody whose request was let through.
#[derive(Clone, Debug)]
pub struct Caller {
    /// `user:<name>` or `token:<name>`, as the audit log says it.
    pub actor: String,
    /// Name of the user or token.
    pub name: String,
    /// Id of the user; none for a token.
    pub user: Option<String>,
    /// Id of the token; none for a user.
    pub token: Option<String>,
    /// Tenant of the user or token, `*` for all.
    pub home: String,
    /// Role.
    pub role: Role,
    /// The tenant that the request named, where it did.
    named: Option<String>,
    /// The session, where it is one.
    pub session: Option<Opened>,
    /// May it do nothing but set up a second factor?
    pub limited: bool,
    /// When the session or token ends.
    pub ends: Option<Timestamp>,
    /// Where the request came from.
    pub address: String,
    /// Id of the request.
    pub request: String,
}

/// The session of a request.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Its id.
    pub id: String,
    /// How it was opened: `password`, `passkey`, `sso:<provider>`.
    pub way: String,
    /// Was more shown than a password?
    pub strong: bool,
    /// What changes by cookie carry, where it is a browser's.
    pub csrf: Option<String>,
}

impl Caller {
    /// The user's id.
    ///
    /// # Errors
    /// It is an API token.
    pub fn person(&self) -> Result<&str, Problem> {
        let none = || Problem::new(problem::USER_MISSING).detail("an API token is no user");
        self.user.as_deref().ok_or_else(none)
    }

    /// Is it somebody over all tenants?
    pub fn over_all(&self) -> bool {
        self.home == ALL_TENANTS
    }

    /// Whose that is what is made: of two of one name, one over all tenants is not the one of this tenant.
    pub fn owner(&self) -> String {
        if self.over_all() { format!("{}@{ALL_TENANTS}", self.actor) } else { self.actor.clone() }
    }

    /// The tenant whose events, agents, actions and policies are meant.
    pub fn tenant(&self) -> &str {
        match &self.named {
            Some(tenant) => tenant,
            None if self.over_all() => DEFAULT_TENANT,
            None => &self.home,
        }
    }

    /// Whose users, tokens and audit entries are meant: somebody over all tenants sees those of all, unless the
    /// request names one.
    pub fn scope(&self) -> Scope {
        match &self.named {
            None if self.over_all() => Scope::All,
            _ => Scope::One(self.tenant().to_owned()),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Problem::new(problem::AUTH_REQUIRED))
    }
}

/// Lets a request through to its handler, with its [`Caller`], if it may do what the route does.
pub(super) async fn check(
    State((app, permission)): State<(App, &'static Permission)>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let mut caller = identify(&app, &parts).await?;
    if !permission.held(caller.role, caller.over_all()) {
        let over = if permission.everywhere { " over all tenants" } else { "" };
        let need = format!("{} needs the role {}{over}", permission.name, permission.least.name());
        return Err(Problem::new(problem::AUTH_FORBIDDEN).detail(need));
    }
    if caller.limited && !permission.is_own() {
        return Err(Problem::new(problem::AUTH_FACTOR_REQUIRED));
    }
    if let Some(named) = parts.headers.get(TENANT_HEADER) {
        let named = named.to_str().unwrap_or_default();
        let known = if caller.over_all() {
            tenants::get(app.shared.control.read(), named).await?.is_some()
        } else {
            named == caller.home
        };
        if !known {
            return Err(Problem::new(problem::TENANT_MISSING));
        }
        caller.named = Some(named.to_owned());
    }
    let origin =
        Origin { actor: caller.actor.clone(), address: caller.address.clone(), request: caller.request.clone() };
    parts.extensions.insert(caller);
    Ok(within(origin, next.run(Request::from_parts(parts, body))).await)
}

async fn identify(app: &App, parts: &Parts) -> Result<Caller, Problem> {
    let required = || Problem::new(problem::AUTH_REQUIRED);
    let (headers, public_url) = (&parts.headers, app.shared.config.api.public_url.as_deref());
    let (text, from_cookie) = match bearer(headers) {
        Some(text) => (text, false),
        None => (browser::cookie(parts, public_url).ok_or_else(required)?, true),
    };
    let (kind, hash) = secret::read(text).ok_or_else(required)?;
    // A cookie is not good as a token, nor a token as a cookie.
    if from_cookie != (kind == secret::Kind::Browser) {
        return Err(required());
    }
    if from_cookie {
        browser::check(parts, text, public_url)?;
    }
    let (control, now) = (&app.shared.control, app.shared.clock.now());
    let address = parts.extensions.get::<Peer>().map(|peer| peer.0.ip().to_string()).unwrap_or_default();
    let id = parts.extensions.get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
    match kind {
        secret::Kind::Session | secret::Kind::Browser => {
            let (now, idle) = app.now_and_idle();
            let found = sessions::by_secret(control.read(), &hash, now, idle).await?;
            let (session, user) = found.ok_or_else(required)?;
            if now.since(session.seen) > app.seen_seconds() * 1_000_000 {
                let mut change = control.begin().await?;
                sessions::seen(change.connection(), &session.tenant, &session.id, now).await?;
                change.commit().await?;
            }
            let csrf = from_cookie.then(|| browser::csrf(text));
            Ok(Caller {
                actor: format!("user:{}", user.name),
                name: user.name,
                user: Some(user.id),
                token: None,
                limited: !session.strong && app.shared.config.sign_in.needs_factor(&user.tenant, user.role),
                home: user.tenant,
                role: user.role,
                named: None,
                session: Some(Opened { id: session.id, way: session.way, strong: session.strong, csrf }),
                ends: Some(session.expires),
                address,
                request: id,
            })
        }
        secret::Kind::Token => {
            let token = tokens::by_secret(control.read(), &hash, now).await?.ok_or_else(required)?;
            if token.last_used.is_none_or(|last| now.since(last) > USE_SECONDS * 1_000_000) {
                let mut change = control.begin().await?;
                tokens::used(change.connection(), &token.tenant, &token.id, now).await?;
                change.commit().await?;
            }
            Ok(Caller {
                actor: format!("token:{}", token.name),
                name: token.name,
                user: None,
                token: Some(token.id),
                home: token.tenant,
                role: token.role,
                named: None,
                session: None,
                limited: false,
                ends: token.expires,
                address,
                request: id,
            })
        }
        secret::Kind::Bouncer => Err(required()),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, text) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| text.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_unique_and_higher_roles_hold_what_lower_ones_do() {
        for (at, permission) in PERMISSIONS.iter().enumerate() {
            assert_eq!(PERMISSIONS.iter().position(|other| other.name == permission.name), Some(at));
            assert!(permission.held(Role::Admin, true));
            assert!(!permission.everywhere || !permission.held(Role::Admin, false));
            assert!(!permission.held(Role::Viewer, false) || permission.held(Role::Operator, false));
        }
    }
}
