//! Passkeys of users (WebAuthn): public keys, so nothing here is secret.

use sakimori_model::Timestamp;

use super::sql::{self, Connection, FromRow, On, Row};
use super::{ControlError, Result, maybe_time, met, taken, time};

/// Most passkeys of a user.
pub const MOST: i64 = 16;

/// A passkey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passkey {
    /// Tenant of its user.
    pub tenant: String,
    /// UUIDv7.
    pub id: String,
    /// Its user.
    pub user_id: String,
    /// What its user calls it.
    pub name: String,
    /// The credential's id, as the authenticator chose it.
    pub credential: Vec<u8>,
    /// The public key, COSE.
    pub public_key: Vec<u8>,
    /// The authenticator's count of signatures; 0 where it counts none.
    pub counter: i64,
    /// Lies on more than one device.
    pub backed_up: bool,
    /// When made.
    pub created: Timestamp,
    /// When last used.
    pub last_used: Option<Timestamp>,
}

impl FromRow for Passkey {
    fn from_row(row: &Row) -> Result<Self, sqlx::Error> {
        Ok(Self {
            tenant: row.try_get("tenant")?,
            id: row.try_get("id")?,
            user_id: row.try_get("user_id")?,
            name: row.try_get("name")?,
            credential: row.try_get("credential")?,
            public_key: row.try_get("public_key")?,
            counter: row.try_get("counter")?,
            backed_up: row.try_get("backed_up")?,
            created: time(row, "created")?,
            last_used: maybe_time(row, "last_used")?,
        })
    }
}

/// Keeps a new passkey.
///
/// # Errors
/// [`ControlError::Full`] where the user has [`MOST`]; [`ControlError::Exists`] where the credential is known already.
pub async fn create(connection: &mut Connection, passkey: &Passkey) -> Result<()> {
    let sql = "SELECT COUNT(*) FROM passkeys WHERE tenant = $1 AND user_id = $2";
    let count: i64 =
        sql::query_scalar(sql).bind(&passkey.tenant).bind(&passkey.user_id).fetch_one(&mut *connection).await?;
    if count >= MOST {
        return Err(ControlError::Full("passkey"));
    }
    let sql = "INSERT INTO passkeys (tenant, id, user_id, name, credential, public_key, counter, backed_up, created) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    sql::query(sql)
        .bind(&passkey.tenant)
        .bind(&passkey.id)
        .bind(&passkey.user_id)
        .bind(&passkey.name)
        .bind(&passkey.credential)
        .bind(&passkey.public_key)
        .bind(passkey.counter)
        .bind(passkey.backed_up)
        .bind(passkey.created.micros())
        .execute(connection)
        .await
        .map_err(taken("passkey"))?;
    Ok(())
}

/// The passkey of this credential.
///
/// # Errors
/// The database failed.
pub async fn by_credential(on: impl Into<On<'_>>, credential: &[u8]) -> Result<Option<Passkey>> {
    Ok(sql::query_as("SELECT * FROM passkeys WHERE credential = $1").bind(credential).fetch_optional(on).await?)
}

/// The passkeys of a user, the oldest first; [`MOST`] at the most.
///
/// # Errors
/// The database failed.
pub async fn of_user(on: impl Into<On<'_>>, tenant: &str, user: &str) -> Result<Vec<Passkey>> {
    let sql = "SELECT * FROM passkeys WHERE tenant = $1 AND user_id = $2 ORDER BY id";
    Ok(sql::query_as(sql).bind(tenant).bind(user).fetch_all(on).await?)
}

/// Notes a use, with the new count. False where the count as it was known is not that one any more: another use came
/// in between.
///
/// # Errors
/// The database failed.
pub async fn used(connection: &mut Connection, known: &Passkey, counter: i64, now: Timestamp) -> Result<bool> {
    let sql = "UPDATE passkeys SET counter = $4, last_used = $5 WHERE tenant = $1 AND id = $2 AND counter = $3";
    let query = sql::query(sql).bind(&known.tenant).bind(&known.id).bind(known.counter);
    Ok(query.bind(counter).bind(now.micros()).execute(connection).await? > 0)
}

/// Removes one passkey of a user.
///
/// # Errors
/// The user has none of this id.
pub async fn delete(connection: &mut Connection, tenant: &str, user: &str, id: &str) -> Result<()> {
    let sql = "DELETE FROM passkeys WHERE tenant = $1 AND user_id = $2 AND id = $3";
    met(sql::query(sql).bind(tenant).bind(user).bind(id).execute(connection).await?, "passkey")
}

/// Removes all passkeys of a user; gives how many.
///
/// # Errors
/// The database failed.
pub async fn delete_all(connection: &mut Connection, tenant: &str, user: &str) -> Result<u64> {
    let sql = "DELETE FROM passkeys WHERE tenant = $1 AND user_id = $2";
    Ok(sql::query(sql).bind(tenant).bind(user).execute(connection).await?)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Base, on_both};
    use super::super::users::{self, tests::user};
    use super::*;

    on_both!(passkeys_are_one_users_counted_and_removed,);

    async fn passkeys_are_one_users_counted_and_removed(base: Base) {
        let (_dir, control) = base.fresh().await;
        let mut change = control.begin().await.unwrap();
        let on = change.connection();
        users::create(on, &user("acme", "1", "ann")).await.unwrap();
        users::create(on, &user("acme", "2", "bob")).await.unwrap();
        let passkey = |number: u8, user: &str| Passkey {
            tenant: "acme".into(),
            id: format!("{number:02}"),
            user_id: user.into(),
            name: "key".into(),
            credential: vec![number; 16],
            public_key: vec![1],
            counter: 3,
            backed_up: true,
            created: Timestamp::from_secs(1),
            last_used: None,
        };
        for number in 0..u8::try_from(MOST).unwrap() {
            create(on, &passkey(number, "1")).await.unwrap();
        }
        assert!(matches!(create(on, &passkey(99, "1")).await, Err(ControlError::Full("passkey"))));
        create(on, &passkey(50, "2")).await.unwrap();
        let known = by_credential(&mut *on, &[7; 16]).await.unwrap().unwrap();
        assert_eq!(known, passkey(7, "1"));
        assert!(used(on, &known, 4, Timestamp::from_secs(9)).await.unwrap());
        assert!(!used(on, &known, 4, Timestamp::from_secs(9)).await.unwrap(), "the count moved on");
        assert!(matches!(delete(on, "acme", "2", "07").await, Err(ControlError::Missing("passkey"))));
        assert!(matches!(delete(on, "other", "1", "07").await, Err(ControlError::Missing("passkey"))));
        delete(on, "acme", "1", "07").await.unwrap();
        assert_eq!(delete_all(on, "acme", "1").await.unwrap(), 15);
        assert_eq!(of_user(&mut *on, "acme", "2").await.unwrap().len(), 1);
        change.commit().await.unwrap();
        let mut change = control.begin().await.unwrap();
        let again = create(change.connection(), &Passkey { id: "x".into(), ..passkey(50, "1") }).await;
        assert!(matches!(again, Err(ControlError::Exists("passkey"))), "a credential is one user's");
    }
}
