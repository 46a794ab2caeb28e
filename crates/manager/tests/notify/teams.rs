//! Teams, after the schema of Adaptive Cards 1.4 and what its workflows take.

use serde_json::Value;

use super::fake::{Fake, Reply, Request, fields, is_json, text};
use super::site::{HOSTILE, Site, channel, secret};

fn element(element: &Value) -> Result<(), String> {
    match element["type"].as_str() {
        Some("RichTextBlock") => {
            fields(element, &["type", "inlines"], &["spacing", "separator", "horizontalAlignment"], "RichTextBlock")?;
            for run in element["inlines"].as_array().ok_or("inlines")? {
                let may = ["size", "weight", "color", "isSubtle", "fontType", "italic", "strikethrough", "highlight"];
                fields(run, &["type", "text"], &may, "TextRun")?;
                text(&run["text"], 10_000, "TextRun.text")?;
            }
            Ok(())
        }
        Some("Container") => {
            fields(element, &["type", "items"], &["separator", "spacing", "style"], "Container")?;
            element["items"].as_array().ok_or("items")?.iter().try_for_each(self::element)
        }
        other => Err(format!("no element {other:?}")),
    }
}

fn card(request: &Request) -> Result<(), String> {
    is_json(request)?;
    if request.bytes > 28 * 1_024 {
        return Err(format!("{} bytes", request.bytes));
    }
    fields(&request.body, &["type", "attachments"], &["summary"], "message")?;
    let [attachment] = request.body["attachments"].as_array().ok_or("attachments")?.as_slice() else {
        return Err("attachments".into());
    };
    fields(attachment, &["contentType", "content"], &["contentUrl"], "attachment")?;
    if attachment["contentType"] != "application/vnd.microsoft.card.adaptive" || !attachment["contentUrl"].is_null() {
        return Err("attachment is no card".into());
    }
    let card = &attachment["content"];
    fields(card, &["$schema", "type", "version", "body"], &["actions", "fallbackText", "msteams", "lang"], "card")?;
    if card["type"] != "AdaptiveCard" || card["version"] != "1.4" {
        return Err("card.version".into());
    }
    card["body"].as_array().ok_or("body")?.iter().try_for_each(element)?;
    for action in card["actions"].as_array().into_iter().flatten() {
        fields(action, &["type", "title", "url"], &[], "action")?;
        let url = action["url"].as_str().unwrap_or_default();
        if action["type"] != "Action.OpenUrl" || !url.starts_with("https://") {
            return Err(format!("action {action}"));
        }
    }
    Ok(())
}

#[test]
fn a_workflow_of_teams_takes_a_card_in_japanese() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start(|request| match card(request) {
        Ok(()) => Reply { status: 202, body: String::new() },
        Err(reason) => Reply { status: 400, body: reason },
    });
    let mut ops = channel("teams", "", &[]);
    ops.language = sakimori_manager::config::Language::Ja;
    ops.zone = "Asia/Tokyo".into();
    ops.secret_file = secret(dir.path(), &format!("{}/workflows/1?sig=abcdefghijkl", fake.url));
    let mut site = Site::start(dir.path(), vec![ops]);
    let alert = site.alert();
    let ask = serde_json::json!({
        "execution": "e", "step": "1", "en": "Isolate web1?", "ja": "web1 を隔離しますか?", "until": site.now(),
        "otherwise": "deny",
    });
    let id = site.tell(&alert, &[("ask", &ask.to_string())]);
    site.sent(&id);
    assert_eq!(fake.refused(), [] as [String; 0]);
    let sent = fake.seen().last().unwrap().body.to_string();
    for needed in
        ["回答が必要", "web1 を隔離しますか?", "https://console.example/answer/", "JST", "実行されません", "ホスト"]
    {
        assert!(sent.contains(needed), "{needed}: {sent}");
    }
    assert!(sent.contains("[x](javascript:y)") && HOSTILE.contains("[x]"), "as it is, in a run of text");
    site.stop();
}
