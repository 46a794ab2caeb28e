//! Programs that block what we decide, as CrowdSec calls them: a name, the hash of a key, and up to when they were told.

use sakimori_model::Timestamp;
use sakimori_model::ledger::Hash;

use super::sql::{self, Connection, FromRow, Pool, Row};
use super::{ControlError, Result, Scope, met, taken, time};

/// Most bouncers of a tenant.
pub const MOST: i64 = 1_000;

/// One of them, without its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bouncer {
    /// Tenant.
    pub tenant: String,
    /// Its name, one of its tenant's.
    pub name: String,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created: Timestamp,
    /// Up to when it was told.
    pub last_pull: Option<Timestamp>,
    /// What it calls itself.
    pub kind: String,
}

impl FromRow for Bouncer {
    fn from_row(row: &Row) -> Result<Self, sqlx::Error> {
        let pulled: Option<i64> = row.try_get("last_pull")?;
        Ok(Self {
            tenant: row.try_get("tenant")?,
            name: row.try_get("name")?,
            created_by: row.try_get("created_by")?,
            created: time(row, "created")?,
            last_pull: pulled.map(Timestamp::from_micros),
            kind: row.try_get("kind")?,
        })
    }
}

/// Makes one, known by the SHA-256 of its key.
///
/// # Errors
/// The name is taken, or the tenant has [`MOST`].
pub async fn create(connection: &mut Connection, bouncer: &Bouncer, key_hash: &Hash) -> Result<()> {
    let sql = "SELECT COUNT(*) FROM bouncers WHERE tenant = $1";
    let there: i64 = sql::query_scalar(sql).bind(&bouncer.tenant).fetch_one(&mut *connection).await?;
    if there >= MOST {
        return Err(ControlError::Full("bouncer"));
    }
    let sql =
        "INSERT INTO bouncers (tenant, name, key_hash, created_by, created, kind) VALUES ($1, $2, $3, $4, $5, $6)";
    sql::query(sql)
        .bind(&bouncer.tenant)
        .bind(&bouncer.name)
        .bind(key_hash.as_slice())
        .bind(&bouncer.created_by)
        .bind(bouncer.created.micros())
        .bind(&bouncer.kind)
        .execute(connection)
        .await
        .map_err(taken("bouncer"))?;
    Ok(())
}

/// Whose key hashes to this.
///
/// # Errors
/// The database failed.
pub async fn by_key(pool: &Pool, key_hash: &Hash) -> Result<Option<Bouncer>> {
    let sql = "SELECT tenant, name, created_by, created, last_pull, kind FROM bouncers WHERE key_hash = $1";
    Ok(sql::query_as(sql).bind(key_hash.as_slice()).fetch_optional(pool).await?)
}

/// One of a tenant's.
///
/// # Errors
/// It is not there.
pub async fn get(connection: &mut Connection, tenant: &str, name: &str) -> Result<Bouncer> {
    let sql = "SELECT tenant, name, created_by, created, last_pull, kind FROM bouncers WHERE tenant = $1 AND name = $2";
    let found = sql::query_as(sql).bind(tenant).bind(name).fetch_optional(connection).await?;
    found.ok_or(ControlError::Missing("bouncer"))
}

/// Notes up to when it was told, and what it calls itself.
///
/// # Errors
/// The database failed.
pub async fn told(connection: &mut Connection, bouncer: &Bouncer, until: Timestamp, kind: &str) -> Result<()> {
    let sql = "UPDATE bouncers SET last_pull = $3, kind = $4 WHERE tenant = $1 AND name = $2";
    let query = sql::query(sql).bind(&bouncer.tenant).bind(&bouncer.name).bind(until.micros()).bind(kind);
    query.execute(connection).await?;
    Ok(())
}

/// Removes one; its key opens nothing any more.
///
/// # Errors
/// It is not there.
pub async fn delete(connection: &mut Connection, tenant: &str, name: &str) -> Result<()> {
    let sql = "DELETE FROM bouncers WHERE tenant = $1 AND name = $2";
    met(sql::query(sql).bind(tenant).bind(name).execute(connection).await?, "bouncer")
}

/// Bouncers after this tenant and name, in their order.
///
/// # Errors
/// The database failed.
pub async fn list(pool: &Pool, scope: &Scope, after: &(String, String), limit: i64) -> Result<Vec<Bouncer>> {
    let sql = "SELECT tenant, name, created_by, created, last_pull, kind FROM bouncers WHERE ($1 = '' OR tenant = $1) AND \
               (tenant > $2 OR (tenant = $2 AND name > $3)) ORDER BY tenant, name LIMIT $4";
    let query = sql::query_as(sql).bind(scope.bound()).bind(&after.0).bind(&after.1).bind(limit);
    Ok(query.fetch_all(pool).await?)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Base, on_both};
    use super::*;

    on_both!(a_bouncer_is_found_by_its_key_until_it_is_removed,);

    async fn a_bouncer_is_found_by_its_key_until_it_is_removed(base: Base) {
        let (_dir, control) = base.fresh().await;
        let bouncer = Bouncer {
            tenant: "default".into(),
            name: "edge".into(),
            created_by: "user:ann".into(),
            created: Timestamp::from_secs(1),
            last_pull: None,
            kind: String::new(),
        };
        let mut change = control.begin().await.unwrap();
        create(change.connection(), &bouncer, &[7; 32]).await.unwrap();
        assert!(create(change.connection(), &bouncer, &[8; 32]).await.is_err(), "the name is taken");
        drop(change);
        let mut change = control.begin().await.unwrap();
        create(change.connection(), &bouncer, &[7; 32]).await.unwrap();
        told(change.connection(), &bouncer, Timestamp::from_secs(5), "firewall/1").await.unwrap();
        change.commit().await.unwrap();
        let found = by_key(control.read(), &[7; 32]).await.unwrap().unwrap();
        assert_eq!((found.last_pull, found.kind.as_str()), (Some(Timestamp::from_secs(5)), "firewall/1"));
        assert!(by_key(control.read(), &[8; 32]).await.unwrap().is_none());
        let all = list(control.read(), &Scope::One("default".into()), &Default::default(), 9).await.unwrap();
        assert_eq!(all.len(), 1);
        assert!(list(control.read(), &Scope::One("acme".into()), &Default::default(), 9).await.unwrap().is_empty());
        let mut change = control.begin().await.unwrap();
        assert!(delete(change.connection(), "acme", "edge").await.is_err());
        delete(change.connection(), "default", "edge").await.unwrap();
        change.commit().await.unwrap();
        assert!(by_key(control.read(), &[7; 32]).await.unwrap().is_none());
    }
}
