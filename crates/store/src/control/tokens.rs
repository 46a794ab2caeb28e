//! API tokens: what programs log in with. The secret is 32 random bytes, shown once; kept is its SHA-256,
//! which for a secret of that size needs no salt and no slow hash.

use sakimori_model::Timestamp;
use sakimori_model::ledger::Hash;

use super::sql::{self, Connection, FromRow, Pool, Row};
use super::users::{Role, role};
use super::{ControlError, Result, Scope, maybe_time, met, taken, time};

/// One token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Tenant, or `*` for all.
    pub tenant: String,
    /// UUIDv7.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Its first characters.
    pub prefix: String,
    /// Who made it.
    pub created_by: String,
    /// When made.
    pub created: Timestamp,
    /// When it ends.
    pub expires: Option<Timestamp>,
    /// When it was last used, to within some minutes.
    pub last_used: Option<Timestamp>,
}

impl FromRow for Token {
    fn from_row(row: &Row) -> Result<Self, sqlx::Error> {
        Ok(Self {
            tenant: row.try_get("tenant")?,
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            role: role(row)?,
            prefix: row.try_get("prefix")?,
            created_by: row.try_get("created_by")?,
            created: time(row, "created")?,
            expires: maybe_time(row, "expires")?,
            last_used: maybe_time(row, "last_used")?,
        })
    }
}

/// Keeps a token by the SHA-256 of its secret.
///
/// # Errors
/// The id is taken.
pub async fn create(connection: &mut Connection, token: &Token, secret_hash: &Hash) -> Result<()> {
    let sql = "INSERT INTO api_tokens (tenant, id, name, role, prefix, secret_hash, created_by, created, expires) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    sql::query(sql)
        .bind(&token.tenant)
        .bind(&token.id)
        .bind(&token.name)
        .bind(token.role.name())
        .bind(&token.prefix)
        .bind(secret_hash.as_slice())
        .bind(&token.created_by)
        .bind(token.created.micros())
        .bind(token.expires.map(Timestamp::micros))
        .execute(connection)
        .await
        .map_err(taken("token"))?;
    Ok(())
}

/// The token whose secret hashes to this and that has not ended.
///
/// # Errors
/// The database failed.
pub async fn by_secret(pool: &Pool, secret_hash: &Hash, now: Timestamp) -> Result<Option<Token>> {
    let sql = "SELECT * FROM api_tokens WHERE secret_hash = $1 AND (expires IS NULL OR expires > $2)";
    Ok(sql::query_as(sql).bind(secret_hash.as_slice()).bind(now.micros()).fetch_optional(pool).await?)
}

/// Is this token still good? As [`by_secret`] judges it.
///
/// # Errors
/// The database failed.
pub async fn exists(pool: &Pool, tenant: &str, id: &str, now: Timestamp) -> Result<bool> {
    let sql = "SELECT COUNT(*) FROM api_tokens WHERE tenant = $1 AND id = $2 AND (expires IS NULL OR expires > $3)";
    Ok(sql::query_scalar::<i64>(sql).bind(tenant).bind(id).bind(now.micros()).fetch_one(pool).await? > 0)
}

/// The token of this id, within a scope.
///
/// # Errors
/// It is not there.
pub async fn get(connection: &mut Connection, scope: &Scope, id: &str) -> Result<Token> {
    let sql = "SELECT * FROM api_tokens WHERE ($1 = '' OR tenant = $1) AND id = $2";
    let token = sql::query_as(sql).bind(scope.bound()).bind(id).fetch_optional(connection).await?;
    token.ok_or(ControlError::Missing("token"))
}

/// Notes the use of a token.
///
/// # Errors
/// The database failed.
pub async fn used(connection: &mut Connection, tenant: &str, id: &str, now: Timestamp) -> Result<()> {
    let sql = "UPDATE api_tokens SET last_used = $3 WHERE tenant = $1 AND id = $2";
    sql::query(sql).bind(tenant).bind(id).bind(now.micros()).execute(connection).await?;
    Ok(())
}

/// Deletes a token; it is refused from then on.
///
/// # Errors
/// It is not there.
pub async fn delete(connection: &mut Connection, tenant: &str, id: &str) -> Result<()> {
    let sql = "DELETE FROM api_tokens WHERE tenant = $1 AND id = $2";
    met(sql::query(sql).bind(tenant).bind(id).execute(connection).await?, "token")
}

/// Tokens after this id, in its order.
///
/// # Errors
/// The database failed.
pub async fn list(pool: &Pool, scope: &Scope, after: &str, limit: i64) -> Result<Vec<Token>> {
    let sql = "SELECT * FROM api_tokens WHERE ($1 = '' OR tenant = $1) AND id > $2 ORDER BY id LIMIT $3";
    Ok(sql::query_as(sql).bind(scope.bound()).bind(after).bind(limit).fetch_all(pool).await?)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Base, on_both};
    use super::*;

    on_both!(a_token_is_found_by_its_secret_until_it_ends,);

    async fn a_token_is_found_by_its_secret_until_it_ends(base: Base) {
        let (_dir, control) = base.fresh().await;
        let token = Token {
            tenant: "default".into(),
            id: "1".into(),
            name: "ci".into(),
            role: Role::Viewer,
            prefix: "smt_ab".into(),
            created_by: "user:ann".into(),
            created: Timestamp::from_secs(1),
            expires: Some(Timestamp::from_secs(10)),
            last_used: None,
        };
        let mut change = control.begin().await.unwrap();
        create(change.connection(), &token, &[7; 32]).await.unwrap();
        used(change.connection(), "default", "1", Timestamp::from_secs(2)).await.unwrap();
        change.commit().await.unwrap();
        let found = by_secret(control.read(), &[7; 32], Timestamp::from_secs(9)).await.unwrap().unwrap();
        assert_eq!((found.name.as_str(), found.last_used), ("ci", Some(Timestamp::from_secs(2))));
        assert!(by_secret(control.read(), &[7; 32], Timestamp::from_secs(10)).await.unwrap().is_none());
        assert!(by_secret(control.read(), &[8; 32], Timestamp::from_secs(9)).await.unwrap().is_none());
        let mut change = control.begin().await.unwrap();
        assert!(delete(change.connection(), "acme", "1").await.is_err());
        delete(change.connection(), "default", "1").await.unwrap();
        assert!(list(control.read(), &Scope::All, "", 9).await.unwrap().len() == 1, "not committed yet");
        change.commit().await.unwrap();
        assert!(by_secret(control.read(), &[7; 32], Timestamp::from_secs(9)).await.unwrap().is_none());
    }
}
