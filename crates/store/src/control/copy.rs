//! A copy of the control database as one SQLite file, wherever the database is, and back: what a backup holds, and how
//! an installation moves from a file to a server.
//!
//! SQLite copies itself (`VACUUM INTO`). From and to PostgreSQL the rows go table by table, since both have the same
//! migrations; the file names the columns and their types.

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use futures::TryStreamExt as _;

use super::sql::{self, Connection, On, Pool, Row, Value};
use super::{Control, ControlError, Result};

/// Every table, those that others refer to first.
const TABLES: &[&str] = &[
    "tenants",
    "counters",
    "users",
    "api_tokens",
    "sessions",
    "totp",
    "recovery_codes",
    "passkeys",
    "provider_accounts",
    "login_throttle",
    "policies",
    "rollouts",
    "rollout_agents",
    "exceptions",
    "settings",
    "secrets",
    "audit",
    "outbox",
    "enrolment_tokens",
    "agents",
    "agent_orders",
    "order_seals",
    "heads",
    "breaks",
    "streams",
    "losses",
    "occurrences",
    "bouncers",
    "flushes",
    "claims",
    "checkpoints",
    "actions",
    "ledger",
    "ledger_begins",
    "shed",
    "executions",
    "answers",
    "playbook_revisions",
    "playbook_runs",
    "alert_notes",
    "searches",
    "messages",
    "message_tries",
    "message_alerts",
];

/// See [`Control::snapshot`].
pub(super) async fn snapshot(control: &Control, file: &Path) -> Result<()> {
    let fail = |source| ControlError::Copy { path: file.to_owned(), source };
    // SQLite takes an empty file as a new database, so the mode is right before the first byte.
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(fail)?;
    let path = file.to_str().ok_or_else(|| fail(std::io::Error::other("its name is no UTF-8")))?;
    match control.read() {
        Pool::Sqlite(_) => {
            sql::query("VACUUM INTO $1").bind(path).execute(control.read()).await?;
        }
        Pool::Postgres(pool) => {
            let copy = Control::open(&format!("sqlite:{path}")).await?;
            let one_moment = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
            let mut from = Connection::Postgres(pool.begin_with(one_moment).await?);
            let mut change = copy.begin().await?;
            rows(copy.read(), &mut from, change.connection()).await?;
            change.commit().await?;
            from.rollback().await?;
            copy.close().await;
        }
    }
    std::fs::File::open(file).and_then(|file| file.sync_all()).map_err(fail)
}

/// See [`Control::take_over`].
pub(super) async fn take_over(control: &Control, file: &Path) -> Result<()> {
    let copy = Control::open(&format!("sqlite:{}", file.display())).await?;
    let mut from = copy.transaction().await?;
    let mut change = control.begin().await?;
    rows(copy.read(), &mut from, change.connection()).await?;
    change.commit().await?;
    from.rollback().await?;
    copy.close().await;
    Ok(())
}

/// Copies all rows; `file` is the side that is a file, by which columns are known.
async fn rows(file: &Pool, from: &mut Connection, to: &mut Connection) -> Result<()> {
    for table in TABLES.iter().rev() {
        sql::query(sqlx::AssertSqlSafe(format!("DELETE FROM {table}"))).execute(&mut *to).await?;
    }
    for table in TABLES {
        let columns = columns(file, table).await?;
        let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
        let names = names.join(", ");
        let places: Vec<String> = (1..=columns.len()).map(|place| format!("${place}")).collect();
        let insert = format!("INSERT INTO {table} ({names}) VALUES ({})", places.join(", "));
        let mut all = sql::rows(format!("SELECT {names} FROM {table}"), On::One(&mut *from));
        while let Some(row) = all.try_next().await? {
            let mut query = sql::query(sqlx::AssertSqlSafe(insert.as_str()));
            for (name, kind) in &columns {
                query = query.bind(value(&row, name, kind)?);
            }
            query.execute(&mut *to).await?;
        }
    }
    Ok(())
}

/// Names and types of a table's columns.
async fn columns(file: &Pool, table: &str) -> Result<Vec<(String, String)>> {
    let sql = "SELECT name, type FROM pragma_table_info($1) ORDER BY cid";
    Ok(sql::query_as(sql).bind(table).fetch_all(file).await?)
}

fn value(row: &Row, name: &str, kind: &str) -> Result<Value<'static>, sqlx::Error> {
    Ok(match kind {
        "BIGINT" => Value::Number(row.try_get(name)?),
        "BOOLEAN" => Value::Truth(row.try_get(name)?),
        "BYTEA" => Value::Bytes(row.try_get::<Option<Vec<u8>>, _>(name)?.map(Into::into)),
        _ => Value::Text(row.try_get::<Option<String>, _>(name)?.map(Into::into)),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::tests::{Base, on_both};
    use super::super::{DEFAULT_TENANT, Scope, audit, settings, users};
    use super::*;
    use sakimori_model::Timestamp;

    on_both!(a_copy_has_the_rows_of_its_moment_and_is_for_its_owner_alone, every_table_goes_there_and_back);

    async fn a_copy_has_the_rows_of_its_moment_and_is_for_its_owner_alone(base: Base) {
        let (dir, control) = base.fresh().await;
        let mut change = control.begin().await.unwrap();
        settings::set(change.connection(), DEFAULT_TENANT, "a", "1").await.unwrap();
        change.commit().await.unwrap();
        // A change that is under way neither waits nor shows.
        let mut change = control.begin().await.unwrap();
        settings::set(change.connection(), DEFAULT_TENANT, "a", "2").await.unwrap();
        let file = dir.path().join("copy.db");
        control.snapshot(&file).await.unwrap();
        change.commit().await.unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let copy = Control::open(&format!("sqlite:{}", file.display())).await.unwrap();
        assert_eq!(settings::get(copy.read(), DEFAULT_TENANT, "a").await.unwrap().as_deref(), Some("1"));
        assert!(control.snapshot(&file).await.is_err(), "nothing is written over");
    }

    async fn every_table_goes_there_and_back(base: Base) {
        let (dir, control) = base.fresh().await;
        let mut change = control.begin().await.unwrap();
        let sql = "INSERT INTO users (tenant, id, name, role, password, disabled, created, changed) \
                   VALUES ('*', $1, 'Ann ö', 'admin', '', $2, $3, $3)";
        let query = sql::query(sql).bind("u1").bind(true).bind(-7);
        query.execute(change.connection()).await.unwrap();
        let sql = "INSERT INTO sessions (tenant, id, user_id, secret_hash, address, created, expires) \
                   VALUES ('*', 's', 'u1', $1, '', 1, 2)";
        sql::query(sql).bind(vec![0, 255, 39]).execute(change.connection()).await.unwrap();
        let entry = audit::Entry {
            tenant: "default",
            time: Timestamp::from_secs(7),
            actor: "user:a",
            action: "user:create",
            target: "t",
            before: None,
            after: Some([3; 32]),
            address: "",
            request: "",
        };
        change.audit(&entry).await.unwrap();
        change.commit().await.unwrap();
        assert!(!control.is_empty().await.unwrap());
        let file = dir.path().join("copy.db");
        control.snapshot(&file).await.unwrap();

        let (_other_dir, other) = base.fresh().await;
        assert!(other.is_empty().await.unwrap());
        other.take_over(&file).await.unwrap();
        let mut one = other.transaction().await.unwrap();
        let user = users::get(&mut one, &Scope::All, "u1").await.unwrap();
        one.rollback().await.unwrap();
        assert!(user.disabled && user.name == "Ann ö" && user.created.micros() == -7);
        let secret: Vec<u8> =
            sql::query_scalar("SELECT secret_hash FROM sessions").fetch_one(other.read()).await.unwrap();
        assert_eq!(secret, [0, 255, 39]);
        let verdicts = audit::verify(other.read(), &Scope::All).await.unwrap();
        assert!(verdicts.iter().all(|verdict| verdict.broken_at.is_none()) && verdicts.len() == 1);
    }

    #[tokio::test]
    async fn no_table_is_forgotten() {
        let (_dir, control) = Base::File.fresh().await;
        let sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '\\_%' ESCAPE '\\' \
                   AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name";
        let all: Vec<String> = sql::query_scalar(sql).fetch_all(control.read()).await.unwrap();
        let mut listed: Vec<&str> = TABLES.to_vec();
        listed.sort_unstable();
        assert_eq!(all, listed);
        for table in TABLES {
            for (name, kind) in columns(control.read(), table).await.unwrap() {
                assert!(["TEXT", "BIGINT", "BOOLEAN", "BYTEA"].contains(&kind.as_str()), "{table}.{name} is {kind}");
            }
        }
    }
}
