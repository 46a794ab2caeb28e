//! The effective policy of a tenant or an agent: default ← `tenant` ← `group:<tag>` … ← `host:<agent id>`.

use sakimori_model::policy::{Effective, Layer, default_layer, merge};
use sakimori_store::control::agents::Agent;
use sakimori_store::control::policies;
use sakimori_store::control::rollouts;

use crate::rollouts::Record;
use crate::shared::Shared;

pub mod changes;

/// Name of the layer of all hosts of a tenant.
pub const TENANT_LAYER: &str = "tenant";

/// What applies to an agent, and its number.
///
/// # Errors
/// A layer that cannot be used, or control state that cannot be read.
pub async fn of_agent(shared: &Shared, agent: &Agent) -> Result<(u64, Effective), String> {
    let names = names_of(&agent.id, &agent.tags);
    let pool = shared.control.read();
    let mut staged = Vec::new();
    for rollout in rollouts::of_agent(pool, &agent.tenant, &agent.id).await.map_err(|error| error.to_string())? {
        let record = Record::read(&rollout.record)?;
        staged.push(Layer { name: rollout.layer, tree: record.tree });
    }
    let (number, effective) = of_layers(shared, &agent.tenant, &names, staged).await?;
    // A host of a first stage has gone on by itself, and must not fall behind that when the roll-out is over.
    let own = rollouts::number(pool, &agent.tenant, &agent.id).await.map_err(|error| error.to_string())?;
    Ok((number.max(own.cast_unsigned() + 1), effective))
}

/// Names of the layers over the default one that apply to an agent, the most general first.
pub fn names_of(agent: &str, tags: &[String]) -> Vec<String> {
    let mut names = vec![TENANT_LAYER.to_owned()];
    names.extend(tags.iter().map(|tag| format!("group:{tag}")));
    names.push(format!("host:{agent}"));
    names
}

/// What applies to a tenant as a whole: what the manager's own actions respect.
///
/// # Errors
/// As [`of_agent`].
pub async fn of_tenant(shared: &Shared, tenant: &str) -> Result<(u64, Effective), String> {
    of_layers(shared, tenant, &[TENANT_LAYER.to_owned()], Vec::new()).await
}

/// `staged` stand in the place of the layers of their names.
async fn of_layers(
    shared: &Shared,
    tenant: &str,
    names: &[String],
    staged: Vec<Layer>,
) -> Result<(u64, Effective), String> {
    let current = policies::current(shared.control.read(), tenant).await.map_err(|error| error.to_string())?;
    let number = current.iter().map(|version| version.number).max().unwrap_or(0);
    let mut layers = vec![default_layer()];
    for name in names {
        if let Some(layer) = staged.iter().find(|layer| layer.name == *name) {
            layers.push(layer.clone());
        } else if let Some(version) = current.iter().find(|version| version.layer == *name) {
            layers.push(Layer { name: name.clone(), tree: version.tree.clone() });
        }
    }
    let effective = merge(&layers).map_err(|error| error.to_string())?;
    // Number 0 is an agent's own default; what a manager sends is always newer.
    Ok((number.cast_unsigned() + 1, effective))
}
