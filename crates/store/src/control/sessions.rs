//! Login sessions, and the throttle that slows down guessing.
//!
//! The throttle counts failures per subject (a user's name, a network of the caller) and names the moment
//! before which no further try is looked at. An attacker can name any number of subjects: the table keeps
//! the newest [`MOST_SUBJECTS`] only. Of guessed codes (`code:`) nobody makes any number: they are counted of who knows
//! a password. So they are no room for names, and stay while others go.

use sakimori_model::Timestamp;
use sakimori_model::ledger::Hash;

use super::sql::{self, Connection, FromRow, Pool, Row};
use super::users::User;
use super::{Result, time};

/// Most sessions that one user has at a time; the oldest end.
pub const MOST_SESSIONS: i64 = 32;
/// Most subjects that the throttle remembers.
pub const MOST_SUBJECTS: i64 = 10_000;
/// After this time without a failure (seconds) a subject is forgotten.
pub const FORGET_SECONDS: i64 = 3_600;

/// One session, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Tenant of its user.
    pub tenant: String,
    /// UUIDv7.
    pub id: String,
    /// Its user.
    pub user_id: String,
    /// From where it was opened.
    pub address: String,
    /// When opened.
    pub created: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
    /// A browser's: it ends when it is idle, too.
    pub browser: bool,
    /// Its last request, to within [`SEEN_SECONDS`].
    pub seen: Timestamp,
    /// How it was opened: `password`, `passkey`, `sso:<provider>`.
    pub way: String,
    /// Was more shown than a password?
    pub strong: bool,
    /// What the browser or program calls itself.
    pub agent: String,
}

/// How exactly the last request is kept, in seconds: more would write at every request.
pub const SEEN_SECONDS: i64 = 60;

impl FromRow for Session {
    fn from_row(row: &Row) -> Result<Self, sqlx::Error> {
        Ok(Self {
            tenant: row.try_get("tenant")?,
            id: row.try_get("id")?,
            user_id: row.try_get("user_id")?,
            address: row.try_get("address")?,
            created: time(row, "created")?,
            expires: time(row, "expires")?,
            browser: row.try_get("browser")?,
            seen: time(row, "seen")?,
            way: row.try_get("way")?,
            strong: row.try_get("strong")?,
            agent: row.try_get("agent")?,
        })
    }
}

/// Opens a session; sessions that have ended, and the user's oldest above [`MOST_SESSIONS`], go.
///
/// # Errors
/// The database failed.
pub async fn create(connection: &mut Connection, session: &Session, secret_hash: &Hash) -> Result<()> {
    sql::query("DELETE FROM sessions WHERE expires <= $1")
        .bind(session.created.micros())
        .execute(&mut *connection)
        .await?;
    let oldest = "DELETE FROM sessions WHERE tenant = $1 AND id IN \
                  (SELECT id FROM sessions WHERE tenant = $1 AND user_id = $2 ORDER BY id DESC LIMIT 1000 OFFSET $3)";
    sql::query(oldest)
        .bind(&session.tenant)
        .bind(&session.user_id)
        .bind(MOST_SESSIONS - 1)
        .execute(&mut *connection)
        .await?;
    let sql = "INSERT INTO sessions (tenant, id, user_id, secret_hash, address, created, expires, browser, seen, way, \
               strong, agent) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
    sql::query(sql)
        .bind(&session.tenant)
        .bind(&session.id)
        .bind(&session.user_id)
        .bind(secret_hash.as_slice())
        .bind(&session.address)
        .bind(session.created.micros())
        .bind(session.expires.micros())
        .bind(session.browser)
        .bind(session.seen.micros())
        .bind(&session.way)
        .bind(session.strong)
        .bind(&session.agent)
        .execute(connection)
        .await?;
    Ok(())
}

/// The session whose secret hashes to this, with its user, where neither has ended. A browser's has ended where nothing
/// was asked for since `idle`.
///
/// # Errors
/// The database failed.
pub async fn by_secret(
    pool: &Pool,
    secret_hash: &Hash,
    now: Timestamp,
    idle: Timestamp,
) -> Result<Option<(Session, User)>> {
    let sql = "SELECT * FROM sessions WHERE secret_hash = $1 AND expires > $2 AND (NOT browser OR seen > $3)";
    let query = sql::query_as(sql).bind(secret_hash.as_slice()).bind(now.micros()).bind(idle.micros());
    let Some(session): Option<Session> = query.fetch_optional(pool).await? else { return Ok(None) };
    let sql = "SELECT * FROM users WHERE tenant = $1 AND id = $2 AND NOT disabled";
    let user = sql::query_as(sql).bind(&session.tenant).bind(&session.user_id).fetch_optional(pool).await?;
    Ok(user.map(|user| (session, user)))
}

/// Is this session still open? As [`by_secret`] judges it.
///
/// # Errors
/// The database failed.
pub async fn exists(pool: &Pool, tenant: &str, id: &str, now: Timestamp, idle: Timestamp) -> Result<bool> {
    let sql =
        "SELECT COUNT(*) FROM sessions WHERE tenant = $1 AND id = $2 AND expires > $3 AND (NOT browser OR seen > $4)";
    let query = sql::query_scalar::<i64>(sql).bind(tenant).bind(id).bind(now.micros()).bind(idle.micros());
    Ok(query.fetch_one(pool).await? > 0)
}

/// Addresses from which sessions over this tenant, or over all, are open; the newest first, at most so many.
///
/// # Errors
/// The database failed.
pub async fn addresses(pool: &Pool, tenant: &str, now: Timestamp, most: i64) -> Result<Vec<String>> {
    let sql = "SELECT address FROM sessions WHERE tenant IN ($1, '*') AND expires > $2 AND address <> '' \
               GROUP BY address ORDER BY MAX(created) DESC, address LIMIT $3";
    Ok(sql::query_scalar(sql).bind(tenant).bind(now.micros()).bind(most).fetch_all(pool).await?)
}

/// Ends a session. One that is not there has ended already.
///
/// # Errors
/// The database failed.
pub async fn delete(connection: &mut Connection, tenant: &str, id: &str) -> Result<()> {
    sql::query("DELETE FROM sessions WHERE tenant = $1 AND id = $2").bind(tenant).bind(id).execute(connection).await?;
    Ok(())
}

/// Notes that something was asked for in a session.
///
/// # Errors
/// The database failed.
pub async fn seen(connection: &mut Connection, tenant: &str, id: &str, now: Timestamp) -> Result<()> {
    let sql = "UPDATE sessions SET seen = $3 WHERE tenant = $1 AND id = $2";
    sql::query(sql).bind(tenant).bind(id).bind(now.micros()).execute(connection).await?;
    Ok(())
}

/// Notes that more than a password was shown in a session.
///
/// # Errors
/// The database failed.
pub async fn strengthen(connection: &mut Connection, tenant: &str, id: &str) -> Result<()> {
    let sql = "UPDATE sessions SET strong = TRUE WHERE tenant = $1 AND id = $2";
    sql::query(sql).bind(tenant).bind(id).execute(connection).await?;
    Ok(())
}

/// A user's sessions that have not ended, the newest first; [`MOST_SESSIONS`] at the most.
///
/// # Errors
/// The database failed.
pub async fn of_user(pool: &Pool, tenant: &str, user: &str, now: Timestamp, idle: Timestamp) -> Result<Vec<Session>> {
    let sql = "SELECT * FROM sessions WHERE tenant = $1 AND user_id = $2 AND expires > $3 \
               AND (NOT browser OR seen > $4) ORDER BY id DESC";
    let query = sql::query_as(sql).bind(tenant).bind(user).bind(now.micros()).bind(idle.micros());
    Ok(query.fetch_all(pool).await?)
}

/// Ends one session of a user; false where the user has none of this id.
///
/// # Errors
/// The database failed.
pub async fn delete_of(connection: &mut Connection, tenant: &str, user: &str, id: &str) -> Result<bool> {
    let sql = "DELETE FROM sessions WHERE tenant = $1 AND user_id = $2 AND id = $3";
    Ok(sql::query(sql).bind(tenant).bind(user).bind(id).execute(connection).await? > 0)
}

/// Ends the session whose secret hashes to this: a browser that signs in again has no use for it.
///
/// # Errors
/// The database failed.
pub async fn delete_secret(connection: &mut Connection, secret_hash: &Hash) -> Result<()> {
    let sql = "DELETE FROM sessions WHERE secret_hash = $1";
    sql::query(sql).bind(secret_hash.as_slice()).execute(connection).await?;
    Ok(())
}

/// Ends all sessions of a user.
///
/// # Errors
/// The database failed.
pub async fn delete_all(connection: &mut Connection, tenant: &str, user: &str) -> Result<()> {
    let sql = "DELETE FROM sessions WHERE tenant = $1 AND user_id = $2";
    sql::query(sql).bind(tenant).bind(user).execute(connection).await?;
    Ok(())
}

/// Until when a subject has to wait; `None` where it has not.
///
/// # Errors
/// The database failed.
pub async fn throttled(pool: &Pool, tenant: &str, subject: &str, now: Timestamp) -> Result<Option<Timestamp>> {
    let sql = "SELECT until FROM login_throttle WHERE tenant = $1 AND subject = $2 AND until > $3";
    let until: Option<i64> =
        sql::query_scalar(sql).bind(tenant).bind(subject).bind(now.micros()).fetch_optional(pool).await?;
    Ok(until.map(Timestamp::from_micros))
}

/// Counts a failure of a subject. `wait(failures)` says for how many seconds the next try is not looked at.
///
/// # Errors
/// The database failed.
pub async fn failed(
    connection: &mut Connection,
    tenant: &str,
    subject: &str,
    now: Timestamp,
    wait: impl FnOnce(i64) -> i64,
) -> Result<()> {
    let old = now.plus_secs(-FORGET_SECONDS).micros();
    sql::query("DELETE FROM login_throttle WHERE last < $1").bind(old).execute(&mut *connection).await?;
    let sql = "INSERT INTO login_throttle (tenant, subject, failures, last, until) VALUES ($1, $2, 1, $3, $3) \
               ON CONFLICT (tenant, subject) DO UPDATE SET failures = login_throttle.failures + 1, last = excluded.last \
               RETURNING failures";
    let failures: i64 =
        sql::query_scalar(sql).bind(tenant).bind(subject).bind(now.micros()).fetch_one(&mut *connection).await?;
    let until = now.plus_secs(wait(failures)).micros();
    sql::query("UPDATE login_throttle SET until = $3 WHERE tenant = $1 AND subject = $2")
        .bind(tenant)
        .bind(subject)
        .bind(until)
        .execute(&mut *connection)
        .await?;
    let count: i64 = sql::query_scalar("SELECT COUNT(*) FROM login_throttle").fetch_one(&mut *connection).await?;
    if count > MOST_SUBJECTS {
        let sql = "DELETE FROM login_throttle WHERE (tenant, subject) IN \
                   (SELECT tenant, subject FROM login_throttle \
                   ORDER BY CASE WHEN subject LIKE 'code:%' THEN 1 ELSE 0 END, last, tenant, subject LIMIT $1)";
        sql::query(sql).bind(count - MOST_SUBJECTS).execute(connection).await?;
    }
    Ok(())
}

/// Forgets the failures of a subject.
///
/// # Errors
/// The database failed.
pub async fn forgive(connection: &mut Connection, tenant: &str, subject: &str) -> Result<()> {
    let sql = "DELETE FROM login_throttle WHERE tenant = $1 AND subject = $2";
    sql::query(sql).bind(tenant).bind(subject).execute(connection).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Control;
    use super::super::tests::{Base, on_both};
    use super::super::users::{self, Role};
    use super::*;

    on_both!(sessions_end_with_time_user_and_number, the_throttle_backs_off_forgives_and_stays_bounded,);

    async fn with_user(base: Base) -> (tempfile::TempDir, Control, User) {
        let (dir, control) = base.fresh().await;
        let now = Timestamp::from_secs(1);
        let user = User {
            tenant: "default".into(),
            id: "u".into(),
            name: "ann".into(),
            role: Role::Viewer,
            password: "x".into(),
            disabled: false,
            created: now,
            changed: now,
        };
        let mut change = control.begin().await.unwrap();
        users::create(change.connection(), &user).await.unwrap();
        change.commit().await.unwrap();
        (dir, control, user)
    }

    fn session(number: u8) -> (Session, Hash) {
        let session = Session {
            tenant: "default".into(),
            id: format!("{number:03}"),
            user_id: "u".into(),
            address: "127.0.0.1".into(),
            created: Timestamp::from_secs(10),
            expires: Timestamp::from_secs(100),
            browser: number == 20,
            seen: Timestamp::from_secs(10),
            way: "password".into(),
            strong: false,
            agent: String::new(),
        };
        (session, [number; 32])
    }

    async fn sessions_end_with_time_user_and_number(base: Base) {
        let (_dir, control, mut user) = with_user(base).await;
        let (at, start) = (Timestamp::from_secs(50), Timestamp::from_secs(0));
        let mut change = control.begin().await.unwrap();
        for number in 0..40 {
            let (session, secret) = session(number);
            create(change.connection(), &session, &secret).await.unwrap();
        }
        change.commit().await.unwrap();
        assert!(by_secret(control.read(), &[7; 32], at, start).await.unwrap().is_none(), "the oldest are gone");
        assert_eq!(by_secret(control.read(), &[8; 32], at, start).await.unwrap().unwrap().1.name, "ann");
        assert!(by_secret(control.read(), &[39; 32], Timestamp::from_secs(100), start).await.unwrap().is_none());
        let idle = Timestamp::from_secs(10);
        assert!(by_secret(control.read(), &[20; 32], at, start).await.unwrap().is_some());
        assert!(by_secret(control.read(), &[20; 32], at, idle).await.unwrap().is_none(), "a browser's ends when idle");
        assert!(by_secret(control.read(), &[21; 32], at, idle).await.unwrap().is_some(), "a program's does not");
        let open =
            async |tenant: &str, id: &str, now, idle| exists(control.read(), tenant, id, now, idle).await.unwrap();
        assert!(open("default", "020", at, start).await && !open("default", "020", at, idle).await);
        assert!(open("default", "021", at, idle).await && !open("acme", "021", at, idle).await);
        assert!(!open("default", "021", Timestamp::from_secs(100), idle).await, "its time is over");
        assert_eq!(of_user(control.read(), "default", "u", at, idle).await.unwrap().len(), 31);
        let mut change = control.begin().await.unwrap();
        seen(change.connection(), "default", "020", at).await.unwrap();
        strengthen(change.connection(), "default", "020").await.unwrap();
        assert!(!delete_of(change.connection(), "default", "other", "021").await.unwrap());
        assert!(delete_of(change.connection(), "default", "u", "021").await.unwrap());
        delete_secret(change.connection(), &[22; 32]).await.unwrap();
        change.commit().await.unwrap();
        let left = of_user(control.read(), "default", "u", at, idle).await.unwrap();
        assert_eq!((left.len(), left[0].id.as_str()), (30, "039"));
        assert!(left.iter().any(|one| one.id == "020" && one.strong && one.seen == at));
        user.disabled = true;
        let mut change = control.begin().await.unwrap();
        users::update(change.connection(), &user).await.unwrap();
        change.commit().await.unwrap();
        assert!(by_secret(control.read(), &[39; 32], at, start).await.unwrap().is_none());
    }

    async fn the_throttle_backs_off_forgives_and_stays_bounded(base: Base) {
        let (_dir, control) = base.fresh().await;
        let now = Timestamp::from_secs(1_000_000);
        let mut change = control.begin().await.unwrap();
        for _ in 0..3 {
            failed(change.connection(), "*", "address:a", now, |failures| failures * 10).await.unwrap();
        }
        change.commit().await.unwrap();
        assert_eq!(throttled(control.read(), "*", "address:a", now).await.unwrap(), Some(now.plus_secs(30)));
        assert_eq!(throttled(control.read(), "*", "address:a", now.plus_secs(30)).await.unwrap(), None);
        assert_eq!(throttled(control.read(), "default", "address:a", now).await.unwrap(), None);

        let mut change = control.begin().await.unwrap();
        // Guessed codes, before all that follows.
        failed(change.connection(), "default", "code:u", now, |_| 900).await.unwrap();
        let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1) \
                    INSERT INTO login_throttle SELECT '*', 'address:' || i, 1, $2, $2 FROM n";
        sql::query(fill).bind(MOST_SUBJECTS).bind(now.micros() + 1).execute(change.connection()).await.unwrap();
        failed(change.connection(), "*", "address:b", now.plus_secs(1), |_| 5).await.unwrap();
        change.commit().await.unwrap();
        let count: i64 =
            sql::query_scalar("SELECT COUNT(*) FROM login_throttle").fetch_one(control.read()).await.unwrap();
        assert_eq!(count, MOST_SUBJECTS);
        assert!(
            throttled(control.read(), "*", "address:b", now.plus_secs(2)).await.unwrap().is_some(),
            "the newest stays"
        );
        assert!(
            throttled(control.read(), "default", "code:u", now.plus_secs(2)).await.unwrap().is_some(),
            "any number of names does not make it forget guessed codes"
        );

        let mut change = control.begin().await.unwrap();
        forgive(change.connection(), "*", "address:b").await.unwrap();
        change.commit().await.unwrap();
        assert!(throttled(control.read(), "*", "address:b", now.plus_secs(2)).await.unwrap().is_none());
    }
}
