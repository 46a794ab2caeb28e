//! What a message looks like, without a channel or a manager: for who writes a template, and for the pictures of the guide.

use sakimori_content::files;
use sakimori_model::Timestamp;
use serde_json::{Value, json};

use super::doc::html;
use super::template::{Templates, check};
use super::{Letter, slack, teams};
use crate::config::Language;

/// A form in which it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Plain text: topics, tickets, the text of a mail.
    Text,
    /// HTML of a mail.
    Html,
    /// Blocks of Slack, JSON.
    Slack,
    /// A card of Teams, JSON.
    Teams,
}

/// An example of a message, by a template of the user's where one is given.
///
/// # Errors
/// The template does not load: the line and why.
pub fn preview(
    language: Language,
    zone: &str,
    form: Form,
    template: Option<&str>,
    ask: bool,
) -> Result<String, String> {
    let mut content = files::builtin();
    if let Some(text) = template {
        check(language, text)?;
        content.insert(format!("notify/{}/message.txt", language.name()), text.as_bytes().to_vec());
    }
    let facts = example(ask);
    let doc = Templates::load(&content, Some("https://sakimori.example")).words(language, zone)?.of(&facts);
    let body = facts.to_string();
    let letter = Letter {
        id: "0198c0de-0000-7000-8000-000000000001",
        may_be_repeat: false,
        reference: "",
        closes: None,
        created: Timestamp::from_secs(1_767_323_045),
        body: &body,
        facts: &facts,
        doc: &doc,
    };
    let shown = |value: Result<Value, super::Failure>| {
        value.map(|value| format!("{value:#}\n")).map_err(|error| error.to_string())
    };
    match form {
        Form::Text => Ok(format!("{}\n\n{}", doc.title, doc.plain(100_000))),
        Form::Html => Ok(html(language.name(), &doc.title, &doc.parts(doc.alerts.len()))),
        Form::Slack => shown(slack::message(&letter)),
        Form::Teams => shown(teams::message(&letter)),
    }
}

/// An alert with what was done about it, and a question where one is asked.
fn example(ask: bool) -> Value {
    let action = |id: &str, slug: &str, place: &str, until: &str| {
        let known = sakimori_respond::actions::find(slug);
        json!({
            "id": id, "action": slug, "title": known.map(|known| known.title_en), "title_ja": known.map(|known| known.title_ja),
            "target": "203.0.113.7", "place": place, "state": "done", "reason": null, "until": until,
            "undo": format!("sakimori actions undo {id}"), "undoable": true,
        })
    };
    let mut facts = json!({
        "form": 1, "kind": "alert", "id": "0198c0de", "time": "2026-01-02T03:04:06Z", "summary": "SSH brute force and 3 more",
        "severity": 75, "severity_name": "high", "count": 4,
        "alerts": [{
            "id": "3f2a91c05d7e4b1898aa5be0d1f2c344", "time": "2026-01-02T03:04:05Z",
            "rule": { "id": "ssh-brute-force", "title": "SSH brute force" },
            "severity": 75, "severity_name": "high", "source": "203.0.113.7", "user": "root", "host": "web1", "count": 12,
            "detail": null, "text": null, "more_actions": 0,
            "actions": [
                action("0198c0de7f1a", "block_address", "web1", "2026-01-02T04:04:05Z"),
                action("0198c0de7f1b", "waf_block", "manager", "2026-01-02T15:04:05Z"),
            ],
        }],
    });
    if let (true, Some(facts)) = (ask, facts.as_object_mut()) {
        facts.insert("ask".into(), json!({
            "question_en": "Isolate web1?", "question_ja": "web1 を隔離しますか?", "url": "https://sakimori.example/answer/e30.x",
            "allow_command": "sakimori playbook approve e --step '1'", "deny_command": "sakimori playbook deny e --step '1'",
            "until": "2026-01-02T03:34:05Z", "otherwise": "deny",
        }));
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_shows_the_example_in_every_language_and_a_wrong_template_its_line() {
        for language in Language::ALL {
            for form in [Form::Text, Form::Html, Form::Slack, Form::Teams] {
                for ask in [false, true] {
                    let shown = preview(*language, "Asia/Tokyo", form, None, ask).unwrap();
                    assert!(shown.contains("203.0.113.7") && shown.contains("actions undo 0198c0de7f1a"), "{shown}");
                    assert_eq!(shown.contains("/answer/e30.x"), ask, "{shown}");
                }
            }
        }
        let wrong = preview(Language::En, "UTC", Form::Text, Some("\n\n{% nonsense %}"), false).unwrap_err();
        assert!(wrong.starts_with("3: "), "{wrong}");
        let own = "{% if part == 'title' %}T{% else %}| {{ summary }}{% endif %}";
        assert!(
            preview(Language::En, "UTC", Form::Text, Some(own), false).unwrap().starts_with("T\n\nSSH brute force")
        );
    }
}
