//! Passwords: argon2id (RFC 9106) off the async threads, few at a time, and logins that are slowed down.
//!
//! A hash takes 19 MiB and some tens of milliseconds, so an attacker could keep the machine busy with logins:
//! at most [`AT_ONCE`] are computed at a time, and who waits longer than [`PATIENCE`] is sent away. A name that
//! nobody has costs the same hash as one that somebody has.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use sakimori_model::Timestamp;
use sakimori_runtime::Clock;
use sakimori_store::control::users::{self, Role, User};
use sakimori_store::control::{ALL_TENANTS, Control, ControlError, DEFAULT_TENANT, audit, factors, passkeys, sessions};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::{self, Problem};
use super::secret;

/// Hashes that are computed at a time.
pub const AT_ONCE: usize = 2;
/// Shortest password, in characters.
pub const SHORTEST: usize = 12;
/// Longest password, in bytes.
pub const LONGEST: usize = 256;
const PATIENCE: Duration = Duration::from_secs(10);

/// Computes hashes, a few at a time.
#[derive(Clone, Debug)]
pub struct Hasher(Arc<Semaphore>);

impl Default for Hasher {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

/// A hash that no password has, to be compared where there is no user.
static NOBODY: LazyLock<String> = LazyLock::new(|| hash_now(&secret::password()).unwrap_or_default());

impl Hasher {
    /// Waits for one's turn to compute.
    ///
    /// # Errors
    /// Too many at the moment.
    pub async fn turn(&self) -> Result<Turn, Problem> {
        match tokio::time::timeout(PATIENCE, Arc::clone(&self.0).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Turn(Arc::new(permit))),
            _ => Err(Problem::new(problem::AUTH_BUSY).retry_after(5)),
        }
    }

    /// The hash of a new password, once it is long enough.
    ///
    /// # Errors
    /// Too short or too long; too many at the moment.
    pub async fn hash(&self, password: &str) -> Result<String, Problem> {
        if let Some(reason) = unfit(password) {
            return Err(Problem::new(problem::USER_INVALID).fault("password", reason));
        }
        let password = password.to_owned();
        let hash = self.turn().await?.run(move || hash_now(&password)).await?;
        hash.map_err(|error| Problem::failed(&error))
    }
}

/// The right to compute one hash at a time.
#[derive(Debug)]
pub struct Turn(Arc<OwnedSemaphorePermit>);

impl Turn {
    /// Is this the password of that hash? `None` as hash takes as long and is never true.
    ///
    /// # Errors
    /// The computation was given up.
    pub async fn verify(&self, password: &str, hash: Option<String>) -> Result<bool, Problem> {
        let password = password.to_owned();
        self.run(move || {
            // A user of single sign-on has no hash that is one.
            let hash = hash.filter(|hash| PasswordHash::new(hash).is_ok());
            let known = hash.is_some();
            let hash = hash.unwrap_or_else(|| NOBODY.clone());
            let fits = PasswordHash::new(&hash)
                .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok());
            known && fits
        })
        .await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
        let permit = Arc::clone(&self.0);
        let outcome = tokio::task::spawn_blocking(move || {
            // Held until the work ends, also where the request has gone away: who hangs up makes no room.
            let _permit = permit;
            work()
        });
        outcome.await.map_err(|error| Problem::failed(&error))
    }
}

fn hash_now(password: &str) -> Result<String, argon2::password_hash::Error> {
    let salt = SaltString::encode_b64(&secret::random::<16>())?;
    Ok(Argon2::default().hash_password(password.as_bytes(), &salt)?.to_string())
}

/// Why a password cannot be one.
pub fn unfit(password: &str) -> Option<String> {
    if password.chars().count() < SHORTEST {
        return Some(format!("a password has at least {SHORTEST} characters"));
    }
    (password.len() > LONGEST).then(|| format!("a password has at most {LONGEST} bytes"))
}

/// Seconds that a user's name waits after so many failures. Short: others must not lock the owner out.
pub fn user_wait(failures: i64) -> i64 {
    wait(failures, 5, 60)
}

/// Seconds that codes of a user wait after so many wrong ones. Who is asked for a code knows the password, so it is not
/// others who lock the owner out.
pub fn code_wait(failures: i64) -> i64 {
    wait(failures, 5, 900)
}

/// Seconds that an address waits after so many failures.
pub fn address_wait(failures: i64) -> i64 {
    wait(failures, 10, 900)
}

fn wait(failures: i64, free: i64, most: i64) -> i64 {
    let above = failures.saturating_sub(free);
    if above < 0 { 0 } else { (1_i64 << above.min(20)).min(most) }
}

/// Makes the user `admin` over all tenants where there is no user yet; returns its password, which is kept
/// nowhere.
///
/// # Errors
/// The database failed.
pub async fn ensure_first_user(control: &Control, clock: &dyn Clock) -> Result<Option<String>, ControlError> {
    let mut change = control.begin().await?;
    if users::any(change.connection()).await? {
        return Ok(None);
    }
    let (password, hash) = new_password(None).await?;
    let now = clock.now();
    let user = User {
        tenant: ALL_TENANTS.into(),
        id: sakimori_model::id::row_id(),
        name: "admin".into(),
        role: Role::Admin,
        password: hash,
        disabled: false,
        created: now,
        changed: now,
    };
    users::create(change.connection(), &user).await?;
    change.audit(&by_machine(&user, "users:create", now)).await?;
    change.commit().await?;
    Ok(Some(password))
}

/// Sets a user's password on the manager's own machine, whoever has forgotten it, and lets the user in again
/// where it was disabled or throttled. `tenant` is `*` for users over all; without one, users over all are looked
/// at first and the default tenant then. Without a password one is made. Returns the password.
///
/// # Errors
/// `Missing` where there is no such user; the database failed.
pub async fn reset_password(
    control: &Control,
    clock: &dyn Clock,
    tenant: Option<&str>,
    name: &str,
    password: Option<&str>,
) -> Result<String, ControlError> {
    let user = find(control, tenant, name).await?.ok_or(ControlError::Missing("user"))?;
    let (password, hash) = new_password(password).await?;
    let now = clock.now();
    let user = User { password: hash, disabled: false, changed: now, ..user };
    let mut change = control.begin().await?;
    users::update(change.connection(), &user).await?;
    sessions::forgive(change.connection(), throttle_tenant(tenant), &subject(name)).await?;
    change.audit(&by_machine(&user, "users:password", now)).await?;
    change.commit().await?;
    Ok(password)
}

/// Removes the codes and passkeys of a user on the manager's own machine, whoever has lost the device and the recovery
/// codes; the user's sessions end. `tenant` is as for [`reset_password`].
///
/// # Errors
/// `Missing` where there is no such user; the database failed.
pub async fn reset_factors(
    control: &Control,
    clock: &dyn Clock,
    tenant: Option<&str>,
    name: &str,
) -> Result<(), ControlError> {
    let user = find(control, tenant, name).await?.ok_or(ControlError::Missing("user"))?;
    let mut change = control.begin().await?;
    factors::remove_totp(change.connection(), &user.tenant, &user.id).await?;
    passkeys::delete_all(change.connection(), &user.tenant, &user.id).await?;
    sessions::delete_all(change.connection(), &user.tenant, &user.id).await?;
    for action in ["users:totp-reset", "users:passkeys-reset"] {
        change.audit(&by_machine(&user, action, clock.now())).await?;
    }
    change.commit().await
}

/// The user whom a login means.
pub(super) async fn find(control: &Control, tenant: Option<&str>, name: &str) -> Result<Option<User>, ControlError> {
    match tenant {
        Some(tenant) => users::by_name(control.read(), tenant, name).await,
        None => match users::by_name(control.read(), ALL_TENANTS, name).await? {
            Some(user) => Ok(Some(user)),
            None => users::by_name(control.read(), DEFAULT_TENANT, name).await,
        },
    }
}

/// The tenant under which the throttle knows a login. By what was typed, so that it says nothing about who exists.
pub(super) fn throttle_tenant(tenant: Option<&str>) -> &str {
    tenant.unwrap_or(ALL_TENANTS)
}

/// A name's subject in the throttle.
pub(super) fn subject(name: &str) -> String {
    format!("user:{name}")
}

async fn new_password(password: Option<&str>) -> Result<(String, String), ControlError> {
    let password = password.map_or_else(secret::password, str::to_owned);
    let hashed = password.clone();
    let hash = tokio::task::spawn_blocking(move || hash_now(&hashed)).await;
    let stored = |error: String| ControlError::Stored("password", error);
    let hash = hash.map_err(|error| stored(error.to_string()))?.map_err(|error| stored(error.to_string()))?;
    Ok((password, hash))
}

fn by_machine<'a>(user: &'a User, action: &'a str, time: Timestamp) -> audit::Entry<'a> {
    audit::Entry {
        tenant: &user.tenant,
        time,
        actor: "system",
        action,
        target: &user.id,
        before: None,
        after: None,
        address: "",
        request: "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sakimori_runtime::clock::ManualClock;

    #[test]
    fn waits_grow_and_end_somewhere() {
        assert_eq!([4, 5, 6, 10, 11, 900, i64::MAX].map(user_wait), [0, 1, 2, 32, 60, 60, 60]);
        assert_eq!([9, 10, 19, 20].map(address_wait), [0, 1, 512, 900]);
        assert_eq!([4, 5, 15, 900].map(code_wait), [0, 1, 900, 900]);
        assert_eq!(address_wait(i64::MIN), 0);
    }

    #[tokio::test]
    async fn a_hash_fits_its_password_and_nobody_fits_nothing() {
        let hasher = Hasher::default();
        let hash = hasher.hash("correct horse battery").await.unwrap();
        assert!(hash.starts_with("$argon2id$"));
        let turn = hasher.turn().await.unwrap();
        assert!(turn.verify("correct horse battery", Some(hash.clone())).await.unwrap());
        assert!(!turn.verify("correct horse batterx", Some(hash)).await.unwrap());
        for nothing in [None, Some("!".to_owned())] {
            assert!(!turn.verify("correct horse battery", nothing).await.unwrap());
        }
        assert_eq!(hasher.hash("short").await.unwrap_err().code.code, "users/invalid");
        assert_eq!(hasher.hash(&"x".repeat(257)).await.unwrap_err().code.code, "users/invalid");
    }

    #[tokio::test]
    async fn the_first_user_is_made_once_and_a_forgotten_password_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let control = Control::open(&format!("sqlite:{}/c.db", dir.path().display())).await.unwrap();
        let clock = ManualClock::at(Timestamp::from_secs(7));
        let first = ensure_first_user(&control, &clock).await.unwrap().unwrap();
        assert_eq!(ensure_first_user(&control, &clock).await.unwrap(), None);
        let user = find(&control, None, "admin").await.unwrap().unwrap();
        assert_eq!((user.tenant.as_str(), user.role), ("*", Role::Admin));
        let turn = Hasher::default().turn().await.unwrap();
        assert!(turn.verify(&first, Some(user.password)).await.unwrap());
        let new = reset_password(&control, &clock, None, "admin", None).await.unwrap();
        let user = find(&control, Some("*"), "admin").await.unwrap().unwrap();
        assert!(!turn.verify(&first, Some(user.password.clone())).await.unwrap());
        assert!(turn.verify(&new, Some(user.password.clone())).await.unwrap());
        assert!(matches!(reset_password(&control, &clock, None, "bob", None).await, Err(ControlError::Missing(_))));
        let totp = factors::Totp {
            tenant: "*".into(),
            user_id: user.id.clone(),
            sealed: "x".into(),
            confirmed: true,
            step: 0,
            created: clock.now(),
        };
        let mut change = control.begin().await.unwrap();
        factors::put_totp(change.connection(), &totp).await.unwrap();
        change.commit().await.unwrap();
        reset_factors(&control, &clock, None, "admin").await.unwrap();
        assert!(factors::totp(control.read(), "*", &user.id).await.unwrap().is_none());
        assert!(matches!(reset_factors(&control, &clock, None, "bob").await, Err(ControlError::Missing(_))));
        let verdicts = audit::verify(control.read(), &sakimori_store::control::Scope::All).await.unwrap();
        assert_eq!((verdicts[0].entries, verdicts[0].broken_at), (4, None));
    }
}
