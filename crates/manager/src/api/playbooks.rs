//! Playbooks: what is done about which alert. They are part of the bundle; here they are listed, checked, rehearsed against
//! the past, and begun by hand.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use sakimori_model::action::Target;
use sakimori_model::rule::Scope as RunsAt;
use sakimori_model::{Event, Timestamp};
use sakimori_respond::actions::{Runs, TargetKind};
use sakimori_respond::execution::{State as At, Would};
use sakimori_respond::playbook::{Playbook, is_playbook};
use sakimori_respond::ports::Look;
use sakimori_store::control::executions::{self, Revision};
use sakimori_store::control::{Scope, agents};
use sakimori_store::lake::Interval;
use sakimori_store::query;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::access::Caller;
use super::alerts;
use super::extract::Body;
use super::problem::{self, Problem};
use super::rehearsing::{self, Past};
use super::{App, Done};
use crate::executions::{Beginning, begin};
use crate::impact;

/// Most alerts that a rehearsal against the past looks at.
const MOST_ALERTS: usize = 10_000;
/// Alerts that are read at a time.
const PORTION: usize = 1_000;
/// Longest time that a rehearsal looks back, in seconds.
const LONGEST: i64 = 400 * 86_400;
/// Most hosts that a share is counted of.
const MOST_HOSTS: i64 = 100_000;

/// A playbook.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Playbook)]
pub struct PlaybookView {
    /// Slug.
    pub id: String,
    /// Its file in the bundle.
    pub file: String,
    /// Title in English.
    pub title: String,
    /// Title in Japanese; empty where there is none.
    pub title_ja: String,
    /// `host`: on the agent, without the manager; `wide`: in the manager.
    #[schema(value_type = String)]
    pub scope: RunsAt,
    /// `alert`, `finding`, `schedule`, `manual` or `webhook`.
    pub trigger: &'static str,
    /// Does it run for this tenant, by its own word and the policy's?
    pub on: bool,
    /// Is it driven step by step? Else its orders follow from the alert at once.
    pub stepwise: bool,
    /// Names its text.
    pub revision: String,
    /// Slugs of the actions that it may order.
    pub actions: Vec<&'static str>,
    /// Those of them that cannot be taken back, messages apart.
    pub lasting: Vec<&'static str>,
    /// The whole of it, YAML.
    pub text: String,
}

/// The playbooks in force.
#[derive(Debug, Serialize, ToSchema)]
pub struct Playbooks {
    /// The bundle that they are of.
    pub bundle: u64,
    /// In the order of their files.
    pub items: Vec<PlaybookView>,
}

/// A text to be checked.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCheck {
    /// What errors call it.
    #[serde(default)]
    pub file: String,
    /// YAML.
    pub text: String,
}

/// What a check found.
#[derive(Debug, Serialize, ToSchema)]
pub struct Checked {
    /// Can it be used?
    pub good: bool,
    /// `file:line: reason`; empty where it is good.
    pub error: String,
    /// The line of the mistake.
    pub line: Option<usize>,
    /// The playbook, where it is good.
    pub playbook: Option<PlaybookView>,
}

/// What a playbook is to be begun with.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRun {
    /// Id of an alert.
    pub alert: Option<String>,
    /// Or an event, as nested ECS JSON.
    #[schema(value_type = Option<Object>)]
    pub event: Option<Map<String, Value>>,
    /// Say what would be done, and do nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// What was begun, or would be done.
#[derive(Debug, Serialize, ToSchema)]
pub struct Run {
    /// Id of the execution; empty for a dry run.
    pub execution: String,
    /// What would be done, step by step; empty unless it is a dry run.
    pub would: Vec<WouldView>,
    /// How it would end.
    pub ends: &'static str,
    /// Why it would end so.
    pub reason: String,
}

/// One thing that would happen.
#[derive(Debug, Serialize, ToSchema)]
pub struct WouldView {
    /// The step's place.
    pub step: String,
    /// A sentence.
    pub text: String,
    /// What the provider would be told to change, where it could be looked at.
    pub changes: Vec<String>,
}

/// What is to be rehearsed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRehearsal {
    /// YAML of a playbook that is not in force; the one in force where absent.
    pub text: Option<String>,
    /// How far back, in seconds.
    pub since_seconds: i64,
}

/// What would have happened.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct Rehearsal {
    /// Alerts and findings of that time that were looked at.
    pub looked_at: usize,
    /// Were there more? Then the oldest were left out.
    pub more: bool,
    /// Did it take too long? Then it was stopped, and the newest were left out.
    pub stopped: bool,
    /// Those that would have begun it.
    pub begun: usize,
    /// How the executions would have ended, by state.
    pub ends: BTreeMap<&'static str, usize>,
    /// Orders by action.
    pub orders: BTreeMap<String, usize>,
    /// How many different targets, by action.
    pub targets: BTreeMap<String, usize>,
    /// Hosts whose alerts would have begun it, at most 100 names.
    pub hosts: BTreeSet<String>,
    /// The newest hundred, step by step.
    pub told: Vec<Rehearsed>,
}

/// What one alert would have led to.
#[derive(Debug, Serialize, ToSchema)]
pub struct Rehearsed {
    /// Its id.
    pub alert: String,
    /// When it was.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// Its rule.
    pub rule: String,
    /// What would have been done, a sentence each.
    pub would: Vec<String>,
    /// How it would have ended.
    pub ends: &'static str,
    /// Why.
    pub reason: String,
}

/// The texts that a playbook has had.
#[derive(Debug, Serialize, ToSchema)]
pub struct Revisions {
    /// Newest first.
    pub items: Vec<RevisionView>,
}

/// A text of a playbook.
#[derive(Debug, Serialize, ToSchema)]
pub struct RevisionView {
    /// Names the text.
    pub revision: String,
    /// Since when it is known.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// YAML.
    pub text: String,
}

fn view(playbook: &Playbook, on: bool) -> PlaybookView {
    let acts = playbook.acts();
    let actions: BTreeSet<&'static str> = acts.iter().map(|act| act.action.id).collect();
    let lasts = acts.iter().filter(|act| act.action.undo.is_none() && act.action.target != TargetKind::Channel);
    let lasting: BTreeSet<&'static str> = lasts.map(|act| act.action.id).collect();
    PlaybookView {
        id: playbook.id.clone(),
        file: playbook.file.clone(),
        title: playbook.title.en.clone(),
        title_ja: playbook.title.ja.clone(),
        scope: playbook.scope,
        trigger: playbook.trigger.name(),
        on,
        stepwise: !playbook.is_plain(),
        revision: playbook.revision.clone(),
        actions: actions.into_iter().collect(),
        lasting: lasting.into_iter().collect(),
        text: playbook.text.clone(),
    }
}

/// `GET /playbooks`
pub async fn list(State(app): State<App>, caller: Caller) -> Result<Json<Playbooks>, Problem> {
    let opened = app.content.get(&app).await?;
    let respect = respect(&app, &caller).await?;
    let files = opened.bundle.files.iter().filter(|(path, _)| is_playbook(path));
    let items = files.filter_map(|(path, bytes)| {
        // One that cannot be loaded is not in force; the log of the start says why.
        let playbook = Playbook::parse(path, std::str::from_utf8(bytes).ok()?).ok()?;
        Some(view(&playbook, respect.runs(&playbook.id, playbook.enabled)))
    });
    Ok(Json(Playbooks { bundle: opened.bundle.number, items: items.collect() }))
}

async fn respect(app: &App, caller: &Caller) -> Result<sakimori_model::policy::Response, Problem> {
    let policy = crate::policy::of_tenant(&app.shared, caller.tenant()).await;
    Ok(policy.map_err(|reason| Problem::new(problem::POLICY_INVALID).detail(reason))?.1.policy.response)
}

async fn one(app: &App, id: &str) -> Result<Playbook, Problem> {
    let opened = app.content.get(app).await?;
    let files = opened.bundle.files.iter().filter(|(path, _)| is_playbook(path));
    let parsed = files.filter_map(|(path, bytes)| Playbook::parse(path, std::str::from_utf8(bytes).ok()?).ok());
    let mut found = parsed.filter(|playbook| playbook.id == id);
    found.next().ok_or_else(|| Problem::new(problem::PLAYBOOK_MISSING))
}

/// `POST /playbooks/check`
pub async fn check(Body(new): Body<NewCheck>) -> Json<Checked> {
    let file = if new.file.is_empty() { "playbook.yml" } else { new.file.as_str() };
    Json(match Playbook::parse(file, &new.text) {
        Ok(playbook) => {
            let playbook = Some(view(&playbook, playbook.enabled));
            Checked { good: true, error: String::new(), line: None, playbook }
        }
        Err(error) => Checked { good: false, error: error.to_string(), line: Some(error.line), playbook: None },
    })
}

/// `GET /playbooks/{id}/revisions`
pub async fn revisions(State(app): State<App>, Path(id): Path<String>) -> Result<Json<Revisions>, Problem> {
    let items = executions::revisions(app.shared.control.read(), &id).await?;
    let show =
        |Revision { revision, text, since, .. }| RevisionView { revision, text, since: Timestamp::from_micros(since) };
    Ok(Json(Revisions { items: items.into_iter().map(show).collect() }))
}

/// `POST /playbooks/{id}/run`
pub async fn run(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(new): Body<NewRun>,
) -> Result<(StatusCode, Json<Run>), Problem> {
    let wrong = |place: &str, reason: &str| Problem::new(problem::PLAYBOOK_INVALID).fault(place, reason);
    let playbook = one(&app, &id).await?;
    if playbook.scope == RunsAt::Host {
        return Err(wrong("id", "it runs on the hosts by itself; sakimori actions orders one action there"));
    }
    let (event, alert) = match (new.alert, new.event) {
        (Some(alert), None) => (alerts::one(&app, &caller, &alert).await?, alert),
        (None, Some(object)) => (Event::from_json(object).0, String::new()),
        (None, None) => (Event::new(), String::new()),
        (Some(_), Some(_)) => return Err(wrong("event", "give an alert or an event, not both")),
    };
    playbook.condition_holds(&event, &alert).map_err(|reason| wrong("when", &reason))?;
    let now = app.shared.clock.now();
    if new.dry_run {
        let hosts = hosts(&app, &caller).await?;
        let (told, ends, reason) = rehearsing::once(playbook, event, alert, now, hosts).await?;
        let mut would = Vec::new();
        for one in told {
            would.push(looked_at(&app, caller.tenant(), one).await);
        }
        let run = Run { execution: String::new(), would, ends: ends.name(), reason: reason.unwrap_or_default() };
        return Ok((StatusCode::OK, Json(run)));
    }
    let execution = sakimori_model::id::row_id();
    let mut change = app.shared.control.begin().await?;
    let beginning = Beginning {
        tenant: caller.tenant(),
        playbook: &playbook,
        event: &event,
        alert: &alert,
        id: execution.clone(),
        by: &caller.name,
    };
    begin(&mut change, beginning, now).await?;
    let target = format!("{id} {execution}");
    let done =
        Done { tenant: caller.tenant(), action: "playbooks:run", target: &target, before: None::<&()>, after: None };
    app.done(change, &caller, done).await?;
    app.shared.executions_changed.notify_one();
    let run = Run { execution, would: Vec::new(), ends: At::Running.name(), reason: String::new() };
    Ok((StatusCode::ACCEPTED, Json(run)))
}

/// A step of a dry run, with what the provider's state says would change.
async fn looked_at(app: &App, tenant: &str, would: Would) -> WouldView {
    let Would { step, text, order } = would;
    let mut changes = Vec::new();
    if let Some(Target::Network(network)) = order.as_ref().map(|order| &order.target)
        && !network.is_host()
        && let Ok(impact) = impact::of_network(&app.shared, tenant, network, app.shared.clock.now()).await
    {
        changes.push(impact.words());
    }
    if let Some(order) = order
        && sakimori_respond::actions::find(&order.action).is_some_and(|known| known.runs == Runs::Account)
    {
        match app.shared.accounts.effect(&order) {
            Err(reason) => changes.push(format!("nothing: {reason}")),
            Ok(effect) => match effect.look(&order).await {
                Ok(Look::Ready { would, .. }) => changes = would,
                Ok(Look::NoEffect(reason)) => changes.push(format!("nothing: {reason}")),
                Ok(Look::Refused(reason)) => changes.push(format!("refused: {reason}")),
                Err(problem) => changes.push(format!("could not be looked at: {problem}")),
            },
        }
    }
    WouldView { step, text, changes }
}

async fn hosts(app: &App, caller: &Caller) -> Result<usize, Problem> {
    let scope = Scope::One(caller.tenant().to_owned());
    Ok(agents::list(app.shared.control.read(), &scope, "", MOST_HOSTS).await?.len())
}

/// `POST /playbooks/{id}/rehearse`
pub async fn rehearse(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(new): Body<NewRehearsal>,
) -> Result<Json<Rehearsal>, Problem> {
    if !(1..=LONGEST).contains(&new.since_seconds) {
        let reason = format!("expected 1 to {LONGEST}");
        return Err(Problem::new(problem::PLAYBOOK_INVALID).fault("since_seconds", reason));
    }
    let playbook = match &new.text {
        None => one(&app, &id).await?,
        Some(text) => Playbook::parse("playbook.yml", text)
            .map_err(|error| Problem::new(problem::PLAYBOOK_INVALID).fault("text", error))?,
    };
    let hosts = hosts(&app, &caller).await?;
    let from = app.shared.clock.now().plus_secs(-new.since_seconds);
    let interval = Interval { from: Some(from), to: None };
    let wanted = query::parse("(event.kind:alert and not sakimori.alert.exception:*) or event.kind:state")?;
    let (mut past, mut cursor) = (Vec::new(), None);
    loop {
        let page = app.shared.lake.search(caller.tenant(), &wanted, interval, PORTION, cursor.as_deref()).await?;
        past.extend(page.hits.into_iter().map(|hit| Past { time: hit.time, id: hit.id.to_string(), event: hit.event }));
        cursor = page.cursor;
        if cursor.is_none() || past.len() >= MOST_ALERTS {
            break;
        }
    }
    Ok(Json(rehearsing::all(playbook, past, hosts, cursor.is_some()).await?))
}
