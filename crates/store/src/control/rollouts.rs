//! Roll-outs of a policy layer in stages: some hosts get what is to become of the layer before all the others do.
//!
//! A row keeps where it stands; the layer's own history knows nothing of it until it is done. Its numbers come from the
//! tenant's policy, so that a host never takes an older one, whichever stage it was in.

use sakimori_model::Timestamp;

use super::sql::{self, Connection, FromRow, On, Pool, Row, from_columns};
use super::{ControlError, Result, time};

/// Where a roll-out stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The first hosts have it, or get it.
    First,
    /// It stands still, since hosts of the first stage fail: these keep what they have.
    Halted,
    /// All have it: it is a version of the layer.
    Done,
    /// Nobody has it any more.
    Withdrawn,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::First, Self::Halted, Self::Done, Self::Withdrawn];

    /// The name that the database and JSON use.
    pub fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Halted => "halted",
            Self::Done => "done",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// Do hosts of the first stage have it apart from the others?
    pub fn is_open(self) -> bool {
        matches!(self, Self::First | Self::Halted)
    }
}

/// A roll-out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// Whose.
    pub tenant: String,
    /// UUIDv7.
    pub id: String,
    /// The layer.
    pub layer: String,
    /// Where it stands.
    pub state: State,
    /// When it began.
    pub created: Timestamp,
    /// When it last changed.
    pub changed: Timestamp,
    /// JSON of what its reconciler keeps.
    pub record: String,
}

impl FromRow for Rollout {
    fn from_row(row: &Row) -> Result<Self, sqlx::Error> {
        let state: String = row.try_get("state")?;
        let known = State::ALL.into_iter().find(|known| known.name() == state);
        Ok(Self {
            tenant: row.try_get("tenant")?,
            id: row.try_get("id")?,
            layer: row.try_get("layer")?,
            state: known.ok_or_else(|| sqlx::Error::Decode(format!("unknown state {state}").into()))?,
            created: time(row, "created")?,
            changed: time(row, "changed")?,
            record: row.try_get("record")?,
        })
    }
}

/// A host of a first stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Agent.
    pub agent: String,
    /// The policy that it is to have at least.
    pub number: i64,
    /// JSON of how it was when the roll-out began.
    pub baseline: String,
}

from_columns!(Host: agent, number, baseline);

/// Begins one, with its hosts.
///
/// # Errors
/// The database failed.
pub async fn create(connection: &mut Connection, rollout: &Rollout, hosts: &[Host]) -> Result<()> {
    let sql = "INSERT INTO rollouts (tenant, id, layer, state, created, changed, record) \
               VALUES ($1, $2, $3, $4, $5, $6, $7)";
    sql::query(sql)
        .bind(&rollout.tenant)
        .bind(&rollout.id)
        .bind(&rollout.layer)
        .bind(rollout.state.name())
        .bind(rollout.created.micros())
        .bind(rollout.changed.micros())
        .bind(&rollout.record)
        .execute(&mut *connection)
        .await?;
    let sql = "INSERT INTO rollout_agents (tenant, rollout, agent, number, baseline) VALUES ($1, $2, $3, $4, $5)";
    for host in hosts {
        sql::query(sql)
            .bind(&rollout.tenant)
            .bind(&rollout.id)
            .bind(&host.agent)
            .bind(host.number)
            .bind(&host.baseline)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Writes where one stands, and how it came to that.
///
/// # Errors
/// The database failed.
pub async fn update(connection: &mut Connection, rollout: &Rollout) -> Result<()> {
    let sql = "UPDATE rollouts SET state = $3, changed = $4, record = $5 WHERE tenant = $1 AND id = $2";
    sql::query(sql)
        .bind(&rollout.tenant)
        .bind(&rollout.id)
        .bind(rollout.state.name())
        .bind(rollout.changed.micros())
        .bind(&rollout.record)
        .execute(connection)
        .await?;
    Ok(())
}

/// The policy that all hosts of its first stage are to have at least.
///
/// # Errors
/// The database failed.
pub async fn renumber(connection: &mut Connection, tenant: &str, id: &str, number: i64) -> Result<()> {
    let sql = "UPDATE rollout_agents SET number = $3 WHERE tenant = $1 AND rollout = $2";
    sql::query(sql).bind(tenant).bind(id).bind(number).execute(connection).await?;
    Ok(())
}

/// One of a tenant's.
///
/// # Errors
/// `Missing`, or the database failed.
pub async fn get<'a>(on: impl Into<On<'a>>, tenant: &str, id: &str) -> Result<Rollout> {
    let sql = "SELECT * FROM rollouts WHERE tenant = $1 AND id = $2";
    let found = sql::query_as(sql).bind(tenant).bind(id).fetch_optional(on).await?;
    found.ok_or(ControlError::Missing("rollout"))
}

/// The hosts of its first stage, by their ids.
///
/// # Errors
/// The database failed.
pub async fn hosts<'a>(on: impl Into<On<'a>>, tenant: &str, id: &str) -> Result<Vec<Host>> {
    let sql = "SELECT agent, number, baseline FROM rollout_agents WHERE tenant = $1 AND rollout = $2 ORDER BY agent";
    Ok(sql::query_as(sql).bind(tenant).bind(id).fetch_all(on).await?)
}

/// A tenant's, newest first, before this id.
///
/// # Errors
/// The database failed.
pub async fn list(pool: &Pool, tenant: &str, before: Option<&str>, limit: i64) -> Result<Vec<Rollout>> {
    let sql = "SELECT * FROM rollouts WHERE tenant = $1 AND ($2 = '' OR id < $2) ORDER BY id DESC LIMIT $3";
    Ok(sql::query_as(sql).bind(tenant).bind(before.unwrap_or_default()).bind(limit).fetch_all(pool).await?)
}

/// Those of a tenant that are under way; of all tenants where none is named.
///
/// # Errors
/// The database failed.
pub async fn open<'a>(on: impl Into<On<'a>>, tenant: &str) -> Result<Vec<Rollout>> {
    let sql = "SELECT * FROM rollouts WHERE ($1 = '' OR tenant = $1) AND state IN ('first', 'halted') ORDER BY id";
    Ok(sql::query_as(sql).bind(tenant).fetch_all(on).await?)
}

/// The roll-outs under way of whose first stage this host is.
///
/// # Errors
/// The database failed.
pub async fn of_agent(pool: &Pool, tenant: &str, agent: &str) -> Result<Vec<Rollout>> {
    let sql = "SELECT * FROM rollouts WHERE tenant = $1 AND state IN ('first', 'halted') AND id IN \
               (SELECT rollout FROM rollout_agents WHERE tenant = $1 AND agent = $2) ORDER BY id";
    Ok(sql::query_as(sql).bind(tenant).bind(agent).fetch_all(pool).await?)
}

/// The policy that this host is to have at least, as roll-outs say, also those that are over; 0 where none does.
///
/// # Errors
/// The database failed.
pub async fn number(pool: &Pool, tenant: &str, agent: &str) -> Result<i64> {
    let sql = "SELECT COALESCE(MAX(number), 0) FROM rollout_agents WHERE tenant = $1 AND agent = $2";
    Ok(sql::query_scalar(sql).bind(tenant).bind(agent).fetch_one(pool).await?)
}

/// Forgets those that are over, but for a tenant's newest so many.
///
/// # Errors
/// The database failed.
pub async fn tidy(connection: &mut Connection, tenant: &str, most: i64) -> Result<()> {
    let sql = "SELECT id FROM rollouts WHERE tenant = $1 AND state IN ('done', 'withdrawn') ORDER BY id DESC \
               LIMIT 1 OFFSET $2";
    let oldest: Option<String> =
        sql::query_scalar(sql).bind(tenant).bind(most).fetch_optional(&mut *connection).await?;
    let Some(oldest) = oldest else { return Ok(()) };
    let sql = "DELETE FROM rollout_agents WHERE tenant = $1 AND rollout IN \
               (SELECT id FROM rollouts WHERE tenant = $1 AND state IN ('done', 'withdrawn') AND id <= $2)";
    sql::query(sql).bind(tenant).bind(&oldest).execute(&mut *connection).await?;
    let sql = "DELETE FROM rollouts WHERE tenant = $1 AND state IN ('done', 'withdrawn') AND id <= $2";
    sql::query(sql).bind(tenant).bind(&oldest).execute(connection).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Base, on_both};
    use super::*;

    on_both!(a_first_stage_is_known_by_its_hosts_and_old_ones_go,);

    fn rollout(tenant: &str, id: &str, state: State) -> Rollout {
        Rollout {
            tenant: tenant.into(),
            id: id.into(),
            layer: "tenant".into(),
            state,
            created: Timestamp::from_secs(1),
            changed: Timestamp::from_secs(2),
            record: "{}".into(),
        }
    }

    fn host(agent: &str, number: i64) -> Host {
        Host { agent: agent.into(), number, baseline: "{}".into() }
    }

    async fn a_first_stage_is_known_by_its_hosts_and_old_ones_go(base: Base) {
        let (_dir, control) = base.fresh().await;
        let mut change = control.begin().await.unwrap();
        let one = rollout("default", "a", State::First);
        create(change.connection(), &one, &[host("x", 5), host("y", 5)]).await.unwrap();
        create(change.connection(), &rollout("acme", "b", State::Halted), &[host("z", 9)]).await.unwrap();
        create(change.connection(), &rollout("default", "c", State::Withdrawn), &[host("z", 4)]).await.unwrap();
        create(change.connection(), &rollout("default", "d", State::Done), &[host("z", 6)]).await.unwrap();
        change.commit().await.unwrap();
        let pool = control.read();
        assert_eq!(of_agent(pool, "default", "x").await.unwrap(), [one.clone()]);
        assert_eq!(of_agent(pool, "default", "z").await.unwrap(), [], "it is over");
        assert_eq!(of_agent(pool, "acme", "x").await.unwrap(), []);
        assert_eq!((number(pool, "default", "z").await.unwrap(), number(pool, "default", "q").await.unwrap()), (6, 0));
        assert_eq!(open(pool, "").await.unwrap().len(), 2);
        assert_eq!(open(pool, "default").await.unwrap(), [one.clone()]);
        assert!(matches!(get(pool, "acme", "a").await, Err(ControlError::Missing("rollout"))));
        let ids = |rows: Vec<Rollout>| rows.into_iter().map(|row| row.id).collect::<Vec<_>>();
        assert_eq!(ids(list(pool, "default", None, 9).await.unwrap()), ["d", "c", "a"]);
        assert_eq!(ids(list(pool, "default", Some("d"), 1).await.unwrap()), ["c"]);
        let mut change = control.begin().await.unwrap();
        update(change.connection(), &Rollout { state: State::Halted, ..one.clone() }).await.unwrap();
        renumber(change.connection(), "default", "a", 8).await.unwrap();
        tidy(change.connection(), "default", 1).await.unwrap();
        change.commit().await.unwrap();
        assert_eq!(ids(list(pool, "default", None, 9).await.unwrap()), ["d", "a"], "one that is over stays");
        assert_eq!(hosts(pool, "default", "a").await.unwrap(), [host("x", 8), host("y", 8)]);
        assert_eq!(hosts(pool, "default", "c").await.unwrap(), []);
        assert_eq!(get(pool, "default", "a").await.unwrap().state, State::Halted);
    }
}
