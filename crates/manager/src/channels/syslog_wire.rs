//! The text of syslog messages: the header of RFC 5424, and JSON in ECS's fields or CEF (format version 0) after it.
//!
//! The structured data is the registered element `origin` alone, so that no value needs its escapes; all that comes from
//! outside stands in the message, where JSON or CEF escape it and nothing is a line's end.

use serde_json::{Map, Value, json};

use super::Letter;
use super::doc::{chars, prefix};

/// What stands in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A JSON document.
    Json,
    /// ArcSight's common event format.
    Cef,
}

/// The messages of a letter: one an alert; one where there is none, as of a test.
pub fn messages(letter: &Letter<'_>, form: Form, facility: u8, most: usize) -> Vec<String> {
    let alerts = letter.facts.get("alerts").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let header = header(letter, facility);
    let room = most.saturating_sub(header.len());
    let nothing = Value::Null;
    let told = if alerts.is_empty() { std::slice::from_ref(&nothing) } else { alerts };
    told.iter()
        .map(|alert| {
            let text = match form {
                Form::Json => document(letter, alert, room),
                Form::Cef => prefix(&cef(letter, alert), room),
            };
            format!("{header}{text}")
        })
        .collect()
}

/// `<PRI>1 TIME HOST APP PROCID MSGID SD ` (RFC 5424, section 6).
fn header(letter: &Letter<'_>, facility: u8) -> String {
    let level: u8 = match letter.severity() {
        "critical" => 2,
        "high" => 3,
        "medium" => 4,
        "low" => 5,
        _ => 6,
    };
    let kind = match letter.fact("/kind") {
        "" => "alert",
        kind => kind,
    };
    let kind: String = kind.chars().filter(char::is_ascii_alphanumeric).take(32).collect();
    format!(
        "<{}>1 {} - sakimori {} {kind} [origin software=\"sakimori\" swVersion=\"{}\"] ",
        u16::from(facility) * 8 + u16::from(level),
        letter.created,
        std::process::id(),
        env!("CARGO_PKG_VERSION"),
    )
}

/// A JSON document of at most so many bytes: what was done goes first where it is too long, then all but what names it.
fn document(letter: &Letter<'_>, alert: &Value, room: usize) -> String {
    let of = |path: &str| alert.pointer(path).filter(|value| !value.is_null()).cloned();
    let mut fields = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(name.to_owned(), value);
        }
    };
    put("@timestamp", of("/time").or_else(|| Some(json!(letter.created.to_string()))));
    put("message", Some(json!(letter.doc.title)));
    put("event.kind", Some(json!("alert")));
    put("event.severity", of("/severity"));
    put("rule.id", of("/rule/id"));
    put("rule.name", of("/rule/title"));
    put("source.ip", of("/source"));
    put("user.name", of("/user"));
    put("host.name", of("/host"));
    put("event.reason", of("/detail"));
    put("sakimori.alert.id", of("/id"));
    put("sakimori.alert.count", of("/count"));
    put("sakimori.message.id", Some(json!(letter.id)));
    put("sakimori.message.repeat", letter.may_be_repeat.then(|| json!(true)));
    let actions = alert.get("actions").and_then(Value::as_array).cloned().unwrap_or_default();
    let done = |action: &Value| {
        let keep = ["id", "action", "target", "place", "state", "until", "undo"];
        let fields = keep.iter().filter_map(|name| Some((*name, action.get(name).filter(|value| !value.is_null())?)));
        json!(fields.collect::<std::collections::BTreeMap<_, _>>())
    };
    for told in (0..=actions.len()).rev() {
        let mut whole = fields.clone();
        if told > 0 {
            whole.insert("sakimori.actions".into(), actions.iter().take(told).map(done).collect());
        }
        if told < actions.len() {
            whole.insert("sakimori.actions_more".into(), json!(actions.len() - told));
        }
        let text = Value::Object(whole).to_string();
        if text.len() <= room {
            return text;
        }
    }
    for name in ["event.reason", "user.name", "host.name", "rule.name", "message"] {
        if let Some(value) = fields.get_mut(name) {
            *value = json!(chars(value.as_str().unwrap_or_default(), 60));
        }
    }
    if !actions.is_empty() {
        fields.insert("sakimori.actions_more".into(), json!(actions.len()));
    }
    Value::Object(fields).to_string()
}

/// `CEF:0|vendor|product|version|id|name|severity|extension`.
fn cef(letter: &Letter<'_>, alert: &Value) -> String {
    let text = |path: &str| alert.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let number = |path: &str| alert.pointer(path).and_then(Value::as_i64);
    let severity = number("/severity").unwrap_or(10).clamp(0, 100) / 10;
    let (rule, title) = (text("/rule/id"), text("/rule/title"));
    let title = if title.is_empty() { letter.doc.title.clone() } else { title };
    let head = [if rule.is_empty() { "message" } else { &rule }, &title].map(|value| cef_head(value)).join("|");
    let mut out = format!("CEF:0|Sakimori|Sakimori|{}|{head}|{severity}|", env!("CARGO_PKG_VERSION"));
    let actions = alert.get("actions").and_then(Value::as_array).cloned().unwrap_or_default();
    let done = actions.iter().map(|action| {
        let of = |name: &str| action.get(name).and_then(Value::as_str).unwrap_or_default();
        format!("{} {} {}", of("action"), of("target"), of("state"))
    });
    let undo = actions.iter().find_map(|action| action.get("undo").and_then(Value::as_str)).unwrap_or_default();
    let at = sakimori_model::Timestamp::parse(&text("/time")).unwrap_or(letter.created);
    for (name, value) in [
        ("rt", (at.micros() / 1_000).to_string()),
        ("externalId", text("/id")),
        ("src", text("/source")),
        ("suser", text("/user")),
        ("dhost", text("/host")),
        ("cnt", number("/count").map(|count| count.to_string()).unwrap_or_default()),
        ("act", chars(&done.collect::<Vec<_>>().join("; "), 500)),
        ("cs1Label", if undo.is_empty() { String::new() } else { "undo".into() }),
        ("cs1", undo.to_owned()),
        ("cs2Label", "message".into()),
        ("cs2", letter.id.to_owned()),
        ("cs3Label", if letter.may_be_repeat { "repeat".into() } else { String::new() }),
        ("cs3", if letter.may_be_repeat { "may be a repeat".into() } else { String::new() }),
        ("msg", text("/detail")),
    ] {
        if !value.is_empty() {
            out.push_str(&format!("{name}={} ", cef_value(&value)));
        }
    }
    out.trim_end().to_owned()
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Within the header of CEF.
fn cef_head(text: &str) -> String {
    one_line(text).replace('\\', "\\\\").replace('|', "\\|")
}

/// Within a value of CEF's extension.
fn cef_value(text: &str) -> String {
    one_line(text).replace('\\', "\\\\").replace('=', "\\=")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{HOSTILE, facts_with, letter, many};
    use super::*;

    #[test]
    fn a_message_is_one_line_with_a_header_and_as_json_a_whole_document() {
        for hostile in HOSTILE {
            for most in [2_048, 8_000] {
                let sent = letter(&facts_with(hostile), |letter| messages(letter, Form::Json, 13, most));
                let [message] = sent.as_slice() else { panic!("{sent:?}") };
                assert!(message.len() <= most && !message.contains(['\n', '\r']), "{message}");
                let (head, text) = message.split_once("] ").unwrap();
                let words: Vec<&str> = head.splitn(7, ' ').collect();
                assert_eq!((words[0], words[2], words[3], words[5]), ("<107>1", "-", "sakimori", "alert"), "{head}");
                let document: Value = serde_json::from_str(text).unwrap();
                assert_eq!(document["user.name"], sakimori_respond::message::line(hostile));
                assert_eq!(document["sakimori.message.id"], "m1");
            }
        }
        let sent = letter(&many(3), |letter| messages(letter, Form::Json, 4, 8_000));
        assert!(sent.len() == 3 && sent.iter().all(|message| message.starts_with("<35>1 ")));
        let long = letter(&many(1), |letter| messages(letter, Form::Json, 4, 1_000));
        let document: Value = serde_json::from_str(long[0].split_once("] ").unwrap().1).unwrap();
        assert!(long[0].len() <= 1_000 && document["sakimori.actions_more"].as_u64() > Some(0), "{document}");
    }

    #[test]
    fn cef_keeps_its_eight_parts_and_its_pairs() {
        for hostile in HOSTILE {
            let sent = letter(&facts_with(hostile), |letter| messages(letter, Form::Cef, 13, 8_000));
            let text = sent[0].split_once("] ").unwrap().1;
            assert!(!text.contains(['\n', '\r']));
            // Splits where no backslash stands before.
            let bars = text.as_bytes().windows(2).filter(|two| two[1] == b'|' && two[0] != b'\\').count();
            assert!(bars >= 7, "{text}");
            let extension = text.splitn(8, '|').last().unwrap();
            let user = extension.split("suser=").nth(1).unwrap().split(" dhost=").next().unwrap();
            let back = user.replace("\\=", "=").replace("\\\\", "\\");
            assert_eq!(back.trim_end(), sakimori_respond::message::line(hostile).trim_end(), "{text}");
        }
        assert_eq!((cef_head("a|b\\"), cef_value("a=b\\|")), ("a\\|b\\\\".into(), "a\\=b\\\\|".into()));
    }
}
