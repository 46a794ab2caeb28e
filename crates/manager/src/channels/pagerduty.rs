//! `pagerduty`: an event to PagerDuty (Events API v2): triggers an alert there, and resolves it when all that it tells of is
//! closed here. The secret is the integration's routing key.
//!
//! The message's id is the `dedup_key`: however often an event comes, it is one alert there. An event has at most 512 KB, its
//! summary 1,024 characters.

use sakimori_respond::actions::Safety;
use sakimori_respond::ports::BoxFuture;
use sakimori_runtime::clock::SharedClock;
use serde_json::{Value, json};

use super::doc::{Line, chars};
use super::{Failure, Key, Kind, Letter, Need, Receipt, Receiver, http};

/// Largest event, in bytes.
pub const MOST: usize = 512_000;
/// Longest summary, in characters.
pub const MOST_SUMMARY: usize = 1_024;
/// Most bytes of the words.
const MOST_WORDS: usize = 60_000;

/// What it is.
pub const KIND: Kind = Kind {
    id: "pagerduty",
    about: "an alert in PagerDuty, resolved when it is closed here",
    url: Need::May("https://events.pagerduty.com where absent; that of the EU is https://events.eu.pagerduty.com"),
    secret: Need::Must("routing key of the integration"),
    settings: &[],
    safety: Safety::Keyed,
    closes: true,
    findings: None,
    settles: 0,
    rate: (30, 120),
    open: |channel, tools| {
        let base =
            if channel.url.is_empty() { "https://events.pagerduty.com" } else { channel.url.trim_end_matches('/') };
        let (client, clock) = (tools.client.clone(), tools.clock.clone());
        Ok(Box::new(PagerDuty { client, clock, url: format!("{base}/v2/enqueue") }))
    },
};

struct PagerDuty {
    client: reqwest::Client,
    clock: SharedClock,
    url: String,
}

impl PagerDuty {
    async fn send(&self, event: &Value) -> Result<Receipt, Failure> {
        let answer = http::ask("PagerDuty", self.client.post(&self.url).json(event), self.clock.now()).await?;
        let answer = answer.good("PagerDuty")?;
        let said = answer.json();
        if said.get("status").and_then(Value::as_str) != Some("success") {
            return Err(Failure::Unknown(format!("PagerDuty answered {}", answer.told())));
        }
        let key = said.get("dedup_key").and_then(Value::as_str).unwrap_or_default();
        Ok(Receipt::called(chars(key, 255), answer.told()))
    }
}

impl Receiver for PagerDuty {
    fn tell<'a>(&'a self, letter: &'a Letter<'a>, secret: &'a Key) -> BoxFuture<'a, Result<Receipt, Failure>> {
        Box::pin(async move { self.send(&trigger(letter, secret.text()?)).await })
    }

    fn close<'a>(&'a self, letter: &'a Letter<'a>, secret: &'a Key) -> BoxFuture<'a, Result<Receipt, Failure>> {
        Box::pin(async move {
            let event = json!({
                "routing_key": secret.text()?,
                "event_action": "resolve",
                "dedup_key": letter.closes.unwrap_or_default(),
            });
            self.send(&event).await
        })
    }
}

/// The event that triggers.
pub fn trigger(letter: &Letter<'_>, routing_key: &str) -> Value {
    let severity = match letter.severity() {
        "critical" => "critical",
        "high" => "error",
        "medium" => "warning",
        _ => "info",
    };
    let source =
        ["/alerts/0/host", "/alerts/0/source"].into_iter().map(|path| letter.fact(path)).find(|text| !text.is_empty());
    let links = letter.doc.parts(letter.doc.alerts.len()).into_iter().flatten().filter_map(|line| match line {
        Line::Link(label, url) => Some(json!({ "href": url, "text": label })),
        _ => None,
    });
    json!({
        "routing_key": routing_key,
        "event_action": "trigger",
        "dedup_key": letter.id,
        "client": "Sakimori",
        "links": links.take(20).collect::<Vec<_>>(),
        "payload": {
            "summary": chars(&letter.doc.title, MOST_SUMMARY),
            "source": source.unwrap_or("sakimori"),
            "severity": severity,
            "timestamp": letter.created.to_string(),
            "component": "sakimori",
            "class": letter.fact("/alerts/0/rule/id"),
            "custom_details": { "message": letter.doc.plain(MOST_WORDS) },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{HOSTILE, facts_with, letter, many};
    use super::*;

    #[test]
    fn an_event_is_within_its_bounds_and_has_our_key() {
        let event = letter(&many(20), |letter| trigger(letter, "R"));
        assert!(event.to_string().len() <= MOST);
        assert_eq!((&event["dedup_key"], &event["payload"]["severity"]), (&json!("m1"), &json!("error")));
        for hostile in HOSTILE {
            let event = letter(&facts_with(hostile), |letter| trigger(letter, "R"));
            let words = event["payload"]["custom_details"]["message"].as_str().unwrap();
            assert_eq!(words.lines().filter(|line| line.starts_with("User: ")).count(), 1, "{words}");
            assert!(event["payload"]["source"].as_str().is_some_and(|source| !source.is_empty()));
        }
    }
}
