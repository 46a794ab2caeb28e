//! `config check`: is a configuration of the manager fit for use? Says file, line and reason where not.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use sakimori_manager::config::Config;
use serde_json::json;

use crate::output;

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check a configuration of the manager, without starting it
    #[command(after_help = "Example:\n  sakimori config check /etc/sakimori/manager.toml")]
    Check {
        /// The file
        file: PathBuf,
    },
}

pub fn run(command: &ConfigCommand, json: bool) -> Result<ExitCode> {
    let ConfigCommand::Check { file } = command;
    let outcome = sakimori_runtime::config::load::<Config>(Some(file), false, std::env::vars())
        .map_err(|error| error.to_string())
        .and_then(|config| {
            let at = |reason: String| format!("{}: {reason}", file.display());
            sakimori_manager::api::check_listen(&config).map_err(at)?;
            sakimori_manager::channels::check_all(&config).map_err(at)
        });
    match (outcome, json) {
        (Ok(()), false) => output::line(format!("{} is fit for use", file.display()))?,
        (Ok(()), true) => output::json(&json!({ "ok": true, "errors": [] }))?,
        (Err(reason), false) => {
            anstream::eprintln!("{}{reason}{}", output::BAD, output::PLAIN);
            return Ok(ExitCode::FAILURE);
        }
        (Err(reason), true) => {
            output::json(&json!({ "ok": false, "errors": [reason] }))?;
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}
