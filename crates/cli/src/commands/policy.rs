//! `policy`: the layers, what applies to a host and why, writing a layer, its history, and what a change would do.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use reqwest::Method;
use sakimori_model::policy::default_layer;
use sakimori_model::policy::schema::{self, Kind};
use serde_json::{Value, json};

use super::rollout;
use crate::api::{Api, part};
use crate::output::{self, text};

#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Show the layers, or what applies to one host and which layer says so
    #[command(after_help = "Examples:\n  sakimori policy show\n  sakimori policy show --agent 0198c…")]
    Show {
        /// What applies to this agent
        #[arg(long)]
        agent: Option<String>,
    },
    /// Write a layer whole, from a YAML file
    #[command(
        after_help = "Examples:\n  sakimori policy set tenant policy.yaml\n  sakimori policy set group:web - < web.yaml"
    )]
    Set {
        /// tenant, group:<tag> or host:<agent id>
        layer: String,
        /// The file; "-" reads standard input
        file: PathBuf,
        /// Why, for those who read the history
        #[arg(long, default_value = "")]
        reason: String,
        /// Write nothing; say what would change, and for which hosts
        #[arg(long)]
        dry_run: bool,
    },
    /// Show the versions of a layer: who wrote each, when and why
    History {
        /// tenant, group:<tag> or host:<agent id>
        layer: String,
        /// Most versions
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Show what two versions of a layer say otherwise, and which hosts that affects
    #[command(after_help = "Examples:\n  sakimori policy diff tenant\n  sakimori policy diff tenant --from 3 --to 7")]
    Diff {
        /// tenant, group:<tag> or host:<agent id>
        layer: String,
        /// Number of a version [default: the one before]
        #[arg(long)]
        from: Option<i64>,
        /// Number of a version [default: the one in force]
        #[arg(long)]
        to: Option<i64>,
    },
    /// Write a layer as a former version was
    Rollback {
        /// tenant, group:<tag> or host:<agent id>
        layer: String,
        /// Number of the former version; 0: as it was before anybody wrote it
        #[arg(long)]
        to: i64,
        /// Why
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Give a layer to some hosts before the others
    #[command(subcommand)]
    Rollout(rollout::RolloutCommand),
    /// List all settings: what each is, what it takes, and its default
    Settings,
}

/// The text of a file, or of standard input, that is YAML.
pub fn yaml_of(file: &Path) -> Result<String> {
    let yaml = if file.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin()).context("cannot read standard input")?
    } else {
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?
    };
    if let Err(error) = yaml_serde::from_str::<Value>(&yaml) {
        let line = error.location().map_or(1, |at| at.line());
        bail!("{}:{line}: {error}", file.display());
    }
    Ok(yaml)
}

pub async fn run(api: &Api, command: PolicyCommand, json: bool) -> Result<()> {
    match command {
        PolicyCommand::Show { agent: Some(agent) } => {
            let policy = api.get(&format!("/api/v1/agents/{}/policy", part(&agent)), &[]).await?;
            if json {
                return output::json(&policy);
            }
            let mut rows = Vec::new();
            for (path, layers) in policy.get("origin").and_then(Value::as_object).into_iter().flatten() {
                let value =
                    path.split('.').try_fold(policy.get("policy").unwrap_or(&Value::Null), |at, name| at.get(name));
                rows.push(vec![path.clone(), output::shown(layers), value.map(output::shown).unwrap_or_default()]);
            }
            output::table(&["setting", "said by", "value"], &rows, "no policy")
        }
        PolicyCommand::Show { agent: None } => {
            let layers = api.get("/api/v1/policies/layers", &[]).await?;
            if json {
                return output::json(&layers);
            }
            let default = layers.get("default").cloned().unwrap_or_default();
            output::line("# layer default, part of the program")?;
            output::line(yaml_serde::to_string(&default)?)?;
            for layer in layers.get("layers").and_then(Value::as_array).into_iter().flatten() {
                output::line(format!(
                    "# layer {}, by {}, {}",
                    text(layer, "layer"),
                    text(layer, "author"),
                    text(layer, "created")
                ))?;
                output::line(yaml_serde::to_string(layer.get("tree").unwrap_or(&Value::Null))?)?;
            }
            Ok(())
        }
        PolicyCommand::Set { layer, file, reason, dry_run } => {
            let yaml = yaml_of(&file)?;
            if dry_run {
                let body = json!({ "layer": layer, "yaml": yaml });
                return difference(&api.send(Method::POST, "/api/v1/policies/preview", &body).await?, json);
            }
            let path = format!("/api/v1/policies/layers/{}", part(&layer));
            let written = api.send(Method::PUT, &path, &json!({ "yaml": yaml, "reason": reason })).await?;
            told(&layer, &written, json)
        }
        PolicyCommand::History { layer, limit } => {
            let path = format!("/api/v1/policies/layers/{}/history", part(&layer));
            let found = api.list(&path, &[], limit).await?;
            if json {
                return output::json(&found);
            }
            let names = ["number", "created", "author", "reason"];
            let rows: Vec<Vec<String>> =
                found.iter().map(|one| names.iter().map(|name| text(one, name)).collect()).collect();
            output::table(&names, &rows, "nobody has written it")
        }
        PolicyCommand::Diff { layer, from, to } => {
            let path = format!("/api/v1/policies/layers/{}/diff", part(&layer));
            let numbers = [("from", from), ("to", to)];
            let query: Vec<(&str, String)> =
                numbers.into_iter().filter_map(|(name, number)| Some((name, number?.to_string()))).collect();
            difference(&api.get(&path, &query).await?, json)
        }
        PolicyCommand::Rollback { layer, to, reason } => {
            let path = format!("/api/v1/policies/layers/{}/rollback", part(&layer));
            let written = api.send(Method::POST, &path, &json!({ "to": to, "reason": reason })).await?;
            told(&layer, &written, json)
        }
        PolicyCommand::Rollout(command) => rollout::run(api, command, json).await,
        PolicyCommand::Settings => settings(json),
    }
}

fn told(layer: &str, written: &Value, json: bool) -> Result<()> {
    if json {
        return output::json(written);
    }
    output::line(format!("layer {layer} is written as number {} and on its way to the hosts", text(written, "number")))
}

/// What a change says and does.
fn difference(difference: &Value, json: bool) -> Result<()> {
    if json {
        return output::json(difference);
    }
    let list = |at: &Value, name: &str| at.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let row = |change: &Value| ["path", "before", "after"].map(|name| text(change, name)).to_vec();
    let rows: Vec<Vec<String>> = list(difference, "settings").iter().map(row).collect();
    output::table(&["the layer says", "before", "after"], &rows, "the layer says the same")?;
    let (affected, hosts) = (text(difference, "affected"), text(difference, "hosts"));
    output::line(format!("something else applies to {affected} of {hosts} hosts"))?;
    for group in list(difference, "groups") {
        let names: Vec<String> = list(&group, "named").iter().map(|host| text(host, "host")).collect();
        output::line(format!("{} hosts with {}: {}", text(&group, "hosts"), text(&group, "layers"), names.join(", ")))?;
        let row = |change: &Value| ["path", "before", "after", "after_from"].map(|name| text(change, name)).to_vec();
        let rows: Vec<Vec<String>> = list(&group, "changes").iter().map(row).collect();
        output::table(&["what applies", "before", "after", "said by"], &rows, "")?;
    }
    Ok(())
}

/// All settings, from the one table of them.
fn settings(json: bool) -> Result<()> {
    if json {
        return output::json(&schema::schema());
    }
    let default = Value::Object(default_layer().tree);
    let mut rows = Vec::new();
    for setting in schema::SETTINGS {
        let takes = match setting.kind {
            Kind::Group => continue,
            Kind::Truth => "true, false".to_owned(),
            Kind::Word(words) => words.join(", "),
            Kind::Number(unit, least, most) => format!("{least} to {most} {unit}").trim_end().to_owned(),
            Kind::Texts(of) => format!("list of {}", if of.is_empty() { "texts" } else { of }),
            Kind::Numbers(least, most) => format!("list of {least} to {most}"),
            Kind::Items(_) => "list".to_owned(),
            Kind::Answer => "answer: open, closed, open_after".to_owned(),
        };
        let value = setting.path.split('.').try_fold(&default, |at, name| at.get(name));
        let value = value.map(output::shown).unwrap_or_default();
        rows.push(vec![setting.path.to_owned(), setting.en.to_owned(), takes, value.chars().take(60).collect()]);
    }
    output::table(&["setting", "what it is", "takes", "default"], &rows, "")
}
