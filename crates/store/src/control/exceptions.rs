//! Exceptions over alerts: which alerts are expected, why, who says so, and until when.

use sakimori_model::Timestamp;

use super::sql::{self, Connection, FromRow, On, Row};
use super::{ControlError, Result, met, time};

/// Most exceptions of a tenant: every alert is held against all of its rule.
pub const MOST: i64 = 1_000;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Whose.
    pub tenant: String,
    /// UUIDv7.
    pub id: String,
    /// `rule.id` of the alerts.
    pub rule: String,
    /// The one host whose alerts are meant; empty for all.
    pub agent: String,
    /// The group of hosts whose alerts are meant; empty for all.
    pub tag: String,
    /// What else holds of the alerts, in the search language; empty where nothing does.
    pub condition: String,
    /// Why they are expected.
    pub reason: String,
    /// Who answers for it.
    pub owner: String,
    /// Who wrote it.
    pub created_by: String,
    /// When.
    pub created: Timestamp,
    /// Until when it holds.
    pub expires: Timestamp,
}

impl FromRow for Exception {
    fn from_row(row: &Row) -> Result<Self, sqlx::Error> {
        Ok(Self {
            tenant: row.try_get("tenant")?,
            id: row.try_get("id")?,
            rule: row.try_get("rule")?,
            agent: row.try_get("agent")?,
            tag: row.try_get("tag")?,
            condition: row.try_get("condition")?,
            reason: row.try_get("reason")?,
            owner: row.try_get("owner")?,
            created_by: row.try_get("created_by")?,
            created: time(row, "created")?,
            expires: time(row, "expires")?,
        })
    }
}

/// Adds one.
///
/// # Errors
/// `Full`, where the tenant has [`MOST`], or the database failed.
pub async fn create(connection: &mut Connection, exception: &Exception) -> Result<()> {
    let sql = "SELECT COUNT(*) FROM exceptions WHERE tenant = $1";
    let there: i64 = sql::query_scalar(sql).bind(&exception.tenant).fetch_one(&mut *connection).await?;
    if there >= MOST {
        return Err(ControlError::Full("exception"));
    }
    let sql = "INSERT INTO exceptions \
               (tenant, id, rule, agent, tag, condition, reason, owner, created_by, created, expires) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
    sql::query(sql)
        .bind(&exception.tenant)
        .bind(&exception.id)
        .bind(&exception.rule)
        .bind(&exception.agent)
        .bind(&exception.tag)
        .bind(&exception.condition)
        .bind(&exception.reason)
        .bind(&exception.owner)
        .bind(&exception.created_by)
        .bind(exception.created.micros())
        .bind(exception.expires.micros())
        .execute(connection)
        .await?;
    Ok(())
}

/// Writes what may change of one: reason, owner and expiry.
///
/// # Errors
/// `Missing`, or the database failed.
pub async fn update(connection: &mut Connection, exception: &Exception) -> Result<()> {
    let sql = "UPDATE exceptions SET reason = $3, owner = $4, expires = $5 WHERE tenant = $1 AND id = $2";
    let query = sql::query(sql).bind(&exception.tenant).bind(&exception.id).bind(&exception.reason);
    met(query.bind(&exception.owner).bind(exception.expires.micros()).execute(connection).await?, "exception")
}

/// Takes one out.
///
/// # Errors
/// `Missing`, or the database failed.
pub async fn delete(connection: &mut Connection, tenant: &str, id: &str) -> Result<()> {
    let sql = "DELETE FROM exceptions WHERE tenant = $1 AND id = $2";
    met(sql::query(sql).bind(tenant).bind(id).execute(connection).await?, "exception")
}

/// One of a tenant's.
///
/// # Errors
/// `Missing`, or the database failed.
pub async fn get<'a>(on: impl Into<On<'a>>, tenant: &str, id: &str) -> Result<Exception> {
    let sql = "SELECT * FROM exceptions WHERE tenant = $1 AND id = $2";
    let found = sql::query_as(sql).bind(tenant).bind(id).fetch_optional(on).await?;
    found.ok_or(ControlError::Missing("exception"))
}

/// All of a tenant, oldest first; of all tenants where none is named. At most [`MOST`] a tenant.
///
/// # Errors
/// The database failed.
pub async fn list<'a>(on: impl Into<On<'a>>, tenant: &str) -> Result<Vec<Exception>> {
    let sql = "SELECT * FROM exceptions WHERE ($1 = '' OR tenant = $1) ORDER BY tenant, id";
    Ok(sql::query_as(sql).bind(tenant).fetch_all(on).await?)
}

/// Forgets those that ended before.
///
/// # Errors
/// The database failed.
pub async fn tidy(connection: &mut Connection, tenant: &str, before: Timestamp) -> Result<()> {
    let sql = "DELETE FROM exceptions WHERE tenant = $1 AND expires < $2";
    sql::query(sql).bind(tenant).bind(before.micros()).execute(connection).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Base, on_both};
    use super::*;

    on_both!(an_exception_is_its_tenant_s_and_changes_in_three_things,);

    fn exception(tenant: &str, id: &str) -> Exception {
        Exception {
            tenant: tenant.into(),
            id: id.into(),
            rule: "r".into(),
            agent: String::new(),
            tag: "web".into(),
            condition: "user.name:backup".into(),
            reason: "it is ours".into(),
            owner: "ann".into(),
            created_by: "user:ann".into(),
            created: Timestamp::from_secs(1),
            expires: Timestamp::from_secs(100),
        }
    }

    async fn an_exception_is_its_tenant_s_and_changes_in_three_things(base: Base) {
        let (_dir, control) = base.fresh().await;
        let mut change = control.begin().await.unwrap();
        let mut one = exception("default", "a");
        create(change.connection(), &one).await.unwrap();
        create(change.connection(), &exception("acme", "b")).await.unwrap();
        for (tenant, id) in [("acme", "a"), ("default", "b"), ("default", "x")] {
            let missing = get(&mut *change.connection(), tenant, id).await;
            assert!(matches!(missing, Err(ControlError::Missing("exception"))));
            assert!(delete(change.connection(), tenant, id).await.is_err());
        }
        (one.reason, one.owner, one.expires) = ("still".into(), "bob".into(), Timestamp::from_secs(200));
        update(change.connection(), &one).await.unwrap();
        change.commit().await.unwrap();
        assert_eq!(list(control.read(), "default").await.unwrap(), [one.clone()]);
        assert_eq!(list(control.read(), "").await.unwrap().len(), 2);
        let mut change = control.begin().await.unwrap();
        for (before, left) in [(200, 1), (201, 0)] {
            tidy(change.connection(), "default", Timestamp::from_secs(before)).await.unwrap();
            assert_eq!(list(&mut *change.connection(), "default").await.unwrap().len(), left, "{before}");
        }
        for number in 0..MOST {
            create(change.connection(), &exception("default", &number.to_string())).await.unwrap();
        }
        assert!(matches!(create(change.connection(), &one).await, Err(ControlError::Full("exception"))));
    }
}
