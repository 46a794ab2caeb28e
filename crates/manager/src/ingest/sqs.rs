//! Queues of Amazon SQS: GuardDuty and Security Hub through EventBridge, topics that a queue is subscribed to, Deep Security.
//!
//! A long poll brings up to ten messages. They are deleted once their events lie in the journal, and not before: where the
//! manager ends in between they come again, and the ingest task knows their occurrences ([`super::occurrences`]). A message that
//! nobody can read is deleted too once its dead letter is durable, so that it does not come for ever.

use std::sync::Arc;
use std::time::Duration;

use sakimori_cloud::aws::sqs::{Queue, WAIT_SECONDS};
use tracing::warn;

use super::settings::Sqs;
use super::ways::Way;
use super::worker::Message;
use crate::shared::Shared;

/// Shortest and longest pause after a failure.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Reads a queue until the stop is told.
///
/// # Errors
/// An account that is not configured: the task ends, and says so.
pub async fn run(shared: Arc<Shared>, way: Way, settings: Sqs) -> Result<(), String> {
    let account = shared
        .config
        .cloud
        .accounts
        .get(&settings.account)
        .ok_or_else(|| format!("ingest.sqs {}: there is no cloud.accounts.{}", settings.name, settings.account))?;
    let queue = Queue::open(account, &settings.queue).await.map_err(|error| error.to_string())?;
    let mut pause = PAUSE.0;
    loop {
        let wait = Duration::from_secs(u64::try_from(WAIT_SECONDS).unwrap_or(0));
        let outcome = tokio::select! {
            outcome = once(&shared, &way, &queue, wait) => outcome,
            () = shared.stop.wait() => return Ok(()),
        };
        match outcome {
            Ok(()) => pause = PAUSE.0,
            Err(problem) => {
                warn!(way = way.name, error = problem, "a queue could not be read; it is tried again");
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = shared.stop.wait() => return Ok(()),
                }
                pause = (pause * 2).min(PAUSE.1);
            }
        }
    }
}

/// One poll, from the queue to the journal and back.
async fn once(shared: &Arc<Shared>, way: &Way, queue: &Queue, wait: Duration) -> Result<(), String> {
    let received = queue.receive(wait).await.map_err(|error| error.to_string())?;
    if received.is_empty() {
        return Ok(());
    }
    let receipts: Vec<String> = received.iter().map(|message| message.receipt.clone()).collect();
    let messages = received.into_iter();
    let messages = messages.map(|one| Message { id: one.id, body: one.body.into_bytes(), sender: None }).collect();
    way.take(shared, messages, Vec::new()).await.map_err(|error| error.to_string())?;
    let left = queue.delete(&receipts).await.map_err(|error| error.to_string())?;
    if left > 0 {
        warn!(way = way.name, left, "messages could not be deleted; they come again and are known");
    }
    Ok(())
}
