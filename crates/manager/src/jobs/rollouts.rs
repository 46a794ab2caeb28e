//! Moves roll-outs in stages: looks every few seconds how the first hosts do, lets the others follow when the time is over,
//! and halts where hosts fail, with an alert of the manager's own. What is decided is decided in [`crate::rollouts`].

use std::sync::Arc;
use std::time::Duration;

use sakimori_model::Timestamp;
use sakimori_model::policy::{Layer, default_layer, merge};
use sakimori_model::rule::Severity;
use sakimori_store::control::agents::{self, Agent};
use sakimori_store::control::audit::Entry;
use sakimori_store::control::rollouts::{self, Rollout, State};
use sakimori_store::control::{Change, ControlError, Scope, policies};
use tokio::sync::Notify;

use crate::notices::{self, Notice};
use crate::presence;
use crate::rollouts::{Baseline, Doing, Now, Record, Verdict, doing, judge};
use crate::shared::{Command, Shared};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(5);

/// A host of a first stage as it is now.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Agent.
    pub agent: String,
    /// Host name; empty where the agent is forgotten.
    pub name: String,
    /// Was it revoked, forgotten or retired? Then it is of the stage no more.
    pub gone: bool,
    /// Is it connected?
    pub connected: bool,
    /// How it is doing since.
    pub doing: Doing,
}

/// Runs until the stop is told.
pub async fn run(shared: Arc<Shared>) -> Result<(), String> {
    let never = Notify::new();
    while super::wake(&shared, &never, EVERY).await {
        if let Err(error) = round(&shared).await {
            tracing::warn!(%error, "roll-outs of policies stand as they are until the next look");
        }
    }
    Ok(())
}

/// One look at all that are under way.
///
/// # Errors
/// Control state failed.
pub async fn round(shared: &Shared) -> Result<(), ControlError> {
    for rollout in rollouts::open(shared.control.read(), "").await? {
        if rollout.state == State::First {
            look(shared, &rollout).await?;
        }
    }
    Ok(())
}

/// What is known of a host now.
pub fn now_of(shared: &Shared, agent: &Agent) -> Now {
    Now {
        status: serde_json::from_str(&agent.status).unwrap_or_default(),
        connected: shared.links.connected(&agent.id),
        silent: agent.presence == "silent",
    }
}

/// The hosts of a first stage, and how they do.
///
/// # Errors
/// Control state failed.
pub async fn stage(shared: &Shared, rollout: &Rollout) -> Result<Vec<Stage>, ControlError> {
    let scope = Scope::One(rollout.tenant.clone());
    let mut out = Vec::new();
    for host in rollouts::hosts(shared.control.read(), &rollout.tenant, &rollout.id).await? {
        let agent = match agents::get(shared.control.read(), &scope, &host.agent).await {
            Ok(agent) => Some(agent),
            Err(ControlError::Missing(_)) => None,
            Err(error) => return Err(error),
        };
        let before: Baseline = serde_json::from_str(&host.baseline).unwrap_or_default();
        let now = agent.as_ref().map(|agent| now_of(shared, agent)).unwrap_or_default();
        let gone = |agent: &Agent| matches!(presence::shown(agent, now.connected).as_str(), "revoked" | "retired");
        out.push(Stage {
            gone: agent.as_ref().is_none_or(gone),
            name: agent.map(|agent| agent.name).unwrap_or_default(),
            connected: now.connected,
            // What goes to a host has a number one above that of its layers (`crate::policy`).
            doing: doing(&before, &now, host.number.cast_unsigned() + 1),
            agent: host.agent,
        });
    }
    Ok(out)
}

/// What a stage is judged by.
pub fn judged(stage: &[Stage]) -> Vec<(String, bool, Doing)> {
    let there = stage.iter().filter(|one| !one.gone);
    there.map(|one| (one.name.clone(), one.connected, one.doing.clone())).collect()
}

async fn look(shared: &Shared, rollout: &Rollout) -> Result<(), ControlError> {
    let Ok(record) = Record::read(&rollout.record) else { return Ok(()) };
    let stage = stage(shared, rollout).await?;
    let now = shared.clock.now();
    let (to, why) = match judge(&record, &judged(&stage), now) {
        Verdict::Wait(_) => return Ok(()),
        Verdict::Go => (State::Done, "its first stage is well and its time is over".to_owned()),
        Verdict::Halt(why) => (State::Halted, why),
    };
    let mut change = shared.control.begin().await?;
    let fresh = rollouts::get(change.connection(), &rollout.tenant, &rollout.id).await?;
    if fresh.state != State::First {
        // Somebody moved it meanwhile.
        return Ok(());
    }
    let after = match to {
        State::Done => match end(&mut change, &fresh, to, (&record.author, &why), now).await? {
            Ok(after) => after,
            Err(reason) => halt(&mut change, &fresh, &record, &reason, now).await?,
        },
        _ => halt(&mut change, &fresh, &record, &why, now).await?,
    };
    let action = if after.state == State::Done { "policies:rollout-continue" } else { "policies:rollout-halt" };
    let entry = Entry {
        tenant: &after.tenant,
        time: now,
        actor: "system",
        action,
        target: &after.id,
        before: None,
        after: None,
        address: "",
        request: "",
    };
    change.audit(&entry).await?;
    change.commit().await?;
    tracing::info!(rollout = after.id, layer = after.layer, state = after.state.name(), "a roll-out moved");
    shared.outbox_changed.notify_one();
    shared.links.tell_all(&Command::Policy);
    Ok(())
}

/// It stands still, and people are told.
async fn halt(
    change: &mut Change,
    rollout: &Rollout,
    record: &Record,
    why: &str,
    now: Timestamp,
) -> Result<Rollout, ControlError> {
    let record = Record { why: why.to_owned(), ..record.clone() };
    let after = Rollout { state: State::Halted, changed: now, record: record.text(), ..rollout.clone() };
    rollouts::update(change.connection(), &after).await?;
    let notice = Notice {
        what: "policy-rollout-halted".into(),
        title: "A staged roll-out of a policy halted".into(),
        about: after.id.clone(),
        message: format!("the roll-out of the layer {} halted: {why}", after.layer),
        remedy: "look at the hosts, then withdraw it or let it go on (sakimori policy rollout)".into(),
        severity: Some(Severity::High),
    };
    notices::put(change, &after.tenant, &notice, now).await?;
    Ok(after)
}

/// Ends one: it becomes a version of its layer, or nobody has it any more. The inner error says why it cannot become one:
/// then it is as it was.
///
/// # Errors
/// Control state failed.
pub async fn end(
    change: &mut Change,
    rollout: &Rollout,
    to: State,
    (by, why): (&str, &str),
    now: Timestamp,
) -> Result<Result<Rollout, String>, ControlError> {
    let mut record = match Record::read(&rollout.record) {
        Ok(record) => record,
        Err(reason) => return Ok(Err(reason)),
    };
    record.why = why.to_owned();
    if to == State::Done {
        let current = policies::current(change.connection(), &rollout.tenant).await?;
        // Other layers may have changed since it began.
        if let Err(reason) = fits(&rollout.layer, &record, &current) {
            return Ok(Err(reason));
        }
        let said = match record.reason.as_str() {
            "" => format!("roll-out {}", rollout.id),
            reason => format!("roll-out {}: {reason}", rollout.id),
        };
        let tree = record.tree.clone();
        let made = policies::put(change.connection(), &rollout.tenant, &rollout.layer, tree, (by, &said), now).await?;
        record.number = made.number;
    } else {
        // The first hosts take the others' policy again: by a number above the one that they have.
        let number = policies::take_number(change.connection(), &rollout.tenant).await?;
        rollouts::renumber(change.connection(), &rollout.tenant, &rollout.id, number).await?;
    }
    let after = Rollout { state: to, changed: now, record: record.text(), ..rollout.clone() };
    rollouts::update(change.connection(), &after).await?;
    Ok(Ok(after))
}

/// Can the staged layer still be merged with those below and above it?
fn fits(layer: &str, record: &Record, current: &[policies::Version]) -> Result<(), String> {
    let staged = Layer { name: layer.to_owned(), tree: record.tree.clone() };
    let named = |version: &policies::Version| Layer { name: version.layer.clone(), tree: version.tree.clone() };
    let mut stacks = vec![vec![default_layer(), staged.clone()]];
    if layer == crate::policy::TENANT_LAYER {
        let above = current.iter().filter(|version| version.layer != layer);
        stacks.extend(above.map(|version| vec![default_layer(), staged.clone(), named(version)]));
    } else if let Some(tenant) = current.iter().find(|version| version.layer == crate::policy::TENANT_LAYER) {
        stacks.push(vec![default_layer(), named(tenant), staged.clone()]);
    }
    stacks.iter().try_for_each(|stack| merge(stack).map(|_| ()).map_err(|error| error.to_string()))
}
