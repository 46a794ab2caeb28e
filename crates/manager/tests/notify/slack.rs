//! Slack, after its reference of blocks, incoming webhooks and `chat.postMessage`.

use serde_json::{Value, json};

use super::fake::{Fake, Fault, Reply, Request, fields, is_json, text};
use super::site::{HOSTILE, Site, channel, secret};

fn composition(object: &Value, most: usize, at: &str) -> Result<(), String> {
    match object["type"].as_str() {
        Some("plain_text") => fields(object, &["type", "text"], &["emoji"], at)?,
        Some("mrkdwn") => fields(object, &["type", "text"], &["verbatim"], at)?,
        other => return Err(format!("{at}.type {other:?}")),
    }
    text(&object["text"], most, at)
}

fn blocks(blocks: &Value) -> Result<(), String> {
    let blocks = blocks.as_array().ok_or("blocks is no list")?;
    if blocks.is_empty() || blocks.len() > 50 {
        return Err(format!("{} blocks", blocks.len()));
    }
    for block in blocks {
        match block["type"].as_str() {
            Some("header") => {
                fields(block, &["type", "text"], &["block_id"], "header")?;
                if block["text"]["type"] != "plain_text" {
                    return Err("header.text is no plain_text".into());
                }
                composition(&block["text"], 150, "header.text")?;
            }
            Some("section") => {
                fields(block, &["type", "text"], &["block_id"], "section")?;
                composition(&block["text"], 3_000, "section.text")?;
            }
            Some("divider") => fields(block, &["type"], &["block_id"], "divider")?,
            Some("context") => {
                fields(block, &["type", "elements"], &["block_id"], "context")?;
                for element in block["elements"].as_array().ok_or("context.elements")? {
                    composition(element, 3_000, "context.elements")?;
                }
            }
            other => return Err(format!("no block {other:?}")),
        }
    }
    Ok(())
}

fn hook(request: &Request) -> Reply {
    let judged = is_json(request).and_then(|()| {
        if request.path != "/services/T0/B0/abcdefghijklmnop" {
            return Err("no_service".into());
        }
        fields(&request.body, &["text"], &["blocks"], "message")?;
        blocks(&request.body["blocks"])
    });
    match judged {
        Ok(()) => Reply { status: 200, body: "ok".into() },
        Err(reason) => Reply { status: 400, body: format!("invalid_blocks {reason}") },
    }
}

fn bot(request: &Request) -> Reply {
    let judged = is_json(request).and_then(|()| {
        if request.headers.get("content-type").map(String::as_str) != Some("application/json; charset=utf-8") {
            return Err("missing_charset".into());
        }
        if request.headers.get("authorization").map(String::as_str) != Some("Bearer xoxb-1234567890") {
            return Err("invalid_auth".into());
        }
        fields(&request.body, &["channel", "text", "blocks"], &["unfurl_links", "unfurl_media"], "message")?;
        blocks(&request.body["blocks"])
    });
    match judged {
        Ok(()) => Reply::json(200, json!({"ok": true, "channel": "C1", "ts": "1767323045.000100", "message": {}})),
        Err(reason) => Reply::json(200, json!({"ok": false, "error": reason})),
    }
}

#[test]
fn a_webhook_of_slack_takes_a_message_and_nothing_in_it_mentions_anybody() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start(hook);
    let mut ops = channel("slack", "", &[]);
    ops.secret_file = secret(dir.path(), &format!("{}/services/T0/B0/abcdefghijklmnop", fake.url));
    let mut site = Site::start(dir.path(), vec![ops]);
    fake.fail([Fault::Busy(90)]);
    let message = site.told();
    assert_eq!(fake.refused(), [] as [String; 0]);
    let tries = site.tries(&message);
    assert_eq!(tries.iter().map(|one| one.outcome.as_str()).collect::<Vec<_>>(), ["not_taken", "delivered"]);
    assert!(tries[1].began - tries[0].ended.unwrap() >= 90_000_000, "it was left alone as long as it asked");
    let sent = fake.seen().last().unwrap().body.to_string();
    assert!(
        !sent.contains("<!channel>") && sent.contains("&lt;!channel&gt;") && sent.contains("Look at it."),
        "{sent}"
    );
    assert!(sent.contains("https://console.example/api/v1/alerts/"), "{sent}");
    // The hook's address is a secret: it is in no answer and no list.
    let kept = format!("{:?}{tries:?}", site.message(&message.id));
    assert!(!kept.contains("abcdefghijklmnop") && HOSTILE.len() > 9, "{kept}");
    site.stop();
}

#[test]
fn a_bot_of_slack_writes_and_what_slack_refuses_in_an_answer_of_200_is_a_dead_letter() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start(bot);
    let mut ops = channel("slack", &fake.url, &[("channel", "C0123456789")]);
    ops.secret_file = secret(dir.path(), "xoxb-1234567890");
    let mut site = Site::start(dir.path(), vec![ops.clone()]);
    let message = site.told();
    assert_eq!((fake.refused().len(), message.reference.as_str()), (0, "1767323045.000100"));
    site.stop();
    let other = tempfile::tempdir().unwrap();
    ops.secret_file = secret(other.path(), "xoxb-of-somebody");
    let mut site = Site::start(other.path(), vec![ops]);
    let alert = site.alert();
    let id = site.tell(&alert, &[]);
    let dead = site.over(&id);
    assert!(dead.reason.contains("invalid_auth") && !dead.reason.contains("xoxb"), "{}", dead.reason);
    site.stop();
}
