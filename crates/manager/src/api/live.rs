//! `live`: what a page needs to hear of while it is open, as server-sent events: new alerts, actions, executions and
//! their questions, agents, and how ingest is. Each is small: an id and what a line of a list shows.
//!
//! Alerts, actions and agents are events of the lake, and their number of arrival is the `id` of what is sent. A
//! browser that comes again says the last one that it had (`Last-Event-ID`) and gets what arrived since, out of the
//! lake; where that is too much, `reset` tells it to read its lists anew. Executions have no number: those that changed
//! since the connection began are sent, and one that comes again reads them anew anyway. A page that cannot keep up is
//! told so by `reset` too. A connection ends with its session, and each user has a few.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use futures::Stream;
use sakimori_model::{Event, FieldId, Timestamp, field};
use sakimori_store::control::executions as rows;
use sakimori_store::query::{self, Expr};
use serde_json::{Map, Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::App;
use super::access::Caller;
use super::now;
use super::problem::{self, Problem};
use crate::executions as driver;
use crate::shared::LiveEvent;

/// Most connections of one user or token.
const OF_ONE: usize = 8;
/// Most events that are sent again to who comes back.
const AGAIN: usize = 500;
/// How often executions are looked at, and ingest.
const LOOK: Duration = Duration::from_secs(2);
/// Every so many looks how ingest is.
const PULSE: u32 = 5;
/// Most executions that are sent at a time.
const EXECUTIONS: i64 = 50;
/// The events that are told of.
const WANTED: &str =
    "(event.kind:alert and not sakimori.alert.exception:*) or event.dataset:(sakimori.action or sakimori.audit)";

/// Connections by who has them.
#[derive(Clone, Debug, Default)]
pub struct Watchers(Arc<Mutex<HashMap<String, usize>>>);

/// One of them; dropped, it is over.
struct Watcher(Watchers, String);

impl Watchers {
    /// One more of this user; none where there are too many.
    fn add(&self, who: &str) -> Option<Watcher> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(who.to_owned()).or_default();
        (*count < OF_ONE).then(|| {
            *count += 1;
            Watcher(self.clone(), who.to_owned())
        })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut all = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.1) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                all.remove(&self.1);
            }
        }
    }
}

struct Feed {
    app: App,
    caller: Caller,
    live: Receiver<Arc<LiveEvent>>,
    /// To be sent.
    queue: VecDeque<Sent>,
    /// What arrived up to this number was sent.
    arrival: u64,
    /// Executions that changed up to this moment were sent.
    changed: Timestamp,
    looks: u32,
    tick: tokio::time::Interval,
    _watcher: Watcher,
    _permit: OwnedSemaphorePermit,
}

/// `GET /live`
pub async fn get(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Sent, Infallible>>>, Problem> {
    let busy = || Problem::new(problem::EVENTS_BUSY).retry_after(10);
    let watcher = app
        .watchers
        .add(&format!("{} {}", caller.home, caller.actor))
        .ok_or_else(|| busy().detail(format!("you have {OF_ONE} connections already; close a page")))?;
    let permit = Arc::clone(&app.feeds).try_acquire_owned().map_err(|_| busy())?;
    // Before the lake is asked for what came since: what arrives meanwhile is in one or the other.
    let live = app.shared.live.subscribe();
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.parse::<u64>().ok());
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let now = app.shared.clock.now();
    let mut feed = Feed {
        queue: VecDeque::new(),
        arrival: last.unwrap_or(0),
        changed: now,
        looks: 0,
        tick,
        live,
        app,
        caller,
        _watcher: watcher,
        _permit: permit,
    };
    feed.queue
        .push_back(Sent::default().event("hello").retry(Duration::from_secs(2)).data(json!({"at": now}).to_string()));
    if let Some(last) = last {
        feed.again(last).await?;
    }
    let stream = futures::stream::unfold(feed, |mut feed| async move {
        let sent = feed.next().await?;
        Some((Ok(sent), feed))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)).text("alive")))
}

impl Feed {
    /// What arrived since the last that was seen.
    async fn again(&mut self, last: u64) -> Result<(), Problem> {
        let wanted = query::parse(WANTED).unwrap_or(Expr::All);
        let hits = self.app.shared.lake.arrived_after(self.caller.tenant(), last, &wanted, AGAIN + 1).await?;
        if hits.len() > AGAIN {
            self.queue.push_back(reset("more came meanwhile than is sent again"));
            return Ok(());
        }
        for hit in hits {
            self.arrival = self.arrival.max(hit.arrival);
            self.queue.extend(told(&hit.event, hit.arrival));
        }
        Ok(())
    }

    /// The next thing to send; nothing once it is over.
    async fn next(&mut self) -> Option<Sent> {
        let stop = self.app.shared.stop.clone();
        loop {
            if let Some(sent) = self.queue.pop_front() {
                return Some(sent);
            }
            tokio::select! {
                new = self.live.recv() => match new {
                    Ok(new) if new.tenant == self.caller.tenant() && new.arrival > self.arrival => {
                        self.arrival = new.arrival;
                        self.queue.extend(told(&new.event, new.arrival));
                    }
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => self.queue.push_back(reset("too much came at once")),
                    Err(RecvError::Closed) => return None,
                },
                _ = self.tick.tick() => {
                    let now = self.app.shared.clock.now();
                    if self.caller.ends.is_some_and(|ends| ends <= now) || !self.may_still().await {
                        return None;
                    }
                    self.look().await;
                }
                () = stop.wait() => return None,
            }
        }
    }

    /// Is the session still there? (One that was ended from elsewhere ends what it opened.)
    async fn may_still(&self) -> bool {
        match &self.caller.session {
            None => true,
            Some(session) => {
                let control = self.app.shared.control.read();
                // Where the database does not answer, the page would learn nothing either.
                sakimori_store::control::sessions::exists(control, &session.id).await.unwrap_or(true)
            }
        }
    }

    async fn look(&mut self) {
        let shared = &self.app.shared;
        let found = rows::changed(shared.control.read(), self.caller.tenant(), self.changed, EXECUTIONS).await;
        for row in found.unwrap_or_default() {
            self.changed = Timestamp::from_micros(row.changed);
            let Ok(execution) = driver::read(&row) else { continue };
            let line = json!({"id": row.id, "playbook": row.playbook, "state": row.state, "alert": row.alert});
            self.queue.push_back(Sent::default().event("execution").data(line.to_string()));
            for (step, question, _) in execution.questions() {
                let asked = json!({"execution": row.id, "playbook": row.playbook, "step": step,
                    "text": {"en": question.en, "ja": question.ja}, "persons": question.persons});
                self.queue.push_back(Sent::default().event("approval").data(asked.to_string()));
            }
        }
        if self.looks.is_multiple_of(PULSE) {
            let pulse = now::pulse(&self.app, self.caller.tenant()).await;
            self.queue.push_back(Sent::default().event("ingest").data(pulse.to_string()));
        }
        self.looks = self.looks.wrapping_add(1);
    }
}

fn reset(why: &str) -> Sent {
    Sent::default().event("reset").data(json!({"reason": why}).to_string())
}

/// What is told of an event; nothing of most.
fn told(event: &Event, arrival: u64) -> Option<Sent> {
    let (kind, line) = line(event)?;
    Some(Sent::default().event(kind).id(arrival.to_string()).data(Value::Object(line).to_string()))
}

fn line(event: &Event) -> Option<(&'static str, Map<String, Value>)> {
    let of = |fields: &[(&str, FieldId)]| {
        let mut line = Map::new();
        for (name, field) in fields {
            if let Some(value) = event.get(*field) {
                line.insert(
                    (*name).to_owned(),
                    value.each().first().map_or(Value::Null, sakimori_model::Value::to_json),
                );
            }
        }
        line
    };
    let common = [("time", field::TIMESTAMP), ("event", field::EVENT_ID), ("host", field::HOST_NAME)];
    if event.str(field::EVENT_KIND) == Some("alert") {
        let own = [
            ("id", field::SAKIMORI_ALERT_ID),
            ("rule", field::RULE_ID),
            ("title", field::RULE_NAME),
            ("ruleset", field::RULE_RULESET),
            ("severity", field::EVENT_SEVERITY),
            ("outcome", field::EVENT_OUTCOME),
            ("source", field::SOURCE_IP),
            ("user", field::USER_NAME),
            ("probe", field::SAKIMORI_PROBE),
        ];
        return Some(("alert", of(&[common.as_slice(), &own].concat())));
    }
    match event.str(field::EVENT_DATASET) {
        Some("sakimori.action") => {
            let own = [
                ("id", field::SAKIMORI_ACTION_ID),
                ("kind", field::SAKIMORI_ACTION_KIND),
                ("state", field::SAKIMORI_ACTION_STATE),
                ("target", field::SAKIMORI_ACTION_TARGET),
                ("alert", field::SAKIMORI_ALERT_ID),
                ("expires", field::SAKIMORI_ACTION_EXPIRES),
                ("probe", field::SAKIMORI_PROBE),
            ];
            Some(("action", of(&[common.as_slice(), &own].concat())))
        }
        Some("sakimori.audit") => {
            let action = event.str(field::EVENT_ACTION)?;
            let verb = action.strip_prefix("agents:")?;
            let mut line = of(&common);
            let target = event.rest_at("sakimori.audit.target").cloned().unwrap_or(Value::Null);
            line.insert("id".to_owned(), target);
            line.insert("change".to_owned(), Value::from(verb));
            Some(("agent", line))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_a_few_connections_and_gets_them_back() {
        let watchers = Watchers::default();
        let mut open: Vec<Watcher> = (0..OF_ONE).map(|_| watchers.add("user:ann").unwrap()).collect();
        assert!(watchers.add("user:ann").is_none() && watchers.add("user:bob").is_some());
        open.pop();
        assert!(watchers.add("user:ann").is_some());
        drop(open);
        assert!(watchers.0.lock().unwrap().is_empty(), "nobody is remembered who is gone");
    }

    #[test]
    fn alerts_actions_and_agents_are_told_and_nothing_else() {
        let of = |json: Value| line(&Event::from_json(json.as_object().unwrap().clone()).0);
        let alert = json!({"event.kind": "alert", "sakimori.alert.id": "a1", "rule.id": "r", "message": "long"});
        let (kind, told) = of(alert).unwrap();
        assert_eq!((kind, &told["id"], told.get("message")), ("alert", &json!("a1"), None));
        let action =
            json!({"event.dataset": "sakimori.action", "sakimori.action.id": "x", "sakimori.action.record": {"a": 1}});
        let (kind, told) = of(action).unwrap();
        assert_eq!((kind, told.len()), ("action", 1), "without the record: {told:?}");
        let agent = json!({"event.dataset": "sakimori.audit", "event.action": "agents:silent", "sakimori": {"audit": {"target": "h"}}});
        let (kind, told) = of(agent).unwrap();
        assert_eq!((kind, &told["change"], &told["id"]), ("agent", &json!("silent"), &json!("h")));
        assert!(of(json!({"event.dataset": "sakimori.audit", "event.action": "users:create"})).is_none());
        assert!(of(json!({"event.dataset": "linux.auth"})).is_none());
    }
}
