//! `teams`: an Adaptive Card to a workflow of Microsoft Teams that waits for a webhook request (the secret is its URL).
//!
//! A message is at most 28 KB. All that is not ours stands in text runs, which, unlike text blocks, know no Markdown.

use sakimori_respond::actions::Safety;
use sakimori_respond::ports::BoxFuture;
use sakimori_runtime::clock::SharedClock;
use serde_json::{Value, json};

use super::doc::{Line, chars};
use super::{Failure, Key, Kind, Letter, Need, Receipt, Receiver, http};

/// Largest message, in bytes: 28 KB, counted as the smaller unit, with room for what the workflow adds.
pub const MOST: usize = 26_000;
/// Most buttons of a card.
const MOST_BUTTONS: usize = 6;

/// What it is.
pub const KIND: Kind = Kind {
    id: "teams",
    about: "a card in Microsoft Teams, through a workflow",
    url: Need::May("that of the workflow, which is better kept as its secret"),
    secret: Need::May("URL of the workflow"),
    settings: &[],
    safety: Safety::Repeatable,
    closes: false,
    findings: None,
    settles: 0,
    rate: (4, 120),
    open: |channel, tools| {
        if channel.secret.is_none() && channel.secret_file.is_none() && channel.url.is_empty() {
            return Err("secret is missing: URL of the workflow".into());
        }
        let (client, clock) = (tools.client.clone(), tools.clock.clone());
        Ok(Box::new(Teams { client, clock, url: channel.url.clone() }))
    },
};

struct Teams {
    client: reqwest::Client,
    clock: SharedClock,
    url: String,
}

impl Receiver for Teams {
    fn tell<'a>(&'a self, letter: &'a Letter<'a>, secret: &'a Key) -> BoxFuture<'a, Result<Receipt, Failure>> {
        Box::pin(async move {
            let message = message(letter)?;
            let url = if self.url.is_empty() { secret.text()? } else { &self.url };
            let answer =
                http::ask("Teams", self.client.post(url).json(&message), self.clock.now()).await?.good("Teams")?;
            // The older connectors say in an answer with the status 200 that they are asked too often.
            if answer.text.contains("HTTP error 429") {
                return Err(Failure::NotTaken {
                    reason: format!("Teams answered {}", answer.told()),
                    retry_after: None,
                });
            }
            Ok(Receipt::said(answer.told()))
        })
    }
}

/// The message with its card.
pub fn message(letter: &Letter<'_>) -> Result<Value, Failure> {
    let fitted = letter.doc.fit(|parts| {
        let message = json!({
            "type": "message",
            "attachments": [{
                "contentType": "application/vnd.microsoft.card.adaptive",
                "contentUrl": null,
                "content": card(letter, parts),
            }],
        });
        (message.to_string().len() <= MOST).then_some(message)
    });
    fitted.ok_or_else(|| Failure::Refused("it does not fit into a card of Teams".into()))
}

fn card(letter: &Letter<'_>, parts: &[Vec<Line>]) -> Value {
    let colour = match letter.severity() {
        "critical" | "high" => "attention",
        "medium" => "warning",
        _ => "default",
    };
    let mut body = vec![json!({
        "type": "RichTextBlock",
        "inlines": [{ "type": "TextRun", "text": letter.doc.title, "size": "large", "weight": "bolder", "color": colour }],
    })];
    let mut buttons = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        let mut items = Vec::new();
        for line in part {
            if let Line::Link(label, url) = line {
                if buttons.len() < MOST_BUTTONS {
                    buttons.push(json!({ "type": "Action.OpenUrl", "title": chars(label, 60), "url": url }));
                }
                continue;
            }
            items.push(json!({ "type": "RichTextBlock", "spacing": "small", "inlines": runs(line) }));
        }
        if !items.is_empty() {
            body.push(json!({ "type": "Container", "separator": at > 0, "spacing": "medium", "items": items }));
        }
    }
    if letter.may_be_repeat {
        let run = json!({ "type": "TextRun", "text": "may be a repeat", "isSubtle": true });
        body.push(json!({ "type": "RichTextBlock", "inlines": [run] }));
    }
    json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "fallbackText": letter.doc.title,
        "msteams": { "width": "Full" },
        "body": body,
        "actions": buttons,
    })
}

fn runs(line: &Line) -> Vec<Value> {
    let plain = |text: &str| json!({ "type": "TextRun", "text": text });
    match line {
        Line::Heading(text) => vec![json!({ "type": "TextRun", "text": text, "weight": "bolder" })],
        Line::Fact(label, value) => {
            vec![json!({ "type": "TextRun", "text": format!("{label}: "), "isSubtle": true }), plain(value)]
        }
        Line::Command(text) => vec![json!({ "type": "TextRun", "text": text, "fontType": "monospace" })],
        Line::Text(text) => vec![plain(text)],
        Line::Link(..) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{HOSTILE, facts_with, letter, many};
    use super::*;

    fn texts<'a>(value: &'a Value, kind: &str, out: &mut Vec<&'a str>) {
        if value["type"] == kind {
            out.extend(value["text"].as_str());
        }
        let inside =
            value.as_array().into_iter().flatten().chain(value.as_object().into_iter().flat_map(|map| map.values()));
        inside.for_each(|one| texts(one, kind, out));
    }

    #[test]
    fn a_hostile_value_stands_in_runs_alone_and_as_it_is() {
        for hostile in HOSTILE {
            let message = letter(&facts_with(hostile), |letter| message(letter).unwrap());
            let (mut blocks, mut runs) = (Vec::new(), Vec::new());
            texts(&message, "TextBlock", &mut blocks);
            texts(&message, "TextRun", &mut runs);
            assert!(blocks.is_empty() && runs.contains(&sakimori_respond::message::line(hostile).as_str()), "{runs:?}");
        }
    }

    #[test]
    fn a_card_is_within_its_bound_and_says_how_many_more_there_are() {
        let message = letter(&many(20), |letter| message(letter).unwrap());
        let text = message.to_string();
        assert!(text.len() <= MOST && text.contains("more; sakimori alerts"), "{}", text.len());
    }
}
