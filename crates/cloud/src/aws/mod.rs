//! AWS: how a client is made, and one file a service.

mod account;
mod buckets;
mod caller;
pub mod check;
mod clients;
mod desktop;
mod disks_snapshot;
mod ec2;
pub mod event_bridge;
mod functions;
mod iam;
mod identities;
mod instance_collect;
mod instance_detach;
mod instance_isolate;
mod instance_power;
mod instance_replace;
mod isolation;
mod isolation_groups;
mod pipelines;
mod port_close;
mod problem;
pub mod security_hub;
pub mod sns;
pub mod sqs;
mod steps;
pub mod waf;
mod waf_rules;
mod web_acls;

use std::collections::BTreeMap;
use std::sync::Arc;

use sakimori_respond::ports::{Effect, PortError};

pub use account::{Account, configuration, partition};

use clients::Clients;

/// All effects: the slug of the action and what makes its effect.
const CATALOG: &[(&str, Make)] = &[
    buckets::CLOSE,
    buckets::DENY,
    desktop::DESKTOP_ISOLATE,
    desktop::DESKTOP_STOP,
    disks_snapshot::DISKS_SNAPSHOT,
    functions::STOP,
    iam::DEACTIVATE_KEY,
    identities::QUARANTINE,
    identities::REVOKE_SESSIONS,
    instance_collect::INSTANCE_COLLECT,
    instance_detach::INSTANCE_DETACH,
    instance_isolate::INSTANCE_ISOLATE,
    instance_power::INSTANCE_STOP,
    instance_power::INSTANCE_TERMINATE,
    instance_replace::INSTANCE_REPLACE,
    pipelines::CLOSE_STAGE,
    pipelines::STOP,
    port_close::PORT_CLOSE,
    waf_rules::RATE,
    waf_rules::SHAPE,
];

/// Makes an effect of an account.
type Make = fn(&Arc<Clients>) -> Arc<dyn Effect>;

/// What carries actions out in this account, by the slug of the action. Makes clients; nothing is called yet.
///
/// # Errors
/// An account that cannot be used as it is written.
pub async fn effects(account: &Account) -> Result<BTreeMap<&'static str, Arc<dyn Effect>>, PortError> {
    let clients = Clients::new(account).await?;
    let clients = Arc::new(clients);
    Ok(CATALOG.iter().map(|(action, make)| (*action, make(&clients))).collect())
}

/// The answer to who wants back what cannot be taken back.
pub(crate) fn irreversible(action: &str) -> PortError {
    PortError::permanent(format!("{action} cannot be taken back"))
}
