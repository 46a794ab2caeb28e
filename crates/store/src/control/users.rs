//! Users and roles. Roles are a fixed table in code ([`Role`]); what a role may is declared at the routes.
//!
//! A user belongs to one tenant or to all (`*`). Names are unique within a tenant. The password is kept as
//! an argon2id hash, which the caller computes (it takes tens of milliseconds and does not belong in a
//! transaction).

use sakimori_model::Timestamp;

use super::sql::{self, Connection, FromRow, On, Pool, Row};
use super::{ControlError, Result, Scope, met, taken, time};

/// What somebody may do, from the least to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Sees events, alerts, actions, agents, policies.
    Viewer,
    /// Also answers: alerts, actions, policies, enrolment.
    Operator,
    /// Also people, tokens, tenants, audit and content.
    Admin,
}

impl Role {
    /// All roles, least first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// The name that the database, JSON and the command line use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// The role of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// The role of a row.
pub(super) fn role(row: &Row) -> Result<Role, sqlx::Error> {
    let name: String = row.try_get("role")?;
    Role::parse(&name).ok_or_else(|| sqlx::Error::Decode(format!("unknown role {name}").into()))
}

/// One user.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// Tenant, or `*` for all.
    pub tenant: String,
    /// UUIDv7.
    pub id: String,
    /// What is typed at login.
    pub name: String,
    /// What the user may do.
    pub role: Role,
    /// argon2id, PHC form.
    pub password: String,
    /// May not log in, and has no valid session.
    pub disabled: bool,
    /// When made.
    pub created: Timestamp,
    /// When last changed.
    pub changed: Timestamp,
}

impl FromRow for User {
    fn from_row(row: &Row) -> Result<Self, sqlx::Error> {
        Ok(Self {
            tenant: row.try_get("tenant")?,
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            role: role(row)?,
            password: row.try_get("password")?,
            disabled: row.try_get("disabled")?,
            created: time(row, "created")?,
            changed: time(row, "changed")?,
        })
    }
}

/// Makes a user.
///
/// # Errors
/// The name is taken in its tenant.
pub async fn create(connection: &mut Connection, user: &User) -> Result<()> {
    let sql = "INSERT INTO users (tenant, id, name, role, password, disabled, created, changed) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    sql::query(sql)
        .bind(&user.tenant)
        .bind(&user.id)
        .bind(&user.name)
        .bind(user.role.name())
        .bind(&user.password)
        .bind(user.disabled)
        .bind(user.created.micros())
        .bind(user.changed.micros())
        .execute(connection)
        .await
        .map_err(taken("user"))?;
    Ok(())
}

/// Writes what may change of a user: role, password, disabled. Disabling, a new role and a new password end
/// the user's sessions.
///
/// # Errors
/// The user is not there, or is the last admin over all tenants that could still log in.
pub async fn update(connection: &mut Connection, user: &User) -> Result<()> {
    let sql = "UPDATE users SET role = $3, password = $4, disabled = $5, changed = $6 WHERE tenant = $1 AND id = $2";
    let done = sql::query(sql)
        .bind(&user.tenant)
        .bind(&user.id)
        .bind(user.role.name())
        .bind(&user.password)
        .bind(user.disabled)
        .bind(user.changed.micros())
        .execute(&mut *connection)
        .await?;
    met(done, "user")?;
    sql::query("DELETE FROM sessions WHERE tenant = $1 AND user_id = $2")
        .bind(&user.tenant)
        .bind(&user.id)
        .execute(connection)
        .await?;
    Ok(())
}

/// Deletes a user and the user's sessions.
///
/// # Errors
/// The user is not there.
pub async fn delete(connection: &mut Connection, tenant: &str, id: &str) -> Result<()> {
    let sql = "DELETE FROM users WHERE tenant = $1 AND id = $2";
    met(sql::query(sql).bind(tenant).bind(id).execute(connection).await?, "user")
}

/// The user of this id, within a scope. On the connection of a change it is read as the change sees it.
///
/// # Errors
/// The user is not there.
pub async fn get<'a>(on: impl Into<On<'a>>, scope: &Scope, id: &str) -> Result<User> {
    let sql = "SELECT * FROM users WHERE ($1 = '' OR tenant = $1) AND id = $2";
    let user = sql::query_as(sql).bind(scope.bound()).bind(id).fetch_optional(on).await?;
    user.ok_or(ControlError::Missing("user"))
}

/// The user of this name in a tenant.
///
/// # Errors
/// The database failed.
pub async fn by_name(pool: &Pool, tenant: &str, name: &str) -> Result<Option<User>> {
    let sql = "SELECT * FROM users WHERE tenant = $1 AND name = $2";
    Ok(sql::query_as(sql).bind(tenant).bind(name).fetch_optional(pool).await?)
}

/// Users after this id, in its order.
///
/// # Errors
/// The database failed.
pub async fn list(pool: &Pool, scope: &Scope, after: &str, limit: i64) -> Result<Vec<User>> {
    let sql = "SELECT * FROM users WHERE ($1 = '' OR tenant = $1) AND id > $2 ORDER BY id LIMIT $3";
    Ok(sql::query_as(sql).bind(scope.bound()).bind(after).bind(limit).fetch_all(pool).await?)
}

/// How many admins of a tenant could log in: an installation keeps one over all tenants.
///
/// # Errors
/// The database failed.
pub async fn enabled_admins(connection: &mut Connection, tenant: &str) -> Result<i64> {
    let sql = "SELECT COUNT(*) FROM users WHERE tenant = $1 AND role = 'admin' AND NOT disabled";
    Ok(sql::query_scalar(sql).bind(tenant).fetch_one(connection).await?)
}

/// Is there any user?
///
/// # Errors
/// The database failed.
pub async fn any(connection: &mut Connection) -> Result<bool> {
    let count: i64 = sql::query_scalar("SELECT COUNT(*) FROM users").fetch_one(connection).await?;
    Ok(count > 0)
}

/// The language that a user chose; none where it is the browser's to say.
///
/// # Errors
/// The database failed.
pub async fn language(pool: &Pool, tenant: &str, id: &str) -> Result<Option<String>> {
    let sql = "SELECT language FROM users WHERE tenant = $1 AND id = $2 AND language <> ''";
    Ok(sql::query_scalar(sql).bind(tenant).bind(id).fetch_optional(pool).await?)
}

/// Sets it; empty leaves it to the browser.
///
/// # Errors
/// The user is not there.
pub async fn set_language(connection: &mut Connection, tenant: &str, id: &str, language: &str) -> Result<()> {
    let sql = "UPDATE users SET language = $3 WHERE tenant = $1 AND id = $2";
    met(sql::query(sql).bind(tenant).bind(id).bind(language).execute(connection).await?, "user")
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::{Base, on_both};
    use super::*;

    on_both!(a_user_is_found_in_its_tenant_only,);

    /// An admin, for tests of what users have.
    pub(in crate::control) fn user(tenant: &str, id: &str, name: &str) -> User {
        let now = Timestamp::from_secs(1);
        User {
            tenant: tenant.into(),
            id: id.into(),
            name: name.into(),
            role: Role::Admin,
            password: "x".into(),
            disabled: false,
            created: now,
            changed: now,
        }
    }

    async fn a_user_is_found_in_its_tenant_only(base: Base) {
        let (_dir, control) = base.fresh().await;
        let mut change = control.begin().await.unwrap();
        create(change.connection(), &user("default", "1", "ann")).await.unwrap();
        create(change.connection(), &user("acme", "2", "ann")).await.unwrap();
        change.commit().await.unwrap();
        let mut change = control.begin().await.unwrap();
        assert!(matches!(
            create(change.connection(), &user("acme", "3", "ann")).await,
            Err(ControlError::Exists("user"))
        ));
        drop(change);
        let mut change = control.begin().await.unwrap();
        let acme = Scope::One("acme".into());
        assert!(matches!(get(change.connection(), &acme, "1").await, Err(ControlError::Missing("user"))));
        assert_eq!(get(change.connection(), &Scope::All, "1").await.unwrap().tenant, "default");
        assert!(delete(change.connection(), "acme", "1").await.is_err());
        assert_eq!(enabled_admins(change.connection(), "acme").await.unwrap(), 1);
        set_language(change.connection(), "acme", "2", "ja").await.unwrap();
        assert!(set_language(change.connection(), "acme", "1", "ja").await.is_err());
        change.commit().await.unwrap();
        assert_eq!(list(control.read(), &acme, "", 9).await.unwrap().len(), 1);
        assert_eq!(list(control.read(), &Scope::All, "1", 9).await.unwrap().len(), 1);
        assert!(by_name(control.read(), "default", "bob").await.unwrap().is_none());
        assert_eq!(language(control.read(), "acme", "2").await.unwrap().as_deref(), Some("ja"));
        assert_eq!(language(control.read(), "default", "1").await.unwrap(), None);
    }

    #[test]
    fn roles_are_ordered_and_named() {
        assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Admin);
        assert!(Role::ALL.into_iter().all(|role| Role::parse(role.name()) == Some(role)));
        assert_eq!(Role::parse("root"), None);
    }
}
