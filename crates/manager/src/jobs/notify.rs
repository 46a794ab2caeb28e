//! Sends messages to webhooks: at least once, one message for a burst, a repeat marked as one (D19).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sakimori_model::{Action, ActionState, Event, field};
use sakimori_respond::actions::notify_webhook;
use sakimori_respond::message::{Notice, Waiting, compose, group};
use sakimori_respond::ports::PortError;
use sakimori_respond::wide;
use sakimori_store::control::actions::{self, Filter, Job};
use sakimori_store::control::{ControlError, Scope};
use sakimori_store::lake::Interval;
use sakimori_store::query;

use super::wake;
use crate::metrics::Metrics;
use crate::respond::advance;
use crate::shared::Shared;

/// Most alerts in one message.
const MOST: usize = 100;

/// Runs until the stop is told.
pub async fn run(shared: Arc<Shared>) -> Result<(), String> {
    loop {
        send_due(&shared).await?;
        let waits = !work(&shared).await?.is_empty();
        let longest = if waits { Duration::from_millis(200) } else { Duration::from_secs(5) };
        if !wake(&shared, &shared.message_waiting, longest).await {
            return Ok(());
        }
    }
}

async fn work(shared: &Shared) -> Result<Vec<Job>, String> {
    let states = [ActionState::Approved, ActionState::Running];
    actions::work(shared.control.read(), notify_webhook::ID, &states).await.map_err(|error| error.to_string())
}

async fn send_due(shared: &Shared) -> Result<(), String> {
    let now = shared.clock.now();
    let mut jobs: BTreeMap<String, Job> = BTreeMap::new();
    let mut waiting: BTreeMap<String, Vec<Waiting>> = BTreeMap::new();
    for job in work(shared).await? {
        if job.retry_at.is_some_and(|at| at > now) {
            continue;
        }
        let channel = job.action.order.target.to_string();
        let key = format!("{}|{channel}|{}", job.tenant, job.action.order.cause.rule);
        let one = Waiting { id: job.action.order.id.clone(), key, since: job.action.planned_at };
        waiting.entry(channel).or_default().push(one);
        jobs.insert(job.action.order.id.clone(), job);
    }
    for (channel, list) in waiting {
        let window = shared.config.notify.iter().find(|one| one.name == channel).map_or(0, |one| one.burst_seconds);
        for group in group(&list, window, MOST, now) {
            let members: Vec<Job> = group.ids.iter().filter_map(|id| jobs.remove(id)).collect();
            send(shared, &channel, members).await?;
        }
    }
    Ok(())
}

async fn send(shared: &Shared, channel: &str, mut members: Vec<Job>) -> Result<(), String> {
    let Some(id) = members.first().map(|job| job.action.order.id.clone()) else { return Ok(()) };
    // Running before it is sent: found running after a crash, the outcome is unknown and the repeat is marked.
    let repeated = members.iter().any(|job| job.action.state == ActionState::Running);
    let tries = members.iter().map(|job| job.failures).max().unwrap_or(0) + u32::from(repeated);
    step(shared, &mut members, ActionState::Running, None).await.map_err(|error| error.to_string())?;
    let mut alerts = Vec::new();
    for job in &members {
        alerts.push((alert(shared, job).await, done_about(shared, job).await?));
    }
    let notices: Vec<Notice<'_>> = alerts
        .iter()
        .zip(&members)
        .map(|((alert, done), job)| Notice {
            alert,
            actions: done,
            text: job.action.order.inputs.get("text").map(String::as_str),
        })
        .collect();
    let mut message = compose(&id, channel, &notices, shared.clock.now());
    message.tries = tries;
    match shared.messenger.send(&message).await {
        Ok(()) => {
            Metrics::add(&shared.metrics.messages, 1);
            step(shared, &mut members, ActionState::Done, None).await.map_err(|error| error.to_string())
        }
        Err(problem) => failed(shared, members, &problem).await.map_err(|error| error.to_string()),
    }
}

async fn step(
    shared: &Shared,
    members: &mut [Job],
    state: ActionState,
    reason: Option<String>,
) -> Result<(), ControlError> {
    let now = shared.clock.now();
    let mut change = shared.control.begin().await?;
    for job in members {
        if job.action.state != state {
            let mut step = wide::to(&job.action.order.id, state);
            step.reason.clone_from(&reason);
            advance(&mut change, &job.tenant, &mut job.action, step, now).await?;
        }
    }
    change.commit().await?;
    shared.outbox_changed.notify_one();
    Ok(())
}

async fn failed(shared: &Shared, mut members: Vec<Job>, problem: &PortError) -> Result<(), ControlError> {
    let now = shared.clock.now();
    let asked = match problem {
        PortError::Transient { retry_after, .. } => Some(*retry_after),
        PortError::Permanent { .. } => None,
    };
    let failures = members.iter().map(|job| job.failures).max().unwrap_or(0) + 1;
    match asked.and_then(|asked| wide::retry_at(failures, now, asked)) {
        None => step(shared, &mut members, ActionState::Failed, Some(problem.to_string())).await,
        Some(at) => {
            let mut change = shared.control.begin().await?;
            for job in &members {
                actions::failed(change.connection(), job, at).await?;
            }
            change.commit().await
        }
    }
}

/// The alert as it is stored; what its cause says where it cannot be found.
async fn alert(shared: &Shared, job: &Job) -> Event {
    let cause = &job.action.order.cause;
    let found = match query::parse(&format!("sakimori.alert.id:\"{}\" and event.kind:alert", cause.alert)) {
        Ok(query) => shared.lake.search(&job.tenant, &query, Interval::default(), 1, None).await.ok(),
        Err(_) => None,
    };
    if let Some(hit) = found.and_then(|found| found.hits.into_iter().next()) {
        return hit.event;
    }
    let mut event = Event::new();
    event.set(field::SAKIMORI_ALERT_ID, cause.alert.clone());
    event.set(field::RULE_ID, cause.rule.clone());
    event.set(field::RULE_NAME, cause.title.clone());
    event
}

/// What else was done about the same alert.
async fn done_about(shared: &Shared, job: &Job) -> Result<Vec<Action>, String> {
    let filter = Filter { alert: Some(job.action.order.cause.alert.clone()), ..Filter::default() };
    let scope = Scope::One(job.tenant.clone());
    let mut all =
        actions::list(shared.control.read(), &scope, &filter, None, 50).await.map_err(|error| error.to_string())?;
    all.retain(|action| action.order.action != notify_webhook::ID);
    Ok(all)
}
