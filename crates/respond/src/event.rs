//! The event that tells of an action's state: an ECS document that the manager folds into its view.

use std::sync::Arc;

use sakimori_model::action::Target;
use sakimori_model::{Action, ActionState, Event, Timestamp, Value, field};

use crate::actions::{lock_user, process};

/// The state of one action, as an event of this moment. `event.kind` is `event`; the whole action is in
/// `sakimori.action.record`, so that the newest event of an action is all that is known of it.
pub fn of(action: &Action, now: Timestamp) -> Event {
    let mut event = Event::new();
    event.set(field::TIMESTAMP, now);
    event.set(field::EVENT_KIND, "event");
    event.push(field::EVENT_CATEGORY, "configuration");
    event.push(field::EVENT_TYPE, if action.state.is_final() { "end" } else { "change" });
    event.set(field::EVENT_ACTION, action.order.action.clone());
    event.set(field::EVENT_MODULE, "sakimori");
    event.set(field::EVENT_DATASET, "sakimori.action");
    event.set(field::EVENT_OUTCOME, outcome(action.state));
    if let Some(reason) = &action.reason {
        event.set(field::EVENT_REASON, reason.clone());
    }
    match &action.order.target {
        Target::Network(network) if network.is_host() => {
            event.set(field::SOURCE_IP, network.address());
            event.push(field::RELATED_IP, network.address());
        }
        Target::Network(network) => event.set(field::SOURCE_ADDRESS, network.to_string()),
        Target::File(path) => event.set(field::FILE_PATH, path.clone()),
        Target::Resource(_) => {
            if let Some(user) = action.order.target.name_of(lock_user::KIND) {
                event.set(field::USER_NAME, user.to_owned());
                event.push(field::RELATED_USER, user.to_owned());
            }
            about_process(&mut event, action);
        }
        Target::Channel(_) | Target::Setting(_) => {}
    }
    if !action.order.cause.rule.is_empty() {
        event.set(field::RULE_ID, action.order.cause.rule.clone());
        event.set(field::RULE_NAME, action.order.cause.title.clone());
    }
    if !action.order.cause.alert.is_empty() {
        event.set(field::SAKIMORI_ALERT_ID, action.order.cause.alert.clone());
    }
    if let Some(proxy) = action.order.via {
        event.set(field::SAKIMORI_PROXY_IP, proxy);
    }
    if action.order.probe {
        event.set(field::SAKIMORI_PROBE, true);
    }
    event.set(field::SAKIMORI_ACTION_ID, action.order.id.clone());
    event.set(field::SAKIMORI_ACTION_KIND, action.order.action.clone());
    event.set(field::SAKIMORI_ACTION_STATE, action.state.name());
    event.set(field::SAKIMORI_ACTION_TARGET, action.order.target.to_string());
    if let Some(end) = action.expires_at {
        event.set(field::SAKIMORI_ACTION_EXPIRES, end);
    }
    let record = serde_json::to_value(action).expect("an action has text keys and finite numbers only");
    event.set(field::SAKIMORI_ACTION_RECORD, Value::Json(Box::new(record)));
    event
}

/// Which process it is about, where it is about one.
fn about_process(event: &mut Event, action: &Action) {
    match process::aim(&action.order) {
        Ok(process::Aim::One { pid, start }) => {
            event.set(field::PROCESS_PID, i64::from(pid));
            event.set(field::PROCESS_ENTITY_ID, process::name(pid, start));
        }
        Ok(process::Aim::Program(path)) => event.set(field::PROCESS_EXECUTABLE, path),
        Ok(process::Aim::Content(sum)) => event.set(field::PROCESS_HASH_SHA256, sum),
        Err(_) => {}
    }
}

fn outcome(state: ActionState) -> &'static str {
    match state {
        ActionState::Done | ActionState::Undone | ActionState::Expired => "success",
        ActionState::Refused | ActionState::NoEffect | ActionState::Failed => "failure",
        _ => "unknown",
    }
}

/// The actions that a call changed, each as it then stood. Iterating makes the events one by one, so that
/// 150,000 changes do not need the memory of 150,000 events.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    at: Timestamp,
    actions: Vec<Arc<Action>>,
}

impl Changes {
    pub(crate) fn new(at: Timestamp, actions: Vec<Arc<Action>>) -> Self {
        Self { at, actions }
    }

    /// The changed actions.
    pub fn actions(&self) -> &[Arc<Action>] {
        &self.actions
    }

    /// How many changed.
    pub fn len(&self) -> usize {
        self.actions.len()
    }

    /// Did none change?
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }

    /// The events, one an action.
    pub fn events(&self) -> impl ExactSizeIterator<Item = Event> + '_ {
        self.actions.iter().map(|action| of(action, self.at))
    }

    /// Adds the changes of a later call; events carry the moment of the first.
    pub fn append(&mut self, later: Self) {
        if self.actions.is_empty() {
            self.at = later.at;
        }
        self.actions.extend(later.actions);
    }
}

impl IntoIterator for Changes {
    type Item = Event;
    type IntoIter = Events;

    fn into_iter(self) -> Events {
        Events { at: self.at, actions: self.actions.into_iter() }
    }
}

/// Makes the events of [`Changes`] one by one.
#[derive(Debug)]
pub struct Events {
    at: Timestamp,
    actions: std::vec::IntoIter<Arc<Action>>,
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.actions.next().map(|action| of(&action, self.at))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.actions.size_hint()
    }
}

impl ExactSizeIterator for Events {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{now, order};
    use crate::wide::{Limits, plan};

    #[test]
    fn an_event_tells_all_of_the_action() {
        let limits = Limits { expiry_seconds: 60, expiry_most_seconds: 100, grace_seconds: 30 };
        let mut order = order("a", "192.0.2.1");
        order.probe = true;
        let action = plan(order, "host", now(0), &limits);
        let event = of(&action, now(1));
        assert_eq!(event.ip(field::SOURCE_IP), "192.0.2.1".parse().ok());
        assert_eq!(event.str(field::SAKIMORI_ACTION_STATE), Some("planned"));
        assert_eq!(event.bool(field::SAKIMORI_PROBE), Some(true));
        assert_eq!(event.str(field::SAKIMORI_ALERT_ID), Some("alert-of-a"));
        let Some(Value::Json(record)) = event.get(field::SAKIMORI_ACTION_RECORD) else { panic!("no record") };
        assert_eq!(serde_json::from_value::<Action>((**record).clone()).unwrap(), action);
        assert!(event.rest().is_empty(), "every field has its type");
    }
}
