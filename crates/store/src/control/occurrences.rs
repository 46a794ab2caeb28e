//! Occurrences that came by a way in (`0017_ways.sql`): what was taken once is not taken again.
//!
//! They are written in the transaction that claims a flush, as streams are: what came after it lies in the journal.

use sakimori_model::Timestamp;

use super::Result;
use super::sql::{self, Connection, Pool, from_columns};

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occurrence {
    /// Whose.
    pub tenant: String,
    /// The way in, as the origin of its batches.
    pub way: String,
    /// What names it: 32 hexadecimal digits.
    pub name: String,
    /// When it came, µs.
    pub seen: i64,
}

from_columns!(Occurrence: tenant, way, name, seen);

/// Writes them; one that is there stays as it is.
///
/// # Errors
/// The database failed.
pub async fn put(connection: &mut Connection, all: &[Occurrence]) -> Result<()> {
    let sql = "INSERT INTO occurrences (tenant, way, name, seen) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
    for one in all {
        sql::query(sql)
            .bind(&one.tenant)
            .bind(&one.way)
            .bind(&one.name)
            .bind(one.seen)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Most names of one way that are kept.
pub const MOST_OF_WAY: i64 = 65_536;

/// Forgets what is older, and of each way all but the newest [`MOST_OF_WAY`].
///
/// # Errors
/// The database failed.
pub async fn forget(connection: &mut Connection, before: Timestamp) -> Result<()> {
    sql::query("DELETE FROM occurrences WHERE seen < $1").bind(before.micros()).execute(&mut *connection).await?;
    let ways: Vec<(String, String)> =
        sql::query_as("SELECT DISTINCT tenant, way FROM occurrences").fetch_all(&mut *connection).await?;
    for (tenant, way) in ways {
        let sql = "SELECT seen FROM occurrences WHERE tenant = $1 AND way = $2 ORDER BY seen DESC LIMIT 1 OFFSET $3";
        let query = sql::query_scalar(sql).bind(&tenant).bind(&way).bind(MOST_OF_WAY);
        let Some(oldest): Option<i64> = query.fetch_optional(&mut *connection).await? else { continue };
        let sql = "DELETE FROM occurrences WHERE tenant = $1 AND way = $2 AND seen <= $3";
        sql::query(sql).bind(&tenant).bind(&way).bind(oldest).execute(&mut *connection).await?;
    }
    Ok(())
}

/// The newest, oldest first.
///
/// # Errors
/// The database failed.
pub async fn newest(pool: &Pool, most: i64) -> Result<Vec<Occurrence>> {
    let sql = "SELECT * FROM occurrences ORDER BY seen DESC, name LIMIT $1";
    let mut rows: Vec<Occurrence> = sql::query_as(sql).bind(most).fetch_all(pool).await?;
    rows.reverse();
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Base, on_both};
    use super::*;

    on_both!(an_occurrence_is_kept_once_until_it_is_old,);

    async fn an_occurrence_is_kept_once_until_it_is_old(base: Base) {
        let (_dir, control) = base.fresh().await;
        let one = |name: &str, seen| Occurrence { tenant: "t".into(), way: "way:q".into(), name: name.into(), seen };
        let mut change = control.begin().await.unwrap();
        put(change.connection(), &[one("a", 5), one("b", 7), one("a", 9)]).await.unwrap();
        change.commit().await.unwrap();
        assert_eq!(newest(control.read(), 9).await.unwrap(), [one("a", 5), one("b", 7)]);
        assert_eq!(newest(control.read(), 1).await.unwrap(), [one("b", 7)]);
        let mut change = control.begin().await.unwrap();
        forget(change.connection(), Timestamp::from_micros(6)).await.unwrap();
        change.commit().await.unwrap();
        assert_eq!(newest(control.read(), 9).await.unwrap(), [one("b", 7)]);
    }
}
