//! Spans of time in which more was asked for than is written one by one: how much, of what, and what a message said of it.

use sakimori_model::Timestamp;

use super::sql::{self, Connection, Pool, from_columns};
use super::{Result, Scope};

/// Kind of the actions of a host that are not listed here one by one.
pub const PROJECTION: &str = "projection";
/// Most spans of a tenant that are kept.
const MOST: i64 = 1_000;

/// One span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shed {
    /// Whose.
    pub tenant: String,
    /// `playbook:<id>`, or the agent whose actions they are.
    pub source: String,
    /// Slug of the action, or [`PROJECTION`].
    pub kind: String,
    /// Channel of a message, else empty.
    pub target: String,
    /// When it began, in microseconds.
    pub began: i64,
    /// When the last was shed, in microseconds.
    pub last: i64,
    /// How many.
    pub count: i64,
    /// One of the targets.
    pub sample: String,
    /// Journal record up to which they are counted.
    pub position: i64,
    /// How many a message has told of.
    pub told: i64,
}

from_columns!(Shed: tenant, source, kind, target, began, last, count, sample, position, told);

/// Adds to a span, or begins it. What a journal record brought is counted once, however often it is read.
///
/// # Errors
/// The database failed.
pub async fn add(connection: &mut Connection, shed: &Shed) -> Result<()> {
    let sql = "INSERT INTO shed (tenant, source, kind, target, began, last, count, sample, position, told) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0) \
               ON CONFLICT (tenant, source, kind, target, began) DO UPDATE SET last = excluded.last, \
               count = shed.count + excluded.count, sample = excluded.sample, position = excluded.position \
               WHERE shed.position < excluded.position";
    sql::query(sql)
        .bind(&shed.tenant)
        .bind(&shed.source)
        .bind(&shed.kind)
        .bind(&shed.target)
        .bind(shed.began)
        .bind(shed.last)
        .bind(shed.count)
        .bind(&shed.sample)
        .bind(shed.position)
        .execute(connection)
        .await?;
    Ok(())
}

/// A message told of so many.
///
/// # Errors
/// The database failed.
pub async fn told(connection: &mut Connection, shed: &Shed, count: i64, now: Timestamp) -> Result<()> {
    let sql = "UPDATE shed SET told = $6, told_at = $7 \
               WHERE tenant = $1 AND source = $2 AND kind = $3 AND target = $4 AND began = $5";
    sql::query(sql)
        .bind(&shed.tenant)
        .bind(&shed.source)
        .bind(&shed.kind)
        .bind(&shed.target)
        .bind(shed.began)
        .bind(count)
        .bind(now.micros())
        .execute(connection)
        .await?;
    Ok(())
}

/// Spans of a kind with something untold, of which nothing was told since a moment.
///
/// # Errors
/// The database failed.
pub async fn untold(pool: &Pool, kind: &str, since: Timestamp) -> Result<Vec<Shed>> {
    let sql = "SELECT * FROM shed WHERE kind = $1 AND count > told AND COALESCE(told_at, began) <= $2 ORDER BY began";
    Ok(sql::query_as(sql).bind(kind).bind(since.micros()).fetch_all(pool).await?)
}

/// Spans, the newest first.
///
/// # Errors
/// The database failed.
pub async fn list(pool: &Pool, scope: &Scope, since: Timestamp, limit: i64) -> Result<Vec<Shed>> {
    let sql = "SELECT * FROM shed WHERE ($1 = '' OR tenant = $1) AND last >= $2 ORDER BY last DESC LIMIT $3";
    Ok(sql::query_as(sql).bind(scope.bound()).bind(since.micros()).bind(limit).fetch_all(pool).await?)
}

/// Forgets spans that ended before a moment, and of each tenant those beyond the newest thousand.
///
/// # Errors
/// The database failed.
pub async fn tidy(connection: &mut Connection, tenant: &str, before: Timestamp) -> Result<()> {
    let newest = "SELECT last FROM shed WHERE tenant = $1 ORDER BY last DESC LIMIT 1 OFFSET $2";
    let over: Option<i64> = sql::query_scalar(newest).bind(tenant).bind(MOST).fetch_optional(&mut *connection).await?;
    let before = over.unwrap_or(i64::MIN).max(before.micros());
    sql::query("DELETE FROM shed WHERE tenant = $1 AND last < $2")
        .bind(tenant)
        .bind(before)
        .execute(connection)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests::{Base, on_both};

    on_both!(what_a_record_brought_is_counted_once_and_told_once, old_spans_go,);

    fn shed(began: i64, position: i64) -> Shed {
        Shed {
            tenant: "default".into(),
            source: "playbook:tell".into(),
            kind: "notify".into(),
            target: "ops".into(),
            began,
            last: began + position,
            count: 10,
            sample: "ops".into(),
            position,
            told: 0,
        }
    }

    async fn what_a_record_brought_is_counted_once_and_told_once(base: Base) {
        let (_dir, control) = base.fresh().await;
        let mut change = control.begin().await.unwrap();
        for position in [1, 2, 2, 1, 3] {
            add(change.connection(), &shed(100, position)).await.unwrap();
        }
        change.commit().await.unwrap();
        let at = Timestamp::from_micros;
        assert!(untold(control.read(), "notify", at(99)).await.unwrap().is_empty());
        let [one] = untold(control.read(), "notify", at(100)).await.unwrap().try_into().unwrap();
        assert_eq!((one.count, one.last, one.told), (30, 103, 0));
        let mut change = control.begin().await.unwrap();
        told(change.connection(), &one, one.count, at(500)).await.unwrap();
        change.commit().await.unwrap();
        assert!(untold(control.read(), "notify", at(i64::MAX)).await.unwrap().is_empty());
    }

    async fn old_spans_go(base: Base) {
        let (_dir, control) = base.fresh().await;
        let mut change = control.begin().await.unwrap();
        for began in 0..1_010 {
            add(change.connection(), &shed(began * 10, 1)).await.unwrap();
        }
        tidy(change.connection(), "default", Timestamp::from_micros(0)).await.unwrap();
        change.commit().await.unwrap();
        let scope = Scope::One("default".into());
        let all = || list(control.read(), &scope, Timestamp::from_micros(0), 10_000);
        assert!((1_000..=1_001).contains(&all().await.unwrap().len()));
        let mut change = control.begin().await.unwrap();
        tidy(change.connection(), "default", Timestamp::from_micros(10_000)).await.unwrap();
        change.commit().await.unwrap();
        assert!(all().await.unwrap().iter().all(|one| one.last >= 10_000));
    }
}
