//! Named secrets of tenants, as they are sealed. What seals and opens them has the key, and is not here.

use sakimori_model::Timestamp;

use super::sql::{self, Connection, FromRow, On, Row};
use super::{ControlError, Result, Scope, met, time};

/// Most secrets of a tenant.
pub const MOST: i64 = 1_000;

/// A secret's name and history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Tenant.
    pub tenant: String,
    /// Its name, one of its tenant's.
    pub name: String,
    /// When first set.
    pub created: Timestamp,
    /// When last set.
    pub changed: Timestamp,
    /// Who set it last.
    pub changed_by: String,
}

/// A secret as it is sealed.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Tenant.
    pub tenant: String,
    /// Its name.
    pub name: String,
    /// Text that names its key.
    pub sealed: String,
}

impl FromRow for Named {
    fn from_row(row: &Row) -> Result<Self, sqlx::Error> {
        Ok(Self {
            tenant: row.try_get("tenant")?,
            name: row.try_get("name")?,
            created: time(row, "created")?,
            changed: time(row, "changed")?,
            changed_by: row.try_get("changed_by")?,
        })
    }
}

impl FromRow for Sealed {
    fn from_row(row: &Row) -> Result<Self, sqlx::Error> {
        Ok(Self { tenant: row.try_get("tenant")?, name: row.try_get("name")?, sealed: row.try_get("sealed")? })
    }
}

/// Sets a secret, in place of the one that has its name. `named.created` counts where there was none.
///
/// # Errors
/// [`ControlError::Full`] where the tenant has [`MOST`] others.
pub async fn set(connection: &mut Connection, named: &Named, sealed: &str) -> Result<()> {
    let sql = "SELECT COUNT(*) FROM secrets WHERE tenant = $1 AND name <> $2";
    let others: i64 = sql::query_scalar(sql).bind(&named.tenant).bind(&named.name).fetch_one(&mut *connection).await?;
    if others >= MOST {
        return Err(ControlError::Full("secret"));
    }
    let sql = "INSERT INTO secrets (tenant, name, sealed, created, changed, changed_by) \
               VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (tenant, name) DO UPDATE SET \
               sealed = excluded.sealed, changed = excluded.changed, changed_by = excluded.changed_by";
    sql::query(sql)
        .bind(&named.tenant)
        .bind(&named.name)
        .bind(sealed)
        .bind(named.created.micros())
        .bind(named.changed.micros())
        .bind(&named.changed_by)
        .execute(connection)
        .await?;
    Ok(())
}

/// Name and history of a secret.
///
/// # Errors
/// The database failed.
pub async fn find(on: impl Into<On<'_>>, tenant: &str, name: &str) -> Result<Option<Named>> {
    let sql = "SELECT * FROM secrets WHERE tenant = $1 AND name = $2";
    Ok(sql::query_as(sql).bind(tenant).bind(name).fetch_optional(on).await?)
}

/// A secret as it is sealed.
///
/// # Errors
/// The database failed.
pub async fn sealed(on: impl Into<On<'_>>, tenant: &str, name: &str) -> Result<Option<String>> {
    let sql = "SELECT sealed FROM secrets WHERE tenant = $1 AND name = $2";
    Ok(sql::query_scalar(sql).bind(tenant).bind(name).fetch_optional(on).await?)
}

/// Secrets after this tenant and name, in their order, without what is sealed.
///
/// # Errors
/// The database failed.
pub async fn list(on: impl Into<On<'_>>, scope: &Scope, after: &(String, String), limit: i64) -> Result<Vec<Named>> {
    let sql = "SELECT * FROM secrets WHERE ($1 = '' OR tenant = $1) AND \
               (tenant > $2 OR (tenant = $2 AND name > $3)) ORDER BY tenant, name LIMIT $4";
    let query = sql::query_as(sql).bind(scope.bound()).bind(&after.0).bind(&after.1).bind(limit);
    Ok(query.fetch_all(on).await?)
}

/// All secrets whose seal does not begin so, as those of one key do; without `%` and `_`.
///
/// # Errors
/// The database failed.
pub async fn sealed_otherwise(on: impl Into<On<'_>>, beginning: &str) -> Result<Vec<Sealed>> {
    let sql = "SELECT tenant, name, sealed FROM secrets WHERE sealed NOT LIKE $1 ORDER BY tenant, name";
    Ok(sql::query_as(sql).bind(format!("{beginning}%")).fetch_all(on).await?)
}

/// Puts the same secret in another seal; nothing of its history changes.
///
/// # Errors
/// It is not there.
pub async fn seal_anew(connection: &mut Connection, tenant: &str, name: &str, sealed: &str) -> Result<()> {
    let sql = "UPDATE secrets SET sealed = $3 WHERE tenant = $1 AND name = $2";
    met(sql::query(sql).bind(tenant).bind(name).bind(sealed).execute(connection).await?, "secret")
}

/// Deletes a secret.
///
/// # Errors
/// It is not there.
pub async fn delete(connection: &mut Connection, tenant: &str, name: &str) -> Result<()> {
    let sql = "DELETE FROM secrets WHERE tenant = $1 AND name = $2";
    met(sql::query(sql).bind(tenant).bind(name).execute(connection).await?, "secret")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Base, on_both};
    use super::*;

    on_both!(a_secret_is_set_replaced_listed_sealed_anew_and_deleted, a_tenant_has_so_many_and_no_more);

    fn named(tenant: &str, name: &str, second: i64) -> Named {
        let at = Timestamp::from_secs(second);
        Named { tenant: tenant.into(), name: name.into(), created: at, changed: at, changed_by: "user:ann".into() }
    }

    async fn a_secret_is_set_replaced_listed_sealed_anew_and_deleted(base: Base) {
        let (_dir, control) = base.fresh().await;
        let mut change = control.begin().await.unwrap();
        let on = change.connection();
        set(on, &named("acme", "pager", 1), "a:1").await.unwrap();
        set(on, &named("acme", "mail", 2), "b:2").await.unwrap();
        set(on, &named("default", "pager", 3), "b:3").await.unwrap();
        set(on, &named("acme", "pager", 9), "a:9").await.unwrap();
        change.commit().await.unwrap();
        let pager = find(control.read(), "acme", "pager").await.unwrap().unwrap();
        assert_eq!((pager.created, pager.changed), (Timestamp::from_secs(1), Timestamp::from_secs(9)));
        assert_eq!(sealed(control.read(), "acme", "pager").await.unwrap().as_deref(), Some("a:9"));
        assert_eq!(sealed(control.read(), "other", "pager").await.unwrap(), None);
        let page = async |scope: Scope, after: (&str, &str)| {
            let after = (after.0.to_owned(), after.1.to_owned());
            let rows = list(control.read(), &scope, &after, 2).await.unwrap();
            rows.into_iter().map(|row| format!("{}/{}", row.tenant, row.name)).collect::<Vec<_>>()
        };
        assert_eq!(page(Scope::All, ("", "")).await, ["acme/mail", "acme/pager"]);
        assert_eq!(page(Scope::All, ("acme", "pager")).await, ["default/pager"]);
        assert_eq!(page(Scope::One("acme".into()), ("acme", "mail")).await, ["acme/pager"]);
        let others = sealed_otherwise(control.read(), "b:").await.unwrap();
        assert!(matches!(others.as_slice(), [one] if one.sealed == "a:9" && one.name == "pager"));
        let mut change = control.begin().await.unwrap();
        seal_anew(change.connection(), "acme", "pager", "b:4").await.unwrap();
        assert!(seal_anew(change.connection(), "acme", "nothing", "b:4").await.is_err());
        delete(change.connection(), "acme", "mail").await.unwrap();
        assert!(matches!(delete(change.connection(), "acme", "mail").await, Err(ControlError::Missing("secret"))));
        change.commit().await.unwrap();
        assert_eq!(find(control.read(), "acme", "pager").await.unwrap().unwrap(), pager, "its history is as it was");
        assert!(sealed_otherwise(control.read(), "b:").await.unwrap().is_empty());
    }

    async fn a_tenant_has_so_many_and_no_more(base: Base) {
        let (_dir, control) = base.fresh().await;
        let mut change = control.begin().await.unwrap();
        for number in 0..MOST {
            set(change.connection(), &named("acme", &number.to_string(), 1), "x").await.unwrap();
        }
        set(change.connection(), &named("acme", "0", 2), "y").await.unwrap();
        set(change.connection(), &named("other", "0", 2), "y").await.unwrap();
        let more = set(change.connection(), &named("acme", "more", 2), "y").await;
        assert!(matches!(more, Err(ControlError::Full("secret"))));
    }
}
