//! `event_bridge`: each alert is an event on a bus of Amazon EventBridge, and a second one says that it is closed.
//!
//! The source is `sakimori`, the detail-type `Sakimori Alert` or `Sakimori Alert Closed`. The detail is
//! `{"form": 1, "id": …, "status": "open", "event": …}`, where `event` is the alert's ECS document and `id` the alert's id; of a closed
//! one `by` and `comment` instead. EventBridge tells no repeats apart: one of which nobody knows whether it was taken is put there
//! once more, with `"repeat": true`.

use sakimori_cloud::aws::event_bridge::{Bus, Entry, PERMISSIONS};
use sakimori_model::Timestamp;
use sakimori_respond::actions::Safety;
use sakimori_respond::ports::{BoxFuture, PortError};
use serde_json::{Value, json};

use super::{Failure, Findings, Key, Kind, Letter, Need, Receipt, Receiver, Setting};

/// Who says so.
pub const SOURCE: &str = "sakimori";
/// Version of the detail's form; readers may rely on fields not vanishing within one.
const FORM: u32 = 1;

/// What it is.
pub const KIND: Kind = Kind {
    id: "event_bridge",
    about: "an event on a bus of Amazon EventBridge, and another when it is closed here",
    url: Need::Never,
    secret: Need::Never,
    settings: &[
        Setting::may("bus", "name or ARN of the bus; default where absent"),
        Setting::may("account", "name of the account in cloud.accounts; the only one where absent"),
    ],
    safety: Safety::Repeatable,
    closes: true,
    findings: Some(Findings { source: "", rights: PERMISSIONS }),
    settles: 0,
    rate: (100, 1_200),
    open: |channel, tools| {
        let bus = channel.setting("bus").unwrap_or("default");
        Ok(Box::new(EventBridge { bus: Bus::new(tools.account(channel)?.clone(), bus) }))
    },
};

struct EventBridge {
    bus: Bus,
}

impl EventBridge {
    async fn put(&self, what: &str, detail: &Value, time: Timestamp) -> Result<Receipt, Failure> {
        let text = detail.to_string();
        let entry = Entry { source: SOURCE, detail_type: what, detail: &text, time };
        match self.bus.put(&entry).await {
            Ok(id) => {
                let alert = detail.get("id").and_then(Value::as_str).unwrap_or_default();
                Ok(Receipt::called(alert, format!("taken as {id}")))
            }
            Err((PortError::Permanent { reason }, _)) => Err(Failure::Refused(reason)),
            Err((PortError::Transient { reason, .. }, false)) => Err(Failure::Unknown(reason)),
            Err((PortError::Transient { reason, retry_after }, true)) => Err(Failure::NotTaken { reason, retry_after }),
        }
    }
}

impl Receiver for EventBridge {
    fn tell<'a>(&'a self, letter: &'a Letter<'a>, _: &'a Key) -> BoxFuture<'a, Result<Receipt, Failure>> {
        Box::pin(async move {
            let (what, detail) = told(letter)?;
            let time = Timestamp::parse(letter.fact("/event/@timestamp")).unwrap_or(letter.created);
            self.put(what, &detail, time).await
        })
    }

    fn close<'a>(&'a self, letter: &'a Letter<'a>, _: &'a Key) -> BoxFuture<'a, Result<Receipt, Failure>> {
        Box::pin(async move {
            let detail = mark(
                letter,
                json!({
                    "form": FORM, "id": letter.reference, "status": "closed", "by": letter.fact("/by"),
                    "comment": letter.fact("/comment"),
                }),
            );
            self.put("Sakimori Alert Closed", &detail, letter.created).await
        })
    }
}

fn mark(letter: &Letter<'_>, mut detail: Value) -> Value {
    if let (true, Some(detail)) = (letter.may_be_repeat, detail.as_object_mut()) {
        detail.insert("repeat".to_owned(), json!(true));
    }
    detail
}

/// Detail-type and detail of what is told.
fn told(letter: &Letter<'_>) -> Result<(&'static str, Value), Failure> {
    let alert = letter.fact("/event/sakimori/alert/id");
    if letter.fact("/kind") == "test" {
        let detail = json!({ "form": FORM, "id": letter.id, "status": "test", "by": letter.fact("/by") });
        return Ok(("Sakimori Test", mark(letter, detail)));
    }
    if alert.is_empty() {
        return Err(Failure::Refused("EventBridge is told alerts, and this is none".to_owned()));
    }
    let event = letter.facts.get("event");
    Ok(("Sakimori Alert", mark(letter, json!({ "form": FORM, "id": alert, "status": "open", "event": event }))))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{facts_with, letter};
    use super::*;

    #[test]
    fn an_event_carries_the_whole_document_and_says_where_it_may_be_a_repeat() {
        let mut facts = facts_with("x");
        facts["event"] = json!({"sakimori": {"alert": {"id": "0a1b"}}, "source": {"ip": "203.0.113.9"}});
        let (what, detail) = letter(&facts, |letter| told(letter).unwrap());
        assert_eq!((what, &detail["id"], &detail["event"]), ("Sakimori Alert", &json!("0a1b"), &facts["event"]));
        assert_eq!(detail.get("repeat"), None);
        let again = letter(&facts, |letter| told(&Letter { may_be_repeat: true, ..*letter }).unwrap().1);
        assert_eq!(again["repeat"], json!(true));
        let none = letter(&facts_with("x"), |letter| told(letter).map(drop));
        assert!(matches!(none, Err(Failure::Refused(reason)) if reason.contains("is none")));
    }
}
