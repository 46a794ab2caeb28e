//! `halt` and `resume`: the one stop of all automatic answers. At a host that the manager does not reach, the same is
//! done by `sakimori-agent halt`.

use anyhow::Result;
use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use crate::api::Api;
use crate::output::{self, text};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sakimori halt --undo --reason 'customers are locked out'\n  \
                        sakimori halt --show")]
pub struct HaltArgs {
    /// Take back what is in effect, too
    #[arg(long)]
    undo: bool,
    /// Why, for those who read of it
    #[arg(long, default_value = "")]
    reason: String,
    /// Say how it stands, and change nothing
    #[arg(long, conflicts_with_all = ["undo", "reason"])]
    show: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sakimori resume --reason 'the rule is mended'")]
pub struct ResumeArgs {
    /// Why, for those who read of it
    #[arg(long, default_value = "")]
    reason: String,
}

pub async fn halt(api: &Api, args: HaltArgs, json: bool) -> Result<()> {
    let answer = if args.show {
        api.get("/api/v1/halt", &[]).await?
    } else {
        api.send(Method::POST, "/api/v1/halt", &json!({ "undo": args.undo, "reason": args.reason })).await?
    };
    if json { output::json(&answer) } else { show(&answer) }
}

pub async fn resume(api: &Api, args: ResumeArgs, json: bool) -> Result<()> {
    let answer = api.send(Method::POST, "/api/v1/halt/resume", &json!({ "reason": args.reason })).await?;
    if json { output::json(&answer) } else { show(&answer) }
}

fn show(answer: &Value) -> Result<()> {
    let halted = answer.get("halted").and_then(Value::as_bool) == Some(true);
    let number = answer.get("number").and_then(Value::as_i64).unwrap_or_default();
    output::line(if halted { "all automatic answers are stopped" } else { "automatic answers go on" })?;
    if number > 0 {
        output::pairs(&[("by", text(answer, "by")), ("at", text(answer, "at")), ("reason", text(answer, "reason"))])?;
    }
    let rows: Vec<Vec<String>> = answer
        .get("hosts")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|host| {
            let taken = host.get("number").and_then(Value::as_i64).unwrap_or_default() >= number;
            let connected = host.get("connected").and_then(Value::as_bool) == Some(true);
            let heard = match (taken, connected) {
                (true, _) => "yes",
                (false, true) => "not yet",
                (false, false) => "when it connects",
            };
            vec![text(host, "name"), text(host, "agent"), heard.to_owned(), text(host, "halted")]
        })
        .collect();
    output::table(&["host", "agent", "heard of it", "stopped"], &rows, "no host is enrolled")
}
