//! `token`: API tokens, for programs.

use anyhow::Result;
use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

use crate::api::{Api, part};
use crate::output::{self, text};

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// List tokens
    List,
    /// Make a token; its secret is shown once
    #[command(after_help = "Example:\n  sakimori token create dashboard --role viewer --days 90")]
    Create {
        /// Name for people
        name: String,
        /// viewer, operator or admin
        #[arg(long, default_value = "viewer")]
        role: String,
        /// Days until it ends; without it the token does not end
        #[arg(long)]
        days: Option<u32>,
    },
    /// Revoke a token
    Revoke {
        /// Its id
        id: String,
    },
}

pub async fn run(api: &Api, command: TokenCommand, json: bool) -> Result<()> {
    match command {
        TokenCommand::List => {
            let found = api.list("/api/v1/tokens", &[], 10_000).await?;
            if json {
                return output::json(&found);
            }
            let names = ["id", "name", "role", "tenant", "prefix", "expires", "last_used"];
            let rows: Vec<Vec<String>> =
                found.iter().map(|token| names.iter().map(|name| text(token, name)).collect()).collect();
            output::table(&names, &rows, "no tokens")
        }
        TokenCommand::Create { name, role, days } => {
            let body = json!({ "name": name, "role": role, "days": days });
            let made = api.send(Method::POST, "/api/v1/tokens", &body).await?;
            if json {
                return output::json(&made);
            }
            output::line(text(&made, "secret"))?;
            anstream::eprintln!("this is shown once; use it as SAKIMORI_TOKEN with SAKIMORI_SERVER={}", api.base());
            Ok(())
        }
        TokenCommand::Revoke { id } => {
            api.delete(&format!("/api/v1/tokens/{}", part(&id))).await?;
            if json { output::json(&json!({ "revoked": id })) } else { output::line(format!("{id} is revoked")) }
        }
    }
}
