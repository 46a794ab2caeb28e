//! What a change of policy would change, before it is written: what the layer says otherwise, which hosts that affects, and
//! for each setting what applied and what is to apply, each with the layers that say so. Also what settings there are.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use sakimori_model::policy::schema;
use sakimori_store::control::agents::Agent;
use sakimori_store::control::policies::{self, Version};
use sakimori_store::control::{Scope, agents};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::access::Caller;
use super::extract::{Body, Query};
use super::policies::{check_layer, check_merge, tree};
use super::problem::{self, Problem};
use crate::policy::changes::{self, Applies, Host, Said};

/// Hosts that a change is worked out for.
pub(super) const MOST_HOSTS: i64 = 10_000;
/// Hosts that are named of each group.
const MOST_NAMED: usize = 100;

/// What is to become of a layer: a tree or YAML text, one of them.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPreview {
    /// `tenant`, `group:<tag>` or `host:<agent id>`.
    pub layer: String,
    /// The tree.
    #[schema(value_type = Option<Object>)]
    pub tree: Option<Map<String, Value>>,
    /// YAML text.
    pub yaml: Option<String>,
}

/// Which two versions of a layer are compared.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct DiffQuery {
    /// Number of a version; 0: nothing. The one before `to` where absent.
    pub from: Option<i64>,
    /// Number of a version; the one in force where absent.
    pub to: Option<i64>,
}

/// What a layer says otherwise.
#[derive(Debug, Serialize, ToSchema)]
pub struct LayerChange {
    /// Dotted path.
    pub path: String,
    /// Title of the setting in English; empty where the path is none of a setting.
    pub title: &'static str,
    /// Title in Japanese.
    pub title_ja: &'static str,
    /// What it said; absent where it said nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub before: Option<Value>,
    /// What it is to say; absent where nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub after: Option<Value>,
}

/// A setting that applies otherwise.
#[derive(Debug, Serialize, ToSchema)]
pub struct EffectiveChange {
    /// Dotted path.
    pub path: String,
    /// Title of the setting in English.
    pub title: &'static str,
    /// Title in Japanese.
    pub title_ja: &'static str,
    /// What applied.
    #[schema(value_type = Object)]
    pub before: Value,
    /// What is to apply.
    #[schema(value_type = Object)]
    pub after: Value,
    /// Layers that set it, the deciding one last.
    pub before_from: Vec<String>,
    /// Likewise afterwards.
    pub after_from: Vec<String>,
}

/// A host that is meant.
#[derive(Debug, Serialize, ToSchema)]
pub struct MeantHost {
    /// Agent.
    pub agent: String,
    /// Host name.
    pub host: String,
    /// Is its agent connected?
    pub connected: bool,
}

/// Hosts that have the same layers, and what changes for them.
#[derive(Debug, Serialize, ToSchema)]
pub struct AffectedGroup {
    /// Their layers over the default one, the most general first.
    pub layers: Vec<String>,
    /// How many hosts.
    pub hosts: usize,
    /// Their names, at most 100.
    pub named: Vec<MeantHost>,
    /// What applies otherwise.
    pub changes: Vec<EffectiveChange>,
}

/// What a change does.
#[derive(Debug, Serialize, ToSchema)]
pub struct PolicyDifference {
    /// The layer.
    pub layer: String,
    /// Number of the version before; 0 where there is none.
    pub from: i64,
    /// Number of the version after; absent for what is not written yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<i64>,
    /// What the layer says otherwise.
    pub settings: Vec<LayerChange>,
    /// Hosts for which something applies otherwise.
    pub affected: usize,
    /// Hosts that there are.
    pub hosts: usize,
    /// Are there more hosts than were looked at (10000)?
    pub more: bool,
    /// Those hosts by the layers that they have.
    pub groups: Vec<AffectedGroup>,
}

/// JSON Schema of a policy: titles (`title`, `x-title-ja`), defaults, bounds, units (`x-unit`).
#[derive(Debug, Serialize, ToSchema)]
#[schema(value_type = Object)]
pub struct PolicySchema(Value);

/// `GET /policies/schema`
pub async fn schema() -> Json<PolicySchema> {
    Json(PolicySchema(schema::schema()))
}

/// `POST /policies/preview`
pub async fn preview(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<NewPreview>,
) -> Result<Json<PolicyDifference>, Problem> {
    check_layer(&app, &caller, &new.layer).await?;
    let after = tree(&new.layer, new.tree, new.yaml)?;
    let current = policies::current(app.shared.control.read(), caller.tenant()).await?;
    check_merge(&new.layer, &after, &current)?;
    let before = current.iter().find(|version| version.layer == new.layer).cloned();
    let number = before.as_ref().map_or(0, |version| version.number);
    let trees = (before.map(|version| version.tree), Some(after));
    difference(&app, &caller, &new.layer, (number, None), trees, current).await
}

/// `GET /policies/layers/{layer}/diff`: of two versions, as it would be with the other layers as they are now.
pub async fn diff(
    State(app): State<App>,
    caller: Caller,
    Path(layer): Path<String>,
    Query(query): Query<DiffQuery>,
) -> Result<Json<PolicyDifference>, Problem> {
    check_layer(&app, &caller, &layer).await?;
    let pool = app.shared.control.read();
    let current = policies::current(pool, caller.tenant()).await?;
    let to = query.to.or_else(|| current.iter().find(|version| version.layer == layer).map(|version| version.number));
    let to = to.unwrap_or(0);
    let from = match query.from {
        Some(from) => from,
        None => {
            let before = policies::history(pool, caller.tenant(), &layer, to, 1).await?;
            before.first().map_or(0, |version| version.number)
        }
    };
    let before = at(&app, &caller, &layer, from).await?;
    let after = at(&app, &caller, &layer, to).await?;
    difference(&app, &caller, &layer, (from, Some(to)), (before, after), current).await
}

async fn at(app: &App, caller: &Caller, layer: &str, number: i64) -> Result<Option<Map<String, Value>>, Problem> {
    if number == 0 {
        return Ok(None);
    }
    let found = policies::version(app.shared.control.read(), caller.tenant(), layer, number).await?;
    found.map(|version| Some(version.tree)).ok_or_else(|| Problem::new(problem::POLICY_VERSION))
}

/// Hosts of a tenant that are neither revoked nor retired, and whether there are more.
pub(super) async fn hosts(app: &App, tenant: &str) -> Result<(Vec<Agent>, bool), Problem> {
    let scope = Scope::One(tenant.to_owned());
    let mut found = agents::list(app.shared.control.read(), &scope, "", MOST_HOSTS + 1).await?;
    let most = usize::try_from(MOST_HOSTS).unwrap_or(usize::MAX);
    let more = found.len() > most;
    found.truncate(most);
    found.retain(|agent| agent.revoked.is_none() && agent.presence != "retired");
    Ok((found, more))
}

type Tree = Option<Map<String, Value>>;

async fn difference(
    app: &App,
    caller: &Caller,
    layer: &str,
    (from, to): (i64, Option<i64>),
    (before, after): (Tree, Tree),
    current: Vec<Version>,
) -> Result<Json<PolicyDifference>, Problem> {
    let (agents, more) = hosts(app, caller.tenant()).await?;
    let hosts: Vec<Host> =
        agents.into_iter().map(|agent| Host { agent: agent.id, name: agent.name, tags: agent.tags }).collect();
    let others: BTreeMap<String, Map<String, Value>> = current
        .into_iter()
        .filter(|version| version.layer != layer)
        .map(|version| (version.layer, version.tree))
        .collect();
    let said = changes::of_layer(&before.clone().unwrap_or_default(), &after.clone().unwrap_or_default());
    let groups = changes::of_hosts(&others, layer, (before.as_ref(), after.as_ref()), &hosts);
    let groups = groups.map_err(|error| {
        Problem::new(problem::POLICY_INVALID).fault(format!("{}: {}", error.layer, error.path), error.reason)
    })?;
    let changed: Vec<AffectedGroup> = groups
        .into_iter()
        .filter(|group| !group.changes.is_empty())
        .map(|group| AffectedGroup {
            layers: group.layers,
            hosts: group.hosts.len(),
            named: group.hosts.into_iter().take(MOST_NAMED).map(|host| meant(app, host)).collect(),
            changes: group.changes.into_iter().map(applies).collect(),
        })
        .collect();
    Ok(Json(PolicyDifference {
        layer: layer.to_owned(),
        from,
        to,
        settings: said.into_iter().map(says).collect(),
        affected: changed.iter().map(|group| group.hosts).sum(),
        hosts: hosts.len(),
        more,
        groups: changed,
    }))
}

fn meant(app: &App, host: Host) -> MeantHost {
    MeantHost { connected: app.shared.links.connected(&host.agent), agent: host.agent, host: host.name }
}

fn titles(path: &str) -> (&'static str, &'static str) {
    schema::Setting::find(path).map_or(("", ""), |setting| (setting.en, setting.ja))
}

fn says(said: Said) -> LayerChange {
    let (title, title_ja) = titles(&said.path);
    LayerChange { path: said.path, title, title_ja, before: said.before, after: said.after }
}

fn applies(one: Applies) -> EffectiveChange {
    let (title, title_ja) = titles(&one.path);
    let Applies { path, before, after, before_from, after_from } = one;
    EffectiveChange { path, title, title_ja, before, after, before_from, after_from }
}
