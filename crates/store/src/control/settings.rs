//! Settings: small named values of a tenant, or of the installation (tenant `*`).

use super::Result;
use super::sql::{self, Connection, Pool};

/// The value of a setting.
///
/// # Errors
/// The database failed.
pub async fn get(pool: &Pool, tenant: &str, name: &str) -> Result<Option<String>> {
    let sql = "SELECT value FROM settings WHERE tenant = $1 AND name = $2";
    Ok(sql::query_scalar(sql).bind(tenant).bind(name).fetch_optional(pool).await?)
}

/// Sets a setting.
///
/// # Errors
/// The database failed.
pub async fn set(connection: &mut Connection, tenant: &str, name: &str, value: &str) -> Result<()> {
    let sql = "INSERT INTO settings (tenant, name, value) VALUES ($1, $2, $3) \
               ON CONFLICT (tenant, name) DO UPDATE SET value = excluded.value";
    sql::query(sql).bind(tenant).bind(name).bind(value).execute(connection).await?;
    Ok(())
}
