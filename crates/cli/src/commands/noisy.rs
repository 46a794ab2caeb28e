//! `rules noisy`: rules that speak too often, and for each an exception that would help, as the command that makes it.

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use crate::api::Api;
use crate::output::{self, text};

#[derive(Debug, Args)]
pub struct NoisyArgs {
    /// How many days back
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=90))]
    days: u16,
    /// Most rules
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=50))]
    limit: u16,
}

pub async fn run(api: &Api, args: &NoisyArgs, json: bool) -> Result<()> {
    let query = [("days", args.days.to_string()), ("limit", args.limit.to_string())];
    let answer = api.get("/api/v1/rules/noisy", &query).await?;
    let items = answer.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    if json {
        return output::json(&items);
    }
    let row = |rule: &Value| {
        let of = |name: &str| text(rule, name);
        let a_day = rule.get("per_day").and_then(Value::as_f64).unwrap_or(0.0);
        vec![of("rule"), of("title"), format!("{a_day:.1}"), of("hosts"), of("closed"), proposed(rule)]
    };
    let rows: Vec<Vec<String>> = items.iter().map(row).collect();
    output::table(
        &["rule", "title", "a day", "hosts", "closed", "an exception that would help"],
        &rows,
        "no rule fired",
    )
}

/// The command that makes the proposed exception, and what it would hold back.
fn proposed(rule: &Value) -> String {
    let Some(proposal) = rule.get("proposal").filter(|proposal| proposal.is_object()) else { return String::new() };
    let share = proposal.get("share").and_then(Value::as_f64).unwrap_or(0.0);
    let fields = proposal.get("fields").and_then(Value::as_object).into_iter().flatten();
    let fields: Vec<String> =
        fields.map(|(field, value)| quoted(&format!("{field}={}", output::shown(value)))).collect();
    let fields: String = fields.iter().map(|field| format!(" --field {field}")).collect();
    format!("{:.0} %: sakimori exceptions add {}{fields} --reason …", 100.0 * share, quoted(&text(rule, "rule")))
}

/// As a shell takes it for one word: what an attacker chose must not become a command of who copies it.
fn quoted(text: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=@".contains(letter);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_proposal_is_a_command_in_which_values_stay_values() {
        let rule = json!({"rule": "ssh", "proposal": {"share": 0.9, "fields": {"user.name": "a'; rm -rf /"}}});
        assert_eq!(
            proposed(&rule),
            "90 %: sakimori exceptions add ssh --field 'user.name=a'\\''; rm -rf /' --reason …"
        );
        assert_eq!(proposed(&json!({"rule": "ssh", "proposal": null})), "");
    }
}
