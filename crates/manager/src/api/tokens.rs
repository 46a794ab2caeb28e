//! API tokens: for programs. The secret is shown once, when it is made.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use sakimori_model::Timestamp;
use sakimori_store::control::tokens::{self, Token};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::access::Caller;
use super::extract::{Body, Page, PageQuery, Query, limit, place};
use super::problem::{self, Problem};
use super::{App, Done, secret, users};

/// An API token, without its secret.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Token)]
pub struct TokenView {
    /// UUIDv7.
    pub id: String,
    /// Tenant, `*` for all.
    pub tenant: String,
    /// Name for people.
    pub name: String,
    /// `viewer`, `operator` or `admin`.
    pub role: &'static str,
    /// Its first characters.
    pub prefix: String,
    /// Who made it.
    pub created_by: String,
    /// When made.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// When it ends.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires: Option<Timestamp>,
    /// When last used, to within five minutes.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used: Option<Timestamp>,
}

impl From<Token> for TokenView {
    fn from(token: Token) -> Self {
        Self {
            id: token.id,
            tenant: token.tenant,
            name: token.name,
            role: token.role.name(),
            prefix: token.prefix,
            created_by: token.created_by,
            created: token.created,
            expires: token.expires,
            last_used: token.last_used,
        }
    }
}

/// A token to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// Name for people, 1 to 64 characters.
    pub name: String,
    /// `viewer`, `operator` or `admin`.
    pub role: String,
    /// Days until it ends, 1 to 3650; without it the token does not end.
    pub days: Option<i64>,
    /// Tenant; your own where absent. `*` makes a token over all tenants.
    pub tenant: Option<String>,
}

/// A token that was made, with its secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct MadeToken {
    /// The secret: shown now and never again.
    pub secret: String,
    /// The token.
    pub token: TokenView,
}

/// `GET /tokens`
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<TokenView>>, Problem> {
    let limit = limit(query.limit)?;
    let after: String = place(query.cursor.as_deref())?.unwrap_or_default();
    let rows = tokens::list(app.shared.control.read(), &caller.scope(), &after, limit + 1).await?;
    Ok(Json(Page::of(rows, limit, |token| token.id.clone(), TokenView::from)))
}

/// `POST /tokens`
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<NewToken>,
) -> Result<(StatusCode, Json<MadeToken>), Problem> {
    let wrong = |place: &str, reason: &str| Problem::new(problem::TOKEN_INVALID).fault(place, reason);
    if !(1..=64).contains(&new.name.chars().count()) || new.name.chars().any(char::is_control) {
        return Err(wrong("name", "a name has 1 to 64 characters"));
    }
    if new.days.is_some_and(|days| !(1..=3_650).contains(&days)) {
        return Err(wrong("days", "expected 1 to 3650"));
    }
    let role = users::role(&new.role)?;
    let tenant = users::tenant_of_new(&app, &caller, new.tenant).await?;
    let (secret, hash) = secret::make(secret::Kind::Token);
    let now = app.shared.clock.now();
    let token = Token {
        tenant,
        id: sakimori_model::id::row_id(),
        name: new.name,
        role,
        prefix: secret.chars().take(8).collect(),
        created_by: caller.actor.clone(),
        created: now,
        expires: new.days.map(|days| now.plus_secs(days * 86_400)),
        last_used: None,
    };
    let mut change = app.shared.control.begin().await?;
    tokens::create(change.connection(), &token, &hash).await?;
    let token = TokenView::from(token);
    let done =
        Done { tenant: &token.tenant, action: "tokens:create", target: &token.id, before: None, after: Some(&token) };
    app.done(change, &caller, done).await?;
    Ok((StatusCode::CREATED, Json(MadeToken { secret, token })))
}

/// `DELETE /tokens/{id}`
pub async fn delete(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    let mut change = app.shared.control.begin().await?;
    let token = tokens::get(change.connection(), &caller.scope(), &id).await?;
    tokens::delete(change.connection(), &token.tenant, &token.id).await?;
    let view = TokenView::from(token);
    let done =
        Done { tenant: &view.tenant, action: "tokens:delete", target: &view.id, before: Some(&view), after: None };
    app.done(change, &caller, done).await?;
    Ok(StatusCode::NO_CONTENT)
}
