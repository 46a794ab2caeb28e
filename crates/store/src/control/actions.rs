//! Actions as rows: the manager's own with their hash-chained ledger, and those of hosts as the projection
//! of what their agents said (D18).

use sakimori_model::ledger::{LedgerRecord, Step, chain};
use sakimori_model::{Action, ActionState, Timestamp};

use super::sql::{self, Connection, Pool, Row};
use super::{Change, ControlError, Result, Scope, audit, next, outbox};

/// Kind of the outbox rows that tell of an action's new state.
pub const OUTBOX_KIND: &str = "action";
/// The place of the manager's own actions.
pub const MANAGER: &str = "manager";

/// An action with the bookkeeping of its reconciler.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Whose.
    pub tenant: String,
    /// The action.
    pub action: Action,
    /// How often it failed in its present state.
    pub failures: u32,
    /// Not before this moment.
    pub retry_at: Option<Timestamp>,
    /// Orders for the same target that have no row of their own.
    pub folded: i64,
    /// When it last took a step.
    pub changed: Timestamp,
}

/// Which actions are meant; empty means any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// States.
    pub states: Vec<ActionState>,
    /// `block_address`, …
    pub kind: Option<String>,
    /// An agent's id, or `manager`.
    pub place: Option<String>,
    /// Text of the target.
    pub target: Option<String>,
    /// Id of the alert.
    pub alert: Option<String>,
    /// Kinds that are left out.
    pub without: Vec<&'static str>,
    /// Text that occurs somewhere in the record, its names of fields among it, whatever the case of ASCII letters.
    pub text: Option<String>,
    /// Planned at this moment or later.
    pub since: Option<Timestamp>,
    /// Only those that prove something, or only the others.
    pub probe: Option<bool>,
}

fn read(row: &Row) -> Result<Job> {
    let record: String = row.try_get("record")?;
    let action = serde_json::from_str(&record).map_err(|error| ControlError::Stored("action", error.to_string()))?;
    Ok(Job {
        tenant: row.try_get("tenant")?,
        action,
        failures: u32::try_from(row.try_get::<i64, _>("failures")?).unwrap_or(u32::MAX),
        retry_at: row.try_get::<Option<i64>, _>("retry_at")?.map(Timestamp::from_micros),
        folded: row.try_get("folded")?,
        changed: Timestamp::from_micros(row.try_get("changed")?),
    })
}

/// Writes a new action of the manager's own, its ledger record and outbox row, and its audit entry where a person is behind
/// it.
///
/// # Errors
/// The database failed.
pub async fn begin(change: &mut Change, tenant: &str, action: &Action, now: Timestamp) -> Result<()> {
    ledger(change.connection(), tenant, Step::Begin(Box::new(action.clone())), &action.order.id, now).await?;
    put(change.connection(), tenant, action, 0, now).await?;
    tell(change, tenant, action, now).await
}

/// Writes a change of an action of the manager's own, likewise. The action must have taken it already.
///
/// # Errors
/// The database failed.
pub async fn step(
    change: &mut Change,
    tenant: &str,
    action: &Action,
    step: sakimori_model::ledger::Change,
    now: Timestamp,
) -> Result<()> {
    ledger(change.connection(), tenant, Step::Change(step), &action.order.id, now).await?;
    put(change.connection(), tenant, action, 0, now).await?;
    tell(change, tenant, action, now).await
}

async fn tell(change: &mut Change, tenant: &str, action: &Action, now: Timestamp) -> Result<()> {
    let payload = serde_json::to_string(action).map_err(|error| ControlError::Stored("action", error.to_string()))?;
    outbox::append(change.connection(), tenant, OUTBOX_KIND, &action.order.id, &payload, now).await?;
    let actor = match &action.undone_by {
        Some(name) if matches!(action.state, ActionState::Undoing | ActionState::Undone) => format!("user:{name}"),
        _ => "system".to_owned(),
    };
    if actor == "system" && !action.order.cause.alert.is_empty() {
        // What an alert led to is in the ledger, whose heads are in the audit log ([`super::retire::head`]): floods of
        // alerts must not fill what says who did what.
        return Ok(());
    }
    let verb = format!("actions:{}", action.state.name());
    change
        .audit(&audit::Entry {
            tenant,
            time: now,
            actor: &actor,
            action: &verb,
            target: &action.order.id,
            before: None,
            after: None,
            address: "",
            request: "",
        })
        .await
}

async fn ledger(connection: &mut Connection, tenant: &str, step: Step, action: &str, now: Timestamp) -> Result<()> {
    let last = "SELECT hash FROM ledger WHERE tenant = $1 ORDER BY sequence DESC LIMIT 1";
    let previous: Option<Vec<u8>> = sql::query_scalar(last).bind(tenant).fetch_optional(&mut *connection).await?;
    let previous: [u8; 32] = match previous {
        None => [0; 32],
        Some(bytes) => bytes.try_into().map_err(|_| ControlError::Stored("ledger hash", "not 32 bytes".into()))?,
    };
    let sequence = next(connection, tenant, "ledger").await?;
    let record = LedgerRecord { sequence: sequence.unsigned_abs(), time: now, previous, step };
    let bytes =
        serde_json::to_vec(&record).map_err(|error| ControlError::Stored("ledger record", error.to_string()))?;
    let sql = "INSERT INTO ledger (tenant, sequence, time, action, record, previous, hash) \
               VALUES ($1, $2, $3, $4, $5, $6, $7)";
    sql::query(sql)
        .bind(tenant)
        .bind(sequence)
        .bind(now.micros())
        .bind(action)
        .bind(&bytes)
        .bind(previous.as_slice())
        .bind(chain(&previous, &bytes).as_slice())
        .execute(connection)
        .await?;
    Ok(())
}

/// Writes the row alone. `position` is the journal record of a host action's event: an older one changes nothing.
///
/// # Errors
/// The database failed.
pub async fn put(
    connection: &mut Connection,
    tenant: &str,
    action: &Action,
    position: i64,
    now: Timestamp,
) -> Result<()> {
    let record = serde_json::to_string(action).map_err(|error| ControlError::Stored("action", error.to_string()))?;
    let sql = "INSERT INTO actions (tenant, id, place, kind, state, target, alert, rule, probe, planned, expires, \
               changed, position, failures, retry_at, record) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, 0, NULL, $14) \
               ON CONFLICT (tenant, id) DO UPDATE SET state = excluded.state, expires = excluded.expires, \
               changed = excluded.changed, position = excluded.position, record = excluded.record, \
               failures = CASE WHEN excluded.state = actions.state THEN actions.failures ELSE 0 END, retry_at = NULL \
               WHERE excluded.place = actions.place AND excluded.position >= actions.position";
    sql::query(sql)
        .bind(tenant)
        .bind(&action.order.id)
        .bind(&action.place)
        .bind(&action.order.action)
        .bind(action.state.name())
        .bind(action.order.target.to_string())
        .bind(&action.order.cause.alert)
        .bind(&action.order.cause.rule)
        .bind(action.order.probe)
        .bind(action.planned_at.micros())
        .bind(action.expires_at.map(Timestamp::micros))
        .bind(now.micros())
        .bind(position)
        .bind(record)
        .execute(connection)
        .await?;
    Ok(())
}

/// Notes a failure and when to try again.
///
/// # Errors
/// The database failed.
pub async fn failed(connection: &mut Connection, job: &Job, retry_at: Timestamp) -> Result<()> {
    let sql = "UPDATE actions SET failures = failures + 1, retry_at = $3 WHERE tenant = $1 AND id = $2";
    sql::query(sql).bind(&job.tenant).bind(&job.action.order.id).bind(retry_at.micros()).execute(connection).await?;
    Ok(())
}

/// Notes when to look again at an action that waits for its provider: no failure.
///
/// # Errors
/// The database failed.
pub async fn wait(connection: &mut Connection, job: &Job, until: Timestamp) -> Result<()> {
    let sql = "UPDATE actions SET retry_at = $3 WHERE tenant = $1 AND id = $2";
    sql::query(sql).bind(&job.tenant).bind(&job.action.order.id).bind(until.micros()).execute(connection).await?;
    Ok(())
}

/// The manager's own actions of a kind that are in one of these states, of all tenants, oldest first.
///
/// # Errors
/// The database failed.
pub async fn work(pool: &Pool, kind: &str, states: &[ActionState]) -> Result<Vec<Job>> {
    let mut query = sql::Builder::new("SELECT * FROM actions WHERE place = 'manager' AND kind = ");
    query.push_bind(kind).push(" AND state").push_in(states.iter().map(|state| state.name()));
    query.push(" ORDER BY planned, id");
    query.build().fetch_all(pool).await?.iter().map(read).collect()
}

/// A tenant's actions of these kinds that are in effect, wherever they are carried out, each with when it last changed.
///
/// # Errors
/// The database failed.
pub async fn blocks(pool: &Pool, tenant: &str, kinds: &[&str], most: i64) -> Result<Vec<(Action, Timestamp)>> {
    let mut query = sql::Builder::new("SELECT * FROM actions WHERE tenant = ");
    query.push_bind(tenant).push(" AND state = 'done' AND NOT probe AND kind").push_in(kinds.iter().copied());
    query.push(" ORDER BY planned, id LIMIT ").push_bind(most);
    query.build().fetch_all(pool).await?.iter().map(changed).collect()
}

/// A tenant's actions of these kinds that are no longer in effect since a moment: taken back, or over by their time.
///
/// # Errors
/// The database failed.
pub async fn blocks_over(
    pool: &Pool,
    tenant: &str,
    kinds: &[&str],
    since: Timestamp,
    now: Timestamp,
    most: i64,
) -> Result<Vec<(Action, Timestamp)>> {
    let mut query = sql::Builder::new("SELECT * FROM actions WHERE tenant = ");
    query.push_bind(tenant).push(" AND NOT probe AND kind").push_in(kinds.iter().copied());
    query.push(" AND ((state IN ('undoing', 'undone', 'expired', 'no_effect', 'failed') AND changed >= ");
    query.push_bind(since.micros()).push(") OR (state = 'done' AND expires >= ").push_bind(since.micros());
    query.push(" AND expires <= ").push_bind(now.micros()).push(")) ORDER BY planned, id LIMIT ").push_bind(most);
    query.build().fetch_all(pool).await?.iter().map(changed).collect()
}

fn changed(row: &Row) -> Result<(Action, Timestamp)> {
    Ok((read(row)?.action, Timestamp::from_micros(row.try_get("changed")?)))
}

/// A tenant's actions that changed since a moment, by kind and state; those that prove something left out.
///
/// # Errors
/// The database failed.
pub async fn since(pool: &Pool, tenant: &str, since: Timestamp) -> Result<Vec<(String, String, i64)>> {
    let sql = "SELECT kind, state, COUNT(*) FROM actions WHERE tenant = $1 AND changed >= $2 AND planned >= $2 \
               AND NOT probe GROUP BY kind, state ORDER BY kind, state";
    Ok(sql::query_as(sql).bind(tenant).bind(since.micros()).fetch_all(pool).await?)
}

/// How many of a tenant's actions of these kinds are in effect.
///
/// # Errors
/// The database failed.
pub async fn in_effect(pool: &Pool, tenant: &str, kinds: &[&str]) -> Result<i64> {
    let mut query = sql::Builder::new("SELECT COUNT(*) FROM actions WHERE tenant = ");
    query.push_bind(tenant).push(" AND state = 'done' AND NOT probe AND kind").push_in(kinds.iter().copied());
    let row = query.build().fetch_one(pool).await?;
    Ok(row.try_get(0)?)
}

/// Is there an action of this id?
///
/// # Errors
/// The database failed.
pub async fn exists(connection: &mut Connection, tenant: &str, id: &str) -> Result<bool> {
    let sql = "SELECT COUNT(*) FROM actions WHERE tenant = $1 AND id = $2";
    Ok(sql::query_scalar::<i64>(sql).bind(tenant).bind(id).fetch_one(connection).await? > 0)
}

/// The manager's own actions of one kind on one target, newest first, at most 20: who is live, who is in its
/// grace time.
///
/// # Errors
/// The database failed.
pub async fn on_target(connection: &mut Connection, tenant: &str, kind: &str, target: &str) -> Result<Vec<Job>> {
    let sql = "SELECT * FROM actions WHERE tenant = $1 AND kind = $2 AND target = $3 AND place = 'manager' \
               AND state IN ('planned', 'approved', 'running', 'done', 'undoing', 'undone') \
               ORDER BY planned DESC LIMIT 20";
    let rows = sql::query(sql).bind(tenant).bind(kind).bind(target).fetch_all(connection).await?;
    rows.iter().map(read).collect()
}

/// The action of a host that is in effect on a target: its id, and how many orders are folded into it.
///
/// # Errors
/// The database failed.
pub async fn covering(connection: &mut Connection, tenant: &str, other: &Action) -> Result<Option<(String, i64)>> {
    let sql = "SELECT id, folded FROM actions WHERE tenant = $1 AND kind = $2 AND target = $3 AND place = $4 \
               AND state IN ('approved', 'running', 'done') AND id <> $5 ORDER BY planned LIMIT 1";
    let query = sql::query_as(sql).bind(tenant).bind(&other.order.action).bind(other.order.target.to_string());
    Ok(query.bind(&other.place).bind(&other.order.id).fetch_optional(connection).await?)
}

/// Counts orders for the target of an action that get no row of their own. What a journal record brought is counted
/// once, however often it is read.
///
/// # Errors
/// The database failed.
pub async fn fold(connection: &mut Connection, tenant: &str, id: &str, count: i64, position: i64) -> Result<()> {
    let sql = "UPDATE actions SET folded = folded + $3, folded_position = $4 \
               WHERE tenant = $1 AND id = $2 AND folded_position < $4";
    sql::query(sql).bind(tenant).bind(id).bind(count).bind(position).execute(connection).await?;
    Ok(())
}

/// One action.
///
/// # Errors
/// `Missing`, or the database failed.
pub async fn get(pool: &Pool, scope: &Scope, id: &str) -> Result<Job> {
    let sql = "SELECT * FROM actions WHERE ($1 = '' OR tenant = $1) AND id = $2";
    let row = sql::query(sql).bind(scope.bound()).bind(id).fetch_optional(pool).await?;
    read(&row.ok_or(ControlError::Missing("action"))?)
}

/// One action, within a change.
///
/// # Errors
/// The database failed.
pub async fn held(connection: &mut Connection, tenant: &str, id: &str) -> Result<Option<Action>> {
    let sql = "SELECT * FROM actions WHERE tenant = $1 AND id = $2";
    let row = sql::query(sql).bind(tenant).bind(id).fetch_optional(connection).await?;
    row.as_ref().map(|row| read(row).map(|job| job.action)).transpose()
}

/// A text as JSON writes it, anywhere in a record.
fn pattern(text: &str) -> String {
    let json = serde_json::Value::from(text.to_ascii_lowercase()).to_string();
    let inner = json.trim_start_matches('"');
    let inner = inner.strip_suffix('"').unwrap_or(inner);
    format!("%{}%", inner.replace('!', "!!").replace('%', "!%").replace('_', "!_"))
}

/// Actions, newest first, after the one that `before` names (its planning time and id).
///
/// # Errors
/// The database failed.
pub async fn list(
    pool: &Pool,
    scope: &Scope,
    filter: &Filter,
    before: Option<(Timestamp, &str)>,
    limit: i64,
) -> Result<Vec<Job>> {
    let mut query = sql::Builder::new("SELECT * FROM actions WHERE 1 = 1");
    if let Scope::One(tenant) = scope {
        query.push(" AND tenant = ").push_bind(tenant);
    }
    if !filter.states.is_empty() {
        query.push(" AND state").push_in(filter.states.iter().map(|state| state.name()));
    }
    for (column, value) in [
        (" AND kind = ", &filter.kind),
        (" AND place = ", &filter.place),
        (" AND target = ", &filter.target),
        (" AND alert = ", &filter.alert),
    ] {
        if let Some(value) = value {
            query.push(column).push_bind(value);
        }
    }
    if let Some(since) = filter.since {
        query.push(" AND planned >= ").push_bind(since.micros());
    }
    if let Some(probe) = filter.probe {
        query.push(if probe { " AND probe" } else { " AND NOT probe" });
    }
    if let Some(text) = &filter.text {
        query.push(" AND LOWER(record) LIKE ").push_bind(pattern(text)).push(" ESCAPE '!'");
    }
    if !filter.without.is_empty() {
        query.push(" AND NOT kind").push_in(filter.without.iter().copied());
    }
    if let Some((time, id)) = before {
        query.push(" AND (planned < ").push_bind(time.micros());
        query.push(" OR (planned = ").push_bind(time.micros());
        query.push(" AND id < ").push_bind(id).push("))");
    }
    query.push(" ORDER BY planned DESC, id DESC LIMIT ").push_bind(limit);
    query.build().fetch_all(pool).await?.iter().map(read).collect()
}

/// How many actions are in each state, of one tenant or all: for figures.
///
/// # Errors
/// The database failed.
pub async fn counts(pool: &Pool) -> Result<Vec<(String, i64)>> {
    Ok(sql::query_as("SELECT state, COUNT(*) FROM actions GROUP BY state ORDER BY state").fetch_all(pool).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests::{Base, on_both};
    use sakimori_model::action::{Cause, Target};
    use sakimori_model::{Network, Order};

    on_both!(
        the_ledger_is_a_chain_and_the_outbox_tells,
        an_older_event_of_a_host_action_and_another_place_change_nothing,
        repeats_of_a_target_are_counted_once_a_record,
        lists_are_filtered_and_paged,
    );

    fn action(id: &str, place: &str, state: ActionState) -> Action {
        let network: Network = "192.0.2.7".parse().unwrap();
        Action {
            order: Order {
                id: id.into(),
                action: "waf_block".into(),
                target: Target::Network(network),
                expiry: None,
                cause: Cause::default(),
                via: None,
                probe: false,
                inputs: Default::default(),
                signatures: Vec::new(),
            },
            place: place.into(),
            state,
            reason: None,
            former: None,
            planned_at: Timestamp::from_secs(5),
            done_at: None,
            ended_at: None,
            expires_at: None,
            expires_at_most: None,
            prolonged: 0,
            grace_until: None,
            undone_by: None,
            confirm_by: None,
        }
    }

    async fn the_ledger_is_a_chain_and_the_outbox_tells(base: Base) {
        let (_dir, control) = base.fresh().await;
        let now = Timestamp::from_secs(9);
        let mut change = control.begin().await.unwrap();
        begin(&mut change, "default", &action("a", MANAGER, ActionState::Planned), now).await.unwrap();
        begin(&mut change, "default", &action("b", MANAGER, ActionState::Approved), now).await.unwrap();
        change.commit().await.unwrap();
        let rows: Vec<(Vec<u8>, Vec<u8>, Vec<u8>)> =
            sql::query_as("SELECT previous, record, hash FROM ledger ORDER BY sequence")
                .fetch_all(control.read())
                .await
                .unwrap();
        let mut previous = [0_u8; 32];
        for (before, record, hash) in rows {
            assert_eq!(before, previous);
            previous = chain(&previous, &record);
            assert_eq!(hash, previous);
        }
        let told = outbox::after(control.read(), 0, 10).await.unwrap();
        assert_eq!(told.iter().filter(|row| row.kind == OUTBOX_KIND).count(), 2);
        let work = work(control.read(), "waf_block", &[ActionState::Approved]).await.unwrap();
        assert_eq!(work.iter().map(|job| job.action.order.id.as_str()).collect::<Vec<_>>(), ["b"]);
    }

    async fn an_older_event_of_a_host_action_and_another_place_change_nothing(base: Base) {
        let (_dir, control) = base.fresh().await;
        let now = Timestamp::from_secs(9);
        let mut change = control.begin().await.unwrap();
        put(change.connection(), "default", &action("a", "agent", ActionState::Done), 7, now).await.unwrap();
        put(change.connection(), "default", &action("a", "agent", ActionState::Running), 6, now).await.unwrap();
        put(change.connection(), "default", &action("a", "other", ActionState::Undone), 9, now).await.unwrap();
        change.commit().await.unwrap();
        let one = get(control.read(), &Scope::One("default".into()), "a").await.unwrap();
        assert_eq!((one.action.state, one.action.place.as_str()), (ActionState::Done, "agent"));
        assert!(get(control.read(), &Scope::One("other".into()), "a").await.is_err());
    }

    async fn repeats_of_a_target_are_counted_once_a_record(base: Base) {
        let (_dir, control) = base.fresh().await;
        let now = Timestamp::from_secs(9);
        let mut change = control.begin().await.unwrap();
        put(change.connection(), "default", &action("a", "agent", ActionState::Done), 7, now).await.unwrap();
        let again = action("b", "agent", ActionState::NoEffect);
        for position in [8, 8, 9] {
            let (id, _) = covering(change.connection(), "default", &again).await.unwrap().unwrap();
            fold(change.connection(), "default", &id, 5, position).await.unwrap();
        }
        let found = covering(change.connection(), "default", &again).await.unwrap();
        assert_eq!(found, Some(("a".to_owned(), 10)));
        let elsewhere = action("b", "other", ActionState::NoEffect);
        assert_eq!(covering(change.connection(), "default", &elsewhere).await.unwrap(), None);
        // A later state of the row keeps the count.
        put(change.connection(), "default", &action("a", "agent", ActionState::Undone), 10, now).await.unwrap();
        change.commit().await.unwrap();
        assert_eq!(get(control.read(), &Scope::All, "a").await.unwrap().folded, 10);
    }

    async fn lists_are_filtered_and_paged(base: Base) {
        let (_dir, control) = base.fresh().await;
        let mut change = control.begin().await.unwrap();
        for id in ["a", "b", "c"] {
            let one = action(id, MANAGER, ActionState::Done);
            put(change.connection(), "default", &one, 0, Timestamp::from_secs(1)).await.unwrap();
        }
        change.commit().await.unwrap();
        let ids = |list: Vec<Job>| list.into_iter().map(|job| job.action.order.id).collect::<Vec<_>>();
        let scope = Scope::One("default".into());
        let first = list(control.read(), &scope, &Filter::default(), None, 2).await.unwrap();
        assert_eq!(ids(first.clone()), ["c", "b"]);
        let last = first.last().map(|job| (job.action.planned_at, job.action.order.id.as_str()));
        assert_eq!(ids(list(control.read(), &scope, &Filter::default(), last, 2).await.unwrap()), ["a"]);
        let without = Filter { without: vec!["waf_block"], ..Filter::default() };
        assert!(list(control.read(), &scope, &without, None, 2).await.unwrap().is_empty());
        let says = |text: &str| Filter { text: Some(text.into()), ..Filter::default() };
        assert_eq!(list(control.read(), &scope, &says("WAF_block"), None, 9).await.unwrap().len(), 3);
        for strange in ["waf%block", "waf-block", "\"", "!", "\\"] {
            list(control.read(), &scope, &says(strange), None, 9).await.unwrap();
        }
        assert!(list(control.read(), &scope, &says("waf%block"), None, 9).await.unwrap().is_empty(), "no wildcards");
        assert!(list(control.read(), &scope, &says("_af_block"), None, 9).await.unwrap().is_empty());
        let planned = first[0].action.planned_at;
        for (since, probe, count) in [(0, None, 3), (1, None, 0), (0, Some(false), 3), (0, Some(true), 0)] {
            let filter = Filter { since: Some(planned.plus_secs(since)), probe, ..Filter::default() };
            assert_eq!(list(control.read(), &scope, &filter, None, 9).await.unwrap().len(), count, "{since} {probe:?}");
        }
        let none = Filter { states: vec![ActionState::Failed], ..Filter::default() };
        assert!(list(control.read(), &scope, &none, None, 2).await.unwrap().is_empty());
    }
}
