//! The effective policy of a tenant or an agent: default ← `tenant` ← `group:<tag>` … ← `host:<agent id>`.

use sakimori_model::policy::{Effective, Layer, default_layer, merge};
use sakimori_store::control::agents::Agent;
use sakimori_store::control::policies;

use crate::shared::Shared;

/// Name of the layer of all hosts of a tenant.
pub const TENANT_LAYER: &str = "tenant";

/// What applies to an agent, and its number.
///
/// # Errors
/// A layer that cannot be used, or control state that cannot be read.
pub async fn of_agent(shared: &Shared, agent: &Agent) -> Result<(u64, Effective), String> {
    let mut names = vec![TENANT_LAYER.to_owned()];
    names.extend(agent.tags.iter().map(|tag| format!("group:{tag}")));
    names.push(format!("host:{}", agent.id));
    of_layers(shared, &agent.tenant, &names).await
}

/// What applies to a tenant as a whole: what the manager's own actions respect.
///
/// # Errors
/// As [`of_agent`].
pub async fn of_tenant(shared: &Shared, tenant: &str) -> Result<(u64, Effective), String> {
    of_layers(shared, tenant, &[TENANT_LAYER.to_owned()]).await
}

async fn of_layers(shared: &Shared, tenant: &str, names: &[String]) -> Result<(u64, Effective), String> {
    let current = policies::current(shared.control.read(), tenant).await.map_err(|error| error.to_string())?;
    let number = current.iter().map(|version| version.number).max().unwrap_or(0);
    let mut layers = vec![default_layer()];
    for name in names {
        if let Some(version) = current.iter().find(|version| version.layer == *name) {
            layers.push(Layer { name: name.clone(), tree: version.tree.clone() });
        }
    }
    let effective = merge(&layers).map_err(|error| error.to_string())?;
    // Number 0 is an agent's own default; what a manager sends is always newer.
    Ok((number.cast_unsigned() + 1, effective))
}
