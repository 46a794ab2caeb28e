//! Sends messages, each channel by itself and as often as its receiver wants, and keeps what became of every try (D19).
//!
//! A try is written before it is made, and its outcome with the states of the actions that the message carries out in one
//! change. So after a crash a try that has begun and not ended is one of which nobody knows whether it arrived: a `keyed`
//! channel looks, or the receiver tells repeats apart; a `repeatable` one is sent once more, marked, and given up the next
//! time. What is given up is a dead letter: listed, told of, and sent again by a person.

use std::time::Duration;

use sakimori_model::rule::Severity;
use sakimori_model::{ActionState, Timestamp};
use sakimori_respond::actions::Safety;
use sakimori_respond::message::line;
use sakimori_respond::wide;
use sakimori_store::control::messages::{self, State, Stored};
use sakimori_store::control::{Change, ControlError, Scope, actions, alerts};
use serde_json::{Value, json};

use super::wake;
use crate::channels::pace::Pace;
use crate::channels::{Failure, Kind, Outgoing, Receipt};
use crate::config::Channel;
use crate::metrics::Metrics;
use crate::notices::{self, Notice};
use crate::respond::advance;
use crate::shared::Shared;

/// `event.action` and `rule.id` of what tells of dead letters.
pub const NOTICE: &str = "message-undelivered";
/// Tries after which a message is given up, where its receiver goes on to say that it takes nothing: about an hour.
pub const MOST_FAILURES: i64 = 20;
/// Tries of unknown outcome after which a message is given up: one, and one marked repeat. Of a keyed one as of failures.
const MOST_UNKNOWN: i64 = 2;
/// Dead letters of a channel are told once in so many seconds.
const TELL_EVERY: i64 = 3_600;
/// Messages that are read at once.
const PORTION: i64 = 16;

/// Sends what is due on one channel, until the stop is told.
pub async fn lane(shared: &Shared, channel: &Channel) -> Result<(), String> {
    let (Some(kind), Some(signal)) = (shared.channels.kind(&channel.name), shared.channels.signal(&channel.name))
    else {
        return Err(format!("the channel {} is not open", channel.name));
    };
    let (burst, usual) = kind.rate;
    let rate = channel.per_minute.map_or((burst, usual), |most| (burst.min(most.max(1)), most.max(1)));
    let mut pace = Pace::new(rate, shared.clock.now());
    loop {
        let waits = send_due(shared, channel, kind, &mut pace).await.map_err(|error| error.to_string())?;
        let longest = if waits { Duration::from_millis(200) } else { Duration::from_secs(5) };
        if !wake(shared, signal, longest).await {
            return Ok(());
        }
    }
}

/// Sends what is due. True where messages wait for their time.
async fn send_due(shared: &Shared, channel: &Channel, kind: &Kind, pace: &mut Pace) -> Result<bool, ControlError> {
    loop {
        let found = messages::due(shared.control.read(), &channel.name, shared.clock.now(), PORTION).await?;
        if found.is_empty() {
            let ever = Timestamp::from_micros(i64::MAX);
            return Ok(!messages::due(shared.control.read(), &channel.name, ever, 1).await?.is_empty());
        }
        for message in found {
            if pace.take(shared.clock.now()).is_err() {
                return Ok(true);
            }
            if shared.stop.told() {
                return Ok(false);
            }
            attempt(shared, kind, pace, message).await?;
        }
    }
}

async fn attempt(shared: &Shared, kind: &Kind, pace: &mut Pace, mut message: Stored) -> Result<(), ControlError> {
    let closes = (message.kind == "close").then(|| message.subject.clone());
    let mut reference = String::new();
    if let Some(earlier) = &closes {
        let scope = Scope::One(message.tenant.clone());
        reference = messages::get(shared.control.read(), &scope, earlier)
            .await
            .map(|found| found.reference)
            .unwrap_or_default();
    }
    let may_be_repeat = message.tries > 0;
    let now = shared.clock.now();
    message.tries += 1;
    message.state = State::Sending;
    message.changed = now;
    let mut change = shared.control.begin().await?;
    messages::begin(change.connection(), &message, now).await?;
    messages::update(change.connection(), &message).await?;
    change.commit().await?;
    let outgoing = Outgoing {
        channel: &message.channel,
        id: &message.id,
        may_be_repeat,
        reference: &reference,
        closes: closes.as_deref(),
        created: message.created,
        body: &message.body,
    };
    let outcome = shared.channels.send(&outgoing).await;
    if let Err(Failure::NotTaken { retry_after: Some(seconds), .. }) = &outcome {
        pace.rest(*seconds, shared.clock.now());
    }
    record(shared, kind, message, outcome, Some(shared.clock.now())).await
}

/// Writes what became of a try, and what follows from it.
async fn record(
    shared: &Shared,
    kind: &Kind,
    mut message: Stored,
    outcome: Result<Receipt, Failure>,
    ended: Option<Timestamp>,
) -> Result<(), ControlError> {
    let now = shared.clock.now();
    message.changed = now;
    message.state = State::Waiting;
    let (name, answer) = match &outcome {
        Ok(receipt) => {
            message.state = State::Sent;
            message.reference.clone_from(&receipt.reference);
            message.reason.clear();
            ("delivered", receipt.answer.clone())
        }
        Err(failure) => {
            message.reason = failure.to_string();
            (follow(&mut message, kind, failure, now), message.reason.clone())
        }
    };
    let before = if message.state == State::Dead { members(shared, &message).await? } else { Vec::new() };
    let done = if message.state == State::Sent { members(shared, &message).await? } else { Vec::new() };
    let mut change = shared.control.begin().await?;
    messages::end(change.connection(), &message, name, &answer, ended).await?;
    if message.state == State::Dead {
        tell(&mut change, &message, now).await?;
    }
    messages::update(change.connection(), &message).await?;
    if message.state == State::Sent && kind.closes && message.kind == "alert" {
        closed_meanwhile(shared, &mut change, &message, now).await?;
    }
    for mut job in before.into_iter().chain(done) {
        let id = job.action.order.id.clone();
        let step = match message.state {
            State::Sent => wide::to(&id, ActionState::Done),
            _ => wide::because(&id, ActionState::Failed, message.reason.clone()),
        };
        advance(&mut change, &job.tenant, &mut job.action, step, now).await?;
    }
    change.commit().await?;
    if message.state == State::Sent {
        Metrics::add(&shared.metrics.messages, 1);
    }
    shared.outbox_changed.notify_one();
    if matches!(message.state, State::Sent | State::Dead) {
        // A step of a playbook may wait for it.
        shared.executions_changed.notify_one();
    }
    Ok(())
}

/// What follows from a try that failed: state and time of the next. Returns the outcome's name.
fn follow(message: &mut Stored, kind: &Kind, failure: &Failure, now: Timestamp) -> &'static str {
    let (name, asked, settles) = match failure {
        Failure::Refused(_) => {
            message.state = State::Dead;
            return "refused";
        }
        Failure::NotTaken { retry_after, .. } => {
            message.failures += 1;
            ("not_taken", retry_after.unwrap_or(0), 0)
        }
        Failure::Unknown(_) => {
            message.unknown += 1;
            ("unknown", 0, kind.settles)
        }
    };
    let most_unknown = if kind.safety == Safety::Keyed { MOST_FAILURES } else { MOST_UNKNOWN };
    if message.unknown >= most_unknown && name == "unknown" {
        message.state = State::Dead;
        message.reason = format!("{}; it was repeated, and nobody knows whether it arrived", message.reason);
    } else if message.failures + message.unknown >= MOST_FAILURES {
        message.state = State::Dead;
    } else {
        let failures = u32::try_from(message.failures + message.unknown).unwrap_or(u32::MAX);
        let asked = i64::try_from(asked.min(3_600)).unwrap_or_default();
        message.retry_at = wide::retry_always_at(failures, now).max(now.plus_secs(asked.max(settles)));
    }
    name
}

/// The actions that a message carries out and that are not over.
async fn members(shared: &Shared, message: &Stored) -> Result<Vec<actions::Job>, ControlError> {
    let scope = Scope::One(message.tenant.clone());
    let mut found = Vec::new();
    for id in &message.members {
        match actions::get(shared.control.read(), &scope, id).await {
            Ok(job) if job.action.state == ActionState::Running => found.push(job),
            Ok(_) | Err(ControlError::Missing(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Tells the operator of a dead letter: once an hour and channel, and never of one that told so itself.
async fn tell(change: &mut Change, message: &Stored, now: Timestamp) -> Result<(), ControlError> {
    let since = now.plus_secs(-TELL_EVERY);
    let known = messages::died(change.connection(), &message.tenant, &message.channel, since).await?;
    let facts: Value = serde_json::from_str(&message.body).unwrap_or_default();
    let alerts = facts.get("alerts").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let of_itself = !alerts.is_empty()
        && alerts.iter().all(|alert| alert.pointer("/rule/id").and_then(Value::as_str) == Some(NOTICE));
    if known > 0 || of_itself || message.kind == "test" {
        return Ok(());
    }
    let notice = Notice {
        what: NOTICE.to_owned(),
        title: "A message was not delivered".to_owned(),
        about: message.channel.clone(),
        message: format!("a message to the channel {} was given up: {}", message.channel, line(&message.reason)),
        remedy: format!(
            "sakimori notify dead lists what was given up, sakimori notify test {} shows whether the channel works, and \
             sakimori notify retry ID sends a message again",
            message.channel
        ),
        severity: Some(Severity::High),
    };
    tracing::warn!(tenant = message.tenant, channel = message.channel, "{}; {}", notice.message, notice.remedy);
    notices::put(change, &message.tenant, &notice, now).await
}

/// Settles what an earlier run left: tries that began and whose end nobody wrote.
///
/// # Errors
/// Control state failed.
pub async fn settle(shared: &Shared) -> Result<(), String> {
    let fail = |error: ControlError| error.to_string();
    for message in messages::in_state(shared.control.read(), State::Sending).await.map_err(fail)? {
        // A channel that is configured no more is seen to by [`orphans`].
        let kind = shared.channels.kind(&message.channel).unwrap_or(&crate::channels::webhook::KIND);
        let outcome = Err(Failure::Unknown("the manager ended while it was sent".to_owned()));
        record(shared, kind, message, outcome, None).await.map_err(fail)?;
    }
    Ok(())
}

/// Gives up what waits for channels that are configured no more.
///
/// # Errors
/// Control state failed.
pub async fn orphans(shared: &Shared) -> Result<(), String> {
    let fail = |error: ControlError| error.to_string();
    for channel in messages::channels(shared.control.read()).await.map_err(fail)? {
        if shared.channels.kind(&channel).is_some() {
            continue;
        }
        let ever = Timestamp::from_micros(i64::MAX);
        for message in messages::due(shared.control.read(), &channel, ever, 1_000).await.map_err(fail)? {
            let outcome = Err(Failure::Refused(format!("no channel named {channel} is configured")));
            record(shared, &crate::channels::webhook::KIND, message, outcome, None).await.map_err(fail)?;
        }
    }
    Ok(())
}

/// A message that asks whether a channel delivers.
pub fn test(tenant: &str, channel: &str, by: &str, now: Timestamp) -> Stored {
    let id = sakimori_model::id::row_id();
    let facts = json!({
        "form": 1, "kind": "test", "id": id, "time": now.to_string(), "summary": "Test message of Sakimori",
        "by": line(by), "count": 0, "alerts": [],
    });
    fresh(tenant, channel, "test", (id, "Test message of Sakimori".to_owned()), facts.to_string(), now)
}

/// Makes the messages that tell receivers which know that something can be over that this is: those of an alert that was
/// closed just now, where all that they told of is closed.
///
/// # Errors
/// The database failed.
pub async fn close(
    shared: &Shared,
    change: &mut Change,
    (tenant, alert): (&str, &str),
    (by, comment): (&str, &str),
    now: Timestamp,
) -> Result<Vec<String>, ControlError> {
    let mut channels = Vec::new();
    for told in messages::closable(change.connection(), tenant, alert).await? {
        if !shared.channels.kind(&told.channel).is_some_and(|kind| kind.closes) {
            continue;
        }
        let id = format!("{}-closed", told.id);
        let facts = json!({
            "form": 1, "kind": "close", "id": id, "time": now.to_string(), "summary": line(&told.subject),
            "by": line(by), "comment": line(comment), "count": 0, "alerts": [],
        });
        let message = fresh(tenant, &told.channel, "close", (id, told.id), facts.to_string(), now);
        messages::put(change.connection(), &message, &[]).await?;
        channels.push(message.channel);
    }
    Ok(channels)
}

/// A message whose alerts were all closed before its receiver had it is followed by the one that says so.
async fn closed_meanwhile(
    shared: &Shared,
    change: &mut Change,
    message: &Stored,
    now: Timestamp,
) -> Result<(), ControlError> {
    for alert in messages::alerts(change.connection(), &message.tenant, &message.id).await? {
        let note = alerts::get(change.connection(), &message.tenant, &alert).await?;
        if let Some(note) = note.filter(|note| note.status == alerts::Status::Closed) {
            close(shared, change, (&message.tenant, &alert), (&note.author, &note.comment), now).await?;
        }
    }
    Ok(())
}

fn fresh(
    tenant: &str,
    channel: &str,
    kind: &str,
    (id, subject): (String, String),
    body: String,
    now: Timestamp,
) -> Stored {
    Stored {
        tenant: tenant.to_owned(),
        id,
        channel: channel.to_owned(),
        kind: kind.to_owned(),
        subject,
        state: State::Waiting,
        body,
        members: Vec::new(),
        tries: 0,
        failures: 0,
        unknown: 0,
        reference: String::new(),
        reason: String::new(),
        created: now,
        changed: now,
        retry_at: now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::{jira, webhook};

    fn after(kind: &Kind, failures: &[Failure]) -> (State, Vec<i64>, Stored) {
        let now = Timestamp::from_secs(1_000);
        let mut message = test("default", "ops", "ann", now);
        let mut waits = Vec::new();
        for failure in failures {
            message.state = State::Waiting;
            message.reason = failure.to_string();
            follow(&mut message, kind, failure, now);
            waits.push(message.retry_at.since(now) / 1_000_000);
            if message.state == State::Dead {
                break;
            }
        }
        (message.state, waits, message)
    }

    #[test]
    fn a_repeatable_message_of_unknown_outcome_is_repeated_once_and_a_keyed_one_looked_for() {
        let unknown = || Failure::Unknown("silence".into());
        let (state, waits, message) = after(&webhook::KIND, &[unknown(), unknown()]);
        assert_eq!((state, waits[0]), (State::Dead, 1));
        assert!(message.reason.contains("nobody knows"), "{}", message.reason);
        let (state, waits, _) = after(&jira::KIND, &[unknown(), unknown(), unknown()]);
        assert_eq!((state, waits), (State::Waiting, vec![30, 30, 30]), "when its search has it");
    }

    #[test]
    fn what_was_not_taken_is_tried_for_an_hour_and_what_is_refused_is_not() {
        let busy = |retry_after| Failure::NotTaken { reason: "busy".into(), retry_after };
        let (state, waits, _) = after(&webhook::KIND, &vec![busy(None); 100]);
        assert_eq!((state, waits.len()), (State::Dead, usize::try_from(MOST_FAILURES).unwrap()));
        let hour: i64 = waits.iter().take(19).sum();
        assert!((3_000..=4_500).contains(&hour), "{hour} s");
        assert_eq!(after(&webhook::KIND, &[busy(Some(90))]).1, [90]);
        assert_eq!(after(&webhook::KIND, &[busy(Some(u64::MAX))]).1, [3_600]);
        let (state, waits, _) = after(&jira::KIND, &[Failure::Refused("no".into())]);
        assert_eq!((state, waits.len()), (State::Dead, 1));
        // A known failure between two silences does not hide that there were two.
        let silence = Failure::Unknown("silence".into());
        assert_eq!(after(&webhook::KIND, &[silence.clone(), busy(None), silence]).0, State::Dead);
    }
}
