//! Actions: what was done about alerts, taking it back, and ordering one by hand.

use std::collections::BTreeMap;
use std::net::IpAddr;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use sakimori_model::action::{Cause, Target};
use sakimori_model::policy::Response as Respect;
use sakimori_model::{Action, ActionState, Order, Timestamp};
use sakimori_respond::actions::resource;
use sakimori_respond::actions::{
    self as catalog, Runs, TargetKind, freeze_processes, isolate_host, kill_tree, lock_user, notify, process,
    scan_paths, waf_block,
};
use sakimori_respond::guard::{self, Rate, Verdict};
use sakimori_store::control::Scope;
use sakimori_store::control::actions::{self, Filter, Job, MANAGER};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::access::Caller;
use super::events::moment;
use super::extract::{Body, Page, Query, limit, place};
use super::problem::{self, Problem};
use super::{App, Done, agents};
use crate::respond::{self, RespondError};

/// Most actions that one request takes back; the answer says whether there are more.
const MOST_UNDONE: usize = 2_000;
/// Actions that are looked at at once for a text, and how often in one request.
const LOOKED_AT: i64 = 1_000;
const LOOKS: usize = 50;
/// Longest life of an order by hand, in seconds.
pub(super) const LONGEST: i64 = 30 * 86_400;

/// One action with its whole state, as its ledger has it: `order` {`id`, `action`, `target`, `expiry`, `cause`
/// {`alert`, `rule`, `title`, `events`, `by`}, …}, `place`, `state`, `reason`, `planned_at`, `done_at`, `ended_at`,
/// `expires_at`, `prolonged`, `grace_until`, `undone_by`, …; and `folded`, how many orders for the same target have no row
/// of their own.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Action, value_type = Object)]
pub struct ActionView(Shown);

#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    action: Action,
    /// Orders for the same target that have no row of their own.
    #[serde(skip_serializing_if = "is_none")]
    folded: i64,
}

fn is_none(count: &i64) -> bool {
    *count == 0
}

impl From<Action> for ActionView {
    fn from(action: Action) -> Self {
        Self(Shown { action, folded: 0 })
    }
}

impl From<Job> for ActionView {
    fn from(job: Job) -> Self {
        Self(Shown { action: job.action, folded: job.folded })
    }
}

/// Which actions.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ActionQuery {
    /// States, with commas between.
    pub state: Option<String>,
    /// `block_address`, `scan_paths`, `waf_block`, `notify`, …
    pub action: Option<String>,
    /// Who carries it out: an agent's id, or `manager`.
    pub place: Option<String>,
    /// An address, a network or a channel.
    pub target: Option<String>,
    /// Id of the alert.
    pub alert: Option<String>,
    /// Text that occurs in the target, the kind, the place, the rule or its title, who asked, who took it back, or a reason, whatever
    /// its case.
    pub text: Option<String>,
    /// Planned at this time or later, RFC 3339.
    pub since: Option<String>,
    /// `true`: only those that prove something; `false`: only the others.
    pub probe: Option<bool>,
    /// Most actions, 1 to 1000; 100 where absent.
    pub limit: Option<i64>,
    /// `next` of the page before.
    pub cursor: Option<String>,
}

/// Which actions are to be taken back; at least one of these is given.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UndoFilter {
    /// `block_address` or `waf_block`.
    pub action: Option<String>,
    /// An agent's id, or `manager`.
    pub place: Option<String>,
    /// An address or a network.
    pub target: Option<String>,
    /// Id of the alert.
    pub alert: Option<String>,
    /// Every action that is in effect.
    #[serde(default)]
    pub all: bool,
}

/// What came of it.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct Undone {
    /// Actions that are being taken back.
    pub undone: u64,
    /// Actions that ended by themselves meanwhile.
    pub over: u64,
    /// Are there more? Then ask again.
    pub more: bool,
}

/// An order by hand.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAction {
    /// `block_address`, `waf_block` or `notify`.
    pub action: String,
    /// An address, a network or a channel.
    pub target: String,
    /// The agent that carries it out, where a host does.
    pub agent: Option<String>,
    /// Seconds until it ends, 1 to 2592000; as policy says where absent.
    pub seconds: Option<i64>,
    /// Why, for those who read of it.
    #[serde(default)]
    pub reason: String,
    /// Inputs beyond the target, by name.
    #[serde(default)]
    pub inputs: BTreeMap<String, String>,
    /// Say what would be done, and do nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// An order by hand, and what is known of it here.
#[derive(Debug, Serialize, ToSchema)]
pub struct Planned {
    /// Id of the action; empty in a dry run.
    pub id: String,
    /// Who carries it out: an agent's id, or `manager`.
    pub place: String,
    /// `allowed`, `refused` or `no_effect`, as far as the manager knows; a host also asks its own surroundings.
    pub verdict: &'static str,
    /// Why not; or what to know before.
    pub reason: String,
    /// The order.
    #[schema(value_type = Object)]
    pub order: Value,
}

fn scope(caller: &Caller) -> Scope {
    Scope::One(caller.tenant().to_owned())
}

/// `GET /actions`
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<ActionQuery>,
) -> Result<Json<Page<ActionView>>, Problem> {
    let limit = limit(query.limit)?;
    let before: Option<(i64, String)> = place(query.cursor.as_deref())?;
    let states = query.state.as_deref().map_or(Ok(Vec::new()), states)?;
    let (kind, place, target, alert) = (query.action, query.place, query.target, query.alert);
    let text = query.text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    // The databases differ in what they take for one letter; beyond ASCII only scripts without cases are left to them.
    let of_one_case = |c: char| c.is_ascii() || c.to_lowercase().eq(c.to_uppercase());
    let alike = text.clone().filter(|text| text.chars().all(of_one_case));
    let (since, probe) = (moment("since", query.since.as_deref())?, query.probe);
    let filter = Filter { states, kind, place, target, alert, text: alike, since, probe, ..Filter::default() };
    let at = |job: &Job| (job.action.planned_at.micros(), job.action.order.id.clone());
    let mut rows = Vec::new();
    let mut before = before;
    let most = if text.is_some() { LOOKED_AT } else { limit + 1 };
    // The database looks through whole records; those that only have the text in a field's name are not meant.
    for _ in 0..LOOKS {
        let after = before.as_ref().map(|(time, id)| (Timestamp::from_micros(*time), id.as_str()));
        let found = actions::list(app.shared.control.read(), &scope(&caller), &filter, after, most).await?;
        let last = found.len() < usize::try_from(most).unwrap_or(usize::MAX);
        before = found.last().map(at);
        rows.extend(found.into_iter().filter(|job| text.as_deref().is_none_or(|text| says(&job.action, text))));
        if last || rows.len() > usize::try_from(limit).unwrap_or(usize::MAX) {
            break;
        }
    }
    Ok(Json(Page::of(rows, limit, at, ActionView::from)))
}

/// Does an action's record say this, for people who look for it?
fn says(action: &Action, text: &str) -> bool {
    let (order, text) = (&action.order, text.to_lowercase());
    let target = order.target.to_string();
    let said: [&str; 8] = [
        &target,
        &order.action,
        &action.place,
        &order.cause.rule,
        &order.cause.title,
        &order.cause.by,
        action.reason.as_deref().unwrap_or_default(),
        action.undone_by.as_deref().unwrap_or_default(),
    ];
    said.iter().any(|said| said.to_lowercase().contains(&text))
}

fn states(text: &str) -> Result<Vec<ActionState>, Problem> {
    text.split(',')
        .take(16)
        .map(|name| {
            serde_json::from_value(json!(name.trim())).map_err(|_| {
                Problem::new(problem::REQUEST_QUERY).fault("state", format!("{name:?} is no state of an action"))
            })
        })
        .collect()
}

/// `GET /actions/{id}`
pub async fn get(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<Json<ActionView>, Problem> {
    let job = actions::get(app.shared.control.read(), &scope(&caller), &id).await?;
    Ok(Json(job.into()))
}

/// `POST /actions/{id}/undo`
pub async fn undo(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<ActionView>), Problem> {
    let action = respond::undo(&app.shared, caller.tenant(), &id, &caller.name).await?;
    Ok((StatusCode::ACCEPTED, Json(action.into())))
}

/// `POST /actions/{id}/confirm`
pub async fn confirm(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<ActionView>), Problem> {
    let action = respond::confirm(&app.shared, caller.tenant(), &id, &caller.name).await?;
    let change = app.shared.control.begin().await?;
    let done: Done<'_, ()> =
        Done { tenant: caller.tenant(), action: "actions:confirm", target: &id, before: None, after: None };
    app.done(change, &caller, done).await?;
    Ok((StatusCode::ACCEPTED, Json(action.into())))
}

/// `POST /actions/undo`
pub async fn undo_all(
    State(app): State<App>,
    caller: Caller,
    Body(wanted): Body<UndoFilter>,
) -> Result<(StatusCode, Json<Undone>), Problem> {
    // However many messages were sent, they are not in the way of what can be taken back.
    let forever = catalog::CATALOG.iter().filter(|known| known.undo.is_none() && wanted.action.is_none());
    let filter = Filter {
        without: forever.map(|known| known.id).collect(),
        states: vec![ActionState::Approved, ActionState::Running, ActionState::Done],
        kind: wanted.action,
        place: wanted.place,
        target: wanted.target,
        alert: wanted.alert,
        ..Filter::default()
    };
    let named = [&filter.kind, &filter.place, &filter.target, &filter.alert].into_iter().any(Option::is_some);
    if named == wanted.all {
        let reason = "name which actions by action, place, target or alert, or give \"all\": true alone";
        return Err(Problem::new(problem::ACTION_INVALID).detail(reason));
    }
    let most = i64::try_from(MOST_UNDONE).unwrap_or(i64::MAX);
    let rows = actions::list(app.shared.control.read(), &scope(&caller), &filter, None, most + 1).await?;
    let mut out = Undone { more: rows.len() > MOST_UNDONE, ..Undone::default() };
    for job in rows.iter().take(MOST_UNDONE) {
        match respond::undo(&app.shared, caller.tenant(), &job.action.order.id, &caller.name).await {
            Ok(_) => out.undone += 1,
            Err(RespondError::NothingToUndo { .. }) => out.over += 1,
            Err(error) => return Err(error.into()),
        }
    }
    Ok((StatusCode::ACCEPTED, Json(out)))
}

/// `POST /actions`
pub async fn order(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<NewAction>,
) -> Result<(StatusCode, Json<Planned>), Problem> {
    let known = catalog::find(&new.action).ok_or_else(|| {
        let names: Vec<&str> = catalog::CATALOG.iter().map(|descriptor| descriptor.id).collect();
        wrong("action", format!("expected one of {}", names.join(", ")))
    })?;
    let place = match (known.runs, &new.agent) {
        (Runs::Manager | Runs::Account, None) => MANAGER.to_owned(),
        (Runs::Manager | Runs::Account, Some(_)) => {
            return Err(wrong("agent", "the manager carries this action out, no agent"));
        }
        (Runs::Host, None) => return Err(wrong("agent", "name the agent that carries this action out")),
        (Runs::Host, Some(id)) => match agents::find(&app, &caller, id).await? {
            agent if agent.revoked.is_some() => return Err(wrong("agent", "the agent is revoked")),
            agent => agent.id,
        },
    };
    let order = read(&new, known, &caller, app.shared.clock.now())?;
    let respect = crate::policy::of_tenant(&app.shared, caller.tenant())
        .await
        .map_err(|reason| Problem::new(problem::POLICY_INVALID).detail(reason))?
        .1
        .policy
        .response;
    let operators = crate::stream::operators(&app.shared, caller.tenant()).await?;
    let (verdict, reason) = match judge(&app, &order, &place, respect, operators) {
        Verdict::Allowed => ("allowed", String::new()),
        Verdict::Refused(reason) => ("refused", reason),
        Verdict::NoEffect(reason) => ("no_effect", reason),
    };
    let mut planned = Planned { id: String::new(), place, verdict, reason, order: json!(&order) };
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

fn read(new: &NewAction, known: &catalog::Descriptor, caller: &Caller, now: Timestamp) -> Result<Order, Problem> {
    let target = match known.target {
        TargetKind::Network => Target::Network(new.target.parse().map_err(|error| wrong("target", error))?),
        TargetKind::Channel => Target::Channel(new.target.clone()),
        TargetKind::File => Target::File(new.target.clone()),
        TargetKind::Resource(kind) => resource(kind, &new.target).map_err(|reason| wrong("target", reason))?,
        TargetKind::Setting => return Err(wrong("action", format!("{} is begun by a policy", known.id))),
    };
    if new.seconds.is_some_and(|seconds| !(1..=LONGEST).contains(&seconds)) {
        return Err(wrong("seconds", format!("expected 1 to {LONGEST}")));
    }
    if new.reason.len() > 1_000 {
        return Err(wrong("reason", "a reason has at most 1000 bytes"));
    }
    for (name, value) in &new.inputs {
        if known.runs == Runs::Account
            && [catalog::ACCOUNT, catalog::REGION].contains(&name.as_str())
            && value.len() <= 64
        {
            continue;
        }
        match known.inputs.iter().find(|input| input.name == name) {
            None => return Err(wrong(&format!("inputs.{name}"), format!("{} has no such input", known.id))),
            Some(input) if value.len() > input.most => {
                return Err(wrong(&format!("inputs.{name}"), format!("at most {} bytes", input.most)));
            }
            Some(_) => {}
        }
    }
    Ok(Order {
        id: sakimori_model::id::row_id(),
        action: known.id.to_owned(),
        target,
        expiry: new.seconds.map(|seconds| now.plus_secs(seconds)),
        // Without an alert: that is how an order by hand is known.
        cause: Cause { by: caller.name.clone(), title: new.reason.clone(), ..Cause::default() },
        via: None,
        probe: false,
        inputs: new.inputs.clone(),
        signatures: Vec::new(),
    })
}

/// What the manager can tell of an order before it is carried out.
fn judge(app: &App, order: &Order, place: &str, respect: Respect, operators: Vec<IpAddr>) -> Verdict {
    match order.action.as_str() {
        waf_block::ID => {
            let (allow, trusted_proxies) = (respect.allow, respect.trusted_proxies);
            let context = waf_block::WafContext { allow, trusted_proxies, operators };
            match waf_block::judge(order, &context) {
                Verdict::Allowed if app.shared.waf.is_none() => {
                    Verdict::NoEffect("cloud actions are off until cloud.waf is configured".into())
                }
                verdict => verdict,
            }
        }
        notify::ID => notify::judge(order, app.shared.config.notify.iter().map(|channel| channel.name.as_str())),
        scan_paths::ID => scan_paths::scan(order).map_or_else(Verdict::Refused, |_| Verdict::Allowed),
        isolate_host::ID => isolate_host::judge(order, place, &respect.isolate_host),
        lock_user::ID => lock_user::judge(order, &respect.lock_user, &mut Rate::default(), app.shared.clock.now()),
        kill_tree::ID | freeze_processes::ID => process::aim(order).map_or_else(Verdict::Refused, |_| Verdict::Allowed),
        _ => match &order.target {
            Target::Network(network) => guard::shared(network, &respect.allow, &respect.trusted_proxies)
                .map_or(Verdict::Allowed, Verdict::Refused),
            // The host knows its files.
            Target::Channel(_) | Target::File(_) | Target::Setting(_) | Target::Resource(_) => Verdict::Allowed,
        },
    }
}
