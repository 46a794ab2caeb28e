//! `slack`: a message of blocks to a Slack channel, by an incoming webhook (the secret is its URL) or by `chat.postMessage`
//! (the secret is a bot's token with `chat:write`, and `settings.channel` says where).
//!
//! Bounds, as Slack publishes them: 50 blocks, 3,000 characters of a section, 150 of a header, one message a second and
//! channel, bursts aside. Values stand in code spans of `mrkdwn` objects that are `verbatim`, with `&`, `<`, `>` as entities
//! as Slack wants them and without back-quotes, so that no name, link or mention in them is one; sentences are `plain_text`.

use sakimori_respond::actions::Safety;
use sakimori_respond::ports::BoxFuture;
use sakimori_runtime::clock::SharedClock;
use serde_json::{Value, json};

use super::doc::{Line, chars};
use super::{Failure, Key, Kind, Letter, Need, Receipt, Receiver, Setting, http};

/// Most blocks of a message.
pub const MOST_BLOCKS: usize = 50;
/// Most characters of a section's text.
pub const MOST_TEXT: usize = 3_000;
/// Most characters of a header.
pub const MOST_HEADER: usize = 150;
/// Most characters of the text that notifications of a phone show.
const MOST_FALLBACK: usize = 3_000;

/// What it is.
pub const KIND: Kind = Kind {
    id: "slack",
    about: "a message to a Slack channel",
    url: Need::May(
        "https://slack.com/api where absent, or that of an incoming webhook, which is better kept as its secret",
    ),
    secret: Need::May("URL of an incoming webhook, or the token of a bot"),
    settings: &[Setting::may(
        "channel",
        "id of the channel that a bot writes to; without it the secret is a webhook's URL",
    )],
    safety: Safety::Repeatable,
    closes: false,
    findings: None,
    settles: 0,
    rate: (5, 60),
    open: |channel, tools| {
        let to = channel.setting("channel").map(str::to_owned);
        if channel.secret.is_none() && channel.secret_file.is_none() && (to.is_some() || channel.url.is_empty()) {
            return Err("secret is missing: URL of an incoming webhook, or the token of a bot".into());
        }
        let (client, clock) = (tools.client.clone(), tools.clock.clone());
        Ok(Box::new(Slack { client, clock, url: channel.url.clone(), channel: to }))
    },
};

struct Slack {
    client: reqwest::Client,
    clock: SharedClock,
    url: String,
    channel: Option<String>,
}

impl Receiver for Slack {
    fn tell<'a>(&'a self, letter: &'a Letter<'a>, secret: &'a Key) -> BoxFuture<'a, Result<Receipt, Failure>> {
        Box::pin(async move {
            let mut message = message(letter)?;
            let Some(channel) = &self.channel else {
                let url = if self.url.is_empty() { secret.text()? } else { &self.url };
                let answer = http::ask("Slack", self.client.post(url).json(&message), self.clock.now()).await?;
                return Ok(Receipt::said(answer.good("Slack")?.told()));
            };
            if let Some(fields) = message.as_object_mut() {
                fields.insert("channel".into(), json!(channel));
                fields.insert("unfurl_links".into(), json!(false));
                fields.insert("unfurl_media".into(), json!(false));
            }
            let base = if self.url.is_empty() { "https://slack.com/api" } else { self.url.trim_end_matches('/') };
            let request = self.client.post(format!("{base}/chat.postMessage")).bearer_auth(secret.text()?);
            // Slack takes JSON of this type only with its charset.
            let request = request.header("Content-Type", "application/json; charset=utf-8").body(message.to_string());
            let answer = http::ask("Slack", request, self.clock.now()).await?.good("Slack")?;
            posted(&answer)
        })
    }
}

/// What `chat.postMessage` says in an answer with the status 200.
fn posted(answer: &http::Answer) -> Result<Receipt, Failure> {
    let said = answer.json();
    let text = |name: &str| said.get(name).and_then(Value::as_str).unwrap_or_default();
    if said.get("ok") == Some(&Value::Bool(true)) {
        return Ok(Receipt::called(chars(text("ts"), 64), "ok"));
    }
    let code = chars(text("error"), 100);
    let reason = format!("Slack answered {}", if code.is_empty() { answer.told() } else { code.clone() });
    match code.as_str() {
        "ratelimited" | "rate_limited" | "service_unavailable" | "team_added_to_org" => {
            Err(Failure::NotTaken { reason, retry_after: answer.retry_after })
        }
        "fatal_error" | "internal_error" | "request_timeout" | "" => Err(Failure::Unknown(reason)),
        _ => Err(Failure::Refused(reason)),
    }
}

/// The message: blocks, and the text of notifications.
pub fn message(letter: &Letter<'_>) -> Result<Value, Failure> {
    let blocks = letter.doc.fit(|parts| blocks(letter, parts));
    let blocks = blocks.ok_or_else(|| Failure::Refused("it does not fit into a message of Slack".into()))?;
    Ok(json!({ "text": chars(&escape(&letter.doc.title), MOST_FALLBACK), "blocks": blocks }))
}

/// The blocks, where they are not too many.
fn blocks(letter: &Letter<'_>, parts: &[Vec<Line>]) -> Option<Vec<Value>> {
    let header = json!({ "type": "plain_text", "text": chars(&letter.doc.title, MOST_HEADER), "emoji": false });
    let mut blocks = vec![json!({ "type": "header", "text": header })];
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            blocks.push(json!({ "type": "divider" }));
        }
        let mut facts = String::new();
        for line in part {
            let fact = match line {
                Line::Heading(text) => format!("*{}*\n", code_free(text)),
                Line::Fact(label, value) => format!("*{}* `{}`\n", code_free(label), code(value)),
                Line::Command(text) => format!("`{}`\n", code(text)),
                Line::Link(label, url) => format!("<{}|{}>\n", address(url), code_free(label)),
                Line::Text(text) => {
                    sections(&mut blocks, &mut facts);
                    let text = json!({ "type": "plain_text", "text": chars(text, MOST_TEXT), "emoji": false });
                    blocks.push(json!({ "type": "section", "text": text }));
                    continue;
                }
            };
            if facts.chars().count() + fact.chars().count() > MOST_TEXT {
                sections(&mut blocks, &mut facts);
            }
            // A single line longer than a section is left out, since half of its marks would change what follows.
            if fact.chars().count() <= MOST_TEXT {
                facts.push_str(&fact);
            }
        }
        sections(&mut blocks, &mut facts);
    }
    if letter.may_be_repeat {
        let note = json!({ "type": "plain_text", "text": "may be a repeat", "emoji": false });
        blocks.push(json!({ "type": "context", "elements": [note] }));
    }
    (blocks.len() <= MOST_BLOCKS).then_some(blocks)
}

fn sections(blocks: &mut Vec<Value>, facts: &mut String) {
    if !facts.is_empty() {
        let text = json!({ "type": "mrkdwn", "text": facts.trim_end(), "verbatim": true });
        blocks.push(json!({ "type": "section", "text": text }));
        facts.clear();
    }
}

/// The three characters that Slack reads itself.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Within a code span.
fn code(text: &str) -> String {
    escape(&text.replace('`', "'"))
}

/// Within bold text: nothing of it begins or ends a form.
fn code_free(text: &str) -> String {
    let plain: String = text.chars().map(|c| if matches!(c, '*' | '_' | '~' | '`') { '\'' } else { c }).collect();
    escape(&plain)
}

/// Within a link.
fn address(url: &str) -> String {
    escape(&url.replace('|', "%7C"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{HOSTILE, facts_with, letter, many};
    use super::*;

    #[test]
    fn a_hostile_value_is_no_mention_no_link_and_no_form() {
        for hostile in HOSTILE {
            let message = letter(&facts_with(hostile), |letter| message(letter).unwrap());
            for block in message["blocks"].as_array().unwrap() {
                let text = &block["text"];
                let said = text["text"].as_str().unwrap_or_default();
                if text["type"] == "mrkdwn" {
                    assert!(!said.contains("<!") && !said.contains("<@") && !said.contains("<http://evil"), "{said}");
                    assert!(said.lines().all(|line| line.matches('`').count() % 2 == 0), "{said}");
                    assert_eq!(text["verbatim"], true);
                }
            }
            assert!(!message["text"].as_str().unwrap().contains('<'));
        }
    }

    #[test]
    fn twenty_alerts_are_as_many_as_fit_and_the_rest_is_counted() {
        let message = letter(&many(20), |letter| message(letter).unwrap());
        let blocks = message["blocks"].as_array().unwrap();
        assert!(blocks.len() <= MOST_BLOCKS && blocks.len() > 20, "{}", blocks.len());
        let text = message.to_string();
        assert!(text.contains("more; sakimori alerts"), "{text}");
        let lengths = blocks.iter().filter_map(|block| block["text"]["text"].as_str()).map(|text| text.chars().count());
        assert!(lengths.clone().all(|length| (1..=MOST_TEXT).contains(&length)), "{:?}", lengths.collect::<Vec<_>>());
    }
}
