//! What people say of alerts: status and comment. The alert itself is an event of the lake.

use std::collections::HashMap;

use sakimori_model::Timestamp;

use super::sql::{self, Connection, FromRow, Pool, Row};
use super::{Result, time};

/// Where an alert stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Status {
    /// Nobody has looked at it.
    #[default]
    Open,
    /// Somebody looks at it.
    Acknowledged,
    /// Nothing more is to be done.
    Closed,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Open, Self::Acknowledged, Self::Closed];

    /// The name that the database and JSON use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Acknowledged => "acknowledged",
            Self::Closed => "closed",
        }
    }

    /// The status of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }
}

/// What was said of one alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Whose.
    pub tenant: String,
    /// Id of the alert.
    pub alert: String,
    /// Where it stands.
    pub status: Status,
    /// In somebody's words; may be empty.
    pub comment: String,
    /// Who said so.
    pub author: String,
    /// When.
    pub changed: Timestamp,
}

impl FromRow for Note {
    fn from_row(row: &Row) -> Result<Self, sqlx::Error> {
        let status: String = row.try_get("status")?;
        Ok(Self {
            tenant: row.try_get("tenant")?,
            alert: row.try_get("alert")?,
            status: Status::parse(&status)
                .ok_or_else(|| sqlx::Error::Decode(format!("unknown status {status}").into()))?,
            comment: row.try_get("comment")?,
            author: row.try_get("author")?,
            changed: time(row, "changed")?,
        })
    }
}

/// Writes what is said of an alert, in place of what was said before.
///
/// # Errors
/// The database failed.
pub async fn put(connection: &mut Connection, note: &Note) -> Result<()> {
    let sql = "INSERT INTO alert_notes (tenant, alert, status, comment, author, changed) VALUES ($1, $2, $3, $4, $5, $6) \
               ON CONFLICT (tenant, alert) DO UPDATE SET status = excluded.status, comment = excluded.comment, \
               author = excluded.author, changed = excluded.changed";
    sql::query(sql)
        .bind(&note.tenant)
        .bind(&note.alert)
        .bind(note.status.name())
        .bind(&note.comment)
        .bind(&note.author)
        .bind(note.changed.micros())
        .execute(connection)
        .await?;
    Ok(())
}

/// What was said of one alert.
///
/// # Errors
/// The database failed.
pub async fn get(connection: &mut Connection, tenant: &str, alert: &str) -> Result<Option<Note>> {
    let sql = "SELECT * FROM alert_notes WHERE tenant = $1 AND alert = $2";
    Ok(sql::query_as(sql).bind(tenant).bind(alert).fetch_optional(connection).await?)
}

/// What was said of these alerts, by their ids.
///
/// # Errors
/// The database failed.
pub async fn of(pool: &Pool, tenant: &str, alerts: &[&str]) -> Result<HashMap<String, Note>> {
    if alerts.is_empty() {
        return Ok(HashMap::new());
    }
    let mut query = sql::Builder::new("SELECT * FROM alert_notes WHERE tenant = ");
    query.push_bind(tenant).push(" AND alert").push_in(alerts.iter().copied());
    let notes: Vec<Note> = query.build_as().fetch_all(pool).await?;
    Ok(notes.into_iter().map(|note| (note.alert.clone(), note)).collect())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Base, on_both};
    use super::*;

    on_both!(the_last_word_on_an_alert_is_kept_by_tenant,);

    async fn the_last_word_on_an_alert_is_kept_by_tenant(base: Base) {
        let (_dir, control) = base.fresh().await;
        let note = |tenant: &str, status, comment: &str| Note {
            tenant: tenant.into(),
            alert: "a".into(),
            status,
            comment: comment.into(),
            author: "user:ann".into(),
            changed: Timestamp::from_secs(4),
        };
        let mut change = control.begin().await.unwrap();
        put(change.connection(), &note("default", Status::Acknowledged, "mine")).await.unwrap();
        put(change.connection(), &note("default", Status::Closed, "a test")).await.unwrap();
        put(change.connection(), &note("acme", Status::Open, "")).await.unwrap();
        assert_eq!(get(change.connection(), "default", "b").await.unwrap(), None);
        change.commit().await.unwrap();
        let notes = of(control.read(), "default", &["a", "b"]).await.unwrap();
        assert_eq!(notes.into_values().collect::<Vec<_>>(), [note("default", Status::Closed, "a test")]);
        assert!(of(control.read(), "default", &[]).await.unwrap().is_empty());
    }
}
