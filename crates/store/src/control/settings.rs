//! Settings: small named values of a tenant, or of the installation (tenant `*`).

use sqlx::sqlite::{SqliteConnection, SqlitePool};

use super::Result;

/// The value of a setting.
///
/// # Errors
/// The database failed.
pub async fn get(pool: &SqlitePool, tenant: &str, name: &str) -> Result<Option<String>> {
    let sql = "SELECT value FROM settings WHERE tenant = $1 AND name = $2";
    Ok(sqlx::query_scalar(sql).bind(tenant).bind(name).fetch_optional(pool).await?)
}

/// Sets a setting.
///
/// # Errors
/// The database failed.
pub async fn set(connection: &mut SqliteConnection, tenant: &str, name: &str, value: &str) -> Result<()> {
    let sql = "INSERT INTO settings (tenant, name, value) VALUES ($1, $2, $3) \
               ON CONFLICT (tenant, name) DO UPDATE SET value = excluded.value";
    sqlx::query(sql).bind(tenant).bind(name).bind(value).execute(connection).await?;
    Ok(())
}
