//! Log sources, one row a source and origin: how fast it speaks, how late, what of it could not be read, whether it went quiet,
//! and whether its books balance. Put together from what agents say of their inputs, the lake, and the books.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use sakimori_model::Timestamp;
use sakimori_store::control::agents::Agent;
use sakimori_wire::status::{AgentStatus, InputStatus};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::App;
use super::access::Caller;
use super::policy_changes::hosts;
use super::problem::Problem;
use crate::books;
use crate::sources::{Counted, Health, RECENT, USUAL, judge, rate};

/// Most rows of one answer; the ones that need somebody first.
const MOST: usize = 5_000;

/// A source on a host, or by a way in.
#[derive(Debug, Serialize, ToSchema)]
pub struct LogSourceView {
    /// Agent; or `way:<name>` for what others send.
    pub origin: String,
    /// Host name; empty for a way in.
    pub host: String,
    /// Is its agent connected? True for a way in.
    pub connected: bool,
    /// Its stream: the name of the input.
    pub stream: String,
    /// Slug of the log source, `linux/auth`; several where a stream carries several.
    pub source: String,
    /// What its agent says: `reading`, `starting`, `absent`, `waiting`; empty for a way in.
    pub state: String,
    /// `well`; `quiet`: it was talking and is silent; `unread`: more than one in a hundred could not be read; `unknown`:
    /// nothing came from it in a day.
    pub health: &'static str,
    /// Events a second, of the last hour.
    pub rate: f64,
    /// Events of the last hour.
    pub events_hour: u64,
    /// Events of the day before it.
    pub events_day: u64,
    /// Events of the last hour that the source's program could not read.
    pub unread: u64,
    /// Mean seconds from what a line says of its time to its arrival, of the last hour.
    pub lag_seconds: Option<f64>,
    /// When its last event was.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last: Option<Timestamp>,
    /// Seconds since.
    pub silent_seconds: Option<i64>,
    /// Events that were lost, by its books.
    pub lost: u64,
    /// Is everything that arrived stored, or was it for its time? Absent where it has no books yet.
    pub balanced: Option<bool>,
}

/// Log sources of a tenant.
#[derive(Debug, Serialize, ToSchema)]
pub struct LogSources {
    /// Those that need somebody first: quiet, unread, then by host.
    pub items: Vec<LogSourceView>,
    /// Were there more than 5000?
    pub more: bool,
}

/// What the lake says of one source.
#[derive(Clone, Debug, Default)]
struct Heard {
    counted: Counted,
    lag: Option<f64>,
    last: Option<Timestamp>,
}

type Key = (String, String, String);

/// `GET /log-sources`
pub async fn list(State(app): State<App>, caller: Caller) -> Result<Json<LogSources>, Problem> {
    let now = app.shared.clock.now();
    let mut heard = heard(&app, &caller, now).await?;
    let (agents, _) = hosts(&app, caller.tenant()).await?;
    let balance = books::balance(&app.shared, caller.tenant()).await.map_err(|error| Problem::failed(&error))?;
    let books: BTreeMap<(&str, &str), &books::Row> =
        balance.iter().map(|row| ((row.origin.as_str(), row.stream.as_str()), row)).collect();
    let mut items = Vec::new();
    for agent in &agents {
        let status: AgentStatus = serde_json::from_str(&agent.status).unwrap_or_default();
        for input in &status.inputs {
            let key = (agent.id.clone(), input.name.clone(), input.source.clone());
            let of = heard.remove(&key).unwrap_or_default();
            items.push(view(&app, &key, (Some(agent), Some(input)), of, now));
        }
    }
    // What no input of an agent claims: ways in, and inputs that are gone.
    for (key, of) in heard {
        let agent = agents.iter().find(|agent| agent.id == key.0);
        items.push(view(&app, &key, (agent, None), of, now));
    }
    for item in &mut items {
        if let Some(row) = books.get(&(item.origin.as_str(), item.stream.as_str())) {
            item.lost = item.lost.max(row.lost.iter().map(|loss| loss.count).sum());
            item.balanced = Some(row.balanced);
        }
    }
    let grade = |item: &LogSourceView| match item.health {
        "quiet" => 0,
        "unread" => 1,
        _ => 2,
    };
    items.sort_by(|a, b| {
        (grade(a), &a.host, &a.stream, &a.source, &a.origin).cmp(&(grade(b), &b.host, &b.stream, &b.source, &b.origin))
    });
    let more = items.len() > MOST;
    items.truncate(MOST);
    Ok(Json(LogSources { items, more }))
}

fn view(
    app: &App,
    (origin, stream, source): &Key,
    (agent, input): (Option<&Agent>, Option<&InputStatus>),
    mut of: Heard,
    now: Timestamp,
) -> LogSourceView {
    let last = of.last.max(input.and_then(|input| input.last));
    of.counted.silent_for = last.map(|last| (now.since(last) / 1_000_000).max(0));
    let health = match input.map(|input| input.state.as_str()) {
        // A log that is not there is a state, not a silence.
        Some("absent") if of.counted.recent + of.counted.usual == 0 => Health::Unknown,
        _ => judge(&of.counted),
    };
    LogSourceView {
        origin: origin.clone(),
        host: agent.map(|agent| agent.name.clone()).unwrap_or_default(),
        connected: agent.is_none_or(|agent| app.shared.links.connected(&agent.id)),
        stream: stream.clone(),
        source: source.clone(),
        state: input.map(|input| input.state.clone()).unwrap_or_default(),
        health: health.name(),
        rate: rate(&of.counted),
        events_hour: of.counted.recent,
        events_day: of.counted.usual,
        unread: of.counted.unread,
        lag_seconds: of.lag,
        last,
        silent_seconds: of.counted.silent_for,
        lost: input.map_or(0, |input| input.lost),
        balanced: None,
    }
}

/// What the lake has of each source in the last hour and the day before it.
async fn heard(app: &App, caller: &Caller, now: Timestamp) -> Result<BTreeMap<Key, Heard>, Problem> {
    let (hour, day) = (now.plus_secs(-RECENT), now.plus_secs(-RECENT - USUAL));
    let recent = format!("\"sakimori.time\" >= TIMESTAMP '{hour}'");
    // Times and columns of ours: nothing that anybody wrote is in the statement.
    let statement = format!(
        "SELECT \"sakimori.origin\", \"sakimori.stream\", \"sakimori.source\", \
         SUM(CASE WHEN {recent} THEN 1 ELSE 0 END), SUM(CASE WHEN {recent} THEN 0 ELSE 1 END), \
         SUM(CASE WHEN {recent} AND \"error.message\" IS NOT NULL THEN 1 ELSE 0 END), \
         AVG(CASE WHEN {recent} THEN CAST(\"sakimori.received\" AS BIGINT) - CAST(\"sakimori.time\" AS BIGINT) END), \
         MAX(\"sakimori.time\") FROM events WHERE \"sakimori.source\" IS NOT NULL AND (\"event.kind\" IS NULL OR \"event.kind\" <> 'alert') \
         AND \"sakimori.time\" >= TIMESTAMP '{day}' GROUP BY \"sakimori.origin\", \"sakimori.stream\", \"sakimori.source\""
    );
    let table = app.shared.lake.sql(caller.tenant(), &statement).await?;
    let row = |row: &Vec<Value>| {
        let text = |at: usize| row.get(at).and_then(Value::as_str).map(str::to_owned);
        let number = |at: usize| row.get(at).and_then(Value::as_u64).unwrap_or(0);
        let counted = Counted { recent: number(3), usual: number(4), unread: number(5), silent_for: None };
        let lag = row.get(6).and_then(Value::as_f64).map(|micros| (micros / 1_000_000.0).max(0.0));
        let last = row.get(7).and_then(Value::as_str).and_then(Timestamp::parse);
        Some(((text(0)?, text(1)?, text(2)?), Heard { counted, lag, last }))
    };
    Ok(table.rows.iter().filter_map(row).collect())
}
