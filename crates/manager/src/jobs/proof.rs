//! Proves that messages arrive: a channel that had none for a day gets one that says that nothing happened. Channels that take
//! findings get none: it would be no finding, so they are proven by what they are told anyway.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sakimori_model::Order;
use sakimori_model::action::{ActionState, Cause, Target};
use sakimori_model::id::row_id;
use sakimori_respond::actions::notify;
use sakimori_store::control::DEFAULT_TENANT;
use tokio::sync::Notify;

use crate::api::newest_message;
use crate::respond::{self, Account};
use crate::shared::Shared;

/// Between two rounds.
const EVERY: Duration = Duration::from_secs(3_600);
/// Before the first.
const FIRST: Duration = Duration::from_secs(900);
/// A channel that took a message within this time is proven, in seconds.
const FRESH: i64 = 24 * 3_600;
/// What the message says.
const TEXT: &str = "Nothing happened: once a day Sakimori proves that this channel delivers. \
                    異常はありません。Sakimori が一日に一度、この通知先に届くことを確かめています。";

/// Runs until the stop is told.
pub async fn run(shared: Arc<Shared>) -> Result<(), String> {
    let never = Notify::new();
    let mut wait = FIRST;
    while super::wake(&shared, &never, wait).await {
        if let Err(error) = round(&shared).await {
            tracing::warn!(error, "the channels for messages were not proven");
        }
        wait = EVERY;
    }
    Ok(())
}

/// One round.
///
/// # Errors
/// Control state failed.
pub async fn round(shared: &Shared) -> Result<(), String> {
    let now = shared.clock.now();
    let takes_findings = |name: &str| shared.channels.kind(name).is_some_and(|kind| kind.findings.is_some());
    for channel in shared.config.notify.iter().filter(|channel| !takes_findings(&channel.name)) {
        let newest = newest_message(shared, &channel.name).await.map_err(|error| error.to_string())?;
        // One that failed is tried again too: the next round is an hour away.
        let fresh = newest.is_some_and(|action| {
            action.state == ActionState::Done && action.done_at.is_some_and(|at| now.since(at) < FRESH * 1_000_000)
        });
        if fresh {
            continue;
        }
        let order = Order {
            id: row_id(),
            action: notify::ID.to_owned(),
            target: Target::Channel(channel.name.clone()),
            expiry: None,
            cause: Cause {
                rule: "proof".into(),
                title: "Proof of delivery".into(),
                by: "proof".into(),
                ..Cause::default()
            },
            via: None,
            probe: false,
            inputs: BTreeMap::from([("text".to_owned(), TEXT.to_owned())]),
            signatures: Vec::new(),
        };
        let account = Account { exempt: true, ..Account::default() };
        respond::plan(shared, DEFAULT_TENANT, vec![order], account, now).await.map_err(|error| error.to_string())?;
        shared.message_waiting.notify_one();
    }
    Ok(())
}
