//! `notify`: channels, what was sent on them and what became of it, a test of one, dead letters.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use reqwest::Method;
use sakimori_manager::channels::preview::{Form, preview};
use sakimori_manager::config::Language;
use serde_json::{Value, json};

use super::with_api;
use crate::api::{Api, part};
use crate::args::Shared;
use crate::output::{self, text};

/// Between two looks at a message.
const PAUSE: Duration = Duration::from_millis(300);

#[derive(Debug, Subcommand)]
pub enum NotifyCommand {
    /// List channels, and the messages of late with what became of each
    #[command(after_help = "Examples:\n  sakimori notify list\n  sakimori notify list --channel ops --limit 200")]
    List {
        /// Of this channel
        #[arg(long)]
        channel: Option<String>,
        /// Most messages
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Show a message: every try with the receiver's answer, and the facts that it tells
    Show {
        /// Its id
        id: String,
    },
    /// Send a test message by the real path, and say what became of it
    #[command(after_help = "Example:\n  sakimori notify test ops")]
    Test {
        /// The channel
        channel: String,
        /// Seconds to wait for it
        #[arg(long, default_value_t = 60)]
        wait: u64,
    },
    /// List dead letters: messages that were given up, and why
    Dead {
        /// Most messages
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Show what messages look like, by a template of your own where one is given; needs no manager
    #[command(after_help = "Examples:\n  sakimori notify preview --language ja --zone Asia/Tokyo\n  \
        sakimori notify preview --form html --template message.txt > mail.html")]
    Preview {
        /// en or ja
        #[arg(long, default_value = "en", value_parser = ["en", "ja"])]
        language: String,
        /// Zone of the times
        #[arg(long, default_value = "UTC")]
        zone: String,
        /// text, html (a mail), slack or teams (JSON)
        #[arg(long, default_value = "text", value_parser = ["text", "html", "slack", "teams"])]
        form: String,
        /// A template, as content_dir has it in notify/<language>/message.txt
        #[arg(long, value_name = "FILE")]
        template: Option<PathBuf>,
        /// With a question
        #[arg(long)]
        ask: bool,
    },
    /// Send dead letters again
    #[command(after_help = "Example:\n  sakimori notify retry 0198c…")]
    Retry {
        /// Ids of messages
        #[arg(required = true)]
        ids: Vec<String>,
    },
}

pub fn run(shared: &Shared, command: Option<NotifyCommand>) -> Result<ExitCode> {
    match command.unwrap_or(NotifyCommand::List { channel: None, limit: 20 }) {
        NotifyCommand::Preview { language, zone, form, template, ask } => {
            let language = if language == "ja" { Language::Ja } else { Language::En };
            let form = match form.as_str() {
                "html" => Form::Html,
                "slack" => Form::Slack,
                "teams" => Form::Teams,
                _ => Form::Text,
            };
            let shown = |path: &PathBuf| path.display().to_string();
            let text = template
                .as_ref()
                .map(|path| std::fs::read_to_string(path).with_context(|| format!("cannot read {}", shown(path))));
            let text = text.transpose()?;
            let name = template.as_ref().map(shown).unwrap_or_default();
            let made = preview(language, &zone, form, text.as_deref(), ask);
            let made = made.map_err(|problem| anyhow::anyhow!("{name}:{problem}"))?;
            output::line(made.trim_end())?;
            Ok(ExitCode::SUCCESS)
        }
        other => with_api(shared, async |api| ask(&api, other, shared.json).await),
    }
}

async fn ask(api: &Api, command: NotifyCommand, json: bool) -> Result<()> {
    match command {
        NotifyCommand::Preview { .. } => bail!("a preview needs no manager"),
        NotifyCommand::List { channel, limit } => list(api, channel, limit, json).await,
        NotifyCommand::Show { id } => {
            let message = api.get(&format!("/api/v1/messages/{}", part(&id)), &[]).await?;
            if json { output::json(&message) } else { show(&message) }
        }
        NotifyCommand::Test { channel, wait } => test(api, &channel, wait, json).await,
        NotifyCommand::Dead { limit } => {
            let found = api.list("/api/v1/messages", &[("state", "dead".to_owned())], limit).await?;
            if json { output::json(&found) } else { table(&found, "no message was given up") }
        }
        NotifyCommand::Retry { ids } => {
            let mut done = Vec::new();
            for id in &ids {
                let path = format!("/api/v1/messages/{}/retry", part(id));
                done.push(api.send(Method::POST, &path, &json!({})).await?);
                if !json {
                    output::line(format!("{id} is sent again; sakimori notify show {id} says what became of it"))?;
                }
            }
            if json { output::json(&done) } else { Ok(()) }
        }
    }
}

async fn list(api: &Api, channel: Option<String>, limit: usize, json: bool) -> Result<()> {
    let channels = api.get("/api/v1/channels", &[]).await?;
    let channels = channels.get("items").cloned().unwrap_or_default();
    let query: Vec<(&str, String)> = channel.into_iter().map(|name| ("channel", name)).collect();
    let found = api.list("/api/v1/messages", &query, limit).await?;
    if json {
        return output::json(&json!({ "channels": channels, "messages": found }));
    }
    let names = ["name", "kind", "repeats", "per_minute", "language", "zone"];
    let rows: Vec<Vec<String>> = channels
        .as_array()
        .into_iter()
        .flatten()
        .map(|channel| names.iter().map(|name| text(channel, name)).collect())
        .collect();
    output::table(&names, &rows, "no channel is configured; see [[notify]] in docs/configuration.md")?;
    output::line("")?;
    table(&found, "no messages")
}

async fn test(api: &Api, channel: &str, wait: u64, json: bool) -> Result<()> {
    let path = format!("/api/v1/channels/{}/test", part(channel));
    let made = api.send(Method::POST, &path, &json!({})).await?;
    let path = format!("/api/v1/messages/{}", part(&text(&made, "id")));
    let began = Instant::now();
    let message = loop {
        let message = api.get(&path, &[]).await?;
        // A first try says it; where it is to be tried again, why.
        let tried = message
            .get("log")
            .and_then(Value::as_array)
            .is_some_and(|log| log.last().is_some_and(|last| text(last, "outcome") != "sending"));
        if tried || began.elapsed() > Duration::from_secs(wait) {
            break message;
        }
        tokio::time::sleep(PAUSE).await;
    };
    if json {
        output::json(&message)?;
    } else {
        show(&message)?;
    }
    match text(&message, "state").as_str() {
        "sent" => Ok(()),
        "dead" => bail!("the message to {channel} was refused: {}", text(&message, "reason")),
        _ => bail!("the message to {channel} is not sent yet and is tried again: {}", text(&message, "reason")),
    }
}

fn table(messages: &[Value], nothing: &str) -> Result<()> {
    let names = ["created", "id", "channel", "kind", "state", "tries", "reference"];
    let rows: Vec<Vec<String>> = messages
        .iter()
        .map(|message| {
            let why = [text(message, "subject"), text(message, "reason")];
            let why = why.into_iter().filter(|one| !one.is_empty()).collect::<Vec<_>>().join(": ");
            names.iter().map(|name| text(message, name)).chain([why]).collect()
        })
        .collect();
    output::table(&["created", "id", "channel", "kind", "state", "tries", "there", "what"], &rows, nothing)
}

fn show(message: &Value) -> Result<()> {
    output::pairs(&[
        ("message", text(message, "id")),
        ("channel", text(message, "channel")),
        ("what", text(message, "subject")),
        ("state", text(message, "state")),
        ("there it is", text(message, "reference")),
        ("reason", text(message, "reason")),
        ("tried again", text(message, "retry_at")),
        ("actions", text(message, "actions")),
    ])?;
    let names = ["number", "began", "ended", "outcome", "answer"];
    let log = message.get("log").and_then(Value::as_array).cloned().unwrap_or_default();
    let rows: Vec<Vec<String>> = log.iter().map(|one| names.iter().map(|name| text(one, name)).collect()).collect();
    output::table(&["try", "began", "ended", "outcome", "answer"], &rows, "it was not tried yet")
}
