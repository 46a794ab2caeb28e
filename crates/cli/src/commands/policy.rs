//! `policy`: the layers, what applies to a host and why, and writing a layer.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

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
    },
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
        PolicyCommand::Set { layer, file } => {
            let yaml = if file.as_os_str() == "-" {
                std::io::read_to_string(std::io::stdin()).context("cannot read standard input")?
            } else {
                std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?
            };
            if let Err(error) = yaml_serde::from_str::<Value>(&yaml) {
                let line = error.location().map_or(1, |at| at.line());
                bail!("{}:{line}: {error}", file.display());
            }
            let path = format!("/api/v1/policies/layers/{}", part(&layer));
            let written = api.send(Method::PUT, &path, &json!({ "yaml": yaml })).await?;
            if json {
                return output::json(&written);
            }
            output::line(format!(
                "layer {layer} is written as number {} and on its way to the hosts",
                text(&written, "number")
            ))
        }
    }
}
