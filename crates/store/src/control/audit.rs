//! The audit log: who changed what, as a chain of hashes, one chain a tenant.
//!
//! An entry is written in the transaction of the change it tells of, together with an outbox row: there is
//! no change without its entry and no entry without its change. A hash covers the hash before it and all
//! fields of the entry in a fixed encoding, so an entry that is altered, taken out or put in between shows
//! in [`verify`]. (One who can write the file could compute the whole chain anew; heads are exchanged with
//! agents and a second manager against that, see D18.)

use sakimori_model::Timestamp;
use sakimori_model::ledger::{Hash, chain};

use super::sql::{self, Connection, FromRow, Pool, Row};
use super::{ControlError, Result, Scope, next, outbox, time};

/// What is to be written. Hashes are of the changed thing in the form that the API shows it, without secrets.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// Whose chain: the tenant of the thing that changed, `*` for the installation.
    pub tenant: &'a str,
    /// When.
    pub time: Timestamp,
    /// `user:<name>`, `token:<name>`, `agent:<id>` or `system`.
    pub actor: &'a str,
    /// `resource:verb`.
    pub action: &'a str,
    /// Id of what changed.
    pub target: &'a str,
    /// Hash of the thing before, unless it was not there.
    pub before: Option<Hash>,
    /// Hash of the thing after, unless it is gone.
    pub after: Option<Hash>,
    /// Where the request came from; empty for the machine itself.
    pub address: &'a str,
    /// Id of the request; empty where there was none.
    pub request: &'a str,
}

/// An entry as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whose chain.
    pub tenant: String,
    /// From 1 in its chain, without gaps.
    pub sequence: i64,
    /// When.
    pub time: Timestamp,
    /// Who.
    pub actor: String,
    /// What was done.
    pub action: String,
    /// To what.
    pub target: String,
    /// Hash of the thing before.
    pub before: Option<Vec<u8>>,
    /// Hash of the thing after.
    pub after: Option<Vec<u8>>,
    /// From where.
    pub address: String,
    /// Id of the request.
    pub request: String,
    /// Hash of the entry before; zeros before the first.
    pub previous: Vec<u8>,
    /// Hash of this entry.
    pub hash: Vec<u8>,
}

impl FromRow for Record {
    fn from_row(row: &Row) -> Result<Self, sqlx::Error> {
        Ok(Self {
            tenant: row.try_get("tenant")?,
            sequence: row.try_get("sequence")?,
            time: time(row, "time")?,
            actor: row.try_get("actor")?,
            action: row.try_get("action")?,
            target: row.try_get("target")?,
            before: row.try_get("before_hash")?,
            after: row.try_get("after_hash")?,
            address: row.try_get("address")?,
            request: row.try_get("request")?,
            previous: row.try_get("previous")?,
            hash: row.try_get("hash")?,
        })
    }
}

impl Record {
    /// What the hash covers: every field with its length before it, so that no two entries encode alike.
    fn encoded(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.time.micros().to_be_bytes());
        for text in [&self.tenant, &self.actor, &self.action, &self.target, &self.address, &self.request] {
            bytes.extend((text.len() as u64).to_be_bytes());
            bytes.extend(text.as_bytes());
        }
        for hash in [&self.before, &self.after] {
            bytes.push(u8::from(hash.is_some()));
            bytes.extend(hash.iter().flatten());
        }
        bytes
    }
}

/// Where a chain ends, or where it is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whose chain.
    pub tenant: String,
    /// Entries that are in order, from the first.
    pub entries: i64,
    /// Hash of the last of them.
    pub head: Hash,
    /// Number of the first entry that is not.
    pub broken_at: Option<i64>,
}

/// Who is being served, for entries that are written deep below the request and know a name only.
#[derive(Clone, Debug)]
pub struct Origin {
    /// As [`Entry::actor`].
    pub actor: String,
    /// As [`Entry::address`].
    pub address: String,
    /// As [`Entry::request`].
    pub request: String,
}

tokio::task_local! {
    static ORIGIN: Origin;
}

/// Does some work for somebody: entries that are written meanwhile, in the same task, and do not say where they
/// come from say so.
pub async fn within<F: Future>(origin: Origin, work: F) -> F::Output {
    ORIGIN.scope(origin, work).await
}

/// Writes an entry and its outbox row in the transaction of `connection`.
pub(super) async fn append(connection: &mut Connection, entry: &Entry<'_>) -> Result<Record> {
    match ORIGIN.try_with(Clone::clone) {
        Ok(origin) if entry.address.is_empty() => {
            // What the program does of itself in consequence stays its own doing.
            let actor = if entry.actor.starts_with("user:") { &origin.actor } else { entry.actor };
            let (address, request) = (origin.address.as_str(), origin.request.as_str());
            write(connection, &Entry { actor, address, request, ..entry.clone() }).await
        }
        _ => write(connection, entry).await,
    }
}

async fn write(connection: &mut Connection, entry: &Entry<'_>) -> Result<Record> {
    let last = "SELECT hash FROM audit WHERE tenant = $1 ORDER BY sequence DESC LIMIT 1";
    let previous: Option<Vec<u8>> = sql::query_scalar(last).bind(entry.tenant).fetch_optional(&mut *connection).await?;
    let previous = previous.unwrap_or_else(|| vec![0; 32]);
    let mut record = Record {
        tenant: entry.tenant.to_owned(),
        sequence: next(connection, entry.tenant, "audit").await?,
        time: entry.time,
        actor: entry.actor.to_owned(),
        action: entry.action.to_owned(),
        target: entry.target.to_owned(),
        before: entry.before.map(|hash| hash.to_vec()),
        after: entry.after.map(|hash| hash.to_vec()),
        address: entry.address.to_owned(),
        request: entry.request.to_owned(),
        hash: Vec::new(),
        previous,
    };
    let hash = chain(&hash_of(&record.previous)?, &record.encoded());
    record.hash = hash.to_vec();
    let sql = "INSERT INTO audit (tenant, sequence, time, actor, action, target, before_hash, after_hash, address, \
               request, previous, hash) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
    sql::query(sql)
        .bind(&record.tenant)
        .bind(record.sequence)
        .bind(record.time.micros())
        .bind(&record.actor)
        .bind(&record.action)
        .bind(&record.target)
        .bind(&record.before)
        .bind(&record.after)
        .bind(&record.address)
        .bind(&record.request)
        .bind(&record.previous)
        .bind(&record.hash)
        .execute(&mut *connection)
        .await?;
    let payload = serde_json::json!({
        "sequence": record.sequence, "actor": record.actor, "action": record.action, "target": record.target,
        "address": record.address, "request": record.request, "before": entry.before.map(hex),
        "after": entry.after.map(hex), "hash": hex(hash),
    });
    let key = record.sequence.to_string();
    outbox::append(connection, entry.tenant, "audit", &key, &payload.to_string(), entry.time).await?;
    Ok(record)
}

fn hex(hash: Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hash_of(bytes: &[u8]) -> Result<Hash> {
    bytes.try_into().map_err(|_| ControlError::Stored("audit hash", format!("{} bytes where 32 belong", bytes.len())))
}

/// Entries before this one (`None`: from the newest), newest first, in the order of time, tenant and number.
///
/// # Errors
/// The database failed.
pub async fn list(pool: &Pool, scope: &Scope, before: Option<&(i64, String, i64)>, limit: i64) -> Result<Vec<Record>> {
    let sql = "SELECT * FROM audit WHERE ($1 = '' OR tenant = $1) AND (time, tenant, sequence) < ($2, $3, $4) \
               ORDER BY time DESC, tenant DESC, sequence DESC LIMIT $5";
    let (time, tenant, sequence) =
        before.map_or((i64::MAX, "", i64::MAX), |(time, tenant, number)| (*time, tenant, *number));
    let query = sql::query_as(sql).bind(scope.bound()).bind(time).bind(tenant).bind(sequence).bind(limit);
    Ok(query.fetch_all(pool).await?)
}

/// Goes through the chains of a scope from their beginning and says where each ends or is broken.
///
/// # Errors
/// The database failed.
pub async fn verify(pool: &Pool, scope: &Scope) -> Result<Vec<Verdict>> {
    let sql = "SELECT DISTINCT tenant FROM audit WHERE ($1 = '' OR tenant = $1) ORDER BY tenant";
    let tenants: Vec<String> = sql::query_scalar(sql).bind(scope.bound()).fetch_all(pool).await?;
    let mut verdicts = Vec::new();
    for tenant in tenants {
        verdicts.push(verify_chain(pool, tenant).await?);
    }
    Ok(verdicts)
}

/// Hash of an entry, where it is there.
///
/// # Errors
/// The database failed.
pub async fn hash_at(pool: &Pool, tenant: &str, sequence: i64) -> Result<Option<Vec<u8>>> {
    let sql = "SELECT hash FROM audit WHERE tenant = $1 AND sequence = $2";
    Ok(sql::query_scalar(sql).bind(tenant).bind(sequence).fetch_optional(pool).await?)
}

/// Number and hash of the newest entry of a chain.
///
/// # Errors
/// The database failed.
pub async fn head(pool: &Pool, tenant: &str) -> Result<Option<(i64, Vec<u8>)>> {
    let sql = "SELECT sequence, hash FROM audit WHERE tenant = $1 ORDER BY sequence DESC LIMIT 1";
    Ok(sql::query_as(sql).bind(tenant).fetch_optional(pool).await?)
}

/// How many entries are read at a time.
const PAGE: i64 = 1_000;

async fn verify_chain(pool: &Pool, tenant: String) -> Result<Verdict> {
    let mut verdict = Verdict { tenant, entries: 0, head: [0; 32], broken_at: None };
    let sql = "SELECT * FROM audit WHERE tenant = $1 AND sequence > $2 ORDER BY sequence LIMIT $3";
    loop {
        let query = sql::query_as(sql).bind(&verdict.tenant).bind(verdict.entries).bind(PAGE);
        let page: Vec<Record> = query.fetch_all(pool).await?;
        if page.is_empty() {
            break;
        }
        for record in page {
            let hash = chain(&verdict.head, &record.encoded());
            if record.sequence != verdict.entries + 1 || record.previous != verdict.head || record.hash != hash {
                verdict.broken_at = Some(verdict.entries + 1);
                return Ok(verdict);
            }
            verdict.entries = record.sequence;
            verdict.head = hash;
        }
    }
    // Entries that were cut off at the end are missed by the counter, which the same transactions moved.
    let counted: Option<i64> = sql::query_scalar("SELECT value FROM counters WHERE tenant = $1 AND name = 'audit'")
        .bind(&verdict.tenant)
        .fetch_optional(pool)
        .await?;
    if counted != Some(verdict.entries) {
        verdict.broken_at = Some(verdict.entries + 1);
    }
    Ok(verdict)
}

#[cfg(test)]
mod tests {
    use super::super::Control;
    use super::super::tests::{Base, on_both};
    use super::*;

    on_both!(
        an_entry_that_knows_a_name_only_says_who_was_served,
        a_chain_that_was_tampered_with_shows_where,
        entries_are_listed_by_tenant_newest_first_each_with_its_outbox_row,
    );

    async fn write(control: &Control, tenant: &str, target: &str) {
        let mut change = control.begin().await.unwrap();
        let entry = Entry {
            tenant,
            time: Timestamp::from_secs(7),
            actor: "user:a",
            action: "user:create",
            target,
            before: None,
            after: Some([3; 32]),
            address: "127.0.0.1",
            request: "r",
        };
        change.audit(&entry).await.unwrap();
        change.commit().await.unwrap();
    }

    async fn an_entry_that_knows_a_name_only_says_who_was_served(base: Base) {
        let (_dir, control) = base.fresh().await;
        let origin = Origin { actor: "token:ci".into(), address: "192.0.2.1".into(), request: "r7".into() };
        let entry = Entry {
            tenant: "default",
            time: Timestamp::from_secs(7),
            actor: "user:ci",
            action: "actions:undo",
            target: "a",
            before: None,
            after: None,
            address: "",
            request: "",
        };
        within(origin, async {
            let mut change = control.begin().await.unwrap();
            change.audit(&entry).await.unwrap();
            change.audit(&Entry { actor: "system", ..entry.clone() }).await.unwrap();
            change.commit().await.unwrap();
        })
        .await;
        let list = list(control.read(), &Scope::All, None, 9).await.unwrap();
        let said: Vec<_> =
            list.iter().map(|one| (one.actor.as_str(), one.address.as_str(), one.request.as_str())).collect();
        assert_eq!(said, [("system", "192.0.2.1", "r7"), ("token:ci", "192.0.2.1", "r7")]);
    }

    async fn broken_after(base: Base, sql: &'static str) -> Vec<Option<i64>> {
        let (_dir, control) = base.fresh().await;
        for target in ["a", "b", "c"] {
            write(&control, "default", target).await;
        }
        write(&control, "acme", "d").await;
        let mut change = control.begin().await.unwrap();
        sql::query(sql).execute(change.connection()).await.unwrap();
        change.commit().await.unwrap();
        verify(control.read(), &Scope::All).await.unwrap().into_iter().map(|verdict| verdict.broken_at).collect()
    }

    async fn a_chain_that_was_tampered_with_shows_where(base: Base) {
        assert_eq!(broken_after(base, "SELECT 1").await, [None, None]);
        assert_eq!(broken_after(base, "UPDATE audit SET actor = 'user:b' WHERE target = 'b'").await, [None, Some(2)]);
        assert_eq!(broken_after(base, "DELETE FROM audit WHERE target = 'b'").await, [None, Some(2)]);
        assert_eq!(broken_after(base, "DELETE FROM audit WHERE target = 'c'").await, [None, Some(3)]);
        assert_eq!(broken_after(base, "UPDATE audit SET after_hash = NULL WHERE target = 'd'").await, [Some(1), None]);
    }

    async fn entries_are_listed_by_tenant_newest_first_each_with_its_outbox_row(base: Base) {
        let (_dir, control) = base.fresh().await;
        let told = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = std::sync::Arc::clone(&told);
        control.on_audit(std::sync::Arc::new(move |record: &Record| seen.lock().unwrap().push(record.target.clone())));
        for (tenant, target) in [("default", "a"), ("acme", "b"), ("default", "c")] {
            write(&control, tenant, target).await;
        }
        let own = list(control.read(), &Scope::One("default".into()), None, 9).await.unwrap();
        assert_eq!(own.iter().map(|record| record.target.as_str()).collect::<Vec<_>>(), ["c", "a"]);
        let last = &own[0];
        let rest =
            list(control.read(), &Scope::All, Some(&(last.time.micros(), last.tenant.clone(), last.sequence)), 9).await;
        assert_eq!(rest.unwrap().len(), 2);
        assert_eq!(outbox::after(control.read(), 0, 9).await.unwrap().len(), 3);
        assert_eq!(*told.lock().unwrap(), ["a", "b", "c"]);
    }
}
