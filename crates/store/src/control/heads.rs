//! Heads of logs that managers and agents remember of one another, and the forks and cuts that were found (D18).

use sakimori_model::Timestamp;

use super::sql::{self, Connection, Pool, from_columns};
use super::{Result, Scope};

/// Kind of the head of an agent's ledger.
pub const LEDGER: &str = "ledger";
/// Beginning of the kind of an audit log's head, as an agent remembers it; the chain follows.
pub const AUDIT: &str = "audit:";
/// Most breaks that are kept of one agent.
const MOST_BREAKS: i64 = 16;

/// A head that is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Tenant of the agent.
    pub tenant: String,
    /// Whose ledger, or who remembers.
    pub agent: String,
    /// [`LEDGER`], or [`AUDIT`] with the chain.
    pub kind: String,
    /// Number of the record.
    pub sequence: i64,
    /// Hash of the chain there.
    pub hash: Vec<u8>,
}

from_columns!(Head: tenant, agent, kind, sequence, hash);

/// A fork or a cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Break {
    /// Tenant of the agent.
    pub tenant: String,
    /// Whose ledger, or who remembers otherwise.
    pub agent: String,
    /// As [`Head::kind`].
    pub kind: String,
    /// The record.
    pub sequence: i64,
    /// What was found.
    pub detail: String,
}

from_columns!(Break: tenant, agent, kind, sequence, detail);

/// Where a log stood.
///
/// # Errors
/// The database failed.
pub async fn get(pool: &Pool, tenant: &str, agent: &str, kind: &str) -> Result<Option<Head>> {
    let sql = "SELECT * FROM heads WHERE tenant = $1 AND agent = $2 AND kind = $3";
    Ok(sql::query_as(sql).bind(tenant).bind(agent).bind(kind).fetch_optional(pool).await?)
}

/// Remembers where a log stands.
///
/// # Errors
/// The database failed.
pub async fn put(connection: &mut Connection, head: &Head, now: Timestamp) -> Result<()> {
    let sql = "INSERT INTO heads (tenant, agent, kind, sequence, hash, told) VALUES ($1, $2, $3, $4, $5, $6) \
               ON CONFLICT (tenant, agent, kind) DO UPDATE SET sequence = excluded.sequence, hash = excluded.hash, \
               told = excluded.told";
    sql::query(sql)
        .bind(&head.tenant)
        .bind(&head.agent)
        .bind(&head.kind)
        .bind(head.sequence)
        .bind(&head.hash)
        .bind(now.micros())
        .execute(connection)
        .await?;
    Ok(())
}

/// Heads of the audit log that agents remember.
///
/// # Errors
/// The database failed.
pub async fn witnesses(pool: &Pool, scope: &Scope) -> Result<Vec<Head>> {
    let sql = "SELECT * FROM heads WHERE ($1 = '' OR tenant = $1) AND kind LIKE 'audit:%' ORDER BY tenant, agent, kind";
    Ok(sql::query_as(sql).bind(scope.bound()).fetch_all(pool).await?)
}

/// Notes a fork or a cut. False where it is known, or the agent has as many as are kept.
///
/// # Errors
/// The database failed.
pub async fn broke(connection: &mut Connection, found: &Break, now: Timestamp) -> Result<bool> {
    let sql = "SELECT COUNT(*) FROM breaks WHERE tenant = $1 AND agent = $2";
    let known: i64 = sql::query_scalar(sql).bind(&found.tenant).bind(&found.agent).fetch_one(&mut *connection).await?;
    if known >= MOST_BREAKS {
        return Ok(false);
    }
    let sql = "INSERT INTO breaks (tenant, agent, kind, sequence, detail, found) VALUES ($1, $2, $3, $4, $5, $6) \
               ON CONFLICT (tenant, agent, kind, sequence) DO NOTHING";
    let done = sql::query(sql)
        .bind(&found.tenant)
        .bind(&found.agent)
        .bind(&found.kind)
        .bind(found.sequence)
        .bind(&found.detail)
        .bind(now.micros())
        .execute(connection)
        .await?;
    Ok(done > 0)
}

/// Forks and cuts that were found.
///
/// # Errors
/// The database failed.
pub async fn breaks(pool: &Pool, scope: &Scope) -> Result<Vec<Break>> {
    let sql = "SELECT * FROM breaks WHERE ($1 = '' OR tenant = $1) ORDER BY tenant, agent, kind, sequence LIMIT 1000";
    Ok(sql::query_as(sql).bind(scope.bound()).fetch_all(pool).await?)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Base, on_both};
    use super::*;

    on_both!(heads_move_on_and_breaks_are_told_once_and_bounded,);

    async fn heads_move_on_and_breaks_are_told_once_and_bounded(base: Base) {
        let (_dir, control) = base.fresh().await;
        let now = Timestamp::from_secs(1);
        let head = |kind: &str, sequence| Head {
            tenant: "a".into(),
            agent: "x".into(),
            kind: kind.into(),
            sequence,
            hash: vec![1; 32],
        };
        let mut change = control.begin().await.unwrap();
        for one in [head(LEDGER, 3), head(LEDGER, 9), head("audit:a", 4)] {
            put(change.connection(), &one, now).await.unwrap();
        }
        let found = |sequence| Break {
            tenant: "a".into(),
            agent: "x".into(),
            kind: LEDGER.into(),
            sequence,
            detail: "another".into(),
        };
        assert!(broke(change.connection(), &found(9), now).await.unwrap());
        assert!(!broke(change.connection(), &found(9), now).await.unwrap(), "known");
        for sequence in 10..100 {
            broke(change.connection(), &found(sequence), now).await.unwrap();
        }
        change.commit().await.unwrap();
        assert_eq!(get(control.read(), "a", "x", LEDGER).await.unwrap(), Some(head(LEDGER, 9)));
        assert_eq!(get(control.read(), "b", "x", LEDGER).await.unwrap(), None);
        assert_eq!(witnesses(control.read(), &Scope::All).await.unwrap(), [head("audit:a", 4)]);
        let all = breaks(control.read(), &Scope::One("a".into())).await.unwrap();
        assert_eq!(all.len(), usize::try_from(MOST_BREAKS).unwrap());
        assert!(breaks(control.read(), &Scope::One("b".into())).await.unwrap().is_empty());
    }
}
