//! Control state: who may do what, which policies apply, what was changed by whom.
//!
//! SQLite in the SQL subset that PostgreSQL shares (TEXT, BIGINT microseconds, BOOLEAN, BYTEA, `$n`). One
//! writer connection, so that writes queue in the program and not as busy errors; several readers, which a
//! writer never blocks (WAL). Every key begins with the tenant.
//!
//! A change is a [`Change`]: one transaction that holds the rows, the audit entry and the outbox row
//! together (D23). Functions of the files below take its connection, so that several of them make one
//! change.

pub mod actions;
pub mod agents;
pub mod alerts;
pub mod audit;
mod copy;
pub mod enrolment;
pub mod flushes;
pub mod outbox;
pub mod policies;
pub mod sessions;
pub mod settings;
pub mod tenants;
pub mod tokens;
pub mod users;

use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sakimori_model::Timestamp;
use sqlx::sqlite::{
    Sqlite, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{Row, Transaction};

/// The tenant of a default installation.
pub const DEFAULT_TENANT: &str = "default";
/// Stands for all tenants: of a user, a token, a change that concerns the whole installation.
pub const ALL_TENANTS: &str = "*";

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// What can go wrong with control state.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The address of the database is not one that this build can open.
    #[error(
        "control database {0}: only sqlite: addresses can be opened, for example sqlite:/var/lib/sakimori/control.db"
    )]
    Address(String),
    /// The database said no.
    #[error("control database: {0}")]
    Database(#[from] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("migrate the control database: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// What is to be made is there already.
    #[error("{0} exists already")]
    Exists(&'static str),
    /// What is to be changed is not there.
    #[error("no such {0}")]
    Missing(&'static str),
    /// A copy could not be made.
    #[error("copy the control database to {}: {source}", path.display())]
    Copy {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A stored value that this build cannot read.
    #[error("control database: {0} cannot be read: {1}")]
    Stored(&'static str, String),
}

/// Result of control state.
pub type Result<T, E = ControlError> = std::result::Result<T, E>;

/// Called with every audit entry once its transaction is committed.
pub type AuditHook = Arc<dyn Fn(&audit::Record) + Send + Sync>;

/// The control database. Cheap to clone.
#[derive(Clone)]
pub struct Control {
    writer: SqlitePool,
    readers: SqlitePool,
    hook: Arc<OnceLock<AuditHook>>,
}

impl Control {
    /// Opens the database at `url` (`sqlite:/path/to/file`), makes it where it is absent, and brings its
    /// schema up to date.
    ///
    /// # Errors
    /// Another scheme, a file that cannot be opened, a schema from a newer release.
    pub async fn open(url: &str) -> Result<Self> {
        if !url.starts_with("sqlite:") {
            return Err(ControlError::Address(url.split('@').next_back().unwrap_or(url).to_owned()));
        }
        let options = SqliteConnectOptions::from_str(url)?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(10));
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(Duration::from_secs(30))
            .connect_with(options.clone())
            .await?;
        MIGRATIONS.run(&writer).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(4)
            .acquire_timeout(Duration::from_secs(30))
            .connect_with(options.read_only(true).create_if_missing(false))
            .await?;
        Ok(Self { writer, readers, hook: Arc::default() })
    }

    /// Names what is told of each committed audit entry; the first one named stays.
    pub fn on_audit(&self, hook: AuditHook) {
        let _ = self.hook.set(hook);
    }

    /// Begins a change. Others that want to write wait.
    ///
    /// # Errors
    /// The writer did not become free in 30 s, or the database failed.
    pub async fn begin(&self) -> Result<Change> {
        let tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        Ok(Change { tx, audited: Vec::new(), hook: Arc::clone(&self.hook) })
    }

    /// The connections for reading.
    pub fn read(&self) -> &SqlitePool {
        &self.readers
    }

    /// Can the control state be read and written?
    ///
    /// # Errors
    /// What the database said.
    pub async fn ping(&self) -> Result<()> {
        sqlx::query("SELECT 1").fetch_one(&self.readers).await?;
        let tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        tx.rollback().await?;
        Ok(())
    }

    /// Writes all rows of one moment into a new SQLite file, readable by its owner alone. Writers are not kept
    /// waiting.
    ///
    /// # Errors
    /// A file that is there already or cannot be written, or the database failed.
    pub async fn snapshot(&self, file: &std::path::Path) -> Result<()> {
        copy::snapshot(self, file).await
    }

    /// Closes all connections, after what is under way.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// One change: rows, audit entry and outbox row in one transaction. Dropped without [`Change::commit`] it
/// changes nothing.
pub struct Change {
    tx: Transaction<'static, Sqlite>,
    audited: Vec<audit::Record>,
    hook: Arc<OnceLock<AuditHook>>,
}

impl Change {
    /// The connection, for the functions that write rows.
    pub fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.tx
    }

    /// Writes the audit entry of this change, and its outbox row.
    ///
    /// # Errors
    /// The database failed; the change should then be dropped.
    pub async fn audit(&mut self, entry: &audit::Entry<'_>) -> Result<()> {
        let record = audit::append(&mut self.tx, entry).await?;
        self.audited.push(record);
        Ok(())
    }

    /// Makes the change durable, then tells the audit hook.
    ///
    /// # Errors
    /// The database failed; nothing is changed.
    pub async fn commit(self) -> Result<()> {
        self.tx.commit().await?;
        if let Some(hook) = self.hook.get() {
            self.audited.iter().for_each(|record| hook(record));
        }
        Ok(())
    }
}

/// Whose rows are meant: of one tenant, or of all (for people and tokens over all tenants).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Of this tenant.
    One(String),
    /// Of all tenants, and of the installation itself.
    All,
}

impl Scope {
    /// As it is bound in a query: `($1 = '' OR tenant = $1)`.
    pub fn bound(&self) -> &str {
        match self {
            Self::One(tenant) => tenant,
            Self::All => "",
        }
    }
}

/// The next value of a counter of a tenant, from 1. Within a transaction; a rolled back value comes again.
pub(crate) async fn next(connection: &mut SqliteConnection, tenant: &str, name: &str) -> Result<i64> {
    let sql = "INSERT INTO counters (tenant, name, value) VALUES ($1, $2, 1) \
               ON CONFLICT (tenant, name) DO UPDATE SET value = counters.value + 1 RETURNING value";
    Ok(sqlx::query_scalar(sql).bind(tenant).bind(name).fetch_one(connection).await?)
}

/// A time column.
pub(crate) fn time(row: &SqliteRow, column: &str) -> Result<Timestamp, sqlx::Error> {
    row.try_get(column).map(Timestamp::from_micros)
}

/// A time column that may be empty.
pub(crate) fn maybe_time(row: &SqliteRow, column: &str) -> Result<Option<Timestamp>, sqlx::Error> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(Timestamp::from_micros))
}

/// A unique key that is taken becomes [`ControlError::Exists`].
pub(crate) fn taken(what: &'static str) -> impl FnOnce(sqlx::Error) -> ControlError {
    move |error| match &error {
        sqlx::Error::Database(database) if database.is_unique_violation() => ControlError::Exists(what),
        _ => ControlError::Database(error),
    }
}

/// A change that met no row becomes [`ControlError::Missing`].
pub(crate) fn met(rows: u64, what: &'static str) -> Result<()> {
    if rows == 0 { Err(ControlError::Missing(what)) } else { Ok(()) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A fresh database and the folder that holds it.
    pub(crate) async fn fresh() -> (tempfile::TempDir, Control) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let control = Control::open(&format!("sqlite:{}/control.db", dir.path().display())).await.expect("opens");
        (dir, control)
    }

    #[tokio::test]
    async fn opening_twice_keeps_what_is_there_and_a_dropped_change_leaves_nothing() {
        let (dir, control) = fresh().await;
        let mut change = control.begin().await.unwrap();
        settings::set(change.connection(), DEFAULT_TENANT, "a", "1").await.unwrap();
        change.commit().await.unwrap();
        let mut change = control.begin().await.unwrap();
        settings::set(change.connection(), DEFAULT_TENANT, "a", "2").await.unwrap();
        drop(change);
        control.close().await;
        let again = Control::open(&format!("sqlite:{}/control.db", dir.path().display())).await.unwrap();
        assert_eq!(settings::get(again.read(), DEFAULT_TENANT, "a").await.unwrap().as_deref(), Some("1"));
        again.ping().await.unwrap();
    }

    #[tokio::test]
    async fn another_scheme_is_refused_without_showing_its_password() {
        let error = Control::open("postgres://me:secret@db/x").await.err().expect("refused").to_string();
        assert!(error.contains("sqlite:/") && !error.contains("secret"), "{error}");
    }

    #[tokio::test]
    async fn a_reader_does_not_write() {
        let (_dir, control) = fresh().await;
        assert!(sqlx::query("DELETE FROM tenants").execute(control.read()).await.is_err());
    }
}
