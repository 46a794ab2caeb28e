//! Users who sign in at a provider: which of its accounts is whose. A subject is the provider's own name of an account
//! and is given to no other (OpenID Connect Core 1.0, section 2), so nothing else decides who somebody is.

use super::sql::{self, Connection, On};
use super::users::User;
use super::{Result, taken};

/// The user of an account.
///
/// # Errors
/// The database failed.
pub async fn user(on: impl Into<On<'_>>, provider: &str, subject: &str) -> Result<Option<User>> {
    let sql = "SELECT users.* FROM users JOIN provider_accounts ON provider_accounts.tenant = users.tenant \
               AND provider_accounts.user_id = users.id WHERE provider = $1 AND subject = $2";
    Ok(sql::query_as(sql).bind(provider).bind(subject).fetch_optional(on).await?)
}

/// The provider at which a user signs in; none for a local one.
///
/// # Errors
/// The database failed.
pub async fn provider(on: impl Into<On<'_>>, tenant: &str, user: &str) -> Result<Option<String>> {
    let sql = "SELECT provider FROM provider_accounts WHERE tenant = $1 AND user_id = $2";
    Ok(sql::query_scalar(sql).bind(tenant).bind(user).fetch_optional(on).await?)
}

/// Binds a new user to an account.
///
/// # Errors
/// The account is somebody's already.
pub async fn create(connection: &mut Connection, user: &User, provider: &str, subject: &str) -> Result<()> {
    let sql = "INSERT INTO provider_accounts (tenant, user_id, provider, subject) VALUES ($1, $2, $3, $4)";
    let query = sql::query(sql).bind(&user.tenant).bind(&user.id).bind(provider).bind(subject);
    query.execute(connection).await.map_err(taken("user"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Base, on_both};
    use super::super::users::{self, tests::user as made};
    use super::*;
    use crate::control::ControlError;

    on_both!(an_account_is_one_users,);

    async fn an_account_is_one_users(base: Base) {
        let (_dir, control) = base.fresh().await;
        let mut change = control.begin().await.unwrap();
        let on = change.connection();
        for (id, name) in [("1", "ann"), ("2", "bob")] {
            users::create(on, &made("acme", id, name)).await.unwrap();
        }
        create(on, &made("acme", "1", "ann"), "corp", "s-1").await.unwrap();
        create(on, &made("acme", "2", "bob"), "other", "s-1").await.unwrap();
        assert_eq!(user(&mut *on, "corp", "s-1").await.unwrap().unwrap().name, "ann");
        assert!(user(&mut *on, "corp", "s-2").await.unwrap().is_none());
        assert_eq!(provider(&mut *on, "acme", "2").await.unwrap().as_deref(), Some("other"));
        assert_eq!(provider(&mut *on, "default", "2").await.unwrap(), None);
        users::delete(on, "acme", "2").await.unwrap();
        assert!(user(&mut *on, "other", "s-1").await.unwrap().is_none());
        users::create(on, &made("acme", "3", "cat")).await.unwrap();
        let again = create(on, &made("acme", "3", "cat"), "corp", "s-1").await;
        assert!(matches!(again, Err(ControlError::Exists("user"))));
    }
}
