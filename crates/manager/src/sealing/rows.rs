//! The secrets in the database.

use sakimori_runtime::sealing::{KeyId, Place, SEALED, sealed_by};
use sakimori_store::control::{Control, factors, secrets};

use super::{Error, Opener, Result, Step};

/// The place of a tenant's secret.
pub(super) fn place<'a>(tenant: &'a str, name: &'a str) -> Place<'a> {
    Place { purpose: "secret", tenant, name }
}

/// How an error calls it.
pub(super) fn words(tenant: &str, name: &str) -> String {
    format!("the secret {name} of the tenant {tenant}")
}

/// The place of the secret of a user's codes.
pub(super) fn totp_place<'a>(tenant: &'a str, user: &'a str) -> Place<'a> {
    Place { purpose: "totp", tenant, name: user }
}

/// How an error calls it.
pub(super) fn totp_words(tenant: &str, user: &str) -> String {
    format!("the secret of the codes of user {user} of the tenant {tenant}")
}

/// A secret, and its key, where there is one.
pub(super) async fn any_sealed(control: &Control) -> Result<Option<(String, KeyId)>> {
    let all = secrets::sealed_otherwise(control.read(), "no seal begins so").await?;
    let found = all.iter().find_map(|one| Some((words(&one.tenant, &one.name), sealed_by(&one.sealed)?)));
    if found.is_some() {
        return Ok(found);
    }
    let all = factors::sealed_otherwise(control.read(), "no seal begins so").await?;
    Ok(all.iter().find_map(|one| Some((totp_words(&one.tenant, &one.user_id), sealed_by(&one.sealed)?))))
}

/// Seals those anew that an older key sealed, in one transaction; gives how many. One that does not open stays as it
/// is, and the log says so: it can be set again, and a manager does not stand still for it.
pub(super) async fn settle(by: &Opener<'_>, control: &Control, step: Step<'_>) -> Result<usize> {
    let beginning = format!("{SEALED}{}:", by.ring.newest());
    let named = secrets::sealed_otherwise(control.read(), &beginning).await?.is_empty();
    if named && factors::sealed_otherwise(control.read(), &beginning).await?.is_empty() {
        return Ok(0);
    }
    let mut count = 0;
    let mut change = control.begin().await?;
    // Again, now that nobody else changes them.
    for one in secrets::sealed_otherwise(change.connection(), &beginning).await? {
        let place = place(&one.tenant, &one.name);
        match by.open(place, &words(&one.tenant, &one.name), &one.sealed) {
            Ok(secret) => {
                let sealed = by.ring.seal(place, secret.expose())?;
                secrets::seal_anew(change.connection(), &one.tenant, &one.name, &sealed).await?;
                count += 1;
            }
            Err(error @ (Error::Other { .. } | Error::Damaged { .. })) => {
                tracing::warn!(%error, "a secret cannot be opened; set it again with sakimori secrets set");
            }
            Err(error) => return Err(error),
        }
    }
    for one in factors::sealed_otherwise(change.connection(), &beginning).await? {
        let place = totp_place(&one.tenant, &one.user_id);
        match by.open(place, &totp_words(&one.tenant, &one.user_id), &one.sealed) {
            Ok(secret) => {
                let sealed = by.ring.seal(place, secret.expose())?;
                factors::seal_anew(change.connection(), &one.tenant, &one.user_id, &sealed).await?;
                count += 1;
            }
            Err(error @ (Error::Other { .. } | Error::Damaged { .. })) => {
                tracing::warn!(%error, "codes cannot be checked; reset them with sakimori user reset-totp");
            }
            Err(error) => return Err(error),
        }
    }
    step("rows");
    change.commit().await?;
    Ok(count)
}
