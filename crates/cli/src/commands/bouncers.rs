//! `bouncers`: programs that block what the manager decides, as CrowdSec's bouncers do.

use anyhow::Result;
use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

use crate::api::{Api, part};
use crate::output::{self, text};

#[derive(Debug, Subcommand)]
pub enum BouncersCommand {
    /// List bouncers, and up to when each was told
    List,
    /// Make a bouncer; its key is shown once
    #[command(after_help = "Example:\n  sakimori bouncers add edge-firewall")]
    Add {
        /// Its name
        name: String,
    },
    /// Remove a bouncer; its key opens nothing any more
    Remove {
        /// Its name
        name: String,
    },
}

pub async fn run(api: &Api, command: BouncersCommand, json: bool) -> Result<()> {
    match command {
        BouncersCommand::List => {
            let found = api.list("/api/v1/bouncers", &[], 10_000).await?;
            if json {
                return output::json(&found);
            }
            let names = ["name", "tenant", "kind", "created", "last_pull"];
            let rows: Vec<Vec<String>> =
                found.iter().map(|one| names.iter().map(|name| text(one, name)).collect()).collect();
            output::table(&names, &rows, "no bouncers")
        }
        BouncersCommand::Add { name } => {
            let made = api.send(Method::POST, "/api/v1/bouncers", &json!({ "name": name })).await?;
            if json {
                return output::json(&made);
            }
            output::line(text(&made, "key"))?;
            anstream::eprintln!("this is shown once; give it to the bouncer as api_key, with api_url: {}/", api.base());
            Ok(())
        }
        BouncersCommand::Remove { name } => {
            api.delete(&format!("/api/v1/bouncers/{}", part(&name))).await?;
            if json { output::json(&json!({ "removed": name })) } else { output::line(format!("{name} is removed")) }
        }
    }
}
