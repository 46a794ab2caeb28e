//! Second factors of users: the sealed secret of codes by time, and recovery codes. What seals, and what a code is, is
//! not here. A code that is used is used within the change that it lets through, so that of two that come at once one is.

use sakimori_model::Timestamp;
use sakimori_model::ledger::Hash;

use super::sql::{self, Connection, FromRow, On, Row};
use super::{Result, time};

/// The secret of a user's codes.
#[derive(Clone, PartialEq, Eq)]
pub struct Totp {
    /// Tenant of the user.
    pub tenant: String,
    /// The user.
    pub user_id: String,
    /// The secret, as it is sealed.
    pub sealed: String,
    /// Did the user show a code of it? Until then it is asked of nobody.
    pub confirmed: bool,
    /// The last step whose code was used.
    pub step: i64,
    /// When made.
    pub created: Timestamp,
}

impl FromRow for Totp {
    fn from_row(row: &Row) -> Result<Self, sqlx::Error> {
        Ok(Self {
            tenant: row.try_get("tenant")?,
            user_id: row.try_get("user_id")?,
            sealed: row.try_get("sealed")?,
            confirmed: row.try_get("confirmed")?,
            step: row.try_get("step")?,
            created: time(row, "created")?,
        })
    }
}

/// The secret of a user, confirmed or not.
///
/// # Errors
/// The database failed.
pub async fn totp(on: impl Into<On<'_>>, tenant: &str, user: &str) -> Result<Option<Totp>> {
    let sql = "SELECT * FROM totp WHERE tenant = $1 AND user_id = $2";
    Ok(sql::query_as(sql).bind(tenant).bind(user).fetch_optional(on).await?)
}

/// Writes the secret of a user in place of a former one.
///
/// # Errors
/// The database failed.
pub async fn put_totp(connection: &mut Connection, totp: &Totp) -> Result<()> {
    let sql = "INSERT INTO totp (tenant, user_id, sealed, confirmed, step, created) VALUES ($1, $2, $3, $4, $5, $6) \
               ON CONFLICT (tenant, user_id) DO UPDATE SET sealed = excluded.sealed, \
               confirmed = excluded.confirmed, step = excluded.step, created = excluded.created";
    sql::query(sql)
        .bind(&totp.tenant)
        .bind(&totp.user_id)
        .bind(&totp.sealed)
        .bind(totp.confirmed)
        .bind(totp.step)
        .bind(totp.created.micros())
        .execute(connection)
        .await?;
    Ok(())
}

/// Uses the code of a step, and confirms the secret with it; false where this step or a later one was used before.
///
/// # Errors
/// The database failed.
pub async fn use_step(connection: &mut Connection, tenant: &str, user: &str, step: i64) -> Result<bool> {
    let sql = "UPDATE totp SET step = $3, confirmed = TRUE WHERE tenant = $1 AND user_id = $2 AND step < $3";
    Ok(sql::query(sql).bind(tenant).bind(user).bind(step).execute(connection).await? > 0)
}

/// Removes the secret and the recovery codes of a user; false where there was no secret.
///
/// # Errors
/// The database failed.
pub async fn remove_totp(connection: &mut Connection, tenant: &str, user: &str) -> Result<bool> {
    replace_codes(&mut *connection, tenant, user, &[]).await?;
    let sql = "DELETE FROM totp WHERE tenant = $1 AND user_id = $2";
    Ok(sql::query(sql).bind(tenant).bind(user).execute(connection).await? > 0)
}

/// Puts the same secret in another seal.
///
/// # Errors
/// The database failed.
pub async fn seal_anew(connection: &mut Connection, tenant: &str, user: &str, sealed: &str) -> Result<()> {
    let sql = "UPDATE totp SET sealed = $3 WHERE tenant = $1 AND user_id = $2";
    sql::query(sql).bind(tenant).bind(user).bind(sealed).execute(connection).await?;
    Ok(())
}

/// All secrets whose seal does not begin so, as those of one key do; without `%` and `_`.
///
/// # Errors
/// The database failed.
pub async fn sealed_otherwise(on: impl Into<On<'_>>, beginning: &str) -> Result<Vec<Totp>> {
    let sql = "SELECT * FROM totp WHERE sealed NOT LIKE $1 ORDER BY tenant, user_id";
    Ok(sql::query_as(sql).bind(format!("{beginning}%")).fetch_all(on).await?)
}

/// Gives a user these recovery codes, by their hashes, and takes the former ones.
///
/// # Errors
/// The database failed.
pub async fn replace_codes(connection: &mut Connection, tenant: &str, user: &str, hashes: &[Hash]) -> Result<()> {
    let sql = "DELETE FROM recovery_codes WHERE tenant = $1 AND user_id = $2";
    sql::query(sql).bind(tenant).bind(user).execute(&mut *connection).await?;
    for hash in hashes {
        let sql = "INSERT INTO recovery_codes (tenant, user_id, hash) VALUES ($1, $2, $3)";
        sql::query(sql).bind(tenant).bind(user).bind(hash.as_slice()).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Uses a recovery code; false where the user has none of this hash.
///
/// # Errors
/// The database failed.
pub async fn use_code(connection: &mut Connection, tenant: &str, user: &str, hash: &Hash) -> Result<bool> {
    let sql = "DELETE FROM recovery_codes WHERE tenant = $1 AND user_id = $2 AND hash = $3";
    Ok(sql::query(sql).bind(tenant).bind(user).bind(hash.as_slice()).execute(connection).await? > 0)
}

/// Has a user this recovery code?
///
/// # Errors
/// The database failed.
pub async fn has_code(on: impl Into<On<'_>>, tenant: &str, user: &str, hash: &Hash) -> Result<bool> {
    let sql = "SELECT COUNT(*) FROM recovery_codes WHERE tenant = $1 AND user_id = $2 AND hash = $3";
    let count: i64 = sql::query_scalar(sql).bind(tenant).bind(user).bind(hash.as_slice()).fetch_one(on).await?;
    Ok(count > 0)
}

/// How many recovery codes a user has left.
///
/// # Errors
/// The database failed.
pub async fn codes_left(on: impl Into<On<'_>>, tenant: &str, user: &str) -> Result<i64> {
    let sql = "SELECT COUNT(*) FROM recovery_codes WHERE tenant = $1 AND user_id = $2";
    Ok(sql::query_scalar(sql).bind(tenant).bind(user).fetch_one(on).await?)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Base, on_both};
    use super::super::users::{self, tests::user};
    use super::*;

    on_both!(a_step_and_a_code_are_used_once_and_go_with_their_user,);

    async fn a_step_and_a_code_are_used_once_and_go_with_their_user(base: Base) {
        let (_dir, control) = base.fresh().await;
        let mut change = control.begin().await.unwrap();
        let on = change.connection();
        users::create(on, &user("acme", "1", "ann")).await.unwrap();
        let made = Totp {
            tenant: "acme".into(),
            user_id: "1".into(),
            sealed: "a:1".into(),
            confirmed: false,
            step: 0,
            created: Timestamp::from_secs(1),
        };
        put_totp(on, &made).await.unwrap();
        put_totp(on, &Totp { sealed: "b:2".into(), ..made.clone() }).await.unwrap();
        assert!(!use_step(on, "other", "1", 5).await.unwrap());
        assert!(use_step(on, "acme", "1", 5).await.unwrap());
        for step in [5, 4] {
            assert!(!use_step(on, "acme", "1", step).await.unwrap(), "{step}");
        }
        let kept = totp(&mut *on, "acme", "1").await.unwrap().unwrap();
        assert!(kept.confirmed && kept.step == 5 && kept.sealed == "b:2");
        assert_eq!(sealed_otherwise(&mut *on, "a:").await.unwrap().len(), 1);
        seal_anew(on, "acme", "1", "a:2").await.unwrap();
        assert!(sealed_otherwise(&mut *on, "a:").await.unwrap().is_empty());
        replace_codes(on, "acme", "1", &[[1; 32], [2; 32]]).await.unwrap();
        assert!(has_code(&mut *on, "acme", "1", &[1; 32]).await.unwrap());
        assert!(use_code(on, "acme", "1", &[1; 32]).await.unwrap());
        assert!(!has_code(&mut *on, "acme", "1", &[1; 32]).await.unwrap());
        assert!(!use_code(on, "acme", "1", &[1; 32]).await.unwrap());
        assert!(!use_code(on, "acme", "2", &[2; 32]).await.unwrap());
        assert_eq!(codes_left(&mut *on, "acme", "1").await.unwrap(), 1);
        assert!(remove_totp(on, "acme", "1").await.unwrap() && !remove_totp(on, "acme", "1").await.unwrap());
        assert_eq!(codes_left(&mut *on, "acme", "1").await.unwrap(), 0);
        put_totp(on, &made).await.unwrap();
        users::delete(on, "acme", "1").await.unwrap();
        assert!(totp(&mut *on, "acme", "1").await.unwrap().is_none());
    }
}
