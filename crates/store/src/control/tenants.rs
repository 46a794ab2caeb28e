//! Tenants: whose data is whose. A default installation has the one tenant `default`.

use sakimori_model::Timestamp;

use super::sql::{self, Connection, FromRow, Pool, Row};
use super::{ALL_TENANTS, Result, taken, time};

/// One tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Stable slug, also the lake's partition and `organization.id`.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
}

impl FromRow for Tenant {
    fn from_row(row: &Row) -> Result<Self, sqlx::Error> {
        Ok(Self { id: row.try_get("id")?, name: row.try_get("name")?, created: time(row, "created")? })
    }
}

/// May this be the id of a tenant? Lower-case letters, digits and inner hyphens, 1 to 63 characters: what is
/// safe in a path, a partition and a header.
pub fn valid_id(id: &str) -> bool {
    (1..=63).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !id.starts_with('-')
        && !id.ends_with('-')
        && id != ALL_TENANTS
}

/// Makes a tenant.
///
/// # Errors
/// The id is taken.
pub async fn create(connection: &mut Connection, tenant: &Tenant) -> Result<()> {
    sql::query("INSERT INTO tenants (id, name, created) VALUES ($1, $2, $3)")
        .bind(&tenant.id)
        .bind(&tenant.name)
        .bind(tenant.created.micros())
        .execute(connection)
        .await
        .map_err(taken("tenant"))?;
    Ok(())
}

/// The tenant of this id.
///
/// # Errors
/// The database failed.
pub async fn get(pool: &Pool, id: &str) -> Result<Option<Tenant>> {
    Ok(sql::query_as("SELECT * FROM tenants WHERE id = $1").bind(id).fetch_optional(pool).await?)
}

/// Tenants after this id, in its order.
///
/// # Errors
/// The database failed.
pub async fn list(pool: &Pool, after: &str, limit: i64) -> Result<Vec<Tenant>> {
    let sql = "SELECT * FROM tenants WHERE id > $1 ORDER BY id LIMIT $2";
    Ok(sql::query_as(sql).bind(after).bind(limit).fetch_all(pool).await?)
}

#[cfg(test)]
mod tests {
    use super::super::ControlError;
    use super::super::tests::{Base, on_both};
    use super::*;

    on_both!(there_is_a_default_tenant_and_ids_are_unique,);

    async fn there_is_a_default_tenant_and_ids_are_unique(base: Base) {
        let (_dir, control) = base.fresh().await;
        let tenant = Tenant { id: "acme".into(), name: "Acme".into(), created: Timestamp::from_secs(5) };
        let mut change = control.begin().await.unwrap();
        create(change.connection(), &tenant).await.unwrap();
        change.commit().await.unwrap();
        let mut change = control.begin().await.unwrap();
        assert!(matches!(create(change.connection(), &tenant).await, Err(ControlError::Exists("tenant"))));
        drop(change);
        let ids: Vec<_> = list(control.read(), "", 9).await.unwrap().into_iter().map(|tenant| tenant.id).collect();
        assert_eq!(ids, ["acme", "default"]);
        assert_eq!(get(control.read(), "acme").await.unwrap(), Some(tenant));
    }

    #[test]
    fn ids_are_safe_in_a_path() {
        assert!(valid_id("acme-2") && valid_id("default"));
        for bad in ["", "*", "A", "a/b", "..", "-a", "a-", "a b", &"a".repeat(64)] {
            assert!(!valid_id(bad), "{bad}");
        }
    }
}
