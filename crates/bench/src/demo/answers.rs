//! Step 9 of the demo: the playbooks that act in a cloud account, each on an event of its kind: what was there before, what
//! is there after, and what is there after the undo, read by AWS's own SDK for Python.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{Line, field};
use crate::api::wait;
use crate::platform::{PATIENCE, Platform};
use crate::story::World;

const SCENE: &str = include_str!("scene.py");
/// What the second reader is asked about.
type Thing<'a> = (&'a str, &'a str);

/// Asks the second reader.
fn scene(world: &World, arguments: &[&str]) -> Result<Value> {
    let mut all = vec!["-c", SCENE, "http://127.0.0.1:5000"];
    all.extend(arguments);
    let out = world.lab.command("manager", &world.python)?.args(all).output()?;
    if !out.status.success() {
        bail!("the second reader: {}", String::from_utf8_lossy(&out.stderr));
    }
    Ok(serde_json::from_slice(&out.stdout)?)
}

/// Plays them.
///
/// # Errors
/// A playbook did not do, or did not take back, what it says.
pub fn played(world: &World, platform: &Platform, lines: &mut Vec<Line>) -> Result<()> {
    let made = scene(world, &["build"])?;
    let instance = |at: usize| field(&made, &format!("/instances/{at}")).to_owned();
    let of = |id: &str| {
        json!({"cloud": {"instance": {"id": id}}, "event": {"severity": 100},
        "rule": {"id": "finding-malware-stays", "name": "Malware that is still there"}})
    };
    let (first, second, third) = (instance(0), instance(1), instance(2));
    let (grouped, key, bucket) = (field(&made, "/grouped"), field(&made, "/key"), field(&made, "/bucket"));
    let stolen = json!({"user": {"name": "deploy"}, "sakimori": {"cloud": {"access_key": key}},
        "rule": {"id": "finding-stolen-key", "name": "Access key in foreign hands"}});
    let open = json!({"sakimori": {"cloud": {"bucket": bucket}},
        "rule": {"id": "finding-open-bucket", "name": "Bucket open to everybody"}});
    let all: [(&str, Value, Thing<'_>); 6] = [
        ("isolate-on-malware", of(&first), ("instance", &first)),
        ("isolate-when-cleaning-failed", of(&second), ("instance", &second)),
        ("replace-in-group", of(grouped), ("instance", grouped)),
        ("deactivate-stolen-key", stolen, ("key", key)),
        ("close-open-bucket", open, ("bucket", bucket)),
        ("snapshot-and-terminate", of(&third), ("instance", &third)),
    ];
    for (playbook, event, (kind, name)) in all {
        one(world, platform, (playbook, &event), (kind, name), lines)?;
    }
    Ok(())
}

fn one(
    world: &World,
    platform: &Platform,
    (playbook, event): (&str, &Value),
    (kind, name): Thing<'_>,
    lines: &mut Vec<Line>,
) -> Result<()> {
    let step = "9 playbooks in AWS";
    let see = || scene(world, &["see", kind, name]);
    let before = see()?;
    let began = Instant::now();
    let run = platform.api.call("POST", &format!("/api/v1/playbooks/{playbook}/run"), Some(json!({"event": event})))?;
    let id = field(&run, "/execution").to_owned();
    let path = format!("/api/v1/executions/{id}");
    let state = || platform.api.get(&path).map(|found| field(&found, "/execution/state").to_owned());
    let asks = || {
        let found = platform.api.get(&path).unwrap_or_default();
        let steps = found.pointer("/execution/steps").and_then(Value::as_object).cloned().unwrap_or_default();
        steps.values().any(|step| field(step, "/state") == "waiting")
    };
    wait(&format!("{playbook} is done"), PATIENCE, || {
        if asks() {
            // The person on duty says yes; a second answer of the same person is refused.
            let _ = platform.api.call("POST", &format!("{path}/answer"), Some(json!({"allow": true})));
        }
        state().is_ok_and(|state| state != "running")
    })?;
    if state()? != "done" {
        bail!("{playbook}: {}", platform.api.get(&path)?);
    }
    let took = began.elapsed();
    let after = see()?;
    let changed = differences(&before, &after);
    if changed.is_empty() {
        bail!("{playbook} changed nothing: {after}");
    }
    lines.push(Line { step, seen: playbook.to_owned(), answered: changed.join(", "), took });
    let began = Instant::now();
    platform.api.call("POST", &format!("{path}/undo"), None)?;
    wait(&format!("{playbook} is taken back"), PATIENCE, || state().is_ok_and(|state| state == "undone"))?;
    let took = began.elapsed();
    let found = platform.api.get(&path)?;
    let kept = found.pointer("/execution/steps").and_then(Value::as_object).context("no steps")?;
    let kept = kept.values().filter(|step| field(step, "/state") == "kept").count();
    let left = differences(&before, &see()?);
    // Evidence stays, and what a termination does; nothing else may.
    let lasting: &[&str] = match playbook {
        "snapshot-and-terminate" => &["snapshots ", "state ", "served by ", "groups ", "member of "],
        _ => &["snapshots "],
    };
    let may_stay = |change: &String| lasting.iter().any(|name| change.starts_with(name));
    if let Some(change) = left.iter().find(|change| !may_stay(change)) {
        bail!("{playbook} taken back, but {change}; before: {before}");
    }
    let answered = match left.is_empty() {
        true => "as before, field by field".to_owned(),
        false => format!("{kept} steps cannot be taken back: {}", left.join(", ")),
    };
    lines.push(Line { step, seen: format!("{playbook}, taken back"), answered, took });
    Ok(())
}

/// What differs, a few words each.
fn differences(before: &Value, after: &Value) -> Vec<String> {
    let (Some(before), Some(after)) = (before.as_object(), after.as_object()) else { return Vec::new() };
    let short =
        |value: Option<&Value>| value.map(Value::to_string).unwrap_or_default().chars().take(36).collect::<String>();
    let differs = after.iter().filter(|(name, value)| before.get(*name) != Some(value));
    // Tags hold ids that nobody reads; what they are for is in the groups.
    let told = differs.filter(|(name, _)| *name != "tags" || after.get("groups") == before.get("groups"));
    told.map(|(name, value)| format!("{name} {} → {}", short(before.get(name)), short(Some(value)))).collect()
}
