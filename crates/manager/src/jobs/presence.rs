//! Looks for agents that are not heard of, and says so: silent, or retired (`crate::presence`).

use std::sync::Arc;
use std::time::Duration;

use sakimori_model::Timestamp;
use sakimori_store::control::ControlError;
use sakimori_store::control::agents::{self, Agent};

use crate::presence::{self, Presence};
use crate::shared::Shared;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(2);
/// Those of whom it is known that they are away are looked at once in so many looks: they may have to retire.
const OTHERS: u64 = 15;
/// Nobody is judged who was heard of so many seconds ago; agents speak every five.
const FRESH: i64 = 5;
/// Agents that are read at a time.
const PAGE: i64 = 500;

/// Runs until the stop is told.
pub async fn run(shared: Arc<Shared>) -> Result<(), String> {
    let since = shared.clock.now();
    let mut looks = 0_u64;
    loop {
        let all = looks.is_multiple_of(OTHERS);
        looks += 1;
        look(&shared, since, all).await.map_err(|error| error.to_string())?;
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = shared.stop.wait() => return Ok(()),
        }
    }
}

async fn look(shared: &Shared, since: Timestamp, all: bool) -> Result<(), ControlError> {
    let before = shared.clock.now().plus_secs(-FRESH);
    let mut after = String::new();
    loop {
        let page = agents::unheard(shared.control.read(), before, &after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.id.clone();
        for agent in &page {
            if (all || agent.presence.is_empty()) && !shared.links.connected(&agent.id) {
                settle(shared, agent, since, before).await?;
            }
        }
    }
}

async fn settle(shared: &Shared, agent: &Agent, since: Timestamp, before: Timestamp) -> Result<(), ControlError> {
    // A policy that cannot be used must not hide that an agent is away.
    let policy = crate::policy::of_agent(shared, agent).await;
    let settings = policy.map(|(_, effective)| effective.policy.presence).unwrap_or_default();
    let now = shared.clock.now();
    let Some(becomes) = presence::judge(agent, &settings, since, now) else { return Ok(()) };
    let action = match becomes {
        Presence::Silent => presence::SILENT,
        _ => presence::RETIRED,
    };
    let mut change = shared.control.begin().await?;
    if agents::set_presence(change.connection(), &agent.id, becomes.name(), Some(before), now).await? {
        tracing::info!(agent = agent.id, host = agent.name, presence = becomes.name(), "an agent is away");
        change.audit(&presence::entry(agent, action, now)).await?;
        change.commit().await?;
        shared.outbox_changed.notify_one();
    }
    Ok(())
}
