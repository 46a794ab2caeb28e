//! `agents scan`: a host scans paths for malware, by order; with `--wait`, until it is over.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use crate::api::{Api, part};
use crate::output::{self, text};

/// How often it is asked for.
const FOLLOW: Duration = Duration::from_secs(1);
/// How long a host that has accepted may take until what it says of it is here.
const ARRIVES: Duration = Duration::from_secs(120);

#[derive(Debug, Args)]
pub struct Scan {
    /// Name or id of the host
    host: String,
    /// Files and folders on it, whole paths
    #[arg(required = true, num_args = 1..=16, value_name = "PATH")]
    paths: Vec<String>,
    /// Leave out: a name (*.iso), or a path (/var/lib/docker); * ? ** stand for others
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Share of a processor that it may take, in percent [default: 25]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(1..=100))]
    cpu: Option<u32>,
    /// Say what is found, and leave it where it is
    #[arg(long)]
    report_only: bool,
    /// Why
    #[arg(long, default_value = "")]
    reason: String,
    /// Do not begin later than so many seconds from now
    #[arg(long, value_name = "SECONDS")]
    begin_within: Option<u32>,
    /// Say what would be done, and do nothing
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
    /// Show progress until it is over
    #[arg(long)]
    wait: bool,
}

/// Runs it. With `--wait`: 0 nothing found, 1 something found, 2 not everything could be judged, or it did not run to
/// its end.
pub async fn run(api: &Api, scan: Scan, json: bool) -> Result<ExitCode> {
    let agent = host(api, &scan.host).await?;
    let path = format!("/api/v1/agents/{}/scans", part(&agent));
    let body = json!({
        "paths": scan.paths, "exclude": scan.exclude, "cpu_percent": scan.cpu, "report_only": scan.report_only,
        "reason": scan.reason, "begin_within_seconds": scan.begin_within, "dry_run": scan.dry_run,
    });
    let planned = api.send(Method::POST, &path, &body).await?;
    if scan.wait {
        let path = format!("{path}/{}", part(&text(&planned, "id")));
        let over = follow(api, &path).await?;
        if json {
            output::json(&over)?;
        } else {
            show(&over)?;
        }
        return Ok(ExitCode::from(code(&over)));
    }
    if json {
        output::json(&planned)?;
    } else {
        let what = if scan.dry_run { "it would be" } else { "ordered" };
        output::pairs(&[
            ("id", text(&planned, "id")),
            ("host", agent),
            (what, text(&planned, "verdict")),
            ("undo", text(&planned, "reason")),
        ])?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The agent of this name or id.
async fn host(api: &Api, wanted: &str) -> Result<String> {
    let agents = api.list("/api/v1/agents", &[], 100_000).await?;
    let active = || agents.iter().filter(|agent| text(agent, "state") != "revoked");
    if let Some(agent) = active().find(|agent| text(agent, "id") == wanted) {
        return Ok(text(agent, "id"));
    }
    let named: Vec<String> =
        active().filter(|agent| text(agent, "name") == wanted).map(|agent| text(agent, "id")).collect();
    match named.as_slice() {
        [one] => Ok(one.clone()),
        [] => bail!("no host is named {wanted}; see sakimori agents list"),
        several => bail!("several hosts are named {wanted}; name one by its id: {}", several.join(", ")),
    }
}

/// Asks until it is over.
async fn follow(api: &Api, path: &str) -> Result<Value> {
    let live = std::io::stderr().is_terminal();
    let (began, mut shown) = (Instant::now(), String::new());
    loop {
        match api.get(path, &[]).await {
            Ok(view) if is_over(&view) => {
                if live {
                    anstream::eprint!("\r\x1b[K");
                }
                return Ok(view);
            }
            Ok(view) => {
                let line = progress(&view);
                if live {
                    anstream::eprint!("\r\x1b[K{line}");
                } else if line != shown {
                    anstream::eprintln!("{line}");
                }
                shown = line;
            }
            // Between the host's answer and its first word of the action nothing is known of it.
            Err(error) if began.elapsed() >= ARRIVES => {
                return Err(error).context("what came of the scan is not known");
            }
            Err(_) => {}
        }
        tokio::time::sleep(FOLLOW).await;
    }
}

fn is_over(view: &Value) -> bool {
    !matches!(text(view, "state").as_str(), "waiting" | "planned" | "approved" | "running" | "undoing")
}

fn count(view: &Value, name: &str) -> u64 {
    view.pointer(&format!("/counts/{name}")).and_then(Value::as_u64).unwrap_or(0)
}

/// How it stands, in one line.
fn progress(view: &Value) -> String {
    let (state, step) = (text(view, "state"), text(view, "step"));
    if state == "waiting" {
        let why = text(view, "reason");
        return if why.is_empty() { "it waits for its host".to_owned() } else { format!("it waits: {why}") };
    }
    let mut line = format!(
        "{}: {} files, {} MiB, {} found",
        if step.is_empty() { state } else { step },
        count(view, "files"),
        count(view, "bytes") >> 20,
        count(view, "found"),
    );
    if let Some(left) = view.get("seconds_left").and_then(Value::as_u64) {
        line += &format!(", {left} s left");
    }
    line
}

/// As `sakimori scan`: 0, 1 found, 2 not sure.
fn code(view: &Value) -> u8 {
    if count(view, "found") > 0 {
        1
    } else if text(view, "state") != "done" || count(view, "failed") + count(view, "unreadable") > 0 {
        2
    } else {
        0
    }
}

fn show(view: &Value) -> Result<()> {
    let found = view.get("found").and_then(Value::as_array).cloned().unwrap_or_default();
    let row = |one: &Value| ["rule", "path"].map(|name| text(one, name)).to_vec();
    let rows: Vec<Vec<String>> = found.iter().map(row).collect();
    if !rows.is_empty() {
        output::table(&["found by", "where"], &rows, "")?;
    }
    output::pairs(&[
        ("state", text(view, "state")),
        ("what", text(view, "reason")),
        ("files", count(view, "files").to_string()),
        ("found", count(view, "found").to_string()),
        ("not judged", (count(view, "failed") + count(view, "unreadable") + count(view, "too_large")).to_string()),
        ("seconds", text(view, "seconds")),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_says_clean_found_or_not_sure() {
        let view = |state: &str, found: u64, unreadable: u64| json!({"state": state, "counts": {"files": 9, "found": found, "unreadable": unreadable}});
        let codes = [("done", 0, 0), ("done", 2, 0), ("done", 0, 1), ("refused", 0, 0), ("undone", 1, 0)];
        assert_eq!(codes.map(|(state, found, unreadable)| code(&view(state, found, unreadable))), [0, 1, 2, 2, 1]);
    }

    #[test]
    fn one_line_says_what_it_waits_for_or_how_far_it_is() {
        assert_eq!(progress(&json!({"state": "waiting", "reason": ""})), "it waits for its host");
        let view = json!({"state": "running", "step": "scanning", "counts": {"files": 3, "bytes": 3 << 20}, "seconds_left": 9});
        assert_eq!(progress(&view), "scanning: 3 files, 3 MiB, 0 found, 9 s left");
        assert!(!is_over(&view) && is_over(&json!({"state": "failed"})));
    }
}
