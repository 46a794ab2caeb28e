//! Messages to people: the delivery log, which is also the sender's list of work.
//!
//! A message is written before it is sent, with the actions that it carries out, so that what is repeated after a crash is
//! the same message and a receiver that knows its key has all of it. A try is written before it is made: one that has begun
//! and not ended is one whose outcome nobody knows.

use sakimori_model::Timestamp;

use super::sql::{self, Connection, FromRow, On, Pool, Row, from_columns};
use super::{ControlError, Result, Scope, met, time};

/// Most bytes of an answer or a reason that are kept.
pub const LONGEST: usize = 1_024;
/// Tries of a message that are kept; the first and the newest.
const MOST_TRIES: i64 = 32;

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is to be sent.
    Waiting,
    /// A try has begun.
    Sending,
    /// The receiver has it.
    Sent,
    /// It was given up.
    Dead,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Waiting, Self::Sending, Self::Sent, Self::Dead];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Sending => "sending",
            Self::Sent => "sent",
            Self::Dead => "dead",
        }
    }

    /// The state of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Whose.
    pub tenant: String,
    /// Its id, and the key by which receivers tell repeats apart.
    pub id: String,
    /// Channel.
    pub channel: String,
    /// `alert`, `close` or `test`.
    pub kind: String,
    /// One line of what it says; of `close` the id of the message that is closed.
    pub subject: String,
    /// What became of it.
    pub state: State,
    /// The facts, JSON.
    pub body: String,
    /// Ids of the actions that it carries out.
    pub members: Vec<String>,
    /// Tries so far, the one under way included.
    pub tries: i64,
    /// Tries since it was taken up last after which the receiver has it not.
    pub failures: i64,
    /// Tries since then of which nobody knows.
    pub unknown: i64,
    /// What the receiver calls it.
    pub reference: String,
    /// Why it was not sent yet, or is dead.
    pub reason: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it last changed.
    pub changed: Timestamp,
    /// Not before.
    pub retry_at: Timestamp,
}

/// One try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Try {
    /// From 1.
    pub number: i64,
    /// When it began, in microseconds.
    pub began: i64,
    /// When it ended; none where the manager ended meanwhile.
    pub ended: Option<i64>,
    /// `sending`, `delivered`, `not_taken`, `unknown`, `refused`.
    pub outcome: String,
    /// What came back.
    pub answer: String,
}

impl FromRow for Stored {
    fn from_row(row: &Row) -> Result<Self, sqlx::Error> {
        let state: String = row.try_get("state")?;
        let members: String = row.try_get("members")?;
        Ok(Self {
            tenant: row.try_get("tenant")?,
            id: row.try_get("id")?,
            channel: row.try_get("channel")?,
            kind: row.try_get("kind")?,
            subject: row.try_get("subject")?,
            state: State::parse(&state).ok_or_else(|| sqlx::Error::Decode(format!("state {state}").into()))?,
            body: row.try_get("body")?,
            members: serde_json::from_str(&members).map_err(|error| sqlx::Error::Decode(error.into()))?,
            tries: row.try_get("tries")?,
            failures: row.try_get("failures")?,
            unknown: row.try_get("unknown")?,
            reference: row.try_get("reference")?,
            reason: row.try_get("reason")?,
            created: time(row, "created")?,
            changed: time(row, "changed")?,
            retry_at: time(row, "retry_at")?,
        })
    }
}

from_columns!(Try: number, began, ended, outcome, answer);

/// Writes a new message, and which alerts it tells. One that is there is left as it is.
///
/// # Errors
/// The database failed.
pub async fn put(connection: &mut Connection, message: &Stored, alerts: &[String]) -> Result<()> {
    let members =
        serde_json::to_string(&message.members).map_err(|error| ControlError::Stored("message", error.to_string()))?;
    let sql = "INSERT INTO messages (tenant, id, channel, kind, subject, state, body, members, tries, failures, unknown, \
               reference, reason, created, changed, retry_at) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) \
               ON CONFLICT (tenant, id) DO NOTHING";
    sql::query(sql)
        .bind(&message.tenant)
        .bind(&message.id)
        .bind(&message.channel)
        .bind(&message.kind)
        .bind(&message.subject)
        .bind(message.state.name())
        .bind(&message.body)
        .bind(members)
        .bind(message.tries)
        .bind(message.failures)
        .bind(message.unknown)
        .bind(&message.reference)
        .bind(&message.reason)
        .bind(message.created.micros())
        .bind(message.changed.micros())
        .bind(message.retry_at.micros())
        .execute(&mut *connection)
        .await?;
    let sql = "INSERT INTO message_alerts (tenant, alert, message) VALUES ($1, $2, $3) \
               ON CONFLICT (tenant, alert, message) DO NOTHING";
    for alert in alerts {
        sql::query(sql).bind(&message.tenant).bind(alert).bind(&message.id).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Writes what changed of a message.
///
/// # Errors
/// It is not there, or the database failed.
pub async fn update(connection: &mut Connection, message: &Stored) -> Result<()> {
    let sql = "UPDATE messages SET state = $3, tries = $4, failures = $5, unknown = $6, reference = $7, reason = $8, \
               changed = $9, retry_at = $10 WHERE tenant = $1 AND id = $2";
    let query = sql::query(sql)
        .bind(&message.tenant)
        .bind(&message.id)
        .bind(message.state.name())
        .bind(message.tries)
        .bind(message.failures)
        .bind(message.unknown)
        .bind(&message.reference)
        .bind(prefix(&message.reason))
        .bind(message.changed.micros())
        .bind(message.retry_at.micros());
    met(query.execute(connection).await?, "message")
}

/// Writes that a try has begun; its number is `tries` of the message.
///
/// # Errors
/// The database failed.
pub async fn begin(connection: &mut Connection, message: &Stored, now: Timestamp) -> Result<()> {
    let sql = "INSERT INTO message_tries (tenant, message, number, began, outcome, answer) \
               VALUES ($1, $2, $3, $4, 'sending', '')";
    let query = sql::query(sql).bind(&message.tenant).bind(&message.id).bind(message.tries).bind(now.micros());
    query.execute(&mut *connection).await?;
    // The first says when it began, the newest how it stands.
    let sql = "DELETE FROM message_tries WHERE tenant = $1 AND message = $2 AND number > 1 AND number <= $3";
    sql::query(sql)
        .bind(&message.tenant)
        .bind(&message.id)
        .bind(message.tries - MOST_TRIES)
        .execute(connection)
        .await?;
    Ok(())
}

/// Writes how the newest try ended.
///
/// # Errors
/// The database failed.
pub async fn end(
    connection: &mut Connection,
    message: &Stored,
    outcome: &str,
    answer: &str,
    ended: Option<Timestamp>,
) -> Result<()> {
    let sql = "UPDATE message_tries SET outcome = $4, answer = $5, ended = $6 \
               WHERE tenant = $1 AND message = $2 AND number = $3";
    sql::query(sql)
        .bind(&message.tenant)
        .bind(&message.id)
        .bind(message.tries)
        .bind(outcome)
        .bind(prefix(answer))
        .bind(ended.map(Timestamp::micros))
        .execute(connection)
        .await?;
    Ok(())
}

/// Messages of a channel that are to be sent now, oldest first.
///
/// # Errors
/// The database failed.
pub async fn due(pool: &Pool, channel: &str, now: Timestamp, limit: i64) -> Result<Vec<Stored>> {
    let sql = "SELECT * FROM messages WHERE state = 'waiting' AND channel = $1 AND retry_at <= $2 \
               ORDER BY created, id LIMIT $3";
    Ok(sql::query_as(sql).bind(channel).bind(now.micros()).bind(limit).fetch_all(pool).await?)
}

/// Messages in a state, of all tenants and channels.
///
/// # Errors
/// The database failed.
pub async fn in_state(on: impl Into<On<'_>>, state: State) -> Result<Vec<Stored>> {
    let sql = "SELECT * FROM messages WHERE state = $1 ORDER BY created, id";
    Ok(sql::query_as(sql).bind(state.name()).fetch_all(on).await?)
}

/// Channels that messages wait for.
///
/// # Errors
/// The database failed.
pub async fn channels(pool: &Pool) -> Result<Vec<String>> {
    let sql = "SELECT channel, COUNT(*) FROM messages WHERE state = 'waiting' GROUP BY channel ORDER BY channel";
    let found: Vec<(String, i64)> = sql::query_as(sql).fetch_all(pool).await?;
    Ok(found.into_iter().map(|(channel, _)| channel).collect())
}

/// One message.
///
/// # Errors
/// It is not there, or the database failed.
pub async fn get(on: impl Into<On<'_>>, scope: &Scope, id: &str) -> Result<Stored> {
    let sql = "SELECT * FROM messages WHERE ($1 = '' OR tenant = $1) AND id = $2";
    let found = sql::query_as(sql).bind(scope.bound()).bind(id).fetch_optional(on).await?;
    found.ok_or(ControlError::Missing("message"))
}

/// Its tries, in their order.
///
/// # Errors
/// The database failed.
pub async fn tries(pool: &Pool, message: &Stored) -> Result<Vec<Try>> {
    let sql = "SELECT * FROM message_tries WHERE tenant = $1 AND message = $2 ORDER BY number";
    Ok(sql::query_as(sql).bind(&message.tenant).bind(&message.id).fetch_all(pool).await?)
}

/// Messages, newest first, of a state or all, of a channel or all, after this place (time and id).
///
/// # Errors
/// The database failed.
pub async fn list(
    pool: &Pool,
    scope: &Scope,
    (state, channel): (Option<State>, Option<&str>),
    before: Option<&(i64, String)>,
    limit: i64,
) -> Result<Vec<Stored>> {
    let mut query = sql::Builder::new("SELECT * FROM messages WHERE 1 = 1");
    if let Scope::One(tenant) = scope {
        query.push(" AND tenant = ").push_bind(tenant);
    }
    if let Some(state) = state {
        query.push(" AND state = ").push_bind(state.name());
    }
    if let Some(channel) = channel {
        query.push(" AND channel = ").push_bind(channel);
    }
    if let Some((created, id)) = before {
        query.push(" AND (created < ").push_bind(*created);
        query.push(" OR (created = ").push_bind(*created);
        query.push(" AND id < ").push_bind(id).push("))");
    }
    query.push(" ORDER BY created DESC, id DESC LIMIT ").push_bind(limit);
    let rows = query.build().fetch_all(pool).await?;
    Ok(rows.iter().map(Stored::from_row).collect::<Result<_, sqlx::Error>>()?)
}

/// Messages that told of an alert and whose every alert is closed, without those that were told so already.
///
/// # Errors
/// The database failed.
pub async fn closable(connection: &mut Connection, tenant: &str, alert: &str) -> Result<Vec<Stored>> {
    let sql = "SELECT m.* FROM messages m JOIN message_alerts a ON a.tenant = m.tenant AND a.message = m.id \
               WHERE a.tenant = $1 AND a.alert = $2 AND m.kind = 'alert' AND m.state = 'sent' \
               AND NOT EXISTS (SELECT 1 FROM message_alerts o LEFT JOIN alert_notes n ON n.tenant = o.tenant AND n.alert = o.alert \
                               WHERE o.tenant = m.tenant AND o.message = m.id AND COALESCE(n.status, 'open') <> 'closed') \
               AND NOT EXISTS (SELECT 1 FROM messages c WHERE c.tenant = m.tenant AND c.kind = 'close' AND c.subject = m.id) \
               ORDER BY m.created, m.id LIMIT 100";
    Ok(sql::query_as(sql).bind(tenant).bind(alert).fetch_all(connection).await?)
}

/// By which message a channel was told, or is to be told, of an alert.
///
/// # Errors
/// The database failed.
pub async fn told(pool: &Pool, tenant: &str, channel: &str, alert: &str) -> Result<Option<String>> {
    let sql = "SELECT m.id FROM messages m JOIN message_alerts a ON a.tenant = m.tenant AND a.message = m.id \
               WHERE a.tenant = $1 AND a.alert = $2 AND m.channel = $3 AND m.kind = 'alert' AND m.state <> 'dead' LIMIT 1";
    let query = sql::query_scalar(sql).bind(tenant).bind(alert).bind(channel);
    Ok(query.fetch_optional(pool).await?)
}

/// Which alerts a message tells of.
///
/// # Errors
/// The database failed.
pub async fn alerts(connection: &mut Connection, tenant: &str, message: &str) -> Result<Vec<String>> {
    let sql = "SELECT alert FROM message_alerts WHERE tenant = $1 AND message = $2 ORDER BY alert LIMIT 1000";
    Ok(sql::query_scalar(sql).bind(tenant).bind(message).fetch_all(connection).await?)
}

/// How many messages to a channel died since a moment.
///
/// # Errors
/// The database failed.
pub async fn died(connection: &mut Connection, tenant: &str, channel: &str, since: Timestamp) -> Result<i64> {
    let sql = "SELECT COUNT(*) FROM messages WHERE tenant = $1 AND channel = $2 AND state = 'dead' AND changed >= $3";
    let query = sql::query_scalar(sql).bind(tenant).bind(channel).bind(since.micros());
    Ok(query.fetch_one(connection).await?)
}

/// Forgets messages that are over and changed last before a moment, and of each tenant those over that are beyond the newest
/// `most`. Returns how many went.
///
/// # Errors
/// The database failed.
pub async fn tidy(connection: &mut Connection, tenant: &str, before: Timestamp, most: i64) -> Result<u64> {
    let newest = "SELECT changed FROM messages WHERE tenant = $1 AND state IN ('sent', 'dead') \
                  ORDER BY changed DESC, id DESC LIMIT 1 OFFSET $2";
    let over: Option<i64> =
        sql::query_scalar(newest).bind(tenant).bind(most.max(0)).fetch_optional(&mut *connection).await?;
    let before = over.map_or(i64::MIN, |changed| changed.saturating_add(1)).max(before.micros());
    let sql = "DELETE FROM messages WHERE tenant = $1 AND state IN ('sent', 'dead') AND changed < $2";
    let gone = sql::query(sql).bind(tenant).bind(before).execute(&mut *connection).await?;
    for sql in [
        "DELETE FROM message_tries WHERE tenant = $1 AND NOT EXISTS \
         (SELECT 1 FROM messages m WHERE m.tenant = message_tries.tenant AND m.id = message_tries.message)",
        "DELETE FROM message_alerts WHERE tenant = $1 AND NOT EXISTS \
         (SELECT 1 FROM messages m WHERE m.tenant = message_alerts.tenant AND m.id = message_alerts.message)",
    ] {
        sql::query(sql).bind(tenant).execute(&mut *connection).await?;
    }
    Ok(gone)
}

/// At most [`LONGEST`] bytes of a text.
fn prefix(text: &str) -> &str {
    let mut end = text.len().min(LONGEST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::alerts::{self, Note, Status};
    use crate::control::tests::{Base, on_both};

    on_both!(
        a_message_is_due_tried_and_listed_with_its_tries,
        what_told_of_closed_alerts_alone_is_closed_once,
        what_is_over_goes_and_what_waits_stays,
    );

    fn message(id: &str, second: i64) -> Stored {
        let at = Timestamp::from_secs(second);
        Stored {
            tenant: "default".into(),
            id: id.into(),
            channel: "ops".into(),
            kind: "alert".into(),
            subject: "SSH brute force".into(),
            state: State::Waiting,
            body: "{}".into(),
            members: vec!["a1".into(), "a2".into()],
            tries: 0,
            failures: 0,
            unknown: 0,
            reference: String::new(),
            reason: String::new(),
            created: at,
            changed: at,
            retry_at: at,
        }
    }

    async fn a_message_is_due_tried_and_listed_with_its_tries(base: Base) {
        let (_dir, control) = base.fresh().await;
        let at = Timestamp::from_secs;
        let mut change = control.begin().await.unwrap();
        let on = change.connection();
        let mut one = message("m1", 5);
        put(on, &one, &["x".into()]).await.unwrap();
        put(on, &Stored { subject: "other".into(), ..one.clone() }, &[]).await.unwrap();
        put(on, &Stored { channel: "dev".into(), ..message("m2", 6) }, &[]).await.unwrap();
        for number in 1..=MOST_TRIES + 4 {
            one.tries = number;
            one.state = State::Sending;
            begin(on, &one, at(10 + number)).await.unwrap();
            one.state = State::Waiting;
            one.reason = "x".repeat(9_000);
            end(on, &one, "not_taken", &"é".repeat(9_000), Some(at(11 + number))).await.unwrap();
            update(on, &one).await.unwrap();
        }
        change.commit().await.unwrap();
        let pool = control.read();
        assert!(due(pool, "ops", at(4), 10).await.unwrap().is_empty());
        let [found] = due(pool, "ops", at(5), 10).await.unwrap().try_into().unwrap();
        assert_eq!((found.subject.as_str(), found.tries), ("SSH brute force", MOST_TRIES + 4), "it was left as it was");
        assert_eq!((found.reason.len(), found.members.len()), (LONGEST, 2));
        let tried = tries(pool, &found).await.unwrap();
        assert_eq!(i64::try_from(tried.len()).unwrap(), MOST_TRIES + 1);
        assert_eq!((tried[0].number, tried[1].number), (1, 5));
        assert!(tried.iter().all(|one| one.answer.len() == LONGEST && one.outcome == "not_taken"));
        assert_eq!(channels(pool).await.unwrap(), ["dev", "ops"]);
        let scope = Scope::One("default".into());
        let all = list(pool, &scope, (None, None), None, 1).await.unwrap();
        assert_eq!(all[0].id, "m2");
        let place = (all[0].created.micros(), all[0].id.clone());
        assert_eq!(list(pool, &scope, (None, None), Some(&place), 9).await.unwrap()[0].id, "m1");
        assert!(list(pool, &scope, (Some(State::Dead), None), None, 9).await.unwrap().is_empty());
        assert_eq!(list(pool, &scope, (None, Some("dev")), None, 9).await.unwrap().len(), 1);
        let other = Scope::One("acme".into());
        assert!(list(pool, &other, (None, None), None, 9).await.unwrap().is_empty());
        assert!(get(pool, &other, "m1").await.is_err() && get(pool, &scope, "m1").await.is_ok());
    }

    async fn what_told_of_closed_alerts_alone_is_closed_once(base: Base) {
        let (_dir, control) = base.fresh().await;
        let mut change = control.begin().await.unwrap();
        let on = change.connection();
        put(on, &Stored { state: State::Sent, ..message("m1", 5) }, &["x".into(), "y".into()]).await.unwrap();
        put(on, &Stored { state: State::Dead, ..message("m2", 5) }, &["x".into()]).await.unwrap();
        let note = |alert: &str, status| Note {
            tenant: "default".into(),
            alert: alert.into(),
            status,
            comment: String::new(),
            author: "user:ann".into(),
            changed: Timestamp::from_secs(9),
        };
        alerts::put(on, &note("x", Status::Closed)).await.unwrap();
        assert!(closable(on, "default", "x").await.unwrap().is_empty(), "its other alert is open");
        alerts::put(on, &note("y", Status::Acknowledged)).await.unwrap();
        assert!(closable(on, "default", "y").await.unwrap().is_empty());
        alerts::put(on, &note("y", Status::Closed)).await.unwrap();
        let [one] = closable(on, "default", "y").await.unwrap().try_into().unwrap();
        assert_eq!(one.id, "m1", "who got nothing is told nothing");
        let close = Stored { kind: "close".into(), subject: "m1".into(), ..message("m1-close", 9) };
        put(on, &close, &[]).await.unwrap();
        assert!(closable(on, "default", "y").await.unwrap().is_empty());
    }

    async fn what_is_over_goes_and_what_waits_stays(base: Base) {
        let (_dir, control) = base.fresh().await;
        let mut change = control.begin().await.unwrap();
        let on = change.connection();
        for number in 0..20 {
            let state = if number % 2 == 0 { State::Sent } else { State::Waiting };
            let mut one = Stored { state, ..message(&format!("m{number:02}"), number) };
            put(on, &one, &["x".into()]).await.unwrap();
            one.tries = 1;
            begin(on, &one, one.created).await.unwrap();
        }
        assert_eq!(tidy(on, "default", Timestamp::from_secs(4), 100).await.unwrap(), 2);
        assert_eq!(tidy(on, "default", Timestamp::from_secs(0), 3).await.unwrap(), 5);
        assert_eq!(tidy(on, "acme", Timestamp::from_secs(99), 0).await.unwrap(), 0);
        change.commit().await.unwrap();
        let left = list(control.read(), &Scope::All, (None, None), None, 99).await.unwrap();
        assert_eq!(left.len(), 13);
        let count = "SELECT COUNT(*) FROM message_tries";
        assert_eq!(sql::query_scalar::<i64>(count).fetch_one(control.read()).await.unwrap(), 13);
        let count = "SELECT COUNT(*) FROM message_alerts";
        assert_eq!(sql::query_scalar::<i64>(count).fetch_one(control.read()).await.unwrap(), 13);
    }
}
