//! Users: who may log in, and as what.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use sakimori_model::Timestamp;
use sakimori_store::control::users::{self, Role, User};
use sakimori_store::control::{ALL_TENANTS, Change, provider_accounts, tenants};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::access::Caller;
use super::extract::{Body, Page, PageQuery, Query, limit, place};
use super::problem::{self, Problem};
use super::{App, Done};
use crate::sign_in::settings::is_name;

/// A user.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = User)]
pub struct UserView {
    /// UUIDv7.
    pub id: String,
    /// Tenant, `*` for all.
    pub tenant: String,
    /// What is typed at login.
    pub name: String,
    /// `viewer`, `operator` or `admin`.
    pub role: &'static str,
    /// May not log in.
    pub disabled: bool,
    /// When made.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// When last changed.
    #[schema(value_type = String, format = DateTime)]
    pub changed: Timestamp,
}

impl From<User> for UserView {
    fn from(user: User) -> Self {
        Self {
            id: user.id,
            tenant: user.tenant,
            name: user.name,
            role: user.role.name(),
            disabled: user.disabled,
            created: user.created,
            changed: user.changed,
        }
    }
}

/// A user to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// 1 to 64 letters, digits and `.`, `_`, `-`, `@`.
    pub name: String,
    /// `viewer`, `operator` or `admin`.
    pub role: String,
    /// At least 12 characters.
    pub password: String,
    /// Tenant; your own where absent. `*` makes a user over all tenants.
    pub tenant: Option<String>,
}

/// What may change of a user; absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserPatch {
    /// `viewer`, `operator` or `admin`.
    pub role: Option<String>,
    /// May not log in; open sessions end.
    pub disabled: Option<bool>,
}

/// A new password.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPassword {
    /// At least 12 characters.
    pub password: String,
}

/// `GET /users`
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<UserView>>, Problem> {
    let limit = limit(query.limit)?;
    let after: String = place(query.cursor.as_deref())?.unwrap_or_default();
    let rows = users::list(app.shared.control.read(), &caller.scope(), &after, limit + 1).await?;
    Ok(Json(Page::of(rows, limit, |user| user.id.clone(), UserView::from)))
}

/// `GET /users/{id}`
pub async fn get(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<Json<UserView>, Problem> {
    Ok(Json(users::get(app.shared.control.read(), &caller.scope(), &id).await?.into()))
}

/// `POST /users`
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<NewUser>,
) -> Result<(StatusCode, Json<UserView>), Problem> {
    if !is_name(&new.name) {
        let reason = "a name has 1 to 64 letters, digits and . _ - @";
        return Err(Problem::new(problem::USER_INVALID).fault("name", reason));
    }
    let role = role(&new.role)?;
    let tenant = tenant_of_new(&app, &caller, new.tenant).await?;
    let password = app.hasher.hash(&new.password).await?;
    let now = app.shared.clock.now();
    let id = sakimori_model::id::row_id();
    let user = User { tenant, id, name: new.name, role, password, disabled: false, created: now, changed: now };
    let mut change = app.shared.control.begin().await?;
    users::create(change.connection(), &user).await?;
    let view = UserView::from(user);
    let done =
        Done { tenant: &view.tenant, action: "users:create", target: &view.id, before: None, after: Some(&view) };
    app.done(change, &caller, done).await?;
    Ok((StatusCode::CREATED, Json(view)))
}

/// `PATCH /users/{id}`
pub async fn patch(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(patch): Body<UserPatch>,
) -> Result<Json<UserView>, Problem> {
    let new_role = patch.role.as_deref().map(role).transpose()?;
    let mut change = app.shared.control.begin().await?;
    let mut user = users::get(change.connection(), &caller.scope(), &id).await?;
    let before = UserView::from(user.clone());
    user.role = new_role.unwrap_or(user.role);
    user.disabled = patch.disabled.unwrap_or(user.disabled);
    user.changed = app.shared.clock.now();
    users::update(change.connection(), &user).await?;
    keep_an_admin(&mut change, &user.tenant).await?;
    let view = UserView::from(user);
    let done = Done {
        tenant: &view.tenant,
        action: "users:change",
        target: &view.id,
        before: Some(&before),
        after: Some(&view),
    };
    app.done(change, &caller, done).await?;
    Ok(Json(view))
}

/// `PUT /users/{id}/password`
pub async fn set_password(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(new): Body<NewPassword>,
) -> Result<StatusCode, Problem> {
    let password = app.hasher.hash(&new.password).await?;
    let mut change = app.shared.control.begin().await?;
    let user = users::get(change.connection(), &caller.scope(), &id).await?;
    if provider_accounts::provider(change.connection(), &user.tenant, &user.id).await?.is_some() {
        // A way in beside the provider would stay open when the provider closes its own.
        return Err(Problem::new(problem::FACTOR_UNAVAILABLE).detail("the user signs in at a provider"));
    }
    write_password(&app, change, &caller, user, password).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Writes a new password; the user's sessions end.
pub(super) async fn write_password(
    app: &App,
    mut change: Change,
    caller: &Caller,
    mut user: User,
    password: String,
) -> Result<(), Problem> {
    let before = UserView::from(user.clone());
    user.password = password;
    user.changed = app.shared.clock.now();
    users::update(change.connection(), &user).await?;
    let view = UserView::from(user);
    let done = Done {
        tenant: &view.tenant,
        action: "users:password",
        target: &view.id,
        before: Some(&before),
        after: Some(&view),
    };
    app.done(change, caller, done).await
}

/// `DELETE /users/{id}`
pub async fn delete(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    let mut change = app.shared.control.begin().await?;
    let user = users::get(change.connection(), &caller.scope(), &id).await?;
    users::delete(change.connection(), &user.tenant, &user.id).await?;
    keep_an_admin(&mut change, &user.tenant).await?;
    let view = UserView::from(user);
    let done =
        Done { tenant: &view.tenant, action: "users:delete", target: &view.id, before: Some(&view), after: None };
    app.done(change, &caller, done).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// An installation keeps an admin over all tenants who can log in.
pub(super) async fn keep_an_admin(change: &mut Change, tenant: &str) -> Result<(), Problem> {
    if tenant == ALL_TENANTS && users::enabled_admins(change.connection(), tenant).await? == 0 {
        return Err(Problem::new(problem::USER_LAST_ADMIN));
    }
    Ok(())
}

/// The tenant of a user or token that is to be made.
pub(super) async fn tenant_of_new(app: &App, caller: &Caller, asked: Option<String>) -> Result<String, Problem> {
    let Some(asked) = asked else { return Ok(caller.tenant().to_owned()) };
    let known = if caller.over_all() {
        asked == ALL_TENANTS || tenants::get(app.shared.control.read(), &asked).await?.is_some()
    } else {
        asked == caller.home
    };
    if known { Ok(asked) } else { Err(Problem::new(problem::TENANT_MISSING)) }
}

/// The role of a name.
pub(super) fn role(name: &str) -> Result<Role, Problem> {
    Role::parse(name).ok_or_else(|| {
        let reason = format!("expected viewer, operator or admin, found {name:?}");
        Problem::new(problem::USER_INVALID).fault("role", reason)
    })
}
