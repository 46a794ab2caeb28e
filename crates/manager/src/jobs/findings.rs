//! What goes to channels that take findings, for programs: each alert once and by itself, with its whole document; nothing that is no
//! alert, and nothing that came from there.

use sakimori_model::{ActionState, Event, field};
use sakimori_respond::wide;
use sakimori_store::control::actions::Job;
use sakimori_store::control::{ControlError, messages};
use serde_json::{Map, Value, json};

use crate::channels::Findings;
use crate::respond::advance;
use crate::shared::Shared;

/// Largest document of an alert, in bytes, with room for what goes around it in an event of 256 KB.
pub const MOST: usize = 200_000;
/// Where a document says which of its fields did not fit.
const LEFT_OUT: [&str; 2] = ["sakimori", "left_out"];

/// Why an alert is not told on a channel; `None` where it is.
///
/// # Errors
/// The database failed.
pub async fn objection(
    shared: &Shared,
    job: &Job,
    channel: &str,
    findings: &Findings,
    alert: &Event,
) -> Result<Option<String>, ControlError> {
    let id = &job.action.order.cause.alert;
    if id.is_empty() || alert.str(field::SAKIMORI_ALERT_ID) != Some(id.as_str()) {
        return Ok(Some("only alerts go there, and this is none".to_owned()));
    }
    if !findings.source.is_empty() && alert.str(field::SAKIMORI_SOURCE) == Some(findings.source) {
        return Ok(Some(format!("it came from there ({})", findings.source)));
    }
    let told = messages::told(shared.control.read(), &job.tenant, channel, id).await?;
    Ok(told.map(|message| format!("it was told there already, by the message {message}")))
}

/// Says of an action that it had nothing to tell.
///
/// # Errors
/// The database failed.
pub async fn leave(shared: &Shared, mut job: Job, reason: String) -> Result<(), ControlError> {
    let now = shared.clock.now();
    let mut change = shared.control.begin().await?;
    let step = wide::because(&job.action.order.id, ActionState::NoEffect, reason);
    advance(&mut change, &job.tenant, &mut job.action, step, now).await?;
    change.commit().await?;
    shared.outbox_changed.notify_one();
    shared.executions_changed.notify_one();
    Ok(())
}

/// The facts of a message with the alert's document beside them.
pub fn carry(body: &str, alert: &Event) -> String {
    let Ok(Value::Object(mut facts)) = serde_json::from_str(body) else { return body.to_owned() };
    facts.insert("event".to_owned(), Value::Object(document(alert, MOST)));
    Value::Object(facts).to_string()
}

/// An alert's document of at most so many bytes: what is largest goes first, and is named.
fn document(alert: &Event, most: usize) -> Map<String, Value> {
    let mut whole = alert.to_json();
    let mut left_out = Vec::new();
    while size(&whole) > most {
        let Some(path) = largest(&whole) else { break };
        take(&mut whole, &path);
        left_out.push(named(&path));
        let [at, list] = LEFT_OUT;
        if let Some(sakimori) = whole.entry(at).or_insert_with(|| json!({})).as_object_mut() {
            sakimori.insert(list.to_owned(), json!(left_out));
        }
    }
    whole
}

/// A path as it is named: with points between. What has a point itself stands in quotes, so that one name is one path.
fn named(path: &[String]) -> String {
    let part = |name: &String| match name.contains(['.', '"']) {
        true => Value::from(name.as_str()).to_string(),
        false => name.clone(),
    };
    path.iter().map(part).collect::<Vec<_>>().join(".")
}

fn size(object: &Map<String, Value>) -> usize {
    serde_json::to_string(object).map_or(usize::MAX, |text| text.len())
}

/// The path of the largest value that is no object, the list of what was left out aside.
fn largest(object: &Map<String, Value>) -> Option<Vec<String>> {
    let mut found: (usize, Option<Vec<String>>) = (0, None);
    let mut open: Vec<(Vec<String>, &Map<String, Value>)> = vec![(Vec::new(), object)];
    while let Some((at, object)) = open.pop() {
        for (name, value) in object {
            let path: Vec<String> = at.iter().chain([name]).cloned().collect();
            match value {
                Value::Object(inner) => open.push((path, inner)),
                _ if path == LEFT_OUT => {}
                // The id is what a repeat is known by.
                _ if path == ["sakimori", "alert", "id"] => {}
                other => {
                    let bytes = other.to_string().len();
                    if bytes > found.0 {
                        found = (bytes, Some(path));
                    }
                }
            }
        }
    }
    found.1
}

fn take(object: &mut Map<String, Value>, path: &[String]) {
    match path {
        [] => {}
        [last] => drop(object.remove(last)),
        [first, rest @ ..] => {
            if let Some(Value::Object(inner)) = object.get_mut(first) {
                take(inner, rest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_keeps_its_bound_and_its_id_and_says_what_did_not_fit() {
        let mut alert = Event::new();
        alert.set(field::SAKIMORI_ALERT_ID, "0a1b".to_owned());
        alert.set(field::RULE_NAME, "a rule");
        alert.set(field::MESSAGE, "y".repeat(3_000));
        alert.set(field::EVENT_ORIGINAL, "\"".repeat(300_000));
        let whole = document(&alert, 1 << 20);
        assert_eq!(whole, alert.to_json());
        let fits = document(&alert, MOST);
        assert!(size(&fits) <= MOST);
        assert_eq!(fits["sakimori"], json!({"alert": {"id": "0a1b"}, "left_out": ["event.original"]}));
        assert_eq!(fits["message"], json!("y".repeat(3_000)));
        let small = document(&alert, 300);
        assert!(size(&small) <= 300, "{small:?}");
        assert_eq!(small["sakimori"]["left_out"], json!(["event.original", "message"]));
        // Whoever wrote the event calls fields as they like: also as this list is called elsewhere.
        alert.set_path("acme.left_out", json!("z".repeat(300_000)));
        alert.set_path("acme.seat", json!({"a.b": "x".repeat(400_000), "a": {"b": "near"}}));
        let other = document(&alert, MOST);
        assert!(size(&other) <= MOST);
        let left = json!(["event.original", "acme.seat.\"a.b\"", "acme.left_out"]);
        assert_eq!((&other["sakimori"]["left_out"], &other["acme"]["seat"]["a"]["b"]), (&left, &json!("near")));
        let facts: Value = serde_json::from_str(&carry("{\"kind\": \"alert\"}", &alert)).unwrap();
        assert_eq!((&facts["kind"], &facts["event"]["rule"]["name"]), (&json!("alert"), &json!("a rule")));
    }
}
