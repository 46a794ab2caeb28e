//! Messages to people: what happened, what was done, how to undo it, and what is asked. Pure; sending is the manager's.
//!
//! A message is its facts, as JSON text. A webhook is sent that text, signed byte for byte as is usual there: the header
//! `X-Sakimori-Signature: t=<unix seconds>,v1=<hex>` carries HMAC-SHA256 (RFC 2104) over `t.body`, so that a
//! receiver can check who sent it and refuse an old one. Every other kind of channel makes words of the facts by a template.
//! Repeats carry the same id.
//!
//! Values may come from an attacker. Here each becomes one line of bounded length without control characters; what else a
//! receiver would take for more than text, its channel escapes.

use std::collections::BTreeMap;

use hmac::{Hmac, Mac};
use sakimori_model::rule::Severity;
use sakimori_model::{Action, ActionState, Event, Timestamp, field};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::Sha256;

use crate::actions;

/// Name of the header that carries the signature.
pub const SIGNATURE_HEADER: &str = "X-Sakimori-Signature";
/// Most alerts that one message tells one by one; the others are counted.
pub const MOST_TOLD: usize = 20;
/// Most actions that are told of one alert; the others are counted.
pub const MOST_ACTIONS: usize = 10;
/// Longest value, in characters; what is beyond is cut and marked by an ellipsis.
pub const LONGEST: usize = 300;
/// Longest address of a page, in bytes; one that is longer is left out, since a part of it leads elsewhere.
const LONGEST_URL: usize = 2_000;
/// Version of the body's form; receivers may rely on fields not vanishing within one.
const FORM: u32 = 1;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The same for every repeat of this message, so that a receiver can drop repeats.
    pub id: String,
    /// Name of the channel it goes to.
    pub channel: String,
    /// The facts: JSON text that a webhook is sent byte for byte.
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
/// `ask` is a question that the message asks: `question_en`, `question_ja`, `url`, `allow_command`, `deny_command`, `until`,
/// `otherwise`. It is told as it is, but that its texts become lines and its page a web address or nothing.
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
        0 | 1 => line(first),
        more => format!("{} and {} more", line(first), more - 1),
    };
    let severity = notices.iter().filter_map(|notice| notice.alert.long(field::EVENT_SEVERITY)).max();
    let mut body = json!({
        "form": FORM,
        "kind": "alert",
        "id": id,
        "time": now.to_string(),
        "summary": summary,
        "severity": severity,
        "severity_name": severity.map(severity_name),
        "count": notices.len(),
        "alerts": told,
    });
    if let (Some(ask), Some(body)) = (ask, body.as_object_mut()) {
        body.insert("ask".to_owned(), question(ask));
    }
    Message { id: id.to_owned(), channel: channel.to_owned(), body: body.to_string(), tries: 0 }
}

fn question(ask: &serde_json::Value) -> serde_json::Value {
    let page = |url: &str| {
        let right = (url.starts_with("https://") || url.starts_with("http://")) && url.len() <= LONGEST_URL;
        right && !url.chars().any(|c| c.is_control() || c.is_whitespace() || "\"<>\\^`{|}".contains(c))
    };
    let mut told = serde_json::Map::new();
    for (name, value) in ask.as_object().into_iter().flatten() {
        let value = match value.as_str() {
            Some(url) if name == "url" => json!(page(url).then_some(url)),
            Some(text) => json!(line(text)),
            None => value.clone(),
        };
        told.insert(name.clone(), value);
    }
    told.into()
}

/// The word for ECS's `event.severity`: the severity of ours that it reaches.
pub fn severity_name(number: i64) -> &'static str {
    let reaches = |severity: Severity| number >= severity.number();
    match () {
        () if reaches(Severity::Critical) => "critical",
        () if reaches(Severity::High) => "high",
        () if reaches(Severity::Medium) => "medium",
        () if reaches(Severity::Low) => "low",
        () => "informational",
    }
}

/// A text as one line of bounded length: control characters, and those that turn the direction of writing or show nothing,
/// become spaces.
pub fn line(text: &str) -> String {
    let unseen = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{061c}')
    };
    let seen = text.chars().map(|c| if unseen(c) { ' ' } else { c });
    // Only as much is looked at as can be shown, with some room for what is trimmed.
    let line: String = seen.skip_while(|c| c.is_whitespace()).take(LONGEST + 1).collect();
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line.trim_end().to_owned(),
    }
}

fn tell(notice: &Notice<'_>) -> serde_json::Value {
    let alert = notice.alert;
    let text = |field| alert.str(field).map(line);
    let actions: Vec<_> = notice.actions.iter().take(MOST_ACTIONS).map(done).collect();
    let title = text(field::RULE_NAME);
    json!({
        "id": text(field::SAKIMORI_ALERT_ID),
        "time": alert.timestamp().map(|time| time.to_string()),
        "rule": { "id": text(field::RULE_ID), "title": title },
        "severity": alert.long(field::EVENT_SEVERITY),
        "severity_name": alert.long(field::EVENT_SEVERITY).map(severity_name),
        "source": alert.ip(field::SOURCE_IP).map(|ip| ip.to_string()),
        "user": text(field::USER_NAME),
        "host": text(field::HOST_NAME),
        "count": alert.long(field::SAKIMORI_ALERT_COUNT),
        "detail": text(field::MESSAGE).filter(|detail| Some(detail) != title.as_ref()),
        "text": notice.text.map(line),
        "actions": actions,
        "more_actions": notice.actions.len().saturating_sub(MOST_ACTIONS),
    })
}

fn done(action: &Action) -> serde_json::Value {
    let known = actions::find(&action.order.action);
    let undoable = crate::wide::can_be_undone(&action.order);
    let live = matches!(action.state, ActionState::Approved | ActionState::Running | ActionState::Done);
    let undo = (live && undoable).then(|| format!("sakimori actions undo {}", line(&action.order.id)));
    json!({
        "id": action.order.id,
        "action": action.order.action,
        "title": known.map(|known| known.title_en),
        "title_ja": known.map(|known| known.title_ja),
        "target": line(&action.order.target.to_string()),
        "place": line(&action.place),
        "state": action.state.name(),
        "reason": action.reason.as_deref().map(line),
        "until": action.end().map(|end| end.to_string()),
        "undo": undo,
        "undoable": undoable,
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
    fn values_of_an_attacker_are_one_bounded_line_each() {
        let mut alert = Event::new();
        alert.set(field::RULE_NAME, "a rule");
        alert.set(field::USER_NAME, format!("root\r\nBcc: x\u{202e}\u{0}{}", "y".repeat(100_000)));
        let notice = Notice { alert: &alert, actions: &[], text: Some("one\ntwo") };
        let body = compose("m", "ops", &[notice], None, now(1)).body;
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        let user = body["alerts"][0]["user"].as_str().unwrap();
        assert!(user.starts_with("root  Bcc: x  yyy") && user.ends_with('…'), "{user}");
        assert_eq!(user.chars().count(), LONGEST + 1);
        assert_eq!(body["alerts"][0]["text"], "one two");
    }

    #[test]
    fn a_question_is_told_in_lines_with_a_page_that_is_one() {
        let body = |url: &str| -> serde_json::Value {
            let ask = json!({
                "question_en": "Isolate\nweb1?", "url": url, "allow_command": "sakimori playbook approve e --step '1'",
                "until": now(60).to_string(), "otherwise": "deny",
            });
            serde_json::from_str(&compose("m", "ops", &[], Some(&ask), now(1)).body).unwrap()
        };
        let asked = &body("https://s.example/answer/e30.x")["ask"];
        assert_eq!((&asked["question_en"], &asked["otherwise"]), (&json!("Isolate web1?"), &json!("deny")));
        assert_eq!(asked["url"], "https://s.example/answer/e30.x");
        for bad in ["javascript:alert(1)", "https://s.example/<a>", &format!("https://s.example/{}", "a".repeat(5_000))]
        {
            assert_eq!(body(bad)["ask"]["url"], json!(null), "half an address leads elsewhere");
        }
    }

    #[test]
    fn what_cannot_be_taken_back_says_so() {
        let limits = Limits { expiry_seconds: 60, expiry_most_seconds: 100, grace_seconds: 30 };
        let mut action = plan(order("abc", "192.0.2.1"), "host", now(0), &limits);
        action.order.action = "scan_paths".into();
        action.state = ActionState::Done;
        let told = done(&action);
        assert_eq!((&told["undo"], &told["undoable"]), (&json!(null), &json!(false)));
        assert_eq!([0, 25, 74, 75, 100].map(severity_name), ["informational", "low", "medium", "high", "critical"]);
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
