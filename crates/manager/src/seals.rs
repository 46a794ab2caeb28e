//! What the manager tells a host is sealed for that host when it is sent, with the order key (`respond::seal`).

use ed25519_dalek::SigningKey;
use sakimori_model::Order;
use sakimori_respond::seal::{Act, MANAGER_SECONDS, seal};
use sakimori_runtime::Clock;
use sakimori_store::control::agents::{self, Waiting};
use sakimori_wire::agent as proto;
use sakimori_wire::agent::down::Message as Down;

use crate::shared::Shared;

/// Seals an act of this moment for a host.
pub fn by(key: &SigningKey, clock: &dyn Clock, host: &str, act: Act<'_>) -> Vec<u8> {
    let now = clock.now();
    seal(key, host, act, now, now.plus_secs(MANAGER_SECONDS))
}

/// Seals an act with the order key.
pub fn by_manager(shared: &Shared, host: &str, act: Act<'_>) -> Vec<u8> {
    by(&shared.order_key, &*shared.clock, host, act)
}

/// What waits for a host, with the seals of operators and the manager's. `None` where it cannot be read any more.
///
/// # Errors
/// The database failed.
pub async fn waiting(shared: &Shared, tenant: &str, host: &str, one: Waiting) -> Result<Option<Down>, String> {
    let kept = agents::seals(shared.control.read(), tenant, host, &one.id, &one.kind).await;
    let mut signatures = kept.map_err(|error| error.to_string())?;
    if one.kind == "undo" {
        signatures.push(by_manager(shared, host, Act::Undo { action: &one.id, by: &one.payload }));
        return Ok(Some(Down::Undo(proto::UndoDown { action_id: one.id, by: one.payload, signatures })));
    }
    let Ok(mut order) = serde_json::from_str::<Order>(&one.payload) else {
        tracing::warn!(host, id = one.id, "an order that waits cannot be read; it is not sent");
        return Ok(None);
    };
    signatures.push(by_manager(shared, host, Act::Order(&order)));
    order.signatures = signatures;
    let json = serde_json::to_vec(&order).map_err(|error| error.to_string())?;
    Ok(Some(Down::Order(proto::OrderDown { json })))
}
