//! `now`: the last hours in one look: attacks stopped and by which layer, what waits for a person, blocks with the time
//! they have left, what is unprotected, how ingest, disk and books are. One request, and quick: counts come from indexes
//! and statistics, and the one look into the lake goes over the hours that are asked for. The answer is worked out once
//! in a few seconds for all who ask: who asks while it is worked out waits for that.

mod look;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::extract::State;
use sakimori_model::Timestamp;
use sakimori_runtime::Clock;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Mutex as Turn;
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

/// Whose, and of how many hours.
type Key = (String, i64);
/// An answer, and the turn of who works it out.
type Place = Arc<Turn<Option<Now>>>;

/// Answers, each with its place.
#[derive(Clone, Default)]
pub struct Kept(Arc<Mutex<HashMap<Key, Place>>>);

impl Kept {
    /// The answer that is fresh, or the one that is worked out now: by one who asks, for all.
    async fn get<F: Future<Output = Result<Now, Problem>>>(
        &self,
        key: Key,
        clock: &dyn Clock,
        work: impl FnOnce(Timestamp) -> F,
    ) -> Result<Now, Problem> {
        let place = self.place(key, clock.now());
        let mut kept = place.lock().await;
        let at = clock.now();
        if let Some(kept) = kept.as_ref().filter(|kept| is_fresh(kept, at)) {
            return Ok(kept.clone());
        }
        let now = work(at).await?;
        *kept = Some(now.clone());
        Ok(now)
    }

    /// The place of an answer; where there are too many, those that are neither fresh nor waited for go.
    fn place(&self, key: Key, at: Timestamp) -> Place {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= KEPT && !all.contains_key(&key) {
            let needed = |place: &Place| match place.try_lock() {
                Ok(kept) => kept.as_ref().is_some_and(|kept| is_fresh(kept, at)),
                Err(_) => true,
            };
            all.retain(|_, place| Arc::strong_count(place) > 1 || needed(place));
            if all.len() >= KEPT {
                return Place::default();
            }
        }
        Arc::clone(all.entry(key).or_default())
    }
}

fn is_fresh(kept: &Now, at: Timestamp) -> bool {
    (0..FRESH).contains(&at.since(kept.at))
}

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
    /// That rule's title, in English.
    pub title: String,
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
    let (key, clock) = ((caller.tenant().to_owned(), hours), &*app.shared.clock);
    let look = |at: Timestamp| look::look(&app, caller.tenant(), at, at.plus_secs(-hours * 3_600));
    Ok(Json(app.now.get(key, clock, look).await?))
}

/// How ingest is, in a few figures, for who watches.
pub(super) fn pulse(app: &App, tenant: &str) -> Value {
    let shared = &app.shared;
    let arrived: u64 = shared.ingest.streams(tenant).iter().map(|(.., events)| events).sum();
    let status = shared.lake.status().unwrap_or_default();
    json!({
        "at": shared.clock.now(),
        "ready": shared.ingest.ready(),
        "arrived": arrived,
        "waiting_events": status.waiting_events,
        "disk_free": status.disk_free,
        "agents_connected": shared.links.count_of(tenant),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use sakimori_runtime::clock::ManualClock;

    use super::*;

    fn now(at: Timestamp) -> Now {
        Now {
            at,
            from: at,
            stopped: Stopped::default(),
            alerts: AlertCounts::default(),
            approvals: Approvals::default(),
            orders_waiting: 0,
            blocks: Blocks::default(),
            hosts: Hosts::default(),
            ingest: Ingest::default(),
            disk: Disk::default(),
            books: Books::default(),
            halted: None,
        }
    }

    #[tokio::test]
    async fn of_many_who_ask_at_once_one_works_it_out() {
        let (kept, clock, worked) = (Kept::default(), ManualClock::at(Timestamp::from_secs(1_000)), AtomicU32::new(0));
        let ask = || {
            kept.get(("default".to_owned(), 24), &clock, |at| {
                worked.fetch_add(1, Ordering::Relaxed);
                async move {
                    // The others ask meanwhile.
                    tokio::task::yield_now().await;
                    Ok(now(at))
                }
            })
        };
        let all = futures::future::join_all((0..20).map(|_| ask())).await;
        assert!(all.into_iter().all(|answer| answer.is_ok()));
        assert_eq!(worked.load(Ordering::Relaxed), 1);
        clock.set(clock.now().plus_secs(3));
        ask().await.unwrap();
        assert_eq!(worked.load(Ordering::Relaxed), 2, "it is old by now");
        for hours in 0..2 * i64::try_from(KEPT).unwrap() {
            kept.get(("default".to_owned(), hours), &clock, |at| async move { Ok(now(at)) }).await.unwrap();
        }
        assert_eq!(kept.0.lock().unwrap().len(), KEPT);
    }
}
