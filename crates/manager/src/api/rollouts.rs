//! Roll-outs of a policy layer in stages: beginning one, how it stands, and letting it go on or withdrawing it. How one is
//! judged: [`crate::rollouts`]; who moves it: `jobs/rollouts.rs`.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use sakimori_model::Timestamp;
use sakimori_store::control::agents::Agent;
use sakimori_store::control::policies;
use sakimori_store::control::rollouts::{self, Host, Rollout, State as At};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::access::Caller;
use super::extract::{Body, Page, PageQuery, Query, limit, place};
use super::policies::{check_free, check_layer, check_merge, check_over, reason, tree};
use super::policy_changes::hosts;
use super::problem::{self, Problem};
use super::{App, Done};
use crate::jobs::rollouts::{self as job, Stage};
use crate::policy::names_of;
use crate::rollouts::{Baseline, LEAST, Record, Verdict, judge, pick};
use crate::shared::Command;

/// Most hosts that are named for a first stage.
const MOST_NAMED: usize = 1_000;
/// Longest time until the others follow, in minutes: 30 days.
const MOST_MINUTES: i64 = 30 * 24 * 60;

/// Who gets it first: one of these.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FirstStage {
    /// So many of a hundred of the hosts that have the layer, 1 to 99; at least one, chosen by the manager.
    pub percent: Option<u32>,
    /// These groups.
    #[serde(default)]
    pub groups: Vec<String>,
    /// These agents, by their ids.
    #[serde(default)]
    pub agents: Vec<String>,
}

/// A roll-out to begin.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRollout {
    /// `tenant` or `group:<tag>`.
    pub layer: String,
    /// What is to become of it: a tree,
    #[schema(value_type = Option<Object>)]
    pub tree: Option<Map<String, Value>>,
    /// or YAML text.
    pub yaml: Option<String>,
    /// The number that the layer had when it was read, as for writing it.
    pub over: Option<i64>,
    /// Who gets it first.
    pub first: FirstStage,
    /// After so many minutes the others follow by themselves, 1 to 43200; by hand only where absent.
    pub minutes: Option<i64>,
    /// Hosts of the first stage that may fail before it halts; 0 where absent.
    #[serde(default)]
    pub most_failing: u32,
    /// Why, at most 1000 bytes.
    #[serde(default)]
    pub reason: String,
}

/// Why a roll-out is moved by hand.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewMove {
    /// At most 1000 bytes.
    #[serde(default)]
    pub reason: String,
}

/// A host of the first stage.
#[derive(Debug, Serialize, ToSchema)]
pub struct StageHost {
    /// Agent.
    pub agent: String,
    /// Host name; empty where the agent is gone.
    pub host: String,
    /// Is it connected?
    pub connected: bool,
    /// Has it the policy?
    pub took: bool,
    /// What fails since it has it.
    pub failing: Vec<String>,
}

/// A roll-out.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Rollout)]
pub struct RolloutView {
    /// UUIDv7.
    pub id: String,
    /// The layer.
    pub layer: String,
    /// `first`: the first hosts have it or get it; `halted`: it stands still, and hosts keep what they have; `done`: it is a
    /// version of the layer; `withdrawn`.
    pub state: &'static str,
    /// What it waits for, or how it came to where it stands.
    pub why: String,
    /// What is to become of the layer.
    #[schema(value_type = Object)]
    pub tree: Map<String, Value>,
    /// The version that it was made from; 0 where there was none.
    pub over: i64,
    /// The version that it became; 0 until it is done.
    pub number: i64,
    /// Who began it.
    pub author: String,
    /// Why.
    pub reason: String,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// When it last changed.
    #[schema(value_type = String, format = DateTime)]
    pub changed: Timestamp,
    /// When all others follow by themselves.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next: Option<Timestamp>,
    /// Hosts of the first stage that may fail.
    pub most_failing: u32,
    /// The first stage.
    pub hosts: Vec<StageHost>,
}

/// What the audit log covers.
#[derive(Serialize)]
struct Audited<'a> {
    layer: &'a str,
    state: &'static str,
    record: &'a str,
}

fn audited(rollout: &Rollout) -> Audited<'_> {
    Audited { layer: &rollout.layer, state: rollout.state.name(), record: &rollout.record }
}

async fn view(app: &App, rollout: Rollout) -> Result<RolloutView, Problem> {
    let record = Record::read(&rollout.record).map_err(|error| Problem::failed(&error))?;
    let stage = job::stage(&app.shared, &rollout).await.map_err(|error| Problem::failed(&error))?;
    let why = match (rollout.state, judge(&record, &job::judged(&stage), app.shared.clock.now())) {
        (At::First, Verdict::Wait(why)) => why,
        _ => record.why,
    };
    let host = |one: Stage| StageHost {
        agent: one.agent,
        host: one.name,
        connected: one.connected,
        took: one.doing.took,
        failing: one.doing.failing,
    };
    Ok(RolloutView {
        id: rollout.id,
        layer: rollout.layer,
        state: rollout.state.name(),
        why,
        tree: record.tree,
        over: record.over,
        number: record.number,
        author: record.author,
        reason: record.reason,
        created: rollout.created,
        changed: rollout.changed,
        next: record.next.filter(|_| rollout.state == At::First),
        most_failing: record.most_failing,
        hosts: stage.into_iter().map(host).collect(),
    })
}

/// `GET /policies/rollouts`
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<RolloutView>>, Problem> {
    let limit = limit(query.limit)?;
    let before: Option<String> = place(query.cursor.as_deref())?;
    let rows = rollouts::list(app.shared.control.read(), caller.tenant(), before.as_deref(), limit + 1).await?;
    let page = Page::of(rows, limit, |rollout| rollout.id.clone(), |rollout| rollout);
    let mut items = Vec::new();
    for rollout in page.items {
        items.push(view(&app, rollout).await?);
    }
    Ok(Json(Page { items, next: page.next }))
}

/// `GET /policies/rollouts/{id}`
pub async fn get(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<Json<RolloutView>, Problem> {
    let rollout = rollouts::get(app.shared.control.read(), caller.tenant(), &id).await?;
    Ok(Json(view(&app, rollout).await?))
}

/// `POST /policies/rollouts`
pub async fn begin(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<NewRollout>,
) -> Result<(StatusCode, Json<RolloutView>), Problem> {
    let wrong = |place: &str, reason: &str| Problem::new(problem::ROLLOUT_INVALID).fault(place, reason);
    check_layer(&app, &caller, &new.layer).await?;
    if new.layer.starts_with("host:") {
        return Err(wrong("layer", "a layer of one host has no second stage; write it as it is"));
    }
    let why = reason(&new.reason)?.to_owned();
    if new.minutes.is_some_and(|minutes| !(1..=MOST_MINUTES).contains(&minutes)) {
        return Err(wrong("minutes", "expected 1 to 43200"));
    }
    let tree = tree(&new.layer, new.tree, new.yaml)?;
    let (all, _) = hosts(&app, caller.tenant()).await?;
    let having: Vec<&Agent> =
        all.iter().filter(|agent| names_of(&agent.id, &agent.tags).contains(&new.layer)).collect();
    let (now, id) = (app.shared.clock.now(), sakimori_model::id::row_id());
    let first = first_stage(&new.first, &having, &id)?;

    let mut change = app.shared.control.begin().await?;
    let current = policies::current(change.connection(), caller.tenant()).await?;
    check_over(&new.layer, new.over, &current)?;
    check_free(&new.layer, &rollouts::open(change.connection(), caller.tenant()).await?)?;
    check_merge(&new.layer, &tree, &current)?;
    let record = Record {
        tree,
        over: current.iter().find(|version| version.layer == new.layer).map_or(0, |version| version.number),
        author: caller.actor.clone(),
        reason: why,
        next: new.minutes.map(|minutes| now.plus_secs((minutes * 60).max(LEAST))),
        most_failing: new.most_failing,
        why: String::new(),
        number: 0,
    };
    let number = policies::take_number(change.connection(), caller.tenant()).await?;
    let stage: Vec<Host> = first
        .iter()
        .map(|agent| {
            let baseline = Baseline::of(&job::now_of(&app.shared, agent));
            let baseline = serde_json::to_string(&baseline).unwrap_or_default();
            Host { agent: agent.id.clone(), number, baseline }
        })
        .collect();
    let rollout = Rollout {
        tenant: caller.tenant().to_owned(),
        id,
        layer: new.layer,
        state: At::First,
        created: now,
        changed: now,
        record: record.text(),
    };
    rollouts::create(change.connection(), &rollout, &stage).await?;
    let after = audited(&rollout);
    let done = Done {
        tenant: caller.tenant(),
        action: "policies:rollout",
        target: &rollout.id,
        before: None,
        after: Some(&after),
    };
    app.done(change, &caller, done).await?;
    for host in &stage {
        app.shared.links.tell(&host.agent, &Command::Policy);
    }
    Ok((StatusCode::CREATED, Json(view(&app, rollout).await?)))
}

/// The hosts that get it first, of those that have the layer; not all of them.
fn first_stage<'a>(first: &FirstStage, having: &[&'a Agent], id: &str) -> Result<Vec<&'a Agent>, Problem> {
    let wrong = |place: &str, reason: String| Problem::new(problem::ROLLOUT_INVALID).fault(place, reason);
    let wanted: BTreeSet<String> = match first {
        FirstStage { percent: Some(percent), groups, agents } if groups.is_empty() && agents.is_empty() => {
            if !(1..=99).contains(percent) {
                return Err(wrong("first.percent", "expected 1 to 99".into()));
            }
            let ids: Vec<String> = having.iter().map(|agent| agent.id.clone()).collect();
            pick(&ids, *percent, id).into_iter().collect()
        }
        FirstStage { percent: None, groups, agents } if !groups.is_empty() || !agents.is_empty() => {
            if groups.len() + agents.len() > MOST_NAMED {
                return Err(wrong("first", format!("name at most {MOST_NAMED}")));
            }
            if let Some(stranger) = agents.iter().find(|id| having.iter().all(|agent| agent.id != **id)) {
                return Err(wrong("first.agents", format!("no host of this layer is {stranger}")));
            }
            let of_group = having.iter().filter(|agent| agent.tags.iter().any(|tag| groups.contains(tag)));
            of_group.map(|agent| agent.id.clone()).chain(agents.iter().cloned()).collect()
        }
        _ => return Err(wrong("first", "give percent, or groups and agents".into())),
    };
    let stage: Vec<&Agent> = having.iter().copied().filter(|agent| wanted.contains(&agent.id)).collect();
    if stage.is_empty() {
        return Err(wrong("first", "no host would get it".into()));
    }
    if stage.len() == having.len() {
        return Err(wrong("first", "all hosts of the layer would get it first; write the layer as it is".into()));
    }
    Ok(stage)
}

/// `POST /policies/rollouts/{id}/continue`: all others get it now.
pub async fn go_on(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(new): Body<NewMove>,
) -> Result<Json<RolloutView>, Problem> {
    moved(app, caller, &id, &new, At::Done).await
}

/// `POST /policies/rollouts/{id}/withdraw`: the first hosts go back to what the others have.
pub async fn withdraw(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(new): Body<NewMove>,
) -> Result<Json<RolloutView>, Problem> {
    moved(app, caller, &id, &new, At::Withdrawn).await
}

async fn moved(app: App, caller: Caller, id: &str, new: &NewMove, to: At) -> Result<Json<RolloutView>, Problem> {
    let mut why = format!("by {}", caller.actor);
    if !reason(&new.reason)?.is_empty() {
        why = format!("{why}: {}", new.reason);
    }
    let mut change = app.shared.control.begin().await?;
    let before = rollouts::get(change.connection(), caller.tenant(), id).await?;
    if !before.state.is_open() {
        return Err(Problem::new(problem::ROLLOUT_OVER).detail(format!("it is {}", before.state.name())));
    }
    let now = app.shared.clock.now();
    let after = job::end(&mut change, &before, to, (&caller.actor, &why), now)
        .await?
        .map_err(|reason| Problem::new(problem::POLICY_STALE).detail(reason))?;
    let (seen, left) = (audited(&before), audited(&after));
    let action = if to == At::Done { "policies:rollout-continue" } else { "policies:rollout-withdraw" };
    let done = Done { tenant: caller.tenant(), action, target: id, before: Some(&seen), after: Some(&left) };
    app.done(change, &caller, done).await?;
    app.shared.links.tell_all(&Command::Policy);
    Ok(Json(view(&app, after).await?))
}
