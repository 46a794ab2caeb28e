//! `playbook`: what is done about alerts, step by step: list, check, test against the past, run, show, approve, undo.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use reqwest::Method;
use sakimori_respond::playbook::Playbook;
use serde_json::{Map, Value, json};

use super::{block_on, with_api};
use crate::api::{Api, part};
use crate::args::Shared;
use crate::output::{self, text};

#[derive(Debug, Subcommand)]
#[command(
    after_help = "Examples:\n  sakimori playbook list\n  sakimori playbook test isolate-on-malware --since 30d\n  \
                        sakimori playbook run isolate-on-malware --alert 5f0c… --dry-run\n  \
                        sakimori playbook show\n  sakimori playbook approve 019a…\n  sakimori playbook undo 019a…"
)]
pub enum PlaybookCommand {
    /// List the playbooks in force, and whether each runs here
    List,
    /// Check files, without a manager: can they be used, and what may they do?
    Check {
        /// YAML files
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Say what a playbook would have done about the alerts of the last days; nothing is done
    Test {
        /// Id of a playbook in force, or a file
        playbook: String,
        /// How far back: 90s, 30m, 1h or 7d
        #[arg(long, default_value = "30d", value_parser = seconds)]
        since: i64,
    },
    /// Begin a playbook by hand
    Run {
        /// Id of the playbook
        playbook: String,
        /// Id of the alert that it is about
        #[arg(long, conflicts_with_all = ["event", "set"])]
        alert: Option<String>,
        /// A file with the event that it is about, nested ECS JSON; - for standard input
        #[arg(long, value_name = "FILE")]
        event: Option<PathBuf>,
        /// A field of the event, again and again: --set cloud.instance.id=i-0a1b
        #[arg(long, value_name = "FIELD=VALUE")]
        set: Vec<String>,
        /// Say what would be done, and do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Show what executions did and wait for; one with each of its steps
    Show {
        /// Id of the execution; the newest where absent
        execution: Option<String>,
        /// Only of this playbook
        #[arg(long, default_value = "")]
        playbook: String,
        /// Only those that are running, done, failed, …
        #[arg(long, default_value = "", value_name = "STATE")]
        only: String,
    },
    /// Allow what an execution asks
    Approve {
        /// Id of the execution
        execution: String,
        /// The step that asks, where several do
        #[arg(long)]
        step: Option<String>,
        /// Why, for those who read the execution
        #[arg(long, default_value = "")]
        comment: String,
    },
    /// Forbid what an execution asks
    Deny {
        /// Id of the execution
        execution: String,
        /// The step that asks, where several do
        #[arg(long)]
        step: Option<String>,
        /// Why, for those who read the execution
        #[arg(long, default_value = "")]
        comment: String,
    },
    /// Take back all that an execution did, the last first
    Undo {
        /// Id of the execution
        execution: String,
    },
}

/// Seconds of `90s`, `30m`, `1h`, `7d`.
fn seconds(text: &str) -> Result<i64, String> {
    let wrong = || format!("{text} is not a time like 90s, 30m, 1h or 7d");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    number.parse::<i64>().ok().and_then(|number| number.checked_mul(unit)).filter(|all| *all > 0).ok_or_else(wrong)
}

pub fn run(shared: &Shared, command: PlaybookCommand) -> Result<ExitCode> {
    let json = shared.json;
    match command {
        PlaybookCommand::Check { files } => check(&files, json),
        PlaybookCommand::List => with_api(shared, async |api| list(&api, json).await),
        PlaybookCommand::Test { playbook, since } => {
            with_api(shared, async |api| test(&api, &playbook, since, json).await)
        }
        PlaybookCommand::Run { playbook, alert, event, set, dry_run } => {
            let event = event_of(event, &set)?;
            let body = json!({ "alert": alert, "event": event, "dry_run": dry_run });
            with_api(shared, async |api| begin(&api, &playbook, &body, json).await)
        }
        PlaybookCommand::Show { execution: Some(id), .. } => {
            let api = Api::open(shared)?;
            let found = block_on(api.get(&format!("/api/v1/executions/{}", part(&id)), &[]))?;
            if json {
                output::json(&found)?
            } else {
                detail(&found)?
            }
            Ok(ExitCode::SUCCESS)
        }
        PlaybookCommand::Show { execution: None, playbook, only } => {
            with_api(shared, async |api| executions(&api, playbook, only, json).await)
        }
        PlaybookCommand::Approve { execution, step, comment } => {
            answer(shared, &execution, &json!({ "step": step, "allow": true, "comment": comment }))
        }
        PlaybookCommand::Deny { execution, step, comment } => {
            answer(shared, &execution, &json!({ "step": step, "allow": false, "comment": comment }))
        }
        PlaybookCommand::Undo { execution } => with_api(shared, async |api| {
            let path = format!("/api/v1/executions/{}/undo", part(&execution));
            let found = api.send(Method::POST, &path, &json!({})).await?;
            if json {
                return output::json(&found);
            }
            output::line(format!("{execution} is being taken back; sakimori playbook show {execution} tells how far"))
        }),
    }
}

fn answer(shared: &Shared, execution: &str, given: &Value) -> Result<ExitCode> {
    with_api(shared, async |api| {
        let path = format!("/api/v1/executions/{}/answer", part(execution));
        let found = api.send(Method::POST, &path, given).await?;
        if shared.json {
            return output::json(&found);
        }
        output::line(if given["allow"] == true { "allowed; it goes on" } else { "denied; it ends" })
    })
}

fn check(files: &[PathBuf], json: bool) -> Result<ExitCode> {
    let (mut good, mut out) = (true, Vec::new());
    for path in files {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
        match Playbook::parse(&shown, &text) {
            Ok(playbook) => {
                let mut actions: Vec<&str> = playbook.acts().iter().map(|act| act.action.id).collect();
                actions.dedup();
                let lasting: Vec<&str> = playbook
                    .acts()
                    .iter()
                    .filter(|act| act.action.undo.is_none() && act.action.id != "notify")
                    .map(|act| act.action.id)
                    .collect();
                if !json {
                    let kind = if playbook.is_plain() { "orders at once" } else { "step by step" };
                    output::line(format!("{shown}: good; {} ({kind}): {}", playbook.id, actions.join(", ")))?;
                    if !lasting.is_empty() {
                        output::line(format!("  cannot be taken back: {}", lasting.join(", ")))?;
                    }
                }
                out.push(
                    json!({ "file": shown, "good": true, "id": playbook.id, "actions": actions, "lasting": lasting }),
                );
            }
            Err(error) => {
                good = false;
                if !json {
                    output::line(format!("{}{error}{}", output::BAD, output::PLAIN))?;
                }
                out.push(json!({ "file": shown, "good": false, "line": error.line, "reason": error.reason }));
            }
        }
    }
    if json {
        output::json(&out)?;
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn list(api: &Api, json: bool) -> Result<()> {
    let answer = api.get("/api/v1/playbooks", &[]).await?;
    let items = answer.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    if json {
        return output::json(&items);
    }
    let rows: Vec<Vec<String>> = items
        .iter()
        .map(|one| {
            let on = one.get("on") == Some(&Value::Bool(true));
            let words = |name: &str| {
                let list = one.get(name).and_then(Value::as_array).into_iter().flatten();
                list.filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
            };
            let state = if on { "on" } else { "off" };
            let title = text(one, "title");
            vec![text(one, "id"), state.to_owned(), text(one, "scope"), text(one, "trigger"), words("actions"), title]
        })
        .collect();
    output::table(&["playbook", "runs", "where", "begun by", "actions", "title"], &rows, "there is no playbook")?;
    output::line("one is switched on by policy: response.playbooks_on, and off: response.playbooks_off")
}

async fn test(api: &Api, playbook: &str, since: i64, json: bool) -> Result<()> {
    let path = std::path::Path::new(playbook);
    let file = (playbook.ends_with(".yml") || playbook.ends_with(".yaml")) && path.is_file();
    let written = match file {
        true => Some(std::fs::read_to_string(path).with_context(|| format!("cannot read {playbook}"))?),
        false => None,
    };
    if let Some(written) = &written {
        Playbook::parse(playbook, written)?;
    }
    let id = if file { "of-a-file" } else { playbook };
    let body = json!({ "text": written, "since_seconds": since });
    let found = api.send(Method::POST, &format!("/api/v1/playbooks/{}/rehearse", part(id)), &body).await?;
    if json {
        return output::json(&found);
    }
    let count = |name: &str| found.get(name).and_then(Value::as_u64).unwrap_or(0);
    let more = match (found.get("stopped"), found.get("more")) {
        (Some(Value::Bool(true)), _) => " (it took too long and was stopped: the newest are left out)",
        (_, Some(Value::Bool(true))) => " (the newest; there are more)",
        _ => "",
    };
    output::line(format!("{} alerts looked at{more}, {} would have begun it", count("looked_at"), count("begun")))?;
    let rows: Vec<Vec<String>> = pairs(&found, "orders")
        .into_iter()
        .map(|(action, orders)| {
            let targets = found.get("targets").and_then(|all| all.get(&action)).map(ToString::to_string);
            vec![action, orders, targets.unwrap_or_default()]
        })
        .collect();
    if !rows.is_empty() {
        output::table(&["action", "orders", "different targets"], &rows, "")?;
    }
    for (state, count) in pairs(&found, "ends") {
        output::line(format!("ends {state}: {count}"))?;
    }
    for one in found.get("told").and_then(Value::as_array).into_iter().flatten().take(20) {
        let reason = text(one, "reason");
        let end = if reason.is_empty() { text(one, "ends") } else { format!("{}: {reason}", text(one, "ends")) };
        output::line(format!("{} {} {}: {end}", text(one, "time"), text(one, "rule"), text(one, "alert")))?;
        for would in one.get("would").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            output::line(format!("  {would}"))?;
        }
    }
    Ok(())
}

fn pairs(value: &Value, name: &str) -> Vec<(String, String)> {
    let object = value.get(name).and_then(Value::as_object).into_iter().flatten();
    object.map(|(key, value)| (key.clone(), value.to_string())).collect()
}

/// The event of `--event` and `--set`.
fn event_of(file: Option<PathBuf>, set: &[String]) -> Result<Option<Map<String, Value>>> {
    let mut event = match file {
        None if set.is_empty() => return Ok(None),
        None => Map::new(),
        Some(path) => {
            let shown = path.display();
            let read = match path.to_str() {
                Some("-") => std::io::read_to_string(std::io::stdin()).context("cannot read standard input")?,
                _ => std::fs::read_to_string(&path).with_context(|| format!("cannot read {shown}"))?,
            };
            match serde_json::from_str(&read).with_context(|| format!("{shown} is no JSON"))? {
                Value::Object(object) => object,
                _ => bail!("{shown} holds no JSON object; an event is one"),
            }
        }
    };
    for one in set {
        let Some((path, value)) = one.split_once('=') else {
            bail!("{one:?} sets nothing; write --set cloud.instance.id=i-0a1b");
        };
        let mut at = &mut event;
        let mut parts: Vec<&str> = path.split('.').collect();
        let last = parts.pop().unwrap_or_default();
        for name in parts {
            let below = at.entry(name).or_insert_with(|| Value::Object(Map::new()));
            at = below.as_object_mut().with_context(|| format!("{path}: {name} is a value already"))?;
        }
        at.insert(last.to_owned(), Value::String(value.to_owned()));
    }
    Ok(Some(event))
}

async fn begin(api: &Api, playbook: &str, body: &Value, json: bool) -> Result<()> {
    let found = api.send(Method::POST, &format!("/api/v1/playbooks/{}/run", part(playbook)), body).await?;
    if json {
        return output::json(&found);
    }
    let execution = text(&found, "execution");
    if !execution.is_empty() {
        return output::line(format!("begun: {execution}; sakimori playbook show {execution} tells how far it is"));
    }
    for would in found.get("would").and_then(Value::as_array).into_iter().flatten() {
        output::line(format!("would {}", text(would, "text")))?;
        for change in would.get("changes").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            output::line(format!("  {change}"))?;
        }
    }
    let reason = text(&found, "reason");
    output::line(format!("it would end {}{}{reason}", text(&found, "ends"), if reason.is_empty() { "" } else { ": " }))
}

async fn executions(api: &Api, playbook: String, state: String, json: bool) -> Result<()> {
    let answer = api.get("/api/v1/executions", &[("playbook", playbook), ("state", state)]).await?;
    let items = answer.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    if json {
        return output::json(&items);
    }
    let rows: Vec<Vec<String>> = items
        .iter()
        .map(|one| ["started", "id", "playbook", "state", "by", "reason"].map(|name| text(one, name)).to_vec())
        .collect();
    output::table(&["started", "execution", "playbook", "state", "by", "why"], &rows, "no playbook was at work")
}

fn detail(found: &Value) -> Result<()> {
    let empty = Value::Null;
    let execution = found.get("execution").unwrap_or(&empty);
    let names = ["id", "playbook", "state", "reason", "alert", "by", "started", "revision"];
    output::pairs(&names.map(|name| (name, text(execution, name))))?;
    let mut steps: Vec<(&String, &Value)> =
        execution.get("steps").and_then(Value::as_object).into_iter().flatten().collect();
    steps.sort_by_key(|(_, step)| step.get("number").and_then(Value::as_u64));
    let actions = found.get("actions").and_then(Value::as_array).cloned().unwrap_or_default();
    let rows: Vec<Vec<String>> = steps
        .into_iter()
        .map(|(place, step)| {
            let id = text(step, "action");
            let action = actions.iter().find(|one| one.pointer("/order/id").and_then(Value::as_str) == Some(&id));
            let what = match action.and_then(|one| one.get("order")) {
                Some(order) => format!("{} {}", text(order, "action"), target(order)),
                None => step.pointer("/question/en").and_then(Value::as_str).unwrap_or_default().to_owned(),
            };
            vec![place.clone(), text(step, "state"), text(step, "since"), what, id, text(step, "reason")]
        })
        .collect();
    output::table(&["step", "state", "since", "what", "action", "why"], &rows, "nothing has begun")?;
    for answer in found.get("answers").and_then(Value::as_array).into_iter().flatten() {
        let word = if answer.get("allow") == Some(&Value::Bool(true)) { "allowed" } else { "denied" };
        let (person, step, time) = (text(answer, "person"), text(answer, "step"), text(answer, "time"));
        output::line(format!("{person} {word} step {step} at {time}"))?;
    }
    Ok(())
}

fn target(order: &Value) -> String {
    let target = order.get("target").and_then(Value::as_object);
    target.and_then(|one| one.values().next()).and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_become_a_nested_event() {
        let set = ["cloud.instance.id=i-1".to_owned(), "cloud.region=x=y".to_owned()];
        let event = Value::Object(event_of(None, &set).unwrap().unwrap());
        assert_eq!(event, json!({"cloud": {"instance": {"id": "i-1"}, "region": "x=y"}}));
        assert!(event_of(None, &["nothing".to_owned()]).is_err());
        assert!(event_of(None, &["a=1".to_owned(), "a.b=2".to_owned()]).is_err());
        assert!(event_of(None, &[]).unwrap().is_none());
        assert_eq!((seconds("30d"), seconds("90s")), (Ok(2_592_000), Ok(90)));
        for wrong in ["", "d", "-1d", "0s", "5", "99999999999999999999d", "é"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
