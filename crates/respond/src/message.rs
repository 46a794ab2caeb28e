//! Messages to people: what happened, what was done, how to undo it. Pure; sending is a port.
//!
//! The body is JSON text that is signed byte for byte, as is usual for webhooks: the header
//! `X-Sakimori-Signature: t=<unix seconds>,v1=<hex>` carries HMAC-SHA256 (RFC 2104) over `t.body`, so that a
//! receiver can check who sent it and refuse an old one. Repeats carry the same id.

use std::collections::BTreeMap;

use hmac::{Hmac, Mac};
use sakimori_model::{Action, ActionState, Event, Timestamp, field};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::Sha256;

/// Name of the header that carries the signature.
pub const SIGNATURE_HEADER: &str = "X-Sakimori-Signature";
/// Most alerts that one message tells one by one; the others are counted.
pub const MOST_TOLD: usize = 20;
/// Version of the body's form; receivers may rely on fields not vanishing within one.
const FORM: u32 = 1;

/// One message, as it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The same for every repeat of this message, so that a receiver can drop repeats.
    pub id: String,
    /// Name of the channel it goes to.
    pub channel: String,
    /// JSON text that is sent and signed, byte for byte.
    pub body: String,
    /// How often it was tried before: from the second try on it may be a repeat.
    pub tries: u32,
}

/// One thing to tell: an alert with what was done about it.
#[derive(Clone, Debug)]
pub struct Notice<'a> {
    /// The alert.
    pub alert: &'a Event,
    /// What was done about it.
    pub actions: &'a [Action],
    /// A sentence of the playbook's author.
    pub text: Option<&'a str>,
}

/// Makes one message of one or more notices.
///
/// `ask` is a question that the message asks: `question_en`, `question_ja`, `url`, `command`, `until`, `otherwise`.
pub fn compose(
    id: &str,
    channel: &str,
    notices: &[Notice<'_>],
    ask: Option<&serde_json::Value>,
    now: Timestamp,
) -> Message {
    let told: Vec<_> = notices.iter().take(MOST_TOLD).map(tell).collect();
    let first = notices.first().and_then(|notice| notice.alert.str(field::RULE_NAME)).unwrap_or("alert");
    let summary = match notices.len() {
        0 | 1 => first.to_owned(),
        more => format!("{first} and {} more", more - 1),
    };
    let body = json!({
        "form": FORM,
        "id": id,
        "time": now.to_string(),
        "summary": summary,
        "count": notices.len(),
        "alerts": told,
        "ask": ask,
    });
    Message { id: id.to_owned(), channel: channel.to_owned(), body: body.to_string(), tries: 0 }
}

fn tell(notice: &Notice<'_>) -> serde_json::Value {
    let alert = notice.alert;
    let actions: Vec<_> = notice.actions.iter().map(done).collect();
    json!({
        "id": alert.str(field::SAKIMORI_ALERT_ID),
        "time": alert.timestamp().map(|time| time.to_string()),
        "rule": { "id": alert.str(field::RULE_ID), "title": alert.str(field::RULE_NAME) },
        "severity": alert.long(field::EVENT_SEVERITY),
        "source": alert.ip(field::SOURCE_IP).map(|ip| ip.to_string()),
        "user": alert.str(field::USER_NAME),
        "host": alert.str(field::HOST_NAME),
        "text": notice.text,
        "actions": actions,
    })
}

fn done(action: &Action) -> serde_json::Value {
    let undo = matches!(action.state, ActionState::Approved | ActionState::Running | ActionState::Done)
        .then(|| format!("sakimori actions undo {}", action.order.id));
    json!({
        "id": action.order.id,
        "action": action.order.action,
        "target": action.order.target.to_string(),
        "place": action.place,
        "state": action.state.name(),
        "reason": action.reason,
        "until": action.expires_at.map(|end| end.to_string()),
        "undo": undo,
    })
}

/// The value of [`SIGNATURE_HEADER`].
pub fn signature(secret: &[u8], now: Timestamp, body: &str) -> String {
    let seconds = now.micros().div_euclid(1_000_000);
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes a key of any length");
    mac.update(seconds.to_string().as_bytes());
    mac.update(b".");
    mac.update(body.as_bytes());
    format!("t={seconds},v1={}", hex::encode(mac.finalize().into_bytes()))
}

/// A message that waits to be grouped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Id of its action.
    pub id: String,
    /// What belongs together: channel and rule.
    pub key: String,
    /// Since when it waits.
    pub since: Timestamp,
}

/// Waiting messages that go out as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What they share.
    pub key: String,
    /// Ids of their actions, in the order in which they came.
    pub ids: Vec<String>,
}

/// One message for a burst: the groups that are due. The first of a key waits `window_seconds` for others of the
/// same key; where `most` wait already, they go at once.
pub fn group(waiting: &[Waiting], window_seconds: u64, most: usize, now: Timestamp) -> Vec<Group> {
    let mut keys: BTreeMap<&str, (Timestamp, Vec<&Waiting>)> = BTreeMap::new();
    for one in waiting {
        let (first, list) = keys.entry(&one.key).or_insert((one.since, Vec::new()));
        *first = one.since.min(*first);
        list.push(one);
    }
    let due = |first: Timestamp, count: usize| count >= most.max(1) || crate::wide::later(first, window_seconds) <= now;
    keys.into_iter()
        .filter(|(_, (first, list))| due(*first, list.len()))
        .map(|(key, (_, mut list))| {
            list.sort_by(|a, b| (a.since, &a.id).cmp(&(b.since, &b.id)));
            Group { key: key.to_owned(), ids: list.into_iter().map(|one| one.id.clone()).collect() }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{now, order};
    use crate::wide::{Limits, plan};

    #[test]
    fn a_message_says_what_happened_what_was_done_and_how_to_undo_it() {
        let mut alert = Event::new();
        alert.set(field::RULE_NAME, "SSH brute force");
        alert.set(field::SOURCE_IP, "192.0.2.1".parse::<std::net::IpAddr>().unwrap());
        let limits = Limits { expiry_seconds: 60, expiry_most_seconds: 100, grace_seconds: 30 };
        let mut action = plan(order("abc", "192.0.2.1"), "host", now(0), &limits);
        action.state = ActionState::Done;
        let notice = Notice { alert: &alert, actions: &[action], text: Some("look") };
        let message = compose("m1", "ops", &[notice.clone(), notice], None, now(1));
        let body: serde_json::Value = serde_json::from_str(&message.body).unwrap();
        assert_eq!(body["summary"], "SSH brute force and 1 more");
        assert_eq!(body["alerts"][0]["source"], "192.0.2.1");
        assert_eq!(body["alerts"][0]["actions"][0]["undo"], "sakimori actions undo abc");
        let many = vec![Notice { alert: &alert, actions: &[], text: None }; 1000];
        let body = compose("m", "ops", &many, None, now(1)).body;
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((body["count"].as_u64(), body["alerts"].as_array().map(Vec::len)), (Some(1000), Some(MOST_TOLD)));
    }

    #[test]
    fn the_signature_covers_time_and_body() {
        // printf '1800000000.{"a":1}' | openssl dgst -sha256 -hmac key
        let signed = signature(b"key", now(0), "{\"a\":1}");
        assert_eq!(signed, "t=1800000000,v1=7330c9cf7d886970cbebbbb5494c04d2aeff06a990adb7d7a75abfeb0159d291");
        assert_ne!(signed, signature(b"key", now(1), "{\"a\":1}"));
        assert_ne!(signed, signature(b"other", now(0), "{\"a\":1}"));
        assert_ne!(signed, signature(b"key", now(0), "{\"a\":2}"));
    }

    #[test]
    fn a_burst_is_one_message_and_others_are_not_held_up() {
        let one = |id: &str, key: &str, at: i64| Waiting { id: id.to_owned(), key: key.to_owned(), since: now(at) };
        let waiting = [one("2", "ops/a", 3), one("1", "ops/a", 0), one("3", "ops/b", 9)];
        assert_eq!(group(&waiting, 10, 100, now(9)), []);
        let groups = group(&waiting, 10, 100, now(10));
        assert_eq!(groups, [Group { key: "ops/a".to_owned(), ids: vec!["1".to_owned(), "2".to_owned()] }]);
        assert_eq!(group(&waiting, 10, 2, now(9)).len(), 1, "enough of them do not wait");
        assert_eq!(group(&waiting, 10, 100, now(19)).len(), 2);
    }
}
