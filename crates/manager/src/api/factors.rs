//! Second factors: codes by time (TOTP) with recovery codes for who has lost the device, and an admin's reset.
//!
//! The secret is shown once, counts from the first code that is shown of it, and lies sealed. Whoever sets something up or
//! takes it away shows the password again, so that an open session alone is not enough. Nor is a password alone, where a
//! second factor has to be shown and one is set up: then it is shown first ([`own_way_first`]).

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use sakimori_identity::{recovery, totp};
use sakimori_model::ledger::Hash;
use sakimori_store::control::users::{self, User};
use sakimori_store::control::{Change, Scope, audit, factors, passkeys, provider_accounts, sessions};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::access::Caller;
use super::authenticate::{self, Shown, Visit, throttled};
use super::extract::Body;
use super::passkeys::PasskeyView;
use super::problem::{self, Problem};
use super::session::again;
use super::{App, Done, secret};

/// What authenticator apps call us.
const ISSUER: &str = "Sakimori";
/// Longest code that is looked at.
const MOST_CODE: usize = 64;

/// How a user may show who they are.
#[derive(Debug, Serialize, ToSchema)]
pub struct Factors {
    /// The provider of single sign-on; absent for a user with a password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Is a code of a device asked for?
    pub totp: bool,
    /// Recovery codes that are left.
    pub recovery_codes: i64,
    /// Passkeys, the oldest first.
    pub passkeys: Vec<PasskeyView>,
    /// Is a password alone not enough, by the configuration?
    pub required: bool,
    /// Can passkeys be used with this installation? They need `api.public_url`.
    pub passkeys_possible: bool,
}

/// The password again, and a code for who has a second factor.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Again {
    /// One's password.
    pub password: String,
    /// A code.
    pub code: Option<String>,
}

/// A secret that is to be put into a device: shown now and never again.
#[derive(Debug, Serialize, ToSchema)]
pub struct TotpBegun {
    /// The secret, base32, for who types it.
    pub secret: String,
    /// `otpauth://…`, to be shown as a picture.
    pub uri: String,
}

/// A code of the device.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Code {
    /// Six digits.
    pub code: String,
}

/// Recovery codes: shown now and never again, each good once.
#[derive(Debug, Serialize, ToSchema)]
pub struct RecoveryCodes {
    /// The codes.
    pub codes: Vec<String>,
}

/// How a user stands.
pub(super) async fn of(app: &App, tenant: &str, user: &str, role: users::Role) -> Result<Factors, Problem> {
    let read = app.shared.control.read();
    let all = passkeys::of_user(read, tenant, user).await?;
    Ok(Factors {
        provider: provider_accounts::provider(read, tenant, user).await?,
        totp: factors::totp(read, tenant, user).await?.is_some_and(|totp| totp.confirmed),
        recovery_codes: factors::codes_left(read, tenant, user).await?,
        passkeys: all.into_iter().map(PasskeyView::from).collect(),
        required: app.shared.config.sign_in.needs_factor(tenant, role),
        passkeys_possible: super::passkeys::Party::of(app).is_some(),
    })
}

/// `GET /session/factors`
pub async fn own(State(app): State<App>, caller: Caller) -> Result<Json<Factors>, Problem> {
    Ok(Json(of(&app, &caller.home, caller.person()?, caller.role).await?))
}

/// `GET /users/{id}/factors`
pub async fn of_user(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<Json<Factors>, Problem> {
    let user = users::get(app.shared.control.read(), &caller.scope(), &id).await?;
    Ok(Json(of(&app, &user.tenant, &user.id, user.role).await?))
}

/// `POST /session/totp`: a new secret. Nothing is asked of the user by it until a code of it was shown.
pub async fn begin_totp(
    State(app): State<App>,
    visit: Visit,
    caller: Caller,
    Body(body): Body<Again>,
) -> Result<Json<TotpBegun>, Problem> {
    let user = local(&app, &caller).await?;
    own_way_first(&app, &caller).await?;
    again(&app, &visit, &caller, &body.password, body.code.as_deref(), "password").await?;
    let made: [u8; totp::SECRET] = secret::random();
    let mut change = app.shared.control.begin().await?;
    if factors::totp(change.connection(), &user.tenant, &user.id).await?.is_some_and(|known| known.confirmed) {
        return Err(Problem::new(problem::FACTOR_EXISTS).detail("codes are set up already; remove them first"));
    }
    let sealed = app.shared.sealing.seal_totp(&user.tenant, &user.id, &made);
    let row = factors::Totp {
        tenant: user.tenant.clone(),
        user_id: user.id.clone(),
        sealed: sealed.map_err(|error| Problem::failed(&error))?,
        confirmed: false,
        step: 0,
        created: app.shared.clock.now(),
    };
    factors::put_totp(change.connection(), &row).await?;
    finish(&app, change, &caller, &user, "factors:totp-begin").await?;
    Ok(Json(TotpBegun { secret: totp::base32(&made), uri: totp::uri(ISSUER, &user.name, &made) }))
}

/// `POST /session/totp/confirm`: the first code; from now on one is asked for.
pub async fn confirm_totp(
    State(app): State<App>,
    visit: Visit,
    caller: Caller,
    Body(body): Body<Code>,
) -> Result<Json<RecoveryCodes>, Problem> {
    let user = local(&app, &caller).await?;
    own_way_first(&app, &caller).await?;
    let found = factors::totp(app.shared.control.read(), &user.tenant, &user.id).await?;
    let Some(totp) = found.filter(|totp| !totp.confirmed) else {
        return Err(Problem::new(problem::FACTOR_MISSING).detail("no new secret waits for its first code"));
    };
    let Shown::Step(step) = shown(&app, &user, &totp, &body.code, &authenticate::by_network(&visit.network)).await?
    else {
        return Err(Problem::new(problem::AUTH_CODE));
    };
    let mut change = app.shared.control.begin().await?;
    if !factors::use_step(change.connection(), &user.tenant, &user.id, step).await? {
        return Err(Problem::new(problem::AUTH_CODE));
    }
    let codes = new_codes(&mut change, &user).await?;
    if let Some(session) = &caller.session {
        sessions::strengthen(change.connection(), &user.tenant, &session.id).await?;
    }
    finish(&app, change, &caller, &user, "factors:totp").await?;
    Ok(Json(codes))
}

/// `POST /session/totp/remove`
pub async fn remove_totp(
    State(app): State<App>,
    visit: Visit,
    caller: Caller,
    Body(body): Body<Again>,
) -> Result<StatusCode, Problem> {
    let user = local(&app, &caller).await?;
    again(&app, &visit, &caller, &body.password, body.code.as_deref(), "password").await?;
    let mut change = app.shared.control.begin().await?;
    if !factors::remove_totp(change.connection(), &user.tenant, &user.id).await? {
        return Err(Problem::new(problem::FACTOR_MISSING));
    }
    finish(&app, change, &caller, &user, "factors:totp-remove").await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /session/recovery-codes`: new ones; the former ones are good no more.
pub async fn renew_codes(
    State(app): State<App>,
    visit: Visit,
    caller: Caller,
    Body(body): Body<Again>,
) -> Result<Json<RecoveryCodes>, Problem> {
    let user = local(&app, &caller).await?;
    again(&app, &visit, &caller, &body.password, body.code.as_deref(), "password").await?;
    let mut change = app.shared.control.begin().await?;
    if factors::totp(change.connection(), &user.tenant, &user.id).await?.is_none_or(|known| !known.confirmed) {
        return Err(Problem::new(problem::FACTOR_MISSING).detail("set up codes of a device first"));
    }
    let codes = new_codes(&mut change, &user).await?;
    finish(&app, change, &caller, &user, "factors:recovery-codes").await?;
    Ok(Json(codes))
}

/// `DELETE /users/{id}/totp`: for who has lost device and recovery codes; the user's sessions end.
pub async fn reset_totp(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    let mut change = app.shared.control.begin().await?;
    let user = users::get(change.connection(), &caller.scope(), &id).await?;
    if !factors::remove_totp(change.connection(), &user.tenant, &user.id).await? {
        return Err(Problem::new(problem::FACTOR_MISSING));
    }
    sessions::delete_all(change.connection(), &user.tenant, &user.id).await?;
    finish(&app, change, &caller, &user, "users:totp-reset").await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /users/{id}/passkeys`: all of them; the user's sessions end.
pub async fn reset_passkeys(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let mut change = app.shared.control.begin().await?;
    let user = users::get(change.connection(), &caller.scope(), &id).await?;
    if passkeys::delete_all(change.connection(), &user.tenant, &user.id).await? == 0 {
        return Err(Problem::new(problem::FACTOR_MISSING));
    }
    sessions::delete_all(change.connection(), &user.tenant, &user.id).await?;
    finish(&app, change, &caller, &user, "users:passkeys-reset").await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn finish(app: &App, change: Change, caller: &Caller, user: &User, action: &str) -> Result<(), Problem> {
    let done: Done<'_, ()> = Done { tenant: &user.tenant, action, target: &user.id, before: None, after: None };
    app.done(change, caller, done).await
}

/// The user of the request, who has a password here.
pub(super) async fn local(app: &App, caller: &Caller) -> Result<User, Problem> {
    let scope = Scope::One(caller.home.clone());
    let user = users::get(app.shared.control.read(), &scope, caller.person()?).await?;
    if provider_accounts::provider(app.shared.control.read(), &user.tenant, &user.id).await?.is_some() {
        return Err(Problem::new(problem::FACTOR_UNAVAILABLE).detail("your provider of single sign-on asks for them"));
    }
    Ok(user)
}

/// In a session that may do nothing but set up a second factor: there is none yet. Else whoever has stolen a password would
/// set up a factor of their own, or remove the owner's, and be let in by it.
///
/// # Errors
/// There is one: it is shown first, by signing in with it.
pub(super) async fn own_way_first(app: &App, caller: &Caller) -> Result<(), Problem> {
    if !caller.limited {
        return Ok(());
    }
    let (read, user) = (app.shared.control.read(), caller.person()?);
    let codes = factors::totp(read, &caller.home, user).await?.is_some_and(|totp| totp.confirmed);
    if codes || !passkeys::of_user(read, &caller.home, user).await?.is_empty() {
        return Err(Problem::new(problem::FACTOR_FIRST).detail("a password alone changes nothing of how you sign in"));
    }
    Ok(())
}

async fn new_codes(change: &mut Change, user: &User) -> Result<RecoveryCodes, Problem> {
    let codes: Vec<[u8; recovery::BYTES]> = (0..recovery::COUNT).map(|_| secret::random()).collect();
    let hashes: Vec<Hash> = codes.iter().map(|code| recovery::hash(&user.id, code)).collect();
    factors::replace_codes(change.connection(), &user.tenant, &user.id, &hashes).await?;
    Ok(RecoveryCodes { codes: codes.iter().map(recovery::text).collect() })
}

/// Whether a user whose password was right has to show a code, and which one it is. It is used by [`take`] and not here.
pub(super) async fn code(app: &App, user: &User, typed: Option<&str>, by_address: &str) -> Result<Shown, Problem> {
    let found = factors::totp(app.shared.control.read(), &user.tenant, &user.id).await?;
    let Some(totp) = found.filter(|totp| totp.confirmed) else { return Ok(Shown::Password) };
    let Some(typed) = typed.filter(|typed| !typed.trim().is_empty()) else {
        return Err(Problem::new(problem::AUTH_CODE_NEEDED));
    };
    shown(app, user, &totp, typed, by_address).await
}

/// What a code is, of a secret whose user is known; a wrong one is counted.
async fn shown(app: &App, user: &User, totp: &factors::Totp, typed: &str, by_address: &str) -> Result<Shown, Problem> {
    let subject = authenticate::by_code(user);
    throttled(app, &[(&user.tenant, &subject)]).await?;
    let now = app.shared.clock.now().micros().div_euclid(1_000_000);
    if totp::is_code(typed) {
        let opened = app.shared.sealing.open_totp(&user.tenant, &user.id, &totp.sealed);
        let opened = opened.map_err(|error| Problem::failed(&error))?;
        if let Some(step) = totp::check(opened.expose(), typed, now).filter(|step| *step > totp.step) {
            return Ok(Shown::Step(step));
        }
    } else if let Some(code) = recovery::read(typed).filter(|_| typed.len() <= MOST_CODE) {
        let hash = recovery::hash(&user.id, &code);
        if factors::has_code(app.shared.control.read(), &user.tenant, &user.id, &hash).await? {
            return Ok(Shown::Recovery(hash));
        }
    }
    Err(authenticate::wrong_code(app, user, by_address).await?)
}

/// Uses what was shown, within the change that it lets through; false where it was used meanwhile.
pub(super) async fn take(change: &mut Change, app: &App, user: &User, shown: Shown) -> Result<bool, Problem> {
    match shown {
        Shown::Step(step) => Ok(factors::use_step(change.connection(), &user.tenant, &user.id, step).await?),
        Shown::Recovery(hash) => {
            let used = factors::use_code(change.connection(), &user.tenant, &user.id, &hash).await?;
            if used {
                let actor = format!("user:{}", user.name);
                let entry = audit::Entry {
                    tenant: &user.tenant,
                    time: app.shared.clock.now(),
                    actor: &actor,
                    action: "factors:recovery-used",
                    target: &user.id,
                    before: None,
                    after: None,
                    address: "",
                    request: "",
                };
                change.audit(&entry).await?;
            }
            Ok(used)
        }
        Shown::Password | Shown::Other => Ok(true),
    }
}
