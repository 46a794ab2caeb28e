//! The outbox: what a second manager must hear of, written in the transaction of the change itself (D23).
//!
//! Rows are numbered over all tenants in the order of their commits. Without a second manager nobody takes
//! them; the oldest then go, so that the table stays bounded.

use sakimori_model::Timestamp;

use super::sql::{self, Connection, FromRow, Pool, Row};
use super::{ALL_TENANTS, Result, next, time};

/// Most rows that are kept.
pub const MOST: i64 = 100_000;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Whose change it was.
    pub tenant: String,
    /// Order over all tenants, from 1.
    pub sequence: i64,
    /// What it is about: `audit`, `action`, …
    pub kind: String,
    /// Key of the row that changed.
    pub key: String,
    /// JSON.
    pub payload: String,
    /// When.
    pub created: Timestamp,
}

impl FromRow for Message {
    fn from_row(row: &Row) -> Result<Self, sqlx::Error> {
        Ok(Self {
            tenant: row.try_get("tenant")?,
            sequence: row.try_get("sequence")?,
            kind: row.try_get("kind")?,
            key: row.try_get("key")?,
            payload: row.try_get("payload")?,
            created: time(row, "created")?,
        })
    }
}

/// Adds a row to the transaction of `connection`; returns its number.
///
/// # Errors
/// The database failed.
pub async fn append(
    connection: &mut Connection,
    tenant: &str,
    kind: &str,
    key: &str,
    payload: &str,
    now: Timestamp,
) -> Result<i64> {
    let sequence = next(connection, ALL_TENANTS, "outbox").await?;
    let sql = "INSERT INTO outbox (tenant, sequence, kind, key, payload, created) VALUES ($1, $2, $3, $4, $5, $6)";
    sql::query(sql)
        .bind(tenant)
        .bind(sequence)
        .bind(kind)
        .bind(key)
        .bind(payload)
        .bind(now.micros())
        .execute(&mut *connection)
        .await?;
    taken_up_to(connection, sequence - MOST).await?;
    Ok(sequence)
}

/// Rows after this number, in order.
///
/// # Errors
/// The database failed.
pub async fn after(pool: &Pool, sequence: i64, limit: i64) -> Result<Vec<Message>> {
    let sql = "SELECT * FROM outbox WHERE sequence > $1 ORDER BY sequence LIMIT $2";
    Ok(sql::query_as(sql).bind(sequence).bind(limit).fetch_all(pool).await?)
}

/// Forgets rows up to this number: they are taken.
///
/// # Errors
/// The database failed.
pub async fn taken_up_to(connection: &mut Connection, sequence: i64) -> Result<()> {
    sql::query("DELETE FROM outbox WHERE sequence <= $1").bind(sequence).execute(connection).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Base, on_both};
    use super::*;

    on_both!(rows_come_in_order_and_the_oldest_go,);

    async fn rows_come_in_order_and_the_oldest_go(base: Base) {
        let (_dir, control) = base.fresh().await;
        let mut change = control.begin().await.unwrap();
        for key in ["a", "b"] {
            append(change.connection(), "t", "audit", key, "{}", Timestamp::from_secs(1)).await.unwrap();
        }
        // As if so many had come that the first is one too many.
        sql::query("UPDATE counters SET value = $1 WHERE name = 'outbox'")
            .bind(MOST)
            .execute(change.connection())
            .await
            .unwrap();
        append(change.connection(), "t", "audit", "c", "{}", Timestamp::from_secs(1)).await.unwrap();
        change.commit().await.unwrap();
        let keys: Vec<_> = after(control.read(), 0, 9).await.unwrap().into_iter().map(|row| row.key).collect();
        assert_eq!(keys, ["b", "c"]);
    }
}
