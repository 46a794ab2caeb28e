//! Saved searches: those of a person, and those that a person shares with all of the tenant.

use sakimori_model::Timestamp;

use super::sql::{self, Connection, FromRow, On, Pool, Row};
use super::{ControlError, Result, met, taken, time};

/// Most searches of one person.
pub const MOST_OF_OWNER: i64 = 200;
/// Most searches of a tenant.
pub const MOST: i64 = 5_000;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// Tenant.
    pub tenant: String,
    /// Its id.
    pub id: String,
    /// Its name, one of its owner's.
    pub name: String,
    /// `user:name` or `token:name`; `user:name@*` of one over all tenants.
    pub owner: String,
    /// Do all of the tenant see it?
    pub shared: bool,
    /// `search` or `sql`.
    pub language: String,
    /// Its text.
    pub query: String,
    /// From when.
    pub begins: String,
    /// Until when.
    pub ends: String,
    /// Names of fields with commas between.
    pub columns: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed.
    pub changed: Timestamp,
}

impl FromRow for Search {
    fn from_row(row: &Row) -> Result<Self, sqlx::Error> {
        Ok(Self {
            tenant: row.try_get("tenant")?,
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            owner: row.try_get("owner")?,
            shared: row.try_get("shared")?,
            language: row.try_get("language")?,
            query: row.try_get("query")?,
            begins: row.try_get("begins")?,
            ends: row.try_get("ends")?,
            columns: row.try_get("columns")?,
            created: time(row, "created")?,
            changed: time(row, "changed")?,
        })
    }
}

/// Makes one.
///
/// # Errors
/// The owner has one of this name, or there are as many as there may be.
pub async fn create(connection: &mut Connection, search: &Search) -> Result<()> {
    let own = "SELECT COUNT(*) FROM searches WHERE tenant = $1 AND owner = $2";
    let own: i64 = sql::query_scalar(own).bind(&search.tenant).bind(&search.owner).fetch_one(&mut *connection).await?;
    let all = "SELECT COUNT(*) FROM searches WHERE tenant = $1";
    let all: i64 = sql::query_scalar(all).bind(&search.tenant).fetch_one(&mut *connection).await?;
    if own >= MOST_OF_OWNER || all >= MOST {
        return Err(ControlError::Full("search"));
    }
    let sql = "INSERT INTO searches (tenant, id, name, owner, shared, language, query, begins, ends, columns, created, \
               changed) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
    sql::query(sql)
        .bind(&search.tenant)
        .bind(&search.id)
        .bind(&search.name)
        .bind(&search.owner)
        .bind(search.shared)
        .bind(&search.language)
        .bind(&search.query)
        .bind(&search.begins)
        .bind(&search.ends)
        .bind(&search.columns)
        .bind(search.created.micros())
        .bind(search.changed.micros())
        .execute(connection)
        .await
        .map_err(taken("search"))?;
    Ok(())
}

/// Writes one anew; owner and time of making stay.
///
/// # Errors
/// It is not there, or the owner has another of this name.
pub async fn put(connection: &mut Connection, search: &Search) -> Result<()> {
    let sql = "UPDATE searches SET name = $3, shared = $4, language = $5, query = $6, begins = $7, ends = $8, \
               columns = $9, changed = $10 WHERE tenant = $1 AND id = $2";
    let done = sql::query(sql)
        .bind(&search.tenant)
        .bind(&search.id)
        .bind(&search.name)
        .bind(search.shared)
        .bind(&search.language)
        .bind(&search.query)
        .bind(&search.begins)
        .bind(&search.ends)
        .bind(&search.columns)
        .bind(search.changed.micros())
        .execute(connection)
        .await
        .map_err(taken("search"))?;
    met(done, "search")
}

/// One that this person may see.
///
/// # Errors
/// It is not there for them.
pub async fn get<'a>(on: impl Into<On<'a>>, tenant: &str, id: &str, person: &str) -> Result<Search> {
    let sql = "SELECT * FROM searches WHERE tenant = $1 AND id = $2 AND (shared OR owner = $3)";
    let found = sql::query_as(sql).bind(tenant).bind(id).bind(person).fetch_optional(on).await?;
    found.ok_or(ControlError::Missing("search"))
}

/// Those that this person may see, after this name and id, in their order.
///
/// # Errors
/// The database failed.
pub async fn list(
    pool: &Pool,
    tenant: &str,
    person: &str,
    after: &(String, String),
    limit: i64,
) -> Result<Vec<Search>> {
    let sql = "SELECT * FROM searches WHERE tenant = $1 AND (shared OR owner = $2) AND \
               (name > $3 OR (name = $3 AND id > $4)) ORDER BY name, id LIMIT $5";
    let query = sql::query_as(sql).bind(tenant).bind(person).bind(&after.0).bind(&after.1).bind(limit);
    Ok(query.fetch_all(pool).await?)
}

/// Removes one.
///
/// # Errors
/// It is not there.
pub async fn delete(connection: &mut Connection, tenant: &str, id: &str) -> Result<()> {
    let sql = "DELETE FROM searches WHERE tenant = $1 AND id = $2";
    met(sql::query(sql).bind(tenant).bind(id).execute(connection).await?, "search")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Base, on_both};
    use super::super::users::tests::user;
    use super::super::{Control, users};
    use super::*;

    on_both!(
        a_search_is_its_owners_until_it_is_shared,
        searches_are_bounded,
        an_older_database_learns_whose_searches_are_of_one_over_all,
    );

    fn search(id: &str, owner: &str, shared: bool) -> Search {
        Search {
            tenant: "default".into(),
            id: id.into(),
            name: format!("name {id}"),
            owner: owner.into(),
            shared,
            language: "search".into(),
            query: "*".into(),
            begins: "1h".into(),
            ends: String::new(),
            columns: "source.ip".into(),
            created: Timestamp::from_secs(1),
            changed: Timestamp::from_secs(1),
        }
    }

    async fn a_search_is_its_owners_until_it_is_shared(base: Base) {
        let (_dir, control) = base.fresh().await;
        let mut change = control.begin().await.unwrap();
        let mut own = search("a", "user:ann", false);
        create(change.connection(), &own).await.unwrap();
        create(change.connection(), &search("b", "user:bob", true)).await.unwrap();
        assert!(get(change.connection(), "default", "a", "user:bob").await.is_err());
        assert!(get(change.connection(), "acme", "a", "user:ann").await.is_err());
        assert_eq!(get(change.connection(), "default", "a", "user:ann").await.unwrap(), own);
        own.shared = true;
        own.query = "user.name:root".into();
        put(change.connection(), &own).await.unwrap();
        assert_eq!(get(change.connection(), "default", "a", "user:bob").await.unwrap(), own);
        change.commit().await.unwrap();
        let after = Default::default();
        let seen = |list: Vec<Search>| list.into_iter().map(|one| one.id).collect::<Vec<_>>();
        assert_eq!(seen(list(control.read(), "default", "user:bob", &after, 9).await.unwrap()), ["a", "b"]);
        assert!(list(control.read(), "acme", "user:bob", &after, 9).await.unwrap().is_empty());
        let mut change = control.begin().await.unwrap();
        delete(change.connection(), "default", "a").await.unwrap();
        assert!(delete(change.connection(), "acme", "b").await.is_err());
    }

    /// As a database of before migration 23 has them: owners without a tenant.
    async fn an_older_database_learns_whose_searches_are_of_one_over_all(base: Base) {
        let dir = tempfile::tempdir().unwrap();
        let url = base.url(&dir).await;
        let control = Control::open(&url).await.unwrap();
        let mut change = control.begin().await.unwrap();
        for (tenant, id, name) in [("*", "1", "ann"), ("default", "2", "bob"), ("*", "3", "bob")] {
            users::create(change.connection(), &user(tenant, id, name)).await.unwrap();
        }
        for (id, owner) in [("a", "user:ann"), ("b", "user:bob"), ("c", "user:gone"), ("d", "token:ann")] {
            create(change.connection(), &search(id, owner, false)).await.unwrap();
        }
        sql::query("DELETE FROM _sqlx_migrations WHERE version = 23").execute(change.connection()).await.unwrap();
        change.commit().await.unwrap();
        control.close().await;
        let control = Control::open(&url).await.unwrap();
        let owners: Vec<String> =
            sql::query_scalar("SELECT owner FROM searches ORDER BY id").fetch_all(control.read()).await.unwrap();
        assert_eq!(owners, ["user:ann@*", "user:bob", "user:gone", "token:ann"]);
    }

    async fn searches_are_bounded(base: Base) {
        let (_dir, control) = base.fresh().await;
        let mut change = control.begin().await.unwrap();
        for number in 0..MOST_OF_OWNER {
            create(change.connection(), &search(&number.to_string(), "user:ann", false)).await.unwrap();
        }
        let more = search("more", "user:ann", false);
        assert!(matches!(create(change.connection(), &more).await, Err(ControlError::Full("search"))));
        create(change.connection(), &search("other", "user:bob", false)).await.unwrap();
    }
}
