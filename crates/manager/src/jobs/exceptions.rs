//! Keeps the exceptions that the fold asks fresh: those of groups know the hosts that joined meanwhile, and those that ended
//! go. What people change is there at once, by the API's own hand.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::shared::Shared;

/// Between two rounds.
const EVERY: Duration = Duration::from_secs(30);

/// Runs until the stop is told.
pub async fn run(shared: Arc<Shared>) -> Result<(), String> {
    let never = Notify::new();
    while super::wake(&shared, &never, EVERY).await {
        if let Err(error) = shared.exceptions.load(&shared.control, shared.clock.now()).await {
            tracing::warn!(%error, "the exceptions over alerts stay as they were read last");
        }
    }
    Ok(())
}
