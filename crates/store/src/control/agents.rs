//! Enrolled agents; what waits to be told to them is in `agents/waiting.rs`.

use sakimori_model::Timestamp;

use super::sql::{self, Connection, FromRow, Pool, Row};
use super::{ControlError, Result, Scope, maybe_time, met, taken, time};

mod waiting;

pub use waiting::{MOST_SEALS, Waiting, answered, lacking, orders, put_order, put_seal, seals, waiting};

/// An agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Whose.
    pub tenant: String,
    /// Its id, in its certificate.
    pub id: String,
    /// Host name.
    pub name: String,
    /// Tags; each names a policy layer `group:<tag>`.
    pub tags: Vec<String>,
    /// JSON of the host's facts.
    pub host: String,
    /// JSON of what it said at its last connect.
    pub versions: String,
    /// JSON of its last status.
    pub status: String,
    /// When it enrolled.
    pub enrolled: Timestamp,
    /// When it last spoke.
    pub last_seen: Option<Timestamp>,
    /// Serial of its certificate. After a renewal two, the new one last and a space between, until the agent
    /// has come with the new one: a renewal whose answer was lost must not lock it out.
    pub serial: String,
    /// When it was revoked.
    pub revoked: Option<Timestamp>,
    /// Id of the enrolment token that made it.
    pub token: String,
    /// JSON of the machine that its identity is bound to.
    pub machine: String,
    /// What is known of it while it is away: nothing, `silent`, `stopped` or `retired`.
    pub presence: String,
    /// Since when.
    pub presence_since: Option<Timestamp>,
}

impl FromRow for Agent {
    fn from_row(row: &Row) -> Result<Self, sqlx::Error> {
        let tags: String = row.try_get("tags")?;
        Ok(Self {
            tenant: row.try_get("tenant")?,
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            tags: serde_json::from_str(&tags).unwrap_or_default(),
            host: row.try_get("host")?,
            versions: row.try_get("versions")?,
            status: row.try_get("status")?,
            enrolled: time(row, "enrolled")?,
            last_seen: maybe_time(row, "last_seen")?,
            serial: row.try_get("serial")?,
            revoked: maybe_time(row, "revoked")?,
            token: row.try_get("token")?,
            machine: row.try_get("machine")?,
            presence: row.try_get("presence")?,
            presence_since: maybe_time(row, "presence_since")?,
        })
    }
}

/// Adds an agent.
///
/// # Errors
/// The id is taken, or the database failed.
pub async fn create(connection: &mut Connection, agent: &Agent) -> Result<()> {
    let sql = "INSERT INTO agents (tenant, id, name, tags, host, versions, status, enrolled, serial, token, machine) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
    sql::query(sql)
        .bind(&agent.tenant)
        .bind(&agent.id)
        .bind(&agent.name)
        .bind(serde_json::to_string(&agent.tags).unwrap_or_default())
        .bind(&agent.host)
        .bind(&agent.versions)
        .bind(&agent.status)
        .bind(agent.enrolled.micros())
        .bind(&agent.serial)
        .bind(&agent.token)
        .bind(&agent.machine)
        .execute(connection)
        .await
        .map_err(taken("agent"))?;
    Ok(())
}

/// One agent.
///
/// # Errors
/// `Missing`, or the database failed.
pub async fn get(pool: &Pool, scope: &Scope, id: &str) -> Result<Agent> {
    let sql = "SELECT * FROM agents WHERE ($1 = '' OR tenant = $1) AND id = $2";
    let agent = sql::query_as(sql).bind(scope.bound()).bind(id).fetch_optional(pool).await?;
    agent.ok_or(ControlError::Missing("agent"))
}

/// Agents in the order of their ids, after this one.
///
/// # Errors
/// The database failed.
pub async fn list(pool: &Pool, scope: &Scope, after: &str, limit: i64) -> Result<Vec<Agent>> {
    let sql = "SELECT * FROM agents WHERE ($1 = '' OR tenant = $1) AND id > $2 ORDER BY id LIMIT $3";
    Ok(sql::query_as(sql).bind(scope.bound()).bind(after).bind(limit).fetch_all(pool).await?)
}

/// Agents that a token enrolled, the newest first.
///
/// # Errors
/// The database failed.
pub async fn of_token(pool: &Pool, tenant: &str, token: &str, limit: i64) -> Result<Vec<Agent>> {
    let sql = "SELECT * FROM agents WHERE tenant = $1 AND token = $2 ORDER BY enrolled DESC, id LIMIT $3";
    Ok(sql::query_as(sql).bind(tenant).bind(token).bind(limit).fetch_all(pool).await?)
}

/// Agents that are neither revoked nor retired and have said nothing since this time, in the order of their ids.
///
/// # Errors
/// The database failed.
pub async fn unheard(pool: &Pool, since: Timestamp, after: &str, limit: i64) -> Result<Vec<Agent>> {
    let sql = "SELECT * FROM agents WHERE id > $1 AND revoked IS NULL AND presence <> 'retired' \
               AND COALESCE(last_seen, enrolled) < $2 ORDER BY id LIMIT $3";
    Ok(sql::query_as(sql).bind(after).bind(since.micros()).bind(limit).fetch_all(pool).await?)
}

/// What is known of an agent that is away, from now on. False where that is known already, or where it has spoken since
/// `unheard`, which is when it was looked at: it may have come back meanwhile.
///
/// # Errors
/// The database failed.
pub async fn set_presence(
    connection: &mut Connection,
    id: &str,
    presence: &str,
    unheard: Option<Timestamp>,
    now: Timestamp,
) -> Result<bool> {
    let sql = "UPDATE agents SET presence = $2, presence_since = $3 WHERE id = $1 AND presence <> $2 \
               AND ($4 = 0 OR COALESCE(last_seen, enrolled) < $5)";
    let (bound, since) = unheard.map_or((0_i64, 0), |since| (1, since.micros()));
    let done = sql::query(sql).bind(id).bind(presence).bind(now.micros()).bind(bound).bind(since);
    Ok(done.execute(connection).await? > 0)
}

/// Binds its identity to a machine, where it was bound to none.
///
/// # Errors
/// The database failed.
pub async fn bind_machine(connection: &mut Connection, id: &str, machine: &str) -> Result<()> {
    let sql = "UPDATE agents SET machine = $2 WHERE id = $1 AND machine = '{}'";
    sql::query(sql).bind(id).bind(machine).execute(connection).await?;
    Ok(())
}

/// What it said at connect; it is there again.
///
/// # Errors
/// The database failed.
pub async fn set_hello(
    connection: &mut Connection,
    id: &str,
    name: &str,
    host: &str,
    versions: &str,
    now: Timestamp,
) -> Result<()> {
    let sql = "UPDATE agents SET name = $2, host = $3, versions = $4, last_seen = $5, presence = '', \
               presence_since = NULL WHERE id = $1";
    sql::query(sql).bind(id).bind(name).bind(host).bind(versions).bind(now.micros()).execute(connection).await?;
    Ok(())
}

/// Its state.
///
/// # Errors
/// The database failed.
pub async fn set_status(connection: &mut Connection, id: &str, status: &str, now: Timestamp) -> Result<()> {
    sql::query("UPDATE agents SET status = $2, last_seen = $3 WHERE id = $1")
        .bind(id)
        .bind(status)
        .bind(now.micros())
        .execute(connection)
        .await?;
    Ok(())
}

/// The serial of the certificate that is good from now on, or two (see [`Agent::serial`]).
///
/// # Errors
/// The database failed.
pub async fn set_serial(connection: &mut Connection, id: &str, serial: &str) -> Result<()> {
    sql::query("UPDATE agents SET serial = $2 WHERE id = $1").bind(id).bind(serial).execute(connection).await?;
    Ok(())
}

/// Revokes an agent: its certificate is worth nothing from now on.
///
/// # Errors
/// `Missing`, or the database failed.
pub async fn revoke(connection: &mut Connection, scope: &Scope, id: &str, now: Timestamp) -> Result<()> {
    let sql = "UPDATE agents SET revoked = COALESCE(revoked, $3) WHERE ($1 = '' OR tenant = $1) AND id = $2";
    let done = sql::query(sql).bind(scope.bound()).bind(id).bind(now.micros()).execute(connection).await?;
    met(done, "agent")
}

/// Forgets an agent; its events stay.
///
/// # Errors
/// `Missing`, or the database failed.
pub async fn delete(connection: &mut Connection, scope: &Scope, id: &str) -> Result<()> {
    for sql in [
        "DELETE FROM agent_orders WHERE ($1 = '' OR tenant = $1) AND agent = $2",
        "DELETE FROM order_seals WHERE ($1 = '' OR tenant = $1) AND agent = $2",
        "DELETE FROM heads WHERE ($1 = '' OR tenant = $1) AND agent = $2",
    ] {
        sql::query(sql).bind(scope.bound()).bind(id).execute(&mut *connection).await?;
    }
    let sql = "DELETE FROM agents WHERE ($1 = '' OR tenant = $1) AND id = $2";
    let done = sql::query(sql).bind(scope.bound()).bind(id).execute(connection).await?;
    met(done, "agent")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Control;
    use crate::control::tests::{Base, on_both};

    on_both!(
        seals_of_operators_stay_with_what_waits_bounded_and_go_with_it,
        a_tenant_neither_sees_nor_revokes_nor_deletes_an_agent_of_another,
        what_waits_for_an_agent_goes_once_and_alone_and_with_the_agent,
        who_is_silent_is_found_noted_once_and_there_again_by_its_hello,
    );

    async fn add(control: &Control, tenant: &str, id: &str) {
        let agent = Agent {
            tenant: tenant.into(),
            id: id.into(),
            name: "web1".into(),
            tags: vec!["web".into()],
            host: "{}".into(),
            versions: "{}".into(),
            status: "{}".into(),
            enrolled: Timestamp::from_secs(1),
            last_seen: None,
            serial: "1".into(),
            revoked: None,
            token: "token".into(),
            machine: "{}".into(),
            presence: String::new(),
            presence_since: None,
        };
        let mut change = control.begin().await.unwrap();
        create(change.connection(), &agent).await.unwrap();
        change.commit().await.unwrap();
        // In a change of its own, which cannot go on after it where the store is PostgreSQL.
        let mut change = control.begin().await.unwrap();
        assert!(matches!(create(change.connection(), &agent).await, Err(ControlError::Exists("agent"))));
        drop(change);
        assert_eq!(get(control.read(), &Scope::All, id).await.unwrap(), agent);
    }

    async fn a_tenant_neither_sees_nor_revokes_nor_deletes_an_agent_of_another(base: Base) {
        let (_dir, control) = base.fresh().await;
        add(&control, "a", "agent-a").await;
        add(&control, "b", "agent-b").await;
        let one = |tenant: &str| Scope::One(tenant.into());
        let ids = async |scope: &Scope| -> Vec<String> {
            list(control.read(), scope, "", 10).await.unwrap().into_iter().map(|agent| agent.id).collect()
        };
        assert_eq!(ids(&one("a")).await, ["agent-a"]);
        assert_eq!(ids(&Scope::All).await, ["agent-a", "agent-b"]);
        assert!(get(control.read(), &one("a"), "agent-b").await.is_err());
        let mut change = control.begin().await.unwrap();
        let now = Timestamp::from_secs(5);
        assert!(revoke(change.connection(), &one("a"), "agent-b", now).await.is_err());
        assert!(delete(change.connection(), &one("a"), "agent-b").await.is_err());
        revoke(change.connection(), &one("b"), "agent-b", now).await.unwrap();
        revoke(change.connection(), &one("b"), "agent-b", Timestamp::from_secs(9)).await.unwrap();
        change.commit().await.unwrap();
        assert_eq!(get(control.read(), &Scope::All, "agent-b").await.unwrap().revoked, Some(now), "the first stays");
    }

    async fn seals_of_operators_stay_with_what_waits_bounded_and_go_with_it(base: Base) {
        let (_dir, control) = base.fresh().await;
        add(&control, "a", "agent").await;
        let now = Timestamp::from_secs(1);
        let mut change = control.begin().await.unwrap();
        let connection = change.connection();
        assert!(!put_seal(connection, "a", "agent", ("x", "order"), &[1], &[1], now).await.unwrap(), "nothing waits");
        put_order(connection, "a", "agent", "x", "order", "{}", now).await.unwrap();
        assert!(lacking(connection, "a", "agent", ("x", "order"), 2, "[]").await.unwrap());
        assert!(!lacking(connection, "a", "agent", ("x", "order"), 2, "[]").await.unwrap(), "said before");
        assert!(!lacking(connection, "a", "agent", ("x", "undo"), 2, "[]").await.unwrap());
        for key in 0..30_u8 {
            let kept = put_seal(connection, "a", "agent", ("x", "order"), &[key], &[key, 0], now).await.unwrap();
            assert_eq!(kept, i64::from(key) < MOST_SEALS);
        }
        assert!(put_seal(connection, "a", "agent", ("x", "order"), &[3], &[3, 1], now).await.unwrap(), "a newer one");
        change.commit().await.unwrap();
        let kept = seals(control.read(), "a", "agent", "x", "order").await.unwrap();
        assert_eq!(kept.len(), usize::try_from(MOST_SEALS).unwrap());
        assert!(kept.contains(&vec![3, 1]) && !kept.contains(&vec![3, 0]));
        assert_eq!(waiting(control.read(), "a", 9).await.unwrap()[0].lacks, 2);
        let mut change = control.begin().await.unwrap();
        assert!(answered(change.connection(), "a", "agent", "x", "order").await.unwrap());
        change.commit().await.unwrap();
        assert!(seals(control.read(), "a", "agent", "x", "order").await.unwrap().is_empty());
    }

    async fn what_waits_for_an_agent_goes_once_and_alone_and_with_the_agent(base: Base) {
        let (_dir, control) = base.fresh().await;
        add(&control, "a", "agent").await;
        let mut change = control.begin().await.unwrap();
        for (id, kind, at) in [("x", "order", 1), ("x", "undo", 2), ("x", "order", 3), ("y", "order", 4)] {
            let now = Timestamp::from_secs(at);
            put_order(change.connection(), "a", "agent", id, kind, "{}", now).await.unwrap();
        }
        assert!(answered(change.connection(), "a", "agent", "x", "order").await.unwrap());
        assert!(!answered(change.connection(), "a", "agent", "x", "order").await.unwrap(), "answered before");
        assert!(!answered(change.connection(), "b", "agent", "x", "undo").await.unwrap(), "another tenant's");
        change.commit().await.unwrap();
        let left = orders(control.read(), "a", "agent").await.unwrap();
        let left: Vec<_> = left.iter().map(|one| (one.id.as_str(), one.kind.as_str())).collect();
        assert_eq!(left, [("x", "undo"), ("y", "order")]);
        let mut change = control.begin().await.unwrap();
        delete(change.connection(), &Scope::All, "agent").await.unwrap();
        change.commit().await.unwrap();
        assert_eq!(orders(control.read(), "a", "agent").await.unwrap(), []);
    }

    async fn who_is_silent_is_found_noted_once_and_there_again_by_its_hello(base: Base) {
        let (_dir, control) = base.fresh().await;
        add(&control, "a", "gone").await;
        add(&control, "a", "here").await;
        let at = Timestamp::from_secs;
        let mut change = control.begin().await.unwrap();
        set_status(change.connection(), "here", "{}", at(100)).await.unwrap();
        change.commit().await.unwrap();
        let ids = async |since| -> Vec<String> {
            let found = unheard(control.read(), at(since), "", 10).await.unwrap();
            found.into_iter().map(|agent| agent.id).collect()
        };
        assert_eq!(ids(50).await, ["gone"]);
        assert_eq!(ids(101).await, ["gone", "here"]);
        let mut change = control.begin().await.unwrap();
        assert!(set_presence(change.connection(), "gone", "silent", Some(at(50)), at(60)).await.unwrap());
        assert!(!set_presence(change.connection(), "gone", "silent", Some(at(50)), at(61)).await.unwrap(), "known");
        assert!(!set_presence(change.connection(), "here", "silent", Some(at(50)), at(60)).await.unwrap(), "it spoke");
        assert!(set_presence(change.connection(), "here", "retired", None, at(70)).await.unwrap(), "it said so itself");
        change.commit().await.unwrap();
        let gone = get(control.read(), &Scope::All, "gone").await.unwrap();
        assert_eq!((gone.presence.as_str(), gone.presence_since), ("silent", Some(at(60))));
        assert_eq!(ids(200).await, ["gone"], "a retired one is looked after no more");
        let mut change = control.begin().await.unwrap();
        set_hello(change.connection(), "here", "web1", "{}", "{}", at(300)).await.unwrap();
        bind_machine(change.connection(), "here", "one").await.unwrap();
        bind_machine(change.connection(), "here", "two").await.unwrap();
        change.commit().await.unwrap();
        let here = get(control.read(), &Scope::All, "here").await.unwrap();
        assert_eq!((here.presence.as_str(), here.presence_since, here.machine.as_str()), ("", None, "one"));
    }
}
