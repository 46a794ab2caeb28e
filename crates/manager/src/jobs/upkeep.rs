//! Keeps things in order, every hour: small files of a day of the lake are joined, days that are over go, files that
//! nothing reads any more are deleted; actions that are over go, and of the ledger's chain what none of those that stay
//! needs; its head is written into the audit log. Each step is done again where it was cut off.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use sakimori_model::Timestamp;
use sakimori_store::control::retire::{self, Keep};
use sakimori_store::control::{ControlError, exceptions, executions, messages, rollouts, shed, tenants};
use sakimori_store::lake::LakeError;
use tokio::sync::Notify;
use tracing::{info, warn};

use crate::metrics::Metrics;
use crate::shared::Shared;

/// Between two rounds.
const EVERY: Duration = Duration::from_secs(3_600);
/// Before the first: a start has better things to do.
const FIRST: Duration = Duration::from_secs(300);
/// What changed so lately stays, in seconds, however much there is: a crash may make it be asked for again.
const FRESH: i64 = 600;
/// Exceptions stay in the list so long after their end, in seconds: whoever wants one back finds it.
const ENDED_EXCEPTIONS: i64 = 90 * 86_400;
/// Of a tenant's roll-outs that are over, so many stay.
const MOST_ROLLOUTS: i64 = 200;
/// Of a tenant's messages that are over, so many stay.
const MOST_MESSAGES: i64 = 10_000;

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
    if let Err(error) = policies(shared, now).await {
        warn!(%error, "exceptions and roll-outs that are over stay for another hour");
    }
    match retire(shared, now).await {
        Ok(0) => {}
        Ok(count) => {
            Metrics::add(&metrics.retired, count);
            info!(count, "actions that are over went");
        }
        Err(error) => warn!(%error, "actions that are over stay for another hour"),
    }
}

/// Forgets exceptions and roll-outs that ended long ago.
async fn policies(shared: &Shared, now: Timestamp) -> Result<(), ControlError> {
    let mut after = String::new();
    loop {
        let page = tenants::list(shared.control.read(), &after, 500).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after.clone_from(&last.id);
        let mut change = shared.control.begin().await?;
        for tenant in &page {
            exceptions::tidy(change.connection(), &tenant.id, now.plus_secs(-ENDED_EXCEPTIONS)).await?;
            rollouts::tidy(change.connection(), &tenant.id, MOST_ROLLOUTS).await?;
        }
        change.commit().await?;
    }
}

/// Takes out actions that are over, portion by portion, so that nobody waits long for the database.
async fn retire(shared: &Shared, now: Timestamp) -> Result<u64, ControlError> {
    let flood = &shared.config.flood;
    let before = now.plus_secs(-i64::from(flood.keep_days.max(1)) * 86_400);
    let lasting = sakimori_respond::actions::CATALOG.iter().filter(|known| known.undo.is_none()).map(|known| known.id);
    let keep =
        Keep { before, most: i64::from(flood.keep_most), fresh: now.plus_secs(-FRESH), lasting: lasting.collect() };
    let mut gone = 0;
    for tenant in retire::tenants(shared.control.read()).await? {
        let mut place = Some((i64::MIN, String::new()));
        while let Some(from) = place {
            let mut change = shared.control.begin().await?;
            let (count, next) = retire::rows(change.connection(), &tenant, &keep, &from, now).await?;
            change.commit().await?;
            gone += count;
            place = next;
        }
        loop {
            let mut change = shared.control.begin().await?;
            let records = retire::ledger(&mut change, &tenant, now).await?;
            change.commit().await?;
            if records == 0 {
                break;
            }
        }
        let mut change = shared.control.begin().await?;
        retire::head(&mut change, &tenant, now).await?;
        shed::tidy(change.connection(), &tenant, before).await?;
        gone += executions::tidy(change.connection(), &tenant, before).await?;
        messages::tidy(change.connection(), &tenant, before, MOST_MESSAGES).await?;
        change.commit().await?;
    }
    shared.outbox_changed.notify_one();
    Ok(gone)
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
