//! What waits to be told to an agent: orders and undos, each until it is answered, with the seals of operators on them.

use sakimori_model::Timestamp;

use crate::control::Result;
use crate::control::sql::{self, Connection, Pool, from_columns};

/// Something that waits to be told to an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Id of the action.
    pub id: String,
    /// `order` or `undo`.
    pub kind: String,
    /// JSON of the order, or who asked for the undo.
    pub payload: String,
    /// Agent that it waits for.
    pub agent: String,
    /// When it was noted, in microseconds.
    pub created: i64,
    /// Operators who still have to sign it, as the agent said.
    pub lacks: i64,
    /// JSON list of those who may, `name ed25519:hex`.
    pub signers: String,
}

/// Most seals that are kept of one order.
pub const MOST_SEALS: i64 = 15;

/// Notes that an agent wants more signatures before it does something. False where nothing waited.
///
/// # Errors
/// The database failed.
pub async fn lacking(
    connection: &mut Connection,
    tenant: &str,
    agent: &str,
    waiting: (&str, &str),
    lacks: i64,
    signers: &str,
) -> Result<bool> {
    let sql = "UPDATE agent_orders SET lacks = $5, signers = $6 \
               WHERE tenant = $1 AND agent = $2 AND id = $3 AND kind = $4 AND (lacks <> $5 OR signers <> $6)";
    let (id, kind) = waiting;
    let query = sql::query(sql).bind(tenant).bind(agent).bind(id).bind(kind).bind(lacks).bind(signers);
    Ok(query.execute(connection).await? > 0)
}

/// Keeps an operator's seal on what waits; a newer one of the same key takes the place of the former. False where
/// nothing waits, or as many as are kept are there.
///
/// # Errors
/// The database failed.
pub async fn put_seal(
    connection: &mut Connection,
    tenant: &str,
    agent: &str,
    waiting: (&str, &str),
    key: &[u8],
    seal: &[u8],
    now: Timestamp,
) -> Result<bool> {
    let (id, kind) = waiting;
    let sql = "SELECT COUNT(*) FROM agent_orders WHERE tenant = $1 AND agent = $2 AND id = $3 AND kind = $4";
    let waits: i64 =
        sql::query_scalar(sql).bind(tenant).bind(agent).bind(id).bind(kind).fetch_one(&mut *connection).await?;
    let sql = "SELECT COUNT(*) FROM order_seals \
               WHERE tenant = $1 AND agent = $2 AND id = $3 AND kind = $4 AND key_id <> $5";
    let query = sql::query_scalar(sql).bind(tenant).bind(agent).bind(id).bind(kind).bind(key);
    let others: i64 = query.fetch_one(&mut *connection).await?;
    if waits == 0 || others >= MOST_SEALS {
        return Ok(false);
    }
    let sql = "INSERT INTO order_seals (tenant, agent, id, kind, key_id, seal, created) \
               VALUES ($1, $2, $3, $4, $5, $6, $7) \
               ON CONFLICT (tenant, agent, id, kind, key_id) DO UPDATE SET seal = excluded.seal";
    let query = sql::query(sql).bind(tenant).bind(agent).bind(id).bind(kind).bind(key).bind(seal);
    query.bind(now.micros()).execute(connection).await?;
    Ok(true)
}

/// The seals of operators on what waits.
///
/// # Errors
/// The database failed.
pub async fn seals(pool: &Pool, tenant: &str, agent: &str, id: &str, kind: &str) -> Result<Vec<Vec<u8>>> {
    let sql = "SELECT seal FROM order_seals WHERE tenant = $1 AND agent = $2 AND id = $3 AND kind = $4 ORDER BY key_id";
    Ok(sql::query_scalar(sql).bind(tenant).bind(agent).bind(id).bind(kind).fetch_all(pool).await?)
}

/// What waits for the agents of a tenant, oldest first.
///
/// # Errors
/// The database failed.
pub async fn waiting(pool: &Pool, tenant: &str, limit: i64) -> Result<Vec<Waiting>> {
    let sql = "SELECT * FROM agent_orders WHERE tenant = $1 ORDER BY created, id LIMIT $2";
    Ok(sql::query_as(sql).bind(tenant).bind(limit).fetch_all(pool).await?)
}

from_columns!(Waiting: id, kind, payload, agent, created, lacks, signers);

/// Notes it.
///
/// # Errors
/// The database failed.
pub async fn put_order(
    connection: &mut Connection,
    tenant: &str,
    agent: &str,
    id: &str,
    kind: &str,
    payload: &str,
    now: Timestamp,
) -> Result<()> {
    let sql = "INSERT INTO agent_orders (tenant, agent, id, kind, payload, created) VALUES ($1, $2, $3, $4, $5, $6) \
               ON CONFLICT (tenant, agent, id, kind) DO UPDATE SET payload = excluded.payload";
    sql::query(sql)
        .bind(tenant)
        .bind(agent)
        .bind(id)
        .bind(kind)
        .bind(payload)
        .bind(now.micros())
        .execute(connection)
        .await?;
    Ok(())
}

/// What waits for an agent, oldest first.
///
/// # Errors
/// The database failed.
pub async fn orders(pool: &Pool, tenant: &str, agent: &str) -> Result<Vec<Waiting>> {
    let sql = "SELECT * FROM agent_orders WHERE tenant = $1 AND agent = $2 ORDER BY created LIMIT 10000";
    Ok(sql::query_as(sql).bind(tenant).bind(agent).fetch_all(pool).await?)
}

/// It was answered, or is no longer wanted. False where nothing waited.
///
/// # Errors
/// The database failed.
pub async fn answered(connection: &mut Connection, tenant: &str, agent: &str, id: &str, kind: &str) -> Result<bool> {
    let done = sql::query("DELETE FROM agent_orders WHERE tenant = $1 AND agent = $2 AND id = $3 AND kind = $4")
        .bind(tenant)
        .bind(agent)
        .bind(id)
        .bind(kind)
        .execute(&mut *connection)
        .await?;
    sql::query("DELETE FROM order_seals WHERE tenant = $1 AND agent = $2 AND id = $3 AND kind = $4")
        .bind(tenant)
        .bind(agent)
        .bind(id)
        .bind(kind)
        .execute(connection)
        .await?;
    Ok(done > 0)
}
