//! `alerts`: what was detected, and what people say of it.

use anyhow::Result;
use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::events::Range;
use crate::api::{Api, part};
use crate::output::{self, text};

#[derive(Debug, Subcommand)]
pub enum AlertsCommand {
    /// List alerts, newest first
    #[command(after_help = "Examples:\n  sakimori alerts list --from 1d\n  sakimori alerts list 'host.name:web1'")]
    List {
        #[command(flatten)]
        range: Range,
        /// Most alerts
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Show an alert with its actions
    Show {
        /// Its id
        id: String,
    },
    /// Close an alert
    Close {
        /// Its id
        id: String,
        /// What you found
        #[arg(long)]
        comment: Option<String>,
    },
}

pub async fn run(api: &Api, command: Option<AlertsCommand>, json: bool) -> Result<()> {
    let everything = Range { query: None, from: None, to: None };
    match command.unwrap_or(AlertsCommand::List { range: everything, limit: 50 }) {
        AlertsCommand::List { range, limit } => {
            let found = api.list("/api/v1/alerts", &range.parameters(), limit).await?;
            if json {
                return output::json(&found);
            }
            let rows: Vec<Vec<String>> = found.iter().map(row).collect();
            let heading = ["time", "id", "status", "rule", "source", "host", "user", "what"];
            output::table(&heading, &rows, "no alerts")
        }
        AlertsCommand::Show { id } => {
            let alert = api.get(&format!("/api/v1/alerts/{}", part(&id)), &[]).await?;
            let actions = api.list("/api/v1/actions", &[("alert", id)], 100).await?;
            if json {
                return output::json(&json!({ "alert": alert, "actions": actions }));
            }
            show(&alert)?;
            output::line("")?;
            super::actions::table(&actions, "no action was taken")
        }
        AlertsCommand::Close { id, comment } => {
            let body = json!({ "status": "closed", "comment": comment });
            let alert = api.send(Method::PATCH, &format!("/api/v1/alerts/{}", part(&id)), &body).await?;
            if json { output::json(&alert) } else { output::line(format!("{id} is {}", text(&alert, "status"))) }
        }
    }
}

fn row(alert: &Value) -> Vec<String> {
    let event = |name: &str| text(alert, &format!("event.{name}"));
    vec![
        event("@timestamp"),
        text(alert, "id"),
        text(alert, "status"),
        event("rule.id"),
        event("source.ip"),
        event("host.name"),
        event("user.name"),
        event("rule.name"),
    ]
}

fn show(alert: &Value) -> Result<()> {
    let event = |name: &str| text(alert, &format!("event.{name}"));
    output::pairs(&[
        ("alert", text(alert, "id")),
        ("status", text(alert, "status")),
        ("comment", text(alert, "comment")),
        ("changed by", text(alert, "changed_by")),
        ("time", event("@timestamp")),
        ("rule", format!("{}  {}", event("rule.id"), event("rule.name"))),
        ("source", event("source.ip")),
        ("host", event("host.name")),
        ("user", event("user.name")),
        ("techniques", event("threat.technique.id")),
        ("reason", event("event.reason")),
        ("message", event("message")),
    ])
}
