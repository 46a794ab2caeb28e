//! `hunt`: Sigma rules over files, without a manager. A line that is a JSON object with `@timestamp` is taken for
//! an event, any other for a raw line of a log source.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use sakimori_content::files;
use sakimori_detect::{Detector, LineContext, Normaliser, Options, Tz};
use sakimori_model::id::EventId;
use sakimori_model::{Event, Timestamp};
use serde_json::{Map, Value};

use super::logs::{Lines, Sources};
use super::now;
use crate::output::{self, text};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sakimori hunt /var/log/auth.log\n  sakimori hunt --rules my-rules auth.log auth.log.1\n  \
    sakimori logs parse access.log | sakimori hunt -"
)]
pub struct HuntArgs {
    /// Log files or ECS JSON lines; "-" reads standard input
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Folder with Sigma rules, or a content folder; the built-in rules where absent
    #[arg(long, value_name = "DIR")]
    rules: Option<PathBuf>,
    /// Log source of raw lines; told from the lines where absent
    #[arg(long)]
    source: Option<String>,
    /// Time zone of times without one
    #[arg(long, default_value = "UTC")]
    zone: Tz,
}

pub fn run(args: &HuntArgs, json: bool) -> Result<ExitCode> {
    let mut content = files::builtin();
    let mut prefix = String::new();
    if let Some(dir) = &args.rules {
        content.retain(|path, _| path.starts_with("logs/"));
        let own = read(dir)?;
        if own.keys().any(|path| path.starts_with("sigma/")) {
            content.extend(own);
        } else {
            content.extend(own.into_iter().map(|(path, bytes)| (format!("sigma/{path}"), bytes)));
            prefix = "sigma/".into();
        }
    }
    let sources = Sources::of(&content)?;
    let (mut detector, errors) = Detector::from_files(&content, Options::default());
    for mut error in errors {
        if let Some(dir) = &args.rules {
            error.file = dir.join(error.file.strip_prefix(&prefix).unwrap_or(&error.file)).display().to_string();
        }
        anstream::eprintln!("left out: {error}");
    }
    if detector.rules().count() == 0 {
        bail!("no rule loaded; --rules names a folder with Sigma files (.yml)");
    }
    let (mut events, mut alerts) = (0_u64, 0_u64);
    for (number, path) in args.files.iter().enumerate() {
        let mut lines = Lines::open(path)?;
        let first = lines.look()?;
        let mut normaliser = None;
        let name = path.display().to_string();
        let mut id = EventId { batch: format!("hunt:{number}:1"), index: 0 };
        while let Some(line) = lines.next()? {
            let read_at = now();
            let event = match document(&line.bytes) {
                Some(document) => Event::from_json(document).0,
                None => {
                    let normaliser: &mut Normaliser = match &mut normaliser {
                        Some(known) => known,
                        none => none.insert(sources.normaliser(args.source.as_deref(), path, &first)?),
                    };
                    let context = LineContext {
                        zone: args.zone,
                        file: Some(&name),
                        offset: Some(line.offset),
                        dropped: line.dropped,
                        ..LineContext::at(read_at)
                    };
                    normaliser.parse(&line.bytes, &context)
                }
            };
            let mut found = Vec::new();
            // An old log arrives when it was written: windows are those of its own time.
            let arrival = event.timestamp().filter(|time| *time <= read_at).unwrap_or(read_at);
            detector.feed(&event, &id, arrival, "", &mut found);
            events += 1;
            id.index = id.index.checked_add(1).context("a file of more than 4 billion lines; split it")?;
            for alert in found {
                alerts += 1;
                show(&alert, arrival, json)?;
            }
        }
    }
    anstream::eprintln!("{events} events, {alerts} alerts");
    Ok(ExitCode::SUCCESS)
}

/// A folder, or one file.
fn read(path: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    if path.is_file() {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        return Ok([(name, bytes)].into());
    }
    Ok(files::read_dir(path)?)
}

fn document(line: &[u8]) -> Option<Map<String, Value>> {
    if line.first() != Some(&b'{') {
        return None;
    }
    serde_json::from_slice::<Map<String, Value>>(line).ok().filter(|document| document.contains_key("@timestamp"))
}

fn show(alert: &Event, at: Timestamp, json: bool) -> Result<()> {
    let document = Value::Object(alert.to_json());
    if json {
        return output::json_line(&document);
    }
    let time = alert.timestamp().unwrap_or(at);
    let parts = ["rule.id", "source.ip", "user.name", "host.name", "url.original", "rule.name"];
    let parts: Vec<String> = parts.iter().map(|name| text(&document, name)).filter(|one| !one.is_empty()).collect();
    output::line(format!("{time}  {}", output::clean(&parts.join("  "))))
}
