//! Enrolment tokens: of one use, or of as many as a group of hosts needs. The secret is kept nowhere, only its SHA-256.

use sakimori_model::ledger::Hash;
use sakimori_model::{Network, Timestamp};

use super::sql::{self, Connection, FromRow, Pool, Row};
use super::{ControlError, Result, Scope, maybe_time, met, time};

/// A token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Whose agents it makes.
    pub tenant: String,
    /// Its id.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Tags that its agent gets.
    pub tags: Vec<String>,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created: Timestamp,
    /// Until when it is good.
    pub expires: Timestamp,
    /// How many hosts it may enrol; 1 is a one-time token.
    pub most_uses: i64,
    /// How many it did.
    pub uses: i64,
    /// From where it may be used; empty means from anywhere.
    pub networks: Vec<Network>,
    /// When it was last used.
    pub used: Option<Timestamp>,
    /// Which agent used it last.
    pub used_by: Option<String>,
}

impl Token {
    /// May it be used from this address?
    pub fn is_for(&self, address: std::net::IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.is_empty() || self.networks.iter().any(|network| network.contains(address))
    }
}

impl FromRow for Token {
    fn from_row(row: &Row) -> Result<Self, sqlx::Error> {
        let tags: String = row.try_get("tags")?;
        let networks: String = row.try_get("networks")?;
        // A list that cannot be read must not open the token to everybody.
        let networks = serde_json::from_str(&networks).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        Ok(Self {
            tenant: row.try_get("tenant")?,
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            tags: serde_json::from_str(&tags).unwrap_or_default(),
            created_by: row.try_get("created_by")?,
            created: time(row, "created")?,
            expires: time(row, "expires")?,
            most_uses: row.try_get("most_uses")?,
            uses: row.try_get("uses")?,
            networks,
            used: maybe_time(row, "used")?,
            used_by: row.try_get("used_by")?,
        })
    }
}

/// Adds a token.
///
/// # Errors
/// The database failed.
pub async fn create(connection: &mut Connection, token: &Token, secret: &Hash) -> Result<()> {
    let sql = "INSERT INTO enrolment_tokens \
               (tenant, id, name, secret_hash, tags, created_by, created, expires, most_uses, networks) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    sql::query(sql)
        .bind(&token.tenant)
        .bind(&token.id)
        .bind(&token.name)
        .bind(secret.as_slice())
        .bind(serde_json::to_string(&token.tags).unwrap_or_default())
        .bind(&token.created_by)
        .bind(token.created.micros())
        .bind(token.expires.micros())
        .bind(token.most_uses)
        .bind(serde_json::to_string(&token.networks).unwrap_or_default())
        .execute(connection)
        .await?;
    Ok(())
}

/// The token of this secret, used or not; `None` where there is none.
///
/// # Errors
/// The database failed.
pub async fn find(pool: &Pool, secret: &Hash) -> Result<Option<Token>> {
    let sql = "SELECT * FROM enrolment_tokens WHERE secret_hash = $1";
    Ok(sql::query_as(sql).bind(secret.as_slice()).fetch_optional(pool).await?)
}

/// Uses a token once, for this agent; `None` where it is unknown, used up or expired. One statement, so that of many
/// that come at once no more win than it has uses.
///
/// # Errors
/// The database failed.
pub async fn consume(connection: &mut Connection, secret: &Hash, agent: &str, now: Timestamp) -> Result<Option<Token>> {
    let sql = "UPDATE enrolment_tokens SET uses = uses + 1, used = $2, used_by = $3 \
               WHERE secret_hash = $1 AND uses < most_uses AND expires > $2 RETURNING *";
    let token = sql::query_as(sql).bind(secret.as_slice()).bind(now.micros()).bind(agent).fetch_optional(connection);
    Ok(token.await?)
}

/// Tokens in the order of their ids, after this one.
///
/// # Errors
/// The database failed.
pub async fn list(pool: &Pool, scope: &Scope, after: &str, limit: i64) -> Result<Vec<Token>> {
    let sql = "SELECT * FROM enrolment_tokens WHERE ($1 = '' OR tenant = $1) AND id > $2 ORDER BY id LIMIT $3";
    Ok(sql::query_as(sql).bind(scope.bound()).bind(after).bind(limit).fetch_all(pool).await?)
}

/// One of a tenant's.
///
/// # Errors
/// `Missing`, or the database failed.
pub async fn get(pool: &Pool, tenant: &str, id: &str) -> Result<Token> {
    let sql = "SELECT * FROM enrolment_tokens WHERE tenant = $1 AND id = $2";
    let found = sql::query_as(sql).bind(tenant).bind(id).fetch_optional(pool).await?;
    found.ok_or(ControlError::Missing("enrolment token"))
}

/// Takes a token back.
///
/// # Errors
/// `Missing`, or the database failed.
pub async fn delete(connection: &mut Connection, scope: &Scope, id: &str) -> Result<()> {
    let sql = "DELETE FROM enrolment_tokens WHERE ($1 = '' OR tenant = $1) AND id = $2";
    met(sql::query(sql).bind(scope.bound()).bind(id).execute(connection).await?, "enrolment token")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests::{Base, on_both};

    on_both!(
        a_token_is_good_once_and_not_for_ever,
        a_group_token_has_as_many_uses_as_it_was_given_and_its_networks_are_kept,
    );

    fn token(id: &str, expires: i64, most_uses: i64) -> Token {
        Token {
            tenant: "default".into(),
            id: id.into(),
            name: "web".into(),
            tags: vec!["web".into()],
            created_by: "admin".into(),
            created: Timestamp::from_secs(1),
            expires: Timestamp::from_secs(expires),
            most_uses,
            uses: 0,
            networks: Vec::new(),
            used: None,
            used_by: None,
        }
    }

    async fn a_token_is_good_once_and_not_for_ever(base: Base) {
        let (_dir, control) = base.fresh().await;
        let now = Timestamp::from_secs(50);
        let mut change = control.begin().await.unwrap();
        create(change.connection(), &token("a", 100, 1), &[1; 32]).await.unwrap();
        create(change.connection(), &token("b", 40, 1), &[2; 32]).await.unwrap();
        let used = consume(change.connection(), &[1; 32], "agent", now).await.unwrap().unwrap();
        assert_eq!((used.tags.as_slice(), used.used_by.as_deref()), (["web".to_owned()].as_slice(), Some("agent")));
        assert_eq!(consume(change.connection(), &[1; 32], "other", now).await.unwrap(), None, "replayed");
        assert_eq!(consume(change.connection(), &[2; 32], "other", now).await.unwrap(), None, "expired");
        assert_eq!(consume(change.connection(), &[3; 32], "other", now).await.unwrap(), None, "unknown");
        change.commit().await.unwrap();
        let found = find(control.read(), &[1; 32]).await.unwrap().unwrap();
        assert_eq!((found.id.as_str(), found.used, found.uses), ("a", Some(now), 1));
        assert_eq!(find(control.read(), &[3; 32]).await.unwrap(), None);
    }

    async fn a_group_token_has_as_many_uses_as_it_was_given_and_its_networks_are_kept(base: Base) {
        let (_dir, control) = base.fresh().await;
        let mut group = token("g", 100, 3);
        group.networks = vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        let now = Timestamp::from_secs(50);
        let mut change = control.begin().await.unwrap();
        create(change.connection(), &group, &[1; 32]).await.unwrap();
        for use_of in 1..=3 {
            let used = consume(change.connection(), &[1; 32], &format!("agent-{use_of}"), now).await.unwrap().unwrap();
            assert_eq!(used.uses, use_of);
        }
        assert_eq!(consume(change.connection(), &[1; 32], "agent-4", now).await.unwrap(), None, "used up");
        change.commit().await.unwrap();
        let found = find(control.read(), &[1; 32]).await.unwrap().unwrap();
        assert_eq!((found.uses, found.networks.as_slice()), (3, group.networks.as_slice()));
        for (address, may) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("11.0.0.1", false),
            ("2001:db8::7", true),
            ("2001:db9::7", false),
        ] {
            assert_eq!(found.is_for(address.parse().unwrap()), may, "{address}");
        }
    }
}
