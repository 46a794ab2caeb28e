//! Policy layers and their history.
//!
//! A layer is replaced whole; its former versions stay. Numbers grow over all layers of a tenant, so the
//! greatest one names the state of the tenant's whole policy: an agent never takes an older one.

use sakimori_model::Timestamp;
use serde_json::{Map, Value as Json};

use super::sql::{self, Connection, FromRow, On, Pool, Row};
use super::{Result, next, time};

/// One version of a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    /// Whose.
    pub tenant: String,
    /// `tenant`, `group:<name>` or `host:<agent id>`.
    pub layer: String,
    /// Grows over all layers of the tenant.
    pub number: i64,
    /// What the layer says.
    pub tree: Map<String, Json>,
    /// Who wrote it.
    pub author: String,
    /// When.
    pub created: Timestamp,
    /// Why, in somebody's words; may be empty.
    pub reason: String,
}

impl FromRow for Version {
    fn from_row(row: &Row) -> Result<Self, sqlx::Error> {
        let tree: String = row.try_get("tree")?;
        Ok(Self {
            tenant: row.try_get("tenant")?,
            layer: row.try_get("layer")?,
            number: row.try_get("number")?,
            tree: serde_json::from_str(&tree).map_err(|error| sqlx::Error::Decode(error.into()))?,
            author: row.try_get("author")?,
            created: time(row, "created")?,
            reason: row.try_get("reason")?,
        })
    }
}

/// Writes a new version of a layer; returns it with its number.
///
/// # Errors
/// The database failed.
pub async fn put(
    connection: &mut Connection,
    tenant: &str,
    layer: &str,
    tree: Map<String, Json>,
    (author, reason): (&str, &str),
    now: Timestamp,
) -> Result<Version> {
    let number = next(connection, tenant, "policy").await?;
    let sql = "INSERT INTO policies (tenant, layer, number, tree, author, created, reason) \
               VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let text = Json::Object(tree.clone()).to_string();
    sql::query(sql)
        .bind(tenant)
        .bind(layer)
        .bind(number)
        .bind(text)
        .bind(author)
        .bind(now.micros())
        .bind(reason)
        .execute(connection)
        .await?;
    let (author, reason) = (author.to_owned(), reason.to_owned());
    Ok(Version { tenant: tenant.into(), layer: layer.into(), number, tree, author, created: now, reason })
}

/// A number of its own, greater than all that were given out to a tenant's policy.
///
/// # Errors
/// The database failed.
pub async fn take_number(connection: &mut Connection, tenant: &str) -> Result<i64> {
    next(connection, tenant, "policy").await
}

/// One version of a layer; `None` where there is none of this number.
///
/// # Errors
/// The database failed.
pub async fn version<'a>(on: impl Into<On<'a>>, tenant: &str, layer: &str, number: i64) -> Result<Option<Version>> {
    let sql = "SELECT * FROM policies WHERE tenant = $1 AND layer = $2 AND number = $3";
    Ok(sql::query_as(sql).bind(tenant).bind(layer).bind(number).fetch_optional(on).await?)
}

/// Lets a tenant's numbers go on so far above those that were given out: the layer of all its hosts is written again as
/// it is, so that agents take the policy even where they have one of a later number.
///
/// # Errors
/// The database failed.
pub async fn step(connection: &mut Connection, tenant: &str, by: i64, now: Timestamp) -> Result<Version> {
    let sql = "INSERT INTO counters (tenant, name, value) VALUES ($1, 'policy', $2) \
               ON CONFLICT (tenant, name) DO UPDATE SET value = counters.value + excluded.value";
    sql::query(sql).bind(tenant).bind(by).execute(&mut *connection).await?;
    let current = current(&mut *connection, tenant).await?;
    let tree = current.into_iter().find(|version| version.layer == "tenant").map(|version| version.tree);
    put(connection, tenant, "tenant", tree.unwrap_or_default(), ("system", "restored from a backup"), now).await
}

/// The version in force of every layer of a tenant, in the order of their names.
///
/// # Errors
/// The database failed.
pub async fn current<'a>(on: impl Into<On<'a>>, tenant: &str) -> Result<Vec<Version>> {
    let sql = "SELECT * FROM policies WHERE tenant = $1 AND number IN \
               (SELECT MAX(number) FROM policies WHERE tenant = $1 GROUP BY layer) ORDER BY layer";
    Ok(sql::query_as(sql).bind(tenant).fetch_all(on).await?)
}

/// Versions of one layer before this number, newest first.
///
/// # Errors
/// The database failed.
pub async fn history(pool: &Pool, tenant: &str, layer: &str, before: i64, limit: i64) -> Result<Vec<Version>> {
    let sql = "SELECT * FROM policies WHERE tenant = $1 AND layer = $2 AND number < $3 ORDER BY number DESC LIMIT $4";
    Ok(sql::query_as(sql).bind(tenant).bind(layer).bind(before).bind(limit).fetch_all(pool).await?)
}

/// The number of a tenant's policy as it stands; 0 where nobody has written a layer.
///
/// # Errors
/// The database failed.
pub async fn number(pool: &Pool, tenant: &str) -> Result<i64> {
    let sql = "SELECT COALESCE(MAX(number), 0) FROM policies WHERE tenant = $1";
    Ok(sql::query_scalar(sql).bind(tenant).fetch_one(pool).await?)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Base, on_both};
    use super::*;

    on_both!(the_newest_version_of_each_layer_is_in_force_and_history_stays,);

    fn tree(value: i64) -> Map<String, Json> {
        [("a".to_owned(), Json::from(value))].into_iter().collect()
    }

    async fn the_newest_version_of_each_layer_is_in_force_and_history_stays(base: Base) {
        let (_dir, control) = base.fresh().await;
        let now = Timestamp::from_secs(3);
        let mut change = control.begin().await.unwrap();
        for (tenant, layer, value) in
            [("default", "tenant", 1), ("default", "host:x", 2), ("default", "tenant", 3), ("acme", "tenant", 4)]
        {
            put(change.connection(), tenant, layer, tree(value), ("user:ann", "why"), now).await.unwrap();
        }
        let current = current(change.connection(), "default").await.unwrap();
        change.commit().await.unwrap();
        let shown: Vec<_> =
            current.iter().map(|version| (version.layer.as_str(), version.number, &version.tree)).collect();
        assert_eq!(shown, [("host:x", 2, &tree(2)), ("tenant", 3, &tree(3))]);
        let history = history(control.read(), "default", "tenant", i64::MAX, 9).await.unwrap();
        assert_eq!(history.iter().map(|version| version.number).collect::<Vec<_>>(), [3, 1]);
        let one = version(control.read(), "default", "tenant", 1).await.unwrap().unwrap();
        assert_eq!((one.tree, one.reason.as_str()), (tree(1), "why"));
        for (tenant, layer, number) in [("default", "tenant", 2), ("acme", "tenant", 3), ("default", "host:x", 1)] {
            assert_eq!(version(control.read(), tenant, layer, number).await.unwrap(), None);
        }
        assert_eq!(number(control.read(), "default").await.unwrap(), 3);
        assert_eq!(number(control.read(), "nobody").await.unwrap(), 0);
    }
}
