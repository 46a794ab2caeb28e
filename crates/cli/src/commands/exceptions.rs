//! `exceptions`: which alerts are expected, so that nobody is told of them.

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::api::{Api, part};
use crate::output::{self, text};

#[derive(Debug, Subcommand)]
pub enum ExceptionsCommand {
    /// List exceptions, with how often each was used
    List {
        /// Those of this rule
        #[arg(long)]
        rule: Option<String>,
        /// Those that end within so many days
        #[arg(long, value_name = "DAYS")]
        ending: Option<u32>,
        /// Those that have ended too
        #[arg(long)]
        ended: bool,
    },
    /// Make one
    #[command(
        after_help = "Alerts that it matches are kept as events and told to nobody, and no playbook of the manager \
        begins with them. What a host's own playbook does is not held back.\n\nExamples:\n  \
        sakimori exceptions add ssh-brute-force --field source.ip=192.0.2.7 --reason 'our scanner'\n  \
        sakimori exceptions add webshell-php --group web --condition 'file.path:/srv/test/*' --reason samples --days 30"
    )]
    Add(Add),
    /// Remove one; alerts that it held back stay as they are
    Remove {
        /// Its id
        id: String,
    },
}

#[derive(Debug, Args)]
pub struct Add {
    /// rule.id of the alerts
    rule: String,
    /// Why they are expected
    #[arg(long)]
    reason: String,
    /// Only where this field has this value
    #[arg(long = "field", value_name = "FIELD=VALUE", conflicts_with = "condition")]
    fields: Vec<String>,
    /// Only what this search finds
    #[arg(long, value_name = "SEARCH")]
    condition: Option<String>,
    /// Only of this agent
    #[arg(long, conflicts_with = "group")]
    agent: Option<String>,
    /// Only of hosts of this group
    #[arg(long)]
    group: Option<String>,
    /// Who answers for it [default: you]
    #[arg(long)]
    owner: Option<String>,
    /// How many days it holds
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=365))]
    days: u32,
    /// Make nothing; say what it would have held back in the last week
    #[arg(long)]
    dry_run: bool,
}

pub async fn run(api: &Api, command: ExceptionsCommand, json: bool) -> Result<()> {
    match command {
        ExceptionsCommand::List { rule, ending, ended } => {
            let mut query: Vec<(&str, String)> = vec![("ended", ended.to_string())];
            query.extend(rule.map(|rule| ("rule", rule)));
            query.extend(ending.map(|days| ("ending_within_days", days.to_string())));
            let found = api.list("/api/v1/exceptions", &query, 1_000).await?;
            if json {
                return output::json(&found);
            }
            let names = ["id", "rule", "agent", "group", "condition", "expires", "used", "owner", "reason"];
            let rows: Vec<Vec<String>> =
                found.iter().map(|one| names.iter().map(|name| text(one, name)).collect()).collect();
            output::table(&names, &rows, "no exceptions")
        }
        ExceptionsCommand::Add(add) => {
            let body = json!({
                "rule": add.rule, "reason": add.reason, "fields": fields(&add.fields)?, "condition": add.condition,
                "agent": add.agent, "group": add.group, "owner": add.owner, "days": add.days,
            });
            if add.dry_run {
                let would = api.send(Method::POST, "/api/v1/exceptions/preview", &body).await?;
                if json {
                    return output::json(&would);
                }
                let (held, all) = (text(&would, "held"), text(&would, "looked_at"));
                return output::line(format!(
                    "it would have held back {held} of the rule's {all} newest alerts of a week"
                ));
            }
            let made = api.send(Method::POST, "/api/v1/exceptions", &body).await?;
            if json {
                return output::json(&made);
            }
            output::line(format!(
                "{} holds until {}; it is about {}",
                text(&made, "id"),
                text(&made, "expires"),
                text(&made, "concerns")
            ))
        }
        ExceptionsCommand::Remove { id } => {
            api.delete(&format!("/api/v1/exceptions/{}", part(&id))).await?;
            if json { output::json(&json!({ "deleted": id })) } else { output::line(format!("{id} is removed")) }
        }
    }
}

fn fields(pairs: &[String]) -> Result<Map<String, Value>> {
    let mut out = Map::new();
    for pair in pairs {
        match pair.split_once('=') {
            Some((field, value)) if !field.is_empty() => out.insert(field.to_owned(), json!(value)),
            _ => bail!("--field takes FIELD=VALUE, such as source.ip=192.0.2.7; found {pair}"),
        };
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_has_a_name_and_a_value_with_whatever_in_it() {
        let found = fields(&["url.query=a=b".into(), "user.name=".into()]).unwrap();
        assert_eq!(Value::Object(found), json!({"url.query": "a=b", "user.name": ""}));
        assert!(fields(&["x".into()]).is_err() && fields(&["=x".into()]).is_err());
    }
}
