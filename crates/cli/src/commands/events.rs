//! `events`: search, SQL, the live feed, counts, and the balance of the books.

use std::io::Write as _;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use futures::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};

use super::now;
use crate::api::Api;
use crate::output::{self, text};

/// Longest line of a feed that is kept.
const MOST_LINE: usize = 4 << 20;

#[derive(Debug, Subcommand)]
pub enum EventsCommand {
    /// Search events, newest first
    #[command(
        after_help = "Examples:\n  sakimori events search 'source.ip:198.51.100.0/24 and not user.name:ro*' --from 1h\n  \
        sakimori events search 'rule.ruleset:suricata' --from 1d --limit 1000 --format eve >> eve.json\n  \
        sakimori events search --sql 'SELECT \"source.ip\", count(*) FROM events GROUP BY 1 ORDER BY 2 DESC LIMIT 10'"
    )]
    Search {
        #[command(flatten)]
        range: Range,
        /// Most events
        #[arg(long, default_value_t = 50)]
        limit: usize,
        /// `eve`: alerts of network rules as Suricata's EVE JSON, one a line
        #[arg(long, value_enum, conflicts_with = "sql")]
        format: Option<Format>,
        /// One SELECT over the table `events` instead of a search
        #[arg(long, value_name = "SELECT", conflicts_with_all = ["query", "from", "to"])]
        sql: Option<String>,
    },
    /// Show new events as they come
    Tail {
        /// Search text; everything where absent
        query: Option<String>,
    },
    /// Write what a search finds to standard output, as NDJSON or CSV
    #[command(after_help = "Example:\n  sakimori events export 'event.kind:alert' --from 7d --form csv > alerts.csv")]
    Export {
        #[command(flatten)]
        range: Range,
        /// `ndjson`: one document a line; `csv`: a line of fields a row, no cell of which is a formula
        #[arg(long, value_enum, default_value = "ndjson")]
        form: Form,
        /// Fields, with commas between; of NDJSON the whole events where absent
        #[arg(long)]
        fields: Option<String>,
        /// Most events, up to 1,000,000
        #[arg(long, default_value_t = 100_000)]
        limit: usize,
    },
    /// Count events
    Count {
        #[command(flatten)]
        range: Range,
    },
    /// What came in, what is stored, and what was lost where and why
    Balance,
}

/// Another form for what is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// EVE JSON.
    Eve,
}

/// Form of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// One document a line.
    Ndjson,
    /// RFC 4180.
    Csv,
}

#[derive(Debug, Args)]
pub struct Range {
    /// Search text, `field:value` with and, or, not; everything where absent
    pub query: Option<String>,
    /// From this time on: 90s, 30m, 1h, 2d ago, or 2026-01-02T03:04:05Z
    #[arg(long, value_parser = time)]
    pub from: Option<String>,
    /// Before this time, in the same form
    #[arg(long, value_parser = time)]
    pub to: Option<String>,
}

impl Range {
    /// As the API asks for it.
    pub fn parameters(&self) -> Vec<(&'static str, String)> {
        let parts = [("q", &self.query), ("from", &self.from), ("to", &self.to)];
        parts.into_iter().filter_map(|(name, value)| value.clone().map(|value| (name, value))).collect()
    }
}

/// A time as RFC 3339, from one or from how long ago it was.
pub fn time(text: &str) -> Result<String, String> {
    if let Some(time) = sakimori_model::Timestamp::parse(text) {
        return Ok(time.to_string());
    }
    let wrong = || format!("expected 90s, 30m, 1h, 2d or a time such as 2026-01-02T03:04:05Z, found {text:?}");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let each = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return Err(wrong()),
    };
    let count: u32 = text.strip_suffix(unit).unwrap_or_default().parse().map_err(|_| wrong())?;
    Ok(now().plus_secs(-i64::from(count) * each).to_string())
}

pub async fn run(api: &Api, command: EventsCommand, json: bool) -> Result<()> {
    match command {
        EventsCommand::Search { sql: Some(sql), .. } => {
            let rows = api.send(Method::POST, "/api/v1/events/sql", &json!({ "sql": sql })).await?;
            if json { output::json(&rows) } else { show_rows(&rows) }
        }
        EventsCommand::Search { range, limit, format, sql: None } => {
            let found = api.list("/api/v1/events", &range.parameters(), limit).await?;
            if let Some(Format::Eve) = format {
                return show_eve(&found);
            }
            if json {
                return found.iter().try_for_each(output::json_line);
            }
            let rows: Vec<Vec<String>> = found.iter().map(row).collect();
            output::table(HEADING, &rows, "nothing found; widen the search or the time")
        }
        EventsCommand::Tail { query } => tail(api, query, json).await,
        EventsCommand::Export { range, form, fields, limit } => {
            let mut query = range.parameters();
            let form = if form == Form::Csv { "csv" } else { "ndjson" };
            query.extend([("format", form.to_owned()), ("limit", limit.to_string())]);
            query.extend(fields.map(|fields| ("fields", fields)));
            let mut chunks = api.feed("/api/v1/events/export", &query).await?.bytes_stream();
            let mut out = std::io::stdout().lock();
            while let Some(chunk) = chunks.next().await {
                out.write_all(&chunk?)?;
            }
            Ok(())
        }
        EventsCommand::Count { range } => {
            let answer = api.get("/api/v1/events/count", &range.parameters()).await?;
            if json { output::json(&answer) } else { output::line(text(&answer, "count")) }
        }
        EventsCommand::Balance => balance(&api.get("/api/v1/events/balance", &[]).await?, json),
    }
}

/// Alerts of network rules as EVE JSON; how many others were left out is told.
fn show_eve(found: &[Value]) -> Result<()> {
    let records: Vec<Value> = found.iter().filter_map(sakimori_network::eve::alert).collect();
    records.iter().try_for_each(output::json_line)?;
    match found.len() - records.len() {
        0 => {}
        others => anstream::eprintln!("{others} events are left out: they are no alerts of network rules"),
    }
    Ok(())
}

const HEADING: &[&str] = &["time", "host", "dataset", "action", "outcome", "source", "user", "message"];

fn row(event: &Value) -> Vec<String> {
    let first = |names: &[&str]| names.iter().map(|name| text(event, name)).find(|one| !one.is_empty());
    let cell = |names: &[&str]| first(names).unwrap_or_default();
    vec![
        cell(&["@timestamp"]),
        cell(&["host.name"]),
        cell(&["event.dataset", "event.kind"]),
        cell(&["event.action", "rule.name"]),
        cell(&["event.outcome"]),
        cell(&["source.ip"]),
        cell(&["user.name"]),
        cell(&["message", "event.reason", "event.original"]),
    ]
}

fn show_rows(answer: &Value) -> Result<()> {
    let list = |name: &str| answer.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let columns: Vec<String> = list("columns").iter().map(output::shown).collect();
    let heading: Vec<&str> = columns.iter().map(String::as_str).collect();
    let rows: Vec<Vec<String>> = list("rows")
        .iter()
        .map(|row| row.as_array().map(|cells| cells.iter().map(output::shown).collect()).unwrap_or_default())
        .collect();
    output::table(&heading, &rows, "no rows")?;
    if answer.get("more").and_then(Value::as_bool) == Some(true) {
        anstream::eprintln!("there are more rows; add a LIMIT or a WHERE");
    }
    Ok(())
}

fn balance(answer: &Value, json: bool) -> Result<()> {
    let balanced = answer.get("balanced").and_then(Value::as_bool) == Some(true);
    if json {
        output::json(answer)?;
    } else {
        let items = answer.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut rows = Vec::new();
        for item in &items {
            let losses: Vec<String> = item
                .get("lost")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .map(|loss| {
                    format!(
                        "{} at {} ({} to {}): {}",
                        text(loss, "count"),
                        text(loss, "place"),
                        text(loss, "from"),
                        text(loss, "to"),
                        text(loss, "cause")
                    )
                })
                .collect();
            let word = if text(item, "balanced") == "true" { "yes" } else { "NO" };
            rows.push(vec![
                text(item, "host"),
                text(item, "stream"),
                text(item, "read"),
                text(item, "sent"),
                text(item, "arrived"),
                text(item, "stored"),
                text(item, "expired"),
                text(item, "on_the_way"),
                word.to_owned(),
                losses.join("; "),
            ]);
        }
        let heading =
            ["host", "stream", "read", "sent", "arrived", "stored", "expired", "on the way", "balanced", "lost"];
        output::table(&heading, &rows, "no agent has sent anything yet")?;
    }
    if !balanced {
        bail!("the books do not balance; sakimori doctor and the manager's log say more");
    }
    Ok(())
}

/// Follows the feed until it ends or the user has seen enough.
async fn tail(api: &Api, query: Option<String>, json: bool) -> Result<()> {
    let query: Vec<(&str, String)> = query.map(|query| ("q", query)).into_iter().collect();
    let mut body = api.feed("/api/v1/events/tail", &query).await?.bytes_stream();
    let (mut pending, mut kind, mut data) = (Vec::new(), String::new(), String::new());
    while let Some(chunk) = body.next().await {
        pending.extend_from_slice(&chunk.context("the feed broke off; run the command again")?);
        if pending.len() > MOST_LINE {
            bail!("the manager sent a line that is too long; are both of one version?");
        }
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if let Some(rest) = line.strip_prefix("event:") {
                rest.trim().clone_into(&mut kind);
            } else if let Some(rest) = line.strip_prefix("data:") {
                data.push_str(rest.trim_start());
            } else if line.is_empty() && !data.is_empty() {
                show(&kind, &data, json)?;
                kind.clear();
                data.clear();
            }
        }
    }
    Ok(())
}

fn show(kind: &str, data: &str, json: bool) -> Result<()> {
    let value: Value = serde_json::from_str(data).unwrap_or(Value::Null);
    if kind == "lost" {
        anstream::eprintln!(
            "this feed was too slow: {} events are not shown; sakimori events search has them",
            text(&value, "count")
        );
        return Ok(());
    }
    if json {
        return output::json_line(&value);
    }
    let cells: Vec<String> = row(&value).into_iter().filter(|cell| !cell.is_empty()).collect();
    output::line(output::clean(&cells.join("  ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_or_ago() {
        assert!(time("2026-01-02T03:04:05Z").unwrap().starts_with("2026-01-02T03:04:05"));
        let hour = sakimori_model::Timestamp::parse(&time("1h").unwrap()).unwrap();
        let ago = now().since(hour) / 1_000_000;
        assert!((3_599..3_700).contains(&ago), "{ago}");
        for bad in ["", "h", "1", "x1h", "-1h", "1y", "é"] {
            assert!(time(bad).unwrap_err().contains("2d"), "{bad}");
        }
    }
}
