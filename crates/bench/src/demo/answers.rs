//! Step 9 of the demo: the playbooks of the manager, each on an event of its kind: what was there before, what is there
//! after, and what is there after the undo, read by AWS's own SDK for Python (of messages: by the webhook that gets them).

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::field;
use super::table::{Line, Played, Told};
use crate::api::wait;
use crate::platform::{PATIENCE, Platform};
use crate::second_reader::SecondReader;
use crate::story::{FAKE, SIMULATOR, World};

const SCENE: &str = include_str!("scene.py");
const STEP: &str = "9 playbooks in AWS";
/// The kind of what the second reader is not asked about.
const MESSAGE: &str = "message";

/// A playbook, the event that begins it, and the thing that it is about: kind and name.
struct Case {
    playbook: &'static str,
    event: Value,
    thing: (&'static str, String),
}

/// An event of this rule.
fn event(rule: &str, name: &str, more: &Value) -> Value {
    let mut event = json!({"event": {"severity": 100}, "rule": {"id": rule, "name": name}});
    if let (Some(event), Some(more)) = (event.as_object_mut(), more.as_object()) {
        event.extend(more.clone());
    }
    event
}

fn cases(made: &Value) -> Vec<Case> {
    let name = |path: &str| field(made, path).to_owned();
    let (stays, malware) = ("finding-malware-stays", "Malware that is still there");
    let on_instance = |playbook, path: &str| {
        let id = name(path);
        let about = json!({"cloud": {"instance": {"id": id}}});
        Case { playbook, event: event(stays, malware, &about), thing: ("instance", id) }
    };
    let (key, bucket, desktop) = (name("/key"), name("/bucket"), name("/desktop"));
    let (network, sender) = ("198.18.5.0/24", "203.0.113.99");
    let stolen = json!({"user": {"name": "deploy"}, "sakimori": {"cloud": {"access_key": key}}});
    let case = |playbook, rule: &str, title: &str, about: Value, thing| Case {
        playbook,
        event: event(rule, title, &about),
        thing,
    };
    vec![
        on_instance("isolate-on-malware", "/instances/0"),
        on_instance("isolate-when-cleaning-failed", "/instances/1"),
        on_instance("replace-in-group", "/grouped"),
        on_instance("snapshot-and-terminate", "/instances/2"),
        case("deactivate-stolen-key", "finding-stolen-key", "Access key in foreign hands", stolen, ("key", key)),
        case(
            "close-open-bucket",
            "finding-open-bucket",
            "Bucket open to everybody",
            json!({"sakimori": {"cloud": {"bucket": bucket}}}),
            ("bucket", bucket),
        ),
        case("isolate-desktop", stays, malware, json!({"host": {"name": desktop}}), ("desktop", desktop)),
        case(
            "block-network-flood",
            "web-network-flood",
            "A network floods the site",
            json!({"sakimori": {"client_network": network}}),
            ("network", network.to_owned()),
        ),
        case(
            "block-finding-in-waf",
            "finding-intrusion",
            "Another product saw an attack",
            json!({"source": {"ip": sender}}),
            ("network", format!("{sender}/32")),
        ),
        case(
            "notify",
            "demo-for-duty",
            "For the people on duty",
            json!({}),
            (MESSAGE, "For the people on duty".into()),
        ),
        case("tell-the-team", "demo-for-team", "For the team", json!({}), (MESSAGE, "For the team".into())),
    ]
}

/// Plays them.
///
/// # Errors
/// A playbook did not do, or did not take back, what it says.
pub fn played(world: &World, platform: &Platform, told: &mut Told) -> Result<()> {
    let urls = [SIMULATOR, FAKE].map(|address| format!("http://{address}"));
    let mut scene = SecondReader::start(&world.lab, &world.python, SCENE, &urls)?;
    for case in cases(&scene.ask(&json!(["build"]))?) {
        one(world, platform, &mut scene, &case, told)?;
    }
    Ok(())
}

fn see(world: &World, scene: &mut SecondReader, (kind, name): (&str, &str)) -> Result<Value> {
    if kind != MESSAGE {
        return scene.ask(&json!(["see", kind, name]));
    }
    let all = world.messages.lock().map_err(|_| anyhow::anyhow!("the webhook failed"))?;
    let about = all.iter().filter(|message| message.to_string().contains(name)).count();
    Ok(json!({ "messages": about }))
}

/// Runs it to its end, with a person who says yes; the execution, and how long it took.
fn run(platform: &Platform, case: &Case) -> Result<(String, Duration)> {
    let playbook = case.playbook;
    let began = Instant::now();
    let body = json!({"event": case.event});
    let run = platform.api.call("POST", &format!("/api/v1/playbooks/{playbook}/run"), Some(body))?;
    let path = format!("/api/v1/executions/{}", field(&run, "/execution"));
    let mut found = Value::Null;
    wait(&format!("{playbook} is done"), PATIENCE, || {
        found = platform.api.get(&path).unwrap_or_default();
        let steps = found.pointer("/execution/steps").and_then(Value::as_object).cloned().unwrap_or_default();
        if steps.values().any(|step| field(step, "/state") == "waiting") {
            // The person on duty says yes; a second answer of the same person is refused.
            let _ = platform.api.call("POST", &format!("{path}/answer"), Some(json!({"allow": true})));
        }
        !matches!(field(&found, "/execution/state"), "running" | "")
    })?;
    if field(&found, "/execution/state") != "done" {
        bail!("{playbook}: {found}");
    }
    Ok((path, began.elapsed()))
}

fn one(world: &World, platform: &Platform, scene: &mut SecondReader, case: &Case, told: &mut Told) -> Result<()> {
    let Case { playbook, thing: (kind, name), .. } = case;
    let thing = (*kind, name.as_str());
    let before = see(world, scene, thing)?;
    let (path, done) = run(platform, case)?;
    if *kind == MESSAGE {
        // Sent is not yet read by who gets it.
        wait("the message is there", PATIENCE, || see(world, scene, thing).is_ok_and(|now| now != before))?;
    }
    let after = see(world, scene, thing)?;
    let changed = differences(&before, &after);
    if changed.is_empty() {
        bail!("{playbook} changed nothing: {after}");
    }
    let changed = changed.join(", ");
    let seen = (*playbook).to_owned();
    told.lines.push(Line { step: STEP, seen, answered: changed.clone(), took: done });
    let began = Instant::now();
    platform.api.call("POST", &format!("{path}/undo"), None)?;
    let mut found = Value::Null;
    wait(&format!("{playbook} is taken back"), PATIENCE, || {
        found = platform.api.get(&path).unwrap_or_default();
        field(&found, "/execution/state") == "undone"
    })?;
    let undone = began.elapsed();
    let kept = found.pointer("/execution/steps").and_then(Value::as_object).context("no steps")?;
    let kept = kept.values().filter(|step| field(step, "/state") == "kept").count();
    let left = differences(&before, &see(world, scene, thing)?);
    // Evidence stays, a message that was read, and what a termination does; nothing else may.
    let lasting: &[&str] = match *playbook {
        "snapshot-and-terminate" => &["snapshots ", "state ", "served by ", "groups ", "member of "],
        "notify" | "tell-the-team" => &["messages "],
        _ => &["snapshots "],
    };
    let may_stay = |change: &String| lasting.iter().any(|name| change.starts_with(name));
    if let Some(change) = left.iter().find(|change| !may_stay(change)) {
        bail!("{playbook} taken back, but {change}; before: {before}");
    }
    let equal = match left.is_empty() {
        true => "equal".to_owned(),
        false => format!("equal, but {}", left.join(", ")),
    };
    let answered = match left.is_empty() {
        true => "as before, field by field".to_owned(),
        false => format!("{kept} steps cannot be taken back: {}", left.join(", ")),
    };
    told.lines.push(Line { step: STEP, seen: format!("{playbook}, taken back"), answered, took: undone });
    told.played.push(Played { playbook, step: STEP, changed, done, undone, equal });
    Ok(())
}

/// Longest value that is shown, in characters.
const SHOWN: usize = 40;

/// What differs, a few words each.
fn differences(before: &Value, after: &Value) -> Vec<String> {
    let (Some(before), Some(after)) = (before.as_object(), after.as_object()) else { return Vec::new() };
    let differs = after.iter().filter(|(name, value)| before.get(*name) != Some(value));
    // Tags hold ids that nobody reads; what they are for is in the groups.
    let told = differs.filter(|(name, _)| *name != "tags" || after.get("groups") == before.get("groups"));
    let words = |value: Option<&Value>| {
        let text = words(value.unwrap_or(&Value::Null));
        match text.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
            None => text,
        }
    };
    told.map(|(name, value)| format!("{name} {} → {}", words(before.get(name)), words(Some(value)))).collect()
}

/// A value without its brackets; ids of network interfaces are left out.
fn words(value: &Value) -> String {
    let some = match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(all) => all.iter().map(words).collect::<Vec<_>>().join(" "),
        Value::Object(all) => {
            let one = |(name, value): (&String, &Value)| match name.starts_with("eni-") {
                true => words(value),
                false => format!("{name}={}", words(value)),
            };
            all.iter().map(one).collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    };
    if some.is_empty() { "nothing".to_owned() } else { some }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_said_in_words_and_tags_only_where_the_groups_do_not_say_it() {
        let before = json!({"groups": {"eni-1": ["web"]}, "tags": [], "served by": [["web", 80]], "state": "running"});
        let after = json!({"groups": {"eni-1": ["shut"]}, "tags": [["a", "b"]], "served by": [], "state": "running"});
        assert_eq!(differences(&before, &after), ["groups web → shut", "served by web 80 → nothing"]);
        assert_eq!(differences(&before, &before), Vec::<String>::new());
        let tagged = json!({"groups": {"eni-1": ["web"]}, "tags": [["a", "b"]]});
        assert_eq!(differences(&before, &tagged), ["tags nothing → a b"]);
        let long = json!({"state": "x".repeat(100)});
        assert_eq!(differences(&before, &long), [format!("state running → {}…", "x".repeat(SHOWN))]);
    }
}
