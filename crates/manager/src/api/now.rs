//! `now`: the last hours in one look: attacks stopped and by which layer, what waits for a person, blocks with the time
//! they have left, what is unprotected, how ingest, disk and books are. One request, and quick: counts come from indexes
//! and statistics, and the one look into the lake goes over the hours that are asked for. The answer is worked out once
//! in a few seconds for all who ask.

mod look;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use sakimori_model::Timestamp;
use sakimori_store::control::{Scope, agents};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::access::Caller;
use super::extract::Query;
use super::problem::{self, Problem};

/// Hours where the request does not say.
const HOURS: i64 = 24;
/// Most hours.
const MOST_HOURS: i64 = 168;
/// An answer is that old at the most, in microseconds.
const FRESH: i64 = 3_000_000;
/// Most answers that are kept: one a tenant and number of hours.
const KEPT: usize = 256;
/// Most hosts that are looked at.
const HOSTS: i64 = 10_000;

/// Answers that are fresh.
#[derive(Clone, Default)]
pub struct Kept(Arc<Mutex<HashMap<(String, i64), Now>>>);

/// How far back.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct NowQuery {
    /// Hours, 1 to 168; 24 where absent.
    pub hours: Option<i64>,
}

/// The last hours.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Now {
    /// When this was worked out.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// From this moment on.
    #[schema(value_type = String, format = DateTime)]
    pub from: Timestamp,
    /// Attacks that were stopped, by layer.
    pub stopped: Stopped,
    /// Alerts of these hours.
    pub alerts: AlertCounts,
    /// Questions that wait for a person.
    pub approvals: Approvals,
    /// Orders that wait for operators' signatures or for their host.
    pub orders_waiting: u64,
    /// Blocks in effect.
    pub blocks: Blocks,
    /// Hosts.
    pub hosts: Hosts,
    /// How events come in.
    pub ingest: Ingest,
    /// The disk below the state folder.
    pub disk: Disk,
    /// in = stored + gone by its time + on its way, and what was lost.
    pub books: Books,
    /// Are all automatic answers stopped? Then by whom and why.
    pub halted: Option<String>,
}

/// Attacks stopped, by layer.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct Stopped {
    /// Addresses blocked on hosts.
    pub host_block: u64,
    /// Requests and connections that network rules dropped or refused.
    pub ips_prevent: u64,
    /// Opens and executions of malicious files that were refused, and files taken away: the larger of both numbers, since most
    /// files are in both.
    pub malware_denied: u64,
    /// Of these, files taken away.
    pub quarantined: u64,
    /// Networks blocked in front, in AWS WAF.
    pub waf: u64,
}

/// Alerts.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct AlertCounts {
    /// All.
    pub total: u64,
    /// By severity: `informational`, `low`, `medium`, `high`, `critical`.
    pub by_severity: BTreeMap<&'static str, u64>,
}

/// Questions.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct Approvals {
    /// How many.
    pub waiting: u64,
    /// The newest.
    pub items: Vec<Approval>,
}

/// A question.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Approval {
    /// The execution that asks.
    pub execution: String,
    /// The step.
    pub step: String,
    /// The playbook.
    pub playbook: String,
    /// The alert that it is about; empty where there is none.
    pub alert: String,
    /// The question in English.
    pub en: String,
    /// The question in Japanese; empty where there is none.
    pub ja: String,
    /// How many people must allow it.
    pub persons: u32,
    /// Until when an answer counts.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
}

/// Blocks.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct Blocks {
    /// How many are in effect.
    pub active: u64,
    /// Some of them, the oldest first.
    pub items: Vec<Block>,
}

/// A block.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Block {
    /// Id of the action.
    pub id: String,
    /// `block_address` or `waf_block`.
    pub action: String,
    /// Address or network.
    pub target: String,
    /// Agent that holds it, or `manager`.
    pub place: String,
    /// Since when.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// Until when.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
    /// Seconds that it has left.
    pub seconds_left: Option<i64>,
    /// The rule that led to it; empty where a person ordered it.
    pub rule: String,
    /// The alert that led to it; empty where a person ordered it.
    pub alert: String,
}

/// Hosts.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct Hosts {
    /// Hosts that are expected to be there.
    pub total: u64,
    /// Those whose agent is connected.
    pub connected: u64,
    /// Those that lack something.
    pub unprotected: u64,
    /// Some of those that lack something.
    pub items: Vec<Unprotected>,
}

/// A host that lacks something.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Unprotected {
    /// Agent.
    pub agent: String,
    /// Host name.
    pub host: String,
    /// `connected`, `away`, `silent` or `stopped`.
    pub state: String,
    /// What it lacks, one by one.
    pub why: Vec<Lack>,
}

/// Something that a host lacks.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Lack {
    /// Module, or `agent`.
    pub module: String,
    /// `disconnected`, `failing`, `halted`, `unproven`.
    pub state: &'static str,
    /// Why.
    pub detail: String,
}

/// How events come in.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct Ingest {
    /// Can batches be taken?
    pub ready: bool,
    /// Events of this tenant so far.
    pub arrived: u64,
    /// Of them a second, in the last minute of events.
    pub per_second: f64,
    /// Time of the newest event.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub newest: Option<Timestamp>,
    /// How long ago that is, in seconds.
    pub quiet_seconds: Option<i64>,
    /// Batches that hosts have and this manager has not.
    pub waiting_on_hosts: u64,
    /// Events in memory, not yet in the table; of all tenants.
    pub waiting_events: u64,
}

/// The disk.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct Disk {
    /// Bytes free.
    pub free: u64,
    /// Its size.
    pub size: u64,
    /// Why nothing new is taken; absent where there is room.
    pub full: Option<String>,
}

/// The books.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct Books {
    /// Events that arrived.
    pub arrived: u64,
    /// Events that a search finds, dead letters among them.
    pub stored: u64,
    /// Events whose retention is over.
    pub expired: u64,
    /// Of the events of these hours, those that nobody could read.
    pub dead: u64,
    /// Events that were lost, as hosts counted them.
    pub lost: u64,
    /// Between journal and lake at this moment, or missing.
    pub between: i64,
}

/// `GET /now`
pub async fn get(State(app): State<App>, caller: Caller, Query(asked): Query<NowQuery>) -> Result<Json<Now>, Problem> {
    let hours = asked.hours.unwrap_or(HOURS);
    if !(1..=MOST_HOURS).contains(&hours) {
        let reason = format!("expected 1 to {MOST_HOURS}, found {hours}");
        return Err(Problem::new(problem::REQUEST_QUERY).fault("hours", reason));
    }
    let (at, key) = (app.shared.clock.now(), (caller.tenant().to_owned(), hours));
    if let Some(kept) = app.now.0.lock().await.get(&key)
        && (0..FRESH).contains(&at.since(kept.at))
    {
        return Ok(Json(kept.clone()));
    }
    let now = look::look(&app, caller.tenant(), at, at.plus_secs(-hours * 3_600)).await?;
    let mut kept = app.now.0.lock().await;
    if kept.len() >= KEPT {
        kept.retain(|_, one| at.since(one.at) < FRESH);
    }
    if kept.len() < KEPT {
        kept.insert(key, now.clone());
    }
    Ok(Json(now))
}

/// How ingest is, in a few figures, for who watches.
pub(super) async fn pulse(app: &App, tenant: &str) -> Value {
    let shared = &app.shared;
    let arrived: u64 = shared.ingest.streams(tenant).iter().map(|(.., events)| events).sum();
    let status = shared.lake.status().unwrap_or_default();
    json!({
        "at": shared.clock.now(),
        "ready": shared.ingest.ready(),
        "arrived": arrived,
        "waiting_events": status.waiting_events,
        "disk_free": status.disk_free,
        "agents_connected": connected(app, tenant).await,
    })
}

async fn connected(app: &App, tenant: &str) -> usize {
    let scope = Scope::One(tenant.to_owned());
    let hosts = agents::list(app.shared.control.read(), &scope, "", HOSTS).await.unwrap_or_default();
    hosts.iter().filter(|agent| app.shared.links.connected(&agent.id)).count()
}
