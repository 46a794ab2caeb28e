//! Keeps the lake in order, every hour: small files of a day are joined, days that are over go, files that nothing
//! reads any more are deleted. Each step is done again where it was cut off.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use sakimori_store::lake::LakeError;
use tokio::sync::Notify;
use tracing::{info, warn};

use crate::metrics::Metrics;
use crate::shared::Shared;

/// Between two rounds.
const EVERY: Duration = Duration::from_secs(3_600);
/// Before the first: a start has better things to do.
const FIRST: Duration = Duration::from_secs(300);

/// Runs until the stop is told.
pub async fn run(shared: Arc<Shared>) -> Result<(), String> {
    let never = Notify::new();
    let mut wait = FIRST;
    while super::wake(&shared, &never, wait).await {
        round(&shared).await;
        wait = EVERY;
    }
    Ok(())
}

/// One round. A step that fails leaves the others to be done; the next round does it again.
pub async fn round(shared: &Shared) {
    let (lake, now, metrics) = (&shared.lake, shared.clock.now(), &shared.metrics);
    let joined = lake.compact(now).await.map(|done| done.files as u64);
    told("small files were joined", joined, &metrics.lake_joined);
    let keep = shared.config.lake.clone();
    let expired = lake.expire(move |tenant| keep.retention_days_of(tenant), now).await;
    told("events older than their retention went", expired, &metrics.lake_expired);
    let deleted = lake.vacuum(now).await.map(|files| files as u64);
    told("files that nothing reads were deleted", deleted, &metrics.lake_deleted);
}

fn told(what: &str, outcome: Result<u64, LakeError>, counter: &AtomicU64) {
    match outcome {
        Ok(0) => {}
        Ok(count) => {
            Metrics::add(counter, count);
            info!(count, "{what}");
        }
        Err(error) => warn!(%error, "upkeep of the lake failed and is tried again in an hour"),
    }
}
