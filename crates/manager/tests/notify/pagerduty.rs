//! PagerDuty, after the schema of its Events API v2.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::fake::{Fake, Fault, Reply, Request, fields, is_json, text};
use super::site::{Site, channel, secret};

const KEY: &str = "0123456789abcdef0123456789abcdef";

/// Open alerts, by their key.
type Open = Arc<Mutex<BTreeMap<String, bool>>>;

fn event(request: &Request, open: &Open) -> Result<String, String> {
    is_json(request)?;
    if request.method != "POST" || request.path != "/v2/enqueue" || request.bytes > 512 * 1_024 {
        return Err("Not Found".into());
    }
    let body = &request.body;
    let may = ["dedup_key", "payload", "images", "links", "client", "client_url"];
    fields(body, &["routing_key", "event_action"], &may, "event")?;
    if body["routing_key"] != KEY {
        return Err("Invalid routing key".into());
    }
    text(&body["dedup_key"], 255, "dedup_key")?;
    let key = body["dedup_key"].as_str().unwrap().to_owned();
    match body["event_action"].as_str() {
        Some("trigger") => {
            let payload = &body["payload"];
            let may = ["timestamp", "component", "group", "class", "custom_details"];
            fields(payload, &["summary", "source", "severity"], &may, "payload")?;
            text(&payload["summary"], 1_024, "summary")?;
            text(&payload["source"], 1_024, "source")?;
            if !["critical", "error", "warning", "info"].contains(&payload["severity"].as_str().unwrap_or_default()) {
                return Err("severity".into());
            }
            for link in body["links"].as_array().into_iter().flatten() {
                fields(link, &["href"], &["text"], "link")?;
            }
            open.lock().unwrap().insert(key.clone(), true);
        }
        Some("resolve") => {
            open.lock().unwrap().insert(key.clone(), false);
        }
        other => return Err(format!("event_action {other:?}")),
    }
    Ok(key)
}

#[test]
fn an_event_of_unknown_outcome_is_one_alert_there_and_is_resolved_when_it_is_closed_here() {
    let dir = tempfile::tempdir().unwrap();
    let open = Open::default();
    let held = Arc::clone(&open);
    let fake = Fake::start(move |request| match event(request, &held) {
        Ok(key) => Reply::json(202, json!({"status": "success", "message": "Event processed", "dedup_key": key})),
        Err(reason) => Reply::json(
            400,
            json!({"status": "invalid event", "message": "Event object is invalid", "errors": [reason]}),
        ),
    });
    let mut ops = channel("pagerduty", &fake.url, &[]);
    ops.secret_file = secret(dir.path(), KEY);
    let mut site = Site::start(dir.path(), vec![ops]);
    fake.fail([Fault::Cut, Fault::Cut, Fault::Broken(500)]);
    let alert = site.alert();
    let id = site.tell(&alert, &[]);
    let message = site.sent(&id);
    assert_eq!((fake.refused().len(), message.reference.as_str(), fake.seen().len()), (0, id.as_str(), 4));
    assert_eq!(*open.lock().unwrap(), BTreeMap::from([(id.clone(), true)]), "one, however often it came");
    let outcomes: Vec<String> = site.tries(&message).into_iter().map(|one| one.outcome).collect();
    assert_eq!(outcomes, ["unknown", "unknown", "not_taken", "delivered"]);
    fake.fail([Fault::Cut]);
    site.close(&alert, &id);
    assert_eq!(*open.lock().unwrap(), BTreeMap::from([(id, false)]));
    assert!(!format!("{:?}", fake.refused()).contains(KEY) && fake.seen().iter().all(|one| one.body != Value::Null));
    site.stop();
}
