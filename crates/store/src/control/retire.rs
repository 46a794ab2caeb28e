//! What is over goes: rows of actions, and the beginning of the ledger's chain that none of the rows that stay needs.
//!
//! The chain is anchored in the audit log: its head is written there from time to time ([`head`]), and it stays verifiable
//! where it is cut. The head that it had where it is cut is kept ([`Begin`]) and written into the audit log,
//! which is itself chained and whose heads agents remember; the first record that stays holds that head as the hash
//! before it. So whoever cuts off more, or less, or puts another beginning in place, is found by [`verify`].

use std::collections::BTreeMap;

use sakimori_model::ledger::{Hash, chain};
use sakimori_model::{Action, Timestamp};

use super::audit::{self, Verdict};
use super::sql::{self, Connection, Pool, Row, from_columns};
use super::{Change, ControlError, Result, Scope};

/// `action` of the audit entry that holds the head of what was cut off.
pub const RETIRED: &str = "ledger:retire";
/// `action` of the audit entry that holds the ledger's head of a moment.
pub const HEAD: &str = "ledger:head";
/// Rows and records that one change takes.
const PORTION: i64 = 1_000;

/// Where a chain begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begin {
    /// The last record that is gone.
    pub sequence: i64,
    /// Hash of the chain there.
    pub hash: Vec<u8>,
}

from_columns!(Begin: sequence, hash);

/// How long rows that are over stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Those that changed last before this moment go.
    pub before: Timestamp,
    /// Of a tenant's, so many stay; the oldest of those beyond go,
    pub most: i64,
    /// but none that changed since this moment: a crash may make it be asked for again.
    pub fresh: Timestamp,
    /// Kinds of actions that cannot be taken back: they are over when they are done.
    pub lasting: Vec<&'static str>,
}

impl Keep {
    /// Goes on with the condition that an action is over.
    fn over(&self, query: &mut sql::Builder<'_>) {
        query.push("(state IN ('undone', 'expired', 'no_effect', 'refused', 'failed') OR (state = 'done' AND kind");
        query.push_in(self.lasting.iter().copied()).push("))");
    }
}

/// Takes out a portion of a tenant's rows that are over, after this place (time of the last change, id). Returns how
/// many went, and the place of the next portion where there is one. One in its grace time stays: it is what keeps its
/// target from being hit again.
///
/// # Errors
/// The database failed.
pub async fn rows(
    connection: &mut Connection,
    tenant: &str,
    keep: &Keep,
    after: &(i64, String),
    now: Timestamp,
) -> Result<(u64, Option<(i64, String)>)> {
    let before = keep.before.max(beyond(connection, tenant, keep).await?);
    let mut query = sql::Builder::new("SELECT id, changed, record FROM actions WHERE tenant = ");
    query.push_bind(tenant).push(" AND changed < ").push_bind(before.micros()).push(" AND ");
    keep.over(&mut query);
    query.push(" AND (changed > ").push_bind(after.0).push(" OR (changed = ").push_bind(after.0);
    query.push(" AND id > ").push_bind(&after.1).push(")) ORDER BY changed, id LIMIT ").push_bind(PORTION);
    let found = query.build().fetch_all(&mut *connection).await?;
    let mut gone = 0;
    let mut place = None;
    for row in &found {
        let id: String = row.try_get("id")?;
        if !in_grace(row, now)? {
            let delete = "DELETE FROM actions WHERE tenant = $1 AND id = $2";
            sql::query(delete).bind(tenant).bind(&id).execute(&mut *connection).await?;
            gone += 1;
        }
        place = Some((row.try_get("changed")?, id));
    }
    Ok((gone, place.filter(|_| found.len() >= usize::try_from(PORTION).unwrap_or(usize::MAX))))
}

fn in_grace(row: &Row, now: Timestamp) -> Result<bool> {
    let record: String = row.try_get("record")?;
    let action: Action =
        serde_json::from_str(&record).map_err(|error| ControlError::Stored("action", error.to_string()))?;
    Ok(action.grace_until.is_some_and(|until| until > now))
}

/// Rows that changed before this moment are beyond what is kept of them.
async fn beyond(connection: &mut Connection, tenant: &str, keep: &Keep) -> Result<Timestamp> {
    let mut query = sql::Builder::new("SELECT changed FROM actions WHERE tenant = ");
    query.push_bind(tenant).push(" AND ");
    keep.over(&mut query);
    query.push(" ORDER BY changed DESC, id DESC LIMIT 1 OFFSET ").push_bind(keep.most.max(0));
    let newest_beyond: Option<i64> = match query.build().fetch_optional(connection).await? {
        Some(row) => Some(row.try_get("changed")?),
        None => None,
    };
    let before = newest_beyond.map_or(i64::MIN, |changed| changed.saturating_add(1));
    Ok(Timestamp::from_micros(before.min(keep.fresh.micros())))
}

/// Cuts off the beginning of a tenant's chain as far as no row that stays is of it. Returns how many records went.
///
/// # Errors
/// The database failed.
pub async fn ledger(change: &mut Change, tenant: &str, now: Timestamp) -> Result<u64> {
    // The newest record always stays: the next one is chained to it.
    let last = "SELECT MAX(sequence) FROM ledger WHERE tenant = $1";
    let last: Option<i64> = sql::query_scalar(last).bind(tenant).fetch_one(change.connection()).await?;
    let Some(last) = last else { return Ok(0) };
    let needed = "SELECT l.sequence FROM ledger l WHERE l.tenant = $1 AND EXISTS \
                  (SELECT 1 FROM actions a WHERE a.tenant = l.tenant AND a.id = l.action) ORDER BY l.sequence LIMIT 1";
    let needed: Option<i64> = sql::query_scalar(needed).bind(tenant).fetch_optional(change.connection()).await?;
    let upto = needed.unwrap_or(i64::MAX).min(last) - 1;
    let first = "SELECT MIN(sequence) FROM ledger WHERE tenant = $1";
    let first: Option<i64> = sql::query_scalar(first).bind(tenant).fetch_one(change.connection()).await?;
    let upto = upto.min(first.unwrap_or(last) + 20 * PORTION - 1);
    let head = "SELECT hash FROM ledger WHERE tenant = $1 AND sequence = $2";
    let head: Option<Vec<u8>> =
        sql::query_scalar(head).bind(tenant).bind(upto).fetch_optional(change.connection()).await?;
    let Some(head) = head else { return Ok(0) };
    let begin = "INSERT INTO ledger_begins (tenant, sequence, hash, time) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (tenant) DO UPDATE SET sequence = excluded.sequence, hash = excluded.hash, \
                 time = excluded.time";
    let query = sql::query(begin).bind(tenant).bind(upto).bind(&head).bind(now.micros());
    query.execute(change.connection()).await?;
    let delete = "DELETE FROM ledger WHERE tenant = $1 AND sequence <= $2";
    let gone = sql::query(delete).bind(tenant).bind(upto).execute(change.connection()).await?;
    change
        .audit(&audit::Entry {
            tenant,
            time: now,
            actor: "system",
            action: RETIRED,
            target: &upto.to_string(),
            before: None,
            after: Some(hash_of(&head)?),
            address: "",
            request: "",
        })
        .await?;
    Ok(gone)
}

/// Writes where a tenant's ledger stands into the audit log, where it stands elsewhere than the last time.
///
/// # Errors
/// The database failed.
pub async fn head(change: &mut Change, tenant: &str, now: Timestamp) -> Result<()> {
    let sql = "SELECT sequence, hash FROM ledger WHERE tenant = $1 ORDER BY sequence DESC LIMIT 1";
    let head: Option<Begin> = sql::query_as(sql).bind(tenant).fetch_optional(change.connection()).await?;
    let Some(head) = head else { return Ok(()) };
    let target = head.sequence.to_string();
    let sql = "SELECT COUNT(*) FROM audit WHERE tenant = $1 AND action = $2 AND target = $3";
    let query = sql::query_scalar::<i64>(sql).bind(tenant).bind(HEAD).bind(&target);
    if query.fetch_one(change.connection()).await? > 0 {
        return Ok(());
    }
    change
        .audit(&audit::Entry {
            tenant,
            time: now,
            actor: "system",
            action: HEAD,
            target: &target,
            before: None,
            after: Some(hash_of(&head.hash)?),
            address: "",
            request: "",
        })
        .await
}

fn hash_of(bytes: &[u8]) -> Result<Hash> {
    bytes.try_into().map_err(|_| ControlError::Stored("ledger hash", format!("{} bytes where 32 belong", bytes.len())))
}

/// Tenants that have actions or a ledger.
///
/// # Errors
/// The database failed.
pub async fn tenants(pool: &Pool) -> Result<Vec<String>> {
    let sql = "SELECT tenant FROM ledger UNION SELECT tenant FROM actions UNION SELECT tenant FROM shed ORDER BY 1";
    Ok(sql::query_scalar(sql).fetch_all(pool).await?)
}

/// Goes through the ledgers of a scope from where they begin and says where each ends or is broken.
///
/// # Errors
/// The database failed.
pub async fn verify(pool: &Pool, scope: &Scope) -> Result<Vec<Verdict>> {
    let sql = "SELECT DISTINCT tenant FROM counters WHERE name = 'ledger' AND ($1 = '' OR tenant = $1) ORDER BY tenant";
    let tenants: Vec<String> = sql::query_scalar(sql).bind(scope.bound()).fetch_all(pool).await?;
    let mut verdicts = Vec::new();
    for tenant in tenants {
        verdicts.push(verify_one(pool, tenant).await?);
    }
    Ok(verdicts)
}

async fn verify_one(pool: &Pool, tenant: String) -> Result<Verdict> {
    let sql = "SELECT sequence, hash FROM ledger_begins WHERE tenant = $1";
    let begin: Option<Begin> = sql::query_as(sql).bind(&tenant).fetch_optional(pool).await?;
    let mut verdict = Verdict { tenant, entries: 0, head: [0; 32], broken_at: None };
    if let Some(begin) = begin {
        let sql = "SELECT after_hash FROM audit WHERE tenant = $1 AND action = $2 AND target = $3 \
                   ORDER BY sequence DESC LIMIT 1";
        let query = sql::query_scalar(sql).bind(&verdict.tenant).bind(RETIRED).bind(begin.sequence.to_string());
        let written: Option<Vec<u8>> = query.fetch_optional(pool).await?;
        if written.as_ref() != Some(&begin.hash) {
            verdict.broken_at = Some(begin.sequence);
            return Ok(verdict);
        }
        verdict.entries = begin.sequence;
        verdict.head = hash_of(&begin.hash)?;
    }
    let heads =
        "SELECT target, after_hash FROM audit WHERE tenant = $1 AND action = $2 ORDER BY sequence DESC LIMIT 1000";
    let heads: Vec<(String, Option<Vec<u8>>)> =
        sql::query_as(heads).bind(&verdict.tenant).bind(HEAD).fetch_all(pool).await?;
    let heads: BTreeMap<i64, Vec<u8>> =
        heads.into_iter().filter_map(|(target, hash)| Some((target.parse().ok()?, hash?))).collect();
    let sql = "SELECT sequence, record, previous, hash FROM ledger WHERE tenant = $1 AND sequence > $2 \
               ORDER BY sequence LIMIT $3";
    loop {
        let query = sql::query(sql).bind(&verdict.tenant).bind(verdict.entries).bind(PORTION);
        let page = query.fetch_all(pool).await?;
        if page.is_empty() {
            break;
        }
        for row in page {
            let (sequence, record): (i64, Vec<u8>) = (row.try_get("sequence")?, row.try_get("record")?);
            let (previous, written): (Vec<u8>, Vec<u8>) = (row.try_get("previous")?, row.try_get("hash")?);
            let hash = chain(&verdict.head, &record);
            let witnessed = heads.get(&sequence).is_none_or(|known| *known == hash);
            if sequence != verdict.entries + 1 || previous != verdict.head || written != hash || !witnessed {
                verdict.broken_at = Some(verdict.entries + 1);
                return Ok(verdict);
            }
            (verdict.entries, verdict.head) = (sequence, hash);
        }
    }
    // Records that were cut off at the end are missed by the counter, which the same transactions moved.
    let counted: Option<i64> = sql::query_scalar("SELECT value FROM counters WHERE tenant = $1 AND name = 'ledger'")
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
    use sakimori_model::action::{Cause, Target};
    use sakimori_model::ledger;
    use sakimori_model::{ActionState, Order};

    use super::*;
    use crate::control::Control;
    use crate::control::actions::{self, MANAGER};
    use crate::control::tests::{Base, on_both};

    on_both!(
        rows_that_are_over_go_by_age_and_by_number_and_what_is_live_or_in_grace_stays,
        the_chain_is_cut_where_nothing_needs_it_and_stays_verifiable,
        a_chain_that_was_tampered_with_shows_where,
    );

    const DAY: i64 = 86_400;

    fn at(day: i64) -> Timestamp {
        Timestamp::from_secs(day * DAY)
    }

    fn action(id: &str, state: ActionState, grace_until: Option<Timestamp>) -> Action {
        Action {
            order: Order {
                id: id.into(),
                action: if id.starts_with('m') { "notify" } else { "waf_block" }.into(),
                target: Target::Channel("x".into()),
                expiry: None,
                cause: Cause::default(),
                via: None,
                probe: false,
                inputs: Default::default(),
                signatures: Vec::new(),
            },
            place: MANAGER.into(),
            state,
            reason: None,
            former: None,
            planned_at: at(0),
            done_at: None,
            ended_at: None,
            expires_at: None,
            expires_at_most: None,
            prolonged: 0,
            grace_until,
            undone_by: None,
            confirm_by: None,
        }
    }

    async fn begin(control: &Control, id: &str, state: ActionState, grace: Option<Timestamp>, day: i64) {
        let mut change = control.begin().await.unwrap();
        actions::begin(&mut change, "default", &action(id, state, grace), at(day)).await.unwrap();
        change.commit().await.unwrap();
    }

    async fn retire(control: &Control, before: i64, most: i64, now: i64) -> (u64, u64) {
        let mut change = control.begin().await.unwrap();
        let keep = Keep { before: at(before), most, fresh: at(now), lasting: vec!["notify"] };
        let none = (i64::MIN, String::new());
        let (gone, next) = rows(change.connection(), "default", &keep, &none, at(now)).await.unwrap();
        assert_eq!(next, None);
        let records = ledger(&mut change, "default", at(now)).await.unwrap();
        change.commit().await.unwrap();
        (gone, records)
    }

    async fn ids(control: &Control) -> Vec<String> {
        sql::query_scalar("SELECT id FROM actions ORDER BY id").fetch_all(control.read()).await.unwrap()
    }

    async fn rows_that_are_over_go_by_age_and_by_number_and_what_is_live_or_in_grace_stays(base: Base) {
        use ActionState as S;
        let (_dir, control) = base.fresh().await;
        for (id, state, grace, day) in [
            ("a-live", S::Done, None, 1),
            ("b-refused", S::Refused, None, 1),
            ("c-undone", S::Undone, Some(at(90)), 1),
            ("d-undone", S::Undone, Some(at(5)), 1),
            ("m-sent", S::Done, None, 1),
            ("e-new", S::Expired, None, 50),
            ("f-new", S::Expired, None, 51),
            ("g-new", S::NoEffect, None, 52),
        ] {
            begin(&control, id, state, grace, day).await;
        }
        assert_eq!(retire(&control, 30, 1_000, 60).await.0, 3);
        assert_eq!(ids(&control).await, ["a-live", "c-undone", "e-new", "f-new", "g-new"]);
        // By number: the newest stay, and none that is fresh goes.
        assert_eq!(retire(&control, 30, 2, 51).await.0, 1, "e is older than today");
        assert_eq!(ids(&control).await, ["a-live", "c-undone", "f-new", "g-new"]);
        retire(&control, 30, 0, 100).await;
        assert_eq!(ids(&control).await, ["a-live"], "grace is over too");
    }

    async fn filled(base: Base) -> (tempfile::TempDir, Control) {
        let (dir, control) = base.fresh().await;
        for (number, id) in ["a", "b", "c", "d"].into_iter().enumerate() {
            begin(&control, id, ActionState::Approved, None, 1).await;
            let mut change = control.begin().await.unwrap();
            let state = if id == "c" { ActionState::Running } else { ActionState::Refused };
            let mut one = action(id, ActionState::Approved, None);
            let step = ledger::Change {
                action: id.into(),
                state,
                reason: None,
                former: None,
                expires_at: None,
                grace_until: None,
                by: None,
                confirmed: false,
            };
            let now = at(1).plus_secs(i64::try_from(number).unwrap());
            assert!(one.apply(&step, now));
            actions::step(&mut change, "default", &one, step, now).await.unwrap();
            change.commit().await.unwrap();
        }
        (dir, control)
    }

    async fn the_chain_is_cut_where_nothing_needs_it_and_stays_verifiable(base: Base) {
        let (_dir, control) = filled(base).await;
        let whole = async || {
            let [verdict] = verify(control.read(), &Scope::All).await.unwrap().try_into().unwrap();
            assert_eq!(verdict.broken_at, None, "{verdict:?}");
            verdict.entries
        };
        assert_eq!(whole().await, 8);
        // `c` runs: what came before it goes, it and what came after stays.
        assert_eq!(retire(&control, 30, 1_000, 60).await, (3, 4));
        assert_eq!((whole().await, ids(&control).await), (8, vec!["c".to_owned()]));
        let kept: i64 = sql::query_scalar("SELECT COUNT(*) FROM ledger").fetch_one(control.read()).await.unwrap();
        assert_eq!(kept, 4);
        assert_eq!(retire(&control, 30, 1_000, 61).await, (0, 0), "nothing more");
        begin(&control, "e", ActionState::Refused, None, 62).await;
        assert_eq!(whole().await, 9, "the chain goes on");
        let mut change = control.begin().await.unwrap();
        for _ in 0..3 {
            head(&mut change, "default", at(63)).await.unwrap();
        }
        change.commit().await.unwrap();
        let heads: i64 = sql::query_scalar("SELECT COUNT(*) FROM audit WHERE action = 'ledger:head'")
            .fetch_one(control.read())
            .await
            .unwrap();
        assert_eq!((heads, whole().await), (1, 9), "once, and it agrees");
        let audit = audit::verify(control.read(), &Scope::All).await.unwrap();
        assert!(audit.iter().all(|verdict| verdict.broken_at.is_none()));
        // One who computes the whole chain anew from a record on is found by the head that was written.
        let mut change = control.begin().await.unwrap();
        let sql = "SELECT record, previous FROM ledger WHERE sequence = 9";
        let (record, previous): (Vec<u8>, Vec<u8>) = sql::query_as(sql).fetch_one(change.connection()).await.unwrap();
        let forged = String::from_utf8(record).unwrap().replace("refused", "expired").into_bytes();
        let hash = chain(&previous.try_into().unwrap(), &forged);
        let sql = "UPDATE ledger SET record = $1, hash = $2 WHERE sequence = 9";
        sql::query(sql).bind(&forged).bind(hash.as_slice()).execute(change.connection()).await.unwrap();
        change.commit().await.unwrap();
        assert_eq!(verify(control.read(), &Scope::All).await.unwrap()[0].broken_at, Some(9));
    }

    async fn broken_by(base: Base, sql: &'static str) -> Option<i64> {
        let (_dir, control) = filled(base).await;
        retire(&control, 30, 1_000, 60).await;
        let mut change = control.begin().await.unwrap();
        sql::query(sql).execute(change.connection()).await.unwrap();
        change.commit().await.unwrap();
        verify(control.read(), &Scope::All).await.unwrap().remove(0).broken_at
    }

    async fn a_chain_that_was_tampered_with_shows_where(base: Base) {
        assert_eq!(broken_by(base, "SELECT 1").await, None);
        assert_eq!(broken_by(base, "DELETE FROM ledger WHERE sequence = 5").await, Some(5), "more was cut off");
        assert_eq!(broken_by(base, "DELETE FROM ledger WHERE sequence = 8").await, Some(8), "the end");
        assert_eq!(broken_by(base, "UPDATE ledger SET record = previous WHERE sequence = 6").await, Some(6));
        assert_eq!(
            broken_by(base, "UPDATE ledger_begins SET hash = (SELECT hash FROM ledger WHERE sequence = 6)").await,
            Some(4)
        );
        assert_eq!(broken_by(base, "UPDATE ledger_begins SET sequence = 5").await, Some(5));
        assert_eq!(broken_by(base, "DELETE FROM ledger_begins").await, Some(1), "no beginning is told");
    }
}
