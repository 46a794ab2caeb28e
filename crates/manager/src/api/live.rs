//! `live`: what a page needs to hear of while it is open, as server-sent events: new alerts, actions, executions and
//! their questions, agents, and how ingest is. Each is small: an id and what a line of a list shows.
//!
//! Alerts, actions and agents are events of the lake, and their number of arrival is the `id` of what is sent. A
//! browser that comes again says the last one that it had (`Last-Event-ID`) and gets what arrived since, out of the
//! lake; where that is too much, `reset` tells it to read its lists anew. Executions have no number: those that changed
//! since the connection began are sent, and one that comes again reads them anew anyway. A page that cannot keep up is
//! told so by `reset` too. How many one has, and when it is over, is [`super::watch`]'s.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use futures::Stream;
use sakimori_model::{Event, FieldId, Timestamp, field};
use sakimori_store::control::executions as rows;
use sakimori_store::query::{self, Expr};
use serde_json::{Map, Value, json};
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::App;
use super::access::Caller;
use super::now;
use super::problem::Problem;
use super::watch::Watch;
use crate::executions as driver;
use crate::shared::LiveEvent;

/// Most events that are sent again to who comes back.
const AGAIN: usize = 500;
/// At each look what executions do, and every so many how ingest is.
const PULSE: u32 = 5;
/// Most executions that are sent at a time.
const EXECUTIONS: i64 = 50;
/// The events that are told of.
const WANTED: &str =
    "(event.kind:alert and not sakimori.alert.exception:*) or event.dataset:(sakimori.action or sakimori.audit)";

struct Feed {
    app: App,
    watch: Watch,
    live: Receiver<Arc<LiveEvent>>,
    /// To be sent.
    queue: VecDeque<Sent>,
    /// What arrived up to this number was sent.
    arrival: u64,
    /// Executions that changed up to this moment were sent.
    changed: Timestamp,
    looks: u32,
}

/// `GET /live`
pub async fn get(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Sent, Infallible>>>, Problem> {
    let watch = Watch::begin(&app, caller)?;
    // Before the lake is asked for what came since: what arrives meanwhile is in one or the other.
    let live = app.shared.live.subscribe();
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.parse::<u64>().ok());
    let now = app.shared.clock.now();
    let arrival = last.unwrap_or(0);
    let mut feed = Feed { queue: VecDeque::new(), arrival, changed: now, looks: 0, live, app, watch };
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
        let hits = self.app.shared.lake.arrived_after(self.watch.caller.tenant(), last, &wanted, AGAIN + 1).await?;
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
                    Ok(new) if new.tenant == self.watch.caller.tenant() && new.arrival > self.arrival => {
                        self.arrival = new.arrival;
                        self.queue.extend(told(&new.event, new.arrival));
                    }
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => self.queue.push_back(reset("too much came at once")),
                    Err(RecvError::Closed) => return None,
                },
                () = self.watch.time_to_look() => {
                    if !self.watch.may_go_on().await {
                        return None;
                    }
                    self.look().await;
                }
                () = stop.wait() => return None,
            }
        }
    }

    async fn look(&mut self) {
        let shared = &self.app.shared;
        let found = rows::changed(shared.control.read(), self.watch.caller.tenant(), self.changed, EXECUTIONS).await;
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
            let pulse = now::pulse(&self.app, self.watch.caller.tenant());
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
        // As [`WANTED`] has it of those that arrived before: what an exception holds back is nobody's news.
        if event.get(field::SAKIMORI_ALERT_EXCEPTION).is_some() {
            return None;
        }
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
    fn alerts_actions_and_agents_are_told_and_nothing_else() {
        let of = |json: Value| line(&Event::from_json(json.as_object().unwrap().clone()).0);
        let alert = json!({"event.kind": "alert", "sakimori.alert.id": "a1", "rule.id": "r", "message": "long"});
        let (kind, told) = of(alert).unwrap();
        assert_eq!((kind, &told["id"], told.get("message")), ("alert", &json!("a1"), None));
        let held_back = json!({"event.kind": "alert", "sakimori.alert.id": "a1", "sakimori.alert.exception": "e1"});
        assert!(of(held_back).is_none(), "an exception expected it");
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
