//! Executions of playbooks as rows: the record is the text that [`Row::record`] holds, whose form is `respond`'s. One driver
//! writes it; others only add answers, or the wish to take one back.

use sakimori_model::Timestamp;

use super::sql::{self, Connection, Pool, from_columns};
use super::{ControlError, Result, Scope};

/// Most executions of a tenant that are kept.
const MOST: i64 = 20_000;

/// One execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Whose.
    pub tenant: String,
    /// Its id.
    pub id: String,
    /// Slug of the playbook.
    pub playbook: String,
    /// Which text of it.
    pub revision: String,
    /// The alert that began it; empty where none did.
    pub alert: String,
    /// Its state's name.
    pub state: String,
    /// When it began, in microseconds.
    pub started: i64,
    /// When it last changed, in microseconds.
    pub changed: i64,
    /// Who wants it taken back; empty where nobody does.
    pub undo: String,
    /// The alert or finding, JSON.
    pub event: String,
    /// The record, JSON.
    pub record: String,
}

from_columns!(Row: tenant, id, playbook, revision, alert, state, started, changed, undo, event, record);

/// An answer to a question of an execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The step that asks.
    pub step: String,
    /// Who answered.
    pub person: String,
    /// Yes?
    pub allow: bool,
    /// When, in microseconds.
    pub time: i64,
    /// What they say along with it; may be empty.
    pub comment: String,
}

from_columns!(Answer: step, person, allow, time, comment);

/// A text of a playbook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// Its name: a hash of the text.
    pub revision: String,
    /// Slug of the playbook.
    pub playbook: String,
    /// Where it was read.
    pub file: String,
    /// YAML.
    pub text: String,
    /// Since when it is known, in microseconds.
    pub since: i64,
}

from_columns!(Revision: revision, playbook, file, text, since);

/// Writes a new execution. False where one of this id is there: the same alert was read again.
///
/// # Errors
/// The database failed.
pub async fn begin(connection: &mut Connection, row: &Row) -> Result<bool> {
    let sql = "INSERT INTO executions (tenant, id, playbook, revision, alert, state, started, changed, undo, event, record) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, '', $9, $10) ON CONFLICT (tenant, id) DO NOTHING";
    let done = sql::query(sql)
        .bind(&row.tenant)
        .bind(&row.id)
        .bind(&row.playbook)
        .bind(&row.revision)
        .bind(&row.alert)
        .bind(&row.state)
        .bind(row.started)
        .bind(row.changed)
        .bind(&row.event)
        .bind(&row.record)
        .execute(connection)
        .await?;
    Ok(done > 0)
}

/// Is there one of this id?
///
/// # Errors
/// The database failed.
pub async fn exists(connection: &mut Connection, tenant: &str, id: &str) -> Result<bool> {
    let sql = "SELECT COUNT(*) FROM executions WHERE tenant = $1 AND id = $2";
    Ok(sql::query_scalar::<i64>(sql).bind(tenant).bind(id).fetch_one(connection).await? > 0)
}

/// Writes what became of one; the wish to take it back is answered with that.
///
/// # Errors
/// The database failed.
pub async fn put(connection: &mut Connection, row: &Row, state: &str, record: &str, now: Timestamp) -> Result<()> {
    let sql = "UPDATE executions SET state = $3, record = $4, changed = $5 WHERE tenant = $1 AND id = $2";
    let query = sql::query(sql).bind(&row.tenant).bind(&row.id).bind(state).bind(record);
    query.bind(now.micros()).execute(connection).await?;
    Ok(())
}

/// Those that are at work, and those that somebody wants back, of all tenants, oldest first, after this one (its beginning
/// and id).
///
/// # Errors
/// The database failed.
pub async fn work(pool: &Pool, after: (i64, &str), limit: i64) -> Result<Vec<Row>> {
    let sql = "SELECT * FROM executions WHERE (state IN ('running', 'undoing') \
               OR (undo <> '' AND state NOT IN ('undone', 'compensated'))) \
               AND (started > $1 OR (started = $1 AND id > $2)) ORDER BY started, id LIMIT $3";
    Ok(sql::query_as(sql).bind(after.0).bind(after.1).bind(limit).fetch_all(pool).await?)
}

/// One.
///
/// # Errors
/// `Missing`, or the database failed.
pub async fn get(pool: &Pool, scope: &Scope, id: &str) -> Result<Row> {
    let sql = "SELECT * FROM executions WHERE ($1 = '' OR tenant = $1) AND id = $2";
    let row = sql::query_as(sql).bind(scope.bound()).bind(id).fetch_optional(pool).await?;
    row.ok_or(ControlError::Missing("execution"))
}

/// Executions, newest first, after the one that `before` names (its beginning and id); of one playbook, one state or one
/// alert where these are not empty.
///
/// # Errors
/// The database failed.
pub async fn list(
    pool: &Pool,
    scope: &Scope,
    (playbook, state, alert): (&str, &str, &str),
    before: Option<(i64, &str)>,
    limit: i64,
) -> Result<Vec<Row>> {
    let sql = "SELECT * FROM executions WHERE ($1 = '' OR tenant = $1) AND ($2 = '' OR playbook = $2) \
               AND ($3 = '' OR state = $3) AND ($4 = '' OR alert = $4) \
               AND (started < $5 OR (started = $5 AND id < $6)) ORDER BY started DESC, id DESC LIMIT $7";
    let (time, id) = before.unwrap_or((i64::MAX, ""));
    let query = sql::query_as(sql).bind(scope.bound()).bind(playbook).bind(state).bind(alert);
    Ok(query.bind(time).bind(id).bind(limit).fetch_all(pool).await?)
}

/// A tenant's executions that changed since a moment, in the order of that, without their events.
///
/// # Errors
/// The database failed.
pub async fn changed(pool: &Pool, tenant: &str, since: Timestamp, limit: i64) -> Result<Vec<Row>> {
    let sql = "SELECT tenant, id, playbook, revision, alert, state, started, changed, undo, '' AS event, record \
               FROM executions WHERE tenant = $1 AND changed > $2 ORDER BY changed, id LIMIT $3";
    Ok(sql::query_as(sql).bind(tenant).bind(since.micros()).bind(limit).fetch_all(pool).await?)
}

/// A tenant's executions that are at work, without their events, the newest first.
///
/// # Errors
/// The database failed.
pub async fn at_work(pool: &Pool, tenant: &str, limit: i64) -> Result<Vec<Row>> {
    let sql = "SELECT tenant, id, playbook, revision, alert, state, started, changed, undo, '' AS event, record \
               FROM executions WHERE state = 'running' AND tenant = $1 ORDER BY started DESC, id DESC LIMIT $2";
    Ok(sql::query_as(sql).bind(tenant).bind(limit).fetch_all(pool).await?)
}

/// Most records of [`recent`].
pub const MOST_RECENT: i64 = 2_000;

/// The records of a playbook's executions that changed since a moment and did something that counts, but for one: for its
/// limits. At most [`MOST_RECENT`].
///
/// # Errors
/// The database failed.
pub async fn recent(pool: &Pool, tenant: &str, playbook: &str, since: Timestamp, but: &str) -> Result<Vec<String>> {
    let sql = "SELECT record FROM executions WHERE tenant = $1 AND playbook = $2 AND changed >= $3 AND id <> $4 \
               AND record LIKE '%\"counts\":true%' ORDER BY changed DESC LIMIT $5";
    let query = sql::query_scalar(sql).bind(tenant).bind(playbook).bind(since.micros()).bind(but);
    Ok(query.bind(MOST_RECENT).fetch_all(pool).await?)
}

/// Somebody wants one taken back.
///
/// # Errors
/// The database failed.
pub async fn want_back(connection: &mut Connection, tenant: &str, id: &str, by: &str) -> Result<()> {
    let sql = "UPDATE executions SET undo = $3 WHERE tenant = $1 AND id = $2 AND undo = ''";
    sql::query(sql).bind(tenant).bind(id).bind(by).execute(connection).await?;
    Ok(())
}

/// Notes an answer. False where this person answered already: the first answer counts.
///
/// # Errors
/// The database failed.
pub async fn answer(connection: &mut Connection, tenant: &str, execution: &str, answer: &Answer) -> Result<bool> {
    let sql = "INSERT INTO answers (tenant, execution, step, person, allow, time, comment) \
               VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (tenant, execution, step, person) DO NOTHING";
    let query = sql::query(sql).bind(tenant).bind(execution).bind(&answer.step).bind(&answer.person);
    Ok(query.bind(answer.allow).bind(answer.time).bind(&answer.comment).execute(connection).await? > 0)
}

/// The answers to an execution's questions, in order of time.
///
/// # Errors
/// The database failed.
pub async fn answers(pool: &Pool, tenant: &str, execution: &str) -> Result<Vec<Answer>> {
    let sql = "SELECT step, person, allow, time, comment FROM answers WHERE tenant = $1 AND execution = $2 \
               ORDER BY time, person";
    Ok(sql::query_as(sql).bind(tenant).bind(execution).fetch_all(pool).await?)
}

/// Notes a text of a playbook.
///
/// # Errors
/// The database failed.
pub async fn note_revision(connection: &mut Connection, revision: &Revision) -> Result<()> {
    let sql = "INSERT INTO playbook_revisions (revision, playbook, file, text, since) VALUES ($1, $2, $3, $4, $5) \
               ON CONFLICT (revision) DO NOTHING";
    let query = sql::query(sql).bind(&revision.revision).bind(&revision.playbook).bind(&revision.file);
    query.bind(&revision.text).bind(revision.since).execute(connection).await?;
    Ok(())
}

/// The text of this name.
///
/// # Errors
/// The database failed.
pub async fn revision(pool: &Pool, revision: &str) -> Result<Option<Revision>> {
    let sql = "SELECT * FROM playbook_revisions WHERE revision = $1";
    Ok(sql::query_as(sql).bind(revision).fetch_optional(pool).await?)
}

/// The texts that a playbook has had, newest first.
///
/// # Errors
/// The database failed.
pub async fn revisions(pool: &Pool, playbook: &str) -> Result<Vec<Revision>> {
    let sql = "SELECT * FROM playbook_revisions WHERE playbook = $1 ORDER BY since DESC LIMIT 100";
    Ok(sql::query_as(sql).bind(playbook).fetch_all(pool).await?)
}

/// When the clock last began a playbook.
///
/// # Errors
/// The database failed.
pub async fn last_run(pool: &Pool, tenant: &str, playbook: &str) -> Result<Option<Timestamp>> {
    let sql = "SELECT last FROM playbook_runs WHERE tenant = $1 AND playbook = $2";
    let last: Option<i64> = sql::query_scalar(sql).bind(tenant).bind(playbook).fetch_optional(pool).await?;
    Ok(last.map(Timestamp::from_micros))
}

/// Notes when the clock began a playbook.
///
/// # Errors
/// The database failed.
pub async fn note_run(connection: &mut Connection, tenant: &str, playbook: &str, last: Timestamp) -> Result<()> {
    let sql = "INSERT INTO playbook_runs (tenant, playbook, last) VALUES ($1, $2, $3) \
               ON CONFLICT (tenant, playbook) DO UPDATE SET last = excluded.last";
    sql::query(sql).bind(tenant).bind(playbook).bind(last.micros()).execute(connection).await?;
    Ok(())
}

/// Forgets what is over and changed last before a moment, and of each tenant what is beyond the newest twenty thousand.
///
/// # Errors
/// The database failed.
pub async fn tidy(connection: &mut Connection, tenant: &str, before: Timestamp) -> Result<u64> {
    let newest = "SELECT changed FROM executions WHERE tenant = $1 ORDER BY changed DESC LIMIT 1 OFFSET $2";
    let over: Option<i64> = sql::query_scalar(newest).bind(tenant).bind(MOST).fetch_optional(&mut *connection).await?;
    let before = over.unwrap_or(i64::MIN).max(before.micros());
    let gone =
        sql::query("DELETE FROM executions WHERE tenant = $1 AND changed < $2 AND state NOT IN ('running', 'undoing')")
            .bind(tenant)
            .bind(before)
            .execute(&mut *connection)
            .await?;
    let orphans = "DELETE FROM answers WHERE tenant = $1 AND NOT EXISTS (SELECT 1 FROM executions \
                   WHERE executions.tenant = answers.tenant AND executions.id = answers.execution)";
    sql::query(orphans).bind(tenant).execute(connection).await?;
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests::{Base, on_both};

    on_both!(an_execution_begins_once_and_is_listed, the_first_answer_counts, what_is_over_goes_with_its_answers,);

    fn row(id: &str, state: &str, changed: i64) -> Row {
        Row {
            tenant: "default".into(),
            id: id.into(),
            playbook: "isolate".into(),
            revision: "r1".into(),
            alert: "a".into(),
            state: state.into(),
            started: changed,
            changed,
            undo: String::new(),
            event: "{}".into(),
            record: format!("{{\"id\":\"{id}\",\"counts\":{}}}", id == "1"),
        }
    }

    async fn an_execution_begins_once_and_is_listed(base: Base) {
        let (_dir, control) = base.fresh().await;
        let mut change = control.begin().await.unwrap();
        assert!(begin(change.connection(), &row("1", "running", 10)).await.unwrap());
        assert!(!begin(change.connection(), &row("1", "done", 20)).await.unwrap(), "the same alert again");
        assert!(begin(change.connection(), &row("2", "done", 20)).await.unwrap());
        change.commit().await.unwrap();
        let others = recent(control.read(), "default", "isolate", Timestamp::from_micros(0), "2").await.unwrap();
        assert_eq!(others, ["{\"id\":\"1\",\"counts\":true}"]);
        let ids = |rows: Vec<Row>| rows.into_iter().map(|row| row.id).collect::<Vec<_>>();
        assert_eq!(ids(work(control.read(), (i64::MIN, ""), 10).await.unwrap()), ["1"]);
        let all = Scope::One("default".into());
        assert_eq!(ids(list(control.read(), &all, ("", "", ""), None, 10).await.unwrap()), ["2", "1"]);
        assert_eq!(ids(list(control.read(), &all, ("", "", ""), Some((20, "2")), 10).await.unwrap()), ["1"]);
        assert!(list(control.read(), &all, ("other", "", ""), None, 10).await.unwrap().is_empty());
        assert!(get(control.read(), &Scope::One("other".into()), "1").await.is_err());
        let mut change = control.begin().await.unwrap();
        want_back(change.connection(), "default", "2", "ann").await.unwrap();
        put(change.connection(), &row("1", "running", 10), "done", "{}", Timestamp::from_micros(30)).await.unwrap();
        change.commit().await.unwrap();
        assert_eq!(ids(work(control.read(), (i64::MIN, ""), 10).await.unwrap()), ["2"], "somebody wants it back");
    }

    async fn the_first_answer_counts(base: Base) {
        let (_dir, control) = base.fresh().await;
        let mut change = control.begin().await.unwrap();
        let one = |allow, time| Answer {
            step: "0".into(),
            person: "ann".into(),
            allow,
            time,
            comment: if allow { String::new() } else { "not on a Friday".into() },
        };
        assert!(answer(change.connection(), "default", "1", &one(false, 1)).await.unwrap());
        assert!(!answer(change.connection(), "default", "1", &one(true, 2)).await.unwrap());
        change.commit().await.unwrap();
        assert_eq!(answers(control.read(), "default", "1").await.unwrap(), [one(false, 1)]);
        assert!(answers(control.read(), "other", "1").await.unwrap().is_empty());
    }

    async fn what_is_over_goes_with_its_answers(base: Base) {
        let (_dir, control) = base.fresh().await;
        let mut change = control.begin().await.unwrap();
        for (id, state) in [("1", "done"), ("2", "running"), ("3", "done")] {
            begin(change.connection(), &row(id, state, if id == "3" { 100 } else { 10 })).await.unwrap();
            let given = Answer { step: "0".into(), person: "ann".into(), allow: true, time: 1, comment: String::new() };
            answer(change.connection(), "default", id, &given).await.unwrap();
        }
        assert_eq!(tidy(change.connection(), "default", Timestamp::from_micros(50)).await.unwrap(), 1);
        change.commit().await.unwrap();
        assert!(get(control.read(), &Scope::All, "1").await.is_err());
        assert!(answers(control.read(), "default", "1").await.unwrap().is_empty());
        assert_eq!(answers(control.read(), "default", "2").await.unwrap().len(), 1);
    }
}
