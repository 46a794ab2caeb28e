//! `actions`: what was done about alerts, taking it back, and blocking by hand.

use anyhow::{Result, bail};
use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use crate::api::{Api, part};
use crate::output::{self, text};

#[derive(Debug, Subcommand)]
pub enum ActionsCommand {
    /// List actions, newest first
    #[command(after_help = "Example:\n  sakimori actions list --in done,running")]
    List {
        /// States, with commas between: planned, approved, running, done, undone, expired, refused, no_effect, failed
        #[arg(long = "in", value_name = "STATES")]
        states: Option<String>,
        /// An address or network
        #[arg(long)]
        target: Option<String>,
        /// Most actions
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Show an action
    Show {
        /// Its id
        id: String,
    },
    /// Show what floods of alerts asked for beyond the rate: it was counted, and not carried out one by one
    #[command(
        after_help = "The rates are [flood] of the manager's configuration.\n\nExample:\n  sakimori actions shed"
    )]
    Shed,
    /// Take actions back before their time
    #[command(after_help = "Examples:\n  sakimori actions undo 0198c…\n  sakimori actions undo --target 203.0.113.7")]
    Undo {
        /// Ids of actions
        #[arg(required_unless_present_any = ["target", "all"])]
        ids: Vec<String>,
        /// All of this address or network
        #[arg(long, conflicts_with = "ids")]
        target: Option<String>,
        /// All that are in effect
        #[arg(long, conflicts_with_all = ["ids", "target"])]
        all: bool,
    },
    /// Let a provisional action stay: a block of a network, a switch to prevent
    #[command(after_help = "Example:\n  sakimori actions confirm 0198c…")]
    Confirm {
        /// Ids of actions
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Block an address by hand
    #[command(
        after_help = "Example:\n  sakimori actions block 203.0.113.7 --seconds 600 --reason 'seen in the web log'"
    )]
    Block {
        /// Address or network
        target: String,
        /// The agent that blocks it; needed where there are several
        #[arg(long, conflicts_with = "waf")]
        agent: Option<String>,
        /// In AWS WAF instead of on a host
        #[arg(long)]
        waf: bool,
        /// For how many seconds; as policy says where absent
        #[arg(long)]
        seconds: Option<u32>,
        /// Why
        #[arg(long, default_value = "")]
        reason: String,
        /// Say what would be done, and do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Order any action of the catalog by hand
    #[command(
        after_help = "Examples:\n  sakimori actions order isolate_host this --agent 0198c… --seconds 3600\n  sakimori actions order lock_user mallory --agent 0198c… --input end_sessions=true --dry-run"
    )]
    Order {
        /// The action: isolate_host, lock_user, quarantine_file, instance_isolate and the like
        action: String,
        /// What it acts on
        target: String,
        /// The agent that carries it out, where a host does
        #[arg(long)]
        agent: Option<String>,
        /// For how many seconds; as policy says where absent
        #[arg(long)]
        seconds: Option<u32>,
        /// An input of the action
        #[arg(long = "input", value_name = "NAME=VALUE")]
        inputs: Vec<String>,
        /// Why
        #[arg(long, default_value = "")]
        reason: String,
        /// Say what would be done, and do nothing
        #[arg(long)]
        dry_run: bool,
    },
}

pub async fn run(api: &Api, command: Option<ActionsCommand>, json: bool) -> Result<()> {
    match command.unwrap_or(ActionsCommand::List { states: None, target: None, limit: 50 }) {
        ActionsCommand::List { states, target, limit } => {
            let parts = [("state", states), ("target", target)];
            let query: Vec<(&str, String)> =
                parts.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
            let found = api.list("/api/v1/actions", &query, limit).await?;
            if json { output::json(&found) } else { table(&found, "no actions") }
        }
        ActionsCommand::Shed => {
            let answer = api.get("/api/v1/actions/shed", &[]).await?;
            let spans = answer.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
            if json {
                return output::json(&spans);
            }
            let names = ["began", "last", "source", "kind", "count", "sample"];
            let rows: Vec<Vec<String>> =
                spans.iter().map(|span| names.iter().map(|name| text(span, name)).collect()).collect();
            output::table(&names, &rows, "nothing was shed")
        }
        ActionsCommand::Show { id } => {
            let action = api.get(&format!("/api/v1/actions/{}", part(&id)), &[]).await?;
            if json { output::json(&action) } else { show(&action) }
        }
        ActionsCommand::Undo { ids, target, all } if ids.is_empty() => {
            let mut body = json!({ "all": all });
            if let (Some(target), Some(body)) = (target, body.as_object_mut()) {
                body.insert("target".into(), target.into());
            }
            let (mut undone, mut over) = (0, 0);
            loop {
                let answer = api.send(Method::POST, "/api/v1/actions/undo", &body).await?;
                let count = |name: &str| answer.get(name).and_then(Value::as_u64).unwrap_or_default();
                undone += count("undone");
                over += count("over");
                if answer.get("more").and_then(Value::as_bool) != Some(true) || count("undone") == 0 {
                    break;
                }
            }
            if json {
                return output::json(&json!({ "undone": undone, "over": over }));
            }
            output::line(format!("{undone} are being taken back; {over} had ended by themselves"))
        }
        ActionsCommand::Undo { ids, .. } => {
            let mut done = Vec::new();
            for id in &ids {
                let action = api.send(Method::POST, &format!("/api/v1/actions/{}/undo", part(id)), &json!({})).await?;
                if !json {
                    output::line(format!("{id} is being taken back: {} is let in again", target_of(&action)))?;
                }
                done.push(action);
            }
            if json { output::json(&done) } else { Ok(()) }
        }
        ActionsCommand::Confirm { ids } => {
            let mut done = Vec::new();
            for id in &ids {
                let path = format!("/api/v1/actions/{}/confirm", part(id));
                done.push(api.send(Method::POST, &path, &json!({})).await?);
                if !json {
                    output::line(format!("{id} is told to its host, where it stays once the checks there hold"))?;
                }
            }
            if json { output::json(&done) } else { Ok(()) }
        }
        ActionsCommand::Block { target, agent, waf, seconds, reason, dry_run } => {
            let agent = match (waf, agent) {
                (true, _) => None,
                (false, Some(agent)) => Some(agent),
                (false, None) => Some(only_agent(api).await?),
            };
            let body = json!({
                "action": if waf { "waf_block" } else { "block_address" },
                "target": target, "agent": agent, "seconds": seconds, "reason": reason, "dry_run": dry_run,
            });
            ordered(api, &body, json).await
        }
        ActionsCommand::Order { action, target, agent, seconds, inputs, reason, dry_run } => {
            let mut named = serde_json::Map::new();
            for text in inputs {
                let Some((name, value)) = text.split_once('=') else { bail!("{text}: expected name=value") };
                named.insert(name.to_owned(), value.into());
            }
            let body = json!({
                "action": action, "target": target, "agent": agent, "seconds": seconds, "inputs": named,
                "reason": reason, "dry_run": dry_run,
            });
            ordered(api, &body, json).await
        }
    }
}

/// Orders, and prints what the manager says to it.
async fn ordered(api: &Api, body: &Value, json: bool) -> Result<()> {
    let planned = api.send(Method::POST, "/api/v1/actions", body).await?;
    if json {
        return output::json(&planned);
    }
    let dry_run = body.get("dry_run").and_then(Value::as_bool) == Some(true);
    output::pairs(&[
        ("id", text(&planned, "id")),
        ("where", text(&planned, "place")),
        (if dry_run { "it would be" } else { "ordered" }, text(&planned, "verdict")),
        ("reason", text(&planned, "reason")),
    ])
}

/// The agent's id, where there is one only.
async fn only_agent(api: &Api) -> Result<String> {
    let agents = api.list("/api/v1/agents", &[], 100).await?;
    let active: Vec<&Value> = agents.iter().filter(|agent| text(agent, "state") != "revoked").collect();
    match active.as_slice() {
        [one] => Ok(text(one, "id")),
        [] => bail!("no host is enrolled; make a token with: sakimori agents token"),
        several => {
            let names: Vec<String> =
                several.iter().map(|agent| format!("{} ({})", text(agent, "id"), text(agent, "name"))).collect();
            bail!("name the host with --agent, one of {}", names.join(", "))
        }
    }
}

/// Address, network or channel of an action.
pub fn target_of(action: &Value) -> String {
    let target = action.get("order").and_then(|order| order.get("target"));
    match target {
        Some(Value::Object(one)) => one.values().next().map(output::shown).unwrap_or_default(),
        Some(other) => output::shown(other),
        None => String::new(),
    }
}

/// Prints actions.
pub fn table(actions: &[Value], nothing: &str) -> Result<()> {
    let rows: Vec<Vec<String>> = actions
        .iter()
        .map(|action| {
            let place = text(action, "place");
            vec![
                text(action, "planned_at"),
                text(action, "order.id"),
                text(action, "order.action"),
                target_of(action),
                text(action, "state"),
                place,
                text(action, "expires_at"),
                [text(action, "order.cause.title"), text(action, "reason")]
                    .into_iter()
                    .filter(|one| !one.is_empty())
                    .collect::<Vec<_>>()
                    .join(": "),
            ]
        })
        .collect();
    output::table(&["planned", "id", "action", "target", "state", "where", "until", "why"], &rows, nothing)
}

fn show(action: &Value) -> Result<()> {
    output::pairs(&[
        ("action", format!("{}  {}", text(action, "order.id"), text(action, "order.action"))),
        ("target", target_of(action)),
        ("where", text(action, "place")),
        ("state", text(action, "state")),
        ("reason", text(action, "reason")),
        ("alert", text(action, "order.cause.alert")),
        ("rule", format!("{}  {}", text(action, "order.cause.rule"), text(action, "order.cause.title"))),
        ("by", text(action, "order.cause.by")),
        ("planned", text(action, "planned_at")),
        ("done", text(action, "done_at")),
        ("until", text(action, "expires_at")),
        ("taken back unless confirmed before", text(action, "confirm_by")),
        ("prolonged", text(action, "prolonged")),
        ("asked for again, without a row of its own", text(action, "folded")),
        ("ended", text(action, "ended_at")),
        ("undone by", text(action, "undone_by")),
        ("not again before", text(action, "grace_until")),
    ])
}
