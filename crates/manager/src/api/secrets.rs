//! Named secrets of a tenant: set, replaced, deleted, listed by name, and never read back. They are sealed before they
//! reach the database ([`crate::sealing`]).

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use sakimori_model::Timestamp;
use sakimori_store::control::ControlError;
use sakimori_store::control::secrets::{self, Named};
use serde::Serialize;
use utoipa::ToSchema;

use super::access::Caller;
use super::extract::{Page, PageQuery, Query, Raw, limit, place};
use super::problem::{self, Problem};
use super::{App, Done};
use crate::channels::{MAX_SECRET, secret_of};

/// Largest secret, in bytes.
pub const MOST: usize = MAX_SECRET as usize;

/// A secret, without its value.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Secret)]
pub struct SecretView {
    /// Its name, one of its tenant's.
    pub name: String,
    /// Its tenant.
    pub tenant: String,
    /// When first set.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// When last set.
    #[schema(value_type = String, format = DateTime)]
    pub changed: Timestamp,
    /// Who set it last.
    pub changed_by: String,
    /// Channels of the manager's configuration whose secret it is.
    pub used_by: Vec<String>,
}

fn view(app: &App, named: Named) -> SecretView {
    let Named { tenant, name, created, changed, changed_by } = named;
    let channels = app.shared.config.notify.iter();
    let used_by = channels.filter(|channel| secret_of(channel) == Some((tenant.as_str(), name.as_str())));
    let used_by = used_by.map(|channel| channel.name.clone()).collect();
    SecretView { name, tenant, created, changed, changed_by, used_by }
}

/// `GET /secrets`
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<SecretView>>, Problem> {
    let limit = limit(query.limit)?;
    let after: (String, String) = place(query.cursor.as_deref())?.unwrap_or_default();
    let rows = secrets::list(app.shared.control.read(), &caller.scope(), &after, limit + 1).await?;
    let place = |row: &Named| (row.tenant.clone(), row.name.clone());
    Ok(Json(Page::of(rows, limit, place, |row| view(&app, row))))
}

/// `PUT /secrets/{name}`
pub async fn put(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    Raw(value): Raw,
) -> Result<Json<SecretView>, Problem> {
    if !valid(&name) {
        let reason =
            "a name has 1 to 64 lower-case letters, digits, hyphens, dots and underscores, a letter or digit first";
        return Err(Problem::new(problem::SECRET_INVALID).fault("name", reason));
    }
    if value.trim_ascii().is_empty() {
        return Err(Problem::new(problem::SECRET_INVALID).fault("body", "a secret is not empty"));
    }
    let (shared, tenant) = (&app.shared, caller.tenant());
    let mut change = shared.control.begin().await?;
    let before = secrets::find(change.connection(), tenant, &name).await?;
    let sealed = shared.sealing.seal_named(tenant, &name, &value).map_err(|error| Problem::failed(&error))?;
    let now = shared.clock.now();
    let after = Named {
        tenant: tenant.to_owned(),
        name,
        created: before.as_ref().map_or(now, |before| before.created),
        changed: now,
        changed_by: caller.actor.clone(),
    };
    secrets::set(change.connection(), &after, &sealed).await?;
    let (before, after) = (before.map(|before| view(&app, before)), view(&app, after));
    let done =
        Done { tenant, action: "secrets:set", target: &after.name, before: before.as_ref(), after: Some(&after) };
    app.done(change, &caller, done).await?;
    // What lacked it may be sent now.
    shared.channels.wake_all();
    Ok(Json(after))
}

/// `DELETE /secrets/{name}`
pub async fn delete(State(app): State<App>, caller: Caller, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    let tenant = caller.tenant();
    let mut change = app.shared.control.begin().await?;
    let before = secrets::find(change.connection(), tenant, &name).await?.ok_or(ControlError::Missing("secret"))?;
    secrets::delete(change.connection(), tenant, &name).await?;
    let before = view(&app, before);
    let done = Done { tenant, action: "secrets:delete", target: &before.name, before: Some(&before), after: None };
    app.done(change, &caller, done).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn valid(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=64).contains(&name.len())
        && name.bytes().next().is_some_and(plain)
        && name.bytes().all(|byte| plain(byte) || matches!(byte, b'-' | b'.' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        for good in ["a", "ops-pager.v2", "0_x", &"a".repeat(64)] {
            assert!(valid(good), "{good}");
        }
        for bad in ["", "-a", ".", "A", "a/b", "a b", "ö", &"a".repeat(65)] {
            assert!(!valid(bad), "{bad}");
        }
    }
}
