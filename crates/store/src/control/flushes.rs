//! What the journal's records have become: streams, losses, flushes with their claims (D2), and the
//! checkpoint of detection (D8).

use sakimori_model::Timestamp;
use sakimori_wire::batch::Loss;

use super::Result;
use super::sql::{self, Connection, Pool, Row, from_columns};

/// How far a stream of an origin has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Whose.
    pub tenant: String,
    /// The agent, or `manager`.
    pub origin: String,
    /// Its stream.
    pub stream: String,
    /// Last sequence.
    pub sequence: i64,
    /// Events up to it.
    pub events: i64,
}

from_columns!(Stream: tenant, origin, stream, sequence, events);

/// A flush of a writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flush {
    /// Its number.
    pub number: i64,
    /// Last journal record in it.
    pub position: i64,
    /// Next arrival sequence after it.
    pub arrival: i64,
    /// Is it known to be in the table?
    pub committed: bool,
}

from_columns!(Flush: number, position, arrival, committed);

/// A stored state of detection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Last journal record that is folded in.
    pub position: i64,
    /// Version of the engine that wrote it.
    pub engine: String,
    /// `Detector::snapshot`.
    pub state: Vec<u8>,
}

from_columns!(Checkpoint: position, engine, state);

/// A loss as it was reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The agent.
    pub origin: String,
    /// Its stream.
    pub stream: String,
    /// What.
    pub loss: Loss,
}

/// All streams.
///
/// # Errors
/// The database failed.
pub async fn streams(pool: &Pool) -> Result<Vec<Stream>> {
    Ok(sql::query_as("SELECT * FROM streams").fetch_all(pool).await?)
}

/// Writes how far a stream has arrived; never back.
///
/// # Errors
/// The database failed.
pub async fn put_stream(connection: &mut Connection, stream: &Stream) -> Result<()> {
    let sql = "INSERT INTO streams (tenant, origin, stream, sequence, events) VALUES ($1, $2, $3, $4, $5) \
               ON CONFLICT (tenant, origin, stream) DO UPDATE SET sequence = excluded.sequence, events = excluded.events \
               WHERE excluded.sequence > streams.sequence";
    sql::query(sql)
        .bind(&stream.tenant)
        .bind(&stream.origin)
        .bind(&stream.stream)
        .bind(stream.sequence)
        .bind(stream.events)
        .execute(connection)
        .await?;
    Ok(())
}

/// Writes what a batch reported as lost; again is no change.
///
/// # Errors
/// The database failed.
pub async fn put_losses(
    connection: &mut Connection,
    tenant: &str,
    origin: &str,
    stream: &str,
    sequence: i64,
    losses: &[Loss],
) -> Result<()> {
    let sql = "INSERT INTO losses (tenant, origin, stream, sequence, number, count, cause, place, from_us, to_us) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING";
    for (number, loss) in (0_i64..).zip(losses) {
        sql::query(sql)
            .bind(tenant)
            .bind(origin)
            .bind(stream)
            .bind(sequence)
            .bind(number)
            .bind(i64::try_from(loss.count).unwrap_or(i64::MAX))
            .bind(&loss.cause)
            .bind(&loss.place)
            .bind(loss.from.micros())
            .bind(loss.to.micros())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// What a tenant's agents reported as lost, at most 10,000 rows, newest reports first.
///
/// # Errors
/// The database failed.
pub async fn losses(pool: &Pool, tenant: &str) -> Result<Vec<Lost>> {
    let sql = "SELECT origin, stream, count, cause, place, from_us, to_us FROM losses WHERE tenant = $1 \
               ORDER BY to_us DESC LIMIT 10000";
    let rows = sql::query(sql).bind(tenant).fetch_all(pool).await?;
    let read = |row: &Row| -> Result<Lost, sqlx::Error> {
        Ok(Lost {
            origin: row.try_get("origin")?,
            stream: row.try_get("stream")?,
            loss: Loss {
                count: u64::try_from(row.try_get::<i64, _>("count")?).unwrap_or(0),
                cause: row.try_get("cause")?,
                place: row.try_get("place")?,
                from: Timestamp::from_micros(row.try_get("from_us")?),
                to: Timestamp::from_micros(row.try_get("to_us")?),
            },
        })
    };
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

/// Claims batches for a flush, before it is written.
///
/// # Errors
/// A batch that is claimed already: it would be stored twice.
pub async fn claim(
    connection: &mut Connection,
    writer: &str,
    flush: Flush,
    batches: &[String],
    now: Timestamp,
) -> Result<()> {
    let sql =
        "INSERT INTO flushes (writer, number, position, arrival, committed, created) VALUES ($1, $2, $3, $4, $5, $6)";
    sql::query(sql)
        .bind(writer)
        .bind(flush.number)
        .bind(flush.position)
        .bind(flush.arrival)
        .bind(flush.committed)
        .bind(now.micros())
        .execute(&mut *connection)
        .await?;
    for batch in batches {
        sql::query("INSERT INTO claims (batch, writer, number) VALUES ($1, $2, $3)")
            .bind(batch)
            .bind(writer)
            .bind(flush.number)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Settles a claim: it is in the table. Claims of older flushes are no longer needed, since their batches'
/// sequences are covered by `streams`.
///
/// # Errors
/// The database failed.
pub async fn settle(connection: &mut Connection, writer: &str, number: i64) -> Result<()> {
    sql::query("UPDATE flushes SET committed = $3 WHERE writer = $1 AND number <= $2")
        .bind(writer)
        .bind(number)
        .bind(true)
        .execute(&mut *connection)
        .await?;
    sql::query("DELETE FROM claims WHERE writer = $1 AND number <= $2")
        .bind(writer)
        .bind(number)
        .execute(&mut *connection)
        .await?;
    sql::query("DELETE FROM flushes WHERE writer = $1 AND number < $2 - 100")
        .bind(writer)
        .bind(number)
        .execute(connection)
        .await?;
    Ok(())
}

/// Gives up claims after this number: they never reached the table.
///
/// # Errors
/// The database failed.
pub async fn give_up(connection: &mut Connection, writer: &str, after: i64) -> Result<()> {
    for table in ["claims", "flushes"] {
        sql::query(sqlx::AssertSqlSafe(format!("DELETE FROM {table} WHERE writer = $1 AND number > $2")))
            .bind(writer)
            .bind(after)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// One flush of a writer.
///
/// # Errors
/// The database failed.
pub async fn flush(pool: &Pool, writer: &str, number: i64) -> Result<Option<Flush>> {
    let sql = "SELECT number, position, arrival, committed FROM flushes WHERE writer = $1 AND number = $2";
    Ok(sql::query_as(sql).bind(writer).bind(number).fetch_optional(pool).await?)
}

/// The newest flush of a writer that is in the table.
///
/// # Errors
/// The database failed.
pub async fn last_committed(pool: &Pool, writer: &str) -> Result<Option<Flush>> {
    let sql = "SELECT number, position, arrival, committed FROM flushes WHERE writer = $1 AND committed \
               ORDER BY number DESC LIMIT 1";
    Ok(sql::query_as(sql).bind(writer).fetch_optional(pool).await?)
}

/// A stored state of detection.
///
/// # Errors
/// The database failed.
pub async fn checkpoint(pool: &Pool, name: &str) -> Result<Option<Checkpoint>> {
    let sql = "SELECT position, engine, state FROM checkpoints WHERE name = $1";
    Ok(sql::query_as(sql).bind(name).fetch_optional(pool).await?)
}

/// Stores a state of detection.
///
/// # Errors
/// The database failed.
pub async fn put_checkpoint(connection: &mut Connection, name: &str, checkpoint: &Checkpoint) -> Result<()> {
    let sql = "INSERT INTO checkpoints (name, position, engine, state) VALUES ($1, $2, $3, $4) \
               ON CONFLICT (name) DO UPDATE SET position = excluded.position, engine = excluded.engine, \
               state = excluded.state";
    sql::query(sql)
        .bind(name)
        .bind(checkpoint.position)
        .bind(&checkpoint.engine)
        .bind(&checkpoint.state)
        .execute(connection)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests::{Base, on_both};

    on_both!(a_batch_is_claimed_once_until_it_is_given_up, a_stream_never_goes_back,);

    fn flush(number: i64, position: i64) -> Flush {
        Flush { number, position, arrival: position * 10, committed: false }
    }

    async fn a_batch_is_claimed_once_until_it_is_given_up(base: Base) {
        let (_dir, control) = base.fresh().await;
        let now = Timestamp::from_secs(1);
        let mut change = control.begin().await.unwrap();
        claim(change.connection(), "w", flush(1, 5), &["a".into(), "b".into()], now).await.unwrap();
        change.commit().await.unwrap();
        let mut change = control.begin().await.unwrap();
        assert!(claim(change.connection(), "w", flush(2, 6), &["b".into()], now).await.is_err());
        drop(change);
        let mut change = control.begin().await.unwrap();
        give_up(change.connection(), "w", 0).await.unwrap();
        claim(change.connection(), "w", flush(1, 6), &["b".into()], now).await.unwrap();
        settle(change.connection(), "w", 1).await.unwrap();
        change.commit().await.unwrap();
        let last = last_committed(control.read(), "w").await.unwrap().unwrap();
        assert_eq!((last.number, last.position), (1, 6));
    }

    async fn a_stream_never_goes_back(base: Base) {
        let (_dir, control) = base.fresh().await;
        let row = |sequence| Stream {
            tenant: "default".into(),
            origin: "a".into(),
            stream: "s".into(),
            sequence,
            events: sequence * 2,
        };
        let mut change = control.begin().await.unwrap();
        put_stream(change.connection(), &row(5)).await.unwrap();
        put_stream(change.connection(), &row(3)).await.unwrap();
        change.commit().await.unwrap();
        assert_eq!(streams(control.read()).await.unwrap(), [row(5)]);
    }
}
