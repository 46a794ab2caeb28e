//! Scans of a host by order: beginning one, and how it stands. What a scan is: [`scan_paths`].
//!
//! How it stands is put together from what is known here: the order that waits for its host, the action as the host's
//! ledger told it, the figures of the host's last status, its report and its finds among the events.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use sakimori_model::action::{Cause, Target};
use sakimori_model::{Action, Event, Order, Timestamp, field};
use sakimori_respond::actions::scan_paths;
use sakimori_store::control::{ControlError, Scope, actions};
use sakimori_store::query;
use sakimori_wire::scans::ScanStatus;
use sakimori_wire::status::AgentStatus;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::access::Caller;
use super::actions::Planned;
use super::events::{SearchQuery, find};
use super::extract::{Body, Page};
use super::problem::{self, Problem};
use super::{App, agents};
use crate::respond;

/// Most finds of one answer.
const MOST_FOUND: i64 = 200;
/// Longest reason, in bytes.
const MOST_REASON: usize = 1_000;

/// A scan to begin.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewScan {
    /// Files and folders, whole paths; 1 to 16.
    pub paths: Vec<String>,
    /// Patterns of what is left out: `*.iso`, `/var/lib/docker`.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Share of a processor that it may take, 1 to 100; 25 where absent.
    pub cpu_percent: Option<u32>,
    /// Leave what is found where it is.
    #[serde(default)]
    pub report_only: bool,
    /// Why, for those who read of it.
    #[serde(default)]
    pub reason: String,
    /// It is not to begin later than so many seconds from now, 1 to 2592000; whenever the host connects where absent.
    pub begin_within_seconds: Option<i64>,
    /// Say what would be done, and do nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// How a scan stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct ScanView {
    /// Its id, which is the action's.
    pub id: String,
    /// The agent.
    pub agent: String,
    /// `waiting` (for its host to connect, or for signatures), or the state of its action: `running`, `done`, `failed`,
    /// `refused`, `no_effect`, `undone`.
    pub state: String,
    /// What came of it in words, or why it did not begin.
    pub reason: String,
    /// Where it looks.
    pub paths: Vec<String>,
    /// Who ordered it.
    pub by: String,
    /// When it was ordered, or begun.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// When it was over.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended: Option<Timestamp>,
    /// Where it is, as its host last said: `scanning`, `paused`, …; empty where it is not under way.
    pub step: String,
    /// `files`, `bytes`, `found`, `unreadable`, `failed`, `too_large`, `excluded`, … so far, or in all.
    #[schema(value_type = Object)]
    pub counts: Value,
    /// Seconds of work, pauses left out.
    pub seconds: u64,
    /// Seconds that are left, where that can be said.
    pub seconds_left: Option<u64>,
    /// What was found, at most 200.
    pub found: Vec<FoundFile>,
    /// Were there more?
    pub more: bool,
}

/// A malicious file.
#[derive(Debug, Serialize, ToSchema)]
pub struct FoundFile {
    /// Where it was.
    pub path: String,
    /// Slug of the rule.
    pub rule: String,
    /// Its title.
    pub title: String,
    /// Of its content.
    pub sha256: String,
    /// Id of the alert.
    pub alert: String,
}

impl From<Event> for FoundFile {
    fn from(event: Event) -> Self {
        let text = |id| event.str(id).unwrap_or_default().to_owned();
        Self {
            path: text(field::FILE_PATH),
            rule: text(field::RULE_ID),
            title: text(field::RULE_NAME),
            sha256: text(field::FILE_HASH_SHA256),
            alert: text(field::SAKIMORI_ALERT_ID),
        }
    }
}

/// The host's own report, as an event.
struct Reported(Event);

impl From<Event> for Reported {
    fn from(event: Event) -> Self {
        Self(event)
    }
}

/// `POST /agents/{id}/scans`
pub async fn begin(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(new): Body<NewScan>,
) -> Result<(StatusCode, Json<Planned>), Problem> {
    let agent = agents::find(&app, &caller, &id).await?;
    if agent.revoked.is_some() {
        return Err(wrong("agent", "the agent is revoked"));
    }
    let order = read(new.order(&caller, app.shared.clock.now())?)?;
    let mut planned = Planned {
        id: String::new(),
        place: agent.id,
        verdict: "allowed",
        reason: "nothing is to be taken back: a scan only reads, and what it finds is taken by actions of their own"
            .into(),
        order: json!(&order),
    };
    if new.dry_run {
        return Ok((StatusCode::OK, Json(planned)));
    }
    planned.id.clone_from(&order.id);
    respond::order(&app.shared, caller.tenant(), &planned.place, order, &caller.name).await?;
    Ok((StatusCode::ACCEPTED, Json(planned)))
}

fn wrong(place: &str, reason: impl std::fmt::Display) -> Problem {
    Problem::new(problem::ACTION_INVALID).fault(place, reason)
}

/// The host checks the same; a mistake is better seen at once.
fn read(order: Order) -> Result<Order, Problem> {
    match scan_paths::scan(&order) {
        Ok(_) => Ok(order),
        Err(reason) => Err(wrong("paths", reason)),
    }
}

impl NewScan {
    fn order(&self, caller: &Caller, now: Timestamp) -> Result<Order, Problem> {
        let (first, more) = self.paths.split_first().ok_or_else(|| wrong("paths", "name at least one path"))?;
        if self.reason.len() > MOST_REASON {
            return Err(wrong("reason", format!("a reason has at most {MOST_REASON} bytes")));
        }
        if self.begin_within_seconds.is_some_and(|seconds| !(1..=super::actions::LONGEST).contains(&seconds)) {
            return Err(wrong("begin_within_seconds", format!("expected 1 to {}", super::actions::LONGEST)));
        }
        let mut inputs = BTreeMap::new();
        for (name, list) in [(scan_paths::PATHS, more), (scan_paths::EXCLUDE, self.exclude.as_slice())] {
            if !list.is_empty() {
                inputs.insert(name.to_owned(), json!(list).to_string());
            }
        }
        if let Some(percent) = self.cpu_percent {
            inputs.insert(scan_paths::CPU.to_owned(), percent.to_string());
        }
        if self.report_only {
            inputs.insert(scan_paths::REPORT_ONLY.to_owned(), "true".to_owned());
        }
        Ok(Order {
            id: sakimori_model::id::row_id(),
            action: scan_paths::ID.to_owned(),
            target: Target::File(first.clone()),
            expiry: self.begin_within_seconds.map(|seconds| now.plus_secs(seconds)),
            // Without an alert: that is how an order by hand is known.
            cause: Cause { by: caller.name.clone(), title: self.reason.clone(), ..Cause::default() },
            via: None,
            probe: false,
            inputs,
            signatures: Vec::new(),
        })
    }
}

/// `GET /agents/{id}/scans/{scan}`
pub async fn get(
    State(app): State<App>,
    caller: Caller,
    Path((id, scan)): Path<(String, String)>,
) -> Result<Json<ScanView>, Problem> {
    let agent = agents::find(&app, &caller, &id).await?;
    let missing = || Problem::new(problem::ACTION_MISSING);
    // Nothing else reaches the search language.
    if !(1..=64).contains(&scan.len()) || !scan.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(missing());
    }
    let pool = app.shared.control.read();
    let known = match actions::get(pool, &Scope::One(caller.tenant().to_owned()), &scan).await {
        Ok(job) => Some(job.action),
        Err(ControlError::Missing(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let known = known.filter(|action| action.place == agent.id && action.order.action == scan_paths::ID);
    let mut view = match known {
        Some(action) => of(&action),
        None => {
            let waiting = sakimori_store::control::agents::orders(pool, caller.tenant(), &agent.id).await?;
            let row = waiting.into_iter().find(|row| row.id == scan && row.kind == "order").ok_or_else(missing)?;
            let order: Order = serde_json::from_str(&row.payload).map_err(|_| missing())?;
            let mut view = with(&order, &agent.id, Timestamp::from_micros(row.created));
            if row.lacks > 0 {
                view.reason = format!("{} operators still have to sign it: sakimori operator waiting", row.lacks);
            }
            view
        }
    };
    let status: AgentStatus = serde_json::from_str(&agent.status).unwrap_or_default();
    if let Some(seen) = [status.scans.now, status.scans.last].into_iter().flatten().find(|seen| seen.id == scan) {
        view.take(&seen);
    }
    let wanted = query::parse(&format!("sakimori.scan.id:\"{scan}\" and event.kind:alert"))?;
    let most = SearchQuery { limit: Some(MOST_FOUND), ..SearchQuery::default() };
    let page: Page<FoundFile> = find(&app, &caller, &wanted, &most).await?;
    (view.found, view.more) = (page.items, page.next.is_some());
    let wanted = query::parse(&format!(
        "sakimori.scan.id:\"{scan}\" and (event.action:scan-finished or event.action:scan-cancelled or \
         event.action:scan-failed)"
    ))?;
    let one = SearchQuery { limit: Some(1), ..SearchQuery::default() };
    let page: Page<Reported> = find(&app, &caller, &wanted, &one).await?;
    if let Some(Reported(report)) = page.items.first() {
        view.take_report(report);
    }
    Ok(Json(view))
}

fn with(order: &Order, agent: &str, since: Timestamp) -> ScanView {
    let paths = scan_paths::scan(order).map_or_else(|_| vec![order.target.to_string()], |scan| scan.paths);
    ScanView {
        id: order.id.clone(),
        agent: agent.to_owned(),
        state: "waiting".into(),
        reason: String::new(),
        paths,
        by: order.cause.by.clone(),
        since,
        ended: None,
        step: String::new(),
        counts: Value::Null,
        seconds: 0,
        seconds_left: None,
        found: Vec::new(),
        more: false,
    }
}

fn of(action: &Action) -> ScanView {
    let over = sakimori_respond::wide::is_finished(action);
    ScanView {
        state: action.state.name().into(),
        reason: action.reason.clone().unwrap_or_default(),
        ended: action.ended_at.or(action.done_at).filter(|_| over),
        ..with(&action.order, &action.place, action.planned_at)
    }
}

impl ScanView {
    /// What the host's status says of it.
    fn take(&mut self, seen: &ScanStatus) {
        self.counts = json!(seen.counts);
        self.seconds = seen.worked_seconds;
        if seen.ended.is_none() {
            self.step.clone_from(&seen.state);
            self.seconds_left = seen.seconds_left;
        }
    }

    /// The host's report has the last word, and stays when other scans came after.
    fn take_report(&mut self, report: &Event) {
        let names = [
            ("files", field::SAKIMORI_SCAN_FILES),
            ("bytes", field::SAKIMORI_SCAN_BYTES),
            ("found", field::SAKIMORI_SCAN_FOUND),
            ("disguised", field::SAKIMORI_SCAN_DISGUISED),
            ("excluded", field::SAKIMORI_SCAN_EXCLUDED),
            ("elsewhere", field::SAKIMORI_SCAN_ELSEWHERE),
            ("too_large", field::SAKIMORI_SCAN_TOO_LARGE),
            ("failed", field::SAKIMORI_SCAN_FAILED),
            ("unreadable", field::SAKIMORI_SCAN_UNREADABLE),
        ];
        self.counts =
            names.iter().map(|(name, id)| ((*name).to_owned(), json!(report.long(*id).unwrap_or(0)))).collect();
        (self.step, self.seconds_left) = (String::new(), None);
        let pauses = report.long(field::SAKIMORI_SCAN_PAUSED_SECONDS).unwrap_or(0);
        let whole = report.long(field::EVENT_DURATION).unwrap_or(0) / 1_000_000_000;
        self.seconds = u64::try_from(whole - pauses).unwrap_or(0);
    }
}
