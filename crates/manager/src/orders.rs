//! What waits to be told to an agent: orders and undos by hand. A row stays until the agent has answered, so
//! that an agent that is away hears of it when it connects.

use sakimori_model::{Action, Order, Timestamp};
use sakimori_store::control::{Change, ControlError, audit};

/// Notes an order for an agent, with its audit entry.
///
/// # Errors
/// The database failed.
pub async fn put_order(
    change: &mut Change,
    tenant: &str,
    agent: &str,
    order: &Order,
    by: &str,
    now: Timestamp,
) -> Result<(), ControlError> {
    let payload = serde_json::to_string(order).map_err(|error| ControlError::Stored("order", error.to_string()))?;
    put(change, tenant, agent, &order.id, "order", &payload, by, now).await
}

/// Notes that an agent's action is to be taken back, with its audit entry.
///
/// # Errors
/// The database failed.
pub async fn put_undo(
    change: &mut Change,
    tenant: &str,
    action: &Action,
    by: &str,
    now: Timestamp,
) -> Result<(), ControlError> {
    put(change, tenant, &action.place, &action.order.id, "undo", by, by, now).await
}

#[expect(clippy::too_many_arguments, reason = "one row's columns")]
async fn put(
    change: &mut Change,
    tenant: &str,
    agent: &str,
    id: &str,
    kind: &str,
    payload: &str,
    by: &str,
    now: Timestamp,
) -> Result<(), ControlError> {
    sakimori_store::control::agents::put_order(change.connection(), tenant, agent, id, kind, payload, now).await?;
    change
        .audit(&audit::Entry {
            tenant,
            time: now,
            actor: &format!("user:{by}"),
            action: &format!("actions:{kind}"),
            target: id,
            before: None,
            after: None,
            address: "",
            request: "",
        })
        .await
}
