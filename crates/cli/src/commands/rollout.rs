//! `policy rollout`: a layer that some hosts get before the others, how that stands, and moving it by hand.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::policy::yaml_of;
use crate::api::{Api, part};
use crate::output::{self, text};

#[derive(Debug, Subcommand)]
pub enum RolloutCommand {
    /// Give a layer to some hosts first
    #[command(after_help = "Examples:\n  \
        sakimori policy rollout begin tenant policy.yaml --percent 10 --after 60\n  \
        sakimori policy rollout begin group:web web.yaml --agent 0198c… --reason 'stricter'\n\
        It halts by itself where a module or a proof of a first host fails that did not before; hosts keep what they have then.")]
    Begin(Begin),
    /// List roll-outs
    List,
    /// Show one, host by host
    Show {
        /// Its id
        id: String,
    },
    /// Let all other hosts follow now
    Continue(Move),
    /// Take it back from the first hosts
    Withdraw(Move),
}

#[derive(Debug, Args)]
pub struct Begin {
    /// tenant or group:<tag>
    layer: String,
    /// The file with what is to become of it; "-" reads standard input
    file: PathBuf,
    /// So many of a hundred hosts first
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=99), conflicts_with_all = ["groups", "agents"])]
    percent: Option<u32>,
    /// This group first
    #[arg(long = "group", value_name = "NAME")]
    groups: Vec<String>,
    /// This agent first
    #[arg(long = "agent", value_name = "ID")]
    agents: Vec<String>,
    /// All others follow after so many minutes [default: when somebody says so]
    #[arg(long, value_name = "MINUTES")]
    after: Option<u32>,
    /// So many of the first hosts may fail
    #[arg(long, default_value_t = 0)]
    most_failing: u32,
    /// Why
    #[arg(long, default_value = "")]
    reason: String,
}

#[derive(Debug, Args)]
pub struct Move {
    /// Its id
    id: String,
    /// Why
    #[arg(long, default_value = "")]
    reason: String,
}

pub async fn run(api: &Api, command: RolloutCommand, json: bool) -> Result<()> {
    let path = |id: &str| format!("/api/v1/policies/rollouts/{}", part(id));
    match command {
        RolloutCommand::Begin(begin) => {
            let first = json!({ "percent": begin.percent, "groups": begin.groups, "agents": begin.agents });
            let body = json!({
                "layer": begin.layer, "yaml": yaml_of(&begin.file)?, "first": first, "minutes": begin.after,
                "most_failing": begin.most_failing, "reason": begin.reason,
            });
            show(&api.send(Method::POST, "/api/v1/policies/rollouts", &body).await?, json)
        }
        RolloutCommand::List => {
            let found = api.list("/api/v1/policies/rollouts", &[], 1_000).await?;
            if json {
                return output::json(&found);
            }
            let names = ["id", "layer", "state", "created", "author", "why"];
            let rows: Vec<Vec<String>> =
                found.iter().map(|one| names.iter().map(|name| text(one, name)).collect()).collect();
            output::table(&names, &rows, "no roll-outs")
        }
        RolloutCommand::Show { id } => show(&api.get(&path(&id), &[]).await?, json),
        RolloutCommand::Continue(moved) => {
            let body = json!({ "reason": moved.reason });
            show(&api.send(Method::POST, &format!("{}/continue", path(&moved.id)), &body).await?, json)
        }
        RolloutCommand::Withdraw(moved) => {
            let body = json!({ "reason": moved.reason });
            show(&api.send(Method::POST, &format!("{}/withdraw", path(&moved.id)), &body).await?, json)
        }
    }
}

fn show(rollout: &Value, json: bool) -> Result<()> {
    if json {
        return output::json(rollout);
    }
    let names = ["id", "layer", "state", "why", "reason", "author", "created", "next"];
    output::pairs(&names.map(|name| (name, text(rollout, name))))?;
    let hosts = rollout.get("hosts").and_then(Value::as_array).cloned().unwrap_or_default();
    let names = ["agent", "host", "connected", "took", "failing"];
    let rows: Vec<Vec<String>> = hosts.iter().map(|host| names.iter().map(|name| text(host, name)).collect()).collect();
    output::table(&["agent", "host", "connected", "has it", "fails"], &rows, "no hosts")
}
