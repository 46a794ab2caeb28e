//! Makes messages of the actions that ask for them: one for a burst, with what was done about each alert. Of what a flood
//! asked for beyond the rate one message a minute says how many they are. [`super::deliver`] sends them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sakimori_model::action::{Cause, Target};
use sakimori_model::{Action, ActionState, Event, Network, Order, Timestamp, field};
use sakimori_respond::actions::notify;
use sakimori_respond::execution::ASK;
use sakimori_respond::message::{Notice, Waiting, compose, group};
use sakimori_respond::wide;
use sakimori_store::control::actions::{self, Filter, Job, MANAGER};
use sakimori_store::control::messages::{self, State, Stored};
use sakimori_store::control::shed::{self, Shed};
use sakimori_store::control::{ControlError, Scope};
use sakimori_store::lake::Interval;
use sakimori_store::query;

use super::{deliver, findings, wake};
use crate::channels::Findings;
use crate::respond::{self, Account, advance};
use crate::shared::Shared;

/// Most alerts in one message.
const MOST: usize = 100;
/// Seconds between two messages that say how many others were not sent.
const SUM_EVERY: i64 = 60;
/// Longest subject that the delivery log shows, in characters.
const LONGEST_SUBJECT: usize = 200;

/// Runs until the stop is told: makes messages, and sends those of each channel, so that none waits for another.
pub async fn run(shared: Arc<Shared>) -> Result<(), String> {
    deliver::settle(&shared).await?;
    adopt(&shared).await?;
    deliver::orphans(&shared).await?;
    let lanes = shared.config.notify.iter().map(|channel| deliver::lane(&shared, channel));
    futures::future::try_join(gather(&shared), futures::future::try_join_all(lanes)).await?;
    Ok(())
}

async fn gather(shared: &Shared) -> Result<(), String> {
    loop {
        sum_up(shared).await?;
        let waits = make_due(shared).await?;
        let longest = if waits { Duration::from_millis(200) } else { Duration::from_secs(5) };
        if !wake(shared, &shared.message_waiting, longest).await {
            return Ok(());
        }
    }
}

/// Asks for the messages that say how many others were not sent. Each is named by what it tells, so that a crash between
/// asking for it and noting that asks for the same.
async fn sum_up(shared: &Shared) -> Result<(), String> {
    let now = shared.clock.now();
    let fail = |error: ControlError| error.to_string();
    for span in shed::untold(shared.control.read(), notify::ID, now.plus_secs(-SUM_EVERY)).await.map_err(fail)? {
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
        id: wide::order_id(&format!("{} {} {}", span.source, span.began, span.told), notify::ID, &target, MANAGER),
        action: notify::ID.to_owned(),
        target,
        expiry: None,
        cause: Cause { rule: crate::flood::NOTICE.into(), title, by: span.source.clone(), ..Cause::default() },
        via: None,
        probe: false,
        inputs: BTreeMap::from([("text".to_owned(), text)]),
        signatures: Vec::new(),
    }
}

async fn work(shared: &Shared, state: ActionState) -> Result<Vec<Job>, String> {
    actions::work(shared.control.read(), notify::ID, &[state]).await.map_err(|error| error.to_string())
}

/// Messages of an earlier version that were being sent when it ended: no message has them, and they may have arrived.
async fn adopt(shared: &Shared) -> Result<(), String> {
    let fail = |error: ControlError| error.to_string();
    let mut known = Vec::new();
    for state in [State::Waiting, State::Sending] {
        let open = messages::in_state(shared.control.read(), state).await.map_err(fail)?;
        known.extend(open.into_iter().flat_map(|message| message.members));
    }
    for job in work(shared, ActionState::Running).await? {
        if !known.contains(&job.action.order.id) {
            let channel = job.action.order.target.to_string();
            make(shared, &channel, vec![job], 1).await?;
        }
    }
    Ok(())
}

/// Makes the messages that are due. True where others wait for theirs.
async fn make_due(shared: &Shared) -> Result<bool, String> {
    let now = shared.clock.now();
    let mut jobs: BTreeMap<String, Job> = BTreeMap::new();
    let mut waiting: BTreeMap<String, Vec<Waiting>> = BTreeMap::new();
    for job in work(shared, ActionState::Approved).await? {
        let order = &job.action.order;
        let channel = order.target.to_string();
        // A question goes at once and alone: whoever answers must see what it is about. So does a finding.
        let alone = order.inputs.contains_key(ASK) || takes_findings(shared, &channel).is_some();
        let own = if alone { order.id.as_str() } else { "" };
        let key = format!("{}|{channel}|{}|{own}", job.tenant, order.cause.rule);
        let one = Waiting { id: order.id.clone(), key, since: job.action.planned_at };
        waiting.entry(channel).or_default().push(one);
        jobs.insert(order.id.clone(), job);
    }
    for (channel, list) in waiting {
        let window = shared.config.notify.iter().find(|one| one.name == channel).map_or(0, |one| one.burst_seconds);
        let (asks, others): (Vec<_>, Vec<_>) = list.into_iter().partition(|one| !one.key.ends_with('|'));
        for group in group(&asks, 0, 1, now).into_iter().chain(group(&others, window, MOST, now)) {
            let members: Vec<Job> = group.ids.iter().filter_map(|id| jobs.remove(id)).collect();
            make(shared, &channel, members, 0).await?;
        }
    }
    Ok(!jobs.is_empty())
}

/// What a channel says of findings, where it takes them.
fn takes_findings(shared: &Shared, channel: &str) -> Option<Findings> {
    shared.channels.kind(channel).and_then(|kind| kind.findings)
}

/// A question about a network says whom its block would hit (RS2).
async fn tell_impact(shared: &Shared, tenant: &str, ask: &mut serde_json::Value, about: &Event) {
    let network = about.str(field::SAKIMORI_CLIENT_NETWORK).and_then(|text| text.parse::<Network>().ok());
    let Some(network) = network else { return };
    let Ok(impact) = crate::impact::of_network(shared, tenant, &network, shared.clock.now()).await else { return };
    for (name, words) in [("question_en", impact.words()), ("question_ja", impact.words_ja())] {
        if let Some(text) = ask.get(name).and_then(serde_json::Value::as_str).filter(|text| !text.is_empty()) {
            let told = format!("{network}: {text} ({words})");
            ask.as_object_mut().map(|ask| ask.insert(name.to_owned(), told.into()));
        }
    }
}

/// Makes one message: what it says and whom it is for are written before it is sent, so that a repeat says the same and
/// carries out the same actions. `tried` is how often it was sent already, without anybody knowing what came of it.
async fn make(shared: &Shared, channel: &str, mut members: Vec<Job>, tried: i64) -> Result<(), String> {
    let Some(first) = members.first() else { return Ok(()) };
    let (id, tenant) = (first.action.order.id.clone(), first.tenant.clone());
    let findings = takes_findings(shared, channel);
    let mut ask = members.iter().find_map(|job| crate::answers::ask(shared, job));
    let mut alerts = Vec::new();
    for job in &members {
        alerts.push((alert(shared, job).await, done_about(shared, job).await?));
    }
    if let (Some(findings), [job], [(about, _)]) = (findings, members.as_slice(), alerts.as_slice())
        && tried == 0
    {
        let told = findings::objection(shared, job, channel, &findings, about).await;
        if let Some(reason) = told.map_err(|error| error.to_string())? {
            let Some(job) = members.pop() else { return Ok(()) };
            return findings::leave(shared, job, reason).await.map_err(|error| error.to_string());
        }
    }
    if let (Some(ask), Some((about, _))) = (&mut ask, alerts.first()) {
        tell_impact(shared, &tenant, ask, about).await;
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
    let now = shared.clock.now();
    let mut message = compose(&id, channel, &notices, ask.as_ref(), now);
    if let (Some(_), Some(notice)) = (findings, notices.first()) {
        message.body = findings::carry(&message.body, notice.alert);
    }
    let title = notices.first().and_then(|notice| notice.alert.str(field::RULE_NAME)).unwrap_or("alert");
    let told: Vec<String> = members.iter().map(|job| job.action.order.cause.alert.clone()).collect();
    let told: Vec<String> = told.into_iter().filter(|alert| !alert.is_empty()).collect();
    let stored = Stored {
        tenant,
        id,
        channel: channel.to_owned(),
        kind: "alert".to_owned(),
        subject: title.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_SUBJECT).collect(),
        state: State::Waiting,
        body: message.body,
        members: members.iter().map(|job| job.action.order.id.clone()).collect(),
        tries: tried,
        failures: 0,
        unknown: tried,
        reference: String::new(),
        reason: String::new(),
        created: now,
        changed: now,
        retry_at: now,
    };
    let write = async {
        let mut change = shared.control.begin().await?;
        messages::put(change.connection(), &stored, &told).await?;
        for job in &mut members {
            if job.action.state != ActionState::Running {
                let step = wide::to(&job.action.order.id, ActionState::Running);
                advance(&mut change, &job.tenant, &mut job.action, step, now).await?;
            }
        }
        change.commit().await
    };
    write.await.map_err(|error: ControlError| error.to_string())?;
    shared.outbox_changed.notify_one();
    if !shared.channels.wake(channel) {
        deliver::orphans(shared).await?;
    }
    Ok(())
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
    let filter = Filter { alert: Some(alert.clone()), without: vec![notify::ID], ..Filter::default() };
    let scope = Scope::One(job.tenant.clone());
    let all =
        actions::list(shared.control.read(), &scope, &filter, None, 50).await.map_err(|error| error.to_string())?;
    Ok(all.into_iter().map(|job| job.action).collect())
}
