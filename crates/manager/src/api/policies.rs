//! Policies: the layers of a tenant, their history, and what applies to a host and why.
//!
//! A layer is written whole. It is merged over the layers below and under those above before it is kept, so that
//! what is kept can always be used; what is wrong comes back with layer and path.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use sakimori_model::Timestamp;
use sakimori_model::policy::{Layer, default_layer, merge};
use sakimori_store::control::policies::{self, Version};
use sakimori_store::control::rollouts::{self, Rollout};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::access::Caller;
use super::enrolment::slug;
use super::extract::{Body, Page, PageQuery, Query, limit, place};
use super::problem::{self, Problem};
use super::{App, Done, agents};
use crate::policy::{TENANT_LAYER, of_agent};
use crate::shared::Command;

/// Longest reason, in bytes.
const MOST_REASON: usize = 1_000;

/// A version of a layer.
#[derive(Debug, Serialize, ToSchema)]
pub struct PolicyLayer {
    /// `tenant`, `group:<tag>` or `host:<agent id>`.
    pub layer: String,
    /// Grows over all layers of the tenant.
    pub number: i64,
    /// What it says.
    #[schema(value_type = Object)]
    pub tree: Map<String, Value>,
    /// Who wrote it.
    pub author: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// Why; may be empty.
    pub reason: String,
}

impl From<Version> for PolicyLayer {
    fn from(version: Version) -> Self {
        Self {
            layer: version.layer,
            number: version.number,
            tree: version.tree,
            author: version.author,
            created: version.created,
            reason: version.reason,
        }
    }
}

/// The layers of a tenant.
#[derive(Debug, Serialize, ToSchema)]
pub struct Layers {
    /// The layer under all others, which is part of the program.
    #[schema(value_type = Object)]
    pub default: Map<String, Value>,
    /// Those in force.
    pub layers: Vec<PolicyLayer>,
}

/// A layer to be written: as a tree or as YAML text, one of them. An empty one says nothing.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewLayer {
    /// The tree.
    #[schema(value_type = Option<Object>)]
    pub tree: Option<Map<String, Value>>,
    /// YAML text.
    pub yaml: Option<String>,
    /// The number that the layer had when it was read, 0 where it was not there: refused if it has another by now.
    /// Without it, it is written in any case.
    pub over: Option<i64>,
    /// Why, for those who read the history; at most 1000 bytes.
    #[serde(default)]
    pub reason: String,
}

/// Which version a layer is to be as again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRollback {
    /// Number of a former version of this layer; 0: as it was before anybody wrote it, which says nothing.
    pub to: i64,
    /// As for writing a layer.
    pub over: Option<i64>,
    /// Why, at most 1000 bytes.
    #[serde(default)]
    pub reason: String,
}

/// What applies to a host.
#[derive(Debug, Serialize, ToSchema)]
pub struct EffectivePolicy {
    /// Its number; an agent never takes an older one.
    pub number: u64,
    /// What applies.
    #[schema(value_type = Object)]
    pub policy: Value,
    /// For each leaf, by dotted path, the layers that set it, the deciding one last.
    pub origin: BTreeMap<String, Vec<String>>,
}

/// `GET /policies/layers`
pub async fn list(State(app): State<App>, caller: Caller) -> Result<Json<Layers>, Problem> {
    let layers = policies::current(app.shared.control.read(), caller.tenant()).await?;
    Ok(Json(Layers { default: default_layer().tree, layers: layers.into_iter().map(PolicyLayer::from).collect() }))
}

/// `GET /policies/layers/{layer}/history`
pub async fn history(
    State(app): State<App>,
    caller: Caller,
    Path(layer): Path<String>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<PolicyLayer>>, Problem> {
    check_layer(&app, &caller, &layer).await?;
    let limit = limit(query.limit)?;
    let before: i64 = place(query.cursor.as_deref())?.unwrap_or(i64::MAX);
    let rows = policies::history(app.shared.control.read(), caller.tenant(), &layer, before, limit + 1).await?;
    Ok(Json(Page::of(rows, limit, |version| version.number, PolicyLayer::from)))
}

/// `GET /policies/layers/{layer}/versions/{number}`
pub async fn version(
    State(app): State<App>,
    caller: Caller,
    Path((layer, number)): Path<(String, i64)>,
) -> Result<Json<PolicyLayer>, Problem> {
    check_layer(&app, &caller, &layer).await?;
    let found = policies::version(app.shared.control.read(), caller.tenant(), &layer, number).await?;
    found.map(|version| Json(version.into())).ok_or_else(|| Problem::new(problem::POLICY_VERSION))
}

/// `PUT /policies/layers/{layer}`
pub async fn put(
    State(app): State<App>,
    caller: Caller,
    Path(layer): Path<String>,
    Body(new): Body<NewLayer>,
) -> Result<Json<PolicyLayer>, Problem> {
    check_layer(&app, &caller, &layer).await?;
    let reason = reason(&new.reason)?.to_owned();
    let over = new.over;
    let tree = tree(&layer, new.tree, new.yaml)?;
    write(&app, &caller, &layer, tree, (over, "policies:write", &reason)).await
}

/// `POST /policies/layers/{layer}/rollback`: a new version that says what a former one said.
pub async fn rollback(
    State(app): State<App>,
    caller: Caller,
    Path(layer): Path<String>,
    Body(new): Body<NewRollback>,
) -> Result<Json<PolicyLayer>, Problem> {
    check_layer(&app, &caller, &layer).await?;
    let why = reason(&new.reason)?;
    let tree = match new.to {
        0 => Map::new(),
        number => {
            let found = policies::version(app.shared.control.read(), caller.tenant(), &layer, number).await?;
            found.ok_or_else(|| Problem::new(problem::POLICY_VERSION))?.tree
        }
    };
    let why = match why {
        "" => format!("back to {}", new.to),
        why => format!("back to {}: {why}", new.to),
    };
    write(&app, &caller, &layer, tree, (new.over, "policies:rollback", &why)).await
}

/// Writes a layer that was checked to be one.
pub(super) async fn write(
    app: &App,
    caller: &Caller,
    layer: &str,
    tree: Map<String, Value>,
    (over, verb, reason): (Option<i64>, &str, &str),
) -> Result<Json<PolicyLayer>, Problem> {
    let mut change = app.shared.control.begin().await?;
    let current = policies::current(change.connection(), caller.tenant()).await?;
    check_over(layer, over, &current)?;
    check_free(layer, &rollouts::open(change.connection(), caller.tenant()).await?)?;
    check_merge(layer, &tree, &current)?;
    let before = current.iter().find(|version| version.layer == layer).cloned().map(PolicyLayer::from);
    let (now, by) = (app.shared.clock.now(), (caller.actor.as_str(), reason));
    let after = policies::put(change.connection(), caller.tenant(), layer, tree, by, now).await?;
    let after = PolicyLayer::from(after);
    let done =
        Done { tenant: caller.tenant(), action: verb, target: layer, before: before.as_ref(), after: Some(&after) };
    app.done(change, caller, done).await?;
    app.shared.links.tell_all(&Command::Policy);
    // An address may be allowed now.
    app.shared.actions_changed.notify_waiters();
    Ok(Json(after))
}

/// Has the layer still the number that its writer read?
pub(super) fn check_over(layer: &str, over: Option<i64>, current: &[Version]) -> Result<(), Problem> {
    let number = current.iter().find(|version| version.layer == layer).map_or(0, |version| version.number);
    match over {
        Some(over) if over != number => {
            Err(Problem::new(problem::POLICY_STALE).detail(format!("{layer} has the number {number} by now")))
        }
        _ => Ok(()),
    }
}

/// What is on its way in stages is neither written over nor begun twice.
pub(super) fn check_free(layer: &str, open: &[Rollout]) -> Result<(), Problem> {
    match open.iter().find(|rollout| rollout.layer == layer) {
        None => Ok(()),
        Some(rollout) => Err(Problem::new(problem::ROLLOUT_BUSY)
            .detail(format!("{layer} is on its way by roll-out {}; let it go on or withdraw it first", rollout.id))),
    }
}

/// A reason within bounds.
pub(super) fn reason(text: &str) -> Result<&str, Problem> {
    match text.len() {
        0..=MOST_REASON => Ok(text),
        _ => Err(Problem::new(problem::POLICY_INVALID).fault("reason", "a reason has at most 1000 bytes")),
    }
}

/// `GET /agents/{id}/policy`
pub async fn effective(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<EffectivePolicy>, Problem> {
    let agent = agents::find(&app, &caller, &id).await?;
    let (number, effective) =
        of_agent(&app.shared, &agent).await.map_err(|reason| Problem::new(problem::POLICY_INVALID).detail(reason))?;
    let policy = serde_json::to_value(&effective.policy).map_err(|error| Problem::failed(&error))?;
    Ok(Json(EffectivePolicy { number, policy, origin: effective.origin }))
}

/// A layer is the tenant's, a tag's, or that of an agent that is there.
pub(super) async fn check_layer(app: &App, caller: &Caller, layer: &str) -> Result<(), Problem> {
    match layer.split_once(':') {
        None if layer == TENANT_LAYER => Ok(()),
        Some(("group", tag)) if slug(tag) => Ok(()),
        Some(("host", id)) => agents::find(app, caller, id).await.map(|_| ()),
        _ => Err(Problem::new(problem::POLICY_LAYER).detail("a layer is tenant, group:<tag> or host:<agent id>")),
    }
}

/// The tree of one of two forms.
pub(super) fn tree(
    layer: &str,
    tree: Option<Map<String, Value>>,
    yaml: Option<String>,
) -> Result<Map<String, Value>, Problem> {
    match (tree, yaml) {
        (Some(tree), None) => Ok(tree),
        (None, Some(text)) => match yaml_serde::from_str::<Value>(&text) {
            Ok(Value::Object(tree)) => Ok(tree),
            Ok(Value::Null) => Ok(Map::new()),
            Ok(_) => Err(Problem::new(problem::POLICY_INVALID).fault(layer, "expected groups of settings")),
            Err(error) => Err(Problem::new(problem::POLICY_INVALID).fault(layer, error)),
        },
        _ => Err(Problem::new(problem::REQUEST_BODY).detail("give tree or yaml, one of them")),
    }
}

/// Merges the new layer with the tenant's below it and with every layer that lies above it.
pub(super) fn check_merge(name: &str, tree: &Map<String, Value>, current: &[Version]) -> Result<(), Problem> {
    let new = Layer { name: name.to_owned(), tree: tree.clone() };
    let layer = |version: &Version| Layer { name: version.layer.clone(), tree: version.tree.clone() };
    let mut stacks = Vec::new();
    if name == TENANT_LAYER {
        stacks.push(vec![default_layer(), new.clone()]);
        let others = current.iter().filter(|version| version.layer != name);
        stacks.extend(others.map(|version| vec![default_layer(), new.clone(), layer(version)]));
    } else {
        let mut stack = vec![default_layer()];
        stack.extend(current.iter().filter(|version| version.layer == TENANT_LAYER).map(layer));
        stack.push(new);
        stacks.push(stack);
    }
    let mut faults: Vec<(String, String)> = Vec::new();
    for error in stacks.iter().filter_map(|stack| merge(stack).err()) {
        let fault = (format!("{}: {}", error.layer, error.path), error.reason);
        if !faults.contains(&fault) {
            faults.push(fault);
        }
    }
    if faults.is_empty() {
        return Ok(());
    }
    let problem = Problem::new(problem::POLICY_INVALID);
    Err(faults.into_iter().take(20).fold(problem, |problem, (place, reason)| problem.fault(place, reason)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(json: Value) -> Map<String, Value> {
        json.as_object().cloned().unwrap()
    }

    #[test]
    fn a_tenant_layer_that_breaks_a_host_is_refused() {
        let host = Version {
            tenant: "default".into(),
            layer: "host:a".into(),
            number: 1,
            tree: object(json!({"response": {"allow": {"add": ["192.0.2.0/24"]}}})),
            author: "user:ann".into(),
            created: Timestamp::from_secs(1),
            reason: String::new(),
        };
        let fine = object(json!({"modules": {"block_address": {"mode": "detect"}}}));
        check_merge("tenant", &fine, std::slice::from_ref(&host)).unwrap();
        let typo = object(json!({"modules": {"block_adress": {}}}));
        let problem = check_merge("tenant", &typo, std::slice::from_ref(&host)).unwrap_err();
        assert_eq!(problem.code.code, "policies/invalid");
        assert!(format!("{problem:?}").contains("tenant: modules.block_adress"), "{problem:?}");
    }
}
