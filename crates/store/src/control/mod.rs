//! Control state: who may do what, which policies apply, what was changed by whom.
//!
//! SQLite by default, PostgreSQL by a URL, in the SQL subset that both share (TEXT, BIGINT microseconds, BOOLEAN,
//! BYTEA, `$n`; [`sql`]). One writer connection, so that writes queue in the program and not as busy errors; several
//! readers, which a writer never blocks. On PostgreSQL a change takes one lock over the whole database first, so that
//! changes follow one another there too, whoever makes them: no serialisation fails and no chain forks
//! (docs/adr/0010). Every key begins with the tenant.
//!
//! A change is a [`Change`]: one transaction that holds the rows, the audit entry and the outbox row
//! together (D23). Functions of the files below take its connection, so that several of them make one
//! change.

pub mod actions;
pub mod agents;
pub mod alerts;
pub mod audit;
pub mod bouncers;
mod copy;
pub mod enrolment;
pub mod exceptions;
pub mod executions;
pub mod factors;
pub mod flushes;
pub mod halts;
pub mod heads;
pub mod messages;
pub mod occurrences;
pub mod outbox;
pub mod passkeys;
pub mod policies;
pub mod provider_accounts;
pub mod retire;
pub mod rollouts;
pub mod searches;
pub mod secrets;
pub mod sessions;
pub mod settings;
pub mod shed;
pub mod sql;
pub mod tenants;
pub mod tokens;
pub mod users;

use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sakimori_model::Timestamp;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use self::sql::{Connection, Pool, Row};

/// The tenant of a default installation.
pub const DEFAULT_TENANT: &str = "default";
/// Stands for all tenants: of a user, a token, a change that concerns the whole installation.
pub const ALL_TENANTS: &str = "*";
/// How long a change waits for the one before it.
const WAIT: Duration = Duration::from_secs(30);
/// How often it is looked whether another manager has ended.
const PAUSE: Duration = Duration::from_millis(200);
/// What changes lock on a server: "SAKIMORI" as a number.
const ONE_WRITER: i64 = i64::from_be_bytes(*b"SAKIMORI");
/// What a manager locks on a server for as long as it runs.
const ONE_MANAGER: i64 = ONE_WRITER + 1;

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// What can go wrong with control state.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The address of the database is not one that this build can open.
    #[error(
        "control database {0}: expected sqlite:/var/lib/sakimori/control.db or postgres://user@host/database ({1})"
    )]
    Address(String, String),
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
    /// There are as many as there may be.
    #[error("there are as many {0}s as there may be; delete some")]
    Full(&'static str),
    /// Another manager has the database.
    #[error("control database: another manager uses it; stop that one first, two would store events twice")]
    Busy,
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
    writer: Pool,
    readers: Pool,
    hook: Arc<OnceLock<AuditHook>>,
}

impl Control {
    /// Opens the database at `url` and brings its schema up to date: `sqlite:/path/to/file`, which is made where it is
    /// absent, or `postgres://user@host/database`, which is there and is this installation's alone. TLS to a server is
    /// as `sslmode` says: `disable`, `prefer` (the default), `require`, `verify-ca` or `verify-full`, the last two
    /// against `sslrootcert` or the system's roots.
    ///
    /// # Errors
    /// Another scheme, a file or a server that cannot be opened, a schema from a newer release.
    pub async fn open(url: &str) -> Result<Self> {
        if url.starts_with("sqlite:") {
            Self::open_file(url).await
        } else if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            Self::open_server(url).await
        } else {
            Err(ControlError::Address(shown(url), "another scheme".into()))
        }
    }

    async fn open_file(url: &str) -> Result<Self> {
        let options = SqliteConnectOptions::from_str(url)?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(10));
        let writer =
            SqlitePoolOptions::new().max_connections(1).acquire_timeout(WAIT).connect_with(options.clone()).await?;
        MIGRATIONS.run(&writer).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(4)
            .acquire_timeout(WAIT)
            .connect_with(options.read_only(true).create_if_missing(false))
            .await?;
        Ok(Self { writer: Pool::Sqlite(writer), readers: Pool::Sqlite(readers), hook: Arc::default() })
    }

    async fn open_server(url: &str) -> Result<Self> {
        let options = PgConnectOptions::from_str(url)
            .map_err(|error| ControlError::Address(shown(url), error.to_string()))?
            .application_name("sakimori");
        // A claim that is committed is there after a crash of the server too, whatever its other users prefer.
        let writing = [("lock_timeout", "30s"), ("synchronous_commit", "on")];
        let writer = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(WAIT)
            .connect_with(options.clone().options(writing))
            .await?;
        MIGRATIONS.run(&writer).await?;
        let readers = PgPoolOptions::new()
            .max_connections(4)
            .acquire_timeout(WAIT)
            .connect_with(options.options([("default_transaction_read_only", "on")]))
            .await?;
        Ok(Self { writer: Pool::Postgres(writer), readers: Pool::Postgres(readers), hook: Arc::default() })
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
        let mut connection = self.transaction().await?;
        if matches!(connection, Connection::Postgres(_)) {
            sql::query("SELECT pg_advisory_xact_lock($1)").bind(ONE_WRITER).fetch_all(&mut connection).await?;
        }
        Ok(Change { connection, audited: Vec::new(), hook: Arc::clone(&self.hook) })
    }

    async fn transaction(&self) -> Result<Connection> {
        Ok(match &self.writer {
            Pool::Sqlite(pool) => Connection::Sqlite(pool.begin_with("BEGIN IMMEDIATE").await?),
            // What was committed while this waited for its turn is seen.
            Pool::Postgres(pool) => {
                Connection::Postgres(pool.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED").await?)
            }
        })
    }

    /// The connections for reading.
    pub fn read(&self) -> &Pool {
        &self.readers
    }

    /// Can the control state be read and written?
    ///
    /// # Errors
    /// What the database said.
    pub async fn ping(&self) -> Result<()> {
        sql::query("SELECT 1").fetch_one(&self.readers).await?;
        Ok(self.transaction().await?.rollback().await?)
    }

    /// Writes all rows of one moment into a new SQLite file, readable by its owner alone, wherever they are. Writers
    /// are not kept waiting.
    ///
    /// # Errors
    /// A file that is there already or cannot be written, or the database failed.
    pub async fn snapshot(&self, file: &std::path::Path) -> Result<()> {
        copy::snapshot(self, file).await
    }

    /// Takes all rows of a SQLite file that [`Control::snapshot`] wrote, in place of what is here. It is one
    /// transaction.
    ///
    /// # Errors
    /// A file that cannot be read, or the database failed; then nothing is changed.
    pub async fn take_over(&self, file: &std::path::Path) -> Result<()> {
        copy::take_over(self, file).await
    }

    /// Has nobody written anything here but a first start: no user, no agent, no flush?
    ///
    /// # Errors
    /// The database failed.
    pub async fn is_empty(&self) -> Result<bool> {
        let sql =
            "SELECT (SELECT COUNT(*) FROM users) + (SELECT COUNT(*) FROM agents) + (SELECT COUNT(*) FROM flushes)";
        Ok(sql::query_scalar::<i64>(sql).fetch_one(&self.readers).await? == 0)
    }

    /// Takes the database for one manager, until what this gives is dropped. A file is taken with the journal beside it;
    /// on a server it is a lock of a connection's own, which the server gives back when that ends.
    ///
    /// # Errors
    /// [`ControlError::Busy`] where another manager still has it after 30 s.
    pub async fn sole(&self) -> Result<Sole> {
        let Pool::Postgres(pool) = &self.readers else { return Ok(Sole { _connection: None }) };
        let mut connection = pool.acquire().await?.detach();
        // A manager whose machine went away is noticed in a minute.
        let alive =
            "SELECT set_config('tcp_keepalives_idle', '30', false), set_config('tcp_keepalives_interval', '10', false)";
        sqlx::query(alive).execute(&mut connection).await?;
        for _ in 0..WAIT.as_millis() / PAUSE.as_millis() {
            let sql = "SELECT pg_try_advisory_lock($1)";
            if sqlx::query_scalar(sql).bind(ONE_MANAGER).fetch_one(&mut connection).await? {
                return Ok(Sole { _connection: Some(connection) });
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(ControlError::Busy)
    }

    /// Closes all connections, after what is under way.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// The database is one manager's.
pub struct Sole {
    _connection: Option<PgConnection>,
}

/// One change: rows, audit entry and outbox row in one transaction. Dropped without [`Change::commit`] it
/// changes nothing.
pub struct Change {
    connection: Connection,
    audited: Vec<audit::Record>,
    hook: Arc<OnceLock<AuditHook>>,
}

impl Change {
    /// The connection, for the functions that write rows.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Writes the audit entry of this change, and its outbox row.
    ///
    /// # Errors
    /// The database failed; the change should then be dropped.
    pub async fn audit(&mut self, entry: &audit::Entry<'_>) -> Result<()> {
        let record = audit::append(&mut self.connection, entry).await?;
        self.audited.push(record);
        Ok(())
    }

    /// Makes the change durable, then tells the audit hook.
    ///
    /// # Errors
    /// The database failed; nothing is changed.
    pub async fn commit(self) -> Result<()> {
        self.connection.commit().await?;
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

/// An address without what may be a password.
fn shown(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let place = rest.split(['?', '#']).next().unwrap_or_default();
            format!("{scheme}://{}", place.rsplit('@').next().unwrap_or_default())
        }
        None => url.split(':').next().unwrap_or_default().to_owned(),
    }
}

/// The next value of a counter of a tenant, from 1. Within a transaction; a rolled back value comes again.
pub(crate) async fn next(connection: &mut Connection, tenant: &str, name: &str) -> Result<i64> {
    let sql = "INSERT INTO counters (tenant, name, value) VALUES ($1, $2, 1) \
               ON CONFLICT (tenant, name) DO UPDATE SET value = counters.value + 1 RETURNING value";
    Ok(sql::query_scalar(sql).bind(tenant).bind(name).fetch_one(connection).await?)
}

/// A time column.
pub(crate) fn time(row: &Row, column: &str) -> Result<Timestamp, sqlx::Error> {
    row.try_get(column).map(Timestamp::from_micros)
}

/// A time column that may be empty.
pub(crate) fn maybe_time(row: &Row, column: &str) -> Result<Option<Timestamp>, sqlx::Error> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(Timestamp::from_micros))
}

/// A unique key that is taken becomes [`ControlError::Exists`]. The change is over with it: a server does no more of it.
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
mod measure_tests;
#[cfg(test)]
#[path = "../../tests/postgres/mod.rs"]
mod postgres_server;
#[cfg(test)]
pub(crate) mod tests;
