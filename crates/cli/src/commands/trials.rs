//! `rules trial`: network rules that only record so far, with what they would have stopped.

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use crate::api::Api;
use crate::output::{self, text};

#[derive(Debug, Args)]
pub struct TrialArgs {
    /// How many days a trial takes
    #[arg(long, default_value_t = 14, value_parser = clap::value_parser!(u16).range(1..=365))]
    days: u16,
    /// Show of this rule what it would have stopped, request by request
    #[arg(long, value_name = "RULE")]
    rule: Option<u32>,
}

pub async fn run(api: &Api, args: &TrialArgs, json: bool) -> Result<()> {
    let answer = api.get("/api/v1/rules/trials", &[("days", args.days.to_string())]).await?;
    let items = answer.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    let wanted = |trial: &&Value| args.rule.is_none_or(|rule| trial.get("rule") == Some(&rule.into()));
    let items: Vec<&Value> = items.iter().filter(wanted).collect();
    if json {
        return output::json(&items);
    }
    let rows: Vec<Vec<String>> = items.iter().map(|trial| row(trial)).collect();
    let heading = ["rule", "title", "since", "first bundle", "hits", "clients", "answered", "proposal", "why"];
    let nothing = "no rule is on trial; a policy names them: modules.intrusion_prevention.trial";
    output::table(&heading, &rows, nothing)?;
    if answer.get("more") == Some(&Value::Bool(true)) {
        anstream::eprintln!("more rules are on trial than are shown");
    }
    if args.rule.is_some() {
        let samples = items.iter().filter_map(|trial| trial.get("samples").and_then(Value::as_array)).flatten();
        let rows: Vec<Vec<String>> = samples
            .map(|sample| ["time", "host", "client", "request", "payload"].map(|name| text(sample, name)).to_vec())
            .collect();
        output::table(&["time", "host", "client", "request", "payload"], &rows, "it would have stopped nothing")?;
    }
    Ok(())
}

fn row(trial: &Value) -> Vec<String> {
    let of = |name: &str| text(trial, name);
    let share = trial.get("answered_share").and_then(Value::as_f64).unwrap_or(0.0);
    let answered = format!("{} ({:.0} %)", of("answered"), 100.0 * share);
    let known = trial.get("known") == Some(&Value::Bool(true));
    let title = if known { of("title") } else { format!("{} (in no bundle in force)", of("title")) };
    vec![
        of("rule"),
        title.trim().to_owned(),
        of("since"),
        of("first_bundle"),
        of("hits"),
        of("clients"),
        answered,
        of("proposal"),
        of("reason"),
    ]
}
