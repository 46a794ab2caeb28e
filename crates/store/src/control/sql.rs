//! Statements over SQLite or PostgreSQL (docs/adr/0010): one text, in the subset that both know, and values of its four
//! types. What sqlx has for this (`Any`) knows no BOOLEAN column of SQLite; this is as much as is needed here.
//!
//! ```ignore
//! sql::query("DELETE FROM claims WHERE writer = $1").bind(writer).execute(connection).await?;
//! let found: Option<Note> = sql::query_as("SELECT * FROM alert_notes WHERE alert = $1").bind(id).fetch_optional(pool).await?;
//! ```

use std::borrow::Cow;
use std::marker::PhantomData;

use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use sqlx::postgres::{PgPool, PgRow, Postgres};
use sqlx::sqlite::{Sqlite, SqlitePool, SqliteRow};
use sqlx::{AssertSqlSafe, ColumnIndex, Decode, Row as _, SqlSafeStr, SqlStr, Transaction, Type};

/// A result of the database's own.
pub type Result<T> = std::result::Result<T, sqlx::Error>;

/// Connections for reading.
#[derive(Clone)]
pub enum Pool {
    /// To a file.
    Sqlite(SqlitePool),
    /// To a server.
    Postgres(PgPool),
}

impl Pool {
    /// Closes them, after what is under way.
    pub(super) async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

/// A transaction's connection.
pub enum Connection {
    /// To a file.
    Sqlite(Transaction<'static, Sqlite>),
    /// To a server.
    Postgres(Transaction<'static, Postgres>),
}

impl Connection {
    pub(super) async fn commit(self) -> Result<()> {
        match self {
            Self::Sqlite(tx) => tx.commit().await,
            Self::Postgres(tx) => tx.commit().await,
        }
    }

    pub(super) async fn rollback(self) -> Result<()> {
        match self {
            Self::Sqlite(tx) => tx.rollback().await,
            Self::Postgres(tx) => tx.rollback().await,
        }
    }
}

/// Where a statement runs: on a connection of the pool, or within a transaction.
pub enum On<'a> {
    /// Any connection.
    Pool(&'a Pool),
    /// This one.
    One(&'a mut Connection),
}

impl<'a> From<&'a Pool> for On<'a> {
    fn from(pool: &'a Pool) -> Self {
        Self::Pool(pool)
    }
}

impl<'a> From<&'a mut Connection> for On<'a> {
    fn from(connection: &'a mut Connection) -> Self {
        Self::One(connection)
    }
}

/// A row.
pub enum Row {
    /// Of a file.
    Sqlite(SqliteRow),
    /// Of a server.
    Postgres(PgRow),
}

/// A value that both can give: text, number, truth, bytes, and each or none.
pub trait Column: for<'r> Decode<'r, Sqlite> + Type<Sqlite> + for<'r> Decode<'r, Postgres> + Type<Postgres> {}
impl<T> Column for T where T: for<'r> Decode<'r, Sqlite> + Type<Sqlite> + for<'r> Decode<'r, Postgres> + Type<Postgres> {}

impl Row {
    /// A column by its name or place.
    ///
    /// # Errors
    /// There is none, or it is of another type.
    pub fn try_get<T: Column, I: ColumnIndex<SqliteRow> + ColumnIndex<PgRow>>(&self, column: I) -> Result<T> {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
    }
}

/// What a row is read as.
pub trait FromRow: Sized {
    /// Reads it.
    ///
    /// # Errors
    /// A column that is missing or of another type, or a value that cannot be read.
    fn from_row(row: &Row) -> Result<Self>;
}

macro_rules! tuples {
    ($($name:ident $at:literal),*) => {
        impl<$($name: Column),*> FromRow for ($($name,)*) {
            fn from_row(row: &Row) -> Result<Self> {
                Ok(($(row.try_get::<$name, usize>($at)?,)*))
            }
        }
    };
}
tuples!(A 0, B 1);
tuples!(A 0, B 1, C 2);

/// Reads a struct whose fields are called like its columns.
macro_rules! from_columns {
    ($name:ident: $($column:ident),* $(,)?) => {
        impl $crate::control::sql::FromRow for $name {
            fn from_row(row: &$crate::control::sql::Row) -> Result<Self, sqlx::Error> {
                Ok(Self { $($column: row.try_get(stringify!($column))?),* })
            }
        }
    };
}
pub(super) use from_columns;

/// A value that is bound to a statement.
#[derive(Debug)]
pub enum Value<'q> {
    /// TEXT.
    Text(Option<Cow<'q, str>>),
    /// BIGINT.
    Number(Option<i64>),
    /// BOOLEAN.
    Truth(Option<bool>),
    /// BYTEA.
    Bytes(Option<Cow<'q, [u8]>>),
}

macro_rules! values {
    ($($from:ty, $value:ident => $to:expr;)*) => { $(
        impl<'q> From<$from> for Value<'q> {
            fn from($value: $from) -> Self {
                $to
            }
        }
    )* };
}
values! {
    &'q str, value => Self::Text(Some(value.into()));
    &'q String, value => Self::Text(Some(value.as_str().into()));
    String, value => Self::Text(Some(value.into()));
    Option<&'q str>, value => Self::Text(value.map(Into::into));
    Option<String>, value => Self::Text(value.map(Into::into));
    &'q Option<String>, value => Self::Text(value.as_deref().map(Into::into));
    i64, value => Self::Number(Some(value));
    Option<i64>, value => Self::Number(value);
    bool, value => Self::Truth(Some(value));
    Option<bool>, value => Self::Truth(value);
    &'q [u8], value => Self::Bytes(Some(value.into()));
    &'q Vec<u8>, value => Self::Bytes(Some(value.as_slice().into()));
    Vec<u8>, value => Self::Bytes(Some(value.into()));
    Option<Vec<u8>>, value => Self::Bytes(value.map(Into::into));
    &'q Option<Vec<u8>>, value => Self::Bytes(value.as_deref().map(Into::into));
}

/// A statement with its values, whose rows are read as `T`.
pub struct Query<'q, T> {
    text: SqlStr,
    values: Vec<Value<'q>>,
    read: fn(Row) -> Result<T>,
    rows: PhantomData<T>,
}

/// A statement whose rows are taken as they are.
pub fn query<'q>(text: impl SqlSafeStr) -> Query<'q, Row> {
    Query { text: text.into_sql_str(), values: Vec::new(), read: Ok, rows: PhantomData }
}

/// A statement whose rows are read as `T`.
pub fn query_as<'q, T: FromRow>(text: impl SqlSafeStr) -> Query<'q, T> {
    let read = |row: Row| T::from_row(&row);
    Query { text: text.into_sql_str(), values: Vec::new(), read, rows: PhantomData }
}

/// A statement whose rows are their first column.
pub fn query_scalar<'q, T: Column>(text: impl SqlSafeStr) -> Query<'q, T> {
    let read = |row: Row| row.try_get::<T, usize>(0);
    Query { text: text.into_sql_str(), values: Vec::new(), read, rows: PhantomData }
}

/// The statement in sqlx's form for one of the two.
macro_rules! made {
    ($database:ty, $query:expr) => {{
        let mut made = sqlx::query::<$database>($query.text);
        for value in $query.values {
            made = match value {
                Value::Text(Some(Cow::Borrowed(text))) => made.bind(text),
                Value::Text(text) => made.bind(text.map(Cow::into_owned)),
                Value::Number(number) => made.bind(number),
                Value::Truth(truth) => made.bind(truth),
                Value::Bytes(Some(Cow::Borrowed(bytes))) => made.bind(bytes),
                Value::Bytes(bytes) => made.bind(bytes.map(Cow::into_owned)),
            };
        }
        made
    }};
}

/// Runs a statement where it is to run; `$row` makes the row of the answer.
macro_rules! run {
    ($query:expr, $on:expr, $method:ident, $answer:ident, $sqlite:expr, $postgres:expr) => {
        match $on.into() {
            On::Pool(Pool::Sqlite(pool)) => {
                let $answer = made!(Sqlite, $query).$method(pool).await?;
                $sqlite
            }
            On::Pool(Pool::Postgres(pool)) => {
                let $answer = made!(Postgres, $query).$method(pool).await?;
                $postgres
            }
            On::One(Connection::Sqlite(tx)) => {
                let $answer = made!(Sqlite, $query).$method(&mut **tx).await?;
                $sqlite
            }
            On::One(Connection::Postgres(tx)) => {
                let $answer = made!(Postgres, $query).$method(&mut **tx).await?;
                $postgres
            }
        }
    };
}

impl<'q, T> Query<'q, T> {
    /// Binds the next value.
    #[must_use]
    pub fn bind(mut self, value: impl Into<Value<'q>>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Runs it; gives how many rows it met.
    ///
    /// # Errors
    /// The database's.
    pub async fn execute<'a>(self, on: impl Into<On<'a>>) -> Result<u64> {
        Ok(run!(self, on, execute, done, done.rows_affected(), done.rows_affected()))
    }

    /// All rows.
    ///
    /// # Errors
    /// The database's, or a row that cannot be read.
    pub async fn fetch_all<'a>(self, on: impl Into<On<'a>>) -> Result<Vec<T>> {
        let read = self.read;
        run!(
            self,
            on,
            fetch_all,
            rows,
            rows.into_iter().map(|row| read(Row::Sqlite(row))).collect(),
            rows.into_iter().map(|row| read(Row::Postgres(row))).collect()
        )
    }

    /// The first row, where there is one.
    ///
    /// # Errors
    /// The database's, or a row that cannot be read.
    pub async fn fetch_optional<'a>(self, on: impl Into<On<'a>>) -> Result<Option<T>> {
        let read = self.read;
        run!(
            self,
            on,
            fetch_optional,
            row,
            row.map(|row| read(Row::Sqlite(row))).transpose(),
            row.map(|row| read(Row::Postgres(row))).transpose()
        )
    }

    /// The first row.
    ///
    /// # Errors
    /// There is none; the database's, or a row that cannot be read.
    pub async fn fetch_one<'a>(self, on: impl Into<On<'a>>) -> Result<T> {
        self.fetch_optional(on).await?.ok_or(sqlx::Error::RowNotFound)
    }
}

/// Rows of a statement without values, one after the other.
pub(super) fn rows<'a>(text: String, on: On<'a>) -> BoxStream<'a, Result<Row>> {
    let text = AssertSqlSafe(text);
    match on {
        On::Pool(Pool::Sqlite(pool)) => sqlx::query(text).fetch(pool).map_ok(Row::Sqlite).boxed(),
        On::Pool(Pool::Postgres(pool)) => sqlx::query(text).fetch(pool).map_ok(Row::Postgres).boxed(),
        On::One(Connection::Sqlite(tx)) => sqlx::query(text).fetch(&mut **tx).map_ok(Row::Sqlite).boxed(),
        On::One(Connection::Postgres(tx)) => sqlx::query(text).fetch(&mut **tx).map_ok(Row::Postgres).boxed(),
    }
}

/// A statement that is put together from pieces.
pub struct Builder<'q> {
    text: String,
    values: Vec<Value<'q>>,
}

impl<'q> Builder<'q> {
    /// Begins with this text.
    pub fn new(text: &'static str) -> Self {
        Self { text: text.to_owned(), values: Vec::new() }
    }

    /// Adds text: of the program, never of a user.
    pub fn push(&mut self, text: &'static str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Adds a value.
    pub fn push_bind(&mut self, value: impl Into<Value<'q>>) -> &mut Self {
        self.values.push(value.into());
        self.text.push_str(&format!("${}", self.values.len()));
        self
    }

    /// Adds values between brackets: ` IN ($1, $2)`; of none, what nothing is in.
    pub fn push_in<V: Into<Value<'q>>>(&mut self, values: impl IntoIterator<Item = V>) -> &mut Self {
        self.text.push_str(" IN (");
        let before = self.values.len();
        for value in values {
            if self.values.len() > before {
                self.text.push_str(", ");
            }
            self.push_bind(value);
        }
        self.text.push_str(if self.values.len() == before { "NULL)" } else { ")" });
        self
    }

    /// The statement, whose rows are taken as they are.
    pub fn build(self) -> Query<'q, Row> {
        Query { values: self.values, ..query(AssertSqlSafe(self.text)) }
    }

    /// The statement, whose rows are read as `T`.
    pub fn build_as<T: FromRow>(self) -> Query<'q, T> {
        Query { values: self.values, ..query_as(AssertSqlSafe(self.text)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_between_brackets_are_numbered_on_and_none_is_never_met() {
        let mut builder = Builder::new("SELECT 1 WHERE a = ");
        builder.push_bind("x").push(" AND b").push_in([1, 2]).push(" AND c").push_in(Vec::<i64>::new());
        assert_eq!(builder.text, "SELECT 1 WHERE a = $1 AND b IN ($2, $3) AND c IN (NULL)");
        assert_eq!(builder.values.len(), 3);
    }
}
