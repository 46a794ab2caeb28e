//! Sends messages to webhooks: at least once, one message for a burst, a repeat marked as one (D19). Of what a flood asked
//! for beyond the rate one message a minute says how many they are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sakimori_model::action::{Cause, Target};
use sakimori_model::{Action, ActionState, Event, Order, Timestamp, field};
use sakimori_respond::actions::notify_webhook;
use sakimori_respond::execution::ASK;
use sakimori_respond::message::{Notice, Waiting, compose, group};
use sakimori_respond::ports::PortError;
use sakimori_respond::wide;
use sakimori_store::control::actions::{self, Filter, Job, MANAGER};
use sakimori_store::control::shed::{self, Shed};
use sakimori_store::control::{ControlError, Scope};
use sakimori_store::lake::Interval;
use sakimori_store::query;

use super::wake;
use crate::metrics::Metrics;
use crate::respond::{self, Account, advance};
use crate::shared::Shared;

/// Most alerts in one message.
const MOST: usize = 100;
/// Seconds between two messages that say how many others were not sent.
const SUM_EVERY: i64 = 60;

/// Runs until the stop is told.
pub async fn run(shared: Arc<Shared>) -> Result<(), String> {
    loop {
        sum_up(&shared).await?;
        send_due(&shared).await?;
        let waits = !work(&shared).await?.is_empty();
        let longest = if waits { Duration::from_millis(200) } else { Duration::from_secs(5) };
        if !wake(&shared, &shared.message_waiting, longest).await {
            return Ok(());
        }
    }
}

/// Asks for the messages that say how many others were not sent. Each is named by what it tells, so that a crash between
/// asking for it and noting that asks for the same.
async fn sum_up(shared: &Shared) -> Result<(), String> {
    let now = shared.clock.now();
    let fail = |error: ControlError| error.to_string();
    for span in
        shed::untold(shared.control.read(), notify_webhook::ID, now.plus_secs(-SUM_EVERY)).await.map_err(fail)?
    {
        let order = summary(&span);
        let account = Account { exempt: true, ..Account::default() };
        respond::plan(shared, &span.tenant, vec![order], account, now).await.map_err(|error| error.to_string())?;
        let write = async {
            let mut change = shared.control.begin().await?;
            shed::told(change.connection(), &span, span.count, now).await?;
            change.commit().await
        };
        write.await.map_err(fail)?;
    }
    Ok(())
}

fn summary(span: &Shed) -> Order {
    let target = Target::Channel(span.target.clone());
    let more = span.count - span.told;
    let title = format!("{more} more alerts, not told one by one");
    let text = format!(
        "{} asked for more messages than are sent one by one; {} since {}. sakimori alerts lists all of them",
        span.source,
        span.count,
        Timestamp::from_micros(span.began)
    );
    Order {
        id: wide::order_id(
            &format!("{} {} {}", span.source, span.began, span.told),
            notify_webhook::ID,
            &target,
            MANAGER,
        ),
        action: notify_webhook::ID.to_owned(),
        target,
        expiry: None,
        cause: Cause { rule: crate::flood::NOTICE.into(), title, by: span.source.clone(), ..Cause::default() },
        via: None,
        probe: false,
        inputs: BTreeMap::from([("text".to_owned(), text)]),
        signatures: Vec::new(),
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
        // A question goes alone: each has its own answer.
        let alone = if job.action.order.inputs.contains_key(ASK) { job.action.order.id.as_str() } else { "" };
        let key = format!("{}|{channel}|{}|{alone}", job.tenant, job.action.order.cause.rule);
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
    let ask = members.iter().find_map(|job| crate::answers::ask(shared, job));
    let mut message = compose(&id, channel, &notices, ask.as_ref(), shared.clock.now());
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
    if cause.alert.is_empty() {
        return of_cause(cause);
    }
    let found = match query::parse(&format!("sakimori.alert.id:\"{}\" and event.kind:alert", cause.alert)) {
        Ok(query) => shared.lake.search(&job.tenant, &query, Interval::default(), 1, None).await.ok(),
        Err(_) => None,
    };
    if let Some(hit) = found.and_then(|found| found.hits.into_iter().next()) {
        return hit.event;
    }
    of_cause(cause)
}

fn of_cause(cause: &Cause) -> Event {
    let mut event = Event::new();
    event.set(field::SAKIMORI_ALERT_ID, cause.alert.clone());
    event.set(field::RULE_ID, cause.rule.clone());
    event.set(field::RULE_NAME, cause.title.clone());
    event
}

/// What else was done about the same alert.
async fn done_about(shared: &Shared, job: &Job) -> Result<Vec<Action>, String> {
    let alert = &job.action.order.cause.alert;
    if alert.is_empty() {
        return Ok(Vec::new());
    }
    let filter = Filter { alert: Some(alert.clone()), without: vec![notify_webhook::ID], ..Filter::default() };
    let scope = Scope::One(job.tenant.clone());
    let all =
        actions::list(shared.control.read(), &scope, &filter, None, 50).await.map_err(|error| error.to_string())?;
    Ok(all.into_iter().map(|job| job.action).collect())
}
